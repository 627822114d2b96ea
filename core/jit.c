/* jit.c - a function of tensors recorded as a list of kernel calls, and run again without the function.
 *
 * The tensors that the recorded run made stand for those of every later run: their headers stay, and their memory is
 * planned anew, so that what is never live at the same time shares it. Runs of elementwise calls over as many elements
 * are cut into chunks that stay in the first cache. Inputs and results are bound to the memory of each call. What was
 * neither given nor made (parameters, buffers) is used where it lies, and written there if the function wrote there.
 */
#include "recording.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool aj_recording_grow(void **v, int n, int *cap, size_t size) {
    if (n < *cap) return true;
    int wider = *cap ? 2 * *cap : 32;
    void *p = realloc(*v, (size_t)wider * size);
    if (!p) return aj_error("out of memory: no room for a recording");
    *v = p; *cap = wider;
    return true;
}
enum { PILE = 1 << 25 };

/* -- Recording ---------------------------------------------------------------------------------------------------- */

static const char *name_of(int32_t device, char to[24]) {
    if (device < 0) return "the CPU";
    snprintf(to, 24, "cuda:%d", device);
    return to;
}
/* A recording is of one device. Shapes without elements are with any. */
static bool joins(aj_jit *r, int32_t device) {
    if (device == AJ_META) return true;
    if (r->device == NOWHERE) { r->device = device; return true; }
    char a[24], b[24];
    r->failed = true;
    return aj_error("jit: the function uses tensors on %s and on %s, and a recording is of one device: move them there before the call, and results after it",
                    name_of(r->device, a), name_of(device, b));
}

/* The memory of a tensor, noted when it is first met. */
static memory *memory_of(aj_jit *r, aj_tensor *t, bool made) {
    if (AJ_UNLIKELY(t->device != r->device) && !joins(r, t->device)) return NULL;
    memory *m = NULL;
    for (int i = r->n_memory - 1; i >= 0 && !m; i--) if (r->memory[i].storage == t->storage) m = &r->memory[i];
    if (!m) {
        if (!ROOM(r, memory, 0)) return NULL;
        m = &r->memory[r->n_memory++];
        *m = (memory){.storage = t->storage, .made = made, .constant = !made && aj_ctx.era && t->storage->era == aj_ctx.era, .version = t->storage->version, .left = t->storage->left, .first = r->n_entry};
        __atomic_fetch_add(&t->storage->refs, 1, __ATOMIC_RELAXED);
        if (made) r->piled += t->storage->bytes;
    }
    m->last = r->n_entry;
    for (int i = 0; i < m->n; i++) if (m->tensor[i] == t) return m;
    if (m->n == m->cap) {
        int cap = m->cap ? 2 * m->cap : 4;
        void *p = realloc(m->tensor, (size_t)cap * sizeof *m->tensor);
        if (p) m->tensor = p;
        void *q = realloc(m->offset, (size_t)cap * sizeof *m->offset);
        if (q) m->offset = q;
        if (!p || !q) { r->failed = true; aj_error("out of memory: no room for a recording"); return NULL; }
        m->cap = cap;
    }
    m->tensor[m->n] = aj_hold(t);
    m->offset[m->n++] = t->data - (char *)t->storage->data;
    return m;
}

/* The reservation that an op's random numbers come from: its rule has just made it, or its caller names its place. */
static int take_of(aj_jit *r, const aj_call *c) {
    const aj_op *o = &aj_ops[c->op];
    if (o->kind <= AJ_REDUCE) return 0;
    bool named = strstr(o->info->params, "int64_t seed") != NULL;
    for (int i = r->n_take - 1; i >= 0 && (named || i == r->n_take - 1); i--) {
        reservation *take = &r->take[i];
        if (take->n <= 0 || take->position != c->attrs->position || take->seed != c->attrs->seed || (take->claimed && !named)) continue;
        take->claimed = true;
        return i + 1;
    }
    return 0;
}

/* A tensor made of numbers of Lua keeps what a run leaves in it. That is right where each run writes the same elements
 * anew before it reads any; then it is as good as made by the recording. */
static bool may_write_constant(memory *m, const aj_call *c) {
    switch (c->op) {
    case OP_fill_: case OP_copy_: case OP_uniform_: case OP_normal_: case OP_exponential_: case OP_bernoulli_: case OP_random_:
        if (c->out[0]->contiguous && !c->out[0]->base) m->constant = false;
        return true;
    }
    aj_ctx.jit->failed = true;
    return aj_error("%s_: this tensor was made of numbers within a function that ai.jit records, and every run would find what the one before left in it; begin with ai.zeros, or :clone() it first", aj_op_name(c->op));
}

