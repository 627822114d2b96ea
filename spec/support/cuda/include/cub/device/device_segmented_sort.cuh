// The stable sort of segments that sort.cu asks CUB for.
#pragma once
#include <cub/device/device_radix_sort.cuh>

namespace cub {

struct DeviceSegmentedSort {
    template <typename K, typename V, typename N, typename O>
    static cudaError_t StableSortPairs(void *room, size_t &bytes, const K *keys, K *sorted, const V *values, V *sorted_values, N n, N segments, O first, O last, cudaStream_t s) {
        (void)n;
        if (standin_asks(room, bytes)) return cudaSuccess;
        standin::enqueue(s, 1, 1, false, [=] { for (N k = 0; k < segments; k++) standin_sort(keys, sorted, values, sorted_values, first[k], last[k]); });
        return cudaSuccess;
    }
};

}
