// cuda_runtime.h - as much of the CUDA runtime as cuda/ uses, on the host: a test tool, with which the kernels' and the
// device's logic runs where there is no GPU.
//
// Streams are queues whose work is done as late as CUDA allows: when somebody waits for it. A stream that is captured keeps its
// work for the launches of a graph; what cannot be part of one is refused, and ends the capture. The memory of a device cannot
// be touched while no work of it runs. The threads of a block take turns: those of a kernel launched by launch_together()
// are fibres, so that they can wait for each other; those of others run one after another.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define AJ_STANDIN 1
#define CUDART_VERSION 13000
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

enum cudaError_t {
    cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2, cudaErrorInsufficientDriver = 35, cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101, cudaErrorIllegalState = 401, cudaErrorNotReady = 600, cudaErrorIllegalAddress = 700,
    cudaErrorStreamCaptureUnsupported = 900, cudaErrorStreamCaptureInvalidated = 901
};
enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum cudaDataType { CUDA_R_32F = 0, CUDA_R_64F = 1, CUDA_R_16F = 2, CUDA_R_8I = 3, CUDA_R_32I = 10, CUDA_R_16BF = 14, CUDA_R_8F_E4M3 = 28, CUDA_R_8F_E5M2 = 29 };
typedef cudaDataType cudaDataType_t;
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2 };
typedef struct standin_stream *cudaStream_t;
typedef struct standin_event *cudaEvent_t;
typedef struct standin_graph *cudaGraph_t, *cudaGraphExec_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive, cudaStreamCaptureStatusInvalidated };
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock;
    int major, minor, multiProcessorCount, maxThreadsPerBlock, warpSize;
};

const char *cudaGetErrorName(cudaError_t e);
const char *cudaGetErrorString(cudaError_t e);
cudaError_t cudaGetLastError();
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaMalloc(void **p, size_t size);
cudaError_t cudaFree(void *p);
cudaError_t cudaHostAlloc(void **p, size_t size, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t size, cudaStream_t s);
cudaError_t cudaMemsetAsync(void *p, int value, size_t size, cudaStream_t s);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventQuery(cudaEvent_t e);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode);
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess, cudaDriverEntryPointSymbolNotFound, cudaDriverEntryPointVersionNotSufficent };
enum { cudaEnableDefault = 0 };
cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version, unsigned long long flags, cudaDriverEntryPointQueryResult *how);
template <typename T> cudaError_t cudaMalloc(T **p, size_t size) { return cudaMalloc((void **)p, size); }

namespace standin {
struct place { uint3 thread, block; dim3 threads, blocks; };
extern place now;                                        // where the running thread stands
void enqueue(cudaStream_t s, dim3 blocks, dim3 threads, bool together, std::function<void()> kernel);
void enqueue(cudaStream_t s, std::function<void()> work);      // of a library: one piece of work on the host
void sync_block();
void sync_warp(unsigned mask);
unsigned lane();
uint64_t *slots();                                       // a place of each lane of this warp; after sync_warp() other places
}
#define threadIdx (standin::now.thread)
#define blockIdx (standin::now.block)
#define blockDim (standin::now.threads)
#define gridDim (standin::now.blocks)
enum { warpSize = 32 };

template <typename... P, typename... A> void launch(void (*kernel)(P...), dim3 blocks, dim3 threads, cudaStream_t s, A... a) {
    standin::enqueue(s, blocks, threads, false, [=] { kernel(a...); });
}
template <typename... P, typename... A> void launch_together(void (*kernel)(P...), dim3 blocks, dim3 threads, cudaStream_t s, A... a) {
    standin::enqueue(s, blocks, threads, true, [=] { kernel(a...); });
}

