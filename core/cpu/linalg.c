/* linalg.c - linear algebra of batches of small or large matrices, through LAPACK, one matrix at a time.
 *
 * A matrix of rows is to LAPACK the transposed one, column by column; each function of linalg.inc takes it so where it
 * can. A matrix that cannot be done is remembered by its place in the batch, the first of them, and named at the end.
 */
#include "dense.h"
#include "lapack.h"
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 6, NOT_FINITE = -99 };
typedef struct work work;
struct work {
    const aj_call *c;
    dense d[MOST];              /* inputs, then results */
    int64_t step[MOST];         /* numbers of one matrix */
    int64_t m, n, k;            /* rows and columns of the first input; columns of the second */
    int64_t room, lwork, liwork;                         /* bytes of scratch; numbers of LAPACK's own */
    double rtol, atol;
    int (*item)(const work *w, int64_t i, void *scratch);      /* LAPACK's info: 0 is good */
    int64_t bad;                /* place << 32 | info of the first bad one */
    bool no_memory;
};

/* Pieces of scratch memory, each aligned. */
static void *piece(void **scratch, int64_t bytes) {
    void *p = *scratch;
    *scratch = (char *)p + (bytes + 63) / 64 * 64;
    return p;
}
static int atleast1(int64_t n) { return n > 1 ? (int)n : 1; }

#define real float
#define REAL(name) name##_f32
#define LAPACK(name) s##name##_
#define CBLAS(name) cblas_s##name
#define EPSILON 0x1p-23
#include "linalg.inc"
#include "decompose.inc"
#undef real
#undef REAL
#undef LAPACK
#undef CBLAS
#undef EPSILON
#define real double
#define REAL(name) name##_f64
#define LAPACK(name) d##name##_
#define CBLAS(name) cblas_d##name
#define EPSILON 0x1p-52
#include "linalg.inc"
#include "decompose.inc"
#undef real
#undef REAL
#undef LAPACK
#undef CBLAS
#undef EPSILON

