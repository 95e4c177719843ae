/* The linear map in front of the scan, and the gradient of its matrix and of the scan's. */
#include "common.h"

enum { CHUNK = 128 }; /* rows that stay in the cache while a few passes go over them */

/* out[n] = bias + M x[n] for M[c, k] = m[c * stride_c + k * stride_k] and N rows of x, `step` floats apart; bias may be
   NULL. With `rows`, the n-th row is x[rows[n]]. */
static Status linear_of_rows(long N, long depth, long columns, const float *x, long step, const int64_t *rows,
                             const float *m, long stride_c, long stride_k, const float *bias, float *out, int threads)
{
    Matrix matrix = packed(m, depth, columns, stride_k, stride_c);
    if (!matrix.data) return NO_MEMORY;
#pragma omp parallel num_threads(threads)
    {
        unsigned mode = flush_denormals();
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < N; chunk += CHUNK) {
            const long stop = smaller(N, chunk + CHUNK);
            for (long n = chunk, few; n < stop; n += few) {
                const float *in[MAX_ROWS], *add[MAX_ROWS];
                float *to[MAX_ROWS];
                few = rows_at_once(stop - n);
                for (int r = 0; r < few; r++) {
                    in[r] = x + (rows ? rows[n + r] : n + r) * step;
                    add[r] = bias;
                    to[r] = out + (n + r) * matrix.columns;
                }
                multiply(few, false, &matrix, in, 1, bias ? add : NULL, to);
            }
        }
        restore(mode);
    }
    free((float *)matrix.data);
    return DONE;
}

/* y = bias + M x for x (N, E), M (H, E) and y (N, wide(H)). */
Status linear(long N, long E, long H, const float *x, const float *m, const float *bias, float *y, int threads)
{
    return linear_of_rows(N, E, H, x, E, NULL, m, E, 1, bias, y, threads);
}

/* out[i * step + j] = sum over row, t of left[row, t][i] right[row, t][j], for left (batch, time, wide(I)) and right
   (batch, time, wide(J)): the gradient of the matrix of a linear map. With `initial` that of the scan: right[row, t - 1],
   and initial[row] before the first step. Steps whose mask is false are left out. The steps are summed in parts, which
   are then added. */
static Status weight_gradient(long batch, long time, long rows, long columns, const float *left, const float *right,
                              const float *initial, const uint8_t *mask, float *out, long step, int threads)
{
    const long I = wide(rows), J = wide(columns);
    /* enough for the threads, with enough to do in each, and not too large; nothing else may decide */
    const long parts = 1 + smaller(smaller(7, batch * time / 1024), 1 + (1 << 22) / (I * J + 1));
    float *sums = aligned_alloc(64, 4 * parts * I * J);
    if (!sums) return NO_MEMORY;
    memset(sums, 0, 4 * parts * I * J);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (long part = 0; part < parts; part++) {
        unsigned mode = flush_denormals();
        const long stop = batch * time * (part + 1) / parts;
        for (long n = batch * time * part / parts, next; n < stop; n = next) {
            const long row = n / time, t = n % time;
            Matrix matrix = {right + n * J, 0, J, J};
            next = smaller(stop, n + CHUNK);
            if (initial) {
                matrix.data = t ? right + (n - 1) * J : initial + row * J;
                next = t ? smaller(next, (row + 1) * time) : n + 1;
            }
            if (mask) {
                for (long m = n; m < next; m++)
                    if (!mask[m]) next = m > n ? m : n + 1;
                if (!mask[n]) continue;
            }
            matrix.depth = next - n;
            for (long i = 0; i < I; i += MAX_ROWS) {
                const float *in[MAX_ROWS];
                float *to[MAX_ROWS];
                for (int r = 0; r < MAX_ROWS; r++) {
                    in[r] = left + n * I + i + r;
                    to[r] = sums + (part * I + i + r) * J;
                }
                multiply(MAX_ROWS, false, &matrix, in, I, (const float *const *)to, to);
            }
        }
        restore(mode);
    }
    for (long part = 0; part < parts; part++)
        for (long i = 0; i < rows; i++)
            for (long j = 0; j < columns; j++)
                out[i * step + j] = sums[(part * I + i) * J + j] + (part ? out[i * step + j] : 0);
    free(sums);
    return DONE;
}

/* The sum of N vectors, `step` floats apart: of blocks, of blocks of these, and so on, so that rounding errors stay
   small. The order is that of torch's sum(0). */
static Vector sum_of(long N, const float *x, long step)
{
    enum { LEVELS = 4 };
    int bits = 1;
    while (1L << bits < N) bits++;
    const int power = bits / LEVELS > 4 ? bits / LEVELS : 4;
    const long block = 1L << power;
    Vector sums[LEVELS] = {{0}};
    long n = 0;
    while (n + block <= N) {
        for (const long stop = n + block; n < stop; n++) sums[0] += load(x + n * step);
        for (int i = 1; i < LEVELS; i++) {
            sums[i] += sums[i - 1];
            sums[i - 1] = splat(0);
            if (n & (block - 1) << i * power) break;
        }
    }
    for (; n < N; n++) sums[0] += load(x + n * step);
    return sums[0] + sums[1] + sums[2] + sums[3];
}

/* out[c] = sum over n of x[n][c] for x (N, columns); the last 16 of an odd number of them in four parts, as torch. */
static void sum_rows(long N, long columns, const float *x, float *out)
{
    for (long c = 0; c < columns; c += LANES) {
        if (c < columns / 32 * 32) {
            store(out + c, sum_of(N, x + c, columns));
            continue;
        }
        Vector sums[4];
        EACH(i, 4) sums[i] = sum_of(N / 4, x + i * columns + c, 4 * columns);
        for (long n = N / 4 * 4; n < N; n++) sums[0] += load(x + n * columns + c);
        store(out + c, sums[0] + sums[1] + sums[2] + sums[3]);
    }
}

/* Of y = b + M x, from those of y (N, wide(H)): the gradients of x (N, wide(E)), of M, whose rows are `step` floats
   apart as those of m, and of b (wide(H)). Each may be NULL. */
Status linear_backward(long N, long E, long H, long step, const float *x, const float *m, const float *dy, float *d_x,
                       float *d_m, float *d_b, int threads)
{
    if (step < E) return MISFIT;
    if (d_b) sum_rows(N, wide(H), dy, d_b);
    const Status status = d_m ? weight_gradient(1, N, H, E, dy, x, NULL, NULL, d_m, step, threads) : DONE;
    if (status || !d_x) return status;
    return linear_of_rows(N, H, E, dy, wide(H), NULL, m, 1, step, NULL, d_x, threads);
}
