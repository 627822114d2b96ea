// binary.cu - elementwise rows of two tensors, or of one and a number.
#include "rows.cuh"
namespace cuda {
#define BINARY(name, domain, value, ...) FORWARD(name, domain, 2, READ_AB, value)
#define BINARY_S(name, domain, params, attrs, defaults, value, ...) BINARY(name, domain, value)
#define COMPARE(name, value, ...) FORWARD(name, ANY, 2, READ_AB, value)
#include "../core/ops.def"
}
