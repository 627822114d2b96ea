/* stat.c - variances, norms, logsumexp, and the places of extremes.
 *
 * The first three bring what they reduce into rows, (kept, reduced), by recorded views, so that their gradients see two
 * dimensions and any set of them costs one code.
 */
#include "rule.h"
#include <math.h>

/* Input 0 as rows; its shape before decides the result's. */
static bool rows_shape(aj_call *c) {
    bool over[AJ_MAX_DIM];
    if (!aj_floats(c, 0) || !aj_dims_of(c, &c->attrs->list, c->in[0]->ndim, over)) return false;
    aj_reduced(c->in[0], over, c->attrs->keepdim, &c->spec[0]);
    return (c->in[0] = aj_as_rows(c->in[0], over)) != NULL;
}
/* One number a row as a column beside the rows. */
static aj_tensor *column(const aj_node *n, aj_tensor *t) {
    aj_ints shape = {2, {aj_sizes_in(n, 0).v[0], 1}};
    return t ? aj_live(aj_reshape(t, &shape)) : NULL;
}
static const aj_ints along = {1, {1}};
static aj_tensor *zero_like(aj_tensor *t) {
    aj_ints none = {0};
    return aj_full((aj_dtype)t->dtype, &none, t->device, 0);
}

/* -- Variance: y = sum (x - mean)^2 / (K - correction) ------------------------------------------------------------- */

bool var_shape(aj_call *c) { return rows_shape(c); }
bool std_shape(aj_call *c) { return rows_shape(c); }

static bool spread_vjp(aj_node *n, aj_tensor *g, aj_tensor **gx) {
    aj_tensor *x = aj_saved_in(n, 0), *m = aj_mean(x, &along, true), *d = m ? aj_sub(x, m) : NULL;
    double k = (double)x->shape[1] - n->attrs->s;
    g = d && g ? aj_mul_number(g, 2 / (k > 0 ? k : 0), false) : NULL;
    return g && (gx[0] = aj_mul(d, g));
}
bool var_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return spread_vjp(n, column(n, gy[0]), gx); }

/* A deviation of 0 has the gradient 0, and so have its gradients: what divides is never 0. */
bool std_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *y = column(n, aj_saved_out(n, 0)), *g = column(n, gy[0]);
    if (!y || !g) return false;
    aj_tensor *flat = aj_eq_number(y, 0, false), *safe = flat ? aj_masked_fill(y, flat, 1) : NULL;
    aj_tensor *q = safe ? aj_div(g, safe) : NULL, *zero = zero_like(g);
    if (!q || !zero || !(q = aj_where(flat, zero, q)) || !(q = aj_mul_number(q, 0.5, false))) return false;
    return spread_vjp(n, q, gx);
}

static aj_tensor *with_mean(aj_call *c, aj_tensor *y) {
    if (!y || !(c->out[1] = aj_live(aj_mean(c->in[0], &c->attrs->list, c->attrs->keepdim)))) return NULL;
    c->n_out = 2;
    return y;
}
aj_tensor *var_mean_compose(aj_call *c) { return with_mean(c, aj_var(c->in[0], &c->attrs->list, c->attrs->s, c->attrs->keepdim)); }
aj_tensor *std_mean_compose(aj_call *c) { return with_mean(c, aj_std(c->in[0], &c->attrs->list, c->attrs->s, c->attrs->keepdim)); }

/* -- Norm: (sum |x|^p)^(1/p) ------------------------------------------------------------------------------------------- */

bool norm_shape(aj_call *c) {
    if (c->attrs->s != c->attrs->s) return aj_refuse(c, "p is not a number");
    if (!rows_shape(c)) return false;
    if (isinf(c->attrs->s) && c->in[0]->shape[1] == 0 && c->in[0]->shape[0])
        return aj_refuse(c, "there are no elements, and an empty set has no largest or smallest");
    return true;
}

