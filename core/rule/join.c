/* join.c - tensors put together, turned over, repeated and padded. */
#include "rule.h"
#include <stdlib.h>
#include <string.h>

/* -- cat, stack ------------------------------------------------------------------------------------------------- */

/* An empty tensor of one dimension joins anything, as in PyTorch. */
static bool skipped(int ndim, int64_t first) { return ndim == 1 && first == 0; }

bool cat_shape(aj_call *c) {
    if (c->n_in < 1) return aj_error("cat: the list is empty, and needs at least one tensor");
    if (!aj_given(c, 0, c->n_in)) return false;
    const aj_tensor *first = NULL;
    aj_spec *y = &c->spec[0];
    int dim = 0, dtype = c->in[0]->dtype;
    for (int k = 0; k < c->n_in; k++) {
        const aj_tensor *t = c->in[k];
        dtype = (int)aj_promote((aj_dtype)dtype, (aj_dtype)t->dtype);
        if (skipped(t->ndim, t->shape[0])) continue;
        if (!t->ndim) return aj_refuse(c, "tensor %d has no dimensions and cannot be joined; use :stack", k + 1);
        if (!first) {
            first = t;
            if ((dim = aj_dim_of(c, c->attrs->dim, t->ndim)) < 0) return false;
            aj_spec_like(y, t);
            continue;
        }
        if (t->ndim != first->ndim) return aj_refuse(c, "tensor %d has %d dimensions, where those before it have %d", k + 1, t->ndim, first->ndim);
        for (int d = 0; d < t->ndim; d++) {
            if (d == dim) y->shape[d] += t->shape[d];
            else if (t->shape[d] != y->shape[d])
                return aj_refuse(c, "tensor %d has size %lld along dimension %d, where those before it have %lld", k + 1, (long long)t->shape[d], d + 1, (long long)y->shape[d]);
        }
    }
    if (!first) aj_spec_like(y, c->in[0]);
    y->dtype = (uint8_t)dtype;
    c->attrs->dim = dim;
    return true;
}
/* Where each input begins follows from their numbers of elements, which the node knows of all. */
bool cat_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    int dim = n->attrs->dim;
    int64_t slice = gy[0]->numel && gy[0]->shape[dim] ? gy[0]->numel / gy[0]->shape[dim] : 0, at = 0;
    for (int k = 0; k < n->n_in; k++) {
        if (aj_wants(n, k)) {
            aj_ints s = aj_sizes_in(n, k);
            if (!skipped(s.n, s.v[0])) gx[k] = slice ? aj_narrow(gy[0], dim, at, s.v[dim]) : aj_full((aj_dtype)gy[0]->dtype, &s, gy[0]->device, 0);
            if (!gx[k] && !skipped(s.n, s.v[0])) return false;
        }
        if (slice) at += n->in[k].numel / slice;
    }
    return true;
}

aj_tensor *stack_compose(aj_call *c) {
    if (c->n_in < 1) { aj_error("stack: the list is empty, and needs at least one tensor"); return NULL; }
    if (!aj_given(c, 0, c->n_in)) return NULL;
    for (int k = 1; k < c->n_in; k++)
        if (!aj_same_shape(c->in[0], c->in[k])) { aj_refuse(c, "tensor %d has another shape than the first; only tensors of one shape can be stacked", k + 1); return NULL; }
    int dim = aj_dim_of(c, c->attrs->dim, c->in[0]->ndim + 1);
    if (dim < 0) return NULL;
    aj_tensor *few[16], **t = few, *y = NULL;
    if (c->n_in > 16 && !(t = malloc((size_t)c->n_in * sizeof *t))) { aj_error("stack: out of memory"); return NULL; }
    bool ok = true;
    for (int k = 0; k < c->n_in && ok; k++) ok = (t[k] = aj_live(aj_unsqueeze(c->in[k], dim))) != NULL;
    if (ok) y = aj_cat(&(aj_list){c->n_in, t}, dim);
    if (t != few) free(t);
    return y;
}

/* -- flip, roll ---------------------------------------------------------------------------------------------------- */

bool flip_shape(aj_call *c) {
    bool over[AJ_MAX_DIM];
    if (!aj_given(c, 0, 1) || !aj_dims_of(c, &c->attrs->list, c->in[0]->ndim, over)) return false;
    aj_spec_like(&c->spec[0], c->in[0]);
    return true;
}
bool flip_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = aj_flip(gy[0], &n->attrs->list)) != NULL; }

