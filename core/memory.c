/* memory.c - storages, and the caching allocator of the CPU.
 *
 * A storage and its bytes are one block, from a free list of its size class; blocks go back to the list, not to the
 * system, until aj_memory_trim() or a failed allocation. Small blocks are carved from slabs; those of a megabyte and
 * more are maps of their own, from two megabytes on in huge pages: a sum of two tensors of 16 MiB then runs at 40 GB/s, and
 * at 22 in pages of 4 KiB.
 *
 * With AIJIT_DEBUG set, and under the address sanitizer, every storage is an allocation of its own and of its own size, so
 * that a tool sees what is read before it is written, after it is freed, or beyond its end.
 */
#include "core.h"
#include "watch.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { UNIT = 64, CLASSES = 160, SLAB = 1 << 18, CARVED = 1 << 14, MAPPED = 1 << 20, PAGE = 1 << 12, HUGE_PAGE = 1 << 21 };
typedef struct block { struct block *next; } block;

/* One cache for a thread. The counts are of the whole process; a thread adds its own in lumps, since an atomic addition
 * costs as much as the rest of an allocation. */
typedef struct aj_blocks {
    block *free[CLASSES];
    char *slab;
    int64_t left, live, cached;
    int64_t taken;                      /* bytes in all, also those given back since */
    struct aj_blocks *next;
    int64_t fail_at;                    /* for tests, counts down to the allocation that fails */
    block *returned;                    /* atomic: blocks of this cache that other threads let go of last */
    bool ended;                         /* atomic: its thread is gone, and no other has taken it over */
} blocks;
static _Thread_local blocks *own;
static blocks *left_over;               /* caches of threads that ended, under the lock; a new thread takes one */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { int64_t live, peak, cached, limit, govern; } count;
enum { LUMP = 1 << 20 };
static inline int64_t get(const int64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void set(int64_t *p, int64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }

static int class_of(int64_t bytes) {
    uint64_t n = ((uint64_t)bytes + UNIT - 1) / UNIT;
    if (n <= 16) return n ? (int)n - 1 : 0;
    int e = 63 - __builtin_clzll(n - 1);
    return 16 + (e - 4) * 4 + (int)(((n - 1) >> (e - 2)) & 3);
}
/* A map has a page on top for its header: a tensor of a power of two would else take a class a quarter larger. */
static int64_t class_bytes(int c) {
    if (c < 16) return (int64_t)(c + 1) * UNIT;
    int e = (c - 16) / 4 + 4, sub = (c - 16) % 4;
    int64_t bytes = (int64_t)(5 + sub) << (e - 2) << 6;
    return bytes < MAPPED ? bytes : bytes + PAGE;
}
static int class_for(int64_t bytes) {
    int c = class_of(bytes + UNIT);
    return c && class_bytes(c - 1) >= bytes + UNIT ? c - 1 : c;
}

static blocks *cache_new(void) {
    aj_thread_enter();
    pthread_mutex_lock(&lock);
    own = left_over;
    if (own) left_over = own->next;
    if (own) __atomic_store_n(&own->ended, false, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&lock);
    return own ? own : (own = calloc(1, sizeof *own));
}

static void flush(void) {
    if (!own) return;
    __atomic_fetch_add(&count.live, own->live, __ATOMIC_RELAXED);
    __atomic_fetch_add(&count.cached, own->cached, __ATOMIC_RELAXED);
    own->live = own->cached = 0;
}
void aj_memory_leave(void) {
    if (!own) return;
    flush();
    __atomic_store_n(&own->ended, true, __ATOMIC_RELAXED);
    aj_memory_trim(AJ_CPU);
    flush();
    pthread_mutex_lock(&lock);
    own->next = left_over;
    left_over = own;
    pthread_mutex_unlock(&lock);
    own = NULL;
}
static inline int64_t live_now(void) { return __atomic_load_n(&count.live, __ATOMIC_RELAXED) + own->live; }

int64_t aj_memory_taken(void) { return own ? own->taken : 0; }

static void *system_block(int64_t bytes) {
    if (bytes >= MAPPED) {
        size_t room = (size_t)bytes + (bytes >= HUGE_PAGE ? HUGE_PAGE : 0);
        char *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return NULL;
        if (bytes < HUGE_PAGE) return p;
        size_t before = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
        if (before) munmap(p, before);
        munmap(p + before + bytes, HUGE_PAGE - before);
        madvise(p + before, (size_t)bytes, MADV_HUGEPAGE);
        return p + before;
    }
    if (bytes > CARVED) return aligned_alloc(UNIT, (size_t)bytes);
    if (own->left < bytes) {
        char *slab = aligned_alloc(UNIT, SLAB);
        if (!slab) return NULL;
        own->slab = slab; own->left = SLAB;            /* what was left of the last slab is given up */
    }
    void *p = own->slab;
    own->slab += bytes; own->left -= bytes;
    return p;
}

static void system_free(void *p, int64_t bytes) {
    if (bytes >= MAPPED) munmap(p, (size_t)bytes);
    else free(p);
}

/* A loader's thread makes what another one frees: without a way home the blocks would pile up there. */
static bool take_returned(void) {
    if (!__atomic_load_n(&own->returned, __ATOMIC_RELAXED)) return false;
    block *b = __atomic_exchange_n(&own->returned, NULL, __ATOMIC_ACQUIRE);
    while (b) {
        block *next = b->next;
        int c = ((aj_storage *)b)->size_class;
        b->next = own->free[c];
        own->free[c] = b;
        b = next;
    }
    return true;
}

static void return_to(blocks *home, block *b) {
    b->next = __atomic_load_n(&home->returned, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&home->returned, &b->next, b, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) { }
}

void aj_memory_trim(int32_t device) {
    if (device >= 0) {
        if (aj_plugged && device < aj_plugged->device->count) aj_plugged->device->trim(device);
        return;
    }
    if (!own) return;
    take_returned();
    for (int c = class_of(CARVED) + 1; c < CLASSES; c++) {
        while (own->free[c]) {
            block *b = own->free[c];
            own->free[c] = b->next;
            system_free(b, class_bytes(c));
            own->cached -= class_bytes(c);
        }
    }
}

void aj_put_bytes(char *to, size_t size, int64_t bytes) {
    static const char *unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1024 && u < 6) { v /= 1024; u++; }
    snprintf(to, size, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
}

static bool out_of_memory(int64_t bytes) {
    char asked[32], live[32], cached[32], limit[48] = "";
    flush();
    aj_put_bytes(asked, sizeof asked, bytes);
    aj_put_bytes(live, sizeof live, get(&count.live));
    aj_put_bytes(cached, sizeof cached, get(&count.cached));
    if (get(&count.limit)) {
        char l[32];
        aj_put_bytes(l, sizeof l, get(&count.limit));
        snprintf(limit, sizeof limit, ", limit %s", l);
    }
    return aj_error("out of memory: asked for %s on the cpu; live %s, cached %s%s", asked, live, cached, limit);
}

static bool refused(int64_t bytes) {
    if (AJ_UNLIKELY(own->fail_at != 0) && (own->fail_at > 0 ? --own->fail_at == 0 : own->fail_at == -1 || !++own->fail_at)) return true;
    int64_t limit = get(&count.limit);
    return limit && live_now() + bytes > limit;
}

#ifdef __SANITIZE_ADDRESS__
static bool apart = true;
#else
static bool apart;
#endif
int64_t aj_stream_from = 16 << 20;      /* half of a usual last cache: the other is for what is read */
__attribute__((constructor)) static void read_environment(void) {
    const char *s = getenv("AIJIT_DEBUG"), *stream = getenv("AIJIT_STREAM");
    apart |= s && *s && strcmp(s, "0") != 0;
    if (stream && !strcmp(stream, "never")) aj_stream_from = INT64_MAX;
    if (stream && !strcmp(stream, "always")) aj_stream_from = PAGE;
}

static void *take(int64_t bytes, int c) {
    if (AJ_UNLIKELY(!own && !cache_new())) return NULL;
    if (AJ_UNLIKELY(refused(bytes))) return NULL;
    block *b = own->free[c];
    if (AJ_UNLIKELY(!b) && take_returned()) b = own->free[c];
    if (AJ_LIKELY(b != NULL)) {
        own->free[c] = b->next;
        own->cached -= bytes;
    } else if (AJ_UNLIKELY(apart)) {
        void *p;
        if (posix_memalign(&p, UNIT, (size_t)bytes)) return NULL;
        b = p;
    } else {
        b = system_block(bytes);
        if (!b) {
            aj_memory_trim(AJ_CPU);
            b = system_block(bytes);
            if (!b) return NULL;
        }
    }
    own->live += bytes;
    own->taken += bytes;
    int64_t live = live_now();
    int64_t peak = get(&count.peak), govern = get(&count.govern);
    while (AJ_UNLIKELY(live > peak) && !__atomic_compare_exchange_n(&count.peak, &peak, live, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) { }
    if (AJ_UNLIKELY(live > govern && govern)) aj_attend(AJ_GOVERN);
    if (AJ_UNLIKELY(own->live > LUMP)) flush();
    return b;
}

static void give_back(void *p, int64_t bytes, int c, blocks *home) {
    if (AJ_UNLIKELY(!own && !cache_new())) return;       /* lost, in a thread that never made a tensor */
    own->live -= bytes;
    if (AJ_UNLIKELY(apart)) free(p);
    else {
        block *b = p;
        own->cached += bytes;
        if (AJ_UNLIKELY(home != own) && !__atomic_load_n(&home->ended, __ATOMIC_RELAXED)) return_to(home, b);
        else {
            b->next = own->free[c];
            own->free[c] = b;
        }
    }
    if (AJ_UNLIKELY(own->live < -LUMP)) flush();
}

/* Where the collector is run for a device's sake: from a quarter of its memory on, and from twice what lived after the last time. */
enum { DEVICES = 64 };
static struct { int64_t floor, govern; } governed[DEVICES];
static void govern_device(int32_t device) {
    aj_memory_t m;
    aj_device_t about;
    if (device >= DEVICES || !get(&count.govern)) return;
    if (!get(&governed[device].floor)) {
        int64_t floor = aj_plugged->device->describe(device, &about) ? about.total / 4 + 1 : INT64_MAX;
        set(&governed[device].govern, floor);
        set(&governed[device].floor, floor);
    }
    aj_plugged->device->memory(device, &m);
    if (AJ_UNLIKELY(m.live > get(&governed[device].govern))) aj_attend(AJ_GOVERN);
}

/* On another device the header stays with us, and its data are a block of that device's allocator. */
static aj_storage *device_storage(int64_t bytes, int32_t device) {
    aj_storage *s = aj_storage_new(0, AJ_CPU);
    if (!s) return NULL;
    int64_t size;
    void *theirs, *data = aj_plugged->device->take(device, bytes, &size, &theirs);
    if (!data) { aj_storage_drop(s); return NULL; }
    s->data = data; s->arg = theirs;
    s->device = device;
    govern_device(device);
    return s;
}

aj_storage *aj_storage_new(int64_t bytes, int32_t device) {
    if (AJ_UNLIKELY(device != AJ_CPU)) {
        if (device >= 0) return device_storage(bytes, device);
        bytes = 0;
    }
    if (bytes < 0 || bytes > INT64_MAX / 4) { out_of_memory(bytes < 0 ? INT64_MAX : bytes); return NULL; }
    int c = class_for(bytes);
    int64_t size = AJ_UNLIKELY(apart) ? bytes + UNIT : class_bytes(c);
    aj_storage *s = take(size, c);
    if (AJ_UNLIKELY(!s)) { out_of_memory(bytes); return NULL; }
    s->data = (char *)s + UNIT;
    s->bytes = size;
    s->refs = 1; s->version = 0; s->device = device; s->size_class = c; s->era = aj_ctx.era; s->left = 0; s->home = own;
    return s;
}
_Static_assert(sizeof(aj_storage) <= UNIT, "a storage's header fits the room before its data");

void aj_storage_drop(aj_storage *s) {
    if (__atomic_load_n(&s->refs, __ATOMIC_ACQUIRE) != 1 && __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) != 0) return;
    if (s->size_class == -2) {
        if (s->done) s->done(s->arg);
        free(s);
        return;
    }
    if (AJ_UNLIKELY(s->device >= 0)) aj_plugged->device->give(s->device, s->arg);
    give_back(s, s->bytes, s->size_class, s->home);
}

/* Scratch remembers its class in front of itself. As it is soon given back, a large one takes any cached block that is
 * large enough: else each of many sizes would keep a block of its own. */
void *aj_scratch(int64_t bytes) {
    int c = bytes >= MAPPED && bytes <= INT64_MAX / 4 ? class_for(bytes) : CLASSES;
    while (own && c < CLASSES && !own->free[c]) c++;
    aj_storage *s = aj_storage_new(own && c < CLASSES ? class_bytes(c) - UNIT : bytes, AJ_CPU);
    return s ? s->data : NULL;
}
void aj_scratch_free(void *p) {
    if (p) aj_storage_drop((aj_storage *)((char *)p - UNIT));
}

void aj_memory(int32_t device, aj_memory_t *out) {
    extern int64_t aj_tensors_alive(void);
    if (device != AJ_CPU) {
        memset(out, 0, sizeof *out);
        if (device >= 0 && device < aj_device_count()) aj_plugged->device->memory(device, out);
        return;
    }
    flush();
    *out = (aj_memory_t){get(&count.live), get(&count.peak), get(&count.cached), aj_tensors_alive(), get(&count.limit)};
}
void aj_memory_reset_peak(int32_t device) {
    if (device == AJ_CPU) { flush(); set(&count.peak, get(&count.live)); }
    else if (device >= 0 && device < aj_device_count()) aj_plugged->device->reset_peak(device);
}
void aj_memory_limit(int64_t bytes) { set(&count.limit, bytes); }
void aj_govern(int64_t bytes) {
    set(&count.govern, bytes);
    flush();
    for (int32_t n = 0; n < aj_device_loaded() && n < DEVICES; n++) {
        int64_t floor = get(&governed[n].floor);
        aj_memory_t m;
        if (!floor) continue;
        aj_plugged->device->memory(n, &m);
        set(&governed[n].govern, 2 * m.live > floor ? 2 * m.live : floor);
    }
    if (!bytes || get(&count.live) <= bytes) aj_attend_no_more(AJ_GOVERN);
}
void aj_fail_allocation(int64_t n) { if (own || cache_new()) own->fail_at = n; }
