/* conv.c - convolutions over one to three dimensions. Three maps, each linear in both of its operands, have each other
 * as gradients, so that gradients exist to any order:
 *   conv(x, w) -> y      conv_grad_input(y, w) -> x      conv_grad_weight(y, x) -> w
 * with <y', conv(x, w)> = <conv_grad_input(y', w), x> = <conv_grad_weight(y', x), w>. A transposed convolution is
 * conv_grad_input with a bias. Images may come without their batch dimension.
 */
#include "rule.h"

/* Common checks of an image of nd spatial dimensions, a weight, and the window's parameters; makes the operands dense. */
static bool check(aj_call *c, int nd, int x_channels) {
    aj_attrs *a = c->attrs;
    for (int k = 0; k < 2; k++)
        if (!c->in[k]) return aj_error("%s: the %s is nil, where a tensor is wanted", aj_op_name(c->op), k ? "weight" : "input");
    const aj_tensor *x = c->in[0], *w = c->in[1];
    if (w->ndim != nd + 2) return aj_refuse(c, "the weight has %d dimensions, and must have %d: output channels, input channels and %d of the kernel", w->ndim, nd + 2, nd);
    if (x->ndim != nd + 2 && x->ndim != nd + 1) return aj_refuse(c, "the input has %d dimensions, and must have %d, or %d without a batch", x->ndim, nd + 2, nd + 1);
    if (a->groups < 1) return aj_refuse(c, "groups is %d, and must be at least 1", a->groups);
    for (int i = 0; i < nd; i++) {
        if (a->stride.v[i] < 1) return aj_refuse(c, "stride %d is not positive", a->stride.v[i]);
        if (a->dilation.v[i] < 1) return aj_refuse(c, "dilation %d is not positive", a->dilation.v[i]);
        if (a->padding.v[i] < 0) return aj_refuse(c, "padding %d is negative", a->padding.v[i]);
        if (w->shape[2 + i] < 1) return aj_refuse(c, "the kernel is empty");
    }
    int64_t have = x->shape[x->ndim - nd - 1], want = x_channels ? w->shape[1] * a->groups : w->shape[0];
    if (have != want)
        return aj_refuse(c, "the input has %lld channels, and a weight of this shape in %d group%s wants %lld", (long long)have, a->groups, a->groups > 1 ? "s" : "", (long long)want);
    if (w->shape[0] % a->groups) return aj_refuse(c, "the %lld channels of the weight's first dimension do not divide into %d groups", (long long)w->shape[0], a->groups);
    if (x->dtype == AJ_BOOL) return aj_refuse(c, "is not for bools; convert them with :float()");
    if (!aj_same_dtype(c)) return false;
    if (c->n_in > 2 && c->in[2]) {
        int64_t out = x_channels ? w->shape[0] : w->shape[1] * a->groups;
        if (c->in[2]->ndim != 1 || c->in[2]->shape[0] != out) return aj_refuse(c, "the bias must have one element for each of the %lld output channels", (long long)out);
    }
    for (int k = 0; k < c->n_in; k++)
        if (c->in[k] && c->in[k]->device < 0 && !c->in[k]->contiguous && !(c->in[k] = aj_live(aj_contiguous(c->in[k])))) return false;
    return true;
}

/* Positions of the kernel along dimension i; at most 0: it does not fit. */
static int64_t positions(const aj_attrs *a, int i, int64_t size, int64_t kernel) {
    int64_t room = size + 2 * (int64_t)a->padding.v[i] - a->dilation.v[i] * (kernel - 1) - 1;
    return room < 0 ? 0 : room / a->stride.v[i] + 1;
}

static bool conv_shape(aj_call *c, int nd) {
    if (!check(c, nd, 1)) return false;
    const aj_tensor *x = c->in[0], *w = c->in[1];
    aj_spec *y = &c->spec[0];
    aj_spec_like(y, x);
    int at = x->ndim - nd;
    y->shape[at - 1] = w->shape[0];
    for (int i = 0; i < nd; i++) {
        y->shape[at + i] = positions(c->attrs, i, x->shape[at + i], w->shape[2 + i]);
        if (y->shape[at + i] < 1)
            return aj_refuse(c, "the kernel reaches over %lld, more than the padded input's %lld: pad more, or take a smaller kernel",
                             (long long)(c->attrs->dilation.v[i] * (w->shape[2 + i] - 1) + 1), (long long)(x->shape[at + i] + 2 * (int64_t)c->attrs->padding.v[i]));
    }
    return true;
}

static aj_ints list_of(aj_triple t) { return (aj_ints){3, {t.v[0], t.v[1], t.v[2]}}; }
static aj_ints shape_of(const aj_node *n, int k) {
    const aj_spec *s = &n->edge[k].node->spec[n->edge[k].out];
    aj_ints v = {s->ndim, {0}};
    for (int d = 0; d < s->ndim; d++) v.v[d] = s->shape[d];
    return v;
}

