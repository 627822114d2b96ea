/* fft.c - Fourier transforms of lines along a dimension.
 *
 * Stockham's form, which sorts as it goes, over radices 2 to 13 (Van Loan, "Computational frameworks for the fast Fourier
 * transform", 1992); lengths with larger prime factors go through a convolution (Bluestein, 1970). Reals of even length are
 * half as many pairs. Debian's FFT libraries with a free licence are of single precision only.
 */
#include "dense.h"
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 13, KEPT = 32, SIDE_BY_SIDE = 16 };
typedef struct {
    int64_t outer, n, inner, B; /* n: pairs or reals of a line, in time; B: lines side by side */
    bool inverse, failed;
    double scale;
    const void *x;
    void *y;
    const void *plan;
} work;

#define KERNELS "fft.inc"
#include "reals.h"

typedef void range_fn(void *, int64_t, int64_t);
/* outer lines of n, inner apart, counted in time. */
static bool run(const aj_call *c, int64_t n, bool is_real, range_fn *f32, range_fn *f64) {
    const aj_tensor *x = c->in[0];
    int class = class_of_dtype(x->dtype), dim = c->attrs->dim, ndim = x->ndim;
    bool f = class == CLASS_F32;
    work w = {.outer = 1, .n = n, .inner = 1, .inverse = c->attrs->flag, .scale = c->attrs->s};
    if (x->numel == 0) return true;
    for (int d = 0; d < ndim; d++) {
        if (d < dim) w.outer *= x->shape[d];
        if (d > dim) w.inner *= x->shape[d];
    }
    if (c->op != OP_rfft_half) w.inner /= 2;
    dense d[2] = {{0}};
    bool ok = dense_in(&d[0], c->in[0], class) && dense_place(&d[1], c->out[0], class), own = false;
    w.x = d[0].p;
    w.y = d[1].p;
    if (ok) {
        w.plan = f ? (const void *)plan_for_f32(n, is_real, &own) : (const void *)plan_for_f64(n, is_real, &own);
        if (!w.plan) ok = aj_error("%s: out of memory", aj_op_name(c->op));
    }
    if (ok) {
        w.B = (1 << 17) / (n * dtype_bytes[dtype_of_class[class]]);      /* four arrays of them fit the second cache */
        w.B = w.B < 1 ? 1 : w.B > SIDE_BY_SIDE ? SIDE_BY_SIDE : w.B;
        if (w.B > w.outer * w.inner) w.B = w.outer * w.inner;
        aj_parallel((w.outer * w.inner + w.B - 1) / w.B, 1 + 30000 / (n * w.B + 1), f ? f32 : f64, &w);
        ok = !w.failed || aj_error("%s: out of memory", aj_op_name(c->op));
        if (own) { if (f) plan_free_f32((void *)(uintptr_t)w.plan); else plan_free_f64((void *)(uintptr_t)w.plan); }
    }
    ok = ok && dense_put(&d[1]);
    dense_free(d, 2);
    return ok;
}
bool KERNEL(fft_pairs)(const aj_call *c) { return run(c, c->in[0]->shape[c->attrs->dim], false, pairs_f32, pairs_f64); }
bool KERNEL(rfft_half)(const aj_call *c) { return run(c, c->in[0]->shape[c->attrs->dim], true, half_f32, half_f64); }
bool KERNEL(irfft_half)(const aj_call *c) { return run(c, c->attrs->i, true, whole_f32, whole_f64); }
