/* convert.c - numbers of every dtype to and from the classes that kernels compute in; copies. */
#include "cpu.h"
#include <string.h>

#define TYPE_BOOL uint8_t
#define TYPE_U8 uint8_t
#define TYPE_I8 int8_t
#define TYPE_I16 int16_t
#define TYPE_I32 int32_t
#define TYPE_I64 int64_t
#define TYPE_F16 uint16_t
#define TYPE_BF16 uint16_t
#define TYPE_F32 float
#define TYPE_F64 double

#define GET(v) (v)
#define GET_BOOL(v) ((v) != 0)
#define GET_F16(v) f32_of_f16(v)
#define GET_BF16(v) f32_of_bf16(v)
#define PUT_BOOL(v) ((v) != 0)
#define PUT_F16(v) f16_of_f32((float)(v))
#define PUT_BF16(v) bf16_of_f32((float)(v))

#define LOAD(real, class, D, get) \
    static void load_##class##_##D(void *to, const void *from, int64_t s, int64_t n) { \
        real *y = to; \
        const TYPE_##D *x = from; \
        if (s == 1) for (int64_t i = 0; i < n; i++) y[i] = (real)get(x[i]); \
        else if (s == 0) { real v = (real)get(*x); for (int64_t i = 0; i < n; i++) y[i] = v; } \
        else for (int64_t i = 0; i < n; i++) y[i] = (real)get(x[i * s]); \
    }
#define STORE(real, class, D, put) \
    static void store_##class##_##D(void *to, int64_t s, const void *from, int64_t n) { \
        TYPE_##D *y = to; \
        const real *x = from; \
        if (s == 1) for (int64_t i = 0; i < n; i++) y[i] = (TYPE_##D)put(x[i]); \
        else for (int64_t i = 0; i < n; i++) y[i * s] = (TYPE_##D)put(x[i]); \
    }
#define BOTH(real, class, D, get, put) LOAD(real, class, D, get) STORE(real, class, D, put)
#define CLASS(real, class) \
    BOTH(real, class, BOOL, GET_BOOL, PUT_BOOL) BOTH(real, class, U8, GET, GET) BOTH(real, class, I8, GET, GET) \
    BOTH(real, class, I16, GET, GET) BOTH(real, class, I32, GET, GET) BOTH(real, class, I64, GET, GET) \
    BOTH(real, class, F16, GET_F16, PUT_F16) BOTH(real, class, BF16, GET_BF16, PUT_BF16) \
    BOTH(real, class, F32, GET, GET) BOTH(real, class, F64, GET, GET)
/* A float too large for a small integer wraps, as its int64 would. */
#define WIDE(v) ((int64_t)(v))
#define CLASS_OF_FLOATS(real, class) \
    BOTH(real, class, BOOL, GET_BOOL, PUT_BOOL) BOTH(real, class, U8, GET, WIDE) BOTH(real, class, I8, GET, WIDE) \
    BOTH(real, class, I16, GET, WIDE) BOTH(real, class, I32, GET, WIDE) BOTH(real, class, I64, GET, WIDE) \
    BOTH(real, class, F16, GET_F16, PUT_F16) BOTH(real, class, BF16, GET_BF16, PUT_BF16) \
    BOTH(real, class, F32, GET, GET) BOTH(real, class, F64, GET, GET)
CLASS_OF_FLOATS(float, f32)
CLASS_OF_FLOATS(double, f64)
CLASS(int64_t, i64)

#define ROW_OF(what, class) {what##_##class##_BOOL, what##_##class##_U8, what##_##class##_I8, what##_##class##_I16, what##_##class##_I32, \
                             what##_##class##_I64, what##_##class##_F16, what##_##class##_BF16, what##_##class##_F32, what##_##class##_F64}
load_fn *const KERNEL(load)[3][AJ_DTYPES] = {ROW_OF(load, f32), ROW_OF(load, f64), ROW_OF(load, i64)};
store_fn *const KERNEL(store)[3][AJ_DTYPES] = {ROW_OF(store, f32), ROW_OF(store, f64), ROW_OF(store, i64)};

/* -- Copies -------------------------------------------------------------------------------------------------- */

typedef struct { aj_iter it; char *y; const char *x; int from, to, class, size, from_size; } copying;

/* Elements of one size, any strides. */
static void move_run(char *y, int64_t sy, const char *x, int64_t sx, int64_t n, int size) {
    if (sy == 1 && sx == 1) { memcpy(y, x, (size_t)(n * size)); return; }
    switch (size) {
#define MOVE(type) { type *a = (type *)(void *)y; const type *b = (const type *)(const void *)x; for (int64_t i = 0; i < n; i++) a[i * sy] = b[i * sx]; } break
    case 1: MOVE(uint8_t);
    case 2: MOVE(uint16_t);
    case 4: MOVE(uint32_t);
    default: MOVE(uint64_t);
    }
}

static void copy_run(const copying *m, char *y, const char *x, int64_t n) {
    int64_t sy = m->it.stride[0][0], sx = m->it.stride[1][0];
    double buffer[CHUNK];
    if (m->from == m->to) { move_run(y, sy, x, sx, n, m->size); return; }
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t k = n - i < CHUNK ? n - i : CHUNK;
        aj_load(m->class, m->from)(buffer, x + i * sx * m->from_size, sx, k);
        aj_store(m->class, m->to)(y + i * sy * m->size, sy, buffer, k);
    }
}

