/* RMSprop in one pass over the weights. */
#include "common.h"
#include <math.h>

/* g = gradient + decay w;   s = alpha s + beta g^2;   w = w - rate g / (sqrt(s) + eps)        for N weights */
Status rmsprop(long N, float rate, float alpha, float beta, float eps, float decay, const float *gradient, float *weight,
               float *mean_square, int threads)
{
    enum { FEW = 10000 }; /* not worth waking a thread */
#pragma omp parallel num_threads(N < FEW ? 1 : threads)
    {
        unsigned mode = flush_denormals();
#pragma omp for simd schedule(static)
        for (long n = 0; n < N; n++) {
            /* an infinite weight times a decay of 0 would be NaN */
            const float g = decay != 0 ? FMA_OF_ONE(decay, weight[n], gradient[n]) : gradient[n];
            const float s = alpha * mean_square[n] + beta * g * g;
            mean_square[n] = s;
            weight[n] -= rate * g / (sqrtf(s) + eps);
        }
        restore(mode);
    }
    return DONE;
}
