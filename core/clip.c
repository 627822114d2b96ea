/* clip.c - gradients as a whole: their norm, their limits, their end; and tensors that follow others. */
#include "jit.h"
#include "update.h"
#include <math.h>

/* Gradient i, which is about to be read and written; NULL with *ok true: none. */
static aj_tensor *own_gradient(aj_tensors params, aj_tensors grads, int i, const char *who, bool *ok) {
    aj_tensor *p = params ? aj_update_entry(params, i, who, "parameter", ok) : NULL;
    if (!*ok) return NULL;
    aj_tensor *g = grads ? aj_update_entry(grads, i, who, "gradient", ok) : p ? aj_live(p->grad) : NULL;
    if (!g || !*ok) return NULL;
    if (!aj_is_float(g->dtype)) *ok = aj_error("%s: gradient %d is %s; floats are wanted", who, i + 1, aj_dtype_name(g->dtype));
    else if (g->device == AJ_META) *ok = aj_error("%s: gradient %d is on the meta device: it has a shape but no elements", who, i + 1);
    else if (!aj_update_is_scattered(g)) *ok = aj_error("%s: gradient %d is expanded: several elements share one place", who, i + 1);
    return *ok ? g : NULL;
}

/* u over every gradient. */
static bool update_gradients(aj_tensors params, aj_tensors grads, aj_update u) {
    bool ok = true;
    aj_updates all = {0};
    for (int i = 0, n = grads ? grads->n : params->n; i < n && ok; i++) {
        aj_tensor *g = own_gradient(params, grads, i, "clip", &ok);
        if (!g) continue;
        u.operand[0] = g;
        ok = aj_update_add(&all, &u);
        aj_written(g);
    }
    return aj_update_end(&all) && ok;
}

static bool clip_norm_again(aj_jit_step *s) {
    double norm;
    return aj_clip_grad_norm(s->list[0], s->list[1], s->number[0], s->number[1], &norm);
}

bool aj_clip_grad_norm(aj_tensors params, aj_tensors grads, double max_norm, double p, double *norm) {
    const char *who = "clip_grad_norm";
    const aj_optim_kernels *k = aj_optim_cpu();
    bool ok = true, largest = isinf(p);
    aj_updates all = {0};
    *norm = 0;
    double *total = NULL;                                /* in a graph the norm stays on the device, and each gradient is scaled, by 1 where it is small */
    if (!(max_norm >= 0)) return aj_error("%s: max_norm is %g; it must be 0 or more", who, max_norm);
    if (!(p > 0)) return aj_error("%s: the norm's p is %g; it must be positive, or infinite", who, p);
    if (aj_ctx.numbers && !aj_update_total(&total)) return false;
    for (int i = 0, n = grads ? grads->n : params->n; i < n; i++) {
        aj_tensor *g = own_gradient(params, grads, i, who, &ok);
        if (ok && !g) continue;
        aj_update u = {.operand = {g}, .number = {p}, .row = p == 2 ? k->squares : largest ? k->largest : k->powers,
                       .summed = true, .largest = largest, .reads = true, .total = total};
        if (!ok || !aj_update_add(&all, &u)) { aj_update_forget(&all); return false; }
    }
    if (!aj_update_end(&all)) return false;
    if (aj_ctx.numbers) return isinf(max_norm) || update_gradients(params, grads, (aj_update){.number = {1, max_norm, p}, .row = k->scale, .total = total, .derived = 1 + AJ_DERIVE_CLIP});
    double sum = all.sum[0];
    *norm = p == 2 ? sqrt(sum) : largest ? sum : pow(sum, 1 / p);
    double scale = max_norm / (*norm + 1e-6);
    if (!isinf(max_norm) && !(scale >= 1) && !update_gradients(params, grads, (aj_update){.number = {scale}, .row = k->scale})) return false;
    if (AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_stepped(&(aj_jit_step){.run = clip_norm_again, .list = {params, grads}, .number = {max_norm, p}});
    return true;
}

static bool clip_value_again(aj_jit_step *s) { return aj_clip_grad_value(s->list[0], s->list[1], s->number[0]); }

bool aj_clip_grad_value(aj_tensors params, aj_tensors grads, double value) {
    bool ok = true;
    if (!(value >= 0)) return aj_error("clip_grad_value: the value is %g; it must be 0 or more", value);
    for (int i = 0, n = grads ? grads->n : params->n; i < n && ok; i++) own_gradient(params, grads, i, "clip_grad_value", &ok);
    ok = ok && update_gradients(params, grads, (aj_update){.number = {value}, .row = aj_optim_cpu()->clamp});
    if (ok && AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_stepped(&(aj_jit_step){.run = clip_value_again, .list = {params, grads}, .number = {value}});
    return ok;
}

bool aj_zero_grad(aj_tensors params) {
    for (int i = 0; i < params->n; i++) {
        bool ok = true;
        aj_tensor *p = aj_update_entry(params, i, "zero_grad", "parameter", &ok);
        if (!ok) return false;
        if (p && aj_ctx.jit) aj_jit_leaf(p, NULL);
        if (p && p->grad) { aj_drop(p->grad); p->grad = NULL; }
    }
    return true;
}

static aj_tensor *source_of(aj_tensors sources, const aj_tensor *t, int i, const char *who) {
    bool ok = true;
    aj_tensor *s = aj_update_entry(sources, i, who, "source", &ok);
    if (!ok) return NULL;
    if (!s) aj_error("%s: source %d is nil", who, i + 1);
    else if (!aj_is_float(s->dtype)) aj_error("%s: source %d is %s; floats are wanted", who, i + 1, aj_dtype_name(s->dtype));
    else if (aj_update_fits(t, s, i, who, "source")) return s;
    return NULL;
}

static bool lerp_again(aj_jit_step *s) { return aj_lerp_all(s->list[0], s->list[1], s->number[0]); }

bool aj_lerp_all(aj_tensors targets, aj_tensors sources, double weight) {
    const char *who = "soft_update";
    if (targets->n != sources->n) return aj_error("%s: %d tensors here and %d there", who, targets->n, sources->n);
    for (int i = 0; i < targets->n; i++) {
        aj_tensor *t = aj_update_target(targets, i, who, "tensor");
        if (!t || !source_of(sources, t, i, who)) return false;
    }
    bool ok = true;
    aj_updates all = {0};
    for (int i = 0; i < targets->n && ok; i++) {
        aj_tensor *t = aj_update_entry(targets, i, who, "tensor", &ok), *s = aj_update_entry(sources, i, who, "source", &ok);
        if (t == s || t->data == s->data) continue;
        aj_update u = {.operand = {t, s}, .number = {weight}, .row = aj_optim_cpu()->lerp};
        ok = aj_update_add(&all, &u);
        aj_written(t);
    }
    if (!aj_update_end(&all) || !ok) return false;
    if (AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_stepped(&(aj_jit_step){.run = lerp_again, .list = {targets, sources}, .number = {weight}});
    return true;
}
