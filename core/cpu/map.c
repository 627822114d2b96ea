/* map.c - elementwise rows: one loop each over dense numbers, and one driver that brings the numbers.
 *
 * An operand whose elements are dense and of the type computed in is used where it lies; any other goes through a
 * chunk that stays in the first cache, which does for strides, broadcasting, dtypes and the number operand alike.
 */
#include "cpu.h"
#include "stream.h"
#include "vmath.h"
#include "../airy.h"
#include "../bessel.h"
#include "../incomplete.h"
#include "../normal.h"
#include "../special.h"
#include <string.h>

typedef void loop_fn(void *y, const void *a, const void *b, int64_t n, const aj_attrs *attrs);
typedef void grad_fn(void *gx, const void *gy, const void *y, const void *a, const void *b, int64_t n, const aj_attrs *attrs);

#define KERNELS "map.inc"
#define INTEGERS
#include "reals.h"

/* -- The driver ----------------------------------------------------------------------------------------------- */

typedef struct {
    aj_iter it;
    int class, bytes;           /* what is computed in */
    int n_in;
    char *base[AJ_MAX_OPERANDS];
    uint8_t dtype[AJ_MAX_OPERANDS];
    bool direct[AJ_MAX_OPERANDS];
    bool all_direct;
    bool whole;                 /* only whole vectors are computed */
    bool stream;                /* the result goes past the caches; it is direct */
    loop_fn *loop;
    grad_fn *grad;
    const aj_attrs *attrs;
} mapping;

static ALWAYS_INLINE void compute(const mapping *m, char *const *p, int64_t n) {
    if (m->loop) m->loop(p[0], p[1], p[2], n, m->attrs);
    else m->grad(p[0], p[1], p[2], p[3], p[4], n, m->attrs);
}

/* A function of a vector and that of a single number may differ in the last bit. So that a result depends on neither
 * its place nor the number of threads, what is left over at the end of a run is filled up to a vector as well. */
enum { VECTOR = 16 };
static __attribute__((noinline)) void compute_rest(const mapping *m, char *const *p, int64_t n) {
    size_t size = m->class == CLASS_F32 ? 4 : 8, bytes = (size_t)n * size;
    double rest[AJ_MAX_OPERANDS][VECTOR];
    char *q[AJ_MAX_OPERANDS] = {(char *)rest[0]};
    for (int k = 1; k < m->it.n; k++) {
        q[k] = (char *)rest[k];
        memcpy(q[k], p[k], bytes);
        if (size == 4) for (int64_t i = n; i < VECTOR; i++) ((float *)q[k])[i] = ((float *)q[k])[n - 1];
        else for (int64_t i = n; i < VECTOR; i++) rest[k][i] = rest[k][n - 1];
    }
    compute(m, q, VECTOR);
    memcpy(p[0], q[0], bytes);
}

static ALWAYS_INLINE void run(const mapping *m, char *const *p, int64_t n) {
    int64_t rest = m->whole ? n % VECTOR : 0;
    if (n > rest) compute(m, p, n - rest);
    if (!rest) return;
    if (n == rest) { compute_rest(m, p, n); return; }
    int64_t at = (n - rest) * (m->class == CLASS_F32 ? 4 : 8);
    char *q[AJ_MAX_OPERANDS] = {0};
    for (int k = 0; k < m->it.n; k++) q[k] = p[k] + at;
    compute_rest(m, q, rest);
}

/* The same a piece at a time, each streamed. A piece is so short that computing the next one overlaps with its stores. */
static void run_streamed(const mapping *m, char *const *p, int64_t n) {
    enum { PIECE = 128 };
    _Alignas(64) double piece[PIECE];
    int64_t size[AJ_MAX_OPERANDS];
    char *q[AJ_MAX_OPERANDS] = {(char *)piece};
    for (int k = 0; k < m->it.n; k++) size[k] = m->bytes && !k ? m->bytes : dtype_bytes[dtype_of_class[m->class]];
    for (int64_t i = 0; i < n; i += PIECE) {
        int64_t len = n - i < PIECE ? n - i : PIECE;
        for (int k = 1; k < m->it.n; k++) q[k] = p[k] + i * size[k];
        run(m, q, len);
        stream_out(p[0] + i * size[0], piece, (size_t)(len * size[0]));
    }
}

