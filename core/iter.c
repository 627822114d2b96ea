/* iter.c - lining up, dropping and merging dimensions. */
#include "core.h"

void aj_iter_init(aj_iter *it, const aj_tensor *const *operands, int n) {
    const aj_tensor *out = operands[0];
    it->n = n;
    bool flat = true;
    for (int k = 0; k < n && flat; k++) {
        flat = operands[k]->contiguous && operands[k]->numel == out->numel && operands[k]->ndim <= out->ndim;
    }
    if (flat) {                                          /* the common case, without a look at any dimension */
        it->ndim = 1; it->count = out->numel; it->shape[0] = out->numel;
        for (int k = 0; k < n; k++) it->stride[k][0] = 1;
        return;
    }
    it->ndim = 0; it->count = 1;
    for (int d = out->ndim - 1; d >= 0; d--) {           /* innermost first */
        int64_t len = out->shape[d], s[AJ_MAX_OPERANDS];
        it->count *= len;
        if (len == 1) continue;
        bool merge = it->ndim > 0;
        for (int k = 0; k < n; k++) {
            const aj_tensor *t = operands[k];
            int e = d - (out->ndim - t->ndim);
            s[k] = e < 0 || t->shape[e] == 1 ? 0 : t->stride[e];
            if (merge && s[k] != it->stride[k][it->ndim - 1] * it->shape[it->ndim - 1]) merge = false;
        }
        if (merge) { it->shape[it->ndim - 1] *= len; continue; }
        it->shape[it->ndim] = len;
        for (int k = 0; k < n; k++) it->stride[k][it->ndim] = s[k];
        it->ndim++;
    }
    if (it->ndim == 0) {
        it->ndim = 1; it->shape[0] = it->count;
        for (int k = 0; k < n; k++) it->stride[k][0] = 0;
    }
}
