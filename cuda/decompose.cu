// decompose.cu - QR, singular values and eigenvalues of batches of matrices, a block for each: Householder's reflections, and
// Jacobi's rotations of pairs of vectors that do not touch each other, all at once (Brent and Luk, 1985).
//
// The sign of a vector is the CPU's: of its components the first that is at least half as large as the largest is positive.
#include "matrix.cuh"

namespace cuda {

template <typename real> __device__ inline real tiny() { return sizeof(real) == 4 ? (real)0x1p-24 : (real)0x1p-53; }
template <typename real> __device__ inline real root(real v) { return (real)sqrt((double)v); }
template <typename real> __device__ inline real size(real v) { return v < 0 ? -v : v; }

// 1, or -1 where a vector, of elements `step` apart, is to be turned; by one thread.
template <typename real> __device__ inline real turned(const real *v, int64_t n, int64_t step) {
    real most = 0;
    for (int64_t i = 0; i < n; i++) most = larger()(size(v[i * step]), most);
    for (int64_t i = 0; i < n; i++) if (size(v[i * step]) >= most / 2) return v[i * step] < 0 ? (real)-1 : (real)1;
    return 1;
}

// -- QR

template <typename real> __global__ void __launch_bounds__(THREADS) qr_matrix(const __grid_constant__ batch b) {
    const int64_t m = b.m, n = b.n, rows = b.k, low = m < n ? m : n;
    real *a = b.scratch<real>(), *tau = a + m * n, *q = b.output<real>(0), *r = b.output<real>(1);
    copy_numbers(a, b.input<real>(0), m * n);
    for (int64_t k = 0; k < low; k++) {
        real square = 0;
        for (int64_t i = k + 1 + threadIdx.x; i < m; i += THREADS) square += a[i * n + k] * a[i * n + k];
        square = of_block(square, add());
        const real alpha = a[k * n + k];
        real beta = root(alpha * alpha + square), t = 0;
        if (alpha > 0) beta = -beta;
        __syncthreads();
        if (square > 0) {
            t = (beta - alpha) / beta;
            for (int64_t i = k + threadIdx.x; i < m; i += THREADS) a[i * n + k] = i == k ? beta : a[i * n + k] / (alpha - beta);
        }
        if (threadIdx.x == 0) tau[k] = t;
        __syncthreads();
        for (int64_t j = k + 1 + threadIdx.x; t != 0 && j < n; j += THREADS) {
            real w = a[k * n + j];
            for (int64_t i = k + 1; i < m; i++) w += a[i * n + k] * a[i * n + j];
            w *= t;
            a[k * n + j] -= w;
            for (int64_t i = k + 1; i < m; i++) a[i * n + j] -= w * a[i * n + k];
        }
        __syncthreads();
    }
    for (int64_t e = threadIdx.x; e < rows * n; e += THREADS) {
        int64_t i = e / n, j = e % n;
        r[e] = i < low && j >= i ? a[e] : (real)0;
    }
    if (b.mode == 2) return;                             // only R is asked for
    for (int64_t e = threadIdx.x; e < m * rows; e += THREADS) q[e] = e / rows == e % rows ? (real)1 : (real)0;
    __syncthreads();
    for (int64_t k = low - 1; k >= 0; k--) {
        for (int64_t j = threadIdx.x; j < rows; j += THREADS) {
            real w = q[k * rows + j];
            for (int64_t i = k + 1; i < m; i++) w += a[i * n + k] * q[i * rows + j];
            w *= tau[k];
            q[k * rows + j] -= w;
            for (int64_t i = k + 1; i < m; i++) q[i * rows + j] -= w * a[i * n + k];
        }
        __syncthreads();
    }
}
extern "C" bool qr_cuda(const aj_call *c) {
    const aj_tensor *x = c->in[0], *r = c->out[1];
    int64_t m = x->shape[x->ndim - 2], n = x->shape[x->ndim - 1];
    return run_batch(c, r->shape[r->ndim - 2], m * n + (m < n ? m : n), [](auto of, const batch &b, work &w) {
        launch_together(qr_matrix<decltype(of)>, BLOCKS(b), w.stream, b);
    });
}

// -- Pairs: in each of the rounds from 0 to players - 2, of an even number of players, every one meets another

struct meeting { int64_t p, q; };
__device__ inline meeting meet(int64_t players, int64_t round, int64_t i) {
    int64_t turn = players - 1, a = i == 0 ? turn : (round + i) % turn, b = i == 0 ? round : (round + turn - i) % turn;
    return a < b ? meeting{a, b} : meeting{b, a};
}
enum { SWEEPS = 60 };

// -- Eigenvalues of symmetric matrices

template <typename real> __global__ void __launch_bounds__(THREADS) eigen_matrix(const __grid_constant__ batch b, bool vectors) {
    const int64_t n = b.n, players = n + n % 2, pairs = players / 2;
    real *a = b.scratch<real>(), *v = a + n * n, *turn = v + (vectors ? n * n : 0), *values = b.output<real>(0);
    const real *x = b.input<real>(0);
    const bool lower = b.mode == 'L';
    for (int64_t e = threadIdx.x; e < n * n; e += THREADS) {
        int64_t i = e / n, j = e % n;
        a[e] = (i >= j) == lower ? x[e] : x[j * n + i];
        if (vectors) v[e] = i == j ? (real)1 : (real)0;
    }
    __syncthreads();
    if (!all_finite(a, n * n)) { b.complain(INFINITE, 0); return; }
    const real close = 2 * (real)n * tiny<real>();       // what rounding leaves beside the diagonal
    for (int sweep = 0;; sweep++) {
        real off = 0, all = 0;
        for (int64_t e = threadIdx.x; e < n * n; e += THREADS) { real s = a[e] * a[e]; all += s; if (e / n != e % n) off += s; }
        off = of_block(off, add());
        all = of_block(all, add());
        if (off <= all * close * close) break;
        if (sweep == SWEEPS) { b.complain(DIVERGED, 0); return; }
        for (int64_t round = 0; round < players - 1; round++) {
            for (int64_t i = threadIdx.x; i < pairs; i += THREADS) {
                meeting w = meet(players, round, i);
                real c = 1, s = 0, apq = w.q < n ? a[w.p * n + w.q] : (real)0;
                if (apq != 0) {
                    real theta = (a[w.q * n + w.q] - a[w.p * n + w.p]) / (2 * apq), t = 1 / (size(theta) + root(theta * theta + 1));
                    if (theta < 0) t = -t;
                    c = 1 / root(t * t + 1);
                    s = t * c;
                }
                turn[2 * i] = c;
                turn[2 * i + 1] = s;
            }
            __syncthreads();
            for (int64_t e = threadIdx.x; e < pairs * n; e += THREADS) {         // rows
                meeting w = meet(players, round, e / n);
                real c = turn[e / n * 2], s = turn[e / n * 2 + 1];
                if (w.q >= n || s == 0) continue;
                real *p = a + w.p * n + e % n, *q = a + w.q * n + e % n, u = *p;
                *p = c * u - s * *q;
                *q = s * u + c * *q;
            }
            __syncthreads();
            for (int64_t e = threadIdx.x; e < pairs * n; e += THREADS) {         // columns
                meeting w = meet(players, round, e / n);
                real c = turn[e / n * 2], s = turn[e / n * 2 + 1];
                if (w.q >= n || s == 0) continue;
                for (int k = 0; k < 1 + vectors; k++) {
                    real *p = (k ? v : a) + e % n * n + w.p, *q = (k ? v : a) + e % n * n + w.q, u = *p;
                    *p = c * u - s * *q;
                    *q = s * u + c * *q;
                }
            }
            __syncthreads();
        }
    }
    for (int64_t j = threadIdx.x; j < n; j += THREADS) {
        real mine = a[j * n + j];
        int64_t rank = 0;
        for (int64_t i = 0; i < n; i++) rank += a[i * n + i] < mine || (a[i * n + i] == mine && i < j);
        values[rank] = mine;
        if (!vectors) continue;
        real *y = b.output<real>(1) + rank, sign = turned(v + j, n, n);
        for (int64_t i = 0; i < n; i++) y[i * n] = sign * v[i * n + j];
    }
}
static bool eigen(const aj_call *c, bool vectors) {
    int64_t n = c->in[0]->shape[c->in[0]->ndim - 1];
    return run_batch(c, 0, n * n * (1 + vectors) + n + 2, [&](auto of, const batch &b, work &w) { launch_together(eigen_matrix<decltype(of)>, BLOCKS(b), w.stream, b, vectors); });
}
extern "C" bool eigh_cuda(const aj_call *c) { return eigen(c, true); }
extern "C" bool eigvalsh_cuda(const aj_call *c) { return eigen(c, false); }

// -- Singular values: the shorter side's vectors, of the longer side's length L, are turned until all are at right angles

template <typename real> __device__ inline real of_warp(real v) {
    for (int k = 16; k; k /= 2) v += __shfl_xor_sync(0xffffffffu, v, k);
    return v;
}
// q, rows of L that are at right angles or, from `have` on, unknown, gets `want` of them: each time from the axis that is
// farthest from all before, twice less its parts along them.
template <typename real> __device__ inline void complete(real *q, int64_t L, int64_t have, int64_t want) {
    for (int64_t k = have; k < want; k++) {
        real most = -1;
        int64_t at = 0;
        for (int64_t t = threadIdx.x; t < L; t += THREADS) {
            real rest = 1;
            for (int64_t c = 0; c < k; c++) rest -= q[c * L + t] * q[c * L + t];
            if (rest > most) { most = rest; at = t; }
        }
        at = place_of_largest(most, at);
        for (int64_t t = threadIdx.x; t < L; t += THREADS) q[k * L + t] = t == at ? (real)1 : (real)0;
        __syncthreads();
        for (int twice = 0; twice < 2; twice++)
            for (int64_t c = 0; c < k; c++) {
                real part = 0;
                for (int64_t t = threadIdx.x; t < L; t += THREADS) part += q[c * L + t] * q[k * L + t];
                part = of_block(part, add());
                for (int64_t t = threadIdx.x; t < L; t += THREADS) q[k * L + t] -= part * q[c * L + t];
                __syncthreads();
            }
        real square = 0;
        for (int64_t t = threadIdx.x; t < L; t += THREADS) square += q[k * L + t] * q[k * L + t];
        square = root(of_block(square, add()));
        for (int64_t t = threadIdx.x; t < L; t += THREADS) q[k * L + t] /= square;
        __syncthreads();
    }
}

template <typename real> __global__ void __launch_bounds__(THREADS) svd_matrix(const __grid_constant__ batch b, bool vectors) {
    const int64_t m = b.m, n = b.n;
    const bool tall = m >= n;
    const int64_t L = tall ? m : n, K = tall ? n : m, players = K + K % 2, pairs = players / 2;
    const int64_t all = vectors && b.flag ? L : K;       // vectors of the longer side that are asked for
    real *w = b.scratch<real>(), *v = w + K * L, *long_side = v + K * K, *sizes = long_side + (vectors ? L * all : 0);
    const real *x = b.input<real>(0);
    const int lane = threadIdx.x % 32;
    __shared__ int turns;
    for (int64_t e = threadIdx.x; e < K * L; e += THREADS) w[e] = tall ? x[e % L * n + e / L] : x[e];
    for (int64_t e = threadIdx.x; e < K * K; e += THREADS) v[e] = e / K == e % K ? (real)1 : (real)0;
    __syncthreads();
    if (!all_finite(w, K * L)) { b.complain(INFINITE, 0); return; }
    real whole = 0;
    for (int64_t e = threadIdx.x; e < K * L; e += THREADS) whole += w[e] * w[e];
    // Vectors whose cosine is less than rounding makes it stand at right angles, and so does what rounding left of no vector.
    const real close = (real)(4 + L / 32) * tiny<real>(), none = root(of_block(whole, add())) * (real)L * tiny<real>();
    for (int sweep = 0;; sweep++) {
        if (threadIdx.x == 0) turns = 0;
        __syncthreads();
        for (int64_t round = 0; round < players - 1; round++) {
            for (int64_t i = threadIdx.x / 32; i < pairs; i += THREADS / 32) {   // a pair by a warp
                meeting pair = meet(players, round, i);
                if (pair.q >= K) continue;
                real *p = w + pair.p * L, *q = w + pair.q * L, pp = 0, qq = 0, pq = 0;
                for (int64_t t = lane; t < L; t += 32) { pp += p[t] * p[t]; qq += q[t] * q[t]; pq += p[t] * q[t]; }
                pp = of_warp(pp);
                qq = of_warp(qq);
                pq = of_warp(pq);
                pp = root(pp);
                qq = root(qq);
                if (pp <= none || qq <= none || size(pq) <= close * pp * qq) continue;
                if (lane == 0) atomicAdd(&turns, 1);
                real zeta = (qq - pp) * (qq + pp) / (2 * pq), t = 1 / (size(zeta) + root(zeta * zeta + 1));
                if (zeta < 0) t = -t;
                real c = 1 / root(t * t + 1), s = t * c;
                for (int64_t e = lane; e < L; e += 32) { real u = p[e]; p[e] = c * u - s * q[e]; q[e] = s * u + c * q[e]; }
                p = v + pair.p * K;
                q = v + pair.q * K;
                for (int64_t e = lane; e < K; e += 32) { real u = p[e]; p[e] = c * u - s * q[e]; q[e] = s * u + c * q[e]; }
            }
            __syncthreads();
        }
        __syncthreads();
        if (!turns) break;
        __syncthreads();
        if (sweep == SWEEPS) { b.complain(DIVERGED, 0); return; }
    }
    // In order: sizes, ranks after them.
    real *rank = sizes + K, *values = b.output<real>(vectors ? 1 : 0);
    for (int64_t i = threadIdx.x / 32; i < K; i += THREADS / 32) {
        real square = 0;
        for (int64_t t = lane; t < L; t += 32) square += w[i * L + t] * w[i * L + t];
        square = of_warp(square);
        if (lane == 0) sizes[i] = root(square);
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < K; i += THREADS) {
        int64_t before = 0;
        for (int64_t j = 0; j < K; j++) before += sizes[j] > sizes[i] || (sizes[j] == sizes[i] && j < i);
        rank[i] = (real)before;
        values[before] = sizes[i];
    }
    if (!vectors) return;
    real known = 0;                                      // vectors that are more than what rounding left of none
    for (int64_t i = threadIdx.x; i < K; i += THREADS) known += sizes[i] > none;
    known = of_block(known, add());
    __syncthreads();
    for (int64_t e = threadIdx.x; e < K * L; e += THREADS) {
        int64_t r = (int64_t)rank[e / L];
        if ((real)r < known) long_side[r * L + e % L] = w[e] / sizes[e / L];
    }
    __syncthreads();
    complete(long_side, L, (int64_t)known, all);
    real *u = b.output<real>(0), *vh = b.output<real>(2);
    for (int64_t r = threadIdx.x; r < K; r += THREADS) {
        int64_t i = 0;
        while ((int64_t)rank[i] != r) i++;
        real sign = tall ? turned(long_side + r * L, L, 1) : turned(v + i * K, K, 1);
        for (int64_t t = 0; t < L; t++) { if (tall) u[t * all + r] = sign * long_side[r * L + t]; else vh[r * n + t] = sign * long_side[r * L + t]; }
        for (int64_t t = 0; t < K; t++) { if (tall) vh[r * n + t] = sign * v[i * K + t]; else u[t * K + r] = sign * v[i * K + t]; }
    }
    for (int64_t r = K + threadIdx.x; r < all; r += THREADS) {
        real sign = turned(long_side + r * L, L, 1);
        for (int64_t t = 0; t < L; t++) { if (tall) u[t * all + r] = sign * long_side[r * L + t]; else vh[r * n + t] = sign * long_side[r * L + t]; }
    }
}
static bool singular(const aj_call *c, bool vectors) {
    const aj_tensor *x = c->in[0];
    int64_t m = x->shape[x->ndim - 2], n = x->shape[x->ndim - 1], L = m < n ? n : m, K = m < n ? m : n;
    return run_batch(c, 0, K * L + K * K + (vectors ? L * (c->attrs->flag ? L : K) : 0) + 2 * K, [&](auto of, const batch &b, work &w) {
        launch_together(svd_matrix<decltype(of)>, BLOCKS(b), w.stream, b, vectors);
    });
}
extern "C" bool svd_cuda(const aj_call *c) { return singular(c, true); }
extern "C" bool svdvals_cuda(const aj_call *c) { return singular(c, false); }

// -- What is made of the factors U diag(S) Vh

// Reciprocals of the singular values above the limit, 0 for the others, and how many are above.
struct invert_values {
    elements s, inverse;
    int64_t *rank;              // or NULL
    int64_t K;
    double rtol, atol;
    __device__ void operator()(int64_t i) const {
        double limit = rtol * (K ? s.get<double>(i * K) : 0);
        int64_t above = 0;
        if (atol > limit) limit = atol;
        for (int64_t j = i * K; j < (i + 1) * K; j++) {
            double v = s.get<double>(j);
            inverse.set<double>(j, v > limit ? 1 / v : 0);
            above += v > limit;
        }
        if (rank) rank[i] = above;
    }
};
// Of each singular value the product of all others, times det U det V, which is 1 or -1.
struct others {
    elements s, y, u, v;
    int64_t K;
    __device__ void operator()(int64_t i) const {
        double sign = (u.get<double>(i) < 0) == (v.get<double>(i) < 0) ? 1 : -1;
        for (int64_t j = 0; j < K; j++) {
            double product = sign;
            for (int64_t h = 0; h < K; h++) if (h != j) product *= s.get<double>(i * K + h);
            y.set<double>(i * K + j, product);
        }
    }
};
struct factors {
    aj_tensor *u, *s, *vh, *scale;      // scale: what takes the place of s
    int64_t count, K;
    bool good;
    explicit factors(const aj_call *c) : u(nullptr), s(nullptr), vh(nullptr), scale(nullptr), count(1), K(0), good(false) {
        aj_tensor *x = c->in[0];
        if (!aj_is_float(x->dtype)) return;
        if (dtype_bytes(x->dtype) == 2 && !(x = aj_untag(aj_cast(x, AJ_F32)))) return;
        if (!(u = aj_untag(aj_svd(x, false)))) return;
        s = aj_untag(aj_result(2));
        vh = aj_untag(aj_result(3));
        scale = aj_untag(aj_clone(s));
        K = s->ndim ? s->shape[s->ndim - 1] : 0;
        for (int d = 0; d < x->ndim - 2; d++) count *= x->shape[d];
        good = scale != nullptr;
    }
    // Vh^T diag(scale) times y.
    aj_tensor *back(aj_tensor *y) const {
        aj_tensor *v = aj_untag(aj_transpose(vh, -2, -1)), *row = aj_untag(aj_unsqueeze(scale, -2)), *scaled = v && row ? aj_untag(aj_mul(v, row)) : nullptr;
        return scaled && y ? aj_untag(aj_matmul(scaled, y)) : nullptr;
    }
    aj_tensor *u_turned() const { return aj_untag(aj_transpose(u, -2, -1)); }
};
// Runs f outside any graph and puts its result into the first of c's.
template <typename F> static bool composed(const aj_call *c, F f) {
    bool grad = aj_grad_mode(false);
    work w(c);
    aj_tensor *y = f(w);
    bool ok = y && copy_into(w, c->out[0], y);
    aj_grad_mode(grad);
    return ok;
}
static double rtol_of(const aj_call *c) {
    const aj_tensor *x = c->in[0];
    int64_t m = x->shape[x->ndim - 2], n = x->shape[x->ndim - 1];
    if (c->attrs->s >= 0) return c->attrs->s;
    return c->attrs->t > 0 ? 0 : (x->dtype == AJ_F64 ? 0x1p-52 : 0x1p-23) * (double)(m > n ? m : n);
}
extern "C" bool pinv_cuda(const aj_call *c) {
    if (!c->out[0]->numel) return true;
    return composed(c, [&](work &w) -> aj_tensor * {
        factors f(c);
        if (!f.good || !each(w, f.count, invert_values{elements_of(f.s), elements_of(f.scale), nullptr, f.K, rtol_of(c), c->attrs->t})) return nullptr;
        return f.back(f.u_turned());
    });
}
extern "C" bool lstsq_solve_cuda(const aj_call *c) {
    return composed(c, [&](work &w) -> aj_tensor * {
        factors f(c);
        aj_tensor *rank = c->out[1];
        if (!f.good || !each(w, f.count, invert_values{elements_of(f.s), elements_of(f.scale), (int64_t *)(void *)rank->data, f.K, rtol_of(c), c->attrs->t})) return nullptr;
        if (!copy_into(w, c->out[2], f.s)) return nullptr;
        aj_tensor *b = in_order(c->in[1], f.u->dtype), *ut = f.u_turned();
        return b && ut ? f.back(aj_untag(aj_matmul(ut, b))) : nullptr;
    });
}
// The cofactors of U S V^T are those of each factor; of an orthogonal one, itself times its determinant.
extern "C" bool cofactor_cuda(const aj_call *c) {
    if (!c->out[0]->numel) return true;
    return composed(c, [&](work &w) -> aj_tensor * {
        factors f(c);
        aj_tensor *du = f.good ? aj_untag(aj_det(f.u)) : nullptr, *dv = du ? aj_untag(aj_det(f.vh)) : nullptr;
        if (!dv || !each(w, f.count, others{elements_of(f.s), elements_of(f.scale), elements_of(du), elements_of(dv), f.K})) return nullptr;
        return aj_untag(aj_transpose(f.back(f.u_turned()), -2, -1));
    });
}

}
