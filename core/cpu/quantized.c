/* quantized.c - eight-bit products: oneDNN makes the sums where the processor has instructions for them, plain loops
 * elsewhere; the way from sums to results, with scale, bias, ReLU and pooling, is one pass here.
 */
#include "dense.h"
#include "../onednn.h"
#include <math.h>
#include <string.h>

/* v / scale as the nearest whole number from lo to hi; 0 for a NaN. */
static ALWAYS_INLINE int32_t whole(float v, float inverse, float lo, float hi) {
    v = v == v ? v * inverse : 0;
    v = v < hi ? v : hi;
    v = v > lo ? v : lo;
    return (int32_t)rintf(v);
}

typedef struct { const float *x; void *y; float inverse; bool is_signed; } quantizing;
static void quantize_range(void *arg, int64_t lo, int64_t hi) {
    const quantizing *q = arg;
    const float *x = q->x, inverse = q->inverse;
    int8_t *i8 = q->y;
    uint8_t *u8 = q->y;
    if (q->is_signed) for (int64_t i = lo; i < hi; i++) i8[i] = (int8_t)whole(x[i], inverse, -127, 127);
    else for (int64_t i = lo; i < hi; i++) u8[i] = (uint8_t)whole(x[i], inverse, 0, 255);
}

bool KERNEL(quantize)(const aj_call *c) {
    const aj_tensor *x = c->in[0];
    aj_tensor *y = c->out[0];
    if (x->numel == 0) return true;
    dense d;
    if (!dense_in(&d, c->in[0], CLASS_F32)) { dense_free(&d, 1); return false; }
    quantizing q = {d.p, y->data, (float)(1 / c->attrs->s), c->attrs->flag};
    aj_parallel(x->numel, 1 << 16, quantize_range, &q);
    dense_free(&d, 1);
    return true;
}

/* -- From sums to results -------------------------------------------------------------------------------------------------- */

typedef struct {
    const int32_t *sum;                                  /* lines of O sums, for each place of N x H x W */
    const float *scale, *bias;
    char *y;
    int dtype;
    int64_t O, H, W, PH, PW, pool;                       /* places of the sums, and of the results */
    float inverse;                                       /* 1 / out_scale */
    bool relu;
} finishing;

static void finish_line(const finishing *f, const int32_t *restrict sum, char *to) {
    int64_t O = f->O;
    const float *restrict scale = f->scale, *restrict bias = f->bias;
    const float floor = f->relu ? 0 : -INFINITY, inverse = f->inverse;
    if (f->dtype == AJ_U8) {
        uint8_t *restrict y = (uint8_t *)to;
        for (int64_t i = 0; i < O; i++) y[i] = (uint8_t)whole((float)sum[i] * scale[i] + bias[i], inverse, 0, 255);
        return;
    }
    if (f->dtype == AJ_I8) {
        int8_t *restrict y = (int8_t *)to;
        for (int64_t i = 0; i < O; i++) y[i] = (int8_t)whole((float)sum[i] * scale[i] + bias[i], inverse, -127, 127);
        return;
    }
    for (int64_t i = 0, n; i < O; i += n) {
        float v[CHUNK];
        n = O - i < CHUNK ? O - i : CHUNK;
        for (int64_t j = 0; j < n; j++) v[j] = (float)sum[i + j] * scale[i + j] + bias[i + j];
        for (int64_t j = 0; j < n; j++) v[j] = v[j] < floor ? floor : v[j];
        aj_store(CLASS_F32, f->dtype)(to + i * dtype_bytes[f->dtype], 1, v, n);
    }
}

/* Lines of results, each from pool x pool lines of sums: scales are positive, so that the largest sum has the largest result. */
static void finish_range(void *arg, int64_t lo, int64_t hi) {
    const finishing *f = arg;
    int64_t O = f->O;
    for (int64_t p = lo; p < hi; p++) {
        char *to = f->y + p * O * dtype_bytes[f->dtype];
        if (f->pool == 1) { finish_line(f, f->sum + p * O, to); continue; }
        int64_t n = p / (f->PH * f->PW), h = p / f->PW % f->PH * f->pool, w = p % f->PW * f->pool;
        int32_t most[CHUNK];
        finishing part = *f;
        for (int64_t i = 0; i < O; i += CHUNK) {
            int64_t m = O - i < CHUNK ? O - i : CHUNK;
            const int32_t *first = f->sum + ((n * f->H + h) * f->W + w) * O + i;
            memcpy(most, first, (size_t)m * sizeof *most);
            for (int64_t a = 0; a < f->pool; a++)
                for (int64_t b = 0; b < f->pool; b++) {
                    const int32_t *s = first + (a * f->W + b) * O;
                    for (int64_t j = 0; j < m; j++) most[j] = s[j] > most[j] ? s[j] : most[j];
                }
            part.O = m;
            part.scale = f->scale + i;
            part.bias = f->bias + i;
            finish_line(&part, most, to + i * dtype_bytes[f->dtype]);
        }
    }
}

