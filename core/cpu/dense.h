/* dense.h - operands as dense numbers of one class: where they lie if they are that already, else in scratch memory.
 *
 * A structured kernel is written for float, double and perhaps int64, row by row; strides and the other dtypes are
 * dealt with here.
 */
#ifndef AJ_DENSE_H
#define AJ_DENSE_H
#include "cpu.h"

typedef struct {
    void *p;                    /* the numbers; NULL: no operand */
    aj_tensor *t;
    bool own;                   /* p is scratch */
    int class;
} dense;

static inline aj_tensor dense_header(const dense *d) {
    aj_tensor h = {.data = d->p, .dtype = (uint8_t)dtype_of_class[d->class], .ndim = d->t->ndim, .numel = d->t->numel,
                   .contiguous = true, .refs = 1, .device = AJ_CPU};
    int64_t step = 1;
    for (int i = h.ndim - 1; i >= 0; i--) { h.shape[i] = d->t->shape[i]; h.stride[i] = step; step *= h.shape[i]; }
    return h;
}

/* A place for the numbers of t; false after an error. t may be NULL. */
static inline bool dense_place(dense *d, aj_tensor *t, int class) {
    *d = (dense){.t = t, .class = class};
    if (!t) return true;
    if (t->contiguous && t->dtype == dtype_of_class[class]) { d->p = t->data; return true; }
    d->own = true;
    return (d->p = aj_scratch(t->numel * dtype_bytes[dtype_of_class[class]] + 64)) != NULL;
}
/* The numbers of t, to be read. */
static inline bool dense_in(dense *d, aj_tensor *t, int class) {
    if (!dense_place(d, t, class)) return false;
    if (!d->own) return true;
    aj_tensor h = dense_header(d);
    return KERNEL(copy_into)(&h, t);
}
/* What was written in a place goes to its tensor. */
static inline bool dense_put(const dense *d) {
    if (!d->own || !d->p) return true;
    aj_tensor h = dense_header(d);
    return KERNEL(copy_into)(d->t, &h);
}
static inline void dense_free(dense *d, int n) {
    for (int i = 0; i < n; i++) if (d[i].own && d[i].p) aj_scratch_free(d[i].p);
}

/* x as outer * n * inner numbers, where n lies along dim. */
static inline void dense_split(const aj_tensor *x, int dim, int64_t *outer, int64_t *n, int64_t *inner) {
    *outer = *inner = 1;
    for (int d = 0; d < x->ndim; d++) { if (d < dim) *outer *= x->shape[d]; if (d > dim) *inner *= x->shape[d]; }
    *n = x->ndim ? x->shape[dim] : 1;
}
#endif
