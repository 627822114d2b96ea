// attention.cu - attention without all scores in memory: a block has a query, or a key, and goes over the others in tiles.
//
// The kernel that takes every dtype, mask, dropout and head size; a library's is quicker where it applies. Scores are
// scale * q k + mask; lse is the logarithm of a query's sum of exponentials, from which the gradients make the weights anew.
#include "block.cuh"
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
    heads q, k, v, mask, y, g, gq, gk, gv;
    char *lse;
    int32_t dl;
    int64_t N, H, G, L, S, E, V;
    double scale, keep;         // keep: 1 / (1 - p)
    bool causal, drops;
    uint32_t limit;
    drawn from;
    __device__ int64_t at(const heads &h, int64_t n, int64_t head, int64_t r, int64_t c) const { return n * h.s[0] + head * h.s[1] + r * h.s[2] + c * h.s[3]; }
    template <typename real> __device__ real get(const heads &h, int64_t n, int64_t head, int64_t r, int64_t c) const { return read<real>(h.p, h.dtype, at(h, n, head, r, c)); }
    template <typename real> __device__ real score(int64_t n, int64_t h, int64_t l, int64_t s) const {       // -infinity: not seen
        if (causal && s > l) return -(real)INFINITY;
        real dot = 0, m = 0;
        if (mask.p) {
            m = get<real>(mask, n, h, l, s);
            if (mask.dtype == AJ_BOOL) { if (m == 0) return -(real)INFINITY; m = 0; }
        }
        for (int64_t e = 0; e < E; e++) dot += get<real>(q, n, h, l, e) * (real)scale * get<real>(k, n, h / (H / G), s, e);
        return dot + m;
    }
    template <typename real> __device__ real kept(int64_t n, int64_t h, int64_t l, int64_t s) const {        // 1 / (1 - p), or 0
        if (!drops) return 1;
        return philox_word(from.key(), from.at(((n * H + h) * L + l) * S + s)) >> 8 >= limit ? (real)keep : (real)0;
    }
    __device__ int64_t seen(int64_t l) const { return causal && l + 1 < S ? l + 1 : S; }
    template <typename real> __device__ real weight(int64_t n, int64_t h, int64_t l, int64_t s) const {
        real top = read<real>(lse, dl, (n * H + h) * L + l);
        return top == -(real)INFINITY ? (real)0 : row::exp(score<real>(n, h, l, s) - top);
    }
};

// A query by a block: tiles of THREADS keys, of which the largest score, the sum and the weighted values are kept up to date.
template <typename real> __global__ void __launch_bounds__(THREADS) attend_query(const __grid_constant__ attend a) {
    __shared__ real p[THREADS];
    const int64_t l = blockIdx.x % a.L, h = blockIdx.x / a.L % a.H, n = blockIdx.x / a.L / a.H, g = h / (a.H / a.G), seen = a.seen(l);
    real top = -(real)INFINITY, total = 0;
    for (int64_t v0 = 0; v0 < a.V || v0 == 0; v0 += THREADS) {      // of wider values the scores are made anew
        real acc = 0;
        top = -(real)INFINITY;
        total = 0;
        for (int64_t s0 = 0; s0 < seen; s0 += THREADS) {
            int64_t s = s0 + threadIdx.x;
            real x = s < seen ? a.template score<real>(n, h, l, s) : -(real)INFINITY, high = of_block(x, larger()), was = top;
            top = larger()(top, high);
            real fade = was == -(real)INFINITY ? (real)0 : row::exp(was - top), e = x == -(real)INFINITY ? (real)0 : row::exp(x - top);
            if (top != top) e = top;
            total = total * fade + of_block(e, add());
            p[threadIdx.x] = s < seen ? e * a.template kept<real>(n, h, l, s) : (real)0;
            __syncthreads();
            acc *= fade;
            int64_t keys = seen - s0 < THREADS ? seen - s0 : (int64_t)THREADS;
            if (v0 + threadIdx.x < a.V) for (int64_t j = 0; j < keys; j++) acc += p[j] * a.template get<real>(a.v, n, g, s0 + j, v0 + threadIdx.x);
            __syncthreads();
        }
        if (v0 + threadIdx.x < a.V) write<real>(a.y.p, a.y.dtype, a.at(a.y, n, h, l, v0 + threadIdx.x), total == 0 ? (real)0 : acc / total);
    }
    if (threadIdx.x == 0) write<real>(a.lse, a.dl, blockIdx.x, total == 0 ? -(real)INFINITY : top + row::log(total));
}

