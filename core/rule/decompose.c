/* decompose.c - QR, singular values, eigenvalues of symmetric matrices, and what is made of them.
 *
 * Gradients of QR: Walter and Lehmann, "Algorithmic differentiation of linear algebra functions with application in
 * optimum experimental design", 2009; of the others: Giles, 2008, and Townsend, "Differentiating the SVD", 2016. All
 * are ops of the results, and so have gradients again.
 */
#include "matrix.h"
#include <string.h>

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static aj_tensor *skew(aj_tensor *x) { return minus(x, turned(x)); }
static aj_tensor *first_columns(aj_tensor *x, int64_t k) { return x ? aj_live(aj_narrow(x, -1, 0, k)) : NULL; }

/* -- QR ------------------------------------------------------------------------------------------------------------ */

enum { REDUCED, COMPLETE, ONLY_R };
int8_t aj_qr_mode(const char *name) {
    static const char *const names[] = {"reduced", "complete", "r"};
    for (int i = 0; i < 3; i++) if (name && !strcmp(name, names[i])) return (int8_t)i;
    return -1;
}

bool qr_shape(aj_call *c) {
    if (!is_matrix(c, 0)) return false;
    const aj_tensor *x = c->in[0];
    int mode = c->attrs->mode;
    if (mode < 0) return aj_refuse(c, "the mode is \"reduced\", \"complete\" or \"r\"");
    int64_t m = rows_of(x), n = columns_of(x), k = mode == COMPLETE ? m : least(m, n);
    with_sizes(&c->spec[0], x, 2, 2, m, k);
    with_sizes(&c->spec[1], x, 2, 2, k, n);
    if (mode == ONLY_R) c->spec[0] = (aj_spec){.dtype = x->dtype, .ndim = 1, .shape = {0}};
    c->n_out = 2;
    return true;
}

/* m >= n: gA = (gQ + Q copyltu(R gR^T - gQ^T Q)) R^-T, where copyltu mirrors the lower triangle. */
static aj_tensor *tall_qr_vjp(aj_tensor *q, aj_tensor *r, aj_tensor *gq, aj_tensor *gr) {
    aj_tensor *m = gr ? dot(r, turned(gr)) : NULL, *p = gq ? dot(turned(gq), q) : NULL;
    m = m && p ? minus(m, p) : m ? m : opposite(p);
    aj_tensor *low = m ? aj_live(aj_tril(m, 0)) : NULL, *strict = m ? aj_live(aj_tril(m, -1)) : NULL;
    aj_tensor *g = dot(q, plus(low, turned(strict)));
    if (gq) g = plus(gq, g);
    aj_tensor *t = g ? turned(r) : NULL;
    return t ? aj_live(aj_solve_triangular(t, g, false, false, false)) : NULL;
}
bool qr_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *q = aj_saved_out(n, 0), *r = aj_saved_out(n, 1);
    if (n->attrs->mode == ONLY_R) return aj_error("qr: mode \"r\" has no gradient; use \"reduced\"");
    int64_t m = rows_of(q), k = columns_of(q), cols = columns_of(r);
    if (k > cols) return aj_error("qr: mode \"complete\" has no gradient for matrices with more rows than columns; use \"reduced\"");
    aj_tensor *gq = gy[0], *gr = gy[1];
    (void)m;
    if (cols == k) return (gx[0] = tall_qr_vjp(q, r, gq, gr)) != NULL;
    /* A = (X, Y), X = Q U square, and R = (U, Q^T Y): what flows into V = Q^T Y goes to Y and to Q. */
    aj_tensor *u = first_columns(r, k), *gu = gr ? first_columns(gr, k) : NULL, *gv = gr ? aj_live(aj_narrow(gr, -1, k, cols - k)) : NULL;
    if (!u || (gr && !(gu && gv))) return false;
    if (gv) {
        aj_tensor *v = aj_live(aj_narrow(r, -1, k, cols - k)), *more = dot(dot(q, v), turned(gv));      /* Y gV^T, as Y = Q V */
        if (!(gq = gq ? plus(gq, more) : more)) return false;
    }
    aj_tensor *left = tall_qr_vjp(q, u, gq, gu);
    aj_tensor *right = gv ? dot(q, gv) : left ? aj_live(aj_narrow(left, -1, 0, 0)) : NULL;
    if (!left || !right) return false;
    if (!gv) {
        aj_ints before = {left->ndim, {0}}, after = {left->ndim, {0}};
        after.v[left->ndim - 1] = cols - k;
        return (gx[0] = aj_constant_pad(left, &before, &after, 0)) != NULL;
    }
    aj_list both = {2, (aj_tensor *[]){left, right}};
    return (gx[0] = aj_cat(&both, left->ndim - 1)) != NULL;
}

