/* The first byte chooses channels and layout; what is accepted is written and read again, pixel for pixel. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    static const int channels[4] = {0, 1, 3, 4};
    bool chw = data[0] & 4;
    aj_blob *b = fuzz_blob(data + 1, size - 1);
    aj_tensor *t = aj_png_read(b, channels[data[0] & 3], chw, 0xFFFFFF);
    aj_blob_drop(b);
    if (t && t->numel < 1 << 16) {
        aj_writer *w = aj_writer_open(NULL);
        if (!aj_png_write(w, t, chw)) abort();
        aj_blob *c = aj_writer_blob(w);
        aj_tensor *u = aj_png_read(c, (int32_t)t->shape[chw ? 0 : 2], chw, 0);
        if (!u || memcmp(u->shape, t->shape, sizeof u->shape) || memcmp(u->data, t->data, (size_t)u->numel)) abort();
        aj_drop(u);
        aj_blob_drop(c);
        aj_writer_drop(w);
    }
    fuzz_consume(t);
    return 0;
}
