/* view.c - views: other sizes, strides and places over the same elements. */
#include "rule.h"

static aj_ints shape_of(const aj_node *n, int k) {
    /* The shape of input k, which its node knows even when the tensor was not saved. */
    const aj_spec *s = &n->edge[k].node->spec[n->edge[k].out];
    aj_ints v = {s->ndim, {0}};
    for (int d = 0; d < s->ndim; d++) v.v[d] = s->shape[d];
    return v;
}

/* -- view: strides for new sizes, where the old ones allow it ------------------------------------------------- */

/* Fills in a -1 and checks the count of elements. */
bool aj_fill_in_shape(const aj_call *c, const aj_ints *want, int64_t numel, aj_ints *out) {
    int64_t known = 1;
    int hole = -1, over = 0;
    *out = *want;
    for (int d = 0; d < want->n; d++) {
        if (want->v[d] == -1) {
            if (hole >= 0) return aj_refuse(c, "only one size may be -1");
            hole = d;
        } else if (want->v[d] < 0) return aj_refuse(c, "size %lld is negative", (long long)want->v[d]);
        else if (__builtin_mul_overflow(known, want->v[d], &known)) known = over = -1;
    }
    if (over && aj_count(want->n, want->v) != 0) return aj_refuse(c, "%lld elements do not fill a shape of more than 2^63", (long long)numel);
    if (over) known = 0;
    if (hole >= 0) {
        if (known == 0 || numel % known) return aj_refuse(c, "%lld elements do not divide into the sizes given", (long long)numel);
        out->v[hole] = numel / known;
        known *= out->v[hole];
    }
    if (known != numel) return aj_refuse(c, "%lld elements do not fill a shape of %lld", (long long)numel, (long long)known);
    return true;
}

bool aj_view_strides(const aj_tensor *x, const aj_ints *shape, int64_t *stride) {
    if (x->contiguous) {
        int64_t step = 1;
        for (int d = shape->n - 1; d >= 0; d--) { stride[d] = step; step = (int64_t)((uint64_t)step * (uint64_t)(shape->v[d] ? shape->v[d] : 1)); }
        return true;
    }
    /* Walks both shapes from the end; a run of old dimensions that lie evenly must hold whole new ones. */
    int v = shape->n - 1;
    int64_t base = x->ndim ? x->stride[x->ndim - 1] : 1, run = 1, made = 1;
    for (int d = x->ndim - 1; d >= 0; d--) {
        run *= x->shape[d];
        if (d == 0 || (x->shape[d - 1] != 1 && x->stride[d - 1] != run * base)) {
            while (v >= 0 && (made < run || shape->v[v] == 1)) {
                stride[v] = made * base;
                made *= shape->v[v--];
            }
            if (made != run) return false;
            if (d > 0) { base = x->stride[d - 1]; run = made = 1; }
        }
    }
    return v == -1;
}

aj_tensor *view_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    aj_ints shape;
    int64_t stride[AJ_MAX_DIM];
    if (!aj_fill_in_shape(c, &c->attrs->list, x->numel, &shape)) return NULL;
    if (!aj_view_strides(x, &shape, stride)) { aj_refuse(c, "its elements do not lie so that they can be seen in these sizes; use :reshape, which copies then"); return NULL; }
    return aj_new_view(x, shape.n, shape.v, stride, 0);
}
bool view_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints shape = shape_of(n, 0);
    gx[0] = aj_reshape(gy[0], &shape);
    return gx[0] != NULL;
}

