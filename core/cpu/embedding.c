/* embedding.c - bags of rows of a table, a bag at a time; rows renormalised where they lie. */
#include "cpu.h"
#include <math.h>
#include <string.h>

typedef struct {
    const char *table;
    char *y;
    const int64_t *index, *offsets;     /* offsets NULL: bags of N indices each */
    const void *weights;
    int64_t *bag, *place;               /* for the gradient, or NULL */
    void *factor;
    int64_t D, N, n, bags, given, padding, base;
    int mode, dtype, class, bytes;
    bool direct, failed;
} bagging;

/* Where bag b begins, or the one before it ends. */
static int64_t begin_of(const bagging *m, int64_t b) {
    if (!m->offsets) return b * m->N;
    return b < m->given ? m->offsets[b] - m->base : m->n;
}

#define KERNELS "embedding.inc"
#include "reals.h"

bool KERNEL(embedding_bag)(const aj_call *c) {
    const aj_tensor *w = c->in[0], *index = c->in[1], *offsets = c->in[2];
    const aj_attrs *a = c->attrs;
    bagging m = {.table = w->data, .y = c->out[0]->data, .index = (const int64_t *)(const void *)index->data, .D = w->shape[1], .n = index->numel,
                 .N = index->ndim == 2 ? index->shape[1] : 0, .bags = c->out[0]->shape[0], .padding = a->i == AJ_NO_DIM ? -1 : a->i, .base = a->base,
                 .mode = a->mode, .dtype = w->dtype, .class = class_of_dtype(w->dtype), .bytes = dtype_bytes[w->dtype]};
    m.direct = w->dtype == dtype_of_class[m.class];
    if (c->in[3]) m.weights = c->in[3]->data;
    if (!KERNEL(check_index)(c, index, w->shape[0], 0, false)) return false;
    if (offsets) {
        m.offsets = (const int64_t *)(const void *)offsets->data;
        m.given = offsets->numel;
        int64_t last = 0;
        for (int64_t b = 0; b < m.given; b++) {
            int64_t at = m.offsets[b] - m.base;
            if (b == 0 && at != 0) return aj_refuse(c, "the first offset is %lld, and the first bag begins at %lld", (long long)m.offsets[0], (long long)m.base);
            if (at < last || at > m.n)
                return aj_refuse(c, "offset %lld at place %lld: offsets do not go down, and end with the index, of %lld elements", (long long)m.offsets[b], (long long)b + 1, (long long)m.n);
            last = at;
        }
    }
    if (c->n_out > 1) {
        m.bag = (int64_t *)(void *)c->out[1]->data;
        m.factor = c->out[2]->data;
        m.place = m.mode == 2 ? (int64_t *)(void *)c->out[3]->data : NULL;
        memset(m.bag, 0, (size_t)m.n * sizeof *m.bag);   /* of what lies in no bag */
        memset(m.factor, 0, (size_t)m.n * (size_t)dtype_bytes[dtype_of_class[m.class]]);
    }
    aj_parallel(m.bags, 1 + (1 << 15) / (1 + (m.n + m.bags) * m.D / (m.bags + 1)), m.class == CLASS_F64 ? bags_f64 : bags_f32, &m);
    return !m.failed || aj_error("%s: out of memory", aj_op_name(c->op));
}

bool KERNEL(embedding_renorm_)(const aj_call *c) {
    aj_tensor *w = c->in[0], *index = c->in[1];
    int64_t D = w->shape[1], rows = w->shape[0];
    double most = c->attrs->s, p = c->attrs->t;
    if (!KERNEL(check_index)(c, index, rows, 0, false)) return false;
    if (!index->numel || !D) return true;
    double *row = aj_scratch(D * 8 + rows);
    if (!row) return false;
    char *seen = (char *)(row + D);
    memset(seen, 0, (size_t)rows);
    for (int64_t i = 0; i < index->numel; i++) {
        int64_t r = ((const int64_t *)(const void *)index->data)[i] - c->attrs->base;
        if (seen[r]) continue;
        seen[r] = 1;
        char *at = w->data + r * w->stride[0] * dtype_bytes[w->dtype];
        aj_load(CLASS_F64, w->dtype)(row, at, w->stride[1], D);
        double norm = 0;
        for (int64_t d = 0; d < D; d++) {
            double v = fabs(row[d]);
            norm = isinf(p) ? (v > norm || v != v ? v : norm) : norm + (p == 2 ? v * v : p == 1 ? v : pow(v, p));
        }
        if (p == 2) norm = sqrt(norm);
        else if (p != 1 && !isinf(p)) norm = pow(norm, 1 / p);
        if (!(norm > most)) continue;
        for (int64_t d = 0; d < D; d++) row[d] *= most / (norm + 1e-7);
        aj_store(CLASS_F64, w->dtype)(at, w->stride[1], row, D);
    }
    aj_scratch_free(row);
    return true;
}
