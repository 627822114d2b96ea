/* airy.h - the Airy function Ai and its derivative, in double; floats go through doubles. */
#ifndef AJ_AIRY_H
#define AJ_AIRY_H
#include "special.h"

/* For x >= 1.5, with z = 2/3 x^(3/2): Ai(x) = sqrt(x / 3) K_1/3(z) / pi, and Ai'(x) = -x K_2/3(z) / (pi sqrt 3) (DLMF 9.6.2, 9.6.3), where
 * K_v(z) = exp(-z) integral over t from 0 of exp(-z (cosh t - 1)) cosh(v t) (DLMF 10.32.9), by the trapezoidal rule. */
AJ_FUNCTION double airy_right(double x, bool prime) {
    double root = sqrt(x), z = 2 * x * root / 3, h = fmin(0.125, 0.7 / sqrt(z)), v = prime ? 2.0 / 3 : 1.0 / 3, sum = 0.5;
    if (z > 800) return 0;
    for (int k = 1; k < 4000; k++) {
        double t = k * h, s = sinh(t / 2), fall = 2 * z * s * s;
        if (fall > 45) break;
        sum += exp(-fall) * cosh(v * t);
    }
    /* z has an error of x^1.5 ulps, which exp(-z) would show: the square of the root is x less its remainder. */
    double rest = fma(-root, root, x) / (2 * root), low = fma(x, root, -(x * root)) + x * rest, third = fma(-3.0, z, 2 * (x * root)) / 3;
    double k = h * sum * exp(-z) * (1 - (2 * low / 3 + third)) / 3.141592653589793;
    return prime ? -x * k / 1.7320508075688772 : k * sqrt(x / 3);
}

/* For x < -9, with z = 2/3 |x|^(3/2): the asymptotic series (DLMF 9.7.9, 9.7.10), whose terms shrink below 1e-16 before they grow again. */
AJ_FUNCTION double airy_left(double x, bool prime) {
    double a = -x, root = sqrt(a), z = 2 * a * root / 3, even = 0, odd = 0, u = 1, power = 1;
    for (int k = 0; k < 40; k++) {
        double term = (prime && k ? u * (6.0 * k + 1) / (1 - 6.0 * k) : u) * power;
        if (k / 2 % 2) term = -term;
        if (k % 2) odd += term;
        else even += term;
        if (fabs(term) < 1e-17) break;
        u *= (6.0 * k + 5) * (6.0 * k + 3) * (6.0 * k + 1) / (216.0 * (k + 1) * (2 * k + 1));
        power /= z;
    }
    double phase = z - 0.7853981633974483, quarter = sqrt(root), scale = 0.5641895835477563;
    if (prime) return scale * quarter * (sin(phase) * even - cos(phase) * odd);
    return scale / quarter * (cos(phase) * even + sin(phase) * odd);
}

/* Between them Taylor's series about the nearest whole number c, from Ai(c) and Ai'(c): y'' = x y (DLMF 9.2.1) gives the coefficients
 * a_(n+2) = (c a_n + a_(n-1)) / ((n + 1) (n + 2)). */
AJ_FUNCTION double airy_middle(double x, bool prime) {
    const double at[11][2] = {
        {-0.022133721547341403674, -0.97566398092633159471},
        {-0.052705050356386202622, 0.93556093819830655103},
        {0.18428083525050563728, -0.77100816841012654773},
        {-0.32914517362982310523, 0.34593548728134289493},
        {0.35076100902411431979, 0.32719281855444313679},
        {-0.070265532949289515099, -0.7906285753685813803},
        {-0.37881429367765807435, 0.31458376921659881365},
        {0.22740742820168557599, 0.61825902074169104141},
        {0.5355608832923521188, -0.010160567116645209395},
        {0.35502805388781723926, -0.25881940379280679841},
        {0.13529241631288141552, -0.15914744129679321279},
    };
    int i = (int)floor(x + 0.5) + 9;
    double c = i - 9, t = x - c, before = 0, a = at[i][0], b = at[i][1], y = 0, power = 1;
    for (int n = 0; n < 40; n++) {               /* a, b are coefficients n, n + 1 */
        double next = (c * a + before) / ((n + 1) * (n + 2.0));
        y += (prime ? (n + 1) * b : a) * power;
        if (n > 4 && fabs(power) < 1e-18) break;
        power *= t;
        before = a;
        a = b;
        b = next;
    }
    return y;
}

AJ_FUNCTION double airy_of(double x, bool prime) {
    if (isnan(x)) return x;
    if (isinf(x)) return x > 0 || !prime ? 0 : (double)NAN;
    return x >= 1.5 ? airy_right(x, prime) : x < -9 ? airy_left(x, prime) : airy_middle(x, prime);
}
AJ_FUNCTION double airy_ai_at_f64(double x) { return airy_of(x, false); }
AJ_FUNCTION double airy_ai_prime_at_f64(double x) { return airy_of(x, true); }
AJ_FUNCTION float airy_ai_at_f32(float x) { return (float)airy_of((double)x, false); }
AJ_FUNCTION float airy_ai_prime_at_f32(float x) { return (float)airy_of((double)x, true); }
#endif
