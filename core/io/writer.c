/* writer.c - bytes to write: to a file that is replaced in one step, or to memory.
 *
 * A file is written under a temporary name beside its own, synced, renamed, and its folder synced. So whoever
 * opens path, at any moment and after a power loss, sees the old file or the whole new one; programs that have
 * the old one mapped keep it.
 */
#include "io/blob.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER = 64 << 10, STEP = 64 << 20 };
struct aj_writer {
    int fd;                     /* -1: memory, or closed */
    bool memory, committed;
    char *path, *temporary;
    unsigned char *data;        /* memory: all of it; file: what is still to be written */
    size_t size, room;
    uint64_t written;           /* file: the bytes before those in data */
};

/* -- Faults on demand, and system calls that finish ------------------------------------------------------ */

static _Thread_local int64_t fail_in;
void aj_file_fail(int64_t n) { fail_in = n; }
bool aj_may_fail(void) {
    if (fail_in <= 0 || --fail_in > 0) return false;
    errno = EIO;
    return true;
}

bool aj_write_all(int fd, const void *data, size_t size) {
    const char *p = data;
    while (size > 0) {
        if (aj_may_fail()) return false;
        ssize_t n = write(fd, p, size < STEP ? size : STEP);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            if (n == 0) errno = ENOSPC;
            return false;
        }
        p += n;
        size -= (size_t)n;
    }
    return true;
}

static bool sync_fd(int fd) {
    if (aj_may_fail()) return false;
    int r;
    do r = fsync(fd);
    while (r != 0 && errno == EINTR);
    return r == 0;
}

static bool sync_at(const char *path, int flags) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    if (fd < 0) return false;
    bool good = sync_fd(fd);
    /* Some file systems have no such call for folders: there the rename alone must do. */
    if (!good && (flags & O_DIRECTORY) && (errno == EINVAL || errno == ENOTSUP)) good = true;
    int reason = errno;
    close(fd);
    errno = reason;
    return good;
}

/* The folder that path stands in, in a buffer of PATH_MAX. */
static bool parent_of(const char *path, char *folder) {
    const char *slash = strrchr(path, '/');
    size_t n = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (n >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (n) memcpy(folder, path, n);
    else folder[n++] = '.';
    folder[n] = 0;
    return true;
}

bool aj_sync_parent(const char *path) {
    char folder[PATH_MAX];
    return parent_of(path, folder) && sync_at(folder, O_DIRECTORY);
}

bool aj_file_sync(const char *path) {
    struct stat st;
    if (stat(path, &st) == 0 && sync_at(path, S_ISDIR(st.st_mode) ? O_DIRECTORY : 0)) return true;
    return aj_error("file: %s: cannot be synced: %s", path, strerror(errno));
}

bool aj_file_replace(const char *from, const char *to) {
    if (aj_may_fail() || rename(from, to) != 0) return aj_error("file: %s: cannot be renamed to %s: %s", from, to, strerror(errno));
    if (!aj_sync_parent(to)) return aj_error("file: %s: is in place, but its folder cannot be synced: %s", to, strerror(errno));
    return true;
}

/* -- Writers ------------------------------------------------------------------------------------------------ */

const char *aj_writer_name(const aj_writer *w) { return w->path ? w->path : "(memory)"; }

static bool fail(const aj_writer *w, const char *what) {
    return aj_error("file: %s: %s: %s", aj_writer_name(w), what, strerror(errno));
}

/* What is to be replaced: where a symbolic link leads to, so that the link stays. */
static char *target_of(const char *path, mode_t *mode) {
    struct stat st;
    *mode = 0;
    if (stat(path, &st) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            char *copy = strdup(path);
            if (!copy) aj_error("file: %s: out of memory", path);
            return copy;
        }
        aj_error("file: %s: %s", path, strerror(errno));
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        aj_error("file: %s: %s", path, S_ISDIR(st.st_mode) ? "is a folder" : "is not a regular file: it would be replaced by one");
        return NULL;
    }
    *mode = st.st_mode & 07777;
    char *target = realpath(path, NULL);
    if (!target) aj_error("file: %s: %s", path, strerror(errno));
    return target;
}

