// stat.cu - variances, norms and logsumexp of rows (M, K): a block for each row, in doubles, so that squares of floats neither
// overflow nor vanish.
#include "block.cuh"
#include "each.cuh"

namespace cuda {

enum { VARIANCE, NORM, LOGSUMEXP };
struct stat_rows {
    const char *x;
    char *y;
    int32_t dx, dy, what;
    int64_t K;
    double p;                   // of a norm; of a variance the correction
    bool root;
};
struct smaller { template <typename T> __device__ T operator()(T a, T b) const { return a != a || a < b ? a : b; } };

// Of a row or a part of it: sums of (x - shift) and its square; of powers, or the extreme; the largest, and the sum of exp(x - it).
struct pair_of { double a, b; };
__device__ inline pair_of gather(const stat_rows &r, int64_t at, int64_t lo, int64_t hi) {
    auto get = [&](int64_t k) { return read<double>(r.x, r.dx, at + k); };
    pair_of p = {0, 0};
    if (r.what == VARIANCE) {
        const double shift = r.K ? get(0) : 0;
        for (int64_t k = lo + threadIdx.x; k < hi; k += THREADS) { double d = get(k) - shift; p.a += d; p.b += d * d; }
        return {of_block(p.a, add()), of_block(p.b, add())};
    }
    if (r.what == NORM && fabs(r.p) == (double)INFINITY) {
        p.a = r.p > 0 ? 0 : (double)INFINITY;
        for (int64_t k = lo + threadIdx.x; k < hi; k += THREADS) p.a = r.p > 0 ? larger()(fabs(get(k)), p.a) : smaller()(fabs(get(k)), p.a);
        p.a = r.p > 0 ? of_block(p.a, larger()) : of_block(p.a, smaller());
        return p;
    }
    if (r.what == NORM) {
        for (int64_t k = lo + threadIdx.x; k < hi; k += THREADS) {
            double v = get(k);
            p.a += r.p == 2 ? v * v : r.p == 1 ? fabs(v) : r.p == 0 ? (double)(v != 0) : pow(fabs(v), r.p);
        }
        p.a = of_block(p.a, add());
        return p;
    }
    p.a = -(double)INFINITY;
    for (int64_t k = lo + threadIdx.x; k < hi; k += THREADS) p.a = larger()(p.a, get(k));
    p.a = of_block(p.a, larger());
    if (fabs(p.a) == (double)INFINITY || p.a != p.a) return p;
    for (int64_t k = lo + threadIdx.x; k < hi; k += THREADS) p.b += exp(get(k) - p.a);
    p.b = of_block(p.b, add());
    return p;
}
__device__ inline void finish(const stat_rows &r, int64_t row, pair_of p) {
    double y, n = (double)r.K;
    if (r.what == VARIANCE) {
        double v = p.b - (n > 0 ? p.a * p.a / n : 0), left = n - r.p;
        y = (v < 0 ? 0 : v) / (left > 0 ? left : 0);
        if (r.root) y = sqrt(y);
    } else if (r.what == NORM) y = fabs(r.p) == (double)INFINITY || r.p == 1 || r.p == 0 ? p.a : r.p == 2 ? sqrt(p.a) : pow(p.a, 1 / r.p);
    else y = fabs(p.a) == (double)INFINITY || p.a != p.a ? p.a : p.a + log(p.b);
    if (threadIdx.x == 0) write<double>(r.y, r.dy, row, y);
}
__global__ void __launch_bounds__(THREADS) stat_row(const __grid_constant__ stat_rows r, pair_of *parts, int64_t part) {
    const int64_t lo = blockIdx.y * part, hi = lo + part < r.K ? lo + part : r.K;
    pair_of p = gather(r, (int64_t)blockIdx.x * r.K, lo, hi);
    if (!parts) finish(r, blockIdx.x, p);
    else if (threadIdx.x == 0) parts[(int64_t)blockIdx.x * gridDim.y + blockIdx.y] = p;
}
__global__ void __launch_bounds__(THREADS) stat_of_parts(const __grid_constant__ stat_rows r, const pair_of *parts, int64_t n) {
    const pair_of *mine = parts + (int64_t)blockIdx.x * n;
    const bool extreme = r.what == NORM && fabs(r.p) == (double)INFINITY, least = extreme && r.p < 0, largest = r.what == LOGSUMEXP || (extreme && !least);
    double a = least ? (double)INFINITY : largest ? -(double)INFINITY : 0, b = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) a = least ? smaller()(a, mine[i].a) : largest ? larger()(a, mine[i].a) : a + mine[i].a;
    a = least ? of_block(a, smaller()) : largest ? of_block(a, larger()) : of_block(a, add());
    for (int64_t i = threadIdx.x; i < n; i += THREADS) b += r.what != LOGSUMEXP ? mine[i].b : mine[i].a == -(double)INFINITY ? 0 : mine[i].b * exp(mine[i].a - a);
    finish(r, blockIdx.x, {a, of_block(b, add())});
}

static bool run(const aj_call *c, int what, bool root) {
    aj_tensor *x = in_order(c->in[0]), *y = c->out[0];
    if (!x) return false;
    work w(c);
    int64_t M = x->shape[0], K = x->shape[1];
    if (M > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 rows");
    if (!M) return true;
    stat_rows r = {x->data, y->data, x->dtype, y->dtype, what, K, c->attrs->s, root};
    int64_t most = (K + 8191) / 8192, parts = (int64_t)w.processors * 4 / M;
    parts = parts > 1024 ? 1024 : parts > most ? most : parts;
    if (parts <= 1) {
        launch_together(stat_row, dim3((unsigned)M), dim3(THREADS), w.stream, r, (pair_of *)nullptr, K);
        return w.done();
    }
    int64_t part = (K + parts - 1) / parts;              // few long rows are gone through in parts
    parts = (K + part - 1) / part;
    scratch room(x->device, M * parts * (int64_t)sizeof(pair_of));
    if (!room.p) return false;
    launch_together(stat_row, dim3((unsigned)M, (unsigned)parts), dim3(THREADS), w.stream, r, (pair_of *)room.p, part);
    launch_together(stat_of_parts, dim3((unsigned)M), dim3(THREADS), w.stream, r, (const pair_of *)room.p, parts);
    return w.done();
}
extern "C" bool var_cuda(const aj_call *c) { return run(c, VARIANCE, false); }
extern "C" bool std_cuda(const aj_call *c) { return run(c, VARIANCE, true); }
extern "C" bool norm_cuda(const aj_call *c) { return run(c, NORM, false); }
extern "C" bool logsumexp_cuda(const aj_call *c) { return run(c, LOGSUMEXP, false); }

}
