/* distance.c - p-norms of differences: pairwise, and between all pairs of two sets of vectors. */
#include "compose.h"
#include <math.h>

aj_tensor *pairwise_distance_compose(aj_call *c) {
    if (!aj_given(c, 0, 2)) return NULL;
    aj_tensor *d = do_sub(c->in[0], c->in[1]);
    if (d && !aj_is_float(d->dtype)) d = do_cast(d, AJ_F32);
    d = do_add_n(d, c->attrs->t);
    return d ? aj_norm(d, c->attrs->s, &(aj_ints){1, {-1}}, c->attrs->keepdim) : NULL;
}

aj_tensor *dist_compose(aj_call *c) {
    if (!aj_given(c, 0, 2)) return NULL;
    aj_tensor *d = do_sub(c->in[0], c->in[1]);
    if (d && !aj_is_float(d->dtype)) d = do_cast(d, AJ_F32);
    return d ? aj_norm(d, c->attrs->s, &(aj_ints){-1, {0}}, false) : NULL;
}

/* Above so many differences they are not all held in memory at once where p is 2. */
enum { FEW = 1 << 18 };

/* (..., P, M) and (..., R, M) to (B, P, M) and (B, R, M), with the leading dimensions broadcast. */
bool cdist_shape(aj_call *c) {
    if (!aj_given(c, 0, 2)) return false;
    aj_tensor *a = c->in[0], *b = c->in[1];
    if (a->ndim < 2 || b->ndim < 2) return aj_refuse(c, "both are sets of vectors, (..., how many, size)");
    if (a->shape[a->ndim - 1] != b->shape[b->ndim - 1]) return aj_refuse(c, "the vectors have sizes %lld and %lld, and must have the same",
                                                                         (long long)a->shape[a->ndim - 1], (long long)b->shape[b->ndim - 1]);
    if (!(c->attrs->s >= 0)) return aj_refuse(c, "p is %g, and must be from 0 up", c->attrs->s);
    if (!aj_floats(c, 0) || !aj_floats(c, 1) || !aj_cast_inputs(c, 0, 2, (int)aj_promote((aj_dtype)a->dtype, (aj_dtype)b->dtype))) return false;
    a = c->in[0];
    b = c->in[1];
    aj_ints sa = aj_sizes(a), sb = aj_sizes(b);
    int n = a->ndim > b->ndim ? a->ndim : b->ndim;
    aj_spec *y = &c->spec[0];
    y->ndim = (uint8_t)n;
    y->dtype = a->dtype;
    for (int d = 0; d < n - 2; d++) {
        int64_t p = d < n - sa.n ? 1 : sa.v[d - n + sa.n], q = d < n - sb.n ? 1 : sb.v[d - n + sb.n];
        if (p != q && p != 1 && q != 1) return aj_refuse(c, "batch sizes %lld and %lld do not match", (long long)p, (long long)q);
        y->shape[d] = p == 1 ? q : p;
    }
    y->shape[n - 2] = sa.v[sa.n - 2];
    y->shape[n - 1] = sb.v[sb.n - 2];
    aj_ints wide[2] = {{n, {0}}, {n, {0}}}, flat[2];
    for (int k = 0; k < 2; k++) {
        aj_tensor *t = c->in[k];
        int64_t B = 1;
        for (int d = 0; d < n - 2; d++) B *= wide[k].v[d] = y->shape[d];
        wide[k].v[n - 2] = t->shape[t->ndim - 2];
        wide[k].v[n - 1] = t->shape[t->ndim - 1];
        flat[k] = (aj_ints){3, {B, wide[k].v[n - 2], wide[k].v[n - 1]}};
        if (!(c->in[k] = do_contiguous(do_reshape(do_expand(t, &wide[k]), &flat[k])))) return false;
    }
    return true;
}

static aj_tensor *as_batch(aj_tensor *t, const aj_tensor *a, const aj_tensor *b) { return do_reshape(t, &(aj_ints){3, {a->shape[0], a->shape[1], b->shape[1]}}); }
static aj_tensor *cdist_definition(aj_tensor *const *in, int n_in, const aj_attrs *attrs) {
    (void)n_in;
    aj_tensor *d = do_sub(do_unsqueeze(in[0], 2), do_unsqueeze(in[1], 1));
    return d ? aj_norm(d, attrs->s, &(aj_ints){1, {-1}}, false) : NULL;
}

/* For p = 2: with w = g / y, and 0 where y is 0, the gradient is the row sums of w times a, less w b. */
bool cdist_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *a = aj_saved_in(n, 0), *b = aj_saved_in(n, 1);
    aj_tensor *g = as_batch(gy[0], a, b);
    if (!g) return false;
    if (!a->numel || !b->numel) {
        aj_ints sa = aj_sizes(a), sb = aj_sizes(b);
        return (gx[0] = do_full(a, &sa, 0)) && (gx[1] = do_full(b, &sb, 0));
    }
    if (n->attrs->s != 2 || g->numel * a->shape[2] <= FEW) return aj_vjp_by_definition(n, cdist_definition, g, gx);
    aj_tensor *y = as_batch(aj_saved_out(n, 0), a, b), *none = do_eq_n(y, 0);
    aj_tensor *w = do_fill_where(do_div(g, do_fill_where(y, none, 1)), none, 0);
    if (aj_wants(n, 0) && !(gx[0] = do_sub(do_mul(do_sum(w, 2, true), a), do_matmul(w, b)))) return false;
    aj_tensor *wt = do_transpose(w, 1, 2);
    return !aj_wants(n, 1) || (gx[1] = do_sub(do_mul(do_sum(wt, 2, true), b), do_matmul(wt, a)));
}
