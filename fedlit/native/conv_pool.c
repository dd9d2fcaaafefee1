/* The loops of conv_pool.py that PyTorch has no kernels for, on one thread.

   Arrays are float with the channels last: x [B][H][W][D], pooled outputs and their gradients [B][H/2][W/2][C], weights
   [C][3][3][D]. `where`, of the pooled outputs' shape, says which of its window's four places an output was taken from,
   in the order of reading, or DEAD: none, as ReLU made it zero. A window's gradient goes to one of four places, and to
   none where ReLU is off, so that the gradients of a convolution need at most a quarter of the products that the dense
   ones make. */

#include <stdint.h>
#include <string.h>

#define DEAD 4
#define LANES 16 /* floats of a vector: one register of AVX-512, two of AVX2, four of NEON */

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1)));

#define INLINE static inline __attribute__((always_inline))

/* One version of a function for each generation of processors, chosen when the library is loaded. */
#if defined(__x86_64__) && defined(__gnu_linux__)
#define VERSIONS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VERSIONS
#endif

/* The first of the greatest if it is positive, and its place. NaN counts as the greatest, as in PyTorch. */
INLINE float relu_of_greatest(float a, float b, float c, float d, uint8_t *place) {
    float greatest = a;
    int at = 0, taken;
    taken = (b > greatest) | (b != b);
    greatest = taken ? b : greatest, at = taken ? 1 : at;
    taken = (c > greatest) | (c != c);
    greatest = taken ? c : greatest, at = taken ? 2 : at;
    taken = (d > greatest) | (d != d);
    greatest = taken ? d : greatest, at = taken ? 3 : at;
    int dead = greatest <= 0;
    *place = dead ? DEAD : at;
    return dead ? 0 : greatest;
}

/* 2x2 max pool of the ReLU of x [B][H][W][C], and where each maximum was. */
VERSIONS void relu_pool(long images, long height, long width, long channels, const float *restrict x,
                        float *restrict pooled, uint8_t *restrict where) {
    long row = width * channels;
    for (long b = 0; b < images; b++, x += height * row)
        for (long i = 0; i < height / 2; i++)
            for (long j = 0; j < width / 2; j++, pooled += channels, where += channels) {
                const float *above = x + 2 * i * row + 2 * j * channels, *below = above + row;
                for (long c = 0; c < channels; c++)
                    pooled[c] = relu_of_greatest(above[c], above[channels + c], below[c], below[channels + c], where + c);
            }
}

/* The same of a 3x3 convolution with padding 1 of grey images x [B][H][W], which is never written to memory.
   weight [9][C] has the places of the window first; padded [H+2][W+2] is zeros to work in. */
VERSIONS void grey_conv_relu_pool(long images, long height, long width, long channels, const float *restrict x,
                                  const float *restrict weight, const float *restrict bias, float *restrict padded,
                                  float *restrict pooled, uint8_t *restrict where) {
    long row = width + 2;
    for (long b = 0; b < images; b++, x += height * width) {
        for (long y = 0; y < height; y++) memcpy(padded + (y + 1) * row + 1, x + y * width, 4 * width);
        for (long i = 0; i < height / 2; i++)
            for (long j = 0; j < width / 2; j++, pooled += channels, where += channels) {
                float seen[4][4];
                for (int k = 0; k < 4; k++) memcpy(seen[k], padded + (2 * i + k) * row + 2 * j, sizeof seen[k]);
                for (long c = 0; c < channels; c++) {
                    float v[4] = {bias[c], bias[c], bias[c], bias[c]};
#pragma GCC unroll 9
                    for (int tap = 0; tap < 9; tap++) {
                        float w = weight[tap * channels + c];
                        int k = tap / 3, m = tap % 3;
                        v[0] += w * seen[k][m], v[1] += w * seen[k][m + 1];
                        v[2] += w * seen[k + 1][m], v[3] += w * seen[k + 1][m + 1];
                    }
                    pooled[c] = relu_of_greatest(v[0], v[1], v[2], v[3], where + c);
                }
            }
    }
}