static bool is_at(const char *path, int fd) {
    struct stat a, b;
    return lstat(path, &a) == 0 && fstat(fd, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Removes the temporary file of a writer that was killed: ours, and locked by nobody. */
static bool remove_stale(const char *path) {
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return false;
    struct stat st;
    bool stale = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0 && is_at(path, fd);
    if (stale) unlink(path);
    close(fd);
    return stale;
}

/* A new file beside path, locked while it is written. Its name is made of path's, so that what a killed writer left is
 * found and removed by the next; a second writer at the same time, or too long a name, makes another of numbers. */
static bool open_temporary(aj_writer *w, mode_t mode) {
    static int32_t count;
    const char *slash = strrchr(w->path, '/'), *base = slash ? slash + 1 : w->path;
    int folder = (int)(base - w->path);
    size_t room = strlen(w->path) + 64;
    w->temporary = malloc(room);
    if (!w->temporary) return aj_error("file: %s: out of memory", w->path);
    bool numbered = false;
    for (int tries = 0; tries < 1000; tries++) {
        if (numbered) {
            int32_t n = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
            snprintf(w->temporary, room, "%.*s.%ld-%d.aijit-tmp", folder, w->path, (long)getpid(), n);
        } else snprintf(w->temporary, room, "%.*s.%s.aijit-tmp", folder, w->path, base);
        w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd >= 0) {
            /* Another writer may have taken it for stale before it was locked. File systems without locks refuse in other ways. */
            bool taken = flock(w->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
            if (!taken && is_at(w->temporary, w->fd)) {
                if (mode && fchmod(w->fd, mode) != 0 && errno != EPERM) return fail(w, "cannot be given the old file's mode");
                return true;
            }
            close(w->fd);
            w->fd = -1;
            numbered = true;
        } else if (errno == EEXIST) numbered = numbered || !remove_stale(w->temporary);
        else if (errno == ENAMETOOLONG && !numbered) numbered = true;
        else if (errno != EINTR) break;
    }
    free(w->temporary);
    w->temporary = NULL;
    return fail(w, "cannot be created");
}

aj_writer *aj_writer_open(const char *path) {
    aj_writer *w = calloc(1, sizeof *w);
    if (!w) {
        aj_error("file: out of memory");
        return NULL;
    }
    w->fd = -1;
    w->memory = !path;
    if (!path) return w;
    mode_t mode;
    w->room = BUFFER;
    w->data = malloc(BUFFER);
    if (!w->data) aj_error("file: %s: out of memory", path);
    else if ((w->path = target_of(path, &mode)) && open_temporary(w, mode)) return w;
    aj_writer_drop(w);
    return NULL;
}

static bool put_memory(aj_writer *w, const void *data, size_t size) {
    if (size > w->room - w->size) {
        size_t room = w->room + w->room / 2;
        if (room < w->size + size) room = w->size + size;
        unsigned char *p = room < size ? NULL : realloc(w->data, room < 256 ? 256 : room);
        if (!p) return aj_error("file: out of memory: %zu bytes to hold, and %zu more", w->size, size);
        w->data = p;
        w->room = room < 256 ? 256 : room;
    }
    memcpy(w->data + w->size, data, size);
    w->size += size;
    return true;
}

static bool flush(aj_writer *w) {
    bool good = aj_write_all(w->fd, w->data, w->size);
    w->written += w->size;
    w->size = 0;
    return good || fail(w, "cannot be written");
}

bool aj_writer_put(aj_writer *w, const void *data, size_t size) {
    if (size == 0) return true;
    if (w->memory) return put_memory(w, data, size);
    if (w->fd < 0) return aj_error("file: %s: is closed", aj_writer_name(w));
    if (size > w->room - w->size && !flush(w)) return false;
    if (size <= w->room / 2) {
        memcpy(w->data + w->size, data, size);
        w->size += size;
        return true;
    }
    if (w->size && !flush(w)) return false;
    for (const char *p = data; size > 0;) {
        size_t n = size < STEP ? size : STEP;
        if (!aj_write_all(w->fd, p, n)) return fail(w, "cannot be written");
        p += n;
        size -= n;
        w->written += n;
        if (aj_interrupted()) return false;
    }
    return true;
}

bool aj_writer_patch(aj_writer *w, uint64_t at, const void *data, size_t size) {
    if (size == 0) return true;
    if (!w->memory && w->fd < 0) return aj_error("file: %s: is closed", aj_writer_name(w));
    if (at > w->written + w->size || size > w->written + w->size - at) return aj_error("file: %s: those bytes were never written", aj_writer_name(w));
    const char *p = data;
    while (at < w->written && size > 0) {
        size_t before = w->written - at < size ? (size_t)(w->written - at) : size;
        ssize_t n = -1;
        if (!aj_may_fail()) n = pwrite(w->fd, p, before, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return fail(w, "cannot be written");
        p += n;
        at += (uint64_t)n;
        size -= (size_t)n;
    }
    if (size > 0) memcpy(w->data + (at - w->written), p, size);
    return true;
}

bool aj_writer_commit(aj_writer *w) {
    if (w->memory || w->committed) return true;
    if (w->fd < 0) return aj_error("file: %s: is closed", aj_writer_name(w));
    if (!flush(w)) return false;
    if (!sync_fd(w->fd)) return fail(w, "cannot be synced");
    /* A network file system may tell only when a file is closed that there was no room; the lock must last beyond that. */
    int fd = w->fd;
    w->fd = dup(fd);
    if (close(fd) != 0 && errno != EINTR) return fail(w, "cannot be closed");
    if (aj_may_fail() || rename(w->temporary, w->path) != 0) return fail(w, "cannot be replaced");
    w->committed = true;
    if (w->fd >= 0) close(w->fd);
    w->fd = -1;
    if (!aj_sync_parent(w->path)) return fail(w, "is in place, but its folder cannot be synced");
    return true;
}

aj_blob *aj_writer_blob(aj_writer *w) {
    if (!w->memory) {
        aj_error("file: %s: this writer writes to a file", w->path);
        return NULL;
    }
    aj_blob *b = aj_blob_adopt(w->data, w->size, "(memory)");
    w->data = NULL;
    w->size = w->room = 0;
    return b;
}

void aj_writer_drop(aj_writer *w) {
    if (!w) return;
    /* Unlinked first: once the lock is gone the name may be another writer's. */
    if (w->temporary && !w->committed) unlink(w->temporary);
    if (w->fd >= 0) close(w->fd);
    free(w->temporary);
    free(w->path);
    free(w->data);
    free(w);
}
