/* construct.c - new tensors of random numbers and of simple patterns, made of ops, so that they are the same on every device. */
#include "core.h"

/* What a constructor makes along the way belongs to a scope of its own; its result goes to the caller. */
static aj_tensor *finish(int32_t mark, aj_tensor *h) {
    aj_tensor *t = h ? aj_hold(aj_live(h)) : NULL;
    if (mark >= 0) aj_inner_close(mark);
    return aj_give(t);
}

static aj_tensor *filled(aj_dtype dtype, aj_shape shape, int32_t device, aj_tensor *(*fill)(aj_tensor *, double, double)) {
    int32_t mark = aj_inner_open();
    aj_tensor *t = mark < 0 ? NULL : aj_empty(dtype, shape, device);
    return finish(mark, t ? fill(t, 0, 1) : NULL);
}
aj_tensor *aj_rand(aj_dtype dtype, aj_shape shape, int32_t device) { return filled(dtype, shape, device, aj_uniform_); }
aj_tensor *aj_randn(aj_dtype dtype, aj_shape shape, int32_t device) { return filled(dtype, shape, device, aj_normal_); }

aj_tensor *aj_randint(aj_dtype dtype, aj_shape shape, int32_t device, int64_t low, int64_t high) {
    int32_t mark = aj_inner_open();
    aj_tensor *t = mark < 0 ? NULL : aj_empty(dtype, shape, device);
    return finish(mark, t ? aj_random_(t, low, high) : NULL);
}

/* The order of random keys of 63 bits. */
aj_tensor *aj_randperm(aj_dtype dtype, int32_t device, int64_t n, aj_base base) {
    if (n < 0) { aj_error("randperm: the number of elements is %lld", (long long)n); return NULL; }
    aj_ints shape = {1, {n}};
    int32_t mark = aj_inner_open();
    aj_tensor *key = mark < 0 ? NULL : aj_empty(AJ_I64, &shape, device);
    key = key ? aj_random_(key, 0, INT64_MAX) : NULL;
    key = key ? aj_argsort(key, 0, false, true, base) : NULL;
    return finish(mark, key && dtype != AJ_I64 ? aj_cast(key, dtype) : key);
}

aj_tensor *aj_eye(aj_dtype dtype, int32_t device, int64_t n, int64_t m) {
    aj_ints shape = {2, {n, m}};
    int32_t mark = aj_inner_open();
    bool mode = aj_grad_mode(false);
    aj_tensor *t = mark < 0 ? NULL : aj_full(dtype, &shape, device, 0), *d = t ? aj_diagonal(t, 0, 0, 1) : NULL;
    if (!d || !aj_fill_(d, 1)) t = NULL;
    aj_grad_mode(mode);
    return finish(mark, t);
}

/* Evenly spaced, both ends included and exact. */
aj_tensor *aj_linspace(aj_dtype dtype, int32_t device, double start, double end, int64_t steps) {
    if (steps < 0) { aj_error("linspace: the number of steps is %lld", (long long)steps); return NULL; }
    int32_t mark = aj_inner_open();
    bool mode = aj_grad_mode(false);
    double step = steps > 1 ? (end - start) / (double)(steps - 1) : 0;
    aj_tensor *t = mark < 0 ? NULL : aj_arange(AJ_F64, device, start, step, steps);
    if (t && steps > 1) {
        aj_tensor *last = aj_select(t, 0, steps - 1);
        if (!last || !aj_fill_(last, end)) t = NULL;
    }
    t = t && dtype != AJ_F64 ? aj_cast(t, dtype) : t;
    aj_grad_mode(mode);
    return finish(mark, t);
}
