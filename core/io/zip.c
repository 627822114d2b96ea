/* zip.c - reads zip archives through libzip, over the bytes of a blob.
 *
 * Every entry is looked at before one is read: names that are plain and different, entries stored or deflated and not
 * encrypted, sizes that the file can justify, and together no more than a limit.
 */
#include "io/zip.h"
#include "io/gzip.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <zip.h>

enum { MAX_ENTRIES = 1 << 20, MAX_NAME = 1024, FREE_LIMIT = 64 << 20, FREE_RATIO = 100, HEAD = 30, LENGTHS = 26 };

typedef struct {
    const char *name;
    uint64_t index, size, packed;
    uint32_t crc;
    bool stored;
} entry;

struct aj_zip {
    aj_blob *blob;
    const char *format;
    zip_t *archive;
    zip_error_t error;          /* of the source below */
    uint64_t at, last;          /* where libzip reads next, and where it read last */
    const unsigned char *head;  /* the record in front of the data that it opened last, known by its two lengths being read; NULL: not seen */
    int64_t n;
    entry *entries;             /* by name */
};

static bool bad(const aj_zip *z, const char *what) { return aj_error("%s: %s: %s", z->format, z->blob->name, what); }
static bool bad_entry(const aj_zip *z, const char *name, const char *what) {
    return aj_error("%s: %s: entry \"%s\": %s", z->format, z->blob->name, aj_shown(name, strlen(name)).text, what);
}

/* -- The blob, as libzip reads it ------------------------------------------------------------------------------- */

static zip_int64_t source(void *state, void *data, zip_uint64_t size, zip_source_cmd_t command) {
    aj_zip *z = state;
    switch (command) {
    case ZIP_SOURCE_OPEN: z->at = 0; return 0;
    case ZIP_SOURCE_READ: {
        uint64_t left = z->blob->size - z->at, n = size < left ? size : left;
        if (n) memcpy(data, z->blob->data + z->at, n);
        z->last = z->at;
        if (n == 4 && z->at >= LENGTHS && memcmp(z->blob->data + z->at - LENGTHS, "PK\3\4", 4) == 0) z->head = z->blob->data + z->at - LENGTHS;
        z->at += n;
        return (zip_int64_t)n;
    }
    case ZIP_SOURCE_STAT: {
        zip_stat_t *st = data;
        zip_stat_init(st);
        st->size = z->blob->size;
        st->valid = ZIP_STAT_SIZE;
        return sizeof *st;
    }
    case ZIP_SOURCE_SEEK: {
        zip_int64_t to = zip_source_seek_compute_offset(z->at, z->blob->size, data, size, &z->error);
        if (to < 0) return -1;
        z->at = (uint64_t)to;
        return 0;
    }
    case ZIP_SOURCE_TELL: return (zip_int64_t)z->at;
    case ZIP_SOURCE_ERROR: return zip_error_to_data(&z->error, data, size);
    case ZIP_SOURCE_CLOSE: case ZIP_SOURCE_FREE: return 0;
    case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT, ZIP_SOURCE_ERROR,
                                              ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL, ZIP_SOURCE_SUPPORTS, -1);
    default: zip_error_set(&z->error, ZIP_ER_OPNOTSUPP, 0); return -1;
    }
}

/* -- What the archive says of its entries ------------------------------------------------------------------------ */

/* Nothing is ever unpacked to a file; these names are still no honest ones. */
const char *aj_zip_trouble(const char *name) {
    size_t n = strlen(name);
    if (n == 0) return "its name is empty";
    if (n > MAX_NAME) return "its name is too long";
    if (name[0] == '/' || strchr(name, '\\') || (n > 1 && name[1] == ':')) return "its name is a path from the root, or of another system";
    for (const char *p = name; p; p = strchr(p, '/')) {
        if (*p == '/') p++;
        if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == 0)) return "its name leads out of the archive";
    }
    for (const char *p = name; *p; p++) if ((unsigned char)*p < 32 || *p == 127) return "its name has control characters";
    return aj_utf8_bad(name, n) < 0 ? NULL : "its name is not UTF-8";
}

