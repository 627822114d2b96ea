// math.cuh - what the expressions of ops.def call, on a device: by the type of the argument, as core/cpu/map.inc names it.
#pragma once
#include "../core/airy.h"
#include "../core/bessel.h"
#include "../core/incomplete.h"
#include "../core/normal.h"
#include "../core/special.h"
#include <cmath>
#include <cstdint>

#define R(v) ((real)(v))
#define no_derivative R(NAN)
#define AT __device__ inline

namespace cuda {
namespace row {                                          // the rows' functions stand in here, and find these names first

#include "names.cuh"

// Those of core/special.h, which carry the type in their name.
#define OF_ONE(name, special) AT float name(float v) { return special##_f32(v); } AT double name(double v) { return special##_f64(v); }
OF_ONE(log_gamma, log_gamma) OF_ONE(erfinv, erfinv_at) OF_ONE(digamma, digamma_at)
OF_ONE(lgamma, log_gamma) OF_ONE(mantissa, mantissa_at) OF_ONE(exponent, exponent_at)
OF_ONE(erfcx, erfcx_at) OF_ONE(log_ndtr, log_ndtr_at) OF_ONE(ndtri, ndtri_at)
OF_ONE(i0, i0_at) OF_ONE(i0e, i0e_at) OF_ONE(i1, i1_at) OF_ONE(i1e, i1e_at)
OF_ONE(bessel_j0, j0_at) OF_ONE(bessel_j1, j1_at) OF_ONE(bessel_y0, y0_at) OF_ONE(bessel_y1, y1_at)
OF_ONE(modified_bessel_k0, k0_at) OF_ONE(modified_bessel_k1, k1_at) OF_ONE(scaled_modified_bessel_k0, k0e_at) OF_ONE(scaled_modified_bessel_k1, k1e_at)
OF_ONE(airy_ai, airy_ai_at) OF_ONE(airy_ai_prime, airy_ai_prime_at)
#define OF_TWO(name, special) \
    AT float name(float a, float b) { return special##_f32(a, b); } AT double name(double a, double b) { return special##_f64(a, b); }
OF_TWO(polygamma, polygamma_at) OF_TWO(zeta, zeta_at) OF_TWO(igamma, igamma_at) OF_TWO(igammac, igammac_at)
#define OF_ALL(name) OF_TWO(name, name) AT int64_t name(int64_t a, int64_t b) { return name##_i64(a, b); }
OF_ALL(floordiv) OF_ALL(modulo) OF_ALL(truncmod) OF_ALL(truncdiv)
OF_TWO(floor_divide, floordiv)
#define OF_INTEGERS(name) AT int64_t name(int64_t a, int64_t b) { return name##_i64(a, b); }
OF_INTEGERS(common_divisor) OF_INTEGERS(common_multiple) OF_INTEGERS(shift_left) OF_INTEGERS(shift_right)
#undef OF_ONE
#undef OF_TWO
#undef OF_ALL
#undef OF_INTEGERS

}
}
