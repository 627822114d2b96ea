/* pool.c - pooling, a channel at a time: a table of windows for each dimension, so that fixed and adaptive windows,
 * padding and dilation are one case. Channels of other dtypes are converted on the way.
 */
#include "cpu.h"
#include <math.h>
#include <string.h>

enum { LARGEST, PLACE, PICK, MEAN, MEAN_BACK, LANES = 16, TAPS = 64 };
typedef struct { int64_t first, n, step, count; } window;        /* count: what a mean is divided by */
typedef struct {
    int what, dtype;
    bool keep, regular, pairs;  /* places are wanted; windows along a line have one step, and few taps; two side by side, and four in a line at least */
    int64_t I[3], Y[3], n_in, n_out, planes, divisor;
    int64_t K, S, P, L;         /* along a line, when regular */
    int64_t lo[TAPS], hi[TAPS]; /* the windows that have tap t inside the line */
    window *win[3];
    const char *from;
    char *to;
    int32_t *index;
    int64_t *found, base;       /* places as a result, or NULL */
    bool failed;
} pool;

static const float lowest_f32 = -INFINITY;
static const double lowest_f64 = -INFINITY;
static const int64_t lowest_i64 = INT64_MIN;
typedef float eight __attribute__((vector_size(32)));
typedef int32_t eight_places __attribute__((vector_size(32)));
#ifdef __clang__
#define EVENS(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODDS(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#else
#define EVENS(a, b) __builtin_shuffle(a, b, (eight_places){0, 2, 4, 6, 8, 10, 12, 14})
#define ODDS(a, b) __builtin_shuffle(a, b, (eight_places){1, 3, 5, 7, 9, 11, 13, 15})
#endif

/* Two lines into one, as windows of 2 x 2 side by side do: four windows, and four that begin at window k, in vectors and
 * without branches, which on random numbers cost 8 times as much. */
static ALWAYS_INLINE void max_eight(const float *a, const float *b, float *y, int32_t *at, int32_t k, int32_t place, int32_t below) {
    eight in[4];
    memcpy(&in[0], a, sizeof *in);
    memcpy(&in[1], a + 2 * k, sizeof *in);
    memcpy(&in[2], b, sizeof *in);
    memcpy(&in[3], b + 2 * k, sizeof *in);
    eight_places first = (eight_places){0, 2, 4, 6, 2 * k, 2 * k + 2, 2 * k + 4, 2 * k + 6} + place, best = first;
    eight v = EVENS(in[0], in[1]), w[3] = {ODDS(in[0], in[1]), EVENS(in[2], in[3]), ODDS(in[2], in[3])};
    const int32_t off[3] = {1, below, below + 1};
    _Pragma("GCC unroll 3") for (int t = 0; t < 3; t++) {
        eight_places more = (w[t] > v) | (w[t] != w[t]);
        v = (eight)(((eight_places)w[t] & more) | ((eight_places)v & ~more));
        best = ((first + off[t]) & more) | (best & ~more);
    }
    memcpy(y, &v, sizeof v / 2);
    memcpy(y + k, (char *)&v + sizeof v / 2, sizeof v / 2);
    memcpy(at, &best, sizeof best / 2);
    memcpy(at + k, (char *)&best + sizeof best / 2, sizeof best / 2);
}
static void max_pairs(const float *a, const float *b, float *y, int32_t *at, int64_t n, int32_t place, int32_t below) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) max_eight(a + 2 * i, b + 2 * i, y + i, at + i, 4, place + 2 * (int32_t)i, below);
    if (i == n) return;
    i = n < 8 ? 0 : n - 8;                               /* some are done twice */
    max_eight(a + 2 * i, b + 2 * i, y + i, at + i, n < 8 ? (int32_t)n - 4 : 4, place + 2 * (int32_t)i, below);
}

#define KERNELS "pool.inc"
#define INTEGERS
#include "reals.h"

