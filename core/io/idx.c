/* idx.c - reads idx, the format of MNIST and its kin: 0, 0, type, rank, sizes and items, all of them big-endian.
 * Gzipped files are inflated straight into the tensor. The data must be as long as the header says, to the byte.
 */
#include "io/gzip.h"
#include <inttypes.h>
#include <stdio.h>

typedef struct { aj_dtype dtype; int ndim; int64_t shape[AJ_MAX_DIM]; uint64_t bytes; } layout;

static bool bad(const aj_blob *b, const char *what) { return aj_error("idx: %s: %s", b->name, what); }

static int dtype_of(unsigned char type) {
    switch (type) {
    case 0x08: return AJ_U8;
    case 0x09: return AJ_I8;
    case 0x0B: return AJ_I16;
    case 0x0C: return AJ_I32;
    case 0x0D: return AJ_F32;
    case 0x0E: return AJ_F64;
    }
    return -1;
}

static bool cut(const aj_blob *b, const aj_unzip *u) {
    if (u->trouble) return aj_error("idx: %s: the header cannot be read: %s", b->name, u->trouble);
    return bad(b, "the header is cut short");
}

static bool read_header(const aj_blob *b, aj_unzip *u, layout *l) {
    unsigned char magic[4], size[4];
    if (aj_unzip_get(u, magic, 4) < 4) return cut(b, u);
    int dtype = dtype_of(magic[2]);
    if (magic[0] || magic[1] || dtype < 0)
        return aj_error("idx: %s: begins with %02x %02x %02x %02x, not with 00 00, a type and a rank: is this an idx file?", b->name,
                        magic[0], magic[1], magic[2], magic[3]);
    if (magic[3] > AJ_MAX_DIM) return aj_error("idx: %s: %d dimensions: at most %d are supported", b->name, magic[3], AJ_MAX_DIM);
    l->dtype = (aj_dtype)dtype;
    l->ndim = magic[3];
    for (int d = 0; d < l->ndim; d++) {
        if (aj_unzip_get(u, size, 4) < 4) return cut(b, u);
        l->shape[d] = (int64_t)((uint32_t)size[0] << 24 | (uint32_t)size[1] << 16 | (uint32_t)size[2] << 8 | size[3]);
    }
    if (!dense_bytes(l->ndim, l->shape, aj_dtype_size(l->dtype), &l->bytes)) return bad(b, "the sizes multiply to more than 2^63 bytes (overflow)");
    return true;
}

/* "(60000, 28, 28) u8" */
static void describe(const layout *l, char *text, size_t size) {
    size_t n = (size_t)snprintf(text, size, "(");
    for (int d = 0; d < l->ndim && n < size; d++) n += (size_t)snprintf(text + n, size - n, d ? ", %" PRId64 : "%" PRId64, l->shape[d]);
    if (n < size) snprintf(text + n, size - n, ") %s", aj_dtype_name(l->dtype));
}

static bool check_short(const aj_blob *b, const aj_unzip *u, const layout *l, uint64_t got) {
    if (got >= l->bytes) return true;
    char text[240];
    describe(l, text, sizeof text);
    return aj_error("idx: %s: %" PRIu64 " bytes short: the header says %s%s%s", b->name, l->bytes - got, text, u->trouble ? ": " : "",
                    u->trouble ? u->trouble : "");
}

static bool fill(const aj_blob *b, aj_unzip *u, const layout *l, unsigned char *data) {
    enum { STEP = 16 << 20 };
    uint64_t got = 0;
    while (got < l->bytes) {
        size_t want = l->bytes - got < STEP ? l->bytes - got : STEP, n = aj_unzip_get(u, data + got, want);
        got += n;
        if (n < want) break;
        if (aj_interrupted()) return false;
    }
    if (!check_short(b, u, l, got)) return false;
    /* The checksum at the end of gzip is looked at only when one more byte is asked for. */
    unsigned char more[4096];
    size_t n, extra = 0;
    while ((n = aj_unzip_get(u, more, sizeof more)) > 0 && extra < (1 << 20)) extra += n;
    if (u->trouble) return bad(b, u->trouble);
    if (!extra) return true;
    char text[240];
    describe(l, text, sizeof text);
    return aj_error("idx: %s: %zu bytes too many%s: the header says %s", b->name, extra, n ? ", or more" : "", text);
}

aj_tensor *aj_idx_read(aj_blob *b) {
    aj_unzip u;
    if (!aj_unzip_start(&u, b)) return NULL;
    layout l = {0};
    aj_tensor *t = NULL;
    if (read_header(b, &u, &l)) {
        /* Before anything is allocated: can these bytes hold that much? */
        uint64_t most = u.zipped ? aj_inflated_limit(cursor_left(&u.in)) + 32768 : cursor_left(&u.in);
        if (check_short(b, &u, &l, l.bytes <= most ? l.bytes : most)) t = aj_new(l.dtype, l.ndim, l.shape, AJ_CPU);
    }
    bool good = t && fill(b, &u, &l, (unsigned char *)t->data);
    aj_unzip_end(&u);
    if (!good) {
        if (t) aj_drop(t);
        return NULL;
    }
    size_t item = aj_dtype_size(l.dtype);
    if (item > 1) aj_swap_bytes(t->data, item, (size_t)t->numel);
    return aj_give(t);
}
