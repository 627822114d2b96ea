/* thread.c - the one pool of threads. */
#include "core.h"
#include <pthread.h>
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

void aj_parallel(int64_t n, int64_t grain, void (*f)(void *arg, int64_t lo, int64_t hi), void *arg) {
    if (n <= 0) return;
#ifndef AJ_NO_OPENMP
    int64_t most = n / (grain < 1 ? 1 : grain);
    int threads = aj_threads();
    if (most < threads) threads = (int)most;
    if (threads > 1 && !omp_in_parallel()) {
#pragma omp parallel num_threads(threads)
        {
            int64_t k = omp_get_thread_num(), of = omp_get_num_threads();
            int64_t lo = n * k / of, hi = n * (k + 1) / of;
            if (lo < hi) f(arg, lo, hi);
        }
        return;
    }
#else
    (void)grain;
#endif
    f(arg, 0, n);
}
