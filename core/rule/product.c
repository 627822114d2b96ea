/* product.c - products of vectors and matrices under their usual names: matmul with its shapes checked, and what is made of it. */
#include "compose.h"

static bool has_dims(const aj_call *c, int k, int n) {
    if (c->in[k]->ndim == n) return true;
    return aj_refuse(c, "input %d has %d dimensions, and must have %d", k + 1, c->in[k]->ndim, n);
}
static bool are(aj_call *c, int first, int n1, int n2) {
    return aj_given(c, 0, c->n_in) && has_dims(c, first, n1) && has_dims(c, first + 1, n2);
}

aj_tensor *dot_compose(aj_call *c) { return are(c, 0, 1, 1) ? do_matmul(c->in[0], c->in[1]) : NULL; }
aj_tensor *mv_compose(aj_call *c) { return are(c, 0, 2, 1) ? do_matmul(c->in[0], c->in[1]) : NULL; }
aj_tensor *mm_compose(aj_call *c) { return are(c, 0, 2, 2) ? do_matmul(c->in[0], c->in[1]) : NULL; }
static aj_tensor *batches(aj_call *c, int first) {
    aj_tensor *a = c->in[first], *b = c->in[first + 1];
    if (a->shape[0] == b->shape[0]) return do_matmul(a, b);
    aj_refuse(c, "the batches have %lld and %lld matrices, and must have the same number", (long long)a->shape[0], (long long)b->shape[0]);
    return NULL;
}
aj_tensor *bmm_compose(aj_call *c) { return are(c, 0, 3, 3) ? batches(c, 0) : NULL; }

static aj_tensor *outer_of(aj_tensor *a, aj_tensor *b) { return do_mul(do_unsqueeze(a, 1), b); }
aj_tensor *outer_compose(aj_call *c) { return are(c, 0, 1, 1) ? outer_of(c->in[0], c->in[1]) : NULL; }

aj_tensor *inner_compose(aj_call *c) {
    if (!aj_given(c, 0, 2)) return NULL;
    aj_tensor *a = c->in[0], *b = c->in[1];
    if (!a->ndim || !b->ndim) return do_mul(a, b);
    if (a->shape[a->ndim - 1] != b->shape[b->ndim - 1]) { aj_refuse(c, "the last dimensions differ, and must agree"); return NULL; }
    aj_ints last[2] = {{1, {-1}}, {1, {-1}}};
    return aj_tensordot(a, b, &last[0], &last[1]);
}

/* beta * x + alpha * product; an x that counts for nothing may hold NaN. */
static aj_tensor *onto(aj_call *c, aj_tensor *y) {
    double beta = c->attrs->s, alpha = c->attrs->t;
    aj_tensor *x = c->in[0];
    if (!y) return NULL;
    bool fit = x->ndim <= y->ndim;
    for (int d = 0; fit && d < x->ndim; d++) { int64_t s = x->shape[d]; fit = s == 1 || s == y->shape[y->ndim - x->ndim + d]; }
    if (!fit) { aj_refuse(c, "the first input does not broadcast to the product"); return NULL; }
    if (x->dtype == AJ_BOOL && y->dtype == AJ_BOOL) { alpha = alpha != 0; beta = beta != 0; }
    if (alpha != 1) y = do_mul_n(y, alpha);
    if (beta == 0 || !y) return y;
    return beta == 1 ? aj_add(y, x) : aj_add_scaled(y, x, beta);
}
/* A bias for each column is part of the product's kernel, as in a layer. */
static bool is_layer(const aj_call *c) {
    const aj_tensor *x = c->in[0], *a = c->in[1], *b = c->in[2];
    return c->attrs->s == 1 && c->attrs->t == 1 && aj_is_float(x->dtype) && x->dtype == a->dtype && a->dtype == b->dtype && x->ndim == 1 && x->shape[0] == b->shape[1] &&
           a->shape[1] == b->shape[0];
}
aj_tensor *addmm_compose(aj_call *c) {
    if (!are(c, 1, 2, 2)) return NULL;
    return is_layer(c) ? aj_linear(c->in[1], do_transpose(c->in[2], 0, 1), c->in[0]) : onto(c, do_matmul(c->in[1], c->in[2]));
}
aj_tensor *addmv_compose(aj_call *c) { return are(c, 1, 2, 1) ? onto(c, do_matmul(c->in[1], c->in[2])) : NULL; }
aj_tensor *addr_compose(aj_call *c) { return are(c, 1, 1, 1) ? onto(c, outer_of(c->in[1], c->in[2])) : NULL; }
aj_tensor *baddbmm_compose(aj_call *c) { return are(c, 1, 3, 3) ? onto(c, batches(c, 1)) : NULL; }
/* The sum over the batch is part of one product: (R, B K) times (B K, C). */
aj_tensor *addbmm_compose(aj_call *c) {
    if (!are(c, 1, 3, 3)) return NULL;
    aj_tensor *a = c->in[1], *b = c->in[2];
    if (a->shape[0] != b->shape[0] || a->shape[2] != b->shape[1]) return onto(c, batches(c, 1));
    aj_ints left = {2, {a->shape[1], a->shape[0] * a->shape[2]}}, right = {2, {b->shape[0] * b->shape[1], b->shape[2]}};
    return onto(c, do_matmul(do_reshape(do_transpose(a, 0, 1), &left), do_reshape(b, &right)));
}

