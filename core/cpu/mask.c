/* mask.c - elements chosen by bools: counted off one after another, so these loops run on one thread. */
#include "cpu.h"
#include <string.h>

typedef struct { aj_iter it; char *x; const uint8_t *mask; int bytes; uint64_t value; } filling;
static void fill_range(void *arg, int64_t lo, int64_t hi) {
    const filling *m = arg;
    const aj_iter *it = &m->it;
    while (lo < hi) {
        int64_t at[AJ_MAX_OPERANDS], n = it->shape[0] - lo % it->shape[0];
        if (n > hi - lo) n = hi - lo;
        aj_iter_at(it, lo, at);
        const uint8_t *k = m->mask + at[1];
        int64_t s = it->stride[0][0], sk = it->stride[1][0];
#define FILL(type) { type *x = (type *)(void *)m->x + at[0], v = (type)m->value; for (int64_t i = 0; i < n; i++) x[i * s] = k[i * sk] ? v : x[i * s]; } break
        switch (m->bytes) {
        case 1: FILL(uint8_t);
        case 2: FILL(uint16_t);
        case 4: FILL(uint32_t);
        default: FILL(uint64_t);
        }
        lo += n;
    }
}
bool KERNEL(masked_fill_)(const aj_call *c) {
    aj_tensor *x = c->in[0];
    double v = c->attrs->s;
    int64_t whole = (int64_t)v;
    filling m = {.x = x->data, .mask = (const uint8_t *)c->in[1]->data, .bytes = dtype_bytes[x->dtype]};
    if (aj_is_float(x->dtype)) aj_store(CLASS_F64, x->dtype)(&m.value, 1, &v, 1);
    else aj_store(CLASS_I64, x->dtype)(&m.value, 1, &whole, 1);
    const aj_tensor *operands[] = {x, c->in[1]};
    aj_iter_init(&m.it, operands, 2);
    aj_parallel(m.it.count, 1 << 17, fill_range, &m);
    return true;
}

/* The chosen elements of strided many, in order, to or from dense few. */
static void choose(aj_tensor *many, const aj_tensor *mask, char *few, int64_t count, bool out) {
    aj_iter it;
    const aj_tensor *operands[] = {many, mask};
    aj_iter_init(&it, operands, 2);
    int64_t w = 0;
    for (int64_t lo = 0; lo < it.count && w < count; lo += it.shape[0]) {
        int64_t at[AJ_MAX_OPERANDS], n = it.shape[0], s = it.stride[0][0], sk = it.stride[1][0];
        aj_iter_at(&it, lo, at);
        const uint8_t *k = (const uint8_t *)mask->data + at[1];
#define MOVE(type) { \
        type *x = (type *)(void *)many->data + at[0], *y = (type *)(void *)few; \
        if (out) for (int64_t i = 0; i < n && w < count; i++) { y[w] = x[i * s]; w += k[i * sk] != 0; } \
        else for (int64_t i = 0; i < n && w < count; i++) { type v = y[w], on = (type)(k[i * sk] ? ~(type)0 : 0); x[i * s] = (type)((v & on) | (x[i * s] & (type)~on)); w += on & 1; } \
        } break
        switch (dtype_bytes[many->dtype]) {
        case 1: MOVE(uint8_t);
        case 2: MOVE(uint16_t);
        case 4: MOVE(uint32_t);
        default: MOVE(uint64_t);
        }
    }
}
bool KERNEL(masked_select)(const aj_call *c) {
    choose(c->in[0], c->in[1], c->out[0]->data, c->out[0]->numel, true);
    return true;
}
bool KERNEL(masked_scatter_)(const aj_call *c) {
    choose(c->in[0], c->in[1], c->in[2]->data, c->in[2]->numel, false);
    return true;
}

/* Row by row of the last dimension; the place among the others is counted along. */
bool KERNEL(nonzero)(const aj_call *c) {
    const aj_tensor *x = c->in[0];                       /* dense bools */
    const uint8_t *p = (const uint8_t *)x->data;
    int64_t *y = (int64_t *)(void *)c->out[0]->data, base = c->attrs->base, left = c->out[0]->shape[0], at[AJ_MAX_DIM];
    int D = x->ndim;
    if (!D || !left) return true;
    for (int d = 0; d < D; d++) at[d] = base;
    for (int64_t W = x->shape[D - 1]; left; p += W) {
        for (int64_t i = 0; i < W; i++) {
            uint64_t eight;                              /* that are all false */
            while (i + 8 <= W && (memcpy(&eight, p + i, 8), eight == 0)) i += 8;
            if (i >= W) break;
            int64_t on = p[i] != 0;                      /* without a branch: what is false is written over */
            for (int d = 0; d < D - 1; d++) y[d] = at[d];
            y[D - 1] = i + base;
            y += on * D;
            if (!(left -= on)) break;
        }
        for (int d = D - 2; d >= 0; d--) {
            if (++at[d] < x->shape[d] + base) break;
            at[d] = base;
        }
    }
    return true;
}

bool KERNEL(repeat_positions)(const aj_call *c) {
    const int64_t *r = (const int64_t *)(const void *)c->in[0]->data;
    int64_t *y = (int64_t *)(void *)c->out[0]->data, base = c->attrs->base;
    for (int64_t i = 0; i < c->in[0]->numel; i++)
        for (int64_t j = 0; j < r[i]; j++) *y++ = i + base;
    return true;
}
