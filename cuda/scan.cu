// scan.cu - along one dimension: extremes with their places, and what is gathered up to each place.
//
// Numbers lie as outer * K * inner. Along the innermost dimension a block has a run, of which it finds the extreme, or sums up
// tile after tile; the extremes of few long runs are found in parts. All else is a thread's for each run, next to its neighbours'.
#include "block.cuh"
#include "each.cuh"
#include "math.cuh"

namespace cuda {

struct run_of {
    const char *x, *g, *last;   // the input; of a gradient also that of the result, and the result
    char *y;                    // may be NULL
    int64_t *at;
    int32_t dx, dg, dl, dy;
    int64_t outer, K, inner, base;
    bool back;                  // from the end
    __device__ int64_t start(int64_t i) const { return i / inner * K * inner + i % inner; }
};

// A NaN beats every number; of equals the first wins.
template <typename real, bool largest> struct best {
    real v;
    int64_t k;
    __device__ best operator()(const best &a, const best &b) const {
        bool a_nan = a.v != a.v, b_nan = b.v != b.v;
        bool wins = a_nan != b_nan ? b_nan : a_nan || a.v == b.v ? b.k < a.k : largest ? b.v > a.v : b.v < a.v;
        return wins ? b : a;
    }
};
template <typename real, bool largest> struct extreme_run {
    run_of r;
    __device__ void operator()(int64_t i) const {
        typedef best<real, largest> B;
        int64_t at = r.start(i);
        B b = {read<real>(r.x, r.dx, at), 0};
        for (int64_t k = 1; k < r.K; k++) b = b(b, B{read<real>(r.x, r.dx, at + k * r.inner), k});
        if (r.y) write<real>(r.y, r.dy, i, b.v);
        r.at[i] = b.k + r.base;
    }
};
// The best of the block's, in its first thread.
template <typename real, bool largest> __device__ inline best<real, largest> best_of_block(best<real, largest> b) {
    typedef best<real, largest> B;
    __shared__ real value[THREADS];
    __shared__ int64_t place[THREADS];
    value[threadIdx.x] = b.v;
    place[threadIdx.x] = b.k;
    for (int half = THREADS / 2; half; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x >= half) continue;
        b = b(b, B{value[threadIdx.x + half], place[threadIdx.x + half]});
        value[threadIdx.x] = b.v;
        place[threadIdx.x] = b.k;
    }
    return b;
}
// A run, or the part of it along the grid's y, whose best then goes into a place of its own.
template <typename real, bool largest> __global__ void __launch_bounds__(THREADS) extreme_block(const __grid_constant__ run_of r, best<real, largest> *parts, int64_t part) {
    typedef best<real, largest> B;
    const int64_t at = (int64_t)blockIdx.x * r.K, lo = blockIdx.y * part, hi = lo + part < r.K ? lo + part : r.K;
    B b = {read<real>(r.x, r.dx, at + lo), lo};          // what a thread without numbers brings changes nothing
    for (int64_t k = lo + threadIdx.x; k < hi; k += THREADS) b = b(b, B{read<real>(r.x, r.dx, at + k), k});
    b = best_of_block(b);
    if (threadIdx.x) return;
    if (parts) { parts[(int64_t)blockIdx.x * gridDim.y + blockIdx.y] = b; return; }
    if (r.y) write<real>(r.y, r.dy, blockIdx.x, b.v);
    r.at[blockIdx.x] = b.k + r.base;
}
template <typename real, bool largest> __global__ void __launch_bounds__(THREADS) extreme_of_parts(const __grid_constant__ run_of r, const best<real, largest> *parts, int64_t n) {
    const best<real, largest> *mine = parts + (int64_t)blockIdx.x * n;
    best<real, largest> b = mine[0];
    for (int64_t i = threadIdx.x; i < n; i += THREADS) b = b(b, mine[i]);
    b = best_of_block(b);
    if (threadIdx.x) return;
    if (r.y) write<real>(r.y, r.dy, blockIdx.x, b.v);
    r.at[blockIdx.x] = b.k + r.base;
}