/* Made of numbers of Lua within the function; a view of what an entry made is not, though it has not been met. */
static bool is_constant(const aj_tensor *t) {
    if (t->traced || t->storage->era != aj_ctx.era) return false;
    int i = aj_memory_index(aj_ctx.jit, t);
    return i < 0 || aj_ctx.jit->memory[i].constant;
}

bool aj_jit_moves(const aj_tensor *t, int32_t device) {
    if (t->device == device || is_constant(t)) return true;
    if (device == AJ_CPU)
        return aj_error("to: a function that ai.jit records cannot read a value, nor move a tensor to the CPU: a recording is of one device. Read, or move, what the function returns");
    return aj_error("to: a function that ai.jit records cannot move a tensor to another device: a recording is of one. Move it before the call");
}

/* Whether the recording alone holds all tensors over a memory: no later entry can read it then. */
static bool is_let_go(const memory *m) {
    if (m->storage->refs != m->n + 1) return false;
    for (int i = 0; i < m->n; i++) {
        int32_t others = m->tensor[i]->refs - 1;
        for (int k = 0; k < m->n; k++) others -= m->tensor[k]->base == m->tensor[i];
        if (others > 0) return false;
    }
    return true;
}

/* Gives back the memory of what the recorded run has let go; its tensors stay, for the plan. Asks the caller to collect its
 * garbage, since handles that are out of reach hold theirs until then. */
static void give_back(aj_jit *r) {
    r->piled = 0;
    for (int i = 0; i < r->n_memory; i++) {
        memory *m = &r->memory[i];
        if (!m->made || m->given_back || m->pinned || m->storage->device != AJ_CPU || m->last >= r->n_entry - 1 || !is_let_go(m)) continue;
        aj_storage *none = aj_storage_new(0, AJ_CPU);
        if (!none) { r->failed = true; return; }
        aj_bind(m, none, none->data);
        aj_storage_drop(m->storage);
        m->storage = none;
        m->given_back = true;
    }
    if (aj_ctx.state.scopes == 0) aj_attend(AJ_GOVERN);
}

void aj_jit_op(const aj_call *c, bool in_place) {
    aj_jit *r = aj_ctx.jit;
    if (c->op == OP_to_device && is_constant(c->in[0])) return;      /* it is as constant there */
    if (r->piled > PILE) give_back(r);
    if (!ROOM(r, entry, 0)) return;
    entry *e = &r->entry[r->n_entry];
    *e = (entry){.kind = CALL, .in_place = in_place, .backward = aj_ctx.passes > 0, .call = *c, .attrs = *c->attrs};
    e->call.in = calloc((size_t)c->n_in + 1, sizeof *e->call.in);
    if (!e->call.in) { r->failed = true; aj_error("out of memory: no room for a recording"); return; }
    for (int k = 0; k < c->n_in; k++) {
        e->call.in[k] = c->in[k];
        if (c->in[k] && !memory_of(r, c->in[k], false)) return;
    }
    for (int i = 0; i < c->n_out; i++) {
        memory *m = memory_of(r, c->out[i], !in_place);
        if (!m) return;
        if (in_place) {
            m->writes++;
            if (m->constant && !may_write_constant(m, c)) return;
        }
        c->out[i]->traced = true;
    }
    e->take = take_of(r, c);
    r->n_entry++;
}

void aj_jit_view(aj_tensor *y, const aj_tensor *x) {
    aj_jit *r = aj_ctx.jit;
    y->traced = x->traced;
    for (int i = r->n_memory - 1; i >= 0; i--)           /* of what no entry has met there is nothing to note yet */
        if (r->memory[i].storage == y->storage) { memory_of(r, y, false); return; }
}

void aj_jit_gradient(int op, int column, const aj_grad_call *g) {
    aj_jit *r = aj_ctx.jit;
    if (r->piled > PILE) give_back(r);
    if (!ROOM(r, entry, 0)) return;
    entry *e = &r->entry[r->n_entry];
    *e = (entry){.kind = GRADIENT, .backward = true, .column = (int16_t)column, .grad = *g, .attrs = *g->attrs};
    e->call.op = op;
    aj_tensor *reads[] = {g->gy, g->y, g->in[0], g->in[1]};
    for (int k = 0; k < 4; k++) if (reads[k] && !memory_of(r, reads[k], false)) return;
    if (!memory_of(r, g->gx, true)) return;
    g->gx->traced = true;
    r->n_entry++;
}

