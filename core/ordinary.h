/* ordinary.h - those of special.h that need no table and no loop of their own: what a chain of ops is made of. AJ_CODE may
 * make strings of them, for kernels that are compiled at run time (cuda/fuse.cpp). */
#ifndef AJ_CODE
#define AJ_CODE(...) __VA_ARGS__
#endif

/* The distribution function of the normal distribution, as GELU wants it: within 1.1e-7 of the truth in single precision
 * (PyTorch's is within 3e-7), not relative to it as the row ndtr. There it is 1/2 + x P(x^2) / Q(x^2), both of degree 5, a minimax
 * fit up to x = 5.2, from where it is 1 to a last bit; this takes 0.4 of an error function's time. Bounds are kept among
 * the bits as whole numbers, an instruction each where a choice between floats takes two. Of NaN it is some number. */
#define AJ_NDTR_ABOVE 2.473102079e-08f, 6.407886303e-06f, 1.568618754e-04f, 4.608646501e-03f, 3.254457936e-02f, 3.989422619e-01f
#define AJ_NDTR_BELOW 1.258867542e-06f, 7.049612759e-05f, 1.817204407e-03f, 2.792670578e-02f, 2.482434809e-01f, 1.0f
#define AJ_NDTR_TOP 27.04f
AJ_CODE(
AJ_FUNCTION float ndtr_at_f32(float x) {
    const float above[] = {AJ_NDTR_ABOVE}, below[] = {AJ_NDTR_BELOW};
    union { float f; int32_t i; } z, y, top = {AJ_NDTR_TOP}, one = {1.0f};
    z.f = x * x;
    z.i = z.i > top.i ? top.i : z.i;
    float p = above[0] * z.f + above[1], q = below[0] * z.f + below[1];
    p = p * z.f + above[2]; q = q * z.f + below[2];
    p = p * z.f + above[3]; q = q * z.f + below[3];
    p = p * z.f + above[4]; q = q * z.f + below[4];
    p = p * z.f + above[5]; q = q * z.f + below[5];
    y.f = x * p / q + 0.5f;
    y.i = y.i > one.i ? one.i : y.i;
    y.i = y.i < 0 ? 0 : y.i;
    return y.f;
}
AJ_FUNCTION double ndtr_at_f64(double x) { return 0.5 * (1 + erf(x * 0.7071067811865476)); }
)

AJ_CODE(
AJ_FUNCTION bool negative_f32(float x) { return copysignf(1, x) < 0; }
AJ_FUNCTION bool negative_f64(double x) { return copysign(1.0, x) < 0; }
AJ_FUNCTION bool negative_i64(int64_t x) { return x < 0; }

AJ_FUNCTION int64_t power_i64(int64_t a, int64_t b) {
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
    uint64_t y = 1, x = (uint64_t)a;
    for (; b; b >>= 1, x *= x) if (b & 1) y *= x;
    return (int64_t)y;
}
AJ_FUNCTION float power_f32(float a, float b) { return b == 2 ? a * a : powf(a, b); }
AJ_FUNCTION double power_f64(double a, double b) { return b == 2 ? a * a : pow(a, b); }
)
