/* index.c - elements and slices by tensors of positions: gather, scatter and their kin.
 *
 * Values of an index tensor count from base. Those of index_* may also be negative, and then count from the end.
 * The functions that return a new tensor copy and write in place, so that one kernel serves both.
 */
#include "rule.h"

static aj_tensor *zeros(const aj_ints *shape, const aj_tensor *like) { return aj_full((aj_dtype)like->dtype, shape, like->device, 0); }
/* One zero seen in every place of a shape. */
static aj_tensor *zero_over(const aj_ints *shape, const aj_tensor *like) {
    aj_ints none = {0};
    aj_tensor *zero = zeros(&none, like);
    return zero ? aj_expand(zero, shape) : NULL;
}

/* Input k as int64, of integers; a tensor of its own when it shares memory with the one that is written. */
static bool ready_index(aj_call *c, int k) {
    if (!aj_index_dtype(c, k) || !aj_cast_inputs(c, k, 1, AJ_I64)) return false;
    if (c->in[k]->storage != c->in[0]->storage) return true;
    return (c->in[k] = aj_live(aj_clone(c->in[k]))) != NULL;
}
static bool ready_source(aj_call *c, int k) {
    if (!aj_cast_inputs(c, k, 1, c->in[0]->dtype)) return false;
    if (c->in[k]->storage != c->in[0]->storage) return true;
    return (c->in[k] = aj_live(aj_clone(c->in[k]))) != NULL;
}

/* -- gather, scatter: an index for each element ---------------------------------------------------------------- */

/* The index is inside input k along every dimension, but for dim unless also_dim. */
static bool fits(aj_call *c, int k, bool also_dim) {
    const aj_tensor *t = c->in[k], *index = c->in[1];
    int n = t->ndim ? t->ndim : 1, m = index->ndim ? index->ndim : 1;
    if (n != m) return aj_refuse(c, "the index has %d dimensions and must have %d, as input %d has", index->ndim, t->ndim, k + 1);
    for (int d = 0; d < index->ndim && d < t->ndim; d++)
        if ((d != c->attrs->dim || also_dim) && index->shape[d] > t->shape[d])
            return aj_refuse(c, "the index has size %lld along dimension %d, more than the %lld of input %d", (long long)index->shape[d], d + 1, (long long)t->shape[d], k + 1);
    return true;
}

bool gather_shape(aj_call *c) {
    if (!aj_given(c, 0, 2)) return false;
    int dim = aj_dim_of(c, c->attrs->dim, c->in[0]->ndim);
    if (dim < 0 || !aj_index_dtype(c, 1)) return false;
    c->attrs->dim = dim;
    if (c->in[1]->numel && !fits(c, 0, false)) return false;
    aj_spec_like(&c->spec[0], c->in[1]);
    c->spec[0].dtype = c->in[0]->dtype;
    return aj_cast_inputs(c, 1, 1, AJ_I64);
}
bool gather_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints shape = aj_sizes_in(n, 0);
    aj_tensor *z = zeros(&shape, gy[0]);
    return z && (gx[0] = aj_scatter_add_(z, n->attrs->dim, aj_saved_in(n, 1), gy[0], n->attrs->base));
}

static bool scatter_check(aj_call *c) {
    if (!aj_given(c, 0, 3)) return false;
    int dim = aj_dim_of(c, c->attrs->dim, c->in[0]->ndim);
    if (dim < 0) return false;
    c->attrs->dim = dim;
    if (!ready_index(c, 1)) return false;
    if (!c->in[2]->ndim && c->in[1]->ndim) {             /* one value for all places */
        aj_ints shape = aj_sizes(c->in[1]);
        if (!(c->in[2] = aj_live(aj_expand(c->in[2], &shape)))) return false;
    }
    if (c->in[1]->numel && (!fits(c, 0, false) || !fits(c, 2, true))) return false;
    return ready_source(c, 2);
}
bool scatter__check(aj_call *c) { return scatter_check(c); }
bool scatter_add__check(aj_call *c) { return scatter_check(c); }

