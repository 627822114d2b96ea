/* npy.c - reads and writes NumPy's .npy, versions 1.0, 2.0 and 3.0.
 *
 * The header is a Python dict of three keys. It is read by the grammar of just that, never evaluated; arrays of
 * Python objects, which are pickles, and of records are refused.
 */
#include "io/blob.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_HEADER = 65536 };

typedef struct {
    int dtype;
    bool swapped, fortran;
    int ndim;
    int64_t shape[AJ_MAX_DIM];
} layout;

static const struct { char kind, size; int8_t dtype; } kinds[] = {
    {'b', 1, AJ_BOOL}, {'u', 1, AJ_U8}, {'i', 1, AJ_I8}, {'i', 2, AJ_I16}, {'i', 4, AJ_I32}, {'i', 8, AJ_I64},
    {'f', 2, AJ_F16}, {'f', 4, AJ_F32}, {'f', 8, AJ_F64},
};

static bool bad(const aj_blob *b, const char *what) { return aj_error("npy: %s: %s", b->name, what); }

static void skip_space(cursor *c) {
    while (cursor_left(c) && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')) c->at++;
}
static bool symbol(cursor *c, const char *text) {
    skip_space(c);
    return cursor_skip(c, text);
}

/* 'text' or "text", without escapes. */
static bool quoted(cursor *c, const char **text, size_t *size) {
    skip_space(c);
    if (!cursor_left(c) || (*c->at != '\'' && *c->at != '"')) return false;
    unsigned char quote = *c->at++;
    *text = (const char *)c->at;
    while (cursor_left(c) && *c->at != quote && *c->at != '\\' && *c->at != '\n') c->at++;
    *size = (size_t)((const char *)c->at - *text);
    return cursor_left(c) && *c->at++ == quote;
}

static bool read_descr(const aj_blob *b, cursor *c, layout *l) {
    skip_space(c);
    if (cursor_left(c) && *c->at == '[') return bad(b, "'descr': arrays of records are not supported: save each field by itself");
    const char *s;
    size_t n;
    if (!quoted(c, &s, &n)) return bad(b, "'descr' is not a string");
    const char *all = s;
    size_t all_n = n;
    char order = '|';
    if (n && strchr("<>|=", *s)) {
        order = *s;
        s++;
        n--;
    }
    if (n && *s == 'O') return bad(b, "holds Python objects, whose reading would run code: save numbers instead");
    if (n == 2)
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (kinds[i].kind == s[0] && kinds[i].size == s[1] - '0') {
                if (order == '|' && kinds[i].size > 1) break;
                l->dtype = kinds[i].dtype;
                l->swapped = order == '>' && kinds[i].size > 1;
                return true;
            }
    return aj_error("npy: %s: dtype '%s' is not supported: bool, u1, i1, i2, i4, i8, f2, f4, f8 are", b->name, aj_shown(all, all_n).text);
}

static bool read_shape(const aj_blob *b, cursor *c, layout *l) {
    if (!symbol(c, "(")) return bad(b, "'shape' is not a tuple");
    bool comma = true;
    for (l->ndim = 0; !symbol(c, ")"); l->ndim++) {
        if (!comma) return bad(b, "'shape': a comma is missing");
        skip_space(c);
        uint64_t v = 0;
        const unsigned char *start = c->at;
        for (; cursor_left(c) && *c->at >= '0' && *c->at <= '9'; c->at++)
            if (!times(v, 10, &v) || !plus(v, (uint64_t)(*c->at - '0'), &v) || v > INT64_MAX) return bad(b, "'shape': a size is too large (overflow)");
        if (c->at == start) return bad(b, "'shape' holds what is not a whole number");
        cursor_skip(c, "L");     /* Python 2 wrote long integers so */
        if (l->ndim == AJ_MAX_DIM) return aj_error("npy: %s: more than %d dimensions", b->name, AJ_MAX_DIM);
        l->shape[l->ndim] = (int64_t)v;
        comma = symbol(c, ",");
    }
    /* (3) is a number in Python; only (3,) is a tuple. */
    if (l->ndim == 1 && !comma) return bad(b, "'shape' is not a tuple");
    return true;
}

static bool read_dict(const aj_blob *b, cursor *c, layout *l) {
    unsigned seen = 0;
    if (!symbol(c, "{")) return bad(b, "the header is not a dict");
    bool comma = true;
    while (!symbol(c, "}")) {
        const char *key;
        size_t n;
        if (!comma || !quoted(c, &key, &n) || !symbol(c, ":")) return bad(b, "the header is malformed");
        unsigned bit = n == 5 && !memcmp(key, "descr", n) ? 1 : n == 13 && !memcmp(key, "fortran_order", n) ? 2 : n == 5 && !memcmp(key, "shape", n) ? 4 : 0;
        if (!bit) return aj_error("npy: %s: the header has a foreign key '%s'", b->name, aj_shown(key, n).text);
        if (seen & bit) return aj_error("npy: %s: the header has '%s' twice", b->name, aj_shown(key, n).text);
        seen |= bit;
        if (bit == 1 && !read_descr(b, c, l)) return false;
        if (bit == 4 && !read_shape(b, c, l)) return false;
        if (bit == 2) {
            l->fortran = symbol(c, "True");
            if (!l->fortran && !symbol(c, "False")) return bad(b, "'fortran_order' is not True or False");
        }
        comma = symbol(c, ",");
    }
    if (seen != 7) return aj_error("npy: %s: the header lacks '%s'", b->name, !(seen & 1) ? "descr" : !(seen & 2) ? "fortran_order" : "shape");
    skip_space(c);
    return cursor_left(c) == 0 || bad(b, "text follows the header's dict");
}

static bool read_header(const aj_blob *b, cursor *c, layout *l) {
    uint8_t major, minor;
    if (!cursor_skip(c, "\x93NUMPY")) return bad(b, "does not begin as an .npy file does");
    if (!cursor_u8(c, &major) || !cursor_u8(c, &minor)) return bad(b, "the header is cut short");
    if (major < 1 || major > 3 || minor != 0) return aj_error("npy: %s: version %d.%d is unknown: 1.0, 2.0 and 3.0 are known", b->name, major, minor);
    uint32_t size;
    uint16_t half;
    if (major > 1 ? !cursor_u32(c, &size) : !cursor_u16(c, &half)) return bad(b, "the header is cut short");
    if (major == 1) size = half;
    if (size > MAX_HEADER) return aj_error("npy: %s: header too large: %" PRIu32 " bytes", b->name, size);
    const unsigned char *text = cursor_take(c, size);
    if (!text) return bad(b, "the header is cut short");
    cursor dict = cursor_over(text, size);
    return read_dict(b, &dict, l);
}

aj_tensor *aj_npy_read(aj_blob *b) {
    cursor c = cursor_over(b->data, b->size);
    layout l = {0};
    if (!read_header(b, &c, &l)) return NULL;
    aj_dtype dtype = (aj_dtype)l.dtype;
    size_t item = aj_dtype_size(dtype);
    uint64_t bytes;
    if (!dense_bytes(l.ndim, l.shape, item, &bytes)) {
        bad(b, "the sizes multiply to more than 2^63 bytes (overflow)");
        return NULL;
    }
    if (bytes != cursor_left(&c)) {
        uint64_t left = cursor_left(&c);
        aj_error("npy: %s: %" PRIu64 " bytes %s: the header asks for %" PRIu64, b->name, bytes > left ? bytes - left : left - bytes,
                 bytes > left ? "short" : "too many", bytes);
        return NULL;
    }
    if (!l.swapped && !(l.fortran && l.ndim > 1)) return aj_blob_tensor(b, "npy", dtype, l.ndim, l.shape, c.at);
    if (dtype == AJ_BOOL && !aj_check_bools("npy", b->name, c.at, bytes)) return NULL;
    aj_tensor *t = aj_new(dtype, l.ndim, l.shape, AJ_CPU);
    if (!t) return NULL;
    int64_t stride[AJ_MAX_DIM], step = 1;
    for (int d = 0; d < l.ndim; d++) {
        stride[d] = step;
        step *= l.shape[d];
    }
    if (l.fortran) aj_pack(t->data, c.at, item, l.ndim, l.shape, stride);
    else if (bytes) memcpy(t->data, c.at, bytes);
    if (l.swapped) aj_swap_bytes(t->data, item, bytes / item);
    return aj_give(t);
}

size_t aj_npy_header(const aj_tensor *t, char *text) {
    size_t kind = 0, known = sizeof kinds / sizeof *kinds;
    while (kind < known && kinds[kind].dtype != t->dtype) kind++;
    if (kind == known) {
        aj_error("npy: there is no NumPy dtype for %s: convert to f32, or save as .safetensors", aj_dtype_name(t->dtype));
        return 0;
    }
    /* The magic, version and length take 10 bytes, and all of it a multiple of 64, so that the data are aligned. */
    char *dict = text + 10, *end = text + AJ_NPY_HEADER;
    int n = snprintf(dict, (size_t)(end - dict), "{'descr': '%c%c%d', 'fortran_order': False, 'shape': (", kinds[kind].size > 1 ? '<' : '|',
                     kinds[kind].kind, kinds[kind].size);
    for (int d = 0; d < t->ndim; d++) n += snprintf(dict + n, (size_t)(end - dict - n), d ? ", %" PRId64 : "%" PRId64, t->shape[d]);
    n += snprintf(dict + n, (size_t)(end - dict - n), t->ndim == 1 ? ",), }" : "), }");
    int size = (10 + n + 1 + 63) / 64 * 64 - 10;
    memset(dict + n, ' ', (size_t)(size - n));
    dict[size - 1] = '\n';
    memcpy(text, "\x93NUMPY\1\0", 8);
    text[8] = (char)(size & 255);
    text[9] = (char)(size >> 8);
    return 10 + (size_t)size;
}

bool aj_npy_write(aj_writer *w, aj_tensor *h) {
    aj_tensor *t = aj_need(h, "save");
    if (!t) return false;
    if (t->device != AJ_CPU) return aj_error("npy: the tensor is on cuda:%d: copy it with :cpu() first", t->device);
    char text[AJ_NPY_HEADER];
    size_t size = aj_npy_header(t, text);
    return size && aj_writer_put(w, text, size) && aj_writer_put_tensor(w, t);
}
