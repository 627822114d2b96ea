/* arrange.c - tensors turned, put along a diagonal, gathered by broadcast indices, and folded into places. */
#include "compose.h"
#include <string.h>

aj_tensor *rot90_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0];
    if (c->attrs->list.n != 2) { aj_refuse(c, "turns in the plane of two dimensions, not of %d", c->attrs->list.n); return NULL; }
    int a = aj_dim_of(c, c->attrs->list.v[0], x->ndim), b = a < 0 ? -1 : aj_dim_of(c, c->attrs->list.v[1], x->ndim);
    if (b < 0) return NULL;
    if (a == b) { aj_refuse(c, "dimension %d is named twice", a + 1); return NULL; }
    int64_t k = (c->attrs->i % 4 + 4) % 4;
    aj_ints both = {2, {a, b}}, first = {1, {a}}, second = {1, {b}};
    if (k == 0) return aj_clone(x);
    x = aj_live(aj_flip(x, k == 2 ? &both : k == 1 ? &second : &first));
    return k == 2 ? x : do_transpose(x, a, b);
}
static aj_tensor *flipped(aj_call *c, int dim) {
    if (!aj_given(c, 0, 1)) return NULL;
    if (c->in[0]->ndim <= dim) { aj_refuse(c, "the tensor must have at least %d dimension%s", dim + 1, dim ? "s" : ""); return NULL; }
    return aj_flip(c->in[0], &(aj_ints){1, {dim}});
}
aj_tensor *fliplr_compose(aj_call *c) { return flipped(c, 1); }
aj_tensor *flipud_compose(aj_call *c) { return flipped(c, 0); }

aj_tensor *block_diag_compose(aj_call *c) {
    if (c->n_in < 1) { aj_error("block_diag: the list is empty, and needs at least one tensor"); return NULL; }
    if (!aj_given(c, 0, c->n_in)) return NULL;
    int64_t width = 0, at = 0;
    for (int k = 0; k < c->n_in; k++) {
        aj_tensor *t = c->in[k];
        if (t->ndim > 2) { aj_refuse(c, "tensor %d has %d dimensions, and a block has at most 2", k + 1, t->ndim); return NULL; }
        aj_ints shape = {2, {t->ndim == 2 ? t->shape[0] : 1, t->ndim ? t->shape[t->ndim - 1] : 1}};
        if (!(c->in[k] = do_reshape(t, &shape))) return NULL;
        width += shape.v[1];
    }
    for (int k = 0; k < c->n_in; k++) {
        int64_t n = c->in[k]->shape[1];
        aj_ints before = {2, {0, at}}, after = {2, {0, width - at - n}};
        if (!(c->in[k] = aj_live(aj_constant_pad(c->in[k], &before, &after, 0)))) return NULL;
        at += n;
    }
    return aj_cat(&(aj_list){c->n_in, c->in}, 0);
}

/* The index and x broadcast against each other along all other dimensions. */
aj_tensor *take_along_dim_compose(aj_call *c) {
    if (!aj_given(c, 0, 2) || !aj_index_dtype(c, 1)) return NULL;
    aj_tensor *x = c->in[0], *index = c->in[1];
    if (c->attrs->dim == AJ_NO_DIM) {
        x = do_row(x);
        index = do_row(index);
        return x && index ? aj_gather(x, 0, index, c->attrs->base) : NULL;
    }
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0) return NULL;
    if (x->ndim != index->ndim) { aj_refuse(c, "the index has %d dimensions, and must have %d", index->ndim, x->ndim); return NULL; }
    aj_ints sx = aj_sizes(x), si = aj_sizes(index);
    for (int d = 0; d < x->ndim; d++) {
        if (d == dim || sx.v[d] == si.v[d]) continue;
        if (sx.v[d] == 1) sx.v[d] = si.v[d];
        else if (si.v[d] == 1) si.v[d] = sx.v[d];
        else { aj_refuse(c, "sizes %lld and %lld do not match along dimension %d", (long long)sx.v[d], (long long)si.v[d], d + 1); return NULL; }
    }
    x = do_expand(x, &sx);
    index = do_expand(index, &si);
    return x && index ? aj_gather(x, dim, index, c->attrs->base) : NULL;
}

/* -- scatter_reduce ------------------------------------------------------------------------------------------------------- */

enum { FOLD_PROD, FOLD_MAX, FOLD_MIN, FOLD_SUM, FOLD_MEAN };
int8_t aj_fold_of(const char *name) {
    static const char *const names[] = {"prod", "amax", "amin", "sum", "mean"};
    for (int i = 0; i < 5; i++) if (name && !strcmp(name, names[i])) return (int8_t)i;
    return -1;
}

