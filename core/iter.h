/* iter.h - strided, broadcasting iteration over a few tensors of one shape.
 *
 * aj_iter_init() lines the operands up with the shape of the first, drops dimensions of size 1 and merges
 * neighbours that are contiguous in every operand. What is left is an outer loop and an inner loop of
 * shape[0] elements with one stride an operand. A CUDA kernel takes the struct by value.
 */
#ifndef AJ_ITER_H
#define AJ_ITER_H
#include "aijit.h"

enum { AJ_MAX_OPERANDS = 7 };
typedef struct {
    int32_t ndim, n;
    int64_t count;                                       /* elements in all */
    int64_t shape[AJ_MAX_DIM];                           /* shape[0] is the innermost */
    int64_t stride[AJ_MAX_OPERANDS][AJ_MAX_DIM];         /* in elements; 0 where broadcast */
} aj_iter;

__attribute__((visibility("default"))) void aj_iter_init(aj_iter *it, const aj_tensor *const *operands, int n);

/* Element offsets of every operand at the linear position pos (counted along shape[0] first). */
static inline void aj_iter_at(const aj_iter *it, int64_t pos, int64_t *offset) {
    for (int k = 0; k < it->n; k++) offset[k] = 0;
    for (int d = 0; d < it->ndim; d++) {
        int64_t i = d + 1 < it->ndim ? pos % it->shape[d] : pos;
        for (int k = 0; k < it->n; k++) offset[k] += i * it->stride[k][d];
        if (d + 1 < it->ndim) pos /= it->shape[d];
    }
}
#endif