static aj_tensor *roll_one(aj_tensor *x, int dim, int64_t shift) {
    x = aj_live(x);
    if (!x) return NULL;
    int64_t size = x->ndim ? x->shape[dim] : 0;
    if (!size || !(shift = ((shift % size) + size) % size)) return x;
    aj_tensor *part[2] = {aj_narrow(x, dim, size - shift, shift), NULL};
    if (!part[0] || !(part[1] = aj_narrow(x, dim, 0, size - shift))) return NULL;
    return aj_cat(&(aj_list){2, part}, dim);
}
aj_tensor *roll_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0], *y = x;
    const aj_ints *shifts = &c->attrs->list, *dims = &c->attrs->list2;
    aj_ints shape = aj_sizes(x), flat = {1, {x->numel}};
    if (dims->n < 0) {                                   /* without dims: as one row */
        if (shifts->n != 1) { aj_refuse(c, "%d shifts without dims; one is wanted", shifts->n); return NULL; }
        y = aj_reshape(x, &flat);
        y = y ? roll_one(y, 0, shifts->v[0]) : NULL;
        y = y ? aj_live(aj_reshape(y, &shape)) : NULL;
        return aj_unshared(y, x);
    }
    if (!x->ndim && dims->n) { aj_refuse(c, "a tensor of no dimensions has not %d", dims->n); return NULL; }
    if (shifts->n != dims->n) { aj_refuse(c, "%d shifts for %d dims", shifts->n, dims->n); return NULL; }
    for (int i = 0; i < dims->n && y; i++) {
        int dim = aj_dim_of(c, dims->v[i], x->ndim);
        if (dim < 0) return NULL;
        y = aj_live(roll_one(y, dim, shifts->v[i]));
    }
    return aj_unshared(y, x);
}

/* -- pad -------------------------------------------------------------------------------------------------------------- */

enum { PAD_CONSTANT, PAD_REFLECT, PAD_REPLICATE, PAD_CIRCULAR };
int8_t aj_pad_mode(const char *mode) {
    static const char *names[] = {"constant", "reflect", "replicate", "circular"};
    if (!mode) return PAD_CONSTANT;
    for (int8_t i = 0; i < 4; i++) if (!strcmp(mode, names[i])) return i;
    return -1;
}

/* Sums of paddings do not overflow. */
static bool near(int64_t pad) { return pad < (int64_t)1 << 60 && pad > -((int64_t)1 << 60); }

/* before and after: elements to add at the two ends of each dimension; negative ones are cut off. */
bool constant_pad_shape(aj_call *c) {
    if (!aj_given(c, 0, 1)) return false;
    const aj_tensor *x = c->in[0];
    const aj_ints *before = &c->attrs->list, *after = &c->attrs->list2;
    if (before->n != x->ndim || after->n != x->ndim) return aj_refuse(c, "before and after have one entry for each dimension");
    aj_spec *y = &c->spec[0];
    aj_spec_like(y, x);
    for (int d = 0; d < x->ndim; d++) {
        if (!near(before->v[d]) || !near(after->v[d])) return aj_refuse(c, "padding of %lld and %lld is too much", (long long)before->v[d], (long long)after->v[d]);
        int64_t cut = (before->v[d] < 0 ? -before->v[d] : 0) + (after->v[d] < 0 ? -after->v[d] : 0);
        y->shape[d] += before->v[d] + after->v[d];
        if (y->shape[d] < 0 || cut > x->shape[d])
            return aj_refuse(c, "padding of %lld and %lld leaves less than nothing of dimension %d of size %lld", (long long)before->v[d], (long long)after->v[d], d + 1, (long long)x->shape[d]);
    }
    return true;
}
/* Linear in x, and its own transpose: what was put on is cut off, and what was cut off is put on. */
bool constant_pad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints before = n->attrs->list, after = n->attrs->list2;
    for (int d = 0; d < before.n; d++) { before.v[d] = -before.v[d]; after.v[d] = -after.v[d]; }
    return (gx[0] = aj_constant_pad(gy[0], &before, &after, 0)) != NULL;
}

