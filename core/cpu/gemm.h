/* gemm.h - one matrix product of any dtype: for matmul, linear, convolution and whoever else needs one. */
#ifndef AJ_GEMM_H
#define AJ_GEMM_H
#include "cpu.h"

/* c (M x N, rows ldc apart) = a (M x K) b (K x N) + bias (N, or NULL), all of one dtype. Strides of a and b are any; those
 * that leave neither rows nor columns dense cost a copy. add: c is added to (not with bias). */
typedef struct {
    int dtype, threads;                                  /* threads: the most; 0: as many as the work is worth */
    int64_t M, N, K;
    const void *a, *b, *bias;
    void *c;
    int64_t sa[2], sb[2], ldc;
    bool add;
} gemm;
bool KERNEL(gemm)(const gemm *g);                        /* false after aj_error */
#endif
