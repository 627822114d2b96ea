/* core.h - what the parts of the core share besides backend.h's tensors and calls: rules, nodes, and the context of a thread. */
#ifndef AJ_CORE_H
#define AJ_CORE_H
#include "backend.h"

/* -- Tensors ------------------------------------------------------------------------------------------- */

aj_tensor *aj_need(aj_tensor *h, const char *who);      /* the same, with an error that says why not */
bool aj_jit_escaped(const char *who);                    /* the error of a tensor that a recording stands on; false */

aj_tensor *aj_new(aj_dtype dtype, int ndim, const int64_t *shape, int32_t device);    /* one reference, contiguous; NULL: out of memory */
aj_tensor *aj_new_view(aj_tensor *x, int ndim, const int64_t *shape, const int64_t *stride, int64_t offset);
aj_tensor *aj_alias(aj_tensor *x);                       /* the same data under a header outside the graph; one reference */
void aj_drop(aj_tensor *t);                              /* gives one reference back */
static inline aj_tensor *aj_hold(aj_tensor *t) { if (t) t->refs++; return t; }
/* Whose storage t is a view of; NULL: nobody's. A view whose base was given other data keeps the old, as its own. */
static inline aj_tensor *aj_base_of(aj_tensor *t) {
    aj_tensor *b = t->base;
    if (AJ_LIKELY(!b || b->storage == t->storage)) return b;
    t->base = NULL;
    aj_drop(b);
    return NULL;
}
aj_tensor *aj_give(aj_tensor *t);                        /* takes the caller's reference: into the scope, as a handle */
int64_t aj_count(int ndim, const int64_t *shape);        /* the product of sizes, none negative; -1: past 2^63 */
bool aj_same_shape(const aj_tensor *a, const aj_tensor *b);

/* -- Attributes ------------------------------------------------------------------------------------------ */

static inline int32_t aj_int32(int64_t v) { return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : (int32_t)v; }
aj_ints aj_ints_of(const aj_ints *list);                 /* NULL: none */
aj_triple aj_triple_of(const aj_ints *window, int32_t fallback);      /* NULL or none: the fallback in each place */
int8_t aj_qr_mode(const char *name);                     /* -1: there is none of that name */
int8_t aj_matrix_norm_named(const char *name);
int8_t aj_rnn_named(const char *name);
int8_t aj_fft_norm(const char *name);
int8_t aj_grid_mode(const char *name);
int8_t aj_grid_padding(const char *name);
void aj_cubic_weights(aj_tensor *t, aj_tensor **weight);     /* of the four points around a place t beyond the second; NULL after an error */
int aj_resampling_named(const char *name);               /* NULL: nearest; -1: there is none of that name */

/* -- Calls and rules ------------------------------------------------------------------------------------- */

typedef bool aj_shape_rule(aj_call *c);                  /* false after aj_error */
typedef aj_tensor *aj_view_rule(aj_call *c);             /* a view with one reference, or NULL */
typedef aj_tensor *aj_compose_rule(aj_call *c);          /* made of other ops, inside a scope of its own; c->out[1..] for more */
/* Gradients: gy[i] of result i (NULL: none); write gx[k], made of aj_ ops, for each k with aj_wants(n, k).
 * What a rule makes is freed when it returns, but for gx. */
typedef bool aj_vjp_rule(aj_node *n, aj_tensor *const *gy, aj_tensor **gx);

aj_tensor *aj_apply(int op, aj_tensor *const *in, int n_in, const aj_attrs *attrs);
aj_tensor *aj_apply_(int op, aj_tensor *const *in, int n_in, const aj_attrs *attrs);    /* the result goes into in[0] */

enum { AJ_UNARY, AJ_BINARY, AJ_BINARY_S, AJ_COMPARE, AJ_TEST, AJ_REDUCE, AJ_VIEW, AJ_OP, AJ_COMPOSE, AJ_UPDATE };
enum { AJ_ANY, AJ_NUM, AJ_FLOAT, AJ_INT };
enum { AJ_AUTOCAST_, AJ_AUTOCAST_LOW, AJ_AUTOCAST_FULL };   /* by the last word of a row */
typedef struct {
    const aj_op_info *info;
    union { aj_shape_rule *shape; aj_view_rule *view; aj_compose_rule *compose; };
    aj_vjp_rule *vjp;
    uint8_t kind, domain, autocast, n_returns;      /* results that a caller sees */
    bool attrs;                           /* a node must keep the attributes */
    uint16_t saves_in[AJ_MAX_ARGS];       /* bit j: input j is read by the gradient of input k */
    uint8_t saves_out[AJ_MAX_ARGS];
    bool never[AJ_MAX_ARGS];              /* input k has no gradient */
    bool unknown[AJ_MAX_ARGS];            /* none that is known: an elementwise row's no_derivative */
} aj_op;
extern aj_op aj_ops[OP_COUNT];

