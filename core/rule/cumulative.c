/* cumulative.c - sums, products and extremes of all elements up to each place; differences of neighbours. */
#include "compose.h"

static bool along_shape(aj_call *c) {
    if (!aj_given(c, 0, 1)) return false;
    int dim = aj_dim_of(c, c->attrs->dim, c->in[0]->ndim);
    if (dim < 0) return false;
    c->attrs->dim = dim;
    aj_spec_like(&c->spec[0], c->in[0]);
    if (!aj_is_float(c->spec[0].dtype)) c->spec[0].dtype = AJ_I64;
    return true;
}
bool cumsum_shape(aj_call *c) { return along_shape(c); }
bool cumsum_from_end_shape(aj_call *c) { return along_shape(c); }
bool cumprod_shape(aj_call *c) { return along_shape(c); }

bool cumsum_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = aj_cumsum_from_end(gy[0], n->attrs->dim)) != NULL; }
bool cumsum_from_end_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = aj_cumsum(gy[0], n->attrs->dim)) != NULL; }

/* The gradient of element k where some are 0, by the definition: the product of those before k, times
 * gy_k + sum over j > k of gy_j times the product of those between. K passes, and exact to every order. */
static aj_tensor *by_element(aj_tensor *x, aj_tensor *gy, int dim) {
    int64_t K = x->shape[dim];
    aj_ints line = {x->ndim, {1, 1, 1, 1, 1, 1, 1, 1}}, none = {0}, over = {1, {dim}};
    line.v[dim] = K;
    aj_tensor *y = aj_cumprod(x, dim), *place = aj_arange(AJ_I64, x->device, 0, 1, K);
    aj_tensor *zero = aj_full((aj_dtype)gy->dtype, &none, gy->device, 0);
    aj_tensor *gx = NULL;
    if (!y || !zero || !place || !(place = aj_reshape(place, &line))) return NULL;
    for (int64_t k = 0; k < K; k++) {
        aj_tensor *g = aj_slice(gy, dim, k, k, 1);
        if (g && k + 1 < K) {
            aj_tensor *after = aj_slice(x, dim, k + 1, K - 1, 1), *ga = after ? aj_slice(gy, dim, k + 1, K - 1, 1) : NULL;
            aj_tensor *p = ga ? aj_cumprod(after, dim) : NULL;
            p = p ? aj_mul(p, ga) : NULL;
            p = p ? aj_sum(p, &over, true) : NULL;
            g = p ? aj_add(g, p) : NULL;
        }
        if (g && k > 0) {
            aj_tensor *before = aj_slice(y, dim, k - 1, k - 1, 1);
            g = before ? aj_mul(g, before) : NULL;
        }
        aj_tensor *here = g ? aj_eq_number(place, (double)k, false) : NULL;
        aj_tensor *part = here ? aj_where(here, g, zero) : NULL;
        gx = !part ? NULL : gx ? aj_add(gx, part) : part;
        if (!gx) return NULL;
    }
    return gx;
}

/* gx_k = (sum over j >= k of gy_j y_j) / x_k. */
bool cumprod_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *x = aj_saved_in(n, 0), *y = aj_saved_out(n, 0);
    int dim = n->attrs->dim;
    if (x->ndim == 0 || x->numel == 0) { gx[0] = gy[0]; return true; }
    aj_ints all = {-1, {0}};
    bool mode = aj_grad_mode(false);
    aj_tensor *zero = aj_eq_number(x, 0, false), *any = zero ? aj_live(aj_any(zero, &all, false)) : NULL;
    aj_grad_mode(mode);
    double has;
    if (!any || !aj_get(any, NULL, &has)) return false;
    if (has != 0) return (gx[0] = by_element(x, gy[0], dim)) != NULL;
    aj_tensor *g = aj_mul(gy[0], y), *s = g ? aj_cumsum_from_end(g, dim) : NULL;
    return s && (gx[0] = aj_div(s, x));
}

/* -- Extremes so far ------------------------------------------------------------------------------------------------ */

bool cummax_shape(aj_call *c) { return aj_values_and_places(c); }
bool cummin_shape(aj_call *c) { return aj_values_and_places(c); }

/* To where each extreme was found. */
bool cummax_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    if (!gy[0]) return true;
    aj_ints shape = aj_sizes_in(n, 0);
    aj_tensor *z = do_full(gy[0], &shape, 0);
    return z && (gx[0] = aj_scatter_add_(z, n->attrs->dim, aj_saved_out(n, 1), gy[0], n->attrs->base));
}
bool cummin_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return cummax_vjp(n, gy, gx); }

/* -- logcumsumexp --------------------------------------------------------------------------------------------------- */

