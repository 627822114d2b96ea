// layout.h - tensors (N, C, ...) whose channels lie innermost, as cuDNN's kernels for halves want them. A caller that gives an op
// such a tensor gets one back from convolutions, pooling, batch norm and elementwise rows; all others give tensors in order.
#pragma once
#include "device.h"

namespace cuda {

inline int64_t inner_of(const aj_tensor *t) { int64_t n = 1; for (int d = 2; d < t->ndim; d++) n *= t->shape[d]; return n; }

// Channels last, and not in order besides.
inline bool channels_last(const aj_tensor *t) {
    if (t->contiguous || t->ndim < 3 || t->numel == 0) return false;
    int64_t step = t->shape[1];
    if (t->shape[1] > 1 && t->stride[1] != 1) return false;
    for (int d = t->ndim - 1; d >= 2; d--) {
        if (t->shape[d] > 1 && t->stride[d] != step) return false;
        step *= t->shape[d];
    }
    return t->shape[0] == 1 || t->stride[0] == step;
}
// A tensor that a row has just been given to fill, and nothing is in.
inline void lay_channels_last(aj_tensor *t) {
    int64_t step = t->shape[1];
    t->stride[1] = 1;
    for (int d = t->ndim - 1; d >= 2; d--) { t->stride[d] = step; step *= t->shape[d]; }
    t->stride[0] = step;
    aj_set_contiguous(t);
}
inline bool same_layout(const aj_tensor *a, const aj_tensor *b) {
    if (a->ndim != b->ndim) return false;
    for (int d = 0; d < a->ndim; d++) if (a->shape[d] != b->shape[d] || (a->shape[d] > 1 && a->stride[d] != b->stride[d])) return false;
    return true;
}
// y, fresh, is laid out as the first of the inputs that has channels last and y's shape; unless one of them is y.
inline void follow_layout(aj_tensor *y, aj_tensor *const *in, int n) {
    const aj_tensor *first = nullptr;
    if (!y->contiguous || y->ndim < 3) return;
    for (int k = 0; k < n; k++) {
        if (in[k] == y) return;
        if (!first && in[k] && in[k]->ndim == y->ndim && channels_last(in[k])) first = in[k];
    }
    if (!first) return;
    for (int d = 0; d < y->ndim; d++) if (first->shape[d] != y->shape[d]) return;
    lay_channels_last(y);
}

}