static inline void aj_spec_like(aj_spec *s, const aj_tensor *t) {
    s->dtype = t->dtype; s->ndim = t->ndim;
    for (int d = 0; d < t->ndim; d++) s->shape[d] = t->shape[d];
}
/* Helpers of rules; each reports its error under the op's name, with shapes. */
int aj_dim_of(const aj_call *c, int64_t dim, int ndim);      /* 0..ndim-1, or -1 after an error */
aj_tensor *aj_unshared(aj_tensor *y, const aj_tensor *x);    /* y, or a copy of it where it shares x's memory: of ops whose results are new; NULL stays */
bool aj_values_and_places(aj_call *c);                   /* a rule: two results of input 0's shape along attrs->dim, its own dtype and i64 */
bool aj_broadcast(const aj_call *c, aj_spec *out);       /* of all inputs */
bool aj_cast_inputs(aj_call *c, int first, int n, int dtype);    /* recorded casts, owned by the scope of the call */
bool aj_given(const aj_call *c, int first, int n);       /* inputs first to first + n - 1 are not nil */
bool aj_holds(const aj_call *c, double value);           /* input 0 can hold it: a number that its dtype reaches; of u8 also one below 0, from its end */
bool aj_floats(const aj_call *c, int k);                 /* input k is not nil, and of floats */
aj_ints aj_sizes(const aj_tensor *t);
aj_ints aj_sizes_in(const aj_node *n, int k);            /* of input k, which its node knows even when the tensor was not saved */
void aj_reduced(const aj_tensor *x, const bool *over, bool keepdim, aj_spec *y);
aj_tensor *aj_as_rows(aj_tensor *x, const bool *over);   /* (kept, reduced), contiguous; recorded */
enum { AJ_NONE, AJ_MEAN, AJ_SUM, AJ_BATCHMEAN, AJ_NO_DIM = INT32_MIN };
int8_t aj_reduction_of(const char *name);                /* -1: unknown */
bool aj_reduction(const aj_call *c, bool batchmean);     /* attrs->reduction is one */
bool aj_same_dtype(const aj_call *c);                    /* all inputs that are there */
int8_t aj_interpolation_of(const char *name);            /* of a quantile; -1: unknown */
int8_t aj_side_of(const char *side, bool right);         /* 1: right; side NULL: as right says; -1: unknown */
int8_t aj_fold_of(const char *reduce);                   /* of scatter_reduce; -1: unknown */
int8_t aj_bag_mode(const char *mode);                    /* of embedding_bag; -1: unknown */
int8_t aj_pad_mode(const char *mode);                    /* -1: there is no such mode */
bool aj_index_dtype(const aj_call *c, int k);            /* input k holds integers (not bool) */

/* -- Nodes ------------------------------------------------------------------------------------------------ */

typedef struct { aj_node *node; int32_t out; } aj_edge;  /* node NULL: no gradient is wanted here */
typedef struct { aj_tensor *t; int32_t version; int64_t numel; } aj_saved;      /* numel: of an input also when it was not saved */

/* One block: the node, then its arrays, as long as there are results and inputs. Small, so that the graph of a short
 * step stays in the first cache. */
struct aj_node {
    int16_t op;
    int16_t n_in;
    uint8_t n_out;
    uint8_t freed, mark, hooked;
    int32_t refs;
    int32_t deps;               /* scratch of a backward pass: consumers still to come */
    int32_t device;
    uint32_t units;             /* of the block */
    aj_backward *busy;          /* scratch: the pass this node is part of */
    uint64_t custom;            /* OP_CUSTOM: the id of Lua's op; else the watched call that made the node, 0: none */
    uint64_t searched;          /* id of the last root that was looked for from here */
    aj_tensor *leaf;            /* OP_LEAF: the tensor, not owned */
    aj_node *next;              /* scratch: lists */
    aj_tensor **pending;        /* n_out, as the next five; scratch: gradients of results, as far as summed */
    uint64_t *hook;
    aj_tensor **watcher;        /* not owned: a result that retains its gradient */
    int64_t *want;              /* scratch: 1 + the place among the inputs asked for */
    aj_saved *out;              /* saved results; outside the graph */
    aj_spec *spec;
    aj_edge *edge;              /* n_in */
    aj_saved *in;               /* n_in saved inputs */
    aj_attrs *attrs;            /* NULL: the op has none */
};

static inline bool aj_wants(const aj_node *n, int k) { return n->edge[k].node != NULL; }
aj_tensor *aj_saved_in(aj_node *n, int k);               /* input k as it was; checked against later writes; NULL after an error or if it was absent */
aj_tensor *aj_saved_out(aj_node *n, int i);              /* result i, tied to the graph when this backward is recorded */
bool aj_check_saved(aj_node *n);                         /* all that was saved is unchanged */
bool aj_autocasts(int op, aj_tensor *const *in, int n);   /* some input is to be cast */
bool aj_autocast_inputs(int op, aj_tensor **in, int n);   /* recorded casts, owned by the scope; false after an error */
bool aj_recording(void);                                 /* gradients of gradients are wanted, or a forward pass records */
/* gy through a function of the inputs written in differentiable ops: for a rule that has a quick kernel for its first
 * gradient but leaves higher ones to the definition. */