aj_tensor *reshape_compose(aj_call *c) {
    aj_tensor *x = c->in[0];
    aj_ints shape;
    int64_t stride[AJ_MAX_DIM];
    if (!x) { aj_error("reshape: the input is nil, where a tensor is wanted"); return NULL; }
    if (!aj_fill_in_shape(c, &c->attrs->list, x->numel, &shape)) return NULL;
    if (!aj_view_strides(x, &shape, stride) && !(x = aj_clone(x))) return NULL;
    return aj_view(x, &shape);
}
aj_tensor *contiguous_compose(aj_call *c) {
    aj_tensor *x = c->in[0];
    if (!x) { aj_error("contiguous: the input is nil, where a tensor is wanted"); return NULL; }
    return x->contiguous ? x : aj_clone(x);
}
aj_tensor *channels_last_compose(aj_call *c) {
    aj_tensor *x = c->in[0];
    if (!x) { aj_error("channels_last: the input is nil, where a tensor is wanted"); return NULL; }
    int n = x->ndim;
    if (n < 3) { aj_refuse(c, "the input is (N, C, L), (N, C, H, W) or (N, C, D, H, W)"); return NULL; }
    aj_ints there = {n, {0}}, back = {n, {0}};
    for (int d = 0; d < n; d++) there.v[d] = d == 0 ? 0 : d == n - 1 ? 1 : d + 1;
    for (int d = 0; d < n; d++) back.v[d] = d == 0 ? 0 : d == 1 ? n - 1 : d - 1;
    aj_tensor *y = aj_permute(x, &there);
    y = y ? aj_contiguous(y) : NULL;
    return y ? aj_permute(y, &back) : NULL;
}
aj_tensor *flatten_compose(aj_call *c) {
    aj_tensor *x = c->in[0];
    if (!x) { aj_error("flatten: the input is nil, where a tensor is wanted"); return NULL; }
    int first = aj_dim_of(c, c->attrs->dim, x->ndim), last = first < 0 ? -1 : aj_dim_of(c, c->attrs->dim2, x->ndim);
    if (first < 0 || last < 0) return NULL;
    if (last < first) { aj_refuse(c, "dimension %d comes after dimension %d", first + 1, last + 1); return NULL; }
    aj_ints shape = {0};
    int64_t run = 1;
    for (int d = 0; d < x->ndim; d++) {
        if (d < first || d > last) shape.v[shape.n++] = x->shape[d];
        else { run *= x->shape[d]; if (d == last) shape.v[shape.n++] = run; }
    }
    if (x->ndim == 0) shape = (aj_ints){1, {1}};
    return aj_reshape(x, &shape);
}

/* -- permute, transpose -------------------------------------------------------------------------------------------- */

aj_tensor *permute_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    const aj_ints *dims = &c->attrs->list;
    bool seen[AJ_MAX_DIM];
    if (dims->n != x->ndim) { aj_refuse(c, "names %d dimensions of %d", dims->n, x->ndim); return NULL; }
    if (!aj_dims_of(c, dims, x->ndim, seen)) return NULL;
    int64_t shape[AJ_MAX_DIM], stride[AJ_MAX_DIM];
    for (int d = 0; d < x->ndim; d++) {
        int from = (int)(dims->v[d] < 0 ? dims->v[d] + x->ndim : dims->v[d]);
        shape[d] = x->shape[from]; stride[d] = x->stride[from];
    }
    return aj_new_view(x, x->ndim, shape, stride, 0);
}
bool permute_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    const aj_ints *dims = &n->attrs->list;
    aj_ints back = {dims->n, {0}};
    for (int d = 0; d < dims->n; d++) back.v[dims->v[d] < 0 ? dims->v[d] + dims->n : dims->v[d]] = d;
    gx[0] = aj_permute(gy[0], &back);
    return gx[0] != NULL;
}

aj_tensor *transpose_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    int a = aj_dim_of(c, c->attrs->dim, x->ndim), b = a < 0 ? -1 : aj_dim_of(c, c->attrs->dim2, x->ndim);
    if (a < 0 || b < 0) return NULL;
    aj_tensor *y = aj_new_view(x, x->ndim, x->shape, x->stride, 0);
    if (!y || !x->ndim) return y;
    y->shape[a] = x->shape[b]; y->stride[a] = x->stride[b];
    y->shape[b] = x->shape[a]; y->stride[b] = x->stride[a];
    aj_set_contiguous(y);
    return y;
}
bool transpose_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    gx[0] = aj_transpose(gy[0], n->attrs->dim, n->attrs->dim2);
    return gx[0] != NULL;
}

/* -- expand ---------------------------------------------------------------------------------------------------------- */

aj_tensor *expand_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    const aj_ints *want = &c->attrs->list;
    int lead = want->n - x->ndim;
    if (lead < 0) { aj_refuse(c, "%d sizes for a tensor of %d dimensions", want->n, x->ndim); return NULL; }
    int64_t shape[AJ_MAX_DIM], stride[AJ_MAX_DIM];
    for (int d = 0; d < want->n; d++) {
        int64_t have = d < lead ? 1 : x->shape[d - lead], size = want->v[d];
        if (size == -1 && d >= lead) size = have;
        if (size < 0) { aj_refuse(c, "size %lld of a new dimension is negative", (long long)size); return NULL; }
        if (have != size && have != 1) { aj_refuse(c, "dimension %d has size %lld and cannot become %lld", d - lead + 1, (long long)have, (long long)size); return NULL; }
        shape[d] = size;
        stride[d] = d < lead || (have == 1 && size != 1) ? 0 : x->stride[d - lead];
    }
    if (aj_count(want->n, shape) < 0) { aj_refuse(c, "the sizes multiply to more than 2^63 elements"); return NULL; }
    return aj_new_view(x, want->n, shape, stride, 0);
}
bool expand_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints to = shape_of(n, 0);
    gx[0] = aj_sum_to(gy[0], to.n, to.v);
    return gx[0] != NULL;
}

