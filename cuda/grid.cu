// grid.cu - images looked up at the places of a grid. A thread has a place and a few channels, for which it finds the points
// around the place once.
#include "copy.cuh"
#include "each.cuh"
#include "../core/grid.h"

namespace cuda {

namespace points {
#define GRID static __device__ inline
#define real float
#define REAL(name) name##_f32
#include "../core/grid.inc"
#undef real
#undef REAL
#define real double
#define REAL(name) name##_f64
#include "../core/grid.inc"
#undef real
#undef REAL
#undef GRID
}

enum { CHANNELS = 8 };          // of a thread
struct lookup {
    grid_shape shape;
    int64_t N, C, I, P;         // elements of a channel, places of a grid
    const char *x, *grid, *g;
    char *y, *gx, *ggrid;
    int32_t dx, dgrid, dg, dy, dggrid;
};

template <typename real> struct around {                 // a place: its points and their weights
    int64_t offset[GRID_MOST];
    real weight[GRID_MOST], slope[GRID_MOST][3];
    int n;
    __device__ around(const lookup &w, int64_t place, bool slopes) {
        real at[3];
        for (int d = 0; d < w.shape.nd; d++) at[d] = read<real>(w.grid, w.dgrid, place * w.shape.nd + d);
        if constexpr (sizeof(real) == 4) n = points::around_f32(&w.shape, at, offset, weight, slopes ? slope : nullptr);
        else n = points::around_f64(&w.shape, at, offset, weight, slopes ? slope : nullptr);
    }
};
template <typename real> struct look_up {
    lookup w;
    __device__ void operator()(int64_t i) const {
        int64_t blocks = (w.C + CHANNELS - 1) / CHANNELS, p = i % w.P, c = i / w.P % blocks * CHANNELS, n = i / w.P / blocks;
        around<real> a(w, n * w.P + p, false);
        for (int64_t last = c + CHANNELS < w.C ? c + CHANNELS : w.C; c < last; c++) {
            real sum = 0;
            for (int k = 0; k < a.n; k++) sum += a.weight[k] * read<real>(w.x, w.dx, (n * w.C + c) * w.I + a.offset[k]);
            write<real>(w.y, w.dy, (n * w.C + c) * w.P + p, sum);
        }
    }
};
template <typename real> struct to_image {               // w.gx is of the type computed in, and 0 at first
    lookup w;
    __device__ void operator()(int64_t i) const {
        int64_t blocks = (w.C + CHANNELS - 1) / CHANNELS, p = i % w.P, c = i / w.P % blocks * CHANNELS, n = i / w.P / blocks;
        around<real> a(w, n * w.P + p, false);
        for (int64_t last = c + CHANNELS < w.C ? c + CHANNELS : w.C; c < last; c++) {
            real g = read<real>(w.g, w.dg, (n * w.C + c) * w.P + p);
            for (int k = 0; k < a.n; k++) add_at((real *)(void *)w.gx + (n * w.C + c) * w.I + a.offset[k], a.weight[k] * g);
        }
    }
};
template <typename real> struct to_image_in_turn {       // a channel of an image, all places one after another: the same sums every time
    lookup w;
    __device__ void operator()(int64_t i) const {
        real *gx = (real *)(void *)w.gx + i * w.I;
        for (int64_t p = 0; p < w.P; p++) {
            around<real> a(w, i / w.C * w.P + p, false);
            real g = read<real>(w.g, w.dg, i * w.P + p);
            for (int k = 0; k < a.n; k++) gx[a.offset[k]] += a.weight[k] * g;
        }
    }
};
template <typename real> struct to_grid {
    lookup w;
    __device__ void operator()(int64_t i) const {
        int64_t n = i / w.P, p = i % w.P;
        around<real> a(w, i, true);
        real sum[3] = {0, 0, 0};
        for (int64_t c = 0; c < w.C; c++) {
            real g = read<real>(w.g, w.dg, (n * w.C + c) * w.P + p);
            for (int k = 0; k < a.n; k++) {
                real v = g * read<real>(w.x, w.dx, (n * w.C + c) * w.I + a.offset[k]);
                for (int d = 0; d < 3; d++) sum[d] += d < w.shape.nd ? v * a.slope[k][d] : (real)0;
            }
        }
        for (int d = 0; d < w.shape.nd; d++) write<real>(w.ggrid, w.dggrid, i * w.shape.nd + d, sum[d]);
    }
};

static lookup describe(const aj_call *c, const aj_tensor *x, const aj_tensor *grid) {
    const aj_attrs *a = c->attrs;
    lookup w = {};
    w.shape = {x->ndim - 2, a->mode, a->reduction, a->flag, {1, 1, 1}};
    w.N = x->shape[0];
    w.C = x->shape[1];
    w.I = w.P = 1;
    for (int d = 0; d < w.shape.nd; d++) {
        w.shape.size[d] = x->shape[d + 2];
        w.I *= x->shape[d + 2];
        w.P *= grid->shape[d + 1];
    }
    w.x = x->data;
    w.dx = x->dtype;
    w.grid = grid->data;
    w.dgrid = grid->dtype;
    return w;
}
extern "C" bool grid_sample_cuda(const aj_call *c) {
    aj_tensor *x = in_order(c->in[0]), *grid = in_order(c->in[1]), *y = c->out[0];
    if (!x || !grid) return false;
    if (!y->numel) return true;
    work on(c);
    lookup w = describe(c, x, grid);
    w.y = y->data;
    w.dy = y->dtype;
    return with_floats(x->dtype, [&](auto of) { return each(on, w.N * ((w.C + CHANNELS - 1) / CHANNELS) * w.P, look_up<decltype(of)>{w}); });
}
extern "C" bool grid_sample_grad_cuda(const aj_call *c) {
    aj_tensor *g = in_order(c->in[0]), *x = in_order(c->in[1]), *grid = in_order(c->in[2]), wide = *c->out[0];
    if (!g || !x || !grid) return false;
    work on(c);
    lookup w = describe(c, x, grid);
    w.g = g->data;
    w.dg = g->dtype;
    w.ggrid = c->out[1]->data;
    w.dggrid = c->out[1]->dtype;
    wide.dtype = x->dtype == AJ_F64 ? AJ_F64 : AJ_F32;
    bool own = wide.dtype != c->out[0]->dtype;
    scratch room(x->device, own ? wide.numel * 4 : 1);
    if (!room.p) return false;
    if (own) wide.data = (char *)room.p;
    w.gx = wide.data;
    if (!fill(on, &wide, 0)) return false;
    bool ok = !g->numel || with_floats(x->dtype, [&](auto of) {
        typedef decltype(of) real;
        if (aj_deterministic()) return each(on, w.N * w.C, to_image_in_turn<real>{w});
        return each(on, w.N * ((w.C + CHANNELS - 1) / CHANNELS) * w.P, to_image<real>{w});
    });
    ok = ok && with_floats(x->dtype, [&](auto of) { return each(on, w.N * w.P, to_grid<decltype(of)>{w}); });
    return ok && (!own || copy_into(on, c->out[0], &wide));
}

}
