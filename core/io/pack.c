/* pack.c - elements in another order: out of strides into a dense array, and byte orders turned round. */
#include "io/blob.h"
#include <stdlib.h>

#define COPY_ROW(type) do { \
        const type *x = from; \
        type *y = to; \
        for (int64_t i = 0; i < n; i++) y[i] = x[i * step]; \
    } while (0)

/* Memory may be unaligned for its items, so each is moved as bytes of a fixed number, which compiles to one move. */
typedef struct { unsigned char v[2]; } two;
typedef struct { unsigned char v[4]; } four;
typedef struct { unsigned char v[8]; } eight;

static void copy_row(void *to, const void *from, size_t item, int64_t n, int64_t step) {
    if (step == 1) memcpy(to, from, (size_t)n * item);
    else if (item == 1) COPY_ROW(unsigned char);
    else if (item == 2) COPY_ROW(two);
    else if (item == 4) COPY_ROW(four);
    else COPY_ROW(eight);
}

void aj_pack(void *to, const void *from, size_t item, int ndim, const int64_t *shape, const int64_t *stride) {
    for (int d = 0; d < ndim; d++) if (shape[d] == 0) return;
    if (ndim == 0) {
        memcpy(to, from, item);
        return;
    }
    int64_t at[AJ_MAX_DIM] = {0}, row = shape[ndim - 1], offset = 0;
    char *y = to;
    for (;;) {
        copy_row(y, (const char *)from + offset * (int64_t)item, item, row, stride[ndim - 1]);
        y += row * (int64_t)item;
        int d = ndim - 2;
        for (; d >= 0; d--) {
            offset += stride[d];
            if (++at[d] < shape[d]) break;
            offset -= shape[d] * stride[d];
            at[d] = 0;
        }
        if (d < 0) return;
    }
}

void aj_swap_bytes(void *data, size_t item, size_t n) {
    unsigned char *p = data;
    for (size_t i = 0; i < n; i++, p += item)
        for (size_t k = 0; k < item / 2; k++) {
            unsigned char b = p[k];
            p[k] = p[item - 1 - k];
            p[item - 1 - k] = b;
        }
}

/* Rows of the first dimension are packed together, a megabyte at a time; rows larger than that are taken apart. */
enum { BLOCK = 1 << 20 };
static bool put_block(aj_writer *w, const char *from, size_t item, int ndim, const int64_t *shape, const int64_t *stride, char *buffer) {
    size_t bytes = item;
    bool dense = true;
    for (int d = ndim - 1; d >= 0; d--) {
        if (shape[d] != 1 && stride[d] != (int64_t)(bytes / item)) dense = false;
        bytes *= (size_t)shape[d];
    }
    if (dense) return aj_writer_put(w, from, bytes);
    size_t row = bytes / (size_t)shape[0];
    int64_t rows = row > BLOCK ? 1 : (int64_t)(BLOCK / row), part[AJ_MAX_DIM];
    memcpy(part, shape, (size_t)ndim * sizeof *part);
    for (int64_t i = 0; i < shape[0]; i += rows) {
        const char *at = from + i * stride[0] * (int64_t)item;
        if (row > BLOCK) {
            if (!put_block(w, at, item, ndim - 1, shape + 1, stride + 1, buffer)) return false;
            continue;
        }
        part[0] = shape[0] - i < rows ? shape[0] - i : rows;
        aj_pack(buffer, at, item, ndim, part, stride);
        if (!aj_writer_put(w, buffer, row * (size_t)part[0])) return false;
    }
    return true;
}

bool aj_writer_put_tensor(aj_writer *w, const aj_tensor *t) {
    if (t->numel == 0) return true;
    size_t item = aj_dtype_size(t->dtype);
    if (t->contiguous) return aj_writer_put(w, t->data, (size_t)t->numel * item);
    char *buffer = malloc(BLOCK);
    if (!buffer) return aj_error("file: %s: out of memory", aj_writer_name(w));
    bool good = put_block(w, t->data, item, t->ndim, t->shape, t->stride, buffer);
    free(buffer);
    return good;
}
