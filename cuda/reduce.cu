// reduce.cu - reductions over any set of dimensions.
//
// The dimensions are sorted into those kept and those folded, and merged where they lie evenly. Where kept elements lie
// side by side, a thread folds one of them along, next to its neighbours; else a group of threads shares out what one
// result is made of. Few results of many elements are made in parts, which are then folded themselves; the parts are cut
// by sizes alone, so that a result does not depend on how threads take turns.
#include "launch.cuh"
#include "map.cuh"
#include "math.cuh"

namespace cuda {

struct reduction {
    const char *x;
    char *y;
    int32_t in, out;            // dtypes
    dims kept, over;
    int64_t part;               // elements that one part folds
    bool packets;               // what is folded lies dense, and can be read by packets
    double divisor;             // of a mean, else 1
};

namespace row {
template <typename real> AT real lowest();
template <typename real> AT real highest();
template <> AT float lowest<float>() { return -INFINITY; }
template <> AT float highest<float>() { return INFINITY; }
template <> AT double lowest<double>() { return -(double)INFINITY; }
template <> AT double highest<double>() { return (double)INFINITY; }
template <> AT int64_t lowest<int64_t>() { return INT64_MIN; }
template <> AT int64_t highest<int64_t>() { return INT64_MAX; }
#define LOWEST lowest<real>()
#define HIGHEST highest<real>()
#define REDUCE(name, domain, begin, next, ...) \
    struct name##_fold { \
        template <typename real> static AT real start() { return (real)(begin); } \
        template <typename real> static AT real step(real acc, real x) { return (real)(next); } \
    };
#include "../core/ops.def"
}

template <typename F, typename real> __device__ inline real fold_range(const reduction &r, const char *x, int64_t lo, int64_t hi, int first, int step) {
    enum { N = class_of<real>::packet };
    real acc = F::template start<real>();
    if (r.packets) {
        real lane[N], v[N];
        for (int j = 0; j < N; j++) lane[j] = acc;
        for (int64_t i = lo + (int64_t)first * N; i < hi; i += (int64_t)step * N) {
            if (i + N <= hi) {
                read_packet<real>(v, x, r.in, i);
                for (int j = 0; j < N; j++) lane[j] = F::template step<real>(lane[j], v[j]);
            } else for (int j = 0; i + j < hi; j++) lane[0] = F::template step<real>(lane[0], read<real>(x, r.in, i + j));
        }
        for (int j = 0; j < N; j++) acc = F::template step<real>(acc, lane[j]);
    } else for (int64_t i = lo + first; i < hi; i += step) acc = F::template step<real>(acc, read<real>(x, r.in, r.over.offset(i)));
    return acc;
}

template <typename real> __device__ inline void put(const reduction &r, int64_t i, real acc) {
    write<real>(r.y, r.out, i, r.divisor == 1 ? acc : (real)(acc / (real)r.divisor));
}

// A result by blockDim.x threads, 32 or all of a block; parts along y.
template <typename F, typename real> __global__ void __launch_bounds__(THREADS) reduce_along(const __grid_constant__ reduction r) {
    __shared__ real of_warp[THREADS / 32];
    int64_t o = (int64_t)blockIdx.x * blockDim.y + threadIdx.y, lo = blockIdx.y * r.part, hi = lo + r.part < r.over.count ? lo + r.part : r.over.count;
    real acc = F::template start<real>();
    if (o < r.kept.count) acc = fold_range<F, real>(r, r.x + r.kept.offset(o) * dtype_bytes(r.in), lo, hi, threadIdx.x, blockDim.x);
    for (int k = 16; k; k /= 2) acc = F::template step<real>(acc, __shfl_xor_sync(0xffffffffu, acc, k));
    if (blockDim.x > 32) {
        if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = acc;
        __syncthreads();
        if (threadIdx.x == 0) for (int i = 1; i < THREADS / 32; i++) acc = F::template step<real>(acc, of_warp[i]);
    }
    if (threadIdx.x == 0 && o < r.kept.count) put<real>(r, blockIdx.y * r.kept.count + o, acc);
}

// 32 results side by side, each by 8 threads one above the other; parts along y.
template <typename F, typename real> __global__ void __launch_bounds__(THREADS) reduce_across(const __grid_constant__ reduction r) {
    __shared__ real above[THREADS / 32][32];
    int64_t o = (int64_t)blockIdx.x * 32 + threadIdx.x, lo = blockIdx.y * r.part, hi = lo + r.part < r.over.count ? lo + r.part : r.over.count;
    real acc = F::template start<real>();
    if (o < r.kept.count) {
        const char *x = r.x + r.kept.offset(o) * dtype_bytes(r.in);
        for (int64_t i = lo + threadIdx.y; i < hi; i += THREADS / 32) acc = F::template step<real>(acc, read<real>(x, r.in, r.over.offset(i)));
    }
    above[threadIdx.y][threadIdx.x] = acc;
    __syncthreads();
    if (threadIdx.y || o >= r.kept.count) return;
    for (int i = 1; i < THREADS / 32; i++) acc = F::template step<real>(acc, above[i][threadIdx.x]);
    put<real>(r, blockIdx.y * r.kept.count + o, acc);
}

