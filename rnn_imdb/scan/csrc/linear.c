/* The linear map in front of the scan, and the gradients of both matrices. */
#include "common.h"

enum { CHUNK = 128 }; /* rows that stay in the cache while a few passes go over them */

/* out[n] = bias + in[n] m for `rows` rows; bias may be NULL. */
static void multiply_all(long rows, const Matrix *m, const float *in, const float *bias, float *out)
{
    for (long n = 0, now; n < rows; n += now) {
        const float *from[MAX_ROWS], *add[MAX_ROWS];
        float *to[MAX_ROWS];
        now = rows_at_once(rows - n);
        for (int r = 0; r < now; r++) {
            from[r] = in + (n + r) * m->depth;
            add[r] = bias;
            to[r] = out + (n + r) * m->columns;
        }
        multiply(now, false, m, from, 1, bias ? add : NULL, to);
    }
}

/* out[n] = bias + M x[n] for x (N, depth) and M[c, k] at stride_c, stride_k; bias may be NULL. */
Status linear(long N, long depth, long columns, const float *x, const float *m, long stride_c, long stride_k,
              const float *bias, float *out, int threads)
{
    if (N < 0 || !padded(depth) || !padded(columns)) return MISFIT;
    Matrix matrix = packed(m, depth, columns, stride_k, stride_c);
    if (!matrix.data) return NO_MEMORY;
#pragma omp parallel num_threads(threads)
    {
        unsigned mode = flush_denormals();
#pragma omp for schedule(static)
        for (long n = 0; n < N; n += CHUNK)
            multiply_all(smaller(CHUNK, N - n), &matrix, x + n * depth, bias, out + n * columns);
        restore(mode);
    }
    free((float *)matrix.data);
    return DONE;
}

/* Add left[n][i] right[n][j] to out[i][j], for n from 0 to `steps`. */
static void add_products(long steps, long I, long J, const float *left, const float *right, float *out)
{
    const Matrix matrix = {right, steps, J, J};
    for (long i = 0; i < I; i += MAX_ROWS) {
        const float *in[MAX_ROWS];
        float *to[MAX_ROWS];
        for (int r = 0; r < MAX_ROWS; r++) {
            in[r] = left + i + r;
            to[r] = out + (i + r) * J;
        }
        multiply(MAX_ROWS, false, &matrix, in, I, (const float *const *)to, to);
    }
}

/* Sum the threads' parts, `size` numbers each, into the first one. */
static void add_parts(float *parts, long size, int threads)
{
    for (int p = 1; p < threads; p++)
        for (long i = 0; i < size; i++) parts[i] += parts[p * size + i];
}

/* Of linear(): d_x[n] = M^T d_out[n], and d_m[c, k] = sum over n of d_out[n][c] x[n][k], contiguous, in one pass over
   d_out. d_x may be NULL, or d_out itself where depth = columns. */
Status linear_backward(long N, long depth, long columns, const float *x, const float *m, long stride_c, long stride_k,
                       const float *d_out, float *d_x, float *d_m, int threads)
{
    if (N < 0 || !padded(depth) || !padded(columns)) return MISFIT;
    const long size = columns * depth;
    Matrix matrix = packed(m, columns, depth, stride_c, stride_k);
    float *parts = aligned_alloc(64, 4 * threads * size), *chunks = aligned_alloc(64, 4 * threads * CHUNK * columns);
    const bool done = matrix.data && parts && chunks;
    if (done) {
        memset(parts, 0, 4 * threads * size);
#pragma omp parallel num_threads(threads)
        {
            unsigned mode = flush_denormals();
            float *part = parts + omp_get_thread_num() * size, *chunk = chunks + omp_get_thread_num() * CHUNK * columns;
            const long stop = N * (omp_get_thread_num() + 1) / omp_get_num_threads();
            for (long n = N * omp_get_thread_num() / omp_get_num_threads(), next; n < stop; n = next) {
                next = smaller(stop, n + CHUNK);
                const float *from = d_out + n * columns;
                if (d_x == d_out) from = memcpy(chunk, from, 4 * (next - n) * columns);
                add_products(next - n, columns, depth, from, x + n * depth, part);
                if (d_x) multiply_all(next - n, &matrix, from, NULL, d_x + n * depth);
            }
            restore(mode);
        }
        add_parts(parts, size, threads);
        memcpy(d_m, parts, 4 * size);
    }
    free(chunks);
    free(parts);
    free((float *)matrix.data);
    return done ? DONE : NO_MEMORY;
}

/* The gradient of the scan's matrix: out[i][j] = sum over row, t of delta[row, t][i] states[row, t - 1][j], with
   initial[row] before the first state. Steps whose mask is false are left out. */
Status outer(long batch, long time, long H, const float *delta, const float *states, const float *initial,
             const uint8_t *mask, float *out, int threads)
{
    if (batch < 0 || time < 0 || !padded(H)) return MISFIT;
    float *parts = aligned_alloc(64, 4 * threads * H * H);
    if (!parts) return NO_MEMORY;
    memset(parts, 0, 4 * threads * H * H);
#pragma omp parallel num_threads(threads)
    {
        unsigned mode = flush_denormals();
        float *part = parts + omp_get_thread_num() * H * H;
        const long stop = batch * time * (omp_get_thread_num() + 1) / omp_get_num_threads();
        for (long n = batch * time * omp_get_thread_num() / omp_get_num_threads(), next; n < stop; n = next) {
            const long row = n / time, t = n % time;
            next = t ? smaller(smaller(stop, (row + 1) * time), n + CHUNK) : n + 1;
            if (mask) {
                for (long m = n; m < next; m++)
                    if (!mask[m]) next = m > n ? m : n + 1;
                if (!mask[n]) continue;
            }
            add_products(next - n, H, H, delta + n * H, t ? states + (n - 1) * H : initial + row * H, part);
        }
        restore(mode);
    }
    add_parts(parts, H * H, threads);
    memcpy(out, parts, 4 * H * H);
    free(parts);
    return DONE;
}
