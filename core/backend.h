/* backend.h - what the library of a device sees of the core: tensors, calls, and the table of kernels that it fills in.
 *
 * core/device.c loads such a library (cuda/, as libaijit_cuda.so) when a device is asked for, and takes its table from the
 * one function that it exports, aijit_backend. The functions declared here are the only ones of the core that it may
 * call besides those of aijit.h. C++ reads this file too.
 */
#ifndef AJ_BACKEND_H
#define AJ_BACKEND_H
#ifdef __cplusplus
extern "C" {
#endif
#include "aijit.h"
#include "iter.h"

#define AJ_LIKELY(x) __builtin_expect(!!(x), 1)
#define AJ_UNLIKELY(x) __builtin_expect(!!(x), 0)
enum { AJ_CPU = -1, AJ_META = -2, AJ_MAX_OUT = 4, AJ_MAX_ARGS = 8 };

enum {
#define ROW(name, ...) OP_##name,
#include "ops.def"
    OP_COUNT,
    OP_LEAF = OP_COUNT, OP_CUSTOM, OP_INPLACE_VIEW    /* nodes that no row made */
};

/* -- Tensors ------------------------------------------------------------------------------------------- */

/* Bytes that views share. On the CPU our own data follow the header in one block. */
typedef struct aj_storage {
    void *data;
    int64_t bytes;              /* of the block that the allocator counts */
    int32_t refs;               /* atomic where more than one */
    int32_t version;            /* writes in place */
    int32_t device;
    int32_t size_class;         /* -1: a block of its own; -2: not our memory */
    uint32_t era;               /* the recording that it was made in; 0: none */
    int32_t left;               /* how many tensors were given other data in its place */
    union {
        struct aj_blocks *home; /* the cache that the block goes back to */
        void (*done)(void *);   /* of memory that is not ours */
    };
    void *arg;                  /* of done; on another device than the CPU its allocator's block */
} aj_storage;

enum { AJ_MAGIC = 0x746a6131 };
struct aj_tensor {
    uint32_t magic;             /* AJ_MAGIC: LuaJIT hands any userdata over as a pointer to any struct */
    int32_t refs;               /* 0: the header is free, and every handle to it is stale */
    aj_storage *storage;
    char *data;                 /* storage->data + offset */
    uint16_t generation;        /* the upper 16 bits of its handles */
    uint8_t dtype, ndim;
    int32_t device;
    bool requires_grad, retains_grad, contiguous;
    bool traced;                /* made by, or given to, a function that is being recorded */
    bool planned;               /* it stands for what each run of a recording makes, and holds nothing between them */
    uint8_t out_index;          /* which result of node this is */
    aj_node *node;              /* the op that made it, or a leaf's place in the graph; NULL: outside any graph */
    aj_tensor *grad;
    aj_tensor *base;            /* of a view that a graph may see: whose storage this is */
    int32_t view_epoch;         /* base's epoch when node was made */
    int32_t epoch;              /* recorded writes in place to this storage's root */
    int64_t numel;
    uint64_t id, hook;
    int64_t shape[AJ_MAX_DIM];
    int64_t stride[AJ_MAX_DIM]; /* in elements */
};

static inline aj_tensor *aj_untag(aj_tensor *h) { return (aj_tensor *)((uintptr_t)h << 16 >> 16); }

/* The tensor behind a handle; NULL if it is nil or stale. A plain pointer is its own handle within the core. */
static inline aj_tensor *aj_live(aj_tensor *h) {
    aj_tensor *t = aj_untag(h);
    if (AJ_UNLIKELY(!t)) return NULL;
    uint16_t tag = (uint16_t)((uintptr_t)h >> 48);
    if (AJ_UNLIKELY(t->refs <= 0 || (tag && tag != t->generation))) return NULL;
    return t;
}

/* -- Calls --------------------------------------------------------------------------------------------- */

typedef struct { int32_t v[3]; } aj_triple;

/* Every argument that is not a tensor, of every op. An op reads the fields that its row fills. */
typedef struct {
    double s, t, u;             /* an elementwise row's scalars; eps, p, momentum and the like elsewhere */
    int8_t number;              /* which operand of a binary row is the number s: 1 the first, 2 the second, 0 neither */
    int8_t dtype;
    int8_t reduction, mode;
    bool keepdim, flag, flag2;
    int32_t dim, dim2, base, groups;
    int64_t i, j, k;
    uint64_t seed, position;    /* of the first random number of a row that draws some; core/philox.h */
    const uint64_t *live;       /* on the device: where a graph's kernels find these two; NULL: they are those above */
    aj_triple kernel, stride, padding, dilation, output_padding;
    aj_ints list, list2;
} aj_attrs;

typedef struct { uint8_t dtype, ndim; int64_t shape[AJ_MAX_DIM]; } aj_spec;

/* One run of an op. Its rule reads in and attrs, checks them, and says in spec what is to be allocated. */
typedef struct {
    int op, n_in, n_out;
    aj_tensor **in;             /* NULL where an optional input was left out */
    aj_attrs *attrs;
    aj_spec spec[AJ_MAX_OUT];
    aj_tensor *out[AJ_MAX_OUT];
} aj_call;

/* An elementwise gradient: gx = gy * d(result)/d(input k). */
typedef struct { aj_tensor *gx, *gy, *y, *in[2]; const aj_attrs *attrs; } aj_grad_call;

typedef bool aj_kernel(const aj_call *c);                /* fills c->out; false after aj_error: out of memory, a bad index value */
typedef bool aj_grad_kernel(const aj_grad_call *g);

/* -- Passes over tensors in place --------------------------------------------------------------------------- */

enum { AJ_UPDATE_OPERANDS = 6, AJ_UPDATE_NUMBERS = 12, AJ_UPDATE_SUMS = 2 };

/* A loop over n neighbouring elements of each operand, NULL where there is none; core/cpu/optim.inc has the loops, for
 * float [0] and double [1]. at[1] is only read. What it adds to sum is the share of these elements. */
typedef void aj_optim_row(void *const *at, int64_t n, const double *number, double *sum);
#define AJ_OPTIM_ROWS(_) \
    _(adam) _(sgd) _(lion) _(adan) _(rmsprop) _(adagrad) _(adadelta) _(adamax) _(nadam) _(radam) _(rprop) _(schedule_free) \
    _(lamb) _(lamb_apply) _(muon) _(blend) _(scale) _(clamp) _(lerp) _(squares) _(largest) _(powers)
enum {
#define AJ_ROW(name) AJ_ROW_##name,
    AJ_OPTIM_ROWS(AJ_ROW)
#undef AJ_ROW
};

/* Operands have the shape of operand[0], which may be f16 or bf16, as may operand[1]: they are computed with in f32. */
typedef struct aj_update {
    aj_tensor *operand[AJ_UPDATE_OPERANDS];              /* NULL: absent */
    aj_tensor *master;                                   /* f32, in place of operand[0]'s f16 or bf16 where these are its rounding */
    double number[AJ_UPDATE_NUMBERS];
    aj_optim_row *const *row;
    bool summed, largest;                                /* the loop gives sums; they are combined by taking the largest */
    bool reads;                                          /* nothing is written */
    double trust;                                        /* of lamb, not 0: lamb_apply follows, with number[7] this times sqrt(sum[0] / sum[1]), or just this where either is 0 */
    double sum[AJ_UPDATE_SUMS];
    double *live;                                        /* on the device: where a graph's kernels find the numbers, of the next of a list behind them; NULL: they are those above */
    double *total;                                       /* on the device, 0 at first: what the sums of all the list are combined with, and left in; NULL: they come back in sum */
    int derived;                                         /* 1 + AJ_DERIVE_..., with which the pass begins in a graph, from the total; 0: nothing */
} aj_update;

/* What a graph's pass first works out from the total of the one before it, in its numbers on the device. */
enum {
    AJ_DERIVE_CLIP,             /* [0] = min(1, [1] / (norm + 1e-6)), the norm of power [2] being that of all the gradients */
    AJ_DERIVE_UNIT              /* [0] = 1 / max(norm, [1]) */
};

typedef struct { const void *from; void *to; int64_t bytes; } aj_copied;

/* Elementwise ops, and reductions of whole rows, that are one kernel over `rows` rows of `width` elements. */
typedef struct {
    aj_tensor *tensor;          /* whose address is read anew at each run; dense */
    int64_t row;                /* its elements in a row: the width, 1, or fewer that broadcast along it */
    bool sliced;                /* it has rows; else it is the same for all */
    bool read, stored;          /* from memory, to memory; else it lives within the kernel */
    int32_t n;                  /* of a row that broadcasts: the dimensions of a row, outermost first, */
    int64_t size[AJ_MAX_DIM], stride[AJ_MAX_DIM];        /* and where its own elements lie along them */
} aj_fused_part;
typedef struct {
    int op, column;             /* column: of a gradient; -1: the op itself */
    int out, in[4];             /* parts. Of a gradient in is gy, y and the inputs, -1 where there is none or where it is a number */
    const aj_attrs *attrs;
} aj_fused_line;
typedef struct {
    int32_t device;
    int64_t rows, width;
    bool by_rows;               /* something is made of whole rows, or once a row */
    int n_part, n_line;
    aj_fused_part *part;
    aj_fused_line *line;
    void *kernel;               /* the backend's */
} aj_fused;

/* -- A backend ------------------------------------------------------------------------------------------ */

/* What devices that are not the CPU have besides kernels. All of it is for any thread, and false or NULL follows aj_error.
 * Work is in order: what is read is what the kernels called before it wrote. */
typedef struct {
    int32_t count;                                       /* device numbers are from 0 up to below it */
    bool (*describe)(int32_t device, aj_device_t *out);
    void *(*take)(int32_t device, int64_t bytes, int64_t *size, void **block);     /* an address, 256-byte aligned; size: what is counted */
    void (*give)(int32_t device, void *block);
    void (*memory)(int32_t device, aj_memory_t *out);    /* all but tensors and limit */
    void (*reset_peak)(int32_t device);
    void (*trim)(int32_t device);
    bool (*read)(int32_t device, void *to, const void *from, int64_t bytes);       /* to the host's memory; waits */
    bool (*write)(int32_t device, void *to, const void *from, int64_t bytes);      /* from the host's memory, which is free on return */
    bool (*update)(aj_update *u, int32_t n, int row);    /* n passes of one kind, AJ_ROW_..., over tensors of one device; u->row is the CPU's */
    bool (*synchronize)(int32_t device);                 /* waits for all work; an error that it met is reported here */
    void *(*pin)(int64_t bytes, void **block);           /* memory of the host that devices copy from by themselves */
    void (*unpin)(void *block);
    bool (*is_pinned)(const void *p);
    bool (*ahead)(int32_t device, bool on);              /* this thread's writes to the device, and memory that it takes for them, are off the order of other work */
    bool (*join)(int32_t device);                        /* what was written so comes before what is called from here on */
    bool (*library)(int32_t i, aj_device_library_t *out);                          /* false after the last, without an error */
    /* Graphs: recordings as one launch. From capture to captured, what this thread calls for the device is kept instead of
     * run, and nothing can be read or waited for. Numbers are those that change from run to run, n of them, at *place. */
    bool (*graphs)(void);                                /* whether recordings are to become graphs */
    void *(*capture)(int32_t device, int64_t n, double **place);
    bool (*captured)(void *graph, bool whole);           /* whole false: it is given up */
    bool (*launch)(void *graph, const double *numbers, const aj_copied *before, int n_before, const aj_copied *after, int n_after);
    void (*graph_free)(void *graph);
    /* Fusion: fuses says whether an op, or its gradient by `column`, may be a line; fuse makes the kernel: 1, 0 where it
     * cannot be had here, -1 after an error. */
    bool (*fuses)(int op, int column);
    int (*fuse)(aj_fused *f);
    bool (*fused_run)(const aj_fused *f);
    void (*fused_free)(aj_fused *f);
    bool (*derive)(int32_t device, int32_t n, int what, const double *total, double *number);      /* AJ_DERIVE_..., for n sets of numbers */
} aj_device_calls;

typedef struct {
    const char *name;
    int64_t size;               /* of this struct, which tells another version of the op table */
    aj_kernel *forward[OP_COUNT];
    aj_grad_kernel *grad[OP_COUNT][2];
    const aj_device_calls *device;      /* NULL: the CPU, and meta */
} aj_backend;

/* What the library of a device exports as aijit_backend. NULL: no device can be used; `why` says what was found. */
typedef const aj_backend *aj_backend_start(char *why, size_t size);

/* -- What of the core a backend may call ------------------------------------------------------------------ */

#pragma GCC visibility push(default)
const char *aj_op_name(int op);                          /* for messages: of the op that the caller named */
bool aj_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));                 /* always false */
bool aj_refuse(const aj_call *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));   /* "op: fmt: (2, 3) and (4): ..." */
bool aj_dims_of(const aj_call *c, const aj_ints *dims, int ndim, bool *is_in);             /* n < 0: all */
void aj_put_bytes(char *to, size_t size, int64_t bytes); /* for messages: "1.5 GiB" */
void aj_set_contiguous(aj_tensor *t);                    /* recomputes numel and contiguous */
#pragma GCC visibility pop

static inline bool aj_is_float(int dtype) { return dtype >= AJ_F16; }

#ifdef __cplusplus
}
#endif
#endif