template <typename real> struct sum_run {                // sums of floats are kept in doubles
    run_of r;
    __device__ void operator()(int64_t i) const {
        typedef decltype(real() + wide()) W;
        W acc = 0;
        for (int64_t j = 0, at = r.start(i); j < r.K; j++) {
            int64_t k = at + (r.back ? r.K - 1 - j : j) * r.inner;
            acc += (W)read<real>(r.x, r.dx, k);
            write<real>(r.y, r.dy, k, (real)acc);
        }
    }
    struct none {};
    __device__ static auto wide() { if constexpr (sizeof(real) == 4) return double(); else return real(); }
};
template <typename real> struct product_run {
    run_of r;
    __device__ void operator()(int64_t i) const {
        typedef decltype(sum_run<real>::wide()) W;
        W acc = 1;
        for (int64_t j = 0, at = r.start(i); j < r.K; j++) {
            acc *= (W)read<real>(r.x, r.dx, at + j * r.inner);
            write<real>(r.y, r.dy, at + j * r.inner, (real)acc);
        }
    }
};
struct multiply { template <typename T> __device__ T operator()(T a, T b) const { return a * b; } };
enum { RUN = 8 };               // neighbours that a thread has of a tile
template <typename real, typename F> __global__ void __launch_bounds__(THREADS) gather_block(const __grid_constant__ run_of r, int32_t start) {
    typedef decltype(sum_run<real>::wide()) W;
    const int64_t at = (int64_t)blockIdx.x * r.K;
    const W none = (W)start;
    W carry = none;
    for (int64_t t = 0; t < r.K; t += THREADS * RUN) {
        W v[RUN], run = none, all;
        const int64_t first = t + (int64_t)threadIdx.x * RUN;
        for (int j = 0; j < RUN; j++) {
            int64_t k = first + j;
            if (k < r.K) run = F()(run, (W)read<real>(r.x, r.dx, at + (r.back ? r.K - 1 - k : k)));
            v[j] = run;
        }
        W before = F()(carry, before_in_block(run, none, &all, F()));
        for (int j = 0; j < RUN; j++) {
            int64_t k = first + j;
            if (k < r.K) write<real>(r.y, r.dy, at + (r.back ? r.K - 1 - k : k), (real)F()(before, v[j]));
        }
        carry = F()(carry, all);
    }
}
template <typename real, bool largest> struct extremes_run {     // of equals the last wins
    run_of r;
    __device__ void operator()(int64_t i) const {
        int64_t at = r.start(i), where = 0;
        real b = read<real>(r.x, r.dx, at);
        for (int64_t k = 0; k < r.K; k++) {
            real v = read<real>(r.x, r.dx, at + k * r.inner);
            if (v != v || (largest ? v >= b : v <= b)) { b = v; where = k; }
            write<real>(r.y, r.dy, at + k * r.inner, b);
            r.at[at + k * r.inner] = where + r.base;
        }
    }
};
// The largest so far and the sum of exp(x - it): neither overflows.
template <typename real> struct logs_run {
    run_of r;
    __device__ void operator()(int64_t i) const {
        double top = -(double)INFINITY, sum = 0;
        for (int64_t k = 0, at = r.start(i); k < r.K; k++) {
            double v = read<double>(r.x, r.dx, at + k * r.inner), e = v == top ? 1 : exp(v > top ? top - v : v - top);
            if (v > top) { sum = sum * e + 1; top = v; }
            else if (v != -(double)INFINITY) sum += e;
            write<double>(r.y, r.dy, at + k * r.inner, top + log(sum));
        }
    }
};
// gx_k = exp(x_k - y_k) t_k, where t_k = g_k + exp(y_k - y_(k+1)) t_(k+1); no exponent is positive.
template <typename real> struct log_grads_run {
    run_of r;
    __device__ void operator()(int64_t i) const {
        int64_t at = r.start(i);
        double t = 0, next = read<double>(r.last, r.dl, at + (r.K - 1) * r.inner);
        for (int64_t k = r.K - 1; k >= 0; k--) {
            int64_t p = at + k * r.inner;
            double here = read<double>(r.last, r.dl, p), v = read<double>(r.x, r.dx, p);
            t = read<double>(r.g, r.dg, p) + t * (here == next ? 1 : exp(here - next));
            next = here;
            write<double>(r.y, r.dy, p, here == -(double)INFINITY ? 0 : t * (v == here ? 1 : exp(v - here)));
        }
    }
};

static bool describe(const aj_call *c, aj_tensor *x, aj_tensor *y, aj_tensor *at, run_of &r) {
    if (!(x = in_order(x))) return false;
    split s = split_at(x, c->attrs->dim);
    r = run_of{};
    r.x = x->data;
    r.dx = x->dtype;
    r.y = y ? y->data : nullptr;
    r.dy = y ? y->dtype : 0;
    r.at = at ? (int64_t *)(void *)at->data : nullptr;
    r.outer = s.outer;
    r.K = s.n;
    r.inner = s.inner;
    r.base = c->attrs->base;
    return true;
}

