/* window.c - parts of a tensor as views (narrow, diagonal, unfold), and triangles and diagonals of matrices. */
#include "rule.h"

static aj_ints dense(const aj_ints *shape) {
    aj_ints s = {shape->n, {0}};
    int64_t run = 1;
    for (int d = shape->n - 1; d >= 0; d--) { s.v[d] = run; run *= shape->v[d]; }
    return s;
}
static int plain(int dim, int ndim) { return dim < 0 ? dim + ndim : dim; }

/* -- narrow ------------------------------------------------------------------------------------------------------ */

aj_tensor *narrow_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    if (x->ndim == 0) { aj_refuse(c, "a tensor of no dimensions has no slices"); return NULL; }
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0) return NULL;
    int64_t size = x->shape[dim], length = c->attrs->j, start = c->attrs->i < 0 ? c->attrs->i + size : c->attrs->i;
    if (length < 0) { aj_refuse(c, "the length is %lld", (long long)length); return NULL; }
    if (start < 0 || start > size || length > size - start) {
        aj_refuse(c, "%lld elements from %lld on reach outside dimension %d of size %lld", (long long)length, (long long)start + 1, dim + 1, (long long)size);
        return NULL;
    }
    c->attrs->dim = dim;
    c->attrs->i = start;
    aj_tensor *y = aj_new_view(x, x->ndim, x->shape, x->stride, start * x->stride[dim]);
    if (!y) return NULL;
    y->shape[dim] = length;
    aj_set_contiguous(y);
    return y;
}
bool narrow_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints of = aj_sizes_in(n, 0), before = {of.n, {0}}, after = {of.n, {0}};
    int dim = n->attrs->dim;
    before.v[dim] = n->attrs->i;
    after.v[dim] = of.v[dim] - n->attrs->i - n->attrs->j;
    return (gx[0] = aj_constant_pad(gy[0], &before, &after, 0)) != NULL;
}

/* -- diagonal ----------------------------------------------------------------------------------------------------- */

/* The length of a diagonal of a (rows, cols) matrix, and where in it the diagonal begins. */
static int64_t diagonal_length(int64_t rows, int64_t cols, int64_t offset, int64_t *row, int64_t *col) {
    if (offset < -rows) offset = -rows;
    if (offset > cols) offset = cols;
    *row = offset < 0 ? -offset : 0;
    *col = offset > 0 ? offset : 0;
    int64_t down = rows - *row, right = cols - *col, n = down < right ? down : right;
    return n < 0 ? 0 : n;
}

aj_tensor *diagonal_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    if (x->ndim < 2) { aj_refuse(c, "a diagonal needs two dimensions"); return NULL; }
    int a = aj_dim_of(c, c->attrs->dim, x->ndim), b = a < 0 ? -1 : aj_dim_of(c, c->attrs->dim2, x->ndim);
    if (a < 0 || b < 0) return NULL;
    if (a == b) { aj_refuse(c, "dim1 and dim2 are both dimension %d", a + 1); return NULL; }
    int64_t shape[AJ_MAX_DIM], stride[AJ_MAX_DIM], row, col;
    int64_t n = diagonal_length(x->shape[a], x->shape[b], c->attrs->i, &row, &col);
    int m = 0;
    for (int d = 0; d < x->ndim; d++) if (d != a && d != b) { shape[m] = x->shape[d]; stride[m++] = x->stride[d]; }
    shape[m] = n; stride[m++] = x->stride[a] + x->stride[b];
    return aj_new_view(x, m, shape, stride, n ? row * x->stride[a] + col * x->stride[b] : 0);
}
bool diagonal_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints of = aj_sizes_in(n, 0), strides = dense(&of), window = {0};
    int a = plain(n->attrs->dim, of.n), b = plain(n->attrs->dim2, of.n);
    int64_t row, col, length = diagonal_length(of.v[a], of.v[b], n->attrs->i, &row, &col);
    for (int d = 0; d < of.n; d++) if (d != a && d != b) window.v[window.n++] = strides.v[d];
    window.v[window.n++] = strides.v[a] + strides.v[b];
    return (gx[0] = aj_as_strided_grad(gy[0], &of, &window, length ? row * strides.v[a] + col * strides.v[b] : 0)) != NULL;
}

