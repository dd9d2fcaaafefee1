/* The loops of norm_pool.py, with the macros of conv_pool.h, which includes this file once per version.

   Group norm of y [B][H][W][C] over H, W and the C / groups channels of a group, ReLU and 2x2 max pool. C is a multiple
   of 16 and of groups; mean and rstd (1 / standard deviation) are [B][groups]. Values are first summed by rows, which
   keeps rounding errors as small as in PyTorch. */

#define sums_of_rows OF(sums_of_rows, VERSION)
#define line OF(line, VERSION)

/* Sums over all places of x - shift [C], or of its square, for each channel, into sums [C]. */
INLINE void sums_of_rows(long height, long width, long channels, const float *restrict x, const float *restrict shift,
                         const int squared, float *restrict sums) {
    for (long c = 0; c < channels; c += GROUP) {
        Vector total[GROUP / LANES] = {0};
        const float *here = x + c;
        for (long i = 0; i < height; i++) {
            Vector of_row[GROUP / LANES] = {0};
            for (long j = 0; j < width; j++, here += channels)
                for (int k = 0; k < GROUP / LANES; k++) {
                    Vector moved = *(const Vector *)(here + k * LANES) - *(const Vector *)(shift + c + k * LANES);
                    of_row[k] = squared ? fused(moved, moved, of_row[k]) : of_row[k] + moved;
                }
            for (int k = 0; k < GROUP / LANES; k++) total[k] += of_row[k];
        }
        for (int k = 0; k < GROUP / LANES; k++) *(Vector *)(sums + c + k * LANES) = total[k];
    }
}

/* Group norm, ReLU and max pool; work is a buffer [4][C]. */
LOOP(norm_relu_pool)(long images, long height, long width, long channels, long groups, double eps,
                     const float *restrict y, const float *restrict weight, const float *restrict bias,
                     float *restrict work, float *restrict mean, float *restrict rstd, float *restrict pooled,
                     uint8_t *restrict where) {
    long row = width * channels, many = channels / groups;
    double count = (double)height * width * many;
    float *sums = work, *shift = work + channels, *scale = work + 2 * channels, *offset = work + 3 * channels;
    for (long b = 0; b < images; b++, y += height * row, mean += groups, rstd += groups) {
        for (long c = 0; c < channels; c++) shift[c] = 0;
        sums_of_rows(height, width, channels, y, shift, 0, sums);
        for (long g = 0; g < groups; g++) {
            double sum = 0;
            for (long c = g * many; c < (g + 1) * many; c++) sum += sums[c];
            mean[g] = sum / count;
            for (long c = g * many; c < (g + 1) * many; c++) shift[c] = mean[g];
        }
        sums_of_rows(height, width, channels, y, shift, 1, sums);
        for (long g = 0; g < groups; g++) {
            double sum = 0;
            for (long c = g * many; c < (g + 1) * many; c++) sum += sums[c];
            rstd[g] = 1 / __builtin_sqrt(sum / count + eps);
            for (long c = g * many; c < (g + 1) * many; c++) {
                scale[c] = rstd[g] * weight[c];
                offset[c] = bias[c] - mean[g] * scale[c];
            }
        }
        for (long i = 0; i < height / 2; i++)
            for (long j = 0; j < width / 2; j++) {
                const float *above = y + 2 * i * row + 2 * j * channels, *below = above + row;
                for (long c = 0; c < channels; c += LANES, pooled += LANES, where += LANES) {
                    Vector times = *(const Vector *)(scale + c), plus = *(const Vector *)(offset + c);
                    Vector values[4] = {fused(*(const Vector *)(above + c), times, plus),
                                        fused(*(const Vector *)(above + channels + c), times, plus),
                                        fused(*(const Vector *)(below + c), times, plus),
                                        fused(*(const Vector *)(below + channels + c), times, plus)};
                    *(Vector *)pooled = relu_of_greatest(values, where);
                }
            }
    }
}

INLINE Vector line(const float *x, const float *middle, const float *slope, const float *offset) {
    return fused(*(const Vector *)x - *(const Vector *)middle, *(const Vector *)slope, *(const Vector *)offset);
}