/* The gradient of the source: what lies at the index, in the corner of the source that the index covers. */
static aj_tensor *source_grad(aj_node *n, aj_tensor *gy) {
    aj_tensor *index = aj_saved_in(n, 1), *g = aj_live(aj_gather(gy, n->attrs->dim, index, n->attrs->base));
    aj_ints shape = aj_sizes_in(n, 2), before = {shape.n, {0}}, after = {shape.n, {0}};
    bool whole = true;
    for (int d = 0; g && d < shape.n && d < g->ndim; d++) whole &= (after.v[d] = shape.v[d] - g->shape[d]) == 0;
    return g && !whole ? aj_constant_pad(g, &before, &after, 0) : g;
}
bool scatter__vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *index = aj_saved_in(n, 1);
    if (aj_wants(n, 0)) {
        aj_ints shape = aj_sizes(index);
        aj_tensor *zero = zero_over(&shape, gy[0]);
        if (!zero || !(gx[0] = aj_scatter(gy[0], n->attrs->dim, index, zero, n->attrs->base))) return false;
    }
    return !aj_wants(n, 2) || (gx[2] = source_grad(n, gy[0]));
}
bool scatter_add__vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    gx[0] = gy[0];
    return !aj_wants(n, 2) || (gx[2] = source_grad(n, gy[0]));
}
aj_tensor *scatter_compose(aj_call *c) {
    if (!aj_given(c, 0, 3)) return NULL;
    aj_tensor *y = aj_clone(c->in[0]);
    return y ? aj_scatter_(y, c->attrs->dim, c->in[1], c->in[2], c->attrs->base) : NULL;
}
aj_tensor *scatter_add_compose(aj_call *c) {
    if (!aj_given(c, 0, 3)) return NULL;
    aj_tensor *y = aj_clone(c->in[0]);
    return y ? aj_scatter_add_(y, c->attrs->dim, c->in[1], c->in[2], c->attrs->base) : NULL;
}

/* -- index_select: an index for each slice ----------------------------------------------------------- */

/* A flat index; a slice takes all of the other dimensions. */
static bool flat_index(aj_call *c) {
    aj_ints flat = {1, {-1}};
    if (c->in[1]->ndim == 1) return true;
    flat.v[0] = c->in[1]->numel;
    return (c->in[1] = aj_live(aj_reshape(c->in[1], &flat))) != NULL;
}

/* An index whose elements lie one stride apart. */
static bool in_order(aj_call *c) { return c->in[1]->ndim == 1 || (c->in[1] = aj_live(aj_contiguous(c->in[1]))) != NULL; }

bool index_select_shape(aj_call *c) {
    if (!aj_given(c, 0, 2)) return false;
    const aj_tensor *x = c->in[0], *index = c->in[1];
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim), m = index->ndim ? index->ndim : 1;
    if (dim < 0 || !aj_index_dtype(c, 1)) return false;
    if (x->ndim - 1 + m > AJ_MAX_DIM) return aj_refuse(c, "the result would have %d dimensions, more than the %d there can be", x->ndim - 1 + m, AJ_MAX_DIM);
    c->attrs->dim = dim;
    aj_spec *y = &c->spec[0];
    y->dtype = x->dtype;
    y->ndim = 0;
    for (int d = 0; d < x->ndim; d++) {
        if (d != dim) { y->shape[y->ndim++] = x->shape[d]; continue; }
        if (!index->ndim) y->shape[y->ndim++] = 1;
        for (int e = 0; e < index->ndim; e++) y->shape[y->ndim++] = index->shape[e];
    }
    if (!x->ndim && index->numel != 1) return aj_refuse(c, "a tensor of no dimensions has one slice");
    return aj_cast_inputs(c, 1, 1, AJ_I64) && in_order(c);
}
/* g with the dimensions that a many-dimensional index made as one again. */
static aj_tensor *one_slice_dim(aj_node *n, aj_tensor *g) {
    aj_ints shape = aj_sizes_in(n, 0);
    if (shape.n) shape.v[n->attrs->dim] = aj_saved_in(n, 1)->numel;
    return aj_reshape(g, &shape);
}
static aj_tensor *select_grad(aj_node *n, aj_tensor *g) {
    aj_ints shape = aj_sizes_in(n, 0);
    aj_tensor *z = zeros(&shape, g);
    g = z ? one_slice_dim(n, g) : NULL;
    return g ? aj_index_add_(z, n->attrs->dim, aj_saved_in(n, 1), g, 1, n->attrs->base) : NULL;
}
bool index_select_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = select_grad(n, gy[0])) != NULL; }

