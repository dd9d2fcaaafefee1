/* The loops of conv_pool.py for which PyTorch has no kernels, on one thread. The file is included once per version.

   The including file defines VERSION (the suffix of function names), LANES (floats in a vector register), FUSED
   (a * b + c of vectors, rounded once) and TARGET (the instructions that functions may use). A vector holds independent
   outputs, and each output is the same chain of fused multiply-adds in every version, so all versions give the same
   bits. The chains use explicit intrinsics, as compilers differ in which sums of products they fuse (GCC 16 does not
   fuse a sum across loop iterations for one width of vectors).

   Arrays are float in channels-last order: x [B][H][W][D], pooled outputs and their gradients [B][H/2][W/2][C], weights
   [C][3][3][D]. `where`, in the shape of the pooled outputs, is the index (row by row) of the place in its 2x2 window
   from which an output was taken, or DEAD if ReLU made the output zero. A window's gradient goes to one of four places,
   or to none if the output is DEAD, so the gradients of the convolution need at most a quarter of the products of dense
   ones. */

#define JOIN(name, version) name##_##version
#define OF(name, version) JOIN(name, version)
#define Vector OF(Vector, VERSION)
#define Integers OF(Integers, VERSION)
#define Bytes OF(Bytes, VERSION)
#define all OF(all, VERSION)
#define fused OF(fused, VERSION)
#define chosen OF(chosen, VERSION)
#define relu_of_greatest OF(relu_of_greatest, VERSION)
#define add_rows OF(add_rows, VERSION)
#define add_long_rows OF(add_long_rows, VERSION)
#define LOOP(name) TARGET void OF(name, VERSION)
#define INLINE TARGET static inline __attribute__((always_inline))

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1)));

INLINE Vector all(float value) {
    return (Vector){0} + value;
}

INLINE Vector fused(Vector a, Vector b, Vector c) {
    return (Vector)FUSED(a, b, c);
}

INLINE Vector chosen(Integers mask, Vector there, Vector elsewhere) {
    return (Vector)(((Integers)there & mask) | ((Integers)elsewhere & ~mask));
}

/* ReLU of the maximum, and the place of the first maximum. NaN counts as the greatest value, as in PyTorch. */
INLINE Vector relu_of_greatest(const Vector *values, uint8_t *where) {
    Vector greatest = values[0];
    Integers place = {0};
    for (int p = 1; p < 4; p++) {
        Integers taken = (values[p] > greatest) | (values[p] != values[p]);
        greatest = chosen(taken, values[p], greatest);
        place = (place & ~taken) | (p & taken);
    }
    Integers dead = greatest <= 0;
    *(Bytes *)where = __builtin_convertvector((place & ~dead) | (DEAD & dead), Bytes);
    return (Vector)((Integers)greatest & ~dead);
}

/* 2x2 max pool of the ReLU of x [B][H][W][C], and the place of each maximum; C is a multiple of 16. */
LOOP(relu_pool)(long images, long height, long width, long channels, const float *restrict x, float *restrict pooled,
                uint8_t *restrict where) {
    long row = width * channels;
    for (long b = 0; b < images; b++, x += height * row)
        for (long i = 0; i < height / 2; i++)
            for (long j = 0; j < width / 2; j++) {
                const float *above = x + 2 * i * row + 2 * j * channels, *below = above + row;
                for (long c = 0; c < channels; c += LANES, pooled += LANES, where += LANES) {
                    Vector values[4] = {*(const Vector *)(above + c), *(const Vector *)(above + channels + c),
                                        *(const Vector *)(below + c), *(const Vector *)(below + channels + c)};
                    *(Vector *)pooled = relu_of_greatest(values, where);
                }
            }
}

/* The same for a 3x3 convolution with padding 1 of grey images x [B][H][W]; the convolution is never written to memory.
   weight is [9][C]; padded [H+2][W+2] is a buffer of zeros; C is a multiple of 16. */
