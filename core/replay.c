/* replay.c - a recording run again: one call into C, on other inputs. */
#include "recording.h"
#include "watch.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { aj_jit *r; group *g; bool failed; } fused;

static bool run_line(const aj_jit *r, const line *l, part *p) {
    if (l->loop) {
        char *stream[AJ_STREAMS];
        int64_t pace[AJ_STREAMS], row = p[l->part[0]].row, n = p[l->part[0]].view.numel;
        for (int s = 0; s < l->loop->n_stream; s++) {
            stream[s] = p[l->stream[s]].view.data;
            pace[s] = p[l->stream[s]].sliced ? p[l->stream[s]].row * 4 : 0;
        }
        if (!l->each_row) row = n;
        for (int64_t at = 0; at < n; at += row) {
            aj_loop_run(l->loop, stream, row);
            for (int s = 0; s < l->loop->n_stream; s++) stream[s] += pace[s];
        }
        return true;
    }
    const entry *e = &r->entry[l->entry];
    aj_tensor *of[AJ_MAX_OPERANDS];
    for (int k = 0; k < l->n_part; k++) of[k] = &p[l->part[k]].view;
    if (e->kind == GRADIENT) {
        int a = 0;
        aj_grad_call c = {.attrs = &l->attrs};
        c.gx = of[a++];
        c.gy = of[a++];
        if (e->grad.y) c.y = of[a++];
        if (e->grad.in[0]) c.in[0] = of[a++];
        if (e->grad.in[1]) c.in[1] = of[a++];
        return aj_cpu->grad[e->call.op][e->column](&c);
    }
    aj_attrs attrs = l->attrs;
    aj_call c = {.op = e->call.op, .n_in = e->call.n_in, .n_out = 1, .in = of + 1, .attrs = &attrs};
    c.out[0] = of[0];
    return aj_cpu->forward[c.op](&c);
}

/* Rows lo to hi, a few at a time. */
static bool run_group(const aj_jit *r, const group *g, part *p, char *chunks, int64_t lo, int64_t hi) {
    for (int64_t at = lo; at < hi; at += g->step) {
        int64_t n = hi - at < g->step ? hi - at : g->step;
        for (int i = 0; i < g->n_part; i++) {
            part *q = &p[i];
            q->view.storage = q->tensor->storage;        /* what it was recorded in is gone */
            if (!q->sliced) { q->view.data = q->tensor->data; continue; }
            q->view.data = q->chunk ? chunks + (q->chunk - 1) * g->chunk_bytes : q->tensor->data + at * q->row * (int64_t)aj_dtype_size((aj_dtype)q->view.dtype);
            q->view.shape[0] = n;
            q->view.numel = n * q->row;
        }
        for (int i = 0; i < g->n_line; i++) if (!run_line(r, &g->line[i], p)) return false;
    }
    return true;
}

static void run_share(void *arg, int64_t lo, int64_t hi) {
    fused *f = arg;
    group *g = f->g;
    if (lo == 0 && hi == g->rows) {                      /* all of it: nobody else is at it */
        if (!run_group(f->r, g, g->part, f->r->chunks ? f->r->chunks->data : NULL, lo, hi)) f->failed = true;
        return;
    }
    part *p = malloc((size_t)g->n_part * sizeof *p);
    char *chunks = g->n_chunk ? aj_scratch(g->n_chunk * g->chunk_bytes) : NULL;
    if (!p || (g->n_chunk && !chunks)) f->failed = true;
    else {
        memcpy(p, g->part, (size_t)g->n_part * sizeof *p);
        if (!run_group(f->r, g, p, chunks, lo, hi)) f->failed = true;
    }
    free(p);
    aj_scratch_free(chunks);
}

/* What was there before lies where it lay. */
static bool unmoved(aj_jit *r) {
    int32_t moves = __atomic_load_n(&aj_data_moves, __ATOMIC_RELAXED);
    if (AJ_LIKELY(r->moves == moves)) return true;
    for (int i = 0; i < r->n_memory; i++) {
        const memory *m = &r->memory[i];
        if (!m->made && m->bound <= 0 && m->storage->left != m->left) return false;
    }
    r->moves = moves;
    return true;
}

static bool fits(aj_jit *r, aj_tensors inputs) {
    if (inputs->n != r->n_input) return false;
    for (int i = 0; i < inputs->n; i++) {
        const aj_tensor *x = aj_live(inputs->v[i]), *own = r->input[i];
        if (!x || x->planned || x->dtype != own->dtype || x->device != own->device || !x->contiguous || !aj_same_shape(x, own)) return false;
        if (x->requires_grad && aj_ctx.grad_mode) return false;
    }
    if (!unmoved(r) || (r->writes_input && aj_share_memory(inputs))) return false;
    for (int i = 0; i < r->n_condition; i++) {
        const condition *c = &r->condition[i];
        if ((!c->any && c->leaf->grad != c->grad) || c->leaf->requires_grad != c->requires_grad) return false;
    }
    return true;
}

void aj_set_leaf(const entry *e) {
    aj_tensor *old = e->leaf->grad;
    e->leaf->grad = aj_hold(e->leaf_grad);
    if (old) aj_drop(old);
}

