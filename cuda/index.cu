// index.cu - elements that an index tensor names: read (gather, index_select), written (scatter, index_copy) or added to.
//
// All are one exchange between a big tensor, entered along dim at the index, and a small one of the index's shape. A thread
// has one element of the small one; where the order of writes counts (a fold, or the deterministic mode) it has one position
// and goes along dim by itself. An index out of range is noted, does nothing, and is told at the next synchronisation.
#include "copy.cuh"
#include "each.cuh"

namespace cuda {

enum action { GET, PUT, ADD, MULTIPLY, LARGEST, SMALLEST, START };

struct exchange {
    dims big, index, small;     // over positions besides dim
    char *x, *y;                // the big and the small tensor's
    const int64_t *i;
    int32_t dtype, y_dtype, op;
    int64_t n, s_index, s_small, s_big, size, base;      // steps along dim, and strides along it
    bool wrap;                  // negative indices count from the end
    bool along;                 // neighbours in memory are steps along dim, not positions
    double alpha;               // of ADD; of START 1, or which end to start from
    fault *faults;
    // The place of an index along the big tensor; -1: out of range.
    __device__ int64_t place(int64_t v) const {
        int64_t k = v < 0 && wrap ? v + size : v - base;
        if (k >= 0 && k < size && (v >= 0 || wrap)) return k;
        report(faults, INDEX, op, v, base, base + size - 1);
        return -1;
    }
};

template <typename real, action how, bool atomic> __device__ inline void act(const exchange &e, int64_t big, int64_t small) {
    if (how == GET) { write<real>(e.y, e.dtype, small, read<real>(e.x, e.dtype, big)); return; }
    real v = read<real>(e.y, e.y_dtype, small);
    if (how == PUT) { write<real>(e.x, e.dtype, big, v); return; }
    real *p = (real *)(void *)e.x + big, a;              // the big tensor is of the type computed in
    if (how == ADD && atomic) { add_at(p, (real)e.alpha * v); return; }
    a = *p;
    *p = how == ADD ? a + (real)e.alpha * v : how == MULTIPLY ? a * v : how == LARGEST ? (a != a || a > v ? a : v) : how == SMALLEST ? (a != a || a < v ? a : v)
       : e.alpha == 1 ? (real)1 : e.alpha < 0 ? (sizeof(real) == 8 && (real)0.5 == 0 ? (real)INT64_MIN : -(real)INFINITY)
       : sizeof(real) == 8 && (real)0.5 == 0 ? (real)INT64_MAX : (real)INFINITY;
}
template <typename real, action how> struct at_once {
    exchange e;
    __device__ void operator()(int64_t t) const {
        int64_t position = e.along ? t / e.n : t % e.big.count, step = e.along ? t % e.n : t / e.big.count, k = e.place(e.i[e.index.offset(position) + step * e.s_index]);
        if (k >= 0) act<real, how, true>(e, e.big.offset(position) + k * e.s_big, e.small.offset(position) + step * e.s_small);
    }
};
template <typename real, action how> struct in_turn {
    exchange e;
    __device__ void operator()(int64_t position) const {
        int64_t b = e.big.offset(position), i = e.index.offset(position), s = e.small.offset(position);
        for (int64_t step = 0; step < e.n; step++) {
            int64_t k = e.place(e.i[i + step * e.s_index]);
            if (k >= 0) act<real, how, false>(e, b + k * e.s_big, s + step * e.s_small);
        }
    }
};

// index may be flat, one value for each slice: then it has stride 0 along every other dimension.
static exchange line_up(const aj_call *c, const work &w, const aj_tensor *big, const aj_tensor *index, const aj_tensor *small, int dim, bool flat, bool wrap) {
    aj_tensor x = *big, y = *small, i = *index;
    for (aj_tensor *t : {&x, &y, &i}) if (!t->ndim) { t->ndim = 1; t->shape[0] = 1; t->stride[0] = 0; }
    if (flat) {
        int64_t step = i.ndim == 1 ? i.stride[0] : 1, n = i.numel;
        i.ndim = x.ndim;
        for (int d = 0; d < x.ndim; d++) { i.shape[d] = d == dim ? n : x.shape[d]; i.stride[d] = d == dim ? step : 0; }
    }
    exchange e = {};
    e.big.count = e.index.count = e.small.count = 1;
    for (int d = i.ndim - 1; d >= 0; d--) {              // each with as many dimensions, so that one number stands for one position
        if (d == dim) continue;
        const aj_tensor *t[3] = {&x, &i, &y};
        dims *to[3] = {&e.big, &e.index, &e.small};
        for (int k = 0; k < 3; k++) put_dim(*to[k], i.shape[d], t[k]->stride[d]);
    }
    e.x = big->data;
    e.y = small->data;
    e.i = (const int64_t *)(const void *)index->data;
    e.dtype = big->dtype;
    e.y_dtype = small->dtype;
    e.op = c->op;
    e.n = i.shape[dim];
    e.s_index = i.stride[dim];
    e.s_small = y.stride[dim];
    e.s_big = x.stride[dim];
    e.size = x.shape[dim];
    e.base = c->attrs->base;
    e.wrap = wrap;
    e.along = e.small.ndim == 0 || e.s_small < e.small.stride[0];
    e.faults = w.faults;
    return e;
}

template <action how> static bool run(work &w, const exchange &e, bool order) {
    int64_t positions = e.big.count;
    if (!positions || !e.n) return w.done();
    return with_class(e.dtype, [&](auto of) {
        typedef decltype(of) real;
        if (order) return each(w, positions, in_turn<real, how>{e});
        return each(w, positions * e.n, at_once<real, how>{e});
    });
}
static bool write_run(work &w, const exchange &e) { return run<PUT>(w, e, aj_deterministic()); }

// Sums and their like are kept in the type computed in; a tensor of another dtype becomes one of it and back.
template <typename F> static bool in_class(work &w, aj_tensor *big, F f) {
    int d = big->dtype, natural = d == AJ_F64 ? AJ_F64 : aj_is_float(d) ? AJ_F32 : AJ_I64;
    if (d == natural) return f(big);
    aj_tensor *b = aj_untag(aj_cast(big, (aj_dtype)natural));
    return b && f(b) && copy_into(w, big, b);
}
static bool add_run(const aj_call *c, work &w, aj_tensor *big, aj_tensor *index, aj_tensor *small, int dim, bool flat, bool wrap, double alpha) {
    return in_class(w, big, [&](aj_tensor *b) {
        exchange e = line_up(c, w, b, index, small, dim, flat, wrap);
        e.alpha = alpha;
        return run<ADD>(w, e, aj_deterministic());
    });
}

// -- The rows

extern "C" bool gather_cuda(const aj_call *c) {
    work w(c);
    return run<GET>(w, line_up(c, w, c->in[0], c->in[1], c->out[0], c->attrs->dim, false, false), false);
}
extern "C" bool scatter__cuda(const aj_call *c) {
    work w(c);
    return write_run(w, line_up(c, w, c->in[0], c->in[1], c->in[2], c->attrs->dim, false, false));
}
extern "C" bool scatter_add__cuda(const aj_call *c) {
    work w(c);
    return add_run(c, w, c->in[0], c->in[1], c->in[2], c->attrs->dim, false, false, 1);
}
extern "C" bool scatter_fold_cuda(const aj_call *c) {
    static const double from[3] = {1, -2, 2};            // 1, less than all, more than all
    work w(c);
    aj_tensor *y = c->out[0];
    int how = c->attrs->mode;
    if (!copy_into(w, y, c->in[0])) return false;
    return in_class(w, y, [&](aj_tensor *b) {
        exchange e = line_up(c, w, b, c->in[1], c->in[2], c->attrs->dim, false, false);
        e.alpha = from[how];
        if (!c->attrs->flag && !run<START>(w, e, true)) return false;
        return how == 0 ? run<MULTIPLY>(w, e, true) : how == 1 ? run<LARGEST>(w, e, true) : run<SMALLEST>(w, e, true);
    });
}

// y seen with the one dimension that a many-dimensional index made several.
static bool select_slices(const aj_call *c, bool wrap) {
    const aj_tensor *x = c->in[0];
    aj_tensor *i = in_order(c->in[1]), y = *c->out[0];
    int dim = c->attrs->dim;
    if (!i) return false;
    y.ndim = x->ndim;
    int64_t step = 1;
    for (int d = x->ndim - 1; d >= 0; d--) { y.shape[d] = d == dim ? i->numel : x->shape[d]; y.stride[d] = step; step *= y.shape[d]; }
    work w(c);
    return run<GET>(w, line_up(c, w, x, i, &y, dim, true, wrap), false);
}
extern "C" bool index_select_cuda(const aj_call *c) { return select_slices(c, true); }
extern "C" bool embedding_cuda(const aj_call *c) { return select_slices(c, false); }

extern "C" bool index_copy__cuda(const aj_call *c) {
    work w(c);
    return write_run(w, line_up(c, w, c->in[0], c->in[1], c->in[2], c->attrs->dim, true, true));
}
extern "C" bool index_add__cuda(const aj_call *c) {
    work w(c);
    return add_run(c, w, c->in[0], c->in[1], c->in[2], c->attrs->dim, true, true, c->attrs->s);
}
extern "C" bool index_put__cuda(const aj_call *c) {
    work w(c);
    if (c->attrs->flag) return add_run(c, w, c->in[0], c->in[1], c->in[2], 0, true, true, 1);
    return write_run(w, line_up(c, w, c->in[0], c->in[1], c->in[2], c->attrs->dim, true, true));
}
extern "C" bool index_fill__cuda(const aj_call *c) {
    aj_tensor *x = c->in[0];
    work w(c);
    aj_ints none = {};
    aj_tensor *value = aj_untag(aj_full((aj_dtype)x->dtype, &none, x->device, aj_is_float(x->dtype) ? c->attrs->s : (double)(int64_t)c->attrs->s)), all = *x;
    if (!value) return false;
    all.data = value->data;                              // the value, in every place
    for (int d = 0; d < x->ndim; d++) all.stride[d] = 0;
    return write_run(w, line_up(c, w, x, c->in[1], &all, c->attrs->dim, true, true));
}

// The elements as one row; those of a strided tensor in a copy that goes back.
extern "C" bool put__cuda(const aj_call *c) {
    aj_tensor *x = c->in[0], *row = in_order(x);
    if (!row) return false;
    aj_tensor flat = *row;
    flat.ndim = 1;
    flat.shape[0] = x->numel;
    flat.stride[0] = 1;
    work w(c);
    bool ok = c->attrs->flag ? add_run(c, w, &flat, c->in[1], c->in[2], 0, true, true, 1) : write_run(w, line_up(c, w, &flat, c->in[1], c->in[2], 0, true, true));
    return ok && (row == x || copy_into(w, x, row));
}

// Several index tensors as positions in one row.
struct ravel {
    elements index;
    int64_t *y;
    int64_t size, base;
    bool first;
    fault *faults;
    int32_t op;
    __device__ void operator()(int64_t i) const {
        int64_t v = index.get<int64_t>(i), k = v < 0 ? v + size : v - base;
        if (k < 0 || k >= size) { report(faults, INDEX, op, v, base, base + size - 1); k = 0; }
        y[i] = (first ? 0 : y[i] * size) + k;
    }
};
extern "C" bool ravel_index_cuda(const aj_call *c) {
    aj_tensor *y = c->out[0];
    work w(c);
    for (int k = 0; k < c->n_in; k++) {
        aj_tensor view = *y;                             // the index, broadcast
        const aj_tensor *t = c->in[k];
        view.data = t->data;
        view.dtype = t->dtype;
        for (int d = 0; d < y->ndim; d++) {
            int e = d - (y->ndim - t->ndim);
            view.stride[d] = e < 0 || t->shape[e] == 1 ? 0 : t->stride[e];
        }
        aj_set_contiguous(&view);
        if (!each(w, y->numel, ravel{elements_of(&view), (int64_t *)(void *)y->data, c->attrs->list.v[k], c->attrs->base, k == 0, w.faults, c->op})) return false;
    }
    return true;
}

}