/* -- Singular values ------------------------------------------------------------------------------------------------ */

bool svd_shape(aj_call *c) {
    if (!is_matrix(c, 0)) return false;
    const aj_tensor *x = c->in[0];
    int64_t m = rows_of(x), n = columns_of(x), k = least(m, n);
    with_sizes(&c->spec[0], x, 2, 2, m, c->attrs->flag ? m : k);
    with_sizes(&c->spec[1], x, 2, 1, k, 0);
    with_sizes(&c->spec[2], x, 2, 2, c->attrs->flag ? n : k, n);
    c->n_out = 3;
    return true;
}
/* The singular vectors beyond the k-th, of full matrices, are any that complete the others, and have no gradient. */
static bool no_more(aj_tensor *g, int dim, int64_t k) {
    int64_t n = !g ? k : g->shape[g->ndim + dim];
    if (n <= k) return true;
    bool mode = aj_grad_mode(false);
    aj_tensor *rest = aj_live(aj_narrow(g, dim, k, n - k)), *some = rest ? aj_live(aj_ne_number(rest, 0, false)) : NULL;
    double is = 1;
    bool ok = some && (some = aj_live(aj_any(some, &(aj_ints){-1, {0}}, false))) && aj_get(some, NULL, &is);
    aj_grad_mode(mode);
    return ok && (!is || aj_error("svd: with full_matrices the singular vectors beyond the %lld-th have no gradient; use the first %lld, or pass full_matrices = false", (long long)k, (long long)k));
}
bool svd_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *u = aj_saved_out(n, 0), *s = aj_saved_out(n, 1), *vh = aj_saved_out(n, 2), *gu = gy[0], *gs = gy[1], *gvh = gy[2];
    int64_t rows = rows_of(u), cols = columns_of(vh), k = columns_of(s ? as_row(s) : u);
    if (columns_of(u) > k || rows_of(vh) > k) {
        if (!no_more(gu, -1, k) || !no_more(gvh, -2, k)) return false;
        u = first_columns(u, k);
        vh = vh ? aj_live(aj_narrow(vh, -2, 0, k)) : NULL;
        if ((gu && !(gu = first_columns(gu, k))) || (gvh && !(gvh = aj_live(aj_narrow(gvh, -2, 0, k))))) return false;
    }
    if (!u || !s || !vh) return false;
    aj_tensor *inner = gs ? on_diagonal(gs) : NULL, *row = as_row(s), *column = as_column(s);
    if (gs && !inner) return false;
    if (gu || gvh) {
        /* E(i, j) = s(j)^2 - s(i)^2, with ones on its diagonal */
        aj_tensor *e = plus(times(minus(row, column), plus(row, column)), unit_like(s, k));
        aj_tensor *p = gu ? times(skew(dot(turned(u), gu)), row) : NULL, *q = gvh ? times(column, skew(dot(vh, turned(gvh)))) : NULL;
        aj_tensor *both = over(p && q ? plus(p, q) : p ? p : q, e);
        if (!both || !(inner = inner ? plus(inner, both) : both)) return false;
    }
    if (!inner) return true;
    aj_tensor *g;
    if (rows > k && gu) {
        aj_tensor *w = over(gu, row), *left = minus(w, dot(u, dot(turned(u), w)));
        g = dot(plus(dot(u, inner), left), vh);
    } else if (cols > k && gvh) {
        aj_tensor *w = over(gvh, column), *right = minus(w, dot(dot(w, turned(vh)), vh));
        g = dot(u, plus(dot(inner, vh), right));
    } else g = rows <= cols ? dot(dot(u, inner), vh) : dot(u, dot(inner, vh));
    return (gx[0] = g) != NULL;
}

