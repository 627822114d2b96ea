/* aijit.h - the public C interface of aijit.
 *
 * The text between the two cdef marks is what bindings/lib.lua hands to ffi.cdef, so it holds plain
 * declarations only. Below it stand the prototypes of the ops, one for each row of ops.def:
 *     aj_tensor *aj_softmax(aj_tensor *x, aj_dim dim);
 *
 * Tensors are opaque. A function that makes one gives it to the innermost open scope, or, with no scope
 * open, to the caller, who must aj_release() it. On failure it returns NULL (or false), sets
 * aj_state.attend, and leaves a message for aj_error_take(). Nothing here exits, aborts or calls back.
 * Dimensions and indices count from 0; a negative dimension counts from the end.
 *
 * Threads: each calls aj_state() first, and has scopes, gradients and random numbers of its own. A tensor belongs to the
 * thread that made it. Another one reads its values through an aj_detach() that it takes itself while the maker holds the
 * tensor; from then on each may let go when it likes. A thread that ends frees what its open scopes own.
 */
#ifndef AIJIT_H
#define AIJIT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AJ_API __attribute__((visibility("default")))
#pragma GCC visibility push(default)

/* <cdef> */
enum { AJ_MAX_DIM = 8 };

/* Order is the order of promotion within a kind; numbers are never stored on disk. */
typedef enum { AJ_BOOL, AJ_U8, AJ_I8, AJ_I16, AJ_I32, AJ_I64, AJ_F16, AJ_BF16, AJ_F32, AJ_F64, AJ_DTYPES } aj_dtype;

/* A tensor: shape, strides and a place in a storage that views share. What a caller holds is a handle:
 * it carries the generation of its header, so that one used after its scope is an error. */
typedef struct aj_tensor aj_tensor;
typedef struct aj_node aj_node;

/* The types of op parameters. Their names tell the bindings how a Lua value becomes one:
 * aj_dim, aj_dims, aj_base and aj_index count from 1 in Lua. */
typedef int32_t aj_dim;
typedef struct { int32_t n; int64_t v[8]; } aj_ints;
typedef const aj_ints *aj_dims;          /* n < 0: all dimensions */
typedef const aj_ints *aj_shape;         /* a list of sizes, -1 where it may be inferred */
typedef const aj_ints *aj_window;        /* n == 1: the same along every spatial dimension */
typedef int64_t aj_index;                /* a position along a dimension */
typedef int32_t aj_base;                 /* what the values of an index tensor count from */
typedef struct { int32_t n; aj_tensor *const *v; } aj_list;
typedef const aj_list *aj_tensors;
typedef int32_t aj_dtype_or_none;        /* -1: as the input */

/* Why Lua must look up after a call. */
enum { AJ_FAILED = 1, AJ_UNSCOPED = 2, AJ_GOVERN = 4, AJ_INTERRUPTED = 8 };

/* One for each thread; attend is 0 on the common path, so that one load tells that all is well. autocast: the low precision of
 * mixed precision, 0 (no float) when it is off. watch: see watch.h. */
typedef struct { volatile int32_t attend; int32_t scopes, recording, threads, autocast, watch; double limit; } aj_state_t;
aj_state_t *aj_state(void);
size_t aj_error_take(char *text, size_t size);      /* copies the message, clears AJ_FAILED */
void aj_interrupt(bool on);                         /* async-signal-safe; every long loop polls it */

