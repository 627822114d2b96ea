// gemm.cuh - products of matrices whose elements are found by functions: C(z, m, n) = sum over k of A(z, m, k) B(z, k, n), by
// tiles of TILE * TILE that a block works out, each thread an EACH * EACH part. What libraries do not take comes here:
// integers, any strides, convolutions as products of unfolded images that are never in memory.
//
//   A, B: `template <typename real> real get(int64_t z, int64_t row, int64_t column) const`
//   C:    `template <typename real> void set(int64_t z, int64_t m, int64_t n, real v) const`
#pragma once
#include "each.cuh"

namespace cuda {

enum { TILE = 64, DEPTH = 16, EACH = 4 };
struct gemm_sizes { int64_t Z, M, N, K, part; int32_t parts; };

// Sums of parts of K, as they wait to be added up.
template <typename real> struct gemm_parts {
    real *p;
    gemm_sizes s;
    __device__ void set(int64_t zp, int64_t m, int64_t n, real v) const { p[(zp * s.M + m) * s.N + n] = v; }
};
template <typename real, typename C> struct gemm_total {
    const real *p;
    gemm_sizes s;
    C c;
    __device__ void operator()(int64_t i) const {
        int64_t z = i / (s.M * s.N), mn = i % (s.M * s.N);
        real v = 0;
        for (int j = 0; j < s.parts; j++) v += p[(z * s.parts + j) * s.M * s.N + mn];
        c.template set<real>(z, mn / s.N, mn % s.N, v);
    }
};
template <typename real, typename C> __device__ inline void gemm_put(const C &c, int64_t z, int64_t m, int64_t n, real v) { c.template set<real>(z, m, n, v); }
template <typename real> __device__ inline void gemm_put(const gemm_parts<real> &c, int64_t z, int64_t m, int64_t n, real v) { c.set(z, m, n, v); }

template <typename real, typename A, typename B, typename C>
__global__ void __launch_bounds__(THREADS) gemm_tiles(const __grid_constant__ A a, const __grid_constant__ B b, const __grid_constant__ C c, const gemm_sizes s) {
    __shared__ real ta[DEPTH][TILE + 1], tb[DEPTH][TILE + 1];
    const int64_t m0 = (int64_t)blockIdx.x * TILE, n0 = (int64_t)blockIdx.y * TILE, z = blockIdx.z / s.parts, k0 = blockIdx.z % s.parts * s.part;
    const int64_t k1 = k0 + s.part < s.K ? k0 + s.part : s.K;
    const int row = threadIdx.x / 16, column = threadIdx.x % 16;
    real acc[EACH][EACH] = {};
    for (int64_t k = k0; k < k1; k += DEPTH) {
        for (int i = threadIdx.x; i < TILE * DEPTH; i += THREADS) {
            int64_t m = m0 + i / DEPTH, ka = k + i % DEPTH, n = n0 + i % TILE, kb = k + i / TILE;
            ta[i % DEPTH][i / DEPTH] = m < s.M && ka < k1 ? a.template get<real>(z, m, ka) : (real)0;
            tb[i / TILE][i % TILE] = n < s.N && kb < k1 ? b.template get<real>(z, kb, n) : (real)0;
        }
        __syncthreads();
        for (int d = 0; d < DEPTH; d++) {
            real va[EACH], vb[EACH];
            for (int i = 0; i < EACH; i++) { va[i] = ta[d][row + 16 * i]; vb[i] = tb[d][column + 16 * i]; }
            for (int i = 0; i < EACH; i++) for (int j = 0; j < EACH; j++) acc[i][j] += va[i] * vb[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) {
            int64_t m = m0 + row + 16 * i, n = n0 + column + 16 * j;
            if (m < s.M && n < s.N) gemm_put<real>(c, blockIdx.z, m, n, acc[i][j]);
        }
}

// A small product of large K is cut along it, by sizes alone, and the parts are added up in order.
template <typename real, typename A, typename B, typename C> bool gemm(work &w, int32_t device, int64_t Z, int64_t M, int64_t N, int64_t K, const A &a, const B &b, const C &c) {
    if (!Z || !M || !N) return w.done();
    int64_t rows = (M + TILE - 1) / TILE, columns = (N + TILE - 1) / TILE, parts = 2 * w.processors / (rows * columns * Z), most = (K + 255) / 256;
    gemm_sizes s = {Z, M, N, K, 0, 1};
    if (parts > most) parts = most;
    if (parts < 1) parts = 1;
    if (rows > INT32_MAX || columns > 65535 || Z * parts > 65535) return aj_error("%s: a product of %lld matrices of %lld x %lld is too large for this kernel", aj_op_name(w.op),
                                                                                  (long long)Z, (long long)M, (long long)N);
    s.part = ((K + parts - 1) / parts + DEPTH - 1) / DEPTH * DEPTH;
    if (s.part) parts = (K + s.part - 1) / s.part;
    s.parts = (int32_t)(parts < 1 ? 1 : parts);
    dim3 blocks((unsigned)rows, (unsigned)columns, (unsigned)(Z * s.parts));
    if (s.parts == 1) {
        launch_together(gemm_tiles<real, A, B, C>, blocks, dim3(THREADS), w.stream, a, b, c, s);
        return w.done();
    }
    scratch room(device, Z * s.parts * M * N * (int64_t)sizeof(real));
    if (!room.p) return false;
    launch_together(gemm_tiles<real, A, B, gemm_parts<real>>, blocks, dim3(THREADS), w.stream, a, b, gemm_parts<real>{(real *)room.p, s}, s);
    return each(w, Z * M * N, gemm_total<real, C>{(const real *)room.p, s, c});
}

}