/* sum: lines of O sums, of images of H x W when there is a pool. */
static bool finish(const aj_call *c, const int32_t *sum, int64_t O, int64_t H, int64_t W) {
    aj_tensor *y = c->out[0];
    float *zeros = NULL;
    if (!c->in[3]) {
        if (!(zeros = aj_scratch(O * 4))) return false;
        memset(zeros, 0, (size_t)(O * 4));
    }
    finishing f = {.sum = sum, .scale = (const float *)(const void *)c->in[2]->data, .bias = zeros ? zeros : (const float *)(const void *)c->in[3]->data,
                   .y = y->data, .dtype = y->dtype, .O = O, .H = H, .W = W, .pool = 1, .inverse = c->attrs->s > 0 ? (float)(1 / c->attrs->s) : 0,
                   .relu = c->attrs->flag};
    bool ok = true;
    if (H && c->attrs->k > 1) {
        f.pool = c->attrs->k; f.PH = y->shape[1]; f.PW = y->shape[2];
        for (int64_t o = 0; o < O && ok; o++)
            if (!(f.scale[o] > 0)) ok = aj_error("quantized_conv2d: with a pool every scale must be positive; that of output %lld is %g", (long long)o + 1, (double)f.scale[o]);
    }
    if (ok) aj_parallel(y->numel / O, 1 + (1 << 16) / (O * f.pool * f.pool), finish_range, &f);
    aj_scratch_free(zeros);
    return ok;
}

/* -- Sums, one after another ------------------------------------------------------------------------------------------------ */

typedef struct { const aj_conv *v; const void *x; const int8_t *w; int32_t *sum; } summing;

static ALWAYS_INLINE int32_t x_at(const summing *s, int64_t i) { return s->v->dtype == AJ_U8 ? ((const uint8_t *)s->x)[i] : ((const int8_t *)s->x)[i]; }
static void sum_range(void *arg, int64_t lo, int64_t hi) {
    const summing *s = arg;
    const aj_conv *v = s->v;
    int64_t H = v->I[0], W = v->I[1], C = v->C, c_group = C / v->G, o_group = v->O / v->G, taps = v->K[0] * v->K[1];
    for (int64_t p = lo; p < hi; p++) {
        int64_t n = p / (v->Y[0] * v->Y[1]), h0 = p / v->Y[1] % v->Y[0] * v->S[0] - v->P[0], w0 = p % v->Y[1] * v->S[1] - v->P[1];
        for (int64_t o = 0; o < v->O; o++) {
            int32_t acc = 0;
            for (int64_t t = 0; t < taps; t++) {
                int64_t h = h0 + t / v->K[1] * v->L[0], w = w0 + t % v->K[1] * v->L[1];
                if (h < 0 || h >= H || w < 0 || w >= W) continue;
                int64_t x = ((n * H + h) * W + w) * C + o / o_group * c_group;
                const int8_t *weight = s->w + o * c_group * taps + t;
                for (int64_t i = 0; i < c_group; i++) acc += x_at(s, x + i) * weight[i * taps];
            }
            s->sum[p * v->O + o] = acc;
        }
    }
}

/* A product is the convolution of places by themselves. */
static bool sums_to_result(const aj_call *c, const aj_conv *v, bool product) {
    const aj_tensor *x = c->in[0], *w = c->in[1];
    int64_t places = v->N * v->Y[0] * v->Y[1];
    int32_t *sum = aj_scratch(places * v->O * 4);
    if (!sum) return false;
    int r = product ? aj_onednn_matmul8(x->dtype, v->N, v->O, v->C, x->data, w->data, aj_id(c->in[1]), w->storage->version, sum)
                    : aj_onednn_conv8(v, x->data, w->data, aj_id(c->in[1]), w->storage->version, sum);
    if (r == AJ_ONEDNN_NOT) {
        summing s = {v, x->data, (const int8_t *)w->data, sum};
        aj_parallel(places, 1 + (1 << 17) / (v->O * v->C * v->K[0] * v->K[1]), sum_range, &s);
    }
    bool ok = r != AJ_ONEDNN_FAILED && finish(c, sum, v->O, product ? 0 : v->Y[0], v->Y[1]);
    aj_scratch_free(sum);
    return ok;
}

bool KERNEL(quantized_linear)(const aj_call *c) {
    const aj_tensor *x = c->in[0], *w = c->in[1];
    if (c->out[0]->numel == 0) return true;
    aj_conv v = {.dtype = x->dtype, .nd = 2, .N = c->out[0]->numel / w->shape[0], .C = w->shape[1], .O = w->shape[0], .G = 1,
                 .I = {1, 1, 1}, .K = {1, 1, 1}, .Y = {1, 1, 1}, .S = {1, 1, 1}, .L = {1, 1, 1}};
    return sums_to_result(c, &v, true);
}

bool KERNEL(quantized_conv2d)(const aj_call *c) {
    const aj_tensor *x = c->in[0], *w = c->in[1];
    const aj_attrs *a = c->attrs;
    if (c->out[0]->numel == 0) return true;
    aj_conv v = {.dtype = x->dtype, .nd = 2, .N = x->shape[0], .C = x->shape[3], .O = w->shape[0], .G = a->groups,
                 .I = {1, 1, 1}, .K = {1, 1, 1}, .Y = {1, 1, 1}, .S = {1, 1, 1}, .L = {1, 1, 1}};
    for (int i = 0; i < 2; i++) {
        v.I[i] = x->shape[1 + i]; v.K[i] = w->shape[2 + i]; v.S[i] = a->stride.v[i]; v.P[i] = a->padding.v[i]; v.L[i] = a->dilation.v[i];
        v.Y[i] = (v.I[i] + 2 * v.P[i] - v.L[i] * (v.K[i] - 1) - 1) / v.S[i] + 1;
    }
    return sums_to_result(c, &v, false);
}
