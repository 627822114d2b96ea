/* lu.c - A = P L U: the factors packed in one matrix with LAPACK's pivots, unpacked, and equations by them.
 *
 * Of the first k = min(m, n) rows and columns the gradient is that of a square matrix; the columns beyond are L1 U2, the rows
 * beyond L2 U1, and what they ask of L1 and U1 is taken from these first.
 */
#include "matrix.h"

static aj_tensor *part(aj_tensor *x, int dim, int64_t at, int64_t n) { return x ? aj_live(aj_narrow(x, dim, at, n)) : NULL; }
static aj_tensor *lower(aj_tensor *x) { return x ? aj_live(aj_tril(x, -1)) : NULL; }
static aj_tensor *upper(aj_tensor *x) { return x ? aj_live(aj_triu(x, 0)) : NULL; }
static aj_tensor *joined(aj_tensor *a, aj_tensor *b, int dim) { return a && b ? aj_live(aj_cat(&(aj_list){2, (aj_tensor *[]){a, b}}, dim)) : NULL; }
/* X in T X = B, or, not left, in X T = B. */
static aj_tensor *solved(aj_tensor *t, aj_tensor *b, bool is_upper, bool left, bool unit) { return t && b ? aj_live(aj_solve_triangular(t, b, is_upper, left, unit)) : NULL; }

bool lu_factor_shape(aj_call *c) {
    if (!is_matrix(c, 0)) return false;
    if (!c->attrs->flag) return aj_refuse(c, "is with exchanges of rows only: pivot must be true");
    int64_t m = rows_of(c->in[0]), n = columns_of(c->in[0]);
    aj_spec_like(&c->spec[0], c->in[0]);
    with_sizes(&c->spec[1], c->in[0], 2, 1, m < n ? m : n, 0);
    c->spec[1].dtype = AJ_I32;
    c->n_out = 2;
    return true;
}

/* The matrix P whose product with rows puts them back in the order they had. */
static aj_tensor *exchanges(const aj_tensor *like, aj_tensor *pivots, int64_t m) {
    aj_tensor *order = aj_live(aj_pivots_order(pivots, m, 0)), *unit = order ? unit_like(like, m) : NULL;
    return turned(unit ? aj_live(aj_index_select(unit, 0, order, 0)) : NULL);
}

bool lu_factor_vjp(aj_node *node, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *lu = aj_saved_out(node, 0), *g = gy[0];
    if (!g) return true;
    int64_t m = rows_of(lu), n = columns_of(lu), k = m < n ? m : n;
    aj_tensor *square = part(part(lu, -2, 0, k), -1, 0, k), *gs = part(part(g, -2, 0, k), -1, 0, k), *t = turned(square);
    aj_tensor *gl = lower(gs), *gu = upper(gs), *right = NULL, *below = NULL;
    if (n > k) {                                         /* U2 = L1^-1 A2 */
        right = solved(t, part(g, -1, k, n - k), true, true, true);
        gl = minus(gl, lower(dot(right, turned(part(lu, -1, k, n - k)))));
    }
    if (m > k) {                                         /* L2 = A2 U1^-1 */
        below = solved(t, part(g, -2, k, m - k), false, false, false);
        gu = minus(gu, upper(dot(turned(part(lu, -2, k, m - k)), below)));
    }
    aj_tensor *l = plus(lower(square), unit_like(lu, k)), *u = upper(square);
    aj_tensor *inner = plus(lower(dot(turned(l), gl)), upper(dot(gu, turned(u))));
    aj_tensor *ga = solved(t, solved(t, inner, true, true, true), false, false, false);
    if (right) ga = joined(ga, right, -1);
    if (below) ga = joined(ga, below, -2);
    return (gx[0] = dot(exchanges(lu, aj_saved_out(node, 1), m), ga)) != NULL;
}

bool pivots_order_shape(aj_call *c) {
    if (!aj_given(c, 0, 1) || !aj_index_dtype(c, 0) || !aj_cast_inputs(c, 0, 1, AJ_I64)) return false;
    aj_tensor *p = c->in[0];
    if (!p->ndim) return aj_refuse(c, "the pivots have no dimensions, and are one row for each matrix");
    int64_t k = p->shape[p->ndim - 1];
    if (c->attrs->i < k) return aj_refuse(c, "%lld pivots of %lld rows", (long long)k, (long long)c->attrs->i);
    with_sizes(&c->spec[0], p, 1, 1, c->attrs->i, 0);
    return (c->in[0] = aj_live(aj_contiguous(p))) != NULL;
}
bool pivots_order_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }

/* The pivots fit the matrices: one for each of the rows or columns, whichever are fewer. */
static bool fit(aj_call *c) {
    if (!is_matrix(c, 0) || !aj_given(c, 1, 1)) return false;
    const aj_tensor *lu = c->in[0], *p = c->in[1];
    int64_t m = rows_of(lu), n = columns_of(lu);
    bool same = p->ndim == lu->ndim - 1 && p->shape[p->ndim - 1] == (m < n ? m : n);
    for (int d = 0; same && d < lu->ndim - 2; d++) same = p->shape[d] == lu->shape[d];
    return same || aj_refuse(c, "the pivots are those that lu_factor gives with the matrix: a row of %lld for each", (long long)(m < n ? m : n));
}
aj_tensor *lu_unpack_compose(aj_call *c) {
    if (!fit(c)) return NULL;
    aj_tensor *lu = c->in[0];
    int64_t m = rows_of(lu), n = columns_of(lu), k = m < n ? m : n;
    aj_tensor *p = exchanges(lu, c->in[1], m), *l = plus(lower(part(lu, -1, 0, k)), aj_live(aj_eye((aj_dtype)lu->dtype, lu->device, m, k))), *u = upper(part(lu, -2, 0, k));
    if (!p || !l || !u) return NULL;
    c->n_out = 3;
    c->out[1] = l;
    c->out[2] = u;
    return p;
}
aj_tensor *lu_compose(aj_call *c) {
    aj_tensor *lu = aj_live(aj_lu_factor(c->in[0], c->attrs->flag)), *pivots = lu ? aj_live(aj_result(2)) : NULL;
    aj_tensor *p = pivots ? aj_lu_unpack(lu, pivots) : NULL;
    if (!p) return NULL;
    c->n_out = 3;
    c->out[1] = aj_live(aj_result(2));
    c->out[2] = aj_live(aj_result(3));
    return aj_live(p);
}
/* A^T X = B in the order U^T, L^T, P^T; X A = B is A^T X^T = B^T. */
aj_tensor *lu_solve_compose(aj_call *c) {
    if (!is_square(c, 0) || !is_matrix(c, 2) || !fit(c)) return NULL;
    bool left = c->attrs->flag, adjoint = c->attrs->flag2 != !left;
    aj_tensor *lu = c->in[0], *b = left ? c->in[2] : turned(c->in[2]), *p = exchanges(lu, c->in[1], rows_of(lu)), *x;
    if (!b || !p) return NULL;
    if (adjoint) {
        aj_tensor *t = turned(lu);
        x = dot(p, solved(t, solved(t, b, false, true, false), true, true, true));
    } else x = solved(lu, solved(lu, dot(turned(p), b), false, true, true), true, true, false);
    return left ? x : turned(x);
}
