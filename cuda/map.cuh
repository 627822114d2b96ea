// map.cuh - elementwise kernels: a function of a few numbers, over tensors of any dtypes that broadcast.
//
// Where every operand lies dense and evenly, or is one number, a thread takes a packet of neighbours; otherwise elements
// are found by their indices. A function is a struct with the number of its inputs and
//     template <typename real> static real at(const real *in, real s, real t, real u)
#pragma once
#include "launch.cuh"
#include "number.cuh"
#include <vector>

namespace cuda {

enum { MAX_INPUTS = 4 };

struct operand {
    char *p;                    // NULL: there is no tensor, and the number stands for it
    int32_t dtype;
    bool one;                   // a single element
};

struct flat_map {
    int64_t count;
    operand y, in[MAX_INPUTS];
    double number, s, t, u;
    fault *faults;
    int32_t op;
};

// Division of numbers below 2^31 by one of them, as a multiplication (Granlund and Montgomery, 1994).
struct divider {
    uint32_t by, magic, shift;
    __device__ uint32_t quotient(uint32_t n) const { return (uint32_t)(((uint64_t)n * magic >> 32) + n) >> shift; }
};
divider divide_by(uint32_t by);

// Where the elements of one tensor, or of some of its dimensions, lie.
struct dims {                   // innermost first
    int64_t count;
    int32_t ndim;
    bool wide;                  // too many elements for dividers
    divider shape[AJ_MAX_DIM];
    int64_t stride[AJ_MAX_DIM];
    __device__ int64_t offset(int64_t i) const {
        if (ndim == 1) return i * stride[0];
        int64_t at = 0;
        if (wide) for (int d = 0; d < ndim; d++) { at += i % shape[d].by * stride[d]; i /= shape[d].by; }
        else for (int d = 0; d < ndim; d++) {
            uint32_t q = shape[d].quotient((uint32_t)i);
            at += ((uint32_t)i - q * shape[d].by) * stride[d];
            i = q;
        }
        return at;
    }
};
void put_dim(dims &d, int64_t size, int64_t stride);     // one more, outside those there are; a size below 2^31
dims dims_of(const aj_tensor *t);

struct strided_map {
    uint32_t count;
    int32_t ndim;
    divider shape[AJ_MAX_DIM];
    int64_t stride[1 + MAX_INPUTS][AJ_MAX_DIM];          // in elements, innermost first
    operand y, in[MAX_INPUTS];
    double number, s, t, u;
    fault *faults;
    int32_t op;
};

// What is to be computed, as host code puts it together.
struct map_job {
    aj_tensor *y, *in[MAX_INPUTS];      // in NULL: the number
    int n_in;
    double number, s, t, u;
    int32_t op;
};

template <typename F, typename real> __device__ inline void check_divisor(const real *in, fault *faults, int op) {
    if (F::divides && sizeof(real) == 8 && (real)0.5 == 0 && in[1] == 0) report(faults, DIVISION, op, 0, 0, 0);
}

template <typename F, typename real> __global__ void __launch_bounds__(THREADS) map_flat(const __grid_constant__ flat_map m) {
    enum { N = class_of<real>::packet, IN = F::inputs };
    const real s = (real)m.s, t = (real)m.t, u = (real)m.u;
    real v[IN][N], y[N];
    for (int k = 0; k < IN; k++)
        if (!m.in[k].p || m.in[k].one) {
            real x = m.in[k].p ? read<real>(m.in[k].p, m.in[k].dtype, 0) : (real)m.number;
            for (int j = 0; j < N; j++) v[k][j] = x;
        }
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N; i < m.count; i += (int64_t)gridDim.x * THREADS * N) {
        int n = m.count - i < N ? (int)(m.count - i) : (int)N;
        for (int k = 0; k < IN; k++) {
            if (!m.in[k].p || m.in[k].one) continue;
            if (n == N) read_packet<real>(v[k], m.in[k].p, m.in[k].dtype, i);
            else for (int j = 0; j < n; j++) v[k][j] = read<real>(m.in[k].p, m.in[k].dtype, i + j);
        }
        for (int j = 0; j < N; j++) {
            real in[IN];
            for (int k = 0; k < IN; k++) in[k] = v[k][j];
            if (n == N || j < n) {
                check_divisor<F, real>(in, m.faults, m.op);
                y[j] = F::template at<real>(in, s, t, u);
            }
        }
        if (n == N) write_packet<real>(m.y.p, m.y.dtype, i, y);
        else for (int j = 0; j < n; j++) write<real>(m.y.p, m.y.dtype, i + j, y[j]);
    }
}

template <typename F, typename real> __global__ void __launch_bounds__(THREADS) map_strided(const __grid_constant__ strided_map m) {
    enum { IN = F::inputs };
    const real s = (real)m.s, t = (real)m.t, u = (real)m.u;
    for (uint32_t e = blockIdx.x * THREADS + threadIdx.x; e < m.count; e += gridDim.x * THREADS) {
        int64_t at[1 + IN] = {0};
        uint32_t left = e;
        for (int d = 0; d < m.ndim; d++) {
            uint32_t q = m.shape[d].quotient(left), i = left - q * m.shape[d].by;
            left = q;
            for (int k = 0; k <= IN; k++) at[k] += i * m.stride[k][d];
        }
        real in[IN];
        for (int k = 0; k < IN; k++) in[k] = m.in[k].p ? read<real>(m.in[k].p, m.in[k].dtype, at[1 + k]) : (real)m.number;
        check_divisor<F, real>(in, m.faults, m.op);
        write<real>(m.y.p, m.y.dtype, at[0], F::template at<real>(in, s, t, u));
    }
}

// Lines the operands up; parts of fewer than 2^31 elements each where they are not flat.
class map_planned {
  public:
    map_planned(const map_job &job, fault *faults);
    bool empty, flat;
    flat_map f;
    std::vector<strided_map> parts;
};
dim3 blocks_for(int64_t threads, int processors);

template <typename F, typename real> bool map_run(const map_job &job, work &w) {
    map_planned p(job, w.faults);
    if (p.empty) return w.done();
    if (p.flat) launch(map_flat<F, real>, blocks_for((p.f.count + class_of<real>::packet - 1) / class_of<real>::packet, w.processors), dim3(THREADS), w.stream, p.f);
    else for (const strided_map &m : p.parts) launch(map_strided<F, real>, blocks_for(m.count, w.processors), dim3(THREADS), w.stream, m);
    return w.done();
}

}
