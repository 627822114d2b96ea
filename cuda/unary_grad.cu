// unary_grad.cu - gradients of elementwise rows of one tensor.
#include "rows.cuh"
namespace cuda {
#define OF_ANY(name, dx) GRADIENT(name, ANY, 0, 3, READ_GRAD_X, dx)
#define OF_NUM OF_ANY
#define OF_FLOAT OF_ANY
#define OF_INT(name, dx) NO_GRADIENT(name, 0)
#define UNARY(name, domain, value, dx, ...) OF_##domain(name, dx)
#define UNARY_S(name, domain, params, attrs, defaults, value, dx, ...) UNARY(name, domain, value, dx)
#include "../core/ops.def"
}
