/* search.c - places of values in sorted rows, by halving. */
#include "dense.h"

typedef struct { const void *s, *v; char *to; int64_t n, per, base; bool many, right, narrow; } search;

/* A NaN stands after all numbers: nothing is at least as large. */
#define SEARCH(real, class) \
    static void search_##class(void *arg, int64_t lo, int64_t hi) { \
        const search *m = arg; \
        for (int64_t i = lo; i < hi; i++) { \
            const real *s = (const real *)m->s + (m->many ? i / m->per * m->n : 0), v = ((const real *)m->v)[i]; \
            int64_t a = 0, left = m->n; \
            while (left > 0) { \
                int64_t half = left / 2; \
                bool before = m->right ? !(s[a + half] > v) : !(s[a + half] >= v); \
                a = before ? a + half + 1 : a; \
                left = before ? left - half - 1 : half; \
            } \
            if (m->narrow) ((int32_t *)(void *)m->to)[i] = (int32_t)(a + m->base); \
            else ((int64_t *)(void *)m->to)[i] = a + m->base; \
        } \
    }
SEARCH(float, f32)
SEARCH(double, f64)
SEARCH(int64_t, i64)

bool KERNEL(searchsorted)(const aj_call *c) {
    aj_tensor *s = c->in[0], *v = c->in[1], *y = c->out[0];
    int class = class_of_dtype(v->dtype);
    dense d[2] = {{0}};
    bool ok = dense_in(&d[0], s, class) && dense_in(&d[1], v, class);
    search m = {.s = d[0].p, .v = d[1].p, .to = y->data, .n = s->shape[s->ndim - 1], .per = v->ndim ? v->shape[v->ndim - 1] : 1,
                .base = c->attrs->base, .many = s->ndim > 1, .right = c->attrs->mode == 1, .narrow = c->attrs->flag2};
    if (ok && v->numel) aj_parallel(v->numel, 1 << 12, class == CLASS_F32 ? search_f32 : class == CLASS_F64 ? search_f64 : search_i64, &m);
    dense_free(d, 2);
    return ok;
}
