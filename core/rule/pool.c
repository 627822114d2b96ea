/* pool.c - pooling. The largest of a window: the result and where it was, over the spatial dimensions of one channel,
 * hidden or asked for; its gradient puts numbers at those places, whose own gradient picks them from there. The
 * mean of a window is linear, and its gradient's gradient the mean again.
 */
#include "compose.h"

static bool image(aj_call *c, int nd, bool of_floats) {
    if (!c->in[0]) return aj_error("%s: the input is nil, where a tensor is wanted", aj_op_name(c->op));
    aj_tensor *x = c->in[0];
    if (x->ndim != nd + 2 && x->ndim != nd + 1) return aj_refuse(c, "the input has %d dimensions, and must have %d, or %d without a batch", x->ndim, nd + 2, nd + 1);
    if (x->dtype == AJ_BOOL || (of_floats && !aj_is_float(x->dtype))) return aj_refuse(c, "is not for %s; convert with :float()", aj_dtype_name((aj_dtype)x->dtype));
    for (int d = x->ndim - nd; d < x->ndim; d++) if (x->shape[d] == 0) return aj_refuse(c, "dimension %d has no elements", d + 1);
    if (x->device < 0 && !x->contiguous && !(c->in[0] = aj_live(aj_contiguous(x)))) return false;
    return true;
}

/* Positions of the window along each dimension; with flag (ceil_mode) a last one that begins inside but ends beyond. */
static bool windows(aj_call *c, int nd, int dilated) {
    aj_attrs *a = c->attrs;
    const aj_tensor *x = c->in[0];
    aj_spec *y = &c->spec[0];
    aj_spec_like(y, x);
    if (x->shape[x->ndim - nd - 1] == 0) return aj_refuse(c, "dimension %d has no channels", x->ndim - nd);
    for (int i = 0; i < nd; i++) {
        int d = x->ndim - nd + i;
        int64_t K = a->kernel.v[i], P = a->padding.v[i], L = dilated ? a->dilation.v[i] : 1;
        if (a->stride.v[i] == AJ_NO_DIM) a->stride.v[i] = (int32_t)K;
        int64_t S = a->stride.v[i];
        if (K < 1 || S < 1 || L < 1) return aj_refuse(c, "kernel_size %lld, stride %lld and dilation %lld must be positive", (long long)K, (long long)S, (long long)L);
        if (P < 0 || P > K / 2) return aj_refuse(c, "padding %lld must be at least 0 and at most half the kernel_size, %lld", (long long)P, (long long)K);
        int64_t room = x->shape[d] + 2 * P - L * (K - 1) - 1;
        if (a->flag) room += S - 1;
        int64_t n = room < 0 ? 0 : room / S + 1;
        if (a->flag && (n - 1) * S >= x->shape[d] + P) n--;
        if (n < 1)
            return aj_refuse(c, "the window reaches over %lld, more than the padded input's %lld along dimension %d", (long long)(L * (K - 1) + 1), (long long)(x->shape[d] + 2 * P), d + 1);
        y->shape[d] = n;
    }
    return true;
}

static bool adaptive(aj_call *c, int nd, bool of_floats) {
    if (!image(c, nd, of_floats)) return false;
    const aj_tensor *x = c->in[0];
    const aj_ints *size = &c->attrs->list;
    aj_spec_like(&c->spec[0], x);
    if (size->n != 1 && size->n != nd) return aj_refuse(c, "output_size has %d entries, and must have 1 or %d", size->n, nd);
    for (int i = 0; i < nd; i++) {
        int64_t n = size->v[size->n == 1 ? 0 : i];
        if (n < 1) return aj_refuse(c, "output size %lld is not positive", (long long)n);
        c->spec[0].shape[x->ndim - nd + i] = n;
    }
    return true;
}

static aj_ints shape_of(const aj_node *n, int k) {
    const aj_spec *s = &n->edge[k].node->spec[n->edge[k].out];
    aj_ints v = {s->ndim, {0}};
    for (int d = 0; d < s->ndim; d++) v.v[d] = s->shape[d];
    return v;
}
static aj_ints list_of(aj_triple t) { return (aj_ints){3, {t.v[0], t.v[1], t.v[2]}}; }

/* -- The largest ------------------------------------------------------------------------------------------------------- */

