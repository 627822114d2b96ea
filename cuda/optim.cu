// optim.cu - the optimizers' loops and the clipping of gradients: core/cpu/optim.inc, one element at a time.
#include "block.cuh"
#include "each.cuh"

namespace cuda {

// A pointer of any type to one number of each operand, as a pointer to void is in C.
struct any {
    void *p;
    __device__ any(void *q = nullptr) : p(q) {}
    template <typename T> __device__ operator T *() const { return (T *)p; }
    explicit __device__ operator bool() const { return p != nullptr; }
};

namespace loops {
#define CHUNK 1
#define LOOP static __device__ inline
#define LOOP_PART static __device__ inline
#define OPERANDS const any *
#define SIDE_BY_SIDE
#define restrict __restrict__
#define real float
#define REAL(name) name##_f32
#define SQRT sqrtf
#define FABS fabsf
#include "../core/cpu/optim.inc"
#undef real
#undef REAL
#undef SQRT
#undef FABS
#define real double
#define REAL(name) name##_f64
#define SQRT sqrt
#define FABS fabs
#include "../core/cpu/optim.inc"
#undef real
#undef REAL
#undef SQRT
#undef FABS
#undef restrict
#undef CHUNK

template <int row> __device__ inline void run(const any *at, const double *number, double *sum, float);
template <int row> __device__ inline void run(const any *at, const double *number, double *sum, double);
#define RUN(name) \
    template <> __device__ inline void run<AJ_ROW_##name>(const any *at, const double *number, double *sum, float) { name##_f32(at, 1, number, sum); } \
    template <> __device__ inline void run<AJ_ROW_##name>(const any *at, const double *number, double *sum, double) { name##_f64(at, 1, number, sum); }
AJ_OPTIM_ROWS(RUN)
#undef RUN
}

struct pass {
    elements operand[AJ_UPDATE_OPERANDS], master;        // p NULL: absent
    int64_t count;
    double number[AJ_UPDATE_NUMBERS], *part;             // part: a pair of sums for each block; NULL: none are asked for
    bool reads, largest;
};

template <typename real, int row> __global__ void __launch_bounds__(THREADS) update_kernel(const __grid_constant__ pass u) {
    double sum[AJ_UPDATE_SUMS] = {0};
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < u.count; i += (int64_t)gridDim.x * THREADS) {
        real v[AJ_UPDATE_OPERANDS];
        any at[AJ_UPDATE_OPERANDS];
        for (int k = 0; k < AJ_UPDATE_OPERANDS; k++)
            if (u.operand[k].p) { v[k] = u.operand[k].get<real>(i); at[k] = any(&v[k]); }
        if (u.master.p) {                                // it holds what the parameter rounds, unless somebody has written that since
            real m = u.master.get<real>(i), rounded = u.operand[0].dtype == AJ_BF16
                ? (real)__bfloat162float(__float2bfloat16_rn((float)m)) : (real)__half2float(__float2half_rn((float)m));
            if (rounded == v[0]) v[0] = m;
        }
        loops::run<row>(at, u.number, sum, real());
        if (u.reads) continue;
        for (int k = 0; k < AJ_UPDATE_OPERANDS; k++) if (k != 1 && u.operand[k].p) u.operand[k].set<real>(i, v[k]);
        if (u.master.p) u.master.set<real>(i, v[0]);
    }
    if (!u.part) return;
    for (int j = 0; j < AJ_UPDATE_SUMS; j++) {
        double all = u.largest ? of_block(sum[j], larger()) : of_block(sum[j], add());
        if (threadIdx.x == 0) u.part[blockIdx.x * AJ_UPDATE_SUMS + j] = all;
    }
}

template <typename real> static bool start(const pass &p, int row, dim3 blocks, work &w) {
    switch (row) {
#define CASE(name) case AJ_ROW_##name: \
        if (p.part) launch_together(update_kernel<real, AJ_ROW_##name>, blocks, dim3(THREADS), w.stream, p); \
        else launch(update_kernel<real, AJ_ROW_##name>, blocks, dim3(THREADS), w.stream, p); \
        break;
    AJ_OPTIM_ROWS(CASE)
#undef CASE
    default: return aj_error("the optimizers' loop %d has no CUDA kernel", row);
    }
    return w.done();
}

bool update(aj_update *u, int row) {
    int32_t device = u->operand[0]->device;
    work w("optimizer", device);
    pass p = {};
    for (int k = 0; k < AJ_UPDATE_OPERANDS; k++) if (u->operand[k]) p.operand[k] = elements_of(u->operand[k]);
    if (u->master) p.master = elements_of(u->master);
    p.count = u->operand[0]->numel;
    memcpy(p.number, u->number, sizeof p.number);
    p.reads = u->reads;
    p.largest = u->largest;
    dim3 blocks = blocks_for(p.count, w.processors);
    bool wide = u->operand[0]->dtype == AJ_F64;
    if (!u->summed) return wide ? start<double>(p, row, blocks, w) : start<float>(p, row, blocks, w);
    double host[AJ_UPDATE_SUMS * 64];
    if (blocks.x > 64) blocks.x = 64;                    // so that the sums' order does not depend on the device
    scratch room(device, (int64_t)sizeof host);
    if (!room.p) return false;
    p.part = (double *)room.p;
    if (!(wide ? start<double>(p, row, blocks, w) : start<float>(p, row, blocks, w))) return false;
    if (!device_read(device, host, room.p, (int64_t)(blocks.x * AJ_UPDATE_SUMS * sizeof *host))) return false;
    for (int j = 0; j < AJ_UPDATE_SUMS; j++)
        for (unsigned b = 0; b < blocks.x; b++) {
            double v = host[b * AJ_UPDATE_SUMS + j];
            u->sum[j] = !u->largest ? u->sum[j] + v : v > u->sum[j] || v != v ? v : u->sum[j];
        }
    return true;
}

}