/* Run after run. Short ones that lie apart, as the heads of an attention do, end before the processor has begun to look ahead:
 * those to come are asked for. Heads of 32 x 64 x 3 x 64 in bf16 become dense floats in 0.2 ms in place of 2.3. */
static void copy_range(void *arg, int64_t lo, int64_t hi) {
    enum { AHEAD = 8, LINE = 64, SHORT = 512 };
    const copying *m = arg;
    const aj_iter *it = &m->it;
    while (lo < hi) {
        int64_t at[AJ_MAX_OPERANDS], n = it->shape[0] - lo % it->shape[0], rows = 1;
        if (n > hi - lo) n = hi - lo;
        if (it->ndim > 1 && n == it->shape[0]) {
            rows = it->shape[1] - lo / n % it->shape[1];
            if (rows > (hi - lo) / n) rows = (hi - lo) / n;
        }
        aj_iter_at(it, lo, at);
        char *y = m->y + at[0] * m->size;
        const char *x = m->x + at[1] * m->from_size;
        int64_t pitch = rows > 1 ? it->stride[1][1] * m->from_size : 0, bytes = it->stride[1][0] == 1 ? n * m->from_size : SHORT + 1;
        for (int64_t r = 0; r < rows; r++) {
            if (bytes <= SHORT && r + AHEAD < rows) for (int64_t b = 0; b < bytes; b += LINE) __builtin_prefetch(x + AHEAD * pitch + b);
            copy_run(m, y, x, n);
            if (rows > 1) y += it->stride[0][1] * m->size;
            x += pitch;
        }
        lo += n * rows;
    }
}

/* A transposed source is read in tiles, so that each line of it that comes into the cache is used whole. */
static bool copy_tiles(copying *m) {
    aj_iter *it = &m->it;
    enum { TILE = 32 };
    if (it->ndim < 2 || m->from != m->to || it->stride[0][0] != 1 || it->stride[1][1] != 1 || it->stride[1][0] == 1) return false;
    int64_t rows = it->shape[1], cols = it->shape[0];
    if (rows < 8 || cols < 8) return false;
    for (int64_t p = 0; p < it->count; p += rows * cols) {
        int64_t at[AJ_MAX_OPERANDS];
        aj_iter_at(it, p, at);
        for (int64_t r = 0; r < rows; r += TILE)
            for (int64_t c = 0; c < cols; c += TILE) {
                int64_t re = r + TILE < rows ? r + TILE : rows, ce = c + TILE < cols ? c + TILE : cols;
                for (int64_t i = r; i < re; i++)
                    move_run(m->y + (at[0] + i * it->stride[0][1] + c) * m->size, 1,
                             m->x + (at[1] + i + c * it->stride[1][0]) * m->size, it->stride[1][0], ce - c, m->size);
            }
    }
    return true;
}

bool KERNEL(copy_into)(aj_tensor *y, const aj_tensor *x) {
    copying m = {.y = y->data, .x = x->data, .from = x->dtype, .to = y->dtype, .size = dtype_bytes[y->dtype], .from_size = dtype_bytes[x->dtype]};
    const aj_tensor *operands[] = {y, x};
    aj_iter_init(&m.it, operands, 2);
    /* Integers go as integers; a float on either side otherwise decides. */
    bool f = aj_is_float(m.from), t = aj_is_float(m.to);
    m.class = !f ? CLASS_I64 : m.from == AJ_F64 || !t ? CLASS_F64 : m.to == AJ_F64 ? CLASS_F64 : CLASS_F32;
    if (m.it.count >= 1024 && copy_tiles(&m)) return true;
    aj_parallel(m.it.count, 1 << 17, copy_range, &m);
    return true;
}

bool KERNEL(clone)(const aj_call *c) { return KERNEL(copy_into)(c->out[0], c->in[0]); }
bool KERNEL(cast)(const aj_call *c) { return KERNEL(copy_into)(c->out[0], c->in[0]); }
bool KERNEL(to_device)(const aj_call *c) { return KERNEL(copy_into)(c->out[0], c->in[0]); }
bool KERNEL(copy_)(const aj_call *c) { return KERNEL(copy_into)(c->in[0], c->in[1]); }
bool KERNEL(fill_)(const aj_call *c) {
    double v = c->attrs->s;
    aj_storage s = {.refs = 2, .device = AJ_CPU};
    aj_tensor one = {.storage = &s, .data = (char *)&v, .refs = 1, .dtype = AJ_F64, .device = AJ_CPU, .numel = 1, .contiguous = true};
    aj_tensor *y = c->in[0];
    if (y->contiguous && y->numel > 16 && v == 0 && !__builtin_signbit(v)) { memset(y->data, 0, (size_t)(y->numel * dtype_bytes[y->dtype])); return true; }
    return KERNEL(copy_into)(y, &one);
}

