/* linear.c - matrix products and linear layers. Their gradients are products again, of transposed views, never of copies. */
#include "compose.h"

static bool is_there(const aj_call *c, int n) {
    static const char *const name[] = {"first input", "second input"};
    for (int k = 0; k < n; k++)
        if (!c->in[k]) return aj_error("%s: the %s is nil, where a tensor is wanted", aj_op_name(c->op), name[k]);
    return true;
}

/* -- matmul ---------------------------------------------------------------------------------------------------------- */

/* Vectors are a row on the left and a column on the right, and their dimension is left out of the result. */
bool matmul_shape(aj_call *c) {
    if (!is_there(c, 2)) return false;
    const aj_tensor *a = c->in[0], *b = c->in[1];
    aj_spec *y = &c->spec[0];
    if (!a->ndim || !b->ndim) return aj_refuse(c, "a tensor of no dimensions is no matrix; use * for a product with a number");
    if (!aj_same_dtype(c)) return false;
    if (a->dtype == AJ_BOOL) return aj_refuse(c, "is not for bools; convert them with :float()");
    int64_t K = a->shape[a->ndim - 1], L = b->shape[b->ndim > 1 ? b->ndim - 2 : 0];
    if (K != L)
        return aj_refuse(c, "the rows of the first have %lld elements and the columns of the second %lld; these must agree: transpose one, or check the sizes",
                         (long long)K, (long long)L);
    int na = a->ndim > 2 ? a->ndim - 2 : 0, nb = b->ndim > 2 ? b->ndim - 2 : 0, n = na > nb ? na : nb;
    for (int d = 0; d < n; d++) {
        int64_t p = d < n - na ? 1 : a->shape[d - n + na], q = d < n - nb ? 1 : b->shape[d - n + nb];
        if (p != q && p != 1 && q != 1) return aj_refuse(c, "batch sizes %lld and %lld do not match", (long long)p, (long long)q);
        y->shape[d] = p == 1 ? q : p;
    }
    if (a->ndim > 1) y->shape[n++] = a->shape[a->ndim - 2];
    if (b->ndim > 1) y->shape[n++] = b->shape[b->ndim - 1];
    y->ndim = (uint8_t)n;
    y->dtype = a->dtype;
    return true;
}

static const aj_spec *spec_of(const aj_node *n, int k) { return &n->edge[k].node->spec[n->edge[k].out]; }

/* All but the last dimension as one. */
static aj_tensor *as_matrix(aj_tensor *x) {
    aj_ints shape = {2, {1, x->shape[x->ndim - 1]}};
    for (int d = 0; d < x->ndim - 1; d++) shape.v[0] *= x->shape[d];
    return x->ndim == 2 ? x : aj_live(aj_reshape(x, &shape));
}
static aj_tensor *transposed(aj_tensor *x) { return x ? aj_live(aj_transpose(x, -2, -1)) : NULL; }

bool matmul_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *a = aj_saved_in(n, 0), *b = aj_saved_in(n, 1), *g = gy[0];
    bool row = (a ? a->ndim : spec_of(n, 0)->ndim) == 1, column = (b ? b->ndim : spec_of(n, 1)->ndim) == 1;
    if (row && a && !(a = aj_live(aj_unsqueeze(a, 0)))) return false;
    if (column && b && !(b = aj_live(aj_unsqueeze(b, 1)))) return false;
    if (column && !(g = aj_live(aj_unsqueeze(g, -1)))) return false;
    if (row && !(g = aj_live(aj_unsqueeze(g, -2)))) return false;
    if (aj_wants(n, 0)) {
        if (!(b = aj_live(b)) || !(gx[0] = aj_matmul(g, transposed(b)))) return false;
        if (row && !(gx[0] = aj_squeeze(gx[0], &(aj_ints){1, {-2}}))) return false;
    }
    if (aj_wants(n, 1)) {
        aj_tensor *p = a, *q = g;
        if (spec_of(n, 1)->ndim <= 2 && a->ndim > 2) {   /* one matrix for all of a batch: a single product sums over the batch */
            p = as_matrix(a);
            q = as_matrix(g);
            if (!p || !q) return false;
        }
        if (!(p = transposed(p)) || !(gx[1] = aj_matmul(p, q))) return false;
        if (column && !(gx[1] = aj_squeeze(gx[1], &(aj_ints){1, {-1}}))) return false;
    }
    return true;
}

