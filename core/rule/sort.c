/* sort.c - order: sort, topk; and whether tensors are equal. */
#include "compose.h"

/* The gradient goes back to where the values came from. */
static bool ordered_vjp(aj_node *n, aj_tensor *gy, aj_tensor **gx) {
    aj_ints shape = aj_sizes_in(n, 0);
    if (!gy) return true;
    aj_tensor *z = aj_full((aj_dtype)gy->dtype, &shape, gy->device, 0);
    return z && (gx[0] = aj_scatter_(z, n->attrs->dim, aj_saved_out(n, 1), gy, n->attrs->base));
}

bool sort_shape(aj_call *c) { return aj_values_and_places(c); }
bool sort_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return ordered_vjp(n, gy[0], gx); }

aj_tensor *argsort_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    bool mode = aj_grad_mode(false);
    aj_tensor *y = aj_sort(c->in[0], c->attrs->dim, c->attrs->flag, c->attrs->flag2, c->attrs->base);
    aj_grad_mode(mode);
    return y ? aj_result(2) : NULL;
}

bool topk_shape(aj_call *c) {
    if (!sort_shape(c)) return false;
    aj_tensor *x = c->in[0];
    int64_t size = x->ndim ? x->shape[c->attrs->dim] : 1, k = c->attrs->i;
    if (k < 0 || k > size) return aj_refuse(c, "k is %lld, and must be from 0 to %lld, the size of dimension %d", (long long)k, (long long)size, c->attrs->dim + 1);
    if (x->ndim) c->spec[0].shape[c->attrs->dim] = c->spec[1].shape[c->attrs->dim] = k;
    else if (k != 1) return aj_refuse(c, "k is %lld, and must be 1 for a tensor of no dimensions", (long long)k);
    return true;
}
bool topk_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return ordered_vjp(n, gy[0], gx); }

/* -- Equality ------------------------------------------------------------------------------------------------------- */

static aj_tensor *all_of(aj_tensor *t) {
    aj_ints all = {-1, {0}};
    return t ? aj_all(t, &all, false) : NULL;
}
aj_tensor *equal_compose(aj_call *c) {
    if (!aj_given(c, 0, 2)) return NULL;
    aj_ints none = {0};
    if (!aj_same_shape(c->in[0], c->in[1])) return aj_full(AJ_BOOL, &none, c->in[0]->device, 0);
    return all_of(aj_eq(c->in[0], c->in[1]));
}

/* |a - b| <= atol + rtol * |b|, or the same infinity, or both NaN where those count as equal. */
static aj_tensor *close_to(aj_call *c) {
    aj_spec s;
    if (!aj_given(c, 0, 2) || !aj_broadcast(c, &s)) return NULL;
    if (!(c->attrs->s >= 0 && c->attrs->t >= 0)) { aj_refuse(c, "rtol is %g and atol %g, and neither may be negative", c->attrs->s, c->attrs->t); return NULL; }
    aj_tensor *a = c->in[0], *b = c->in[1];
    bool mode = aj_grad_mode(false);
    if (!aj_is_float(a->dtype)) a = do_cast(a, AJ_F64);
    if (!aj_is_float(b->dtype)) b = do_cast(b, AJ_F64);
    aj_tensor *off = do_abs(do_sub(a, b)), *room = do_add_n(do_mul_n(do_abs(b), c->attrs->s), c->attrs->t);
    aj_tensor *y = do_logical_or(do_logical_and(do_le(off, room), do_isfinite(off)), do_eq(a, b));
    if (c->attrs->flag) y = do_logical_or(y, do_logical_and(do_isnan(a), do_isnan(b)));
    aj_grad_mode(mode);
    return y;
}
aj_tensor *isclose_compose(aj_call *c) { return close_to(c); }
aj_tensor *allclose_compose(aj_call *c) { return all_of(close_to(c)); }