static void items(void *arg, int64_t lo, int64_t hi) {
    work *w = arg;
    void *scratch = aj_scratch(w->room + 64 * 16);
    if (!scratch) { __atomic_store_n(&w->no_memory, true, __ATOMIC_RELAXED); return; }
    for (int64_t i = lo; i < hi; i++) {
        int info = w->item(w, i, scratch);
        if (!info) continue;
        int64_t mine = i << 32 | (uint32_t)info, seen = __atomic_load_n(&w->bad, __ATOMIC_RELAXED);
        while (mine < seen && !__atomic_compare_exchange_n(&w->bad, &seen, mine, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
        break;
    }
    aj_scratch_free(scratch);
}

/* "the matrix", or "matrix {2, 1} of the batch". */
static void name_matrix(char *text, size_t size, const aj_tensor *x, int64_t i) {
    if (x->ndim <= 2) { snprintf(text, size, "the matrix"); return; }
    int64_t at[AJ_MAX_DIM];
    for (int d = x->ndim - 3; d >= 0; d--) { at[d] = i % x->shape[d]; i /= x->shape[d]; }
    size_t n = (size_t)snprintf(text, size, x->ndim == 3 ? "matrix " : "matrix {");
    for (int d = 0; d < x->ndim - 2; d++) n += (size_t)snprintf(text + n, size - n, d ? ", %lld" : "%lld", (long long)at[d] + 1);
    snprintf(text + n, size - n, x->ndim == 3 ? " of the batch" : "} of the batch");
}

enum { SINGULAR, POSITIVE, CONVERGES };
/* Lays the operands out, runs the function over the batch, and puts the results back. */
static bool run(work *w, const aj_call *c, int (*f32)(const work *, int64_t, void *), int (*f64)(const work *, int64_t, void *), int what) {
    const aj_tensor *x = c->in[0];
    int class = class_of_dtype(x->dtype), n = 0;
    int64_t batch = 1;
    for (int d = 0; d < x->ndim - 2; d++) batch *= x->shape[d];
    bool ok = true;
    if (batch == 0) return true;
    w->c = c;
    w->bad = INT64_MAX;
    w->item = class == CLASS_F32 ? f32 : f64;
    for (int k = 0; k < c->n_in && ok; k++, n++) {
        ok = dense_in(&w->d[n], c->in[k], class);
        w->step[n] = c->in[k]->numel / batch;
    }
    for (int k = 0; k < c->n_out && ok; k++, n++) {
        ok = dense_place(&w->d[n], c->out[k], aj_is_float(c->out[k]->dtype) ? class : CLASS_I64);
        w->step[n] = c->out[k]->numel / batch;
    }
    if (ok) {
        int64_t low = w->m < w->n ? w->m : w->n;
        w->room = w->room * dtype_bytes[dtype_of_class[class]] + 8 * w->liwork;
        aj_parallel(batch, 1 + 400000 / (w->m * w->n * (low + w->k) + 100), items, w);
        if (w->no_memory) ok = aj_error("%s: out of memory", aj_op_name(c->op));
        else if (w->bad != INT64_MAX) {
            char name[128];
            name_matrix(name, sizeof name, x, w->bad >> 32);
            int info = (int)(uint32_t)w->bad;
            if (info == NOT_FINITE) ok = aj_refuse(c, "%s holds infinite elements or NaN", name);
            else if (what == SINGULAR) ok = aj_refuse(c, "%s is singular: element (%d, %d) of the triangle U of its LU decomposition is 0", name, info, info);
            else if (what == POSITIVE) ok = aj_refuse(c, "%s is not positive-definite: its leading minor of order %d is not positive", name, info);
            else ok = aj_refuse(c, "%s: the iteration did not converge", name);
        }
    }
    for (int k = c->n_in; k < n && ok; k++) ok = dense_put(&w->d[k]);
    dense_free(w->d, n);
    return ok;
}

static work sized(const aj_call *c) {
    const aj_tensor *x = c->in[0];
    return (work){.m = x->shape[x->ndim - 2], .n = x->shape[x->ndim - 1]};
}
#define BOTH(name) name##_f32, name##_f64

bool KERNEL(solve)(const aj_call *c) {
    work w = sized(c);
    w.k = c->in[1]->shape[c->in[1]->ndim - 1];
    w.room = w.n * w.n + w.n * w.k;
    w.liwork = w.n;
    return run(&w, c, BOTH(solve), SINGULAR);
}
bool KERNEL(solve_triangular)(const aj_call *c) {
    work w = sized(c);
    const aj_tensor *b = c->in[1];
    w.k = b->shape[b->ndim - (c->attrs->flag2 ? 1 : 2)];
    return run(&w, c, BOTH(solve_triangular), SINGULAR);
}
bool KERNEL(inverse)(const aj_call *c) {
    work w = sized(c);
    w.lwork = 64 * w.n;
    w.room = w.lwork;
    w.liwork = w.n;
    return run(&w, c, BOTH(inverse), SINGULAR);
}
bool KERNEL(lu_factor)(const aj_call *c) {
    work w = sized(c);
    w.room = w.m * w.n;
    w.liwork = w.m < w.n ? w.m : w.n;
    return run(&w, c, BOTH(lu_factor), SINGULAR);
}
/* The rows' places after LAPACK's exchanges, which are of row i with a row from i on, counted from 1. */
bool KERNEL(pivots_order)(const aj_call *c) {
    const aj_tensor *p = c->in[0];
    int64_t n = c->attrs->i, k = p->shape[p->ndim - 1], *y = (int64_t *)(void *)c->out[0]->data;
    const int64_t *pivot = (const int64_t *)(const void *)p->data;
    for (int64_t b = 0; n && b < c->out[0]->numel / n; b++, y += n, pivot += k) {
        for (int64_t i = 0; i < n; i++) y[i] = i + c->attrs->base;
        for (int64_t i = 0; i < k; i++) {
            if (pivot[i] < 1 || pivot[i] > n) return aj_refuse(c, "pivot %lld is none of the rows 1 to %lld", (long long)pivot[i], (long long)n);
            int64_t swap = y[i];
            y[i] = y[pivot[i] - 1];
            y[pivot[i] - 1] = swap;
        }
    }
    return true;
}
bool KERNEL(det)(const aj_call *c) {
    work w = sized(c);
    w.room = w.n * w.n;
    w.liwork = w.n;
    return run(&w, c, BOTH(det), SINGULAR);
}
bool KERNEL(slogdet)(const aj_call *c) {
    work w = sized(c);
    w.room = w.n * w.n;
    w.liwork = w.n;
    return run(&w, c, BOTH(slogdet), SINGULAR);
}
bool KERNEL(cholesky)(const aj_call *c) {
    work w = sized(c);
    return run(&w, c, BOTH(cholesky), POSITIVE);
}

bool KERNEL(qr)(const aj_call *c) {
    work w = sized(c);
    w.k = c->out[1]->shape[c->out[1]->ndim - 2];
    w.lwork = 64 * (w.m + w.n);
    w.room = w.m * w.n + w.m + w.lwork;
    return run(&w, c, BOTH(qr), CONVERGES);
}

/* What gesdd asks for, of U and V in full, in part or not at all. */
static void ask_svd(work *w, const aj_call *c, const char *job) {
    bool f = class_of_dtype(c->in[0]->dtype) == CLASS_F32;
    w->lwork = f ? svd_room_f32(w, job) : svd_room_f64(w, job);
    int64_t k = w->m < w->n ? w->m : w->n;
    w->liwork = 8 * k;
    w->room = w->m * w->n + w->lwork + k;
}
bool KERNEL(svd)(const aj_call *c) {
    work w = sized(c);
    ask_svd(&w, c, c->attrs->flag ? "A" : "S");
    return run(&w, c, BOTH(svd), CONVERGES);
}
bool KERNEL(svdvals)(const aj_call *c) {
    work w = sized(c);
    ask_svd(&w, c, "N");
    return run(&w, c, BOTH(svdvals), CONVERGES);
}
static bool through_svd(work *w, const aj_call *c, int (*f32)(const work *, int64_t, void *), int (*f64)(const work *, int64_t, void *)) {
    ask_svd(w, c, "S");
    int64_t k = w->m < w->n ? w->m : w->n;
    w->room += k * (w->m + w->n + w->k) + 3 * k + 2 * k * k;
    w->liwork += k;
    w->rtol = c->attrs->s;
    w->atol = c->attrs->t;
    return run(w, c, f32, f64, CONVERGES);
}
bool KERNEL(cofactor)(const aj_call *c) {
    work w = sized(c);
    return through_svd(&w, c, BOTH(cofactor));
}
bool KERNEL(pinv)(const aj_call *c) {
    work w = sized(c);
    return through_svd(&w, c, BOTH(pinv));
}
bool KERNEL(lstsq_solve)(const aj_call *c) {
    work w = sized(c);
    w.k = c->in[1]->shape[c->in[1]->ndim - 1];
    return through_svd(&w, c, BOTH(lstsq));
}

static void ask_eigen(work *w, bool vectors) {
    w->lwork = vectors ? 1 + 6 * w->n + 2 * w->n * w->n + 64 * w->n : 1 + 2 * w->n + 64 * w->n;
    w->liwork = vectors ? 3 + 5 * w->n : 1;
    w->room = w->n * w->n + w->lwork;
}
bool KERNEL(eigh)(const aj_call *c) {
    work w = sized(c);
    ask_eigen(&w, true);
    return run(&w, c, BOTH(eigh), CONVERGES);
}
bool KERNEL(eigvalsh)(const aj_call *c) {
    work w = sized(c);
    ask_eigen(&w, false);
    return run(&w, c, BOTH(eigvalsh), CONVERGES);
}