typedef aj_tensor *aj_definition(aj_tensor *const *in, int n_in, const aj_attrs *attrs);
bool aj_vjp_by_definition(aj_node *n, aj_definition *f, aj_tensor *gy, aj_tensor **gx);
aj_tensor *aj_sum_to(aj_tensor *g, int ndim, const int64_t *shape);      /* sums what broadcasting repeated; a handle */
aj_tensor *aj_derivative(int op, int k, aj_tensor *const *in, aj_tensor *y, const aj_attrs *attrs, int32_t device);   /* d result / d input k, of a row's text, in ops; where it is a number, as a tensor on device */
bool aj_record(const aj_call *c);                        /* false: out of memory, as the next */
void aj_record_view(aj_call *c, aj_tensor *y);
aj_node *aj_node_of(aj_tensor *t);                       /* brings a view's node up to date */
void aj_node_release(aj_node *n);
extern int32_t aj_data_moves;                            /* how often a tensor was given other data */
bool aj_before_write(aj_tensor *x, const char *who, bool recording);
bool aj_after_write(aj_call *c, aj_tensor *x);

/* -- The context of a thread --------------------------------------------------------------------------------- */

typedef struct {
    aj_state_t state;
    aj_tensor **scope;          /* what open scopes own */
    int64_t n_scope, scope_cap;
    int32_t face;               /* 1 + the composed op that the caller named, while its parts run; 0: none */
    int32_t inner;              /* within a rule: handles are plain, and errors name no argument */
    int32_t mark_cap;
    int64_t *mark;              /* where each open scope begins */
    aj_jit *jit;                /* the recording in progress; NULL: none */
    uint32_t era;               /* its number, 0 without one */
    struct aj_numbers *numbers; /* of the graph that is being captured or launched; NULL: none */
    bool replaying;             /* a device's kernels, which may call ops, run for a recording, on its own tensors */
    aj_tensor *result[AJ_MAX_RESULTS];
    int n_result;
    bool grad_mode;
    int32_t passes;             /* backward passes that have begun and not ended */
    uint64_t seed, offset;      /* of the Philox generator */
    int32_t limit;              /* the most threads an op of this one may use; 0: those of the process */
    bool *stop;                 /* of a thread that aj_thread_start() made: asked to stop; NULL: listens to aj_interrupt() */
} aj_context;
extern _Thread_local aj_context aj_ctx __attribute__((tls_model("initial-exec")));

/* attend is also written by whoever interrupts: another thread, or a signal. */
static inline void aj_attend(int32_t why) { __atomic_fetch_or(&aj_ctx.state.attend, why, __ATOMIC_RELAXED); }
static inline void aj_attend_no_more(int32_t why) { __atomic_fetch_and(&aj_ctx.state.attend, ~why, __ATOMIC_RELAXED); }

int32_t aj_inner_open(void);                             /* a scope for what a rule makes */
void aj_inner_close(int32_t mark);
void aj_scope_add(aj_tensor *t);                         /* takes the caller's reference */

/* -- Memory ----------------------------------------------------------------------------------------------------- */
aj_storage *aj_storage_new(int64_t bytes, int32_t device);      /* NULL after an error */
void aj_storage_drop(aj_storage *s);
extern int64_t aj_stream_from;                           /* results of so many bytes go past the caches (cpu/stream.h) */
void *aj_scratch(int64_t bytes);                         /* uninitialised, 64-byte aligned; NULL after an error */
void aj_scratch_free(void *p);

/* -- Threads ------------------------------------------------------------------------------------------------------ */
/* f over [0, n) in ranges, on the pool when there is enough work; grain: the least a thread should get. */
void aj_parallel(int64_t n, int64_t grain, void (*f)(void *arg, int64_t lo, int64_t hi), void *arg);
bool aj_in_parallel(void);                               /* within such a range: no threads beyond the one that runs it */
int aj_threads(void);
/* Called where a thread first makes something of its own; when it ends, what it kept for reuse is freed or falls to later threads. */
void aj_thread_enter(void);
void aj_thread_leave(void);                              /* the same now, in a thread that makes nothing more */
void aj_scope_leave(void);                               /* these, in this order, when it ends */
void aj_backward_leave(void);
void aj_graph_leave(void);
void aj_onednn_leave(void);
void aj_tensor_leave(void);
void aj_memory_leave(void);
void aj_error_leave(void);
void aj_watch_leave(void);
void aj_leaves_leave(void);
bool aj_interrupted(void);                               /* true, with the error set, when the user asked to stop */

/* -- Random numbers ------------------------------------------------------------------------------------------------ */
uint64_t aj_random_take(int64_t n);                      /* reserves n numbers of this thread's stream: the first one's position */

/* -- Backends ------------------------------------------------------------------------------------------------------- */
extern const aj_backend *aj_cpu;                         /* picked for this processor when the library is loaded */
const aj_backend *aj_backend_of(int32_t device);         /* NULL: no such device, or not loaded */
bool aj_device_need(const char *who, int32_t device);    /* loads what the device needs; false after an error that says what is missing */
extern const aj_backend *aj_plugged;                     /* of the devices from 0 on; NULL: none is loaded */

#endif