/* -- Tensors: values ------------------------------------------------------------------------------- */
aj_tensor *aj_empty(aj_dtype dtype, aj_shape shape, int32_t device);
aj_tensor *aj_full(aj_dtype dtype, aj_shape shape, int32_t device, double value);
aj_tensor *aj_full_int(aj_dtype dtype, aj_shape shape, int32_t device, int64_t value);
aj_tensor *aj_arange(aj_dtype dtype, int32_t device, double start, double step, int64_t n);
aj_tensor *aj_linspace(aj_dtype dtype, int32_t device, double start, double end, int64_t steps);
aj_tensor *aj_eye(aj_dtype dtype, int32_t device, int64_t n, int64_t m);
aj_tensor *aj_rand(aj_dtype dtype, aj_shape shape, int32_t device);       /* uniform in [0, 1) */
aj_tensor *aj_randn(aj_dtype dtype, aj_shape shape, int32_t device);      /* normal, mean 0 and standard deviation 1 */
aj_tensor *aj_randint(aj_dtype dtype, aj_shape shape, int32_t device, int64_t low, int64_t high);     /* low to high - 1 */
aj_tensor *aj_randperm(aj_dtype dtype, int32_t device, int64_t n, aj_base base);                      /* base to base + n - 1 in random order */
/* Memory that is not ours; contiguous; done(arg) is called when the last view is gone, if not NULL. */
aj_tensor *aj_from_memory(aj_dtype dtype, aj_shape shape, void *data, void (*done)(void *), void *arg);
aj_tensor *aj_retain(aj_tensor *t);
void aj_release(aj_tensor *t);                      /* NULL and stale handles are left alone */
bool aj_is_live(aj_tensor *t);
bool aj_is_same(aj_tensor *a, aj_tensor *b);
uint64_t aj_id(aj_tensor *t);                       /* one number a tensor, never used again */
int32_t aj_ndim(aj_tensor *t);
int64_t aj_numel(aj_tensor *t);
int64_t aj_size(aj_tensor *t, aj_dim dim);          /* -1 and an error when there is no such dimension */
int64_t aj_stride(aj_tensor *t, aj_dim dim);
int64_t aj_offset(aj_tensor *t);                    /* in elements, from the start of its storage */
aj_dtype aj_dtype_of(aj_tensor *t);
int32_t aj_device_of(aj_tensor *t);                 /* -1: CPU; n: CUDA device n; -2: meta, shapes without data */
bool aj_is_contiguous(aj_tensor *t);
void *aj_data(aj_tensor *t);                        /* first element; NULL and an error when stale or not on the CPU */
int32_t aj_version(aj_tensor *t);                   /* how often its storage was written in place */
void aj_touch(aj_tensor *t);                        /* counts as a write in place, for data written through aj_data */
bool aj_get(aj_tensor *t, const int64_t *index, double *value);
bool aj_get_int(aj_tensor *t, const int64_t *index, int64_t *value);
bool aj_set(aj_tensor *t, const int64_t *index, double value);
bool aj_set_int(aj_tensor *t, const int64_t *index, int64_t value);
size_t aj_dtype_size(aj_dtype dtype);
const char *aj_dtype_name(aj_dtype dtype);
int32_t aj_dtype_named(const char *name);           /* -1: none */
bool aj_dtype_is_float(aj_dtype dtype);
aj_dtype aj_promote(aj_dtype a, aj_dtype b);

/* -- Scopes and memory ------------------------------------------------------------------------------ */
int32_t aj_scope_open(void);                        /* a mark for close and keep */
bool aj_scope_keep(int32_t mark, aj_tensor *t);     /* t outlives that scope (mark < 0: any) and falls to the one around it, or to the caller; false: not its */
void aj_scope_close(int32_t mark);
void aj_scope_adopt(aj_tensor *t);                  /* t, which the caller owns, becomes the innermost scope's */
typedef struct { int64_t live, peak, cached, tensors, limit; } aj_memory_t;
void aj_memory(int32_t device, aj_memory_t *out);
void aj_memory_reset_peak(int32_t device);
void aj_memory_trim(int32_t device);                /* cached blocks go back to the system */
void aj_memory_limit(int64_t bytes);                /* 0: none; past it an allocation fails as if memory were out */
void aj_govern(int64_t bytes);                      /* AJ_GOVERN is set once live bytes pass this, or a device's the larger of a quarter of its memory and twice what lives; 0: never */
void aj_fail_allocation(int64_t n);                 /* this thread's n-th allocation from now fails; n < 0: that one and all that follow; 0: off (for tests) */