/* a's other dimensions, then b's; the pairs of dimensions are summed over by one matrix product. */
aj_tensor *tensordot_compose(aj_call *c) {
    if (!aj_given(c, 0, 2)) return NULL;
    aj_tensor *a = c->in[0], *b = c->in[1];
    const aj_ints *da = &c->attrs->list, *db = &c->attrs->list2;
    if (da->n != db->n) { aj_refuse(c, "%d dimensions of the first, %d of the second; these are pairs", da->n, db->n); return NULL; }
    bool in_a[AJ_MAX_DIM], in_b[AJ_MAX_DIM];
    if (!aj_dims_of(c, da, a->ndim, in_a) || !aj_dims_of(c, db, b->ndim, in_b)) return NULL;
    aj_ints order_a = {0}, order_b = {0}, shape = {0}, left = {2, {1, 1}}, right = {2, {1, 1}};
    if (a->ndim + b->ndim - 2 * da->n > AJ_MAX_DIM) { aj_refuse(c, "the result would have more than %d dimensions", AJ_MAX_DIM); return NULL; }
    for (int d = 0; d < a->ndim; d++) if (!in_a[d]) { order_a.v[order_a.n++] = d; shape.v[shape.n++] = a->shape[d]; left.v[0] *= a->shape[d]; }
    for (int i = 0; i < da->n; i++) {
        int64_t p = da->v[i] < 0 ? da->v[i] + a->ndim : da->v[i], q = db->v[i] < 0 ? db->v[i] + b->ndim : db->v[i];
        if (a->shape[p] != b->shape[q]) {
            aj_refuse(c, "dimension %lld of the first and %lld of the second have sizes %lld and %lld, and must agree", (long long)p + 1, (long long)q + 1,
                      (long long)a->shape[p], (long long)b->shape[q]);
            return NULL;
        }
        order_a.v[order_a.n++] = p;
        order_b.v[order_b.n++] = q;
        left.v[1] *= a->shape[p];
    }
    right.v[0] = left.v[1];
    for (int d = 0; d < b->ndim; d++) if (!in_b[d]) { order_b.v[order_b.n++] = d; shape.v[shape.n++] = b->shape[d]; right.v[1] *= b->shape[d]; }
    return do_reshape(do_matmul(do_reshape(do_permute(a, &order_a), &left), do_reshape(do_permute(b, &order_b), &right)), &shape);
}

/* Dimension d of the result is a's with b's within it. */
aj_tensor *kron_compose(aj_call *c) {
    if (!aj_given(c, 0, 2)) return NULL;
    aj_tensor *a = c->in[0], *b = c->in[1];
    int n = a->ndim > b->ndim ? a->ndim : b->ndim;
    if (2 * n > AJ_MAX_DIM) { aj_refuse(c, "tensors of up to %d dimensions have a Kronecker product here", AJ_MAX_DIM / 2); return NULL; }
    aj_ints sa = {2 * n, {0}}, sb = sa, y = {n, {0}};
    for (int d = 0; d < n; d++) {
        int64_t p = d < n - a->ndim ? 1 : a->shape[d - n + a->ndim], q = d < n - b->ndim ? 1 : b->shape[d - n + b->ndim];
        sa.v[2 * d] = p; sa.v[2 * d + 1] = 1;
        sb.v[2 * d] = 1; sb.v[2 * d + 1] = q;
        y.v[d] = p * q;
    }
    return do_reshape(do_mul(do_reshape(a, &sa), do_reshape(b, &sb)), &y);
}

