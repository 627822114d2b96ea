/* cursor.h - the one way in which parsers step through bytes: never past the end, never past 2^64.
 *
 * A read that does not fit leaves the cursor where it is and returns false; the parser says what was missing.
 * Sizes that come from a file go through times() and plus() before they are compared or allocated.
 */
#ifndef AJ_CURSOR_H
#define AJ_CURSOR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the formats' readers hand out little-endian data in place"
#endif

typedef struct { const unsigned char *at, *end; } cursor;

static inline cursor cursor_over(const void *data, size_t size) {
    const unsigned char *p = data;
    return (cursor){p, p + size};
}
static inline size_t cursor_left(const cursor *c) { return (size_t)(c->end - c->at); }

/* size bytes from here; NULL when there are fewer. */
static inline const unsigned char *cursor_take(cursor *c, uint64_t size) {
    if (size > cursor_left(c)) return NULL;
    const unsigned char *p = c->at;
    c->at += size;
    return p;
}
static inline bool cursor_u8(cursor *c, uint8_t *v) {
    const unsigned char *p = cursor_take(c, 1);
    if (p) *v = *p;
    return p != NULL;
}
static inline bool cursor_u16(cursor *c, uint16_t *v) {
    const unsigned char *p = cursor_take(c, 2);
    if (p) memcpy(v, p, 2);
    return p != NULL;
}
static inline bool cursor_u32(cursor *c, uint32_t *v) {
    const unsigned char *p = cursor_take(c, 4);
    if (p) memcpy(v, p, 4);
    return p != NULL;
}
static inline bool cursor_u64(cursor *c, uint64_t *v) {
    const unsigned char *p = cursor_take(c, 8);
    if (p) memcpy(v, p, 8);
    return p != NULL;
}
static inline bool cursor_u32_big(cursor *c, uint32_t *v) {
    if (!cursor_u32(c, v)) return false;
    *v = __builtin_bswap32(*v);
    return true;
}
/* Steps over text if it stands here. */
static inline bool cursor_skip(cursor *c, const char *text) {
    size_t n = strlen(text);
    if (n > cursor_left(c) || memcmp(c->at, text, n) != 0) return false;
    c->at += n;
    return true;
}

static inline bool times(uint64_t a, uint64_t b, uint64_t *product) { return !__builtin_mul_overflow(a, b, product); }
static inline bool plus(uint64_t a, uint64_t b, uint64_t *sum) { return !__builtin_add_overflow(a, b, sum); }

/* Bytes of a dense array. A size of 0 does not excuse the others: the product of the rest must fit as well,
 * since strides are made from it. False: more than 2^63 - 1. */
static inline bool dense_bytes(int ndim, const int64_t *shape, size_t item, uint64_t *bytes) {
    uint64_t all = item;
    bool empty = false;
    for (int d = 0; d < ndim; d++) {
        if (shape[d] < 0) return false;
        if (shape[d] == 0) empty = true;
        else if (!times(all, (uint64_t)shape[d], &all)) return false;
    }
    if (all > INT64_MAX) return false;
    *bytes = empty ? 0 : all;
    return true;
}
#endif
