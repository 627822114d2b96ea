/* random.c - tensors filled with random numbers, and choices by weights.
 *
 * Dense elements of the type computed in are filled where they lie; others through a chunk.
 */
#include "cpu.h"
#include "vmath.h"
#include "../philox.h"
#include <pthread.h>
#include <stdlib.h>

typedef struct { aj_iter it; aj_tensor *x; int class, bytes; const aj_attrs *a; void (*fill)(const aj_attrs *a, int class, int dtype, void *to, int64_t n, uint64_t at); } drawing;

static void draw_range(void *arg, int64_t lo, int64_t hi) {
    const drawing *m = arg;
    const aj_iter *it = &m->it;
    double chunk[CHUNK];
    bool direct = m->x->dtype == dtype_of_class[m->class];
    while (lo < hi) {
        int64_t at[AJ_MAX_OPERANDS], n = it->shape[0] - lo % it->shape[0], s = it->stride[0][0];
        if (n > hi - lo) n = hi - lo;
        aj_iter_at(it, lo, at);
        char *x = m->x->data + at[0] * m->bytes;
        if (direct && s == 1) m->fill(m->a, m->class, m->x->dtype, x, n, m->a->position + (uint64_t)lo);
        else for (int64_t i = 0; i < n; i += CHUNK) {
            int64_t k = n - i < CHUNK ? n - i : CHUNK;
            m->fill(m->a, m->class, m->x->dtype, chunk, k, m->a->position + (uint64_t)(lo + i));
            aj_store(m->class, m->x->dtype)(x + i * s * m->bytes, s, chunk, k);
        }
        lo += n;
    }
}
static bool draw(const aj_call *c, int class, void (*fill)(const aj_attrs *, int, int, void *, int64_t, uint64_t)) {
    aj_tensor *x = c->in[0];
    drawing m = {.x = x, .class = class, .bytes = dtype_bytes[x->dtype], .a = c->attrs, .fill = fill};
    const aj_tensor *operands[] = {x};
    aj_iter_init(&m.it, operands, 1);
    aj_parallel(m.it.count, 1 << 15, draw_range, &m);
    return true;
}

/* -- Fills ------------------------------------------------------------------------------------------------------ */

/* The largest number below 1 that rounds to no more in the dtype that will hold it. */
static float below_one(int dtype) { return dtype == AJ_BF16 ? 1 - 0x1p-8f : dtype == AJ_F16 ? 1 - 0x1p-11f : 1; }

