/* philox.h - Philox4x32-10, a counter-based generator (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011). Number i of a stream is a function of the seed and i alone, so that it is the same on
 * every device, at every thread count and for any split of the work. Positions come from aj_random_take().
 *
 * A 32-bit number at position p is word p % 4 of block p / 4; a 64-bit one is half p % 2 of block p / 2 of a second
 * sequence, so that the two never share bits. Plain C, for CUDA too.
 */
#ifndef AJ_PHILOX_H
#define AJ_PHILOX_H
#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define PHILOX static __host__ __device__ __forceinline__
#else
#define PHILOX static inline __attribute__((always_inline))
#endif

/* The two sequences of a seed. */
enum { PHILOX_32, PHILOX_64 };

typedef struct { uint32_t v[4]; } philox_block;

/* Block number `block`: the counter is (block, sequence, 0), the key is the seed. */
PHILOX philox_block philox(uint64_t seed, uint64_t block, uint32_t sequence) {
    uint32_t a = (uint32_t)block, b = (uint32_t)(block >> 32), c = sequence, d = 0;
    uint32_t k = (uint32_t)seed, l = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)0xD2511F53u * a, q = (uint64_t)0xCD9E8D57u * c;
        uint32_t next_a = (uint32_t)(q >> 32) ^ b ^ k, next_c = (uint32_t)(p >> 32) ^ d ^ l;
        b = (uint32_t)q;
        d = (uint32_t)p;
        a = next_a;
        c = next_c;
        k += 0x9E3779B9u;
        l += 0xBB67AE85u;
    }
    philox_block y = {{a, b, c, d}};
    return y;
}

PHILOX uint32_t philox_word(uint64_t seed, uint64_t position) {
    return philox(seed, position / 4, PHILOX_32).v[position % 4];
}
PHILOX uint64_t philox_long(uint64_t seed, uint64_t position) {
    philox_block b = philox(seed, position / 2, PHILOX_64);
    int i = (int)(position % 2) * 2;
    return (uint64_t)b.v[i + 1] << 32 | b.v[i];
}

/* -- Bits to numbers: [0, 1) from the upper 24 or 53 bits ------------------------------------------------------ */

PHILOX float philox_unit_f32(uint32_t word) { return (float)(int32_t)(word >> 8) * 0x1p-24f; }
PHILOX double philox_unit_f64(uint64_t bits) { return (double)(int64_t)(bits >> 11) * 0x1p-53; }

PHILOX float philox_uniform_f32(uint64_t seed, uint64_t position) { return philox_unit_f32(philox_word(seed, position)); }
PHILOX double philox_uniform_f64(uint64_t seed, uint64_t position) { return philox_unit_f64(philox_long(seed, position)); }

/* Box and Muller, 1958: two uniform numbers make two normal ones. The first, u, is taken as 1 - u, so that its logarithm is finite. */
PHILOX void philox_pair_f32(float u, float v, float *a, float *b) {
    float r = sqrtf(-2 * logf(1 - u)), t = 6.28318530717958648f * v;
    *a = r * cosf(t);
    *b = r * sinf(t);
}
PHILOX void philox_pair_f64(double u, double v, double *a, double *b) {
    double r = sqrt(-2 * log(1 - u)), t = 6.28318530717958648 * v;
    *a = r * cos(t);
    *b = r * sin(t);
}

/* Normal number `position`: positions 2i and 2i + 1 are made of the uniform numbers at 2i and 2i + 1. */
PHILOX float philox_normal_f32(uint64_t seed, uint64_t position) {
    philox_block b = philox(seed, position / 4, PHILOX_32);
    int i = (int)(position % 4) & 2;
    float y[2];
    philox_pair_f32(philox_unit_f32(b.v[i]), philox_unit_f32(b.v[i + 1]), &y[0], &y[1]);
    return y[position % 2];
}
PHILOX double philox_normal_f64(uint64_t seed, uint64_t position) {
    uint64_t even = position & ~(uint64_t)1;
    double y[2];
    philox_pair_f64(philox_uniform_f64(seed, even), philox_uniform_f64(seed, even + 1), &y[0], &y[1]);
    return y[position % 2];
}

/* -- Runs of numbers, for the CPU: PHILOX_WIDE blocks side by side, which the compiler makes vectors of ------------------ */

#ifndef __cplusplus
enum { PHILOX_WIDE = 16, PHILOX_RUN = 4 * PHILOX_WIDE };

