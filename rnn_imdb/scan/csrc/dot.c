/* The product of many rows with one vector, and its gradients: the head. Any K. */
#include "common.h"

enum { SUMS = 64, COLUMNS = 1024 }; /* sums of a row, in whatever vectors; columns that stay in the cache */

/* y[n] = bias + sum over k of x[n][k] weight[k] for x (N, K). Each of 64 sums takes every 64th k; pairs of them are
   added, then pairs of those. bias may be NULL. */
Status dot(long N, long K, const float *x, const float *weight, const float *bias, float *y, int threads)
{
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long n = 0; n < N; n++) {
        unsigned mode = flush_denormals();
        const float *row = x + n * K;
        Vector sums[SUMS / LANES];
        float one[SUMS];
        long k = 0;
        EACH(v, SUMS / LANES) sums[v] = splat(0);
        for (; k + SUMS <= K; k += SUMS)
            EACH(v, SUMS / LANES) sums[v] = FMA(load(row + k + v * LANES), load(weight + k + v * LANES), sums[v]);
        EACH(v, SUMS / LANES) store(one + v * LANES, sums[v]);
        for (; k < K; k++) one[k % SUMS] = FMA_OF_ONE(row[k], weight[k], one[k % SUMS]);
        for (int half = SUMS / 2; half; half /= 2)
            for (int i = 0; i < half; i++) one[i] += one[i + half];
        y[n] = bias ? *bias + one[0] : one[0];
        restore(mode);
    }
    return DONE;
}

/* Of dot(): d_weight[k] = sum over n of dy[n] x[n][k], d_bias = sum of dy, and d_x[n][k] = dy[n] weight[k], which may be
   NULL. n counts upwards; the threads share the columns. */
Status dot_backward(long N, long K, const float *x, const float *weight, const float *dy, float *d_x, float *d_weight,
                    float *d_bias, int threads)
{
    memset(d_weight, 0, 4 * K);
    *d_bias = 0;
    for (long n = 0; n < N; n++) *d_bias += dy[n];
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long first = 0; first < K; first += COLUMNS) {
        unsigned mode = flush_denormals();
        const long last = smaller(K, first + COLUMNS);
        for (long n = 0; n < N; n++) {
#pragma omp simd
            for (long k = first; k < last; k++) d_weight[k] = FMA_OF_ONE(dy[n], x[n * K + k], d_weight[k]);
            if (!d_x) continue;
#pragma omp simd
            for (long k = first; k < last; k++) d_x[n * K + k] = dy[n] * weight[k];
        }
        restore(mode);
    }
    return DONE;
}
