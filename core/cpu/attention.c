/* attention.c - attention a tile of scores at a time: ROWS queries by KEYS keys, from which the largest score, the sum and
 * the weighted values of each query are kept up to date.
 *
 * Tiles and their order are fixed, so that results do not depend on the number of threads.
 */
#include "gemm.h"
#include "dense.h"
#include "vmath.h"
#include "../philox.h"
#include <math.h>
#include <string.h>

enum { ROWS = 64, KEYS = 256 };

/* A (N, heads, rows, columns) operand with dense rows. */
typedef struct { char *p; int64_t s[3]; } operand;
typedef struct {
    int class, dtype, bytes;
    int64_t N, H, G, L, S, E, V;                         /* G: key heads */
    operand q, k, v, y, g, gq, gk, gv;
    void *lse;
    const void *delta;          /* of each query, sum of gradient times result */
    const aj_tensor *mask;
    double scale, keep;         /* keep: 1 / (1 - p) */
    bool causal, drops, fused;
    uint32_t limit;
    uint64_t seed, position;
    bool failed;
} work;

static void *place(const work *w, const operand *o, int64_t n, int64_t h, int64_t row) {
    return o->p + (n * o->s[0] + h * o->s[1] + row * o->s[2]) * w->bytes;
}
static int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }
/* Keys that some query up to row hi - 1 sees. */
static int64_t keys_seen(const work *w, int64_t hi) { return w->causal && hi < w->S ? hi : w->S; }

static bool product(const work *w, int64_t M, int64_t N, int64_t K, const void *a, int64_t a0, int64_t a1, const void *b, int64_t b0, int64_t b1, void *c, int64_t ldc, bool add) {
    gemm g = {.dtype = w->dtype, .threads = 1, .M = M, .N = N, .K = K, .a = a, .b = b, .c = c, .sa = {a0, a1}, .sb = {b0, b1}, .ldc = ldc, .add = add};
    return KERNEL(gemm)(&g);
}

#define KERNELS "attention.inc"
#include "reals.h"

/* An operand as it lies, if its rows are dense numbers of the class; else a dense copy. out: nothing is read. */
static bool take(operand *o, dense *d, aj_tensor *t, int class, bool out) {
    if (!out && t->dtype == dtype_of_class[class] && (t->stride[3] == 1 || t->shape[3] == 1) && t->stride[2] >= t->shape[3]) {
        o->p = t->data;
        for (int i = 0; i < 3; i++) o->s[i] = t->stride[i];
        return true;
    }
    if (!(out ? dense_place(d, t, class) : dense_in(d, t, class))) return false;
    o->p = d->p;
    o->s[2] = t->shape[3];
    o->s[1] = t->shape[3] * t->shape[2];
    o->s[0] = o->s[1] * t->shape[1];
    return true;
}
static work begin(const aj_call *c, int first) {
    const aj_attrs *a = c->attrs;
    aj_tensor *q = c->in[first], *k = c->in[first + 1], *v = c->in[first + 2];
    int class = class_of_dtype(q->dtype);
    return (work){.class = class, .dtype = dtype_of_class[class], .bytes = dtype_bytes[dtype_of_class[class]], .N = q->shape[0], .H = q->shape[1], .G = k->shape[1],
                  .L = q->shape[2], .S = k->shape[2], .E = q->shape[3], .V = v->shape[3], .mask = c->in[first + 3], .scale = a->t,
                  .causal = a->flag, .drops = a->s > 0, .keep = a->s < 1 ? 1 / (1 - a->s) : 0, .limit = (uint32_t)ceil(a->s * 0x1p24),
                  .seed = a->seed, .position = a->position};
}

bool KERNEL(attention)(const aj_call *c) {
    work w = begin(c, 0);
    dense d[5] = {{0}};
    if (c->out[0]->numel == 0 && c->out[1]->numel == 0) return true;
    bool ok = take(&w.q, &d[0], c->in[0], w.class, false) && take(&w.k, &d[1], c->in[1], w.class, false) && take(&w.v, &d[2], c->in[2], w.class, false)
           && take(&w.y, &d[3], c->out[0], w.class, true) && dense_place(&d[4], c->out[1], w.class);
    w.lse = d[4].p;
    if (ok) {
        int64_t each = (w.L < ROWS ? w.L : ROWS) * w.S * (w.E + w.V + 16);
        aj_parallel(w.N * w.H * blocks(w.L, ROWS), 1 + 2000000 / (each + 1), w.class == CLASS_F32 ? forward_f32 : forward_f64, &w);
        ok = !w.failed || aj_error("%s: out of memory", aj_op_name(c->op));
    }
    ok = ok && dense_put(&d[3]) && dense_put(&d[4]);
    dense_free(d, 5);
    return ok;
}

bool KERNEL(attention_grad)(const aj_call *c) {
    work w = begin(c, 1);
    dense d[9] = {{0}};
    bool f = w.class == CLASS_F32;
    bool ok = take(&w.g, &d[0], c->in[0], w.class, false) && take(&w.q, &d[1], c->in[1], w.class, false) && take(&w.k, &d[2], c->in[2], w.class, false)
           && take(&w.v, &d[3], c->in[3], w.class, false) && take(&w.y, &d[4], c->in[5], w.class, false) && dense_in(&d[5], c->in[6], w.class)
           && take(&w.gq, &d[6], c->out[0], w.class, true) && take(&w.gk, &d[7], c->out[1], w.class, true) && take(&w.gv, &d[8], c->out[2], w.class, true);
    void *delta = ok ? aj_scratch(w.N * w.H * w.L * w.bytes + 64) : NULL;
    if ((ok = delta != NULL)) {
        w.delta = delta;
        w.lse = d[5].p;
        aj_parallel(w.N * w.H * w.L, 1 + 100000 / (w.V + 1), f ? delta_f32 : delta_f64, &w);
        memset(w.gq.p, 0, (size_t)(c->out[0]->numel * w.bytes));
        int64_t most = w.H / (w.G ? w.G : 1), each = w.L * w.S * (2 * w.E + 2 * w.V + 16) * most;
        w.fused = w.N * w.G >= aj_threads();
        if (w.fused) aj_parallel(w.N * w.G, 1 + 2000000 / (each + 1), f ? backward_heads_f32 : backward_heads_f64, &w);
        else {
            aj_parallel(w.N * w.G * blocks(w.S, KEYS), 1 + 2000000 / (each / blocks(w.S, KEYS) + 1), f ? backward_keys_f32 : backward_keys_f64, &w);
            aj_parallel(w.N * w.H * blocks(w.L, ROWS), 1 + 2000000 / (each / most / blocks(w.L, ROWS) + 1), f ? backward_queries_f32 : backward_queries_f64, &w);
        }
        double s = w.scale;
        if (f) for (int64_t i = 0; i < c->out[0]->numel; i++) ((float *)(void *)w.gq.p)[i] *= (float)s;
        else for (int64_t i = 0; i < c->out[0]->numel; i++) ((double *)(void *)w.gq.p)[i] *= s;
        ok = !w.failed || aj_error("%s: out of memory", aj_op_name(c->op));
        aj_scratch_free(delta);
    }
    for (int k = 6; k < 9; k++) ok = ok && dense_put(&d[k]);
    dense_free(d, 9);
    return ok;
}
