// margin.cu - the loss of classes that a row lists against those that it does not: a block has a row.
#include "block.cuh"
#include "each.cuh"

namespace cuda {

struct margin {
    const char *x;
    const int64_t *target;
    char *y, *slope;            // slope may be NULL
    int32_t *named;             // how often each class is listed
    int32_t dx, dy, ds, op;
    int64_t C, base;
    fault *faults;
};
template <typename real> __global__ void __launch_bounds__(THREADS) margin_row(const __grid_constant__ margin m) {
    const int64_t at = (int64_t)blockIdx.x * m.C;
    const int64_t *target = m.target + at;
    int32_t *named = m.named + at;
    __shared__ int64_t listed;                           // up to the first number below base
    if (threadIdx.x == 0) {
        listed = 0;
        while (listed < m.C && target[listed] >= m.base) listed++;
    }
    for (int64_t i = threadIdx.x; i < m.C; i += THREADS) {
        named[i] = 0;
        if (target[i] < m.base - 2 || target[i] >= m.base + m.C) report(m.faults, LABEL, m.op, target[i], m.base, m.base + m.C - 1);
    }
    __syncthreads();
    for (int64_t k = threadIdx.x; k < listed; k += THREADS) if (target[k] < m.base + m.C) atomicAdd(&named[target[k] - m.base], 1);
    __syncthreads();
    auto get = [&](int64_t i) { return read<real>(m.x, m.dx, at + i); };
    double sum = 0;
    for (int64_t i = threadIdx.x; i < m.C; i += THREADS) {
        real own = get(i), slope = 0;
        if (named[i]) {                                  // for how many classes that are not named it is not far enough ahead
            for (int64_t j = 0; m.slope && j < m.C; j++) slope -= !named[j] && 1 - own + get(j) > 0;
            slope *= (real)named[i];
        } else for (int64_t k = 0; k < listed; k++) {
            if (target[k] >= m.base + m.C) continue;
            real z = 1 - get(target[k] - m.base) + own;
            if (z > 0) { sum += (double)z; slope += 1; }
        }
        if (m.slope) write<real>(m.slope, m.ds, at + i, slope / (real)m.C);
    }
    sum = of_block(sum, add());
    if (threadIdx.x == 0) write<double>(m.y, m.dy, blockIdx.x, sum / (double)m.C);
}

extern "C" bool multilabel_margin_rows_cuda(const aj_call *c) {
    const aj_tensor *x = c->in[0], *slope = c->n_out > 1 ? c->out[1] : nullptr;
    int64_t rows = x->shape[0];
    work w(c);
    if (!rows) return true;
    if (!x->shape[1]) return aj_refuse(c, "there are no classes");
    if (rows > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 rows");
    scratch room(x->device, x->numel * 4);
    if (!room.p) return false;
    margin m = {x->data, (const int64_t *)(const void *)c->in[1]->data, c->out[0]->data, slope ? slope->data : nullptr, (int32_t *)room.p,
                x->dtype, c->out[0]->dtype, slope ? slope->dtype : 0, c->op, x->shape[1], c->attrs->base, w.faults};
    return with_floats(x->dtype, [&](auto of) {
        launch_together(margin_row<decltype(of)>, dim3((unsigned)rows), dim3(THREADS), w.stream, m);
        return w.done();
    });
}

}
