/* watch.h - what a thread may see of its ops while they run: when each began and ended, and where the first number that is
 * none came from. Off, an op tests one flag. */
#ifndef AJ_WATCH_H
#define AJ_WATCH_H
#include "aijit.h"
#pragma GCC visibility push(default)

/* <cdef> */
/* What is watched. NAN, INFINITY: an op whose result, or gradient, holds one that it was not given is an error; each op that
 * records a node then sets AJ_TRACE, and the caller notes where it is, under aj_watch_call(). BOOLS: so does an op that
 * compares or tests, whose bools then wait for an op that takes them. */
enum { AJ_WATCH_TIMES = 1, AJ_WATCH_NAN = 2, AJ_WATCH_INFINITY = 4, AJ_WATCH_BOOLS = 8, AJ_TRACE = 16 };
int32_t aj_watch(int32_t what);                     /* from here on, in this thread; what it was before */
enum { AJ_EVENT_OP, AJ_EVENT_BACKWARD, AJ_EVENT_STEP, AJ_EVENT_REPLAY, AJ_EVENT_RANGE };
/* An op, the backward rule of one, an optimizer's step, a run of a recording, or a part of the program that the caller named.
 * Times are nanoseconds of the monotonic clock; end 0: not over. Events within others are counted in inner too. */
typedef struct {
    const char *name;
    int64_t start, end, inner;
    int64_t bytes;              /* allocated meanwhile, within other events too, also if freed since */
    int64_t call;               /* a number of its own, of an op; of a backward rule: that of the op's call, 0 when it was not watched */
    int32_t parent;             /* the event that it is within; -1: none */
    int32_t shapes;             /* where its inputs' are; -1: none */
    uint8_t kind;
    bool backward;              /* within a backward pass, or what was recorded of one */
    bool in_place;
} aj_event;
int32_t aj_event_count(void);
int64_t aj_events_lost(void);                       /* for which there was no room */
const aj_event *aj_event_at(int32_t i);
size_t aj_event_shapes(int32_t i, char *text, size_t size);      /* "f32 (3, 4), f32 ()" */
void aj_events_clear(void);
int32_t aj_event_open(const char *name, int32_t kind);      /* -1 while times are not watched */
void aj_event_close(int32_t event);                 /* and what is still open within it */
int64_t aj_watch_call(void);                        /* of the op that set AJ_TRACE, which is taken back */
int64_t aj_watch_fault(void);                       /* the call whose backward rule was at fault; 0: none */
int32_t aj_bools_waiting(void);                     /* bools that no op has taken */
void aj_bools_take(aj_tensor *t);                   /* as an op does */
void aj_bools_forget(int64_t call);                 /* what this call gave is not waited for */
const char *aj_bools_end(int32_t waiting, int64_t *call);    /* the first that waits after so many; NULL: none. They are forgotten */
int32_t aj_thread_number(void);                     /* of the system */
/* </cdef> */
#pragma GCC visibility pop

#ifdef AJ_CORE_H
/* aj_apply and aj_apply_ while nothing is watched, and while something is. */
aj_tensor *aj_apply_now(int op, aj_tensor *const *handle, int n, const aj_attrs *attrs);
aj_tensor *aj_apply_now_(int op, aj_tensor *const *handle, int n, const aj_attrs *attrs);
aj_tensor *aj_watch_op(int op, aj_tensor *const *handle, int n, const aj_attrs *attrs, bool in_place);
typedef bool aj_rule_run(aj_node *n, aj_tensor **gx);
bool aj_watch_rule(aj_node *n, aj_tensor **gx, aj_rule_run *run);
int32_t aj_event_of(const char *name, int kind, bool backward, aj_tensor *const *in, int n_in);      /* in a replay */
const char *aj_event_name(const char *name);        /* a copy that stays */
int64_t aj_memory_taken(void);                      /* bytes that this thread has ever allocated */
#endif
#endif
