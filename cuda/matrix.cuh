// matrix.cuh - batches of matrices for kernels that give each of them to a block, in the memory of the device.
//
// Halves are computed with as floats; an operand is copied where it is not dense, or is to be worked on in its place.
#pragma once
#include "block.cuh"
#include "copy.cuh"
#include "each.cuh"

namespace cuda {

struct batch {
    const char *in[2];
    char *out[3], *room;        // room: as much for each matrix as run_batch was asked for
    int64_t m, n, k, count, step_in[2], step_out[3], room_step;       // rows and columns of the first input; columns of the second; steps in numbers
    fault *faults;
    int32_t op;
    bool flag, flag2, unit;     // as the op's attributes have them
    int32_t mode;
    template <typename real> __device__ const real *input(int i) const { return (const real *)(const void *)in[i] + blockIdx.x * step_in[i]; }
    template <typename real> __device__ real *output(int i) const { return (real *)(void *)out[i] + blockIdx.x * step_out[i]; }
    template <typename real> __device__ real *scratch() const { return (real *)(void *)room + blockIdx.x * room_step; }
    __device__ void complain(int kind, int64_t element) const { if (threadIdx.x == 0) report(faults, kind, op, blockIdx.x, element, count); }
};

template <typename real> __device__ inline void copy_numbers(real *to, const real *from, int64_t n) {
    for (int64_t i = threadIdx.x; i < n; i += THREADS) to[i] = from[i];
    __syncthreads();
}
// Of the largest v over the block the least i.
template <typename real> __device__ inline int64_t place_of_largest(real v, int64_t i) {
    struct least { __device__ int64_t operator()(int64_t a, int64_t b) const { return a < b ? a : b; } };
    real most = of_block(v, larger());
    return of_block(v == most ? i : (int64_t)INT64_MAX, least());
}
template <typename real> __device__ inline bool all_finite(const real *a, int64_t n) {
    real bad = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) bad += a[i] * 0 == 0 ? 0 : 1;
    return of_block(bad, add()) == 0;
}

// go(real(), batch) starts the kernel, for batch.count blocks. room: numbers of scratch for each matrix.
template <typename F> bool run_batch(const aj_call *c, int64_t k, int64_t room, F go) {
    const aj_tensor *x = c->in[0];
    int wide = x->dtype == AJ_F64 ? AJ_F64 : AJ_F32;
    batch b = {};
    b.m = x->shape[x->ndim - 2];
    b.n = x->shape[x->ndim - 1];
    b.k = k;
    b.count = 1;
    for (int d = 0; d < x->ndim - 2; d++) b.count *= x->shape[d];
    if (!b.count) return true;
    if (b.count > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 matrices");
    bool grad = aj_grad_mode(false), ok = true;
    aj_tensor *out[AJ_MAX_OUT];
    for (int i = 0; i < c->n_in && ok; i++) {
        aj_tensor *t = in_order(c->in[i], wide);
        if ((ok = t != nullptr)) { b.in[i] = t->data; b.step_in[i] = t->numel / b.count; }
    }
    for (int i = 0; i < c->n_out && ok; i++) {
        aj_tensor *t = c->out[i];
        int as = aj_is_float(t->dtype) ? wide : AJ_I64;
        if (t->dtype != as) {
            aj_ints shape = {t->ndim, {}};
            for (int d = 0; d < t->ndim; d++) shape.v[d] = t->shape[d];
            t = aj_untag(aj_full((aj_dtype)as, &shape, t->device, 0));
        }
        if ((ok = t != nullptr)) { b.out[i] = t->data; b.step_out[i] = t->numel / b.count; out[i] = t; }
    }
    work w(c);
    scratch own(x->device, b.count * room * dtype_bytes(wide) + 1);
    ok = ok && own.p;
    b.room = (char *)own.p;
    b.room_step = room;
    b.faults = w.faults;
    b.op = c->op;
    b.flag = c->attrs->flag;
    b.flag2 = c->attrs->flag2;
    b.unit = c->attrs->keepdim;
    b.mode = c->attrs->mode;
    ok = ok && with_floats(wide, [&](auto of) { go(of, b, w); return w.done(); });
    for (int i = 0; i < c->n_out && ok; i++) if (out[i] != c->out[i]) ok = copy_into(w, c->out[i], out[i]);
    aj_grad_mode(grad);
    return ok;
}
#define BLOCKS(b) dim3((unsigned)(b).count), dim3(THREADS)

}