/* -- select, slice --------------------------------------------------------------------------------------------------- */

/* g in a tensor of zeros that is as wide as the input along dim. */
static aj_tensor *zeros_with(aj_node *n, aj_tensor *g, int dim, int64_t first, int64_t step, int64_t count) {
    aj_ints of = shape_of(n, 0), stride = {of.n, {0}}, window = of;
    int64_t run = 1;
    for (int d = of.n - 1; d >= 0; d--) { stride.v[d] = run; run *= of.v[d]; }
    window.v[dim] = count;
    int64_t offset = first * stride.v[dim];
    stride.v[dim] *= step;
    g = aj_reshape(g, &window);
    return g ? aj_as_strided_grad(g, &of, &stride, offset) : NULL;
}

aj_tensor *select_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    if (x->ndim == 0) { aj_refuse(c, "a tensor of no dimensions has no slices"); return NULL; }
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0) return NULL;
    int64_t i = c->attrs->i < 0 ? c->attrs->i + x->shape[dim] : c->attrs->i;
    if (i < 0 || i >= x->shape[dim]) {
        aj_refuse(c, "index %lld is out of range for dimension %d of size %lld", (long long)(c->attrs->i < 0 ? c->attrs->i : i + 1), dim + 1, (long long)x->shape[dim]);
        return NULL;
    }
    int64_t shape[AJ_MAX_DIM], stride[AJ_MAX_DIM];
    for (int d = 0, e = 0; d < x->ndim; d++) if (d != dim) { shape[e] = x->shape[d]; stride[e++] = x->stride[d]; }
    return aj_new_view(x, x->ndim - 1, shape, stride, i * x->stride[dim]);
}
bool select_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints of = shape_of(n, 0);
    int dim = n->attrs->dim < 0 ? n->attrs->dim + of.n : n->attrs->dim;
    int64_t i = n->attrs->i < 0 ? n->attrs->i + of.v[dim] : n->attrs->i;
    gx[0] = zeros_with(n, gy[0], dim, i, 1, 1);
    return gx[0] != NULL;
}

/* first and last are positions, both inside; the count of those between, every step-th. */
static int64_t slice_range(const aj_attrs *a, int64_t size, int64_t *first) {
    int64_t i = a->i < 0 ? a->i + size : a->i, j = a->j < 0 ? a->j + size : a->j;
    if (i < 0) i = 0;
    if (j >= size) j = size - 1;
    *first = i;
    return j < i ? 0 : (j - i) / a->k + 1;
}
aj_tensor *slice_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    if (x->ndim == 0) { aj_refuse(c, "a tensor of no dimensions has no slices"); return NULL; }
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0) return NULL;
    if (c->attrs->k < 1) { aj_refuse(c, "the step is %lld, and must be at least 1; use :flip for the other direction", (long long)c->attrs->k); return NULL; }
    int64_t first, count = slice_range(c->attrs, x->shape[dim], &first);
    aj_tensor *y = aj_new_view(x, x->ndim, x->shape, x->stride, count ? first * x->stride[dim] : 0);
    if (!y) return NULL;
    y->shape[dim] = count;
    y->stride[dim] *= c->attrs->k;
    aj_set_contiguous(y);
    return y;
}
bool slice_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints of = shape_of(n, 0);
    int dim = n->attrs->dim < 0 ? n->attrs->dim + of.n : n->attrs->dim;
    int64_t first, count = slice_range(n->attrs, of.v[dim], &first);
    gx[0] = zeros_with(n, gy[0], dim, first, n->attrs->k, count);
    return gx[0] != NULL;
}

/* -- unsqueeze, squeeze ------------------------------------------------------------------------------------------------ */

aj_tensor *unsqueeze_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    if (x->ndim == AJ_MAX_DIM) { aj_refuse(c, "has %d dimensions already, the most there can be", AJ_MAX_DIM); return NULL; }
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim + 1);
    if (dim < 0) return NULL;
    int64_t shape[AJ_MAX_DIM], stride[AJ_MAX_DIM];
    for (int d = 0, e = 0; d <= x->ndim; d++) {
        if (d == dim) { shape[d] = 1; stride[d] = e < x->ndim ? x->shape[e] * x->stride[e] : 1; }
        else { shape[d] = x->shape[e]; stride[d] = x->stride[e++]; }
    }
    return aj_new_view(x, x->ndim + 1, shape, stride, 0);
}
bool unsqueeze_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return view_vjp(n, gy, gx); }

