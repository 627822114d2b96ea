/* softmax.c - softmax, log_softmax, cross entropy and nll_loss, with their gradients.
 *
 * Numbers lie as outer * K * inner. Along the innermost dimension each run is done on its own; otherwise a block of
 * neighbours goes along together. Cross entropy makes one pass over its input and keeps one number a row.
 */
#include "dense.h"
#include "vmath.h"
#include "stat.h"
#include "stream.h"
#include <string.h>

enum { BLOCK = 128, TILE = 64, SHORT = 32 };
typedef struct {
    const void *x, *g;          /* the input, or the result; the gradient of the result, if that is asked for */
    void *y;
    int64_t outer, K, inner;
    bool log;
    bool stream;                /* y goes past the caches */
} walk;
typedef struct {
    const void *x, *g, *weight;
    const int64_t *target;
    void *y, *lse;
    double *loss;               /* of each row */
    int64_t outer, K, inner, ignore, base;
    double smooth, weights;     /* the sum of the weights of all classes */
    double scale;               /* of the gradient of a row */
    bool each;                  /* g has a number for each row */
    bool beside;                /* a tile, turned already */
} entropy;

static bool in_tiles(int64_t K, int64_t inner) { return inner == 1 && K <= SHORT; }

#define KERNELS "softmax.inc"
#include "reals.h"

/* Units of work of an outer * K * inner walk, and how many make 50 microseconds. */
static int64_t units(int64_t outer, int64_t K, int64_t inner) {
    return in_tiles(K, inner) ? (outer + TILE - 1) / TILE : outer * ((inner + BLOCK - 1) / BLOCK);
}
static int64_t grain(int64_t K, int64_t inner) {
    return 1 + (1 << 15) / (1 + K * (in_tiles(K, inner) ? TILE : inner < BLOCK ? inner : BLOCK));
}

static bool along(const aj_call *c, aj_tensor *g, aj_tensor *x, bool log) {
    int class = class_of_dtype(x->dtype);
    dense d[3] = {{0}};
    walk w = {.log = log};
    dense_split(x, c->attrs->dim, &w.outer, &w.K, &w.inner);
    bool ok = dense_in(&d[0], x, class) && dense_place(&d[1], c->out[0], class) && (!g || dense_in(&d[2], g, class));
    w.x = d[0].p;
    w.y = d[1].p;
    w.g = d[2].p;
    /* Not where exp takes the time. */
    w.stream = ok && g && !log && w.inner == 1 && !in_tiles(w.K, 1) && stream_rows(c->out[0], w.y, w.K * dtype_bytes[dtype_of_class[class]]);
    if (ok && x->numel) aj_parallel(units(w.outer, w.K, w.inner), grain(w.K, w.inner), class == CLASS_F32 ? softmax_range_f32 : softmax_range_f64, &w);
    ok = ok && dense_put(&d[1]);
    dense_free(d, 3);
    return ok;
}
bool KERNEL(softmax)(const aj_call *c) { return along(c, NULL, c->in[0], false); }
bool KERNEL(log_softmax)(const aj_call *c) { return along(c, NULL, c->in[0], true); }
bool KERNEL(softmax_grad)(const aj_call *c) { return along(c, c->in[0], c->in[1], false); }
bool KERNEL(log_softmax_grad)(const aj_call *c) { return along(c, c->in[0], c->in[1], true); }

/* -- Losses ----------------------------------------------------------------------------------------------------------------- */

enum { X, G, WEIGHT, TARGET, LSE, Y, PARTS };

/* Checks the targets and sums their weights. x: whose shape tells the classes. */
static bool read_targets(const aj_call *c, entropy *w, const aj_tensor *x, int class, double *total) {
    dense_split(x, x->ndim > 1, &w->outer, &w->K, &w->inner);
    w->ignore = c->attrs->i;
    w->base = c->attrs->base;
    w->smooth = c->attrs->s;
    double sum = 0;
    int64_t n = w->outer * w->inner;
    for (int64_t i = 0; i < n; i++) {
        if (w->target[i] == w->ignore) continue;
        int64_t k = w->target[i] - w->base;
        if (k < 0 || k >= w->K) return aj_error("%s: target %lld, at position %lld, is not a class: they are %lld to %lld (or %lld, which is ignored)", aj_op_name(c->op),
            (long long)w->target[i], (long long)(i + w->base), (long long)w->base, (long long)(w->K - 1 + w->base), (long long)w->ignore);
        sum += !w->weight ? 1 : class == CLASS_F32 ? (double)((const float *)w->weight)[k] : ((const double *)w->weight)[k];
    }
    w->weights = w->weight ? 0 : (double)w->K;
    for (int64_t k = 0; w->weight && k < w->K; k++)
        w->weights += class == CLASS_F32 ? (double)((const float *)w->weight)[k] : ((const double *)w->weight)[k];
    *total = sum;
    return true;
}