/* Add to sums [10][C] the gradients of the nine weights and the bias of grey_conv_relu_pool; C is a multiple of LANES. */
VERSIONS void grey_grad_of_weight(long images, long height, long width, long channels, const float *restrict grad,
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
                            sum[tap] += here * seen[(p / 2 + tap / 3) * row + p % 2 + tap % 3];
                        sum[9] += here;
                    }
                }
            for (int tap = 0; tap < 10; tap++) *(Vector *)(sums + tap * channels + c) = sum[tap];
        }
    }
}

/* The gradient of relu_pool with respect to x, into out [B][H][W][C]. */
VERSIONS void unpool(long images, long height, long width, long channels, const float *restrict grad,
                     const uint8_t *restrict where, float *restrict out) {
    long row = width * channels;
    for (long b = 0; b < images; b++, out += height * row) {
        if (height % 2 || width % 2) memset(out, 0, 4 * height * row); /* what no window covers */
        for (long i = 0; i < height / 2; i++)
            for (long j = 0; j < width / 2; j++, grad += channels, where += channels) {
                float *above = out + 2 * i * row + 2 * j * channels, *below = above + row;
                for (long c = 0; c < channels; c++) {
                    above[c] = where[c] == 0 ? grad[c] : 0;
                    above[channels + c] = where[c] == 1 ? grad[c] : 0;
                    below[c] = where[c] == 2 ? grad[c] : 0;
                    below[channels + c] = where[c] == 3 ? grad[c] : 0;
                }
            }
    }
}

/* Add factors[n] times the row at rows + starts[n] to total, for n below count, in as many vectors. */
INLINE void add_rows(float *restrict total, const float *restrict rows, const float *factors, const int64_t *starts,
                     long count, const int vectors) {
    Vector sum[6];
    for (int k = 0; k < vectors; k++) sum[k] = *(const Vector *)(total + k * LANES);
    for (long n = 0; n < count; n++)
        for (int k = 0; k < vectors; k++) sum[k] += factors[n] * *(const Vector *)(rows + starts[n] + k * LANES);
    for (int k = 0; k < vectors; k++) *(Vector *)(total + k * LANES) = sum[k];
}

/* The same for rows of any multiple of three vectors. */
INLINE void add_long_rows(float *restrict total, const float *restrict rows, const float *factors,
                          const int64_t *starts, long count, long length) {
    long done = 0;
    for (; done + 6 * LANES <= length; done += 6 * LANES) add_rows(total + done, rows + done, factors, starts, count, 6);
    if (done < length) add_rows(total + done, rows + done, factors, starts, count, 3);
}

/* Add to weight_grad [C][3][3][D] and bias_grad [C] the gradients of relu_pool after a 3x3 convolution of x
   [B][H][W][D]; D is a multiple of LANES. padded [H+2][W+2][D] is zeros to work in, factors and starts hold H/2*W/2. */
VERSIONS void grad_of_weight(long images, long height, long width, long channels, long depth,
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

/* The gradient with respect to x of the same, into x_grad [B][H][W][D]; factors and starts hold 5 C. */
VERSIONS void grad_of_input(long images, long height, long width, long channels, long depth,
                            const float *restrict grad, const uint8_t *restrict where, const float *restrict weight,
                            float *restrict padded, float *restrict factors, int64_t *restrict starts,
                            float *restrict x_grad) {
    long row = (width + 2) * depth;
    for (long b = 0; b < images; b++, x_grad += height * width * depth) {
        memset(padded, 0, 4 * (height + 2) * row);
        for (long i = 0; i < height / 2; i++)
            for (long j = 0; j < width / 2; j++, grad += channels, where += channels) {
                long counts[DEAD + 1] = {0}; /* a list for each place, and one of the dead */
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
