/* thread.c - the one pool of threads.
 *
 * A job is cut into more shares than there are threads. Its caller takes them from the front, workers that are free from the
 * back, and the caller waits for those shares only that a worker has begun. So a worker that does not come to run, as beside
 * another process that keeps its core busy, holds nobody up.
 */
#include "core.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#ifndef AJ_NO_OPENMP
#include <omp.h>
#endif

/* Of the process, and read by every thread. */
static int wanted;
static bool deterministic, tf32;

void aj_set_deterministic(bool on) { __atomic_store_n(&deterministic, on, __ATOMIC_RELAXED); }
bool aj_deterministic(void) { return __atomic_load_n(&deterministic, __ATOMIC_RELAXED); }
void aj_set_tf32(bool on) { __atomic_store_n(&tf32, on, __ATOMIC_RELAXED); }
bool aj_tf32(void) { return __atomic_load_n(&tf32, __ATOMIC_RELAXED); }

static pthread_key_t at_end;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void leave(void *unused) {
    (void)unused;
    aj_scope_leave();
    aj_backward_leave();
    aj_graph_leave();
    aj_onednn_leave();
    aj_tensor_leave();
    aj_memory_leave();
    aj_error_leave();
    aj_watch_leave();
    aj_leaves_leave();
}
static bool has_end;                     /* false where the system has no key left: then what threads keep is lost with them */
static void start(void) { has_end = pthread_key_create(&at_end, leave) == 0; }
void aj_thread_enter(void) {
    pthread_once(&once, start);
    if (has_end) pthread_setspecific(at_end, &aj_ctx);
}

void aj_thread_leave(void) {
    leave(NULL);
    if (has_end) pthread_setspecific(at_end, NULL);
}

int aj_threads(void) {
    if (aj_ctx.limit) return aj_ctx.limit;
    int n = __atomic_load_n(&wanted, __ATOMIC_RELAXED);
    if (AJ_UNLIKELY(!n)) {
        const char *s = getenv("OMP_NUM_THREADS");
        long told = s ? strtol(s, NULL, 10) : 0;
        if (told < 1) told = sysconf(_SC_NPROCESSORS_ONLN);
        n = told < 1 ? 1 : told > 256 ? 256 : (int)told;
        __atomic_store_n(&wanted, n, __ATOMIC_RELAXED);
        aj_ctx.state.threads = n;
    }
    return n;
}

int32_t aj_thread_limit(int32_t n) {
    int32_t before = aj_ctx.limit;
    aj_ctx.limit = n < 0 ? 0 : n > 256 ? 256 : n;
    return before;
}

void aj_set_num_threads(int32_t n) {
    n = n < 1 ? 1 : n > 256 ? 256 : n;
    if (aj_ctx.limit) { aj_ctx.limit = n; return; }
    __atomic_store_n(&wanted, n, __ATOMIC_RELAXED);
    aj_ctx.state.threads = n;
#ifndef AJ_NO_OPENMP
    omp_set_num_threads(n);
#endif
}

/* -- The pool ------------------------------------------------------------------------------------------------------------- */

/* SPINS: some 25 microseconds, less than the system takes to wake a thread, in which the next job of a program often comes.
 * WORTH: a grain is some 20 microseconds, and fewer of them are done before a worker that sleeps would be at its share. */
enum { SPINS = 2000, SHARES = 4, WORTH = 8 };
typedef struct job {
    void (*f)(void *arg, int64_t lo, int64_t hi);
    void *arg;
    int64_t n;
    uint32_t shares;
    uint64_t taken;             /* atomic: shares from the front, and in the upper half those from the back */
    int room;                   /* for so many more workers; under the lock */
    int workers;                /* that are at it; atomic, written under the lock */
    struct job *next;
} job;
static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    job *jobs;
    int threads, asleep;        /* workers; atomic, written under the lock */
    uint32_t posted;            /* atomic: counts jobs */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
static _Thread_local bool inside;

bool aj_in_parallel(void) { return inside; }

static inline void rest(void) {
#if defined __x86_64__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("yield");
#endif
}

