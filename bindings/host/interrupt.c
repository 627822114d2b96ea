// Ctrl-C in LuaJIT. Compiled code does not look at hooks, so lua_sethook alone never stops a compiled loop. But while the
// profiler is on in line mode, every line of compiled code carries a guard which the profiler's signal trips. So: start the
// profiler, stop its clock, and on SIGINT set the hook and raise SIGPROF by hand. The trace leaves
// through its guard, and the interpreter meets the hook. Costs a fraction of a nanosecond per line.

#include "host.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <luajit.h>

static lua_State *state;
static pthread_t lua_thread;
static volatile sig_atomic_t seen, pending, session, listening = 1, pressed;
static struct timespec last;
static void (*volatile core_interrupt)(bool on);

static void no_sample(void *data, lua_State *L, int samples, int vmstate)
{
    (void)data; (void)L; (void)samples; (void)vmstate;
}

static void raise_interrupted(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    pending = 0;
    if (core_interrupt) core_interrupt(false);
    lua_pushliteral(L, "interrupted");
    lua_error(L);
}

void interrupt_die(void)
{
    signal(SIGINT, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(SIGINT);
    _exit(130);
}

// Runs in a signal handler: only async-signal-safe calls, and lua_sethook, which LuaJIT allows there.
static void on_interrupt(int signal_number)
{
    int saved_errno = errno;
    if (!pthread_equal(pthread_self(), lua_thread)) {
        pthread_kill(lua_thread, signal_number);        // hooks may only be set by the thread that runs Lua
        errno = saved_errno;
        return;
    }
    seen = 1;
    if (!listening) {
        pressed = 1;
        errno = saved_errno;
        return;
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long since_last = (now.tv_sec - last.tv_sec) * 1000LL + (now.tv_nsec - last.tv_nsec) / 1000000;
    bool again = last.tv_sec != 0 && since_last < 1000;
    if (again && (pending || !session)) interrupt_die();
    last = now;
    pending = 1;
    if (core_interrupt) core_interrupt(true);
    lua_sethook(state, raise_interrupted, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
    raise(SIGPROF);
    errno = saved_errno;
}

void interrupt_start(lua_State *L)
{
    struct sigaction action;
    sigaction(SIGINT, NULL, &action);
    if (action.sa_handler == SIG_IGN) return;           // nohup, or a shell's background job: stays ignored
    state = L;
    lua_thread = pthread_self();
    luaJIT_profile_start(L, "li1000000", no_sample, NULL);
    setitimer(ITIMER_PROF, &(struct itimerval){{0, 0}, {0, 0}}, NULL);      // only the guards are wanted, never a sample
    action.sa_handler = on_interrupt;
    action.sa_flags = 0;                                // no SA_RESTART: a blocking read returns, and the hook is met
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

void interrupt_stop(void)
{
    if (state) signal(SIGINT, SIG_DFL);
}

void interrupt_session(bool on)
{
    session = on;
    listening = !on;
}

void interrupt_listen(bool on)
{
    if (!session) return;
    last.tv_sec = 0;
    listening = on;
    if (on || !pending) return;
    // A press that came as the code was ending belongs to nothing any more.
    lua_sethook(state, NULL, 0, 0);
    pending = 0;
    if (core_interrupt) core_interrupt(false);
}

bool interrupt_take(void)
{
    bool was = pressed;
    pressed = 0;
    return was;
}

void interrupt_set_core(void (*core)(bool on)) { core_interrupt = core; }

bool interrupt_seen(void) { return seen; }