/* Where nothing of x itself counts, the places that the index names start empty. */
static aj_tensor *without(aj_tensor *x, int dim, aj_tensor *index, int base) {
    aj_ints shape = aj_sizes(index);
    aj_tensor *zero = x ? do_expand(do_number(x, 0), &shape) : NULL;
    return zero ? aj_live(aj_scatter(x, dim, index, zero, base)) : NULL;
}
aj_tensor *scatter_reduce_compose(aj_call *c) {
    if (!aj_given(c, 0, 3) || !aj_index_dtype(c, 1)) return NULL;
    aj_tensor *x = c->in[0], *index = c->in[1], *src = c->in[2];
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim), base = c->attrs->base, how = c->attrs->mode;
    bool self = c->attrs->flag;
    if (dim < 0) return NULL;
    if (how < 0) { aj_refuse(c, "reduce is \"sum\", \"prod\", \"mean\", \"amax\" or \"amin\""); return NULL; }
    if (x->dtype == AJ_BOOL && how == FOLD_MEAN) { aj_refuse(c, "a mean is not for bools; convert them with :float()"); return NULL; }
    if (src->dtype != x->dtype) { aj_refuse(c, "the source is of %s and the first tensor of %s, and they must agree", aj_dtype_name((aj_dtype)src->dtype), aj_dtype_name((aj_dtype)x->dtype)); return NULL; }
    if (index->numel == 0) return do_clone(x);
    if (index->ndim != src->ndim) { aj_refuse(c, "the index has %d dimensions, and the source %d", index->ndim, src->ndim); return NULL; }
    for (int d = 0; d < index->ndim && src; d++) {
        if (index->shape[d] > src->shape[d]) { aj_refuse(c, "the index has size %lld along dimension %d, more than the source", (long long)index->shape[d], d + 1); return NULL; }
        if (index->shape[d] < src->shape[d]) src = do_narrow(src, d, 0, index->shape[d]);
    }
    if (!src) return NULL;
    if (x->dtype == AJ_BOOL) {                           /* both: the smaller; either: the larger */
        aj_tensor *y = do_cast(x, AJ_U8);
        if (!(src = do_cast(src, AJ_U8)) || !y) return NULL;
        return do_cast(aj_live(aj_scatter_fold(y, dim, index, src, how == FOLD_PROD || how == FOLD_MIN ? "amin" : "amax", self, base)), AJ_BOOL);
    }
    if (how < FOLD_SUM) {
        static const char *const names[] = {"prod", "amax", "amin"};
        return aj_scatter_fold(x, dim, index, src, names[how], self, base);
    }
    aj_tensor *start = self ? x : without(x, dim, index, base);
    aj_tensor *sum = start ? aj_live(aj_scatter_add(start, dim, index, src, base)) : NULL;
    if (how == FOLD_SUM || !sum) return sum;
    aj_ints shape = aj_sizes(x), many = aj_sizes(index);
    aj_tensor *one = aj_live(aj_full_int(AJ_I64, &(aj_ints){0}, x->device, 1)), *count = one ? aj_live(aj_full_int(AJ_I64, &shape, x->device, 1)) : NULL;
    if (!self) count = count ? without(count, dim, index, base) : NULL;
    one = count ? do_expand(one, &many) : NULL;
    count = one ? aj_live(aj_scatter_add(count, dim, index, one, base)) : NULL;
    if (!count) return NULL;
    return aj_is_float(x->dtype) ? do_div(sum, do_cast(count, x->dtype)) : aj_floor_divide(sum, do_cast(count, x->dtype));
}

/* scatter_reduce with one index for each slice. */
aj_tensor *index_reduce_compose(aj_call *c) {
    static const char *const names[] = {"prod", "amax", "amin", NULL, "mean"};
    if (!aj_given(c, 0, 3) || !aj_index_dtype(c, 1)) return NULL;
    aj_tensor *x = c->in[0], *index = c->in[1], *src = c->in[2];
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim), how = c->attrs->mode;
    if (dim < 0) return NULL;
    if (how < 0 || !names[how]) { aj_refuse(c, "reduce is \"prod\", \"mean\", \"amax\" or \"amin\""); return NULL; }
    if (index->ndim > 1) { aj_refuse(c, "the index has %d dimensions, and must have 1", index->ndim); return NULL; }
    bool fit = x->ndim == src->ndim || (x->ndim <= 1 && src->ndim <= 1);
    for (int d = 0; fit && d < x->ndim && d < src->ndim; d++) fit = src->shape[d] == (d == dim ? index->numel : x->shape[d]);
    if (!fit || (!src->ndim && index->numel != 1)) {
        aj_refuse(c, "the source has one slice for each of the %lld indices along dimension %d, and the sizes of the first tensor elsewhere", (long long)index->numel, dim + 1);
        return NULL;
    }
    aj_ints shape = aj_sizes(x), one = {shape.n ? shape.n : 1, {1, 1, 1, 1, 1, 1, 1, 1}}, wide = shape;
    one.v[dim] = index->numel;
    if (!shape.n) wide = one; else wide.v[dim] = index->numel;
    x = shape.n ? x : do_row(x);
    src = do_reshape(src, &wide);
    index = do_expand(do_reshape(index, &one), &wide);
    return x && src && index ? do_reshape(aj_live(aj_scatter_reduce(x, dim, index, src, names[how], c->attrs->flag, c->attrs->base)), &shape) : NULL;
}

