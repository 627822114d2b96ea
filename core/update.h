/* update.h - a pass over one tensor and what belongs to it, such as its gradient and its moments: the means that the
 * optimizers (optim.c, muon.c) and the clipping of gradients (clip.c) share. */
#ifndef AJ_UPDATE_H
#define AJ_UPDATE_H
#include "core.h"
#include "optim.h"

enum { AJ_UPDATE_OPERANDS = 6, AJ_UPDATE_NUMBERS = 12, AJ_UPDATE_SUMS = 2 };

/* A loop over n neighbouring elements of each operand, NULL where there is none; core/cpu/optim.inc has the loops, for
 * float [0] and double [1]. at[1] is only read. What it adds to sum is the share of these elements. */
typedef void aj_optim_row(void *const *at, int64_t n, const double *number, double *sum);
typedef void aj_optim_load(void *to, const void *from, int64_t stride, int64_t n);
typedef void aj_optim_store(void *to, int64_t stride, const void *from, int64_t n);
typedef struct {
#define AJ_OPTIM_ROWS(_) \
    _(adam) _(sgd) _(lion) _(adan) _(rmsprop) _(adagrad) _(adadelta) _(adamax) _(nadam) _(radam) _(rprop) _(schedule_free) \
    _(lamb) _(lamb_apply) _(muon) _(blend) _(scale) _(clamp) _(lerp) _(squares) _(largest) _(powers)
#define FIELD(name) aj_optim_row *name[2];
    AJ_OPTIM_ROWS(FIELD)
#undef FIELD
    aj_optim_load *const *load[2];      /* by class and dtype */
    aj_optim_store *const *store[2];
} aj_optim_kernels;
const aj_optim_kernels *aj_optim_cpu(void);              /* for this processor */

/* Operands have the shape of operand[0], which may be f16 or bf16, as may operand[1]: they are computed with in f32. */
typedef struct {
    aj_tensor *operand[AJ_UPDATE_OPERANDS];              /* NULL: absent */
    aj_tensor *master;                                   /* f32, in place of operand[0]'s f16 or bf16 where these are its rounding */
    double number[AJ_UPDATE_NUMBERS];
    aj_optim_row *const *row;
    bool summed, largest;                                /* the loop gives sums; they are combined by taking the largest */
    bool reads;                                          /* nothing is written */
    double sum[AJ_UPDATE_SUMS];
} aj_update;
bool aj_update_run(aj_update *u);                        /* false: out of memory, before anything was written */
static inline void aj_written(aj_tensor *t) { if (t) t->storage->version++; }        /* a write in place */

/* Entries of lists, checked; errors name `who`, the kind of entry and its place. */
aj_tensor *aj_update_entry(aj_tensors list, int i, const char *who, const char *what, bool *ok);      /* NULL: absent */
aj_tensor *aj_update_target(aj_tensors list, int i, const char *who, const char *what);               /* ready to be written; NULL: an error */
aj_tensor *aj_update_gradient(aj_tensors grads, const aj_tensor *p, int i, const char *who, bool *ok);        /* NULL with *ok: none */
bool aj_update_fits(const aj_tensor *p, const aj_tensor *c, int i, const char *who, const char *what);  /* same shape and device */
bool aj_update_state(aj_tensors list, const aj_tensor *p, int i, const char *who, const char *what, aj_tensor **out);
bool aj_update_length(aj_tensors params, aj_tensors other, const char *who, const char *what);
bool aj_update_is_scattered(const aj_tensor *t);         /* each element has a place of its own */

/* A method whose update of a matrix is more than a loop. Scratch and rows are ready; see muon.c. */
bool aj_muon_apply(aj_tensor *p, aj_tensor *g, aj_tensor *buffer, aj_tensor *master, const aj_optim_options *o);
#endif
