/* The recurrence from words, or from vectors, to states in one call, and its gradients in another:

       x_t = inputs[token_t]        p_t = W_x x_t + b        h_t = tanh(p_t + W h_{t-1})

   Without `tokens` the inputs (V, E) are x, or without `input_weight` p, a row for each of the batch x time steps. With
   them, each different word is projected once, and the states over leading padding are computed once, in the row that
   is added to the batch: so there is memory for rows = batch + 1. Forward leaves to backward the different words, which
   of them stands at which step (`positions`), the mask of the rows that share states, and two counts: of the different
   words, and of the shared steps. A mask that is given leaves nothing to share. */
#include "common.h"

static bool fits(long batch, long rows, long time, long E, long H, long used, long V, const int64_t *tokens,
                 const float *input_weight)
{
    return batch >= 0 && time >= 0 && padded(E) && padded(H) && 0 <= used && used <= H && V >= 0 &&
           rows == batch + (tokens != NULL) && (tokens ? input_weight != NULL : V == batch * time) &&
           (input_weight || E == H);
}

Status recurrence_forward(long batch, long rows, long time, long E, long H, long used, long only_last, long padding,
                          long V, const float *inputs, const int64_t *tokens, const float *input_weight, long stride_c,
                          long stride_k, const float *bias, const float *weight, long stride_i, long stride_j,
                          const float *initial, const uint8_t *mask, int64_t *words, int64_t *positions,
                          uint8_t *own_mask, int64_t *counts, float *states, int threads)
{
    if (!fits(batch, rows, time, E, H, used, V, tokens, input_weight)) return MISFIT;
    const float *projected = inputs;
    float *of_words = NULL;
    bool shared = false;
    Status status = DONE;
    if (tokens) {
        status = unique_tokens(batch, time, V, tokens, positions, words, &counts[0]);
        if (status) return status;
        counts[1] = mask ? 0 : find_leading_padding(batch, time, padding, tokens, positions, own_mask);
        shared = counts[1] > 0;
        if (shared) mask = own_mask;
        projected = of_words = aligned_alloc(64, 4 * counts[0] * H);
        if (!of_words) return NO_MEMORY;
    } else if (input_weight)
        /* no other step reads p, so the states take its place */
        projected = states;
    if (input_weight)
        status = linear_of_rows(tokens ? counts[0] : V, E, H, inputs, words, input_weight, stride_c, stride_k, bias,
                                (float *)projected, threads);
    if (!status)
        status = tanh_scan_forward(batch + shared, time, H, used, shared, only_last, projected, positions, weight,
                                   stride_i, stride_j, initial, mask, states, threads);
    free(of_words);
    return status;
}

/* From the gradient of the last `given` states to those of inputs, W_x, b, W and h_0, of which all but the last may be
   NULL. d_inputs may be delta, without tokens and where E = H. */
Status recurrence_backward(long batch, long rows, long time, long E, long H, long used, long given, long V,
                           const float *gradient, const float *inputs, const int64_t *tokens, const float *input_weight,
                           long stride_c, long stride_k, const float *weight, long stride_i, long stride_j,
                           const float *initial, const uint8_t *mask, const int64_t *words, const int64_t *positions,
                           const uint8_t *own_mask, const int64_t *counts, const float *states, float *delta,
                           float *d_inputs, float *d_input_weight, float *d_bias, float *d_weight, float *d_initial,
                           int threads)
{
    if (!fits(batch, rows, time, E, H, used, V, tokens, input_weight) || given < 0 || given > time) return MISFIT;
    const bool shared = tokens && counts[1];
    if (shared) mask = own_mask;
    rows = batch + shared;
    const long N = tokens ? counts[0] : V;
    const float *x = inputs;
    float *d_projected = delta, *d_x = d_inputs, *of_words = NULL;
    Status status = tanh_scan_backward(rows, time, H, used, given, shared, gradient, weight, stride_i, stride_j,
                                       states, mask, delta, d_initial, threads);
    if (!status && d_weight)
        status = weight_gradient(rows, time, H, H, delta, states, initial, mask, d_weight, threads);
    if (status || !input_weight) return status;
    if (tokens) {
        of_words = aligned_alloc(64, 4 * N * (H + E));
        if (!of_words) return NO_MEMORY;
        d_projected = memset(of_words, 0, 4 * N * H);
        scatter_add(rows * time, H, N, positions, mask, delta, d_projected, threads);
        /* first x, then its gradient */
        x = d_x = of_words + N * H;
        for (long n = 0; n < N; n++) memcpy(d_x + n * E, inputs + words[n] * E, 4 * E);
    }
    /* infinite inputs made NaN of the padding, and a product with zeros would spread it */
    for (long n = 0; n < N && used < H; n++) memset(d_projected + n * H + used, 0, 4 * (H - used));
    status = linear_backward(N, E, H, x, input_weight, stride_c, stride_k, d_projected, d_inputs ? d_x : NULL,
                             d_input_weight, d_bias, threads);
    if (!status && tokens && d_inputs)
        status = scatter_add(N, E, V, words, NULL, d_x, memset(d_inputs, 0, 4 * V * E), threads);
    free(of_words);
    return status;
}