static void map_range(void *arg, int64_t lo, int64_t hi) {
    const mapping *m = arg;
    const aj_iter *it = &m->it;
    char *p[AJ_MAX_OPERANDS] = {0};
    while (lo < hi) {
        int64_t at[AJ_MAX_OPERANDS] = {0}, n = it->shape[0] - (it->ndim > 1 ? lo % it->shape[0] : lo);
        if (n > hi - lo) n = hi - lo;
        aj_iter_at(it, lo, at);
        lo += n;
        if (m->all_direct) {
            for (int k = 0; k < it->n; k++) p[k] = m->base[k] + at[k] * dtype_bytes[m->dtype[k]];
            if (m->stream) run_streamed(m, p, n);
            else run(m, p, n);
            continue;
        }
        double chunk[AJ_MAX_OPERANDS][CHUNK];
        for (int64_t i = 0; i < n; i += CHUNK) {
            int64_t len = n - i < CHUNK ? n - i : CHUNK;
            for (int k = 0; k < it->n; k++) {
                char *from = m->base[k] + (at[k] + i * it->stride[k][0]) * dtype_bytes[m->dtype[k]];
                if (m->direct[k] && (k || !m->stream)) { p[k] = from; continue; }
                p[k] = (char *)chunk[k];
                if (k && (i == 0 || it->stride[k][0])) aj_load(m->class, m->dtype[k])(chunk[k], from, it->stride[k][0], i == 0 && !it->stride[k][0] ? (n < CHUNK ? n : CHUNK) : len);
            }
            run(m, p, len);
            char *to = m->base[0] + (at[0] + i * it->stride[0][0]) * dtype_bytes[m->dtype[0]];
            if (m->direct[0] && m->stream) stream_out(to, chunk[0], (size_t)(len * dtype_bytes[m->dtype[0]]));
            if (!m->direct[0]) {
                /* A comparison's loop has written bytes. */
                if (m->dtype[0] == AJ_BOOL && m->bytes == 1) for (int64_t j = 0; j < len; j++) ((uint8_t *)to)[j * it->stride[0][0]] = ((uint8_t *)p[0])[j];
                else aj_store(m->class, m->dtype[0])(to, it->stride[0][0], chunk[0], len);
            }
        }
    }
    if (m->stream) stream_end();
}

static bool drive(mapping *m, const aj_tensor *const *operand, int n, int64_t grain) {
    int natural = dtype_of_class[m->class];
    /* The common case is a few dense operands of one shape and the type computed in: nothing to line up. */
    int64_t count = operand[0]->numel;
    bool plain = count < 2 * grain && operand[0]->contiguous && (operand[0]->dtype == natural || m->bytes == 1);
    for (int k = 1; k < n && plain; k++)
        plain = operand[k]->numel == count && operand[k]->contiguous && operand[k]->dtype == natural && operand[k]->ndim <= operand[0]->ndim;
    if (plain) {
        char *at[AJ_MAX_OPERANDS] = {0};
        m->it.n = n;
        for (int k = 0; k < n; k++) at[k] = operand[k]->data;
        run(m, at, count);
        return true;
    }
    aj_iter_init(&m->it, operand, n);
    m->all_direct = true;
    for (int k = 0; k < n; k++) {
        m->base[k] = operand[k]->data;
        m->dtype[k] = operand[k]->dtype;
        m->direct[k] = m->it.stride[k][0] == 1 && (operand[k]->dtype == natural || (k == 0 && m->bytes == 1));
        if (m->it.shape[0] == 1 && operand[k]->dtype == natural) m->direct[k] = true;
        m->all_direct &= m->direct[k];
    }
    /* Functions take longer than their stores: an exp of 16 MiB takes 1.37 ms, and 1.54 streamed; a product 1.57 and 1.11. */
    m->stream = stream_wanted(operand[0]) && m->direct[0] && !m->whole;
    if (m->it.count < 2 * grain) {
        if (m->it.ndim == 1 && m->all_direct && !m->stream) run(m, m->base, m->it.count);
        else map_range(m, 0, m->it.count);
    } else aj_parallel(m->it.count, grain, map_range, m);
    return true;
}

