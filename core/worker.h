/* worker.h - threads that run a Lua state of their own, and the channels through which they speak.
 *
 * A message is bytes, tensors and channels. Tensors cross by their storage, which sender and receiver then share: no element is
 * copied, and what one writes in place the other sees, so the sender lets go of what it sent, or neither writes.
 */
#ifndef AJ_WORKER_H
#define AJ_WORKER_H
#include "aijit.h"
#pragma GCC visibility push(default)

/* <cdef> */
/* -- Channels: bounded queues, first in, first out, for any number of threads ------------------------------------------- */
typedef struct aj_channel aj_channel;
typedef struct aj_message aj_message;
typedef struct { int32_t n; aj_channel *const *v; } aj_channels;
/* What put and get come to. Both return at AJ_TIMED_OUT when timeout (ms) has passed, and at once after aj_interrupt(). */
enum { AJ_CHANNEL_ERROR = -1, AJ_CHANNEL_OK, AJ_TIMED_OUT, AJ_CHANNEL_CLOSED };
aj_channel *aj_channel_new(int64_t capacity);       /* of messages, at least 1 */
aj_channel *aj_channel_retain(aj_channel *c);
void aj_channel_release(aj_channel *c);
int32_t aj_channel_put(aj_channel *c, const void *data, size_t size, aj_tensors tensors, const aj_channels *channels, int32_t timeout);
int32_t aj_channel_get(aj_channel *c, aj_message **message, int32_t timeout);     /* closed: once all that was put has been had */
void aj_channel_close(aj_channel *c);               /* nothing more is put; whoever waits wakes */
int64_t aj_channel_count(aj_channel *c);            /* messages that wait */
bool aj_channel_is_closed(aj_channel *c);
const char *aj_message_data(aj_message *m);
size_t aj_message_size(aj_message *m);
aj_tensor *aj_message_tensor(aj_message *m, int32_t i);       /* a tensor of this thread on the storage that was sent */
aj_channel *aj_message_channel(aj_message *m, int32_t i);     /* the caller's: aj_channel_release() */
void aj_message_drop(aj_message *m);

/* -- Threads -------------------------------------------------------------------------------------------------------------- */
/* What a thread runs: lua_pcall, lua_tolstring and lua_close of the LuaJIT that the process runs, which the core does not know. */
typedef struct {
    int (*call)(void *L, int arguments, int results, int handler);
    const char *(*text)(void *L, int index, size_t *size);
    void (*close)(void *L);
} aj_program;
typedef struct aj_thread aj_thread;
/* Calls the function below `arguments` values on L's stack, in a thread that takes no signals and whose ops use one thread
 * each, and closes L there; also when the thread cannot be made (NULL). */
aj_thread *aj_thread_start(const aj_program *program, void *L, int32_t arguments);
int32_t aj_thread_join(aj_thread *t, int32_t timeout);        /* AJ_CHANNEL_OK: it has ended; AJ_TIMED_OUT; AJ_CHANNEL_ERROR: interrupted */
const char *aj_thread_problem(aj_thread *t);        /* of one that has ended: what its function raised; NULL: nothing */
void aj_thread_stop(aj_thread *t);                  /* its next op, or wait at a channel, ends with the error "interrupted" */
void aj_thread_drop(aj_thread *t);                  /* lets go of it; it runs on. exit() stops those that run, and waits for them two seconds */
/* </cdef> */

#pragma GCC visibility pop
#endif