/* y_i = a_(i+1) b_(i+2) - a_(i+2) b_(i+1), in a circle of 3. */
aj_tensor *cross_compose(aj_call *c) {
    aj_spec s;
    if (!aj_given(c, 0, 2) || !aj_broadcast(c, &s)) return NULL;
    aj_ints shape = {s.ndim, {0}};
    int dim = -1;
    for (int d = 0; d < s.ndim; d++) { shape.v[d] = s.shape[d]; if (dim < 0 && s.shape[d] == 3) dim = d; }
    if (c->attrs->dim == AJ_NO_DIM) {
        if (dim < 0) { aj_refuse(c, "no dimension has size 3"); return NULL; }
    } else if ((dim = aj_dim_of(c, c->attrs->dim, s.ndim)) < 0) return NULL;
    else if (!s.ndim || s.shape[dim] != 3) { aj_refuse(c, "dimension %d must have size 3", dim + 1); return NULL; }
    aj_tensor *v[2];
    aj_ints along = {1, {dim}}, by[2] = {{1, {-1}}, {1, {-2}}};
    for (int k = 0; k < 2; k++) if (!(v[k] = do_expand(c->in[k], &shape))) return NULL;
    aj_tensor *a1 = aj_live(aj_roll(v[0], &by[0], &along)), *b2 = aj_live(aj_roll(v[1], &by[1], &along));
    aj_tensor *a2 = aj_live(aj_roll(v[0], &by[1], &along)), *b1 = aj_live(aj_roll(v[1], &by[0], &along));
    return do_sub(do_mul(a1, b2), do_mul(a2, b1));
}

/* -- Sums with products ------------------------------------------------------------------------------------------------ */

static aj_tensor *scaled(aj_call *c, aj_tensor *y) { return y ? aj_add_scaled(c->in[0], y, c->attrs->s) : NULL; }
aj_tensor *addcmul_compose(aj_call *c) { return aj_given(c, 0, 3) ? scaled(c, do_mul(c->in[1], c->in[2])) : NULL; }
aj_tensor *addcdiv_compose(aj_call *c) { return aj_given(c, 0, 3) ? scaled(c, do_div(c->in[1], c->in[2])) : NULL; }
aj_tensor *lerp_by_compose(aj_call *c) {
    return aj_given(c, 0, 3) ? do_add(c->in[0], do_mul(c->in[2], do_sub(c->in[1], c->in[0]))) : NULL;
}

/* -- Covariance: rows are variables, columns observations ---------------------------------------------------------------- */

static aj_tensor *covariance(aj_call *c, double correction, aj_tensor *fw, aj_tensor *aw) {
    aj_tensor *x = c->in[0];
    if (x->ndim > 2) { aj_refuse(c, "variables are rows and observations columns; here are %d dimensions", x->ndim); return NULL; }
    if (!aj_is_float(x->dtype) && !(x = do_cast(x, AJ_F32))) return NULL;
    aj_ints rows = {2, {x->ndim == 2 ? x->shape[0] : 1, x->ndim ? x->shape[x->ndim - 1] : 1}};
    int64_t N = rows.v[1];
    x = do_reshape(x, &rows);
    aj_tensor *w = NULL, *weights[] = {fw, aw}, *y;
    for (int i = 0; i < 2; i++) {
        if (!weights[i]) continue;
        if (weights[i]->ndim > 1 || weights[i]->numel != N) {
            aj_refuse(c, "the weights have one number for each of the %lld observations", (long long)N);
            return NULL;
        }
        if (aj_is_float(weights[i]->dtype) != i) {
            aj_refuse(c, i ? "aweights say how much an observation counts, and are floats" : "fweights say how often an observation occurred, and are whole numbers");
            return NULL;
        }
        w = w ? do_mul(w, weights[i]) : weights[i];
    }
    if (!w) {
        double left = (double)N - correction;
        x = x ? do_sub(x, do_mean(x, 1, true)) : NULL;
        y = do_mul_n(do_matmul(x, do_transpose(x, 0, 1)), 1 / (left > 0 ? left : 0));
    } else {
        if (!w) return NULL;
        aj_tensor *total = do_sum(w, 0, false), *less = aw ? do_div(do_sum(do_mul(w, aw), 0, false), total) : do_number(w, 1);
        aj_tensor *left = do_relu(do_sub(total, do_mul_n(less, correction)));
        x = do_sub(x, do_div(do_sum(do_mul(x, w), 1, true), total));
        y = do_div(do_matmul(do_mul(x, w), do_transpose(x, 0, 1)), left);
    }
    return rows.v[0] == 1 ? do_reshape(y, &(aj_ints){0}) : y;
}
aj_tensor *cov_compose(aj_call *c) { return aj_given(c, 0, 1) ? covariance(c, c->attrs->s, c->in[1], c->in[2]) : NULL; }
aj_tensor *corrcoef_compose(aj_call *c) {
    aj_tensor *y = aj_given(c, 0, 1) ? covariance(c, 1, NULL, NULL) : NULL;
    if (!y || !y->ndim) return do_div(y, y);
    aj_tensor *d = do_sqrt(aj_live(aj_diagonal(y, 0, 0, 1)));
    y = do_div(do_div(y, do_unsqueeze(d, 1)), d);
    y = y ? aj_live(aj_clamp_min(y, -1)) : NULL;
    return y ? aj_clamp_max(y, 1) : NULL;
}
