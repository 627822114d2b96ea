/* optim.c - the optimizers' loops for float and double, at one instruction level. */
#include "cpu.h"
#include "../optim.h"
#include <math.h>

#define real float
#define REAL(name) name##_f32
#define SQRT sqrtf
#include "optim.inc"
#undef real
#undef REAL
#undef SQRT
#define real double
#define REAL(name) name##_f64
#define SQRT sqrt
#include "optim.inc"

#define BOTH(name) {name##_f32, name##_f64}
extern const aj_optim_kernels KERNEL(optim);
const aj_optim_kernels KERNEL(optim) = {
    .adam = BOTH(adam), .sgd = BOTH(sgd), .scale = BOTH(scale), .clamp = BOTH(clamp), .lerp = BOTH(lerp),
    .total = {[AJ_OPTIM_SQUARES] = BOTH(squares), [AJ_OPTIM_LARGEST] = BOTH(largest), [AJ_OPTIM_POWERS] = BOTH(powers)},
};