bool svdvals_shape(aj_call *c) {
    if (!is_matrix(c, 0)) return false;
    with_sizes(&c->spec[0], c->in[0], 2, 1, least(rows_of(c->in[0]), columns_of(c->in[0])), 0);
    return true;
}
/* U diag(g) V^T */
static aj_tensor *values_vjp(aj_tensor *a, aj_tensor *g) {
    aj_tensor *u = aj_live(aj_svd(a, false)), *vh = u ? aj_live(aj_result(3)) : NULL;
    return dot(times(u, as_row(g)), vh);
}
bool svdvals_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = values_vjp(aj_saved_in(n, 0), gy[0])) != NULL; }

/* -- Eigenvalues of symmetric matrices ---------------------------------------------------------------------------------- */

static bool eigen_shape(aj_call *c) {
    if (!is_square(c, 0)) return false;
    if (c->attrs->mode != 'L' && c->attrs->mode != 'U') return aj_refuse(c, "UPLO is \"L\" or \"U\": the triangle that is read");
    with_sizes(&c->spec[0], c->in[0], 2, 1, rows_of(c->in[0]), 0);
    return true;
}
bool eigh_shape(aj_call *c) {
    if (!eigen_shape(c)) return false;
    aj_spec_like(&c->spec[1], c->in[0]);
    c->n_out = 2;
    return true;
}
/* V (diag(gL) + (V^T gV) / E) V^T, E(i, j) = L(j) - L(i), off the diagonal; made symmetric, as A is. */
bool eigh_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *l = aj_saved_out(n, 0), *v = aj_saved_out(n, 1), *inner = gy[0] ? on_diagonal(gy[0]) : NULL;
    if (gy[0] && !inner) return false;
    if (gy[1]) {
        aj_tensor *m = dot(turned(v), gy[1]), *e = plus(minus(as_row(l), as_column(l)), unit_like(l, rows_of(v)));
        m = scaled(skew(m), 0.5);                        /* E is skew, so that the quotient's symmetric part is this one's */
        if (!(m = over(m, e)) || !(inner = inner ? plus(inner, m) : m)) return false;
    }
    return !inner || (gx[0] = dot(dot(v, inner), turned(v))) != NULL;
}
bool eigvalsh_shape(aj_call *c) { return eigen_shape(c); }
bool eigvalsh_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *l = aj_live(aj_eigh(aj_saved_in(n, 0), n->attrs->mode == 'U' ? "U" : "L")), *v = l ? aj_live(aj_result(2)) : NULL;
    return (gx[0] = dot(times(v, as_row(gy[0])), turned(v))) != NULL;
}

/* -- Pseudoinverse, least squares ------------------------------------------------------------------------------------------ */

bool pinv_shape(aj_call *c) {
    if (!is_matrix(c, 0)) return false;
    with_sizes(&c->spec[0], c->in[0], 2, 2, columns_of(c->in[0]), rows_of(c->in[0]));
    return true;
}
/* Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems", 1973:
 * dP = -P dA P + P P^T dA^T (I - A P) + (I - P A) dA^T P^T P, where the rank is constant. */
bool pinv_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *a = aj_saved_in(n, 0), *p = aj_saved_out(n, 0), *t = turned(p), *h = turned(gy[0]);
    aj_tensor *x = dot(dot(t, gy[0]), t);
    aj_tensor *y = dot(dot(h, p), t);                    /* g^T P P^T */
    aj_tensor *z = dot(dot(t, p), h);                    /* P^T P g^T */
    y = minus(y, dot(a, dot(p, y)));
    z = minus(z, dot(dot(z, p), a));
    return (gx[0] = minus(plus(y, z), x)) != NULL;
}

