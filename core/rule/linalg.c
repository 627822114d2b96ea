/* linalg.c - equations, inverses, determinants, Cholesky. Gradients follow Giles, "Collected matrix derivative results for
 * forward and reverse mode algorithmic differentiation", 2008, and are made of the same ops again.
 */
#include "matrix.h"

/* Inputs 0 and 1, matrices, get each other's batch dimensions. */
static bool one_batch(aj_call *c) {
    aj_tensor *a = c->in[0], *b = c->in[1];
    int na = a->ndim - 2, nb = b->ndim - 2, n = na > nb ? na : nb;
    aj_ints sa = {n + 2, {0}}, sb = {n + 2, {0}};
    for (int d = 0; d < n; d++) {
        int64_t p = d < n - na ? 1 : a->shape[d - n + na], q = d < n - nb ? 1 : b->shape[d - n + nb];
        if (p != q && p != 1 && q != 1) return aj_refuse(c, "batch sizes %lld and %lld do not match", (long long)p, (long long)q);
        sa.v[d] = sb.v[d] = p == 1 ? q : p;
    }
    for (int d = 0; d < 2; d++) { sa.v[n + d] = a->shape[na + d]; sb.v[n + d] = b->shape[nb + d]; }
    bool same = na == n && nb == n;
    for (int d = 0; same && d < n; d++) same = a->shape[d] == b->shape[d];
    if (same) return true;
    return (c->in[0] = aj_live(aj_expand(a, &sa))) && (c->in[1] = aj_live(aj_expand(b, &sb)));
}

/* -- solve: A X = B --------------------------------------------------------------------------------------------------- */

/* As in PyTorch B is a vector, or a batch of them, when it has one dimension, or the shape of A without its last one. */
static bool is_vector(const aj_tensor *a, const aj_tensor *b) {
    if (b->ndim == 1) return true;
    bool same = b->ndim == a->ndim - 1;
    for (int d = 0; same && d < b->ndim; d++) same = b->shape[d] == a->shape[d];
    return same;
}

bool solve_shape(aj_call *c) {
    if (!is_square(c, 0) || !aj_floats(c, 1) || !aj_same_dtype(c)) return false;
    if (!c->in[1]->ndim) return aj_refuse(c, "the right side has no dimensions; it is a vector or a matrix");
    bool vector = is_vector(c->in[0], c->in[1]);
    if (vector && !(c->in[1] = as_column(c->in[1]))) return false;
    if (rows_of(c->in[1]) != rows_of(c->in[0]))
        return aj_refuse(c, "the right side has %lld rows, and must have %lld", (long long)rows_of(c->in[1]), (long long)rows_of(c->in[0]));
    if (!one_batch(c)) return false;
    with_sizes(&c->spec[0], c->in[0], 1, vector ? 0 : 1, columns_of(c->in[1]), 0);
    c->attrs->flag = vector;
    return true;
}
/* gB = A^-T g, gA = -gB X^T */
bool solve_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    bool vector = n->attrs->flag;
    aj_tensor *a = aj_saved_in(n, 0), *g = vector ? as_column(gy[0]) : gy[0];
    aj_tensor *t = turned(a), *gb = t && g ? aj_live(aj_solve(t, g)) : NULL;
    if (!gb) return false;
    gx[1] = gb;
    if (!aj_wants(n, 0)) return true;
    aj_tensor *x = aj_saved_out(n, 0);
    if (vector) x = as_column(x);
    return (gx[0] = opposite(dot(gb, turned(x)))) != NULL;
}

/* -- solve_triangular ---------------------------------------------------------------------------------------------------- */

