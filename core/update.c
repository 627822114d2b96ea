/* update.c - a pass over one tensor and its companions: how its work is shared out, and how operands that are strided or
 * of a narrow type come to dense loops; the checks of what may take part. */
#include "jit.h"
#include "update.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const aj_optim_kernels *aj_optim_cpu(void) {
#define LEVEL(level) \
    extern const aj_optim_kernels optim_cpu_##level; \
    if (!strcmp(aj_cpu_level(), #level)) return &optim_cpu_##level;
#ifdef AJ_LEVELS_v4
    LEVEL(v4)
#endif
#ifdef AJ_LEVELS_v3
    LEVEL(v3)
#endif
#ifdef AJ_LEVELS_v2
    LEVEL(v2)
#endif
#ifdef AJ_LEVELS_base
    LEVEL(base)
#endif
    return NULL;
}

/* -- Running ----------------------------------------------------------------------------------------------- */

/* Sums are taken over blocks of fixed places, so that they do not depend on the number of threads. */
enum { GRAIN = 1 << 16, BLOCK = 65536, CHUNK = 512, MASTER = AJ_UPDATE_OPERANDS };

typedef struct {
    aj_update *u;
    const aj_optim_kernels *kernels;
    aj_tensor *t[AJ_UPDATE_OPERANDS + 1];       /* those present, the master among them, in the iterator's order */
    int slot[AJ_UPDATE_OPERANDS + 1], n;
    int wide;                                   /* 0: float, 1: double */
    bool dense;                                 /* every operand is as the loop wants it */
    int64_t bytes[AJ_UPDATE_OPERANDS + 1];
    double (*sums)[AJ_UPDATE_SUMS];
    aj_iter it;
} job;

static void combine(const aj_update *u, double *sum, const double *part) {
    for (int j = 0; j < AJ_UPDATE_SUMS; j++)
        sum[j] = !u->largest ? sum[j] + part[j] : part[j] > sum[j] || part[j] != part[j] ? part[j] : sum[j];
}

/* The master holds what the parameter rounds; where somebody has written the parameter since, that write counts. */
static void follow(const char *at, int64_t stride, float *value, const float *master, aj_optim_store *store, int64_t n) {
    uint16_t rounded[CHUNK];
    const uint16_t *now = (const uint16_t *)(const void *)at;
    store(rounded, 1, master, n);
    for (int64_t i = 0; i < n; i++) if (rounded[i] == now[i * stride]) value[i] = master[i];
}

/* n elements, at most CHUNK, brought into dense buffers, and back. */
static void run_chunk(const job *j, char *const *at, const int64_t *stride, int64_t n, double *sum) {
    const aj_update *u = j->u;
    double buffer[AJ_UPDATE_OPERANDS + 1][CHUNK];
    void *dense[AJ_UPDATE_OPERANDS] = {0};
    for (int k = 0; k < j->n; k++) {
        j->kernels->load[j->wide][j->t[k]->dtype](buffer[k], at[k], stride[k], n);
        if (j->slot[k] != MASTER) dense[j->slot[k]] = buffer[k];
    }
    if (u->master) {
        int m = j->n - 1;
        follow(at[0], stride[0], (float *)(void *)buffer[0], (const float *)(void *)buffer[m], j->kernels->store[0][j->t[0]->dtype], n);
    }
    u->row[j->wide](dense, n, u->number, sum);
    if (u->reads) return;
    for (int k = 0; k < j->n; k++)
        if (j->slot[k] != 1) j->kernels->store[j->wide][j->t[k]->dtype](at[k], stride[k], j->slot[k] == MASTER ? buffer[0] : buffer[k], n);
}

static void run_span(const job *j, int64_t lo, int64_t hi, double *sum) {
    const aj_update *u = j->u;
    int64_t offset[AJ_MAX_OPERANDS], stride[AJ_UPDATE_OPERANDS + 1];
    char *at[AJ_UPDATE_OPERANDS + 1];
    for (int k = 0; k < j->n; k++) stride[k] = j->it.stride[k][0];
    while (lo < hi) {
        aj_iter_at(&j->it, lo, offset);
        int64_t len = j->it.ndim > 1 ? j->it.shape[0] - lo % j->it.shape[0] : hi - lo;
        if (len > hi - lo) len = hi - lo;
        for (int k = 0; k < j->n; k++) at[k] = j->t[k]->data + offset[k] * j->bytes[k];
        if (j->dense) {
            void *dense[AJ_UPDATE_OPERANDS] = {0};
            for (int k = 0; k < j->n; k++) dense[j->slot[k]] = at[k];
            u->row[j->wide](dense, len, u->number, sum);
        } else for (int64_t i = 0; i < len; i += CHUNK) {
            run_chunk(j, at, stride, len - i < CHUNK ? len - i : CHUNK, sum);
            for (int k = 0; k < j->n; k++) at[k] += CHUNK * stride[k] * j->bytes[k];
        }
        lo += len;
    }
}

static void run_range(void *arg, int64_t lo, int64_t hi) {
    double sum[AJ_UPDATE_SUMS] = {0};
    run_span(arg, lo, hi, sum);
}

static void run_blocks(void *arg, int64_t lo, int64_t hi) {
    const job *j = arg;
    for (int64_t b = lo; b < hi; b++) {
        double sum[AJ_UPDATE_SUMS] = {0};
        int64_t end = (b + 1) * BLOCK;
        run_span(j, b * BLOCK, end < j->it.count ? end : j->it.count, sum);
        memcpy(j->sums[b], sum, sizeof sum);
    }
}

static int row_number(const aj_update *u) { return (int)(u->row - (aj_optim_row *const *)aj_optim_cpu()) / 2; }

/* In a graph the numbers are the run's; each of a list has its own. */
static bool run_on_device(aj_update *u, int n) {
    aj_numbers *a = aj_ctx.numbers;
    if (!a) return aj_plugged->device->update(u, n, row_number(u));
    int at = aj_numbers_take(n * AJ_UPDATE_NUMBERS);
    if (at < 0) return false;
    for (int i = 0; i < n; i++) {
        double *to = a->v + at + i * AJ_UPDATE_NUMBERS;
        memcpy(to, u[i].number, sizeof u[i].number);
        if (u[i].trust != 0) to[7] = u[i].trust;         /* as LAMB's second pass wants it, and its first does not read it */
        if (!a->only) u[i].live = a->place + at + i * AJ_UPDATE_NUMBERS;
    }
    if (a->only) return true;
    if (u->derived && !aj_plugged->device->derive(u->operand[0]->device, n, u->derived - 1, u->total, u->live)) return false;
    return aj_plugged->device->update(u, n, row_number(u));
}
bool aj_update_total(double **total) {
    int at = aj_numbers_take(AJ_UPDATE_SUMS);
    *total = at < 0 || aj_ctx.numbers->only ? NULL : aj_ctx.numbers->place + at;
    return at >= 0;
}

/* By how much LAMB's update is scaled needs the norms of all of it. */
static bool apply_lamb(aj_update *u) {
    aj_update second = *u;
    double weights = sqrt(u->sum[0]), change = sqrt(u->sum[1]);
    second.number[7] = u->trust * (weights > 0 && change > 0 ? weights / change : 1);
    second.trust = 0;
    second.row = aj_optim_cpu()->lamb_apply;
    second.summed = false;
    return aj_update_run(&second);
}

bool aj_update_run(aj_update *u) {
    if (u->operand[0]->device >= 0) {
        u->sum[0] = u->sum[1] = 0;
        return u->operand[0]->numel == 0 || run_on_device(u, 1);
    }
    job j = {.u = u, .kernels = aj_optim_cpu(), .wide = u->operand[0]->dtype == AJ_F64, .dense = !u->master};
    u->sum[0] = u->sum[1] = 0;
    int64_t count = u->operand[0]->numel;
    if (count == 0) return true;
    bool plain = !u->master && !u->summed && count < 2 * GRAIN;      /* the common case: nothing to line up, to convert or to share out */
    void *dense[AJ_UPDATE_OPERANDS] = {0};
    for (int k = 0; k < AJ_UPDATE_OPERANDS && plain; k++) {
        aj_tensor *t = u->operand[k];
        if (!t) continue;
        plain = t->contiguous && t->numel == count && t->dtype == (j.wide ? AJ_F64 : AJ_F32);
        dense[k] = t->data;
    }
    if (plain) {
        u->row[j.wide](dense, count, u->number, u->sum);
        return true;
    }
    for (int k = 0; k <= AJ_UPDATE_OPERANDS; k++) {
        aj_tensor *t = k == MASTER ? u->master : u->operand[k];
        if (!t) continue;
        j.slot[j.n] = k;
        j.bytes[j.n] = (int64_t)aj_dtype_size(t->dtype);
        j.t[j.n++] = t;
        if (t->dtype != (j.wide ? AJ_F64 : AJ_F32)) j.dense = false;
    }
    aj_iter_init(&j.it, (const aj_tensor *const *)j.t, j.n);
    for (int k = 0; k < j.n; k++) if (j.it.stride[k][0] != 1 && j.it.shape[0] != 1) j.dense = false;
    if (!u->summed) {
        aj_parallel(j.it.count, GRAIN, run_range, &j);
        return true;
    }
    int64_t blocks = (j.it.count + BLOCK - 1) / BLOCK;
    double one[1][AJ_UPDATE_SUMS];
    j.sums = blocks == 1 ? one : aj_scratch(blocks * (int64_t)sizeof *j.sums);
    if (!j.sums) return false;
    aj_parallel(blocks, 1, run_blocks, &j);
    for (int64_t b = 0; b < blocks; b++) combine(u, u->sum, j.sums[b]);
    if (j.sums != one) aj_scratch_free(j.sums);
    return u->trust == 0 || apply_lamb(u);
}

bool aj_update_add(aj_updates *l, aj_update *u) {
    l->largest = u->largest;
    if (u->operand[0]->device < 0) {
        if (!aj_update_run(u)) return false;
        combine(u, l->sum, u->sum);
        return true;
    }
    if (u->operand[0]->numel == 0) return true;
    if (l->n == l->room) {
        int room = l->room ? 2 * l->room : 64;
        aj_update *p = realloc(l->u, (size_t)room * sizeof *p);
        if (!p) return aj_error("out of memory: no room for a list of %d updates", room);
        l->u = p;
        l->room = room;
    }
    l->u[l->n++] = *u;
    return true;
}
void aj_update_forget(aj_updates *l) {
    free(l->u);
    l->u = NULL;
    l->n = l->room = 0;
}
bool aj_update_end(aj_updates *l) {
    bool ok = true;
    for (int i = 0, n; i < l->n && ok; i += n) {
        for (n = 1; i + n < l->n && l->u[i + n].operand[0]->device == l->u[i].operand[0]->device; n++) {}
        ok = run_on_device(l->u + i, n);
    }
    for (int i = 0; i < l->n && ok; i++) combine(&l->u[i], l->sum, l->u[i].sum);
    aj_update_forget(l);
    return ok;
}

/* -- Checks ------------------------------------------------------------------------------------------------- */

aj_tensor *aj_update_entry(aj_tensors list, int i, const char *who, const char *what, bool *ok) {
    if (!list || i >= list->n || !aj_untag(list->v[i])) return NULL;
    aj_tensor *t = aj_live(list->v[i]);
    if (!t) *ok = aj_error("%s: %s %d was freed when its scope ended; ai.keep() what outlives a scope", who, what, i + 1);
    return t;
}

bool aj_update_is_scattered(const aj_tensor *t) {
    for (int d = 0; d < t->ndim; d++) if (t->stride[d] == 0 && t->shape[d] > 1) return false;
    return true;
}

aj_tensor *aj_update_target(aj_tensors list, int i, const char *who, const char *what) {
    bool ok = true;
    aj_tensor *t = aj_update_entry(list, i, who, what, &ok);
    if (!ok) return NULL;
    if (!t) { aj_error("%s: %s %d is nil", who, what, i + 1); return NULL; }
    if (!aj_is_float(t->dtype)) {
        aj_error("%s: %s %d is %s; only tensors of floats can be updated", who, what, i + 1, aj_dtype_name(t->dtype));
        return NULL;
    }
    if (t->device == AJ_META) { aj_error("%s: %s %d is on the meta device: it has a shape but no elements", who, what, i + 1); return NULL; }
    if (t->node && t->node->op != OP_LEAF) {
        aj_error("%s: %s %d was made by an op; only leaf tensors can be updated: detach() it", who, what, i + 1);
        return NULL;
    }
    if (!aj_update_is_scattered(t)) { aj_error("%s: %s %d is expanded: several elements share one place", who, what, i + 1); return NULL; }
    return t;
}

bool aj_update_fits(const aj_tensor *p, const aj_tensor *c, int i, const char *who, const char *what) {
    if (c->device != p->device) return aj_error("%s: %s %d and its parameter are on different devices", who, what, i + 1);
    if (!aj_same_shape(p, c)) {
        char a[96] = "", b[96] = "";
        const aj_tensor *of[2] = {c, p};
        for (int k = 0; k < 2; k++) {
            char *to = k ? b : a;
            size_t n = 0;
            for (int d = 0; d < of[k]->ndim && n < 90; d++)
                n += (size_t)snprintf(to + n, 96 - n, d ? ", %lld" : "%lld", (long long)of[k]->shape[d]);
        }
        return aj_error("%s: %s %d is (%s) and its parameter (%s)", who, what, i + 1, a, b);
    }
    return true;
}

static bool is_of(const aj_tensor *p, const aj_tensor *c, int dtype, int i, const char *who, const char *what) {
    return c->dtype == dtype || aj_error("%s: %s %d is %s and its parameter %s; %s is wanted", who, what, i + 1, aj_dtype_name(c->dtype),
                                         aj_dtype_name(p->dtype), aj_dtype_name(dtype));
}

aj_tensor *aj_update_gradient(aj_tensors grads, const aj_tensor *p, int i, const char *who, bool *ok) {
    aj_tensor *g = grads ? aj_update_entry(grads, i, who, "gradient", ok) : aj_live(p->grad);
    if (!g || !*ok) return NULL;
    *ok = is_of(p, g, p->dtype, i, who, "gradient") && aj_update_fits(p, g, i, who, "gradient");
    return *ok ? g : NULL;
}

bool aj_update_state(aj_tensors list, const aj_tensor *p, int i, const char *who, const char *what, aj_tensor **out) {
    bool ok = true;
    *out = aj_update_entry(list, i, who, what, &ok);
    if (!ok) return false;
    if (!*out) return aj_error("%s: parameter %d has a gradient but no %s", who, i + 1, what);
    if (!is_of(p, *out, p->dtype == AJ_F64 ? AJ_F64 : AJ_F32, i, who, what) || !aj_update_fits(p, *out, i, who, what)) return false;
    return aj_update_is_scattered(*out) || aj_error("%s: %s %d is expanded: several elements share one place", who, what, i + 1);
}

bool aj_update_length(aj_tensors params, aj_tensors other, const char *who, const char *what) {
    if (!other || other->n == params->n) return true;
    return aj_error("%s: %d parameters, and %d entries in the list of each one's %s", who, params->n, other->n, what);
}
