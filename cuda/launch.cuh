// launch.cuh - how kernels are started: launch(kernel, blocks, threads, stream, arguments...), or launch_together() for one
// whose threads wait for each other. Both are one thing to CUDA; the stand-in of spec/support/cuda has its own.
#pragma once
#include <cuda_runtime.h>

#ifdef __CUDACC__
namespace cuda {
template <typename... P, typename... A> void launch(void (*kernel)(P...), dim3 blocks, dim3 threads, cudaStream_t stream, A... a) {
    kernel<<<blocks, threads, 0, stream>>>(a...);
}
template <typename... P, typename... A> void launch_together(void (*kernel)(P...), dim3 blocks, dim3 threads, cudaStream_t stream, A... a) {
    kernel<<<blocks, threads, 0, stream>>>(a...);
}
}
#endif