bool lstsq_solve_shape(aj_call *c) {
    if (!is_matrix(c, 0) || !is_matrix(c, 1) || !aj_same_dtype(c)) return false;
    const aj_tensor *a = c->in[0], *b = c->in[1];
    if (rows_of(a) != rows_of(b)) return aj_refuse(c, "the right side has %lld rows, and must have %lld", (long long)rows_of(b), (long long)rows_of(a));
    bool same = a->ndim == b->ndim;
    for (int d = 0; same && d < a->ndim - 2; d++) same = a->shape[d] == b->shape[d];
    if (!same) return aj_refuse(c, "the batch dimensions differ; expand one");
    with_sizes(&c->spec[0], a, 2, 2, columns_of(a), columns_of(b));
    with_sizes(&c->spec[1], a, 2, 0, 0, 0);
    c->spec[1].dtype = AJ_I64;
    with_sizes(&c->spec[2], a, 2, 1, least(rows_of(a), columns_of(a)), 0);
    c->n_out = 3;
    return true;
}
static aj_tensor *by_pinv(aj_tensor *const *in, int n_in, const aj_attrs *attrs) {
    (void)n_in;
    aj_tensor *p = aj_live(aj_pinv(in[0], 0, attrs->s));
    return dot(p, in[1]);
}
bool lstsq_solve_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    if (gy[0] && !aj_vjp_by_definition(n, by_pinv, gy[0], gx)) return false;
    if (!gy[2] || !aj_wants(n, 0)) return true;
    aj_tensor *g = values_vjp(aj_saved_in(n, 0), gy[2]);
    return (gx[0] = gx[0] ? plus(gx[0], g) : g) != NULL;
}

/* Whether all ranks are n. */
static bool full_rank(aj_tensor *rank, int64_t n, bool *full) {
    double v = (double)n;
    *full = true;
    if (rank->numel == 0 || rank->device == AJ_META) return true;
    aj_tensor *low = aj_amin(rank, &(aj_ints){-1, {0}}, false);
    if (!low || !aj_get(low, (const int64_t[]){0}, &v)) return false;
    *full = v >= (double)n;
    return true;
}
aj_tensor *lstsq_compose(aj_call *c) {
    if (!is_matrix(c, 0) || !aj_floats(c, 1)) return NULL;
    aj_tensor *a = c->in[0], *b = c->in[1];
    bool vector = b->ndim == a->ndim - 1;
    if (vector && !(b = as_column(b))) return NULL;
    aj_tensor *x = aj_live(aj_lstsq_solve(a, b, c->attrs->s));
    if (!x) return NULL;
    aj_tensor *rank = aj_live(aj_result(2)), *values = aj_live(aj_result(3)), *rest;
    bool full;
    if (!full_rank(rank, columns_of(a), &full)) return NULL;
    if (full && rows_of(a) > columns_of(a)) {
        rest = minus(dot(a, x), b);
        rest = sum_over(rest ? aj_live(aj_square(rest)) : NULL, -2, false);
        if (vector && rest) rest = aj_live(aj_squeeze(rest, &(aj_ints){1, {-1}}));
    } else rest = aj_live(aj_empty((aj_dtype)x->dtype, &(aj_ints){1, {0}}, x->device));
    if (vector && !(x = aj_live(aj_squeeze(x, &(aj_ints){1, {-1}})))) return NULL;
    if (!rest) return NULL;
    c->out[1] = rest;
    c->out[2] = rank;
    c->out[3] = values;
    c->n_out = 4;
    return x;
}

/* -- Ranks, norms -------------------------------------------------------------------------------------------------------------- */

