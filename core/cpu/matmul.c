/* matmul.c - batches of matrix products, and linear layers: which of them are one product, and where each begins. */
#include "gemm.h"

/* Lines up: offsets of the operands' matrices over the batch dimensions of the result. */
typedef struct {
    gemm g;
    int nb;
    int64_t size[AJ_MAX_DIM], sa[AJ_MAX_DIM], sb[AJ_MAX_DIM], step_c;     /* outermost first */
    int bytes;
    bool failed;
} batch;

static void batch_range(void *arg, int64_t lo, int64_t hi) {
    batch *w = arg;
    gemm g = w->g;
    for (int64_t i = lo; i < hi; i++) {
        int64_t at = i, a = 0, b = 0;
        for (int d = w->nb - 1; d >= 0; d--) { int64_t k = at % w->size[d]; at /= w->size[d]; a += k * w->sa[d]; b += k * w->sb[d]; }
        g.a = (const char *)w->g.a + a * w->bytes;
        g.b = (const char *)w->g.b + b * w->bytes;
        g.c = (char *)w->g.c + i * w->step_c * w->bytes;
        if (!KERNEL(gemm)(&g)) { __atomic_store_n(&w->failed, true, __ATOMIC_RELAXED); return; }
    }
}

/* Rows of all dimensions but the last, when they lie one stride apart (0 where they are one row expanded). */
static bool folds(const aj_tensor *x, int last, int64_t *stride) {
    int64_t rows = 1;                                    /* of the dimensions behind d */
    *stride = x->shape[x->ndim - 1] > 0 ? x->shape[x->ndim - 1] : 1;     /* of a single row: any will do */
    for (int d = last; d >= 0; d--) {
        if (x->shape[d] == 1) continue;
        if (rows == 1) *stride = x->stride[d];
        else if (x->stride[d] != *stride * rows) return false;
        rows *= x->shape[d];
    }
    return true;
}

bool KERNEL(matmul)(const aj_call *c) {
    const aj_tensor *a = c->in[0], *b = c->in[1];
    aj_tensor *y = c->out[0];
    if (y->numel == 0) return true;
    batch w = {.bytes = dtype_bytes[y->dtype]};
    gemm *g = &w.g;
    g->dtype = y->dtype;
    g->a = a->data; g->b = b->data; g->c = y->data;
    g->K = a->shape[a->ndim - 1];
    g->M = a->ndim > 1 ? a->shape[a->ndim - 2] : 1;
    g->N = b->ndim > 1 ? b->shape[b->ndim - 1] : 1;
    g->sa[0] = a->ndim > 1 ? a->stride[a->ndim - 2] : g->K; g->sa[1] = a->stride[a->ndim - 1];
    g->sb[0] = b->stride[b->ndim > 1 ? b->ndim - 2 : 0];    g->sb[1] = b->ndim > 1 ? b->stride[b->ndim - 1] : 1;
    g->ldc = g->N;
    w.nb = y->ndim - (a->ndim > 1) - (b->ndim > 1);
    int64_t count = 1, run;
    for (int d = 0; d < w.nb; d++) {
        int da = d - (w.nb - (a->ndim > 2 ? a->ndim - 2 : 0)), db = d - (w.nb - (b->ndim > 2 ? b->ndim - 2 : 0));
        count *= w.size[d] = y->shape[d];
        w.sa[d] = da < 0 || a->shape[da] == 1 ? 0 : a->stride[da];
        w.sb[d] = db < 0 || b->shape[db] == 1 ? 0 : b->stride[db];
    }
    if (count == 1) return KERNEL(gemm)(g);
    if (b->ndim <= 2 && a->ndim > 1 && g->M * count == a->numel / (g->K ? g->K : 1) && folds(a, a->ndim - 2, &run)) {
        g->M *= count;                                   /* one matrix for all rows */
        g->sa[0] = run;
        return KERNEL(gemm)(g);
    }
    w.step_c = g->M * g->N;
    double work = (double)g->M * (double)g->N * (double)g->K;
    int threads = aj_threads();
    if (count >= threads || work < 1e6) {                /* whole products to each thread */
        g->threads = 1;
        aj_parallel(count, 1 + (int64_t)(3e6 / (work + 1000)), batch_range, &w);
    } else batch_range(&w, 0, count);
    return w.failed ? aj_error("matmul: out of memory") : true;
}

bool KERNEL(linear)(const aj_call *c) {
    const aj_tensor *x = c->in[0], *v = c->in[1], *bias = c->in[2];
    aj_tensor *y = c->out[0], copy, dense;
    if (y->numel == 0) return true;
    int64_t K = v->shape[1], N = v->shape[0], rows;
    void *own = NULL, *own_bias = NULL;
    if (!folds(x, x->ndim - 2, &rows)) {
        if (!(own = aj_scratch(x->numel * dtype_bytes[x->dtype]))) return false;
        copy = *x;
        copy.data = own;
        int64_t run = 1;
        for (int d = x->ndim - 1; d >= 0; d--) { copy.stride[d] = run; run *= x->shape[d]; }
        aj_set_contiguous(&copy);
        KERNEL(copy_into)(&copy, x);
        x = &copy;
        rows = K;
    }
    if (bias && bias->stride[0] != 1 && N > 1) {
        if (!(own_bias = aj_scratch(N * dtype_bytes[x->dtype]))) { aj_scratch_free(own); return false; }
        dense = *bias;
        dense.data = own_bias;
        dense.stride[0] = 1;
        aj_set_contiguous(&dense);
        KERNEL(copy_into)(&dense, bias);
        bias = &dense;
    }
    gemm g = {.dtype = x->dtype, .M = y->numel / N, .N = N, .K = K, .a = x->data, .b = v->data, .bias = bias ? bias->data : NULL, .c = y->data,
              .sa = {rows, x->stride[x->ndim - 1]}, .sb = {v->stride[1], v->stride[0]}, .ldc = N};
    bool ok = KERNEL(gemm)(&g);
    aj_scratch_free(own);
    aj_scratch_free(own_bias);
    return ok;
}
