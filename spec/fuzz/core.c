/* core.c - the few functions of the core that the parsers use, small, so that a fuzzer links nothing else. */
#include "core.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char aj_fuzz_message[1024];
bool aj_error(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(aj_fuzz_message, sizeof aj_fuzz_message, fmt, args);
    va_end(args);
    return false;
}
bool aj_interrupted(void) { return false; }

size_t aj_dtype_size(aj_dtype dtype) {
    static const uint8_t size[AJ_DTYPES] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
    return size[dtype];
}
const char *aj_dtype_name(aj_dtype dtype) {
    static const char *const name[AJ_DTYPES] = {"bool", "u8", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64"};
    return name[dtype];
}

bool aj_dtype_is_float(aj_dtype dtype) { return dtype >= AJ_F16; }

static aj_tensor *make(aj_dtype dtype, int ndim, const int64_t *shape, void *data, void (*done)(void *), void *arg) {
    aj_tensor *t = calloc(1, sizeof *t);
    t->storage = calloc(1, sizeof *t->storage);
    t->storage->refs = 1;
    t->storage->done = done;
    t->storage->arg = arg;
    t->numel = 1;
    for (int d = 0; d < ndim; d++) {
        t->shape[d] = shape[d];
        t->numel *= shape[d];
    }
    int64_t step = 1;
    for (int d = ndim - 1; d >= 0; d--) {
        t->stride[d] = step;
        step *= shape[d];
    }
    t->data = data;
    t->dtype = (uint8_t)dtype;
    t->ndim = (uint8_t)ndim;
    t->device = AJ_CPU;
    t->refs = 1;
    t->contiguous = true;
    return t;
}

aj_tensor *aj_new(aj_dtype dtype, int ndim, const int64_t *shape, int32_t device) {
    (void)device;
    uint64_t n = aj_dtype_size(dtype);
    for (int d = 0; d < ndim; d++) n *= (uint64_t)shape[d];
    void *data = n > 256u << 20 ? NULL : malloc(n ? n : 1);
    if (!data) {
        aj_error("out of memory");
        return NULL;
    }
    return make(dtype, ndim, shape, data, free, data);
}
aj_tensor *aj_from_memory(aj_dtype dtype, aj_shape shape, void *data, void (*done)(void *), void *arg) {
    if ((uintptr_t)data % aj_dtype_size(dtype)) abort();
    return make(dtype, shape->n, shape->v, data, done, arg);
}
aj_tensor *aj_new_view(aj_tensor *x, int ndim, const int64_t *shape, const int64_t *stride, int64_t offset) {
    aj_tensor *t = calloc(1, sizeof *t);
    *t = (aj_tensor){.storage = x->storage, .data = x->data + offset * (int64_t)aj_dtype_size(x->dtype), .dtype = x->dtype, .ndim = (uint8_t)ndim,
                     .device = AJ_CPU, .refs = 1, .numel = 1};
    t->storage->refs++;
    for (int d = 0; d < ndim; d++) {
        t->shape[d] = shape[d];
        t->stride[d] = stride[d];
        t->numel *= shape[d];
    }
    return t;
}
void aj_storage_drop(aj_storage *s) {
    if (--s->refs > 0) return;
    s->done(s->arg);
    free(s);
}
void aj_drop(aj_tensor *t) {
    aj_storage_drop(t->storage);
    free(t);
}
aj_tensor *aj_give(aj_tensor *t) { return t; }
aj_tensor *aj_need(aj_tensor *t, const char *who) {
    if (!t) aj_error("%s: nil", who);
    return t;
}
