/* join.c - copies into parts of a result: cat, flip, padding, triangles. */
#include "cpu.h"
#include <string.h>

bool KERNEL(cat)(const aj_call *c) {
    const aj_tensor *y = c->out[0];
    int dim = c->attrs->dim;
    int64_t at = 0;
    for (int k = 0; k < c->n_in; k++) {
        const aj_tensor *x = c->in[k];
        if (x->ndim == 1 && x->shape[0] == 0) continue;
        aj_tensor part = *y;
        part.data += at * y->stride[dim] * dtype_bytes[y->dtype];
        part.shape[dim] = x->shape[dim];
        aj_set_contiguous(&part);
        if (!KERNEL(copy_into)(&part, x)) return false;
        at += x->shape[dim];
    }
    return true;
}

bool KERNEL(flip)(const aj_call *c) {
    aj_tensor x = *c->in[0];
    bool over[AJ_MAX_DIM];
    if (!x.numel) return true;
    if (!aj_dims_of(c, &c->attrs->list, x.ndim, over)) return false;
    for (int d = 0; d < x.ndim; d++) {
        if (!over[d]) continue;
        x.data += (x.shape[d] - 1) * x.stride[d] * dtype_bytes[x.dtype];
        x.stride[d] = -x.stride[d];
    }
    aj_set_contiguous(&x);
    return KERNEL(copy_into)(c->out[0], &x);
}

bool KERNEL(constant_pad)(const aj_call *c) {
    aj_tensor y = *c->out[0], x = *c->in[0];
    double v = c->attrs->s;
    bool whole = true, some = true;
    for (int d = 0; d < x.ndim; d++) {
        int64_t before = c->attrs->list.v[d], after = c->attrs->list2.v[d], size = dtype_bytes[x.dtype];
        whole &= before <= 0 && after <= 0;
        if (before > 0) y.data += before * y.stride[d] * size; else x.data -= before * x.stride[d] * size;
        x.shape[d] += (before < 0 ? before : 0) + (after < 0 ? after : 0);
        y.shape[d] = x.shape[d];
        some &= x.shape[d] > 0;
    }
    if (!whole || !some) {
        aj_attrs a = {.s = v};
        aj_tensor *in[] = {c->out[0]};
        aj_call fill = {.op = OP_fill_, .n_in = 1, .n_out = 1, .in = in, .attrs = &a, .out = {c->out[0]}};
        if (!KERNEL(fill_)(&fill) || !some) return some ? false : true;
    }
    aj_set_contiguous(&x);
    aj_set_contiguous(&y);
    return KERNEL(copy_into)(&y, &x);
}

/* -- Triangles ---------------------------------------------------------------------------------------------------- */

typedef struct { aj_iter it; const aj_tensor *x, *y; int64_t k; bool low; int bytes; } cutting;
static void cut_rows(void *arg, int64_t lo, int64_t hi) {
    const cutting *m = arg;
    const aj_tensor *x = m->x;
    int64_t H = x->shape[x->ndim - 2], W = x->shape[x->ndim - 1], s = x->stride[x->ndim - 1], size = m->bytes;
    for (int64_t r = lo; r < hi; r++) {                  /* row r of all matrices one after another */
        int64_t row = r % H, at = row * x->stride[x->ndim - 2], rest = r / H;
        for (int d = x->ndim - 3; d >= 0; d--) { at += rest % x->shape[d] * x->stride[d]; rest /= x->shape[d]; }
        /* Columns first to last - 1 stay. */
        int64_t edge = m->low ? row + m->k + 1 : row + m->k;
        edge = edge < 0 ? 0 : edge > W ? W : edge;
        int64_t first = m->low ? 0 : edge, last = m->low ? edge : W;
        char *y = m->y->data + r * W * size;
        const char *from = x->data + at * size;
        memset(y, 0, (size_t)(first * size));
        memset(y + last * size, 0, (size_t)((W - last) * size));
        if (s == 1) memcpy(y + first * size, from + first * size, (size_t)((last - first) * size));
        else switch (size) {
#define CUT(type) for (int64_t i = first; i < last; i++) ((type *)(void *)y)[i] = ((const type *)(const void *)from)[i * s]; break
        case 1: CUT(uint8_t);
        case 2: CUT(uint16_t);
        case 4: CUT(uint32_t);
        default: CUT(uint64_t);
        }
    }
}
static bool cut(const aj_call *c, bool low) {
    cutting m = {.x = c->in[0], .y = c->out[0], .k = c->attrs->i, .low = low, .bytes = dtype_bytes[c->in[0]->dtype]};
    int64_t W = m.x->shape[m.x->ndim - 1];
    if (!m.x->numel) return true;
    aj_parallel(m.x->numel / W, 1 + (1 << 17) / W, cut_rows, &m);
    return true;
}
bool KERNEL(tril)(const aj_call *c) { return cut(c, true); }
bool KERNEL(triu)(const aj_call *c) { return cut(c, false); }