template <bool largest> static bool extreme(const aj_call *c, aj_tensor *y, aj_tensor *at) {
    run_of r;
    work w(c);
    if (!describe(c, c->in[0], y, at, r)) return false;
    if (!c->in[0]->numel) return true;
    return with_class(r.dx, [&](auto of) {
        typedef decltype(of) real;
        typedef best<real, largest> B;
        if (r.inner != 1 || r.K < 64 || r.outer > INT32_MAX) return each(w, r.outer * r.inner, extreme_run<real, largest>{r});
        int64_t most = (r.K + 8191) / 8192, parts = (int64_t)w.processors * 4 / r.outer;
        parts = parts > 1024 ? 1024 : parts > most ? most : parts;
        if (parts <= 1) {
            launch_together(extreme_block<real, largest>, dim3((unsigned)r.outer), dim3(THREADS), w.stream, r, (B *)nullptr, r.K);
            return w.done();
        }
        int64_t part = (r.K + parts - 1) / parts;
        parts = (r.K + part - 1) / part;
        scratch room(c->in[0]->device, r.outer * parts * (int64_t)sizeof(B));
        if (!room.p) return false;
        launch_together(extreme_block<real, largest>, dim3((unsigned)r.outer, (unsigned)parts), dim3(THREADS), w.stream, r, (B *)room.p, part);
        launch_together(extreme_of_parts<real, largest>, dim3((unsigned)r.outer), dim3(THREADS), w.stream, r, (const B *)room.p, parts);
        return w.done();
    });
}
extern "C" bool argmax_cuda(const aj_call *c) { return extreme<true>(c, nullptr, c->out[0]); }
extern "C" bool argmin_cuda(const aj_call *c) { return extreme<false>(c, nullptr, c->out[0]); }
extern "C" bool max_dim_cuda(const aj_call *c) { return extreme<true>(c, c->out[0], c->out[1]); }
extern "C" bool min_dim_cuda(const aj_call *c) { return extreme<false>(c, c->out[0], c->out[1]); }

template <template <typename> class F> static bool gathered(const aj_call *c, bool back, int how = -1) {
    run_of r;
    work w(c);
    if (!describe(c, c->in[0], c->out[0], nullptr, r)) return false;
    r.back = back;
    if (how >= 0 && c->in[0]->numel && r.inner == 1 && r.K >= 64 && r.outer <= INT32_MAX)
        return with_class(r.dx, [&](auto of) {
            typedef decltype(of) real;
            if (how == 0) launch_together(gather_block<real, add>, dim3((unsigned)r.outer), dim3(THREADS), w.stream, r, 0);
            else launch_together(gather_block<real, multiply>, dim3((unsigned)r.outer), dim3(THREADS), w.stream, r, 1);
            return w.done();
        });
    return !c->in[0]->numel || with_class(r.dx, [&](auto of) { return each(w, r.outer * r.inner, F<decltype(of)>{r}); });
}
extern "C" bool cumsum_cuda(const aj_call *c) { return gathered<sum_run>(c, false, 0); }
extern "C" bool cumsum_from_end_cuda(const aj_call *c) { return gathered<sum_run>(c, true, 0); }
extern "C" bool cumprod_cuda(const aj_call *c) { return gathered<product_run>(c, false, 1); }
extern "C" bool logcumsumexp_cuda(const aj_call *c) { return gathered<logs_run>(c, false); }

template <bool largest> static bool extremes(const aj_call *c) {
    run_of r;
    work w(c);
    if (!describe(c, c->in[0], c->out[0], c->out[1], r)) return false;
    return !c->in[0]->numel || with_class(r.dx, [&](auto of) { return each(w, r.outer * r.inner, extremes_run<decltype(of), largest>{r}); });
}
extern "C" bool cummax_cuda(const aj_call *c) { return extremes<true>(c); }
extern "C" bool cummin_cuda(const aj_call *c) { return extremes<false>(c); }

extern "C" bool logcumsumexp_grad_cuda(const aj_call *c) {
    run_of r;
    work w(c);
    aj_tensor *g = in_order(c->in[0]), *y = in_order(c->in[2]);
    if (!g || !y || !describe(c, c->in[1], c->out[0], nullptr, r)) return false;
    r.g = g->data;
    r.dg = g->dtype;
    r.last = y->data;
    r.dl = y->dtype;
    return !g->numel || each(w, r.outer * r.inner, log_grads_run<double>{r});
}

}