bool logcumsumexp_shape(aj_call *c) {
    if (!aj_floats(c, 0)) return false;
    int dim = aj_dim_of(c, c->attrs->dim, c->in[0]->ndim);
    if (dim < 0) return false;
    c->attrs->dim = dim;
    aj_spec_like(&c->spec[0], c->in[0]);
    return true;
}
static aj_tensor *logcumsumexp_definition(aj_tensor *const *in, int n_in, const aj_attrs *a) {
    (void)n_in;
    aj_tensor *x = in[0];
    if (x->ndim == 0) return aj_mul_number(x, 1, false);
    bool mode = aj_grad_mode(false);
    aj_tensor *top = aj_live(aj_amax(x, &(aj_ints){1, {a->dim}}, true));
    aj_grad_mode(mode);
    aj_tensor *e = do_exp(do_sub(x, top));
    return do_add(do_log(e ? aj_live(aj_cumsum(e, a->dim)) : NULL), top);
}
bool logcumsumexp_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    if (n->out[0].t->numel && aj_recording()) return aj_vjp_by_definition(n, logcumsumexp_definition, gy[0], gx);
    return (gx[0] = aj_logcumsumexp_grad(gy[0], aj_saved_in(n, 0), aj_saved_out(n, 0), n->attrs->dim)) != NULL;
}
bool logcumsumexp_grad_shape(aj_call *c) {
    if (!aj_given(c, 0, 3) || !aj_floats(c, 1)) return false;
    if (!aj_same_shape(c->in[0], c->in[1]) || !aj_same_shape(c->in[2], c->in[1])) return aj_refuse(c, "the three inputs have one shape");
    c->attrs->dim = aj_dim_of(c, c->attrs->dim, c->in[1]->ndim);
    aj_spec_like(&c->spec[0], c->in[1]);
    return c->attrs->dim >= 0 && aj_cast_inputs(c, 0, 3, c->in[1]->dtype);
}
bool logcumsumexp_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    (void)n; (void)gy; (void)gx;
    return aj_error("logcumsumexp_grad: has no gradient of its own; differentiate logcumsumexp with create_graph");
}

/* -- Differences and areas between neighbours ------------------------------------------------------------------------ */

/* Of bools: whether they differ. */
static aj_tensor *difference(aj_tensor *x, int dim) {
    if (!x) return NULL;
    int64_t n = x->shape[dim];
    aj_tensor *a = do_narrow(x, dim, n ? 1 : 0, n ? n - 1 : 0), *b = do_narrow(x, dim, 0, n ? n - 1 : 0);
    return x->dtype == AJ_BOOL ? do_ne(a, b) : do_sub(a, b);
}
aj_tensor *diff_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0];
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0) return NULL;
    if (!x->ndim) { aj_refuse(c, "a tensor of no dimensions has no neighbours"); return NULL; }
    if (c->attrs->i < 0) { aj_refuse(c, "n is %lld, and must not be negative", (long long)c->attrs->i); return NULL; }
    if (c->attrs->i == 0) return do_clone(x);
    if (c->in[1]) x = do_cat(c->in[1], x, dim);
    if (c->in[2]) x = do_cat(x, c->in[2], dim);
    for (int64_t i = 0; i < c->attrs->i && x && (i == 0 || x->shape[dim]); i++) x = difference(x, dim);
    return x;
}

/* The areas between neighbours: (y1 + y2) / 2 times the distance of their places. */
static aj_tensor *areas(aj_call *c, int *dim) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *y = c->in[0], *x = c->in[1];
    *dim = aj_dim_of(c, c->attrs->dim, y->ndim);
    if (*dim < 0) return NULL;
    if (!y->ndim) { aj_refuse(c, "a tensor of no dimensions has no neighbours"); return NULL; }
    int64_t n = y->shape[*dim];
    aj_tensor *s = do_mul_n(do_add(do_narrow(y, *dim, n ? 1 : 0, n ? n - 1 : 0), do_narrow(y, *dim, 0, n ? n - 1 : 0)), x ? 0.5 : 0.5 * c->attrs->s);
    if (s && !aj_is_float(s->dtype)) s = do_cast(s, AJ_F32);
    if (!x) return s;
    aj_ints line = {y->ndim, {1, 1, 1, 1, 1, 1, 1, 1}};
    if (x->ndim == 1) {
        line.v[*dim] = x->numel;
        x = do_reshape(x, &line);
    } else if (x->ndim != y->ndim) { aj_refuse(c, "x has one dimension, or as many as y"); return NULL; }
    if (x && x->shape[*dim] != n) { aj_refuse(c, "x has %lld places along dimension %d, and y %lld", (long long)x->shape[*dim], *dim + 1, (long long)n); return NULL; }
    return do_mul(s, difference(x, *dim));
}
aj_tensor *trapezoid_compose(aj_call *c) {
    int dim = 0;
    aj_tensor *s = areas(c, &dim);
    return do_sum(s, dim, false);
}
aj_tensor *cumulative_trapezoid_compose(aj_call *c) {
    int dim = 0;
    aj_tensor *s = areas(c, &dim);
    return s ? aj_cumsum(s, dim) : NULL;
}
