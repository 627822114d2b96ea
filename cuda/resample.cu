// resample.cu - images of another size. A thread makes one element: of a result from its places in the image, of a gradient
// from all results that took something from it, which lie side by side since places only grow.
#include "each.cuh"
#include "../core/place.h"

namespace cuda {

struct resampling {
    elements x, y;              // what is read, and what is written
    int64_t I[3], Y[3];         // sizes of the image and of its resized form, outermost first
    double factor[3];
    bool linear, corners;
    __device__ resampled_place at(int d, int64_t o) const { return resampled_place_of(linear, corners, factor[d], o, I[d], Y[d]); }
    // The first result whose place ends at element i or beyond; with after, that begins beyond it.
    __device__ int64_t first(int d, int64_t i, bool after) const {
        int64_t lo = 0, left = Y[d];
        while (left > 0) {
            int64_t half = left / 2;
            resampled_place p = at(d, lo + half);
            if (after ? p.i > i : p.j >= i) left = half;
            else { lo += half + 1; left -= half + 1; }
        }
        return lo;
    }
};

template <typename real> struct resize {
    resampling r;
    __device__ void operator()(int64_t e) const {
        int64_t left = e, at[3];
        for (int d = 2; d >= 0; d--) { at[d] = left % r.Y[d]; left /= r.Y[d]; }
        resampled_place p[3];
        for (int d = 0; d < 3; d++) p[d] = r.at(d, at[d]);
        int64_t plane = left * r.I[0];
        auto get = [&](int64_t i, int64_t j, int64_t k) { return r.x.get<real>(((plane + i) * r.I[1] + j) * r.I[2] + k); };
        if (!r.linear) { r.y.set<real>(e, get(p[0].i, p[1].i, p[2].i)); return; }
        real u = (real)p[0].part, v = (real)p[1].part, w = (real)p[2].part, y = 0;
        for (int k = 0; k < 8; k++) {
            real weight = (k & 4 ? u : 1 - u) * (k & 2 ? v : 1 - v) * (k & 1 ? w : 1 - w);
            if (weight != 0) y += weight * get(k & 4 ? p[0].j : p[0].i, k & 2 ? p[1].j : p[1].i, k & 1 ? p[2].j : p[2].i);
        }
        r.y.set<real>(e, y);
    }
};

template <typename real> struct resize_back {
    resampling r;
    __device__ real weight(const resampled_place &p, int64_t i) const {
        if (p.i == p.j) return 1;
        return p.i == i ? 1 - (real)p.part : (real)p.part;
    }
    __device__ void operator()(int64_t e) const {
        int64_t left = e, at[3], lo[3], hi[3];
        for (int d = 2; d >= 0; d--) { at[d] = left % r.I[d]; left /= r.I[d]; }
        for (int d = 0; d < 3; d++) { lo[d] = r.first(d, at[d], false); hi[d] = r.first(d, at[d], true); }
        real sum = 0;
        for (int64_t i = lo[0]; i < hi[0]; i++) {
            real u = weight(r.at(0, i), at[0]);
            for (int64_t j = lo[1]; j < hi[1]; j++) {
                real v = weight(r.at(1, j), at[1]);
                for (int64_t k = lo[2]; k < hi[2]; k++)
                    sum += u * v * weight(r.at(2, k), at[2]) * r.x.get<real>(((left * r.Y[0] + i) * r.Y[1] + j) * r.Y[2] + k);
            }
        }
        r.y.set<real>(e, sum);
    }
};

static bool resample(const aj_call *c, bool linear, bool back) {
    const aj_tensor *image = back ? c->out[0] : c->in[0], *resized = back ? c->in[0] : c->out[0];
    resampling r = {elements_of(c->in[0]), elements_of(c->out[0]), {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, linear, c->attrs->flag};
    int nd = image->ndim - 2;
    for (int i = 3 - nd; i < 3; i++) {
        r.I[i] = image->shape[i + nd - 1];
        r.Y[i] = resized->shape[i + nd - 1];
        r.factor[i] = c->attrs->s;
    }
    work w(c);
    auto run = [&](auto of) {
        typedef decltype(of) real;
        return back ? each(w, image->numel, resize_back<real>{r}) : each(w, resized->numel, resize<real>{r});
    };
    return linear ? with_floats(image->dtype, run) : with_class(image->dtype, run);
}
extern "C" bool upsample_nearest_cuda(const aj_call *c) { return resample(c, false, false); }
extern "C" bool upsample_nearest_grad_cuda(const aj_call *c) { return resample(c, false, true); }
extern "C" bool upsample_linear_cuda(const aj_call *c) { return resample(c, true, false); }
extern "C" bool upsample_linear_grad_cuda(const aj_call *c) { return resample(c, true, true); }

}
