// conv.cu - convolutions and their two gradients: by cuDNN, or as matrix products of unfolded images, which gemm.cuh reads in place.
#include "copy.cuh"
#include "dnn_conv.h"
#include "gemm.cuh"

namespace cuda {

struct window : conv_sizes {
    __device__ int64_t taps() const { return K[0] * K[1] * K[2]; }
    __device__ int64_t inputs() const { return I[0] * I[1] * I[2]; }
    __device__ int64_t positions() const { return Y[0] * Y[1] * Y[2]; }
    // The element of an image under a tap at an output position; -1: in the padding.
    __device__ int64_t under(int64_t tap, int64_t position) const {
        int64_t at = 0, step = 1;
        for (int d = 2; d >= 0; d--) {
            int64_t i = position % Y[d] * S[d] - P[d] + tap % K[d] * L[d];
            if (i < 0 || i >= I[d]) return -1;
            at += i * step;
            step *= I[d];
            tap /= K[d];
            position /= Y[d];
        }
        return at;
    }
    // The output position that has an element of the image under a tap; -1: none.
    __device__ int64_t above(int64_t tap, int64_t input) const {
        int64_t at = 0, step = 1;
        for (int d = 2; d >= 0; d--) {
            int64_t i = input % I[d] + P[d] - tap % K[d] * L[d], q = i / S[d];
            if (i < 0 || q * S[d] != i || q >= Y[d]) return -1;
            at += q * step;
            step *= Y[d];
            tap /= K[d];
            input /= I[d];
        }
        return at;
    }
};
struct part { char *p; int32_t dtype; window v; };

// z is a group. Columns of unfolded inputs are positions of all images, rows are (channel, tap).
struct unfolded : part {
    template <typename real> __device__ real get(int64_t z, int64_t k, int64_t n) const {
        int64_t i = v.under(k % v.taps(), n % v.positions());
        return i < 0 ? (real)0 : read<real>(p, dtype, ((n / v.positions() * v.G + z) * v.C + k / v.taps()) * v.inputs() + i);
    }
};
struct unfolded_rows : part {                            // the same, transposed
    template <typename real> __device__ real get(int64_t z, int64_t n, int64_t k) const { return ((const unfolded *)this)->get<real>(z, k, n); }
};
struct weight : part {                                   // (output channel, (input channel, tap))
    template <typename real> __device__ real get(int64_t z, int64_t o, int64_t k) const { return read<real>(p, dtype, (z * v.O + o) * v.C * v.taps() + k); }
    template <typename real> __device__ void set(int64_t z, int64_t o, int64_t k, real x) const { write<real>(p, dtype, (z * v.O + o) * v.C * v.taps() + k, x); }
};
struct weight_of_input : part {                          // (input channel, (output channel, tap))
    template <typename real> __device__ real get(int64_t z, int64_t c, int64_t k) const {
        return read<real>(p, dtype, ((z * v.O + k / v.taps()) * v.C + c) * v.taps() + k % v.taps());
    }
};
struct output : part {                                   // (channel, position of all images)
    const char *bias;
    __device__ int64_t at(int64_t z, int64_t o, int64_t n) const { return ((n / v.positions() * v.G + z) * v.O + o) * v.positions() + n % v.positions(); }
    template <typename real> __device__ real get(int64_t z, int64_t o, int64_t n) const { return read<real>(p, dtype, at(z, o, n)); }
    template <typename real> __device__ void set(int64_t z, int64_t o, int64_t n, real x) const {
        write<real>(p, dtype, at(z, o, n), bias ? x + read<real>(bias, dtype, z * v.O + o) : x);
    }
};
struct refolded : part {                                 // ((output channel, tap), place in all images): the gradient above it
    template <typename real> __device__ real get(int64_t z, int64_t k, int64_t n) const {
        int64_t q = v.above(k % v.taps(), n % v.inputs());
        return q < 0 ? (real)0 : read<real>(p, dtype, ((n / v.inputs() * v.G + z) * v.O + k / v.taps()) * v.positions() + q);
    }
};
struct image : part {                                    // (channel, place in all images)
    const char *bias;
    template <typename real> __device__ void set(int64_t z, int64_t c, int64_t n, real x) const {
        write<real>(p, dtype, ((n / v.inputs() * v.G + z) * v.C + c) * v.inputs() + n % v.inputs(), bias ? x + read<real>(bias, dtype, z * v.C + c) : x);
    }
};

static window describe(const aj_tensor *x, const aj_tensor *w, const aj_tensor *y, const aj_attrs *a) {
    window v = {};
    int nd = w->ndim - 2, at = x->ndim - nd;
    v.spatial = nd;
    v.G = a->groups;
    v.N = at == 2 ? x->shape[0] : 1;
    v.C = x->shape[at - 1] / v.G;
    v.O = w->shape[0] / v.G;
    for (int i = 0; i < 3; i++) {
        bool there = i < nd;
        v.I[i] = there ? x->shape[at + i] : 1;
        v.K[i] = there ? w->shape[2 + i] : 1;
        v.Y[i] = there ? y->shape[at + i] : 1;
        v.S[i] = there ? a->stride.v[i] : 1;
        v.P[i] = there ? a->padding.v[i] : 0;
        v.L[i] = there ? a->dilation.v[i] : 1;
    }
    return v;
}
static int64_t product(const int64_t *v) { return v[0] * v[1] * v[2]; }
static part part_of(const aj_tensor *t, const window &v) { return part{t->data, t->dtype, v}; }

static bool forward(const aj_call *c) {
    aj_tensor *x = c->in[0], *w = c->in[1], *b = in_order(c->in[2]), *y = c->out[0];
    if (c->in[2] && !b) return false;
    if (!y->numel) return true;
    work s(c);
    window v = describe(x, w, y, c->attrs);
    dnn_result r = dnn_convolve(s, CONV_FORWARD, v, x, w, y, b);
    if (r != DNN_NONE) return r == DNN_DONE;
    if (!(x = in_order(x)) || !(w = in_order(w))) return false;
    return with_class(y->dtype, [&](auto of) {
        return gemm<decltype(of)>(s, y->device, v.G, v.O, v.N * product(v.Y), v.C * product(v.K), weight{part_of(w, v)}, unfolded{part_of(x, v)},
                                  output{part_of(y, v), b ? b->data : nullptr});
    });
}
extern "C" bool conv1d_cuda(const aj_call *c) { return forward(c); }
extern "C" bool conv2d_cuda(const aj_call *c) { return forward(c); }
extern "C" bool conv3d_cuda(const aj_call *c) { return forward(c); }

static bool transposed(const aj_call *c) {
    aj_tensor *y = c->in[0], *w = c->in[1], *b = c->n_in > 2 ? in_order(c->in[2]) : nullptr, *x = c->out[0];
    if (c->n_in > 2 && c->in[2] && !b) return false;
    if (!x->numel) return true;
    work s(c);
    window v = describe(x, w, y, c->attrs);
    dnn_result r = y->numel && w->numel ? dnn_convolve(s, CONV_DATA, v, x, w, y, b) : DNN_NONE;
    if (r != DNN_NONE) return r == DNN_DONE;
    if (!(y = in_order(y)) || !(w = in_order(w))) return false;
    return with_class(x->dtype, [&](auto of) {
        return gemm<decltype(of)>(s, x->device, v.G, v.C, v.N * product(v.I), v.O * product(v.K), weight_of_input{part_of(w, v)}, refolded{part_of(y, v)},
                                  image{part_of(x, v), b ? b->data : nullptr});
    });
}
extern "C" bool conv_transpose1d_cuda(const aj_call *c) { return transposed(c); }
extern "C" bool conv_transpose2d_cuda(const aj_call *c) { return transposed(c); }
extern "C" bool conv_transpose3d_cuda(const aj_call *c) { return transposed(c); }
extern "C" bool conv_grad_input_cuda(const aj_call *c) { return transposed(c); }

extern "C" bool conv_grad_weight_cuda(const aj_call *c) {
    aj_tensor *y = c->in[0], *x = c->in[1], *w = c->out[0];
    if (!w->numel) return true;
    work s(c);
    if (!x->numel || !y->numel) return fill(s, w, 0);
    window v = describe(x, w, y, c->attrs);
    dnn_result r = dnn_convolve(s, CONV_FILTER, v, x, w, y, nullptr);
    if (r != DNN_NONE) return r == DNN_DONE;
    if (!(y = in_order(y)) || !(x = in_order(x))) return false;
    return with_class(w->dtype, [&](auto of) {
        return gemm<decltype(of)>(s, w->device, v.G, v.O, v.C * product(v.K), v.N * product(v.Y), output{part_of(y, v), nullptr}, unfolded_rows{part_of(x, v)},
                                  weight{part_of(w, v)});
    });
}

}
