/* replace.c - tensors with a part replaced: written into a copy, so that gradients go to both; and what is asked of sets. */
#include "compose.h"
#include <stdio.h>

/* x with part, a view of its copy y, become src. */
static aj_tensor *replaced(aj_call *c, aj_tensor *y, aj_tensor *part) {
    aj_tensor *src = c->in[1];
    if (!part) return NULL;
    if (!aj_same_shape(part, src)) {
        aj_ints need = aj_sizes(part);
        char text[128] = "";
        for (int d = 0, n = 0; d < need.n && n < 100; d++) n += snprintf(text + n, sizeof text - (size_t)n, d ? ", %lld" : "%lld", (long long)need.v[d]);
        aj_refuse(c, "src must have the sizes of what it replaces: (%s)", text);
        return NULL;
    }
    return aj_copy_(part, src) ? y : NULL;
}
static aj_tensor *copy_of(aj_call *c) { return aj_given(c, 0, 2) ? do_clone(c->in[0]) : NULL; }

aj_tensor *select_scatter_compose(aj_call *c) {
    aj_tensor *y = copy_of(c);
    return y ? replaced(c, y, do_select(y, c->attrs->dim, c->attrs->i)) : NULL;
}
aj_tensor *slice_scatter_compose(aj_call *c) {
    aj_tensor *y = copy_of(c);
    const aj_attrs *a = c->attrs;
    return y ? replaced(c, y, aj_live(aj_slice(y, a->dim, a->i, a->j, a->k))) : NULL;
}
aj_tensor *diagonal_scatter_compose(aj_call *c) {
    aj_tensor *y = copy_of(c);
    const aj_attrs *a = c->attrs;
    return y ? replaced(c, y, aj_live(aj_diagonal(y, a->i, a->dim, a->dim2))) : NULL;
}
aj_tensor *diagflat_compose(aj_call *c) {
    aj_tensor *flat = aj_given(c, 0, 1) ? do_row(c->in[0]) : NULL;
    return flat ? aj_diag_embed(flat, c->attrs->i, -2, -1) : NULL;
}

aj_tensor *sum_to_size_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0];
    const aj_ints *size = &c->attrs->list;
    int before = x->ndim - size->n;
    bool fits = before >= 0;
    aj_ints over = {0};
    for (int d = 0; d < x->ndim && fits; d++) {
        int64_t want = d < before ? 1 : size->v[d - before];
        fits = want == x->shape[d] || want == 1;
        if (d < before || (want == 1 && x->shape[d] != 1)) over.v[over.n++] = d;
    }
    if (!fits) { aj_refuse(c, "the size is none that is broadcast to this"); return NULL; }
    aj_tensor *y = over.n || !x->ndim ? aj_live(aj_sum(x, &over, true)) : do_clone(x);
    return do_reshape(y, size);
}

aj_tensor *renorm_compose(aj_call *c) {
    if (!aj_floats(c, 0)) return NULL;
    aj_tensor *x = c->in[0];
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    double p = c->attrs->s, most = c->attrs->t;
    if (dim < 0) return NULL;
    if (x->ndim < 2) { aj_refuse(c, "the tensor must have at least two dimensions"); return NULL; }
    if (!(p > 0) || !(most >= 0)) { aj_refuse(c, "p must be positive, and maxnorm from 0 up"); return NULL; }
    aj_ints others = {0};
    for (int d = 0; d < x->ndim; d++) if (d != dim) others.v[others.n++] = d;
    aj_tensor *size = aj_live(aj_norm(x, p, &others, true));
    aj_tensor *less = size ? do_mul_n(do_reciprocal(do_add_n(size, 1e-7)), most) : NULL;       /* PyTorch's guard */
    return do_mul(x, do_where(do_gt_n(size, most), less, less ? do_number(less, 1) : NULL));
}

/* Each element's place among the sorted values: it is there, or a neighbour is. */
aj_tensor *isin_compose(aj_call *c) {
    if (!aj_given(c, 0, 2)) return NULL;
    int dtype = (int)aj_promote((aj_dtype)c->in[0]->dtype, (aj_dtype)c->in[1]->dtype);
    if (dtype == AJ_BOOL) dtype = AJ_U8;
    aj_tensor *x = do_cast(aj_live(aj_detach(c->in[0])), dtype), *values = do_row(do_cast(aj_live(aj_detach(c->in[1])), dtype));
    if (!x || !values) return NULL;
    aj_ints shape = aj_sizes(x);
    if (values->numel == 0) return aj_full(AJ_BOOL, &shape, x->device, c->attrs->flag);
    aj_tensor *sorted = aj_live(aj_sort(values, 0, false, false, 0)), *flat = do_row(x);
    aj_tensor *place = sorted && flat ? aj_live(aj_searchsorted(sorted, flat, false, false, NULL, NULL, 0)) : NULL;
    place = place ? aj_live(aj_clamp_max(place, (double)(sorted->numel - 1))) : NULL;
    aj_tensor *near = place ? aj_live(aj_index_select(sorted, 0, place, 0)) : NULL;
    return do_reshape(c->attrs->flag ? do_ne(near, flat) : do_eq(near, flat), &shape);
}