static void planes_range(void *arg, int64_t lo, int64_t hi) {
    pool *p = arg;
    int class = class_of_dtype(p->dtype), bytes = dtype_bytes[p->dtype], wide = dtype_bytes[dtype_of_class[class]];
    bool back = p->what == PLACE || p->what == MEAN_BACK, direct = p->dtype == dtype_of_class[class];
    int64_t n_from = back ? p->n_out : p->n_in, n_to = back ? p->n_in : p->n_out;
    char *own = aj_scratch(8 * (p->Y[2] + (direct ? 0 : n_from + n_to)) + 4 * (p->keep ? p->n_out : p->Y[2]));
    if (!own) { __atomic_store_n(&p->failed, true, __ATOMIC_RELAXED); return; }
    char *x_own = own + 8 * p->Y[2], *y_own = x_own + wide * n_from;
    int32_t *places = (int32_t *)(void *)(own + 8 * (p->Y[2] + (direct ? 0 : n_from + n_to)));
    for (int64_t c = lo; c < hi; c++) {
        const char *x = p->from + c * n_from * bytes;
        char *y = p->to + c * n_to * bytes;
        int32_t *index = p->index ? p->index + c * p->n_out : places;
        if (!direct) aj_load(class, p->dtype)(x_own, x, 1, n_from);
        void *a = direct ? (void *)x : x_own, *b = direct ? y : y_own;
        if (class == CLASS_F32) channel_f32(p, a, b, index, (float *)(void *)own);
        else if (class == CLASS_F64) channel_f64(p, a, b, index, (double *)(void *)own);
        else channel_i64(p, a, b, index, (int64_t *)(void *)own);
        if (!direct) aj_store(class, p->dtype)(y, 1, y_own, n_to);
        for (int64_t i = 0; p->found && i < p->n_out; i++) p->found[c * p->n_out + i] = index[i] + p->base;
    }
    aj_scratch_free(own);
}

static bool work(pool *p, double per_plane) {
    if (p->planes == 0) return true;
    aj_parallel(p->planes, 1 + (int64_t)(60000 / (per_plane + 1)), planes_range, p);
    return p->failed ? aj_error("pooling: out of memory") : true;
}

/* x: what windows are taken from; y: one element a window. */
static void sizes(pool *p, const aj_tensor *x, const aj_tensor *y, int nd) {
    p->planes = p->n_in = p->n_out = 1;
    for (int d = 0; d < x->ndim - nd; d++) p->planes *= x->shape[d];
    for (int i = 0; i < 3; i++) {
        int d = x->ndim - 3 + i;
        p->I[i] = i < 3 - nd ? 1 : x->shape[d];
        p->Y[i] = i < 3 - nd ? 1 : y->shape[d];
        p->n_in *= p->I[i]; p->n_out *= p->Y[i];
    }
    p->dtype = x->dtype;
}

static bool make_windows(pool *p, const aj_attrs *a, int nd, bool adaptive, bool dilated) {
    p->win[0] = aj_scratch((int64_t)sizeof(window) * (p->Y[0] + p->Y[1] + p->Y[2]));
    if (!p->win[0]) return false;
    p->win[1] = p->win[0] + p->Y[0];
    p->win[2] = p->win[1] + p->Y[1];
    for (int i = 0; i < 3; i++) {
        int j = i - (3 - nd);                            /* its place among the attributes */
        int64_t I = p->I[i], K = 1, S = 1, P = 0, L = 1;
        if (j >= 0 && !adaptive) { K = a->kernel.v[j]; S = a->stride.v[j]; P = a->padding.v[j]; L = dilated ? a->dilation.v[j] : 1; }
        for (int64_t o = 0; o < p->Y[i]; o++) {
            window *w = &p->win[i][o];
            if (adaptive) {
                int64_t first = o * I / p->Y[i], end = ((o + 1) * I + p->Y[i] - 1) / p->Y[i];
                *w = (window){first, end - first, 1, end - first};
                continue;
            }
            int64_t first = o * S - P, end = first + (K - 1) * L + 1, padded = end < I + P ? end : I + P;
            w->count = padded - first;
            while (first < 0) first += L;
            if (end > I) end = I;
            w->first = first; w->step = L;
            w->n = end <= first ? 0 : (end - first + L - 1) / L;
            if (w->n == 0) w->first = 0;                 /* all of it lies in the padding */
            if (!a->flag2) w->count = w->n;              /* padding is not counted */
        }
        if (i < 2) continue;
        p->regular = !adaptive && K <= TAPS;
        p->K = K; p->S = S; p->P = P; p->L = L;
        for (int64_t t = 0; p->regular && t < K; t++) {
            int64_t off = t * L - P;
            p->lo[t] = off < 0 ? (-off + S - 1) / S : 0;
            p->hi[t] = I - off <= 0 ? 0 : (I - off + S - 1) / S;
            if (p->hi[t] > p->Y[2]) p->hi[t] = p->Y[2];
        }
        p->pairs = p->regular && K == 2 && S == 2 && P == 0 && L == 1 && 2 * p->Y[2] <= I && p->Y[2] >= 4;
    }
    return true;
}

