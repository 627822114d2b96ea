/* softmax.c - softmax, log_softmax, and the losses of classification over them. */
#include "rule.h"

static const char *const reduction_names[] = {"none", "mean", "sum"};

static bool along_shape(aj_call *c) {
    if (!aj_floats(c, 0)) return false;
    int dim = aj_dim_of(c, c->attrs->dim, c->in[0]->ndim);
    if (dim < 0) return false;
    c->attrs->dim = dim;
    aj_spec_like(&c->spec[0], c->in[0]);
    return true;
}
bool softmax_shape(aj_call *c) { return along_shape(c); }
bool log_softmax_shape(aj_call *c) { return along_shape(c); }
bool softmax_grad_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_floats(c, 1)) return false;
    if (!aj_same_shape(c->in[0], c->in[1])) return aj_refuse(c, "the gradient has the result's shape");
    return along_shape(c);
}
bool log_softmax_grad_shape(aj_call *c) { return softmax_grad_shape(c); }

static aj_tensor *sum_along(aj_tensor *x, int dim) {
    aj_ints dims = {1, {dim}};
    return x ? aj_live(aj_sum(x, &dims, true)) : NULL;
}

/* gx = y (gy - sum gy y) */
bool softmax_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    return (gx[0] = aj_softmax_grad(gy[0], aj_saved_out(n, 0), n->attrs->dim)) != NULL;
}
/* With v the gradient of gx: gg = y (v - sum v y), the same again; gy = v (g - sum g y) - g sum v y. */
bool softmax_grad_vjp(aj_node *n, aj_tensor *const *v, aj_tensor **gx) {
    aj_tensor *g = aj_saved_in(n, 0), *y = aj_saved_in(n, 1);
    int dim = n->attrs->dim;
    if (aj_wants(n, 0) && !(gx[0] = aj_softmax_grad(v[0], y, dim))) return false;
    if (!aj_wants(n, 1)) return true;
    aj_tensor *a = sum_along(aj_mul(g, y), dim), *b = a ? sum_along(aj_mul(v[0], y), dim) : NULL;
    aj_tensor *d = b ? aj_sub(g, a) : NULL, *p = d ? aj_mul(v[0], d) : NULL, *q = p ? aj_mul(g, b) : NULL;
    return q && (gx[1] = aj_sub(p, q));
}

/* gx = gy - exp(y) sum gy */
bool log_softmax_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    return (gx[0] = aj_log_softmax_grad(gy[0], aj_saved_out(n, 0), n->attrs->dim)) != NULL;
}
/* gg = v - sum v exp(y); gy = - v exp(y) sum g */
bool log_softmax_grad_vjp(aj_node *n, aj_tensor *const *v, aj_tensor **gx) {
    aj_tensor *y = aj_saved_in(n, 1), *e = aj_exp(y), *p = e ? aj_mul(v[0], e) : NULL;
    int dim = n->attrs->dim;
    if (!p) return false;
    if (aj_wants(n, 0)) {
        aj_tensor *s = sum_along(p, dim);
        if (!s || !(gx[0] = aj_sub(v[0], s))) return false;
    }
    if (!aj_wants(n, 1)) return true;
    aj_tensor *s = sum_along(aj_saved_in(n, 0), dim), *q = s ? aj_mul(p, s) : NULL;
    return q && (gx[1] = aj_neg(q));
}

aj_tensor *softmin_compose(aj_call *c) {
    if (!aj_floats(c, 0)) return NULL;
    aj_tensor *y = aj_neg(c->in[0]);
    return y ? aj_softmax(y, c->attrs->dim) : NULL;
}

/* -- Targets that are classes --------------------------------------------------------------------------------------------- */

/* x (C), (N, C) or (N, C, d1, ...) of sizes `of`; target the same without C; weight (C) or none. y: of target's shape, or one number. */
static bool classes(aj_call *c, const aj_ints *of, aj_tensor *target, aj_tensor *weight, aj_spec *y) {
    if (!aj_reduction(c, false)) return false;
    if (of->n < 1) return aj_refuse(c, "the input is (C), (N, C) or (N, C, d1, ...), with a score for each of C classes");
    int dim = of->n > 1;
    if (of->v[dim] == 0) return aj_refuse(c, "there are no classes: dimension %d has no elements", dim + 1);
    if (target->dtype == AJ_BOOL || aj_is_float(target->dtype))
        return aj_refuse(c, "the target holds class numbers and must be of integers, not %s; convert it with :long()%s",
                         aj_dtype_name((aj_dtype)target->dtype),
                         c->op == OP_cross_entropy_index ? ", or give probabilities, in the input's shape" : "");
    y->ndim = (uint8_t)(of->n - 1);
    bool fits = target->ndim == of->n - 1;
    for (int d = 0, e = 0; fits && d < of->n; d++) {
        if (d == dim) continue;
        fits = target->shape[e] == of->v[d];
        y->shape[e++] = of->v[d];
    }
    if (!fits) return aj_refuse(c, "the target has the input's shape without the dimension of classes, %d", dim + 1);
    if (weight && (weight->ndim != 1 || weight->shape[0] != of->v[dim]))
        return aj_refuse(c, "weight has one number for each of the %lld classes", (long long)of->v[dim]);
    if (c->attrs->reduction != AJ_NONE) y->ndim = 0;
    return true;
}

