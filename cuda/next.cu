// next.cu - the next number of a dtype. The bits of a positive float, as a whole number, count the floats from 0 up.
#include "each.cuh"

namespace cuda {

template <typename word> struct next {
    const char *a, *b;
    char *y;
    int32_t dtype;
    __device__ void operator()(int64_t i) const {
        word p = ((const word *)(const void *)a)[i], q = ((const word *)(const void *)b)[i];
        double from = read<double>(a, dtype, i), to = read<double>(b, dtype, i);
        if (from != from || to != to) p = from != from ? p : q;
        else if (from == to) p = q;
        else if (from == 0) p = (word)((to < 0 ? (word)1 << (sizeof(word) * 8 - 1) : 0) | 1);
        else p = (word)(p + ((from < to) == (from > 0) ? 1 : -1));
        ((word *)(void *)y)[i] = p;
    }
};
extern "C" bool nextafter_cuda(const aj_call *c) {       // dense inputs of the result's shape
    const aj_tensor *a = c->in[0], *b = c->in[1], *y = c->out[0];
    work w(c);
    int bytes = dtype_bytes(y->dtype);
    if (bytes == 8) return each(w, y->numel, next<uint64_t>{a->data, b->data, y->data, y->dtype});
    if (bytes == 4) return each(w, y->numel, next<uint32_t>{a->data, b->data, y->data, y->dtype});
    return each(w, y->numel, next<uint16_t>{a->data, b->data, y->data, y->dtype});
}

}
