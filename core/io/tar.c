/* tar.c - reads the list of a tar archive: POSIX ustar and pax, GNU long names, sizes in base 256.
 *
 * Only regular files are listed; folders, links and devices are passed over. Every header's sum is checked, and every
 * file must lie within the archive, so that a part of it is as safe as a whole file.
 */
#include "io/blob.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCK = 512, MAX_NAME = 4096, MAX_EXTRA = 1 << 20 };
typedef struct { uint64_t offset, size; size_t name; } entry;
struct aj_tar {
    aj_blob *blob;
    entry *entry;
    int64_t n, capacity;
    char *names;                /* one after another, each with a 0 at its end */
    size_t names_size, names_capacity;
};

static bool bad(const aj_blob *b, uint64_t at, const char *what) { return aj_error("tar: %s: at byte %" PRIu64 ": %s", b->name, at, what); }

void aj_tar_drop(aj_tar *t) {
    if (!t) return;
    aj_blob_drop(t->blob);
    free(t->entry);
    free(t->names);
    free(t);
}

static bool room(void **p, size_t *capacity, size_t wanted, size_t item) {
    if (wanted <= *capacity) return true;
    size_t more = *capacity ? 2 * *capacity : 64;
    while (more < wanted) more *= 2;
    void *q = realloc(*p, more * item);
    if (!q) return aj_error("tar: out of memory");
    *p = q;
    *capacity = more;
    return true;
}

/* A number of octal digits, ended by a blank, a 0 or the field's end; or in base 256 when the first bit is set. */
static bool number(const unsigned char *p, int n, uint64_t *value) {
    uint64_t v = 0;
    int i = 0;
    if (p[0] & 0x80) {
        if (p[0] & 0x40) return false;                   /* negative */
        v = p[0] & 0x3F;
        for (i = 1; i < n; i++) {
            if (v >> 55) return false;
            v = v << 8 | p[i];
        }
        *value = v;
        return v <= INT64_MAX;
    }
    while (i < n && p[i] == ' ') i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) {
        if (v >> 60) return false;
        v = v << 3 | (uint64_t)(p[i] - '0');
    }
    if (i < n && p[i] != ' ' && p[i] != 0) return false;
    *value = v;
    return true;
}

static bool sum_is_right(const unsigned char *h) {
    uint64_t told;
    if (!number(h + 148, 8, &told)) return false;
    uint64_t sum = 0;
    int64_t with_signs = 0;                              /* as some old programs took it */
    for (int i = 0; i < BLOCK; i++) {
        unsigned char c = i >= 148 && i < 156 ? ' ' : h[i];
        sum += c;
        with_signs += (signed char)c;
    }
    return told == sum || (int64_t)told == with_signs;
}

/* What headers in front of a file say of it. */
typedef struct { const unsigned char *name; size_t name_size; bool has_size; uint64_t size; } extra;

/* The records of a pax header: "LENGTH key=value\n". */
static bool read_pax(const aj_blob *b, uint64_t at, const unsigned char *p, size_t size, extra *e) {
    const unsigned char *end = p + size;
    while (p < end) {
        const unsigned char *start = p;
        uint64_t length = 0;
        while (p < end && *p >= '0' && *p <= '9' && length < MAX_EXTRA) length = length * 10 + (uint64_t)(*p++ - '0');
        if (p == start || p == end || *p != ' ' || length > (uint64_t)(end - start) || length < (uint64_t)(p - start) + 3)
            return bad(b, at, "a pax header whose records do not fit it");
        const unsigned char *key = p + 1, *stop = start + length - 1, *equal = memchr(key, '=', (size_t)(stop - key));
        if (*stop != '\n' || !equal) return bad(b, at, "a pax header whose records do not fit it");
        size_t n = (size_t)(equal - key);
        if (n == 4 && memcmp(key, "path", 4) == 0) {
            e->name = equal + 1;
            e->name_size = (size_t)(stop - equal - 1);
        } else if (n == 4 && memcmp(key, "size", 4) == 0) {
            uint64_t v = 0;
            for (const unsigned char *d = equal + 1; d < stop; d++) {
                if (*d < '0' || *d > '9' || v > INT64_MAX / 10 - 1) return bad(b, at, "a pax header with a size that is no number");
                v = v * 10 + (uint64_t)(*d - '0');
            }
            e->has_size = true;
            e->size = v;
        } else if (n >= 10 && memcmp(key, "GNU.sparse", 10) == 0) {
            return bad(b, at, "a sparse file; such are not read");
        }
        p = start + length;
    }
    return true;
}

static size_t text_size(const unsigned char *p, size_t most) {
    const unsigned char *end = memchr(p, 0, most);
    return end ? (size_t)(end - p) : most;
}

