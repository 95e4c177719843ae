/* The tanh scan, the linear map in front of it, and their gradients, on one CPU.

   Forward, for each row b of a batch (h_{-1} is the row's initial state):

       h_t = tanh(p_t + W h_{t-1})

   Backward, with g_t the gradient that arrives at h_t from above and c_t the one carried back through time
   (c_{T-1} = 0; c_{-1} is the gradient of the initial state):

       delta_t = (g_t + c_t) (1 - h_t^2)        the gradient of p_t
       c_{t-1} = W^T delta_t
       dW      = sum over b, t of delta_t h_{t-1}^T

   A step whose mask is false copies: h_t = h_{t-1}, delta_t = 0, c_{t-1} = c_t + g_t.

   Rows that begin with the same inputs are in the same states until they differ. With `shared` these states are
   computed in one row more, number B, and the leading masked steps of the others are copies of its steps. Backward, the
   gradients that arrive at a shared state add up: g_t of row B is the sum of the others' g_t there, and of the c_t of
   those whose own steps begin at t + 1.

   Arrays are float32, contiguous, batch first: (B, T, H), (B, H); a mask is (B, T), one byte an entry, or NULL.
   H, and every number of columns, is a multiple of 16: Python pads, and gives the scan the number of `used` entries
   of a state, since an infinite initial state would make NaN of the padding, and that of everything. A parameter
   matrix may be strided; strides count floats.

   Everything is one loop, multiply(): a few rows of a product, kept in registers. A number is summed in one order,
   k = 0, 1, 2, ..., whichever rows share the registers, so neither the number of threads nor the other rows of the
   batch change a bit of it. (Weight gradients add one part per thread, so their last bits depend on that number.)

   Compiled once per instruction set; the vector width follows from the -m flags. */
#include <omp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A tile is up to MAX_ROWS rows times as many vectors as make at most MAX_SUMS registers of sums.
   MIN and MAX return b where either operand is NaN. */
#if defined(__AVX512F__)
#define LANES 16
#define MAX_ROWS 8
#define MAX_SUMS 16
#define MIN(a, b) _mm512_min_ps(a, b)
#define MAX(a, b) _mm512_max_ps(a, b)
#elif defined(__AVX2__)
#define LANES 8
#define MAX_ROWS 4
#define MAX_SUMS 8
#define MIN(a, b) _mm256_min_ps(a, b)
#define MAX(a, b) _mm256_max_ps(a, b)
#else
#define LANES 4
#define MAX_ROWS 4
#define MAX_SUMS 8
#if defined(__SSE2__)
#define MIN(a, b) _mm_min_ps(a, b)
#define MAX(a, b) _mm_max_ps(a, b)
#else
#define SELECT(condition, a, b) (Vector)(((condition) & (Bits)(a)) | (~(condition) & (Bits)(b)))
#define MIN(a, b) SELECT((a) < (b), a, b)
#define MAX(a, b) SELECT((a) > (b), a, b)
#endif
#endif

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))
/* Unrolled before anything else, so that an array indexed by i is registers. */
#define EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < n; i++)

/* Denormal numbers slow x86 down several times and mean nothing here: flush them inside a kernel, and give each
   thread its mode back. */
#if defined(__SSE2__)
#include <immintrin.h>
INLINE unsigned flush_denormals(void)
{
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040); /* flush to zero, denormals are zero */
    return mode;
}
INLINE void restore(unsigned mode) { _mm_setcsr(mode); }
#else
INLINE unsigned flush_denormals(void) { return 0; }
INLINE void restore(unsigned mode) { (void)mode; }
#endif

INLINE Vector splat(float x) { return x - (Vector){0}; }

INLINE Vector load(const float *x) { return *(const Unaligned *)x; }
INLINE void store(float *x, Vector v) { *(Unaligned *)x = v; }

/* x P(x^2) / Q(x^2), fitted so that the relative error is below 4e-7 and the quotient just above 1 at the limit,
   where it is cut: saturated inputs give exactly 1. NaN passes. */
INLINE Vector tanh_of(Vector x)
{
    x = MAX(splat(-8.2f), MIN(splat(8.2f), x));
    Vector y = x * x;
    Vector p = ((1.09531767e-05f * y + 2.90711131e-03f) * y + 1.28848031e-01f) * y + 9.99999762e-01f;
    Vector q = (((2.30716907e-07f * y + 2.32458420e-04f) * y + 2.36359742e-02f) * y + 4.62179601e-01f) * y + 1.0f;
    return MAX(splat(-1.0f), MIN(splat(1.0f), x * p / q));
}

/* A matrix (depth, columns), its rows `stride` floats apart. */
typedef struct {
    const float *data;
    long depth, columns, stride;
} Matrix;

