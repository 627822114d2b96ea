/* resample.c - images of another size, a channel at a time, by a table of source places for each dimension. */
#include "cpu.h"
#include "../place.h"
#include <string.h>

typedef resampled_place place;
typedef struct {
    bool back, is_linear, twice;
    int dtype;
    int64_t I[3], Y[3], n_in, n_out, planes;
    place *at[3];
    const char *from;
    char *to;
    bool failed;
} resampling;

#define KERNELS "resample.inc"
#define INTEGERS
#include "reals.h"

#define CHANNEL(type, t) \
    if (!r->is_linear) { if (r->back) nearest_back_##t(r, a, b); else nearest_##t(r, a, b); } \
    else if (r->back) linear_back_##t(r, a, b, (type *)(void *)own); \
    else linear_##t(r, a, b, (type *)(void *)own)

static void planes_range(void *arg, int64_t lo, int64_t hi) {
    resampling *r = arg;
    int class = class_of_dtype(r->dtype), bytes = dtype_bytes[r->dtype], wide = dtype_bytes[dtype_of_class[class]];
    bool direct = r->dtype == dtype_of_class[class];
    int64_t n_from = r->back ? r->n_out : r->n_in, n_to = r->back ? r->n_in : r->n_out;
    char *own = aj_scratch(8 * r->I[2] + (direct ? 0 : wide * (n_from + n_to)));
    if (!own) { __atomic_store_n(&r->failed, true, __ATOMIC_RELAXED); return; }
    char *from_own = own + 8 * r->I[2], *to_own = from_own + wide * n_from;
    for (int64_t c = lo; c < hi; c++) {
        const char *x = r->from + c * n_from * bytes;
        char *y = r->to + c * n_to * bytes;
        if (!direct) aj_load(class, r->dtype)(from_own, x, 1, n_from);
        void *a = direct ? (void *)x : from_own, *b = direct ? y : to_own;
        if (class == CLASS_F32) { CHANNEL(float, f32); }
        else if (class == CLASS_F64) { CHANNEL(double, f64); }
        else if (r->back) nearest_back_i64(r, a, b);
        else nearest_i64(r, a, b);
        if (!direct) aj_store(class, r->dtype)(y, 1, to_own, n_to);
    }
    aj_scratch_free(own);
}

static bool resample(const aj_call *c, bool is_linear, bool back) {
    resampling r = {.back = back, .is_linear = is_linear, .dtype = c->in[0]->dtype, .from = c->in[0]->data, .to = c->out[0]->data, .planes = 1, .n_in = 1, .n_out = 1};
    const aj_tensor *x = back ? c->out[0] : c->in[0], *y = back ? c->in[0] : c->out[0];
    int nd = x->ndim - 2;
    r.planes = x->shape[0] * x->shape[1];
    if (r.planes == 0) return true;
    for (int i = 0; i < 3; i++) {
        r.I[i] = i < 3 - nd ? 1 : x->shape[i + nd - 1];
        r.Y[i] = i < 3 - nd ? 1 : y->shape[i + nd - 1];
        r.n_in *= r.I[i]; r.n_out *= r.Y[i];
    }
    r.at[0] = aj_scratch((int64_t)sizeof(place) * (r.Y[0] + r.Y[1] + r.Y[2]));
    if (!r.at[0]) return false;
    r.at[1] = r.at[0] + r.Y[0];
    r.at[2] = r.at[1] + r.Y[1];
    for (int i = 0; i < 3; i++)
        for (int64_t o = 0; o < r.Y[i]; o++) r.at[i][o] = resampled_place_of(is_linear, c->attrs->flag, i < 3 - nd ? 0 : c->attrs->s, o, r.I[i], r.Y[i]);
    r.twice = r.Y[2] == 2 * r.I[2] && r.at[2][r.Y[2] - 1].i == r.I[2] - 1 && (c->attrs->s == 0 || c->attrs->s == 2);
    aj_parallel(r.planes, 1 + 40000 / (r.n_in + 2 * r.n_out), planes_range, &r);
    aj_scratch_free(r.at[0]);
    return r.failed ? aj_error("resampling: out of memory") : true;
}
bool KERNEL(upsample_nearest)(const aj_call *c) { return resample(c, false, false); }
bool KERNEL(upsample_nearest_grad)(const aj_call *c) { return resample(c, false, true); }
bool KERNEL(upsample_linear)(const aj_call *c) { return resample(c, true, false); }
bool KERNEL(upsample_linear_grad)(const aj_call *c) { return resample(c, true, true); }
