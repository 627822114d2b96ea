/* optim.h - optimizer steps: one call updates every parameter of a group.
 *
 * In each list, entry i belongs to parameter i. grads may be NULL: each parameter's own gradient. An entry of grads that
 * is NULL, or a parameter without a gradient, is left alone. Everything is checked before anything is written, so a
 * call that is refused has changed nothing. No step is recorded by autograd, and each counts as a write in place. */
#ifndef AJ_OPTIM_H
#define AJ_OPTIM_H
#include "aijit.h"
#pragma GCC visibility push(default)

/* <cdef> */
/* A method reads the fields that its formula names; core/optim.c has the formulas. */
typedef struct {
    double lr, beta1, beta2, beta3, eps, weight_decay;
    double momentum, dampening, alpha, rho, lr_decay, momentum_decay;
    double warmup, weight_power, rate_power;
    double etaminus, etaplus, least, most;
    double ns_a, ns_b, ns_c, ns_steps;
    bool maximize, decoupled, amsgrad, nesterov, centered, no_prox, match_rms;
} aj_optim_options;
/* Of one parameter: updates so far, and what a method carries along with them. */
typedef struct { int64_t step; double number[2]; } aj_optim_count;
/* One step of a method: "sgd", "adam", "lion" and so on. s1 to s4: its state, of the parameter's shape, in f32 where the
 * parameter is f16 or bf16; NULL: this method, with these options, has none there. masters: f32 copies of parameters in
 * f16 or bf16, in which small updates add up (NULL, or an entry NULL: none). */
bool aj_optim_step(const char *method, const aj_optim_options *o, aj_tensors params, aj_tensors grads,
                   aj_tensors s1, aj_tensors s2, aj_tensors s3, aj_tensors s4, aj_tensors masters, aj_optim_count *count);
/* The p-norm of all gradients together (p infinite: the largest), and their scaling down to max_norm; infinite: none. */
bool aj_clip_grad_norm(aj_tensors params, aj_tensors grads, double max_norm, double p, double *norm);
bool aj_clip_grad_value(aj_tensors params, aj_tensors grads, double value);
bool aj_zero_grad(aj_tensors params);
/* target = target + weight * (source - target), for each pair; a pair may be of two dtypes */
bool aj_lerp_all(aj_tensors targets, aj_tensors sources, double weight);
/* </cdef> */

#pragma GCC visibility pop
#endif
