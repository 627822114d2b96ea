/* sort.c - sort and topk, row by row, on pairs of an order-preserving key and a position.
 *
 * Descending order inverts the bits of the keys. Sorting by digits from the lowest keeps equal keys in their order, so every sort is stable.
 */
#include "cpu.h"
#include "../key.h"
#include <string.h>

enum { SHORT = 48, LONG = 4096, MOST = 11, COUNTS = 6 << MOST };        /* digits of 8 bits, of MOST in long rows */

#define KEY uint32_t
#define POSITION uint32_t
#define NAME(name) name##_32
#include "sort.inc"
#undef KEY
#undef POSITION
#undef NAME
#define KEY uint64_t
#define POSITION uint64_t
#define NAME(name) name##_64
#include "sort.inc"
#undef KEY
#undef POSITION
#undef NAME

/* -- Keys ------------------------------------------------------------------------------------------------------- */

typedef struct {
    const aj_tensor *x, *values, *indices;
    aj_iter it;                 /* rows: x, values, indices */
    int64_t n, k, s[3];         /* length of a row, how many of it are wanted, strides along dim */
    int64_t base;
    bool descending, wide, all;
    bool failed;
} sorting;

/* The keys of a row that begins at x, through a chunk of its class. */
static void fill_32(const sorting *m, const char *x, pair_32 *to) {
    float chunk[CHUNK];
    int64_t big[CHUNK];
    int dtype = m->x->dtype, size = dtype_bytes[dtype];
    uint32_t turn = m->descending ? UINT32_MAX : 0;
    bool whole = !aj_is_float(dtype);
    for (int64_t i = 0; i < m->n; i += CHUNK) {
        int64_t n = m->n - i < CHUNK ? m->n - i : CHUNK;
        const char *from = x + i * m->s[0] * size;
        if (whole) {
            aj_load(CLASS_I64, dtype)(big, from, m->s[0], n);
            for (int64_t j = 0; j < n; j++) to[i + j] = (pair_32){key_of_i32((int32_t)big[j]) ^ turn, (uint32_t)(i + j)};
        } else {
            aj_load(CLASS_F32, dtype)(chunk, from, m->s[0], n);
            for (int64_t j = 0; j < n; j++) to[i + j] = (pair_32){key_of_f32(chunk[j]) ^ turn, (uint32_t)(i + j)};
        }
    }
}
static void fill_64(const sorting *m, const char *x, pair_64 *to) {
    double chunk[CHUNK];
    int64_t big[CHUNK];
    int dtype = m->x->dtype, size = dtype_bytes[dtype];
    uint64_t turn = m->descending ? UINT64_MAX : 0;
    bool whole = !aj_is_float(dtype);
    for (int64_t i = 0; i < m->n; i += CHUNK) {
        int64_t n = m->n - i < CHUNK ? m->n - i : CHUNK;
        const char *from = x + i * m->s[0] * size;
        if (whole) {
            aj_load(CLASS_I64, dtype)(big, from, m->s[0], n);
            for (int64_t j = 0; j < n; j++) to[i + j] = (pair_64){key_of_i64(big[j]) ^ turn, (uint64_t)(i + j)};
        } else {
            aj_load(CLASS_F64, dtype)(chunk, from, m->s[0], n);
            for (int64_t j = 0; j < n; j++) to[i + j] = (pair_64){key_of_f64(chunk[j]) ^ turn, (uint64_t)(i + j)};
        }
    }
}

/* -- Rows -------------------------------------------------------------------------------------------------------- */

#define TAKE(type) { \
    const type *from = (const type *)(const void *)x; \
    type *y = (type *)(void *)values; \
    for (int64_t i = 0; i < m->k; i++) y[i * m->s[1]] = from[(int64_t)p[i].at * m->s[0]]; } break
#define ROWS(bits) \
    static void rows_##bits(void *arg, int64_t lo, int64_t hi) { \
        sorting *m = arg; \
        int size = dtype_bytes[m->x->dtype]; \
        pair_##bits *pairs = aj_scratch(2 * m->n * (int64_t)sizeof *pairs), *other = pairs ? pairs + m->n : NULL; \
        int64_t *count = pairs && m->n > SHORT ? aj_scratch(COUNTS * 8) : NULL; \
        if (!pairs || (m->n > SHORT && !count)) { __atomic_store_n(&m->failed, true, __ATOMIC_RELAXED); aj_scratch_free(pairs); return; } \
        for (int64_t r = lo; r < hi; r++) { \
            int64_t at[AJ_MAX_OPERANDS]; \
            aj_iter_at(&m->it, r, at); \
            const char *x = m->x->data + at[0] * size; \
            char *values = m->values->data + at[1] * size; \
            int64_t *places = (int64_t *)(void *)m->indices->data + at[2]; \
            fill_##bits(m, x, pairs); \
            const pair_##bits *p = m->all ? sort_##bits(pairs, other, m->n, count) : first_##bits(pairs, m->n, m->k); \
            switch (size) { \
            case 1: TAKE(uint8_t); \
            case 2: TAKE(uint16_t); \
            case 4: TAKE(uint32_t); \
            default: TAKE(uint64_t); \
            } \
            for (int64_t i = 0; i < m->k; i++) places[i * m->s[2]] = (int64_t)p[i].at + m->base; \
        } \
        aj_scratch_free(pairs); \
        aj_scratch_free(count); \
    }
