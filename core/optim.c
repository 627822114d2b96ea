/* optim.c - optimizer steps: what is checked, which loops run, and how their work is shared out. */
#include "jit.h"
#include "optim.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* -- The loops for this processor ------------------------------------------------------------------------ */

static const aj_optim_kernels *kernels(void) {
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

/* -- One update of one tensor ----------------------------------------------------------------------------- */

enum { MAX_OPERANDS = 5, MAX_NUMBERS = 8, GRAIN = 1 << 16, BLOCK = 65536 };

/* An update of at[0] with the others beside it; the operands have one shape and one dtype. */
typedef struct {
    aj_tensor *operand[MAX_OPERANDS];
    int n;
    double number[MAX_NUMBERS];
    aj_optim_row *row;
    aj_iter it;
    int64_t bytes;              /* of an element */
} update;

static void update_range(void *arg, int64_t lo, int64_t hi) {
    const update *u = arg;
    int64_t offset[MAX_OPERANDS], stride[MAX_OPERANDS];
    void *at[MAX_OPERANDS] = {0};
    for (int k = 0; k < u->n; k++) stride[k] = u->it.stride[k][0];
    while (lo < hi) {
        aj_iter_at(&u->it, lo, offset);
        int64_t len = u->it.ndim > 1 ? u->it.shape[0] - lo % u->it.shape[0] : hi - lo;
        if (len > hi - lo) len = hi - lo;
        for (int k = 0; k < u->n; k++) at[k] = u->operand[k]->data + offset[k] * u->bytes;
        u->row(at, stride, len, u->number);
        lo += len;
    }
}

/* Operands that end the list may be NULL. */
static void update_run(update *u) {
    for (u->n = 0; u->n < MAX_OPERANDS && u->operand[u->n]; u->n++) {}
    u->bytes = (int64_t)aj_dtype_size(u->operand[0]->dtype);
    if (u->operand[0]->numel == 0) return;
    aj_iter_init(&u->it, (const aj_tensor *const *)u->operand, u->n);
    aj_parallel(u->it.count, GRAIN, update_range, u);
}

/* A write in place, counted once for each tensor written. */
static void written(aj_tensor *t) {
    if (!t) return;
    t->storage->version++;
    if (aj_ctx.jit) aj_error("an optimizer's step, or the clipping of gradients, is no op that ai.jit can record; do it after the recorded call");
}

/* -- Checks ------------------------------------------------------------------------------------------------- */

static aj_tensor *entry(aj_tensors list, int i, const char *who, const char *what, bool *ok) {
    if (!list || i >= list->n || !aj_untag(list->v[i])) return NULL;
    aj_tensor *t = aj_live(list->v[i]);
    if (!t) *ok = aj_error("%s: %s %d was freed when its scope ended; ai.keep() what outlives a scope", who, what, i + 1);
    return t;
}

static bool is_one_place_an_element(const aj_tensor *t) {
    for (int d = 0; d < t->ndim; d++) if (t->stride[d] == 0 && t->shape[d] > 1) return false;
    return true;
}

/* Parameter i, ready to be written; NULL after an error. */
static aj_tensor *target(aj_tensors list, int i, const char *who, const char *what) {
    bool ok = true;
    aj_tensor *t = entry(list, i, who, what, &ok);
    if (!ok) return NULL;
    if (!t) { aj_error("%s: %s %d is nil", who, what, i + 1); return NULL; }
    if (t->dtype != AJ_F32 && t->dtype != AJ_F64) {
        aj_error("%s: %s %d is %s; f32 and f64 can be updated: keep an f32 copy of the parameters for training", who, what, i + 1, aj_dtype_name(t->dtype));
        return NULL;
    }
    if (t->device != AJ_CPU) { aj_error("%s: %s %d is on cuda:%d; this step runs on the CPU", who, what, i + 1, t->device); return NULL; }
    if (t->node && t->node->op != OP_LEAF) {
        aj_error("%s: %s %d was made by an op; only leaf tensors can be updated: detach() it", who, what, i + 1);
        return NULL;
    }
    if (!is_one_place_an_element(t)) { aj_error("%s: %s %d is expanded: several elements share one place", who, what, i + 1); return NULL; }
    return t;
}

/* Whether companion c of parameter p (a gradient, a moment) fits it. */
static bool fits(const aj_tensor *p, const aj_tensor *c, int i, const char *who, const char *what) {
    if (c->dtype != p->dtype)
        return aj_error("%s: %s %d is %s and its parameter %s", who, what, i + 1, aj_dtype_name(c->dtype), aj_dtype_name(p->dtype));
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

/* The gradient of parameter i; NULL with *ok true: none. */
static aj_tensor *gradient(aj_tensors grads, const aj_tensor *p, int i, const char *who, bool *ok) {
    aj_tensor *g = grads ? entry(grads, i, who, "gradient", ok) : aj_live(p->grad);
    if (!g || !*ok) return NULL;
    *ok = fits(p, g, i, who, "gradient");
    return *ok ? g : NULL;
}

static bool companion(aj_tensors list, const aj_tensor *p, int i, const char *who, const char *what, aj_tensor **out) {
    bool ok = true;
    *out = entry(list, i, who, what, &ok);
    if (!ok) return false;
    if (!*out) return aj_error("%s: parameter %d has a gradient but no %s", who, i + 1, what);
    if (!fits(p, *out, i, who, what)) return false;
    return is_one_place_an_element(*out) || aj_error("%s: %s %d is expanded: several elements share one place", who, what, i + 1);
}

static bool one_length(aj_tensors params, aj_tensors other, const char *who, const char *what) {
    if (!other || other->n == params->n) return true;
    return aj_error("%s: %d parameters and %d %s", who, params->n, other->n, what);
}

/* -- Adam ------------------------------------------------------------------------------------------------------ */

/* The operands of parameter i; operand[1] NULL: nothing to do. */
static bool adam_operands(aj_tensors params, aj_tensors grads, aj_tensors m, aj_tensors v, aj_tensors vmax, int i, aj_tensor **operand) {
    const char *who = "adam";
    bool ok = true;
    aj_tensor *p = target(params, i, who, "parameter");
    if (!p) return false;
    operand[0] = p;
    operand[1] = gradient(grads, p, i, who, &ok);
    operand[4] = NULL;
    if (!ok) return false;
    if (!operand[1]) return true;
    if (!companion(m, p, i, who, "first moment", &operand[2]) || !companion(v, p, i, who, "second moment", &operand[3])) return false;
    return !vmax || vmax->n == 0 || companion(vmax, p, i, who, "largest second moment", &operand[4]);
}

bool aj_adam(aj_tensors params, aj_tensors grads, aj_tensors m, aj_tensors v, aj_tensors vmax, int64_t *step,
             double lr, double beta1, double beta2, double eps, double weight_decay, bool decoupled, bool maximize) {
    update u = {.n = 0};
    if (!one_length(params, grads, "adam", "gradients") || !one_length(params, m, "adam", "first moments")
        || !one_length(params, v, "adam", "second moments") || (vmax && vmax->n && !one_length(params, vmax, "adam", "largest second moments"))) return false;
    for (int i = 0; i < params->n; i++) if (!adam_operands(params, grads, m, v, vmax, i, u.operand)) return false;
    for (int i = 0; i < params->n; i++) {
        if (!adam_operands(params, grads, m, v, vmax, i, u.operand)) return false;
        if (!u.operand[1]) continue;
        double t = (double)++step[i];
        u.number[0] = lr / (1 - pow(beta1, t));
        u.number[1] = beta1;
        u.number[2] = beta2;
        u.number[3] = eps;
        u.number[4] = 1 / sqrt(1 - pow(beta2, t));
        u.number[5] = decoupled ? 1 - lr * weight_decay : 1;
        u.number[6] = decoupled ? 0 : weight_decay;
        u.number[7] = maximize ? -1 : 1;
        u.row = kernels()->adam[u.operand[0]->dtype == AJ_F64];
        update_run(&u);
        written(u.operand[0]); written(u.operand[2]); written(u.operand[3]); written(u.operand[4]);
    }
    return true;
}

/* -- SGD ------------------------------------------------------------------------------------------------------- */

static bool sgd_operands(aj_tensors params, aj_tensors grads, aj_tensors buffers, bool momentum, int i, aj_tensor **operand) {
    bool ok = true;
    aj_tensor *p = target(params, i, "sgd", "parameter");
    if (!p) return false;
    operand[0] = p;
    operand[1] = gradient(grads, p, i, "sgd", &ok);
    operand[2] = NULL;
    if (!ok) return false;
    return !operand[1] || !momentum || companion(buffers, p, i, "sgd", "momentum buffer", &operand[2]);
}

bool aj_sgd(aj_tensors params, aj_tensors grads, aj_tensors buffers, int64_t *step,
            double lr, double momentum, double dampening, double weight_decay, bool nesterov, bool maximize) {
    bool moving = momentum != 0;
    update u = {.n = 0};
    if (!one_length(params, grads, "sgd", "gradients") || (moving && !one_length(params, buffers, "sgd", "momentum buffers"))) return false;
    for (int i = 0; i < params->n; i++) if (!sgd_operands(params, grads, buffers, moving, i, u.operand)) return false;
    for (int i = 0; i < params->n; i++) {
        if (!sgd_operands(params, grads, buffers, moving, i, u.operand)) return false;
        if (!u.operand[1]) continue;
        /* The buffer of a first step is the gradient itself, undamped. */
        bool first = step[i]++ == 0;
        u.number[0] = lr;
        u.number[1] = momentum;
        u.number[2] = first ? 1 : 1 - dampening;
        u.number[3] = weight_decay;
        u.number[4] = nesterov;
        u.number[5] = maximize ? -1 : 1;
        u.row = kernels()->sgd[u.operand[0]->dtype == AJ_F64];
        update_run(&u);
        written(u.operand[0]); written(u.operand[2]);
    }
    return true;
}

/* -- Gradients as a whole ----------------------------------------------------------------------------------------- */

/* Blocks of a gradient, each with its own sum: the total does not depend on how many threads there are. */
typedef struct { aj_iter it; const aj_tensor *x; aj_optim_total *total; double p, *sum; int64_t bytes; bool largest; } totals;

static void total_blocks(void *arg, int64_t lo, int64_t hi) {
    totals *t = arg;
    for (int64_t b = lo; b < hi; b++) {
        int64_t at = b * BLOCK, end = at + BLOCK < t->it.count ? at + BLOCK : t->it.count, offset;
        double sum = 0;
        while (at < end) {
            aj_iter_at(&t->it, at, &offset);
            int64_t len = t->it.ndim > 1 ? t->it.shape[0] - at % t->it.shape[0] : end - at;
            if (len > end - at) len = end - at;
            double part = t->total(t->x->data + offset * t->bytes, t->it.stride[0][0], len, t->p);
            sum = !t->largest ? sum + part : part > sum || part != part ? part : sum;
            at += len;
        }
        t->sum[b] = sum;
    }
}

static bool total_of(const aj_tensor *x, int kind, double p, double *sum) {
    totals t = {.x = x, .total = kernels()->total[kind][x->dtype == AJ_F64], .p = p, .bytes = (int64_t)aj_dtype_size(x->dtype),
                .largest = kind == AJ_OPTIM_LARGEST};
    if (x->numel == 0) return true;
    aj_iter_init(&t.it, &x, 1);
    int64_t blocks = (t.it.count + BLOCK - 1) / BLOCK;
    t.sum = aj_scratch(blocks * (int64_t)sizeof *t.sum);
    if (!t.sum) return false;
    aj_parallel(blocks, 1, total_blocks, &t);
    for (int64_t b = 0; b < blocks; b++) {
        double part = t.sum[b];
        *sum = !t.largest ? *sum + part : part > *sum || part != part ? part : *sum;
    }
    aj_scratch_free(t.sum);
    return true;
}

/* Gradient i, which is about to be read and written on the CPU; NULL with *ok true: none. */
static aj_tensor *own_gradient(aj_tensors params, aj_tensors grads, int i, const char *who, bool *ok) {
    aj_tensor *p = params ? entry(params, i, who, "parameter", ok) : NULL;
    if (!*ok) return NULL;
    aj_tensor *g = grads ? entry(grads, i, who, "gradient", ok) : p ? aj_live(p->grad) : NULL;
    if (!g || !*ok) return NULL;
    if (g->dtype != AJ_F32 && g->dtype != AJ_F64) *ok = aj_error("%s: gradient %d is %s; f32 and f64 can be clipped", who, i + 1, aj_dtype_name(g->dtype));
    else if (g->device != AJ_CPU) *ok = aj_error("%s: gradient %d is on cuda:%d; this call runs on the CPU", who, i + 1, g->device);
    else if (!is_one_place_an_element(g)) *ok = aj_error("%s: gradient %d is expanded: several elements share one place", who, i + 1);
    return *ok ? g : NULL;
}

/* row over every gradient. */
static void update_gradients(aj_tensors params, aj_tensors grads, aj_optim_row *const *row, double number) {
    bool ok = true;
    for (int i = 0, n = grads ? grads->n : params->n; i < n; i++) {
        aj_tensor *g = own_gradient(params, grads, i, "clip", &ok);
        if (!g) continue;
        update u = {.operand = {g}, .number = {number}, .row = row[g->dtype == AJ_F64]};
        update_run(&u);
        written(g);
    }
}

bool aj_clip_grad_norm(aj_tensors params, aj_tensors grads, double max_norm, double p, double *norm) {
    const char *who = "clip_grad_norm";
    int n = grads ? grads->n : params->n;
    int kind = p == 2 ? AJ_OPTIM_SQUARES : isinf(p) ? AJ_OPTIM_LARGEST : AJ_OPTIM_POWERS;
    bool ok = true;
    double sum = 0;
    *norm = 0;
    if (!(max_norm >= 0)) return aj_error("%s: max_norm is %g; it must be 0 or more", who, max_norm);
    if (!(p > 0)) return aj_error("%s: the norm's p is %g; it must be positive, or infinite", who, p);
    for (int i = 0; i < n; i++) {
        aj_tensor *g = own_gradient(params, grads, i, who, &ok);
        if (!ok || (g && !total_of(g, kind, p, &sum))) return false;
    }
    *norm = kind == AJ_OPTIM_SQUARES ? sqrt(sum) : kind == AJ_OPTIM_LARGEST ? sum : pow(sum, 1 / p);
    double scale = max_norm / (*norm + 1e-6);
    if (!(scale >= 1)) update_gradients(params, grads, kernels()->scale, scale);
    return true;
}

bool aj_clip_grad_value(aj_tensors params, aj_tensors grads, double value) {
    bool ok = true;
    if (!(value >= 0)) return aj_error("clip_grad_value: the value is %g; it must be 0 or more", value);
    for (int i = 0, n = grads ? grads->n : params->n; i < n && ok; i++) own_gradient(params, grads, i, "clip_grad_value", &ok);
    if (ok) update_gradients(params, grads, kernels()->clamp, value);
    return ok;
}

bool aj_zero_grad(aj_tensors params) {
    for (int i = 0; i < params->n; i++) {
        bool ok = true;
        aj_tensor *p = entry(params, i, "zero_grad", "parameter", &ok);
        if (!ok) return false;
        if (p && aj_ctx.jit) aj_jit_leaf(p, NULL);
        if (p && p->grad) { aj_drop(p->grad); p->grad = NULL; }
    }
    return true;
}

bool aj_lerp_all(aj_tensors targets, aj_tensors sources, double weight) {
    const char *who = "soft_update";
    if (targets->n != sources->n) return aj_error("%s: %d tensors here and %d there", who, targets->n, sources->n);
    for (int i = 0; i < targets->n; i++) {
        aj_tensor *t = target(targets, i, who, "tensor"), *s;
        if (!t || !companion(sources, t, i, who, "source", &s)) return false;
    }
    for (int i = 0; i < targets->n; i++) {
        bool ok = true;
        aj_tensor *t = entry(targets, i, who, "tensor", &ok), *s = entry(sources, i, who, "source", &ok);
        if (t == s || t->data == s->data) continue;
        update u = {.operand = {t, s}, .number = {weight}, .row = kernels()->lerp[t->dtype == AJ_F64]};
        update_run(&u);
        written(t);
    }
    return true;
}
