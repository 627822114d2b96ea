/* activation.c - activations of more than one number: gates, and slopes that are learnt. */
#include "compose.h"

aj_tensor *glu_compose(aj_call *c) {
    if (!aj_floats(c, 0)) return NULL;
    aj_tensor *x = c->in[0];
    if (!x->ndim) { aj_refuse(c, "a tensor of no dimensions has no halves"); return NULL; }
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0) return NULL;
    int64_t half = x->shape[dim] / 2;
    if (x->shape[dim] % 2) { aj_refuse(c, "size %lld along dimension %d is odd, and has no halves", (long long)x->shape[dim], dim + 1); return NULL; }
    aj_tensor *gate = do_narrow(x, dim, half, half);
    return gate ? do_mul(do_narrow(x, dim, 0, half), aj_live(aj_sigmoid(gate))) : NULL;
}

aj_tensor *prelu_compose(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_floats(c, 1)) return NULL;
    aj_tensor *x = c->in[0], *w = c->in[1];
    int64_t channels = x->ndim > 1 ? x->shape[1] : 1;
    if (w->ndim > 1 || (w->numel != 1 && w->numel != channels)) {
        aj_refuse(c, "the weight must be one number, or one for each of the %lld channels", (long long)channels);
        return NULL;
    }
    if (x->dtype != w->dtype) { aj_refuse(c, "the input is of %s and the weight of %s, and they must agree", aj_dtype_name((aj_dtype)x->dtype), aj_dtype_name((aj_dtype)w->dtype)); return NULL; }
    aj_ints shape = {x->ndim, {0}};
    for (int d = 0; d < x->ndim; d++) shape.v[d] = d == 1 ? w->numel : 1;
    return do_where(do_gt_n(x, 0), x, do_mul(x, do_reshape(w, &shape)));
}
