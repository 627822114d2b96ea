// pool.cu - pooling: a thread has an element of the result, and its window along each dimension; fixed and adaptive windows,
// padding and dilation are one case. Channels may be last.
#include "copy.cuh"
#include "each.cuh"
#include "layout.h"
#include "math.cuh"

namespace cuda {

enum { NO_DIM = INT32_MIN };
// The elements of planes, in memory plane by plane, or where channels are last place by place of each sample.
struct planes {
    int64_t channels;           // 1: plane by plane
    __device__ int64_t at(int64_t plane, int64_t place, int64_t places) const { return (plane / channels * places + place) * channels + plane % channels; }
    __device__ int64_t plane(int64_t i, int64_t places) const { return i / (places * channels) * channels + i % channels; }
    __device__ int64_t place(int64_t i, int64_t places) const { return i / channels % places; }
};
// Of a tensor that is in order, or has channels last over its last nd dimensions.
static planes planes_of(const aj_tensor *t, int nd) { return {t->ndim == nd + 2 && channels_last(t) ? t->shape[1] : 1}; }
static aj_tensor *in_planes(aj_tensor *t, int nd) { return planes_of(t, nd).channels > 1 ? t : in_order(t); }

struct span { int64_t first, n, step, count; };          // count: what a mean is divided by
struct pool : planes {
    const char *from;
    char *to;
    int64_t *found;             // places as a result; or in 32 bits
    int32_t *index;
    int32_t dtype, to_dtype;
    int64_t I[3], Y[3], K[3], S[3], P[3], L[3], divisor, base;
    bool adaptive, include_padding;
    __device__ int64_t inputs() const { return I[0] * I[1] * I[2]; }
    __device__ int64_t outputs() const { return Y[0] * Y[1] * Y[2]; }
    __device__ span window(int d, int64_t o) const {
        if (adaptive) {
            int64_t first = o * I[d] / Y[d], end = ((o + 1) * I[d] + Y[d] - 1) / Y[d];
            return {first, end - first, 1, end - first};
        }
        int64_t first = o * S[d] - P[d], end = first + (K[d] - 1) * L[d] + 1, padded = end < I[d] + P[d] ? end : I[d] + P[d];
        span w = {first, 0, L[d], padded - first};
        if (first < 0) w.first = first + (-first + L[d] - 1) / L[d] * L[d];
        if (end > I[d]) end = I[d];
        w.n = end <= w.first ? 0 : (end - w.first + L[d] - 1) / L[d];
        if (!include_padding) w.count = w.n;
        return w;
    }
    // The first and the last window along d that may hold an input; window() tells whether they do.
    __device__ void above(int d, int64_t i, int64_t *lo, int64_t *hi) const {
        if (adaptive) { *lo = i * Y[d] / I[d] - 1; *hi = ((i + 1) * Y[d] + I[d] - 1) / I[d]; }
        else { *lo = (i + P[d] - (K[d] - 1) * L[d]) / S[d]; *hi = (i + P[d]) / S[d]; }
        if (*lo < 0) *lo = 0;
        if (*hi > Y[d] - 1) *hi = Y[d] - 1;
    }
};

template <typename real> struct pool_largest {
    pool p;
    __device__ void operator()(int64_t i) const {
        int64_t plane = p.plane(i, p.outputs()), o = p.place(i, p.outputs()), place = -1;
        span a = p.window(0, o / (p.Y[1] * p.Y[2])), b = p.window(1, o / p.Y[2] % p.Y[1]), c = p.window(2, o % p.Y[2]);
        real best = (real)0;
        for (int64_t x = 0; x < a.n; x++) for (int64_t y = 0; y < b.n; y++) for (int64_t z = 0; z < c.n; z++) {
            int64_t at = ((a.first + x * a.step) * p.I[1] + b.first + y * b.step) * p.I[2] + c.first + z * c.step;
            real v = read<real>(p.from, p.dtype, p.at(plane, at, p.inputs()));
            if (place < 0 || v > best || (v != v && best == best)) { best = v; place = at; }
        }
        write<real>(p.to, p.to_dtype, i, best);
        if (p.found) p.found[i] = (place < 0 ? 0 : place) + p.base;
        if (p.index) p.index[i] = (int32_t)(place < 0 ? 0 : place);
    }
};
template <typename real> struct pool_mean {
    pool p;
    __device__ void operator()(int64_t i) const {
        int64_t plane = p.plane(i, p.outputs()), o = p.place(i, p.outputs());
        span a = p.window(0, o / (p.Y[1] * p.Y[2])), b = p.window(1, o / p.Y[2] % p.Y[1]), c = p.window(2, o % p.Y[2]);
        real sum = 0;
        for (int64_t x = 0; x < a.n; x++) for (int64_t y = 0; y < b.n; y++) for (int64_t z = 0; z < c.n; z++)
            sum += read<real>(p.from, p.dtype, p.at(plane, ((a.first + x * a.step) * p.I[1] + b.first + y * b.step) * p.I[2] + c.first + z * c.step, p.inputs()));
        int64_t count = p.divisor ? p.divisor : a.count * b.count * c.count;
        write<real>(p.to, p.to_dtype, i, sum / (real)count);
    }
};
template <typename real> struct pool_mean_back {
    pool p;
    __device__ void operator()(int64_t i) const {
        int64_t plane = p.plane(i, p.inputs()), at = p.place(i, p.inputs()), in[3] = {at / (p.I[1] * p.I[2]), at / p.I[2] % p.I[1], at % p.I[2]}, lo[3], hi[3], o[3];
        real sum = 0;
        for (int d = 0; d < 3; d++) p.above(d, in[d], &lo[d], &hi[d]);
        for (o[0] = lo[0]; o[0] <= hi[0]; o[0]++) for (o[1] = lo[1]; o[1] <= hi[1]; o[1]++) for (o[2] = lo[2]; o[2] <= hi[2]; o[2]++) {
            int64_t count = 1;
            bool holds = true;
            for (int d = 0; d < 3; d++) {
                span w = p.window(d, o[d]);
                int64_t off = in[d] - w.first;
                holds = holds && off >= 0 && off % w.step == 0 && off / w.step < w.n;
                count *= w.count;
            }
            if (holds) sum += read<real>(p.from, p.dtype, p.at(plane, (o[0] * p.Y[1] + o[1]) * p.Y[2] + o[2], p.outputs())) / (real)(p.divisor ? p.divisor : count);
        }
        write<real>(p.to, p.to_dtype, i, sum);
    }
};

// x: what windows are taken from; y: one element a window.
static void describe(pool &p, const aj_tensor *x, const aj_tensor *y, int nd, const aj_attrs *a, bool adaptive, bool dilated) {
    for (int i = 0; i < 3; i++) {
        int d = x->ndim - 3 + i, j = i - (3 - nd);
        bool there = j >= 0;
        p.I[i] = there ? x->shape[d] : 1;
        p.Y[i] = there ? y->shape[d] : 1;
        bool given = there && !adaptive;
        p.K[i] = given ? a->kernel.v[j] : 1;
        p.S[i] = given ? a->stride.v[j] : 1;
        p.P[i] = given ? a->padding.v[j] : 0;
        p.L[i] = given && dilated ? a->dilation.v[j] : 1;
    }
    p.adaptive = adaptive;
    p.include_padding = a->flag2;
}

enum { GREATEST, MEAN, MEAN_BACK };
template <int what> static bool pooling(const aj_call *c, int nd, bool adaptive) {
    aj_tensor *from = in_planes(c->in[0], nd), *to = c->out[0];
    if (!from) return false;
    if (!to->numel) return true;
    work w(c);
    pool p = {};
    bool back = what == MEAN_BACK;
    describe(p, back ? to : from, back ? from : to, nd, c->attrs, adaptive, what == GREATEST);
    p.channels = planes_of(from, nd).channels;
    if (p.channels > 1) for (int k = 0; k < c->n_out; k++) lay_channels_last(c->out[k]);
    p.from = from->data; p.dtype = from->dtype;
    p.to = to->data; p.to_dtype = to->dtype;
    p.divisor = what == GREATEST || adaptive || c->attrs->i == NO_DIM ? 0 : c->attrs->i;
    if (what == GREATEST && c->n_out > 1) {
        if (c->out[1]->dtype == AJ_I64) { p.found = (int64_t *)(void *)c->out[1]->data; p.base = c->attrs->base; }
        else p.index = (int32_t *)(void *)c->out[1]->data;
    }
    if (p.I[0] * p.I[1] * p.I[2] > INT32_MAX) return aj_refuse(c, "a channel has more than 2^31 - 1 elements");
    return with_class(to->dtype, [&](auto of) {
        typedef decltype(of) real;
        if constexpr (what == GREATEST) return each(w, to->numel, pool_largest<real>{p});
        else if constexpr (what == MEAN) return each(w, to->numel, pool_mean<real>{p});
        else return each(w, to->numel, pool_mean_back<real>{p});
    });
}
#define POOLS(n) \
    extern "C" bool max_pool##n##d_cuda(const aj_call *c) { return pooling<GREATEST>(c, n, false); } \
    extern "C" bool max_pool##n##d_with_indices_cuda(const aj_call *c) { return pooling<GREATEST>(c, n, false); } \
    extern "C" bool adaptive_max_pool##n##d_cuda(const aj_call *c) { return pooling<GREATEST>(c, n, true); } \
    extern "C" bool adaptive_max_pool##n##d_with_indices_cuda(const aj_call *c) { return pooling<GREATEST>(c, n, true); } \
    extern "C" bool avg_pool##n##d_cuda(const aj_call *c) { return pooling<MEAN>(c, n, false); } \
    extern "C" bool adaptive_avg_pool##n##d_cuda(const aj_call *c) { return pooling<MEAN>(c, n, true); }
POOLS(1) POOLS(2) POOLS(3)
extern "C" bool avg_pool_grad_cuda(const aj_call *c) { return pooling<MEAN_BACK>(c, (int)c->attrs->k, false); }
extern "C" bool adaptive_avg_pool_grad_cuda(const aj_call *c) { return pooling<MEAN_BACK>(c, (int)c->attrs->k, true); }

// -- Elements at places of their planes

struct placed : planes {
    const char *from, *index;
    char *to;
    int32_t dtype, index_dtype, to_dtype, op;
    int64_t n_in, n_out;        // of a plane: elements, and places
    fault *faults;
    __device__ int64_t found(int64_t i) const {
        int64_t k = read<int64_t>(index, index_dtype, i);
        if (k >= 0 && k < n_in) return at(plane(i, n_out), k, n_in);
        report(faults, INDEX, op, k, 0, n_in - 1);
        return -1;
    }
};
template <typename real> struct pick {
    placed p;
    __device__ void operator()(int64_t i) const {
        int64_t k = p.found(i);
        write<real>(p.to, p.to_dtype, i, k < 0 ? (real)0 : read<real>(p.from, p.dtype, k));
    }
};
template <typename real> struct put_plane {              // windows may overlap: a plane is one thread's, so that sums keep their order
    placed p;
    __device__ void operator()(int64_t plane) const {
        for (int64_t o = 0; o < p.n_out; o++) {
            int64_t i = p.at(plane, o, p.n_out), k = p.found(i);
            if (k >= 0) write<real>(p.to, p.to_dtype, k, read<real>(p.to, p.to_dtype, k) + read<real>(p.from, p.dtype, i));
        }
    }
};
__device__ inline void add_to(float *p, float v) { atomicAdd(p, v); }
__device__ inline void add_to(double *p, double v) { atomicAdd(p, v); }
__device__ inline void add_to(int64_t *p, int64_t v) { atomicAdd((unsigned long long *)p, (unsigned long long)v); }
template <typename real> struct put_place {
    placed p;
    __device__ void operator()(int64_t i) const {
        int64_t k = p.found(i);
        if (k >= 0) add_to((real *)(void *)p.to + k, read<real>(p.from, p.dtype, i));
    }
};

static placed describe_places(const work &w, const aj_tensor *from, const aj_tensor *index, const aj_tensor *to, const aj_tensor *plane, int nd) {
    placed p = {planes_of(index, nd), from->data, index->data, to->data, from->dtype, index->dtype, to->dtype, w.op, 1, 1, w.faults};
    for (int d = 0; d < nd; d++) { p.n_in *= plane->shape[plane->ndim - 1 - d]; p.n_out *= index->shape[index->ndim - 1 - d]; }
    return p;
}
extern "C" bool max_pool_pick_cuda(const aj_call *c) {
    const int nd = (int)c->attrs->i;
    aj_tensor *x = c->in[0], *index = c->in[1], *y = c->out[0];
    if (planes_of(x, nd).channels > 1 && planes_of(index, nd).channels > 1) lay_channels_last(y);
    else if (!(x = in_order(x)) || !(index = in_order(index))) return false;
    work w(c);
    placed p = describe_places(w, x, index, y, x, nd);
    return with_class(y->dtype, [&](auto of) { return each(w, y->numel, pick<decltype(of)>{p}); });
}
extern "C" bool max_pool_grad_cuda(const aj_call *c) {
    const int nd = (int)c->attrs->i;
    aj_tensor *g = c->in[0], *index = c->in[1], *y = c->out[0];
    if (planes_of(g, nd).channels > 1 && planes_of(index, nd).channels > 1) lay_channels_last(y);
    else if (!(g = in_order(g)) || !(index = in_order(index))) return false;
    work w(c);
    int d = y->dtype, natural = d == AJ_F64 ? AJ_F64 : aj_is_float(d) ? AJ_F32 : AJ_I64;
    aj_tensor *to = y;
    if (d != natural) {                                  // sums are kept in the type computed in
        aj_ints shape = {y->ndim, {0}};
        for (int k = 0; k < y->ndim; k++) shape.v[k] = y->shape[k];
        if (!(to = aj_untag(aj_empty((aj_dtype)natural, &shape, y->device)))) return false;
        if (!y->contiguous) lay_channels_last(to);
    }
    if (!fill(w, to, 0)) return false;
    placed p = describe_places(w, g, index, to, y, nd);
    bool ok = !g->numel || with_class(natural, [&](auto of) {
        typedef decltype(of) real;
        return aj_deterministic() ? each(w, g->numel / p.n_out, put_plane<real>{p}) : each(w, g->numel, put_place<real>{p});
    });
    return ok && (to == y || copy_into(w, y, to));
}

}
