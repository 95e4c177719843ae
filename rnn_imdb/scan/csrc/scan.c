/* The tanh scan and its gradients.

   Forward, for each row b of a batch (h_{-1} is the row's initial state):

       h_t = tanh(p_t + W h_{t-1})

   Backward, with g_t the gradient that arrives at h_t from above and c_t the one carried back through time
   (c_{T-1} = 0; c_{-1} is the gradient of the initial state):

       delta_t = (g_t + c_t) (1 - h_t^2)        the gradient of p_t
       c_{t-1} = W^T delta_t
       dW      = sum over b, t of delta_t h_{t-1}^T        outer() in linear.c

   A step whose mask is false copies: h_t = h_{t-1}, delta_t = 0, c_{t-1} = c_t + g_t.

   Rows that begin with the same inputs are in the same states until they differ. With `shared` these states are
   computed in one row more, number B, and the leading masked steps of the others are copies of its steps. Backward, the
   gradients that arrive at a shared state add up: g_t of row B is the sum of the others' g_t there, and of the c_t of
   those whose own steps begin at t + 1.

   Arrays are batch first: (B, T, H), (B, H); a mask is (B, T), one byte an entry, or NULL. The scan is told how many
   entries of a state are `used`, since an infinite initial state would make NaN of the padding, and that of
   everything. */
#include "common.h"

typedef struct {
    long batch, time, given;
    Matrix weight; /* W^T forward, W backward: states are rows */
    const uint8_t *mask;
    bool shared, only_last; /* only_last: of the shared states that a row copies, its first own step needs the last */
    const float *projected, *initial_state;
    const int64_t *positions; /* p_t is row positions[row, t] of `projected`; NULL where it has a row for each step */
    float *states;
    const float *gradient;
    float *common; /* g_t of row B */
    float *delta, *carry;
} Scan;

/* Steps of one row that are still to do: those between two masked ones, `left` of them, the next one at t. */
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
    const long H = s->weight.columns;
    const long n = count(s, run->row, run->t, 1, false);
    if (s->shared && run->row < s->batch && n) {
        const long first = s->only_last ? n - 1 : 0;
        const float *common = s->states + (s->batch * s->time + first) * H;
        memcpy(s->states + (run->row * s->time + first) * H, common, 4 * (n - first) * H);
        run->t = n;
    } else
        for (const long stop = run->t + n; run->t < stop; run->t++) {
            float *state = s->states + (run->row * s->time + run->t) * H;
            memcpy(state, run->t ? state - H : s->initial_state + run->row * H, 4 * H);
        }
    run->left = count(s, run->row, run->t, 1, true);
    return run->left > 0;
}

/* What arrives at a state from above, or NULL before the last `given` steps, where nothing does. */
static const float *gradient_at(const Scan *s, long row, long t)
{
    if (row == s->batch) return s->common + t * s->weight.columns;
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
    const long first = (run->row * s->time + run->t - masked + 1) * H;
    float *carry = s->carry + run->row * H;
    if (masked) memset(s->delta + first, 0, 4 * masked * H);
    for (long n = masked; n-- > 0;) {
        const float *above = gradient_at(s, run->row, run->t - masked + 1 + n);
        if (above) add(carry, above, H);
    }
    run->t -= masked;
    run->left = count(s, run->row, run->t, -1, true);
    return run->left > 0;
}

/* Sum up what arrives at the states of row B, in the order of the rows that share them. */
static void sum_common(const Scan *s)
{
    const long H = s->weight.columns;
    for (long row = 0; row < s->batch; row++) {
        const long n = count(s, row, 0, 1, false);
        if (n) add(s->common + (n - 1) * H, s->carry + row * H, H);
        for (long t = s->given < s->time ? s->time - s->given : 0; t < n; t++)
            add(s->common + t * H, gradient_at(s, row, t), H);
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
                store(s->delta + n[r] + c, sum * (1.0f - h * h));
            }
            n[r] -= H;
        }
        multiply(rows, false, &s->weight, delta, 1, NULL, carry);
    }
}