static bool run_fused(aj_jit *r, entry *e) {
    group *g = &r->group[e->group - 1];
    fused f = {r, g, false};
    if (r->device >= 0) { if (!aj_plugged->device->fused_run(&g->fused)) return false; }
    else aj_parallel(g->rows, 1 + (1 << 15) / g->work, run_share, &f);
    if (f.failed) return aj_ctx.state.attend & AJ_FAILED ? false : aj_error("out of memory: no room for a fused group");
    for (int i = g->first; i <= g->last; i++) {
        if (r->entry[i].kind == LEAF) aj_set_leaf(&r->entry[i]);
        if (r->entry[i].in_place) r->entry[i].call.out[0]->storage->version++;
    }
    return true;
}

static bool run_entry(aj_jit *r, entry *e) {
    if (e->group) return run_fused(r, e);
    if (e->kind == CALL) {
        if (e->take) {
            const reservation *take = &r->take[e->take - 1];
            e->attrs.position = take->now;
            e->attrs.seed = take->fixed ? take->seed : aj_ctx.seed;
            e->attrs.live = aj_ctx.numbers && !take->fixed ? (const uint64_t *)(const void *)r->numbers.place + 2 * (e->take - 1) : NULL;
        }
        if (!aj_backend_of(e->call.out[0]->device)->forward[e->call.op](&e->call)) return false;
        if (e->in_place) e->call.out[0]->storage->version++;
    } else if (e->kind == GRADIENT) {
        return aj_backend_of(e->grad.gx->device)->grad[e->call.op][e->column](&e->grad);
    } else if (e->kind == STEP) {
        return e->step.run(&e->step);
    } else aj_set_leaf(e);
    return true;
}

/* "mul tanh add": the ops of a fused group, for those who watch. */
static const char *name_of(const aj_jit *r, const entry *e) {
    if (!e->group) return e->kind == STEP ? (e->step.method ? e->step.method : "gradients") : aj_ops[e->call.op].info->name;
    const group *g = &r->group[e->group - 1];
    char text[96] = "";
    size_t n = 0;
    int left = 0;
    for (int i = g->first; i <= g->last; i++) {
        if (r->entry[i].kind != CALL && r->entry[i].kind != GRADIENT) continue;
        const char *name = aj_ops[r->entry[i].call.op].info->name;
        if (n + strlen(name) + 16 > sizeof text) { left++; continue; }
        n += (size_t)snprintf(text + n, sizeof text - n, n ? " %s" : "%s", name);
    }
    if (left) snprintf(text + n, sizeof text - n, " and %d", left);
    return aj_event_name(text);
}

static bool run_watched(aj_jit *r, entry *e) {
    if (e->kind == LEAF && !e->group) return run_entry(r, e);
    bool rule = e->kind == GRADIENT && !e->group;
    aj_tensor *const *in = rule ? &e->grad.gy : e->call.in;
    int32_t event = aj_event_of(name_of(r, e), rule ? AJ_EVENT_BACKWARD : e->kind == STEP ? AJ_EVENT_STEP : AJ_EVENT_OP, e->backward,
                                in, e->group || e->kind == STEP ? 0 : rule ? 1 : e->call.n_in);
    bool ok = run_entry(r, e);
    aj_event_close(event);
    return ok;
}

static bool run_entries(aj_jit *r) {
    bool watched = aj_ctx.state.watch & AJ_WATCH_TIMES && !aj_ctx.numbers;
    for (int i = 0; i < r->n_entry; i++) {
        entry *e = &r->entry[i];
        int32_t mark = r->device >= 0 ? aj_inner_open() : 0;         /* of copies that a device's kernels make of inputs */
        bool ok = mark >= 0 && (AJ_UNLIKELY(watched) ? run_watched(r, e) : run_entry(r, e));
        if (r->device >= 0 && mark >= 0) aj_inner_close(mark);
        if (!ok) return false;
        if (e->group) i = r->group[e->group - 1].last;
    }
    return true;
}

bool aj_run_entries(aj_jit *r) {
    aj_ctx.replaying = r->device >= 0;
    bool ok = run_entries(r);
    aj_ctx.replaying = false;
    return ok;
}

static int32_t run_once(aj_jit *r, aj_tensors inputs) {
    if (aj_interrupted()) return -1;
    for (int i = 0; i < r->n_memory; i++) {
        memory *m = &r->memory[i];
        if (m->bound > 0) {
            aj_tensor *x = aj_live(inputs->v[m->bound - 1]);
            aj_bind(m, x->storage, x->data - m->offset[0]);
        } else if (m->bound < 0) {
            int64_t bytes = r->device >= 0 ? m->bytes : m->storage->bytes - 64;
            aj_storage *s = aj_storage_new(bytes, r->device >= 0 ? r->device : AJ_CPU);
            if (!s) return -1;
            aj_bind(m, s, s->data);
            aj_storage_drop(s);
        }
    }
    for (int i = 0; i < r->n_take; i++) if (!r->take[i].fixed) r->take[i].now = aj_random_take(r->take[i].n);
    if (!aj_run_entries(r)) return -1;
    for (int i = 0; i < r->n_output; i++) {
        aj_tensor *y = aj_alias(r->output[i]);
        if (!y) return -1;
        r->result[i] = aj_give(y);
    }
    return 1;
}

int32_t aj_jit_run(aj_jit *r, aj_tensors inputs) {
    if (!fits(r, inputs)) return 0;
    int32_t event = AJ_UNLIKELY(aj_ctx.state.watch) ? aj_event_open("replay", AJ_EVENT_REPLAY) : -1;
    int32_t what = r->graph ? aj_launch(r, inputs) : run_once(r, inputs);
    if (AJ_UNLIKELY(event >= 0)) aj_event_close(event);
    return what;
}
