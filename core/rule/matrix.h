/* matrix.h - what the rules of linear algebra are written with: ops on matrices that pass a NULL on, so that a formula
 * needs one check at its end. */
#ifndef AJ_MATRIX_H
#define AJ_MATRIX_H
#include "rule.h"

static inline aj_tensor *dot(aj_tensor *a, aj_tensor *b) { return a && b ? aj_live(aj_matmul(a, b)) : NULL; }
static inline aj_tensor *turned(aj_tensor *x) { return x ? aj_live(aj_transpose(x, -2, -1)) : NULL; }
static inline aj_tensor *plus(aj_tensor *a, aj_tensor *b) { return a && b ? aj_live(aj_add(a, b)) : NULL; }
static inline aj_tensor *minus(aj_tensor *a, aj_tensor *b) { return a && b ? aj_live(aj_sub(a, b)) : NULL; }
static inline aj_tensor *times(aj_tensor *a, aj_tensor *b) { return a && b ? aj_live(aj_mul(a, b)) : NULL; }
static inline aj_tensor *over(aj_tensor *a, aj_tensor *b) { return a && b ? aj_live(aj_div(a, b)) : NULL; }
static inline aj_tensor *scaled(aj_tensor *a, double s) { return a ? aj_live(aj_mul_number(a, s, false)) : NULL; }
static inline aj_tensor *opposite(aj_tensor *a) { return a ? aj_live(aj_neg(a)) : NULL; }
static inline aj_tensor *as_row(aj_tensor *x) { return x ? aj_live(aj_unsqueeze(x, -2)) : NULL; }        /* (..., n) -> (..., 1, n) */
static inline aj_tensor *as_column(aj_tensor *x) { return x ? aj_live(aj_unsqueeze(x, -1)) : NULL; }
static inline aj_tensor *as_matrix_1(aj_tensor *x) { return as_column(as_column(x)); }                  /* (...) -> (..., 1, 1) */
static inline aj_tensor *on_diagonal(aj_tensor *x) { return x ? aj_live(aj_diag_embed(x, 0, -2, -1)) : NULL; }
static inline aj_tensor *unit_like(const aj_tensor *x, int64_t n) { return aj_live(aj_eye((aj_dtype)x->dtype, x->device, n, n)); }
static inline aj_tensor *sum_over(aj_tensor *x, int dim, bool keepdim) { return x ? aj_live(aj_sum(x, &(aj_ints){1, {dim}}, keepdim)) : NULL; }
static inline int64_t rows_of(const aj_tensor *x) { return x->shape[x->ndim - 2]; }
static inline int64_t columns_of(const aj_tensor *x) { return x->shape[x->ndim - 1]; }

/* Input k is of matrices of floats; of square ones. */
static inline bool is_matrix(const aj_call *c, int k) {
    if (!aj_floats(c, k)) return false;
    return c->in[k]->ndim >= 2 || aj_refuse(c, "input %d has %d dimension%s, and must have at least 2: batches, rows and columns", k + 1, c->in[k]->ndim, c->in[k]->ndim == 1 ? "" : "s");
}
static inline bool is_square(const aj_call *c, int k) {
    if (!is_matrix(c, k)) return false;
    return rows_of(c->in[k]) == columns_of(c->in[k]) || aj_refuse(c, "input %d has %lld rows and %lld columns, and must be square", k + 1, (long long)rows_of(c->in[k]), (long long)columns_of(c->in[k]));
}
/* The dimensions of x before the last `drop`, and the two given after them. */
static inline void with_sizes(aj_spec *y, const aj_tensor *x, int drop, int n, int64_t a, int64_t b) {
    y->dtype = x->dtype;
    y->ndim = 0;
    for (int d = 0; d < x->ndim - drop; d++) y->shape[y->ndim++] = x->shape[d];
    if (n > 0) y->shape[y->ndim++] = a;
    if (n > 1) y->shape[y->ndim++] = b;
}
#endif