// ds = p (kept (g v) - delta), where delta is the sum of g y: of one query and one key.
template <typename real> __device__ inline real slope(const attend &a, int64_t n, int64_t h, int64_t l, int64_t s, real p, real delta) {
    real dot = 0;
    for (int64_t e = 0; e < a.V; e++) dot += a.template get<real>(a.g, n, h, l, e) * a.template get<real>(a.v, n, h / (a.H / a.G), s, e);
    return p * (dot * a.template kept<real>(n, h, l, s) - delta);
}
template <typename real> __device__ inline real delta_of(const attend &a, int64_t n, int64_t h, int64_t l) {
    real sum = 0;
    for (int64_t e = 0; e < a.V; e++) sum += a.template get<real>(a.g, n, h, l, e) * a.template get<real>(a.y, n, h, l, e);
    return sum;
}
template <typename real> __global__ void __launch_bounds__(THREADS) attend_query_grad(const __grid_constant__ attend a) {
    __shared__ real ds[THREADS];
    const int64_t l = blockIdx.x % a.L, h = blockIdx.x / a.L % a.H, n = blockIdx.x / a.L / a.H, g = h / (a.H / a.G), seen = a.seen(l);
    const real delta = delta_of<real>(a, n, h, l);
    for (int64_t e0 = 0; e0 < a.E; e0 += THREADS) {
        real acc = 0;
        for (int64_t s0 = 0; s0 < seen; s0 += THREADS) {
            int64_t s = s0 + threadIdx.x, keys = seen - s0 < THREADS ? seen - s0 : (int64_t)THREADS;
            ds[threadIdx.x] = s < seen ? slope<real>(a, n, h, l, s, a.template weight<real>(n, h, l, s), delta) : (real)0;
            __syncthreads();
            if (e0 + threadIdx.x < a.E) for (int64_t j = 0; j < keys; j++) acc += ds[j] * a.template get<real>(a.k, n, g, s0 + j, e0 + threadIdx.x);
            __syncthreads();
        }
        if (e0 + threadIdx.x < a.E) write<real>(a.gq.p, a.gq.dtype, a.at(a.gq, n, h, l, e0 + threadIdx.x), acc * (real)a.scale);
    }
}
// A key by a block, over the queries of all heads that share it.
template <typename real> __global__ void __launch_bounds__(THREADS) attend_key_grad(const __grid_constant__ attend a) {
    __shared__ real ds[THREADS], pk[THREADS];
    const int64_t s = blockIdx.x % a.S, g = blockIdx.x / a.S % a.G, n = blockIdx.x / a.S / a.G, of = a.H / a.G, wide = a.E > a.V ? a.E : a.V;
    for (int64_t e0 = 0; e0 < wide; e0 += THREADS) {
        real k_acc = 0, v_acc = 0;
        int64_t e = e0 + threadIdx.x;
        for (int64_t h = g * of; h < (g + 1) * of; h++)
            for (int64_t l0 = 0; l0 < a.L; l0 += THREADS) {
                int64_t l = l0 + threadIdx.x, queries = a.L - l0 < THREADS ? a.L - l0 : (int64_t)THREADS;
                real p = l < a.L && s < a.seen(l) ? a.template weight<real>(n, h, l, s) : (real)0;
                ds[threadIdx.x] = p == 0 ? (real)0 : slope<real>(a, n, h, l, s, p, delta_of<real>(a, n, h, l));
                pk[threadIdx.x] = p == 0 ? (real)0 : p * a.template kept<real>(n, h, l, s);
                __syncthreads();
                for (int64_t j = 0; j < queries; j++) {
                    if (e < a.E) k_acc += ds[j] * a.template get<real>(a.q, n, h, l0 + j, e);
                    if (e < a.V) v_acc += pk[j] * a.template get<real>(a.g, n, h, l0 + j, e);
                }
                __syncthreads();
            }
        if (e < a.E) write<real>(a.gk.p, a.gk.dtype, a.at(a.gk, n, g, s, e), k_acc * (real)a.scale);
        if (e < a.V) write<real>(a.gv.p, a.gv.dtype, a.at(a.gv, n, g, s, e), v_acc);
    }
}

static bool describe(const aj_call *c, int first, attend &a) {
    const aj_tensor *q = c->in[first], *k = c->in[first + 1], *v = c->in[first + 2];
    const aj_attrs *t = c->attrs;
    a = attend{};
    a.q = heads_of(q);
    a.k = heads_of(k);
    a.v = heads_of(v);
    a.mask = heads_of(c->in[first + 3]);
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
extern "C" bool attention_cuda(const aj_call *c) {
    attend a;
    work w(c);
    if (!describe(c, 0, a)) return false;
    a.y = heads_of(c->out[0]);
    a.lse = c->out[1]->data;
    a.dl = c->out[1]->dtype;
    if (c->out[1]->numel == 0) return true;
    return with_floats(c->in[0]->dtype, [&](auto of) {
        launch_together(attend_query<decltype(of)>, dim3((unsigned)(a.N * a.H * a.L)), dim3(THREADS), w.stream, a);
        return w.done();
    });
}
extern "C" bool attention_grad_cuda(const aj_call *c) {
    attend a;
    work w(c);
    aj_tensor *lse = in_order(c->in[6]);
    if (!lse || !describe(c, 1, a)) return false;
    a.g = heads_of(c->in[0]);
    a.y = heads_of(c->in[5]);
    a.lse = lse->data;
    a.dl = lse->dtype;
    a.gq = heads_of(c->out[0]);
    a.gk = heads_of(c->out[1]);
    a.gv = heads_of(c->out[2]);
    return with_floats(c->in[1]->dtype, [&](auto of) {
        typedef decltype(of) real;
        if (a.N * a.H * a.L > 0) launch_together(attend_query_grad<real>, dim3((unsigned)(a.N * a.H * a.L)), dim3(THREADS), w.stream, a);
        if (a.N * a.G * a.S > 0) launch_together(attend_key_grad<real>, dim3((unsigned)(a.N * a.G * a.S)), dim3(THREADS), w.stream, a);
        return w.done();
    });
}

}
