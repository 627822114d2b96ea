/* The first byte chooses channels, layout and how small it may be decoded; what is accepted is resized, written and read again. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    static const int channels[4] = {0, 1, 3, 4};
    bool chw = data[0] & 4;
    int64_t least = data[0] >> 4;
    aj_blob *b = fuzz_blob(data + 1, size - 1);
    aj_tensor *t = aj_jpeg_read(b, channels[data[0] & 3], chw, least, least);
    aj_blob_drop(b);
    if (t && t->numel < 1 << 16) {
        aj_tensor *u = aj_picture_resize(t, 1 + least, 17 - least, (data[0] >> 3) % 3, chw);
        if (!u) abort();
        fuzz_consume(u);
        aj_writer *w = aj_writer_open(NULL);
        if (aj_jpeg_write(w, t, chw, 1 + least * 6)) {
            aj_blob *c = aj_writer_blob(w);
            u = aj_jpeg_read(c, (int32_t)t->shape[chw ? 0 : 2], chw, 0, 0);
            if (!u || memcmp(u->shape, t->shape, sizeof u->shape)) abort();
            aj_drop(u);
            aj_blob_drop(c);
        } else if (t->shape[chw ? 0 : 2] != 4) abort();
        aj_writer_drop(w);
    }
    fuzz_consume(t);
    return 0;
}
