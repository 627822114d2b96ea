/* The input is the pickle: it is put into an archive with three storages, so that no checksum stands in the way. Every tensor that
 * comes out is read through its strides, and every value is walked.
 */
#include "fuzz.h"
#include "io/zip.h"

static aj_blob *archive(const uint8_t *data, size_t size) {
    static const unsigned char floats[24] = {0, 0, 128, 63}, bools[3] = {1, 0, 1}, longs[16] = {1};
    aj_writer *w = aj_writer_open(NULL);
    aj_zip_writer *z = aj_zip_create(w, "fuzz");
    const uint8_t *pickle = size ? data + 1 : data;
    if (!aj_zip_add(z, "a/data.pkl", pickle, size ? size - 1 : 0, NULL, 0, size && data[0] & 1) || !aj_zip_add(z, "a/data/0", floats, 24, NULL, 0, false) ||
        !aj_zip_add(z, "a/data/1", bools, 3, NULL, 0, false) || !aj_zip_add(z, "a/data/2", longs, 16, NULL, 0, true) ||
        !aj_zip_add(z, "a/byteorder", size && data[0] & 2 ? "big" : "little", size && data[0] & 2 ? 3 : 6, NULL, 0, false) || !aj_zip_finish(z))
        abort();
    aj_zip_writer_drop(z);
    aj_blob *b = aj_writer_blob(w);
    aj_writer_drop(w);
    return b;
}

static unsigned sum;
static void read_elements(const aj_tensor *t, int d, const char *at, int *budget) {
    size_t item = aj_dtype_size(t->dtype);
    if (d == t->ndim) {
        for (size_t k = 0; k < item; k++) sum += (unsigned char)at[k];
        --*budget;
        return;
    }
    /* The first and the last few: those in between lie between them. */
    for (int64_t i = 0; i < t->shape[d] && *budget > 0; i++) {
        if (i == 2 && t->shape[d] > 4) i = t->shape[d] - 2;
        read_elements(t, d + 1, at + i * t->stride[d] * (int64_t)item, budget);
    }
}

static void walk(aj_pt *p, uint32_t at, int depth, int *budget) {
    const aj_pt_node *x = &aj_pt_nodes(p)[at];
    if (depth > 100) abort();
    if (--*budget < 0) return;
    switch (x->kind) {
    case AJ_PT_TEXT: for (uint32_t i = 0; i < x->n; i++) sum += (unsigned char)x->text[i]; break;
    case AJ_PT_DICT: if (x->n % 2) abort(); /* fall through */
    case AJ_PT_LIST: case AJ_PT_TUPLE: case AJ_PT_SET: for (uint32_t i = 0; i < x->n; i++) walk(p, x->items[i], depth + 1, budget); break;
    case AJ_PT_TENSOR: {
        aj_fuzz_message[0] = 0;
        aj_tensor *t = aj_pt_tensor(p, at);
        int elements = 1000;
        if (!t && !aj_fuzz_message[0]) abort();
        if (!t) break;
        if (t->numel) read_elements(t, 0, t->data, &elements);
        aj_drop(t);
        break;
    }
    default: if (x->kind > AJ_PT_TENSOR) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    aj_blob *b = archive(data, size);
    aj_fuzz_message[0] = 0;
    aj_pt *p = aj_pt_read(b, 0);
    aj_blob_drop(b);
    int budget = 10000;
    if (p) walk(p, aj_pt_top(p), 0, &budget);
    else fuzz_consume(NULL);
    aj_pt_drop(p);
    static volatile unsigned sink;
    sink = sum;
    (void)sink;
    return 0;
}
