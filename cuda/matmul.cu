// matmul.cu - matrix products and linear layers.
#include "blas.h"
#include "gemm.cuh"

namespace cuda {

// Matrices of a batch: each batch dimension has a stride, 0 where it is broadcast.
struct matrices {
    char *p;
    int32_t dtype, nb;
    int64_t row, column, size[AJ_MAX_DIM], stride[AJ_MAX_DIM];    // batch dimensions innermost first
    const char *bias;           // one for each column; NULL: none
    __device__ int64_t at(int64_t z, int64_t r, int64_t k) const {
        int64_t at = r * row + k * column;
        for (int d = 0; d < nb; d++) { at += z % size[d] * stride[d]; z /= size[d]; }
        return at;
    }
    template <typename real> __device__ real get(int64_t z, int64_t r, int64_t k) const { return read<real>(p, dtype, at(z, r, k)); }
    template <typename real> __device__ void set(int64_t z, int64_t m, int64_t n, real v) const {
        write<real>(p, dtype, at(z, m, n), bias ? v + read<real>(bias, dtype, n) : v);
    }
};

// t as matrices over the batch dimensions of a result; a vector is a row, or a column.
static matrices over(const aj_tensor *t, bool column_vector, int nb, const int64_t *batch) {
    matrices m = {};
    m.p = t->data;
    m.dtype = t->dtype;
    m.nb = nb;
    int own = t->ndim > 2 ? t->ndim - 2 : 0;
    if (t->ndim == 1) { m.row = column_vector ? t->stride[0] : 0; m.column = column_vector ? 0 : t->stride[0]; }
    else { m.row = t->stride[t->ndim - 2]; m.column = t->stride[t->ndim - 1]; }
    for (int d = 0; d < nb; d++) {                       // innermost first
        int e = own - 1 - d;
        m.size[d] = batch[nb - 1 - d];
        m.stride[d] = e < 0 || t->shape[e] == 1 ? 0 : t->stride[e];
    }
    return m;
}

static bool multiply(work &w, int32_t device, int dtype, int64_t Z, int64_t M, int64_t N, int64_t K, const matrices &a, const matrices &b, const matrices &c) {
    return with_class(dtype, [&](auto of) { return gemm<decltype(of)>(w, device, Z, M, N, K, a, b, c); });
}

// -- Products of floats by cuBLASLt. Operands that it takes where they lie are not copied.

struct add_bias {
    char *y;
    const char *bias;
    int32_t dtype;
    int64_t N;
    template <typename real> __device__ void add(int64_t i) const { write<real>(y, dtype, i, read<real>(y, dtype, i) + read<real>(bias, dtype, i % N)); }
    __device__ void operator()(int64_t i) const { if (dtype == AJ_F64) add<double>(i); else add<float>(i); }
};

// By the library with the bias as part of the product, or where it takes none added after it.
static blas_outcome multiply(work &w, const blas_product &p) {
    blas_outcome done = blas_multiply(w, p);
    if (done != BLAS_NOT_TAKEN || !p.bias) return done;
    blas_product plain = p;
    plain.bias = nullptr;
    if ((done = blas_multiply(w, plain)) != BLAS_DONE) return done;
    return each(w, p.M * p.N, add_bias{(char *)p.c, (const char *)p.bias, p.dtype, p.N}) ? BLAS_DONE : BLAS_FAILED;
}

// The matrices of a batch, innermost dimension first: dimensions along which all operands go on by one stride are one.
struct batches {
    int n;
    int64_t size[AJ_MAX_DIM], a[AJ_MAX_DIM], b[AJ_MAX_DIM];
    void add(int64_t count, int64_t sa, int64_t sb) {
        if (count == 1) return;
        if (n && sa == a[n - 1] * size[n - 1] && sb == b[n - 1] * size[n - 1]) { size[n - 1] *= count; return; }
        size[n] = count; a[n] = sa; b[n] = sb;
        n++;
    }
    int64_t calls() const { int64_t c = 1; for (int d = 1; d < n; d++) c *= size[d]; return c; }
};
static int64_t batch_stride(const aj_tensor *t, int d, int n) {      // d of n batch dimensions of the result
    int e = d - n + (t->ndim > 2 ? t->ndim - 2 : 0);
    return e < 0 || t->shape[e] == 1 ? 0 : t->stride[e];
}

// Rows of all dimensions but the last, when they lie one stride apart.
static bool rows_of(const aj_tensor *x, int64_t *stride) {
    int64_t rows = 1;
    *stride = x->shape[x->ndim - 1];
    for (int d = x->ndim - 2; d >= 0; d--) {
        if (x->shape[d] == 1) continue;
        if (rows == 1) *stride = x->stride[d];
        else if (x->stride[d] != *stride * rows) return false;
        rows *= x->shape[d];
    }
    return true;
}

static blas_matrix as_left(const aj_tensor *a) { return {a->data, a->ndim > 1 ? a->stride[a->ndim - 2] : a->shape[0], a->stride[a->ndim - 1], 0}; }
static blas_matrix as_right(const aj_tensor *b) { return {b->data, b->ndim > 1 ? b->stride[b->ndim - 2] : b->stride[0], b->ndim > 1 ? b->stride[b->ndim - 1] : 1, 0}; }
static bool oriented(const blas_matrix &m, int64_t rows, int64_t columns) {
    bool by_column;
    int64_t leading;
    return m.oriented(rows, columns, &by_column, &leading);
}

// What a product would be cut into more calls than this for is copied instead.
enum { MOST_CALLS = 16 };

static blas_outcome multiply(work &w, aj_tensor *a, aj_tensor *b, aj_tensor *y, int64_t M, int64_t N, int64_t K, int nb) {
    if (!blas.here() || !K) return BLAS_NOT_TAKEN;
    blas_product p = {y->device, y->dtype, 1, M, N, K, as_left(a), as_right(b), y->data, N, M * N, nullptr};
    int64_t rows, Z = y->numel / (M * N);
    if (!oriented(p.b, K, N)) {
        if (!(b = in_order(b))) return BLAS_FAILED;
        p.b = as_right(b);
    }
    if (Z > 1 && b->ndim <= 2 && M * Z == a->numel / K && rows_of(a, &rows)) {     // one matrix for all rows
        blas_matrix all = {a->data, rows, a->stride[a->ndim - 1], 0};
        if (oriented(all, M * Z, K)) {
            p.a = all;
            p.M = M * Z;
            return multiply(w, p);
        }
    }
    if (!oriented(p.a, M, K)) {
        if (!(a = in_order(a))) return BLAS_FAILED;
        p.a = as_left(a);
    }
    batches z = {};
    for (int d = nb - 1; d >= 0; d--) z.add(y->shape[d], batch_stride(a, d, nb), batch_stride(b, d, nb));
    if (z.calls() > MOST_CALLS) {
        if (!(a = in_order(a)) || !(b = in_order(b))) return BLAS_FAILED;
        p.a = as_left(a);
        p.b = as_right(b);
        z = {};
        for (int d = nb - 1; d >= 0; d--) z.add(y->shape[d], batch_stride(a, d, nb), batch_stride(b, d, nb));
    }
    if (z.n) { p.batches = z.size[0]; p.a.batch = z.a[0]; p.b.batch = z.b[0]; }
    const int64_t bytes = dtype_bytes(y->dtype), calls = z.calls();
    for (int64_t i = 0; i < calls; i++) {
        blas_product one = p;
        int64_t at = i, sa = 0, sb = 0;
        for (int d = 1; d < z.n; d++) { sa += at % z.size[d] * z.a[d]; sb += at % z.size[d] * z.b[d]; at /= z.size[d]; }
        one.a.p = (const char *)p.a.p + sa * bytes;
        one.b.p = (const char *)p.b.p + sb * bytes;
        one.c = (char *)p.c + i * p.batches * M * N * bytes;
        blas_outcome done = multiply(w, one);
        if (done != BLAS_DONE) return done;
    }
    return BLAS_DONE;
}

extern "C" bool matmul_cuda(const aj_call *c) {
    const aj_tensor *a = c->in[0], *b = c->in[1];
    aj_tensor *y = c->out[0];
    int na = a->ndim > 2 ? a->ndim - 2 : 0, nb = b->ndim > 2 ? b->ndim - 2 : 0, n = na > nb ? na : nb;
    int64_t M = a->ndim > 1 ? a->shape[a->ndim - 2] : 1, K = a->shape[a->ndim - 1], N = b->ndim > 1 ? b->shape[b->ndim - 1] : 1, Z = 1;
    if (!y->numel) return true;
    for (int d = 0; d < n; d++) Z *= y->shape[d];
    work w(c);
    if (aj_is_float(y->dtype)) {
        blas_outcome done = multiply(w, c->in[0], c->in[1], y, M, N, K, n);
        if (done != BLAS_NOT_TAKEN) return done == BLAS_DONE;
    }
    matrices ma = over(a, false, n, y->shape), mb = over(b, true, n, y->shape), mc = {};
    if (nb == 0 && na && a->contiguous) { M *= Z; Z = 1; n = 0; ma.nb = mb.nb = 0; }       // one matrix for all rows
    mc.p = y->data;
    mc.dtype = y->dtype;
    mc.nb = Z > 1 ? 1 : 0;
    mc.row = N;
    mc.column = 1;
    mc.size[0] = Z;
    mc.stride[0] = M * N;
    return multiply(w, y->device, y->dtype, Z, M, N, K, ma, mb, mc);
}

extern "C" bool linear_cuda(const aj_call *c) {
    aj_tensor *x = c->in[0], *weight = c->in[1], *bias = in_order(c->in[2]), *y = c->out[0];
    if (c->in[2] && !bias) return false;
    if (!y->numel) return true;
    int64_t K = weight->shape[1], N = weight->shape[0], M = y->numel / N, rows;
    work w(c);
    if (aj_is_float(y->dtype) && blas.here() && K) {
        blas_product p = {y->device, y->dtype, 1, M, N, K, {}, {weight->data, weight->stride[1], weight->stride[0], 0}, y->data, N, M * N, bias ? bias->data : nullptr};
        if (!oriented(p.b, K, N)) {
            if (!(weight = in_order(weight))) return false;
            p.b = {weight->data, 1, K, 0};
        }
        bool folds = rows_of(x, &rows);
        if (folds) p.a = {x->data, rows, x->stride[x->ndim - 1], 0};
        if (!folds || !oriented(p.a, M, K)) {
            if (!(x = in_order(x))) return false;
            p.a = {x->data, K, 1, 0};
        }
        blas_outcome done = multiply(w, p);
        if (done != BLAS_NOT_TAKEN) return done == BLAS_DONE;
    }
    if (!(x = in_order(x))) return false;
    matrices a = {}, b = {}, m = {};
    a.p = x->data; a.dtype = x->dtype; a.row = K; a.column = 1;
    b.p = weight->data; b.dtype = weight->dtype; b.row = weight->stride[1]; b.column = weight->stride[0];
    m.p = y->data; m.dtype = y->dtype; m.row = N; m.column = 1;
    m.bias = bias ? bias->data : nullptr;
    return multiply(w, y->device, y->dtype, 1, M, N, K, a, b, m);
}

}
