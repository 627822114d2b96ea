/* order.c - what depends on the order of elements: medians, quantiles, modes, counts by value, places in a sorted row.
 *
 * Most are a sort without gradient, and a gather at the chosen places, which has one.
 */
#include "compose.h"
#include <math.h>
#include <string.h>

/* A result that is 0-based and has dim, as positions from base; without dim unless it is kept. */
static aj_tensor *placed(aj_call *c, aj_tensor *at, int dim, bool keep) {
    at = c->attrs->base ? do_add_n(at, c->attrs->base) : at;
    return keep || !at || !at->ndim ? at : do_squeeze(at, dim);
}
/* The values of x at places (0-based, of size 1 along dim), and the places. */
static aj_tensor *chosen(aj_call *c, aj_tensor *x, int dim, aj_tensor *at, bool keep) {
    aj_tensor *y = do_gather(x, dim, at);
    if (y && x->ndim && !keep) y = do_squeeze(y, dim);
    c->out[1] = y ? placed(c, at, dim, keep) : NULL;
    c->n_out = 2;
    return c->out[1] ? y : NULL;
}
/* Values in order along dim, and where they were; outside any graph. */
static bool in_order(aj_tensor *x, int dim, aj_tensor **values, aj_tensor **order) {
    bool mode = aj_grad_mode(false);
    *values = aj_live(aj_sort(x, dim, false, true, 0));
    *order = *values ? aj_live(aj_result(2)) : NULL;
    aj_grad_mode(mode);
    return *order != NULL;
}
/* The dimension of a reduction; without one x becomes a row, and keepdim is left to the caller. -1 after an error. */
static int along(aj_call *c, aj_tensor **x) {
    if (!aj_given(c, 0, 1)) return -1;
    *x = c->in[0];
    if (c->attrs->dim == AJ_NO_DIM) return (*x = do_row(*x)) ? 0 : -1;
    return aj_dim_of(c, c->attrs->dim, (*x)->ndim);
}
static bool some_along(aj_call *c, aj_tensor *x, int dim) {
    if (!x->ndim || x->shape[dim]) return true;
    return aj_refuse(c, "dimension %d has no elements, and there is none to choose", dim + 1);
}
static int64_t size_of(const aj_tensor *x, int dim) { return x->ndim ? x->shape[dim] : 1; }

/* -- kthvalue, median, mode --------------------------------------------------------------------------------------------- */

aj_tensor *kthvalue_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0], *values, *order;
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0 || !some_along(c, x, dim)) return NULL;
    int64_t k = c->attrs->i, n = size_of(x, dim);
    if (k < 1 || k > n) { aj_refuse(c, "k is %lld, and must be from 1 to %lld, the size of dimension %d", (long long)k, (long long)n, dim + 1); return NULL; }
    if (!in_order(x, dim, &values, &order)) return NULL;
    return chosen(c, x, dim, x->ndim ? do_narrow(order, dim, k - 1, 1) : order, c->attrs->keepdim);
}

/* y, one of the elements of row x, with a gradient that all equal to it share. */
static aj_tensor *shared(aj_tensor *x, aj_tensor *y) {
    bool mode = aj_grad_mode(false);
    aj_tensor *v = do_clone(y), *same = do_logical_or(do_eq(x, v), do_logical_and(do_isnan(x), do_isnan(v)));
    aj_tensor *count = do_cast(do_sum(same, 0, false), y->dtype), *zero = v ? do_number(v, 0) : NULL;
    aj_grad_mode(mode);
    aj_tensor *exact = do_add(do_div(do_sum(do_where(same, do_sub(x, v), zero), 0, false), count), v);
    return do_where(do_isfinite(v), exact, do_sum(do_where(same, do_div(x, count), zero), 0, false));
}

/* The lower one of two in the middle. A NaN is the median of all, unless they are left out. */
static aj_tensor *median(aj_call *c, bool leave_out) {
    aj_tensor *x, *values, *order, *at;
    int dim = along(c, &x);
    if (dim < 0) return NULL;
    bool all = c->attrs->dim == AJ_NO_DIM;
    if (all && !x->numel && aj_is_float(x->dtype)) {
        c->n_out = 2;
        c->out[1] = aj_live(aj_full_int(AJ_I64, &(aj_ints){0}, x->device, c->attrs->base));
        return do_number(x, (double)__builtin_nan(""));
    }
    if (!some_along(c, x, dim) || !in_order(x, dim, &values, &order)) return NULL;
    int64_t n = size_of(x, dim), middle = (n - 1) / 2;
    if (!x->ndim) at = order;
    else if (!aj_is_float(x->dtype)) at = do_narrow(order, dim, middle, 1);
    else {
        aj_tensor *bad = do_isnan(values), *count = do_sum(bad, dim, true), *first = do_n_sub((double)n, count), *k;
        if (leave_out) {                                 /* (n - count - 1) / 2, and 0 when all are NaN */
            k = do_sub_n(first, 1);
            k = k ? aj_live(aj_clamp_min(k, 0)) : NULL;
            k = k ? aj_live(aj_floor_divide_number(k, 2, false)) : NULL;
        } else {
            aj_tensor *here = first ? aj_live(aj_full_int(AJ_I64, &(aj_ints){0}, x->device, middle)) : NULL;
            k = do_where(do_gt_n(count, 0), first, here);
        }
        at = k ? do_gather(order, dim, k) : NULL;
    }
    if (!at) return NULL;
    aj_tensor *y = chosen(c, x, dim, at, c->attrs->keepdim && !all), *place = c->out[1];
    if (y && all && y->requires_grad && !y->ndim && (y = shared(x->ndim ? x : do_row(x), y))) c->out[1] = place;
    if (!y || !all || !c->attrs->keepdim) return y;
    aj_ints ones = {c->in[0]->ndim, {1, 1, 1, 1, 1, 1, 1, 1}};
    c->out[1] = do_reshape(c->out[1], &ones);
    return c->out[1] ? do_reshape(y, &ones) : NULL;
}
aj_tensor *median_compose(aj_call *c) { return median(c, false); }
aj_tensor *nanmedian_compose(aj_call *c) { return median(c, true); }

/* In order, the length of a run so far is the distance from where the last run began; the longest one's end is the mode. */
aj_tensor *mode_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0], *values, *order;
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0 || !some_along(c, x, dim) || !in_order(x, dim, &values, &order)) return NULL;
    if (!x->ndim) return chosen(c, x, dim, order, c->attrs->keepdim);
    int64_t n = x->shape[dim];
    aj_ints line = {x->ndim, {1, 1, 1, 1, 1, 1, 1, 1}}, first = aj_sizes(x);
    line.v[dim] = n;
    first.v[dim] = 1;
    aj_tensor *place = do_reshape(do_count(x, 0, n), &line), *zero = aj_live(aj_full_int(AJ_I64, &(aj_ints){0}, x->device, 0));
    aj_tensor *begins = do_cat(aj_live(aj_full(AJ_BOOL, &first, x->device, 1)), do_ne(do_narrow(values, dim, 1, n - 1), do_narrow(values, dim, 0, n - 1)), dim);
    aj_tensor *begin = do_where(begins, place, zero);
    begin = begin ? aj_live(aj_cummax(begin, dim, 0)) : NULL;
    aj_tensor *length = do_sub(place, begin), *best = length ? aj_live(aj_argmax(length, dim, true, 0)) : NULL;
    aj_tensor *at = best ? do_gather(order, dim, best) : NULL;
    return at ? chosen(c, x, dim, at, c->attrs->keepdim) : NULL;
}

/* -- Quantiles -------------------------------------------------------------------------------------------------------------- */

enum { LINEAR, LOWER, HIGHER, MIDPOINT, NEAREST };
int8_t aj_interpolation_of(const char *name) {
    static const char *const names[] = {"linear", "lower", "higher", "midpoint", "nearest"};
    for (int i = 0; i < 5; i++) if (name && !strcmp(name, names[i])) return (int8_t)i;
    return -1;
}

static aj_tensor *quantile(aj_call *c, bool leave_out) {
    aj_tensor *x;
    if (!aj_given(c, 0, 2) || !aj_floats(c, 0)) return NULL;
    int dim = along(c, &x), mode = c->attrs->mode;
    aj_tensor *q = do_cast(c->in[1], c->in[0]->dtype);
    if (dim < 0 || !q) return NULL;
    if (mode < 0) { aj_refuse(c, "the interpolation is \"linear\", \"lower\", \"higher\", \"midpoint\" or \"nearest\""); return NULL; }
    if (q->ndim > 1) { aj_refuse(c, "q is a number or has one dimension"); return NULL; }
    if (!some_along(c, x, dim)) return NULL;
    if (!x->ndim) x = do_row(x);
    double lo = 0, hi = 1;
    if (q->numel && q->device != AJ_META) {
        bool graph = aj_grad_mode(false);
        aj_ints every = {-1, {0}};
        aj_tensor *least = aj_amin(q, &every, false), *most = aj_amax(q, &every, false);
        aj_grad_mode(graph);
        if (!x || !least || !most || !aj_get(least, NULL, &lo) || !aj_get(most, NULL, &hi)) return NULL;
        if (!(lo >= 0 && hi <= 1)) { aj_refuse(c, "q is from %g to %g, and must be from 0 to 1", lo, hi); return NULL; }
    }
    bool all = c->attrs->dim == AJ_NO_DIM;
    aj_ints rest = aj_sizes(c->in[0]);                   /* of the result, but for q */
    if (all) { if (c->attrs->keepdim) for (int d = 0; d < rest.n; d++) rest.v[d] = 1; else rest.n = 0; }
    else if (c->attrs->keepdim) { if (rest.n) rest.v[dim] = 1; }
    else if (rest.n) { for (int d = dim; d + 1 < rest.n; d++) rest.v[d] = rest.v[d + 1]; rest.n--; }
    if (rest.n + q->ndim > AJ_MAX_DIM) { aj_refuse(c, "the result would have more than %d dimensions", AJ_MAX_DIM); return NULL; }

    /* Rows in order; the rank of q within a row; of a row with a NaN, which is last, the last. */
    int64_t n = x->shape[dim], rows = n ? x->numel / n : 0, Q = q->numel;
    aj_ints flat = {2, {rows, n}}, wide = {2, {rows, Q}}, order = {0};
    for (int d = 0; d < x->ndim; d++) if (d != dim) order.v[order.n++] = d;
    order.v[order.n++] = dim;
    x = do_reshape(do_permute(x, &order), &flat);
    aj_tensor *sorted = x ? aj_live(aj_sort(x, 1, false, true, 0)) : NULL, *rank, *row_q = do_row(q);
    bool graph = aj_grad_mode(false);
    aj_tensor *bad = do_sum(do_isnan(sorted), 1, true);
    aj_tensor *last = do_cast(do_n_sub((double)n - 1, bad), q->dtype);
    last = last ? aj_live(aj_clamp_min(last, 0)) : NULL;
    bad = do_gt_n(bad, 0);
    aj_grad_mode(graph);
    if (leave_out) rank = do_mul(last, row_q);
    else rank = do_fill_where(do_expand(do_mul_n(row_q, (double)n - 1), &wide), do_expand(bad, &wide), (double)n - 1);
    if (!rank) return NULL;
    if (mode == NEAREST) rank = aj_live(aj_round(rank));
    else if (mode == HIGHER) rank = do_ceil(rank);
    aj_tensor *floor = mode == NEAREST || mode == HIGHER ? rank : do_floor(rank);
    aj_tensor *y = do_gather(sorted, 1, do_cast(floor, AJ_I64));
    if (mode == LINEAR || mode == MIDPOINT) {
        aj_tensor *above = do_gather(sorted, 1, do_cast(do_ceil(rank), AJ_I64)), *step = do_sub(above, y);
        y = do_add(y, mode == MIDPOINT ? do_mul_n(step, 0.5) : do_mul(step, do_sub(rank, floor)));
    }
    y = do_transpose(y, 0, 1);                           /* (Q, rows) */
    aj_ints shape = {0};
    if (q->ndim) shape.v[shape.n++] = Q;
    for (int d = 0; d < rest.n; d++) shape.v[shape.n++] = rest.v[d];
    return do_reshape(y, &shape);
}
aj_tensor *quantile_compose(aj_call *c) { return quantile(c, false); }
aj_tensor *nanquantile_compose(aj_call *c) { return quantile(c, true); }

