// names.cuh - functions that the expressions of ops.def call and that need no header: for kernels that are built (math.cuh),
// and as the text that kernels made at run time begin with (fuse.cpp, which has AJ_CODE make strings of it).
#ifndef AJ_CODE
#define AJ_CODE(...) __VA_ARGS__
#endif

#define OF_LIBRARY(name) AT float name(float v) { return ::name##f(v); } AT double name(double v) { return ::name(v); }
AJ_CODE(OF_LIBRARY(exp) OF_LIBRARY(exp2) OF_LIBRARY(expm1) OF_LIBRARY(log) OF_LIBRARY(log2) OF_LIBRARY(log10) OF_LIBRARY(log1p) OF_LIBRARY(sqrt))
AJ_CODE(OF_LIBRARY(sin) OF_LIBRARY(cos) OF_LIBRARY(tan) OF_LIBRARY(asin) OF_LIBRARY(acos) OF_LIBRARY(atan) OF_LIBRARY(sinh) OF_LIBRARY(cosh) OF_LIBRARY(tanh))
AJ_CODE(OF_LIBRARY(asinh) OF_LIBRARY(acosh) OF_LIBRARY(atanh) OF_LIBRARY(erf) OF_LIBRARY(erfc) OF_LIBRARY(floor) OF_LIBRARY(ceil) OF_LIBRARY(trunc) OF_LIBRARY(rint))
AJ_CODE(OF_LIBRARY(fabs))
#undef OF_LIBRARY
#define OF_LIBRARY(name) AT float name(float a, float b) { return ::name##f(a, b); } AT double name(double a, double b) { return ::name(a, b); }
AJ_CODE(OF_LIBRARY(pow) OF_LIBRARY(atan2) OF_LIBRARY(hypot) OF_LIBRARY(copysign))
#undef OF_LIBRARY
AJ_CODE(
AT int64_t floor(int64_t v) { return v; }
AT int64_t ceil(int64_t v) { return v; }
AT int64_t trunc(int64_t v) { return v; }
AT int64_t rint(int64_t v) { return v; }
)

// Names of ops that stand in derivatives.
AJ_CODE(
template <typename real> AT real sigmoid(real v) { return 1 / (1 + exp(-v)); }
template <typename real> AT real softplus(real v) { return v > 20 ? v : log1p(exp(v)); }
template <typename real> AT real softplus1(real v) { return softplus(v); }
template <typename real> AT real square(real v) { return v * v; }
template <typename real> AT real sign(real v) { return (real)((v > 0) - (v < 0)); }
template <typename real> AT real abs(real v) { return v < 0 ? -v : v; }
)

// Those of core/ordinary.h, which carry the type in their name.
AJ_CODE(
AT float ndtr(float v) { return ndtr_at_f32(v); }
AT double ndtr(double v) { return ndtr_at_f64(v); }
AT float power(float a, float b) { return power_f32(a, b); }
AT double power(double a, double b) { return power_f64(a, b); }
AT int64_t power(int64_t a, int64_t b) { return power_i64(a, b); }
AT bool negative(float v) { return negative_f32(v); }
AT bool negative(double v) { return negative_f64(v); }
AT bool negative(int64_t v) { return negative_i64(v); }
)
