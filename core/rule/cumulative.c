/* cumulative.c - sums and products of all elements up to each place. */
#include "rule.h"

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
