/* The linear map in front of the scan, sums over words, and what is the same in many rows of a batch. */
#include "cpu.h"

/* out[n] = bias + M x[n] for x (N, depth) and M[c, k] at stride_c, stride_k; bias may be NULL. */
bool linear(long N, long depth, long columns, const float *x, const float *m, long stride_c, long stride_k,
            const float *bias, float *out, int threads)
{
    Matrix matrix = packed(m, depth, columns, stride_k, stride_c);
    if (!matrix.data) return false;
#pragma omp parallel num_threads(threads)
    {
        unsigned mode = flush_denormals();
#pragma omp for schedule(static)
        for (long block = 0; block < N; block += MAX_ROWS)
            for (long n = block, rows; n < smaller(N, block + MAX_ROWS); n += rows) {
                const float *in[MAX_ROWS], *add[MAX_ROWS];
                float *to[MAX_ROWS];
                rows = rows_at_once(N - n);
                for (int r = 0; r < rows; r++) {
                    in[r] = x + (n + r) * depth;
                    add[r] = bias;
                    to[r] = out + (n + r) * columns;
                }
                multiply(rows, false, &matrix, in, 1, bias ? add : NULL, to);
            }
        restore(mode);
    }
    free((float *)matrix.data);
    return true;
}

/* out[i][j] = sum over n of left[n][i] right[n][j], n = (row, step). With `initial`, right is shifted one step:
   right[row, t - 1], and initial[row] before the first. Steps whose mask is false are left out. */
bool outer(long batch, long time, long I, long J, const float *left, const float *right, const float *initial,
           const uint8_t *mask, float *out, int threads)
{
    enum { CHUNK = 128 }; /* steps whose left and right stay in the cache while all tiles pass over them */
    float *parts = aligned_alloc(64, 4 * threads * I * J);
    if (!parts) return false;
    memset(parts, 0, 4 * threads * I * J);
#pragma omp parallel num_threads(threads)
    {
        unsigned mode = flush_denormals();
        float *part = parts + omp_get_thread_num() * I * J;
        const long stop = batch * time * (omp_get_thread_num() + 1) / omp_get_num_threads();
        for (long n = batch * time * omp_get_thread_num() / omp_get_num_threads(), next; n < stop; n = next) {
            const long row = n / time, t = n % time, end = smaller(stop, (row + 1) * time);
            const float *first = initial ? t ? right + (n - 1) * J : initial + row * J : right + n * J;
            next = initial && !t ? n + 1 : smaller(end, n + CHUNK);
            if (mask) {
                for (long m = n; m < next; m++)
                    if (!mask[m]) next = m > n ? m : n + 1;
                if (!mask[n]) continue;
            }
            const Matrix steps = {first, next - n, J, J};
            for (long i = 0; i < I; i += MAX_ROWS) {
                const float *in[MAX_ROWS];
                float *to[MAX_ROWS];
                for (int r = 0; r < MAX_ROWS; r++) {
                    in[r] = left + n * I + i + r;
                    to[r] = part + (i + r) * J;
                }
                multiply(MAX_ROWS, false, &steps, in, I, (const float *const *)to, to);
            }
        }
        restore(mode);
    }
    memcpy(out, parts, 4 * I * J);
    for (int p = 1; p < threads; p++)
        for (long i = 0; i < I * J; i++) out[i] += parts[p * I * J + i];
    free(parts);
    return true;
}

/* table[tokens[n]] += rows[n], n upwards, where the mask is true; the threads share the columns, so that no two meet
   in one number. Any H. */
bool add_rows(long N, long H, const int64_t *tokens, const uint8_t *mask, const float *rows, float *table, int threads)
{
#pragma omp parallel num_threads(threads)
    {
        unsigned mode = flush_denormals();
        const long vectors = (H + LANES - 1) / LANES, share = omp_get_num_threads(), i = omp_get_thread_num();
        const long first = vectors * i / share * LANES, last = smaller(H, vectors * (i + 1) / share * LANES);
        for (long n = 0; n < N; n++) {
            if (mask && !mask[n]) continue;
            const float *from = rows + n * H;
            float *to = table + tokens[n] * H;
            long c = first;
            for (; c + LANES <= last; c += LANES) store(to + c, load(to + c) + load(from + c));
            for (; c < last; c++) to[c] += from[c];
        }
        restore(mode);
    }
    return true;
}

/* words[0 .. count - 1]: the distinct ones of `tokens`, as they first appear; tokens[n] = words[positions[n]]. The
   count is -1 where a token is outside 0 .. V - 1. */
bool distinct(long N, long V, const int64_t *tokens, int64_t *positions, int64_t *words, int64_t *count, int threads)
{
    (void)threads;
    /* 1 + the position of a word, 0 for those that did not appear */
    int32_t *seen = calloc(V, sizeof *seen);
    if (!seen) return false;
    *count = 0;
    for (long n = 0; n < N; n++) {
        const int64_t word = tokens[n];
        if (word < 0 || word >= V) {
            *count = -1;
            break;
        }
        if (!seen[word]) {
            words[*count] = word;
            seen[word] = ++*count;
        }
        positions[n] = seen[word] - 1;
    }
    free(seen);
    return true;
}

/* For rows that share the states of their leading padding: the mask of steps that are not shared, and in row B the mask
   of steps that are, with the positions of their words; `longest` is the number of the latter. */
bool begun(long batch, long time, int64_t padding, const int64_t *tokens, int64_t *positions, uint8_t *mask,
           int64_t *longest, int threads)
{
    (void)threads;
    *longest = 0;
    for (long row = 0; row < batch; row++) {
        const int64_t *first = tokens + row * time;
        long n = 0;
        while (n < time && first[n] == padding) n++;
        memset(mask + row * time, 0, n);
        memset(mask + row * time + n, 1, time - n);
        if (n <= *longest) continue;
        memcpy(positions + batch * time, positions + row * time, n * sizeof *positions);
        *longest = n;
    }
    memset(mask + batch * time, 1, *longest);
    memset(mask + batch * time + *longest, 0, time - *longest);
    return true;
}