aj_tensor *squeeze_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    bool in[AJ_MAX_DIM];
    if (!aj_dims_of(c, &c->attrs->list, x->ndim, in)) return NULL;
    int64_t shape[AJ_MAX_DIM], stride[AJ_MAX_DIM];
    int n = 0;
    for (int d = 0; d < x->ndim; d++)
        if (!in[d] || x->shape[d] != 1) { shape[n] = x->shape[d]; stride[n++] = x->stride[d]; }
    return aj_new_view(x, n, shape, stride, 0);
}
bool squeeze_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return view_vjp(n, gy, gx); }

/* -- as_strided ----------------------------------------------------------------------------------------------------------- */

static const int64_t FAR = (int64_t)1 << 58;             /* elements; sums of eight of these do not overflow */

aj_tensor *as_strided_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    const aj_ints *shape = &c->attrs->list, *stride = &c->attrs->list2;
    if (shape->n != stride->n) { aj_refuse(c, "%d sizes and %d strides", shape->n, stride->n); return NULL; }
    int64_t size = (int64_t)aj_dtype_size((aj_dtype)x->dtype), low = c->attrs->i, high = low;
    bool far = low > FAR || low < -FAR;
    for (int d = 0; d < shape->n; d++) {
        if (shape->v[d] < 0) { aj_refuse(c, "size %lld is negative", (long long)shape->v[d]); return NULL; }
        int64_t reach;
        far |= __builtin_mul_overflow(shape->v[d] - 1, stride->v[d], &reach) || reach > FAR || reach < -FAR;
        if (far) break;
        if (reach < 0) low += reach; else high += reach;
    }
    int64_t numel = aj_count(shape->n, shape->v);
    /* What may be seen: from the tensor's first element to its last. */
    int64_t last = 0;
    for (int d = 0; d < x->ndim; d++) last += (x->shape[d] - 1) * x->stride[d];
    if (x->device == AJ_META) last = INT64_MAX / 2;
    else if (x->storage->size_class >= 0) {
        int64_t room = (x->storage->bytes - 64 - (x->data - (char *)x->storage->data)) / size;
        if (last < room - 1) last = room - 1;
        low += (x->data - (char *)x->storage->data) / size;
        last += (x->data - (char *)x->storage->data) / size;
        high += (x->data - (char *)x->storage->data) / size;
    }
    if (numel && (far || numel < 0 || low < 0 || high > last)) { aj_refuse(c, "the window reaches outside the storage"); return NULL; }
    return aj_new_view(x, shape->n, shape->v, stride->v, c->attrs->i);
}
bool as_strided_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints of = shape_of(n, 0);
    gx[0] = aj_as_strided_grad(gy[0], &of, &n->attrs->list2, n->attrs->i);
    return gx[0] != NULL;
}

bool as_strided_grad_shape(aj_call *c) {
    if (!c->in[0]) return aj_error("as_strided_grad: the input is nil, where a tensor is wanted");
    aj_spec *y = &c->spec[0];
    y->dtype = c->in[0]->dtype;
    y->ndim = (uint8_t)c->attrs->list.n;
    int64_t room, reach = c->attrs->i, low = reach;
    bool far = low > FAR || low < 0;
    for (int d = 0; d < y->ndim; d++) {
        y->shape[d] = c->attrs->list.v[d];
        if (y->shape[d] < 0) return aj_refuse(c, "size %lld is negative", (long long)y->shape[d]);
    }
    room = aj_count(y->ndim, y->shape);
    for (int d = 0; d < c->in[0]->ndim && !far; d++) {
        int64_t step;
        far = __builtin_mul_overflow(c->in[0]->shape[d] - 1, c->attrs->list2.v[d], &step) || step > FAR || step < -FAR;
        if (!far && step < 0) low += step; else if (!far) reach += step;
    }
    if (c->attrs->list2.n != c->in[0]->ndim) return aj_refuse(c, "%d strides for a tensor of %d dimensions", c->attrs->list2.n, c->in[0]->ndim);
    if (c->in[0]->numel && (far || low < 0 || reach >= room)) return aj_refuse(c, "the window reaches outside the result");
    return true;
}
bool as_strided_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints window = shape_of(n, 0);
    aj_tensor *g = aj_contiguous(gy[0]);
    gx[0] = g ? aj_as_strided(g, &window, &n->attrs->list2, n->attrs->i) : NULL;
    return gx[0] != NULL;
}
