// multinomial.cu - choices by weights, with the CPU's random numbers.
//
// With replacement a block sums up a row of weights and each choice is found by halving; without it the choices are the
// smallest of -log(u) / weight (Efraimidis and Spirakis, 2006).
#include "block.cuh"
#include "draw.cuh"
#include "each.cuh"

namespace cuda {

struct choosing {
    const double *x;
    double *sums;               // running sums of weights, or the keys to choose by
    int64_t *last, *y;          // last: of each row the last weight above 0
    int64_t C, n, base;
    drawn from;
    fault *faults;
    int32_t op;
    bool again;                 // with replacement
};
__global__ void __launch_bounds__(THREADS) weigh_row(const __grid_constant__ choosing m) {
    const int64_t at = (int64_t)blockIdx.x * m.C;
    double run = 0, positive = 0, end = -1, bad = 0;
    for (int64_t i0 = 0; i0 < m.C; i0 += THREADS) {
        int64_t i = i0 + threadIdx.x;
        double w = i < m.C ? m.x[at + i] : 0, all, before;
        if (!(w >= 0) || w > 1.7e308) { bad = 1; w = 0; }
        if (w > 0) { positive++; end = (double)i; }
        if (m.again) {
            before = before_in_block(w, &all);
            if (i < m.C) m.sums[at + i] = run + before + w;
            run += all;
        } else if (i < m.C) m.sums[at + i] = w > 0 ? -log(philox_uniform_f64(m.from.key(), m.from.at(at + i)) + 0x1p-54) / w : (double)INFINITY;
    }
    bad = of_block(bad, larger());
    positive = of_block(positive, add());
    end = of_block(end, larger());
    if (threadIdx.x) return;
    m.last[blockIdx.x] = (int64_t)end;
    if (bad > 0) report(m.faults, BAD_WEIGHT, m.op, blockIdx.x, 0, 0);
    else if (positive == 0) report(m.faults, NO_WEIGHT, m.op, blockIdx.x, 0, 0);
    else if (!m.again && positive < (double)m.n) report(m.faults, FEW_WEIGHTS, m.op, blockIdx.x, 0, m.n);
}
struct choose {
    choosing m;
    __device__ void operator()(int64_t i) const {
        int64_t row = i / m.n, a = 0, b = m.last[row] < 0 ? 0 : m.last[row];
        const double *sums = m.sums + row * m.C;
        double u = philox_uniform_f64(m.from.key(), m.from.at(i)) * sums[m.C - 1];
        while (a < b) { int64_t half = (a + b) / 2; if (sums[half] > u) b = half; else a = half + 1; }
        m.y[i] = a + m.base;
    }
};

extern "C" bool multinomial_cuda(const aj_call *c) {
    const aj_tensor *x = c->in[0];                       // dense f64
    const aj_attrs *a = c->attrs;
    int64_t rows = x->ndim == 2 ? x->shape[0] : 1;
    work w(c);
    if (!rows) return true;
    if (rows > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 rows");
    aj_ints shape = {2, {rows, x->shape[x->ndim - 1]}};
    aj_tensor *sums = aj_untag(aj_full(AJ_F64, &shape, x->device, 0));
    scratch room(x->device, rows * 8);
    if (!sums || !room.p) return false;
    choosing m = {(const double *)(const void *)x->data, (double *)(void *)sums->data, (int64_t *)room.p, (int64_t *)(void *)c->out[0]->data,
                  shape.v[1], a->i, a->base, drawn_of(a), w.faults, c->op, a->flag};
    launch_together(weigh_row, dim3((unsigned)rows), dim3(THREADS), w.stream, m);
    if (!w.done()) return false;
    if (m.again) return each(w, rows * m.n, choose{m});
    aj_tensor *values = aj_topk(sums, m.n, 1, false, true, m.base), *places = values ? aj_untag(aj_result(2)) : nullptr;
    return places && w.done(cudaMemcpyAsync(m.y, places->data, (size_t)(rows * m.n) * 8, cudaMemcpyDeviceToDevice, w.stream));
}

}
