/* mask.c - elements chosen by bools, and where they are. */
#include "rule.h"

static bool is_mask(const aj_call *c, int k) {
    return c->in[k]->dtype == AJ_BOOL || aj_refuse(c, "the mask is of bools, not %s; compare it, mask:ne(0)", aj_dtype_name((aj_dtype)c->in[k]->dtype));
}

/* The mask seen in the shape of x, which it must broadcast to. */
static bool spread_mask(aj_call *c) {
    const aj_tensor *x = c->in[0], *m = c->in[1];
    bool fit = m->ndim <= x->ndim;
    for (int d = 0; fit && d < m->ndim; d++) { int64_t s = m->shape[d]; fit = s == 1 || s == x->shape[x->ndim - m->ndim + d]; }
    if (!fit) return aj_refuse(c, "the mask does not broadcast to the first tensor");
    aj_ints shape = aj_sizes(x);
    if (m->storage == x->storage && !(c->in[1] = aj_live(aj_clone(c->in[1])))) return false;
    return (c->in[1] = aj_live(aj_expand(c->in[1], &shape))) != NULL;
}

aj_tensor *masked_fill_compose(aj_call *c) {
    if (!aj_given(c, 0, 2) || !is_mask(c, 1)) return NULL;
    aj_ints none = {0};
    aj_tensor *x = c->in[0], *v = aj_full((aj_dtype)x->dtype, &none, x->device, c->attrs->s);
    return v ? aj_where(c->in[1], v, x) : NULL;
}
bool masked_fill__check(aj_call *c) { return aj_given(c, 0, 2) && is_mask(c, 1) && aj_holds(c, c->attrs->s) && spread_mask(c); }
bool masked_fill__vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    return (gx[0] = aj_masked_fill(gy[0], aj_saved_in(n, 1), 0)) != NULL;
}

static bool count_true(aj_tensor *mask, int64_t *count) {
    aj_ints all = {-1, {0}};
    bool mode = aj_grad_mode(false);
    aj_tensor *n = aj_sum(mask, &all, false);
    aj_grad_mode(mode);
    return n && aj_get_int(n, NULL, count);
}

/* The size of the result is known when the mask has been read. */
bool masked_select_shape(aj_call *c) {
    aj_spec both;
    if (!aj_given(c, 0, 2) || !is_mask(c, 1) || !aj_broadcast(c, &both)) return false;
    aj_ints shape = {both.ndim, {0}};
    for (int d = 0; d < both.ndim; d++) shape.v[d] = both.shape[d];
    for (int k = 0; k < 2; k++) if (!(c->in[k] = aj_live(aj_expand(c->in[k], &shape)))) return false;
    c->spec[0].dtype = c->in[0]->dtype;
    c->spec[0].ndim = 1;
    return count_true(c->in[1], &c->spec[0].shape[0]);
}
bool masked_select_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints shape = aj_sizes_in(n, 0);
    aj_tensor *z = aj_full((aj_dtype)gy[0]->dtype, &shape, gy[0]->device, 0);
    return z && (gx[0] = aj_masked_scatter_(z, aj_saved_in(n, 1), gy[0]));
}

bool masked_scatter__check(aj_call *c) {
    if (!aj_given(c, 0, 3) || !is_mask(c, 1) || !spread_mask(c)) return false;
    int64_t count = 0;
    if (c->in[1]->device != AJ_META && !count_true(c->in[1], &count)) return false;
    if (count > c->in[2]->numel) return aj_refuse(c, "the mask chooses %lld elements, and the source has only %lld", (long long)count, (long long)c->in[2]->numel);
    if (!aj_cast_inputs(c, 2, 1, c->in[0]->dtype)) return false;
    if (c->in[2]->storage == c->in[0]->storage && !(c->in[2] = aj_live(aj_clone(c->in[2])))) return false;
    return (c->in[2] = aj_live(aj_contiguous(c->in[2]))) != NULL;
}
bool masked_scatter__vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *mask = aj_saved_in(n, 1);
    if (aj_wants(n, 0) && !(gx[0] = aj_masked_fill(gy[0], mask, 0))) return false;
    if (!aj_wants(n, 2)) return true;
    aj_tensor *g = aj_live(aj_masked_select(gy[0], mask));
    if (!g) return false;
    aj_ints shape = aj_sizes_in(n, 2), before = {1, {0}}, after = {1, {-g->numel}};
    for (int64_t d = 0, all = 1; d <= shape.n; d++) { if (d == shape.n) after.v[0] += all; else all *= shape.v[d]; }
    if (after.v[0] && !(g = aj_live(aj_constant_pad(g, &before, &after, 0)))) return false;
    return (gx[2] = aj_reshape(g, &shape)) != NULL;
}
aj_tensor *masked_scatter_compose(aj_call *c) {
    if (!aj_given(c, 0, 3)) return NULL;
    aj_call both = {.op = c->op, .n_in = 2, .in = c->in};
    aj_spec spec;
    if (!aj_broadcast(&both, &spec)) return NULL;
    aj_ints shape = {spec.ndim, {0}};
    for (int d = 0; d < spec.ndim; d++) shape.v[d] = spec.shape[d];
    aj_tensor *y = aj_expand(c->in[0], &shape);
    y = y ? aj_clone(y) : NULL;
    return y ? aj_masked_scatter_(y, c->in[1], c->in[2]) : NULL;
}

bool nonzero_shape(aj_call *c) {
    if (!aj_given(c, 0, 1)) return false;
    aj_tensor *x = c->in[0];
    c->spec[0].dtype = AJ_I64;
    c->spec[0].ndim = 2;
    c->spec[0].shape[1] = x->ndim;
    aj_tensor *m = x->dtype == AJ_BOOL ? x : aj_live(aj_ne_number(x, 0, false));
    if (!m || !(c->in[0] = aj_live(aj_contiguous(m)))) return false;
    return count_true(c->in[0], &c->spec[0].shape[0]);
}
bool nonzero_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }
