/* unique.c - the different elements of a tensor, or its different slices along a dimension: brought in order or left in it,
 * equals are neighbours, and the first of each run stands for it.
 */
#include "compose.h"

bool order_rows_shape(aj_call *c) {
    if (!aj_given(c, 0, 1)) return false;
    const aj_tensor *x = c->in[0];
    if (x->ndim < 2) return aj_refuse(c, "the rows of matrices, which have at least 2 dimensions, not %d", x->ndim);
    c->spec[0].dtype = AJ_I64;
    c->spec[0].ndim = (uint8_t)(x->ndim - 1);
    for (int d = 0; d < x->ndim - 1; d++) c->spec[0].shape[d] = x->shape[d];
    return (c->in[0] = aj_live(aj_contiguous(c->in[0]))) != NULL;
}
bool order_rows_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }

/* Of x, a row (n) or rows (n, m), n above 0: where each run begins, how long it is, and the number of each entry's run, from 0. */
static bool runs(aj_tensor *x, aj_tensor **begin, aj_tensor **count, aj_tensor **run) {
    int64_t n = x->shape[0];
    aj_ints one = {1, {1}};
    aj_tensor *differs = do_ne(do_narrow(x, 0, 1, n - 1), do_narrow(x, 0, 0, n - 1));
    if (differs && x->ndim == 2) differs = aj_live(aj_any(differs, &one, false));
    aj_tensor *first = do_cat(aj_live(aj_full(AJ_BOOL, &one, x->device, 1)), differs, 0);
    if (!first || !(*begin = do_row(aj_live(aj_nonzero(first, 0))))) return false;
    aj_tensor *end = do_cat(do_narrow(*begin, 0, 1, (*begin)->numel - 1), aj_live(aj_full_int(AJ_I64, &one, x->device, n)), 0);
    *count = do_sub(end, *begin);
    *run = do_sub_n(aj_live(aj_cumsum(first, 0)), 1);
    return *count && *run;
}

static aj_tensor *distinct(aj_call *c, bool ordered) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0], *begin, *counts, *run, *place = NULL;
    int32_t base = c->attrs->base;
    bool all = c->attrs->dim == AJ_NO_DIM;
    int dim = all ? 0 : aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0) return NULL;
    if (!all && !x->ndim) { aj_refuse(c, "a tensor of no dimensions has no slices"); return NULL; }
    int64_t n = !x ? 0 : all ? x->numel : x->shape[dim];
    aj_ints sizes = x ? aj_sizes(x) : (aj_ints){0}, rows = {2, {n, 1}}, of_inverse = all ? sizes : (aj_ints){1, {n}};
    if (!x) return NULL;
    for (int d = 0; d < x->ndim && !all; d++) if (d != dim) {
        if (!x->shape[d]) { aj_refuse(c, "dimension %d has no elements, so that slices along dimension %d cannot be told apart", d + 1, dim + 1); return NULL; }
        rows.v[1] *= x->shape[d];
    }
    aj_tensor *front = all ? NULL : do_transpose(x, 0, dim), *list = all ? do_row(x) : do_reshape(front, &rows);
    if (!list) return NULL;
    if (!n) {
        aj_tensor *none = aj_live(aj_empty(AJ_I64, &(aj_ints){1, {0}}, x->device));
        c->n_out = 3;
        c->out[1] = do_reshape(none, &of_inverse);
        c->out[2] = none;
        return all ? list : x;
    }
    if (ordered && all) {
        if (!(list = aj_live(aj_sort(list, 0, false, true, 0)))) return NULL;
        place = aj_live(aj_result(2));
    } else if (ordered) {
        place = aj_live(aj_order_rows(list, 0));
        list = place ? aj_live(aj_index_select(list, 0, place, 0)) : NULL;
    }
    if (!list || !runs(list, &begin, &counts, &run)) return NULL;
    aj_tensor *values = aj_live(aj_index_select(list, 0, begin, 0)), *inverse = do_add_n(run, base);
    if (place && inverse) {
        aj_tensor *to = aj_live(aj_empty(AJ_I64, &(aj_ints){1, {n}}, x->device));
        inverse = to ? aj_live(aj_scatter_(to, 0, place, inverse, 0)) : NULL;
    }
    if (!all && values) {
        aj_ints back = aj_sizes(front);
        back.v[0] = values->shape[0];
        values = do_contiguous(do_transpose(do_reshape(values, &back), 0, dim));
    }
    if (!values || !(inverse = do_reshape(inverse, &of_inverse))) return NULL;
    c->n_out = 3;
    c->out[1] = inverse;
    c->out[2] = counts;
    return values;
}
aj_tensor *unique_compose(aj_call *c) {
    bool mode = aj_grad_mode(false);
    aj_tensor *y = distinct(c, true);
    aj_grad_mode(mode);
    return y;
}
aj_tensor *unique_consecutive_compose(aj_call *c) {
    bool mode = aj_grad_mode(false);
    aj_tensor *y = distinct(c, false);
    aj_grad_mode(mode);
    return y;
}
