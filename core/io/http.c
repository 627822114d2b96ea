/* http.c - one request over HTTP and its answer, through libcurl. The environment's proxy settings hold. */
#include "io/blob.h"
#include "io/curl.h"
#include <stdlib.h>

enum { MAX_ANSWER = 64 << 20 };

typedef struct {
    unsigned char *data;
    size_t size, room;
    const char *problem;
} answer;

static size_t take(char *data, size_t one, size_t n, void *arg) {
    answer *a = arg;
    size_t size = one * n;
    if (size > MAX_ANSWER - a->size) {
        a->problem = "the answer is larger than 64 MB";
        return 0;
    }
    if (a->room - a->size < size) {
        size_t room = 2 * (a->size + size);
        unsigned char *p = realloc(a->data, room);
        if (!p) {
            a->problem = "out of memory";
            return 0;
        }
        a->data = p;
        a->room = room;
    }
    memcpy(a->data + a->size, data, size);
    a->size += size;
    return size;
}

static int watch(void *arg, int64_t a, int64_t b, int64_t c, int64_t d) {
    (void)arg, (void)a, (void)b, (void)c, (void)d;
    return aj_interrupted();
}

aj_blob *aj_http(const char *method, const char *url, int64_t n, const char *const *headers, const void *body, size_t size, int32_t timeout, int32_t *status) {
    *status = 0;
    void *h = aj_curl_load() ? aj_curl.init() : NULL;
    if (!h) {
        aj_error("http: %s: libcurl is not installed (apt install libcurl4)", url);
        return NULL;
    }
    char reason[256] = "";              /* CURL_ERROR_SIZE */
    answer a = {0};
    void *list = NULL;
    for (int64_t i = 0; i < n; i++) {
        void *longer = aj_curl.append(list, headers[i]);
        if (longer) list = longer;
        else a.problem = "out of memory";
    }
    aj_curl.set(h, OPT_URL, url);
    aj_curl.set(h, OPT_USERAGENT, "aijit");
    aj_curl.set(h, OPT_NOSIGNAL, 1L);
    aj_curl.set(h, OPT_ERRORBUFFER, reason);
    aj_curl.set(h, OPT_PROTOCOLS, (long)(PROTO_HTTP | PROTO_HTTPS));
    aj_curl.set(h, OPT_CONNECTTIMEOUT_MS, (long)timeout);
    aj_curl.set(h, OPT_TIMEOUT_MS, (long)timeout);
    aj_curl.set(h, OPT_HTTPHEADER, list);
    if (body) {
        aj_curl.set(h, OPT_POSTFIELDSIZE_LARGE, (int64_t)size);
        aj_curl.set(h, OPT_POSTFIELDS, body);
    }
    aj_curl.set(h, OPT_CUSTOMREQUEST, method);
    aj_curl.set(h, OPT_WRITEFUNCTION, take);
    aj_curl.set(h, OPT_WRITEDATA, (void *)&a);
    aj_curl.set(h, OPT_XFERINFOFUNCTION, watch);
    aj_curl.set(h, OPT_NOPROGRESS, 0L);
    int code = a.problem ? CODE_OK : aj_curl.perform(h);
    long number = 0;
    aj_curl.info(h, INFO_RESPONSE_CODE, &number);
    *status = (int32_t)number;
    aj_curl.cleanup(h);
    aj_curl.free_list(list);
    aj_blob *b = NULL;
    if (a.problem || code != CODE_OK)
        aj_error("http: %s %s: %s", method, url, a.problem ? a.problem : reason[0] ? reason : aj_curl.text(code));
    else b = aj_blob_of(a.data ? (const void *)a.data : "", a.size, url);
    free(a.data);
    return b;
}
