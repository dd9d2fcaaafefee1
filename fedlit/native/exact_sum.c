/* The loop of ExactSum in core/exact.py, in one pass over memory. */

#include <limits.h> /* says whether the C library is glibc */

/* There are versions for wide and for narrow vectors, chosen by the processor, which give the same bits. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define EACH_WIDTH __attribute__((target_clones("avx2", "default")))
#else
#define EACH_WIDTH
#endif

/* Add weight * x to the pairs high + low of doubles, each pair an unevaluated sum: Knuth's TwoSum. Compiled without
   fused multiply-add, so that every operation rounds as it does in PyTorch. */
EACH_WIDTH
void add_exactly(long count, const float *restrict x, double weight, double *restrict high, double *restrict low) {
    for (long i = 0; i < count; i++) {
        double term = (double)x[i] * weight, total = high[i] + term;
        double arrived = total - high[i]; /* the part of the term that the total holds */
        low[i] += (term - arrived) + (high[i] - (total - arrived));
        high[i] = total;
    }
}