/* -- index_copy, index_add, index_fill, index_put --------------------------------------------------------------------- */

static bool slices_check(aj_call *c) {
    if (!aj_given(c, 0, 3)) return false;
    const aj_tensor *x = c->in[0];
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0) return false;
    c->attrs->dim = dim;
    if (!ready_index(c, 1) || !flat_index(c)) return false;
    const aj_tensor *s = c->in[2];
    bool same = s->ndim == x->ndim || (x->ndim <= 1 && s->ndim <= 1);
    for (int d = 0; same && d < x->ndim && d < s->ndim; d++) same = s->shape[d] == (d == dim ? c->in[1]->numel : x->shape[d]);
    if (!same || (!s->ndim && c->in[1]->numel != 1))
        return aj_refuse(c, "the source has one slice for each of the %lld indices along dimension %d, and the sizes of the first tensor elsewhere", (long long)c->in[1]->numel, dim + 1);
    return ready_source(c, 2);
}
bool index_copy__check(aj_call *c) { return slices_check(c); }
bool index_add__check(aj_call *c) { return slices_check(c); }
bool index_fill__check(aj_call *c) {
    if (!aj_given(c, 0, 2)) return false;
    int dim = aj_dim_of(c, c->attrs->dim, c->in[0]->ndim);
    if (dim < 0) return false;
    c->attrs->dim = dim;
    return aj_holds(c, c->attrs->s) && ready_index(c, 1) && flat_index(c);
}
/* Along the first dimension; the values broadcast to the index's shape and then x's other dimensions. */
bool index_put__check(aj_call *c) {
    if (!aj_given(c, 0, 3)) return false;
    const aj_tensor *x = c->in[0], *index = c->in[1];
    if (!x->ndim) return aj_refuse(c, "a tensor of no dimensions has no slices to write");
    if (x->ndim - 1 + index->ndim > AJ_MAX_DIM) return aj_refuse(c, "an index of %d dimensions is too large here", index->ndim);
    c->attrs->dim = 0;
    aj_ints wide = aj_sizes(index), rows = aj_sizes(x);
    for (int d = 1; d < x->ndim; d++) wide.v[wide.n++] = x->shape[d];
    rows.v[0] = index->numel;
    if (!ready_index(c, 1) || !flat_index(c)) return false;
    const aj_tensor *v = c->in[2];
    bool fit = v->ndim <= wide.n;
    for (int d = 0; fit && d < v->ndim; d++) { int64_t s = v->shape[d]; fit = s == 1 || s == wide.v[wide.n - v->ndim + d]; }
    if (!fit) return aj_refuse(c, "the values do not broadcast to one slice for each index");
    return ready_source(c, 2) && (c->in[2] = aj_live(aj_expand(c->in[2], &wide))) && (c->in[2] = aj_live(aj_reshape(c->in[2], &rows)));
}

static aj_tensor *without_slices(aj_node *n, aj_tensor *g) { return aj_index_fill(g, n->attrs->dim, aj_saved_in(n, 1), 0, n->attrs->base); }
bool index_fill__vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = without_slices(n, gy[0])) != NULL; }
static aj_tensor *slices_of(aj_node *n, aj_tensor *g) {
    g = aj_index_select(g, n->attrs->dim, aj_saved_in(n, 1), n->attrs->base);
    aj_ints shape = aj_sizes_in(n, 2);
    return g ? aj_reshape(g, &shape) : NULL;
}
bool index_copy__vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    if (aj_wants(n, 0) && !(gx[0] = without_slices(n, gy[0]))) return false;
    return !aj_wants(n, 2) || (gx[2] = slices_of(n, gy[0]));
}
bool index_add__vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    gx[0] = gy[0];
    if (!aj_wants(n, 2)) return true;
    gx[2] = slices_of(n, gy[0]);
    if (gx[2] && n->attrs->s != 1) gx[2] = aj_mul_number(gx[2], n->attrs->s, false);
    return gx[2] != NULL;
}
bool index_put__vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    if (!n->attrs->flag) return index_copy__vjp(n, gy, gx);
    gx[0] = gy[0];
    return !aj_wants(n, 2) || (gx[2] = slices_of(n, gy[0]));
}