/* x with dimension dim replaced by its elements at positions that mirror, clamp or wrap around. */
static aj_tensor *pad_one(const aj_call *c, aj_tensor *x, int dim, int64_t before, int64_t after) {
    int64_t n = x->shape[dim], m = n + before + after;
    int mode = c->attrs->mode;
    int64_t most = mode == PAD_REFLECT ? n - 1 : mode == PAD_CIRCULAR ? n : INT64_MAX;
    if (m < 0 || (n == 0 && m > 0)) { aj_refuse(c, "padding of %lld and %lld does not fit dimension %d of size %lld", (long long)before, (long long)after, dim + 1, (long long)n); return NULL; }
    if (before > most || after > most) {
        aj_refuse(c, "padding of %lld is too much for dimension %d of size %lld: %s takes at most %lld", (long long)(before > after ? before : after), dim + 1, (long long)n, mode == PAD_REFLECT ? "reflect" : "circular", (long long)most);
        return NULL;
    }
    if (before <= 0 && after <= 0) return aj_live(aj_narrow(x, dim, -before, m));
    if (mode == PAD_CIRCULAR && (before < 0 || after < 0)) {         /* what is left after the cut goes around */
        int64_t cut = before < 0 ? -before : 0;
        n -= cut + (after < 0 ? -after : 0);
        if (!(x = aj_live(aj_narrow(x, dim, cut, n)))) return NULL;
        if (before < 0) before = 0;
    }
    aj_tensor *i = aj_arange(AJ_I64, x->device, (double)-before, 1, m);
    double last = (double)(n - 1);
    if (mode == PAD_REPLICATE) {
        i = i ? aj_clamp_min(i, 0) : NULL;
        i = i ? aj_clamp_max(i, last) : NULL;
    } else if (mode == PAD_CIRCULAR) {
        i = i ? aj_remainder_number(i, (double)n, false) : NULL;
    } else {                                             /* n - 1 - |n - 1 - |i|| */
        i = i ? aj_abs(i) : NULL;
        i = i ? aj_sub_number(i, last, true) : NULL;
        i = i ? aj_abs(i) : NULL;
        i = i ? aj_sub_number(i, last, true) : NULL;
    }
    return i ? aj_live(aj_index_select(x, dim, i, 0)) : NULL;
}
aj_tensor *pad_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0];
    const aj_ints *pad = &c->attrs->list;
    int mode = c->attrs->mode, n = pad->n / 2;
    if (mode < 0) { aj_refuse(c, "there is no such mode; use constant, reflect, replicate or circular"); return NULL; }
    if (pad->n % 2 || n > x->ndim) { aj_refuse(c, "pad has %d entries; it takes two for each dimension padded, from the last dimension backwards", pad->n); return NULL; }
    for (int i = 0; i < pad->n; i++) if (!near(pad->v[i])) { aj_refuse(c, "padding of %lld is too much", (long long)pad->v[i]); return NULL; }
    aj_ints before = {x->ndim, {0}}, after = {x->ndim, {0}};
    for (int i = 0; i < n; i++) { before.v[x->ndim - 1 - i] = pad->v[2 * i]; after.v[x->ndim - 1 - i] = pad->v[2 * i + 1]; }
    if (mode == PAD_CONSTANT) return aj_constant_pad(x, &before, &after, c->attrs->s);
    aj_tensor *y = x;
    for (int d = 0; d < x->ndim && y; d++)
        if (before.v[d] || after.v[d]) y = pad_one(c, y, d, before.v[d], after.v[d]);
    return y == x ? aj_clone(x) : y;
}

/* -- tile, repeat_interleave -------------------------------------------------------------------------------------------- */

/* Each dimension gets one of stride 0 in front of it, as many at a time as there is room for, and a copy makes them one. */
aj_tensor *tile_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0], *y = x;
    aj_ints reps = c->attrs->list, shape = {reps.n, {0}};
    if (reps.n < x->ndim) {
        int lead = x->ndim - reps.n;
        for (int d = x->ndim - 1; d >= 0; d--) reps.v[d] = d < lead ? 1 : reps.v[d - lead];
        shape.n = reps.n = x->ndim;
    }
    bool any = false;
    for (int d = 0; d < reps.n; d++) {
        if (reps.v[d] < 0) { aj_refuse(c, "%lld repetitions of dimension %d", (long long)reps.v[d], d + 1); return NULL; }
        shape.v[d] = d < reps.n - x->ndim ? 1 : x->shape[d - (reps.n - x->ndim)];
        any |= reps.v[d] != 1;
        if (reps.v[d] && shape.v[d] && shape.v[d] > INT64_MAX / reps.v[d]) { aj_refuse(c, "%lld repetitions of dimension %d are too many", (long long)reps.v[d], d + 1); return NULL; }
    }
    if (any && reps.n == AJ_MAX_DIM) { aj_refuse(c, "tensors of up to %d dimensions can be repeated", AJ_MAX_DIM - 1); return NULL; }
    if (!any) { y = aj_clone(x); return y ? aj_reshape(y, &shape) : NULL; }
    y = aj_reshape(x, &shape);
    for (bool more = true; y && more; ) {
        aj_ints from = {0}, to = {0};
        int room = AJ_MAX_DIM - reps.n;
        more = false;
        for (int d = 0; d < reps.n; d++) {
            int64_t size = shape.v[d];
            if (reps.v[d] != 1 && room-- > 0) {
                from.v[from.n++] = 1;
                to.v[to.n++] = reps.v[d];
                shape.v[d] *= reps.v[d];
                reps.v[d] = 1;
            } else more |= reps.v[d] != 1;
            from.v[from.n++] = to.v[to.n++] = size;
        }
        y = aj_reshape(y, &from);
        y = y ? aj_expand(y, &to) : NULL;
        y = y ? aj_reshape(y, &shape) : NULL;
    }
    return aj_unshared(y, x);                            /* an expanded element may still look like a row */
}

