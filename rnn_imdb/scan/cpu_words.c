/* Sums over words, and what is the same in many rows of a batch. */
#include "cpu.h"

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