static bool with_index(aj_call *c) {
    if (!aj_recording()) return true;
    c->n_out = 2;
    c->spec[1] = c->spec[0];
    c->spec[1].dtype = AJ_I32;
    return true;
}
static bool max_shape(aj_call *c, int nd) { return image(c, nd, false) && windows(c, nd, true) && with_index(c); }
static bool max_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx, int nd) {
    aj_ints size = shape_of(n, 0);
    gx[0] = aj_max_pool_grad(gy[0], aj_saved_out(n, 1), &size, nd);
    return gx[0] != NULL;
}
bool max_pool1d_shape(aj_call *c) { return max_shape(c, 1); }
bool max_pool2d_shape(aj_call *c) { return max_shape(c, 2); }
bool max_pool3d_shape(aj_call *c) { return max_shape(c, 3); }
bool max_pool1d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return max_vjp(n, gy, gx, 1); }
bool max_pool2d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return max_vjp(n, gy, gx, 2); }
bool max_pool3d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return max_vjp(n, gy, gx, 3); }
bool adaptive_max_pool1d_shape(aj_call *c) { return adaptive(c, 1, false) && with_index(c); }
bool adaptive_max_pool2d_shape(aj_call *c) { return adaptive(c, 2, false) && with_index(c); }
bool adaptive_max_pool3d_shape(aj_call *c) { return adaptive(c, 3, false) && with_index(c); }
bool adaptive_max_pool1d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return max_vjp(n, gy, gx, 1); }
bool adaptive_max_pool2d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return max_vjp(n, gy, gx, 2); }
bool adaptive_max_pool3d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return max_vjp(n, gy, gx, 3); }

/* The same with the places as a result, which count from base. */
static bool with_places(aj_call *c) {
    c->n_out = 2;
    c->spec[1] = c->spec[0];
    c->spec[1].dtype = AJ_I64;
    return true;
}
static bool places_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx, int nd) {
    aj_ints size = shape_of(n, 0);
    if (!gy[0]) return true;
    aj_tensor *from_zero = aj_sub_number(aj_saved_out(n, 1), n->attrs->base, false);
    return from_zero && (gx[0] = aj_max_pool_grad(gy[0], from_zero, &size, nd));
}
static bool max_places(aj_call *c, int nd) { return image(c, nd, false) && windows(c, nd, true) && with_places(c); }
bool max_pool1d_with_indices_shape(aj_call *c) { return max_places(c, 1); }
bool max_pool2d_with_indices_shape(aj_call *c) { return max_places(c, 2); }
bool max_pool3d_with_indices_shape(aj_call *c) { return max_places(c, 3); }
bool max_pool1d_with_indices_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return places_vjp(n, gy, gx, 1); }
bool max_pool2d_with_indices_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return places_vjp(n, gy, gx, 2); }
bool max_pool3d_with_indices_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return places_vjp(n, gy, gx, 3); }
bool adaptive_max_pool1d_with_indices_shape(aj_call *c) { return adaptive(c, 1, false) && with_places(c); }
bool adaptive_max_pool2d_with_indices_shape(aj_call *c) { return adaptive(c, 2, false) && with_places(c); }
bool adaptive_max_pool3d_with_indices_shape(aj_call *c) { return adaptive(c, 3, false) && with_places(c); }
bool adaptive_max_pool1d_with_indices_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return places_vjp(n, gy, gx, 1); }
bool adaptive_max_pool2d_with_indices_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return places_vjp(n, gy, gx, 2); }
bool adaptive_max_pool3d_with_indices_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return places_vjp(n, gy, gx, 3); }

/* Zeros of the size that pooling came from, with x written at the places. output_size may differ from what the windows
 * say by less than a stride, and may begin with batch and channels. */
