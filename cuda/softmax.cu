// softmax.cu - softmax, log_softmax and their gradients, cross entropy and nll_loss.
//
// Numbers lie as outer * K * inner. Where inner is 1 a block has a run, of which each thread keeps its share in registers, so
// that memory is read once; what exceeds them is read again. Otherwise a thread has a run, next to its neighbours'. Cross
// entropy reads its input once and keeps one number a row.
#include "block.cuh"
#include "each.cuh"
#include "math.cuh"

namespace cuda {

struct walk {
    const char *x, *g;          // the input, or the result; the gradient of the result, if that is asked for
    char *y;
    int32_t dx, dg, dy;         // dtypes
    int64_t outer, K, inner;
    bool log;
};

template <typename real> __global__ void __launch_bounds__(THREADS) softmax_runs(const __grid_constant__ walk w) {
    const int64_t K = w.K, at = (int64_t)blockIdx.x * K;
    share<real> mine;
    auto get = [&](int64_t k) { return read<real>(w.x, w.dx, at + k); };
    if (!w.g) {
        real top = -(real)INFINITY, sum = 0;
        mine.first(K, get, [&](int64_t, real v) { top = larger()(top, v); });
        top = of_block(top, larger());
        mine.again(K, get, [&](int64_t, real v) { sum += row::exp(v - top); });
        sum = of_block(sum, add());
        real l = row::log(sum), s = 1 / sum;
        mine.again(K, get, [&](int64_t k, real v) { write<real>(w.y, w.dy, at + k, w.log ? v - top - l : row::exp(v - top) * s); });
        return;
    }
    real sum = 0;
    mine.first(K, get, [&](int64_t k, real v) { real g = read<real>(w.g, w.dg, at + k); sum += w.log ? g : g * v; });
    sum = of_block(sum, add());
    mine.again(K, get, [&](int64_t k, real v) {
        real g = read<real>(w.g, w.dg, at + k);
        write<real>(w.y, w.dy, at + k, w.log ? g - row::exp(v) * sum : v * (g - sum));
    });
}

template <typename real> struct softmax_column {
    walk w;
    __device__ void operator()(int64_t i) const {
        const int64_t at = i / w.inner * w.K * w.inner + i % w.inner, step = w.inner;
        real sum = 0;
        if (w.g) {
            for (int64_t k = 0; k < w.K; k++) { real g = read<real>(w.g, w.dg, at + k * step); sum += w.log ? g : g * read<real>(w.x, w.dx, at + k * step); }
            for (int64_t k = 0; k < w.K; k++) {
                real g = read<real>(w.g, w.dg, at + k * step), v = read<real>(w.x, w.dx, at + k * step);
                write<real>(w.y, w.dy, at + k * step, w.log ? g - row::exp(v) * sum : v * (g - sum));
            }
            return;
        }
        real top = -(real)INFINITY;
        for (int64_t k = 0; k < w.K; k++) top = larger()(top, read<real>(w.x, w.dx, at + k * step));
        for (int64_t k = 0; k < w.K; k++) sum += row::exp(read<real>(w.x, w.dx, at + k * step) - top);
        real l = row::log(sum), s = 1 / sum;
        for (int64_t k = 0; k < w.K; k++) {
            real v = read<real>(w.x, w.dx, at + k * step) - top;
            write<real>(w.y, w.dy, at + k * step, w.log ? v - l : row::exp(v) * s);
        }
    }
};

static bool along(const aj_call *c, aj_tensor *g, aj_tensor *x, bool log) {
    aj_tensor *y = c->out[0];
    if (!(x = in_order(x)) || (g && !(g = in_order(g)))) return false;
    if (!y->numel) return true;
    work w(c);
    split s = split_at(x, c->attrs->dim);
    walk m = {x->data, g ? g->data : nullptr, y->data, x->dtype, g ? g->dtype : 0, y->dtype, s.outer, s.n, s.inner, log};
    return with_floats(x->dtype, [&](auto of) {
        typedef decltype(of) real;
        if (s.inner != 1 || s.outer > INT32_MAX) return each(w, s.outer * s.inner, softmax_column<real>{m});
        launch_together(softmax_runs<real>, dim3((unsigned)s.outer), dim3(THREADS), w.stream, m);
        return w.done();
    });
}
extern "C" bool softmax_cuda(const aj_call *c) { return along(c, nullptr, c->in[0], false); }
extern "C" bool log_softmax_cuda(const aj_call *c) { return along(c, nullptr, c->in[0], true); }
extern "C" bool softmax_grad_cuda(const aj_call *c) { return along(c, c->in[0], c->in[1], false); }
extern "C" bool log_softmax_grad_cuda(const aj_call *c) { return along(c, c->in[0], c->in[1], true); }

// -- Losses

struct entropy {
    const char *x, *g, *weight;
    char *y, *lse;
    const int64_t *target;
    double *loss, *total;       // of each row, of its weight; the sum of the weights
    int32_t dx, dg, dw, dy, dl;
    int64_t outer, K, inner, ignore, base;
    double smooth;
    bool each, mean;            // g has a number for each row; it is divided by the total
    fault *faults;
    int32_t op;
    __device__ int64_t label(int64_t row) const {        // -1: ignored, or no class
        int64_t t = target[row];
        if (t == ignore) return -1;
        if (t - base >= 0 && t - base < K) return t - base;
        report(faults, LABEL, op, t, base, K - 1 + base);
        return -1;
    }
    __device__ double weight_of(int64_t k) const { return weight ? read<double>(weight, dw, k) : 1; }
};

// loss and weight of each row: loss = weight (1 - smooth) (lse - x[target]) + smooth / K sum over k of weight[k] (lse - x[k])
template <typename real> __global__ void __launch_bounds__(THREADS) entropy_runs(const __grid_constant__ entropy e) {
    const int64_t row = blockIdx.x, o = row / e.inner, i = row % e.inner, K = e.K, at = o * K * e.inner + i, step = e.inner;
    auto get = [&](int64_t k) { return read<real>(e.x, e.dx, at + k * step); };
    real high = -(real)INFINITY, sum = 0;                // of this thread: the largest so far, and the sum of exp(x - it)
    double spread = 0, weights = 0;
    for (int64_t k = threadIdx.x; k < K; k += THREADS) {
        const real v = get(k);
        if (v > high) { sum = sum * row::exp(high - v) + 1; high = v; }
        else if (v != -(real)INFINITY) sum += row::exp(v - high);
        if (e.smooth != 0) { double wk = e.weight_of(k); spread += wk * (double)v; weights += wk; }
    }
    const real top = of_block(high, larger());
    sum = of_block(high == -(real)INFINITY && sum == 0 ? (real)0 : sum * row::exp(high - top), add());
    if (e.smooth != 0) { weights = of_block(weights, add()); spread = of_block(spread, add()) - weights * (double)top; }
    if (threadIdx.x) return;
    double l = log((double)sum);
    write<real>(e.lse, e.dl, row, (real)((double)top + l));
    int64_t k = e.label(row);
    double wk = k < 0 ? 0 : e.weight_of(k);
    e.total[row] = wk;
    e.loss[row] = k < 0 ? 0 : (1 - e.smooth) * wk * (l - (double)(get(k) - top)) + (e.smooth != 0 ? e.smooth / (double)K * (weights * l - spread) : 0);
}

template <typename real> __global__ void __launch_bounds__(THREADS) entropy_grad_runs(const __grid_constant__ entropy e) {
    const int64_t row = blockIdx.x, o = row / e.inner, i = row % e.inner, K = e.K, at = o * K * e.inner + i, step = e.inner;
    int64_t target = e.target[row] == e.ignore ? -1 : e.target[row] - e.base;
    double even = e.smooth / (double)K, weights = 0;
    if (e.smooth != 0) {
        for (int64_t k = threadIdx.x; k < K; k += THREADS) weights += e.weight_of(k);
        weights = of_block(weights, add());
    }
    bool none = target < 0 || target >= K;
    double s = none ? 0 : read<double>(e.g, e.dg, e.each ? row : 0);
    if (e.mean) s /= *e.total;
    double own = none ? 0 : (1 - e.smooth) * e.weight_of(target);
    real lse = read<real>(e.lse, e.dl, row), share_ = (real)(s * (own + even * weights));
    for (int64_t k = threadIdx.x; k < K; k += THREADS) {
        real p = row::exp(read<real>(e.x, e.dx, at + k * step) - lse) * share_;
        if (e.smooth != 0) p -= (real)(s * even * e.weight_of(k));
        if (k == target) p -= (real)(s * own);
        write<real>(e.y, e.dy, at + k * step, none ? (real)0 : p);
    }
}

struct nll_row {
    entropy e;
    __device__ void operator()(int64_t row) const {
        int64_t k = e.label(row), at = row / e.inner * e.K * e.inner + row % e.inner + k * e.inner;
        double wk = k < 0 ? 0 : e.weight_of(k);
        e.total[row] = wk;
        e.loss[row] = k < 0 ? 0 : -wk * read<double>(e.x, e.dx, at);
    }
};
struct nll_weight {             // of each row, for the total that a mean divides by
    entropy e;
    __device__ void operator()(int64_t row) const { int64_t k = e.label(row); e.loss[row] = k < 0 ? 0 : e.weight_of(k); }
};
struct nll_grad_row {
    entropy e;
    __device__ void operator()(int64_t row) const {
        int64_t k = e.target[row] == e.ignore ? -1 : e.target[row] - e.base, at = row / e.inner * e.K * e.inner + row % e.inner + k * e.inner;
        if (k < 0 || k >= e.K) return;
        double s = read<double>(e.g, e.dg, e.each ? row : 0) / (e.mean ? *e.total : 1);
        write<double>(e.y, e.dy, at, -e.weight_of(k) * s);
    }
};

// The rows' losses as the reduction wants them, by one block in one order; total may be NULL.
struct finish {
    const double *loss, *weight;
    int64_t n;
    char *y;
    int32_t dy, how;
    double *total;
};
__global__ void __launch_bounds__(THREADS) finish_losses(const __grid_constant__ finish f) {
    double sum = 0, total = 0;
    for (int64_t i = threadIdx.x; i < f.n; i += THREADS) {
        sum += f.loss[i];
        if (f.weight) total += f.weight[i];
        if (f.y && f.how == 0) write<double>(f.y, f.dy, i, f.loss[i]);
    }
    sum = of_block(sum, add());
    total = of_block(total, add());
    if (threadIdx.x) return;
    if (f.total) *f.total = f.weight ? total : sum;
    if (f.y && f.how) write<double>(f.y, f.dy, 0, f.how == 1 ? sum / total : sum);
}

// in: x, target, weight
static bool prepare(const aj_call *c, entropy &e, work &w, const aj_tensor *x, aj_tensor *target, aj_tensor *weight) {
    split s = split_at(x, x->ndim > 1);
    if (!(target = in_order(target, AJ_I64)) || (weight && !(weight = in_order(weight)))) return false;
    if (s.outer * s.inner > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 rows");
    e.target = (const int64_t *)(void *)target->data;
    e.weight = weight ? weight->data : nullptr;
    e.dw = weight ? weight->dtype : 0;
    e.outer = s.outer;
    e.K = s.n;
    e.inner = s.inner;
    e.ignore = c->attrs->i;
    e.base = c->attrs->base;
    e.faults = w.faults;
    e.op = c->op;
    e.each = c->attrs->reduction == 0;
    e.mean = c->attrs->reduction == 1;
    return true;
}

extern "C" bool cross_entropy_index_cuda(const aj_call *c) {
    aj_tensor *x = in_order(c->in[0]);
    work w(c);
    entropy e = {};
    if (!x || !prepare(c, e, w, x, c->in[1], c->in[2])) return false;
    int64_t rows = e.outer * e.inner;
    scratch room(x->device, 2 * rows * 8 + 16);
    if (!room.p) return false;
    e.x = x->data;
    e.dx = x->dtype;
    e.lse = c->out[1]->data;
    e.dl = c->out[1]->dtype;
    e.loss = (double *)room.p;
    e.total = e.loss + rows;
    e.smooth = c->attrs->s;
    if (rows) {
        with_floats(x->dtype, [&](auto of) {
            launch_together(entropy_runs<decltype(of)>, dim3((unsigned)rows), dim3(THREADS), w.stream, e);
            return true;
        });
    }
    launch_together(finish_losses, dim3(1), dim3(THREADS), w.stream,
                    finish{e.loss, e.total, rows, c->out[0]->data, c->out[0]->dtype, c->attrs->reduction, (double *)(void *)c->out[2]->data});
    return w.done();
}

extern "C" bool cross_entropy_grad_cuda(const aj_call *c) {
    aj_tensor *g = in_order(c->in[0]), *x = in_order(c->in[1]), *lse = in_order(c->in[4]), *total = in_order(c->in[5], AJ_F64), *y = c->out[0];
    work w(c);
    entropy e = {};
    if (!g || !x || !lse || !total || !prepare(c, e, w, x, c->in[2], c->in[3])) return false;
    e.g = g->data;
    e.dg = g->dtype;
    e.x = x->data;
    e.dx = x->dtype;
    e.y = y->data;
    e.dy = y->dtype;
    e.lse = lse->data;
    e.dl = lse->dtype;
    e.total = (double *)(void *)total->data;
    e.smooth = c->attrs->s;
    if (!y->numel) return true;
    return with_floats(x->dtype, [&](auto of) {
        launch_together(entropy_grad_runs<decltype(of)>, dim3((unsigned)(e.outer * e.inner)), dim3(THREADS), w.stream, e);
        return w.done();
    });
}

extern "C" bool nll_loss_cuda(const aj_call *c) {
    aj_tensor *x = in_order(c->in[0]);
    work w(c);
    entropy e = {};
    if (!x || !prepare(c, e, w, x, c->in[1], c->in[2])) return false;
    int64_t rows = e.outer * e.inner;
    scratch room(x->device, 2 * rows * 8 + 16);
    if (!room.p) return false;
    e.x = x->data;
    e.dx = x->dtype;
    e.loss = (double *)room.p;
    e.total = e.loss + rows;
    if (!each(w, rows, nll_row{e})) return false;
    launch_together(finish_losses, dim3(1), dim3(THREADS), w.stream,
                    finish{e.loss, e.total, rows, c->out[0]->data, c->out[0]->dtype, c->attrs->reduction, nullptr});
    return w.done();
}
extern "C" bool nll_loss_grad_cuda(const aj_call *c) {
    aj_tensor *g = in_order(c->in[0]), *y = c->out[0];
    work w(c);
    entropy e = {};
    if (!g || !prepare(c, e, w, y, c->in[1], c->in[2])) return false;
    int64_t rows = e.outer * e.inner;
    scratch room(y->device, rows * 8 + 16);
    if (!room.p) return false;
    e.g = g->data;
    e.dg = g->dtype;
    e.y = y->data;
    e.dy = y->dtype;
    e.total = (double *)room.p;
    e.loss = e.total + 1;
    if (!y->numel) return true;
    if (!w.done(cudaMemsetAsync(y->data, 0, (size_t)(y->numel * dtype_bytes(y->dtype)), w.stream)) || !each(w, rows, nll_weight{e})) return false;
    launch_together(finish_losses, dim3(1), dim3(THREADS), w.stream, finish{e.loss, nullptr, rows, nullptr, 0, 0, e.total});
    return each(w, rows, nll_grad_row{e});
}

}
