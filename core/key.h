/* key.h - keys: unsigned numbers in the order of the values that they stand for. NaN is the largest value, and -0 equals 0.
 * Plain C, for CUDA too.
 */
#ifndef AJ_KEY_H
#define AJ_KEY_H
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define AJ_KEY static __host__ __device__ inline
#else
#define AJ_KEY static inline __attribute__((always_inline))
#endif

AJ_KEY uint32_t key_of_f32(float v) {
    uint32_t u;
    if (v != v) return UINT32_MAX;
    v += 0.0f;                                           /* -0 + 0 is 0 */
    memcpy(&u, &v, sizeof u);
    return u >> 31 ? ~u : u | 0x80000000u;
}
AJ_KEY uint64_t key_of_f64(double v) {
    uint64_t u;
    if (v != v) return UINT64_MAX;
    v += 0.0;
    memcpy(&u, &v, sizeof u);
    return u >> 63 ? ~u : u | 0x8000000000000000u;
}
AJ_KEY uint32_t key_of_i32(int32_t v) { return (uint32_t)v ^ 0x80000000u; }
AJ_KEY uint64_t key_of_i64(int64_t v) { return (uint64_t)v ^ 0x8000000000000000u; }
#endif
