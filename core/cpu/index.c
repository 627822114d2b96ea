/* index.c - elements that an index tensor names: read (gather, index_select), written (scatter, index_copy) or added to.
 *
 * All are one exchange between a big tensor, entered along dim at the index, and a small one of the index's shape. Of
 * the positions besides dim and the steps along it, the one that is nearer in memory is the inner loop. Writes are
 * split between threads only over positions, so that equal indices are met in their order.
 */
#include "cpu.h"
#include <math.h>
#include <string.h>

typedef struct exchange exchange;
typedef void run_fn(const exchange *e, char *big, int64_t sb, const int64_t *ix, int64_t si, char *small, int64_t ss, int64_t n);
struct exchange {
    aj_iter it;                 /* positions besides dim: big, index, small */
    int64_t n;                  /* steps along dim */
    int64_t s_index, s_small;   /* their strides along dim; big's is sd */
    char *big, *small;
    const int64_t *index;
    int64_t size, sd;           /* of big along dim */
    int64_t base;
    int bytes;
    double alpha;
    bool along, over_steps;     /* inner loop along dim; steps, not positions, go to threads */
    run_fn *run;
};

/* -- Index values ------------------------------------------------------------------------------------------------- */

typedef struct { aj_iter it; const int64_t *index; int64_t low, high, size; bool wrap; int64_t bad; } checking;
static inline bool in_range(const checking *m, int64_t v) { return (v >= m->low && v < m->high) || (m->wrap && v < 0 && v >= -m->size); }
static void check_range(void *arg, int64_t lo, int64_t hi) {
    checking *m = arg;
    while (lo < hi) {
        int64_t at[AJ_MAX_OPERANDS], n = m->it.shape[0] - lo % m->it.shape[0], s = m->it.stride[0][0];
        if (n > hi - lo) n = hi - lo;
        aj_iter_at(&m->it, lo, at);
        const int64_t *p = m->index + at[0];
        uint64_t width = (uint64_t)(m->high - m->low), off = 0;
        for (int64_t i = 0; i < n; i++) off |= (uint64_t)((uint64_t)(p[i * s] - m->low) >= width);
        if (off)
            for (int64_t i = 0; i < n; i++) {
                if (in_range(m, p[i * s])) continue;
                int64_t old = __atomic_load_n(&m->bad, __ATOMIC_RELAXED);
                while (lo + i < old && !__atomic_compare_exchange_n(&m->bad, &old, lo + i, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
                return;
            }
        lo += n;
    }
}
bool KERNEL(check_index)(const aj_call *c, const aj_tensor *index, int64_t size, int dim, bool wrap) {
    int64_t base = c->attrs->base;
    checking m = {.index = (const int64_t *)(const void *)index->data, .low = base, .high = base + size, .size = size, .wrap = wrap, .bad = INT64_MAX};
    aj_iter_init(&m.it, &index, 1);
    aj_parallel(m.it.count, 1 << 16, check_range, &m);
    if (m.bad == INT64_MAX) return true;
    int64_t at[AJ_MAX_OPERANDS];
    aj_iter_at(&m.it, m.bad, at);
    if (!size) return aj_refuse(c, "index %lld at place %lld: dimension %d has no elements", (long long)m.index[at[0]], (long long)m.bad + 1, dim + 1);
    return aj_refuse(c, "index %lld at place %lld is out of range: dimension %d has size %lld, so indices go from %lld to %lld%s",
                     (long long)m.index[at[0]], (long long)m.bad + 1, dim + 1, (long long)size, (long long)base, (long long)(base + size - 1), wrap ? ", or from -1 down at its end" : "");
}

/* -- Inner loops --------------------------------------------------------------------------------------------------------- */

static ALWAYS_INLINE int64_t place(const exchange *e, int64_t v) { return (v < 0 ? v + e->size : v - e->base) * e->sd; }

#define TYPED(type, bits) \
    static void get_##bits(const exchange *e, char *big, int64_t sb, const int64_t *ix, int64_t si, char *small, int64_t ss, int64_t n) { \
        type *restrict y = (type *)(void *)small; \
        const type *restrict x = (const type *)(const void *)big; \
        if (si == 0) { \
            x += place(e, *ix); \
            if (sb == 1 && ss == 1) memcpy(y, x, (size_t)n * sizeof *y); \
            else for (int64_t i = 0; i < n; i++) y[i * ss] = x[i * sb]; \
        } else for (int64_t i = 0; i < n; i++) y[i * ss] = x[i * sb + place(e, ix[i * si])]; \
    } \
    static void put_##bits(const exchange *e, char *big, int64_t sb, const int64_t *ix, int64_t si, char *small, int64_t ss, int64_t n) { \
        const type *restrict y = (const type *)(const void *)small; \
        type *restrict x = (type *)(void *)big; \
        if (si == 0) { \
            x += place(e, *ix); \
            if (sb == 1 && ss == 1) memcpy(x, y, (size_t)n * sizeof *y); \
            else for (int64_t i = 0; i < n; i++) x[i * sb] = y[i * ss]; \
        } else for (int64_t i = 0; i < n; i++) x[i * sb + place(e, ix[i * si])] = y[i * ss]; \
    }
