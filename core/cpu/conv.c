/* conv.c - convolutions: oneDNN for f32 and bf16, else products of unfolded images.
 *
 * Unfolding (im2col) writes, for a band of output positions, the inputs under each tap of the kernel as a row; the
 * convolution of the band is then one matrix product with the weights. Bands stay within the second cache.
 */
#include "gemm.h"
#include "../conv.h"
#include <string.h>

enum { BAND = 1 << 16 };                                 /* elements unfolded at a time */

#define KERNELS "conv.inc"
#define INTEGERS
#include "reals.h"

/* The sizes, from the shapes of the input, the weight and the output; dimensions that are not there have size 1. */
static aj_conv describe(int what, const aj_tensor *x, const aj_tensor *w, const aj_tensor *y, const aj_attrs *a, bool bias) {
    aj_conv v;
    memset(&v, 0, sizeof v);
    int nd = w->ndim - 2, at = x->ndim - nd;
    v.what = what; v.dtype = x->dtype; v.nd = nd; v.bias = bias;
    v.N = at == 2 ? x->shape[0] : 1;
    v.C = x->shape[at - 1]; v.O = w->shape[0]; v.G = a->groups;
    for (int i = 0; i < 3; i++) {
        v.I[i] = i < nd ? x->shape[at + i] : 1;
        v.K[i] = i < nd ? w->shape[2 + i] : 1;
        v.Y[i] = i < nd ? y->shape[at + i] : 1;
        v.S[i] = i < nd ? a->stride.v[i] : 1;
        v.P[i] = i < nd ? a->padding.v[i] : 0;
        v.L[i] = i < nd ? a->dilation.v[i] : 1;
    }
    return v;
}

static bool own_f32(const aj_conv *v, void *x, void *w, const void *bias, void *y) { return unfolded_f32(v, x, w, bias, y); }

/* A 1x1 convolution is a product as it stands, with nothing unfolded: worth trying against oneDNN. */
static bool is_product(const aj_conv *v) {
    for (int i = 0; i < 3; i++) if (v->K[i] != 1 || v->S[i] != 1 || v->P[i] != 0 || v->I[i] != v->Y[i]) return false;
    return v->G == 1;
}

/* Any dtype as another, for the three operands; the written one comes back. */
static bool converted(const aj_conv *v, void *x, void *w, const void *bias, void *y, int dtype) {
    int class = class_of_dtype(dtype), bytes = dtype_bytes[dtype];
    int64_t nx = v->N * v->C * v->I[0] * v->I[1] * v->I[2], nw = v->O * (v->C / v->G) * v->K[0] * v->K[1] * v->K[2], ny = v->N * v->O * v->Y[0] * v->Y[1] * v->Y[2];
    char *a = aj_scratch((nx + nw + ny + v->O) * bytes);
    if (!a) return false;
    char *b = a + nx * bytes, *c = b + nw * bytes, *d = c + ny * bytes;
    if (v->what != AJ_CONV_INPUT) aj_load(class, v->dtype)(a, x, 1, nx);
    if (v->what != AJ_CONV_WEIGHT) aj_load(class, v->dtype)(b, w, 1, nw);
    if (v->what != AJ_CONV_FORWARD) aj_load(class, v->dtype)(c, y, 1, ny);
    if (bias) aj_load(class, v->dtype)(d, bias, 1, v->O);
    aj_conv u = *v;
    u.dtype = dtype;
    bool ok;
    if (dtype == AJ_F32) {
        int r = aj_conv_quickest(&u, a, b, bias ? d : NULL, c, is_product(v) ? own_f32 : NULL);
        ok = r == AJ_ONEDNN_NOT ? unfolded_f32(&u, (float *)(void *)a, (float *)(void *)b, (float *)(void *)(bias ? d : NULL), (float *)(void *)c) : r == AJ_ONEDNN_DONE;
    } else ok = unfolded_i64(&u, (int64_t *)(void *)a, (int64_t *)(void *)b, (int64_t *)(void *)(bias ? d : NULL), (int64_t *)(void *)c);
    if (ok) {
        if (v->what == AJ_CONV_INPUT) aj_store(class, v->dtype)(x, 1, a, nx);
        else if (v->what == AJ_CONV_WEIGHT) aj_store(class, v->dtype)(w, 1, b, nw);
        else aj_store(class, v->dtype)(y, 1, c, ny);
    }
    aj_scratch_free(a);
    return ok;
}