ROWS(32)
ROWS(64)

static bool order(const aj_call *c, bool descending, int64_t k) {
    const aj_tensor *x = c->in[0];
    int dim = c->attrs->dim;
    aj_tensor rows[3] = {*x, *c->out[0], *c->out[1]};
    sorting m = {.x = x, .values = c->out[0], .indices = c->out[1], .n = x->ndim ? x->shape[dim] : 1, .k = k, .base = c->attrs->base, .descending = descending};
    if (!c->out[0]->numel) return true;
    for (int i = 0; i < 3; i++) {
        aj_tensor *t = &rows[i];
        if (!t->ndim) { t->ndim = 1; t->stride[0] = 0; }
        m.s[i] = t->stride[dim];
        t->shape[dim] = 1;
        t->contiguous = false;
    }
    const aj_tensor *operands[] = {&rows[0], &rows[1], &rows[2]};
    aj_iter_init(&m.it, operands, 3);
    m.wide = dtype_bytes[x->dtype] == 8 || m.n > UINT32_MAX;
    m.all = k > m.n / 4 || m.n <= SHORT;
    aj_parallel(m.it.count, 1 + (1 << 13) / m.n, m.wide ? rows_64 : rows_32, &m);
    return !m.failed || aj_error("%s: out of memory: no room to order a row of %lld elements", aj_op_name(c->op), (long long)m.n);
}
bool KERNEL(sort)(const aj_call *c) { return order(c, c->attrs->flag, c->in[0]->ndim ? c->in[0]->shape[c->attrs->dim] : 1); }
bool KERNEL(topk)(const aj_call *c) { return order(c, c->attrs->flag, c->in[0]->ndim ? c->attrs->i : 1); }

/* -- Rows in order -------------------------------------------------------------------------------------------------- */

/* Whether row a comes behind row b; NaN is the largest number. */
#define BEHIND(real, class) \
    static bool behind_##class(const void *x, int64_t a, int64_t b, int64_t m) { \
        const real *p = (const real *)x + a * m, *q = (const real *)x + b * m; \
        for (int64_t j = 0; j < m; j++) { \
            if (p[j] < q[j] || (q[j] != q[j] && p[j] == p[j])) return false; \
            if (p[j] > q[j] || (p[j] != p[j] && q[j] == q[j])) return true; \
        } \
        return false; \
    }
BEHIND(float, f32)
BEHIND(double, f64)
BEHIND(int64_t, i64)

/* Runs of one position are merged to runs of two, four and so on. y gets the order of one matrix; from is as long. */
static void order_matrix(const void *x, int64_t n, int64_t m, bool (*behind)(const void *, int64_t, int64_t, int64_t), int64_t *from, int64_t *y, int64_t base) {
    int64_t *to = y;
    for (int64_t i = 0; i < n; i++) from[i] = i;
    for (int64_t run = 1; run < n; run *= 2) {
        for (int64_t lo = 0; lo < n; lo += 2 * run) {
            int64_t mid = lo + run < n ? lo + run : n, hi = lo + 2 * run < n ? lo + 2 * run : n, a = lo, b = mid;
            for (int64_t i = lo; i < hi; i++) to[i] = a < mid && (b >= hi || !behind(x, from[a], from[b], m)) ? from[a++] : from[b++];
        }
        int64_t *swap = from; from = to; to = swap;
    }
    for (int64_t i = 0; i < n; i++) y[i] = from[i] + base;
}
bool KERNEL(order_rows)(const aj_call *c) {
    static bool (*const each[3])(const void *, int64_t, int64_t, int64_t) = {behind_f32, behind_f64, behind_i64};
    const aj_tensor *t = c->in[0];
    int class = class_of_dtype(t->dtype);
    int64_t n = t->shape[t->ndim - 2], m = t->shape[t->ndim - 1], width = dtype_bytes[dtype_of_class[class]];
    bool direct = t->dtype == dtype_of_class[class];
    if (!c->out[0]->numel) return true;
    char *room = aj_scratch(n * 8 + (direct ? 0 : t->numel * width));
    if (!room) return false;
    const char *x = direct ? t->data : room + n * 8;
    if (!direct) aj_load(class, t->dtype)(room + n * 8, t->data, 1, t->numel);
    int64_t *y = (int64_t *)(void *)c->out[0]->data;
    for (int64_t b = 0; b < c->out[0]->numel / n; b++) order_matrix(x + b * n * m * width, n, m, each[class], (int64_t *)(void *)room, y + b * n, c->attrs->base);
    aj_scratch_free(room);
    return true;
}
