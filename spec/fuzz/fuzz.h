/* fuzz.h - what the targets share: a reader is given the bytes as a blob; what it makes is read to its last byte. */
#ifndef AJ_FUZZ_H
#define AJ_FUZZ_H
#include "io/blob.h"
#include <stdio.h>
#include <stdlib.h>

extern char aj_fuzz_message[1024];
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Sums every byte, so that the sanitizer sees each one; then frees t. A refusal must say why. */
static inline void fuzz_consume(aj_tensor *t) {
    if (!t) {
        if (!aj_fuzz_message[0]) abort();
        return;
    }
    static volatile unsigned sink;
    unsigned sum = 0;
    size_t n = (size_t)t->numel * aj_dtype_size(t->dtype);
    for (size_t i = 0; i < n; i++) sum += (unsigned char)t->data[i];
    sink = sum;
    (void)sink;
    aj_drop(t);
}
static inline aj_blob *fuzz_blob(const uint8_t *data, size_t size) {
    aj_fuzz_message[0] = 0;
    return aj_blob_of(data, size, "fuzz");
}
#endif