static void fill_uniform(const aj_attrs *a, int class, int dtype, void *to, int64_t n, uint64_t at) {
    if (class == CLASS_F64) {
        double *y = to, from = a->s, width = a->t - a->s;
        philox_fill_uniform_f64(y, n, a->seed, at);
        if (from != 0 || width != 1) for (int64_t i = 0; i < n; i++) y[i] = from + width * y[i];
        return;
    }
    float *y = to, from = (float)a->s, width = (float)(a->t - a->s), most = below_one(dtype);
    philox_fill_uniform_f32(y, n, a->seed, at);
    if (most < 1) for (int64_t i = 0; i < n; i++) y[i] = y[i] > most ? most : y[i];
    if (from != 0 || width != 1) for (int64_t i = 0; i < n; i++) y[i] = from + width * y[i];
}
static void fill_normal(const aj_attrs *a, int class, int dtype, void *to, int64_t n, uint64_t at) {
    (void)dtype;
    if (class == CLASS_F64) {
        double *y = to, mean = a->s, std = a->t;
        philox_fill_normal_f64(y, n, a->seed, at);
        if (mean != 0 || std != 1) for (int64_t i = 0; i < n; i++) y[i] = mean + std * y[i];
        return;
    }
    float *y = to, mean = (float)a->s, std = (float)a->t;
    philox_fill_normal_f32(y, n, a->seed, at);
    if (mean != 0 || std != 1) for (int64_t i = 0; i < n; i++) y[i] = mean + std * y[i];
}
/* -log(u) / lambda with u strictly between 0 and 1. Whole blocks, so that each logarithm is the vector one. */
static void fill_exponential(const aj_attrs *a, int class, int dtype, void *to, int64_t n, uint64_t at) {
    enum { BLOCK = 64 };
    (void)dtype;
    if (class == CLASS_F64) {
        double *y = to, v[BLOCK], scale = -1 / a->s;
        for (int64_t i = 0; i < n; i += BLOCK) {
            philox_fill_uniform_f64(v, BLOCK, a->seed, at + (uint64_t)i);
            for (int j = 0; j < BLOCK; j++) v[j] = scale * log(v[j] + 0x1p-54);
            for (int64_t j = 0; j < BLOCK && i + j < n; j++) y[i + j] = v[j];
        }
        return;
    }
    float *y = to, v[BLOCK], scale = (float)(-1 / a->s);
    uint32_t w[BLOCK];
    for (int64_t i = 0; i < n; i += BLOCK) {
        philox_fill_words(w, BLOCK, a->seed, at + (uint64_t)i);
        for (int j = 0; j < BLOCK; j++) v[j] = scale * logf(((float)(int32_t)(w[j] >> 9) + 0.5f) * 0x1p-23f);
        for (int64_t j = 0; j < BLOCK && i + j < n; j++) y[i + j] = v[j];
    }
}
static void fill_bernoulli(const aj_attrs *a, int class, int dtype, void *to, int64_t n, uint64_t at) {
    uint64_t below = (uint64_t)(a->s * 0x1p32);
    uint32_t w[CHUNK];
    (void)dtype;
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t k = n - i < CHUNK ? n - i : CHUNK;
        philox_fill_words(w, k, a->seed, at + (uint64_t)i);
        if (class == CLASS_F32) for (int64_t j = 0; j < k; j++) ((float *)to)[i + j] = w[j] < below;
        else if (class == CLASS_F64) for (int64_t j = 0; j < k; j++) ((double *)to)[i + j] = w[j] < below;
        else for (int64_t j = 0; j < k; j++) ((int64_t *)to)[i + j] = w[j] < below;
    }
}
/* The upper half of a 64-bit number times the count of values: uniform to within count / 2^64. */
static void fill_whole(const aj_attrs *a, int class, int dtype, void *to, int64_t n, uint64_t at) {
    int64_t *y = to, from = a->i;
    uint64_t count = (uint64_t)a->j - (uint64_t)a->i;
    (void)class; (void)dtype;
    uint64_t w[CHUNK];
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t k = n - i < CHUNK ? n - i : CHUNK;
        philox_fill_longs(w, k, a->seed, at + (uint64_t)i);
        for (int64_t j = 0; j < k; j++) y[i + j] = (int64_t)((uint64_t)from + (uint64_t)((unsigned __int128)w[j] * count >> 64));
    }
}

bool KERNEL(uniform_)(const aj_call *c) { return draw(c, class_of_dtype(c->in[0]->dtype), fill_uniform); }
bool KERNEL(normal_)(const aj_call *c) { return draw(c, class_of_dtype(c->in[0]->dtype), fill_normal); }
bool KERNEL(exponential_)(const aj_call *c) { return draw(c, class_of_dtype(c->in[0]->dtype), fill_exponential); }
bool KERNEL(bernoulli_)(const aj_call *c) { return draw(c, class_of_dtype(c->in[0]->dtype), fill_bernoulli); }
bool KERNEL(random_)(const aj_call *c) { return draw(c, CLASS_I64, fill_whole); }

/* -- Choices by weights --------------------------------------------------------------------------------------------- */

typedef struct { const double *x; int64_t *y; int64_t classes, n; const aj_attrs *a; int64_t bad; int reason; bool memory; } choosing;
enum { FINE, NEGATIVE, NOTHING, FEW };

