/* resample.c - images of another size. Both ways of resampling are linear, so that each is the gradient of its gradient. */
#include "rule.h"
#include <math.h>
#include <string.h>

enum { NEAREST, LINEAR, AREA, CUBIC, EXACT };

int aj_resampling_named(const char *name) {
    if (!name || !strcmp(name, "nearest")) return NEAREST;
    if (!strcmp(name, "linear") || !strcmp(name, "bilinear") || !strcmp(name, "trilinear")) return LINEAR;
    return !strcmp(name, "area") ? AREA : !strcmp(name, "bicubic") ? CUBIC : !strcmp(name, "nearest-exact") ? EXACT : -1;
}

/* An image, and the sizes of another: of the last dimensions alone (nd of them), or of all. */
static bool resized(aj_call *c, int nd, bool all) {
    if (!c->in[0]) return aj_error("%s: the input is nil, where a tensor is wanted", aj_op_name(c->op));
    const aj_tensor *x = c->in[0];
    const aj_ints *size = &c->attrs->list;
    if (x->ndim < 3 || x->ndim > 5) return aj_refuse(c, "the input has %d dimensions, and must have 3 to 5: batch, channels, and those that are resized", x->ndim);
    if (x->dtype == AJ_BOOL) return aj_refuse(c, "is not for bools; convert them with :float()");
    if (c->attrs->mode == LINEAR && !aj_is_float(x->dtype)) return aj_refuse(c, "is not for %s; convert with :float()", aj_dtype_name((aj_dtype)x->dtype));
    if (all ? size->n != x->ndim : size->n != nd && size->n != 1) return aj_refuse(c, "the size has %d entries, and must have %d", size->n, all ? x->ndim : nd);
    if (c->attrs->s < 0) return aj_refuse(c, "scale_factor %g is negative", c->attrs->s);
    aj_spec *y = &c->spec[0];
    aj_spec_like(y, x);
    for (int d = all ? 0 : x->ndim - nd; d < x->ndim; d++) {
        y->shape[d] = all ? size->v[d] : size->v[size->n == 1 ? 0 : d - (x->ndim - nd)];
        if (d < 2 ? y->shape[d] != x->shape[d] : y->shape[d] < 1) return aj_refuse(c, "size %lld does not do for dimension %d", (long long)y->shape[d], d + 1);
        if (d >= 2 && x->shape[d] < 1) return aj_refuse(c, "dimension %d has no elements", d + 1);
    }
    return x->contiguous || (c->in[0] = aj_live(aj_contiguous(c->in[0]))) != NULL;
}

static aj_ints shape_of(const aj_node *n) {
    const aj_spec *s = &n->edge[0].node->spec[n->edge[0].out];
    aj_ints v = {s->ndim, {0}};
    for (int d = 0; d < s->ndim; d++) v.v[d] = s->shape[d];
    return v;
}
static aj_ints spatial_of(const aj_node *n) {
    aj_ints v = shape_of(n), s = {v.n - 2, {0}};
    for (int d = 0; d < s.n; d++) s.v[d] = v.v[d + 2];
    return s;
}

bool upsample_nearest_shape(aj_call *c) { return resized(c, c->in[0] ? c->in[0]->ndim - 2 : 1, false); }
bool upsample_nearest_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints size = shape_of(n);
    return (gx[0] = aj_upsample_nearest_grad(gy[0], &size, n->attrs->s, n->attrs->flag)) != NULL;
}
bool upsample_nearest_grad_shape(aj_call *c) { return resized(c, 0, true); }
bool upsample_nearest_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints size = spatial_of(n);
    return (gx[0] = aj_upsample_nearest(gy[0], &size, n->attrs->s, n->attrs->flag)) != NULL;
}
bool upsample_linear_shape(aj_call *c) { return resized(c, c->in[0] ? c->in[0]->ndim - 2 : 1, false); }
bool upsample_linear_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints size = shape_of(n);
    return (gx[0] = aj_upsample_linear_grad(gy[0], &size, n->attrs->flag, n->attrs->s)) != NULL;
}
bool upsample_linear_grad_shape(aj_call *c) { return resized(c, 0, true); }
bool upsample_linear_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints size = spatial_of(n);
    return (gx[0] = aj_upsample_linear(gy[0], &size, n->attrs->flag, n->attrs->s)) != NULL;
}

aj_tensor *interpolate_compose(aj_call *c) {
    aj_tensor *x = c->in[0];
    const aj_attrs *a = c->attrs;
    if (!x) { aj_error("interpolate: the input is nil, where a tensor is wanted"); return NULL; }
    if (a->mode < 0) { aj_refuse(c, "the mode must be nearest, nearest-exact, linear, bilinear, trilinear, bicubic or area"); return NULL; }
    if (x->ndim < 3 || x->ndim > 5) { aj_refuse(c, "the input has %d dimensions, and must have 3 to 5: batch, channels, and those that are resized", x->ndim); return NULL; }
    if ((a->list.n > 0) == (a->s > 0)) { aj_refuse(c, "give either size or a positive scale_factor"); return NULL; }
    if (a->flag2 && a->list.n > 0) { aj_refuse(c, "recompute_scale_factor is for a scale_factor, and here is a size"); return NULL; }
    if (a->flag && a->mode != LINEAR && a->mode != CUBIC) { aj_refuse(c, "align_corners is for linear and cubic modes only"); return NULL; }
    aj_ints size = a->list;
    if (size.n <= 0) {
        size.n = x->ndim - 2;
        for (int d = 0; d < size.n; d++) size.v[d] = (int64_t)floor((double)x->shape[d + 2] * a->s);
    }
    double factor = a->flag2 ? 0 : a->s;
    if (a->mode == NEAREST || a->mode == EXACT) return aj_upsample_nearest(x, &size, factor, a->mode == EXACT);
    if (a->mode == LINEAR) return aj_upsample_linear(x, &size, a->flag, factor);
    if (a->mode == CUBIC) return aj_upsample_cubic(x, &size, a->flag, factor);
    return x->ndim == 3 ? aj_adaptive_avg_pool1d(x, &size) : x->ndim == 4 ? aj_adaptive_avg_pool2d(x, &size) : aj_adaptive_avg_pool3d(x, &size);
}
