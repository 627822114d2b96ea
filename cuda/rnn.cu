// rnn.cu - a recurrent layer over a sequence: for each step a product with the state, and one pass over the gates; backward the
// same from the end, and one product for the gradient of the weight. Cell states go from step to step unrounded.
#include "each.cuh"
#include "math.cuh"
#include "copy.cuh"

extern "C" aj_kernel matmul_cuda;
extern "C" aj_kernel linear_cuda;

namespace cuda {

namespace {
enum { TANH, RELU, LSTM, GRU };

// A tensor in order over memory that is another's.
aj_tensor part(const aj_tensor *of, void *data, std::initializer_list<int64_t> shape) {
    aj_tensor t = {};
    t.storage = of->storage;
    t.data = (char *)data;
    t.refs = 1;
    t.dtype = of->dtype;
    t.device = of->device;
    for (int64_t s : shape) t.shape[t.ndim++] = s;
    int64_t step = 1;
    for (int d = t.ndim - 1; d >= 0; d--) { t.stride[d] = step; step *= t.shape[d]; }
    aj_set_contiguous(&t);
    return t;
}
bool product(const aj_call *c, aj_kernel *kernel, aj_tensor *a, aj_tensor *b, aj_tensor *bias, aj_tensor *y) {
    aj_attrs attrs = {};
    aj_tensor *in[3] = {a, b, bias};
    aj_call call = {};
    call.op = c->op;
    call.n_in = kernel == linear_cuda ? 3 : 2;
    call.n_out = 1;
    call.in = in;
    call.attrs = &attrs;
    call.out[0] = y;
    return kernel(&call);
}

// One step. All but s and the carries are of one dtype; what a mode has not is NULL.
struct step {
    const char *x, *p, *h, *old;             // from the input, and from the state's product; the state and the cell state before
    char *y, *cells, *kept;                  // the state and the cell state after; gates, for the gradient
    const char *gy, *gs, *product;           // of the step, from outside; what flows back by the product of the step after
    char *gx, *gp;                           // to the input; to the state's product
    void *s, *through;                       // the cell state; what flows back by the state past the product
    int32_t dtype, mode;
    int64_t H;
    bool first;                              // of a pass
};

template <typename real> __device__ inline real sigmoid(real x) { return 1 / (1 + row::exp(-x)); }

template <typename real> struct step_forward {
    step w;
    __device__ void operator()(int64_t i) const {
        const int64_t H = w.H, r = i / H, j = i % H, gates = w.mode == LSTM ? 4 : w.mode == GRU ? 3 : 1, at = r * gates * H + j, to = r * 4 * H + j;
        auto x = [&](int k) { return read<real>(w.x, w.dtype, at + k * H); };
        auto p = [&](int k) { return read<real>(w.p, w.dtype, at + k * H); };
        auto keep = [&](int k, real v) { write<real>(w.kept, w.dtype, to + k * H, v); };
        real y;
        if (w.mode == TANH) y = row::tanh(x(0) + p(0));
        else if (w.mode == RELU) { y = x(0) + p(0); if (y < 0) y = 0; }
        else if (w.mode == LSTM) {
            real in = sigmoid(x(0) + p(0)), forget = sigmoid(x(1) + p(1)), cell = row::tanh(x(2) + p(2)), out = sigmoid(x(3) + p(3));
            real s = forget * (w.first ? read<real>(w.old, w.dtype, i) : ((const real *)w.s)[i]) + in * cell;
            keep(0, in); keep(1, forget); keep(2, cell); keep(3, out);
            ((real *)w.s)[i] = s;
            write<real>(w.cells, w.dtype, i, s);
            y = out * row::tanh(s);
        } else {
            real reset = sigmoid(x(0) + p(0)), update = sigmoid(x(1) + p(1)), q = p(2), fresh = row::tanh(x(2) + reset * q);
            keep(0, reset); keep(1, update); keep(2, fresh); keep(3, q);
            y = fresh + update * (read<real>(w.h, w.dtype, i) - fresh);
        }
        write<real>(w.y, w.dtype, i, y);
    }
};

template <typename real> struct step_backward {
    step w;
    __device__ void operator()(int64_t i) const {
        const int64_t H = w.H, r = i / H, j = i % H, gates = w.mode == LSTM ? 4 : w.mode == GRU ? 3 : 1, at = r * gates * H + j, from = r * 4 * H + j;
        auto kept = [&](int k) { return read<real>(w.kept, w.dtype, from + k * H); };
        auto gx = [&](int k, real v) { write<real>(w.gx, w.dtype, at + k * H, v); };
        auto gp = [&](int k, real v) { write<real>(w.gp, w.dtype, at + k * H, v); };
        real carry = w.gy ? read<real>(w.gy, w.dtype, i) : (real)0;
        if (w.product) carry += read<real>(w.product, w.dtype, i);
        if (w.mode == GRU && !w.first) carry += ((const real *)w.through)[i];
        if (w.mode == TANH) { real y = read<real>(w.y, w.dtype, i); gx(0, carry * (1 - y * y)); }
        else if (w.mode == RELU) gx(0, read<real>(w.y, w.dtype, i) > 0 ? carry : (real)0);
        else if (w.mode == LSTM) {
            real in = kept(0), forget = kept(1), cell = kept(2), out = kept(3), t = row::tanh(read<real>(w.cells, w.dtype, i)), cs = w.first ? (real)0 : ((const real *)w.s)[i];
            if (w.gs) cs += read<real>(w.gs, w.dtype, i);
            real d = cs + carry * out * (1 - t * t);
            gx(0, d * cell * in * (1 - in));
            gx(1, d * read<real>(w.old, w.dtype, i) * forget * (1 - forget));
            gx(2, d * in * (1 - cell * cell));
            gx(3, carry * t * out * (1 - out));
            ((real *)w.s)[i] = d * forget;
        } else {
            real reset = kept(0), update = kept(1), fresh = kept(2), q = kept(3), d = carry * (1 - update) * (1 - fresh * fresh);
            real g0 = d * q * reset * (1 - reset), g1 = carry * (read<real>(w.h, w.dtype, i) - fresh) * update * (1 - update);
            gx(0, g0); gp(0, g0);
            gx(1, g1); gp(1, g1);
            gx(2, d); gp(2, d * reset);
            ((real *)w.through)[i] = carry * update;
        }
    }
};
// The gradient of the first state: what came by its product, and past it; and of the first cell state.
template <typename real> struct step_first {
    const char *product;
    const void *through, *s;
    char *gh, *gc;
    int32_t dtype;
    __device__ void operator()(int64_t i) const {
        write<real>(gh, dtype, i, read<real>(product, dtype, i) + (through ? ((const real *)through)[i] : (real)0));
        if (gc) write<real>(gc, dtype, i, ((const real *)s)[i]);
    }
};
}

extern "C" bool rnn_layer_cuda(const aj_call *c) {
    aj_tensor *x = in_order(c->in[0]), *h0 = in_order(c->in[1]), *s0 = in_order(c->in[2]), *weight = in_order(c->in[3]), *bias = in_order(c->in[4]), *y = c->out[0];
    if (!x || !h0 || (c->in[2] && !s0) || !weight || (c->in[4] && !bias)) return false;
    if (!y->numel) return true;
    const int64_t T = y->shape[0], N = h0->shape[0], H = h0->shape[1], G = weight->shape[0], each_step = N * H, bytes = dtype_bytes(y->dtype);
    const int mode = c->attrs->mode;
    work w(c);
    scratch p(y->device, N * G * bytes), s(y->device, mode == LSTM ? each_step * 8 : 1);
    if (!p.p || !s.p) return false;
    step k = {};
    k.dtype = y->dtype;
    k.mode = mode;
    k.H = H;
    k.p = (const char *)p.p;
    k.s = s.p;
    k.h = h0->data;
    k.old = s0 ? s0->data : nullptr;
    for (int64_t i = 0; i < T; i++) {
        int64_t t = c->attrs->flag ? T - 1 - i : i;
        aj_tensor h = part(y, (void *)(uintptr_t)k.h, {N, H}), to = part(y, p.p, {N, G});
        if (!product(c, linear_cuda, &h, weight, bias, &to)) return false;
        k.first = i == 0;
        k.x = x->data + t * N * G * bytes;
        k.y = y->data + t * each_step * bytes;
        k.cells = mode == LSTM ? c->out[1]->data + t * each_step * bytes : nullptr;
        k.kept = c->out[2]->data + t * 4 * each_step * bytes;
        if (!with_floats(y->dtype, [&](auto of) { return each(w, each_step, step_forward<decltype(of)>{k}); })) return false;
        k.h = k.y;
    }
    return true;
}

extern "C" bool rnn_layer_grad_cuda(const aj_call *c) {
    aj_tensor *in[8];
    for (int k = 0; k < 8; k++) if (!(in[k] = in_order(c->in[k])) && c->in[k]) return false;
    const aj_tensor *g = in[0], *gs = in[1], *h0 = in[2], *s0 = in[3], *y = in[5], *cells = in[6], *gates = in[7];
    aj_tensor *weight = in[4], *gx = c->out[0];
    const int64_t T = y->shape[0], N = h0->shape[0], H = h0->shape[1], G = weight->shape[0], each_step = N * H, bytes = dtype_bytes(y->dtype);
    const int mode = c->attrs->mode;
    const bool back = c->attrs->flag;
    work w(c);
    if (!y->numel) {
        for (int k = 0; k < 4; k++) if (c->out[k]->numel && !fill(w, c->out[k], 0)) return false;
        return true;
    }
    // What flows to the product with the state is what flows to the input, but for a GRU's last third.
    scratch own(y->device, mode == GRU ? T * N * G * bytes : 1), product_back(y->device, each_step * bytes), s(y->device, mode >= LSTM ? each_step * 8 : 1), before(y->device, T * each_step * bytes);
    if (!own.p || !product_back.p || !s.p || !before.p) return false;
    char *gp = mode == GRU ? (char *)own.p : gx->data;
    step k = {};
    k.dtype = y->dtype;
    k.mode = mode;
    k.H = H;
    k.s = k.through = s.p;
    for (int64_t i = T - 1; i >= 0; i--) {
        int64_t t = back ? T - 1 - i : i, last = back ? t + 1 : t - 1;
        k.first = i == T - 1;
        k.gy = g ? g->data + t * each_step * bytes : nullptr;
        k.gs = gs && mode == LSTM ? gs->data + t * each_step * bytes : nullptr;
        k.h = i ? y->data + last * each_step * bytes : h0->data;
        k.old = mode != LSTM ? nullptr : i ? cells->data + last * each_step * bytes : s0->data;
        k.y = y->data + t * each_step * bytes;
        k.cells = mode == LSTM ? cells->data + t * each_step * bytes : nullptr;
        k.kept = gates->data + t * 4 * each_step * bytes;
        k.gx = gx->data + t * N * G * bytes;
        k.gp = gp + t * N * G * bytes;
        if (!with_floats(y->dtype, [&](auto of) { return each(w, each_step, step_backward<decltype(of)>{k}); })) return false;
        aj_tensor from = part(y, k.gp, {N, G}), to = part(y, product_back.p, {N, H});
        if (!product(c, matmul_cuda, &from, weight, nullptr, &to)) return false;
        k.product = (const char *)product_back.p;
    }
    step_first<float> first = {(const char *)product_back.p, mode == GRU ? s.p : nullptr, s.p, c->out[1]->data, mode == LSTM ? c->out[2]->data : nullptr, y->dtype};
    if (!(y->dtype == AJ_F64 ? each(w, each_step, step_first<double>{first.product, first.through, first.s, first.gh, first.gc, first.dtype}) : each(w, each_step, first))) return false;
    // The states before each step side by side, for one product with what flowed to them.
    const int64_t rest = (T - 1) * each_step * bytes;
    char *states = (char *)before.p;
    if (!w.done(cudaMemcpyAsync(states + (back ? rest : 0), h0->data, (size_t)(each_step * bytes), cudaMemcpyDeviceToDevice, w.stream))) return false;
    if (rest && !w.done(cudaMemcpyAsync(states + (back ? 0 : each_step * bytes), y->data + (back ? each_step * bytes : 0), (size_t)rest, cudaMemcpyDeviceToDevice, w.stream))) return false;
    aj_tensor flow = part(y, gp, {G, T * N}), all = part(y, states, {T * N, H});
    flow.stride[0] = 1;
    flow.stride[1] = G;
    aj_set_contiguous(&flow);
    return product(c, matmul_cuda, &flow, &all, nullptr, c->out[3]);
}

}