void aj_jit_leaf(aj_tensor *leaf, aj_tensor *grad) {
    aj_jit *r = aj_ctx.jit;
    bool known = false;
    for (int i = 0; i < r->n_condition && !known; i++) known = r->condition[i].leaf == leaf;
    if (!known) {                                        /* what a later run must find, unless it is cleared at once */
        if (!ROOM(r, condition, 0)) return;
        r->condition[r->n_condition++] = (condition){aj_hold(leaf), aj_hold(leaf->grad), grad == NULL, leaf->requires_grad};
    }
    if (grad && grad == leaf->grad) return;              /* added to in place: the condition is all there is to note */
    if (!ROOM(r, entry, 0)) return;
    if (grad) {
        memory *m = memory_of(r, grad, false);
        if (!m) return;
        m->pinned = true;
    }
    r->entry[r->n_entry++] = (entry){.kind = LEAF, .leaf = aj_hold(leaf), .leaf_grad = aj_hold(grad)};
}

void aj_jit_take(uint64_t position, int64_t n) {
    aj_jit *r = aj_ctx.jit;
    bool fixed = aj_ctx.seed != r->seed || position != r->offset;
    if (!fixed && n > 0) r->offset += (uint64_t)n;
    if (ROOM(r, take, 0)) r->take[r->n_take++] = (reservation){.seed = aj_ctx.seed, .position = position, .n = n, .now = position, .fixed = fixed};
}

bool aj_jit_reads(const aj_tensor *t, const char *who) {
    if (is_constant(t)) return false;
    if (aj_ctx.face) who = aj_ops[aj_ctx.face - 1].info->name;
    aj_error("%s: a function that ai.jit records cannot read a value, nor have a shape that hangs on one: the recording would keep this run's. Compute with tensors, or read what the function returns", who);
    return true;
}

void aj_jit_stepped(const aj_jit_step *s) {
    aj_jit *r = aj_ctx.jit;
    if (!ROOM(r, entry, 0)) return;
    entry *e = &r->entry[r->n_entry];
    *e = (entry){.kind = STEP, .step = *s};
    int n = 0;
    for (int k = 0; k < AJ_JIT_LISTS; k++) if (s->list[k]) n += s->list[k]->n;
    aj_list *lists = calloc(1, AJ_JIT_LISTS * sizeof *lists + (size_t)n * sizeof(aj_tensor *));
    if (!lists) { r->failed = true; aj_error("out of memory: no room for a recording"); return; }
    aj_tensor **at = (aj_tensor **)(lists + AJ_JIT_LISTS);
    e->call.in = (aj_tensor **)lists;                    /* what is freed with the entry */
    for (int k = 0; k < AJ_JIT_LISTS; k++) {
        aj_tensors from = s->list[k];
        if (!from) continue;
        lists[k] = (aj_list){from->n, at};
        e->step.list[k] = &lists[k];
        for (int i = 0; i < from->n; i++) {
            aj_tensor *t = *at++ = aj_hold(aj_live(from->v[i]));
            for (int g = 0; t && g < 2; g++, t = t->grad) {
                memory *m = memory_of(r, t, false);
                if (!m) return;
                if (g && m->made) m->pinned = true;
                if (!m->made) m->writes = t->storage->version - m->version;
                if (!t->grad) break;
            }
        }
    }
    r->n_entry++;
}

/* -- Beginning --------------------------------------------------------------------------------------------------------- */

static _Thread_local uint32_t last_era;

bool aj_jit_active(void) { return aj_ctx.jit != NULL; }
aj_jit *aj_jit_pause(void) {
    aj_jit *r = aj_ctx.jit;
    aj_ctx.jit = NULL;
    aj_ctx.era = 0;
    return r;
}
void aj_jit_resume(aj_jit *r) {
    if (!r) return;
    aj_ctx.jit = r;
    aj_ctx.era = last_era;
}

bool aj_share_memory(aj_tensors list) {
    for (int i = 0; i < list->n; i++)
        for (int k = 0; k < i; k++) if (aj_live(list->v[i])->storage == aj_live(list->v[k])->storage) return true;
    return false;
}

