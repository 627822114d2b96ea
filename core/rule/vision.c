/* vision.c - rearrangements of channels and pixels, windows as columns, and cubic resampling: all made of other ops. */
#include "matrix.h"
#include <math.h>

/* -- Channels and pixels -------------------------------------------------------------------------------------------- */

static bool channels(const aj_call *c, int least) {
    if (!aj_given(c, 0, 1)) return false;
    if (c->in[0]->ndim >= least) return true;
    return aj_refuse(c, "the input has %d dimensions, and must have at least %d", c->in[0]->ndim, least);
}
/* x as sizes, permuted, as other sizes: a new tensor. */
static aj_tensor *rearranged(aj_tensor *x, const aj_ints *apart, const aj_ints *order, const aj_ints *together) {
    aj_tensor *y = aj_live(aj_reshape(x, apart));
    y = y ? aj_live(aj_permute(y, order)) : NULL;
    return y ? aj_unshared(aj_reshape(y, together), x) : NULL;
}

/* (..., C r^2, H, W) <-> (..., C, H r, W r) */
static aj_tensor *shuffled(aj_call *c, bool back) {
    if (!channels(c, 3)) return NULL;
    aj_tensor *x = c->in[0];
    int n = x->ndim - 3;
    int64_t r = c->attrs->i, C = x->shape[n], H = x->shape[n + 1], W = x->shape[n + 2], N = 1;
    if (r < 1 || r > 1 << 15) { aj_refuse(c, "the factor is %lld, and must be from 1 to 32768", (long long)r); return NULL; }
    if (!back && C % (r * r)) { aj_refuse(c, "the %lld channels do not divide by %lld squared", (long long)C, (long long)r); return NULL; }
    if (back && (H % r || W % r)) { aj_refuse(c, "%lld rows and %lld columns do not divide by %lld", (long long)H, (long long)W, (long long)r); return NULL; }
    for (int d = 0; d < n; d++) N *= x->shape[d];
    aj_ints size = aj_sizes(x);
    size.v[n] = back ? C * r * r : C / (r * r);
    size.v[n + 1] = back ? H / r : H * r;
    size.v[n + 2] = back ? W / r : W * r;
    if (back) return rearranged(x, &(aj_ints){6, {N, C, H / r, r, W / r, r}}, &(aj_ints){6, {0, 1, 3, 5, 2, 4}}, &size);
    return rearranged(x, &(aj_ints){6, {N, C / (r * r), r, r, H, W}}, &(aj_ints){6, {0, 1, 4, 2, 5, 3}}, &size);
}
aj_tensor *pixel_shuffle_compose(aj_call *c) { return shuffled(c, false); }
aj_tensor *pixel_unshuffle_compose(aj_call *c) { return shuffled(c, true); }
aj_tensor *channel_shuffle_compose(aj_call *c) {
    if (!channels(c, 3)) return NULL;
    aj_tensor *x = c->in[0];
    int64_t g = c->attrs->i, C = x->shape[1], rest = 1;
    if (g < 1 || C % g) { aj_refuse(c, "the %lld channels do not divide into %lld groups", (long long)C, (long long)g); return NULL; }
    for (int d = 2; d < x->ndim; d++) rest *= x->shape[d];
    aj_ints size = aj_sizes(x);
    return rearranged(x, &(aj_ints){4, {x->shape[0], g, C / g, rest}}, &(aj_ints){4, {0, 2, 1, 3}}, &size);
}

/* Krizhevsky and others, 2012: x / (k + alpha * mean of squares over size channels)^beta */
aj_tensor *local_response_norm_compose(aj_call *c) {
    if (!aj_given(c, 0, 1) || !channels(c, 3)) return NULL;
    aj_tensor *x = c->in[0];
    int64_t size = c->attrs->i;
    if (size < 1) { aj_refuse(c, "the size is %lld, and must be at least 1", (long long)size); return NULL; }
    aj_ints before = {x->ndim, {0}}, after = {x->ndim, {0}};
    before.v[1] = size / 2;
    after.v[1] = (size - 1) / 2;
    aj_tensor *s = aj_live(aj_square(x));
    s = s ? aj_live(aj_constant_pad(s, &before, &after, 0)) : NULL;
    s = s ? aj_live(aj_unfold(s, 1, size, 1)) : NULL;
    if (aj_is_float(x->dtype)) s = s ? aj_live(aj_mean(s, &(aj_ints){1, {-1}}, false)) : NULL;
    else {                                               /* whole means, of integers */
        s = s ? aj_live(aj_sum(s, &(aj_ints){1, {-1}}, false)) : NULL;
        s = s ? aj_live(aj_floor_divide_number(s, (double)size, false)) : NULL;
        s = s ? aj_live(aj_cast(s, AJ_F32)) : NULL;
    }
    s = scaled(s, c->attrs->s);
    s = s ? aj_live(aj_add_number(s, c->attrs->u, false)) : NULL;
    s = s ? aj_live(aj_pow_number(s, c->attrs->t, false)) : NULL;
    return over(x, s);
}

