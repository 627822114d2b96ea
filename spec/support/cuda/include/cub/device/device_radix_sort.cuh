// The stable sort of pairs that sort.cu asks CUB for, by keys of unsigned numbers.
#pragma once
#include <algorithm>
#include <cuda_runtime.h>
#include <vector>

namespace cub {

// Without room nothing is done but to say how much of it is wanted.
inline bool standin_asks(void *room, size_t &bytes) { if (!room) bytes = 1; return !room; }

template <typename K, typename V> void standin_sort(const K *keys, K *sorted, const V *values, V *sorted_values, int64_t lo, int64_t hi) {
    std::vector<int64_t> at((size_t)(hi - lo));
    for (int64_t i = lo; i < hi; i++) at[(size_t)(i - lo)] = i;
    std::stable_sort(at.begin(), at.end(), [&](int64_t a, int64_t b) { return keys[a] < keys[b]; });
    for (int64_t i = lo; i < hi; i++) { sorted[i] = keys[at[(size_t)(i - lo)]]; sorted_values[i] = values[at[(size_t)(i - lo)]]; }
}

struct DeviceRadixSort {
    template <typename K, typename V, typename N>
    static cudaError_t SortPairs(void *room, size_t &bytes, const K *keys, K *sorted, const V *values, V *sorted_values, N n, int begin, int end, cudaStream_t s) {
        if (begin != 0 || end != (int)sizeof(K) * 8) return cudaErrorInvalidValue;
        if (standin_asks(room, bytes)) return cudaSuccess;
        standin::enqueue(s, 1, 1, false, [=] { standin_sort(keys, sorted, values, sorted_values, 0, (int64_t)n); });
        return cudaSuccess;
    }
};

}
