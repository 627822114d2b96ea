/* margin.c - the loss of classes that are listed against those that are not, a row at a time. */
#include "cpu.h"
#include <string.h>

typedef struct { const void *x; const int64_t *target; void *y, *slope; int64_t C, base; bool failed; } margin;

#define KERNELS "margin.inc"
#include "reals.h"

static aj_tensor *wider(aj_tensor *t, int dtype, bool read) {
    aj_tensor *w = aj_new((aj_dtype)dtype, t->ndim, t->shape, AJ_CPU);
    if (w && read && !KERNEL(copy_into)(w, t)) { aj_drop(w); return NULL; }
    return w;
}
bool KERNEL(multilabel_margin_rows)(const aj_call *c) {
    aj_tensor *x = c->in[0], *y = c->out[0], *slope = c->n_out > 1 ? c->out[1] : NULL, *own[3] = {NULL, NULL, NULL};
    margin m = {.target = (const int64_t *)(const void *)c->in[1]->data, .C = x->shape[1], .base = c->attrs->base};
    for (int64_t i = 0; i < c->in[1]->numel; i++)
        if (m.target[i] < m.base - 2 || m.target[i] >= m.base + m.C)
            return aj_refuse(c, "class %lld at place %lld: classes go from %lld to %lld, and a number below ends a list", (long long)m.target[i], (long long)i + 1, (long long)m.base, (long long)(m.base + m.C - 1));
    if (!m.C) return !y->numel || aj_refuse(c, "there are no classes");
    int class = class_of_dtype(x->dtype), dtype = dtype_of_class[class];
    if (x->dtype != dtype) {                             /* halves, through floats */
        bool ok = (own[0] = x = wider(x, dtype, true)) && (own[1] = y = wider(y, dtype, false)) && (!slope || (own[2] = slope = wider(slope, dtype, false)));
        if (!ok) { for (int i = 0; i < 3; i++) if (own[i]) aj_drop(own[i]); return false; }
    }
    m.x = x->data; m.y = y->data; m.slope = slope ? slope->data : NULL;
    aj_parallel(x->shape[0], 1 + (1 << 15) / m.C, class == CLASS_F64 ? rows_f64 : rows_f32, &m);
    bool ok = !m.failed || aj_error("%s: out of memory", aj_op_name(c->op));
    for (int i = 0; i < 2 && own[1]; i++) if (ok && own[1 + i]) ok = KERNEL(copy_into)(c->out[i], own[1 + i]);
    for (int i = 0; i < 3; i++) if (own[i]) aj_drop(own[i]);
    return ok;
}
