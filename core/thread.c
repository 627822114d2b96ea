/* thread.c - the one pool of threads. */
#include "core.h"
#include <stdlib.h>
#include <unistd.h>
#ifndef AJ_NO_OPENMP
#include <omp.h>
#endif

static int wanted;
static bool deterministic;

void aj_set_deterministic(bool on) { deterministic = on; }
bool aj_deterministic(void) { return deterministic; }


int aj_threads(void) {
    if (!wanted) {
        const char *s = getenv("OMP_NUM_THREADS");
        long n = s ? strtol(s, NULL, 10) : 0;
        if (n < 1) n = sysconf(_SC_NPROCESSORS_ONLN);
        wanted = n < 1 ? 1 : n > 256 ? 256 : (int)n;
        aj_ctx.state.threads = wanted;
    }
    return wanted;
}

void aj_set_num_threads(int32_t n) {
    wanted = n < 1 ? 1 : n > 256 ? 256 : n;
    aj_ctx.state.threads = wanted;
#ifndef AJ_NO_OPENMP
    omp_set_num_threads(wanted);
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