/* -- Windows as columns ------------------------------------------------------------------------------------------------- */

/* Of padded images (N, C, H, W): windows (N, C, kernel, positions), as a shape and strides. false after an error. */
static bool windows(const aj_call *c, int64_t N, int64_t C, int64_t H, int64_t W, aj_ints *shape, aj_ints *stride) {
    const aj_attrs *a = c->attrs;
    int64_t room[2] = {H, W}, count[2];
    for (int i = 0; i < 2; i++) {
        int64_t reach = a->dilation.v[i] * ((int64_t)a->kernel.v[i] - 1) + 1;
        if (a->kernel.v[i] < 1 || a->stride.v[i] < 1 || a->dilation.v[i] < 1 || a->padding.v[i] < 0)
            return aj_refuse(c, "kernel, stride and dilation must be positive, and the padding not negative");
        if (reach > room[i]) return aj_refuse(c, "the kernel reaches over %lld, more than the padded image's %lld", (long long)reach, (long long)room[i]);
        count[i] = (room[i] - reach) / a->stride.v[i] + 1;
    }
    if (aj_count(4, (int64_t[]){N, C, H, W}) < 0) return aj_refuse(c, "the images have more than 2^63 elements");
    *shape = (aj_ints){6, {N, C, a->kernel.v[0], a->kernel.v[1], count[0], count[1]}};
    *stride = (aj_ints){6, {C * H * W, H * W, a->dilation.v[0] * W, a->dilation.v[1], a->stride.v[0] * W, a->stride.v[1]}};
    return true;
}
aj_tensor *im2col_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0];
    const aj_attrs *a = c->attrs;
    if (x->ndim != 3 && x->ndim != 4) { aj_refuse(c, "the input is images (N, C, H, W), or one (C, H, W)"); return NULL; }
    bool one = x->ndim == 3;
    if (one && !(x = aj_live(aj_unsqueeze(x, 0)))) return NULL;
    if (a->padding.v[0] > 0 || a->padding.v[1] > 0) {
        aj_ints pad = {4, {0, 0, a->padding.v[0], a->padding.v[1]}};
        if (!(x = aj_live(aj_constant_pad(x, &pad, &pad, 0)))) return NULL;
    } else if (!x->contiguous && !(x = aj_live(aj_contiguous(x)))) return NULL;
    aj_ints shape, stride;
    if (!windows(c, x->shape[0], x->shape[1], x->shape[2], x->shape[3], &shape, &stride)) return NULL;
    aj_ints columns = {3, {shape.v[0], shape.v[1] * shape.v[2] * shape.v[3], shape.v[4] * shape.v[5]}};
    aj_tensor *y = aj_live(aj_as_strided(x, &shape, &stride, 0));
    if (one) { columns.n = 2; columns.v[0] = columns.v[1]; columns.v[1] = columns.v[2]; }
    return y ? aj_unshared(aj_reshape(y, &columns), c->in[0]) : NULL;
}
aj_tensor *col2im_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0];
    const aj_attrs *a = c->attrs;
    if (x->ndim != 2 && x->ndim != 3) { aj_refuse(c, "the input is columns (N, C * kernel, positions), or those of one image"); return NULL; }
    if (a->list.n != 1 && a->list.n != 2) { aj_refuse(c, "output_size is the height and the width"); return NULL; }
    bool one = x->ndim == 2;
    int64_t N = one ? 1 : x->shape[0], K = x->shape[x->ndim - 2], each = (int64_t)a->kernel.v[0] * a->kernel.v[1];
    int64_t height = a->list.v[0], width = a->list.v[a->list.n - 1], H, W;
    if (height > INT32_MAX || width > INT32_MAX) { aj_refuse(c, "%lld x %lld is too large an image", (long long)height, (long long)width); return NULL; }
    H = height + 2 * (int64_t)a->padding.v[0];
    W = width + 2 * (int64_t)a->padding.v[1];
    if (each < 1 || K % each) { aj_refuse(c, "%lld rows do not divide into kernels of %lld", (long long)K, (long long)each); return NULL; }
    aj_ints shape, stride, of = {4, {N, K / each, H, W}};
    if (!windows(c, N, K / each, H, W, &shape, &stride)) return NULL;
    if (x->shape[x->ndim - 1] != shape.v[4] * shape.v[5]) {
        aj_refuse(c, "there are %lld positions, and an image of this size has %lld", (long long)x->shape[x->ndim - 1], (long long)(shape.v[4] * shape.v[5]));
        return NULL;
    }
    aj_tensor *y = aj_live(aj_reshape(x, &shape));
    y = y ? aj_live(aj_as_strided_grad(y, &of, &stride, 0)) : NULL;
    aj_ints cut = {4, {0, 0, -a->padding.v[0], -a->padding.v[1]}};
    if (y && (cut.v[2] || cut.v[3])) y = aj_live(aj_constant_pad(y, &cut, &cut, 0));
    return y && one ? aj_squeeze(y, &(aj_ints){1, {0}}) : y;
}