static bool read_entry(const aj_zip *z, entry *e, const zip_stat_t *st) {
    const zip_uint64_t needed = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_CRC | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    *e = (entry){.name = zip_get_name(z->archive, e->index, ZIP_FL_ENC_RAW), .index = e->index, .size = st->size, .packed = st->comp_size,
                 .crc = st->crc, .stored = st->comp_method == ZIP_CM_STORE};
    if (!e->name) return bad(z, "an entry has no name");
    const char *trouble = aj_zip_trouble(e->name);
    if (trouble) return bad_entry(z, e->name, trouble);
    if ((st->valid & needed) != needed) return bad_entry(z, e->name, "its sizes are missing");
    if (st->encryption_method != ZIP_EM_NONE) return bad_entry(z, e->name, "it is encrypted");
    if (!e->stored && st->comp_method != ZIP_CM_DEFLATE)
        return aj_error("%s: %s: entry \"%s\": compression method %d: only stored and deflated entries can be read", z->format, z->blob->name,
                        aj_shown(e->name, strlen(e->name)).text, st->comp_method);
    if (e->packed > z->blob->size || (e->stored && e->size != e->packed) || e->size > aj_inflated_limit(e->packed))
        return aj_error("%s: %s: entry \"%s\": %" PRIu64 " bytes cannot come out of %" PRIu64 ": the file is cut short, or made to mislead", z->format,
                        z->blob->name, aj_shown(e->name, strlen(e->name)).text, e->size, e->packed);
    return true;
}

static int by_name(const void *a, const void *b) { return strcmp(((const entry *)a)->name, ((const entry *)b)->name); }

static bool read_entries(aj_zip *z, int64_t limit) {
    zip_int64_t n = zip_get_num_entries(z->archive, 0);
    if (n > MAX_ENTRIES) return aj_error("%s: %s: %" PRId64 " entries: at most %d can be read", z->format, z->blob->name, (int64_t)n, MAX_ENTRIES);
    z->entries = calloc((size_t)n + 1, sizeof *z->entries);
    if (!z->entries) return bad(z, "out of memory");
    uint64_t all = 0, most = (uint64_t)limit;
    if (limit <= 0 && (!times(z->blob->size, FREE_RATIO, &most) || most < FREE_LIMIT)) most = FREE_LIMIT;
    for (zip_int64_t i = 0; i < n; i++) {
        zip_stat_t st;
        entry *e = &z->entries[z->n];
        e->index = (uint64_t)i;
        if (zip_stat_index(z->archive, (zip_uint64_t)i, 0, &st) != 0) return bad(z, zip_strerror(z->archive));
        if (!read_entry(z, e, &st)) return false;
        if (!plus(all, e->size, &all) || all > most)
            return aj_error("%s: %s: its entries hold more than %" PRIu64 " bytes in all: max_bytes raises the limit", z->format, z->blob->name, most);
        /* Folders are entries of their own in some archives. */
        if (e->size || e->name[strlen(e->name) - 1] != '/') z->n++;
    }
    qsort(z->entries, (size_t)z->n, sizeof *z->entries, by_name);
    for (int64_t i = 1; i < z->n; i++)
        if (strcmp(z->entries[i - 1].name, z->entries[i].name) == 0) return bad_entry(z, z->entries[i].name, "it is there twice");
    return true;
}

aj_zip *aj_zip_open(aj_blob *b, const char *format, int64_t limit) {
    aj_zip *z = calloc(1, sizeof *z);
    if (!z) {
        aj_error("%s: %s: out of memory", format, b->name);
        return NULL;
    }
    z->blob = aj_blob_hold(b);
    z->format = format;
    zip_error_init(&z->error);
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *s = zip_source_function_create(source, z, &error);
    if (s) z->archive = zip_open_from_source(s, ZIP_RDONLY, &error);
    /* To libzip a file of no bytes is an archive of no entries. */
    bool good = z->archive && b->size > 0;
    if (!good) {
        if (s && !z->archive) zip_source_free(s);
        if (z->archive || zip_error_code_zip(&error) == ZIP_ER_NOZIP) bad(z, "is not a zip archive, or is cut short");
        else bad(z, zip_error_strerror(&error));
    }
    zip_error_fini(&error);
    if (good && read_entries(z, limit)) return z;
    aj_zip_drop(z);
    return NULL;
}

