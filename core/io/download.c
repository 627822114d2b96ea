/* download.c - fetches a URL into a file through libcurl, which is looked for only when something is fetched.
 *
 * Bytes go to PATH.part; when all are there and their checksum is right, it is synced and renamed. With a checksum
 * an interrupted download goes on where it stopped; without one it begins anew, since the server may have changed
 * the file. The environment's proxy settings hold.
 */
#include "io/curl.h"
#include "io/hash.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    const char *url, *path, *part, *sha256;
    int64_t limit, size;        /* size: bytes in the part file */
    int fd;
    bool failed;                /* aj_error has been called */
    char reason[256];           /* CURL_ERROR_SIZE */
} job;

static size_t take(char *data, size_t one, size_t n, void *arg) {
    job *j = arg;
    size_t size = one * n;
    if (j->limit > 0 && (int64_t)size > j->limit - j->size) {
        j->failed = true;
        aj_error("download: %s: larger than max_bytes = %" PRId64, j->url, j->limit);
        return 0;
    }
    if (!aj_write_all(j->fd, data, size)) {
        j->failed = true;
        aj_error("download: %s: cannot be written: %s", j->part, strerror(errno));
        return 0;
    }
    j->size += (int64_t)size;
    return size;
}

static int watch(void *arg, int64_t a, int64_t b, int64_t c, int64_t d) {
    (void)a, (void)b, (void)c, (void)d;
    job *j = arg;
    if (!j->failed && aj_interrupted()) j->failed = true;
    return j->failed;
}

static bool explain(const job *j, int code, long status) {
    const char *reason = j->reason[0] ? j->reason : aj_curl.text(code);
    if (code == CODE_HTTP) return aj_error("download: %s: the server answered %ld: check the url", j->url, status);
    if (code == CODE_URL || code == CODE_PROTOCOL) return aj_error("download: %s: %s: url must be http://, https:// or file://", j->url, reason);
    if (code == CODE_HOST || code == CODE_PROXY || code == CODE_CONNECT || code == CODE_TIMEOUT)
        return aj_error("download: %s: %s: is this machine offline? Put the file at %s yourself, or pass a url that it can reach", j->url, reason, j->path);
    return aj_error("download: %s: %s%s", j->url, reason, j->sha256 ? ": try again to go on from here" : "");
}

/* One transfer from where the part file ends; *again: the server cannot go on from there. */
static bool transfer(job *j, bool *again) {
    void *h = aj_curl.init();
    if (!h) return aj_error("download: %s: libcurl cannot start", j->url);
    aj_curl.set(h, OPT_URL, j->url);
    aj_curl.set(h, OPT_USERAGENT, "aijit");
    aj_curl.set(h, OPT_NOSIGNAL, 1L);
    aj_curl.set(h, OPT_ERRORBUFFER, j->reason);
    aj_curl.set(h, OPT_FAILONERROR, 1L);
    aj_curl.set(h, OPT_FOLLOWLOCATION, 1L);
    aj_curl.set(h, OPT_MAXREDIRS, 10L);
    aj_curl.set(h, OPT_PROTOCOLS, (long)(PROTO_HTTP | PROTO_HTTPS | PROTO_FILE));
    aj_curl.set(h, OPT_REDIR_PROTOCOLS, (long)(PROTO_HTTP | PROTO_HTTPS));
    aj_curl.set(h, OPT_CONNECTTIMEOUT, 30L);
    aj_curl.set(h, OPT_LOW_SPEED_LIMIT, 1L);
    aj_curl.set(h, OPT_LOW_SPEED_TIME, 60L);
    aj_curl.set(h, OPT_WRITEFUNCTION, take);
    aj_curl.set(h, OPT_WRITEDATA, (void *)j);
    aj_curl.set(h, OPT_XFERINFOFUNCTION, watch);
    aj_curl.set(h, OPT_XFERINFODATA, (void *)j);
    aj_curl.set(h, OPT_NOPROGRESS, 0L);
    bool resumes = j->size > 0;
    if (resumes) aj_curl.set(h, OPT_RESUME_FROM_LARGE, j->size);
    int code = aj_curl.perform(h);
    long status = 0;
    aj_curl.info(h, INFO_RESPONSE_CODE, &status);
    aj_curl.cleanup(h);
    if (code == CODE_OK) return true;
    if (j->failed) return false;
    /* 416: there is nothing past that place; the checksum will tell whether all is here. */
    if (resumes && code == CODE_HTTP && status == 416) return true;
    *again = resumes && (code == CODE_RANGE || code == CODE_RESUME);
    return *again ? false : explain(j, code, status);
}

static bool restart(job *j) {
    j->size = 0;
    if (ftruncate(j->fd, 0) == 0 && lseek(j->fd, 0, SEEK_SET) == 0) return true;
    return aj_error("download: %s: %s", j->part, strerror(errno));
}

/* The whole file, or false. */
static bool fetch(job *j) {
    bool again = false;
    bool resumed = j->size > 0;
    if (!transfer(j, &again)) {
        if (!again || !restart(j) || !transfer(j, &again)) return false;
        resumed = false;
    }
    if (!j->sha256) return true;
    char hex[65];
    if (!aj_sha256_file(j->part, hex)) return false;
    if (strcasecmp(hex, j->sha256) == 0) return true;
    if (!restart(j)) return false;
    if (resumed) return fetch(j);       /* what lay there was of another file: once more, from the start */
    return aj_error("download: %s: the SHA-256 of what came is %s, wanted is %s: the file was changed, or the url is wrong", j->url, hex, j->sha256);
}

static bool run(job *j) {
    j->fd = open(j->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (j->fd < 0) return aj_error("download: %s: cannot be created: %s", j->part, strerror(errno));
    struct stat st;
    if (flock(j->fd, LOCK_EX | LOCK_NB) != 0) {
        close(j->fd);
        return aj_error("download: %s: another program is fetching it now", j->part);
    }
    bool good = fstat(j->fd, &st) == 0 && lseek(j->fd, 0, SEEK_END) >= 0;
    if (!good) aj_error("download: %s: %s", j->part, strerror(errno));
    if (good) {
        j->size = (int64_t)st.st_size;
        if (!j->sha256 || (j->limit > 0 && j->size > j->limit)) good = restart(j);
    }
    good = good && fetch(j);
    if (good && fsync(j->fd) != 0) good = aj_error("download: %s: cannot be synced: %s", j->part, strerror(errno));
    if (good) good = aj_file_replace(j->part, j->path);
    else if (!j->sha256) unlink(j->part);
    close(j->fd);
    return good;
}

bool aj_download(const char *url, const char *path, const char *sha256, int64_t max_bytes) {
    if (!aj_curl_load())
        return aj_error("download: %s: libcurl is not installed (apt install libcurl4): or put the file at %s yourself", url, path);
    if (sha256 && (strlen(sha256) != 64 || strspn(sha256, "0123456789abcdefABCDEF") != 64))
        return aj_error("download: sha256 must be 64 hexadecimal digits, got \"%s\"", aj_shown(sha256, strlen(sha256)).text);
    size_t room = strlen(path) + 6;
    char *part = malloc(room);
    if (!part) return aj_error("download: out of memory");
    snprintf(part, room, "%s.part", path);
    job j = {.url = url, .path = path, .part = part, .sha256 = sha256, .limit = max_bytes};
    bool good = run(&j);
    free(part);
    return good;
}
