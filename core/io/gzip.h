/* gzip.h - the bytes of a blob, inflated while they are read if they are gzipped. */
#ifndef AJ_GZIP_H
#define AJ_GZIP_H
#include "io/blob.h"
#include <zlib.h>

typedef struct {
    cursor in;
    z_stream z;
    bool zipped, ended;
    const char *trouble;        /* why no more can be read; NULL: none, or the end in good order */
} aj_unzip;
bool aj_unzip_start(aj_unzip *u, const aj_blob *b);     /* false after an error */
size_t aj_unzip_get(aj_unzip *u, void *to, size_t size);        /* less than size: the end, or trouble */
void aj_unzip_end(aj_unzip *u);

/* No more than this can come out of size bytes of deflate (258 bytes of 2 bits). */
static inline uint64_t aj_inflated_limit(size_t size) { return (uint64_t)size * 1032; }
#endif
