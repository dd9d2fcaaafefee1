/* The loop of ExactSum in federated/exact.py, in one pass over memory. */

/* Add weight * x to the pairs high + low of doubles, each pair an unevaluated sum: Knuth's TwoSum. Compiled without
   fused multiply-add, so that every operation rounds as it does in PyTorch. */
void add_exactly(long count, const float *restrict x, double weight, double *restrict high, double *restrict low) {
    for (long i = 0; i < count; i++) {
        double term = (double)x[i] * weight, total = high[i] + term;
        double arrived = total - high[i]; /* what of the term is in the total */
        low[i] += (term - arrived) + (high[i] - (total - arrived));
        high[i] = total;
    }
}
