/* vmath.h - the functions that expressions in ops.def call, for the types that kernels compute in.
 *
 * A row's text is written for float, double and int64 alike, so a name here picks by the type of its argument. The
 * compiler takes several numbers at a time where libmvec has a function for it.
 */
#ifndef AJ_VMATH_H
#define AJ_VMATH_H
#include <math.h>

#if defined __x86_64__ && defined __GLIBC__ && defined AJ_LIBMVEC
#define SIMD __attribute__((simd("notinbranch")))
SIMD float expf(float); SIMD double exp(double);
SIMD float logf(float); SIMD double log(double);
SIMD float sinf(float); SIMD double sin(double);
SIMD float cosf(float); SIMD double cos(double);
SIMD float powf(float, float); SIMD double pow(double, double);
#if __GLIBC__ > 2 || __GLIBC_MINOR__ >= 35
SIMD float tanhf(float); SIMD double tanh(double);
SIMD float erff(float); SIMD double erf(double);
SIMD float erfcf(float); SIMD double erfc(double);
SIMD float expm1f(float); SIMD double expm1(double);
SIMD float log1pf(float); SIMD double log1p(double);
SIMD float log2f(float); SIMD double log2(double);
SIMD float log10f(float); SIMD double log10(double);
SIMD float exp2f(float); SIMD double exp2(double);
SIMD float atanf(float); SIMD double atan(double);
SIMD float asinf(float); SIMD double asin(double);
SIMD float acosf(float); SIMD double acos(double);
SIMD float sinhf(float); SIMD double sinh(double);
SIMD float coshf(float); SIMD double cosh(double);
SIMD float tanf(float); SIMD double tan(double);
SIMD float asinhf(float); SIMD double asinh(double);
SIMD float acoshf(float); SIMD double acosh(double);
SIMD float atanhf(float); SIMD double atanh(double);
SIMD float atan2f(float, float); SIMD double atan2(double, double);
#endif
#endif
#include <tgmath.h>
#undef I                                                 /* complex.h's, which tgmath.h brings */

/* e to the power x in single precision, within 1 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, Taylor's series of r to the 7th
 * power (its error is below 6e-9), and 2^n in two factors so that results may overflow or be subnormal. A NaN stays one.
 *
 * The bounds are kept among the bits as whole numbers: in them floats from 0 on are in order, and so, without a sign, are
 * those below 0, which then lie above. This takes 17 cycles for 16 numbers where choices between floats take 21. */
static inline float fast_exp_f32(float number) {
    union { float f; int32_t i; uint32_t u; } v = {number}, high = {89.0f}, low = {-104.0f};
    v.i = v.i > high.i ? high.i : v.i;
    v.u = v.u > low.u ? low.u : v.u;
    float x = v.f;
    /* ln 2 in two parts, of which the first has so few bits that its product with n is exact. */
    float n = rintf(x * 1.44269504f), r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = r * 1.98412698e-4f + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t i = (int32_t)n, half = i >> 1;
    union { int32_t i; float f; } a = {(half + 127) << 23}, b = {(i - half + 127) << 23};
    float y = p * a.f * b.f;
    return number != number ? number : y;
}
static inline double fast_exp_f64(double x) { return exp(x); }
#endif
