/* safetensors_write.c - writes safetensors, byte for byte as the reference does: large items first, so that each
 * is aligned, then by name; the header is padded with spaces to a multiple of 8.
 */
#include "io/blob.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_HEADER = 100000000 };

static const char *const names_of[AJ_DTYPES] = {
    [AJ_BOOL] = "BOOL", [AJ_U8] = "U8", [AJ_I8] = "I8", [AJ_I16] = "I16", [AJ_I32] = "I32", [AJ_I64] = "I64",
    [AJ_F16] = "F16", [AJ_BF16] = "BF16", [AJ_F32] = "F32", [AJ_F64] = "F64",
};
/* The reference's order; it never puts a smaller item before a larger one. */
static const uint8_t rank[AJ_DTYPES] = {
    [AJ_BOOL] = 0, [AJ_U8] = 1, [AJ_I8] = 2, [AJ_I16] = 3, [AJ_F16] = 4, [AJ_BF16] = 5, [AJ_I32] = 6, [AJ_F32] = 7, [AJ_F64] = 8, [AJ_I64] = 9,
};

typedef struct { const char *name; aj_tensor *t; } item;

static int by_rank_and_name(const void *a, const void *b) {
    const item *x = a, *y = b;
    int r = rank[y->t->dtype] - rank[x->t->dtype];
    return r ? r : strcmp(x->name, y->name);
}
static int by_name(const void *a, const void *b) { return strcmp(((const item *)a)->name, ((const item *)b)->name); }

/* -- The header, in a writer of its own ----------------------------------------------------------------------- */

static bool put(aj_writer *w, const char *text) { return aj_writer_put(w, text, strlen(text)); }

static bool put_number(aj_writer *w, uint64_t n) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, n);
    return put(w, text);
}

static bool put_text(aj_writer *w, const char *text) {
    if (!put(w, "\"")) return false;
    for (const char *p = text; *p; p++) {
        char code[8] = {*p};
        switch (*p) {
        case '"': case '\\': code[0] = '\\'; code[1] = *p; break;
        case '\b': strcpy(code, "\\b"); break;
        case '\f': strcpy(code, "\\f"); break;
        case '\n': strcpy(code, "\\n"); break;
        case '\r': strcpy(code, "\\r"); break;
        case '\t': strcpy(code, "\\t"); break;
        default: if ((unsigned char)*p < 32) snprintf(code, sizeof code, "\\u%04x", (unsigned)*p);
        }
        if (!put(w, code)) return false;
    }
    return put(w, "\"");
}

static bool put_metadata(aj_writer *w, int64_t n, const char *const *keys, const char *const *values) {
    if (!put(w, "\"__metadata__\":{")) return false;
    for (int64_t i = 0; i < n; i++)
        if ((i && !put(w, ",")) || !put_text(w, keys[i]) || !put(w, ":") || !put_text(w, values[i])) return false;
    return put(w, "}");
}

static bool put_entry(aj_writer *w, const item *e, uint64_t *at) {
    const aj_tensor *t = e->t;
    if (!put_text(w, e->name) || !put(w, ":{\"dtype\":\"") || !put(w, names_of[t->dtype]) || !put(w, "\",\"shape\":[")) return false;
    for (int d = 0; d < t->ndim; d++) if ((d && !put(w, ",")) || !put_number(w, (uint64_t)t->shape[d])) return false;
    uint64_t end = *at + (uint64_t)t->numel * aj_dtype_size(t->dtype);
    if (!put(w, "],\"data_offsets\":[") || !put_number(w, *at) || !put(w, ",") || !put_number(w, end)) return false;
    *at = end;
    return put(w, "]}");
}

static aj_blob *header_of(const item *items, int64_t n, int64_t n_metadata, const char *const *keys, const char *const *values) {
    aj_writer *h = aj_writer_open(NULL);
    if (!h) return NULL;
    uint64_t at = 0;
    bool good = put(h, "{") && (!n_metadata || put_metadata(h, n_metadata, keys, values));
    for (int64_t i = 0; good && i < n; i++) good = (!(i || n_metadata) || put(h, ",")) && put_entry(h, &items[i], &at);
    aj_blob *b = good && put(h, "}       ") ? aj_writer_blob(h) : NULL;
    aj_writer_drop(h);
    if (!b) return NULL;
    b->size = b->size / 8 * 8;     /* of the spaces, those that fill the last eight bytes */
    return b;
}

/* -- All of it ------------------------------------------------------------------------------------------------ */

static bool check_text(const char *what, const char *text) {
    if (aj_utf8_bad(text, strlen(text)) < 0) return true;
    return aj_error("safetensors: %s \"%s\" is not UTF-8", what, aj_shown(text, strlen(text)).text);
}

static bool check(item *items, int64_t n, int64_t n_metadata, const char *const *keys, const char *const *values) {
    for (int64_t i = 0; i < n; i++) {
        const char *name = items[i].name;
        if (!check_text("the name", name)) return false;
        if (strcmp(name, "__metadata__") == 0) return aj_error("safetensors: a tensor cannot be named __metadata__");
        aj_tensor *t = items[i].t = aj_need(items[i].t, "save");
        if (!t) return false;
        if (t->device != AJ_CPU) return aj_error("safetensors: tensor \"%s\" is on cuda:%d: copy it with :cpu() first", name, t->device);
    }
    qsort(items, (size_t)n, sizeof *items, by_name);
    for (int64_t i = 1; i < n; i++)
        if (strcmp(items[i - 1].name, items[i].name) == 0) return aj_error("safetensors: two tensors are named \"%s\"", items[i].name);
    for (int64_t i = 0; i < n_metadata; i++)
        if (!check_text("the metadata key", keys[i]) || !check_text("the metadata value", values[i])) return false;
    return true;
}

static bool write_all(aj_writer *w, const item *items, int64_t n, const aj_blob *header) {
    if (header->size > MAX_HEADER) return aj_error("safetensors: the header would have %zu bytes: at most %d are allowed", header->size, MAX_HEADER);
    uint64_t length = header->size;
    if (!aj_writer_put(w, &length, 8) || !aj_writer_put(w, header->data, header->size)) return false;
    for (int64_t i = 0; i < n; i++) if (!aj_writer_put_tensor(w, items[i].t)) return false;
    return true;
}

bool aj_safetensors_write(aj_writer *w, int64_t n, const char *const *names, aj_tensor *const *tensors,
                          int64_t n_metadata, const char *const *keys, const char *const *values) {
    item *items = calloc((size_t)n + 1, sizeof *items);
    if (!items) return aj_error("safetensors: out of memory");
    for (int64_t i = 0; i < n; i++) items[i] = (item){names[i], tensors[i]};
    bool good = check(items, n, n_metadata, keys, values);
    if (good) {
        qsort(items, (size_t)n, sizeof *items, by_rank_and_name);
        aj_blob *header = header_of(items, n, n_metadata, keys, values);
        good = header && write_all(w, items, n, header);
        aj_blob_drop(header);
    }
    free(items);
    return good;
}