static aj_tensor *unpool(aj_call *c, int nd) {
    if (!aj_given(c, 0, 2) || !image(c, nd, false) || !aj_index_dtype(c, 1)) return NULL;
    aj_attrs *a = c->attrs;
    aj_tensor *x = c->in[0], *at = c->in[1];
    const aj_ints *size = &a->list;
    int lead = x->ndim - nd;
    if (!aj_same_shape(x, at)) { aj_refuse(c, "the tensor and the indices have different shapes"); return NULL; }
    if (size->n && size->n != nd && size->n != x->ndim) { aj_refuse(c, "output_size has %d entries, and must have %d or %d", size->n, nd, x->ndim); return NULL; }
    aj_ints shape = aj_sizes(x), rows = {2, {1, 1}}, flat = {2, {1, 1}};
    for (int i = 0; i < nd; i++) {
        int64_t K = a->kernel.v[i], P = a->padding.v[i], S = a->stride.v[i] == AJ_NO_DIM ? K : a->stride.v[i], n;
        if (K < 1 || S < 1 || P < 0) { aj_refuse(c, "kernel_size %lld and stride %lld must be positive, and padding %lld not negative", (long long)K, (long long)S, (long long)P); return NULL; }
        n = (x->shape[lead + i] - 1) * S - 2 * P + K;
        if (size->n) {
            int64_t want = size->v[size->n - nd + i];
            if (want <= n - S || want >= n + S) {
                aj_refuse(c, "output size %lld along dimension %d, where the windows allow %lld to %lld", (long long)want, lead + i + 1, (long long)(n - S + 1), (long long)(n + S - 1));
                return NULL;
            }
            n = want;
        }
        if (n < 1) { aj_refuse(c, "the result would have size %lld along dimension %d", (long long)n, lead + i + 1); return NULL; }
        shape.v[lead + i] = n;
    }
    if (aj_count(shape.n, shape.v) < 0) { aj_refuse(c, "the result would have more than 2^63 elements"); return NULL; }
    for (int d = 0; d < x->ndim; d++) {
        rows.v[d >= lead] *= x->shape[d];
        flat.v[d >= lead] *= shape.v[d];
    }
    aj_tensor *y = do_full(x, &flat, 0), *src = do_reshape(x, &rows), *index = do_reshape(at, &rows);
    return y && src && index ? do_reshape(aj_live(aj_scatter_(y, 1, index, src, a->base)), &shape) : NULL;
}
aj_tensor *max_unpool1d_compose(aj_call *c) { return unpool(c, 1); }
aj_tensor *max_unpool2d_compose(aj_call *c) { return unpool(c, 2); }
aj_tensor *max_unpool3d_compose(aj_call *c) { return unpool(c, 3); }

/* One operand over the windows' shape, or over the input's, and the places. */
static bool placed(aj_call *c, bool same) {
    for (int k = 0; k < 2; k++)
        if (!c->in[k]) return aj_error("%s: input %d is nil, where a tensor is wanted", aj_op_name(c->op), k + 1);
    int nd = (int)c->attrs->i;
    if (!aj_index_dtype(c, 1) || !aj_cast_inputs(c, 1, 1, AJ_I32)) return false;
    if (nd < 1 || nd > 3 || c->in[0]->ndim != c->in[1]->ndim || c->in[0]->ndim < nd) return aj_refuse(c, "the dimensions do not agree");
    for (int d = 0; d < c->in[0]->ndim - (same ? 0 : nd); d++)
        if (c->in[0]->shape[d] != c->in[1]->shape[d]) return aj_refuse(c, "the tensor and the places do not agree in size along dimension %d", d + 1);
    for (int k = 0; k < 2; k++)
        if (c->in[k]->device < 0 && !c->in[k]->contiguous && !(c->in[k] = aj_live(aj_contiguous(c->in[k])))) return false;
    return true;
}
bool max_pool_grad_shape(aj_call *c) {
    if (!placed(c, true)) return false;
    const aj_tensor *g = c->in[0];
    const aj_ints *size = &c->attrs->list;
    aj_spec_like(&c->spec[0], g);
    if (size->n != g->ndim) return aj_refuse(c, "%d sizes for a gradient of %d dimensions", size->n, g->ndim);
    for (int d = 0; d < size->n; d++) {
        if (d < g->ndim - (int)c->attrs->i && size->v[d] != g->shape[d]) return aj_refuse(c, "the size does not fit the gradient along dimension %d", d + 1);
        c->spec[0].shape[d] = size->v[d];
    }
    return true;
}
bool max_pool_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    gx[0] = aj_max_pool_pick(gy[0], aj_saved_in(n, 1), (int32_t)n->attrs->i);
    return gx[0] != NULL;
}
bool max_pool_pick_shape(aj_call *c) {
    if (!placed(c, false)) return false;
    aj_spec_like(&c->spec[0], c->in[1]);
    c->spec[0].dtype = c->in[0]->dtype;
    return true;
}
bool max_pool_pick_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints size = shape_of(n, 0);
    gx[0] = aj_max_pool_grad(gy[0], aj_saved_in(n, 1), &size, (int32_t)n->attrs->i);
    return gx[0] != NULL;
}

/* -- The mean ------------------------------------------------------------------------------------------------------------ */