/* -- Gradients --------------------------------------------------------------------------------------- */
bool aj_requires_grad(aj_tensor *t);
bool aj_set_requires_grad(aj_tensor *t, bool on);   /* an error for a tensor that an op made, or of integers */
bool aj_is_leaf(aj_tensor *t);
bool aj_grad_mode(bool on);                         /* the mode before */
int32_t aj_autocast(int32_t dtype);                 /* mixed precision in AJ_F16 or AJ_BF16, 0: none; the one before */
aj_tensor *aj_grad_of(aj_tensor *t);                /* NULL without an error: none */
bool aj_set_grad(aj_tensor *t, aj_tensor *g);       /* g NULL: none */
aj_tensor *aj_detach(aj_tensor *x);                 /* the same data, outside the graph */
/* t's storage, shape, dtype and device become source's, which are then shared; t stays the tensor that others hold. For a
 * leaf whose gradient fits the new data or that has none; not for a view of what requires gradients. Graphs made before fail when run backward, unless
 * shape, dtype and device stay and t was not saved. */
bool aj_set_data(aj_tensor *t, aj_tensor *source);
int32_t aj_data_moved(void);                        /* how often that was done, by all threads */
bool aj_retain_grad(aj_tensor *t);                  /* a tensor that an op made keeps its gradient too */
const char *aj_grad_fn(aj_tensor *t);               /* name of the op that made it, NULL for a leaf */

/* A backward pass that may pause. aj_backward_start() takes outputs with their gradients (an entry or the
 * list may be NULL: ones, for one-element outputs); inputs NULL: into .grad of every leaf, else
 * aj_backward_input() gives each one's gradient after AJ_DONE. aj_backward_run() stops at
 * AJ_CUSTOM (a Lua op: its id, aj_backward_gradient(i), then aj_backward_give()) and at
 * AJ_HOOK (hooks of a tensor: its id, gradient 0, then aj_backward_give(0, replacement or NULL)). */
enum { AJ_DONE, AJ_CUSTOM, AJ_HOOK, AJ_BROKEN };
typedef struct aj_backward aj_backward;
aj_backward *aj_backward_start(aj_tensors outputs, aj_tensors gradients, aj_tensors inputs, bool retain_graph, bool create_graph);
/* A pass within another that has paused: it goes no further than the inputs, among which leaves of the other's may be, and runs no
 * hooks of these. */
aj_backward *aj_backward_within(aj_tensors outputs, aj_tensors gradients, aj_tensors inputs, bool create_graph);
int32_t aj_backward_run(aj_backward *b);
uint64_t aj_backward_id(aj_backward *b);
aj_tensor *aj_backward_gradient(aj_backward *b, int32_t i);   /* NULL without an error: none */
bool aj_backward_needs(aj_backward *b, int32_t i);
bool aj_backward_give(aj_backward *b, int32_t i, aj_tensor *g);
aj_tensor *aj_backward_input(aj_backward *b, int32_t i);
void aj_backward_end(aj_backward *b);
/* Records outputs[0..n) as made from inputs by a Lua op; false: nothing to record. Their ids come back when it is met. */
bool aj_record_custom(aj_tensors inputs, aj_tensors outputs, uint64_t id);
uint64_t aj_custom_dropped(void);                   /* id of a Lua op whose node is gone; 0: no more */
bool aj_set_hook(aj_tensor *t, uint64_t id);        /* id 0: none */
/* The leaves that led to tensors: how many, -1 after an error; aj_leaf_at(i) gives each, until the next call. */
int32_t aj_leaves(aj_tensors of);
aj_tensor *aj_leaf_at(int32_t i);

/* -- Recordings ---------------------------------------------------------------------------------------- */
/* A function's ops, recorded once and run again: begin with the arguments (dense, without gradients), call the function on
 * aj_jit_input(i), end with its results, copies of which are then had by aj_jit_result(i). aj_jit_run(): 1, and the results by
 * aj_jit_result(i); 0: these arguments do not fit the recording (shapes, dtypes, what leaves' gradients were); -1 after an error. */
