// A library to be preloaded: the n-th call that changes files fails. For spec/torture/fault.lua.
//   AIJIT_FAULT_AT=n      which call fails (0: none); AIJIT_FAULT_FROM=1: that one and all after it
//   AIJIT_FAULT_ERRNO=e   with which error
//   AIJIT_FAULT_COUNT=f   at the end the number of calls is appended to this file
// Counted are write, pwrite, fsync, rename, mkdir, truncate, open for writing, fopen for writing, fwrite and fflush,
// of files other than the standard streams.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static long count;

static long setting(const char *name) { const char *v = getenv(name); return v ? atol(v) : 0; }

static bool fails(void)
{
    long at = setting("AIJIT_FAULT_AT");
    long n = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    if (at <= 0 || (setting("AIJIT_FAULT_FROM") ? n < at : n != at)) return false;
    errno = (int)setting("AIJIT_FAULT_ERRNO");
    if (!errno) errno = EIO;
    return true;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    return fd > 2 && fails() ? -1 : real(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return fails() ? -1 : real(fd, data, size, at);
}

int fsync(int fd)
{
    REAL(int, "fsync", int);
    return fails() ? -1 : real(fd);
}

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    return fails() ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, "mkdir", const char *, mode_t);
    return fails() ? -1 : real(path, mode);
}

int truncate(const char *path, off_t size)
{
    REAL(int, "truncate", const char *, off_t);
    return fails() ? -1 : real(path, size);
}

int open(const char *path, int flags, ...)
{
    REAL(int, "open", const char *, int, ...);
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && strncmp(path, "/dev/", 5) != 0 && fails()) return -1;
    return real(path, flags, mode);
}

static FILE *opened(const char *name, const char *path, const char *mode)
{
    FILE *(*real)(const char *, const char *);
    *(void **)&real = dlsym(RTLD_NEXT, name);
    if (strpbrk(mode, "wa+") && strncmp(path, "/dev/", 5) != 0 && fails()) return NULL;
    return real(path, mode);
}

FILE *fopen(const char *path, const char *mode) { return opened("fopen", path, mode); }
FILE *fopen64(const char *path, const char *mode) { return opened("fopen64", path, mode); }

static bool standard(FILE *f) { return f == stdin || f == stdout || f == stderr; }

size_t fwrite(const void *data, size_t size, size_t n, FILE *f)
{
    REAL(size_t, "fwrite", const void *, size_t, size_t, FILE *);
    return !standard(f) && fails() ? 0 : real(data, size, n, f);
}

int fflush(FILE *f)
{
    REAL(int, "fflush", FILE *);
    return f && !standard(f) && fails() ? EOF : real(f);
}

__attribute__((destructor)) static void report(void)
{
    const char *path = getenv("AIJIT_FAULT_COUNT");
    if (!path) return;
    int (*real)(const char *, int, ...);
    *(void **)&real = dlsym(RTLD_NEXT, "open");
    int fd = real(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd >= 0) {
        dprintf(fd, "%ld\n", count);
        close(fd);
    }
}
