/* fail.c - makes the core's own allocations fail: preloaded, it stands before malloc and its kin, and counts the calls that
 * libaijit makes. From the n-th on they fail, until fail_from(0). Calls of other libraries go through.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

static uintptr_t low, high;             /* where libaijit's code lies */
static long from, count;

static int look(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size; (void)unused;
    if (!info->dlpi_name || !strstr(info->dlpi_name, "libaijit.so")) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X)) continue;
        low = info->dlpi_addr + p->p_vaddr;
        high = low + p->p_memsz;
    }
    return 1;
}
void fail_from(long n);
long fail_count(void);
void fail_from(long n) {
    if (!low) dl_iterate_phdr(look, NULL);
    count = 0;
    from = n;
}
long fail_count(void) { return low ? count : -1; }

static bool fails(void *caller) {
    uintptr_t at = (uintptr_t)caller;
    if (!from || at < low || at >= high) return false;
    if (++count < from) return false;
    errno = ENOMEM;
    return true;
}
#define FAILS fails(__builtin_return_address(0))

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
void *malloc(size_t size) { return FAILS ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return FAILS ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { return FAILS ? NULL : __libc_realloc(p, size); }
void *aligned_alloc(size_t align, size_t size) { return FAILS ? NULL : __libc_memalign(align, size); }
void *mmap(void *p, size_t size, int prot, int flags, int fd, off_t offset) {
    static void *(*next)(void *, size_t, int, int, int, off_t);
    if (!next) next = (void *(*)(void *, size_t, int, int, int, off_t))(uintptr_t)dlsym(RTLD_NEXT, "mmap");
    return FAILS ? MAP_FAILED : next(p, size, prot, flags, fd, offset);
}
