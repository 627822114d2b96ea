/* quantized.c - products of eight-bit whole numbers, for inference: no gradients. Inputs of any integer dtype are taken,
 * and must fit in eight bits; sums are exact in 32 bits up to 66,000 products of the largest numbers each.
 */
#include "rule.h"
#include <math.h>

bool quantize_shape(aj_call *c) {
    if (!aj_floats(c, 0)) return false;
    double scale = c->attrs->s;
    if (!(scale > 0) || isinf(scale)) return aj_refuse(c, "scale is %g, and must be positive", scale);
    aj_spec_like(&c->spec[0], c->in[0]);
    c->spec[0].dtype = c->attrs->flag ? AJ_I8 : AJ_U8;
    return true;
}

/* The operands: x and weight of eight bits, scale and bias of floats, one for each of n outputs. */
static bool operands(aj_call *c, int64_t n) {
    if (!aj_index_dtype(c, 1) || !aj_floats(c, 2)) return false;
    if (c->in[0]->dtype != AJ_U8 && c->in[0]->dtype != AJ_I8 && !aj_cast_inputs(c, 0, 1, AJ_I8)) return false;
    if (!aj_cast_inputs(c, 1, 1, AJ_I8)) return false;
    if (c->in[3] && !aj_floats(c, 3)) return false;
    for (int k = 2; k < 4; k++)
        if (c->in[k] && (c->in[k]->ndim != 1 || c->in[k]->shape[0] != n))
            return aj_refuse(c, "the %s must have one element for each of the %lld outputs", k == 2 ? "scale" : "bias", (long long)n);
    double s = c->attrs->s;
    if (!(s >= 0) || isinf(s)) return aj_refuse(c, "out_scale is %g, and must be positive, or 0 for a result of floats", s);
    c->spec[0].dtype = s > 0 ? (c->attrs->flag ? AJ_U8 : AJ_I8) : c->in[2]->dtype;
    if (!aj_cast_inputs(c, 2, 2, AJ_F32)) return false;
    for (int k = 0; k < 4; k++)
        if (c->in[k] && !c->in[k]->contiguous && !(c->in[k] = aj_live(aj_contiguous(c->in[k])))) return false;
    return true;
}

bool quantized_linear_shape(aj_call *c) {
    if (!aj_given(c, 0, 3) || !aj_index_dtype(c, 0)) return false;
    const aj_tensor *x = c->in[0], *w = c->in[1];
    if (w->ndim != 2) return aj_refuse(c, "the weight has %d dimensions, and must have 2: outputs x inputs", w->ndim);
    if (x->ndim < 1 || x->shape[x->ndim - 1] != w->shape[1])
        return aj_refuse(c, "the rows of the input must have the weight's %lld inputs", (long long)w->shape[1]);
    aj_spec_like(&c->spec[0], x);
    c->spec[0].shape[x->ndim - 1] = w->shape[0];
    return operands(c, w->shape[0]);
}

bool quantized_conv2d_shape(aj_call *c) {
    if (!aj_given(c, 0, 3) || !aj_index_dtype(c, 0)) return false;
    const aj_tensor *x = c->in[0], *w = c->in[1];
    const aj_attrs *a = c->attrs;
    if (x->ndim != 4) return aj_refuse(c, "the input has %d dimensions, and must have 4: N x H x W x C", x->ndim);
    if (w->ndim != 4) return aj_refuse(c, "the weight has %d dimensions, and must have 4: outputs x inputs / groups x kernel", w->ndim);
    if (a->groups < 1 || w->shape[0] % a->groups) return aj_refuse(c, "the weight's %lld outputs do not divide into %d groups", (long long)w->shape[0], a->groups);
    if (x->shape[3] != w->shape[1] * a->groups)
        return aj_refuse(c, "the input has %lld channels, its last dimension, and a weight of this shape in %d groups wants %lld",
                         (long long)x->shape[3], a->groups, (long long)w->shape[1] * a->groups);
    if (a->k < 1) return aj_refuse(c, "pool is %lld, and must be at least 1", (long long)a->k);
    aj_spec *y = &c->spec[0];
    aj_spec_like(y, x);
    y->shape[3] = w->shape[0];
    for (int i = 0; i < 2; i++) {
        if (a->stride.v[i] < 1 || a->dilation.v[i] < 1 || a->padding.v[i] < 0 || w->shape[2 + i] < 1)
            return aj_refuse(c, "stride and dilation must be positive, padding at least 0, and the kernel not empty");
        int64_t room = x->shape[1 + i] + 2 * (int64_t)a->padding.v[i] - a->dilation.v[i] * (w->shape[2 + i] - 1) - 1;
        y->shape[1 + i] = room < 0 ? 0 : (room / a->stride.v[i] + 1) / a->k;
        if (y->shape[1 + i] < 1) return aj_refuse(c, "the kernel, or the pool after it, reaches over more than the padded input along dimension %d", i + 2);
    }
    return operands(c, w->shape[0]);
}

static bool none(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }
bool quantize_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return none(n, gy, gx); }
bool quantized_linear_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return none(n, gy, gx); }
bool quantized_conv2d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return none(n, gy, gx); }
