// block.cuh - what the threads of a block work out together. Every thread of the block takes part in each call.
#pragma once
#include "number.cuh"

namespace cuda {

struct add { template <typename T> __device__ T operator()(T a, T b) const { return a + b; } };
struct larger { template <typename T> __device__ T operator()(T a, T b) const { return a != a || a > b ? a : b; } };       // NaN beats all

// f over the values of all THREADS threads of a block, in one order; every thread gets the result.
template <typename F, typename T> __device__ inline T of_block(T v, F f) {
    __shared__ T part[THREADS / 32];
    for (int k = 16; k; k /= 2) v = f(v, __shfl_xor_sync(0xffffffffu, v, k));
    __syncthreads();                                     // the last call's results have been read
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    T all = part[0];
    for (int i = 1; i < THREADS / 32; i++) all = f(all, part[i]);
    return all;
}

// The sum of v over the threads before this one; *all: over all THREADS.
template <typename T> __device__ inline T before_in_block(T v, T *all) {
    __shared__ T part[THREADS / 32];
    T up = v;
    for (int k = 1; k < 32; k *= 2) {
        T below = __shfl_up_sync(0xffffffffu, up, k);
        if ((int)(threadIdx.x % 32) >= k) up += below;
    }
    __syncthreads();                                     // the last call's results have been read
    if (threadIdx.x % 32 == 31) part[threadIdx.x / 32] = up;
    __syncthreads();
    T before = 0, total = 0;
    for (int i = 0; i < THREADS / 32; i++) {
        if (i == (int)(threadIdx.x / 32)) before = total;
        total += part[i];
    }
    *all = total;
    return before + up - v;
}

}