LOOP(grey_conv_relu_pool)(long images, long height, long width, long channels, const float *restrict x,
                          const float *restrict weight, const float *restrict bias, float *restrict padded,
                          float *restrict pooled, uint8_t *restrict where) {
    long row = width + 2;
    for (long b = 0; b < images; b++, x += height * width) {
        for (long y = 0; y < height; y++) memcpy(padded + (y + 1) * row + 1, x + y * width, 4 * width);
        for (long i = 0; i < height / 2; i++)
            for (long j = 0; j < width / 2; j++) {
                const float *seen = padded + 2 * i * row + 2 * j;
                for (long c = 0; c < channels; c += GROUP) {
                    Vector values[GROUP / LANES][4];
                    for (int k = 0; k < GROUP / LANES; k++)
                        for (int p = 0; p < 4; p++) values[k][p] = *(const Vector *)(bias + c + k * LANES);
#pragma GCC unroll 9
                    for (int tap = 0; tap < 9; tap++)
                        for (int k = 0; k < GROUP / LANES; k++)
                            for (int p = 0; p < 4; p++)
                                values[k][p] = fused(*(const Vector *)(weight + tap * channels + c + k * LANES),
                                                     all(seen[(p / 2 + tap / 3) * row + p % 2 + tap % 3]), values[k][p]);
                    for (int k = 0; k < GROUP / LANES; k++, pooled += LANES, where += LANES)
                        *(Vector *)pooled = relu_of_greatest(values[k], where);
                }
            }
    }
}

/* Add to sums [10][C] the gradients of the nine weights and the bias of grey_conv_relu_pool; C is a multiple of 16. */
LOOP(grey_grad_of_weight)(long images, long height, long width, long channels, const float *restrict grad,
                                  const uint8_t *restrict where, const float *restrict x, float *restrict padded,
                                  float *restrict sums) {
    long row = width + 2, outputs = (height / 2) * (width / 2) * channels;
    for (long b = 0; b < images; b++, x += height * width, grad += outputs, where += outputs) {
        for (long y = 0; y < height; y++) memcpy(padded + (y + 1) * row + 1, x + y * width, 4 * width);
        for (long c = 0; c < channels; c += LANES) {
            Vector sum[10];
            for (int tap = 0; tap < 10; tap++) sum[tap] = *(const Vector *)(sums + tap * channels + c);
            const float *g = grad + c;
            const uint8_t *w = where + c;
            for (long i = 0; i < height / 2; i++)
                for (long j = 0; j < width / 2; j++, g += channels, w += channels) {
                    Integers bits = *(const Integers *)g, place = __builtin_convertvector(*(const Bytes *)w, Integers);
                    const float *seen = padded + 2 * i * row + 2 * j;
#pragma GCC unroll 4
                    for (int p = 0; p < 4; p++) {
                        Vector here = (Vector)(bits & (place == p));
#pragma GCC unroll 9
                        for (int tap = 0; tap < 9; tap++)
                            sum[tap] = fused(here, all(seen[(p / 2 + tap / 3) * row + p % 2 + tap % 3]), sum[tap]);
                        sum[9] += here;
                    }
                }
            for (int tap = 0; tap < 10; tap++) *(Vector *)(sums + tap * channels + c) = sum[tap];
        }
    }
}

/* Add factors[n] times the row at rows + starts[n] to total, for n < count; `floats` values, kept in registers. */
INLINE void add_rows(float *restrict total, const float *restrict rows, const float *factors, const int64_t *starts,
                     long count, const int floats) {
    Vector sum[BLOCK / LANES];
    for (int k = 0; k < floats / LANES; k++) sum[k] = *(const Vector *)(total + k * LANES);
    for (long n = 0; n < count; n++)
        for (int k = 0; k < floats / LANES; k++)
            sum[k] = fused(all(factors[n]), *(const Vector *)(rows + starts[n] + k * LANES), sum[k]);
    for (int k = 0; k < floats / LANES; k++) *(Vector *)(total + k * LANES) = sum[k];
}

