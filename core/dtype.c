/* dtype.c - what the dtypes are: names, sizes, kinds, promotion. */
#include "core.h"
#include <string.h>

static const struct { const char *name; uint8_t size; } table[AJ_DTYPES] = {
    [AJ_BOOL] = {"bool", 1}, [AJ_U8] = {"u8", 1},     [AJ_I8] = {"i8", 1},   [AJ_I16] = {"i16", 2}, [AJ_I32] = {"i32", 4},
    [AJ_I64] = {"i64", 8},   [AJ_F16] = {"f16", 2},   [AJ_BF16] = {"bf16", 2}, [AJ_F32] = {"f32", 4}, [AJ_F64] = {"f64", 8},
};

size_t aj_dtype_size(aj_dtype dtype) { return dtype < AJ_DTYPES ? table[dtype].size : 0; }
const char *aj_dtype_name(aj_dtype dtype) { return dtype < AJ_DTYPES ? table[dtype].name : "?"; }
bool aj_dtype_is_float(aj_dtype dtype) { return aj_is_float(dtype); }

int32_t aj_dtype_named(const char *name) {
    static const char *other[][2] = {
        {"float", "f32"}, {"float32", "f32"}, {"double", "f64"}, {"float64", "f64"}, {"half", "f16"}, {"float16", "f16"},
        {"bfloat16", "bf16"}, {"long", "i64"}, {"int64", "i64"}, {"int", "i32"}, {"int32", "i32"}, {"short", "i16"},
        {"int16", "i16"}, {"char", "i8"}, {"int8", "i8"}, {"byte", "u8"}, {"uint8", "u8"}, {"boolean", "bool"},
    };
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (!strcmp(name, other[i][0])) name = other[i][1];
    for (int d = 0; d < AJ_DTYPES; d++)
        if (!strcmp(name, table[d].name)) return d;
    return -1;
}

/* The smallest dtype that holds both, as in PyTorch: floats above integers above bool; u8 with a signed type is the
 * next larger signed one; f16 with bf16 is f32. */
aj_dtype aj_promote(aj_dtype a, aj_dtype b) {
    if (a == b) return a;
    aj_dtype hi = a > b ? a : b, lo = a > b ? b : a;
    if (hi == AJ_BF16 && lo == AJ_F16) return AJ_F32;
    if (hi == AJ_I8 && lo == AJ_U8) return AJ_I16;
    return hi;
}
