/* optim.h - optimizer steps: one call updates every parameter of a group.
 *
 * In each list, entry i belongs to parameter i. grads may be NULL: each parameter's own gradient. An entry of grads that
 * is NULL, or a parameter without a gradient, is left alone. Everything is checked before anything is written, so a
 * call that fails has changed nothing. No step is recorded by autograd, and each counts as a write in place. */
#ifndef AJ_OPTIM_H
#define AJ_OPTIM_H
#include "aijit.h"
#pragma GCC visibility push(default)

/* <cdef> */
/* Adam (Kingma and Ba, 2015), AdamW when decoupled (Loshchilov and Hutter, 2019), AMSGrad when vmax is not empty.
 * step[i] counts the updates of parameter i, and is advanced here. */
bool aj_adam(aj_tensors params, aj_tensors grads, aj_tensors m, aj_tensors v, aj_tensors vmax, int64_t *step,
             double lr, double beta1, double beta2, double eps, double weight_decay, bool decoupled, bool maximize);
/* Momentum as in Sutskever and others (2013), written as PyTorch writes it; buffers are read only if momentum is not 0. */
bool aj_sgd(aj_tensors params, aj_tensors grads, aj_tensors buffers, int64_t *step,
            double lr, double momentum, double dampening, double weight_decay, bool nesterov, bool maximize);
/* The p-norm of all gradients together (p infinite: the largest), and their scaling down to max_norm. */
bool aj_clip_grad_norm(aj_tensors params, aj_tensors grads, double max_norm, double p, double *norm);
bool aj_clip_grad_value(aj_tensors params, aj_tensors grads, double value);
bool aj_zero_grad(aj_tensors params);
/* target = target + weight * (source - target), for each pair */
bool aj_lerp_all(aj_tensors targets, aj_tensors sources, double weight);
/* </cdef> */

#pragma GCC visibility pop

/* Loops over one row of n elements, strides in elements: [0] for float, [1] for double. core/cpu/optim.c has them, once
 * for each instruction level. */
enum { AJ_OPTIM_SQUARES, AJ_OPTIM_LARGEST, AJ_OPTIM_POWERS };
typedef void aj_optim_row(void *const *at, const int64_t *stride, int64_t n, const double *number);
typedef double aj_optim_total(const void *x, int64_t stride, int64_t n, double p);
typedef struct {
    aj_optim_row *adam[2], *sgd[2], *scale[2], *clamp[2], *lerp[2];
    aj_optim_total *total[3][2];
} aj_optim_kernels;
#endif