/* The three maps with the window of some attributes. */
static aj_tensor *conv(const aj_attrs *a, aj_tensor *x, aj_tensor *w) {
    aj_ints s = list_of(a->stride), p = list_of(a->padding), l = list_of(a->dilation);
    return w->ndim == 3 ? aj_conv1d(x, w, NULL, &s, &p, &l, a->groups) : w->ndim == 4 ? aj_conv2d(x, w, NULL, &s, &p, &l, a->groups)
                                                                     : aj_conv3d(x, w, NULL, &s, &p, &l, a->groups);
}
static aj_tensor *to_input(const aj_attrs *a, aj_tensor *g, aj_tensor *w, const aj_ints *size) {
    aj_ints s = list_of(a->stride), p = list_of(a->padding), l = list_of(a->dilation);
    return aj_conv_grad_input(g, w, size, &s, &p, &l, a->groups);
}
static aj_tensor *to_weight(const aj_attrs *a, aj_tensor *g, aj_tensor *x, const aj_ints *size) {
    aj_ints s = list_of(a->stride), p = list_of(a->padding), l = list_of(a->dilation);
    return aj_conv_grad_weight(g, x, size, &s, &p, &l, a->groups);
}
static aj_tensor *to_bias(aj_tensor *g, int nd) {
    aj_ints over = {0};
    for (int d = 0; d < g->ndim; d++) if (d != g->ndim - nd - 1) over.v[over.n++] = d;
    return aj_sum(g, &over, false);
}

/* conv, but for positions beyond those that there were: an input may be larger than its positions need (see
 * output_padding of a transposed convolution). */
static aj_tensor *conv_like(const aj_attrs *a, aj_tensor *x, aj_tensor *w, const aj_ints *size) {
    aj_tensor *y = aj_live(conv(a, x, w));
    for (int d = 0; d < size->n && y; d++)
        if (y->shape[d] > size->v[d]) y = aj_live(aj_slice(y, d, 0, size->v[d] - 1, 1));
    return y;
}

static bool conv_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx, int nd) {
    if (aj_wants(n, 0)) {
        aj_ints size = shape_of(n, 0);
        if (!(gx[0] = to_input(n->attrs, gy[0], aj_saved_in(n, 1), &size))) return false;
    }
    if (aj_wants(n, 1)) {
        aj_ints size = shape_of(n, 1);
        if (!(gx[1] = to_weight(n->attrs, gy[0], aj_saved_in(n, 0), &size))) return false;
    }
    return !aj_wants(n, 2) || (gx[2] = to_bias(gy[0], nd)) != NULL;
}
bool conv1d_shape(aj_call *c) { return conv_shape(c, 1); }
bool conv2d_shape(aj_call *c) { return conv_shape(c, 2); }
bool conv3d_shape(aj_call *c) { return conv_shape(c, 3); }
bool conv1d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return conv_vjp(n, gy, gx, 1); }
bool conv2d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return conv_vjp(n, gy, gx, 2); }
bool conv3d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return conv_vjp(n, gy, gx, 3); }

/* -- The gradients as ops ------------------------------------------------------------------------------------------------ */

bool conv_grad_input_shape(aj_call *c) {
    if (!c->in[1]) return aj_error("conv_grad_input: the weight is nil, where a tensor is wanted");
    int nd = c->in[1]->ndim - 2;
    const aj_ints *size = &c->attrs->list;
    if (nd < 1 || nd > 3) return aj_refuse(c, "the weight has %d dimensions, and must have 3 to 5", nd + 2);
    if (!check(c, nd, 0)) return false;
    const aj_tensor *g = c->in[0], *w = c->in[1];
    aj_spec *x = &c->spec[0];
    if (size->n != g->ndim) return aj_refuse(c, "%d sizes for a gradient of %d dimensions", size->n, g->ndim);
    x->dtype = g->dtype;
    x->ndim = g->ndim;
    for (int d = 0; d < size->n; d++) x->shape[d] = size->v[d];
    int at = g->ndim - nd;
    if (x->shape[at - 1] != w->shape[1] * c->attrs->groups || (at == 2 && x->shape[0] != g->shape[0])) return aj_refuse(c, "the size does not fit the gradient and the weight");
    for (int i = 0; i < nd; i++)
        if (positions(c->attrs, i, x->shape[at + i], w->shape[2 + i]) < g->shape[at + i])
            return aj_refuse(c, "a convolution of size %lld along dimension %d has fewer than %lld positions", (long long)x->shape[at + i], at + i + 1, (long long)g->shape[at + i]);
    return true;
}
bool conv_grad_input_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    if (aj_wants(n, 0)) {
        aj_ints size = shape_of(n, 0);
        if (!(gx[0] = conv_like(n->attrs, gy[0], aj_saved_in(n, 1), &size))) return false;
    }
    if (!aj_wants(n, 1)) return true;
    aj_ints size = shape_of(n, 1);
    return (gx[1] = to_weight(n->attrs, aj_saved_in(n, 0), gy[0], &size)) != NULL;
}