/* The rows' losses as the reduction wants them. */
static bool reduce(const aj_call *c, const entropy *w, double total) {
    aj_tensor *y = c->out[0];
    int64_t n = w->outer * w->inner;
    if (c->attrs->reduction == AJ_NONE) { aj_store(CLASS_F64, y->dtype)(y->data, 1, w->loss, n); return true; }
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += w->loss[i];
    if (c->attrs->reduction == AJ_MEAN) sum /= total;
    aj_store(CLASS_F64, y->dtype)(y->data, 1, &sum, 1);
    return true;
}

bool KERNEL(cross_entropy_index)(const aj_call *c) {
    aj_tensor *x = c->in[0];
    int class = class_of_dtype(x->dtype);
    dense d[PARTS] = {{0}};
    entropy w = {.lse = c->out[1]->data};
    double *total = (double *)(void *)c->out[2]->data;
    bool ok = dense_in(&d[X], x, class) && dense_in(&d[TARGET], c->in[1], CLASS_I64) && dense_in(&d[WEIGHT], c->in[2], class);
    w.x = d[X].p;
    w.target = d[TARGET].p;
    w.weight = d[WEIGHT].p;
    ok = ok && read_targets(c, &w, x, class, total) && (w.loss = aj_scratch(w.outer * w.inner * 8 + 8)) != NULL;
    if (ok) {
        aj_parallel(units(w.outer, w.K, w.inner), grain(w.K, w.inner), class == CLASS_F32 ? entropy_range_f32 : entropy_range_f64, &w);
        ok = reduce(c, &w, *total);
    }
    if (w.loss) aj_scratch_free(w.loss);
    dense_free(d, PARTS);
    return ok;
}

bool KERNEL(cross_entropy_grad)(const aj_call *c) {
    aj_tensor *x = c->in[1];
    int class = class_of_dtype(x->dtype);
    dense d[PARTS] = {{0}};
    entropy w = {.each = c->attrs->reduction == AJ_NONE, .scale = 1};
    double total;
    bool ok = dense_in(&d[G], c->in[0], class) && dense_in(&d[X], x, class) && dense_in(&d[TARGET], c->in[2], CLASS_I64)
           && dense_in(&d[WEIGHT], c->in[3], class) && dense_in(&d[LSE], c->in[4], class) && dense_place(&d[Y], c->out[0], class);
    w.g = d[G].p;
    w.x = d[X].p;
    w.target = d[TARGET].p;
    w.weight = d[WEIGHT].p;
    w.lse = d[LSE].p;
    w.y = d[Y].p;
    ok = ok && read_targets(c, &w, x, class, &total);
    if (ok) {
        aj_load(CLASS_F64, c->in[5]->dtype)(&total, c->in[5]->data, 1, 1);
        if (c->attrs->reduction == AJ_MEAN) w.scale = 1 / total;
        aj_parallel(units(w.outer, w.K, w.inner), grain(w.K, w.inner), class == CLASS_F32 ? entropy_grad_range_f32 : entropy_grad_range_f64, &w);
        ok = dense_put(&d[Y]);
    }
    dense_free(d, PARTS);
    return ok;
}

bool KERNEL(nll_loss)(const aj_call *c) {
    aj_tensor *x = c->in[0];
    int class = class_of_dtype(x->dtype);
    dense d[PARTS] = {{0}};
    entropy w = {0};
    double total;
    bool ok = dense_in(&d[X], x, class) && dense_in(&d[TARGET], c->in[1], CLASS_I64) && dense_in(&d[WEIGHT], c->in[2], class);
    w.x = d[X].p;
    w.target = d[TARGET].p;
    w.weight = d[WEIGHT].p;
    ok = ok && read_targets(c, &w, x, class, &total) && (w.loss = aj_scratch(w.outer * w.inner * 8 + 8)) != NULL;
    if (ok) {
        aj_parallel(w.outer * w.inner, 1 << 14, class == CLASS_F32 ? nll_range_f32 : nll_range_f64, &w);
        ok = reduce(c, &w, total);
    }
    if (w.loss) aj_scratch_free(w.loss);
    dense_free(d, PARTS);
    return ok;
}

bool KERNEL(nll_loss_grad)(const aj_call *c) {
    aj_tensor *y = c->out[0];
    int class = class_of_dtype(y->dtype);
    dense d[PARTS] = {{0}};
    entropy w = {.each = c->attrs->reduction == AJ_NONE, .scale = 1};
    double total;
    bool ok = dense_in(&d[G], c->in[0], class) && dense_in(&d[TARGET], c->in[1], CLASS_I64) && dense_in(&d[WEIGHT], c->in[2], class)
           && dense_place(&d[Y], y, class);
    w.g = d[G].p;
    w.target = d[TARGET].p;
    w.weight = d[WEIGHT].p;
    w.y = d[Y].p;
    ok = ok && read_targets(c, &w, y, class, &total);
    if (ok) {
        if (c->attrs->reduction == AJ_MEAN) w.scale = 1 / total;
        memset(w.y, 0, (size_t)(y->numel * dtype_bytes[dtype_of_class[class]]));
        aj_parallel(w.outer * w.inner, 1 << 14, class == CLASS_F32 ? nll_range_f32 : nll_range_f64, &w);
        ok = dense_put(&d[Y]);
    }
    dense_free(d, PARTS);
    return ok;
}
