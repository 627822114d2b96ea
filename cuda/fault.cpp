// fault.cpp - how what a kernel found wrong in its inputs' values is told.
#include "device.h"
#include <cstdio>

namespace cuda {

bool tell(const fault &f, const char *who) {
    char what[256], matrix[64];
    long long v = f.value, low = f.low, high = f.high;
    if (high > 1) snprintf(matrix, sizeof matrix, "matrix %lld of the batch", v + 1);
    else snprintf(matrix, sizeof matrix, "the matrix");
#define SAY(...) snprintf(what, sizeof what, __VA_ARGS__); break
    switch (f.kind) {
    case FINE: return true;
    case DIVISION: SAY("a division by zero, which integers have no result for");
    case INDEX: SAY("index %lld is out of range: there are %lld to %lld", v, low, high);
    case LABEL: SAY("class %lld is out of range: there are %lld to %lld", v, low, high);
    case OFFSET: SAY("offset %lld is out of range: here it must be from %lld to %lld, for offsets do not go down, and end with the index", v, low, high);
    case PIVOT: SAY("pivot %lld is none of the rows %lld to %lld", v, low, high);
    case BAD_WEIGHT: SAY("row %lld holds a weight that is negative, infinite or NaN", v + 1);
    case NO_WEIGHT: SAY("the weights of row %lld are all 0", v + 1);
    case FEW_WEIGHTS: SAY("row %lld has fewer weights above 0 than the %lld samples asked for without replacement", v + 1, high);
    case SINGULAR: SAY("%s is singular: element (%lld, %lld) of the triangle U of its LU decomposition is 0", matrix, low + 1, low + 1);
    case INDEFINITE: SAY("%s is not positive-definite: its leading minor of order %lld is not positive", matrix, low + 1);
    case INFINITE: SAY("%s holds infinite elements or NaN", matrix);
    case DIVERGED: SAY("%s: the iteration did not converge", matrix);
    case BAD_SCALE: SAY("with a pool every scale must be positive; that of output %lld is not", v + 1);
    default: SAY("fault %d", f.kind);
    }
#undef SAY
    return aj_error("%s: %s (found when %s waited for the device)", f.op >= 0 && f.op < OP_COUNT ? aj_op_info_at(f.op)->name : "backward", what, who);
}

}