inline void __syncthreads() { standin::sync_block(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { standin::sync_warp(mask); }
inline void __threadfence() {}

template <typename T> T standin_exchange(unsigned mask, T v, unsigned from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t *slot = standin::slots();
    memcpy(&slot[standin::lane()], &v, sizeof v);
    standin::sync_warp(mask);
    T y;
    memcpy(&y, &slot[from % 32], sizeof y);
    return y;
}
template <typename T> T __shfl_sync(unsigned mask, T v, int from, int = 32) { return standin_exchange(mask, v, (unsigned)from); }
template <typename T> T __shfl_xor_sync(unsigned mask, T v, int with, int = 32) { return standin_exchange(mask, v, standin::lane() ^ (unsigned)with); }
template <typename T> T __shfl_down_sync(unsigned mask, T v, unsigned by, int = 32) {
    unsigned me = standin::lane();
    return standin_exchange(mask, v, me + by < 32 ? me + by : me);
}
template <typename T> T __shfl_up_sync(unsigned mask, T v, unsigned by, int = 32) {
    unsigned me = standin::lane();
    return standin_exchange(mask, v, me >= by ? me - by : me);
}
inline unsigned __ballot_sync(unsigned mask, int v) {
    unsigned all = 0;
    for (int i = 0; i < 32; i++) all |= (unsigned)(__shfl_sync(mask, v != 0, i) ? 1 : 0) << i;
    return all & mask;
}

// One thread runs at a time.
template <typename T> T atomicAdd(T *p, T v) { T old = *p; *p = (T)(old + v); return old; }
template <typename T> T atomicMax(T *p, T v) { T old = *p; if (v > old) *p = v; return old; }
template <typename T> T atomicMin(T *p, T v) { T old = *p; if (v < old) *p = v; return old; }
template <typename T> T atomicExch(T *p, T v) { T old = *p; *p = v; return old; }
template <typename T> T atomicCAS(T *p, T is, T v) { T old = *p; if (old == is) *p = v; return old; }

inline int __dp4a(int a, int b, int sum) {               // four products of bytes
    for (int i = 0; i < 32; i += 8) sum += (int8_t)(a >> i) * (int8_t)(b >> i);
    return sum;
}
inline void sincospi(double v, double *s, double *c) {
    v = std::fmod(v, 2.0);
    *s = std::sin(v * 3.14159265358979323846);
    *c = std::cos(v * 3.14159265358979323846);
}
inline void sincospif(float v, float *s, float *c) {
    double a, b;
    sincospi((double)v, &a, &b);
    *s = (float)a;
    *c = (float)b;
}

// -- Half types: as bits, and to and from float by rounding to nearest, ties to even

struct __half { uint16_t bits; };
struct __nv_bfloat16 { uint16_t bits; };
inline __half __ushort_as_half(unsigned short v) { return {v}; }
inline unsigned short __half_as_ushort(__half v) { return v.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v) { return {v}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }
inline float __bfloat162float(__nv_bfloat16 v) { uint32_t u = (uint32_t)v.bits << 16; float f; memcpy(&f, &u, 4); return f; }
inline __nv_bfloat16 __float2bfloat16_rn(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return {(uint16_t)(f != f ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
inline float __half2float(__half v) {
    uint32_t e = v.bits >> 10 & 31, m = v.bits & 0x3ff;
    float f = e == 0 ? std::ldexp((float)m, -24) : e == 31 ? (m ? NAN : INFINITY) : std::ldexp((float)(m | 0x400), (int)e - 25);
    return v.bits & 0x8000 ? -f : f;
}
inline __half __float2half_rn(float f) {
    uint16_t sign = std::signbit(f) ? 0x8000 : 0;
    float a = std::fabs(f);
    if (f != f) return {0x7fff};
    if (a >= 65520) return {(uint16_t)(sign | 0x7c00)};
    if (a < 0x1p-14f) return {(uint16_t)(sign | (uint16_t)std::nearbyint(a * 0x1p24f))};
    int e;
    float m = std::nearbyint(std::frexp(a, &e) * 2048);
    return {(uint16_t)(sign | (uint16_t)((uint32_t)(e + 14) * 1024 + (uint32_t)m - 1024))};
}
