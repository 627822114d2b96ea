/* defined.c - asks memcheck whether bytes were ever written: loaded by uninitialised.lua, which runs under valgrind. */
#include <stddef.h>
#include <valgrind/memcheck.h>

int is_watched(void);
long undefined_at(const void *p, size_t n);
int is_watched(void) { return (int)RUNNING_ON_VALGRIND; }
/* The first byte of n that was not; -1: there is none. */
long undefined_at(const void *p, size_t n) {
    const char *bad = (const char *)VALGRIND_CHECK_MEM_IS_DEFINED(p, n);
    return bad ? (long)(bad - (const char *)p) : -1;
}