/* The same for rows whose length is a multiple of half a block. */
INLINE void add_long_rows(float *restrict total, const float *restrict rows, const float *factors,
                          const int64_t *starts, long count, long length) {
    long done = 0;
    for (; done + BLOCK <= length; done += BLOCK) add_rows(total + done, rows + done, factors, starts, count, BLOCK);
    if (done < length) add_rows(total + done, rows + done, factors, starts, count, BLOCK / 2);
}

/* Add to weight_grad [C][3][3][D] and bias_grad [C] the gradients of relu_pool after a 3x3 convolution of x
   [B][H][W][D]; D is a multiple of 16. padded [H+2][W+2][D] is a buffer of zeros, factors and starts are buffers of
   H/2*W/2 elements. */
LOOP(grad_of_weight)(long images, long height, long width, long channels, long depth,
                             const float *restrict grad, const uint8_t *restrict where, const float *restrict x,
                             float *restrict padded, float *restrict factors, int64_t *restrict starts,
                             float *restrict weight_grad, float *restrict bias_grad) {
    long row = (width + 2) * depth, outputs = (height / 2) * (width / 2) * channels;
    for (long b = 0; b < images; b++, x += height * width * depth, grad += outputs, where += outputs) {
        for (long y = 0; y < height; y++)
            memcpy(padded + (y + 1) * row + depth, x + y * width * depth, 4 * width * depth);
        for (long c = 0; c < channels; c++) {
            const float *g = grad + c;
            const uint8_t *w = where + c;
            long count = 0;
            float sum = 0;
            for (long i = 0; i < height / 2; i++)
                for (long j = 0; j < width / 2; j++, g += channels, w += channels) {
                    factors[count] = *g;
                    starts[count] = (2 * i + *w / 2) * row + (2 * j + *w % 2) * depth;
                    sum += *w < DEAD ? *g : 0;
                    count += *w < DEAD;
                }
            bias_grad[c] += sum;
            for (int k = 0; k < 3; k++)
                add_long_rows(weight_grad + (3 * c + k) * 3 * depth, padded + k * row, factors, starts, count, 3 * depth);
        }
    }
}

/* The gradient of the same with respect to x, into x_grad [B][H][W][D]; factors and starts are buffers of 5 C. */
LOOP(grad_of_input)(long images, long height, long width, long channels, long depth,
                            const float *restrict grad, const uint8_t *restrict where, const float *restrict weight,
                            float *restrict padded, float *restrict factors, int64_t *restrict starts,
                            float *restrict x_grad) {
    long row = (width + 2) * depth;
    for (long b = 0; b < images; b++, x_grad += height * width * depth) {
        memset(padded, 0, 4 * (height + 2) * row);
        for (long i = 0; i < height / 2; i++)
            for (long j = 0; j < width / 2; j++, grad += channels, where += channels) {
                long counts[DEAD + 1] = {0}; /* the lengths of a list for each place, and of one for DEAD */
                for (long c = 0; c < channels; c++) {
                    long p = where[c], n = p * channels + counts[p]++;
                    factors[n] = grad[c];
                    starts[n] = c * 9 * depth;
                }
                for (long p = 0; p < DEAD; p++)
                    for (int k = 0; k < 3; k++)
                        add_long_rows(padded + (2 * i + p / 2 + k) * row + (2 * j + p % 2) * depth,
                                      weight + 3 * k * depth, factors + p * channels, starts + p * channels, counts[p],
                                      3 * depth);
            }
        for (long y = 0; y < height; y++)
            memcpy(x_grad + y * width * depth, padded + (y + 1) * row + depth, 4 * width * depth);
    }
}

#include "norm_pool.h"

#undef INLINE
#undef LOOP
#undef all
#undef fused
#undef add_long_rows
#undef add_rows
#undef relu_of_greatest
#undef chosen
#undef Bytes
#undef Integers
#undef Vector
#undef OF
#undef JOIN
#undef FUSED
#undef TARGET
#undef LANES
#undef VERSION
