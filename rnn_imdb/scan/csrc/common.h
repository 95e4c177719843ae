/* What the kernels for a CPU have in common: vectors, tanh, and the product of a few rows with a matrix.

   Arrays are float32 and contiguous. Of rows that are read or written as vectors Python pads the number of columns to
   a multiple of 16: wide(H) for H. What stands there is never read for another column: it may be NaN.

   All matrix products are one loop, multiply(), which keeps a few rows of the result in registers. It adds up an entry
   in one order, k = 0, 1, 2, ..., whichever rows share the registers. So neither the number of threads nor the other
   rows of the batch change a bit of a row. Weight gradients add up parts, whose number follows from the sizes alone.
   Compilers may not choose which multiplication is fused with an addition: FMA() says so. With AVX2 or better every bit
   is thus the same on every CPU.

   The files are compiled once per instruction set; the vector width follows from the -m flags. Functions that Python
   calls take sizes, numbers, arrays and the number of threads, in this order. Python checks that no size is negative
   and that the arrays have these sizes; C checks that the sizes fit each other. */
#pragma once
#ifdef _OPENMP
#include <omp.h>
#else /* one thread */
#define omp_get_thread_num() 0
#define omp_get_num_threads() 1
#endif
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
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#elif defined(__AVX2__)
#define LANES 8
#define MAX_ROWS 4
#define MAX_SUMS 8
#define MIN(a, b) _mm256_min_ps(a, b)
#define MAX(a, b) _mm256_max_ps(a, b)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
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

typedef enum { DONE, NO_MEMORY, OUT_OF_RANGE, MISFIT } Status; /* as in native.py */

/* The same of single numbers. */
#if defined(__FMA__)
#define FMA_OF_ONE(a, b, c) __builtin_fmaf(a, b, c)
#else
#define FMA_OF_ONE(a, b, c) ((a) * (b) + (c))
#endif

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))
#define SHARED static __attribute__((unused)) /* in a file that does not call it */
/* Unrolled before anything else, so that an array indexed by i is registers. */
#define EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < n; i++)

/* Denormal numbers slow x86 down several times and mean nothing here. A kernel flushes them to zero, and gives each
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

/* x P(x^2) / Q(x^2), fitted to a relative error below 4e-7. At the limit the quotient is just above 1 and is cut, so
   that saturated inputs give exactly 1. NaN passes. */
INLINE Vector tanh_of(Vector x)
{
    x = MAX(splat(-8.2f), MIN(splat(8.2f), x));
    Vector y = x * x;
    Vector p = splat(1.09531767e-05f), q = splat(2.30716907e-07f);
    p = FMA(FMA(FMA(p, y, splat(2.90711131e-03f)), y, splat(1.28848031e-01f)), y, splat(9.99999762e-01f));
    q = FMA(FMA(q, y, splat(2.32458420e-04f)), y, splat(2.36359742e-02f));
    q = FMA(FMA(q, y, splat(4.62179601e-01f)), y, splat(1.0f));
    return MAX(splat(-1.0f), MIN(splat(1.0f), x * p / q));
}

/* A matrix (depth, columns), its rows `stride` floats apart. */
typedef struct {
    const float *data;
    long depth, columns, stride;
} Matrix;

/* out[r] = add[r] + sum over k of in[r][k * step] m[k], or tanh of it; `vectors` vectors from column `c`. */
INLINE void multiply_tile(const int rows, const int vectors, const bool tanh, const Matrix *m, long c,
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
            EACH(v, vectors) sums[r][v] = FMA(weights[v], splat(x[r][k * step]), sums[r][v]);
    }
    EACH(r, rows)
        EACH(v, vectors)
            store(out[r] + c + v * LANES, tanh ? tanh_of(sums[r][v]) : sums[r][v]);
}

/* All columns, in the widest tiles that the registers hold. */
INLINE void multiply_rows(const int rows, const bool tanh, const Matrix *m, const float *const *in, long step,
                          const float *const *add, float *const *out)
{
    long c = 0;
#define TILES(vectors)                                                                                             \
    for (; rows * vectors <= MAX_SUMS && c + vectors * LANES <= m->columns; c += vectors * LANES)                  \
        multiply_tile(rows, vectors, tanh, m, c, in, step, add, out);
    TILES(8) TILES(4) TILES(2) TILES(1)
}

/* The same for 1, 2, 4 or 8 rows. */
SHARED void multiply(int rows, bool tanh, const Matrix *m, const float *const *in, long step,
                     const float *const *add, float *const *out)
{
    switch (2 * rows + tanh) {
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

/* So many columns are whole vectors of the widest kind. */
INLINE long wide(long columns) { return (columns + 15) / 16 * 16; }

/* The largest number of rows multiply() takes at once, at most n. */
INLINE int rows_at_once(long n)
{
    int rows = MAX_ROWS;
    while (rows > n) rows /= 2;
    return rows;
}

/* A copy of m[k * stride_k + c * stride_c] with zeros behind its columns; the caller frees its data. */
SHARED Matrix packed(const float *m, long depth, long columns, long stride_k, long stride_c)
{
    const long all = wide(columns);
    float *data = aligned_alloc(64, 4 * depth * all);
    for (long k = 0; data && k < depth; k++)
        for (long c = 0; c < all; c++) data[k * all + c] = c < columns ? m[k * stride_k + c * stride_c] : 0;
    return (Matrix){data, depth, all, all};
}