/* The gradients: into y_grad [B][H][W][C], and added to weight_grad and bias_grad [C]; work is a buffer [5][C]. */
LOOP(grad_of_norm)(long images, long height, long width, long channels, long groups, const float *restrict grad,
                   const uint8_t *restrict where, const float *restrict y, const float *restrict weight,
                   const float *restrict mean, const float *restrict rstd, float *restrict work,
                   float *restrict weight_grad, float *restrict bias_grad, float *restrict y_grad) {
    long row = width * channels, many = channels / groups, outputs = (height / 2) * (width / 2) * channels;
    double count = (double)height * width * many;
    float *sums = work, *products = work + channels, *shift = work + 2 * channels, *scale = work + 3 * channels;
    float *slope = work + 4 * channels;
    for (long b = 0; b < images; b++, y += height * row, y_grad += height * row, grad += outputs, where += outputs,
              mean += groups, rstd += groups) {
        for (long c = 0; c < channels; c++) {
            shift[c] = mean[c / many];
            scale[c] = rstd[c / many] * weight[c];
        }
        for (long c = 0; c < channels; c += LANES) { /* sums of gradients, and of them times y - mean */
            Vector sum = {0}, product = {0}, middle = *(const Vector *)(shift + c);
            const float *g = grad + c;
            const uint8_t *w = where + c;
            for (long i = 0; i < height / 2; i++) {
                Vector sum_of_row = {0}, product_of_row = {0};
                for (long j = 0; j < width / 2; j++, g += channels, w += channels) {
                    const float *seen = y + 2 * i * row + 2 * j * channels + c;
                    Integers bits = *(const Integers *)g, place = __builtin_convertvector(*(const Bytes *)w, Integers);
                    Vector taken = *(const Vector *)seen;
                    for (int p = 1; p < 4; p++)
                        taken = chosen(place == p, *(const Vector *)(seen + (p / 2) * row + (p % 2) * channels), taken);
                    Vector alive = (Vector)(bits & (place < DEAD));
                    sum_of_row += alive;
                    product_of_row = fused(alive, taken - middle, product_of_row);
                }
                sum += sum_of_row;
                product += product_of_row;
            }
            *(Vector *)(sums + c) = sum;
            *(Vector *)(products + c) = product;
        }
        for (long g = 0; g < groups; g++) {
            double sum = 0, product = 0;
            for (long c = g * many; c < (g + 1) * many; c++) {
                sum += (double)weight[c] * sums[c];
                product += (double)weight[c] * products[c];
                weight_grad[c] += products[c] * rstd[g];
                bias_grad[c] += sums[c];
            }
            for (long c = g * many; c < (g + 1) * many; c++) {
                sums[c] = -rstd[g] * sum / count;
                slope[c] = -(double)rstd[g] * rstd[g] * rstd[g] * product / count;
            }
        }
        for (long i = 0; i < height / 2; i++)
            for (long j = 0; j < width / 2; j++) {
                long start = 2 * i * row + 2 * j * channels, window = (i * (width / 2) + j) * channels;
                for (long c = 0; c < channels; c += LANES) {
                    Integers bits = *(const Integers *)(grad + window + c);
                    Integers place = __builtin_convertvector(*(const Bytes *)(where + window + c), Integers);
                    for (int p = 0; p < 4; p++) {
                        long at = start + p / 2 * row + p % 2 * channels + c;
                        Vector found = line(y + at, shift + c, slope + c, sums + c);
                        Vector here = (Vector)(bits & (place == p));
                        *(Vector *)(y_grad + at) = fused(here, *(const Vector *)(scale + c), found);
                    }
                }
            }
        for (long i = 0; i < height; i++) /* the last row and column of odd sizes are in no window */
            for (long j = i < height / 2 * 2 ? width / 2 * 2 : 0; j < width; j++)
                for (long c = 0; c < channels; c += LANES) {
                    long at = i * row + j * channels + c;
                    *(Vector *)(y_grad + at) = line(y + at, shift + c, slope + c, sums + c);
                }
    }
}

#undef line
#undef sums_of_rows