static int one_dim(const aj_call *c, const aj_ints *dims, aj_tensor **x) {
    if (dims->n > 1) { aj_refuse(c, "repeats along one dimension, not %d", dims->n); return -1; }
    if (dims->n == 1) return aj_dim_of(c, dims->v[0], (*x)->ndim);
    aj_ints flat = {1, {(*x)->numel}};
    *x = aj_live(aj_reshape(*x, &flat));
    return *x ? 0 : -1;
}
aj_tensor *repeat_interleave_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0];
    int64_t n = c->attrs->i;
    if (n < 0) { aj_refuse(c, "%lld repetitions", (long long)n); return NULL; }
    int dim = one_dim(c, &c->attrs->list, &x);
    if (dim < 0) return NULL;
    if (x->ndim == AJ_MAX_DIM) { aj_refuse(c, "tensors of up to %d dimensions can be repeated", AJ_MAX_DIM - 1); return NULL; }
    if (!x->ndim) { aj_ints one = {1, {1}}; if (!(x = aj_live(aj_reshape(x, &one)))) return NULL; }
    aj_ints shape = aj_sizes(x), wide = {0};
    for (int d = 0; d < x->ndim; d++) { wide.v[wide.n++] = x->shape[d]; if (d == dim) wide.v[wide.n++] = n; }
    shape.v[dim] *= n;
    x = aj_live(aj_unsqueeze(x, dim + 1));
    x = x ? aj_live(aj_expand(x, &wide)) : NULL;
    x = x ? aj_live(aj_reshape(x, &shape)) : NULL;
    return aj_unshared(x, c->in[0]);
}

/* Position i as often as repeats says for it; the size of the result is their sum. */
bool repeat_positions_shape(aj_call *c) {
    if (!aj_given(c, 0, 1) || !aj_index_dtype(c, 0)) return false;
    aj_ints all = {-1, {0}};
    if (c->in[0]->ndim > 1) return aj_refuse(c, "the repeats have one dimension, not %d", c->in[0]->ndim);
    if (!aj_cast_inputs(c, 0, 1, AJ_I64) || !(c->in[0] = aj_live(aj_contiguous(c->in[0])))) return false;
    c->spec[0].dtype = AJ_I64;
    c->spec[0].ndim = 1;
    c->spec[0].shape[0] = 0;
    if (!c->in[0]->numel) return true;
    int64_t least = 0;
    aj_tensor *n = aj_sum(c->in[0], &all, false), *low = n ? aj_amin(c->in[0], &all, false) : NULL;
    if (!low || !aj_get_int(low, NULL, &least) || !aj_get_int(n, NULL, &c->spec[0].shape[0])) return false;
    return least >= 0 || aj_refuse(c, "the repeats hold %lld, and must not be negative", (long long)least);
}
bool repeat_positions_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }

aj_tensor *repeat_each_compose(aj_call *c) {
    if (!aj_given(c, 0, 2)) return NULL;
    aj_tensor *x = c->in[0], *r = c->in[1];
    int dim = one_dim(c, &c->attrs->list, &x);
    if (dim < 0) return NULL;
    int64_t n = x->ndim ? x->shape[dim] : 1;
    if (r->numel == 1 && n != 1) { aj_ints many = {1, {n}}; r = aj_live(aj_expand(r, &many)); }
    if (!r) return NULL;
    if (r->numel != n) { aj_refuse(c, "there is one repeat for each of the %lld slices, not %lld", (long long)n, (long long)r->numel); return NULL; }
    aj_tensor *i = aj_repeat_positions(r, 0);
    return i ? aj_index_select(x, dim, i, 0) : NULL;
}
