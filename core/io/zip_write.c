/* zip_write.c - writes zip archives through libzip into an aj_writer. Equal entries give equal bytes: all are dated 1980-01-01. */
#include "io/zip.h"
#include <stdlib.h>
#include <zip.h>

struct aj_zip_writer {
    aj_writer *out;
    const char *format;
    zip_t *archive;
    zip_error_t error;          /* of the source below */
    uint64_t at, size;
    int64_t n;
    bool told;                  /* the writer left a message */
};

static bool bad(const aj_zip_writer *z, const char *what) { return aj_error("%s: %s: %s", z->format, aj_writer_name(z->out), what); }

/* libzip goes back to the head of an entry once it knows its sizes. */
static bool put(aj_zip_writer *z, const char *data, uint64_t size) {
    uint64_t old = z->size - z->at < size ? z->size - z->at : size;
    if (!aj_writer_patch(z->out, z->at, data, old) || !aj_writer_put(z->out, data + old, size - old)) return false;
    z->at += size;
    if (z->at > z->size) z->size = z->at;
    return true;
}

static zip_int64_t target(void *state, void *data, zip_uint64_t size, zip_source_cmd_t command) {
    aj_zip_writer *z = state;
    switch (command) {
    case ZIP_SOURCE_BEGIN_WRITE: case ZIP_SOURCE_COMMIT_WRITE: case ZIP_SOURCE_ROLLBACK_WRITE: case ZIP_SOURCE_REMOVE: case ZIP_SOURCE_OPEN:
    case ZIP_SOURCE_CLOSE: case ZIP_SOURCE_READ: case ZIP_SOURCE_SEEK: case ZIP_SOURCE_TELL: case ZIP_SOURCE_FREE: return 0;
    case ZIP_SOURCE_WRITE:
        if (!aj_interrupted() && put(z, data, size)) return (zip_int64_t)size;
        z->told = true;
        zip_error_set(&z->error, ZIP_ER_WRITE, 0);
        return -1;
    case ZIP_SOURCE_SEEK_WRITE: {
        zip_int64_t to = zip_source_seek_compute_offset(z->at, z->size, data, size, &z->error);
        if (to < 0) return -1;
        z->at = (uint64_t)to;
        return 0;
    }
    case ZIP_SOURCE_TELL_WRITE: return (zip_int64_t)z->at;
    case ZIP_SOURCE_STAT: zip_stat_init(data); return sizeof(zip_stat_t);
    case ZIP_SOURCE_ERROR: return zip_error_to_data(&z->error, data, size);
    case ZIP_SOURCE_SUPPORTS: return ZIP_SOURCE_SUPPORTS_WRITABLE;
    default: zip_error_set(&z->error, ZIP_ER_OPNOTSUPP, 0); return -1;
    }
}

aj_zip_writer *aj_zip_create(aj_writer *w, const char *format) {
    aj_zip_writer *z = calloc(1, sizeof *z);
    if (!z) {
        aj_error("%s: out of memory", format);
        return NULL;
    }
    z->out = w;
    z->format = format;
    zip_error_init(&z->error);
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *s = zip_source_function_create(target, z, &error);
    if (s) z->archive = zip_open_from_source(s, ZIP_CREATE | ZIP_TRUNCATE, &error);
    if (!z->archive) {
        if (s) zip_source_free(s);
        bad(z, zip_error_strerror(&error));
    }
    zip_error_fini(&error);
    if (z->archive) return z;
    aj_zip_writer_drop(z);
    return NULL;
}

bool aj_zip_add(aj_zip_writer *z, const char *name, const void *head, size_t head_size, const void *rest, size_t rest_size, bool deflated) {
    zip_buffer_fragment_t pieces[2] = {{(zip_uint8_t *)(uintptr_t)head, head_size}, {(zip_uint8_t *)(uintptr_t)rest, rest_size}};
    zip_source_t *s = zip_source_buffer_fragment(z->archive, pieces, rest_size ? 2 : 1, 0);
    if (!s) return bad(z, zip_strerror(z->archive));
    zip_int64_t i = zip_file_add(z->archive, name, s, ZIP_FL_ENC_UTF_8);
    if (i < 0) {
        zip_source_free(s);
        return bad(z, zip_strerror(z->archive));
    }
    z->n++;
    enum { FIRST_DAY = 1 << 5 | 1 };
    return (zip_set_file_compression(z->archive, (zip_uint64_t)i, deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0) == 0 &&
            zip_file_set_dostime(z->archive, (zip_uint64_t)i, 0, FIRST_DAY, 0) == 0) || bad(z, zip_strerror(z->archive));
}

bool aj_zip_finish(aj_zip_writer *z) {
    /* Of an archive without entries libzip writes nothing. */
    if (z->n == 0) return aj_writer_put(z->out, "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22);
    if (zip_close(z->archive) == 0) {
        z->archive = NULL;
        return true;
    }
    return z->told ? false : bad(z, zip_strerror(z->archive));
}

void aj_zip_writer_drop(aj_zip_writer *z) {
    if (!z) return;
    if (z->archive) zip_discard(z->archive);
    zip_error_fini(&z->error);
    free(z);
}
