/* reduce.c - gradients of reductions over dimensions. */
#include "rule.h"

/* A reduced tensor with its dimensions of size 1 back in their places, so that it broadcasts against the input. */
static aj_tensor *put_back(aj_node *n, aj_tensor *t) {
    const aj_spec *x = &n->edge[0].node->spec[n->edge[0].out];
    aj_call c = {.op = n->op, .n_in = 0};
    bool over[AJ_MAX_DIM];
    if (!aj_dims_of(&c, &n->attrs->list, x->ndim, over)) return NULL;
    aj_ints shape = {x->ndim, {0}};
    for (int d = 0; d < x->ndim; d++) shape.v[d] = over[d] ? 1 : x->shape[d];
    return aj_reshape(t, &shape);
}
static aj_tensor *spread(aj_node *n, aj_tensor *t) {
    const aj_spec *x = &n->edge[0].node->spec[n->edge[0].out];
    aj_ints shape = {x->ndim, {0}};
    for (int d = 0; d < x->ndim; d++) shape.v[d] = x->shape[d];
    t = put_back(n, t);
    return t ? aj_expand(t, &shape) : NULL;
}

bool sum_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = spread(n, gy[0])) != NULL; }

/* The product of all others: y / x where no factor is 0; a row with zeros goes the long way, through cumulative products. */
bool prod_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *x = aj_saved_in(n, 0), *y = put_back(n, aj_saved_out(n, 0)), *g = put_back(n, gy[0]);
    if (!y || !g) return false;
    aj_tensor *zero = aj_eq_number(x, 0, false);
    aj_ints all = {-1, {0}}, none = {0};
    aj_tensor *any = zero ? aj_any(zero, &all, false) : NULL;
    double has;
    if (!any || !aj_get(any, (int64_t[1]){0}, &has)) return false;
    if (!has) { aj_tensor *q = aj_div(y, x); return q && (gx[0] = aj_mul(g, q)); }
    /* The product of all others, by the number of zeros in a group. none: y / x; one: the rest at that zero, and z rest / x
     * elsewhere, z being the zero, which a second derivative sees; two: at a zero the other one times the rest; more: 0. */
    aj_tensor *one = aj_full((aj_dtype)x->dtype, &none, x->device, 1), *nil = aj_full((aj_dtype)x->dtype, &none, x->device, 0);
    aj_tensor *filled = one && nil ? aj_where(zero, one, x) : NULL;
    aj_tensor *rest = filled ? aj_prod(filled, &n->attrs->list, true) : NULL;
    aj_tensor *zeros = rest ? aj_sum(zero, &n->attrs->list, true) : NULL, *only = zeros ? aj_where(zero, x, nil) : NULL;
    aj_tensor *z = only ? aj_sum(only, &n->attrs->list, true) : NULL;
    aj_tensor *count[3];
    for (int k = 0; k < 3; k++) if (!z || !(count[k] = aj_eq_number(zeros, k, false))) return false;
    aj_tensor *q = aj_div(rest, filled), *other = aj_sub(z, x), *at = NULL, *off = NULL;
    if (q && other && (at = aj_where(count[2], aj_mul(other, rest), nil))) at = aj_where(count[1], rest, at);
    if (at && (off = aj_where(count[1], aj_mul(z, q), nil))) off = aj_where(count[0], q, off);
    aj_tensor *others = off ? aj_where(zero, at, off) : NULL;
    return others && (gx[0] = aj_mul(g, others));
}

/* Shared evenly among equal extremes. */
static bool extreme_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *x = aj_saved_in(n, 0), *y = put_back(n, n->out[0].t), *g = put_back(n, gy[0]);
    if (!y || !g) return false;
    bool mode = aj_grad_mode(false);
    aj_tensor *at = aj_eq(x, y), *nan = at && aj_is_float(x->dtype) ? aj_isnan(x) : NULL;
    if (nan) at = aj_logical_or(at, nan);                /* a NaN is the extreme where it is */
    at = at ? aj_cast(at, (aj_dtype)gy[0]->dtype) : NULL;
    aj_tensor *count = at ? aj_sum(at, &n->attrs->list, true) : NULL;
    aj_tensor *share = count ? aj_div(at, count) : NULL;
    aj_grad_mode(mode);
    return share && (gx[0] = aj_mul(g, share));
}
bool amax_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return extreme_vjp(n, gy, gx); }
bool amin_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return extreme_vjp(n, gy, gx); }

bool all_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }
bool any_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }

bool mean_shape(aj_call *c) {
    bool over[AJ_MAX_DIM];
    if (!aj_floats(c, 0) || !aj_dims_of(c, &c->attrs->list, c->in[0]->ndim, over)) return false;
    aj_reduced(c->in[0], over, c->attrs->keepdim, &c->spec[0]);
    return true;
}
bool mean_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    const aj_spec *x = &n->edge[0].node->spec[n->edge[0].out];
    int64_t in = 1, out = 1;
    for (int d = 0; d < x->ndim; d++) in *= x->shape[d];
    for (int d = 0; d < n->spec[0].ndim; d++) out *= n->spec[0].shape[d];
    aj_tensor *g = aj_div_number(gy[0], out ? (double)(in / out) : 1, false);
    return g && (gx[0] = spread(n, aj_live(g)));
}
