/* curl.c - finds libcurl. */
#include "io/curl.h"
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

aj_curl_calls aj_curl;
static bool loaded;

static void load(void) {
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.4.dylib"};
    void *lib = NULL;
    for (size_t i = 0; !lib && i < sizeof names / sizeof *names; i++) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    int (*start)(long) = NULL;
    const struct { void *place; const char *name; } wanted[] = {
        {&aj_curl.init, "curl_easy_init"}, {&aj_curl.set, "curl_easy_setopt"}, {&aj_curl.perform, "curl_easy_perform"},
        {&aj_curl.info, "curl_easy_getinfo"}, {&aj_curl.cleanup, "curl_easy_cleanup"}, {&aj_curl.text, "curl_easy_strerror"},
        {&aj_curl.append, "curl_slist_append"}, {&aj_curl.free_list, "curl_slist_free_all"}, {&start, "curl_global_init"},
    };
    for (size_t i = 0; lib && i < sizeof wanted / sizeof *wanted; i++) {
        void *f = dlsym(lib, wanted[i].name);
        if (!f) return;
        memcpy(wanted[i].place, &f, sizeof f);
    }
    loaded = lib && start(3) == 0;      /* 3: everything */
}

bool aj_curl_load(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return loaded;
}
