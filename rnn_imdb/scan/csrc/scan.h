/* The tanh scan and its gradients.

   Forward, for each row b of a batch (h_{-1} is the row's initial state):

       h_t = tanh(p_t + W h_{t-1})

   Backward, with g_t the gradient that arrives at h_t from above and c_t the one carried back through time
   (c_{T-1} = 0; c_{-1} is the gradient of the initial state):

       delta_t = (g_t + c_t) (1 - h_t^2)        the gradient of p_t
       c_{t-1} = W^T delta_t
       dW      = sum over b, t of delta_t h_{t-1}^T        weight_gradient() in linear.c

   A step whose mask is false copies: h_t = h_{t-1}, delta_t = 0, c_{t-1} = c_t + g_t.

   Rows that begin with the same inputs are in the same states until they differ. With `shared`, one more row, number B,
   computes these states, and the leading masked steps of the others are copies of its steps. Backward, the gradients
   that arrive at a shared state add up: g_t of row B is the sum of the others' g_t there, and of the c_t of those whose
   own steps begin at t + 1.

   Arrays are batch first: (B, T, wide(H)), (B, wide(H)); a mask is (B, T), one byte an entry, or NULL. */
#include "common.h"

typedef struct {
    long batch, time, given;
    Matrix weight; /* W^T forward, W backward: states are rows */
    const uint8_t *mask;
    bool shared, only_last; /* only_last: a row copies the last of the shared states alone, for its own steps */
    const float *projected, *initial_state;
    const int64_t *positions; /* p_t is row positions[row, t] of `projected`; NULL where it has a row for each step */
    float *states;
    const float *gradient; /* of the last `given` states, (B, given, wide(H)) */
    float *shared_gradient; /* g_t of row B; delta of its steps stands there alone */
    float *delta, *carry; /* carry becomes the gradient of the initial state */
} Scan;

/* The steps of a row between two masked ones, as far as they are still to do: `left` steps, the next one at t. */
typedef struct {
    long row, t, left;
} Run;

/* The number of steps whose mask is `value`, from t on, upwards or downwards. */
static long count(const Scan *s, long row, long t, int direction, bool value)
{
    const long left = direction > 0 ? s->time - t : t + 1;
    if (!s->mask) return value ? left : 0;
    const uint8_t *mask = s->mask + row * s->time + t;
    long n = 0;
    while (n < left && !mask[n * direction] != value) n++;
    return n;
}

/* Copy the state over masked steps, then find the run that follows; false when the row has no more. */
static bool next_run_forward(const Scan *s, Run *run)
{
    const long H = s->weight.columns, n = count(s, run->row, run->t, 1, false);
    float *states = s->states + run->row * s->time * H;
    if (s->shared && run->row < s->batch && n) {
        const long first = s->only_last ? n - 1 : 0;
        memcpy(states + first * H, s->states + (s->batch * s->time + first) * H, 4 * (n - first) * H);
    } else
        for (long t = run->t; t < run->t + n; t++)
            memcpy(states + t * H, t ? states + (t - 1) * H : s->initial_state + run->row * H, 4 * H);
    run->t += n;
    run->left = count(s, run->row, run->t, 1, true);
    return run->left > 0;
}

/* What arrives at a state from above, or NULL before the last `given` steps, where nothing does. */
static const float *gradient_at(const Scan *s, long row, long t)
{
    if (row == s->batch) return s->shared_gradient + t * s->weight.columns;
    const long n = t - (s->time - s->given);
    return n < 0 ? NULL : s->gradient + (row * s->given + n) * s->weight.columns;
}

INLINE void add(float *to, const float *from, long H)
{
    for (long c = 0; c < H; c += LANES) store(to + c, load(to + c) + load(from + c));
}

/* Add the gradients of masked steps to the carried one, then find the run before them: a run's t counts down. */
static bool next_run_backward(const Scan *s, Run *run)
{
    const long H = s->weight.columns, masked = count(s, run->row, run->t, -1, false);
    if (s->shared && run->row < s->batch && masked == run->t + 1) return false;
    const long stop = run->t - masked;
    if (masked) memset(s->delta + (run->row * s->time + stop + 1) * H, 0, 4 * masked * H);
    for (; run->t > stop; run->t--) {
        const float *above = gradient_at(s, run->row, run->t);
        if (above) add(s->carry + run->row * H, above, H);
    }
    run->left = count(s, run->row, run->t, -1, true);
    return run->left > 0;
}

/* Sum up what arrives at the states of row B, in the order of the rows that share them. */
static void sum_shared(const Scan *s)
{
    const long H = s->weight.columns;
    for (long row = 0; row < s->batch; row++) {
        const long n = count(s, row, 0, 1, false);
        if (n) add(s->shared_gradient + (n - 1) * H, s->carry + row * H, H);
        for (long t = s->given < s->time ? s->time - s->given : 0; t < n; t++)
            add(s->shared_gradient + t * H, gradient_at(s, row, t), H);
    }
}

