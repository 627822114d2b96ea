/* rnn.c - a recurrent layer over a sequence: a product with the state and one pass over the gates for each step; backward
 * the same from the end, and one product for the gradient of the weight. */
#include "gemm.h"
#include "dense.h"
#include "vmath.h"
#include <string.h>

enum { TANH, RELU, LSTM, GRU };
typedef struct {
    int mode, dtype;
    int64_t T, N, H, G;         /* G: gates times H */
    const void *x, *p, *h, *s;  /* of a step: from the input, from the state's product; the state and cell state before */
    void *y, *s_new, *kept;     /* the state and cell state after; gates, for the gradient */
    const void *gy, *gs;        /* of a step, from outside: NULL: none */
    void *carry, *carry_s;      /* what flows back along the states */
    void *gx, *gp;              /* to the input; to the state's product */
} work;

#define KERNELS "rnn.inc"
#include "reals.h"

static bool product(int dtype, int64_t M, int64_t N, int64_t K, const void *a, int64_t a0, int64_t a1, const void *b, int64_t b0, int64_t b1, const void *bias, void *c, bool add) {
    gemm g = {.dtype = dtype, .M = M, .N = N, .K = K, .a = a, .b = b, .bias = bias, .c = c, .sa = {a0, a1}, .sb = {b0, b1}, .ldc = N, .add = add};
    return KERNEL(gemm)(&g);
}
static int64_t grain(const work *w) { return 1 + 20000 / (w->G + 1); }
/* p + i * n numbers */
static void *at(void *p, int64_t i, int bytes) { return (char *)p + i * bytes; }

bool KERNEL(rnn_layer)(const aj_call *c) {
    int class = class_of_dtype(c->in[0]->dtype), bytes = dtype_bytes[dtype_of_class[class]];
    dense d[8] = {{0}};
    bool ok = true;
    for (int k = 0; k < 5; k++) ok = ok && dense_in(&d[k], c->in[k], class);
    for (int k = 0; k < 3; k++) ok = ok && dense_place(&d[5 + k], c->out[k], class);
    int64_t T = c->out[0]->shape[0], N = c->in[1]->shape[0], H = c->in[1]->shape[1], G = c->in[3]->shape[0];
    work w = {.mode = c->attrs->mode, .dtype = dtype_of_class[class], .T = T, .N = N, .H = H, .G = G};
    void *p = ok && c->out[0]->numel ? aj_scratch(N * G * bytes + 64) : NULL;
    if (ok && c->out[0]->numel) ok = p != NULL;
    int64_t K = c->out[2]->shape[2];
    const void *h = d[1].p, *s = d[2].p;
    for (int64_t i = 0; p && i < T && ok; i++) {
        int64_t t = c->attrs->flag ? T - 1 - i : i;
        if (!(ok = product(w.dtype, N, G, H, h, H, 1, d[3].p, 1, H, d[4].p, p, false))) break;
        w.x = at(d[0].p, t * N * G, bytes);
        w.p = p;
        w.h = h;
        w.s = s;
        w.y = at(d[5].p, t * N * H, bytes);
        w.s_new = w.mode == LSTM ? at(d[6].p, t * N * H, bytes) : NULL;
        w.kept = at(d[7].p, t * N * K, bytes);
        aj_parallel(N, grain(&w), class == CLASS_F32 ? step_f32 : step_f64, &w);
        h = w.y;
        s = w.s_new;
    }
    if (p) aj_scratch_free(p);
    for (int k = 5; k < 8; k++) ok = ok && dense_put(&d[k]);
    dense_free(d, 8);
    return ok;
}

bool KERNEL(rnn_layer_grad)(const aj_call *c) {
    int class = class_of_dtype(c->in[2]->dtype), bytes = dtype_bytes[dtype_of_class[class]];
    dense d[12] = {{0}};
    bool ok = true, back = c->attrs->flag;
    for (int k = 0; k < 8; k++) ok = ok && dense_in(&d[k], c->in[k], class);
    for (int k = 0; k < 4; k++) ok = ok && dense_place(&d[8 + k], c->out[k], class);
    int64_t T = c->in[5]->shape[0], N = c->in[2]->shape[0], H = c->in[2]->shape[1], G = c->in[4]->shape[0], K = c->in[7]->shape[2];
    work w = {.mode = c->attrs->mode, .dtype = dtype_of_class[class], .T = T, .N = N, .H = H, .G = G};
    bool lstm = w.mode == LSTM, gru = w.mode == GRU;
    /* What flows into the product with the state is what flows into the input, but for a GRU's last third. */
    void *own = NULL, *gp = d[8].p;
    if (ok && gru) ok = (gp = own = aj_scratch(T * N * G * bytes + 64)) != NULL;
    if (ok) {
        w.carry = d[9].p;
        w.carry_s = lstm ? d[10].p : NULL;
        memset(w.carry, 0, (size_t)(N * H * bytes));
        if (lstm) memset(w.carry_s, 0, (size_t)(N * H * bytes));
        memset(d[11].p, 0, (size_t)(G * H * bytes));
    }
    for (int64_t i = T - 1; i >= 0 && ok && N > 0 && H > 0; i--) {
        int64_t t = back ? T - 1 - i : i, before = back ? t + 1 : t - 1;
        w.gy = d[0].p ? at(d[0].p, t * N * H, bytes) : NULL;
        w.gs = lstm && d[1].p ? at(d[1].p, t * N * H, bytes) : NULL;
        w.h = i ? at(d[5].p, before * N * H, bytes) : d[2].p;
        w.s = !lstm ? NULL : i ? at(d[6].p, before * N * H, bytes) : d[3].p;
        w.y = at(d[5].p, t * N * H, bytes);
        w.s_new = lstm ? at(d[6].p, t * N * H, bytes) : NULL;
        w.kept = at(d[7].p, t * N * K, bytes);
        w.gx = at(d[8].p, t * N * G, bytes);
        w.gp = at(gp, t * N * G, bytes);
        aj_parallel(N, grain(&w), class == CLASS_F32 ? step_back_f32 : step_back_f64, &w);
        ok = product(w.dtype, N, H, G, w.gp, G, 1, d[4].p, H, 1, NULL, w.carry, gru);
        if (ok && i == 0) ok = product(w.dtype, G, H, N, w.gp, 1, G, d[2].p, H, 1, NULL, d[11].p, false);
    }
    /* The steps after the first, whose states lie side by side, in one product. */
    if (ok && T > 1 && N > 0 && H > 0) {
        void *g = at(gp, back ? 0 : N * G, bytes), *h = at(d[5].p, back ? N * H : 0, bytes);
        ok = product(w.dtype, G, H, (T - 1) * N, g, 1, G, h, H, 1, NULL, d[11].p, true);
    }
    if (own) aj_scratch_free(own);
    for (int k = 8; k < 12; k++) ok = ok && dense_put(&d[k]);
    dense_free(d, 12);
    return ok;
}