/* out[r] = add[r] + sum over k of in[r][k * step] m[k], then tanh if `squash`; `vectors` vectors from column `c`. */
INLINE void multiply_tile(const int rows, const int vectors, const bool squash, const Matrix *m, long c,
                          const float *const *in, long step, const float *const *add, float *const *out)
{
    Vector sums[MAX_ROWS][MAX_SUMS];
    const float *x[MAX_ROWS], *row = m->data + c;
    EACH(r, rows) {
        x[r] = in[r];
        EACH(v, vectors) sums[r][v] = add ? load(add[r] + c + v * LANES) : splat(0);
    }
    for (long k = 0; k < m->depth; k++, row += m->stride) {
        Vector weights[MAX_SUMS];
        EACH(v, vectors) weights[v] = load(row + v * LANES);
        EACH(r, rows)
            EACH(v, vectors) sums[r][v] += weights[v] * x[r][k * step];
    }
    EACH(r, rows)
        EACH(v, vectors)
            store(out[r] + c + v * LANES, squash ? tanh_of(sums[r][v]) : sums[r][v]);
}

/* All columns, in the widest tiles that the registers hold. */
INLINE void multiply_rows(const int rows, const bool squash, const Matrix *m, const float *const *in, long step,
                          const float *const *add, float *const *out)
{
    long c = 0;
#define TILES(vectors)                                                                                             \
    for (; rows * vectors <= MAX_SUMS && c + vectors * LANES <= m->columns; c += vectors * LANES)                  \
        multiply_tile(rows, vectors, squash, m, c, in, step, add, out);
    TILES(8) TILES(4) TILES(2) TILES(1)
}

/* The same, for 1, 2, 4 or 8 rows. */
static void multiply(int rows, bool squash, const Matrix *m, const float *const *in, long step,
                     const float *const *add, float *const *out)
{
    switch (2 * rows + squash) {
#define CASE(rows)                                                                                                 \
    case 2 * rows: multiply_rows(rows, false, m, in, step, add, out); break;                                       \
    case 2 * rows + 1: multiply_rows(rows, true, m, in, step, add, out); break;
        CASE(1) CASE(2) CASE(4)
#if MAX_ROWS == 8
        CASE(8)
#endif
    }
}

INLINE long smaller(long a, long b) { return a < b ? a : b; }

/* The largest number of rows multiply() takes at once, at most n. */
INLINE int rows_at_once(long n)
{
    int rows = MAX_ROWS;
    while (rows > n) rows /= 2;
    return rows;
}

/* A contiguous copy of m[k * stride_k + c * stride_c]; the caller frees its data. */
static Matrix packed(const float *m, long depth, long columns, long stride_k, long stride_c)
{
    float *data = aligned_alloc(64, 4 * depth * columns);
    for (long k = 0; data && k < depth; k++)
        for (long c = 0; c < columns; c++) data[k * columns + c] = m[k * stride_k + c * stride_c];
    return (Matrix){data, depth, columns, columns};
}

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
    while (n < left && mask[n * direction] == value) n++;
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

/* The functions that Python calls return false when memory ran out. */

/* With `shared`, arrays have one row more than `batch`; with `only_last`, a row may lack the states that it shares. */
bool tanh_scan_forward(long batch, long time, long H, long used, const float *projected, const int64_t *positions,
                       const float *weight, long stride_i, long stride_j, const float *initial_state,
                       const uint8_t *mask, bool shared, bool only_last, float *states, int threads)
{
    Scan s = {.batch = batch, .time = time, .mask = mask, .shared = shared, .only_last = only_last};
    s.projected = projected;
    s.positions = positions;
    s.initial_state = initial_state;
    s.states = states;
    s.weight = packed(weight, used, H, stride_j, stride_i);
    if (!s.weight.data) return false;
    if (shared) scan_shared(&s, 0, next_run_forward, forward);
    scan_rows(&s, 0, next_run_forward, forward, threads);
    free((float *)s.weight.data);
    return true;
}

/* `gradient` is that of the last `given` states, (B, given, H); `carry` becomes that of the initial state. With
   `shared`, delta of shared steps stands in row B alone. */
bool tanh_scan_backward(long batch, long time, long H, long used, long given, const float *gradient,
                        const float *weight, long stride_i, long stride_j, const float *states, const uint8_t *mask,
                        bool shared, float *delta, float *carry, int threads)
{
    Scan s = {.batch = batch, .time = time, .mask = mask, .shared = shared, .states = (float *)states};
    s.gradient = gradient;
    s.given = given;
    s.delta = delta;
    s.carry = memset(carry, 0, 4 * (batch + shared) * H);
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
    return done;
}

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

/* The mask of rows that share their leading padding: whether a row has had another word by step t; and in row B,
   whether there is one that has not. */
bool begun(long batch, long time, int64_t padding, const int64_t *tokens, uint8_t *mask, int threads)
{
    (void)threads;
    long longest = 0;
    for (long row = 0; row < batch; row++) {
        long n = 0;
        while (n < time && tokens[row * time + n] == padding) n++;
        memset(mask + row * time, 0, n);
        memset(mask + row * time + n, 1, time - n);
        if (n > longest) longest = n;
    }
    memset(mask + batch * time, 1, longest);
    memset(mask + batch * time + longest, 0, time - longest);
    return true;
}