static void forward(const Scan *s, Run *runs, int rows, long steps)
{
    const long T = s->time, H = s->weight.columns;
    const float *projected[MAX_ROWS], *before[MAX_ROWS];
    float *states[MAX_ROWS];
    long n[MAX_ROWS];
    for (int r = 0; r < rows; r++) {
        n[r] = runs[r].row * T + runs[r].t;
        projected[r] = s->projected + n[r] * H;
        states[r] = s->states + n[r] * H;
        before[r] = runs[r].t ? states[r] - H : s->initial_state + runs[r].row * H;
        runs[r].t += steps;
    }
    while (steps--) {
        for (int r = 0; s->positions && r < rows; r++) projected[r] = s->projected + s->positions[n[r]++] * H;
        multiply(rows, true, &s->weight, before, 1, projected, states);
        for (int r = 0; r < rows; r++) {
            before[r] = states[r];
            states[r] += H;
            projected[r] += H;
        }
    }
}

static void backward(const Scan *s, Run *runs, int rows, long steps)
{
    const long T = s->time, H = s->weight.columns;
    const float *delta[MAX_ROWS];
    float *carry[MAX_ROWS];
    long n[MAX_ROWS], row[MAX_ROWS], t[MAX_ROWS];
    for (int r = 0; r < rows; r++) {
        row[r] = runs[r].row;
        t[r] = runs[r].t;
        n[r] = (row[r] * T + t[r]) * H;
        carry[r] = s->carry + runs[r].row * H;
        runs[r].t -= steps;
    }
    while (steps--) {
        for (int r = 0; r < rows; r++) {
            const float *above = gradient_at(s, row[r], t[r]--);
            delta[r] = s->delta + n[r];
            for (long c = 0; c < H; c += LANES) {
                Vector h = load(s->states + n[r] + c), sum = load(carry[r] + c);
                /* Into the second cache, four steps ahead: the hardware does not follow so many descending streams. */
                __builtin_prefetch(s->states + n[r] + c - 4 * H, 0, 2);
                __builtin_prefetch(s->delta + n[r] + c - 4 * H, 0, 2);
                if (above) {
                    __builtin_prefetch(above + c - 4 * H, 0, 2);
                    sum += load(above + c);
                }
                store(s->delta + n[r] + c, sum * FMA(-h, h, splat(1.0f)));
            }
            n[r] -= H;
        }
        multiply(rows, false, &s->weight, delta, 1, NULL, carry);
    }
}

/* Scan the rows from `first` to before `last`. Every thread advances a few rows together, as many steps as all of them
   have, and takes the next row whenever one is done: rows may be of any length. */
static void scan_rows(const Scan *s, bool back, long first, long last, int threads)
{
    bool (*next_run)(const Scan *, Run *) = back ? next_run_backward : next_run_forward;
    long queue = first;
    if (last - first == 1) threads = 1; /* fewer than all but more than one would make libgomp end the others */
    const int width = smaller(MAX_ROWS, (last - first + threads - 1) / threads);
#pragma omp parallel num_threads(threads)
    {
        unsigned mode = flush_denormals();
        Run runs[MAX_ROWS];
        int live = 0;
        for (;;) {
            while (live < width) {
                long row;
#pragma omp atomic capture
                row = queue++;
                if (row >= last) break;
                runs[live] = (Run){row, back ? s->time - 1 : 0, 0};
                live += next_run(s, &runs[live]);
            }
            if (!live) break;
            const int rows = rows_at_once(live);
            long steps = runs[0].left;
            for (int r = 1; r < rows; r++) steps = smaller(steps, runs[r].left);
            (back ? backward : forward)(s, runs, rows, steps);
            for (int r = rows - 1; r >= 0; r--) {
                runs[r].left -= steps;
                if (!runs[r].left && !next_run(s, &runs[r])) runs[r] = runs[--live];
            }
        }
        restore(mode);
    }
}

/* Scan all rows by W (H, H), whose rows are `step` floats apart; that of the shared states forward before the others,
   backward after them. */
static Status scan(Scan *s, bool back, const float *weight, long H, long step, int threads)
{
    s->weight = back ? packed(weight, H, H, step, 1) : packed(weight, H, H, 1, step);
    s->shared_gradient = calloc(s->shared ? s->time * wide(H) : 1, 4);
    const bool done = s->weight.data && s->shared_gradient;
    if (done && s->shared && !back) scan_rows(s, false, s->batch, s->batch + 1, 1);
    if (done) scan_rows(s, back, 0, s->batch, threads);
    if (done && s->shared && back) {
        sum_shared(s);
        scan_rows(s, true, s->batch, s->batch + 1, 1);
    }
    free(s->shared_gradient);
    free((float *)s->weight.data);
    return done ? DONE : NO_MEMORY;
}
