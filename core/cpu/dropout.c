/* dropout.c - x / (1 - p) where a random number is at least p, else 0. */
#include "dense.h"
#include "../philox.h"
#include <math.h>

typedef struct { const void *x; void *y; int class; uint64_t seed, position; uint32_t limit; double scale; } dropping;

static void drop_range(void *arg, int64_t lo, int64_t hi) {
    const dropping *m = arg;
    uint32_t word[CHUNK];
    for (; lo < hi; lo += CHUNK) {
        int64_t n = hi - lo < CHUNK ? hi - lo : CHUNK;
        philox_fill_words(word, n, m->seed, m->position + (uint64_t)lo);
#define DROP(real) { const real *x = (const real *)m->x + lo; real *y = (real *)m->y + lo; const real s = (real)m->scale; \
        for (int64_t i = 0; i < n; i++) y[i] = word[i] >> 8 >= m->limit ? x[i] * s : 0; }
        if (m->class == CLASS_F32) DROP(float) else DROP(double)
    }
}

bool KERNEL(dropout_at)(const aj_call *c) {
    aj_tensor *x = c->in[0];
    int class = class_of_dtype(x->dtype);
    dense d[2] = {{0}};
    double p = c->attrs->s;
    bool ok = dense_in(&d[0], x, class) && dense_place(&d[1], c->out[0], class);
    dropping m = {.x = d[0].p, .y = d[1].p, .class = class, .seed = c->attrs->seed, .position = c->attrs->position,
                  .limit = (uint32_t)ceil(p * 0x1p24), .scale = p < 1 ? 1 / (1 - p) : 0};
    if (ok) aj_parallel(x->numel, 1 << 15, drop_range, &m);
    ok = ok && dense_put(&d[1]);
    dense_free(d, 2);
    return ok;
}
