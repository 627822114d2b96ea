/* normal.h - the normal distribution's functions in forms that stay exact in the tails, in double; floats go through doubles. */
#ifndef AJ_NORMAL_H
#define AJ_NORMAL_H
#include "special.h"

/* exp(x^2) erfc(x). The square is taken in two parts, as its rounding would count x^2 times; from 10 on the asymptotic series
 * (DLMF 7.12.1), of which 12 terms suffice. */
AJ_FUNCTION double erfcx_at_f64(double x) {
    if (x < 10) {
        double high = x * x, low = fma(x, x, -high);
        return high > 709 ? (double)INFINITY : (exp(high) + exp(high) * low) * erfc(x);
    }
    if (isinf(x)) return 0;
    double z = 0.5 / x / x, sum = 1, term = 1;
    for (int k = 0; k < 12; k++) { term *= -(2 * k + 1) * z; sum += term; }
    return sum * 0.5641895835477563 / x;
}
/* log of the distribution function: below -1 by way of erfcx, which does not vanish there. */
AJ_FUNCTION double log_ndtr_at_f64(double x) {
    double t = x * 0.7071067811865476;
    return x < -1 ? log(erfcx_at_f64(-t) / 2) - t * t : log1p(-erfc(t) / 2);
}
/* Where the distribution function is p: Halley's steps on erfc(z) = 2 q, of the lower half, from erfinv's start. */
AJ_FUNCTION double ndtri_at_f64(double p) {
    if (!(p > 0 && p < 1)) return p == 0 ? -(double)INFINITY : p == 1 ? (double)INFINITY : (double)NAN;
    double q = p < 0.5 ? p : 1 - p, w = -log(4 * q * (1 - q)), z;
    if (w > 16) {                                        /* erfc(z) is about exp(-z^2) / (sqrt(pi) z) */
        double l = -log(2 * q * 1.7724538509055160);
        z = sqrt(w);
        for (int i = 0; i < 3; i++) z = sqrt(l - log(z));
    } else z = (double)erfinv_start((float)(1 - 2 * q), (float)w);
    for (int i = 0; i < 4; i++) {
        double u = (2 * q - erfc(z)) / (1.1283791670955126 * exp(-z * z));
        z -= u / (1 + z * u);
    }
    return p < 0.5 ? -1.4142135623730951 * z : 1.4142135623730951 * z;
}

AJ_FUNCTION float erfcx_at_f32(float x) { return (float)erfcx_at_f64((double)x); }
AJ_FUNCTION float log_ndtr_at_f32(float x) { return (float)log_ndtr_at_f64((double)x); }
AJ_FUNCTION float ndtri_at_f32(float x) { return (float)ndtri_at_f64((double)x); }
#endif
