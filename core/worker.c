/* worker.c - starting, stopping and ending threads that run a Lua state. */
#include "core.h"
#include "worker.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifndef AJ_NO_OPENMP
#include <omp.h>
#endif

struct aj_thread {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    aj_program program;
    void *L;
    int32_t arguments, refs;            /* refs: the handle and the thread itself */
    bool stop, ended;                   /* stop: atomic */
    aj_state_t *state;                  /* while it runs */
    char *problem;
    aj_thread *next, **link;            /* among those that run */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static aj_thread *running;
static bool has_end;

static void release(aj_thread *t) {
    if (__atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL) != 0) return;
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t->problem);
    free(t);
}

static void leave(aj_thread *t) {
    pthread_mutex_lock(&lock);
    *t->link = t->next;
    if (t->next) t->next->link = t->link;
    pthread_mutex_unlock(&lock);
}

static void ask(aj_thread *t) {
    __atomic_store_n(&t->stop, true, __ATOMIC_RELAXED);
    pthread_mutex_lock(&t->lock);
    if (t->state) __atomic_fetch_or(&t->state->attend, AJ_INTERRUPTED, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&t->lock);
}

/* When the process ends by exit(): what its libraries tear down must not be in use. One that does not answer is left. */
static void end_all(void) {
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&lock);
        bool none = !running;
        for (aj_thread *t = running; t; t = t->next) ask(t);
        pthread_mutex_unlock(&lock);
        if (none) return;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
}

static void *run(void *arg) {
    aj_thread *t = arg;
    __atomic_store_n(&aj_ctx.stop, &t->stop, __ATOMIC_RELAXED);
    aj_ctx.limit = 1;
#ifndef AJ_NO_OPENMP
    omp_set_num_threads(1);
#endif
    aj_state_t *state = aj_state();
    pthread_mutex_lock(&t->lock);
    t->state = state;
    if (__atomic_load_n(&t->stop, __ATOMIC_RELAXED)) aj_attend(AJ_INTERRUPTED);
    pthread_mutex_unlock(&t->lock);
    if (t->program.call(t->L, t->arguments, 0, 0) != 0) {
        const char *text = t->program.text(t->L, -1, NULL);
        t->problem = strdup(text ? text : "an error without a message");
    }
    t->program.close(t->L);
    pthread_mutex_lock(&t->lock);
    t->state = NULL;
    pthread_mutex_unlock(&t->lock);
    aj_thread_leave();                                   /* whoever joins it finds memory as it left it */
    pthread_mutex_lock(&t->lock);
    t->ended = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    leave(t);
    static bool gone = true;
    __atomic_store_n(&aj_ctx.stop, &gone, __ATOMIC_RELAXED);
    release(t);
    return NULL;
}

aj_thread *aj_thread_start(const aj_program *program, void *L, int32_t arguments) {
    aj_thread *t = calloc(1, sizeof *t);
    if (!t) {
        program->close(L);
        aj_error("out of memory: no room for a thread");
        return NULL;
    }
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_t how;
    pthread_condattr_init(&how);
    pthread_condattr_setclock(&how, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &how);
    pthread_condattr_destroy(&how);
    t->program = *program;
    t->L = L;
    t->arguments = arguments;
    t->refs = 2;
    pthread_mutex_lock(&lock);
    if (!has_end) has_end = atexit(end_all) == 0;
    t->next = running;
    t->link = &running;
    if (running) running->link = &t->next;
    running = t;
    pthread_mutex_unlock(&lock);

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);         /* signals are the first thread's */
    pthread_t thread;
    int error = pthread_create(&thread, &attributes, run, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!error) return t;
    leave(t);
    program->close(L);
    t->refs = 1;
    release(t);
    aj_error("thread: the system gives no other thread: %s", strerror(error));
    return NULL;
}

int32_t aj_thread_join(aj_thread *t, int32_t timeout) {
    enum { SLICE = 20 };
    int32_t r = AJ_CHANNEL_OK;
    pthread_mutex_lock(&t->lock);
    while (!t->ended) {
        if (aj_interrupted()) { r = AJ_CHANNEL_ERROR; break; }
        if (timeout <= 0) { r = AJ_TIMED_OUT; break; }
        int32_t ms = timeout < SLICE ? timeout : SLICE;
        timeout -= ms;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += ms * 1000000L;
        if (until.tv_nsec >= 1000000000L) { until.tv_nsec -= 1000000000L; until.tv_sec++; }
        pthread_cond_timedwait(&t->changed, &t->lock, &until);
    }
    pthread_mutex_unlock(&t->lock);
    return r;
}

const char *aj_thread_problem(aj_thread *t) { return t->problem; }

void aj_thread_stop(aj_thread *t) { ask(t); }

void aj_thread_drop(aj_thread *t) {
    if (t) release(t);
}