/* What stands for an input, over memory that no other input has: in later runs they may lie apart. */
static aj_tensor *own_input(aj_jit *r, aj_tensor *x) {
    if (aj_memory_index(r, x) < 0) return aj_alias(x);
    bool mode = aj_grad_mode(false);
    aj_tensor *copy = aj_hold(aj_live(aj_clone(x)));
    aj_grad_mode(mode);
    return copy;
}

aj_jit *aj_jit_begin(aj_tensors inputs) {
    if (aj_ctx.jit) { aj_error("jit: a recording within a recording"); return NULL; }
    aj_jit *r = calloc(1, sizeof *r);
    if (r) r->device = NOWHERE;
    if (r) r->input = calloc((size_t)inputs->n + 1, sizeof *r->input);
    if (!r || !r->input) { free(r); aj_error("out of memory: no room for a recording"); return NULL; }
    for (int i = 0; i < inputs->n; i++) {
        aj_tensor *x = aj_need(inputs->v[i], "jit");
        bool grad = x && (x->requires_grad || aj_node_of(x));
        if (grad && aj_ctx.grad_mode) aj_error("jit: argument %d requires gradients, which do not flow out of a recorded function; detach it, or let the function hold it", i + 1);
        if (!x || (grad && aj_ctx.grad_mode)) { aj_jit_free(r); return NULL; }
        if (!x->contiguous) { aj_error("jit: argument %d does not lie in order; pass :contiguous()", i + 1); aj_jit_free(r); return NULL; }
        aj_tensor *own = own_input(r, x);
        if (!own) { aj_jit_free(r); return NULL; }
        own->traced = true;
        r->input[r->n_input++] = own;
        if (!memory_of(r, own, false)) { aj_jit_free(r); return NULL; }
    }
    r->shares = aj_share_memory(inputs);
    aj_random_state(&r->seed, &r->offset);
    last_era++;
    aj_jit_resume(r);
    return r;
}
aj_tensor *aj_jit_input(aj_jit *r, int32_t i) { return i >= 0 && i < r->n_input ? aj_give(aj_hold(r->input[i])) : NULL; }

static bool finish(aj_jit *r, aj_tensors outputs, uint32_t era) {
    for (int i = 0; i < r->n_memory; i++) {
        memory *m = &r->memory[i];
        if (!m->made && m->storage->version != m->version + m->writes)
            return aj_error("jit: the function wrote to a tensor in a way that is no op (:data(), an average's update); do that after the call");
    }
    if (aj_ctx.seed != r->seed || aj_ctx.offset != r->offset)
        return aj_error("jit: the function set the state of the random numbers (manual_seed, set_random_state); do that before the call, or draw from a key");
    r->fixed = r->device >= 0 && aj_plugged->device->graphs();
    if (!(r->input_memory = calloc((size_t)r->n_input + 1, sizeof *r->input_memory))) return aj_error("out of memory: no room for a recording");
    for (int i = 0; i < r->n_input; i++) {
        memory *m = &r->memory[r->input_memory[i] = aj_memory_index(r, r->input[i])];
        m->bound = i + 1;
        if (r->fixed && m->pinned) return aj_error("jit: argument %d became the gradient of a leaf, and a CUDA graph keeps its own copy of it; give a clone, or set AIJIT_CUDA_GRAPH=0 to replay kernel by kernel", i + 1);
        if (m->writes) { m->last = r->n_entry; r->writes_input = true; }
    }
    if (r->writes_input && r->shares)
        return aj_error("jit: the function writes to an argument, and two arguments have memory in common; give clones");
    for (int i = 0; i < r->n_memory; i++) {              /* freezing a parameter, and the opposite, make another recording */
        memory *m = &r->memory[i];
        for (int k = 0; k < m->n && !m->made && m->storage->era != era; k++) {
            aj_tensor *t = m->tensor[k];
            if (t->base || !aj_is_float(t->dtype) || t->requires_grad) continue;
            if (!ROOM(r, condition, 0)) return false;
            r->condition[r->n_condition++] = (condition){aj_hold(t), NULL, true, false};
        }
    }
    r->output = calloc((size_t)outputs->n + 1, sizeof *r->output);
    r->output_memory = calloc((size_t)outputs->n + 1, sizeof *r->output_memory);
    if (!r->output || !r->output_memory) return aj_error("out of memory: no room for a recording");
    for (int i = 0; i < outputs->n; i++) {
        aj_tensor *y = aj_need(outputs->v[i], "jit");
        if (!y) return false;
        if (aj_node_of(y) && aj_ctx.grad_mode) return aj_error("jit: result %d requires gradients, which do not flow out of a recorded function; call :backward() within it, return :detach(), or record in no_grad", i + 1);
        r->output[i] = aj_hold(y);
        r->n_output++;
        int index = aj_memory_index(r, y);
        r->output_memory[i] = index;
        if (index < 0) continue;
        memory *m = memory_of(r, y, false);              /* a view that no entry has seen is one of its tensors too */
        if (!m) return false;
        m->last = r->n_entry;
        if (m->made && !m->bound && !m->pinned) m->bound = -1 - i;
    }
    for (int i = 0; i < r->n_entry; i++) {
        r->entry[i].call.attrs = &r->entry[i].attrs;
        r->entry[i].grad.attrs = &r->entry[i].attrs;
    }
    return aj_plan(r) && (!r->fixed || aj_capture(r));
}

