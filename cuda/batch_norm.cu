// batch_norm.cu - batch normalisation and its gradient: sums over each channel, by many blocks at once; what follows from them,
// by a thread for each channel; and one pass over the elements. Neighbouring threads read neighbouring elements, whether a
// channel's lie side by side or the channels of a place do.
#include "each.cuh"
#include "layout.h"

namespace cuda {

namespace {
enum { WARPS = THREADS / 32, SEGMENT = 2048, MOST_PARTS = 256, FACTORS = 5 };

// x is (N, C, S): planes of S neighbours; or where S is 1, or channels are last, lines of C channels.
struct batch {
    const char *x, *g, *weight, *bias;
    char *y, *mean, *rstd, *gw, *gb, *running_mean, *running_var;
    int32_t dx, dg, dw, db, dy, ds, dgw, drm, drv, parts, across;          // dtypes; across: threads side by side over a line
    int64_t N, C, S;
    double eps, momentum;
    bool training, back, relu;                           // relu: y is 0 where it would be below
    double *sums;                                        // (parts, C, 2)
    void *factors;                                       // (C, FACTORS)

    // Forward the sums of x - shift and its square, shift being the channel's first element, so that nothing cancels;
    // backward those of g and g (x - mean).
    template <typename real> __device__ real origin(int64_t c) const { return back ? read<real>(mean, ds, c) : read<real>(x, dx, c * S); }
    template <typename real> __device__ real scale(int64_t c) const { return !back || !relu ? (real)0 : read<real>(rstd, ds, c) * (weight ? read<real>(weight, dw, c) : (real)1); }
    template <typename real> __device__ real shift(int64_t c) const { return !back || !relu || !bias ? (real)0 : read<real>(bias, db, c); }
    template <typename real> __device__ void add(real v, real gv, real from, real scale, real shift, real *a, real *b) const {
        real d = v - from;
        if (relu && back && d * scale + shift <= 0) gv = 0;
        *a += back ? gv : d;
        *b += back ? gv * d : d * d;
    }
    template <typename real> __device__ real result(real v, real gv, const real *f) const {
        real d = v - f[0], y = d * f[1] + f[2];
        if (!back) return relu && y < 0 ? (real)0 : y;
        if (relu && d * f[1] + f[4] <= 0) gv = 0;
        return gv * f[1] - f[2] - d * f[3];
    }
};

template <typename real, int V> __device__ inline void load(real *v, const char *p, int dtype, int64_t i) {
    if constexpr (V == 1) v[0] = read<real>(p, dtype, i);
    else read_packet<real>(v, p, dtype, i);
}
template <typename real, int V> __device__ inline void store(char *p, int dtype, int64_t i, const real *v) {
    if constexpr (V == 1) write<real>(p, dtype, i, v[0]);
    else write_packet<real>(p, dtype, i, v);
}

template <typename real, int V> __global__ void __launch_bounds__(THREADS) sum_planes(const __grid_constant__ batch m) {
    __shared__ double part[2][WARPS];
    const int64_t c = blockIdx.x, segments = (m.S + SEGMENT - 1) / SEGMENT;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const real from = m.origin<real>(c), scale = m.scale<real>(c), shift = m.shift<real>(c);
    double sum[2] = {};
    for (int64_t t = (int64_t)blockIdx.y * WARPS + warp; t < m.N * segments; t += (int64_t)gridDim.y * WARPS) {
        const int64_t at = (t / segments * m.C + c) * m.S, first = t % segments * SEGMENT, end = first + SEGMENT < m.S ? first + SEGMENT : m.S;
        real a = 0, b = 0;
        for (int64_t s = first + lane * V; s < end; s += 32 * V) {
            real v[V], g[V] = {};
            load<real, V>(v, m.x, m.dx, at + s);
            if (m.back) load<real, V>(g, m.g, m.dg, at + s);
            for (int j = 0; j < V; j++) m.add(v[j], g[j], from, scale, shift, &a, &b);
        }
        sum[0] += (double)a;
        sum[1] += (double)b;
    }
    for (int k = 0; k < 2; k++) {
        for (int j = 16; j; j /= 2) sum[k] += __shfl_xor_sync(0xffffffffu, sum[k], j);
        if (lane == 0) part[k][warp] = sum[k];
    }
    __syncthreads();
    if (threadIdx.x > 1) return;
    double all = 0;
    for (int j = 0; j < WARPS; j++) all += part[threadIdx.x][j];
    m.sums[((int64_t)blockIdx.y * m.C + c) * 2 + threadIdx.x] = all;
}

template <typename real, int V> __global__ void __launch_bounds__(THREADS) sum_lines(const __grid_constant__ batch m) {
    __shared__ double part[2][THREADS];
    const int x = threadIdx.x % m.across, y = threadIdx.x / m.across, down = THREADS / m.across;
    const int64_t c = ((int64_t)blockIdx.x * m.across + x) * V;
    real from[V] = {}, scale[V] = {}, shift[V] = {}, a[V] = {}, b[V] = {};
    if (c < m.C) {
        for (int j = 0; j < V; j++) { from[j] = m.origin<real>(c + j); scale[j] = m.scale<real>(c + j); shift[j] = m.shift<real>(c + j); }
        for (int64_t n = (int64_t)blockIdx.y * down + y; n < m.N; n += (int64_t)gridDim.y * down) {
            real v[V], g[V] = {};
            load<real, V>(v, m.x, m.dx, n * m.C + c);
            if (m.back) load<real, V>(g, m.g, m.dg, n * m.C + c);
            for (int j = 0; j < V; j++) m.add(v[j], g[j], from[j], scale[j], shift[j], &a[j], &b[j]);
        }
    }
    for (int j = 0; j < V; j++) {
        part[0][threadIdx.x] = (double)a[j];
        part[1][threadIdx.x] = (double)b[j];
        __syncthreads();
        if (y < 2 && c < m.C) {
            double all = 0;
            for (int k = 0; k < down; k++) all += part[y][k * m.across + x];
            m.sums[((int64_t)blockIdx.y * m.C + c + j) * 2 + y] = all;
        }
        __syncthreads();
    }
}

template <typename real> struct finish {
    batch m;
    __device__ void operator()(int64_t c) const {
        double a = 0, b = 0, K = (double)m.N * (double)m.S, w = m.weight ? read<double>(m.weight, m.dw, c) : 1;
        for (int p = 0; p < m.parts; p++) { a += m.sums[(p * m.C + c) * 2]; b += m.sums[(p * m.C + c) * 2 + 1]; }
        real *f = (real *)m.factors + c * FACTORS;
        if (m.back) {
            double mean = read<double>(m.mean, m.ds, c), r = read<double>(m.rstd, m.ds, c);
            if (m.gw) { write<double>(m.gw, m.dgw, c, b * r); write<double>(m.gb, m.dgw, c, a); }
            f[0] = (real)mean;
            f[1] = (real)(r * w);
            f[2] = m.training ? (real)(w * r * a / K) : (real)0;
            f[3] = m.training ? (real)(w * r * r * r * b / K) : (real)0;
            f[4] = m.bias ? (real)read<double>(m.bias, m.db, c) : (real)0;
            return;
        }
        double mean, var;
        if (m.training) {
            double s = a / K;
            var = b / K - s * s;
            if (var < 0) var = 0;
            mean = read<double>(m.x, m.dx, c * m.S) + s;
            if (m.running_mean) {
                write<double>(m.running_mean, m.drm, c, (1 - m.momentum) * read<double>(m.running_mean, m.drm, c) + m.momentum * mean);
                write<double>(m.running_var, m.drv, c, (1 - m.momentum) * read<double>(m.running_var, m.drv, c) + m.momentum * (K > 1 ? var * K / (K - 1) : var));
            }
        } else {
            mean = read<double>(m.running_mean, m.drm, c);
            var = read<double>(m.running_var, m.drv, c);
        }
        double r = 1 / sqrt(var + m.eps);
        write<double>(m.mean, m.ds, c, mean);
        write<double>(m.rstd, m.ds, c, r);
        f[0] = (real)mean;
        f[1] = (real)(r * w);
        f[2] = m.bias ? (real)read<double>(m.bias, m.db, c) : (real)0;
    }
};

template <typename real, int V> __global__ void __launch_bounds__(THREADS) apply_planes(const __grid_constant__ batch m) {
    const int64_t segments = (m.S + SEGMENT - 1) / SEGMENT, tiles = m.N * m.C * segments;
    const int lane = threadIdx.x % 32;
    for (int64_t t = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32; t < tiles; t += (int64_t)gridDim.x * WARPS) {
        const int64_t row = t / segments, at = row * m.S, first = t % segments * SEGMENT, end = first + SEGMENT < m.S ? first + SEGMENT : m.S;
        const real *f = (const real *)m.factors + row % m.C * FACTORS;
        for (int64_t s = first + lane * V; s < end; s += 32 * V) {
            real v[V], g[V] = {};
            load<real, V>(v, m.x, m.dx, at + s);
            if (m.back) load<real, V>(g, m.g, m.dg, at + s);
            for (int j = 0; j < V; j++) v[j] = m.result(v[j], g[j], f);
            store<real, V>(m.y, m.dy, at + s, v);
        }
    }
}
template <typename real, int V> struct apply_lines {
    batch m;
    __device__ void operator()(int64_t k) const {
        const int64_t i = k * V, c = i % m.C;
        real v[V], g[V] = {};
        load<real, V>(v, m.x, m.dx, i);
        if (m.back) load<real, V>(g, m.g, m.dg, i);
        for (int j = 0; j < V; j++) v[j] = m.result(v[j], g[j], (const real *)m.factors + (c + j) * FACTORS);
        store<real, V>(m.y, m.dy, i, v);
    }
};

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

template <typename real, int V> bool go(work &w, int32_t device, batch &m) {
    const bool planes = m.S > 1, summed = m.back ? m.training || m.gw : m.training;
    const int64_t enough = 4 * (int64_t)w.processors;
    int64_t blocks, tiles;                               // over channels; what is left to share among parts
    m.across = 1;
    if (planes) {
        blocks = m.C;
        tiles = (m.N * ((m.S + SEGMENT - 1) / SEGMENT) + WARPS - 1) / WARPS;
    } else {
        while (m.across < 32 && m.across * V < m.C) m.across *= 2;
        blocks = (m.C + m.across * V - 1) / (m.across * V);
        tiles = (m.N * m.across + 4 * THREADS - 1) / (4 * THREADS);
    }
    m.parts = !summed ? 0 : (int32_t)least(least(tiles, (enough + blocks - 1) / blocks), MOST_PARTS);
    scratch room(device, m.C * (FACTORS * (int64_t)sizeof(real) + m.parts * 16));
    if (!room.p) return false;
    m.sums = (double *)room.p;
    m.factors = (char *)room.p + m.C * m.parts * 16;
    if (summed) launch_together(planes ? sum_planes<real, V> : sum_lines<real, V>, dim3((unsigned)blocks, (unsigned)m.parts), dim3(THREADS), w.stream, m);
    if (!each(w, m.C, finish<real>{m})) return false;
    if (!planes) return each(w, m.N * m.C / V, apply_lines<real, V>{m});
    launch(apply_planes<real, V>, blocks_for(m.N * m.C * ((m.S + SEGMENT - 1) / SEGMENT) * 32, w.processors), dim3(THREADS), w.stream, m);
    return w.done();
}
bool run(work &w, int32_t device, batch &m) {
    return with_floats(m.dx, [&](auto of) {
        typedef decltype(of) real;
        enum { V = class_of<real>::packet };
        return (m.S > 1 ? m.S : m.C) % V == 0 ? go<real, V>(w, device, m) : go<real, 1>(w, device, m);
    });
}

// Where channels are last in all of them, they are lines; else they are put in order.
bool laid(batch &m, aj_tensor **x, aj_tensor **g, aj_tensor *y) {
    if (channels_last(*x) && (!g || same_layout(*g, *x))) {
        m.N *= m.S;
        m.S = 1;
        lay_channels_last(y);
    } else if (!(*x = in_order(*x)) || (g && !(*g = in_order(*g)))) return false;
    m.x = (*x)->data;
    if (g) m.g = (*g)->data;
    return true;
}
const char *data(const aj_tensor *t) { return t ? t->data : nullptr; }
int32_t dtype(const aj_tensor *t) { return t ? t->dtype : 0; }
batch described(const aj_call *c, const aj_tensor *x, const aj_tensor *weight, const aj_tensor *mean, const aj_tensor *rstd, const aj_tensor *y) {
    const aj_attrs *a = c->attrs;
    batch m = {};
    m.x = x->data; m.dx = x->dtype;
    m.weight = data(weight); m.dw = dtype(weight);
    m.mean = mean->data; m.rstd = rstd->data; m.ds = mean->dtype;
    m.y = y->data; m.dy = y->dtype;
    m.C = a->i; m.S = a->j; m.N = a->k;
    m.eps = a->s;
    m.momentum = a->t;
    m.training = a->flag;
    m.relu = a->mode != 0;
    return m;
}
}

extern "C" bool batch_norm_cuda(const aj_call *c) {
    aj_tensor *x = c->in[0], *weight = in_order(c->in[3]), *bias = in_order(c->in[4]), *running[2] = {c->in[1], c->in[2]};
    if ((c->in[3] && !weight) || (c->in[4] && !bias)) return false;
    work w(c);
    batch m = described(c, x, weight, c->out[1], c->out[2], c->out[0]);
    m.bias = data(bias);
    m.db = dtype(bias);
    for (int k = 0; k < 2 && running[0]; k++)
        if (!running[k]->contiguous) return aj_refuse(c, "running_mean and running_var must be contiguous on a CUDA device");
    if (running[0]) {
        m.running_mean = running[0]->data; m.drm = running[0]->dtype;
        m.running_var = running[1]->data; m.drv = running[1]->dtype;
    }
    if (!x->numel) return true;
    if (!laid(m, &x, nullptr, c->out[0])) return false;
    bool ok = run(w, x->device, m);
    for (int k = 0; k < 2 && running[0] && m.training; k++) running[k]->storage->version++;
    return ok;
}

// in: g, x, weight, bias, mean, rstd; out: gx, gw, gb.
extern "C" bool batch_norm_grad_cuda(const aj_call *c) {
    aj_tensor *g = c->in[0], *x = c->in[1], *weight = in_order(c->in[2]), *bias = in_order(c->in[3]), *mean = in_order(c->in[4]), *rstd = in_order(c->in[5]);
    if (!mean || !rstd || (c->in[2] && !weight) || (c->in[3] && !bias)) return false;
    work w(c);
    batch m = described(c, x, weight, mean, rstd, c->out[0]);
    m.dg = g->dtype;
    m.back = true;
    m.bias = data(bias);
    m.db = dtype(bias);
    if (c->attrs->flag2) { m.gw = c->out[1]->data; m.gb = c->out[2]->data; m.dgw = c->out[1]->dtype; }
    if (x->numel) return laid(m, &x, &g, c->out[0]) && run(w, x->device, m);
    for (int k = 1; k < 3; k++)
        if (c->out[k]->numel && !w.done(cudaMemsetAsync(c->out[k]->data, 0, (size_t)(c->out[k]->numel * dtype_bytes(c->out[k]->dtype)), w.stream))) return false;
    return true;
}

}
