/* embedding.c - rows of a table, by an index: one for each index, or the sum, mean or largest of a bag of them.
 *
 * A bag's kernel tells, for the gradient, which bag each index is in, by what its row was multiplied (0 for padding), and
 * where the largest elements came from; the gradient is written in ops, so that it has gradients.
 */
#include "compose.h"
#include <string.h>

enum { SUM, MEAN, MAX };
int8_t aj_bag_mode(const char *mode) {
    static const char *const names[] = {"sum", "mean", "max"};
    for (int i = 0; i < 3; i++) if (mode && !strcmp(mode, names[i])) return (int8_t)i;
    return -1;
}

/* Integers that lie in order; the row of padding, if there is one, counted from 0; rows renormalised where that is asked for. */
static bool ready(aj_call *c) {
    if (!aj_given(c, 0, 2) || !aj_index_dtype(c, 1)) return false;
    aj_tensor *w = c->in[0];
    aj_attrs *a = c->attrs;
    if (a->i != AJ_NO_DIM) {
        int64_t i = a->i < 0 ? a->i + w->shape[0] : a->i;
        if (i < 0 || i >= w->shape[0])
            return aj_refuse(c, "padding_idx %lld is not among the %lld rows of the weight", (long long)(a->i < 0 ? a->i : i + a->base), (long long)w->shape[0]);
        a->i = i;
    }
    if (!aj_cast_inputs(c, 1, 1, AJ_I64)) return false;
    if (c->in[1]->ndim != 1 && !(c->in[1] = aj_live(aj_contiguous(c->in[1])))) return false;
    if (a->s == AJ_NO_DIM) return true;
    bool mode = aj_grad_mode(false), ok = aj_embedding_renorm_(w, c->in[1], a->s, a->t, a->base) != NULL;
    aj_grad_mode(mode);
    return ok;
}

/* Gradients g of the rows at a flat index, summed into a table; that of the padding row is 0. */
static aj_tensor *into_table(aj_node *n, aj_tensor *g, aj_tensor *index) {
    const aj_attrs *a = n->attrs;
    aj_ints table = aj_sizes_in(n, 0), rows = table, one = table, all = {1, {index->numel}};
    aj_tensor *flat = do_row(index);
    rows.v[0] = index->numel;
    g = do_reshape(g, &rows);
    if (!flat || !g) return NULL;
    if (a->flag) {
        for (int d = 1; d < one.n; d++) one.v[d] = 1;
        one.v[0] = index->numel;
        aj_tensor *count = aj_live(aj_full(AJ_F64, &(aj_ints){1, {table.v[0]}}, g->device, 0)), *each = aj_live(aj_full(AJ_F64, &all, g->device, 1));
        count = count && each ? aj_live(aj_index_add_(count, 0, flat, each, 1, a->base)) : NULL;
        count = count ? aj_live(aj_index_select(count, 0, flat, a->base)) : NULL;
        g = do_mul(g, do_cast(do_reshape(do_reciprocal(count), &one), g->dtype));
    }
    aj_tensor *y = g ? do_full(g, &table, 0) : NULL;
    if (!y || !(y = aj_live(aj_index_add_(y, 0, flat, g, 1, a->base)))) return NULL;
    if (a->i == AJ_NO_DIM) return y;
    aj_tensor *padding = aj_select(y, 0, a->i);          /* written over, after all rows have been summed */
    return padding && aj_fill_(padding, 0) ? y : NULL;
}

bool embedding_shape(aj_call *c) {
    if (!aj_given(c, 0, 2)) return false;
    const aj_tensor *w = c->in[0], *index = c->in[1];
    if (w->ndim < 1) return aj_refuse(c, "the weight has no dimensions, and must have one row for each index");
    if (w->ndim - 1 + index->ndim > AJ_MAX_DIM) return aj_refuse(c, "the result would have %d dimensions, more than the %d there can be", w->ndim - 1 + index->ndim, AJ_MAX_DIM);
    c->attrs->dim = 0;
    aj_spec *y = &c->spec[0];
    y->dtype = w->dtype;
    y->ndim = 0;
    for (int d = 0; d < index->ndim; d++) y->shape[y->ndim++] = index->shape[d];
    for (int d = 1; d < w->ndim; d++) y->shape[y->ndim++] = w->shape[d];
    return ready(c);
}
bool embedding_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = into_table(n, gy[0], aj_saved_in(n, 1))) != NULL; }

bool embedding_renorm__check(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_given(c, 1, 1) || !aj_index_dtype(c, 1) || !aj_cast_inputs(c, 1, 1, AJ_I64)) return false;
    if (c->in[0]->ndim != 2) return aj_refuse(c, "the weight has %d dimensions, and must have 2 to be renormalised", c->in[0]->ndim);
    if (aj_recording() && c->in[0]->requires_grad) return aj_refuse(c, "has no gradient; call it within ai.no_grad, as embedding does with max_norm");
    if (!(c->attrs->s >= 0)) return aj_refuse(c, "max_norm is %g, and must not be negative", c->attrs->s);
    if (!(c->attrs->t > 0)) return aj_refuse(c, "norm_type is %g, and must be above 0", c->attrs->t);
    return c->in[1]->contiguous || (c->in[1] = aj_live(aj_contiguous(c->in[1]))) != NULL;
}