aj_tensor *matrix_rank_compose(aj_call *c) {
    if (!is_matrix(c, 0)) return NULL;
    aj_tensor *x = c->in[0];
    int64_t m = rows_of(x), n = columns_of(x), size = m > n ? m : n;
    double atol = c->attrs->t, rtol = c->attrs->s, eps = x->dtype == AJ_F64 ? 0x1p-52 : x->dtype == AJ_F32 ? 0x1p-23 : x->dtype == AJ_F16 ? 0x1p-10 : 0x1p-7;
    if (rtol < 0) rtol = atol > 0 ? 0 : (double)size * eps;
    aj_tensor *s = aj_live(aj_detach(x));
    if (s) s = aj_live(aj_svdvals(s));
    if (!s) return NULL;
    aj_ints last = {1, {-1}};
    if (least(m, n) == 0) return aj_sum(aj_live(aj_cast(s, AJ_I64)), &last, false);
    aj_tensor *limit = aj_live(aj_amax(s, &last, true));
    limit = scaled(limit, rtol);
    if (limit && atol > 0) limit = aj_live(aj_clamp_min(limit, atol));
    aj_tensor *above = limit ? aj_live(aj_gt(s, limit)) : NULL;
    return above ? aj_sum(above, &last, false) : NULL;
}

enum { FRO, NUC, TWO, MINUS_TWO, ONE, MINUS_ONE, INF, MINUS_INF };
int8_t aj_matrix_norm_named(const char *name) {
    static const char *const names[] = {"fro", "nuc", "2", "-2", "1", "-1", "inf", "-inf"};
    for (int i = 0; i < 8; i++) if (name && !strcmp(name, names[i])) return (int8_t)i;
    return -1;
}

/* Of matrices in the last two dimensions, which are kept with size 1. */
static aj_tensor *norm_of(aj_tensor *x, int which) {
    aj_ints both = {2, {-2, -1}}, last = {1, {-1}};
    bool low = which == MINUS_TWO || which == MINUS_ONE || which == MINUS_INF;
    if (which == FRO) return aj_live(aj_norm(x, 2, &both, true));
    if (which <= MINUS_TWO) {
        aj_tensor *s = aj_live(aj_svdvals(x));
        return !s ? NULL : as_column(aj_live(which == NUC ? aj_sum(s, &last, true) : low ? aj_amin(s, &last, true) : aj_amax(s, &last, true)));
    }
    bool columns = which == ONE || which == MINUS_ONE;
    aj_ints along = {1, {columns ? -1 : -2}};
    aj_tensor *s = sum_over(aj_live(aj_abs(x)), columns ? -2 : -1, true);
    return !s ? NULL : aj_live(low ? aj_amin(s, &along, true) : aj_amax(s, &along, true));
}
aj_tensor *matrix_norm_compose(aj_call *c) {
    if (!is_matrix(c, 0)) return NULL;
    aj_tensor *x = c->in[0];
    bool in[AJ_MAX_DIM];
    const aj_ints *dims = &c->attrs->list;
    if (c->attrs->mode < 0) { aj_refuse(c, "there is no such matrix norm; it is fro, nuc, 1, -1, 2, -2, inf or -inf"); return NULL; }
    if (dims->n != 2) { aj_refuse(c, "a matrix has two dimensions, and %d are given", dims->n); return NULL; }
    if (!aj_dims_of(c, dims, x->ndim, in)) return NULL;
    int a = (int)dims->v[0] + (dims->v[0] < 0 ? x->ndim : 0), b = (int)dims->v[1] + (dims->v[1] < 0 ? x->ndim : 0);
    aj_ints from = {2, {a, b}}, to = {2, {x->ndim - 2, x->ndim - 1}};
    if ((a != to.v[0] || b != to.v[1]) && !(x = aj_live(aj_movedim(x, &from, &to)))) return NULL;
    aj_tensor *y = norm_of(x, c->attrs->mode);
    if (!y) return NULL;
    return c->attrs->keepdim ? aj_movedim(y, &to, &from) : aj_squeeze(y, &(aj_ints){2, {-2, -1}});
}

aj_tensor *cond_compose(aj_call *c) {
    if (!is_matrix(c, 0)) return NULL;
    aj_tensor *s = aj_live(aj_svdvals(c->in[0]));
    if (!s) return NULL;
    if (columns_of(as_row(s)) == 0) { aj_refuse(c, "the matrix is empty"); return NULL; }
    aj_ints last = {1, {-1}};
    aj_tensor *high = aj_live(aj_amax(s, &last, false)), *low = high ? aj_live(aj_amin(s, &last, false)) : NULL;
    return over(high, low);
}