static bool convolve(const aj_conv *v, void *x, void *w, const void *bias, void *y) {
    if (v->dtype == AJ_F64) return unfolded_f64(v, x, w, bias, y);
    if (v->dtype == AJ_I64) return unfolded_i64(v, x, w, bias, y);
    if (!aj_is_float((int)v->dtype)) return converted(v, x, w, bias, y, AJ_I64);
    if (v->dtype == AJ_F32 || v->dtype == AJ_BF16) {
        int r = aj_conv_quickest(v, x, w, bias, y, v->dtype == AJ_F32 && is_product(v) ? own_f32 : NULL);
        if (r != AJ_ONEDNN_NOT) return r == AJ_ONEDNN_DONE;
        if (v->dtype == AJ_F32) return unfolded_f32(v, x, w, bias, y);
    }
    return converted(v, x, w, bias, y, AJ_F32);
}

/* -- Bias of a transposed convolution ------------------------------------------------------------------------------------ */

typedef struct { char *y; const char *bias; int64_t C, run; int dtype, class; } biasing;
static void bias_range(void *arg, int64_t lo, int64_t hi) {
    const biasing *b = arg;
    union { float f[CHUNK]; double d[CHUNK]; int64_t i[CHUNK]; } chunk, one;
    for (int64_t p = lo; p < hi; p++) {
        aj_load(b->class, b->dtype)(&one, b->bias + p % b->C * dtype_bytes[b->dtype], 1, 1);
        for (int64_t i = 0; i < b->run; i += CHUNK) {
            int64_t n = b->run - i < CHUNK ? b->run - i : CHUNK;
            char *to = b->y + (p * b->run + i) * dtype_bytes[b->dtype];
            if (b->dtype == AJ_F32) {
                float *f = (float *)(void *)to, v = *(const float *)(const void *)(b->bias + p % b->C * 4);
                for (int64_t j = 0; j < n; j++) f[j] += v;
                continue;
            }
            aj_load(b->class, b->dtype)(&chunk, to, 1, n);
            if (b->class == CLASS_F32) for (int64_t j = 0; j < n; j++) chunk.f[j] += one.f[0];
            else if (b->class == CLASS_F64) for (int64_t j = 0; j < n; j++) chunk.d[j] += one.d[0];
            else for (int64_t j = 0; j < n; j++) chunk.i[j] += one.i[0];
            aj_store(b->class, b->dtype)(to, 1, &chunk, n);
        }
    }
}

/* -- Rows ----------------------------------------------------------------------------------------------------------------- */

static bool forward(const aj_call *c) {
    const aj_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    aj_tensor *y = c->out[0];
    if (y->numel == 0) return true;
    aj_conv v = describe(AJ_CONV_FORWARD, x, w, y, c->attrs, b != NULL);
    return convolve(&v, x->data, w->data, b ? b->data : NULL, y->data);
}
bool KERNEL(conv1d)(const aj_call *c) { return forward(c); }
bool KERNEL(conv2d)(const aj_call *c) { return forward(c); }
bool KERNEL(conv3d)(const aj_call *c) { return forward(c); }

static bool transposed(const aj_call *c) {
    const aj_tensor *y = c->in[0], *w = c->in[1], *b = c->n_in > 2 ? c->in[2] : NULL;
    aj_tensor *x = c->out[0];
    if (x->numel == 0) return true;
    aj_conv v = describe(AJ_CONV_INPUT, x, w, y, c->attrs, false);
    if (y->numel == 0) memset(x->data, 0, (size_t)(x->numel * dtype_bytes[x->dtype]));
    else if (!convolve(&v, x->data, w->data, NULL, y->data)) return false;
    if (b) {
        biasing m = {x->data, b->data, v.C, v.I[0] * v.I[1] * v.I[2], x->dtype, class_of_dtype(x->dtype)};
        aj_parallel(v.N * v.C, 1 + (1 << 17) / m.run, bias_range, &m);
    }
    return true;
}
bool KERNEL(conv_transpose1d)(const aj_call *c) { return transposed(c); }
bool KERNEL(conv_transpose2d)(const aj_call *c) { return transposed(c); }
bool KERNEL(conv_transpose3d)(const aj_call *c) { return transposed(c); }
bool KERNEL(conv_grad_input)(const aj_call *c) { return transposed(c); }

bool KERNEL(conv_grad_weight)(const aj_call *c) {
    const aj_tensor *y = c->in[0], *x = c->in[1];
    aj_tensor *w = c->out[0];
    if (w->numel == 0) return true;
    if (x->numel == 0 || y->numel == 0) { memset(w->data, 0, (size_t)(w->numel * dtype_bytes[w->dtype])); return true; }
    aj_conv v = describe(AJ_CONV_WEIGHT, x, w, y, c->attrs, false);
    return convolve(&v, x->data, w->data, NULL, y->data);
}
