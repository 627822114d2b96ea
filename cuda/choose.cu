// choose.cu - elements chosen by a condition, dropped, or put together from parts: where, masks, dropout, cat, padding,
// triangles.
#include "copy.cuh"
#include "draw.cuh"
#include "each.cuh"

namespace cuda {

namespace row {
struct chosen {
    enum { inputs = 3 };
    static constexpr bool divides = false;
    template <typename real> static __device__ inline real at(const real *in, real, real, real) { return in[0] != 0 ? in[1] : in[2]; }
};
}

static bool choose(work &w, aj_tensor *y, aj_tensor *condition, aj_tensor *a, aj_tensor *b, double number) {
    map_job job = {y, {condition, a, b}, 3, number, 0, 0, 0, w.op};
    return with_class(y->dtype, [&](auto real) { return map_run<row::chosen, decltype(real)>(job, w); });
}
extern "C" bool where_cuda(const aj_call *c) {
    work w(c);
    return choose(w, c->out[0], c->in[0], c->in[1], c->in[2], 0);
}
extern "C" bool masked_fill__cuda(const aj_call *c) {
    work w(c);
    return choose(w, c->in[0], c->in[1], nullptr, c->in[0], c->attrs->s);
}

// -- Dropout

template <typename real> struct drop {
    elements x, y;
    drawn from;
    uint32_t limit;
    real scale;
    __device__ void operator()(int64_t i) const {
        y.set<real>(i, philox_word(from.key(), from.at(i)) >> 8 >= limit ? x.get<real>(i) * scale : (real)0);
    }
};
extern "C" bool dropout_at_cuda(const aj_call *c) {
    work w(c);
    double p = c->attrs->s;
    return with_floats(c->in[0]->dtype, [&](auto of) {
        typedef decltype(of) real;
        return each(w, c->in[0]->numel, drop<real>{elements_of(c->in[0]), elements_of(c->out[0]), drawn_of(c->attrs),
                                                   (uint32_t)std::ceil(p * 0x1p24), (real)(p < 1 ? 1 / (1 - p) : 0)});
    });
}

// -- Parts of a result

extern "C" bool cat_cuda(const aj_call *c) {
    const aj_tensor *y = c->out[0];
    int dim = c->attrs->dim;
    int64_t at = 0;
    work w(c);
    for (int k = 0; k < c->n_in; k++) {
        aj_tensor *x = c->in[k], part = *y;
        if (x->ndim == 1 && x->shape[0] == 0) continue;
        part.data += at * y->stride[dim] * dtype_bytes(y->dtype);
        part.shape[dim] = x->shape[dim];
        aj_set_contiguous(&part);
        if (!copy_into(w, &part, x)) return false;
        at += x->shape[dim];
    }
    return true;
}

extern "C" bool flip_cuda(const aj_call *c) {
    aj_tensor x = *c->in[0];
    bool over[AJ_MAX_DIM];
    if (!x.numel) return true;
    if (!aj_dims_of(c, &c->attrs->list, x.ndim, over)) return false;
    for (int d = 0; d < x.ndim; d++) {
        if (!over[d]) continue;
        x.data += (x.shape[d] - 1) * x.stride[d] * dtype_bytes(x.dtype);
        x.stride[d] = -x.stride[d];
    }
    aj_set_contiguous(&x);
    work w(c);
    return copy_into(w, c->out[0], &x);
}

extern "C" bool constant_pad_cuda(const aj_call *c) {
    aj_tensor y = *c->out[0], x = *c->in[0];
    bool whole = true, some = true;
    for (int d = 0; d < x.ndim; d++) {
        int64_t before = c->attrs->list.v[d], after = c->attrs->list2.v[d], size = dtype_bytes(x.dtype);
        whole = whole && before <= 0 && after <= 0;
        if (before > 0) y.data += before * y.stride[d] * size;
        else x.data -= before * x.stride[d] * size;
        x.shape[d] += (before < 0 ? before : 0) + (after < 0 ? after : 0);
        y.shape[d] = x.shape[d];
        some = some && x.shape[d] > 0;
    }
    work w(c);
    if ((!whole || !some) && !fill(w, c->out[0], c->attrs->s)) return false;
    if (!some) return true;
    aj_set_contiguous(&x);
    aj_set_contiguous(&y);
    return copy_into(w, &y, &x);
}

template <typename real> struct triangle {
    elements x, y;
    int64_t H, W, k;
    bool low;
    __device__ void operator()(int64_t i) const {
        int64_t below = i / W % H - i % W + k;           // 0 on the diagonal
        y.set<real>(i, (low ? below >= 0 : below <= 0) ? x.get<real>(i) : (real)0);
    }
};
static bool cut(const aj_call *c, bool low) {
    aj_tensor *x = c->in[0];
    work w(c);
    return with_class(x->dtype, [&](auto of) {
        return each(w, x->numel, triangle<decltype(of)>{elements_of(x), elements_of(c->out[0]), x->shape[x->ndim - 2], x->shape[x->ndim - 1], c->attrs->i, low});
    });
}
extern "C" bool tril_cuda(const aj_call *c) { return cut(c, true); }
extern "C" bool triu_cuda(const aj_call *c) { return cut(c, false); }

// What several places of the window share in memory is added up: by one thread, over the window's places for each element of
// the result, where they overlap; else it is a copy.
template <typename real> struct gather_window {
    elements g, y;
    int32_t ndim;
    int64_t offset, shape[AJ_MAX_DIM], stride[AJ_MAX_DIM];       // of the window, outermost first
    // All places of the window at element i of y: dimension d onwards, `left` elements from its start; k: the window's number so far.
    __device__ real sum(int64_t left) const {
        real total = 0;
        int64_t at[AJ_MAX_DIM], rest[AJ_MAX_DIM + 1];
        int d = 0;
        rest[0] = left;
        at[0] = -1;
        while (d >= 0) {                                 // a walk over all but the last dimension, which follows
            if (d == ndim - 1 || ndim == 0) {
                int64_t n = ndim ? shape[d] : 1, s = ndim ? stride[d] : 0, r = rest[d], number = 0;
                for (int k = 0; k < d; k++) number = (number + at[k]) * shape[k + 1];
                if (s == 0) { if (r == 0) for (int64_t j = 0; j < n; j++) total += g.get<real>(number + j); }
                else if (r % s == 0 && r / s >= 0 && r / s < n) total += g.get<real>(number + r / s);
                d--;
                continue;
            }
            if (++at[d] >= shape[d] || (stride[d] > 0 && rest[d] - at[d] * stride[d] < 0)) { d--; continue; }
            rest[d + 1] = rest[d] - at[d] * stride[d];
            at[++d] = -1;
        }
        return total;
    }
    __device__ void operator()(int64_t i) const { y.set<real>(i, sum(i - offset)); }
};
static bool all_apart(const aj_tensor *t) {              // each stride passes over all that smaller ones reach
    int64_t reach = 0;
    bool done[AJ_MAX_DIM] = {};
    for (int k = 0; k < t->ndim; k++) {
        int least = -1;
        for (int d = 0; d < t->ndim; d++) if (!done[d] && (least < 0 || t->stride[d] < t->stride[least])) least = d;
        done[least] = true;
        if (t->shape[least] <= 1) continue;
        if (t->stride[least] <= reach) return false;
        reach += (t->shape[least] - 1) * t->stride[least];
    }
    return true;
}
extern "C" bool as_strided_grad_cuda(const aj_call *c) {
    aj_tensor *y = c->out[0], *g = c->in[0], window = *g;
    work w(c);
    window.data = y->data + c->attrs->i * dtype_bytes(y->dtype);
    for (int d = 0; d < g->ndim; d++) window.stride[d] = c->attrs->list2.v[d];
    aj_set_contiguous(&window);
    if (all_apart(&window)) return fill(w, y, 0) && copy_into(w, &window, g);
    return with_class(y->dtype, [&](auto of) {
        gather_window<decltype(of)> f = {elements_of(g), elements_of(y), g->ndim, c->attrs->i, {}, {}};
        for (int d = 0; d < g->ndim; d++) { f.shape[d] = g->shape[d]; f.stride[d] = c->attrs->list2.v[d]; }
        return each(w, y->numel, f);
    });
}

}
