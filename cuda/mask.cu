// mask.cu - elements chosen by bools, and where they are: a scan counts those that come before each.
//
// How many there are the op's rule has counted, to know the size of the result.
#include "each.cuh"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"   // what GCC believes of CUB's own lines
#include <cub/device/device_scan.cuh>

namespace cuda {

// Sums of n numbers before each of them, in place.
template <typename T> static bool sums_before(work &w, int32_t device, T *p, int64_t n) {
    size_t bytes = 0;
    if (!w.done(cub::DeviceScan::ExclusiveSum(nullptr, bytes, p, p, (int)n, w.stream))) return false;
    scratch room(device, (int64_t)bytes + 1);
    return room.p && w.done(cub::DeviceScan::ExclusiveSum(room.p, bytes, p, p, (int)n, w.stream));
}

struct flags {
    elements mask;
    int32_t *y;
    __device__ void operator()(int64_t i) const { y[i] = ((const uint8_t *)mask.p)[mask.d.offset(i)] != 0; }
};
// At each place how many true ones come before it, in scratch memory; NULL after an error.
static int32_t *places(const aj_call *c, work &w, scratch &room, const aj_tensor *mask) {
    if (mask->numel > INT32_MAX) return aj_refuse(c, "a mask of more than 2^31 - 1 elements is too large for a CUDA device"), nullptr;
    int32_t *y = (int32_t *)room.p;
    return y && each(w, mask->numel, flags{elements_of(mask), y}) && sums_before(w, mask->device, y, mask->numel) ? y : nullptr;
}

template <typename word, bool out> struct move_chosen {
    elements many, mask;
    const int32_t *place;
    word *few;
    int64_t count;
    __device__ void operator()(int64_t i) const {
        if (!((const uint8_t *)mask.p)[mask.d.offset(i)] || place[i] >= count) return;
        word *x = (word *)(void *)many.p + many.d.offset(i);
        if (out) few[place[i]] = *x;
        else *x = few[place[i]];
    }
};
template <bool out> static bool choose(const aj_call *c, aj_tensor *many, aj_tensor *mask, aj_tensor *few) {
    if (!many->numel || !few->numel) return true;
    work w(c);
    scratch room(many->device, mask->numel * 4);
    int32_t *place = places(c, w, room, mask);
    if (!place) return false;
#define MOVE(word) each(w, many->numel, move_chosen<word, out>{elements_of(many), elements_of(mask), place, (word *)(void *)few->data, few->numel})
    int bytes = dtype_bytes(many->dtype);
    return bytes == 1 ? MOVE(uint8_t) : bytes == 2 ? MOVE(uint16_t) : bytes == 4 ? MOVE(uint32_t) : MOVE(uint64_t);
#undef MOVE
}
extern "C" bool masked_select_cuda(const aj_call *c) { return choose<true>(c, c->in[0], c->in[1], c->out[0]); }
extern "C" bool masked_scatter__cuda(const aj_call *c) { return choose<false>(c, c->in[0], c->in[1], c->in[2]); }

struct put_positions {
    const uint8_t *x;
    const int32_t *place;
    int64_t *y, base, shape[AJ_MAX_DIM], count;
    int32_t ndim;
    __device__ void operator()(int64_t i) const {
        if (!x[i] || place[i] >= count) return;
        int64_t *to = y + (int64_t)place[i] * ndim;
        for (int d = ndim - 1; d >= 0; d--) { to[d] = i % shape[d] + base; i /= shape[d]; }
    }
};
extern "C" bool nonzero_cuda(const aj_call *c) {
    const aj_tensor *x = c->in[0];                       // dense bools
    aj_tensor *y = c->out[0];
    if (!y->numel) return true;
    work w(c);
    scratch room(x->device, x->numel * 4);
    put_positions p = {(const uint8_t *)x->data, places(c, w, room, x), (int64_t *)(void *)y->data, c->attrs->base, {}, y->shape[0], x->ndim};
    for (int d = 0; d < x->ndim; d++) p.shape[d] = x->shape[d];
    return p.place && each(w, x->numel, p);
}

// Result i is of the last element that begins at i or before.
struct which_repeat {
    const int64_t *begin;
    int64_t *y, n, base;
    __device__ void operator()(int64_t i) const {
        int64_t lo = 0, hi = n;
        while (lo + 1 < hi) { int64_t half = (lo + hi) / 2; if (begin[half] <= i) lo = half; else hi = half; }
        y[i] = lo + base;
    }
};
struct copy_counts {
    const int64_t *x;
    int64_t *y;
    __device__ void operator()(int64_t i) const { y[i] = x[i]; }
};
extern "C" bool repeat_positions_cuda(const aj_call *c) {
    const aj_tensor *r = c->in[0], *y = c->out[0];
    if (!y->numel) return true;
    if (r->numel > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 counts are too many for a CUDA device");
    work w(c);
    scratch room(r->device, r->numel * 8);
    int64_t *begin = (int64_t *)room.p;
    return begin && each(w, r->numel, copy_counts{(const int64_t *)(const void *)r->data, begin}) && sums_before(w, r->device, begin, r->numel)
        && each(w, y->numel, which_repeat{begin, (int64_t *)(void *)y->data, r->numel, c->attrs->base});
}

}
