/* Sums over words, and what the rows of a batch have in common. */
#include "common.h"

/* table[numbers[n]] += rows[n], n upwards, where the mask is true. Any H. The threads share the columns, so that no two
   of them add to one entry. OUT_OF_RANGE where a number is outside 0 .. V - 1. */
Status scatter_add(long N, long H, long V, const int64_t *numbers, const uint8_t *mask, const float *rows, float *table,
                   int threads)
{
    Status status = DONE;
#pragma omp parallel num_threads(threads)
    {
        unsigned mode = flush_denormals();
        const long vectors = (H + LANES - 1) / LANES, team = omp_get_num_threads(), i = omp_get_thread_num();
        const long first = vectors * i / team * LANES, last = smaller(H, vectors * (i + 1) / team * LANES);
        for (long n = 0; n < N; n++) {
            if (mask && !mask[n]) continue;
            if (numbers[n] < 0 || numbers[n] >= V) {
#pragma omp atomic write
                status = OUT_OF_RANGE;
                break;
            }
            const float *from = rows + n * H;
            float *to = table + numbers[n] * H;
            long c = first;
            for (; c + LANES <= last; c += LANES) store(to + c, load(to + c) + load(from + c));
            for (; c < last; c++) to[c] += from[c];
        }
        restore(mode);
    }
    return status;
}

/* unique[0 .. count - 1]: the different ones of batch x time tokens, in the order in which they first appear;
   tokens[n] = unique[positions[n]]. OUT_OF_RANGE where a token is outside 0 .. V - 1. */
static Status unique_tokens(long batch, long time, long V, const int64_t *tokens, int64_t *positions,
                            int64_t *unique, int64_t *count)
{
    int32_t *seen = calloc(V, sizeof *seen); /* 1 + the position of a token, 0 before it appears */
    if (!seen) return NO_MEMORY;
    Status status = DONE;
    *count = 0;
    for (long n = 0; n < batch * time; n++) {
        const int64_t token = tokens[n];
        if (token < 0 || token >= V) {
            status = OUT_OF_RANGE;
            break;
        }
        if (!seen[token]) {
            unique[*count] = token;
            seen[token] = ++*count;
        }
        positions[n] = seen[token] - 1;
    }
    free(seen);
    return status;
}

/* Masks for rows that share the states over their leading padding: each row's mask is true at its own steps, that of
   the added row `batch` at the shared ones, whose positions it gets. Returns the number of these. */
static long find_leading_padding(long batch, long time, long padding, const int64_t *tokens, int64_t *positions,
                                 uint8_t *mask)
{
    long longest = 0;
    for (long row = 0; row < batch; row++) {
        const int64_t *first = tokens + row * time;
        long n = 0;
        while (n < time && first[n] == padding) n++;
        memset(mask + row * time, 1, time);
        memset(mask + row * time, 0, n);
        if (n <= longest) continue;
        memcpy(positions + batch * time, positions + row * time, n * sizeof *positions);
        longest = n;
    }
    memset(mask + batch * time, 0, time);
    memset(mask + batch * time, 1, longest);
    return longest;
}