aj_tensor *index_copy_compose(aj_call *c) {
    if (!aj_given(c, 0, 3)) return NULL;
    aj_tensor *y = aj_clone(c->in[0]);
    return y ? aj_index_copy_(y, c->attrs->dim, c->in[1], c->in[2], c->attrs->base) : NULL;
}
aj_tensor *index_add_compose(aj_call *c) {
    if (!aj_given(c, 0, 3)) return NULL;
    aj_tensor *y = aj_clone(c->in[0]);
    return y ? aj_index_add_(y, c->attrs->dim, c->in[1], c->in[2], c->attrs->s, c->attrs->base) : NULL;
}
aj_tensor *index_fill_compose(aj_call *c) {
    if (!aj_given(c, 0, 2)) return NULL;
    aj_tensor *y = aj_clone(c->in[0]);
    return y ? aj_index_fill_(y, c->attrs->dim, c->in[1], c->attrs->s, c->attrs->base) : NULL;
}
aj_tensor *index_put_compose(aj_call *c) {
    if (!aj_given(c, 0, 3)) return NULL;
    aj_tensor *y = aj_clone(c->in[0]);
    return y ? aj_index_put_(y, c->in[1], c->in[2], c->attrs->flag, c->attrs->base) : NULL;
}

/* -- take, put: positions in the elements as one row ------------------------------------------------------------------- */

aj_tensor *take_compose(aj_call *c) {
    if (!aj_given(c, 0, 2)) return NULL;
    aj_ints flat = {1, {c->in[0]->numel}}, shape = aj_sizes(c->in[1]);
    aj_tensor *x = aj_reshape(c->in[0], &flat);
    x = x ? aj_index_select(x, 0, c->in[1], c->attrs->base) : NULL;
    return x ? aj_reshape(x, &shape) : NULL;
}
bool put__check(aj_call *c) {
    if (!aj_given(c, 0, 3) || !ready_index(c, 1) || !flat_index(c)) return false;
    if (c->in[1]->numel != c->in[2]->numel)
        return aj_refuse(c, "there is one value for each index, and here are %lld values for %lld indices", (long long)c->in[2]->numel, (long long)c->in[1]->numel);
    aj_ints many = {1, {c->in[2]->numel}};
    c->attrs->dim = 0;
    return ready_source(c, 2) && (c->in[2] = aj_live(aj_reshape(c->in[2], &many)));
}
bool put__vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *index = aj_saved_in(n, 1);
    aj_ints many = {1, {index->numel}};
    gx[0] = gy[0];
    if (aj_wants(n, 0) && !n->attrs->flag) {
        aj_tensor *zero = zero_over(&many, gy[0]);
        if (!zero || !(gx[0] = aj_put(gy[0], index, zero, false, n->attrs->base))) return false;
    }
    return !aj_wants(n, 2) || (gx[2] = aj_take(gy[0], index, n->attrs->base));
}
aj_tensor *put_compose(aj_call *c) {
    if (!aj_given(c, 0, 3)) return NULL;
    aj_tensor *y = aj_clone(c->in[0]);
    return y ? aj_put_(y, c->in[1], c->in[2], c->attrs->flag, c->attrs->base) : NULL;
}

/* -- Several index tensors at once --------------------------------------------------------------------------------------- */

bool ravel_index_shape(aj_call *c) {
    if (c->n_in < 1 || c->n_in != c->attrs->list.n) return aj_error("ravel_index: one size for each index tensor");
    if (!aj_given(c, 0, c->n_in)) return false;
    for (int k = 0; k < c->n_in; k++) if (!aj_index_dtype(c, k)) return false;
    c->spec[0].dtype = AJ_I64;
    return aj_cast_inputs(c, 0, c->n_in, AJ_I64) && aj_broadcast(c, &c->spec[0]);
}
bool ravel_index_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }

/* The place of m index tensors, in[first] on, along dimensions dim to dim + m - 1 of x, as one index: flat gets the shape
 * of x with those dimensions as one. -1 after an error. */
