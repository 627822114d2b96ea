/* reduce.c - reductions over any set of dimensions.
 *
 * The dimensions are sorted into those kept and those summed over, and merged where they lie evenly. When the densest
 * one is summed over, each result is one run after another; else a chunk of results is carried along the runs.
 * Partial results have a fixed size, so that the number of threads does not change a bit of the outcome.
 */
#include "cpu.h"
#include "vmath.h"
#include <string.h>

enum { PART = 1 << 15, LONG = 4096, ROWS = 8 };
static const float lowest_f32 = -INFINITY, highest_f32 = INFINITY;
static const double lowest_f64 = -INFINITY, highest_f64 = INFINITY;
static const int64_t lowest_i64 = INT64_MIN, highest_i64 = INT64_MAX;

#define KERNELS "reduce.inc"
#define INTEGERS
#include "reals.h"

typedef struct {
    void (*run)(void *acc, const void *x, int64_t n);
    void (*runs)(void *y, const void *x, int64_t step, int64_t n, int64_t runs);
    void (*add)(void *acc, const void *x, int64_t n);
    void (*rows)(void *acc, const void *x, int64_t step, int64_t n);
    void (*start)(void *acc, int64_t n);
} loops;

typedef struct { int ndim; int64_t count, shape[AJ_MAX_DIM], stride[AJ_MAX_DIM]; } dims;    /* innermost first */

typedef struct {
    dims kept, over;
    const loops *f;
    int class, in, out, size;
    const char *x;
    char *y;
    char *part;                 /* partial results of a split single result */
    double divisor;             /* of a mean; 1 otherwise */
    int64_t wide;               /* how many kept elements lie side by side */
} reducing;

static void put_dim(dims *d, int64_t shape, int64_t stride) {
    d->count *= shape;
    if (shape == 1) return;
    if (d->ndim && d->stride[d->ndim - 1] * d->shape[d->ndim - 1] == stride) { d->shape[d->ndim - 1] *= shape; return; }
    d->shape[d->ndim] = shape;
    d->stride[d->ndim++] = stride;
}

static int64_t offset_of(const dims *d, int64_t pos, int first) {
    int64_t at = 0;
    for (int i = first; i < d->ndim; i++) { at += pos % d->shape[i] * d->stride[i]; pos /= d->shape[i]; }
    return at;
}

/* n elements along the innermost reduced dimension into one accumulator. */
static void fold_run(const reducing *r, void *acc, const char *x, int64_t stride, int64_t n) {
    bool direct = stride == 1 && r->in == dtype_of_class[r->class];
    double chunk[CHUNK];
    for (int64_t i = 0, k; i < n; i += k) {
        int64_t most = direct ? LONG : CHUNK;
        k = n - i < most ? n - i : most;
        const char *p = x + i * stride * dtype_bytes[r->in];
        if (!direct) aj_load(r->class, r->in)(chunk, p, stride, k);
        r->f->run(acc, direct ? p : (const char *)chunk, k);
    }
}

/* Elements lo to hi of the reduced ones (counted along the innermost first) of one result. */
static void fold(const reducing *r, void *acc, const char *x, int64_t lo, int64_t hi) {
    int64_t run = r->over.ndim ? r->over.shape[0] : 1, stride = r->over.ndim ? r->over.stride[0] : 1;
    while (lo < hi) {
        int64_t i = lo % run, n = run - i < hi - lo ? run - i : hi - lo;
        fold_run(r, acc, x + (offset_of(&r->over, lo / run, 1) + i * stride) * dtype_bytes[r->in], stride, n);
        lo += n;
    }
}

/* n results to their places, at position first. */
static void put(const reducing *r, int64_t first, void *acc, int64_t n) {
    if (r->divisor != 1) {
        if (r->class == CLASS_F32) for (int64_t i = 0; i < n; i++) ((float *)acc)[i] /= (float)r->divisor;
        else for (int64_t i = 0; i < n; i++) ((double *)acc)[i] /= r->divisor;
    }
    aj_store(r->class, r->out)(r->y + first * dtype_bytes[r->out], 1, acc, n);
}

/* Short dense runs, evenly apart: many a call, as the way to one run costs more than its elements. */
static void results_by_short_runs(void *arg, int64_t lo, int64_t hi) {
    const reducing *r = arg;
    double chunk[CHUNK];
    int64_t step = r->kept.ndim ? r->kept.stride[0] : 0;
    for (int64_t o = lo, n; o < hi; o += n) {
        n = hi - o < CHUNK ? hi - o : CHUNK;
        r->f->runs(chunk, r->x + o * step * dtype_bytes[r->in], step, r->over.count, n);
        put(r, o, chunk, n);
    }
}

static void results_by_runs(void *arg, int64_t lo, int64_t hi) {
    const reducing *r = arg;
    for (int64_t o = lo; o < hi; o++) {
        const char *x = r->x + offset_of(&r->kept, o, 0) * dtype_bytes[r->in];
        double acc = 0, part;
        r->f->start(&acc, 1);
        for (int64_t i = 0; i < r->over.count; i += PART) {
            r->f->start(&part, 1);
            fold(r, &part, x, i, i + PART < r->over.count ? i + PART : r->over.count);
            r->f->add(&acc, &part, 1);
        }
        put(r, o, &acc, 1);
    }
}

