// attention.cu - attention without all scores in memory: a block has 64 queries, or 64 keys, and goes over the others in tiles
// (Dao and others, "FlashAttention-2", 2023).
//
// These kernels take every dtype, mask, dropout and head size; cuDNN's are quicker where they apply. Scores are
// scale * q k + mask; lse is the logarithm of a query's sum of exponentials, from which the gradients make the weights anew.
#include "block.cuh"
#include "dnn_attention.h"
#include "draw.cuh"
#include "each.cuh"
#include "math.cuh"

namespace cuda {

struct heads { char *p; int32_t dtype; int64_t s[4]; };  // (N, heads, rows, columns), with strides
static heads heads_of(const aj_tensor *t) {
    heads h = {};
    if (!t) return h;
    h.p = t->data;
    h.dtype = t->dtype;
    for (int d = 0; d < 4; d++) h.s[d] = t->stride[d];
    return h;
}
struct attend {
    heads q, k, v, mask, y, g, gq, gk, gv;               // mask: of bools, or of the type computed in
    char *lse;
    void *delta;                // of the type computed in
    int32_t dl;
    int64_t N, H, G, L, S, E, V;
    double scale, keep;         // keep: 1 / (1 - p)
    bool causal, drops;
    uint32_t limit;
    drawn from;
    __device__ int64_t at(const heads &h, int64_t n, int64_t head, int64_t r, int64_t c) const { return n * h.s[0] + head * h.s[1] + r * h.s[2] + c * h.s[3]; }
    template <typename real> __device__ real get(const heads &h, int64_t n, int64_t head, int64_t r, int64_t c) const { return read<real>(h.p, h.dtype, at(h, n, head, r, c)); }
    // Of a query and a key whose product is known; -infinity: not seen.
    template <typename real> __device__ real score(real dot, int64_t n, int64_t h, int64_t l, int64_t s) const {
        if (l >= L || s >= S || (causal && s > l)) return -(real)INFINITY;
        dot *= (real)scale;
        if (!mask.p) return dot;
        const int64_t i = at(mask, n, h, l, s);
        return mask.dtype != AJ_BOOL ? dot + ((const real *)(const void *)mask.p)[i] : mask.p[i] ? dot : -(real)INFINITY;
    }
    template <typename real> __device__ real kept(int64_t n, int64_t h, int64_t l, int64_t s) const {        // 1 / (1 - p), or 0
        if (!drops) return 1;
        return philox_word(from.key(), from.at(((n * H + h) * L + l) * S + s)) >> 8 >= limit ? (real)keep : (real)0;
    }
};

// A block has a SIDE x SIDE tile of scores, each thread the RUN x RUN of its rows and columns 16 apart, and SPAN columns of a
// result, which need not be all: other blocks have the others. Features are gone through in strips.
enum { SIDE = 64, RUN = 4, SPAN = 128 };
template <typename real> struct strips { enum { wide = sizeof(real) == 4 ? 32 : 16, own = wide / 16, count = SPAN / wide }; };
template <typename real> struct room {                   // of a block
    real strip[SIDE][strips<real>::wide + 1];
    union { real other[SIDE][strips<real>::wide + 1]; real tile[SIDE][SIDE + 1]; };
};

// Rows from `first` on, columns from `column` on, 0 beyond the ends.
template <typename real> __device__ inline void load_strip(const attend &a, real (*to)[strips<real>::wide + 1], const heads &of, int64_t n, int64_t h, int64_t first, int64_t rows,
                                                           int64_t column, int64_t columns) {
    enum { wide = strips<real>::wide };
    for (int i = threadIdx.x; i < SIDE * wide; i += THREADS) {
        int64_t r = first + i / wide, e = column + i % wide;
        to[i / wide][i % wide] = r < rows && e < columns ? a.template get<real>(of, n, h, r, e) : (real)0;
    }
}
// The products of SIDE rows of x and SIDE of y over all their features.
template <typename real> __device__ inline void products(const attend &a, room<real> &m, real (*s)[RUN], const heads &x, int64_t n, int64_t hx, int64_t x0, int64_t rows_x, const heads &y,
                                                         int64_t hy, int64_t y0, int64_t rows_y, int64_t features) {
    const int row = threadIdx.x / 16, column = threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < RUN; i++) for (int j = 0; j < RUN; j++) s[i][j] = 0;
    for (int64_t e0 = 0; e0 < features; e0 += strips<real>::wide) {
        __syncthreads();
        load_strip(a, m.strip, x, n, hx, x0, rows_x, e0, features);
        load_strip(a, m.other, y, n, hy, y0, rows_y, e0, features);
        __syncthreads();
        for (int e = 0; e < strips<real>::wide; e++) {
            real p[RUN], q[RUN];
#pragma unroll
            for (int i = 0; i < RUN; i++) { p[i] = m.strip[row + 16 * i][e]; q[i] = m.other[column + 16 * i][e]; }
#pragma unroll
            for (int i = 0; i < RUN; i++) for (int j = 0; j < RUN; j++) s[i][j] += p[i] * q[j];
        }
    }
    __syncthreads();
}
// acc += tile of (rows, inner) or, turned, of (inner, rows), times rows of x, of columns from c0 on. The tile was just written.
template <typename real, bool turned> __device__ inline void gather(const attend &a, room<real> &m, real (*acc)[RUN][strips<real>::own], const heads &x, int64_t n, int64_t h, int64_t first,
                                                                    int64_t rows, int64_t c0, int64_t columns) {
    const int row = threadIdx.x / 16, column = threadIdx.x % 16;
#pragma unroll
    for (int k = 0; k < strips<real>::count; k++) {
        if (c0 + k * strips<real>::wide >= columns) continue;
        __syncthreads();
        load_strip(a, m.strip, x, n, h, first, rows, c0 + k * strips<real>::wide, columns);
        __syncthreads();
        for (int j = 0; j < SIDE; j++) {
            real p[RUN], v[strips<real>::own];
#pragma unroll
            for (int i = 0; i < RUN; i++) p[i] = turned ? m.tile[j][row + 16 * i] : m.tile[row + 16 * i][j];
#pragma unroll
            for (int i = 0; i < strips<real>::own; i++) v[i] = m.strip[j][column + 16 * i];
#pragma unroll
            for (int i = 0; i < RUN; i++) for (int d = 0; d < strips<real>::own; d++) acc[k][i][d] += p[i] * v[d];
        }
    }
    __syncthreads();
}
// acc times a factor for each of this thread's rows, as rows of the result y.
template <typename real> __device__ inline void put_rows(const attend &a, const heads &y, int64_t n, int64_t h, int64_t first, int64_t rows, int64_t c0, int64_t columns,
                                                         const real (*acc)[RUN][strips<real>::own], const real *factor) {
    const int row = threadIdx.x / 16, column = threadIdx.x % 16;
#pragma unroll
    for (int k = 0; k < strips<real>::count; k++)
#pragma unroll
        for (int i = 0; i < RUN; i++)
#pragma unroll
            for (int d = 0; d < strips<real>::own; d++) {
                int64_t r = first + row + 16 * i, c = c0 + k * strips<real>::wide + column + 16 * d;
                if (r < rows && c < columns) write<real>(y.p, y.dtype, a.at(y, n, h, r, c), acc[k][i][d] * factor[i]);
            }
}
// Over the 16 threads that share rows.
template <typename F, typename real> __device__ inline real of_row(real v, F f) {
    for (int k = 8; k; k /= 2) v = f(v, __shfl_xor_sync(0xffffffffu, v, k));
    return v;
}