bool nll_loss_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_given(c, 1, 1)) return false;
    aj_ints of = aj_sizes(c->in[0]);
    c->spec[0].dtype = c->in[0]->dtype;
    return classes(c, &of, c->in[1], c->in[2], &c->spec[0]);
}
bool nll_loss_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints of = aj_sizes_in(n, 0);
    const aj_attrs *a = n->attrs;
    return (gx[0] = aj_nll_loss_grad(gy[0], aj_saved_in(n, 1), aj_saved_in(n, 2), &of, a->i, reduction_names[a->reduction], a->base)) != NULL;
}
bool nll_loss_grad_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_given(c, 1, 1)) return false;
    const aj_ints *of = &c->attrs->list;
    aj_spec g, *y = &c->spec[0];
    if (!classes(c, of, c->in[1], c->in[2], &g)) return false;
    bool fits = g.ndim == c->in[0]->ndim;
    for (int d = 0; fits && d < g.ndim; d++) fits = g.shape[d] == c->in[0]->shape[d];
    if (!fits) return aj_refuse(c, "the gradient has the loss's shape");
    y->dtype = c->in[0]->dtype;
    y->ndim = (uint8_t)of->n;
    for (int d = 0; d < of->n; d++) y->shape[d] = of->v[d];
    return true;
}
bool nll_loss_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    const aj_attrs *a = n->attrs;
    return (gx[0] = aj_nll_loss(gy[0], aj_saved_in(n, 1), aj_saved_in(n, 2), a->i, reduction_names[a->reduction], a->base)) != NULL;
}

/* -- Cross entropy ------------------------------------------------------------------------------------------------------------ */

/* Results: the loss; of each row its log-sum-exp, and the sum of the targets' weights, which the gradient reads. */
bool cross_entropy_index_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_given(c, 1, 1)) return false;
    if (!(c->attrs->s >= 0 && c->attrs->s <= 1)) return aj_refuse(c, "label_smoothing is %g, and must be from 0 to 1", c->attrs->s);
    aj_ints of = aj_sizes(c->in[0]);
    aj_spec *y = c->spec;
    if (!classes(c, &of, c->in[1], c->in[2], y)) return false;
    y[0].dtype = c->in[0]->dtype;
    aj_spec_like(&y[1], c->in[1]);
    y[1].dtype = y[0].dtype == AJ_F64 ? AJ_F64 : AJ_F32;
    y[2] = (aj_spec){.dtype = AJ_F64};
    c->n_out = 3;
    return true;
}

/* A row of C numbers beside an input of n dimensions. */
static aj_tensor *beside(aj_tensor *weight, int n) {
    aj_ints shape = {n, {1, 1, 1, 1, 1, 1, 1, 1}};
    shape.v[n > 1] = weight->numel;
    return aj_live(aj_reshape(weight, &shape));
}

