/* update.h - a pass over one tensor and what belongs to it, such as its gradient and its moments: the means that the
 * optimizers (optim.c, muon.c) and the clipping of gradients (clip.c) share. */
#ifndef AJ_UPDATE_H
#define AJ_UPDATE_H
#include "core.h"
#include "optim.h"

typedef void aj_optim_load(void *to, const void *from, int64_t stride, int64_t n);
typedef void aj_optim_store(void *to, int64_t stride, const void *from, int64_t n);
typedef struct {
#define FIELD(name) aj_optim_row *name[2];
    AJ_OPTIM_ROWS(FIELD)
#undef FIELD
    aj_optim_load *const *load[2];      /* by class and dtype */
    aj_optim_store *const *store[2];
} aj_optim_kernels;
const aj_optim_kernels *aj_optim_cpu(void);              /* for this processor */

bool aj_update_run(aj_update *u);                        /* false: out of memory, before anything was written */

/* Passes of one kind over many tensors. Those over the CPU's run when they are added, those over a device's all together. */
typedef struct { aj_update *u; int n, room; bool largest; double sum[AJ_UPDATE_SUMS]; } aj_updates;
bool aj_update_add(aj_updates *l, aj_update *u);         /* l was {0}; false after an error */
bool aj_update_end(aj_updates *l);                       /* runs what waits; l->sum is then of all of them, and l is {0} but for it */
void aj_update_forget(aj_updates *l);                    /* what waits is not run */
/* In a graph (aj_ctx.numbers) sums stay on the device: a place for those of the passes that follow with this total; NULL
 * where numbers alone are wanted. */
bool aj_update_total(double **total);
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
