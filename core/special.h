/* special.h - functions that the expressions of ops.def call and that libm lacks, or has in a form that threads cannot
 * share: special functions of one number, and whole division and its like. Plain C, for CUDA too.
 *
 * The special ones are written for double; floats go through doubles but for erfinv, whose single-precision form is short.
 */
#ifndef AJ_SPECIAL_H
#define AJ_SPECIAL_H
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define AJ_FUNCTION static __host__ __device__ inline
#else
#define AJ_FUNCTION static inline
#endif

#include "ordinary.h"

/* log |gamma(x)|; libm's own writes the sign to a global. */
#ifdef __CUDA_ARCH__
AJ_FUNCTION double log_gamma_f64(double x) { return lgamma(x); }
AJ_FUNCTION float log_gamma_f32(float x) { return lgammaf(x); }
#else
AJ_FUNCTION double log_gamma_f64(double x) { int sign; return lgamma_r(x, &sign); }
AJ_FUNCTION float log_gamma_f32(float x) { int sign; return lgammaf_r(x, &sign); }
#endif

/* The start is of M. Giles, "Approximating the erfinv function" (GPU Computing Gems, 2010), single precision; Newton's
 * steps on erf, or on erfc in the tails, where 1 - |x| is exact, do the rest. */
AJ_FUNCTION float erfinv_start(float x, float w) {
    float p;
    if (w < 5) {
        w -= 2.5f;
        p = 2.81022636e-08f;
        p = 3.43273939e-07f + p * w;
        p = -3.5233877e-06f + p * w;
        p = -4.39150654e-06f + p * w;
        p = 0.00021858087f + p * w;
        p = -0.00125372503f + p * w;
        p = -0.00417768164f + p * w;
        p = 0.246640727f + p * w;
        p = 1.50140941f + p * w;
    } else {
        w = sqrtf(w) - 3;
        p = -0.000200214257f;
        p = 0.000100950558f + p * w;
        p = 0.00134934322f + p * w;
        p = -0.00367342844f + p * w;
        p = 0.00573950773f + p * w;
        p = -0.0076224613f + p * w;
        p = 0.00943887047f + p * w;
        p = 1.00167406f + p * w;
        p = 2.83297682f + p * w;
    }
    return p * x;
}
AJ_FUNCTION double erfinv_at_f64(double x) {
    double a = fabs(x);
    if (!(a < 1)) return a == 1 ? copysign((double)INFINITY, x) : (double)NAN;
    double w = -log((1 - a) * (1 + a)), y = (double)erfinv_start((float)a, (float)w);
    if (w > 16) {                                        /* past what floats reach: erfc(y) is about exp(-y^2) / (sqrt(pi) y) */
        double l = -log((1 - a) * 1.7724538509055160);
        y = sqrt(w);
        for (int i = 0; i < 3; i++) y = sqrt(l - log(y));
    }
    if (!(y > 1e-30)) y = a * 0.8862269254527580;        /* too small for a float: sqrt(pi) / 2 */
    for (int i = 0; i < 3; i++) {                        /* Halley: 2 / sqrt(pi) exp(-y^2) is the slope, -2 y its relative change */
        double off = a > 0.5 ? (1 - a) - erfc(y) : erf(y) - a, u = off / (1.1283791670955126 * exp(-y * y));
        y -= u / (1 + y * u);
    }
    return copysign(y, x);
}
AJ_FUNCTION float erfinv_at_f32(float x) {             /* one step from the start is exact to the last bits of a float */
    double a = fabs((double)x);
    if (!(a < 1)) return (float)erfinv_at_f64((double)x);
    double y = (double)erfinv_start((float)a, -logf((1 - (float)a) * (1 + (float)a)));
    double off = a > 0.5 ? (1 - a) - erfc(y) : erf(y) - a, u = off / (1.1283791670955126 * exp(-y * y));
    return (float)copysign(y - u / (1 + y * u), (double)x);
}

/* Recurrence up to 10, then the asymptotic series; reflection below 0 (Abramowitz and Stegun 6.3.5, 6.3.18, 6.3.7). */
AJ_FUNCTION double digamma_at_f64(double x) {
    if (x == 0) return copysign(INFINITY, -x);
    double y = 0;
    if (x < 0) {
        if (x == trunc(x)) return (double)NAN;
        double r = x - rint(x);                          /* tan has period pi; its argument stays small */
        y = -M_PI / tan(M_PI * r);
        x = 1 - x;
    }
    while (x < 10) { y -= 1 / x; x += 1; }
    double z = 1 / (x * x);
    double s = z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * (1.0 / 240 - z * (1.0 / 132 - z * (691.0 / 32760 - z / 12))))));
    return y + log(x) - 0.5 / x - s;
}
AJ_FUNCTION float digamma_at_f32(float x) { return (float)digamma_at_f64((double)x); }

/* q^-s: of small whole s by products, in a fifth of pow's time, within s / 2 units in the last place. */
AJ_FUNCTION double inverse_power(double q, double s) {
    if (!(s >= 1 && s <= 8) || s != trunc(s)) return pow(q, -s);
    double y = q;
    for (int i = 1; i < (int)s; i++) y *= q;
    return 1 / y;
}
/* sum over k >= 0 of (q + k)^-s, whole s > 1, by Euler and Maclaurin (Abramowitz and Stegun 23.1.30): terms up to q > 10 + s one by one,
 * the rest as an integral with corrections 1/12, -1/720, 1/30240, ... of higher derivatives. */
