/* curl.h - libcurl, which is looked for only when something is fetched or sent. */
#ifndef AJ_CURL_H
#define AJ_CURL_H
#include "core.h"

/* Its own numbers, which its interface keeps for ever; so no header of it is needed to build. */
enum {
    OPT_WRITEDATA = 10001, OPT_URL = 10002, OPT_ERRORBUFFER = 10010, OPT_POSTFIELDS = 10015, OPT_USERAGENT = 10018, OPT_HTTPHEADER = 10023,
    OPT_CUSTOMREQUEST = 10036, OPT_LOW_SPEED_LIMIT = 19, OPT_LOW_SPEED_TIME = 20, OPT_NOPROGRESS = 43, OPT_FAILONERROR = 45, OPT_FOLLOWLOCATION = 52,
    OPT_XFERINFODATA = 10057, OPT_MAXREDIRS = 68, OPT_CONNECTTIMEOUT = 78, OPT_NOSIGNAL = 99, OPT_TIMEOUT_MS = 155, OPT_CONNECTTIMEOUT_MS = 156,
    OPT_PROTOCOLS = 181, OPT_REDIR_PROTOCOLS = 182, OPT_WRITEFUNCTION = 20011, OPT_XFERINFOFUNCTION = 20219, OPT_RESUME_FROM_LARGE = 30116,
    OPT_POSTFIELDSIZE_LARGE = 30120, INFO_RESPONSE_CODE = 0x200002,
    PROTO_HTTP = 1, PROTO_HTTPS = 2, PROTO_FILE = 1024,
    CODE_OK = 0, CODE_PROTOCOL = 1, CODE_URL = 3, CODE_PROXY = 5, CODE_HOST = 6, CODE_CONNECT = 7, CODE_HTTP = 22, CODE_TIMEOUT = 28, CODE_RANGE = 33,
    CODE_RESUME = 36,
};
typedef struct {
    void *(*init)(void);
    int (*set)(void *, int, ...);
    int (*perform)(void *);
    int (*info)(void *, int, ...);
    void (*cleanup)(void *);
    const char *(*text)(int);
    void *(*append)(void *, const char *);
    void (*free_list)(void *);
} aj_curl_calls;
extern aj_curl_calls aj_curl;
bool aj_curl_load(void);        /* false: it is not installed */
#endif
