/* blob.h - what the files of core/io share: bytes with an owner, tensors over them, elements in their order. */
#ifndef AJ_BLOB_H
#define AJ_BLOB_H
#include "core.h"
#include "io.h"
#include "io/cursor.h"

struct aj_blob {
    unsigned char *data;        /* never NULL */
    size_t size;
    int32_t refs;               /* atomic: tensors of several threads may hold it */
    bool mapped;
    aj_blob *whole;             /* of a part: whose bytes these are */
    char name[];                /* what errors call it */
};
aj_blob *aj_blob_adopt(void *data, size_t size, const char *name);       /* takes data, which malloc gave; frees it on failure */
aj_blob *aj_blob_hold(aj_blob *b);
aj_blob *aj_blob_part(aj_blob *whole, const unsigned char *data, size_t size, const char *name);   /* in place */

/* Text of a file, made fit for a message: cut, and control bytes replaced. */
typedef struct { char text[100]; } shown;
shown aj_shown(const char *text, size_t size);

/* A tensor over bytes of b at data: in place where they are aligned, else a copy. format is for errors. */
aj_tensor *aj_blob_tensor(aj_blob *b, const char *format, aj_dtype dtype, int ndim, const int64_t *shape, const unsigned char *data);
/* Only 0 and 1 may stand where a bool is read; false after an error. */
bool aj_check_bools(const char *format, const char *name, const void *data, size_t n);

/* Elements at from, with strides in elements, into a dense array; the last dimension varies fastest. */
void aj_pack(void *to, const void *from, size_t item, int ndim, const int64_t *shape, const int64_t *stride);
void aj_swap_bytes(void *data, size_t item, size_t n);
/* The elements of a CPU tensor, dense, whatever its strides. */
bool aj_writer_put_tensor(aj_writer *w, const aj_tensor *t);
const char *aj_writer_name(const aj_writer *w);
/* Writes over bytes that were put before, size of them from at on. */
bool aj_writer_patch(aj_writer *w, uint64_t at, const void *data, size_t size);

/* What stands in an .npy file before its elements, into text; 0 after an error. */
enum { AJ_NPY_HEADER = 384 };
size_t aj_npy_header(const aj_tensor *t, char *text);

/* Files: EINTR and short transfers are dealt with. */
bool aj_write_all(int fd, const void *data, size_t size);                /* false with errno */
bool aj_sync_parent(const char *path);                                   /* false with errno */
bool aj_may_fail(void);                                                  /* aj_file_fail()'s turn: errno is set */
#endif
