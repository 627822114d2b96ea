// distance.cu - distances between all pairs of two sets of vectors, (B, P, M) and (B, R, M): tiles of pairs, whose vectors go
// through shared memory piece by piece.
#include "block.cuh"
#include "each.cuh"
#include "math.cuh"

namespace cuda {

enum { SIDE = 16, PIECE = 16 };
struct distances {
    const char *a, *b;
    char *y;
    int32_t da, db, dy;
    int64_t P, R, M, tiles;     // tiles: of R
    double p;
};
template <typename real> __global__ void __launch_bounds__(THREADS) distance_tile(const __grid_constant__ distances d) {
    __shared__ real a[SIDE][PIECE + 1], b[SIDE][PIECE + 1];
    const int row = threadIdx.x / SIDE, column = threadIdx.x % SIDE;
    const int64_t batch = blockIdx.y, i0 = blockIdx.x / d.tiles * SIDE, j0 = blockIdx.x % d.tiles * SIDE;
    const real p = (real)d.p;
    real sum = 0;
    for (int64_t k0 = 0; k0 < d.M; k0 += PIECE) {
        int64_t k = k0 + column;
        a[row][column] = i0 + row < d.P && k < d.M ? read<real>(d.a, d.da, (batch * d.P + i0 + row) * d.M + k) : (real)0;
        b[row][column] = j0 + row < d.R && k < d.M ? read<real>(d.b, d.db, (batch * d.R + j0 + row) * d.M + k) : (real)0;
        __syncthreads();
        for (int e = 0; e < PIECE; e++) {                // what lies beyond M differs by 0
            real v = row::fabs(a[row][e] - b[column][e]);
            if (p == 2) sum += v * v;
            else if (p == 1) sum += v;
            else if (p == 0) sum += v != 0;
            else if (p == (real)INFINITY) sum = larger()(v, sum);
            else if (v != 0) sum += row::pow(v, p);
        }
        __syncthreads();
    }
    if (i0 + row >= d.P || j0 + column >= d.R) return;
    if (p == 2) sum = row::sqrt(sum);
    else if (p != 1 && p != 0 && p != (real)INFINITY) sum = row::pow(sum, 1 / p);
    write<real>(d.y, d.dy, (batch * d.P + i0 + row) * d.R + j0 + column, sum);
}

extern "C" bool cdist_cuda(const aj_call *c) {
    aj_tensor *a = in_order(c->in[0]), *b = in_order(c->in[1]), *y = c->out[0];
    if (!a || !b) return false;
    if (!y->numel) return true;
    work w(c);
    distances d = {a->data, b->data, y->data, a->dtype, b->dtype, y->dtype, a->shape[1], b->shape[1], a->shape[2], (b->shape[1] + SIDE - 1) / SIDE, c->attrs->s};
    int64_t blocks = (d.P + SIDE - 1) / SIDE * d.tiles, B = a->shape[0];
    if (blocks > INT32_MAX) return aj_refuse(c, "too many pairs for a CUDA device at once");
    return with_floats(a->dtype, [&](auto of) {
        for (int64_t first = 0; first < B; first += 65535) {     // as many as a grid has along y
            distances part = d;
            part.a += first * d.P * d.M * dtype_bytes(d.da);
            part.b += first * d.R * d.M * dtype_bytes(d.db);
            part.y += first * d.P * d.R * dtype_bytes(d.dy);
            launch_together(distance_tile<decltype(of)>, dim3((unsigned)blocks, (unsigned)(B - first < 65535 ? B - first : 65535)), dim3(THREADS), w.stream, part);
        }
        return w.done();
    });
}

}
