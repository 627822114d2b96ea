// matmul.cu - matrix products and linear layers.
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

extern "C" bool matmul_cuda(const aj_call *c) {
    const aj_tensor *a = c->in[0], *b = c->in[1];
    aj_tensor *y = c->out[0];
    int na = a->ndim > 2 ? a->ndim - 2 : 0, nb = b->ndim > 2 ? b->ndim - 2 : 0, n = na > nb ? na : nb;
    int64_t M = a->ndim > 1 ? a->shape[a->ndim - 2] : 1, K = a->shape[a->ndim - 1], N = b->ndim > 1 ? b->shape[b->ndim - 1] : 1, Z = 1;
    if (!y->numel) return true;
    for (int d = 0; d < n; d++) Z *= y->shape[d];
    work w(c);
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
    aj_tensor *x = in_order(c->in[0]), *weight = c->in[1], *bias = in_order(c->in[2]), *y = c->out[0];
    if (!x || (c->in[2] && !bias)) return false;
    if (!y->numel) return true;
    int64_t K = weight->shape[1], N = weight->shape[0], M = y->numel / N;
    work w(c);
    matrices a = {}, b = {}, m = {};
    a.p = x->data; a.dtype = x->dtype; a.row = K; a.column = 1;
    b.p = weight->data; b.dtype = weight->dtype; b.row = weight->stride[1]; b.column = weight->stride[0];
    m.p = y->data; m.dtype = y->dtype; m.row = N; m.column = 1;
    m.bias = bias ? bias->data : nullptr;
    return multiply(w, y->device, y->dtype, 1, M, N, K, a, b, m);
}

}
