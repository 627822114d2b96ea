/* norm.c - layer, group, rms and batch normalisation, and their gradients.
 *
 * x is (N, C, S). The statistics of a run are sums of (x - shift) and (x - shift)^2 with the run's first element as shift, in
 * one pass that does not cancel, kept as (mean, 1 / sqrt(var + eps)) for the gradient.
 */
#include "dense.h"
#include "stat.h"
#include "stream.h"
#include <math.h>
#include <string.h>

enum { BLOCK = 64, FEW = 64 };
typedef struct {
    const void *x, *g, *weight, *bias;
    void *y, *mean, *rstd;      /* y: the result, or the gradient of x */
    double *running_mean, *running_var;
    double *part;               /* of the gradients of weight and bias; NULL: they are not asked for */
    int64_t N, C, S, G, blocks;
    double eps, momentum;
    bool centered, training, relu;
    bool stream;                /* y goes past the caches; its rows are of whole vectors then */
} norm;

#define KERNELS "norm.inc"
#include "reals.h"

typedef void range_fn(void *, int64_t, int64_t);
#define PICK(class, name) ((class) == CLASS_F32 ? name##_f32 : name##_f64)
enum { X, G, WEIGHT, BIAS, Y, MEAN, RSTD, GW, GB, PARTS };
static int64_t grain(int64_t work) { return 1 + (1 << 15) / (1 + work); }

static norm from(const aj_call *c, const dense *d) {
    const aj_attrs *a = c->attrs;
    return (norm){.x = d[X].p, .g = d[G].p, .weight = d[WEIGHT].p, .bias = d[BIAS].p, .y = d[Y].p, .mean = d[MEAN].p, .rstd = d[RSTD].p,
                  .C = a->i, .S = a->j, .N = a->k, .G = a->groups, .eps = a->s, .centered = a->flag, .training = a->flag, .relu = a->mode != 0};
}

static bool rows(const aj_call *c) {
    aj_tensor *x = c->in[0];
    int class = class_of_dtype(x->dtype);
    dense d[PARTS] = {{0}};
    bool ok = dense_in(&d[X], x, class) && dense_in(&d[WEIGHT], c->in[1], class) && dense_in(&d[BIAS], c->n_in > 2 ? c->in[2] : NULL, class)
           && dense_place(&d[Y], c->out[0], class) && dense_place(&d[MEAN], c->out[1], class) && dense_place(&d[RSTD], c->out[2], class);
    norm m = from(c, d);
    m.stream = m.S == 1 && stream_rows(c->out[0], m.y, m.C / m.G * dtype_bytes[dtype_of_class[class]]);
    if (ok && x->numel) aj_parallel(m.N * m.G, grain(m.C / m.G * m.S), PICK(class, row_range), &m);
    ok = ok && dense_put(&d[Y]);
    dense_free(d, PARTS);
    return ok;
}
bool KERNEL(layer_norm)(const aj_call *c) { return rows(c); }
bool KERNEL(rms_norm)(const aj_call *c) { return rows(c); }
bool KERNEL(group_norm)(const aj_call *c) { return rows(c); }

/* in: g, x, weight, of batches the bias, mean, rstd; out: gx, gw, gb. */
static bool open_grad(const aj_call *c, dense *d, int class) {
    return dense_in(&d[G], c->in[0], class) && dense_in(&d[X], c->in[1], class) && dense_in(&d[WEIGHT], c->in[2], class)
        && dense_in(&d[BIAS], c->n_in > 5 ? c->in[3] : NULL, class) && dense_in(&d[MEAN], c->in[c->n_in - 2], class)
        && dense_in(&d[RSTD], c->in[c->n_in - 1], class) && dense_place(&d[Y], c->out[0], class)
        && dense_place(&d[GW], c->out[1], class) && dense_place(&d[GB], c->out[2], class);
}
static bool close_grad(const aj_call *c, dense *d, int class, bool ok) {
    if (ok && c->in[1]->numel == 0)
        for (int k = GW; k <= GB; k++) memset(d[k].p, 0, (size_t)(d[k].t->numel * dtype_bytes[dtype_of_class[class]]));
    ok = ok && dense_put(&d[Y]) && dense_put(&d[GW]) && dense_put(&d[GB]);
    dense_free(d, PARTS);
    return ok;
}