struct where { int64_t n, h, first; };
__device__ inline where tile_of(int64_t block, int64_t heads, int64_t rows) {
    int64_t tiles = (rows + SIDE - 1) / SIDE;
    return {block / tiles / heads, block / tiles % heads, block % tiles * SIDE};
}

template <typename real> __global__ void __launch_bounds__(THREADS) attend_forward(const __grid_constant__ attend a) {
    __shared__ room<real> m;
    const where b = tile_of(blockIdx.x, a.H, a.L);
    const int row = threadIdx.x / 16, column = threadIdx.x % 16;
    const int64_t g = b.h / (a.H / a.G), c0 = (int64_t)blockIdx.y * SPAN, seen = a.causal && b.first + SIDE < a.S ? b.first + SIDE : a.S;
    real acc[strips<real>::count][RUN][strips<real>::own] = {}, top[RUN], total[RUN] = {}, s[RUN][RUN];
#pragma unroll
    for (int i = 0; i < RUN; i++) top[i] = -(real)INFINITY;
    for (int64_t s0 = 0; s0 < seen; s0 += SIDE) {
        products(a, m, s, a.q, b.n, b.h, b.first, a.L, a.k, g, s0, a.S, a.E);
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            const int64_t l = b.first + row + 16 * i;
            real high = -(real)INFINITY, sum = 0, was = top[i];
#pragma unroll
            for (int j = 0; j < RUN; j++) {
                s[i][j] = a.score<real>(s[i][j], b.n, b.h, l, s0 + column + 16 * j);
                high = larger()(high, s[i][j]);
            }
            top[i] = larger()(was, of_row(high, larger()));
            real fade = was == -(real)INFINITY ? (real)0 : row::exp(was - top[i]);
#pragma unroll
            for (int j = 0; j < RUN; j++) {
                const int64_t key = s0 + column + 16 * j;
                real e = top[i] != top[i] ? top[i] : s[i][j] == -(real)INFINITY ? (real)0 : row::exp(s[i][j] - top[i]);
                sum += e;
                m.tile[row + 16 * i][column + 16 * j] = l < a.L && key < a.S ? e * a.kept<real>(b.n, b.h, l, key) : (real)0;
            }
            total[i] = total[i] * fade + of_row(sum, add());
#pragma unroll
            for (int k = 0; k < strips<real>::count; k++) for (int d = 0; d < strips<real>::own; d++) acc[k][i][d] *= fade;
        }
        gather<real, false>(a, m, acc, a.v, b.n, g, s0, a.S, c0, a.V);
    }
    real factor[RUN];