/* -- Grids ------------------------------------------------------------------------------------------------------------------ */

/* Places -1 to 1 of n points along one of nd dimensions, in a shape to be broadcast. */
static aj_tensor *ruler(const aj_tensor *like, int64_t n, bool corners, int at, int nd) {
    double end = n == 1 ? 0 : corners ? 1 : 1 - 1 / (double)n;
    aj_ints shape = {nd, {1, 1, 1, 1}};
    shape.v[at] = n;
    aj_tensor *x = aj_live(aj_linspace(AJ_F64, like->device, -end, end, n));
    x = x ? aj_live(aj_cast(x, (aj_dtype)like->dtype)) : NULL;
    return x ? aj_live(aj_reshape(x, &shape)) : NULL;
}
aj_tensor *affine_grid_compose(aj_call *c) {
    if (!aj_floats(c, 0)) return NULL;
    aj_tensor *theta = c->in[0];
    const aj_ints *size = &c->attrs->list;
    int nd = size->n - 2;
    if (nd != 2 && nd != 3) { aj_refuse(c, "the size has %d entries, and must have 4, (N, C, H, W), or 5, (N, C, D, H, W)", size->n); return NULL; }
    if (theta->ndim != 3 || theta->shape[0] != size->v[0] || theta->shape[1] != nd || theta->shape[2] != nd + 1) {
        aj_refuse(c, "theta must be (%lld, %d, %d)", (long long)size->v[0], nd, nd + 1);
        return NULL;
    }
    aj_ints points = {nd + 1, {0}}, flat = {2, {1, nd + 1}}, result = {nd + 2, {0}};
    for (int d = 0; d < nd; d++) { points.v[d] = result.v[d + 1] = size->v[d + 2]; flat.v[0] *= size->v[d + 2]; }
    result.v[0] = size->v[0];
    result.v[nd + 1] = nd;
    aj_ints spread = {nd, {0}};
    for (int d = 0; d < nd; d++) spread.v[d] = points.v[d];
    aj_tensor *axis[4];
    for (int k = 0; k <= nd; k++) {                      /* x, y, z, 1 */
        axis[k] = k == nd ? aj_live(aj_full((aj_dtype)theta->dtype, &(aj_ints){0}, theta->device, 1)) : ruler(theta, points.v[nd - 1 - k], c->attrs->flag, nd - 1 - k, nd);
        if (!axis[k] || !(axis[k] = aj_live(aj_expand(axis[k], &spread)))) return NULL;
    }
    aj_list all = {nd + 1, axis};
    aj_tensor *base = aj_live(aj_stack(&all, nd));
    base = base ? aj_live(aj_reshape(base, &flat)) : NULL;
    aj_tensor *y = dot(base, turned(theta));
    return y ? aj_reshape(y, &result) : NULL;
}