bool solve_triangular_shape(aj_call *c) {
    if (!is_square(c, 0) || !is_matrix(c, 1) || !aj_same_dtype(c)) return false;
    int64_t n = rows_of(c->in[0]), have = c->attrs->flag2 ? rows_of(c->in[1]) : columns_of(c->in[1]);
    if (have != n) return aj_refuse(c, "the right side has %lld %s, and must have %lld", (long long)have, c->attrs->flag2 ? "rows" : "columns", (long long)n);
    if (!one_batch(c)) return false;
    aj_spec_like(&c->spec[0], c->in[1]);
    return true;
}
/* Of A X = B as above, the triangle of it that is read; of X A = B: gB = g A^-T, gA = -X^T gB. */
bool solve_triangular_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    bool upper = n->attrs->flag, left = n->attrs->flag2, unit = n->attrs->keepdim;
    aj_tensor *a = turned(aj_saved_in(n, 0)), *gb = a ? aj_live(aj_solve_triangular(a, gy[0], !upper, left, unit)) : NULL;
    if (!gb) return false;
    gx[1] = gb;
    if (!aj_wants(n, 0)) return true;
    aj_tensor *x = turned(aj_saved_out(n, 0)), *ga = opposite(left ? dot(gb, x) : dot(x, gb));
    if (!ga) return false;
    return (gx[0] = upper ? aj_triu(ga, unit) : aj_tril(ga, unit ? -1 : 0)) != NULL;
}
aj_tensor *triangular_solve_compose(aj_call *c) {
    if (!is_matrix(c, 0) || !is_square(c, 1)) return NULL;
    aj_tensor *a = c->in[1];
    bool upper = c->attrs->flag;
    if (c->attrs->flag2) { a = turned(a); upper = !upper; }
    aj_tensor *x = a ? aj_live(aj_solve_triangular(a, c->in[0], upper, true, c->attrs->keepdim)) : NULL;
    if (!x || !(c->out[1] = aj_live(aj_clone(c->in[1])))) return NULL;
    c->n_out = 2;
    return x;
}

/* -- inverse, determinants --------------------------------------------------------------------------------------------------- */

bool inverse_shape(aj_call *c) {
    if (!is_square(c, 0)) return false;
    aj_spec_like(&c->spec[0], c->in[0]);
    return true;
}
/* -Y^T g Y^T */
bool inverse_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *y = turned(aj_saved_out(n, 0));
    return (gx[0] = opposite(dot(dot(y, gy[0]), y))) != NULL;
}

bool det_shape(aj_call *c) {
    if (!is_square(c, 0)) return false;
    with_sizes(&c->spec[0], c->in[0], 2, 0, 0, 0);
    return true;
}
bool det_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *k = aj_live(aj_cofactor(aj_saved_in(n, 0)));
    return (gx[0] = times(as_matrix_1(gy[0]), k)) != NULL;
}

/* Cofactors, det(A) A^-T, exist for singular matrices too; their gradient in this form does not. */
bool cofactor_shape(aj_call *c) { return inverse_shape(c); }
static aj_tensor *by_inverse(aj_tensor *const *in, int n_in, const aj_attrs *attrs) {
    (void)n_in; (void)attrs;
    aj_tensor *y = aj_live(aj_inverse(in[0])), *d = y ? aj_live(aj_det(in[0])) : NULL;
    return times(as_matrix_1(d), turned(y));
}
bool cofactor_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return aj_vjp_by_definition(n, by_inverse, gy[0], gx); }

bool slogdet_shape(aj_call *c) {
    if (!det_shape(c)) return false;
    c->spec[1] = c->spec[0];
    c->n_out = 2;
    return true;
}
bool slogdet_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    if (!gy[1]) return true;
    aj_tensor *y = aj_live(aj_inverse(aj_saved_in(n, 0)));
    return (gx[0] = times(as_matrix_1(gy[1]), turned(y))) != NULL;
}
aj_tensor *logdet_compose(aj_call *c) {
    if (!is_square(c, 0)) return NULL;
    aj_tensor *sign = aj_live(aj_slogdet(c->in[0])), *y = sign ? aj_result(2) : NULL;
    aj_tensor *bad = y ? aj_live(aj_lt_number(sign, 0, false)) : NULL;
    aj_tensor *nan = bad ? aj_full((aj_dtype)c->in[0]->dtype, &(aj_ints){0}, c->in[0]->device, __builtin_nan("")) : NULL;
    return nan ? aj_where(bad, nan, y) : NULL;
}

/* -- Cholesky ------------------------------------------------------------------------------------------------------------------- */

bool cholesky_shape(aj_call *c) { return inverse_shape(c); }
/* Murray, "Differentiation of the Cholesky decomposition", 2016: gA = L^-T phi(L^T gL) L^-1, where phi takes the lower
 * triangle with half of the diagonal; made symmetric, as A is. */
