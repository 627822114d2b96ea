/* json.h - a document being laid out flat: what the readers of JSON and YAML share. */
#ifndef AJ_JSON_H
#define AJ_JSON_H
#include "io/blob.h"

enum { AJ_JSON_DEPTH = 512 };

struct aj_json {
    void *root;                 /* jansson's document, which owns the texts; or NULL */
    char *pool;                 /* or this does; or NULL */
    aj_json_item *items;
    size_t n, room;
};

/* An item at the end; its number, text or size is the caller's to fill in. NULL after an error. */
aj_json_item *aj_json_add(aj_json *j, uint32_t kind, size_t size);
/* A whole number as a number; or, when exact and beyond 2^53, as AJ_JSON_BIG. */
bool aj_json_add_integer(aj_json *j, int64_t v, bool exact);
#endif
