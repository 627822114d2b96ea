// binary_grad.cu - gradients of elementwise rows of two tensors.
#include "rows.cuh"
namespace cuda {
#define OF_ANY(name, k, slope) GRADIENT(name, ANY, k, 4, READ_GRAD_AB, slope)
#define OF_NUM OF_ANY
#define OF_FLOAT OF_ANY
#define OF_INT(name, k, slope) NO_GRADIENT(name, k)
#define BINARY(name, domain, value, da, db, ...) OF_##domain(name, 0, da) OF_##domain(name, 1, db)
#define BINARY_S(name, domain, params, attrs, defaults, value, da, db, ...) BINARY(name, domain, value, da, db)
#include "../core/ops.def"
}