AJ_FUNCTION double zeta_from(double s, double q) {
    const double correction[] = {12.0, -720.0, 30240.0, -1209600.0, 47900160.0, -1307674368000.0 / 691, 74724249600.0,
                                        -10670622842880000.0 / 3617, 5109094217170944000.0 / 43867};
    double sum = 0;
    if (q <= 0 && q == trunc(q)) return (double)INFINITY;
    if (q < -1e5) return (double)NAN;                            /* the terms below 0 would take too long */
    double t = inverse_power(q, s), a = s;
    for (; q < 10 + s; t = inverse_power(q, s)) {
        sum += t;
        if (q > 1 && t <= 1e-17 * sum) return sum;       /* so are all that follow, together: s is large then */
        q += 1;
    }
    double power = t / q;
    sum += t * q / (s - 1) + 0.5 * t;
    for (int i = 0; i < 9; i++) {
        sum += a * power / correction[i];
        a *= (s + 2 * i + 1) * (s + 2 * i + 2);
        power /= q * q;
    }
    return sum;
}
/* The n-th derivative of digamma: (-1)^(n+1) n! zeta(n + 1, x). */
AJ_FUNCTION double polygamma_at_f64(double x, double n) {
    if (!(n >= 0) || n != trunc(n)) return (double)NAN;
    if (n == 0) return digamma_at_f64(x);
    if (n == 1 && x < 0) {                               /* reflection: Abramowitz and Stegun 6.4.7 */
        double v = sin(M_PI * (x - rint(x)));
        return v == 0 ? (double)INFINITY : M_PI * M_PI / (v * v) - zeta_from(2, 1 - x);
    }
    double z = tgamma(n + 1) * zeta_from(n + 1, x);
    return fmod(n, 2.0) == 0 ? -z : z;
}
AJ_FUNCTION float polygamma_at_f32(float x, float n) { return (float)polygamma_at_f64((double)x, (double)n); }

AJ_FUNCTION int64_t common_divisor_i64(int64_t a, int64_t b) {
    uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    while (y) { uint64_t r = x % y; x = y; y = r; }
    return (int64_t)x;
}
AJ_FUNCTION int64_t common_multiple_i64(int64_t a, int64_t b) {
    int64_t g = common_divisor_i64(a, b);
    if (!g) return 0;
    uint64_t x = (uint64_t)(a / g) * (uint64_t)b;
    return (int64_t)((int64_t)x < 0 ? 0 - x : x);
}
/* A shift by less than 0, or by more than there are bits, leaves what very many shifts by 1 would. */
AJ_FUNCTION int64_t shift_left_i64(int64_t a, int64_t b) { return b < 0 || b > 63 ? 0 : (int64_t)((uint64_t)a << b); }
AJ_FUNCTION int64_t shift_right_i64(int64_t a, int64_t b) { return a >> (b < 0 || b > 63 ? 63 : b); }

/* x = mantissa 2^exponent, 1/2 <= |mantissa| < 1; of 0, an infinity and NaN the number itself and 0. */
AJ_FUNCTION double mantissa_at_f64(double x) { int e; return frexp(x, &e); }
AJ_FUNCTION double exponent_at_f64(double x) { int e = 0; if (x - x != 0) return 0; frexp(x, &e); return e; }
AJ_FUNCTION float mantissa_at_f32(float x) { int e; return (float)frexp((double)x, &e); }
AJ_FUNCTION float exponent_at_f32(float x) { return (float)exponent_at_f64((double)x); }

AJ_FUNCTION float truncdiv_f32(float a, float b) { return truncf(a / b); }
AJ_FUNCTION double truncdiv_f64(double a, double b) { return trunc(a / b); }
AJ_FUNCTION int64_t truncdiv_i64(int64_t a, int64_t b) { return b == 0 ? 0 : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b; }
AJ_FUNCTION int64_t floordiv_i64(int64_t a, int64_t b) {
    if (b == 0) return 0;
    if (b == -1) return (int64_t)(0 - (uint64_t)a);
    return a / b - (a % b && (a < 0) != (b < 0));
}
AJ_FUNCTION int64_t modulo_i64(int64_t a, int64_t b) {
    if (b == 0 || b == -1) return 0;
    int64_t r = a % b;
    return r && (r < 0) != (b < 0) ? r + b : r;
}
AJ_FUNCTION int64_t truncmod_i64(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }
/* From the exact remainder, as a / b may round up to a whole number that it is below. */
AJ_FUNCTION float floordiv_f32(float a, float b) {
    if (b == 0) return a / b;
    float r = fmodf(a, b), q = (a - r) / b;
    if (r != 0 && (b < 0) != (r < 0)) q -= 1;
    return q == 0 ? copysignf(0, a / b) : floorf(q + 0.5f);
}
AJ_FUNCTION double floordiv_f64(double a, double b) {
    if (b == 0) return a / b;
    double r = fmod(a, b), q = (a - r) / b;
    if (r != 0 && (b < 0) != (r < 0)) q -= 1;
    return q == 0 ? copysign(0.0, a / b) : floor(q + 0.5);
}
AJ_FUNCTION float modulo_f32(float a, float b) { float r = fmodf(a, b); return r != 0 && (r < 0) != (b < 0) ? r + b : r; }
AJ_FUNCTION double modulo_f64(double a, double b) { double r = fmod(a, b); return r != 0 && (r < 0) != (b < 0) ? r + b : r; }
AJ_FUNCTION float truncmod_f32(float a, float b) { return fmodf(a, b); }
AJ_FUNCTION double truncmod_f64(double a, double b) { return fmod(a, b); }
#endif
