/* autocast.c - mixed precision: the dtype that each op takes its inputs in, while a thread asks for it. */
#include "core.h"

/* Products and convolutions, whose cost falls with the size of a number, take the low precision; what needs range or adds many
 * numbers takes f32; the others follow promotion. Which is which stands in ops.def, as the last word of a row. */

int32_t aj_autocast(int32_t dtype) {
    int32_t was = aj_ctx.state.autocast;
    aj_ctx.state.autocast = dtype;
    return was;
}

/* The dtype that t is cast to as an input of op; -1: it stays as it is. f64 and integers do. */
static int wanted(int op, const aj_tensor *t) {
    if (!t) return -1;
    if (aj_ops[op].autocast == AJ_AUTOCAST_LOW && (t->dtype == AJ_F32 || t->dtype == AJ_F16 || t->dtype == AJ_BF16))
        return t->dtype == aj_ctx.state.autocast ? -1 : aj_ctx.state.autocast;
    return aj_ops[op].autocast == AJ_AUTOCAST_FULL && (t->dtype == AJ_F16 || t->dtype == AJ_BF16) ? AJ_F32 : -1;
}

bool aj_autocasts(int op, aj_tensor *const *in, int n) {
    if (aj_ops[op].autocast == AJ_AUTOCAST_LOW)          /* f64 among the inputs: the caller wants that precision */
        for (int k = 0; k < n; k++) if (in[k] && in[k]->dtype == AJ_F64) return false;
    for (int k = 0; aj_ops[op].autocast && k < n; k++) if (wanted(op, in[k]) >= 0) return true;
    return false;
}

bool aj_autocast_inputs(int op, aj_tensor **in, int n) {
    for (int k = 0; k < n; k++) {
        int d = wanted(op, in[k]);
        if (d >= 0 && !(in[k] = aj_live(aj_cast(in[k], (aj_dtype)d)))) return false;
    }
    return true;
}
