/* copy.c - copies, conversions, choices between tensors. */
#include "rule.h"

bool clone_shape(aj_call *c) {
    if (!c->in[0]) return aj_error("clone: the input is nil, where a tensor is wanted");
    aj_spec_like(&c->spec[0], c->in[0]);
    return true;
}
bool clone_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    (void)n;
    gx[0] = gy[0];
    return true;
}

bool cast_shape(aj_call *c) {
    if (!c->in[0]) return aj_error("cast: the input is nil, where a tensor is wanted");
    if (c->attrs->dtype < 0 || c->attrs->dtype >= AJ_DTYPES) return aj_refuse(c, "there is no dtype number %d", c->attrs->dtype);
    aj_spec_like(&c->spec[0], c->in[0]);
    c->spec[0].dtype = (uint8_t)c->attrs->dtype;
    return true;
}
bool cast_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    gx[0] = aj_cast(gy[0], (aj_dtype)n->edge[0].node->spec[n->edge[0].out].dtype);
    return gx[0] != NULL;
}

bool to_device_shape(aj_call *c) {
    if (!aj_given(c, 0, 1)) return false;
    aj_spec_like(&c->spec[0], c->in[0]);
    return true;
}
bool to_device_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    gx[0] = aj_to_device(gy[0], n->edge[0].node->device, false);
    return gx[0] != NULL;
}

bool copy__check(aj_call *c) {
    if (!c->in[1]) return aj_error("copy_: the source is nil, where a tensor is wanted");
    if (!aj_broadcast(c, &c->spec[0])) return false;
    const aj_tensor *x = c->in[0];
    for (int d = 0; d < c->spec[0].ndim; d++)
        if (c->spec[0].ndim != x->ndim || c->spec[0].shape[d] != x->shape[d]) return aj_refuse(c, "the source does not broadcast to the first tensor");
    return true;
}
/* The old value is gone; the source gets all. */
bool copy__vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    int32_t home = n->edge[1].node ? n->edge[1].node->device : gy[0]->device;
    gx[1] = home == gy[0]->device ? gy[0] : aj_to_device(gy[0], home, false);
    return gx[1] != NULL;
}
bool fill__check(aj_call *c) { return aj_holds(c, c->attrs->s); }

bool where_shape(aj_call *c) {
    for (int k = 0; k < 3; k++) if (!c->in[k]) return aj_error("where: input %d is nil, where a tensor is wanted", k + 1);
    if (c->in[0]->dtype != AJ_BOOL) return aj_refuse(c, "the condition is of bools, not %s; compare it, x:ne(0)", aj_dtype_name((aj_dtype)c->in[0]->dtype));
    /* A rank-0 choice does not widen the other's dtype within a kind. */
    const aj_tensor *a = c->in[1], *b = c->in[2];
    int d = (int)aj_promote((aj_dtype)a->dtype, (aj_dtype)b->dtype);
    if (!a->ndim != !b->ndim) {
        const aj_tensor *full = a->ndim ? a : b, *one = a->ndim ? b : a;
        if (aj_is_float(full->dtype) >= aj_is_float(one->dtype) && (full->dtype != AJ_BOOL || one->dtype == AJ_BOOL)) d = full->dtype;
    }
    c->spec[0].dtype = (uint8_t)d;
    return aj_cast_inputs(c, 1, 2, d) && aj_broadcast(c, &c->spec[0]);
}
bool where_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *condition = aj_saved_in(n, 0);
    aj_ints none = {0};
    aj_tensor *zero = aj_full((aj_dtype)gy[0]->dtype, &none, gy[0]->device, 0);
    if (!zero) return false;
    if (aj_wants(n, 1) && !(gx[1] = aj_where(condition, gy[0], zero))) return false;
    if (aj_wants(n, 2) && !(gx[2] = aj_where(condition, zero, gy[0]))) return false;
    return true;
}