bool scatter_fold_shape(aj_call *c) {
    if (!aj_given(c, 0, 3) || !aj_index_dtype(c, 1)) return false;
    const aj_tensor *x = c->in[0], *index = c->in[1];
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0) return false;
    c->attrs->dim = dim;
    if (c->attrs->mode < 0 || c->attrs->mode > FOLD_MIN) return aj_refuse(c, "reduce is \"prod\", \"amax\" or \"amin\"");
    if (!aj_same_shape(index, c->in[2])) return aj_refuse(c, "the index and the source must have the same sizes");
    if ((x->ndim ? x->ndim : 1) != (index->ndim ? index->ndim : 1)) return aj_refuse(c, "the index has %d dimensions and must have %d", index->ndim, x->ndim);
    for (int d = 0; d < x->ndim && d < index->ndim; d++)
        if (d != dim && index->shape[d] > x->shape[d])
            return aj_refuse(c, "the index has size %lld along dimension %d, more than the %lld of the first tensor", (long long)index->shape[d], d + 1, (long long)x->shape[d]);
    aj_spec_like(&c->spec[0], x);
    return aj_cast_inputs(c, 1, 1, AJ_I64) && aj_cast_inputs(c, 2, 1, x->dtype);
}

/* Extremes share the gradient with their equals among what counts (PyTorch divides also by an x that does not); a product gives each factor the product of the others. */
bool scatter_fold_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    const aj_attrs *a = n->attrs;
    aj_tensor *x = aj_saved_in(n, 0), *index = aj_saved_in(n, 1), *src = aj_saved_in(n, 2), *y = aj_saved_out(n, 0), *g = gy[0];
    aj_tensor *from = aj_live(aj_gather(y, a->dim, index, a->base)), *own, *theirs;
    if (!from) return false;
    if (a->mode != FOLD_PROD) {
        bool mode = aj_grad_mode(false);
        own = do_cast(do_eq(x, y), x->dtype);
        if (!a->flag && own) own = without(own, a->dim, index, a->base);
        theirs = do_cast(do_eq(src, from), x->dtype);
        aj_tensor *count = own && theirs ? aj_live(aj_scatter_add(own, a->dim, index, theirs, a->base)) : NULL;
        aj_grad_mode(mode);
        g = do_div(g, count);
        if (!g) return false;
        gx[0] = do_mul(own, g);
        aj_tensor *gs = aj_live(aj_gather(g, a->dim, index, a->base));
        return gx[0] && (gx[2] = do_mul(theirs, gs));
    }
    bool mode = aj_grad_mode(false);
    aj_tensor *zx = do_eq_n(x, 0), *zs = do_eq_n(src, 0), *count = do_cast(zx, AJ_I64);
    if (!a->flag && count) count = without(count, a->dim, index, a->base);
    count = count ? aj_live(aj_scatter_add(count, a->dim, index, do_cast(zs, AJ_I64), a->base)) : NULL;
    aj_tensor *counts = count ? aj_live(aj_gather(count, a->dim, index, a->base)) : NULL;
    aj_grad_mode(mode);
    aj_tensor *fx = do_fill_where(x, zx, 1), *fs = counts ? do_fill_where(src, zs, 1) : NULL;
    aj_tensor *rest = fx && fs ? aj_live(aj_scatter_fold(fx, a->dim, index, fs, "prod", a->flag, a->base)) : NULL;
    aj_tensor *rests = rest ? aj_live(aj_gather(rest, a->dim, index, a->base)) : NULL, *gs = rests ? aj_live(aj_gather(g, a->dim, index, a->base)) : NULL;
    if (!gs) return false;
    aj_tensor *nil = do_number(rest, 0);
    own = do_where(do_logical_and(zx, do_eq_n(count, 1)), rest, do_where(do_eq_n(count, 0), do_div(rest, fx), nil));
    theirs = do_where(do_logical_and(zs, do_eq_n(counts, 1)), rests, do_where(do_eq_n(counts, 0), do_div(rests, fs), nil));
    if (!a->flag) {                                      /* what the index does not name is x itself */
        aj_tensor *untouched = do_number(x, 1);
        aj_ints shape = aj_sizes(x);
        untouched = do_expand(untouched, &shape);
        own = untouched && own ? without(untouched, a->dim, index, a->base) : NULL;
    }
    return (gx[0] = do_mul(own, g)) && (gx[2] = do_mul(theirs, gs));
}
