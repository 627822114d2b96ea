/* What is accepted is written again; reading that must give the same elements. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    aj_blob *b = fuzz_blob(data, size);
    aj_tensor *t = aj_npy_read(b);
    aj_blob_drop(b);
    if (t) {
        aj_writer *w = aj_writer_open(NULL);
        if (!aj_npy_write(w, t)) abort();
        aj_blob *c = aj_writer_blob(w);
        aj_tensor *u = aj_npy_read(c);
        if (!u || u->dtype != t->dtype || u->ndim != t->ndim || memcmp(u->shape, t->shape, sizeof u->shape)) abort();
        if (u->numel && memcmp(u->data, t->data, (size_t)u->numel * aj_dtype_size(u->dtype))) abort();
        aj_drop(u);
        aj_blob_drop(c);
        aj_writer_drop(w);
    }
    fuzz_consume(t);
    return 0;
}
