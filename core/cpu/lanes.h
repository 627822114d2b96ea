/* lanes.h - LANES partial results side by side, in as many vectors of this instruction level as they take.
 *
 * The compiler may not change the order of a sum; so the order is written down, one lane for each place modulo LANES,
 * which makes it the same at every level.
 */
#ifndef AJ_LANES_H
#define AJ_LANES_H
#include "cpu.h"
#include <string.h>
#if defined __AVX512F__
#include <immintrin.h>
#endif

#if defined __AVX512F__
#define VECTOR_BYTES 64
#elif defined __AVX2__
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

enum { LANES = 32 };
/* So many numbers are added up in lanes before their sum moves to a double: 64 to a lane. */
enum { SUMMED = 2048 };
typedef float lanes_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef double lanes_f64 __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t lanes_i64 __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t mask_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t mask_f64 __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t mask_i64 __attribute__((vector_size(VECTOR_BYTES)));

/* a where it is larger, else b: one instruction, which the compiler does not see in a choice by a mask. */
#if defined __AVX512F__
#define MOST_f32(a, b) (lanes_f32)_mm512_max_ps((__m512)(a), (__m512)(b))
#define MOST_f64(a, b) (lanes_f64)_mm512_max_pd((__m512d)(a), (__m512d)(b))
#else
#define MOST_f32(a, b) lanes_pick_f32((a) > (b), a, b)
#define MOST_f64(a, b) lanes_pick_f64((a) > (b), a, b)
#endif
#define MOST_i64(a, b) lanes_pick_i64((a) > (b), a, b)

#define LANES_OF(type, real) \
    enum { lanes_width_##type = VECTOR_BYTES / sizeof(real), lanes_vecs_##type = LANES / lanes_width_##type }; \
    static ALWAYS_INLINE lanes_##type lanes_load_##type(const real *p) { lanes_##type v; memcpy(&v, p, sizeof v); return v; } \
    static ALWAYS_INLINE lanes_##type lanes_all_##type(real x) { return x - (lanes_##type){0}; } \
    static ALWAYS_INLINE lanes_##type lanes_pick_##type(mask_##type m, lanes_##type a, lanes_##type b) { \
        return (lanes_##type)((m & (mask_##type)a) | (~m & (mask_##type)b)); \
    } \
    static ALWAYS_INLINE void lanes_put_##type(real *p, lanes_##type v) { memcpy(p, &v, sizeof v); } \
    static ALWAYS_INLINE lanes_##type lanes_most_##type(lanes_##type a, lanes_##type b) { return MOST_##type(a, b); } \
    /* the lanes added up, by halves */ \
    static ALWAYS_INLINE real lanes_total_##type(const real *lane) { \
        typedef real all __attribute__((vector_size(16 * sizeof(real)))), half __attribute__((vector_size(8 * sizeof(real)))), \
            quarter __attribute__((vector_size(4 * sizeof(real)))); \
        all a, b; \
        half c, d; \
        quarter e, f; \
        memcpy(&a, lane, sizeof a); \
        memcpy(&b, lane + 16, sizeof b); \
        a += b; \
        memcpy(&c, &a, sizeof c); \
        memcpy(&d, (const char *)&a + sizeof c, sizeof d); \
        c += d; \
        memcpy(&e, &c, sizeof e); \
        memcpy(&f, (const char *)&c + sizeof e, sizeof f); \
        e += f; \
        return (e[0] + e[2]) + (e[1] + e[3]); \
    }
LANES_OF(f32, float)
LANES_OF(f64, double)
LANES_OF(i64, int64_t)
#undef LANES_OF
#undef MOST_f32
#undef MOST_f64
#undef MOST_i64

/* Within a file over real: the vector type and its functions. Whole steps of a run: for each vector k of a step from i,
 * with x + at its numbers. */
#define vec REAL(lanes)
#define vec_load REAL(lanes_load)
#define vec_all REAL(lanes_all)
#define vec_put REAL(lanes_put)
#define vec_pick REAL(lanes_pick)
#define vec_most REAL(lanes_most)
#define lanes_sum REAL(lanes_total)
#define VECS REAL(lanes_vecs)
#define WIDTH REAL(lanes_width)
#define STEPS(i, n) for (; i + LANES <= (n); i += LANES) _Pragma("GCC unroll 16") for (int k = 0; k < VECS; k++)
#define AT(i) ((i) + k * WIDTH)
#endif