TYPED(uint8_t, 8)
TYPED(uint16_t, 16)
TYPED(uint32_t, 32)
TYPED(uint64_t, 64)
#define ADDING(real, class) \
    static void add_##class(const exchange *e, char *big, int64_t sb, const int64_t *ix, int64_t si, char *small, int64_t ss, int64_t n) { \
        const real *restrict y = (const real *)(const void *)small; \
        real *restrict x = (real *)(void *)big; \
        const real alpha = (real)e->alpha; \
        if (si == 0) { \
            x += place(e, *ix); \
            if (sb == 1 && ss == 1) for (int64_t i = 0; i < n; i++) x[i] += alpha * y[i]; \
            else for (int64_t i = 0; i < n; i++) x[i * sb] += alpha * y[i * ss]; \
        } else for (int64_t i = 0; i < n; i++) x[i * sb + place(e, ix[i * si])] += alpha * y[i * ss]; \
    }
ADDING(float, f32)
ADDING(double, f64)
ADDING(int64_t, i64)
#define FOLDING(name, real, class, step) \
    static void name##_##class(const exchange *e, char *big, int64_t sb, const int64_t *ix, int64_t si, char *small, int64_t ss, int64_t n) { \
        const real *b = (const real *)(const void *)small; \
        real *x = (real *)(void *)big; \
        for (int64_t i = 0; i < n; i++) { real *p = x + i * sb + place(e, ix[i * si]), a = *p, v = b[i * ss]; *p = step; } \
    }
/* start: 1, the least or the most there can be, as alpha says. */
#define FOLDS(real, class, least, most) \
    FOLDING(multiply, real, class, a * v) \
    FOLDING(largest, real, class, a != a || a > v ? a : v) \
    FOLDING(smallest, real, class, a != a || a < v ? a : v) \
    FOLDING(start, real, class, ((void)a, (void)v, e->alpha == 1 ? 1 : e->alpha < 0 ? least : most))
FOLDS(float, f32, -INFINITY, INFINITY)
FOLDS(double, f64, (double)-INFINITY, (double)INFINITY)
FOLDS(int64_t, i64, INT64_MIN, INT64_MAX)

static run_fn *get_of(int bytes) { return bytes == 1 ? get_8 : bytes == 2 ? get_16 : bytes == 4 ? get_32 : get_64; }
static run_fn *put_of(int bytes) { return bytes == 1 ? put_8 : bytes == 2 ? put_16 : bytes == 4 ? put_32 : put_64; }

/* -- Outer loops --------------------------------------------------------------------------------------------------------- */