enum { AJ_MAX_RESULTS = 16 };
typedef struct aj_jit aj_jit;
aj_jit *aj_jit_begin(aj_tensors inputs);
aj_tensor *aj_jit_input(aj_jit *r, int32_t i);
void aj_jit_pin(aj_jit *r, aj_tensor *t);           /* t, which was made in it, holds between runs what the last one gave it */
bool aj_jit_end(aj_jit *r, aj_tensors outputs);          /* outputs NULL: the recording is given up */
int32_t aj_jit_run(aj_jit *r, aj_tensors inputs);
aj_tensor *aj_jit_result(aj_jit *r, int32_t i);          /* i from 0; until the next run */
void aj_jit_free(aj_jit *r);
bool aj_jit_active(void);                                /* a recording is in progress in this thread */
aj_jit *aj_jit_pause(void);                              /* what follows is not recorded, until aj_jit_resume(what this gave) */
void aj_jit_resume(aj_jit *r);

/* -- Random numbers, threads, devices --------------------------------------------------------------- */
void aj_seed(uint64_t seed);
void aj_random_state(uint64_t *seed, uint64_t *offset);
void aj_set_random_state(uint64_t seed, uint64_t offset);
void aj_set_num_threads(int32_t n);
int32_t aj_thread_limit(int32_t n);                 /* the most threads an op of this thread may use; 0: those of the process; the one before */
/* On: nothing is chosen by timing, so that two processes on one machine with as many threads agree to the bit. */
void aj_set_deterministic(bool on);
bool aj_deterministic(void);
/* On: products and convolutions of f32 on CUDA devices round their inputs to TF32, 10 bits of mantissa. */
void aj_set_tf32(bool on);
bool aj_tf32(void);
const char *aj_cpu_level(void);
const char *aj_library_versions(void);

/* -- Devices other than the CPU ------------------------------------------------------------------------ */
typedef struct {
    char name[96];
    int64_t total, free;                            /* bytes of its memory, and what no process holds */
    int32_t major, minor, processors;               /* compute capability, multiprocessors */
    int32_t runtime, driver;                        /* 1000 * major + 10 * minor of the CUDA runtime, and what the driver can */
} aj_device_t;
int32_t aj_device_count(void);                      /* CUDA devices; 0 without an error where there are none */
int32_t aj_device_loaded(void);                     /* as many of them as have been asked for: 0 before the first time */
const char *aj_device_absence(void);                /* why there are none; NULL where there are some */
bool aj_device_ready(int32_t device);               /* an error that says what was found, if it cannot be used */
bool aj_device_describe(int32_t device, aj_device_t *out);
bool aj_device_synchronize(int32_t device);         /* waits for all its work; an error that it met is reported here */
aj_tensor *aj_pin_memory(aj_tensor *x);             /* x, of the CPU, in memory that devices copy from while the host goes on: itself where it is so */
bool aj_is_pinned(aj_tensor *x);
/* Copies ahead of use: between on and off this thread's copies to the device are not in the order of its other work; what they
 * make is not to be used before aj_device_join(). */
bool aj_device_ahead(int32_t device, bool on);
bool aj_device_join(int32_t device);
typedef struct {
    char name[32], version[32], path[512];
    char absence[1024], install[128];               /* empty where it is here: what was looked for, and what to install */
} aj_device_library_t;
bool aj_device_library(int32_t i, aj_device_library_t *out);     /* that the CUDA device calls, from 0; false after the last */
bool aj_has_kernel(int32_t op, int32_t device);     /* a row that needs a kernel has one there; views and composed ops need none */

/* -- Signals ------------------------------------------------------------------------------------------ */
/* From here on the signal is counted instead of what it did; one that the process ignores stays ignored. once: what it did
 * before is back after the first, so that a second one ends a program that does not answer. */
bool aj_signal_watch(int32_t number, bool once);
int32_t aj_signal_seen(int32_t number);             /* how many have come since it was watched */
void aj_signal_unwatch(int32_t number);             /* as it was before */

/* -- The op table, for those who build upon it ------------------------------------------------------ */
typedef struct { const char *name, *kind, *domain, *params, *tensors, *defaults, *returns, *saves, *sample, *doc, *autocast; } aj_op_info;
int32_t aj_op_count(void);
const aj_op_info *aj_op_info_at(int32_t op);
const char *aj_op_cdef(void);
aj_tensor *aj_result(int32_t i);                    /* output i (from 1) of the op that ran last */
/* </cdef> */

#include "ops.h"
#pragma GCC visibility pop
#endif