/* The 4 * PHILOX_WIDE words of blocks block to block + PHILOX_WIDE - 1, in order. */
static inline void philox_run(uint64_t seed, uint64_t block, uint32_t sequence, uint32_t *restrict words) {
    uint32_t k[10], l[10];
    for (uint32_t r = 0; r < 10; r++) {
        k[r] = (uint32_t)seed + r * 0x9E3779B9u;
        l[r] = (uint32_t)(seed >> 32) + r * 0xBB67AE85u;
    }
    for (int i = 0; i < PHILOX_WIDE; i++) {
        uint64_t at = block + (uint64_t)i;
        uint32_t a = (uint32_t)at, b = (uint32_t)(at >> 32), c = sequence, d = 0;
#pragma GCC unroll 10
        for (int r = 0; r < 10; r++) {
            uint64_t p = (uint64_t)0xD2511F53u * a, q = (uint64_t)0xCD9E8D57u * c;
            uint32_t next_a = (uint32_t)(q >> 32) ^ b ^ k[r], next_c = (uint32_t)(p >> 32) ^ d ^ l[r];
            b = (uint32_t)q;
            d = (uint32_t)p;
            a = next_a;
            c = next_c;
        }
        words[4 * i] = a;
        words[4 * i + 1] = b;
        words[4 * i + 2] = c;
        words[4 * i + 3] = d;
    }
}

/* y[0..n) = what philox_word, _uniform_ or _normal_ give at position, position + 1, ... */
#define PHILOX_FILL(name, real, per_block, sequence, CONVERT) \
    static inline void name(real *y, int64_t n, uint64_t seed, uint64_t position) { \
        enum { MANY = per_block * PHILOX_WIDE }; \
        while (n > 0) { \
            uint32_t w[PHILOX_RUN]; \
            real v[MANY]; \
            int64_t skip = (int64_t)(position % per_block), take = MANY - skip < n ? MANY - skip : n; \
            philox_run(seed, position / per_block, sequence, w); \
            real *to = skip == 0 && take == MANY ? y : v; \
            CONVERT \
            if (to == v) for (int64_t i = 0; i < take; i++) y[i] = v[skip + i]; \
            y += take; \
            n -= take; \
            position += (uint64_t)take; \
        } \
    }
PHILOX_FILL(philox_fill_words, uint32_t, 4, PHILOX_32, for (int i = 0; i < MANY; i++) to[i] = w[i];)
PHILOX_FILL(philox_fill_longs, uint64_t, 2, PHILOX_64, for (int i = 0; i < MANY; i++) to[i] = (uint64_t)w[2 * i + 1] << 32 | w[2 * i];)
PHILOX_FILL(philox_fill_uniform_f32, float, 4, PHILOX_32, for (int i = 0; i < MANY; i++) to[i] = philox_unit_f32(w[i]);)
PHILOX_FILL(philox_fill_uniform_f64, double, 2, PHILOX_64,
    for (int i = 0; i < MANY; i++) to[i] = philox_unit_f64((uint64_t)w[2 * i + 1] << 32 | w[2 * i]);)
PHILOX_FILL(philox_fill_normal_f32, float, 4, PHILOX_32,
    float r[MANY / 2]; float t[MANY / 2];
    for (int i = 0; i < MANY / 2; i++) r[i] = sqrtf(-2 * logf(1 - philox_unit_f32(w[2 * i])));
    for (int i = 0; i < MANY / 2; i++) t[i] = 6.28318530717958648f * philox_unit_f32(w[2 * i + 1]);
    for (int i = 0; i < MANY / 2; i++) { to[2 * i] = r[i] * cosf(t[i]); to[2 * i + 1] = r[i] * sinf(t[i]); })
PHILOX_FILL(philox_fill_normal_f64, double, 2, PHILOX_64,
    double r[MANY / 2]; double t[MANY / 2];
    for (int i = 0; i < MANY / 2; i++) r[i] = sqrt(-2 * log(1 - philox_unit_f64((uint64_t)w[4 * i + 1] << 32 | w[4 * i])));
    for (int i = 0; i < MANY / 2; i++) t[i] = 6.28318530717958648 * philox_unit_f64((uint64_t)w[4 * i + 3] << 32 | w[4 * i + 2]);
    for (int i = 0; i < MANY / 2; i++) { to[2 * i] = r[i] * cos(t[i]); to[2 * i + 1] = r[i] * sin(t[i]); })
#undef PHILOX_FILL
#endif
#endif
