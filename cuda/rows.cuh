// rows.cuh - the rows of ops.def as functions that map.cuh runs, and their kernels under the names the table knows.
#pragma once
#include "layout.h"
#include "map.cuh"
#include "math.cuh"

namespace cuda {

// The types that a domain is computed in.
enum { ANY, NUM, FLOAT, INT };
template <int domain, typename F> bool run_class(const map_job &job, work &w, int dtype) {
    if constexpr (domain != INT) {
        if (dtype == AJ_F64) return map_run<F, double>(job, w);
        if (dtype >= AJ_F16) return map_run<F, float>(job, w);
    }
    if constexpr (domain != FLOAT) {
        if (dtype < AJ_F16) return map_run<F, int64_t>(job, w);
    }
    return aj_error("%s: there is no CUDA kernel for %s", aj_op_info_at(job.op)->name, aj_dtype_name((aj_dtype)dtype));
}

template <int domain, typename F> bool run_forward(const aj_call *c) {
    const aj_attrs *a = c->attrs;
    work w(c);
    follow_layout(c->out[0], c->in, c->n_in);
    map_job job = {c->out[0], {c->in[0]}, F::inputs, a->s, a->s, a->t, a->u, c->op};
    if (F::inputs == 2 && c->n_in == 2) job.in[1] = c->in[1];
    else if (F::inputs == 2 && a->number == 1) { job.in[1] = c->in[0]; job.in[0] = nullptr; }
    return run_class<domain, F>(job, w, a->dtype);
}

// What was not saved is not read. A gradient is of floats, whatever the row's domain.
template <int domain, typename F> bool run_gradient(const aj_grad_call *g) {
    const aj_attrs *a = g->attrs;
    work w("backward", g->gx->device);
    follow_layout(g->gx, &g->gy, 1);
    map_job job = {g->gx, {g->gy, g->y, g->in[0], g->in[1]}, F::inputs, a->s, a->s, a->t, a->u, -1};
    if (a->number == 1) job.in[2] = nullptr;
    if (a->number == 2 && F::inputs == 4) job.in[3] = nullptr;
    if (g->gx->dtype == AJ_F64) return map_run<F, double>(job, w);
    return map_run<F, float>(job, w);
}

#define READ_X real x = in[0]; (void)x;
#define READ_AB real a = in[0]; real b = in[1]; (void)a; (void)b;
#define READ_GRAD_X real y = in[1]; real x = in[2]; (void)y; (void)x;
#define READ_GRAD_AB real y = in[1]; real a = in[2]; real b = in[3]; (void)y; (void)a; (void)b;
#define DIVIDES(name) (OP_##name == OP_floor_divide || OP_##name == OP_trunc_divide || OP_##name == OP_remainder || OP_##name == OP_fmod)
#define FUNCTION(name, count, divide, before, read, value) \
    namespace row { struct name { \
        enum { inputs = count }; \
        static constexpr bool divides = divide; \
        template <typename real> static __device__ inline real at(const real *in, real s, real t, real u) { \
            (void)s; (void)t; (void)u; \
            read return before (real)(value); \
        } \
    }; }
#define FORWARD(name, domain, count, read, value) \
    FUNCTION(name##_value, count, DIVIDES(name), , read, value) \
    extern "C" bool name##_cuda(const aj_call *c) { return run_forward<domain, row::name##_value>(c); }
#define GRADIENT(name, domain, k, count, read, value) \
    FUNCTION(name##_slope##k, count, false, in[0] *, read, value) \
    extern "C" bool name##_grad##k##_cuda(const aj_grad_call *g) { return run_gradient<domain, row::name##_slope##k>(g); }
#define NO_GRADIENT(name, k) extern "C" bool name##_grad##k##_cuda(const aj_grad_call *) { return aj_error(#name ": integers have no gradient"); }

}
