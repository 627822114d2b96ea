// number.cuh - elements of every dtype to and from the types that kernels compute in: float, double, int64.
//
// An operand's dtype is known when a kernel runs, not when it is compiled, and is the same for all threads; so one kernel
// serves every mixture of dtypes, and what it costs hides behind memory.
#pragma once
#include "device.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace cuda {

// How many threads a block has where nothing asks for another number.
enum { THREADS = 256 };

template <typename real> struct class_of;                // what dtypes it computes for
template <> struct class_of<float> { enum { dtype = AJ_F32, packet = 8 }; };
template <> struct class_of<double> { enum { dtype = AJ_F64, packet = 4 }; };
template <> struct class_of<int64_t> { enum { dtype = AJ_I64, packet = 4 }; };

__host__ __device__ inline int dtype_bytes(int dtype) {
    return dtype <= AJ_I8 ? 1 : dtype == AJ_I16 || dtype == AJ_F16 || dtype == AJ_BF16 ? 2 : dtype == AJ_I32 || dtype == AJ_F32 ? 4 : 8;
}

template <typename real> __device__ inline real read(const void *p, int dtype, int64_t i) {
    switch (dtype) {
    case AJ_BOOL: return (real)(((const uint8_t *)p)[i] != 0);
    case AJ_U8: return (real)((const uint8_t *)p)[i];
    case AJ_I8: return (real)((const int8_t *)p)[i];
    case AJ_I16: return (real)((const int16_t *)p)[i];
    case AJ_I32: return (real)((const int32_t *)p)[i];
    case AJ_I64: return (real)((const int64_t *)p)[i];
    case AJ_F16: return (real)__half2float(__ushort_as_half(((const uint16_t *)p)[i]));
    case AJ_BF16: return (real)__bfloat162float(__ushort_as_bfloat16(((const uint16_t *)p)[i]));
    case AJ_F32: return (real)((const float *)p)[i];
    default: return (real)((const double *)p)[i];
    }
}

// A float too large for a small integer wraps, as its int64 would.
template <typename real> __device__ inline void write(void *p, int dtype, int64_t i, real v) {
    switch (dtype) {
    case AJ_BOOL: ((uint8_t *)p)[i] = v != 0; break;
    case AJ_U8: ((uint8_t *)p)[i] = (uint8_t)(int64_t)v; break;
    case AJ_I8: ((int8_t *)p)[i] = (int8_t)(int64_t)v; break;
    case AJ_I16: ((int16_t *)p)[i] = (int16_t)(int64_t)v; break;
    case AJ_I32: ((int32_t *)p)[i] = (int32_t)(int64_t)v; break;
    case AJ_I64: ((int64_t *)p)[i] = (int64_t)v; break;
    case AJ_F16: ((uint16_t *)p)[i] = __half_as_ushort(__float2half_rn((float)v)); break;
    case AJ_BF16: ((uint16_t *)p)[i] = __bfloat16_as_ushort(__float2bfloat16_rn((float)v)); break;
    case AJ_F32: ((float *)p)[i] = (float)v; break;
    default: ((double *)p)[i] = (double)v;
    }
}

// Sixteen bytes that are loaded and stored in one piece.
struct alignas(16) quad { uint32_t v[4]; };

// A packet of neighbours, its first aligned to a packet: of the dtypes that hot loops meet by 16 bytes at a time.
template <typename real> __device__ inline void read_packet(real *v, const void *p, int dtype, int64_t i) {
    enum { N = class_of<real>::packet };
    if (sizeof(real) == 4 && dtype == AJ_F32) {
        const quad *q = (const quad *)(const void *)((const float *)p + i);
        quad a = q[0], b = q[1];
        for (int j = 0; j < 4; j++) { float x, y; memcpy(&x, &a.v[j], 4); memcpy(&y, &b.v[j], 4); v[j] = (real)x; v[(j + 4) % N] = (real)y; }
    } else if (sizeof(real) == 4 && (dtype == AJ_BF16 || dtype == AJ_F16)) {
        quad a = *(const quad *)(const void *)((const uint16_t *)p + i);
        for (int j = 0; j < N; j++) {
            uint16_t h = (uint16_t)(a.v[j / 2 % 4] >> 16 * (j % 2));
            v[j] = (real)(dtype == AJ_BF16 ? __bfloat162float(__ushort_as_bfloat16(h)) : __half2float(__ushort_as_half(h)));
        }
    } else if (sizeof(real) == 8 && dtype == class_of<real>::dtype) {
        const quad *q = (const quad *)(const void *)((const real *)p + i);
        quad a = q[0], b = q[1];
        memcpy(&v[0], &a, 16);
        memcpy(&v[2], &b, 16);
    } else for (int j = 0; j < N; j++) v[j] = read<real>(p, dtype, i + j);
}
template <typename real> __device__ inline void write_packet(void *p, int dtype, int64_t i, const real *v) {
    enum { N = class_of<real>::packet };
    if (sizeof(real) == 4 && dtype == AJ_F32) {
        quad a, b;
        for (int j = 0; j < 4; j++) { float x = (float)v[j], y = (float)v[(j + 4) % N]; memcpy(&a.v[j], &x, 4); memcpy(&b.v[j], &y, 4); }
        quad *q = (quad *)(void *)((float *)p + i);
        q[0] = a;
        q[1] = b;
    } else if (sizeof(real) == 4 && (dtype == AJ_BF16 || dtype == AJ_F16)) {
        quad a = {};
        for (int j = 0; j < N; j++) {
            uint32_t h = dtype == AJ_BF16 ? __bfloat16_as_ushort(__float2bfloat16_rn((float)v[j])) : __half_as_ushort(__float2half_rn((float)v[j]));
            a.v[j / 2 % 4] |= h << 16 * (j % 2);
        }
        *(quad *)(void *)((uint16_t *)p + i) = a;
    } else if (sizeof(real) == 8 && dtype == class_of<real>::dtype) {
        quad a, b;
        memcpy(&a, &v[0], 16);
        memcpy(&b, &v[2], 16);
        quad *q = (quad *)(void *)((real *)p + i);
        q[0] = a;
        q[1] = b;
    } else for (int j = 0; j < N; j++) write<real>(p, dtype, i + j, v[j]);
}

__device__ inline void add_at(float *p, float v) { atomicAdd(p, v); }
__device__ inline void add_at(double *p, double v) { atomicAdd(p, v); }
__device__ inline void add_at(int64_t *p, int64_t v) { atomicAdd((unsigned long long *)p, (unsigned long long)v); }

__device__ inline void report(fault *f, int kind, int op, int64_t value, int64_t low, int64_t high) {
    if (atomicCAS(&f->kind, (int32_t)FINE, (int32_t)kind) != FINE) return;
    f->op = op;
    f->value = value;
    f->low = low;
    f->high = high;
}

}