/* A dense tensor and a number, which is operand `place`: as a tensor of a chunk's numbers. False: it is not as simple. */
static bool drive_number(mapping *m, const aj_tensor *const *operand, int place, int64_t grain) {
    int natural = dtype_of_class[m->class], bytes = m->class == CLASS_F32 ? 4 : 8, out = m->bytes ? m->bytes : bytes;
    const aj_tensor *y = operand[0], *x = operand[3 - place];
    if (!y->contiguous || !x->contiguous || y->numel >= 2 * grain || x->dtype != natural || (y->dtype != natural && m->bytes != 1)) return false;
    double chunk[CHUNK];
    int64_t count = y->numel, filled = count < CHUNK ? count : CHUNK;
    if (bytes == 4) for (int64_t i = 0; i < filled; i++) ((float *)(void *)chunk)[i] = *(const float *)(const void *)operand[place]->data;
    else for (int64_t i = 0; i < filled; i++) chunk[i] = *(const double *)(const void *)operand[place]->data;      /* an int64's bits too */
    m->it.n = 3;
    for (int64_t i = 0; i < count; i += CHUNK) {
        char *at[AJ_MAX_OPERANDS] = {y->data + i * out};
        at[place] = (char *)chunk;
        at[3 - place] = x->data + i * bytes;
        run(m, at, count - i < CHUNK ? count - i : CHUNK);
    }
    return true;
}

/* Integers have no result for a division by zero. */
static bool divides(const aj_call *c, const aj_tensor *b) {
    if (c->op != OP_floor_divide && c->op != OP_trunc_divide && c->op != OP_remainder && c->op != OP_fmod) return true;
    aj_iter it;
    aj_iter_init(&it, &b, 1);
    int64_t chunk[CHUNK];
    for (int64_t i = 0, n; i < it.count; i += n) {
        int64_t at[AJ_MAX_OPERANDS] = {0};
        n = it.shape[0] - (it.ndim > 1 ? i % it.shape[0] : i);
        if (n > CHUNK) n = CHUNK;
        aj_iter_at(&it, i, at);
        aj_load(CLASS_I64, b->dtype)(chunk, b->data + at[0] * dtype_bytes[b->dtype], it.stride[0][0], n);
        for (int64_t j = 0; j < n; j++)
            if (chunk[j] == 0) return aj_refuse(c, "a division by zero, which integers have no result for");
    }
    return true;
}

static bool forward(const aj_call *c, loop_fn *const loops[3], bool to_bool, bool whole, int64_t grain) {
    mapping m;
    m.whole = whole;
    m.class = class_of_dtype(c->attrs->dtype);
    m.bytes = to_bool ? 1 : 0;
    m.loop = loops[m.class];
    m.attrs = c->attrs;
    aj_tensor number;
    const aj_tensor *operand[3] = {c->out[0], c->in[0]};
    int n = 2;
    double d = c->attrs->s;
    float f = (float)d;
    int64_t i = (int64_t)d;
    if (c->n_in == 2) operand[n++] = c->in[1];
    else if (c->attrs->number && c->op != -1 && aj_ops[c->op].kind != AJ_UNARY && aj_ops[c->op].kind != AJ_TEST) {
        number.data = m.class == CLASS_F32 ? (char *)&f : m.class == CLASS_F64 ? (char *)&d : (char *)&i;
        number.dtype = (uint8_t)dtype_of_class[m.class];
        number.ndim = 0; number.numel = 1; number.contiguous = true;
        operand[n++] = &number;
        if (c->attrs->number == 1) { operand[2] = operand[1]; operand[1] = &number; }
    }
    if (m.class == CLASS_I64 && n == 3 && c->out[0]->numel && !divides(c, operand[2])) return false;
    if (n == 3 && c->n_in == 1 && drive_number(&m, operand, c->attrs->number, grain)) return true;
    return drive(&m, operand, n, grain);
}

