/* cpu.h - what the kernels of the CPU share.
 *
 * Every file of this folder is compiled once for each instruction level (AJ_LEVEL: v2, v3, v4 on x86-64), and
 * what it exports carries the level in its name. cpu.c makes the table of a level, pick.c chooses one.
 */
#ifndef AJ_CPU_H
#define AJ_CPU_H
#include "../core.h"

#ifndef AJ_LEVEL
#define AJ_LEVEL base
#endif
#define KERNEL__(name, level) name##_cpu_##level
#define KERNEL_(name, level) KERNEL__(name, level)
#define KERNEL(name) KERNEL_(name, AJ_LEVEL)
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* Elements that a chunk holds: three operands of doubles fit the first cache. */
enum { CHUNK = 512 };

/* -- The types that kernels compute in: float, double, int64 ----------------------------------------------- */

enum { CLASS_F32, CLASS_F64, CLASS_I64 };
static inline int class_of_dtype(int dtype) { return dtype == AJ_F64 ? CLASS_F64 : aj_is_float(dtype) ? CLASS_F32 : CLASS_I64; }

/* n elements of any dtype, stride apart (in elements), to and from dense numbers of a class. */
typedef void load_fn(void *to, const void *from, int64_t stride, int64_t n);
typedef void store_fn(void *to, int64_t stride, const void *from, int64_t n);
extern load_fn *const KERNEL(load)[3][AJ_DTYPES];
extern store_fn *const KERNEL(store)[3][AJ_DTYPES];
#define aj_load(class, dtype) (KERNEL(load)[class][dtype])
#define aj_store(class, dtype) (KERNEL(store)[class][dtype])
static const int8_t dtype_of_class[3] = {AJ_F32, AJ_F64, AJ_I64};
static const int8_t dtype_bytes[AJ_DTYPES] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};

/* Every value of an index names one of size places, counted from the call's base; with wrap, also backwards from the end. */
bool KERNEL(check_index)(const aj_call *c, const aj_tensor *index, int64_t size, int dim, bool wrap);

/* The elements of y become those of x, converted and broadcast. */
bool KERNEL(copy_into)(aj_tensor *y, const aj_tensor *x);

static inline float f32_of_bf16(uint16_t v) { union { uint32_t u; float f; } b = {(uint32_t)v << 16}; return b.f; }
static inline uint16_t bf16_of_f32(float v) {
    union { float f; uint32_t u; } b = {v};
    if (v != v) return 0x7fc0;
    return (uint16_t)((b.u + 0x7fff + (b.u >> 16 & 1)) >> 16);
}
static inline float f32_of_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff;
    union { uint32_t u; float f; } b;
    if (e == 0) {                                        /* zero or subnormal: m * 2^-24 exactly */
        b.f = (float)m * 5.9604644775390625e-8f;
        b.u |= sign;
        return b.f;
    }
    b.u = sign | (e == 31 ? 0x7f800000u : (e + 112) << 23) | m << 13;
    return b.f;
}
static inline uint16_t f16_of_f32(float v) {
    union { float f; uint32_t u; } b = {v};
    uint16_t sign = (uint16_t)(b.u >> 16 & 0x8000);
    b.u &= 0x7fffffff;
    if (b.u > 0x7f800000) return sign | 0x7e00;
    if (b.u >= 0x477ff000) return sign | 0x7c00;         /* rounds to 65536 or more: infinity */
    if (b.u < 0x38800000) {                              /* subnormal: adding 0.5 aligns the bits and rounds them */
        b.f += 0.5f;
        return sign | (uint16_t)(b.u - 0x3f000000);
    }
    return sign | (uint16_t)((b.u - 0x38000000 + 0xfff + (b.u >> 13 & 1)) >> 13);
}

/* -- The kernels of structured rows ---------------------------------------------------------------------------- */

#define UNARY(name, ...) aj_kernel KERNEL(name); aj_grad_kernel KERNEL(name##_grad0);
#define UNARY_S UNARY
#define BINARY(name, ...) aj_kernel KERNEL(name); aj_grad_kernel KERNEL(name##_grad0), KERNEL(name##_grad1);
#define BINARY_S BINARY
#define COMPARE(name, ...) aj_kernel KERNEL(name);
#define TEST(name, ...) aj_kernel KERNEL(name);
#define REDUCE(name, ...) aj_kernel KERNEL(name);
#define OP(name, ...) aj_kernel KERNEL(name);
#define OP_N(name, ...) aj_kernel KERNEL(name);
#define UPDATE(name, ...) aj_kernel KERNEL(name);
#define UPDATE_GRAD(name, ...) aj_kernel KERNEL(name);
#include "../ops.def"
#endif
