/* bessel.h - modified Bessel functions of orders 0 and 1, in double; floats go through doubles. */
#ifndef AJ_BESSEL_H
#define AJ_BESSEL_H
#include "special.h"

/* exp(-|x|) I_n(x), n 0 or 1. Up to 30 the power series (DLMF 10.25.2), whose terms have one sign; beyond it the asymptotic
 * one (DLMF 10.40.1), whose terms shrink below 1e-17 before they grow again. */
AJ_FUNCTION double scaled_i(int n, double x) {
    double a = fabs(x), sum = 1, term = 1, y;
    if (a < 30) {
        double q = a * a / 4;
        for (int k = 1; term > 1e-17 * sum; k++) { term *= q / ((double)k * (k + n)); sum += term; }
        y = exp(-a) * sum * (n ? a / 2 : 1);
    } else if (a <= 1.7976931348623157e308) {
        for (int k = 1; k < 30; k++) {
            double odd = 2 * k - 1, next = term * (odd * odd - 4 * n) / (8 * k * a);
            if (fabs(next) < 1e-17) break;
            term = next;
            sum += term;
        }
        y = sum / sqrt(6.283185307179586 * a);
    } else y = x != x ? x : 0;
    return n && x < 0 ? -y : y;
}
AJ_FUNCTION double i0e_at_f64(double x) { return scaled_i(0, x); }
AJ_FUNCTION double i1e_at_f64(double x) { return scaled_i(1, x); }
/* The two halves of exp(|x|) keep the product from overflowing before it must. */
AJ_FUNCTION double i0_at_f64(double x) { double h = exp(fabs(x) / 2); return isinf(x) ? fabs(x) : scaled_i(0, x) * h * h; }
AJ_FUNCTION double i1_at_f64(double x) { double h = exp(fabs(x) / 2); return isinf(x) ? x : scaled_i(1, x) * h * h; }

/* exp(x) K_n(x) = integral over t from 0 of exp(-x (cosh t - 1)) cosh(n t) (DLMF 10.32.9), by the trapezoidal rule, whose error is
 * below exp(-2 pi^2 / (x h^2)) for large x, and exp(-pi^2 / h) else. */
AJ_FUNCTION double scaled_k(int n, double x) {
    if (!(x > 0)) return x == 0 ? (double)INFINITY : (double)NAN;
    if (isinf(x)) return 0;
    if (x < 1e-8) return (n ? 1 / x : -log(x / 2) - 0.5772156649015329) * (1 + x);
    double h = fmin(0.125, 0.7 / sqrt(x)), sum = 0.5;
    for (int k = 1; k < 4000; k++) {
        double t = k * h, s = sinh(t / 2), fall = 2 * x * s * s;      /* x (cosh t - 1) */
        if (fall > 45) break;
        sum += exp(-fall) * (n ? cosh(t) : 1);
    }
    return h * sum;
}
AJ_FUNCTION double k0e_at_f64(double x) { return scaled_k(0, x); }
AJ_FUNCTION double k1e_at_f64(double x) { return scaled_k(1, x); }
AJ_FUNCTION double k0_at_f64(double x) { return scaled_k(0, x) * exp(-x); }
AJ_FUNCTION double k1_at_f64(double x) { return scaled_k(1, x) * exp(-x); }

AJ_FUNCTION double j0_at_f64(double x) { return j0(x); }
AJ_FUNCTION double j1_at_f64(double x) { return j1(x); }
AJ_FUNCTION double y0_at_f64(double x) { return x < 0 ? (double)NAN : y0(x); }
AJ_FUNCTION double y1_at_f64(double x) { return x < 0 ? (double)NAN : y1(x); }

#define OF_FLOAT(name) AJ_FUNCTION float name##_at_f32(float x) { return (float)name##_at_f64((double)x); }
OF_FLOAT(i0) OF_FLOAT(i0e) OF_FLOAT(i1) OF_FLOAT(i1e) OF_FLOAT(k0) OF_FLOAT(k0e) OF_FLOAT(k1) OF_FLOAT(k1e) OF_FLOAT(j0) OF_FLOAT(j1) OF_FLOAT(y0) OF_FLOAT(y1)
#undef OF_FLOAT
#endif
