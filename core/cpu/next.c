/* next.c - the next number of a dtype. The bits of a positive float, as a whole number, count the floats from 0 up. */
#include "cpu.h"
#include <string.h>

typedef struct { const char *a, *b; char *y; int dtype; } nexting;

static ALWAYS_INLINE double value16(int dtype, uint16_t v) { return dtype == AJ_BF16 ? (double)f32_of_bf16(v) : (double)f32_of_f16(v); }

#define NEXT(word, sign, value) { \
    word p, q; \
    memcpy(&p, m->a + i * (int64_t)sizeof p, sizeof p); \
    memcpy(&q, m->b + i * (int64_t)sizeof q, sizeof q); \
    double from = value(p), to = value(q); \
    if (from != from || to != to) p = from != from ? p : q; \
    else if (from == to) p = q; \
    else if (from == 0) p = (word)((to < 0 ? sign : 0) | 1); \
    else p = (word)(p + ((from < to) == (from > 0) ? 1 : -1)); \
    memcpy(m->y + i * (int64_t)sizeof p, &p, sizeof p); \
}
static ALWAYS_INLINE double value32(uint32_t v) { float f; memcpy(&f, &v, 4); return (double)f; }
static ALWAYS_INLINE double value64(uint64_t v) { double f; memcpy(&f, &v, 8); return f; }

static void next_range(void *arg, int64_t lo, int64_t hi) {
    const nexting *m = arg;
#define VALUE(v) value16(m->dtype, v)
    if (m->dtype == AJ_F64) for (int64_t i = lo; i < hi; i++) NEXT(uint64_t, UINT64_C(1) << 63, value64)
    else if (m->dtype == AJ_F32) for (int64_t i = lo; i < hi; i++) NEXT(uint32_t, UINT32_C(1) << 31, value32)
    else for (int64_t i = lo; i < hi; i++) NEXT(uint16_t, 1u << 15, VALUE)
#undef VALUE
}

bool KERNEL(nextafter)(const aj_call *c) {
    nexting m = {c->in[0]->data, c->in[1]->data, c->out[0]->data, c->out[0]->dtype};
    aj_parallel(c->out[0]->numel, 1 << 14, next_range, &m);
    return true;
}