#pragma unroll
    for (int i = 0; i < RUN; i++) {
        const int64_t l = b.first + row + 16 * i;
        factor[i] = total[i] == 0 ? (real)0 : 1 / total[i];
        if (column == 0 && l < a.L && blockIdx.y == 0) write<real>(a.lse, a.dl, (b.n * a.H + b.h) * a.L + l, total[i] == 0 ? -(real)INFINITY : top[i] + row::log(total[i]));
    }
    put_rows(a, a.y, b.n, b.h, b.first, a.L, c0, a.V, acc, factor);
}

// delta: the sum of g y for each query.
template <typename real> struct attend_delta {
    attend a;
    __device__ void operator()(int64_t i) const {
        const int64_t l = i % a.L, h = i / a.L % a.H, n = i / a.L / a.H;
        real sum = 0;
        for (int64_t e = 0; e < a.V; e++) sum += a.template get<real>(a.g, n, h, l, e) * a.template get<real>(a.y, n, h, l, e);
        ((real *)a.delta)[i] = sum;
    }
};

// Of SIDE queries from l0 on and SIDE keys from s0 on: weights w, and slopes ds = w (kept (g v) - delta).
template <typename real> __device__ inline void slopes(const attend &a, room<real> &m, int64_t n, int64_t h, int64_t l0, int64_t s0, real (*w)[RUN], real (*ds)[RUN]) {
    const int row = threadIdx.x / 16, column = threadIdx.x % 16;
    const int64_t g = h / (a.H / a.G);
    products(a, m, w, a.q, n, h, l0, a.L, a.k, g, s0, a.S, a.E);
    products(a, m, ds, a.g, n, h, l0, a.L, a.v, g, s0, a.S, a.V);
#pragma unroll
    for (int i = 0; i < RUN; i++) {
        const int64_t l = l0 + row + 16 * i, at = (n * a.H + h) * a.L + l;
        real lse = l < a.L ? read<real>(a.lse, a.dl, at) : -(real)INFINITY, delta = l < a.L ? ((const real *)a.delta)[at] : (real)0;
#pragma unroll
        for (int j = 0; j < RUN; j++) {
            const int64_t s = s0 + column + 16 * j;
            real x = a.score<real>(w[i][j], n, h, l, s), kept = l < a.L && s < a.S ? a.kept<real>(n, h, l, s) : (real)0;
            w[i][j] = lse == -(real)INFINITY || x == -(real)INFINITY ? (real)0 : row::exp(x - lse);
            ds[i][j] = w[i][j] == 0 ? (real)0 : w[i][j] * (ds[i][j] * kept - delta);
            w[i][j] *= kept;
        }
    }
}
template <typename real> __device__ inline void put_tile(room<real> &m, const real (*s)[RUN]) {
#pragma unroll
    for (int i = 0; i < RUN; i++) for (int j = 0; j < RUN; j++) m.tile[threadIdx.x / 16 + 16 * i][threadIdx.x % 16 + 16 * j] = s[i][j];
}
template <typename real> __global__ void __launch_bounds__(THREADS) attend_query_grad(const __grid_constant__ attend a) {
    __shared__ room<real> m;
    const where b = tile_of(blockIdx.x, a.H, a.L);
    const int64_t c0 = (int64_t)blockIdx.y * SPAN, seen = a.causal && b.first + SIDE < a.S ? b.first + SIDE : a.S;
    real acc[strips<real>::count][RUN][strips<real>::own] = {}, w[RUN][RUN], ds[RUN][RUN], factor[RUN];
    for (int64_t s0 = 0; s0 < seen; s0 += SIDE) {
        slopes(a, m, b.n, b.h, b.first, s0, w, ds);
        put_tile(m, ds);
        gather<real, false>(a, m, acc, a.k, b.n, b.h / (a.H / a.G), s0, a.S, c0, a.E);
    }
#pragma unroll
    for (int i = 0; i < RUN; i++) factor[i] = (real)a.scale;
    put_rows(a, a.gq, b.n, b.h, b.first, a.L, c0, a.E, acc, factor);
}
// Over the queries of all heads that share the keys.
template <typename real> __global__ void __launch_bounds__(THREADS) attend_key_grad(const __grid_constant__ attend a) {
    __shared__ room<real> m;
    const where b = tile_of(blockIdx.x, a.G, a.S);
    const int64_t c0 = (int64_t)blockIdx.y * SPAN, of = a.H / a.G;
    real gk[strips<real>::count][RUN][strips<real>::own] = {}, gv[strips<real>::count][RUN][strips<real>::own] = {}, w[RUN][RUN], ds[RUN][RUN], factor[RUN];
    for (int64_t h = b.h * of; h < (b.h + 1) * of; h++)
        for (int64_t l0 = a.causal ? b.first / SIDE * SIDE : 0; l0 < a.L; l0 += SIDE) {
            slopes(a, m, b.n, h, l0, b.first, w, ds);
            put_tile(m, w);
            gather<real, true>(a, m, gv, a.g, b.n, h, l0, a.L, c0, a.V);
            put_tile(m, ds);
            gather<real, true>(a, m, gk, a.q, b.n, h, l0, a.L, c0, a.E);
        }
#pragma unroll
    for (int i = 0; i < RUN; i++) factor[i] = 1;
    put_rows(a, a.gv, b.n, b.h, b.first, a.S, c0, a.V, gv, factor);
#pragma unroll
    for (int i = 0; i < RUN; i++) factor[i] = (real)a.scale;
    put_rows(a, a.gk, b.n, b.h, b.first, a.S, c0, a.E, gk, factor);
}

