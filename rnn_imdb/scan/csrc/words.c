/* Sums over words, and what is the same in many rows of a batch. */
#include "common.h"

/* table[tokens[n]] += rows[n], n upwards, where the mask is true; the threads share the columns, so that no two meet
   in one number. Any H. OUT_OF_RANGE where a token is outside 0 .. V - 1. */
Status add_rows(long N, long H, long V, const int64_t *tokens, const uint8_t *mask, const float *rows, float *table,
                int threads)
{
    if (N < 0 || H < 0 || V < 0) return MISFIT;
    Status status = DONE;
#pragma omp parallel num_threads(threads)
    {
        unsigned mode = flush_denormals();
        const long vectors = (H + LANES - 1) / LANES, share = omp_get_num_threads(), i = omp_get_thread_num();
        const long first = vectors * i / share * LANES, last = smaller(H, vectors * (i + 1) / share * LANES);
        for (long n = 0; n < N; n++) {
            if (mask && !mask[n]) continue;
            if (tokens[n] < 0 || tokens[n] >= V) {
#pragma omp atomic write
                status = OUT_OF_RANGE;
                break;
            }
            const float *from = rows + n * H;
            float *to = table + tokens[n] * H;
            long c = first;
            for (; c + LANES <= last; c += LANES) store(to + c, load(to + c) + load(from + c));
            for (; c < last; c++) to[c] += from[c];
        }
        restore(mode);
    }
    return status;
}

/* words[0 .. count - 1]: the distinct ones of the N = batch x time `tokens`, as they first appear; tokens[n] =
   words[positions[n]]. OUT_OF_RANGE where a token is outside 0 .. V - 1. */
Status distinct(long batch, long time, long V, const int64_t *tokens, int64_t *positions, int64_t *words,
                int64_t *count, int threads)
{
    (void)threads;
    if (batch < 0 || time < 0 || V < 0) return MISFIT;
    /* 1 + the position of a word, 0 for those that did not appear */
    int32_t *seen = calloc(V, sizeof *seen);
    if (!seen) return NO_MEMORY;
    Status status = DONE;
    *count = 0;
    for (long n = 0; n < batch * time; n++) {
        const int64_t word = tokens[n];
        if (word < 0 || word >= V) {
            status = OUT_OF_RANGE;
            break;
        }
        if (!seen[word]) {
            words[*count] = word;
            seen[word] = ++*count;
        }
        positions[n] = seen[word] - 1;
    }
    free(seen);
    return status;
}

/* For rows that share the states of their leading padding: the mask of steps that are not shared, and in row B the mask
   of steps that are, with the positions of their words; `longest` is the number of the latter. */
Status begun(long batch, long time, long padding, const int64_t *tokens, int64_t *positions, uint8_t *mask,
             int64_t *longest, int threads)
{
    (void)threads;
    if (batch < 0 || time < 0) return MISFIT;
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
    return DONE;
}