/* Of integers the quotient without its fraction. A divisor_override that was left out is AJ_NO_DIM. */
static bool avg_shape(aj_call *c, int nd) {
    if (c->attrs->i == 0) return aj_refuse(c, "divisor_override is 0, and must be another number, or nil");
    return image(c, nd, false) && windows(c, nd, false);
}
static aj_tensor *avg(const aj_attrs *a, aj_tensor *x, int nd) {
    aj_ints k = list_of(a->kernel), s = list_of(a->stride), p = list_of(a->padding);
    return nd == 1 ? aj_avg_pool1d(x, &k, &s, &p, a->flag, a->flag2) : nd == 2 ? aj_avg_pool2d(x, &k, &s, &p, a->flag, a->flag2, a->i)
                                                                             : aj_avg_pool3d(x, &k, &s, &p, a->flag, a->flag2, a->i);
}
static bool avg_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx, int nd) {
    const aj_attrs *a = n->attrs;
    aj_ints size = shape_of(n, 0), k = list_of(a->kernel), s = list_of(a->stride), p = list_of(a->padding);
    gx[0] = aj_avg_pool_grad(gy[0], &size, &k, &s, &p, a->flag, a->flag2, a->i, nd);
    return gx[0] != NULL;
}
bool avg_pool1d_shape(aj_call *c) { return avg_shape(c, 1); }
bool avg_pool2d_shape(aj_call *c) { return avg_shape(c, 2); }
bool avg_pool3d_shape(aj_call *c) { return avg_shape(c, 3); }
bool avg_pool1d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return avg_vjp(n, gy, gx, 1); }
bool avg_pool2d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return avg_vjp(n, gy, gx, 2); }
bool avg_pool3d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return avg_vjp(n, gy, gx, 3); }

/* A gradient over windows, and the size of what they were taken from. */
static bool spread_shape(aj_call *c) {
    int nd = (int)c->attrs->k;
    const aj_ints *size = &c->attrs->list;
    if (nd < 1 || nd > 3) return aj_error("%s: nd is %d, and must be 1 to 3", aj_op_name(c->op), nd);
    if (!image(c, nd, true)) return false;
    const aj_tensor *g = c->in[0];
    aj_spec_like(&c->spec[0], g);
    if (size->n != g->ndim) return aj_refuse(c, "%d sizes for a gradient of %d dimensions", size->n, g->ndim);
    for (int d = 0; d < size->n; d++) {
        if (d < g->ndim - nd && size->v[d] != g->shape[d]) return aj_refuse(c, "the size does not fit the gradient along dimension %d", d + 1);
        c->spec[0].shape[d] = size->v[d];
    }
    return true;
}
bool avg_pool_grad_shape(aj_call *c) {
    if (!spread_shape(c)) return false;
    aj_tensor x = *c->in[0], *in[] = {&x};               /* the size must be one that has these windows */
    aj_call back = {.op = c->op, .n_in = 1, .in = in, .attrs = c->attrs};
    int nd = (int)c->attrs->k;
    for (int d = 0; d < x.ndim; d++) x.shape[d] = c->attrs->list.v[d];
    if (!windows(&back, nd, false)) return false;
    for (int d = 0; d < x.ndim; d++)
        if (back.spec[0].shape[d] != c->in[0]->shape[d]) return aj_refuse(c, "pooling of the given size has %lld windows along dimension %d", (long long)back.spec[0].shape[d], d + 1);
    return true;
}
bool avg_pool_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = avg(n->attrs, gy[0], (int)n->attrs->k)) != NULL; }

static bool adaptive_avg_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx, int nd) {
    aj_ints size = shape_of(n, 0);
    return (gx[0] = aj_adaptive_avg_pool_grad(gy[0], &size, nd)) != NULL;
}
bool adaptive_avg_pool1d_shape(aj_call *c) { return adaptive(c, 1, true); }
bool adaptive_avg_pool2d_shape(aj_call *c) { return adaptive(c, 2, true); }
bool adaptive_avg_pool3d_shape(aj_call *c) { return adaptive(c, 3, true); }
bool adaptive_avg_pool1d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return adaptive_avg_vjp(n, gy, gx, 1); }
bool adaptive_avg_pool2d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return adaptive_avg_vjp(n, gy, gx, 2); }
bool adaptive_avg_pool3d_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return adaptive_avg_vjp(n, gy, gx, 3); }
bool adaptive_avg_pool_grad_shape(aj_call *c) { return spread_shape(c); }
bool adaptive_avg_pool_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    int nd = (int)n->attrs->k;
    const aj_spec *g = &n->edge[0].node->spec[n->edge[0].out];
    aj_ints size = {nd, {0}};
    for (int i = 0; i < nd; i++) size.v[i] = g->shape[g->ndim - nd + i];
    gx[0] = nd == 1 ? aj_adaptive_avg_pool1d(gy[0], &size) : nd == 2 ? aj_adaptive_avg_pool2d(gy[0], &size) : aj_adaptive_avg_pool3d(gy[0], &size);
    return gx[0] != NULL;
}