// A mask of floats in the type computed in, without the elements that it repeats.
static bool describe_mask(aj_tensor *m, int dtype, heads &to) {
    if (!m) return true;
    aj_tensor *one = m;
    if (m->dtype != AJ_BOOL && m->dtype != dtype) {
        for (int d = 0; d < 4 && one; d++) if (m->stride[d] == 0 && m->shape[d] > 1) one = aj_untag(aj_narrow(one, d, 0, 1));
        if (!one || !(one = aj_untag(aj_cast(one, (aj_dtype)dtype)))) return false;
    }
    to = heads_of(one);
    for (int d = 0; d < 4; d++) if (one->shape[d] == 1) to.s[d] = 0;
    return true;
}
static bool describe(const aj_call *c, int first, attend &a) {
    const aj_tensor *q = c->in[first], *k = c->in[first + 1], *v = c->in[first + 2];
    const aj_attrs *t = c->attrs;
    a = attend{};
    a.q = heads_of(q);
    a.k = heads_of(k);
    a.v = heads_of(v);
    if (!describe_mask(c->in[first + 3], q->dtype == AJ_F64 ? AJ_F64 : AJ_F32, a.mask)) return false;
    a.N = q->shape[0]; a.H = q->shape[1]; a.L = q->shape[2]; a.E = q->shape[3];
    a.G = k->shape[1]; a.S = k->shape[2]; a.V = v->shape[3];
    a.scale = t->t;
    a.causal = t->flag;
    a.drops = t->s > 0;
    a.keep = t->s < 1 ? 1 / (1 - t->s) : 0;
    a.limit = (uint32_t)std::ceil(t->s * 0x1p24);
    a.from = drawn_of(t);
    if (a.N * a.H * a.L > INT32_MAX || a.N * a.G * a.S > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 queries or keys");
    return true;
}
static dim3 blocks(int64_t heads, int64_t rows, int64_t columns) { return dim3((unsigned)(heads * ((rows + SIDE - 1) / SIDE)), (unsigned)((columns + SPAN - 1) / SPAN)); }

extern "C" bool attention_cuda(const aj_call *c) {
    attend a;
    work w(c);
    if (!describe(c, 0, a)) return false;
    a.y = heads_of(c->out[0]);
    a.lse = c->out[1]->data;
    a.dl = c->out[1]->dtype;
    if (c->out[1]->numel == 0) return true;
    dnn_result r = dnn_attention(w, c);
    if (r != DNN_NONE) return r == DNN_DONE;
    if (!c->out[0]->numel) a.V = 1;                      // for lse
    return with_floats(c->in[0]->dtype, [&](auto of) {
        launch_together(attend_forward<decltype(of)>, blocks(a.N * a.H, a.L, a.V), dim3(THREADS), w.stream, a);
        return w.done();
    });
}
extern "C" bool attention_grad_cuda(const aj_call *c) {
    attend a;
    work w(c);
    dnn_result r = dnn_attention_grad(w, c);
    if (r != DNN_NONE) return r == DNN_DONE;
    aj_tensor *lse = in_order(c->in[6]);
    if (!lse || !describe(c, 1, a)) return false;
    a.g = heads_of(c->in[0]);
    a.y = heads_of(c->in[5]);
    a.lse = lse->data;
    a.dl = lse->dtype;
    a.gq = heads_of(c->out[0]);
    a.gk = heads_of(c->out[1]);
    a.gv = heads_of(c->out[2]);
    scratch delta(lse->device, lse->numel ? lse->numel * 8 : 1);
    if (!delta.p) return false;
    a.delta = delta.p;
    return with_floats(c->in[1]->dtype, [&](auto of) {
        typedef decltype(of) real;
        if (!each(w, lse->numel, attend_delta<real>{a})) return false;
        if (c->out[0]->numel) launch_together(attend_query_grad<real>, blocks(a.N * a.H, a.L, a.E), dim3(THREADS), w.stream, a);
        if (c->out[1]->numel || c->out[2]->numel) launch_together(attend_key_grad<real>, blocks(a.N * a.G, a.S, a.E > a.V ? a.E : a.V), dim3(THREADS), w.stream, a);
        return w.done();
    });
}

}