void aj_zip_drop(aj_zip *z) {
    if (!z) return;
    if (z->archive) zip_discard(z->archive);
    zip_error_fini(&z->error);
    free(z->entries);
    aj_blob_drop(z->blob);
    free(z);
}

int64_t aj_zip_count(const aj_zip *z) { return z->n; }
const char *aj_zip_name(const aj_zip *z, int64_t i) { return z->entries[i].name; }
uint64_t aj_zip_size(const aj_zip *z, int64_t i) { return z->entries[i].size; }

int64_t aj_zip_find(const aj_zip *z, const char *name) {
    entry wanted = {.name = name};
    const entry *e = z->n ? bsearch(&wanted, z->entries, (size_t)z->n, sizeof *e, by_name) : NULL;
    return e ? e - z->entries : -1;
}

/* -- The bytes of an entry ------------------------------------------------------------------------------------------ */

/* libzip tells no one where an entry's bytes stand; they are where it read the first of them, and the checksum over all of them
 * proves it. NULL: not so. */
static const unsigned char *place_of(aj_zip *z, const entry *e, zip_file_t *f) {
    unsigned char first;
    if (zip_fread(f, &first, 1) != 1 || z->last > z->blob->size || e->size > z->blob->size - z->last) return NULL;
    const unsigned char *p = z->blob->data + z->last;
    return crc32_z(0, p, e->size) == e->crc ? p : NULL;
}

static bool inflate_into(const aj_zip *z, const entry *e, zip_file_t *f, unsigned char *to) {
    enum { STEP = 1 << 20 };
    uint64_t got = 0;
    for (;;) {
        /* One byte more than there should be: libzip compares the checksum when it meets the end. */
        unsigned char more;
        uint64_t left = e->size - got;
        zip_int64_t n = left ? zip_fread(f, to + got, left < STEP ? left : STEP) : zip_fread(f, &more, 1);
        if (n < 0) return bad_entry(z, e->name, zip_error_strerror(zip_file_get_error(f)));
        if (n == 0) return got == e->size || bad_entry(z, e->name, "the data are cut short");
        if (!left) return bad_entry(z, e->name, "holds more bytes than the archive says");
        got += (uint64_t)n;
        if (aj_interrupted()) return false;
    }
}

/* The directory and the record in front of the data must agree on the name; a bit may have turned over in either. */
static bool check_name(const aj_zip *z, const entry *e) {
    if (!z->head) return true;
    size_t n = strlen(e->name), left = (size_t)(z->blob->data + z->blob->size - z->head) - HEAD;
    return ((z->head[LENGTHS] | z->head[LENGTHS + 1] << 8) == (int)n && n <= left && memcmp(z->head + HEAD, e->name, n) == 0) ||
           bad_entry(z, e->name, "another name stands in front of its data");
}

aj_blob *aj_zip_entry(aj_zip *z, int64_t i) {
    const entry *e = &z->entries[i];
    char name[256];
    snprintf(name, sizeof name, "%.140s: %s", z->blob->name, aj_shown(e->name, strlen(e->name)).text);
    if (e->size == 0 && e->stored) return aj_blob_part(z->blob, z->blob->data, 0, name);
    z->head = NULL;
    zip_file_t *f = zip_fopen_index(z->archive, e->index, 0);
    aj_blob *b = NULL;
    if (!f) bad_entry(z, e->name, zip_strerror(z->archive));
    else if (e->stored) {
        const unsigned char *p = place_of(z, e, f);
        if (p) b = aj_blob_part(z->blob, p, e->size, name);
        else bad_entry(z, e->name, "it is damaged: its checksum differs, or the file is cut short");
    } else {
        unsigned char *data = malloc(e->size ? e->size : 1);
        if (!data) bad_entry(z, e->name, "out of memory");
        else if (inflate_into(z, e, f, data)) b = aj_blob_adopt(data, e->size, name);
        else free(data);
    }
    if (f) zip_fclose(f);
    if (!b || check_name(z, e)) return b;
    aj_blob_drop(b);
    return NULL;
}
