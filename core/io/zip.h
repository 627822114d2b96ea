/* zip.h - the entries of a zip archive, checked when it is opened; and archives written entry by entry. */
#ifndef AJ_ZIP_H
#define AJ_ZIP_H
#include "io/blob.h"

typedef struct aj_zip aj_zip;
/* format begins the messages. limit: the bytes of all entries together; 0: 64 MB, or 100 times the file if that is more. */
aj_zip *aj_zip_open(aj_blob *b, const char *format, int64_t limit);
int64_t aj_zip_count(const aj_zip *z);
const char *aj_zip_name(const aj_zip *z, int64_t i);
int64_t aj_zip_find(const aj_zip *z, const char *name);     /* -1: none */
uint64_t aj_zip_size(const aj_zip *z, int64_t i);           /* inflated */
aj_blob *aj_zip_entry(aj_zip *z, int64_t i);                /* in place where it is stored, else inflated; its checksum holds */
void aj_zip_drop(aj_zip *z);
const char *aj_zip_trouble(const char *name);               /* what is wrong with the name of an entry; NULL: nothing */

typedef struct aj_zip_writer aj_zip_writer;
aj_zip_writer *aj_zip_create(aj_writer *w, const char *format);
/* An entry of two pieces, which must stay until the end. */
bool aj_zip_add(aj_zip_writer *z, const char *name, const void *head, size_t head_size, const void *rest, size_t rest_size, bool deflated);
bool aj_zip_finish(aj_zip_writer *z);                       /* all is put into the writer here */
void aj_zip_writer_drop(aj_zip_writer *z);
#endif