/* -- Sums without NaN, counts, extremes -------------------------------------------------------------------------------------- */

aj_tensor *nansum_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0];
    if (aj_is_float(x->dtype)) x = do_fill_where(x, do_isnan(x), 0);
    return x ? aj_sum(x, &c->attrs->list, c->attrs->keepdim) : NULL;
}
aj_tensor *nanmean_compose(aj_call *c) {
    if (!aj_given(c, 0, 1) || !aj_floats(c, 0)) return NULL;
    aj_tensor *bad = do_isnan(c->in[0]), *x = do_fill_where(c->in[0], bad, 0), *there = do_logical_not(bad);
    aj_tensor *n = there ? aj_live(aj_sum(there, &c->attrs->list, c->attrs->keepdim)) : NULL;
    x = x && n ? aj_live(aj_sum(x, &c->attrs->list, c->attrs->keepdim)) : NULL;
    return x ? do_div(x, do_cast(n, x->dtype)) : NULL;
}
aj_tensor *count_nonzero_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *there = do_ne_n(c->in[0], 0);
    return there ? aj_sum(there, &c->attrs->list, c->attrs->keepdim) : NULL;
}
aj_tensor *aminmax_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *y = aj_live(aj_amin(c->in[0], &c->attrs->list, c->attrs->keepdim));
    if (!y || !(c->out[1] = aj_live(aj_amax(c->in[0], &c->attrs->list, c->attrs->keepdim)))) return NULL;
    c->n_out = 2;
    return y;
}

/* Ones, or weights, added up at places (0-based from base). */
static aj_tensor *tally(aj_tensor *at, aj_tensor *what, int64_t n, int base) {
    aj_ints shape = {1, {n}}, many = {1, {at->numel}};
    if (!what) {
        what = aj_live(aj_full_int(AJ_I64, &(aj_ints){0}, at->device, 1));
        what = do_expand(what, &many);
    }
    aj_tensor *y = what ? do_full(what, &shape, 0) : NULL;
    return y ? aj_live(aj_scatter_add_(y, 0, at, what, base)) : NULL;
}
aj_tensor *bincount_compose(aj_call *c) {
    if (!aj_given(c, 0, 1) || !aj_index_dtype(c, 0)) return NULL;
    aj_tensor *x = c->in[0], *w = c->in[1];
    int64_t n = c->attrs->i, most = 0, least = 0, base = c->attrs->base;
    aj_ints all = {-1, {0}};
    if (x->ndim != 1) { aj_refuse(c, "counts the values of one row, not of %d dimensions", x->ndim); return NULL; }
    if (w && (w->ndim != 1 || w->numel != x->numel)) { aj_refuse(c, "there is one weight for each element"); return NULL; }
    if (n < 0) { aj_refuse(c, "minlength is %lld, and must not be negative", (long long)n); return NULL; }
    if (x->numel) {
        aj_tensor *high = aj_amax(x, &all, false), *low = high ? aj_amin(x, &all, false) : NULL;
        if (!low || !aj_get_int(high, NULL, &most) || !aj_get_int(low, NULL, &least)) return NULL;
        if (least < base) { aj_refuse(c, "there is the value %lld, and values count from %lld", (long long)least, (long long)base); return NULL; }
        if (most - base + 1 > n) n = most - base + 1;
    }
    if (w && !aj_is_float(w->dtype)) w = do_cast(w, AJ_F64);
    return w || !c->in[1] ? tally(x, w, n, (int)base) : NULL;
}
aj_tensor *histc_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = do_row(c->in[0]);
    int dtype = aj_is_float(c->in[0]->dtype) ? c->in[0]->dtype : AJ_F32;
    int64_t bins = c->attrs->i;
    double lo = c->attrs->s, hi = c->attrs->t;
    aj_ints all = {-1, {0}};
    if (!(x = do_cast(x, dtype == AJ_F32 ? AJ_F32 : AJ_F64))) return NULL;
    if (bins < 1) { aj_refuse(c, "bins is %lld, and must be at least 1", (long long)bins); return NULL; }
    bool mode = aj_grad_mode(false);
    bool ok = true;
    if (lo == hi && x->numel && x->device == AJ_META) hi = lo + 1;
    else if (lo == hi && x->numel) {
        aj_tensor *least = aj_amin(x, &all, false), *most = least ? aj_amax(x, &all, false) : NULL;
        ok = most && aj_get(least, NULL, &lo) && aj_get(most, NULL, &hi);
    }
    if (lo == hi) { lo -= 1; hi += 1; }
    aj_tensor *y = NULL;
    if (ok && !(hi > lo && isfinite(hi - lo))) aj_refuse(c, "the range is from %g to %g, and must be finite and not backwards", lo, hi);
    else if (ok) {
        if (x->device != AJ_META) x = do_masked_select(x, do_logical_and(do_ge_n(x, lo), do_le_n(x, hi)));
        aj_tensor *at = do_floor(do_mul_n(do_div_n(do_sub_n(x, lo), hi - lo), (double)bins));
        at = at ? do_cast(aj_live(aj_clamp_max(at, (double)bins - 1)), AJ_I64) : NULL;
        y = at ? do_cast(tally(at, NULL, bins, 0), dtype) : NULL;
    }
    aj_grad_mode(mode);
    return y;
}