/* nll_loss(log_softmax(x)), a share of it exchanged for the mean over all classes. */
static aj_tensor *by_log_softmax(aj_tensor *const *in, int n_in, const aj_attrs *a) {
    (void)n_in;
    aj_tensor *x = in[0], *target = in[1], *weight = in[2];
    int dim = x->ndim > 1;
    const char *reduction = reduction_names[a->reduction];
    aj_tensor *p = aj_log_softmax(x, dim), *y = p ? aj_nll_loss(p, target, weight, a->i, reduction, a->base) : NULL;
    if (!y || a->s == 0) return y;
    aj_ints over = {1, {dim}}, all = {-1, {0}}, none = {0}, of = aj_sizes(x);
    if (weight) {
        aj_tensor *w = beside(weight, x->ndim);
        if (!w || !(p = aj_mul(p, w))) return NULL;
    }
    aj_tensor *s = aj_sum(p, &over, false), *counts = aj_ne_number(target, (double)a->i, false);
    aj_tensor *zero = aj_full((aj_dtype)x->dtype, &none, x->device, 0);
    if (!s || !counts || !zero || !(s = aj_where(counts, s, zero))) return NULL;
    if (a->reduction != AJ_NONE && !(s = aj_sum(s, &all, false))) return NULL;
    if (a->reduction == AJ_MEAN) {
        aj_tensor *one = aj_full((aj_dtype)x->dtype, &none, x->device, -1), *ones = one ? aj_expand(one, &of) : NULL;
        aj_tensor *total = ones ? aj_nll_loss(ones, target, weight, a->i, "sum", a->base) : NULL;
        if (!total || !(s = aj_div(s, total))) return NULL;
    }
    y = aj_mul_number(y, 1 - a->s, false);
    s = aj_mul_number(s, -a->s / (double)x->shape[dim], false);
    return y && s ? aj_add(y, s) : NULL;
}

bool cross_entropy_index_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    if (aj_recording()) return aj_vjp_by_definition(n, by_log_softmax, gy[0], gx);
    const aj_attrs *a = n->attrs;
    return (gx[0] = aj_cross_entropy_grad(gy[0], aj_saved_in(n, 0), aj_saved_in(n, 1), aj_saved_in(n, 2), n->out[1].t, n->out[2].t,
                                          a->i, reduction_names[a->reduction], a->s, a->base)) != NULL;
}
bool cross_entropy_grad_shape(aj_call *c) {
    if (!aj_given(c, 0, 3) || !aj_given(c, 4, 2)) return false;
    aj_spec g;
    aj_ints of = aj_sizes(c->in[1]);
    if (!classes(c, &of, c->in[2], c->in[3], &g)) return false;
    bool fits = g.ndim == c->in[0]->ndim && aj_same_shape(c->in[2], c->in[4]) && c->in[5]->ndim == 0;
    for (int d = 0; fits && d < g.ndim; d++) fits = g.shape[d] == c->in[0]->shape[d];
    if (!fits) return aj_refuse(c, "the gradient has the loss's shape, lse the target's, and total is one number");
    aj_spec_like(&c->spec[0], c->in[1]);
    return true;
}
bool cross_entropy_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }

/* Against probabilities: - sum over classes of w q log p. */
static aj_tensor *against_probabilities(aj_call *c) {
    aj_tensor *x = c->in[0], *q = c->in[1];
    const aj_attrs *a = c->attrs;
    int dim = x->ndim > 1;
    aj_ints over = {1, {dim}}, all = {-1, {0}};
    aj_tensor *p = aj_log_softmax(x, dim);
    if (p && a->s != 0) q = (q = aj_mul_number(q, 1 - a->s, false)) ? aj_add_number(q, a->s / (double)x->shape[dim], false) : NULL;
    p = p && q ? aj_mul(p, q) : NULL;
    if (p && c->in[2]) {
        aj_tensor *w = beside(c->in[2], x->ndim);
        p = w ? aj_mul(p, w) : NULL;
    }
    if (!p) return NULL;
    if (a->reduction == AJ_NONE) return (p = aj_sum(p, &over, false)) ? aj_neg(p) : NULL;
    if (!(p = aj_sum(p, &all, false))) return NULL;
    double rows = x->shape[dim] ? (double)(x->numel / x->shape[dim]) : 0;
    return a->reduction == AJ_MEAN ? aj_div_number(p, -rows, false) : aj_neg(p);
}

aj_tensor *cross_entropy_compose(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_given(c, 1, 1) || !aj_reduction(c, false)) return NULL;
    aj_tensor *x = c->in[0], *target = c->in[1], *weight = c->in[2];
    const aj_attrs *a = c->attrs;
    if (aj_is_float(target->dtype) && aj_same_shape(x, target)) {
        if (x->ndim < 1) { aj_refuse(c, "the input is (C), (N, C) or (N, C, d1, ...), with a score for each of C classes"); return NULL; }
        if (!(a->s >= 0 && a->s <= 1)) { aj_refuse(c, "label_smoothing is %g, and must be from 0 to 1", a->s); return NULL; }
        int64_t classes_in = x->shape[x->ndim > 1];
        if (weight && (weight->ndim != 1 || weight->numel != classes_in)) {
            aj_refuse(c, "weight has one number for each of the %lld classes", (long long)classes_in);
            return NULL;
        }
        return against_probabilities(c);
    }
    return aj_cross_entropy_index(x, target, weight, a->i, reduction_names[a->reduction], a->s, a->base);
}
