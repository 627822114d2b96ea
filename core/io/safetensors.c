/* safetensors.c - reads safetensors: a length, a JSON header, and the bytes of tensors without gaps.
 *
 * All that the header says is checked before any tensor is made: it is valid JSON without duplicate keys, every
 * tensor's place agrees with its shape and dtype, and the places cover the bytes without a hole or an overlap.
 */
#include "io/blob.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

enum { MAX_HEADER = 100000000 };

/* Every dtype of the format, so that one that we lack is named, and its bytes accounted for. */
static const struct { const char *name; uint8_t bits; int8_t dtype; } formats[] = {
    {"BOOL", 8, AJ_BOOL}, {"U8", 8, AJ_U8}, {"I8", 8, AJ_I8}, {"I16", 16, AJ_I16}, {"I32", 32, AJ_I32}, {"I64", 64, AJ_I64},
    {"F16", 16, AJ_F16}, {"BF16", 16, AJ_BF16}, {"F32", 32, AJ_F32}, {"F64", 64, AJ_F64},
    {"U16", 16, -1}, {"U32", 32, -1}, {"U64", 64, -1}, {"C64", 64, -1}, {"F8_E4M3", 8, -1}, {"F8_E5M2", 8, -1}, {"F8_E8M0", 8, -1},
    {"F8_E4M3FNUZ", 8, -1}, {"F8_E5M2FNUZ", 8, -1}, {"F6_E2M3", 6, -1}, {"F6_E3M2", 6, -1}, {"F4", 4, -1},
};

typedef struct {
    const char *name;
    int format, ndim;           /* ndim may be larger than AJ_MAX_DIM: then shape holds only the first */
    int64_t shape[AJ_MAX_DIM];
    uint64_t begin, end;
} entry;

struct aj_safetensors {
    aj_blob *blob;
    const unsigned char *data;
    uint64_t size;
    json_t *root;               /* owns names and metadata */
    int64_t n, n_metadata;
    entry *entries;             /* in the order of their bytes */
    const char **metadata;      /* key, value, key, value */
};

static bool bad(const aj_safetensors *s, const char *what) { return aj_error("safetensors: %s: %s", s->blob->name, what); }
static bool bad_tensor(const aj_safetensors *s, const entry *e, const char *what) {
    return aj_error("safetensors: %s: tensor \"%s\": %s", s->blob->name, aj_shown(e->name, strlen(e->name)).text, what);
}

static bool whole(const json_t *v, uint64_t *n) {
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *n = (uint64_t)json_integer_value(v);
    return true;
}

static bool read_entry(const aj_safetensors *s, entry *e, const json_t *v) {
    if (!json_is_object(v)) return bad_tensor(s, e, "its entry is not an object");
    const char *dtype = json_string_value(json_object_get(v, "dtype"));
    if (!dtype) return bad_tensor(s, e, "\"dtype\" is missing or not a string");
    int known = (int)(sizeof formats / sizeof *formats);
    for (e->format = 0; e->format < known; e->format++) if (strcmp(formats[e->format].name, dtype) == 0) break;
    if (e->format == known)
        return aj_error("safetensors: %s: tensor \"%s\": dtype %s is unknown", s->blob->name, aj_shown(e->name, strlen(e->name)).text,
                        aj_shown(dtype, strlen(dtype)).text);
    const json_t *shape = json_object_get(v, "shape"), *place = json_object_get(v, "data_offsets");
    if (!json_is_array(shape)) return bad_tensor(s, e, "\"shape\" is missing or not an array");
    if (!json_is_array(place) || json_array_size(place) != 2 || !whole(json_array_get(place, 0), &e->begin) ||
        !whole(json_array_get(place, 1), &e->end))
        return bad_tensor(s, e, "\"data_offsets\" is missing or not two whole numbers");
    if (e->end < e->begin) return bad_tensor(s, e, "\"data_offsets\" end before they begin");
    if (e->end > s->size)
        return aj_error("safetensors: %s: tensor \"%s\": its bytes end at %" PRIu64 ", but there are %" PRIu64 ": the file is cut short",
                        s->blob->name, aj_shown(e->name, strlen(e->name)).text, e->end, s->size);
    e->ndim = (int)(json_array_size(shape) > INT32_MAX ? INT32_MAX : json_array_size(shape));
    uint64_t bits = formats[e->format].bits;
    bool empty = false;
    for (int d = 0; d < e->ndim; d++) {
        uint64_t n;
        if (!whole(json_array_get(shape, (size_t)d), &n)) return bad_tensor(s, e, "\"shape\" holds what is not a whole number");
        if (d < AJ_MAX_DIM) e->shape[d] = (int64_t)n;
        if (n == 0) empty = true;
        else if (!times(bits, n, &bits)) return bad_tensor(s, e, "its sizes multiply to more than 2^64 bits (overflow)");
    }
    if (empty) bits = 0;
    if (bits % 8) return bad_tensor(s, e, "its elements do not fill whole bytes (alignment)");
    if (e->end - e->begin != bits / 8)
        return aj_error("safetensors: %s: tensor \"%s\": shape and dtype %s ask for %" PRIu64 " bytes, data_offsets give %" PRIu64,
                        s->blob->name, aj_shown(e->name, strlen(e->name)).text, dtype, bits / 8, e->end - e->begin);
    return true;
}