static bool backward(const aj_grad_call *g, grad_fn *const grads[2], bool whole, int64_t grain) {
    mapping m;
    m.whole = whole;
    m.class = g->gx->dtype == AJ_F64 ? CLASS_F64 : CLASS_F32;
    m.bytes = 0;
    m.loop = NULL;
    m.grad = grads[m.class];
    m.attrs = g->attrs;
    aj_tensor number;
    double d = g->attrs->s;
    float f = (float)d;
    number.data = m.class == CLASS_F32 ? (char *)&f : (char *)&d;
    number.dtype = (uint8_t)dtype_of_class[m.class];
    number.ndim = 0; number.numel = 1; number.contiguous = true;
    /* What was not saved is not read: gy stands in its place. */
    const aj_tensor *operand[5] = {g->gx, g->gy, g->y ? g->y : g->gy, g->in[0] ? g->in[0] : g->gy, g->in[1] ? g->in[1] : g->gy};
    if (g->attrs->number == 1) operand[3] = &number;
    if (g->attrs->number == 2) operand[4] = &number;
    return drive(&m, operand, 5, grain);
}

/* -- Rows ------------------------------------------------------------------------------------------------------- */

/* A thread should get about 50 microseconds of work: so many elements of cheap arithmetic, or of a function. */
enum { GRAIN_ANY = 1 << 16, GRAIN_NUM = 1 << 16, GRAIN_INT = 1 << 16, GRAIN_FLOAT = 1 << 14 };
#define WHOLE_ANY(name) false
#define WHOLE_NUM(name) (OP_##name == OP_pow)
#define WHOLE_FLOAT(name) true
#define WHOLE_INT(name) false
#define LOOPS_ANY(name) {name##_f32, name##_f64, name##_i64}
#define LOOPS_NUM(name) {name##_f32, name##_f64, name##_i64}
#define LOOPS_FLOAT(name) {name##_f32, name##_f64, NULL}
#define LOOPS_INT(name) {NULL, NULL, name##_i64}
#define GRAD_ANY(name, k) (grad_fn *const[2]){name##_grad##k##_f32, name##_grad##k##_f64}
#define GRAD_NUM GRAD_ANY
#define GRAD_FLOAT GRAD_ANY
#define GRAD_INT(name, k) (grad_fn *const[2]){NULL, NULL}
#define FORWARD(name, domain) \
    bool KERNEL(name)(const aj_call *c) { static loop_fn *const loops[3] = LOOPS_##domain(name); return forward(c, loops, false, WHOLE_##domain(name), GRAIN_##domain); }
#define BACKWARD(name, domain, k) \
    bool KERNEL(name##_grad##k)(const aj_grad_call *g) { return backward(g, GRAD_##domain(name, k), WHOLE_##domain(name), GRAIN_##domain); }
#define UNARY(name, domain, ...) FORWARD(name, domain) BACKWARD(name, domain, 0)
#define UNARY_S UNARY
#define BINARY(name, domain, ...) FORWARD(name, domain) BACKWARD(name, domain, 0) BACKWARD(name, domain, 1)
#define BINARY_S BINARY
#define COMPARE(name, ...) \
    bool KERNEL(name)(const aj_call *c) { static loop_fn *const loops[3] = LOOPS_ANY(name); return forward(c, loops, true, false, GRAIN_ANY); }
#define TEST COMPARE
#include "../ops.def"
