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

// f over the v of the threads before this one, from `none` on; *all: over all THREADS.
template <typename F, typename T> __device__ inline T before_in_block(T v, T none, T *all, F f) {
    __shared__ T part[THREADS / 32];
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    T up = v;
    for (int k = 1; k < 32; k *= 2) {
        T below = __shfl_up_sync(0xffffffffu, up, k);
        if (lane >= k) up = f(below, up);
    }
    __syncthreads();                                     // the last call's results have been read
    if (lane == 31) part[warp] = up;
    T here = __shfl_up_sync(0xffffffffu, up, 1);
    __syncthreads();
    T before = none, total = none;
    for (int i = 0; i < THREADS / 32; i++) {
        if (i == warp) before = total;
        total = f(total, part[i]);
    }
    *all = total;
    return lane ? f(before, here) : before;
}
template <typename T> __device__ inline T before_in_block(T v, T *all) { return before_in_block(v, (T)0, all, add()); }

// -- A run of numbers that the threads of a block share out

enum { SHARE = 16 };            // numbers of a run that a thread keeps

// f(k, v) for each number of this thread's share of a run; get(k) is read once where it can be kept.
template <typename real> struct share {
    real kept[SHARE];
    template <typename G, typename F> __device__ void first(int64_t K, G get, F f) {
        for (int j = 0; j < SHARE; j++) {
            int64_t k = threadIdx.x + (int64_t)j * THREADS;
            if (k < K) { kept[j] = get(k); f(k, kept[j]); }
        }
        for (int64_t k = threadIdx.x + (int64_t)SHARE * THREADS; k < K; k += THREADS) f(k, get(k));
    }
    template <typename G, typename F> __device__ void again(int64_t K, G get, F f) const {
        for (int j = 0; j < SHARE; j++) {
            int64_t k = threadIdx.x + (int64_t)j * THREADS;
            if (k < K) f(k, kept[j]);
        }
        for (int64_t k = threadIdx.x + (int64_t)SHARE * THREADS; k < K; k += THREADS) f(k, get(k));
    }
};

}