static void walk(const exchange *e, int64_t lo, int64_t hi, int64_t first, int64_t last) {
    const aj_iter *it = &e->it;
    int64_t at[AJ_MAX_OPERANDS];
    if (e->along) {
        for (int64_t p = lo; p < hi; p++) {
            aj_iter_at(it, p, at);
            e->run(e, e->big + at[0] * e->bytes, 0, e->index + at[1] + first * e->s_index, e->s_index,
                   e->small + (at[2] + first * e->s_small) * e->bytes, e->s_small, last - first);
        }
        return;
    }
    while (lo < hi) {
        int64_t n = it->shape[0] - lo % it->shape[0];
        if (n > hi - lo) n = hi - lo;
        aj_iter_at(it, lo, at);
        char *big = e->big + at[0] * e->bytes, *small = e->small + at[2] * e->bytes;
        for (int64_t i = first; i < last; i++)
            e->run(e, big, it->stride[0][0], e->index + at[1] + i * e->s_index, it->stride[1][0],
                   small + i * e->s_small * e->bytes, it->stride[2][0], n);
        lo += n;
    }
}
static void positions(void *arg, int64_t lo, int64_t hi) { const exchange *e = arg; walk(e, lo, hi, 0, e->n); }
static void steps(void *arg, int64_t lo, int64_t hi) { const exchange *e = arg; walk(e, 0, e->it.count, lo, hi); }

/* t's strides over the shape of like, without dim. */
static aj_tensor beside(const aj_tensor *t, const aj_tensor *like, int dim) {
    aj_tensor v = *t;
    v.ndim = like->ndim;
    for (int d = 0; d < like->ndim; d++) v.shape[d] = d == dim ? 1 : like->shape[d];
    v.contiguous = false;
    return v;
}

/* index may be flat, one value for each slice: then it has stride 0 along every other dimension. */
static void exchange_run(const aj_call *c, const aj_tensor *big, const aj_tensor *index, const aj_tensor *small, bool flat, run_fn *run, bool writes, double alpha) {
    int dim = c->attrs->dim;
    aj_tensor x = *big, y = *small, i = *index;
    if (!x.ndim) { x.ndim = 1; x.shape[0] = 1; x.stride[0] = 0; }
    if (!y.ndim) { y.ndim = 1; y.shape[0] = 1; y.stride[0] = 0; }
    if (!i.ndim) { i.ndim = 1; i.shape[0] = 1; i.stride[0] = 0; }
    if (flat) {
        int64_t step = i.ndim == 1 ? i.stride[0] : 1, n = i.numel;
        i.ndim = x.ndim;
        for (int d = 0; d < x.ndim; d++) { i.shape[d] = d == dim ? n : x.shape[d]; i.stride[d] = d == dim ? step : 0; }
    }
    exchange e = {.n = i.shape[dim], .s_index = i.stride[dim], .s_small = y.stride[dim], .big = big->data, .small = small->data,
                  .index = (const int64_t *)(const void *)index->data, .size = x.shape[dim], .sd = x.stride[dim], .base = c->attrs->base,
                  .bytes = dtype_bytes[big->dtype], .alpha = alpha, .run = run};
    aj_tensor b = beside(&x, &i, dim), s = beside(&y, &i, dim), at = beside(&i, &i, dim);
    const aj_tensor *operands[] = {&b, &at, &s};
    aj_iter_init(&e.it, operands, 3);
    if (e.n == 0 || e.it.count == 0) return;
    e.along = e.it.shape[0] == 1 || (e.n >= 16 && e.s_small < e.it.stride[2][0]);
    e.over_steps = !writes && (e.along ? e.it.count < 64 : e.n >= 64);
    int64_t grain = 1 << 15;
    if (e.over_steps) aj_parallel(e.n, 1 + grain / e.it.count, steps, &e);
    else aj_parallel(e.it.count, 1 + grain / e.n, positions, &e);
}

