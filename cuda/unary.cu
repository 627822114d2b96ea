// unary.cu - elementwise rows of one tensor.
#include "rows.cuh"
namespace cuda {
#define UNARY(name, domain, value, ...) FORWARD(name, domain, 1, READ_X, value)
#define UNARY_S(name, domain, params, attrs, defaults, value, ...) UNARY(name, domain, value)
#define TEST(name, value, ...) FORWARD(name, ANY, 1, READ_X, value)
#include "../core/ops.def"
}
