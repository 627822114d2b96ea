// The sums that mask.cu asks CUB for.
#pragma once
#include <cuda_runtime.h>

namespace cub {

struct DeviceScan {
    template <typename T, typename N> static cudaError_t ExclusiveSum(void *room, size_t &bytes, const T *x, T *y, N n, cudaStream_t s) {
        if (!room) { bytes = 1; return cudaSuccess; }
        standin::enqueue(s, 1, 1, false, [=] {
            T sum = 0;
            for (N i = 0; i < n; i++) { T v = x[i]; y[i] = sum; sum += v; }
        });
        return cudaSuccess;
    }
};

}