/* -- Bags ----------------------------------------------------------------------------------------------------------------- */

bool embedding_bag_shape(aj_call *c) {
    if (!aj_given(c, 0, 2) || !aj_floats(c, 0)) return false;
    aj_attrs *a = c->attrs;
    const aj_tensor *w = c->in[0], *index = c->in[1], *offsets = c->in[2], *weights = c->in[3];
    if (a->mode < 0) return aj_refuse(c, "the mode is \"sum\", \"mean\" or \"max\"");
    if (w->ndim != 2) return aj_refuse(c, "the weight has %d dimensions, and must have 2", w->ndim);
    if (index->ndim != 1 && index->ndim != 2) return aj_refuse(c, "the index has %d dimensions: a row of indices for each bag, or one row and offsets", index->ndim);
    if (index->ndim == 2 && offsets) return aj_refuse(c, "offsets are for a flat index; here each of its rows is a bag");
    if (index->ndim == 1 && !offsets) return aj_refuse(c, "a flat index wants offsets: where in it each bag begins");
    if (offsets && offsets->ndim != 1) return aj_refuse(c, "the offsets have %d dimensions, and must have 1", offsets->ndim);
    if (offsets && a->flag2 && !offsets->numel) return aj_refuse(c, "with include_last_offset there is at least one offset, the end of the last bag");
    if (a->flag && a->mode == MAX) return aj_refuse(c, "a largest element has no frequency to scale its gradient by");
    if (weights && a->mode != SUM) return aj_refuse(c, "per_sample_weights are for the mode \"sum\"");
    if (weights && !aj_same_shape(weights, index)) return aj_refuse(c, "there is one of per_sample_weights for each index");
    if (!ready(c)) return false;
    if (offsets && (!aj_index_dtype(c, 2) || !aj_cast_inputs(c, 2, 1, AJ_I64) || !(c->in[2] = aj_live(aj_contiguous(c->in[2]))))) return false;
    int wide = w->dtype == AJ_F64 ? AJ_F64 : AJ_F32;
    for (int k = 0; k < 4; k++) {
        if (k == 3 && !aj_cast_inputs(c, 3, 1, wide)) return false;
        if (c->in[k] && !c->in[k]->contiguous && !(c->in[k] = aj_live(aj_contiguous(c->in[k])))) return false;
    }
    int64_t bags = offsets ? offsets->numel - a->flag2 : index->shape[0];
    c->spec[0] = (aj_spec){w->dtype, 2, {bags, w->shape[1]}};
    if (!aj_recording()) return true;
    c->n_out = 4;
    c->spec[1] = (aj_spec){AJ_I64, 1, {index->numel}};
    c->spec[2] = (aj_spec){(uint8_t)wide, 1, {index->numel}};
    c->spec[3] = (aj_spec){AJ_I64, 2, {a->mode == MAX ? bags : 0, w->shape[1]}};
    return true;
}
bool embedding_bag_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *g = gy[0], *index = aj_saved_in(n, 1);
    if (n->attrs->mode == MAX) {                         /* -1: an empty bag */
        aj_ints table = aj_sizes_in(n, 0);
        aj_tensor *place = aj_saved_out(n, 3), *y = do_full(g, &table, 0);
        g = do_mul(g, do_cast(do_ge_n(place, 0), g->dtype));
        aj_tensor *at = g ? aj_live(aj_clamp_min(place, 0)) : NULL;
        return at && y && (gx[0] = aj_scatter_add_(y, 0, at, g, 0));
    }
    aj_tensor *weights = aj_saved_in(n, 3), *bag = aj_saved_out(n, 1);
    aj_ints each = {2, {index->numel, 1}}, flat = {1, {index->numel}};
    bool none = g->shape[0] == 0;
    aj_tensor *of_each = none ? do_full(g, &(aj_ints){2, {index->numel, g->shape[1]}}, 0) : aj_live(aj_index_select(g, 0, bag, 0));
    of_each = do_mul(of_each, do_reshape(n->out[2].t, &each));      /* the factors are constants */
    if (!of_each) return false;
    if (aj_wants(n, 0)) {
        aj_tensor *part = weights ? do_mul(of_each, do_reshape(weights, &each)) : of_each;
        if (!(gx[0] = into_table(n, do_cast(part, g->dtype), index))) return false;
    }
    if (!aj_wants(n, 3)) return true;
    aj_tensor *rows = aj_live(aj_index_select(aj_saved_in(n, 0), 0, do_reshape(index, &flat), n->attrs->base));
    aj_ints shape = aj_sizes_in(n, 3);
    return (gx[3] = do_reshape(do_cast(do_sum(do_mul(of_each, rows), 1, false), n->edge[3].node->spec[n->edge[3].out].dtype), &shape)) != NULL;
}
