/* json.c - JSON for Lua: jansson parses and checks, and the document is laid out flat, so that Lua walks an array
 * instead of calling for every value. Duplicate keys, text after the document and deep nesting are errors, with line and column.
 */
#include "io/json.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

static const int64_t EXACT = (int64_t)1 << 53;

/* Where text stops being UTF-8: no surrogates, no overlong forms, nothing past U+10FFFF. */
int64_t aj_utf8_bad(const char *text, size_t size) {
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < size;) {
        unsigned char c = s[i];
        if (c < 0x80) {
            i++;
            continue;
        }
        size_t more = c >= 0xC2 && c <= 0xDF ? 1 : (c & 0xF0) == 0xE0 ? 2 : c >= 0xF0 && c <= 0xF4 ? 3 : 0;
        if (more == 0 || size - i <= more) return (int64_t)i;
        unsigned char low = 0x80, high = 0xBF;          /* of the second byte */
        if (c == 0xE0) low = 0xA0;
        if (c == 0xED) high = 0x9F;
        if (c == 0xF0) low = 0x90;
        if (c == 0xF4) high = 0x8F;
        if (s[i + 1] < low || s[i + 1] > high) return (int64_t)i;
        for (size_t k = 2; k <= more; k++) if ((s[i + k] & 0xC0) != 0x80) return (int64_t)i;
        i += more + 1;
    }
    return -1;
}

/* Depth is checked before the parser, which recurses. Brackets within strings do not count. */
static bool check_depth(const char *text, size_t size) {
    int depth = 0, line = 1;
    size_t start = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '\n') {
            line++;
            start = i + 1;
        } else if (in_string) {
            if (c == '\\') i++;
            else if (c == '"') in_string = false;
        } else if (c == '"') in_string = true;
        else if (c == ']' || c == '}') depth--;
        else if ((c == '[' || c == '{') && ++depth > AJ_JSON_DEPTH)
            return aj_error("json: line %d, column %zu: nested deeper than %d", line, i - start + 1, AJ_JSON_DEPTH);
    }
    return true;
}

aj_json_item *aj_json_add(aj_json *j, uint32_t kind, size_t size) {
    if (j->n == j->room) {
        size_t room = j->room ? 2 * j->room : 64;
        aj_json_item *p = realloc(j->items, room * sizeof *p);
        if (!p) {
            aj_error("out of memory");
            return NULL;
        }
        j->items = p;
        j->room = room;
    }
    aj_json_item *item = &j->items[j->n++];
    *item = (aj_json_item){.kind = kind, .size = (uint32_t)size};
    return item;
}

static bool add_text(aj_json *j, const char *text, size_t size) {
    aj_json_item *item = aj_json_add(j, AJ_JSON_TEXT, size);
    if (item) item->text = text;
    return item != NULL;
}

bool aj_json_add_integer(aj_json *j, int64_t v, bool exact) {
    bool big = exact && (v > EXACT || v < -EXACT);
    aj_json_item *item = aj_json_add(j, big ? AJ_JSON_BIG : AJ_JSON_NUMBER, 0);
    if (!item) return false;
    if (big) item->integer = v;
    else item->number = (double)v;
    return true;
}

static bool flatten(aj_json *j, json_t *v, bool exact) {
    aj_json_item *item;
    const char *key;
    json_t *value;
    size_t i, n;
    switch (json_typeof(v)) {
    case JSON_NULL: return aj_json_add(j, AJ_JSON_NULL, 0) != NULL;
    case JSON_FALSE: return aj_json_add(j, AJ_JSON_FALSE, 0) != NULL;
    case JSON_TRUE: return aj_json_add(j, AJ_JSON_TRUE, 0) != NULL;
    case JSON_INTEGER: return aj_json_add_integer(j, json_integer_value(v), exact);
    case JSON_REAL:
        item = aj_json_add(j, AJ_JSON_NUMBER, 0);
        if (item) item->number = json_real_value(v);
        return item != NULL;
    case JSON_STRING: return add_text(j, json_string_value(v), json_string_length(v));
    case JSON_ARRAY:
        if (!aj_json_add(j, AJ_JSON_ARRAY, json_array_size(v))) return false;
        json_array_foreach(v, i, value) if (!flatten(j, value, exact)) return false;
        return true;
    case JSON_OBJECT:
        n = json_object_size(v);
        if (!aj_json_add(j, AJ_JSON_OBJECT, n)) return false;
        json_object_foreach(v, key, value) if (!add_text(j, key, strlen(key)) || !flatten(j, value, exact)) return false;
        return true;
    }
    return false;
}

aj_json *aj_json_parse(const char *text, size_t size, bool exact) {
    if (size > UINT32_MAX) {
        aj_error("json: %zu bytes: at most 4 GiB can be read at once", size);
        return NULL;
    }
    if (!check_depth(text, size)) return NULL;
    json_error_t error;
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_t *root = json_loadb(text, size, flags, &error);
    /* Integers past 2^63 are met in files of settings, as "very large". */
    if (!root && !exact && json_error_code(&error) == json_error_numeric_overflow)
        root = json_loadb(text, size, flags | JSON_DECODE_INT_AS_REAL, &error);
    if (!root) {
        bool mark = size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0;
        aj_error("json: line %d, column %d: %s%s", error.line < 1 ? 1 : error.line, error.column < 1 ? 1 : error.column,
                 aj_shown(error.text, strlen(error.text)).text, mark ? " (the text begins with a byte order mark: remove it)" : "");
        return NULL;
    }
    aj_json *j = calloc(1, sizeof *j);
    if (!j) {
        aj_error("json: out of memory");
        json_decref(root);
        return NULL;
    }
    j->root = root;
    if (flatten(j, root, exact)) return j;
    aj_json_drop(j);
    return NULL;
}

const aj_json_item *aj_json_items(aj_json *j) { return j->items; }

void aj_json_drop(aj_json *j) {
    if (!j) return;
    json_decref(j->root);
    free(j->items);
    free(j->pool);
    free(j);
}