/* -- linear ------------------------------------------------------------------------------------------------------------ */

bool linear_shape(aj_call *c) {
    if (!is_there(c, 2)) return false;
    const aj_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    aj_spec *y = &c->spec[0];
    if (w->ndim != 2) return aj_refuse(c, "the weight has %d dimensions, and must have 2: outputs and inputs", w->ndim);
    if (!x->ndim) return aj_refuse(c, "the input has no dimensions; its last one holds the features");
    if (x->shape[x->ndim - 1] != w->shape[1])
        return aj_refuse(c, "the input has %lld features and the weight wants %lld", (long long)x->shape[x->ndim - 1], (long long)w->shape[1]);
    if (b && (b->ndim != 1 || b->shape[0] != w->shape[0])) return aj_refuse(c, "the bias must have one element for each of the %lld outputs", (long long)w->shape[0]);
    if (!aj_same_dtype(c)) return false;
    if (x->dtype == AJ_BOOL) return aj_refuse(c, "is not for bools; convert them with :float()");
    aj_spec_like(y, x);
    y->shape[x->ndim - 1] = w->shape[0];
    return true;
}
bool linear_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *x = aj_saved_in(n, 0), *w = aj_saved_in(n, 1), *g = gy[0];
    if (aj_wants(n, 0) && !(gx[0] = aj_matmul(g, w))) return false;
    if (!aj_wants(n, 1) && !aj_wants(n, 2)) return true;
    aj_tensor *flat = as_matrix(g);
    if (!flat) return false;
    if (aj_wants(n, 1) && (!(x = as_matrix(x)) || !(gx[1] = aj_matmul(transposed(flat), x)))) return false;
    if (aj_wants(n, 2) && !(gx[2] = aj_sum(flat, &(aj_ints){1, {0}}, false))) return false;
    return true;
}

/* -- Other products ----------------------------------------------------------------------------------------------------- */

aj_tensor *vecdot_compose(aj_call *c) {
    if (!is_there(c, 2)) return NULL;
    aj_tensor *p = aj_live(aj_mul(c->in[0], c->in[1]));
    return p ? aj_sum(p, &(aj_ints){1, {c->attrs->dim}}, false) : NULL;
}

/* x1 times all matrices at once, (rows, outputs, inputs 2); then rows of that by x2. */
aj_tensor *bilinear_compose(aj_call *c) {
    if (!aj_given(c, 0, 3)) return NULL;
    aj_tensor *a = c->in[0], *b = c->in[1], *w = c->in[2], *bias = c->in[3];
    if (w->ndim != 3) { aj_refuse(c, "the weight has %d dimensions, and must have 3: outputs x inputs 1 x inputs 2", w->ndim); return NULL; }
    bool fits = a->ndim == b->ndim && a->ndim > 0 && a->shape[a->ndim - 1] == w->shape[1] && b->shape[b->ndim - 1] == w->shape[2];
    for (int d = 0; d < a->ndim - 1 && fits; d++) fits = a->shape[d] == b->shape[d];
    if (!fits) { aj_refuse(c, "x1 and x2 must have the same sizes but for the last, which must be %lld and %lld", (long long)w->shape[1], (long long)w->shape[2]); return NULL; }
    int64_t O = w->shape[0], I = w->shape[1], J = w->shape[2], rows = 1;
    if (bias && (bias->ndim != 1 || bias->shape[0] != O)) { aj_refuse(c, "the bias must have one element for each of the %lld outputs", (long long)O); return NULL; }
    aj_ints out = aj_sizes(a);
    for (int d = 0; d < out.n - 1; d++) rows *= out.v[d];
    out.v[out.n - 1] = O;
    aj_tensor *flat = do_reshape(do_permute(w, &(aj_ints){3, {1, 0, 2}}), &(aj_ints){2, {I, O * J}});
    aj_tensor *first = do_reshape(do_matmul(do_reshape(a, &(aj_ints){2, {rows, I}}), flat), &(aj_ints){3, {rows, O, J}});
    aj_tensor *y = do_reshape(do_matmul(first, do_reshape(b, &(aj_ints){3, {rows, J, 1}})), &out);
    return bias ? do_add(y, bias) : y;
}
