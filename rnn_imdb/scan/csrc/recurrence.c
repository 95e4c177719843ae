/* The recurrence from words, or from vectors, to states in one call, and its gradients in another:

       x_t = inputs[token_t]        p_t = W_x x_t + b        h_t = tanh(p_t + W h_{t-1})

   A is W beside W_x (H, H + E). Without `tokens` the inputs are x, or where E is 0 p, a row for each of the V = batch x
   time steps. With them, each different word is projected once, and the states over leading padding are computed once,
   in the row that is added to the batch: so there is memory for rows = batch + 1. Forward leaves to backward, in one
   array, what it found. A mask that is given leaves nothing to share. */
#include "linear.h"
#include "scan.h"
#include "words.h"
#ifdef __GLIBC__
#include <malloc.h>
#endif

int64_t kernel_version(void) { return VERSION; }

/* Let glibc keep what is freed; it may give every large block back and take it again, page by page, at each step. */
void keep_freed_memory(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 25); /* the most that it takes */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

typedef struct {
    int64_t *positions, *words, *counts; /* which of the different words stands at each step; these; how many, and steps
                                            that rows share */
    uint8_t *mask;                       /* of rows that share states */
} Found;

static Found parts_of(int64_t *found, long batch, long rows, long time, long V)
{
    if (rows == batch) return (Found){0}; /* without tokens */
    int64_t *words = found + rows * time, *counts = words + smaller(batch * time, V);
    return (Found){found, words, counts, (uint8_t *)(counts + 2)};
}

static bool fits(long batch, long rows, long time, long E, long V, const int64_t *tokens, const int64_t *found)
{
    return rows == batch + (tokens != NULL) && (tokens ? found && E : V == batch * time);
}

Status recurrence_forward(long batch, long rows, long time, long E, long H, long only_last, long padding,
                          long V, const float *inputs, const int64_t *tokens, const float *A, const float *bias,
                          const float *initial, const uint8_t *mask, int64_t *found, float *states, int threads)
{
    if (!fits(batch, rows, time, E, V, tokens, found)) return MISFIT;
    /* no other step reads p, so the states take its place */
    float *projected = states, *of_words = NULL;
    long N = V;
    const Found f = parts_of(found, batch, rows, time, V);
    Scan s = {.batch = batch, .time = time, .mask = mask, .only_last = only_last, .states = states};
    s.initial_state = initial;
    if (tokens) {
        const Status status = unique_tokens(batch, time, V, tokens, f.positions, f.words, f.counts);
        if (status) return status;
        f.counts[1] = mask ? 0 : find_leading_padding(batch, time, padding, tokens, f.positions, f.mask);
        if (f.counts[1]) s.mask = f.mask;
        s.shared = f.counts[1];
        s.positions = f.positions;
        N = f.counts[0];
        projected = of_words = aligned_alloc(64, 4 * N * wide(H));
        if (!of_words) return NO_MEMORY;
    }
    s.projected = E ? projected : inputs;
    Status status = DONE;
    if (E) status = linear_of_rows(N, E, H, inputs, E, f.words, A + H, H + E, 1, bias, projected, threads);
    if (!status) status = scan(&s, false, A, H, H + E, threads);
    free(of_words);
    return status;
}

/* From the gradient of the last `given` states to those of inputs, A, b and h_0, of which all but the last may be NULL.
   Where E is 0, delta is that of the inputs. */
Status recurrence_backward(long batch, long rows, long time, long E, long H, long given, long V, const float *gradient,
                           const float *inputs, const int64_t *tokens, const float *A, const float *initial,
                           const uint8_t *mask, int64_t *found, const float *states, float *delta, float *d_inputs,
                           float *d_A, float *d_bias, float *d_initial, int threads)
{
    if (!fits(batch, rows, time, E, V, tokens, found) || given > time) return MISFIT;
    const Found f = parts_of(found, batch, rows, time, V);
    const bool shared = tokens && f.counts[1];
    const long N = tokens ? f.counts[0] : V, W = wide(H), X = wide(E);
    Scan s = {.batch = batch, .time = time, .mask = shared ? f.mask : mask, .shared = shared, .given = given};
    s.states = (float *)states;
    s.gradient = gradient;
    s.delta = delta;
    s.carry = memset(d_initial, 0, 4 * rows * W);
    rows = batch + shared;
    Status status = scan(&s, true, A, H, H + E, threads);
    if (!status && d_A)
        status = weight_gradient(rows, time, H, H, delta, states, initial, s.mask, d_A, H + E, threads);
    if (status || !E) return status;
    const float *x = inputs;
    float *d_projected = delta, *d_x = d_inputs, *copies = NULL;
    if (tokens || X > E) {
        copies = aligned_alloc(64, 4 * N * (X + W));
        if (!copies) return NO_MEMORY;
        /* first x, then its gradient */
        x = d_x = copies;
        for (long n = 0; n < N; n++) memcpy(d_x + n * X, inputs + (tokens ? f.words[n] : n) * E, 4 * E);
    }
    if (tokens) {
        d_projected = memset(copies + N * X, 0, 4 * N * W);
        scatter_add(rows * time, W, N, f.positions, s.mask, delta, d_projected, threads);
    }
    status = linear_backward(N, E, H, H + E, x, A + H, d_projected, d_inputs ? d_x : NULL, d_A ? d_A + H : NULL, d_bias,
                             threads);
    if (copies && d_inputs) {
        if (tokens) memset(d_inputs, 0, 4 * V * E);
        for (long n = 0; n < N; n++) memcpy(d_inputs + (tokens ? f.words[n] : n) * E, d_x + n * X, 4 * E);
    }
    free(copies);
    return status;
}
