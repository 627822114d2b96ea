/* distance.c - distances between all pairs of two sets of vectors, (B, P, M) and (B, R, M).
 *
 * Euclidean ones of large sets come from products of matrices, |a - b|^2 = |a|^2 + |b|^2 - 2 a b, as in PyTorch; where vectors are
 * near each other beside their lengths that costs digits, so small sets take their differences.
 */
#include "dense.h"
#include "gemm.h"
#include "lanes.h"
#include "vmath.h"

enum { MANY = 25 };
typedef struct { const void *a, *b; void *y; double *lengths; int64_t B, P, R, M; double p; } distances;

#define real float
#define REAL(name) name##_f32
#include "distance.inc"
#undef real
#undef REAL
#define real double
#define REAL(name) name##_f64
#include "distance.inc"
#undef real
#undef REAL

bool KERNEL(cdist)(const aj_call *c) {
    aj_tensor *a = c->in[0], *b = c->in[1], *y = c->out[0];
    int class = class_of_dtype(a->dtype);
    dense d[3] = {{0}};
    distances m = {.B = a->shape[0], .P = a->shape[1], .R = b->shape[1], .M = a->shape[2], .p = c->attrs->s};
    bool ok = dense_in(&d[0], a, class) && dense_in(&d[1], b, class) && dense_place(&d[2], y, class), f = class == CLASS_F32;
    m.a = d[0].p; m.b = d[1].p; m.y = d[2].p;
    if (ok && y->numel) {
        bool products = m.p == 2 && (m.P > MANY || m.R > MANY) && m.M > 0;
        for (int64_t i = 0; products && ok && i < m.B; i++) {
            int64_t size = f ? 4 : 8;
            ok = KERNEL(gemm)(&(gemm){.dtype = f ? AJ_F32 : AJ_F64, .M = m.P, .N = m.R, .K = m.M, .a = (char *)d[0].p + i * m.P * m.M * size, .sa = {m.M, 1},
                                      .b = (char *)d[1].p + i * m.R * m.M * size, .sb = {1, m.M}, .c = (char *)d[2].p + i * m.P * m.R * size, .ldc = m.R});
        }
        if (products) {
            ok = ok && (m.lengths = aj_scratch(m.B * (m.P + m.R) * 8)) != NULL;
            if (ok) {
                aj_parallel(m.B * (m.P + m.R), 1 + (1 << 16) / m.M, f ? lengths_f32 : lengths_f64, &m);
                aj_parallel(m.B * m.P, 1 + (1 << 15) / m.R, f ? from_products_f32 : from_products_f64, &m);
                aj_scratch_free(m.lengths);
            }
        } else aj_parallel(m.B * m.P, 1 + (1 << 14) / (m.R * (m.M + 1)), f ? from_differences_f32 : from_differences_f64, &m);
    }
    ok = ok && dense_put(&d[2]);
    dense_free(d, 3);
    return ok;
}
