/* incomplete.h - the regularised incomplete gamma functions and the Hurwitz zeta function, in double; floats go through doubles. */
#ifndef AJ_INCOMPLETE_H
#define AJ_INCOMPLETE_H
#include "special.h"

/* log(1 + m) - m without cancellation: with r = m / (2 + m), log(1 + m) = 2 (r + r^3 / 3 + r^5 / 5 + ...) and m r = 2 r^2 / (1 - r). */
AJ_FUNCTION double log1p_less(double m) {
    if (fabs(m) > 0.5) return log1p(m) - m;
    double r = m / (2 + m), z = r * r, power = r * z, sum = 0;
    for (int k = 3; fabs(power) > 1e-19 * z && k < 60; k += 2) { sum += 2 * power / k; power *= z; }
    return sum - r * m;
}
/* x^a exp(-x) / gamma(a + 1); for large a by Stirling's series about x = a (DLMF 5.11.1), as the powers would lose digits. */
AJ_FUNCTION double gamma_term(double a, double x) {
    if (a < 20) return exp(a * log(x) - x - log_gamma_f64(a + 1));
    double z = 1 / (a * a), stirling = (1.0 / 12 - z * (1.0 / 360 - z * (1.0 / 1260 - z / 1680))) / a;
    return exp(a * log1p_less((x - a) / a) - stirling) / sqrt(6.283185307179586 * a);
}
/* P(a, x) below a + 1 by its series, Q(a, x) above by Legendre's continued fraction (DLMF 8.11.4, 8.9.2); both take some
 * sqrt(a) steps near x = a, so that from 1e8 on the uniform expansion's first terms stand for them (DLMF 8.12.3). */
AJ_FUNCTION double incomplete_gamma(double a, double x, int upper) {
    if (!(a >= 0) || !(x >= 0)) return (double)NAN;
    if (a == 0) return x > 0 ? (upper ? 0 : 1) : (double)NAN;
    if (x == 0) return upper ? 1 : 0;
    if (isinf(a)) return isinf(x) ? (double)NAN : upper ? 1 : 0;
    if (isinf(x)) return upper ? 0 : 1;
    if (a > 1e8) {
        double m = (x - a) / a, half = -log1p_less(m), eta = copysign(sqrt(2 * half), m);
        double rest = fabs(eta) < 1e-4 ? -1.0 / 3 + eta / 12 : 1 / m - 1 / eta;
        double q = 0.5 * erfc(eta * sqrt(a / 2)) + exp(-a * half) / sqrt(6.283185307179586 * a) * rest;
        return upper ? q : 1 - q;
    }
    double front = gamma_term(a, x);
    if (x < a + 1) {
        double sum = 1, term = 1;
        for (int k = 1; k < 200000; k++) { term *= x / (a + k); sum += term; if (term < 1e-17 * sum) break; }
        double p = front * sum;
        return upper ? 1 - p : p;
    }
    double b = x + 1 - a, c = 1e300, d = 1 / b, h = d;   /* Lentz's way of evaluating it */
    for (int k = 1; k < 200000; k++) {
        double n = -k * (k - a);
        b += 2;
        d = n * d + b;
        if (fabs(d) < 1e-300) d = 1e-300;
        c = b + n / c;
        if (fabs(c) < 1e-300) c = 1e-300;
        d = 1 / d;
        h *= d * c;
        if (fabs(d * c - 1) < 1e-16) break;
    }
    double q = front * a * h;
    return upper ? q : 1 - q;
}
AJ_FUNCTION double igamma_at_f64(double a, double x) { return incomplete_gamma(a, x, 0); }
AJ_FUNCTION double igammac_at_f64(double a, double x) { return incomplete_gamma(a, x, 1); }

/* sum over k >= 0 of (q + k)^-s */
AJ_FUNCTION double zeta_at_f64(double s, double q) {
    if (s == 1) return (double)INFINITY;
    if (!(s > 1)) return (double)NAN;
    if (q <= 0) {
        if (q == floor(q)) return (double)INFINITY;
        if (s != floor(s)) return (double)NAN;
    }
    if (isinf(q)) return 0;
    return zeta_from(s, q);
}

AJ_FUNCTION float igamma_at_f32(float a, float x) { return (float)igamma_at_f64((double)a, (double)x); }
AJ_FUNCTION float igammac_at_f32(float a, float x) { return (float)igammac_at_f64((double)a, (double)x); }
AJ_FUNCTION float zeta_at_f32(float s, float q) { return (float)zeta_at_f64((double)s, (double)q); }
#endif
