/* signal.c - signals that a program notes and answers at its next convenience: between two steps of a training, say. */
#include "core.h"
#include <errno.h>
#include <signal.h>
#include <string.h>

enum { SIGNALS = 65 };
static struct { volatile sig_atomic_t seen; bool watched, once; struct sigaction before; } list[SIGNALS];

/* Runs in a signal handler, on any thread. */
static void note(int number) {
    int kept = errno;
    if (list[number].seen && list[number].once) {
        sigaction(number, &list[number].before, NULL);
        raise(number);
    }
    list[number].seen = list[number].seen + 1;
    errno = kept;
}

bool aj_signal_watch(int32_t number, bool once) {
    if (number < 1 || number >= SIGNALS) return aj_error("signal: there is no signal %d", number);
    if (list[number].watched) return aj_error("signal: signal %d is watched already", number);
    if (sigaction(number, NULL, &list[number].before) != 0) return aj_error("signal: signal %d: %s", number, strerror(errno));
    list[number].seen = 0;
    list[number].once = once;
    list[number].watched = true;
    if (!(list[number].before.sa_flags & SA_SIGINFO) && list[number].before.sa_handler == SIG_IGN) return true;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    if (sigaction(number, &action, NULL) == 0) return true;
    list[number].watched = false;
    return aj_error("signal: signal %d cannot be watched: %s", number, strerror(errno));
}

int32_t aj_signal_seen(int32_t number) { return number < 1 || number >= SIGNALS ? 0 : list[number].seen; }

void aj_signal_unwatch(int32_t number) {
    if (number < 1 || number >= SIGNALS || !list[number].watched) return;
    sigaction(number, &list[number].before, NULL);
    list[number].watched = false;
}
