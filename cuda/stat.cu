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

__global__ void __launch_bounds__(THREADS) stat_row(const __grid_constant__ stat_rows r) {
    const int64_t at = (int64_t)blockIdx.x * r.K;
    auto get = [&](int64_t k) { return read<double>(r.x, r.dx, at + k); };
    double a = 0, b = 0, y = 0, n = (double)r.K;
    if (r.what == VARIANCE) {
        double shift = r.K ? get(0) : 0;
        for (int64_t k = threadIdx.x; k < r.K; k += THREADS) { double d = get(k) - shift; a += d; b += d * d; }
        a = of_block(a, add());
        b = of_block(b, add());
        double v = b - (n > 0 ? a * a / n : 0), left = n - r.p;
        y = (v < 0 ? 0 : v) / (left > 0 ? left : 0);
        if (r.root) y = sqrt(y);
    } else if (r.what == NORM && fabs(r.p) == (double)INFINITY) {
        a = r.p > 0 ? 0 : (double)INFINITY;
        for (int64_t k = threadIdx.x; k < r.K; k += THREADS) a = r.p > 0 ? larger()(fabs(get(k)), a) : smaller()(fabs(get(k)), a);
        y = r.p > 0 ? of_block(a, larger()) : of_block(a, smaller());
    } else if (r.what == NORM) {
        for (int64_t k = threadIdx.x; k < r.K; k += THREADS) {
            double v = get(k);
            a += r.p == 2 ? v * v : r.p == 1 ? fabs(v) : r.p == 0 ? (double)(v != 0) : pow(fabs(v), r.p);
        }
        a = of_block(a, add());
        y = r.p == 2 ? sqrt(a) : r.p == 1 || r.p == 0 ? a : pow(a, 1 / r.p);
    } else {
        a = -(double)INFINITY;
        for (int64_t k = threadIdx.x; k < r.K; k += THREADS) a = larger()(a, get(k));
        a = of_block(a, larger());
        if (fabs(a) == (double)INFINITY || a != a) y = a;
        else {
            for (int64_t k = threadIdx.x; k < r.K; k += THREADS) b += exp(get(k) - a);
            y = a + log(of_block(b, add()));
        }
    }
    if (threadIdx.x == 0) write<double>(r.y, r.dy, blockIdx.x, y);
}

static bool run(const aj_call *c, int what, bool root) {
    aj_tensor *x = in_order(c->in[0]), *y = c->out[0];
    if (!x) return false;
    work w(c);
    int64_t M = x->shape[0];
    if (M > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 rows");
    if (M) launch_together(stat_row, dim3((unsigned)M), dim3(THREADS), w.stream, stat_rows{x->data, y->data, x->dtype, y->dtype, what, x->shape[1], c->attrs->s, root});
    return w.done();
}
extern "C" bool var_cuda(const aj_call *c) { return run(c, VARIANCE, false); }
extern "C" bool std_cuda(const aj_call *c) { return run(c, VARIANCE, true); }
extern "C" bool norm_cuda(const aj_call *c) { return run(c, NORM, false); }
extern "C" bool logsumexp_cuda(const aj_call *c) { return run(c, LOGSUMEXP, false); }

}
