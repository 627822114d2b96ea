/* error.c - one message a thread, and the request to stop. */
#include "core.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Thread_local aj_context aj_ctx __attribute__((tls_model("initial-exec")));

/* Thread-local memory of a library that is loaded late is scarce: what is large stands behind a pointer. */
enum { MESSAGE = 1024 };
static _Thread_local char *message;
static _Thread_local bool registered;

_Static_assert(offsetof(aj_context, state) == 0, "a state leads to its context");

/* States that a signal handler may reach. A thread that is gone leaves its place empty. */
enum { MAX_THREADS = 256 };
static aj_state_t *states[MAX_THREADS];
static bool interrupted;

aj_state_t *aj_state(void) {
    if (!registered) {
        registered = true;
        aj_thread_enter();
        aj_ctx.grad_mode = true;
        aj_ctx.state.recording = 1;
        aj_ctx.state.attend = AJ_UNSCOPED;
        for (int i = 0; i < MAX_THREADS; i++) {
            aj_state_t *none = NULL;
            if (__atomic_compare_exchange_n(&states[i], &none, &aj_ctx.state, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) break;
        }
    }
    return &aj_ctx.state;
}

void aj_error_leave(void) {
    for (int i = 0; i < MAX_THREADS; i++) {
        aj_state_t *mine = &aj_ctx.state;
        if (__atomic_compare_exchange_n(&states[i], &mine, NULL, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) break;
    }
    free(message);
    message = NULL;
    registered = false;
}

__attribute__((constructor)) static void start(void) { aj_state(); }

/* What is asked of the process does not reach the threads that aj_thread_start() made: whoever started them stops them. */
void aj_interrupt(bool on) {
    if (aj_ctx.stop) {
        if (!on) aj_attend_no_more(AJ_INTERRUPTED);
        return;
    }
    __atomic_store_n(&interrupted, on, __ATOMIC_RELAXED);
    for (int i = 0; i < MAX_THREADS; i++) {
        aj_state_t *s = __atomic_load_n(&states[i], __ATOMIC_ACQUIRE);
        if (!s || __atomic_load_n(&((aj_context *)s)->stop, __ATOMIC_RELAXED)) continue;
        if (on) __atomic_fetch_or(&s->attend, AJ_INTERRUPTED, __ATOMIC_RELAXED);
        else __atomic_fetch_and(&s->attend, ~AJ_INTERRUPTED, __ATOMIC_RELAXED);
    }
}

bool aj_interrupted(void) {
    if (AJ_LIKELY(!__atomic_load_n(aj_ctx.stop ? aj_ctx.stop : &interrupted, __ATOMIC_RELAXED))) return false;
    aj_error("interrupted");
    return true;
}

bool aj_error(const char *fmt, ...) {
    if (!message) message = malloc(MESSAGE);
    va_list args;
    va_start(args, fmt);
    if (message) vsnprintf(message, MESSAGE, fmt, args);
    va_end(args);
    __atomic_fetch_or(&aj_ctx.state.attend, AJ_FAILED, __ATOMIC_RELAXED);
    return false;
}

static size_t put_tensor(char *to, size_t size, const aj_tensor *t) {
    if (!t) return (size_t)snprintf(to, size, "none");
    size_t n = (size_t)snprintf(to, size, "(");
    for (int d = 0; d < t->ndim && n < size; d++)
        n += (size_t)snprintf(to + n, size - n, d ? ", %lld" : "%lld", (long long)t->shape[d]);
    if (n < size) n += (size_t)snprintf(to + n, size - n, t->dtype == AJ_F32 ? ")" : ") %s", aj_dtype_name(t->dtype));
    return n;
}

bool aj_refuse(const aj_call *c, const char *fmt, ...) {
    char text[1024];
    size_t n = (size_t)snprintf(text, sizeof text, "%s: ", aj_op_name(c->op));
    int shown = c->n_in > 4 ? 4 : c->n_in;
    for (int k = 0; k < shown && n < sizeof text; k++) {
        if (k && n < sizeof text) n += (size_t)snprintf(text + n, sizeof text - n, k + 1 == shown ? " and " : ", ");
        if (n < sizeof text) n += put_tensor(text + n, sizeof text - n, c->in[k]);
    }
    if (c->n_in > shown && n < sizeof text) n += (size_t)snprintf(text + n, sizeof text - n, " and %d more", c->n_in - shown);
    if (n < sizeof text) n += (size_t)snprintf(text + n, sizeof text - n, c->n_in ? ": " : "");
    va_list args;
    va_start(args, fmt);
    if (n < sizeof text) vsnprintf(text + n, sizeof text - n, fmt, args);
    va_end(args);
    return aj_error("%s", text);
}

size_t aj_error_take(char *text, size_t size) {
    const char *from = message ? message : "out of memory";
    size_t n = strlen(from);
    if (size) {
        if (n >= size) n = size - 1;
        memcpy(text, from, n);
        text[n] = 0;
    }
    __atomic_fetch_and(&aj_ctx.state.attend, ~AJ_FAILED, __ATOMIC_RELAXED);
    return n;
}