/* Without replacement: the n smallest -log(u) / weight (Efraimidis and Spirakis, 2006). */
typedef struct { double key; int64_t i; } candidate;
static int by_key(const void *a, const void *b) {
    const candidate *p = a, *q = b;
    return p->key != q->key ? (p->key > q->key) - (p->key < q->key) : (p->i > q->i) - (p->i < q->i);
}
static void keep_first(const double *w, int64_t classes, int64_t n, const aj_attrs *a, uint64_t at, candidate *p, int64_t *y) {
    enum { SOME = 64, BLOCK = 64 };
    int64_t m = 0;
    double u[BLOCK];
    for (int64_t i = 0; i < classes; i++) {
        if (i % BLOCK == 0) {
            philox_fill_uniform_f64(u, BLOCK, a->seed, at + (uint64_t)i);
            for (int j = 0; j < BLOCK; j++) u[j] = -log(u[j] + 0x1p-54);
        }
        if (w[i] == 0) continue;
        candidate v = {u[i % BLOCK] / w[i], i};
        if (n > SOME) { p[m++] = v; continue; }
        if (m == n && !(v.key < p[n - 1].key)) continue;
        int64_t j = m < n ? m++ : n - 1;
        for (; j > 0 && p[j - 1].key > v.key; j--) p[j] = p[j - 1];
        p[j] = v;
    }
    if (n > SOME) qsort(p, (size_t)m, sizeof *p, by_key);
    for (int64_t i = 0; i < n; i++) y[i] = p[i].i + a->base;
}
static void choose_rows(void *arg, int64_t lo, int64_t hi) {
    choosing *m = arg;
    int64_t C = m->classes, n = m->n;
    double *room = aj_scratch(C * (int64_t)sizeof(candidate));
    if (!room) { __atomic_store_n(&m->memory, true, __ATOMIC_RELAXED); return; }
    for (int64_t r = lo; r < hi; r++) {
        const double *w = m->x + r * C;
        int64_t *y = m->y + r * n, positive = 0;
        int reason = FINE;
        for (int64_t i = 0; i < C; i++) {
            if (!(w[i] >= 0) || w[i] > 1.7e308) reason = NEGATIVE;
            positive += w[i] > 0;
        }
        if (!reason && !positive) reason = NOTHING;
        if (!reason && !m->a->flag && positive < n) reason = FEW;
        if (reason) {
            static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
            pthread_mutex_lock(&lock);
            if (r < m->bad) { m->bad = r; m->reason = reason; }
            pthread_mutex_unlock(&lock);
            break;
        }
        if (!m->a->flag) { keep_first(w, C, n, m->a, m->a->position + (uint64_t)(r * C), (candidate *)(void *)room, y); continue; }
        double run = 0;
        int64_t last = 0;
        for (int64_t i = 0; i < C; i++) { room[i] = run += w[i]; if (w[i] > 0) last = i; }
        for (int64_t i = 0; i < n; i++) {                /* the first whose running sum is above u */
            double u = philox_uniform_f64(m->a->seed, m->a->position + (uint64_t)(r * n + i)) * run;
            int64_t a = 0, b = last;
            while (a < b) { int64_t half = (a + b) / 2; if (room[half] > u) b = half; else a = half + 1; }
            y[i] = a + m->a->base;
        }
    }
    aj_scratch_free(room);
}
bool KERNEL(multinomial)(const aj_call *c) {
    const aj_tensor *x = c->in[0];
    choosing m = {.x = (const double *)(const void *)x->data, .y = (int64_t *)(void *)c->out[0]->data, .classes = x->shape[x->ndim - 1], .n = c->attrs->i,
                  .a = c->attrs, .bad = INT64_MAX};
    int64_t rows = x->ndim == 2 ? x->shape[0] : 1;
    aj_parallel(rows, 1 + (1 << 13) / m.classes, choose_rows, &m);
    if (m.memory) return aj_error("multinomial: out of memory: no room for a row of %lld weights", (long long)m.classes);
    if (m.reason == NEGATIVE) return aj_refuse(c, "row %lld holds a weight that is negative, infinite or NaN", (long long)m.bad + 1);
    if (m.reason == NOTHING) return aj_refuse(c, "the weights of row %lld are all 0", (long long)m.bad + 1);
    if (m.reason == FEW) return aj_refuse(c, "row %lld has fewer weights above 0 than the %lld samples asked for without replacement", (long long)m.bad + 1, (long long)m.n);
    return true;
}
