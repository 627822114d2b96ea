/* blob.c - bytes to read, with an owner: a mapped file, a copy, or a buffer; and tensors made over them. */
#include "io/blob.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned char nothing[16];

static aj_blob *blob_new(const char *name) {
    size_t n = strlen(name) + 1;
    aj_blob *b = malloc(sizeof *b + n);
    if (!b) {
        aj_error("file: out of memory");
        return NULL;
    }
    *b = (aj_blob){.data = nothing, .refs = 1};
    memcpy(b->name, name, n);
    return b;
}

aj_blob *aj_blob_adopt(void *data, size_t size, const char *name) {
    aj_blob *b = blob_new(name);
    if (!b) {
        free(data);
        return NULL;
    }
    if (data) b->data = data;
    b->size = size;
    return b;
}

aj_blob *aj_blob_part(aj_blob *whole, const unsigned char *data, size_t size, const char *name) {
    aj_blob *b = blob_new(name);
    if (!b) return NULL;
    if (size) b->data = (unsigned char *)(uintptr_t)data;
    b->size = size;
    b->whole = aj_blob_hold(whole);
    return b;
}

aj_blob *aj_blob_of(const void *data, size_t size, const char *name) {
    void *copy = malloc(size ? size : 1);
    if (!copy) {
        aj_error("file: %s: out of memory: %zu bytes", name, size);
        return NULL;
    }
    if (size) memcpy(copy, data, size);
    return aj_blob_adopt(copy, size, name);
}

/* An open regular file and its size; -1 after an error. */
static int open_regular(const char *path, size_t *size) {
    int fd;
    /* O_NONBLOCK: to open a FIFO must not wait for its writer. */
    do fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        aj_error("file: %s: cannot be opened: %s", path, strerror(errno));
        return -1;
    }
    struct stat st;
    if (fstat(fd, &st) != 0) aj_error("file: %s: %s", path, strerror(errno));
    else if (S_ISDIR(st.st_mode)) aj_error("file: %s: is a folder, not a file", path);
    else if (!S_ISREG(st.st_mode)) aj_error("file: %s: is not a regular file", path);
    else {
        *size = (size_t)st.st_size;
        return fd;
    }
    close(fd);
    return -1;
}

aj_blob *aj_blob_open(const char *path) {
    size_t size;
    int fd = open_regular(path, &size);
    if (fd < 0) return NULL;
    aj_blob *b = blob_new(path);
    if (b && size) {
        /* Private and writable: a tensor over it may be written in place, and the file stays as it is. */
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
        if (p == MAP_FAILED) {
            aj_error("file: %s: cannot be mapped: %s", path, strerror(errno));
            free(b);
            b = NULL;
        } else {
            b->data = p;
            b->size = size;
            b->mapped = true;
        }
    }
    close(fd);
    return b;
}

aj_blob *aj_blob_read(const char *path) {
    size_t size, got = 0;
    int fd = open_regular(path, &size);
    if (fd < 0) return NULL;
    unsigned char *data = malloc(size ? size : 1);
    if (!data) {
        aj_error("file: %s: out of memory: %zu bytes", path, size);
        close(fd);
        return NULL;
    }
    enum { STEP = 64 << 20 };
    bool good = true;
    while (good && got < size) {
        ssize_t n = read(fd, data + got, size - got < STEP ? size - got : STEP);
        if (n > 0) {
            got += (size_t)n;
            good = !aj_interrupted();
        } else if (n == 0) good = aj_error("file: %s: became shorter while it was read: %zu bytes of %zu", path, got, size);
        else if (errno != EINTR) good = aj_error("file: %s: cannot be read: %s", path, strerror(errno));
    }
    close(fd);
    if (good) return aj_blob_adopt(data, size, path);
    free(data);
    return NULL;
}

const char *aj_blob_data(aj_blob *b) { return (const char *)b->data; }
size_t aj_blob_size(aj_blob *b) { return b->size; }

aj_blob *aj_blob_hold(aj_blob *b) {
    __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

void aj_blob_drop(aj_blob *b) {
    if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) > 0) return;
    if (b->whole) aj_blob_drop(b->whole);
    else if (b->mapped) munmap(b->data, b->size);
    else if (b->data != nothing) free(b->data);
    free(b);
}

static void drop(void *b) { aj_blob_drop(b); }

shown aj_shown(const char *text, size_t size) {
    shown s;
    size_t room = sizeof s.text - 4, n = size < room ? size : room;
    for (size_t i = 0; i < n; i++) s.text[i] = (unsigned char)text[i] < 32 || text[i] == 127 ? '?' : text[i];
    if (n < size) {
        /* Not in the middle of a character. */
        while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80) n--;
        memcpy(s.text + n, "...", 3);
        n += 3;
    }
    s.text[n] = 0;
    return s;
}

bool aj_check_bools(const char *format, const char *name, const void *data, size_t n) {
    const unsigned char *p = data;
    unsigned char all = 0;
    for (size_t i = 0; i < n; i++) all |= p[i];
    if (all <= 1) return true;
    size_t i = 0;
    while (p[i] <= 1) i++;
    return aj_error("%s: %s: byte %zu of a bool tensor is %d, not 0 or 1", format, name, i, p[i]);
}

aj_tensor *aj_blob_tensor(aj_blob *b, const char *format, aj_dtype dtype, int ndim, const int64_t *shape, const unsigned char *data) {
    size_t item = aj_dtype_size(dtype);
    uint64_t bytes;
    if (!dense_bytes(ndim, shape, item, &bytes)) {
        aj_error("%s: %s: the sizes of a tensor multiply to more than 2^63 bytes", format, b->name);
        return NULL;
    }
    if (dtype == AJ_BOOL && !aj_check_bools(format, b->name, data, bytes)) return NULL;
    if (bytes == 0 || (uintptr_t)data % item) {
        aj_tensor *t = aj_new(dtype, ndim, shape, AJ_CPU);
        if (!t) return NULL;
        if (bytes) memcpy(t->data, data, bytes);
        return aj_give(t);
    }
    aj_ints sizes = {.n = ndim};
    for (int d = 0; d < ndim; d++) sizes.v[d] = shape[d];
    aj_tensor *t = aj_from_memory(dtype, &sizes, (void *)(uintptr_t)data, drop, aj_blob_hold(b));
    if (!t) aj_blob_drop(b);
    return t;
}

aj_blob *aj_blob_slice(aj_blob *b, int64_t offset, int64_t size, const char *name) {
    if (offset < 0 || size < 0 || (uint64_t)offset > b->size || (uint64_t)size > b->size - (uint64_t)offset) {
        aj_error("file: %s: no %" PRId64 " bytes at %" PRId64 " in a file of %zu", b->name, size, offset, b->size);
        return NULL;
    }
    return aj_blob_part(b, b->data + offset, (size_t)size, name);
}

aj_tensor *aj_raw_read(aj_blob *b, aj_dtype dtype) {
    size_t item = aj_dtype_size(dtype);
    if (b->size % item) {
        aj_error("raw: %s: %zu bytes are no whole number of %s, which take %zu each", b->name, b->size, aj_dtype_name(dtype), item);
        return NULL;
    }
    int64_t n = (int64_t)(b->size / item);
    return aj_blob_tensor(b, "raw", dtype, 1, &n, b->data);
}