static void parts_of_one(void *arg, int64_t lo, int64_t hi) {
    const reducing *r = arg;
    for (int64_t p = lo; p < hi; p++) {
        double part;
        r->f->start(&part, 1);
        fold(r, &part, r->x, p * PART, (p + 1) * PART < r->over.count ? (p + 1) * PART : r->over.count);
        memcpy(r->part + p * 8, &part, 8);
    }
}

/* Chunks of results that lie side by side; every FEW runs the sum so far moves to a second one, which keeps it exact. */
static void results_side_by_side(void *arg, int64_t lo, int64_t hi) {
    enum { FEW = 64 };
    const reducing *r = arg;
    int64_t chunks = (r->wide + CHUNK - 1) / CHUNK;
    double acc[CHUNK], part[CHUNK], chunk[CHUNK];
    bool direct = r->in == dtype_of_class[r->class];
    for (int64_t c = lo; c < hi; c++) {
        int64_t row = c / chunks, first = c % chunks * CHUNK, n = r->wide - first < CHUNK ? r->wide - first : CHUNK;
        const char *x = r->x + (offset_of(&r->kept, row, 1) + first) * dtype_bytes[r->in];
        r->f->start(acc, n);
        for (int64_t i = 0; i < r->over.count; i += FEW) {
            r->f->start(part, n);
            int64_t j = i, few = r->over.count - i < FEW ? r->over.count - i : FEW;
            if (direct && r->over.ndim == 1)
                for (; j + ROWS <= i + few; j += ROWS) r->f->rows(part, x + j * r->over.stride[0] * dtype_bytes[r->in], r->over.stride[0], n);
            for (; j < i + few; j++) {
                const char *p = x + offset_of(&r->over, j, 0) * dtype_bytes[r->in];
                if (!direct) aj_load(r->class, r->in)(chunk, p, 1, n);
                r->f->add(part, direct ? p : (const char *)chunk, n);
            }
            r->f->add(acc, part, n);
        }
        put(r, row * r->wide + first, acc, n);
    }
}

static bool reduce(const aj_call *c, const loops f[3], bool mean) {
    const aj_tensor *x = c->in[0];
    aj_tensor *y = c->out[0];
    reducing r = {.in = x->dtype, .out = y->dtype, .x = x->data, .y = y->data};
    r.class = class_of_dtype(x->dtype);
    r.f = &f[r.class];
    r.kept.count = r.over.count = 1;
    bool over[AJ_MAX_DIM];
    if (!aj_dims_of(c, &c->attrs->list, x->ndim, over)) return false;
    for (int d = x->ndim - 1; d >= 0; d--) put_dim(over[d] ? &r.over : &r.kept, x->shape[d], x->stride[d]);
    if (y->numel == 0) return true;
    r.divisor = mean ? (double)r.over.count : 1;
    bool beside = r.kept.ndim && r.kept.stride[0] == 1 && r.kept.shape[0] > 1 && !(r.over.ndim && r.over.stride[0] == 1);
    if (r.over.ndim && (!beside || r.kept.shape[0] < 4)) {       /* runs want the densest reduced dimension first */
        int best = 0;
        for (int i = 1; i < r.over.ndim; i++) if (r.over.stride[i] < r.over.stride[best] && r.over.stride[i] > 0) best = i;
        int64_t s = r.over.shape[0], t = r.over.stride[0];
        r.over.shape[0] = r.over.shape[best]; r.over.stride[0] = r.over.stride[best];
        r.over.shape[best] = s; r.over.stride[best] = t;
    }
    int64_t work = r.over.count ? r.over.count : 1;
    if (beside && r.kept.shape[0] >= 4) {
        r.wide = r.kept.shape[0];
        int64_t chunks = (r.wide + CHUNK - 1) / CHUNK * (r.kept.count / r.wide);
        aj_parallel(chunks, 1 + (1 << 17) / (work * CHUNK), results_side_by_side, &r);
        return true;
    }
    if (y->numel == 1 && r.over.count >= 4 * PART) {
        int64_t parts = (r.over.count + PART - 1) / PART;
        r.part = aj_scratch(parts * 8);
        if (!r.part) return false;
        aj_parallel(parts, 4, parts_of_one, &r);
        double acc = 0;
        r.f->start(&acc, 1);
        for (int64_t p = 0; p < parts; p++) r.f->add(&acc, r.part + p * 8, 1);
        put(&r, 0, &acc, 1);
        aj_scratch_free(r.part);
        return true;
    }
    bool direct = r.in == dtype_of_class[r.class] && r.over.ndim <= 1 && r.kept.ndim <= 1 && (!r.over.ndim || r.over.stride[0] == 1);
    aj_parallel(y->numel, 1 + (1 << 17) / work, direct && r.over.count <= LONG ? results_by_short_runs : results_by_runs, &r);
    return true;
}

#define LOOPS(name, t) {name##_run_##t, name##_runs_##t, name##_add_##t, name##_rows_##t, name##_start_##t}
#define REDUCE(name, ...) \
    bool KERNEL(name)(const aj_call *c) { static const loops f[3] = {LOOPS(name, f32), LOOPS(name, f64), LOOPS(name, i64)}; return reduce(c, f, false); }
#include "../ops.def"

bool KERNEL(mean)(const aj_call *c) {
    static const loops f[3] = {LOOPS(sum, f32), LOOPS(sum, f64), LOOPS(sum, i64)};
    return reduce(c, f, true);
}