static int one_index(aj_call *c, int first, aj_ints *flat, aj_tensor **index) {
    const aj_tensor *x = c->in[0];
    int m = c->n_in - first, dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0) return -1;
    if (dim + m > x->ndim) { aj_refuse(c, "%d index tensors from dimension %d on, of a tensor of %d dimensions", m, dim + 1, x->ndim); return -1; }
    aj_ints run = {m, {0}};
    int64_t all = 1;
    for (int d = 0; d < m; d++) all *= run.v[d] = x->shape[dim + d];
    flat->n = 0;
    for (int d = 0; d < x->ndim; d++) if (d <= dim || d >= dim + m) flat->v[flat->n++] = d == dim ? all : x->shape[d];
    *index = aj_live(aj_ravel_index(&(aj_list){m, c->in + first}, &run, c->attrs->base));
    return *index ? dim : -1;
}
aj_tensor *index_by_compose(aj_call *c) {
    if (c->n_in < 2) { aj_error("index_by: a list of a tensor and at least one index tensor"); return NULL; }
    if (!aj_given(c, 0, c->n_in)) return NULL;
    aj_ints flat;
    aj_tensor *i;
    int dim = one_index(c, 1, &flat, &i);
    aj_tensor *x = dim < 0 ? NULL : aj_live(aj_reshape(c->in[0], &flat));
    x = x ? aj_live(aj_index_select(x, dim, i, 0)) : NULL;
    return x && i->ndim == 0 ? aj_select(x, dim, 0) : x;
}
/* The values broadcast to what index_by would give. */
aj_tensor *index_put_by_compose(aj_call *c) {
    if (c->n_in < 3) { aj_error("index_put_by: a list of a tensor, the values, and at least one index tensor"); return NULL; }
    if (!aj_given(c, 0, c->n_in)) return NULL;
    aj_tensor *x = c->in[0], *i;
    aj_ints flat, wide = {0}, rows, whole = aj_sizes(x);
    int dim = one_index(c, 2, &flat, &i);
    if (dim < 0) return NULL;
    if (flat.n - 1 + i->ndim > AJ_MAX_DIM) { aj_refuse(c, "indices of %d dimensions are too large here", i->ndim); return NULL; }
    rows = flat;
    rows.v[dim] = i->numel;
    for (int d = 0; d < flat.n; d++) {
        if (d != dim) { wide.v[wide.n++] = flat.v[d]; continue; }
        for (int e = 0; e < i->ndim; e++) wide.v[wide.n++] = i->shape[e];
    }
    aj_tensor *v = c->in[1];
    bool fit = v->ndim <= wide.n;
    for (int d = 0; fit && d < v->ndim; d++) { int64_t s = v->shape[d]; fit = s == 1 || s == wide.v[wide.n - v->ndim + d]; }
    if (!fit) { aj_refuse(c, "the values do not broadcast to what the indices choose"); return NULL; }
    v = aj_expand(v, &wide);
    v = v ? aj_reshape(v, &rows) : NULL;
    x = v ? aj_reshape(x, &flat) : NULL;
    x = !x ? NULL : c->attrs->flag ? aj_index_add(x, dim, i, v, 1, 0) : aj_index_copy(x, dim, i, v, 0);
    return x ? aj_reshape(x, &whole) : NULL;
}

aj_tensor *one_hot_compose(aj_call *c) {
    if (!aj_given(c, 0, 1) || !aj_index_dtype(c, 0)) return NULL;
    aj_tensor *index = c->in[0];
    int64_t classes = c->attrs->i;
    if (index->ndim == AJ_MAX_DIM) { aj_refuse(c, "has %d dimensions already, the most there can be", AJ_MAX_DIM); return NULL; }
    if (classes == -1) {
        aj_ints all = {-1, {0}};
        if (!index->numel) { aj_refuse(c, "num_classes must be given for an index of no elements"); return NULL; }
        aj_tensor *most = aj_amax(index, &all, false);
        if (!most || !aj_get_int(most, NULL, &classes)) return NULL;
        classes += 1 - c->attrs->base;
    }
    if (classes < 1 && index->numel) { aj_refuse(c, "num_classes is %lld, and must be at least 1", (long long)classes); return NULL; }
    aj_ints shape = aj_sizes(index), none = {0};
    shape.v[shape.n++] = classes < 0 ? 0 : classes;
    aj_tensor *y = aj_full(AJ_I64, &shape, index->device, 0), *one = y ? aj_full(AJ_I64, &none, index->device, 1) : NULL;
    shape.v[shape.n - 1] = 1;
    index = one ? aj_live(aj_unsqueeze(index, -1)) : NULL;
    one = index ? aj_expand(one, &shape) : NULL;
    return one ? aj_scatter_(y, -1, index, one, c->attrs->base) : NULL;
}
