/* jit.h - what the core tells a recording in progress; see jit.c. Each call is made only while aj_ctx.jit is set. */
#ifndef AJ_JIT_H
#define AJ_JIT_H
#include "core.h"
#include "optim.h"

void aj_jit_op(const aj_call *c, bool in_place);       /* a kernel has run */
void aj_jit_view(aj_tensor *y, const aj_tensor *x);     /* y was made as a view of x */
void aj_jit_gradient(int op, int column, const aj_grad_call *g);
void aj_jit_leaf(aj_tensor *leaf, aj_tensor *grad);    /* leaf->grad is about to become grad (NULL: none) */
void aj_jit_take(uint64_t position, int64_t n);        /* random numbers were reserved */
bool aj_jit_reads(const aj_tensor *t, const char *who);/* true, with an error, if t's values are those of one run only */

bool aj_jit_moves(const aj_tensor *t, int32_t device); /* false, with an error, if t cannot be moved there within a recording */

/* What is no op, but a pass over lists of tensors: an optimizer's step, the clipping of gradients. It has run; the lists are
 * copied. What options and count point at is read anew in every run, and the caller keeps it. */
enum { AJ_JIT_LISTS = 7 };
typedef struct aj_jit_step {
    bool (*run)(struct aj_jit_step *s);
    const char *method;
    const aj_optim_options *options;
    aj_optim_count *count;
    aj_tensors list[AJ_JIT_LISTS];
    double number[2];
} aj_jit_step;
void aj_jit_stepped(const aj_jit_step *s);

/* The numbers of a graph's run, which its kernels find on the device since they change from run to run: rates, counts of
 * steps, places in the stream of random numbers. Passes over tensors take theirs in the same order in every run. */
typedef struct aj_numbers {
    double *v;
    int n, cap;
    double *place;              /* where they lie on the device; NULL: nowhere yet */
    bool only;                  /* no kernel is called: the numbers alone are wanted */
    bool failed;                /* out of memory */
} aj_numbers;
int aj_numbers_take(int n);     /* the place of n new ones, 0 at first */
#endif
