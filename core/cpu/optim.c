/* optim.c - the optimizers' loops for float and double, at one instruction level. */
#include "cpu.h"
#include "../update.h"
#include <math.h>

#define LOOP static
#define LOOP_PART static ALWAYS_INLINE
#define OPERANDS void *const *
#define SIDE_BY_SIDE _Pragma("GCC ivdep")
#include "optim_reals.inc"

#define BOTH(name) .name = {name##_f32, name##_f64},
extern const aj_optim_kernels KERNEL(optim);
const aj_optim_kernels KERNEL(optim) = {
    AJ_OPTIM_ROWS(BOTH)
    .load = {KERNEL(load)[CLASS_F32], KERNEL(load)[CLASS_F64]},
    .store = {KERNEL(store)[CLASS_F32], KERNEL(store)[CLASS_F64]},
};
