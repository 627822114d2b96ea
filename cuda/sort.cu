// sort.cu - sort, topk and rows in order, on pairs of a key (core/key.h) and a position, through CUB's stable sorts.
//
// A few elements of a long row are first found by a block, which looks for the key of the last of them digit by digit; only
// they are sorted.
#include "block.cuh"
#include "each.cuh"
#include "../core/key.h"
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_segmented_sort.cuh>

namespace cuda {

// The key of element i of dense numbers; turn: all ones to go from the largest down.
struct keyed { const char *x; int32_t dtype; bool turn; };
template <typename key> __device__ inline key key_at(const keyed &s, int64_t i);
template <> __device__ inline uint32_t key_at<uint32_t>(const keyed &s, int64_t i) {
    uint32_t k = s.dtype >= AJ_F16 ? key_of_f32(read<float>(s.x, s.dtype, i)) : key_of_i32((int32_t)read<int64_t>(s.x, s.dtype, i));
    return s.turn ? ~k : k;
}
template <> __device__ inline uint64_t key_at<uint64_t>(const keyed &s, int64_t i) {
    uint64_t k = s.dtype >= AJ_F16 ? key_of_f64(read<double>(s.x, s.dtype, i)) : key_of_i64(read<int64_t>(s.x, s.dtype, i));
    return s.turn ? ~k : k;
}

template <typename key> struct all_keys {                // of rows of n
    keyed s;
    int64_t n;
    key *keys;
    int32_t *at;
    __device__ void operator()(int64_t i) const { keys[i] = key_at<key>(s, i); at[i] = (int32_t)(i % n); }
};

// The first k of a row of n by a block, in the order of their positions.
template <typename key> struct first_keys { keyed s; int64_t n, k; key *keys; int32_t *at; };
template <typename key> __global__ void __launch_bounds__(THREADS) find_first(const __grid_constant__ first_keys<key> f) {
    __shared__ uint32_t count[256];
    __shared__ uint32_t digit, before;
    const int64_t row = (int64_t)blockIdx.x * f.n, to = (int64_t)blockIdx.x * f.k;
    key last = 0, known = 0;                             // the upper digits of the last key, and which they are
    uint32_t need = (uint32_t)f.k;                       // how many of those with these digits are among the first
    for (int shift = (int)sizeof(key) * 8 - 8; shift >= 0; shift -= 8) {
        count[threadIdx.x] = 0;
        __syncthreads();
        for (int64_t i = threadIdx.x; i < f.n; i += THREADS) {
            key v = key_at<key>(f.s, row + i);
            if ((v & known) == last) atomicAdd(&count[v >> shift & 255], 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            uint32_t d = 0, sum = 0;
            while (sum + count[d] < need) sum += count[d++];
            digit = d;
            before = sum;
        }
        __syncthreads();
        last |= (key)digit << shift;
        known |= (key)255 << shift;
        need -= before;
    }
    uint64_t done = 0;                                   // smaller ones so far, and in the lower half equal ones
    for (int64_t i0 = 0; i0 < f.n; i0 += THREADS) {
        int64_t i = i0 + threadIdx.x;
        key v = i < f.n ? key_at<key>(f.s, row + i) : 0;
        uint64_t is = i >= f.n ? 0 : v < last ? (uint64_t)1 << 32 : v == last, all;
        uint64_t seen = done + before_in_block(is, &all);
        uint32_t equal = (uint32_t)seen < need ? (uint32_t)seen : need;
        if (is && (is > 1 || (uint32_t)seen < need)) {
            int64_t place = to + (int64_t)(seen >> 32) + equal;
            f.keys[place] = v;
            f.at[place] = (int32_t)i;
        }
        done += all;
    }
}

struct segment_starts {
    int32_t *offset;
    int64_t n;
    __device__ void operator()(int64_t i) const { offset[i] = (int32_t)(i * n); }
};
// Stable, in each of the segments of n; fewer than 2^31 in all.
template <typename key> static bool sort_segments(work &w, int32_t device, const key *keys, key *sorted, const int32_t *at, int32_t *sorted_at, int64_t n, int64_t segments) {
    scratch offsets(device, (segments + 1) * 4);
    int32_t *offset = (int32_t *)offsets.p;
    if (!offset || !each(w, segments + 1, segment_starts{offset, n})) return false;
    auto go = [&](void *room, size_t &bytes) {
        if (segments == 1) return cub::DeviceRadixSort::SortPairs(room, bytes, keys, sorted, at, sorted_at, (int)n, 0, (int)sizeof(key) * 8, w.stream);
        return cub::DeviceSegmentedSort::StableSortPairs(room, bytes, keys, sorted, at, sorted_at, (int)(n * segments), (int)segments, offset, offset + 1, w.stream);
    };
    size_t bytes = 0;
    if (!w.done(go(nullptr, bytes))) return false;
    scratch room(device, (int64_t)bytes + 1);
    return room.p && w.done(go(room.p, bytes));
}

template <typename word> struct take {                   // of rows of n the elements at sorted positions, of which `each` lie side by side
    const word *x;
    const int32_t *at;
    elements values, indices;
    int64_t n, each, k, first, base;
    __device__ void operator()(int64_t i) const {
        int64_t row = i / k, place = at[row * each + i % k], to = first * k + i;
        ((word *)(void *)values.p)[values.d.offset(to)] = x[row * n + place];
        ((int64_t *)(void *)indices.p)[indices.d.offset(to)] = place + base;
    }
};

// rows: dense, each of n; values and indices: what they are written to, seen as rows of k.
struct sorting { const aj_tensor *rows, *values, *indices; int64_t n, k, base; bool turn; };

template <typename key> static bool sort_rows(work &w, const sorting &m, int64_t first, int64_t count) {
    int32_t device = m.rows->device;
    int bytes = dtype_bytes(m.rows->dtype);
    bool few = m.k <= m.n / 4 && m.n > 512 && (count > w.processors / 4 || m.n < 1 << 16);
    int64_t each_ = few ? m.k : m.n, all = count * each_;
    scratch room(device, all * 2 * (int64_t)(sizeof(key) + 4));
    if (!room.p) return false;
    key *keys = (key *)room.p, *sorted = keys + all;
    int32_t *at = (int32_t *)(void *)(sorted + all), *sorted_at = at + all;
    const char *x = m.rows->data + first * m.n * bytes;
    keyed s = {x, m.rows->dtype, m.turn};
    if (few) launch_together(find_first<key>, dim3((unsigned)count), dim3(THREADS), w.stream, first_keys<key>{s, m.n, m.k, keys, at});
    else if (!each(w, all, all_keys<key>{s, m.n, keys, at})) return false;
    if (!w.done() || !sort_segments(w, device, keys, sorted, at, sorted_at, each_, count)) return false;
#define TAKE(word) each(w, count * m.k, take<word>{(const word *)(const void *)x, sorted_at, elements_of(m.values), elements_of(m.indices), m.n, each_, m.k, first, m.base})
    return bytes == 1 ? TAKE(uint8_t) : bytes == 2 ? TAKE(uint16_t) : bytes == 4 ? TAKE(uint32_t) : TAKE(uint64_t);
#undef TAKE
}

static bool order(const aj_call *c, int64_t k) {
    aj_tensor *x = c->in[0], *view = x, values = *c->out[0], indices = *c->out[1];
    if (!values.numel) return true;
    int dim = c->attrs->dim, last = x->ndim - 1;
    if (x->ndim && dim != last) {                        // rows along the last dimension, and the results seen like them
        if (!(view = aj_untag(aj_transpose(x, dim, last)))) return false;
        for (aj_tensor *t : {&values, &indices}) {
            std::swap(t->shape[dim], t->shape[last]);
            std::swap(t->stride[dim], t->stride[last]);
            aj_set_contiguous(t);
        }
    }
    if (!(view = in_order(view))) return false;
    sorting m = {view, &values, &indices, x->ndim ? x->shape[dim] : 1, k, c->attrs->base, c->attrs->flag};
    if (m.n > INT32_MAX) return aj_refuse(c, "a row of more than 2^31 - 1 elements cannot be ordered on a CUDA device");
    work w(c);
    int64_t rows = x->numel / m.n, together = (INT32_MAX / 2) / m.n;
    if (together < 1) together = 1;
    for (int64_t r = 0; r < rows; r += together) {
        int64_t count = rows - r < together ? rows - r : together;
        if (!(dtype_bytes(x->dtype) == 8 ? sort_rows<uint64_t>(w, m, r, count) : sort_rows<uint32_t>(w, m, r, count))) return false;
    }
    return true;
}
extern "C" bool sort_cuda(const aj_call *c) { return order(c, c->in[0]->ndim ? c->in[0]->shape[c->attrs->dim] : 1); }
extern "C" bool topk_cuda(const aj_call *c) { return order(c, c->in[0]->ndim ? c->attrs->i : 1); }

// -- Rows in order: sorted by the last column, then, keeping that order among equals, by the one before, and so on

template <typename key> struct column_keys {
    keyed s;
    int64_t n, m, column;
    const int32_t *at;
    key *keys;
    __device__ void operator()(int64_t i) const { keys[i] = key_at<key>(s, (i / n * n + at[i]) * m + column); }
};
struct count_rows {
    int32_t *at;
    int64_t n;
    __device__ void operator()(int64_t i) const { at[i] = (int32_t)(i % n); }
};
struct put_places {
    const int32_t *at;
    int64_t *y, base;
    __device__ void operator()(int64_t i) const { y[i] = at[i] + base; }
};
template <typename key> static bool sort_matrices(const aj_call *c) {
    const aj_tensor *x = c->in[0], *y = c->out[0];
    int64_t n = x->shape[x->ndim - 2], m = x->shape[x->ndim - 1], all = y->numel;
    work w(c);
    scratch room(x->device, all * 2 * (int64_t)(sizeof(key) + 4));
    if (!room.p) return false;
    key *keys = (key *)room.p, *sorted = keys + all;
    int32_t *at = (int32_t *)(void *)(sorted + all), *sorted_at = at + all;
    if (!each(w, all, count_rows{at, n})) return false;
    for (int64_t j = m - 1; j >= 0; j--) {
        if (!each(w, all, column_keys<key>{{x->data, x->dtype, false}, n, m, j, at, keys}) || !sort_segments(w, x->device, keys, sorted, at, sorted_at, n, all / n)) return false;
        std::swap(at, sorted_at);
    }
    return each(w, all, put_places{at, (int64_t *)(void *)y->data, c->attrs->base});
}
extern "C" bool order_rows_cuda(const aj_call *c) {
    if (!c->out[0]->numel) return true;
    if (c->out[0]->numel > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 rows cannot be ordered on a CUDA device");
    return dtype_bytes(c->in[0]->dtype) == 8 ? sort_matrices<uint64_t>(c) : sort_matrices<uint32_t>(c);
}

}