/* -- Cubic resampling (Keys, 1981, with A = -0.75) ----------------------------------------------------------------------------- */

/* Weights of the points at distances 1 + t, t, 1 - t, 2 - t. */
void aj_cubic_weights(aj_tensor *t, aj_tensor **weight) {
    const double A = -0.75;
    for (int k = 0; k < 4; k++) {
        aj_tensor *u = k < 2 ? t : t ? aj_live(aj_sub_number(t, 1, true)) : NULL, *v;
        if (k == 0 || k == 3) {                          /* A v^3 - 5 A v^2 + 8 A v - 4 A, v = 1 + u */
            v = u ? aj_live(aj_add_number(u, 1, false)) : NULL;
            aj_tensor *s = scaled(v, A);
            s = s ? times(aj_live(aj_add_number(s, -5 * A, false)), v) : NULL;
            s = s ? times(aj_live(aj_add_number(s, 8 * A, false)), v) : NULL;
            weight[k] = s ? aj_live(aj_add_number(s, -4 * A, false)) : NULL;
        } else {                                         /* (A + 2) u^3 - (A + 3) u^2 + 1 */
            aj_tensor *s = scaled(u, A + 2);
            s = s ? times(times(aj_live(aj_add_number(s, -(A + 3), false)), u), u) : NULL;
            weight[k] = s ? aj_live(aj_add_number(s, 1, false)) : NULL;
        }
    }
}
/* x resampled along dim to n elements. */
static aj_tensor *cubic_along(aj_tensor *x, int dim, int64_t n, bool corners, double factor) {
    int64_t I = x->shape[dim];
    if (I == n && (corners || factor == 0 || factor == 1)) return x;
    double ratio = corners ? (n > 1 ? (double)(I - 1) / (double)(n - 1) : 0) : factor > 0 ? 1 / factor : (double)I / (double)n;
    aj_tensor *at = aj_live(aj_arange(AJ_F64, x->device, corners ? 0 : 0.5 * ratio - 0.5, ratio, n)), *first = at ? aj_live(aj_floor(at)) : NULL;
    aj_tensor *t = minus(at, first), *weight[4], *y = NULL;
    aj_cubic_weights(t, weight);
    aj_ints shape = {x->ndim, {1, 1, 1, 1, 1, 1, 1, 1}};
    shape.v[dim] = n;
    for (int k = 0; k < 4; k++) {
        aj_tensor *i = first ? aj_live(aj_add_number(first, k - 1, false)) : NULL, *w = weight[k];
        i = i ? aj_live(aj_clamp_min(i, 0)) : NULL;
        i = i ? aj_live(aj_clamp_max(i, (double)(I - 1))) : NULL;
        i = i ? aj_live(aj_cast(i, AJ_I64)) : NULL;
        w = w ? aj_live(aj_cast(w, (aj_dtype)x->dtype)) : NULL;
        w = w ? aj_live(aj_reshape(w, &shape)) : NULL;
        aj_tensor *part = i ? times(aj_live(aj_index_select(x, dim, i, 0)), w) : NULL;
        if (!part || !(y = y ? plus(y, part) : part)) return NULL;
    }
    return y;
}
aj_tensor *upsample_cubic_compose(aj_call *c) {
    if (!aj_floats(c, 0)) return NULL;
    aj_tensor *x = c->in[0];
    const aj_ints *size = &c->attrs->list;
    if (x->ndim != 4) { aj_refuse(c, "bicubic is for images (N, C, H, W), not for %d dimensions", x->ndim); return NULL; }
    if (size->n != 1 && size->n != 2) { aj_refuse(c, "the size has %d entries, and must have 2", size->n); return NULL; }
    for (int d = 0; d < 2; d++) {
        int64_t n = size->v[size->n == 1 ? 0 : d];
        if (n < 1 || x->shape[d + 2] < 1) { aj_refuse(c, "size %lld does not do for dimension %d", (long long)n, d + 3); return NULL; }
    }
    bool same = true;
    for (int d = 0; d < 2 && x; d++) {
        aj_tensor *y = cubic_along(x, d + 2, size->v[size->n == 1 ? 0 : d], c->attrs->flag, c->attrs->s);
        same &= y == x;
        x = y;
    }
    return x && same ? aj_clone(x) : x;
}