static inline bool exhausted(job *j) {
    uint64_t t = __atomic_load_n(&j->taken, __ATOMIC_RELAXED);
    return (uint32_t)t + (uint32_t)(t >> 32) >= j->shares;
}

static void run_shares(job *j, bool back) {
    uint64_t t = __atomic_load_n(&j->taken, __ATOMIC_RELAXED);
    inside = true;
    while ((uint32_t)t + (uint32_t)(t >> 32) < j->shares) {
        if (!__atomic_compare_exchange_n(&j->taken, &t, t + (back ? (uint64_t)1 << 32 : 1), true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
        int64_t k = back ? j->shares - 1 - (uint32_t)(t >> 32) : (uint32_t)t;
        j->f(j->arg, j->n * k / j->shares, j->n * (k + 1) / j->shares);
        t = __atomic_load_n(&j->taken, __ATOMIC_RELAXED);
    }
    inside = false;
}

static void *work(void *unused) {
    (void)unused;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        job *j = pool.jobs;
        while (j && (j->room <= 0 || exhausted(j))) j = j->next;
        if (j) {
            j->room--;
            __atomic_fetch_add(&j->workers, 1, __ATOMIC_RELAXED);
            pthread_mutex_unlock(&pool.lock);
            run_shares(j, true);
            pthread_mutex_lock(&pool.lock);
            if (__atomic_sub_fetch(&j->workers, 1, __ATOMIC_RELEASE) == 0) pthread_cond_broadcast(&pool.done);
            continue;
        }
        uint32_t seen = __atomic_load_n(&pool.posted, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&pool.lock);
        for (int i = 0; i < SPINS && __atomic_load_n(&pool.posted, __ATOMIC_RELAXED) == seen; i++) rest();
        pthread_mutex_lock(&pool.lock);
        __atomic_fetch_add(&pool.asleep, 1, __ATOMIC_RELAXED);
        while (__atomic_load_n(&pool.posted, __ATOMIC_RELAXED) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
        __atomic_fetch_sub(&pool.asleep, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* Under the lock: so many workers, as far as the system gives them. Signals are for the threads of the program. */
static void hire(int n) {
    if (AJ_LIKELY(pool.threads >= n)) return;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_t id;
    while (pool.threads < n && pthread_create(&id, &attr, work, NULL) == 0) __atomic_fetch_add(&pool.threads, 1, __ATOMIC_RELAXED);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void run_together(job *j) {
    pthread_mutex_lock(&pool.lock);
    hire(j->room);
    j->next = pool.jobs;
    pool.jobs = j;
    __atomic_fetch_add(&pool.posted, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < j->room && i < pool.asleep; i++) pthread_cond_signal(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    run_shares(j, false);
    for (int i = 0; i < SPINS && __atomic_load_n(&j->workers, __ATOMIC_RELAXED) > 0; i++) rest();
    pthread_mutex_lock(&pool.lock);
    job **at = &pool.jobs;
    while (*at != j) at = &(*at)->next;
    *at = j->next;
    while (__atomic_load_n(&j->workers, __ATOMIC_ACQUIRE) > 0) pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

void aj_parallel(int64_t n, int64_t grain, void (*f)(void *arg, int64_t lo, int64_t hi), void *arg) {
    if (n <= 0) return;
    int64_t most = n / (grain < 1 ? 1 : grain);
    int threads = most > 1 && !inside ? aj_threads() : 1;
    if (most < threads) threads = (int)most;
    /* One item may be far more than a grain; several to a grain are not. */
    bool small = most < WORTH && grain > 1 && __atomic_load_n(&pool.threads, __ATOMIC_RELAXED) <= __atomic_load_n(&pool.asleep, __ATOMIC_RELAXED);
    if (threads > 1 && !small) {
        int64_t shares = most < (int64_t)threads * SHARES ? most : (int64_t)threads * SHARES;
        run_together(&(job){.f = f, .arg = arg, .n = n, .shares = (uint32_t)shares, .room = threads - 1});
    } else f(arg, 0, n);
}