static bool read_metadata(aj_safetensors *s, json_t *v) {
    if (!json_is_object(v)) return bad(s, "__metadata__ is not an object");
    s->metadata = calloc(json_object_size(v) + 1, 2 * sizeof *s->metadata);
    if (!s->metadata) return bad(s, "out of memory");
    const char *key;
    json_t *value;
    json_object_foreach(v, key, value) {
        if (!json_is_string(value))
            return aj_error("safetensors: %s: __metadata__: the value of \"%s\" is not a string", s->blob->name, aj_shown(key, strlen(key)).text);
        s->metadata[2 * s->n_metadata] = key;
        s->metadata[2 * s->n_metadata++ + 1] = json_string_value(value);
    }
    return true;
}

static int by_place(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool check_places(const aj_safetensors *s) {
    uint64_t at = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const entry *e = &s->entries[i];
        if (e->begin != at)
            return aj_error("safetensors: %s: tensor \"%s\": its bytes begin at %" PRIu64 ", those before it end at %" PRIu64 ": %s",
                            s->blob->name, aj_shown(e->name, strlen(e->name)).text, e->begin, at,
                            e->begin < at ? "an overlap" : "a hole");
        at = e->end;
    }
    if (at != s->size)
        return aj_error("safetensors: %s: %" PRIu64 " bytes after the last tensor belong to none", s->blob->name, s->size - at);
    return true;
}

static bool read_header(aj_safetensors *s) {
    cursor c = cursor_over(s->blob->data, s->blob->size);
    uint64_t n;
    if (!cursor_u64(&c, &n))
        return aj_error("safetensors: %s: header too small: %zu bytes, and its length alone takes 8", s->blob->name, s->blob->size);
    if (n > MAX_HEADER)
        return aj_error("safetensors: %s: header too large: %" PRIu64 " bytes, at most %d are allowed: is this a safetensors file?",
                        s->blob->name, n, MAX_HEADER);
    const unsigned char *text = cursor_take(&c, n);
    if (!text)
        return aj_error("safetensors: %s: the header has %" PRIu64 " bytes, the file only %zu more: it is cut short", s->blob->name, n, cursor_left(&c));
    if (n < 2 || text[0] != '{') return bad(s, "the header does not begin with {");
    s->data = c.at;
    s->size = cursor_left(&c);
    int64_t wrong = aj_utf8_bad((const char *)text, n);
    if (wrong >= 0) return aj_error("safetensors: %s: the header is not UTF-8 at byte %" PRId64, s->blob->name, wrong);
    json_error_t error;
    s->root = json_loadb((const char *)text, n, JSON_REJECT_DUPLICATES, &error);
    if (!s->root) return aj_error("safetensors: %s: the header is not good JSON: %s (byte %d)", s->blob->name, error.text, error.position);
    s->entries = calloc(json_object_size(s->root) + 1, sizeof *s->entries);
    if (!s->entries) return bad(s, "out of memory");
    const char *key;
    json_t *value;
    json_object_foreach(s->root, key, value) {
        if (strcmp(key, "__metadata__") == 0) {
            if (!read_metadata(s, value)) return false;
            continue;
        }
        s->entries[s->n].name = key;
        if (!read_entry(s, &s->entries[s->n++], value)) return false;
    }
    qsort(s->entries, (size_t)s->n, sizeof *s->entries, by_place);
    return check_places(s);
}

aj_safetensors *aj_safetensors_read(aj_blob *b) {
    aj_safetensors *s = calloc(1, sizeof *s);
    if (!s) {
        aj_error("safetensors: %s: out of memory", b->name);
        return NULL;
    }
    s->blob = aj_blob_hold(b);
    if (read_header(s)) return s;
    aj_safetensors_drop(s);
    return NULL;
}

void aj_safetensors_drop(aj_safetensors *s) {
    if (!s) return;
    json_decref(s->root);
    free(s->entries);
    free(s->metadata);
    aj_blob_drop(s->blob);
    free(s);
}

int64_t aj_safetensors_count(aj_safetensors *s) { return s->n; }
const char *aj_safetensors_name(aj_safetensors *s, int64_t i) { return s->entries[i].name; }
int64_t aj_safetensors_metadata_count(aj_safetensors *s) { return s->n_metadata; }
const char *aj_safetensors_metadata(aj_safetensors *s, int64_t i, bool value) { return s->metadata[2 * i + value]; }

aj_tensor *aj_safetensors_tensor(aj_safetensors *s, int64_t i) {
    const entry *e = &s->entries[i];
    if (formats[e->format].dtype < 0)
        aj_error("safetensors: %s: tensor \"%s\" has dtype %s, which aijit does not have", s->blob->name,
                 aj_shown(e->name, strlen(e->name)).text, formats[e->format].name);
    else if (e->ndim > AJ_MAX_DIM)
        aj_error("safetensors: %s: tensor \"%s\" has %d dimensions: at most %d are supported", s->blob->name,
                 aj_shown(e->name, strlen(e->name)).text, e->ndim, AJ_MAX_DIM);
    else return aj_blob_tensor(s->blob, "safetensors", (aj_dtype)formats[e->format].dtype, e->ndim, e->shape, s->data + e->begin);
    return NULL;
}