/* Sums and their like are kept in a class; a tensor of another dtype becomes one of it and back. start (or NULL) goes first. */
static bool class_run(const aj_call *c, aj_tensor *big, const aj_tensor *index, aj_tensor *small, bool flat, double alpha, run_fn *const start[3], run_fn *const f[3]) {
    int class = class_of_dtype(big->dtype);
    if (big->dtype == dtype_of_class[class]) {
        if (start) exchange_run(c, big, index, small, flat, start[class], true, alpha);
        exchange_run(c, big, index, small, flat, f[class], true, alpha);
        return true;
    }
    aj_tensor *b = aj_new((aj_dtype)dtype_of_class[class], big->ndim, big->shape, AJ_CPU);
    aj_tensor *s = b ? aj_new((aj_dtype)dtype_of_class[class], small->ndim, small->shape, AJ_CPU) : NULL;
    bool ok = s && KERNEL(copy_into)(b, big) && KERNEL(copy_into)(s, small);
    if (ok && start) exchange_run(c, b, index, s, flat, start[class], true, alpha);
    if (ok) exchange_run(c, b, index, s, flat, f[class], true, alpha);
    ok = ok && KERNEL(copy_into)(big, b);
    aj_drop(b);
    aj_drop(s);
    return ok;
}
static bool add_run(const aj_call *c, aj_tensor *big, const aj_tensor *index, aj_tensor *small, bool flat, double alpha) {
    static run_fn *const add[3] = {add_f32, add_f64, add_i64};
    return class_run(c, big, index, small, flat, alpha, NULL, add);
}

/* -- The rows ----------------------------------------------------------------------------------------------------------------- */

static int64_t size_along(const aj_tensor *t, int dim) { return t->ndim ? t->shape[dim] : 1; }

bool KERNEL(gather)(const aj_call *c) {
    const aj_tensor *x = c->in[0], *i = c->in[1];
    if (!KERNEL(check_index)(c, i, size_along(x, c->attrs->dim), c->attrs->dim, false)) return false;
    exchange_run(c, x, i, c->out[0], false, get_of(dtype_bytes[x->dtype]), false, 1);
    return true;
}
bool KERNEL(scatter_)(const aj_call *c) {
    aj_tensor *x = c->in[0], *i = c->in[1], *s = c->in[2];
    if (!KERNEL(check_index)(c, i, size_along(x, c->attrs->dim), c->attrs->dim, false)) return false;
    exchange_run(c, x, i, s, false, put_of(dtype_bytes[x->dtype]), true, 1);
    return true;
}
bool KERNEL(scatter_add_)(const aj_call *c) {
    aj_tensor *x = c->in[0], *i = c->in[1], *s = c->in[2];
    return KERNEL(check_index)(c, i, size_along(x, c->attrs->dim), c->attrs->dim, false) && add_run(c, x, i, s, false, 1);
}

bool KERNEL(scatter_fold)(const aj_call *c) {
    static run_fn *const start[3] = {start_f32, start_f64, start_i64};
    static run_fn *const fold[3][3] = {{multiply_f32, multiply_f64, multiply_i64}, {largest_f32, largest_f64, largest_i64}, {smallest_f32, smallest_f64, smallest_i64}};
    static const double from[3] = {1, -2, 2};            /* 1, less than all, more than all */
    aj_tensor *x = c->in[0], *i = c->in[1], *s = c->in[2], *y = c->out[0];
    int how = c->attrs->mode;
    return KERNEL(check_index)(c, i, size_along(x, c->attrs->dim), c->attrs->dim, false) && KERNEL(copy_into)(y, x)
        && class_run(c, y, i, s, false, from[how], c->attrs->flag ? NULL : start, fold[how]);
}

/* y seen with the one dimension that a many-dimensional index made several. */
static bool select_slices(const aj_call *c, bool wrap) {
    const aj_tensor *x = c->in[0], *i = c->in[1];
    int dim = c->attrs->dim;
    if (!KERNEL(check_index)(c, i, size_along(x, dim), dim, wrap)) return false;
    aj_tensor y = *c->out[0];
    y.ndim = x->ndim;
    int64_t step = 1;
    for (int d = x->ndim - 1; d >= 0; d--) { y.shape[d] = d == dim ? i->numel : x->shape[d]; y.stride[d] = step; step *= y.shape[d]; }
    exchange_run(c, x, i, &y, true, get_of(dtype_bytes[x->dtype]), false, 1);
    return true;
}
bool KERNEL(index_select)(const aj_call *c) { return select_slices(c, true); }
bool KERNEL(embedding)(const aj_call *c) { return select_slices(c, false); }

