/* assemble.h - a chain of elementwise ops as one loop of machine code. */
#ifndef AJ_ASSEMBLE_H
#define AJ_ASSEMBLE_H
#include "core.h"

/* One op of a chain, its operands by number: which of the chain's arrays; -1: none. Without a column it is the op's value,
 * else the gradient of input `column`, gy times the derivative, where y and in are what the derivative reads. */
typedef struct {
    int op, column, out, in[2], y, gy;
    bool apart;                                          /* products are rounded before they are added to something */
    const aj_attrs *attrs;
} aj_formula;

enum { AJ_STREAMS = 12, AJ_LOOP_STEP = 16 };
typedef struct aj_loop {
    void (*code)(char *const *stream, int64_t bytes, const float *constants);     /* bytes: of each, whole steps of 64 */
    size_t size;
    float *constants;
    int n_stream, stream[AJ_STREAMS];                    /* the arrays that are read or written */
    bool written[AJ_STREAMS], single[AJ_STREAMS];
} aj_loop;

/* A loop over arrays of f32 that computes what the ops' kernels do, to the bit, and writes the arrays that are wanted. Of
 * the single ones only the first number is read. NULL without an error: not on this processor, or not these ops. */
aj_loop *aj_assemble(const aj_formula *f, int n, const bool *wanted, const bool *single);
/* Sets `apart` as the compiler of the kernels had it; whether the op's loop then gives its kernel's bits on many numbers. */
bool aj_can_assemble(aj_formula *f);
void aj_loop_run(const aj_loop *l, char *const *stream, int64_t n);     /* n elements; stream in the loop's order */
void aj_loop_free(aj_loop *l);
#endif
