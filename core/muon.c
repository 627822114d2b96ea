/* muon.c - Muon (Jordan and others, 2024): the momentum of a matrix is brought near the closest matrix with orthonormal
 * rows or columns, by Newton and Schulz's iteration with Jordan's coefficients, and that is the step. What has more
 * than two dimensions, such as a convolution's kernel, is a matrix of its first dimension by the rest. */
#include "jit.h"
#include "update.h"
#include <math.h>

/* y = a y + b x; y is ours */
static void blend(aj_tensor *y, aj_tensor *x, double a, double b) {
    aj_update u = {.operand = {y, x}, .number = {a, b}, .row = aj_optim_cpu()->blend};
    aj_update_run(&u);
}

static aj_tensor *matrix(aj_tensor *x, bool flip) {
    int64_t rows = x->shape[0], columns = rows ? x->numel / rows : 0;
    return aj_give(aj_new_view(x, 2, (int64_t[]){flip ? columns : rows, flip ? rows : columns},
                               (int64_t[]){flip ? 1 : columns, flip ? columns : 1}, 0));
}

/* Where a graph's numbers alone are wanted, a matrix of the shape. */
static aj_tensor *product(aj_tensor *a, aj_tensor *b) {
    if (!aj_ctx.numbers || !aj_ctx.numbers->only) return aj_matmul(a, b);
    return aj_empty((aj_dtype)a->dtype, &(aj_ints){2, {a->shape[0], b->shape[1]}}, a->device);
}

/* X <- a X + (b A + c A A) X with A = X X', where X has no more rows than columns; x is dense. NULL after an error. */
static aj_tensor *orthogonal(aj_tensor *x, const aj_optim_options *o) {
    bool tall = x->shape[0] > x->numel / x->shape[0];
    aj_tensor *X = aj_hold(matrix(x, tall));
    for (int k = 0; X && k < (int)o->ns_steps; k++) {
        int32_t mark = aj_inner_open();
        aj_tensor *A = product(X, aj_give(aj_new_view(X, 2, (int64_t[]){X->shape[1], X->shape[0]}, (int64_t[]){X->stride[1], X->stride[0]}, 0)));
        aj_tensor *B = A ? product(A, A) : NULL;
        if (B) blend(B, A, o->ns_c, o->ns_b);
        aj_tensor *Y = B ? product(B, X) : NULL;
        if (Y) blend(Y, X, 1, o->ns_a);
        aj_drop(X);
        X = aj_hold(Y);
        aj_inner_close(mark);
    }
    if (!X || !tall) return X;
    aj_tensor *y = aj_new_view(X, 2, (int64_t[]){X->shape[1], X->shape[0]}, (int64_t[]){X->stride[1], X->stride[0]}, 0);
    aj_drop(X);
    return y;
}

/* As a view of x's shape, or a dense copy where there is none. */
static aj_tensor *in_shape(aj_tensor *X, const aj_tensor *p) {
    if (p->ndim == 2) return X;
    aj_ints shape = {.n = p->ndim};
    for (int d = 0; d < p->ndim; d++) shape.v[d] = p->shape[d];
    return aj_reshape(X, &shape);
}

bool aj_muon_apply(aj_tensor *p, aj_tensor *g, aj_tensor *buffer, aj_tensor *master, const aj_optim_options *o) {
    if (p->numel == 0) return true;
    const aj_optim_kernels *kernels = aj_optim_cpu();
    aj_tensor *x = aj_new(p->dtype == AJ_F64 ? AJ_F64 : AJ_F32, p->ndim, p->shape, p->device);
    if (!x) return false;
    aj_update u = {.operand = {x, g, buffer}, .number = {o->momentum, o->nesterov, o->maximize ? -1 : 1}, .row = kernels->muon, .summed = true};
    bool recording = aj_grad_mode(false), ok = (!aj_ctx.numbers || aj_update_total(&u.total)) && aj_update_run(&u);
    if (ok) {
        int32_t mark = aj_inner_open();
        aj_update s = {.operand = {x}, .number = {1 / fmax(sqrt(u.sum[0]), o->eps), o->eps}, .row = kernels->scale, .total = u.total, .derived = aj_ctx.numbers ? 1 + AJ_DERIVE_UNIT : 0};
        ok = aj_update_run(&s);
        aj_tensor *X = ok ? orthogonal(x, o) : NULL, *step = X ? in_shape(X, p) : NULL;
        ok = step != NULL;
        if (ok) {
            double rows = (double)p->shape[0], columns = (double)(p->numel / p->shape[0]);
            double scale = o->match_rms ? 0.2 * sqrt(fmax(rows, columns)) : sqrt(fmax(1, rows / columns));
            aj_update a = {.operand = {p, step}, .master = master, .number = {1 - o->lr * o->weight_decay, -o->lr * scale}, .row = kernels->blend};
            ok = aj_update_run(&a);
        }
        if (X) aj_drop(X);
        aj_inner_close(mark);
    }
    aj_grad_mode(recording);
    aj_drop(x);
    return ok;
}