/* -- Places in a sorted row ---------------------------------------------------------------------------------------------------- */

int8_t aj_side_of(const char *side, bool right) { return (int8_t)(!side ? right : !strcmp(side, "right") ? 1 : !strcmp(side, "left") ? 0 : -1); }

bool searchsorted_shape(aj_call *c) {
    if (!aj_given(c, 0, 2)) return false;
    aj_tensor *s = c->in[0], *v = c->in[1];
    if (c->attrs->mode < 0) return aj_refuse(c, "the side is \"left\" or \"right\"");
    if (c->attrs->flag && !c->attrs->mode) return aj_refuse(c, "side \"left\" and right = true say the opposite");
    if (s->ndim < 1) return aj_refuse(c, "the sorted sequence has no dimensions");
    bool fit = s->ndim == 1 || s->ndim == v->ndim;
    for (int d = 0; fit && s->ndim > 1 && d + 1 < s->ndim; d++) fit = s->shape[d] == v->shape[d];
    if (!fit) return aj_refuse(c, "the sequence has one dimension, or the sizes of the values but for the last");
    if (c->in[2]) {
        if (!aj_same_shape(s, c->in[2])) return aj_refuse(c, "the sorter has the shape of the sequence");
        if (!aj_index_dtype(c, 2) || !(s = c->in[0] = aj_live(aj_gather(s, -1, c->in[2], c->attrs->base)))) return false;
    }
    int dtype = (int)aj_promote((aj_dtype)s->dtype, (aj_dtype)v->dtype);
    aj_spec_like(&c->spec[0], v);
    c->spec[0].dtype = c->attrs->flag2 ? AJ_I32 : AJ_I64;
    return aj_cast_inputs(c, 0, 2, dtype);
}
bool searchsorted_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }
aj_tensor *bucketize_compose(aj_call *c) {
    if (!aj_given(c, 0, 2)) return NULL;
    if (c->in[1]->ndim != 1) { aj_refuse(c, "the boundaries have one dimension, not %d", c->in[1]->ndim); return NULL; }
    return aj_searchsorted(c->in[1], c->in[0], c->attrs->flag2, c->attrs->flag, NULL, NULL, c->attrs->base);
}

aj_tensor *msort_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    return c->in[0]->ndim ? aj_sort(c->in[0], 0, false, false, 0) : aj_clone(c->in[0]);
}