bool aj_jit_escaped(const char *who) {
    return aj_error("%s: this tensor was made within a function that ai.jit has recorded, and holds nothing outside of it; return it from the function", who);
}

void aj_jit_pin(aj_jit *r, aj_tensor *h) {
    aj_tensor *t = aj_live(h);
    int index = t ? aj_memory_index(r, t) : -1;
    if (index >= 0 && r->memory[index].made) r->memory[index].pinned = true;
}

/* A result of the recorded run, for its caller: a copy, or, of what was there before, a view of it as in later runs. */
static aj_tensor *first_result(aj_jit *r, aj_tensor *h) {
    aj_tensor *y = aj_need(h, "jit");
    int index = y ? aj_memory_index(r, y) : -1;
    if (!y) return NULL;
    if (index < 0 || r->memory[index].made) return aj_clone(h);
    aj_tensor *same = aj_alias(y);
    return same ? aj_give(same) : NULL;
}

bool aj_jit_end(aj_jit *r, aj_tensors outputs) {
    uint32_t era = aj_ctx.era;
    aj_jit_pause();
    if (r->failed || !outputs) return false;
    /* The recorded run was the first call: its results are copied before their memory is planned anew. */
    r->result = calloc((size_t)outputs->n + 1, sizeof *r->result);
    bool mode = aj_grad_mode(false), ok = r->result || aj_error("out of memory: no room for a recording");
    for (int i = 0; i < outputs->n && ok; i++) ok = (r->result[i] = first_result(r, outputs->v[i])) != NULL;
    aj_grad_mode(mode);
    if (ok && finish(r, outputs, era)) return true;
    for (int i = 0; r->result && i < outputs->n && !aj_ctx.state.scopes; i++) aj_release(r->result[i]);
    return false;
}
aj_tensor *aj_jit_result(aj_jit *r, int32_t i) { return i >= 0 && i < r->n_output ? r->result[i] : NULL; }

void aj_jit_free(aj_jit *r) {
    if (!r) return;
    if (aj_ctx.jit == r) aj_jit_pause();
    for (int i = 0; i < r->n_entry; i++) {
        entry *e = &r->entry[i];
        for (int k = 0; k < AJ_JIT_LISTS; k++)
            for (int j = 0; e->step.list[k] && j < e->step.list[k]->n; j++) aj_drop(e->step.list[k]->v[j]);
        free(e->call.in);
        if (e->leaf) aj_drop(e->leaf);
        if (e->leaf_grad) aj_drop(e->leaf_grad);
    }
    for (int i = 0; i < r->n_output; i++) aj_drop(r->output[i]);
    for (int i = 0; i < r->n_input; i++) aj_drop(r->input[i]);
    for (int i = 0; i < r->n_condition; i++) { aj_drop(r->condition[i].leaf); if (r->condition[i].grad) aj_drop(r->condition[i].grad); }
    for (int i = 0; i < r->n_memory; i++) {
        memory *m = &r->memory[i];
        for (int k = 0; k < m->n; k++) aj_drop(m->tensor[k]);
        if (m->storage) aj_storage_drop(m->storage);
        free(m->tensor); free(m->offset);
    }
    aj_capture_free(r);
    aj_plan_free(r);
    free(r->entry); free(r->memory); free(r->take); free(r->condition);
    free(r->input); free(r->output); free(r->input_memory); free(r->output_memory); free(r->result);
    free(r);
}