template <typename F, typename real> static void launch_reduction(const reduction &r, bool across, int64_t parts, work &w) {
    if (across) {
        launch_together(reduce_across<F, real>, dim3((unsigned)((r.kept.count + 31) / 32), (unsigned)parts), dim3(32, THREADS / 32), w.stream, r);
        return;
    }
    unsigned group = r.part <= 1024 ? 32 : THREADS, beside = THREADS / group;
    launch_together(reduce_along<F, real>, dim3((unsigned)((r.kept.count + beside - 1) / beside), (unsigned)parts), dim3(group, beside), w.stream, r);
}

template <typename F, typename real> static bool reduce(const aj_call *c, bool mean) {
    const aj_tensor *x = c->in[0];
    aj_tensor *y = c->out[0];
    work w(c);
    reduction r = {};
    r.x = x->data;
    r.y = y->data;
    r.in = x->dtype;
    r.out = y->dtype;
    r.kept.count = r.over.count = 1;
    bool over[AJ_MAX_DIM];
    if (!aj_dims_of(c, &c->attrs->list, x->ndim, over)) return false;
    for (int d = x->ndim - 1; d >= 0; d--) {
        if (x->shape[d] > INT32_MAX) return aj_refuse(c, "a dimension of more than 2^31 - 1 elements cannot be reduced on a CUDA device");
        put_dim(over[d] ? r.over : r.kept, x->shape[d], x->stride[d]);
    }
    if (y->numel == 0) return true;
    for (dims *d : {&r.kept, &r.over})
        if (d->ndim == 0) { d->ndim = 1; d->shape[0] = divide_by(1); }
    r.divisor = mean ? (double)r.over.count : 1;
    bool across = r.kept.stride[0] == 1 && r.kept.shape[0].by > 1 && r.over.stride[0] != 1;
    int64_t blocks = across ? (r.kept.count + 31) / 32 : r.kept.count, most = (r.over.count + 2047) / 2048, parts = (int64_t)w.processors * 4 / blocks;
    parts = parts < 1 ? 1 : parts > most ? (most ? most : 1) : parts;
    if (parts > 1024) parts = 1024;
    r.part = (r.over.count + parts - 1) / parts;
    if (parts > 1) r.part = (r.part + 31) / 32 * 32;
    if (r.part) parts = (r.over.count + r.part - 1) / r.part;
    r.packets = !across && r.over.ndim == 1 && r.over.stride[0] == 1 && x->dtype >= AJ_I64 && ((uintptr_t)x->data & 15) == 0;
    for (int d = 0; d < r.kept.ndim && r.packets; d++) r.packets = r.kept.stride[d] * dtype_bytes(r.in) % 16 == 0 || r.kept.shape[d].by == 1;
    if (parts <= 1) {
        launch_reduction<F, real>(r, across, 1, w);
        return w.done();
    }
    scratch room(y->device, parts * r.kept.count * (int64_t)sizeof(real));
    if (!room.p) return false;
    reduction first = r, second = {};
    first.y = (char *)room.p;
    first.out = class_of<real>::dtype;
    first.divisor = 1;
    launch_reduction<F, real>(first, across, parts, w);
    second.x = (char *)room.p;
    second.y = r.y;
    second.in = class_of<real>::dtype;
    second.out = r.out;
    second.divisor = r.divisor;
    second.part = parts;
    second.kept.count = second.over.count = 1;
    put_dim(second.kept, r.kept.count, 1);
    put_dim(second.over, parts, r.kept.count);
    if (second.kept.ndim == 0) { second.kept.ndim = 1; second.kept.shape[0] = divide_by(1); }
    launch_reduction<F, real>(second, r.kept.count > 1, 1, w);
    return w.done();
}

template <typename F> static bool reduce_any(const aj_call *c, bool mean = false) {
    int d = c->in[0]->dtype;
    return d == AJ_F64 ? reduce<F, double>(c, mean) : aj_is_float(d) ? reduce<F, float>(c, mean) : reduce<F, int64_t>(c, mean);
}

#define REDUCE(name, ...) extern "C" bool name##_cuda(const aj_call *c) { return reduce_any<row::name##_fold>(c); }
#include "../core/ops.def"
extern "C" bool mean_cuda(const aj_call *c) { return reduce_any<row::sum_fold>(c, true); }

}