bool cholesky_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *l = aj_saved_out(n, 0), *g = gy[0];
    if (n->attrs->flag) { l = turned(l); g = turned(g); }
    aj_tensor *m = dot(turned(l), g), *p = m ? aj_live(aj_tril(m, 0)) : NULL, *q = p ? aj_live(aj_tril(m, -1)) : NULL;
    aj_tensor *phi = scaled(plus(p, q), 0.5), *t = phi ? turned(l) : NULL;
    aj_tensor *s = t ? aj_live(aj_solve_triangular(t, phi, true, true, false)) : NULL;
    if (!s || !(s = aj_live(aj_solve_triangular(l, s, false, false, false)))) return false;
    return (gx[0] = scaled(plus(s, turned(s)), 0.5)) != NULL;
}
aj_tensor *cholesky_solve_compose(aj_call *c) {
    if (!is_matrix(c, 0) || !is_square(c, 1)) return NULL;
    aj_tensor *b = c->in[0], *l = c->in[1], *t = turned(l);
    bool upper = c->attrs->flag;
    aj_tensor *y = t ? aj_live(aj_solve_triangular(upper ? t : l, b, false, true, false)) : NULL;
    return y ? aj_solve_triangular(upper ? l : t, y, true, true, false) : NULL;
}
aj_tensor *cholesky_inverse_compose(aj_call *c) {
    if (!is_square(c, 0)) return NULL;
    aj_tensor *one = unit_like(c->in[0], rows_of(c->in[0]));
    return one ? aj_cholesky_solve(one, c->in[0], c->attrs->flag) : NULL;
}

/* -- Made of products ----------------------------------------------------------------------------------------------------------- */

aj_tensor *trace_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    if (c->in[0]->ndim != 2) { aj_refuse(c, "is of one matrix; of a batch sum diagonal(x, 0, -2, -1) along -1"); return NULL; }
    aj_tensor *d = aj_diagonal(c->in[0], 0, 0, 1);
    return d ? aj_sum(d, &(aj_ints){-1, {0}}, false) : NULL;
}

aj_tensor *matrix_power_compose(aj_call *c) {
    if (!is_square(c, 0)) return NULL;
    aj_tensor *x = c->in[0], *y = NULL;
    int64_t n = c->attrs->i;
    if (n == 0) {
        aj_ints size = aj_sizes(x);
        aj_tensor *one = unit_like(x, rows_of(x));
        return one ? aj_clone(aj_live(aj_expand(one, &size))) : NULL;
    }
    if (n < 0 && !(x = aj_live(aj_inverse(x)))) return NULL;
    uint64_t left = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    for (;;) {
        if (left & 1 && !(y = y ? dot(y, x) : x)) return NULL;
        if (!(left >>= 1)) return y == c->in[0] ? aj_clone(y) : y;
        if (!(x = dot(x, x))) return NULL;
    }
}

/* The largest sum of |x| along rows, over all matrices; false after an error. */
static bool largest_norm(aj_tensor *x, double *norm) {
    bool mode = aj_grad_mode(false);
    aj_tensor *s = aj_live(aj_abs(x));
    s = sum_over(s, -2, false);
    if (s && x->numel) s = aj_live(aj_amax(s, &(aj_ints){-1, {0}}, false));
    aj_grad_mode(mode);
    *norm = 0;
    return s && (!x->numel || x->device == AJ_META || aj_get(s, (const int64_t[]){0}, norm));
}

/* Higham, "The scaling and squaring method for the matrix exponential revisited", 2005: the approximant of degree 13. */
aj_tensor *matrix_exp_compose(aj_call *c) {
    static const double b[] = {64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600,
                               670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1};
    if (!is_square(c, 0)) return NULL;
    aj_tensor *x = c->in[0];
    double norm;
    int squares = 0;
    if (x->dtype == AJ_F16 || x->dtype == AJ_BF16) {     /* whose range the coefficients leave */
        aj_tensor *y = aj_live(aj_cast(x, AJ_F32));
        return y && (y = aj_live(aj_matrix_exp(y))) ? aj_cast(y, (aj_dtype)x->dtype) : NULL;
    }
    if (!largest_norm(x, &norm)) return NULL;
    for (; norm > 5.371920351148152 && squares < 1100; squares++) norm /= 2;
    if (squares) x = scaled(x, __builtin_ldexp(1, -squares));
    aj_tensor *one = x ? unit_like(x, rows_of(x)) : NULL, *x2 = dot(x, x), *x4 = dot(x2, x2), *x6 = dot(x4, x2), *half[2];
    for (int odd = 0; odd < 2; odd++) {
        aj_tensor *high = plus(plus(scaled(x6, b[12 + odd]), scaled(x4, b[10 + odd])), scaled(x2, b[8 + odd]));
        aj_tensor *low = plus(plus(plus(scaled(x6, b[6 + odd]), scaled(x4, b[4 + odd])), scaled(x2, b[2 + odd])), scaled(one, b[odd]));
        half[odd] = plus(dot(x6, high), low);
    }
    aj_tensor *u = dot(x, half[1]), *p = minus(half[0], u), *q = plus(half[0], u);
    aj_tensor *y = p && q ? aj_live(aj_solve(p, q)) : NULL;
    while (y && squares-- > 0) y = dot(y, y);
    return y;
}