static bool add(aj_tar *t, const unsigned char *h, const extra *e, uint64_t offset, uint64_t size, uint64_t at) {
    const unsigned char *name = e->name;
    size_t n = e->name_size, prefix = 0;
    if (!name) {
        name = h;
        n = text_size(h, 100);
        if (memcmp(h + 257, "ustar\0", 6) == 0) prefix = text_size(h + 345, 155);
    }
    n = text_size(name, n);
    if (n == 0 || prefix + n > MAX_NAME) return bad(t->blob, at, n ? "a name longer than 4096 bytes" : "a file without a name");
    if (name[n - 1] == '/') return true;                 /* a folder of before POSIX */
    if (!room((void **)&t->names, &t->names_capacity, t->names_size + prefix + n + 2, 1)) return false;
    size_t capacity = (size_t)t->capacity;
    if (!room((void **)&t->entry, &capacity, (size_t)t->n + 1, sizeof *t->entry)) return false;
    t->capacity = (int64_t)capacity;
    t->entry[t->n++] = (entry){offset, size, t->names_size};
    char *to = t->names + t->names_size;
    if (prefix) {
        memcpy(to, h + 345, prefix);
        to[prefix] = '/';
        prefix++;
    }
    memcpy(to + prefix, name, n);
    to[prefix + n] = 0;
    t->names_size += prefix + n + 1;
    return true;
}

static bool all_zero(const unsigned char *p) {
    for (int i = 0; i < BLOCK; i++) if (p[i]) return false;
    return true;
}

static bool read_all(aj_tar *t) {
    const aj_blob *b = t->blob;
    cursor c = cursor_over(b->data, b->size);
    extra e = {0};
    while (cursor_left(&c)) {
        uint64_t at = (uint64_t)(c.at - b->data);
        const unsigned char *h = cursor_take(&c, BLOCK);
        if (!h) return bad(b, at, "the archive is cut short within a header");
        if (all_zero(h)) break;                          /* two such blocks are the end; what follows is not looked at */
        if (!sum_is_right(h)) return bad(b, at, at ? "a header whose checksum is wrong" : "its checksum is wrong: is this a tar file?");
        uint64_t size;
        if (!number(h + 124, 12, &size)) return bad(b, at, "a size that is no number");
        char type = (char)h[156];
        bool file = type == '0' || type == 0 || type == '7';
        if (file && e.has_size) size = e.size;
        if (!file && type != 'x' && type != 'g' && type != 'L' && type != 'K' && type != 'S') size = type >= '1' && type <= '6' ? 0 : size;
        uint64_t start = (uint64_t)(c.at - b->data);
        if (size > cursor_left(&c))
            return aj_error("tar: %s: %" PRIu64 " bytes short: the entry at byte %" PRIu64 " has %" PRIu64, b->name, size - cursor_left(&c), at, size);
        const unsigned char *data = cursor_take(&c, size);
        uint64_t padding = (BLOCK - size % BLOCK) % BLOCK;
        if (padding > cursor_left(&c)) padding = cursor_left(&c);           /* a last block that is not filled up */
        cursor_take(&c, padding);
        if (type == 'x') {
            if (size > MAX_EXTRA) return bad(b, at, "a pax header of more than a megabyte");
            if (!read_pax(b, at, data, (size_t)size, &e)) return false;
            continue;
        }
        if (type == 'L') {
            if (size > MAX_NAME + 1) return bad(b, at, "a name longer than 4096 bytes");
            e.name = data;
            e.name_size = (size_t)size;
            continue;
        }
        if (type == 'S') return bad(b, at, "a sparse file; such are not read");
        if (type == 'g' || type == 'K') continue;
        if (file && !add(t, h, &e, start, size, at)) return false;
        e = (extra){0};
        if (aj_interrupted()) return false;
    }
    return true;
}

aj_tar *aj_tar_read(aj_blob *b) {
    aj_tar *t = calloc(1, sizeof *t);
    if (!t) { aj_error("tar: out of memory"); return NULL; }
    t->blob = aj_blob_hold(b);
    if (read_all(t)) return t;
    aj_tar_drop(t);
    return NULL;
}

int64_t aj_tar_count(aj_tar *t) { return t->n; }
static const entry *at(const aj_tar *t, int64_t i) { return i >= 0 && i < t->n ? &t->entry[i] : NULL; }
const char *aj_tar_name(aj_tar *t, int64_t i) { return at(t, i) ? t->names + at(t, i)->name : NULL; }
int64_t aj_tar_offset(aj_tar *t, int64_t i) { return at(t, i) ? (int64_t)at(t, i)->offset : -1; }
int64_t aj_tar_size(aj_tar *t, int64_t i) { return at(t, i) ? (int64_t)at(t, i)->size : -1; }
