// search.cu - places of values in sorted rows, by halving.
#include "each.cuh"

namespace cuda {

template <typename real> struct search {
    const char *s, *v;
    char *y;
    int32_t ds, dv;
    int64_t n, per, base;
    bool many, right, narrow;
    // A NaN stands after all numbers: nothing is at least as large.
    __device__ void operator()(int64_t i) const {
        int64_t row = many ? i / per * n : 0, a = 0, left = n;
        real value = read<real>(v, dv, i);
        while (left > 0) {
            int64_t half = left / 2;
            real there = read<real>(s, ds, row + a + half);
            if (right ? there > value : there >= value) left = half;
            else { a += half + 1; left -= half + 1; }
        }
        if (narrow) ((int32_t *)(void *)y)[i] = (int32_t)(a + base);
        else ((int64_t *)(void *)y)[i] = a + base;
    }
};
extern "C" bool searchsorted_cuda(const aj_call *c) {
    aj_tensor *s = in_order(c->in[0]), *v = in_order(c->in[1]), *y = c->out[0];
    if (!s || !v) return false;
    work w(c);
    return with_class(v->dtype, [&](auto of) {
        return each(w, v->numel, search<decltype(of)>{s->data, v->data, y->data, s->dtype, v->dtype, s->shape[s->ndim - 1], v->ndim ? v->shape[v->ndim - 1] : 1,
                                                       c->attrs->base, s->ndim > 1, c->attrs->mode == 1, c->attrs->flag2});
    });
}

}
