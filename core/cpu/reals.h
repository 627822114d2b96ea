/* reals.h - includes KERNELS, a file written over `real`, for float, for double and, where INTEGERS is defined, for int64.
 *
 *   #define KERNELS "norm.inc"
 *   #include "reals.h"
 * In it: real; wide, what sums are kept in; REAL(name), the name for this type; RUN(name), the same with the instruction
 * level, for what other files call; FLOATS, whether real is one. No guard: a file may come here several times.
 */
#define REALS_JOIN__(name, type) name##_##type
#define REALS_JOIN_(name, type) REALS_JOIN__(name, type)
#define REAL(name) REALS_JOIN_(name, SUFFIX)
#define RUN(name) REALS_JOIN_(KERNEL(name), SUFFIX)

#define FLOATS 1
#define wide double
#define real float
#define SUFFIX f32
#include KERNELS
#undef real
#undef SUFFIX
#define real double
#define SUFFIX f64
#include KERNELS
#undef real
#undef SUFFIX
#undef wide
#undef FLOATS
#ifdef INTEGERS
#define FLOATS 0
#define wide int64_t
#define real int64_t
#define SUFFIX i64
#include KERNELS
#undef real
#undef SUFFIX
#undef wide
#undef FLOATS
#endif

#undef REALS_JOIN__
#undef REALS_JOIN_
#undef REAL
#undef RUN
#undef KERNELS
#undef INTEGERS