/* -- Windows and choices ---------------------------------------------------------------------------------------- */

/* No two elements of t are one in memory, for certain: each stride passes over all that smaller ones reach. */
static bool all_apart(const aj_tensor *t) {
    int64_t reach = 0;
    bool done[AJ_MAX_DIM] = {0};
    for (int k = 0; k < t->ndim; k++) {
        int least = -1;
        for (int d = 0; d < t->ndim; d++) if (!done[d] && (least < 0 || t->stride[d] < t->stride[least])) least = d;
        done[least] = true;
        if (t->shape[least] <= 1) continue;
        if (t->stride[least] <= reach) return false;
        reach += (t->shape[least] - 1) * t->stride[least];
    }
    return true;
}

bool KERNEL(as_strided_grad)(const aj_call *c) {
    aj_tensor *y = c->out[0], *g = c->in[0];
    int class = class_of_dtype(y->dtype), size = dtype_bytes[y->dtype];
    memset(y->data, 0, (size_t)(y->numel * size));
    aj_tensor window = *g;                               /* the shape of g, over y */
    window.data = y->data + c->attrs->i * size;
    for (int d = 0; d < g->ndim; d++) window.stride[d] = c->attrs->list2.v[d];
    aj_set_contiguous(&window);
    if (all_apart(&window)) return KERNEL(copy_into)(&window, g);
    window.contiguous = false;
    aj_iter it;
    const aj_tensor *operands[] = {&window, g};
    aj_iter_init(&it, operands, 2);
    double a[CHUNK], b[CHUNK];
    for (int64_t lo = 0; lo < it.count; ) {
        int64_t at[AJ_MAX_OPERANDS], n = it.shape[0] - lo % it.shape[0];
        if (n > CHUNK) n = CHUNK;
        if (it.stride[0][0] == 0) n = 1;                 /* elements of the window that are one in memory add up */
        aj_iter_at(&it, lo, at);
        char *p = window.data + at[0] * size;
        aj_load(class, y->dtype)(a, p, it.stride[0][0], n);
        aj_load(class, g->dtype)(b, g->data + at[1] * size, it.stride[1][0], n);
        if (class == CLASS_F32) for (int64_t i = 0; i < n; i++) ((float *)a)[i] += ((float *)b)[i];
        else if (class == CLASS_F64) for (int64_t i = 0; i < n; i++) a[i] += b[i];
        else for (int64_t i = 0; i < n; i++) ((int64_t *)a)[i] += ((int64_t *)b)[i];
        aj_store(class, y->dtype)(p, it.stride[0][0], a, n);
        lo += n;
    }
    return true;
}

typedef struct { aj_iter it; aj_tensor *y, *c, *a, *b; int size; } choosing;
static void choose_range(void *arg, int64_t lo, int64_t hi) {
    const choosing *m = arg;
    const aj_iter *it = &m->it;
    while (lo < hi) {
        int64_t at[AJ_MAX_OPERANDS], n = it->shape[0] - lo % it->shape[0];
        if (n > hi - lo) n = hi - lo;
        aj_iter_at(it, lo, at);
        const uint8_t *c = (uint8_t *)m->c->data + at[1];
        int64_t sc = it->stride[1][0], sa = it->stride[2][0], sb = it->stride[3][0];
        /* Known strides make vectors of the loop. */
#define CHOOSE_(type, sc_, sa_, sb_) for (int64_t i = 0; i < n; i++) { const type p = a[i * (sa_)], q = b[i * (sb_)]; y[i] = c[i * (sc_)] ? p : q; }
#define CHOOSE(type) { type *restrict y = (type *)(void *)m->y->data + at[0]; const type *a = (type *)(void *)m->a->data + at[2], *b = (type *)(void *)m->b->data + at[3]; \
        if (sc == 1 && sa == 1 && sb == 1) CHOOSE_(type, 1, 1, 1) \
        else if (sc == 1 && sa == 0 && sb == 1) CHOOSE_(type, 1, 0, 1) \
        else if (sc == 1 && sa == 1 && sb == 0) CHOOSE_(type, 1, 1, 0) \
        else CHOOSE_(type, sc, sa, sb) } break
        switch (m->size) {
        case 1: CHOOSE(uint8_t);
        case 2: CHOOSE(uint16_t);
        case 4: CHOOSE(uint32_t);
        default: CHOOSE(uint64_t);
        }
        lo += n;
    }
}
bool KERNEL(where)(const aj_call *c) {
    choosing m = {.y = c->out[0], .c = c->in[0], .a = c->in[1], .b = c->in[2], .size = dtype_bytes[c->out[0]->dtype]};
    const aj_tensor *operands[] = {m.y, m.c, m.a, m.b};
    aj_iter_init(&m.it, operands, 4);
    aj_parallel(m.it.count, 1 << 16, choose_range, &m);
    return true;
}
