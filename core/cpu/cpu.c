/* cpu.c - the table of one instruction level's kernels. A row without its kernel is a link error that names it. */
#include "cpu.h"

const aj_backend KERNEL(backend) = {
    .name = "cpu",
    .forward = {
#define UNARY(name, ...) [OP_##name] = KERNEL(name),
#define UNARY_S UNARY
#define BINARY UNARY
#define BINARY_S UNARY
#define COMPARE UNARY
#define TEST UNARY
#define REDUCE UNARY
#define OP UNARY
#define OP_N UNARY
#define UPDATE UNARY
#define UPDATE_GRAD UNARY
#include "../ops.def"
    },
    .grad = {
#define UNARY(name, ...) [OP_##name] = {KERNEL(name##_grad0)},
#define UNARY_S UNARY
#define BINARY(name, ...) [OP_##name] = {KERNEL(name##_grad0), KERNEL(name##_grad1)},
#define BINARY_S BINARY
#include "../ops.def"
    },
};
