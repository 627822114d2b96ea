/* recording.h - a recording and its parts, which jit.c fills, plan.c orders and replay.c runs. */
#ifndef AJ_RECORDING_H
#define AJ_RECORDING_H
#include "assemble.h"
#include "jit.h"

enum { CALL, GRADIENT, LEAF, STEP };
enum { NOWHERE = -3 };
typedef struct {
    int8_t kind;
    bool in_place, backward;    /* backward: recorded in a backward pass */
    int16_t column;
    int32_t take;               /* 1 + the place among the reservations of random numbers; 0: none */
    int32_t group;              /* 1 + the fused group that begins here; 0: none */
    aj_call call;
    aj_grad_call grad;
    aj_attrs attrs;
    aj_tensor *leaf, *leaf_grad;
    aj_jit_step step;
} entry;

/* Random numbers. Those of the program's stream are new ones in every run; those of another, a key's, are the same. */
typedef struct { uint64_t seed, position; int64_t n; uint64_t now; bool claimed, fixed; } reservation;
/* Of a tensor that was there before: its gradient when the function began, and whether it requires one. */
typedef struct { aj_tensor *leaf, *grad; bool any, requires_grad; } condition;

/* One storage of the recorded run, and every tensor over it. */
typedef struct {
    aj_storage *storage;
    aj_tensor **tensor;
    int64_t *offset;            /* of each, in bytes */
    int n, cap;
    int first, last;            /* the entries between which it is live */
    bool made;                  /* by an entry; else it was there before */
    bool constant;              /* made of numbers of Lua within the function, and not yet written as a whole */
    int32_t left;               /* of its storage, when it was noted */
    int32_t version, writes;    /* of what was there before: counted, to find writes that went past the recording */
    int32_t bound;              /* 1 + the input, or -1 - the result that it is bound to; 0: neither */
    bool pinned;                /* a gradient that stays */
    bool given_back;            /* the recorded run has let it go, and its bytes are free */
    bool local;                 /* in chunks of a fused group */
    int64_t bytes, place, low;  /* low: where in its storage it begins */
} memory;

/* A fused group: entries first..last, all of which treat each row of what they read and write by itself, so that a few rows
 * at a time go through all of them while they are in the first cache. */
typedef struct {                /* a tensor as the lines of a group see it */
    aj_tensor *tensor;
    aj_tensor view;             /* of the rows at hand: its leading dimensions are one */
    int lead;                   /* so many of them */
    bool sliced, written;       /* it has rows; else it is the same for all */
    int64_t row;                /* elements */
    int32_t chunk;              /* 1 + its chunk, when it lives and dies within a piece; 0: it lies in memory */
} part;
typedef struct {
    int entry, n_part, part[AJ_MAX_OPERANDS];
    aj_attrs attrs;             /* with dimensions counted in the view */
    aj_loop *loop;              /* not NULL: the line is machine code */
    int n_code;                 /* for so many entries */
    bool apart;                 /* as in aj_formula */
    bool each_row;              /* it is called for each row, since some operand has a number a row, or one row for all */
    int stream[AJ_STREAMS];     /* and these are its parts */
} line;
typedef struct {
    int first, last;
    int64_t rows, step;         /* in all, and at a time */
    int64_t work;               /* elements of the widest row */
    int64_t chunk_bytes;
    int n_part, part_cap, n_line, line_cap, n_chunk;
    part *part;
    line *line;
    aj_fused fused;             /* on a device: what its kernel is made of; n_line 0: there is none */
} group;

struct aj_jit {
    entry *entry;
    memory *memory;
    reservation *take;
    condition *condition;
    group *group;
    int n_entry, entry_cap, n_memory, memory_cap, n_take, take_cap, n_condition, condition_cap, n_group, group_cap;
    aj_tensor **input, **output;
    aj_tensor **result;         /* of the last run: handles */
    int n_input, n_output;
    int32_t *input_memory, *output_memory;      /* where each input and result lies: its memory, or -1 when it is no tensor of the recording */
    int32_t scope;
    int32_t moves;              /* aj_data_moves when nothing that it uses had moved */
    aj_storage *arena, *chunks;
    int32_t device;             /* where all its tensors are; NOWHERE until one is met */
    bool fixed;                 /* inputs and results have places of their own, for a graph */
    void *graph;                /* its kernels as one launch; NULL: they are called one by one */
    aj_numbers numbers;
    aj_copied *copied;          /* scratch of a launch: inputs and results, */
    aj_storage **fresh;         /* and the results' storages */
    int64_t piled;              /* bytes made since what nobody holds was last given back */
    uint64_t seed, offset;      /* of the program's stream of random numbers, as far as the function has drawn from it */
    bool failed;
    bool writes_input, shares;  /* some input is written; two of them had one memory */
};

bool aj_share_memory(aj_tensors list);                   /* two of them do */


bool aj_recording_grow(void **v, int n, int *cap, size_t size);
/* Room for one more of a list, which is a field and its count n_field; false after an error. */
#define ROOM(r, what, n) ((r)->failed ? false : aj_recording_grow((void **)&(r)->what, (r)->n_##what, &(r)->what##_cap, sizeof *(r)->what) ? true : !((r)->failed = true))

int aj_memory_index(const aj_jit *r, const aj_tensor *t);        /* -1: none */
int aj_operands(const entry *e, aj_tensor *list[AJ_MAX_OPERANDS]);       /* of an elementwise call or gradient: the result, then what is read */
bool aj_run_entries(aj_jit *r);                          /* kernels and all */
void aj_set_leaf(const entry *e);
bool aj_capture(aj_jit *r);                              /* once it is planned */
int32_t aj_launch(aj_jit *r, aj_tensors inputs);         /* as aj_jit_run, of inputs that fit */
void aj_capture_free(aj_jit *r);
bool aj_fuse_takes(group *g, const entry *e, bool elementwise);          /* an entry may join a group on a device */
int aj_fuse(aj_jit *r, group *g);                        /* the group's kernel: 1, 0 where there is none, -1 after an error */
void aj_fuse_free(group *g);
bool aj_plan(aj_jit *r);                                 /* groups of calls, and places in one arena */
void aj_bind(memory *m, aj_storage *s, char *data);      /* lets every tensor over a memory lie in a storage; the reference to it is the caller's */
void aj_plan_free(aj_jit *r);
#endif