static bool pooling(const aj_call *c, int what, int nd, bool adaptive) {
    pool p = {.what = what};
    bool back = what == MEAN_BACK;
    const aj_tensor *from = c->in[0];
    aj_tensor *to = c->out[0];
    if (to->numel == 0) return true;
    sizes(&p, back ? to : from, back ? from : to, nd);
    p.from = from->data; p.to = to->data;
    p.keep = what == LARGEST && c->n_out > 1;
    if (p.keep && c->out[1]->dtype == AJ_I64) { p.found = (int64_t *)(void *)c->out[1]->data; p.base = c->attrs->base; }
    else if (p.keep) p.index = (int32_t *)(void *)c->out[1]->data;
    p.divisor = what == LARGEST || adaptive || c->attrs->i == AJ_NO_DIM ? 0 : c->attrs->i;
    if (p.n_in > INT32_MAX) return aj_error("%s: a channel has %lld elements; the most is 2^31 - 1", aj_op_name(c->op), (long long)p.n_in);
    if (!make_windows(&p, c->attrs, nd, adaptive, what == LARGEST)) return false;
    double per = (double)p.n_out;
    for (int i = 0; i < 3; i++) per *= (double)p.win[i][0].n + 0.5;
    bool ok = work(&p, per);
    aj_scratch_free(p.win[0]);
    return ok;
}

bool KERNEL(max_pool1d)(const aj_call *c) { return pooling(c, LARGEST, 1, false); }
bool KERNEL(max_pool2d)(const aj_call *c) { return pooling(c, LARGEST, 2, false); }
bool KERNEL(max_pool3d)(const aj_call *c) { return pooling(c, LARGEST, 3, false); }
bool KERNEL(adaptive_max_pool1d)(const aj_call *c) { return pooling(c, LARGEST, 1, true); }
bool KERNEL(adaptive_max_pool2d)(const aj_call *c) { return pooling(c, LARGEST, 2, true); }
bool KERNEL(adaptive_max_pool3d)(const aj_call *c) { return pooling(c, LARGEST, 3, true); }
bool KERNEL(max_pool1d_with_indices)(const aj_call *c) { return pooling(c, LARGEST, 1, false); }
bool KERNEL(max_pool2d_with_indices)(const aj_call *c) { return pooling(c, LARGEST, 2, false); }
bool KERNEL(max_pool3d_with_indices)(const aj_call *c) { return pooling(c, LARGEST, 3, false); }
bool KERNEL(adaptive_max_pool1d_with_indices)(const aj_call *c) { return pooling(c, LARGEST, 1, true); }
bool KERNEL(adaptive_max_pool2d_with_indices)(const aj_call *c) { return pooling(c, LARGEST, 2, true); }
bool KERNEL(adaptive_max_pool3d_with_indices)(const aj_call *c) { return pooling(c, LARGEST, 3, true); }
bool KERNEL(avg_pool1d)(const aj_call *c) { return pooling(c, MEAN, 1, false); }
bool KERNEL(avg_pool2d)(const aj_call *c) { return pooling(c, MEAN, 2, false); }
bool KERNEL(avg_pool3d)(const aj_call *c) { return pooling(c, MEAN, 3, false); }
bool KERNEL(adaptive_avg_pool1d)(const aj_call *c) { return pooling(c, MEAN, 1, true); }
bool KERNEL(adaptive_avg_pool2d)(const aj_call *c) { return pooling(c, MEAN, 2, true); }
bool KERNEL(adaptive_avg_pool3d)(const aj_call *c) { return pooling(c, MEAN, 3, true); }
bool KERNEL(avg_pool_grad)(const aj_call *c) { return pooling(c, MEAN_BACK, (int)c->attrs->k, false); }
bool KERNEL(adaptive_avg_pool_grad)(const aj_call *c) { return pooling(c, MEAN_BACK, (int)c->attrs->k, true); }

static bool placing(const aj_call *c, int what) {
    pool p = {.what = what};
    aj_tensor *y = c->out[0];
    if (y->numel == 0) return true;
    sizes(&p, what == PLACE ? y : c->in[0], c->in[1], (int)c->attrs->i);
    p.from = c->in[0]->data; p.to = y->data;
    p.index = (int32_t *)(void *)c->in[1]->data;
    for (int64_t i = 0; i < c->in[1]->numel; i++)
        if ((uint32_t)p.index[i] >= (uint64_t)p.n_in) return aj_error("%s: place %d is out of range: a channel has %lld elements", aj_op_name(c->op), p.index[i], (long long)p.n_in);
    return work(&p, (double)(p.n_in + p.n_out));
}
bool KERNEL(max_pool_grad)(const aj_call *c) { return placing(c, PLACE); }
bool KERNEL(max_pool_pick)(const aj_call *c) { return placing(c, PICK); }