/* The last dimension of x as a diagonal of new matrices: zeros with x added through a window. */
aj_tensor *diag_embed_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0];
    if (x->ndim < 1) { aj_refuse(c, "has no dimension to lay along a diagonal"); return NULL; }
    if (x->ndim == AJ_MAX_DIM) { aj_refuse(c, "has %d dimensions already, the most there can be", AJ_MAX_DIM); return NULL; }
    int n = x->ndim + 1, a = aj_dim_of(c, c->attrs->dim, n), b = a < 0 ? -1 : aj_dim_of(c, c->attrs->dim2, n);
    if (a < 0 || b < 0) return NULL;
    if (a == b) { aj_refuse(c, "dim1 and dim2 are both dimension %d", a + 1); return NULL; }
    if (c->attrs->i > 1 << 30 || c->attrs->i < -(1 << 30)) { aj_refuse(c, "the offset %lld is too far", (long long)c->attrs->i); return NULL; }
    int64_t offset = c->attrs->i, size = x->shape[x->ndim - 1] + (offset < 0 ? -offset : offset);
    aj_ints of = {n, {0}}, window = {0};
    for (int d = 0, e = 0; d < n; d++) of.v[d] = d == a || d == b ? size : x->shape[e++];
    aj_ints strides = dense(&of);
    for (int d = 0; d < n; d++) if (d != a && d != b) window.v[window.n++] = strides.v[d];
    window.v[window.n++] = strides.v[a] + strides.v[b];
    return aj_as_strided_grad(x, &of, &window, offset < 0 ? -offset * strides.v[a] : offset * strides.v[b]);
}
aj_tensor *diag_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0];
    if (x->ndim == 1) return aj_diag_embed(x, c->attrs->i, -2, -1);
    if (x->ndim != 2) { aj_refuse(c, "is for vectors and matrices; use diagonal or diag_embed for more dimensions"); return NULL; }
    aj_tensor *y = aj_diagonal(x, c->attrs->i, 0, 1);
    return y ? aj_clone(y) : NULL;
}

/* -- unfold --------------------------------------------------------------------------------------------------------- */

aj_tensor *unfold_view(aj_call *c) {
    aj_tensor *x = c->in[0];
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim);
    if (dim < 0) return NULL;
    int64_t size = c->attrs->i, step = c->attrs->j, have = x->ndim ? x->shape[dim] : 1;
    if (x->ndim == AJ_MAX_DIM) { aj_refuse(c, "has %d dimensions already, the most there can be", AJ_MAX_DIM); return NULL; }
    if (size < 0 || size > have) { aj_refuse(c, "windows of %lld do not fit into dimension %d of size %lld", (long long)size, dim + 1, (long long)have); return NULL; }
    if (step < 1) { aj_refuse(c, "the step is %lld, and must be at least 1", (long long)step); return NULL; }
    int64_t shape[AJ_MAX_DIM], stride[AJ_MAX_DIM];
    for (int d = 0; d < x->ndim; d++) { shape[d] = x->shape[d]; stride[d] = x->stride[d]; }
    shape[x->ndim] = size;
    stride[x->ndim] = x->ndim ? x->stride[dim] : 1;
    if (x->ndim) { shape[dim] = (have - size) / step + 1; stride[dim] *= step; }
    return aj_new_view(x, x->ndim + 1, shape, stride, 0);
}
bool unfold_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints of = aj_sizes_in(n, 0), window = dense(&of);
    int dim = plain(n->attrs->dim, of.n);
    window.v[of.n] = of.n ? window.v[dim] : 1;
    if (of.n) window.v[dim] *= n->attrs->j;
    window.n = of.n + 1;
    return (gx[0] = aj_as_strided_grad(gy[0], &of, &window, 0)) != NULL;
}

/* -- movedim ---------------------------------------------------------------------------------------------------------- */

aj_tensor *movedim_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    aj_tensor *x = c->in[0];
    const aj_ints *from = &c->attrs->list, *to = &c->attrs->list2;
    bool moved[AJ_MAX_DIM], taken[AJ_MAX_DIM];
    if (from->n < 0 || from->n != to->n) { aj_refuse(c, "%d dimensions to move to %d places", from->n, to->n); return NULL; }
    if (!aj_dims_of(c, from, x->ndim, moved) || !aj_dims_of(c, to, x->ndim, taken)) return NULL;
    aj_ints order = {x->ndim, {0}};
    if (x->ndim) for (int i = 0; i < from->n; i++) order.v[plain((int)to->v[i], x->ndim)] = plain((int)from->v[i], x->ndim);
    for (int d = 0, e = 0; d < x->ndim; d++) {
        if (taken[d]) continue;
        while (moved[e]) e++;
        order.v[d] = e++;
    }
    return aj_permute(x, &order);
}

/* -- tril, triu --------------------------------------------------------------------------------------------------------- */

static bool triangle_shape(aj_call *c) {
    if (!aj_given(c, 0, 1)) return false;
    if (c->in[0]->ndim < 2) return aj_refuse(c, "a triangle needs at least two dimensions");
    aj_spec_like(&c->spec[0], c->in[0]);
    return true;
}
bool tril_shape(aj_call *c) { return triangle_shape(c); }
bool triu_shape(aj_call *c) { return triangle_shape(c); }
bool tril_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = aj_tril(gy[0], n->attrs->i)) != NULL; }
bool triu_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = aj_triu(gy[0], n->attrs->i)) != NULL; }