/* d y / d x = sign(x) |x|^(p-1) y^(1-p), and 0 where y is 0. */
bool norm_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    double p = n->attrs->s;
    aj_tensor *x = aj_saved_in(n, 0), *g = column(n, gy[0]), *d;
    if (!g) return false;
    if (p == 0) {
        aj_ints shape = aj_sizes(x);
        return (gx[0] = aj_full((aj_dtype)x->dtype, &shape, x->device, 0)) != NULL;
    }
    if (p == 1) return (d = aj_sign(x)) && (gx[0] = aj_mul(d, g));
    aj_tensor *y = column(n, aj_saved_out(n, 0)), *a = p == 2 ? x : aj_abs(x), *zero = zero_like(g);
    if (!y || !a || !zero) return false;
    if (isinf(p)) {                                      /* shared evenly among equal extremes */
        bool mode = aj_grad_mode(false);
        d = aj_eq(a, y);
        d = d ? aj_cast(d, (aj_dtype)x->dtype) : NULL;
        aj_tensor *count = d ? aj_sum(d, &along, true) : NULL, *s = aj_sign(x);
        d = count && s ? aj_mul(d, s) : NULL;
        d = d ? aj_div(d, count) : NULL;
        aj_grad_mode(mode);
        return d && (gx[0] = aj_mul(d, g));
    }
    aj_tensor *at_zero = aj_eq_number(y, 0, false), *q;
    if (p == 2) q = aj_div(g, y);
    else q = (q = aj_pow_number(y, 1 - p, false)) ? aj_mul(g, q) : NULL;
    if (!at_zero || !q || !(q = aj_where(at_zero, zero, q))) return false;
    if (p == 2) return (gx[0] = aj_mul(x, q)) != NULL;
    if (p < 1) {                                         /* an x of 0 has no finite slope: 0, as in PyTorch */
        aj_tensor *none = aj_eq_number(x, 0, false), *one = none ? aj_full((aj_dtype)x->dtype, &(aj_ints){0}, x->device, 1) : NULL;
        if (!one || !(a = aj_where(none, one, a))) return false;
    }
    aj_tensor *s = aj_sign(x), *r = aj_pow_number(a, p - 1, false);
    return s && r && (r = aj_mul(s, r)) && (gx[0] = aj_mul(r, q));
}

/* -- logsumexp --------------------------------------------------------------------------------------------------------- */

bool logsumexp_shape(aj_call *c) {
    if (!aj_given(c, 0, 1) || (!aj_is_float(c->in[0]->dtype) && !aj_cast_inputs(c, 0, 1, AJ_F32))) return false;
    return rows_shape(c);
}
bool logsumexp_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *x = aj_saved_in(n, 0), *y = column(n, aj_saved_out(n, 0)), *g = column(n, gy[0]);
    aj_tensor *d = y ? aj_sub(x, y) : NULL;
    return g && d && (d = aj_exp(d)) && (gx[0] = aj_mul(d, g));
}

/* -- Places of extremes --------------------------------------------------------------------------------------------------- */

/* The dimension searched is attrs->dim from here on; without one, x becomes a single run. */
static bool place_shape(aj_call *c, aj_spec *y) {
    if (!aj_given(c, 0, 1)) return false;
    bool over[AJ_MAX_DIM] = {false};
    aj_tensor *x = c->in[0];
    if (c->attrs->dim == AJ_NO_DIM) {
        for (int d = 0; d < x->ndim; d++) over[d] = true;
        aj_reduced(x, over, c->attrs->keepdim, y);
        aj_ints flat = {1, {x->numel}};
        if (!(c->in[0] = x = aj_live(aj_reshape(x, &flat)))) return false;
        c->attrs->dim = 0;
    } else {
        int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
        if (dim < 0) return false;
        over[dim] = x->ndim > 0;
        aj_reduced(x, over, c->attrs->keepdim, y);
        c->attrs->dim = dim;
    }
    if (x->ndim && x->shape[c->attrs->dim] == 0)
        return aj_refuse(c, "dimension %d has no elements, and an empty set has no largest or smallest", c->attrs->dim + 1);
    return true;
}

bool argmax_shape(aj_call *c) {
    if (!place_shape(c, &c->spec[0])) return false;
    c->spec[0].dtype = AJ_I64;
    return true;
}
bool argmin_shape(aj_call *c) { return argmax_shape(c); }
bool argmax_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }
bool argmin_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }

bool max_dim_shape(aj_call *c) {
    if (!place_shape(c, &c->spec[0])) return false;
    c->spec[1] = c->spec[0];
    c->spec[1].dtype = AJ_I64;
    c->n_out = 2;
    return true;
}
bool min_dim_shape(aj_call *c) { return max_dim_shape(c); }

/* The gradient goes to the chosen element: where the position along dim is the index. */
bool max_dim_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    if (!gy[0]) return true;
    aj_ints of = aj_sizes_in(n, 0), side = of, line = {of.n, {1, 1, 1, 1, 1, 1, 1, 1}};
    if (of.n == 0) return (gx[0] = gy[0]) != NULL;
    int dim = n->attrs->dim;
    side.v[dim] = 1;
    line.v[dim] = of.v[dim];
    aj_tensor *at = aj_reshape(n->out[1].t, &side), *g = aj_reshape(gy[0], &side), *zero = zero_like(gy[0]);
    aj_tensor *place = aj_arange(AJ_I64, gy[0]->device, n->attrs->base, 1, of.v[dim]);
    place = place ? aj_reshape(place, &line) : NULL;
    aj_tensor *chosen = at && place ? aj_eq(at, place) : NULL;
    return g && zero && chosen && (gx[0] = aj_where(chosen, g, zero));
}
bool min_dim_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return max_dim_vjp(n, gy, gx); }