bool conv_grad_weight_shape(aj_call *c) {
    for (int k = 0; k < 2; k++)
        if (!c->in[k]) return aj_error("conv_grad_weight: the %s is nil, where a tensor is wanted", k ? "input" : "gradient");
    const aj_tensor *g = c->in[0], *x = c->in[1];
    const aj_attrs *a = c->attrs;
    aj_spec *w = &c->spec[0];
    int nd = a->list.n - 2, at = x->ndim - nd;
    if (nd < 1 || nd > 3 || g->ndim != x->ndim || at < 1 || at > 2) return aj_refuse(c, "the gradient, the input and the size do not agree in their dimensions");
    if (!aj_same_dtype(c)) return false;
    w->dtype = g->dtype;
    w->ndim = (uint8_t)a->list.n;
    for (int d = 0; d < w->ndim; d++) w->shape[d] = a->list.v[d];
    if (a->groups < 1 || w->shape[0] != g->shape[at - 1] || w->shape[1] * a->groups != x->shape[at - 1] || w->shape[0] % a->groups || (at == 2 && g->shape[0] != x->shape[0]))
        return aj_refuse(c, "the channels of the gradient, the input and the size do not agree");
    for (int i = 0; i < nd; i++)
        if (a->stride.v[i] < 1 || a->dilation.v[i] < 1 || a->padding.v[i] < 0 || positions(a, i, x->shape[at + i], w->shape[2 + i]) < g->shape[at + i])
            return aj_refuse(c, "a convolution of size %lld along dimension %d has fewer than %lld positions", (long long)x->shape[at + i], at + i + 1, (long long)g->shape[at + i]);
    for (int k = 0; k < 2; k++)
        if (c->in[k]->device < 0 && !c->in[k]->contiguous && !(c->in[k] = aj_live(aj_contiguous(c->in[k])))) return false;
    return true;
}
bool conv_grad_weight_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    if (aj_wants(n, 0)) {
        aj_ints size = shape_of(n, 0);
        if (!(gx[0] = conv_like(n->attrs, aj_saved_in(n, 1), gy[0], &size))) return false;
    }
    if (!aj_wants(n, 1)) return true;
    aj_ints size = shape_of(n, 1);
    return (gx[1] = to_input(n->attrs, aj_saved_in(n, 0), gy[0], &size)) != NULL;
}

/* -- Transposed convolutions ------------------------------------------------------------------------------------------------ */

static bool conv_transpose_shape(aj_call *c, int nd) {
    if (!check(c, nd, 0)) return false;
    const aj_tensor *x = c->in[0], *w = c->in[1];
    const aj_attrs *a = c->attrs;
    aj_spec *y = &c->spec[0];
    aj_spec_like(y, x);
    int at = x->ndim - nd;
    y->shape[at - 1] = w->shape[1] * a->groups;
    for (int i = 0; i < nd; i++) {
        int extra = a->output_padding.v[i];
        if (extra < 0 || (extra >= a->stride.v[i] && extra >= a->dilation.v[i]))
            return aj_refuse(c, "output_padding %d must be smaller than the stride or the dilation", extra);
        y->shape[at + i] = (x->shape[at + i] - 1) * a->stride.v[i] - 2 * (int64_t)a->padding.v[i] + a->dilation.v[i] * (w->shape[2 + i] - 1) + extra + 1;
        if (y->shape[at + i] < 1) return aj_refuse(c, "the result would have size %lld along dimension %d", (long long)y->shape[at + i], at + i + 1);
    }
    return true;
}
static bool conv_transpose_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx, int nd) {
    const aj_attrs *a = n->attrs;
    aj_tensor *g = gy[0];
    if (aj_wants(n, 2) && !(gx[2] = to_bias(g, nd))) return false;
    if (!aj_wants(n, 0) && !aj_wants(n, 1)) return true;
    if (aj_wants(n, 0)) {
        aj_ints size = shape_of(n, 0);
        if (!(gx[0] = conv_like(a, g, aj_saved_in(n, 1), &size))) return false;
    }
    if (!aj_wants(n, 1)) return true;
    aj_ints size = shape_of(n, 1);
    return (gx[1] = to_weight(a, aj_saved_in(n, 0), g, &size)) != NULL;
}
bool conv_transpose1d_shape(aj_call *c) { return conv_transpose_shape(c, 1); }
bool conv_transpose2d_shape(aj_call *c) { return conv_transpose_shape(c, 2); }
bool conv_transpose3d_shape(aj_call *c) { return conv_transpose_shape(c, 3); }
bool conv_transpose1d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return conv_transpose_vjp(n, gy, gx, 1); }
bool conv_transpose2d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return conv_transpose_vjp(n, gy, gx, 2); }
bool conv_transpose3d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return conv_transpose_vjp(n, gy, gx, 3); }