/* Every thread advances a few rows together, as many steps as all of them have, and takes the batch's next row
   whenever one is done: rows may be of any length. */
static void scan_rows(const Scan *s, long start, bool next_run(const Scan *, Run *),
                      void advance(const Scan *, Run *, int, long), int threads)
{
    long queue = 0;
    if (s->batch == 1) threads = 1; /* but not `batch` of many: a smaller team makes libgomp end its other threads */
    const int width = smaller(MAX_ROWS, (s->batch + threads - 1) / threads);
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
                if (row >= s->batch) break;
                runs[live] = (Run){row, start, 0};
                live += next_run(s, &runs[live]);
            }
            if (!live) break;
            const int rows = rows_at_once(live);
            long steps = runs[0].left;
            for (int r = 1; r < rows; r++) steps = smaller(steps, runs[r].left);
            advance(s, runs, rows, steps);
            for (int r = rows - 1; r >= 0; r--) {
                runs[r].left -= steps;
                if (!runs[r].left && !next_run(s, &runs[r])) runs[r] = runs[--live];
            }
        }
        restore(mode);
    }
}

/* Row B alone. */
static void scan_shared(const Scan *s, long start, bool next_run(const Scan *, Run *),
                        void advance(const Scan *, Run *, int, long))
{
    unsigned mode = flush_denormals();
    Run run = {s->batch, start, 0};
    while (next_run(s, &run)) advance(s, &run, 1, run.left);
    restore(mode);
}

int kernel_version(void) { return VERSION; }

/* Whether the scan can go over `rows`, the shared one included. */
static bool fits(long rows, long time, long H, long used, long shared)
{
    return 0 <= shared && shared <= 1 && shared <= rows && 0 <= time && padded(H) && 0 <= used && used <= H;
}

/* `words` is the number of rows of `projected`. With `shared`, one of the `rows` is that of the shared states, the last
   one; with `only_last`, the others may lack the states that they share. */
Status tanh_scan_forward(long rows, long time, long H, long used, long words, long shared, long only_last,
                         const float *projected, const int64_t *positions, const float *weight, long stride_i,
                         long stride_j, const float *initial_state, const uint8_t *mask, float *states, int threads)
{
    if (!fits(rows, time, H, used, shared) || (shared && !mask) || (!positions && words != rows * time)) return MISFIT;
    Scan s = {.batch = rows - shared, .time = time, .mask = mask, .shared = shared, .only_last = only_last};
    s.projected = projected;
    s.positions = positions;
    s.initial_state = initial_state;
    s.states = states;
    s.weight = packed(weight, used, H, stride_j, stride_i);
    if (!s.weight.data) return NO_MEMORY;
    if (shared) scan_shared(&s, 0, next_run_forward, forward);
    scan_rows(&s, 0, next_run_forward, forward, threads);
    free((float *)s.weight.data);
    return DONE;
}

/* `gradient` is that of the last `given` states, (B, given, H); `carry` becomes that of the initial state. With
   `shared`, delta of shared steps stands in row B alone. */
Status tanh_scan_backward(long rows, long time, long H, long used, long given, long shared, const float *gradient,
                          const float *weight, long stride_i, long stride_j, const float *states, const uint8_t *mask,
                          float *delta, float *carry, int threads)
{
    if (!fits(rows, time, H, used, shared) || (shared && !mask) || given < 0 || given > time) return MISFIT;
    Scan s = {.batch = rows - shared, .time = time, .mask = mask, .shared = shared, .states = (float *)states};
    s.gradient = gradient;
    s.given = given;
    s.delta = delta;
    s.carry = memset(carry, 0, 4 * rows * H);
    s.weight = packed(weight, used, H, stride_i, stride_j);
    s.common = calloc(shared ? time * H : 1, 4);
    const bool done = s.weight.data && s.common;
    if (done) scan_rows(&s, time - 1, next_run_backward, backward, threads);
    if (done && shared) {
        sum_common(&s);
        scan_shared(&s, time - 1, next_run_backward, backward);
    }
    free(s.common);
    free((float *)s.weight.data);
    return done ? DONE : NO_MEMORY;
}
