// each.cuh - kernels that are one function of a place: a struct F with `void operator()(int64_t i) const` for i from 0 up to
// below a count.
#pragma once
#include "map.cuh"

namespace cuda {

template <typename F> __global__ void __launch_bounds__(THREADS) each_kernel(const __grid_constant__ F f, int64_t count) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS) f(i);
}
template <typename F> bool each(work &w, int64_t count, const F &f) {
    if (count > 0) launch(each_kernel<F>, blocks_for(count, w.processors), dim3(THREADS), w.stream, f, count);
    return w.done();
}

// A tensor's elements for a kernel: by their numbers in order, whatever its strides and dtype.
struct elements {
    char *p;
    int32_t dtype;
    dims d;
    template <typename real> __device__ real get(int64_t i) const { return read<real>(p, dtype, d.offset(i)); }
    template <typename real> __device__ void set(int64_t i, real v) const { write<real>(p, dtype, d.offset(i), v); }
};
inline elements elements_of(const aj_tensor *t) { return t ? elements{t->data, t->dtype, dims_of(t)} : elements{}; }

// f(double()), f(float()) or f(int64_t()), by what a dtype is computed in.
template <typename F> bool with_class(int dtype, F f) {
    return dtype == AJ_F64 ? f(double()) : aj_is_float(dtype) ? f(float()) : f(int64_t());
}
template <typename F> bool with_floats(int dtype, F f) { return dtype == AJ_F64 ? f(double()) : f(float()); }

// x as outer * n * inner numbers, where n lies along dim.
struct split { int64_t outer, n, inner; };
inline split split_at(const aj_tensor *x, int dim) {
    split s = {1, x->ndim ? x->shape[dim] : 1, 1};
    for (int d = 0; d < x->ndim; d++) { if (d < dim) s.outer *= x->shape[d]; if (d > dim) s.inner *= x->shape[d]; }
    return s;
}

// The tensor itself, or a copy with its elements in order that the scope of the call owns; NULL stays NULL. NULL after an error too.
inline aj_tensor *in_order(aj_tensor *t) { return !t || t->contiguous ? t : aj_untag(aj_clone(t)); }
inline aj_tensor *in_order(aj_tensor *t, int dtype) { return !t || t->dtype == dtype ? in_order(t) : in_order(aj_untag(aj_cast(t, (aj_dtype)dtype))); }

}