bool KERNEL(group_norm_grad)(const aj_call *c) {
    int class = class_of_dtype(c->in[1]->dtype);
    dense d[PARTS] = {{0}};
    bool ok = open_grad(c, d, class);
    norm m = from(c, d);
    bool lines = m.S == 1 && m.G == 1;
    m.stream = lines && stream_rows(c->out[0], m.y, m.C * dtype_bytes[dtype_of_class[class]]);
    /* So many blocks of rows, whatever the number of threads. */
    m.blocks = m.N < 64 ? m.N : 64;
    if (ok && c->in[1]->numel) {
        if (c->attrs->flag2) ok = (m.part = aj_scratch(2 * m.C * (lines ? m.blocks : m.N) * 8)) != NULL;
        if (ok && lines) aj_parallel(m.blocks, grain(m.C * (m.N / m.blocks)), PICK(class, line_grad_range), &m);
        else if (ok) aj_parallel(m.N * m.G, grain(m.C / m.G * m.S), PICK(class, row_grad_range), &m);
        if (m.part && ok && lines) PICK(class, line_sums)(&m, d[GW].p, d[GB].p);
        else if (m.part && ok) PICK(class, row_sums)(&m, d[GW].p, d[GB].p);
        if (m.part) aj_scratch_free(m.part);
    }
    return close_grad(c, d, class, ok);
}

/* -- Batches ----------------------------------------------------------------------------------------------------------------- */

bool KERNEL(batch_norm)(const aj_call *c) {
    aj_tensor *x = c->in[0];
    int class = class_of_dtype(x->dtype);
    dense d[PARTS] = {{0}};
    bool ok = dense_in(&d[X], x, class) && dense_in(&d[WEIGHT], c->in[3], class) && dense_in(&d[BIAS], c->in[4], class)
           && dense_place(&d[Y], c->out[0], class) && dense_place(&d[MEAN], c->out[1], class) && dense_place(&d[RSTD], c->out[2], class);
    norm m = from(c, d);
    m.momentum = c->attrs->t;
    double *running = NULL;
    if (ok && c->in[1] && (ok = (running = aj_scratch(2 * m.C * 8 + 8)) != NULL)) {
        for (int k = 0; k < 2; k++) {
            const aj_tensor *t = c->in[1 + k];
            aj_load(CLASS_F64, t->dtype)(running + k * m.C, t->data, t->ndim ? t->stride[t->ndim - 1] : 1, m.C);
        }
        m.running_mean = running;
        m.running_var = running + m.C;
    }
    if (ok && !m.training)
        for (int64_t i = 0; i < m.C; i++) {
            double mean = running[i], rstd = 1 / sqrt(running[m.C + i] + m.eps);
            if (class == CLASS_F32) { ((float *)m.mean)[i] = (float)mean; ((float *)m.rstd)[i] = (float)rstd; }
            else { ((double *)m.mean)[i] = mean; ((double *)m.rstd)[i] = rstd; }
        }
    if (ok && x->numel) {
        if (m.S == 1) aj_parallel((m.C + BLOCK - 1) / BLOCK, grain(m.N * (m.C < BLOCK ? m.C : BLOCK)), PICK(class, column_range), &m);
        else aj_parallel(m.C, grain(m.N * m.S), PICK(class, channel_range), &m);
        for (int k = 0; k < 2 && running && m.training; k++) {
            aj_tensor *t = c->in[1 + k];
            aj_store(CLASS_F64, t->dtype)(t->data, t->ndim ? t->stride[t->ndim - 1] : 1, running + k * m.C, m.C);
            t->storage->version++;
        }
    }
    if (running) aj_scratch_free(running);
    ok = ok && dense_put(&d[Y]);
    dense_free(d, PARTS);
    return ok;
}

bool KERNEL(batch_norm_grad)(const aj_call *c) {
    int class = class_of_dtype(c->in[1]->dtype);
    dense d[PARTS] = {{0}};
    bool ok = open_grad(c, d, class);
    norm m = from(c, d);
    if (ok && c->in[1]->numel) {
        if (c->attrs->flag2) ok = (m.part = aj_scratch(2 * m.C * 8)) != NULL;
        if (ok && m.S == 1)
            aj_parallel((m.C + BLOCK - 1) / BLOCK, grain(m.N * (m.C < BLOCK ? m.C : BLOCK)), PICK(class, column_grad_range), &m);
        else if (ok) aj_parallel(m.C, grain(m.N * m.S), PICK(class, channel_grad_range), &m);
        if (m.part && ok) { m.N = 1; PICK(class, row_sums)(&m, d[GW].p, d[GB].p); }
        if (m.part) aj_scratch_free(m.part);
    }
    return close_grad(c, d, class, ok);
}