bool KERNEL(index_copy_)(const aj_call *c) {
    aj_tensor *x = c->in[0], *i = c->in[1], *s = c->in[2];
    if (!KERNEL(check_index)(c, i, size_along(x, c->attrs->dim), c->attrs->dim, true)) return false;
    exchange_run(c, x, i, s, true, put_of(dtype_bytes[x->dtype]), true, 1);
    return true;
}
bool KERNEL(index_add_)(const aj_call *c) {
    aj_tensor *x = c->in[0], *i = c->in[1], *s = c->in[2];
    return KERNEL(check_index)(c, i, size_along(x, c->attrs->dim), c->attrs->dim, true) && add_run(c, x, i, s, true, c->attrs->s);
}
bool KERNEL(index_put_)(const aj_call *c) {
    aj_tensor *x = c->in[0], *i = c->in[1], *s = c->in[2];
    return c->attrs->flag ? KERNEL(check_index)(c, i, x->shape[0], 0, true) && add_run(c, x, i, s, true, 1) : KERNEL(index_copy_)(c);
}
bool KERNEL(index_fill_)(const aj_call *c) {
    aj_tensor *x = c->in[0], *i = c->in[1];
    int dim = c->attrs->dim;
    if (!KERNEL(check_index)(c, i, size_along(x, dim), dim, true)) return false;
    double v = c->attrs->s, value[1];
    int64_t whole = (int64_t)v;
    if (aj_is_float(x->dtype)) aj_store(CLASS_F64, x->dtype)(value, 1, &v, 1);
    else aj_store(CLASS_I64, x->dtype)(value, 1, &whole, 1);
    aj_tensor one = *x;                                  /* the value, in every place */
    one.data = (char *)value;
    for (int d = 0; d < x->ndim; d++) one.stride[d] = 0;
    exchange_run(c, x, i, &one, true, put_of(dtype_bytes[x->dtype]), true, 1);
    return true;
}

/* The elements as one row; those of a strided tensor in a copy that goes back. */
bool KERNEL(put_)(const aj_call *c) {
    aj_tensor *x = c->in[0], *row = x, *i = c->in[1], *s = c->in[2];
    if (!KERNEL(check_index)(c, i, x->numel, 0, true)) return false;
    if (!x->contiguous && !(row = aj_new((aj_dtype)x->dtype, x->ndim, x->shape, AJ_CPU))) return false;
    bool ok = row == x || KERNEL(copy_into)(row, x);
    aj_tensor flat = *row;
    flat.ndim = 1;
    flat.shape[0] = x->numel;
    flat.stride[0] = 1;
    if (ok && c->attrs->flag) ok = add_run(c, &flat, i, s, true, 1);
    else if (ok) exchange_run(c, &flat, i, s, true, put_of(dtype_bytes[x->dtype]), true, 1);
    if (row != x) { ok = ok && KERNEL(copy_into)(x, row); aj_drop(row); }
    return ok;
}

/* -- Several index tensors as positions in one row ------------------------------------------------------------------------------ */

bool KERNEL(ravel_index)(const aj_call *c) {
    aj_tensor *y = c->out[0];
    int64_t *p = (int64_t *)(void *)y->data, base = c->attrs->base;
    for (int k = 0; k < c->n_in; k++) {
        int64_t size = c->attrs->list.v[k];
        if (y->numel && !KERNEL(check_index)(c, c->in[k], size, k, true)) return false;
        const aj_tensor *operands[] = {y, c->in[k]};
        aj_iter it;
        aj_iter_init(&it, operands, 2);
        const int64_t *x = (const int64_t *)(const void *)c->in[k]->data;
        for (int64_t lo = 0, n; lo < it.count; lo += n) {
            int64_t at[AJ_MAX_OPERANDS], s = it.stride[1][0];
            n = it.shape[0];
            aj_iter_at(&it, lo, at);
            for (int64_t i = 0; i < n; i++) {
                int64_t v = x[at[1] + i * s];
                p[lo + i] = (k ? p[lo + i] * size : 0) + (v < 0 ? v + size : v - base);
            }
        }
    }
    return true;
}
