/* jit.c - a function of tensors recorded as a list of kernel calls, and run again without the function.
 *
 * The tensors that the recorded run made stand for those of every later run: their headers stay, and their memory is
 * planned anew, so that what is never live at the same time shares it. Runs of elementwise calls over as many elements
 * are cut into chunks that stay in the first cache. Inputs and results are bound to the memory of each call. What was
 * neither given nor made (parameters, buffers) is used where it lies, and written there if the function wrote there.
 */
#include "jit.h"
#include <stdlib.h>
#include <string.h>

enum { CALL, GRADIENT, LEAF, STEP };
typedef struct {
    int8_t kind;
    bool in_place;
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
    int32_t version, writes;    /* of what was there before: counted, to find writes that went past the recording */
    int32_t bound;              /* 1 + the input, or -1 - the result that it is bound to; 0: neither */
    bool pinned;                /* a gradient that stays */
    int32_t local;              /* 1 + its chunk in a fused group */
    int64_t bytes, place;
} memory;

typedef struct {                /* entries first..last, over n elements each */
    int first, last, n_local;
    int64_t n;
    aj_tensor **tensor;         /* each once */
    int n_tensor;
} group;

struct aj_jit {
    entry *entry;
    memory *memory;
    reservation *take;
    condition *condition;
    group *group;
    int n_entry, entry_cap, n_memory, memory_cap, n_take, take_cap, n_condition, condition_cap, n_group, group_cap;
    aj_tensor **input, **output;
    int n_input, n_output;
    int32_t *output_memory;     /* where each result lies: its memory, or -1 when it is no tensor of the recording */
    int32_t scope;
    aj_storage *arena;
    uint64_t seed, offset;      /* of the program's stream of random numbers, as far as the function has drawn from it */
    bool failed;
};

static bool grow(void **v, int n, int *cap, size_t size) {
    if (n < *cap) return true;
    int wider = *cap ? 2 * *cap : 32;
    void *p = realloc(*v, (size_t)wider * size);
    if (!p) return aj_error("out of memory: no room for a recording");
    *v = p; *cap = wider;
    return true;
}
#define ROOM(r, what, n) ((r)->failed ? false : grow((void **)&(r)->what, (r)->n_##what, &(r)->what##_cap, sizeof *(r)->what) ? true : !((r)->failed = true))

/* -- Recording ---------------------------------------------------------------------------------------------------- */

/* The memory of a tensor, noted when it is first met. */
static memory *memory_of(aj_jit *r, aj_tensor *t, bool made) {
    memory *m = NULL;
    for (int i = r->n_memory - 1; i >= 0 && !m; i--) if (r->memory[i].storage == t->storage) m = &r->memory[i];
    if (!m) {
        if (!ROOM(r, memory, 0)) return NULL;
        m = &r->memory[r->n_memory++];
        *m = (memory){.storage = t->storage, .made = made, .constant = !made && aj_ctx.era && t->storage->era == aj_ctx.era, .version = t->storage->version, .first = r->n_entry};
        __atomic_fetch_add(&t->storage->refs, 1, __ATOMIC_RELAXED);
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

void aj_jit_op(const aj_call *c, bool in_place) {
    aj_jit *r = aj_ctx.jit;
    if (!ROOM(r, entry, 0)) return;
    entry *e = &r->entry[r->n_entry];
    *e = (entry){.kind = CALL, .in_place = in_place, .call = *c, .attrs = *c->attrs};
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

void aj_jit_gradient(int op, int column, const aj_grad_call *g) {
    aj_jit *r = aj_ctx.jit;
    if (!ROOM(r, entry, 0)) return;
    entry *e = &r->entry[r->n_entry];
    *e = (entry){.kind = GRADIENT, .column = (int16_t)column, .grad = *g, .attrs = *g->attrs};
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
    if (!t->traced && t->storage->era == aj_ctx.era) return false;
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

aj_jit *aj_jit_begin(aj_tensors inputs) {
    if (aj_ctx.jit) { aj_error("jit: a recording within a recording"); return NULL; }
    aj_jit *r = calloc(1, sizeof *r);
    if (r) r->input = calloc((size_t)inputs->n + 1, sizeof *r->input);
    if (!r || !r->input) { free(r); aj_error("out of memory: no room for a recording"); return NULL; }
    for (int i = 0; i < inputs->n; i++) {
        aj_tensor *x = aj_need(inputs->v[i], "jit");
        bool grad = x && (x->requires_grad || aj_node_of(x));
        if (grad && aj_ctx.grad_mode) aj_error("jit: argument %d requires gradients, which do not flow out of a recorded function; detach it, or let the function hold it", i + 1);
        if (!x || (grad && aj_ctx.grad_mode)) { aj_jit_free(r); return NULL; }
        if (!x->contiguous) { aj_error("jit: argument %d does not lie in order; pass :contiguous()", i + 1); aj_jit_free(r); return NULL; }
        aj_tensor *own = aj_alias(x);
        if (!own) { aj_jit_free(r); return NULL; }
        own->traced = true;
        r->input[r->n_input++] = own;
        if (!memory_of(r, own, false)) { aj_jit_free(r); return NULL; }
    }
    aj_random_state(&r->seed, &r->offset);
    last_era++;
    aj_jit_resume(r);
    return r;
}
aj_tensor *aj_jit_input(aj_jit *r, int32_t i) { return i >= 0 && i < r->n_input ? aj_give(aj_hold(r->input[i])) : NULL; }

/* -- Planning -------------------------------------------------------------------------------------------------------- */

static int memory_index(const aj_jit *r, const aj_tensor *t) {
    for (int i = 0; i < r->n_memory; i++) if (r->memory[i].storage == t->storage) return i;
    return -1;
}

static int operands(const entry *e, aj_tensor *list[AJ_MAX_OPERANDS]) {
    int n = 0;
    if (e->kind == GRADIENT) {
        aj_tensor *all[] = {e->grad.gx, e->grad.gy, e->grad.y, e->grad.in[0], e->grad.in[1]};
        for (int k = 0; k < 5; k++) if (all[k]) list[n++] = all[k];
    } else if (e->kind == CALL) {
        list[n++] = e->call.out[0];
        for (int k = 0; k < e->call.n_in; k++) list[n++] = e->call.in[k];
    }
    return n;
}

/* Elements of an elementwise call whose operands all lie dense and alike; -1: it is none. */
static int64_t dense_count(const entry *e) {
    if (e->kind > GRADIENT || (e->kind == CALL && aj_ops[e->call.op].kind > AJ_TEST)) return -1;
    aj_tensor *list[AJ_MAX_OPERANDS];
    int n = operands(e, list);
    int64_t count = list[0]->numel;
    for (int k = 0; k < n; k++)
        if (!list[k]->contiguous || list[k]->numel != count || list[k]->device != AJ_CPU) return -1;
    return count;
}

enum { PIECE = 2048, FEWEST = 8192 };
static bool make_groups(aj_jit *r) {
    for (int i = 0; i < r->n_entry; ) {
        int64_t n = dense_count(&r->entry[i]);
        int j = i + 1;
        while (j < r->n_entry && n >= FEWEST && dense_count(&r->entry[j]) == n) j++;
        if (n < FEWEST || j - i < 2) { i++; continue; }
        if (!ROOM(r, group, 0)) return false;
        group *g = &r->group[r->n_group++];
        *g = (group){.first = i, .last = j - 1, .n = n};
        g->tensor = calloc((size_t)(j - i) * AJ_MAX_OPERANDS, sizeof *g->tensor);
        if (!g->tensor) return aj_error("out of memory: no room for a recording");
        for (int k = i; k < j; k++) {
            aj_tensor *list[AJ_MAX_OPERANDS];
            int m = operands(&r->entry[k], list);
            for (int a = 0; a < m; a++) {
                int b = 0;
                while (b < g->n_tensor && g->tensor[b] != list[a]) b++;
                if (b == g->n_tensor) g->tensor[g->n_tensor++] = list[a];
            }
        }
        /* What lives and dies within the group needs a chunk, not memory. */
        for (int a = 0; a < g->n_tensor; a++) {
            int index = memory_index(r, g->tensor[a]);
            memory *m = &r->memory[index];
            if (!m->made || m->bound || m->pinned || m->first < i || m->last > j - 1 || m->local || m->n != 1) continue;
            m->local = ++g->n_local;
        }
        r->entry[i].group = r->n_group;
        i = j;
    }
    return true;
}

/* Places in one arena: what is free when a memory begins is taken where it fits best. */
static bool plan_arena(aj_jit *r) {
    int64_t top = 0;
    for (int i = 0; i < r->n_memory; i++) {
        memory *m = &r->memory[i];
        if (!m->made || m->bound || m->pinned || m->local) continue;
        m->bytes = 0;
        for (int k = 0; k < m->n; k++) {
            int64_t end = m->offset[k] + 8;
            for (int d = 0; d < m->tensor[k]->ndim; d++) end += (m->tensor[k]->shape[d] > 0 ? m->tensor[k]->shape[d] - 1 : 0) * m->tensor[k]->stride[d] * (int64_t)aj_dtype_size((aj_dtype)m->tensor[k]->dtype);
            if (end > m->bytes) m->bytes = end;
        }
        m->bytes = (m->bytes + 63) / 64 * 64;
        /* The lowest place that no memory live at the same time reaches into. */
        m->place = 0;
        for (bool moved = true; moved; ) {
            moved = false;
            for (int j = 0; j < i; j++) {
                const memory *o = &r->memory[j];
                if (!o->made || o->bound || o->pinned || o->local || o->last < m->first || o->first > m->last) continue;
                if (m->place < o->place + o->bytes && o->place < m->place + m->bytes) { m->place = o->place + o->bytes; moved = true; }
            }
        }
        if (m->place + m->bytes > top) top = m->place + m->bytes;
    }
    r->arena = aj_storage_new(top, AJ_CPU);
    return r->arena != NULL;
}

/* Lets every tensor over a memory lie in a storage; the reference to it is the caller's. */
static void bind(memory *m, aj_storage *s, char *data) {
    for (int k = 0; k < m->n; k++) {
        aj_tensor *t = m->tensor[k];
        __atomic_fetch_add(&s->refs, 1, __ATOMIC_RELAXED);
        aj_storage_drop(t->storage);
        t->storage = s;
        t->data = data + m->offset[k];
    }
}

static bool finish(aj_jit *r, aj_tensors outputs, uint32_t era) {
    for (int i = 0; i < r->n_memory; i++) {
        memory *m = &r->memory[i];
        if (!m->made && m->storage->version != m->version + m->writes)
            return aj_error("jit: the function wrote to a tensor in a way that is no op (:data(), an average's update); do that after the call");
    }
    if (aj_ctx.seed != r->seed || aj_ctx.offset != r->offset)
        return aj_error("jit: the function set the state of the random numbers (manual_seed, set_random_state); do that before the call, or draw from a key");
    for (int i = 0; i < r->n_memory; i++) {              /* freezing a parameter, and the opposite, make another recording */
        memory *m = &r->memory[i];
        for (int k = 0; k < m->n && !m->made && m->storage->era != era; k++) {
            aj_tensor *t = m->tensor[k];
            if (t->base || !aj_is_float(t->dtype) || t->requires_grad) continue;
            if (!ROOM(r, condition, 0)) return false;
            r->condition[r->n_condition++] = (condition){aj_hold(t), NULL, true, false};
        }
    }
    for (int i = 0; i < r->n_input; i++) r->memory[memory_index(r, r->input[i])].bound = i + 1;
    r->output = calloc((size_t)outputs->n + 1, sizeof *r->output);
    r->output_memory = calloc((size_t)outputs->n + 1, sizeof *r->output_memory);
    if (!r->output || !r->output_memory) return aj_error("out of memory: no room for a recording");
    for (int i = 0; i < outputs->n; i++) {
        aj_tensor *y = aj_need(outputs->v[i], "jit");
        if (!y) return false;
        if (aj_node_of(y) && aj_ctx.grad_mode) return aj_error("jit: result %d requires gradients, which do not flow out of a recorded function; call :backward() within it, return :detach(), or record in no_grad", i + 1);
        r->output[i] = aj_hold(y);
        r->n_output++;
        int index = memory_index(r, y);
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
    if (!make_groups(r) || !plan_arena(r)) return false;
    for (int i = 0; i < r->n_memory; i++) {
        memory *m = &r->memory[i];
        if (m->made && !m->bound && !m->pinned && !m->local) bind(m, r->arena, (char *)r->arena->data + m->place);
        else if (m->local) bind(m, r->arena, r->arena->data);        /* never used there */
        else continue;
        aj_storage_drop(m->storage);
        m->storage = NULL;
    }
    return true;
}

bool aj_jit_end(aj_jit *r, aj_tensors outputs) {
    uint32_t era = aj_ctx.era;
    aj_jit_pause();
    if (r->failed || !outputs) return false;
    /* The recorded run was the first call: its results are copied before their memory is planned anew. */
    aj_tensor *first[AJ_MAX_RESULTS];
    int n = 0;
    bool mode = aj_grad_mode(false), ok = true;
    for (; n < outputs->n && n < AJ_MAX_RESULTS && ok; n++) ok = (first[n] = aj_clone(outputs->v[n])) != NULL;
    aj_grad_mode(mode);
    if (!ok || !finish(r, outputs, era)) return false;
    aj_ctx.n_result = n;
    for (int i = 0; i < n; i++) aj_ctx.result[i] = first[i];
    return true;
}

/* -- Running again ----------------------------------------------------------------------------------------------------- */

typedef struct { aj_jit *r; group *g; bool failed; } fused;

static void run_pieces(void *arg, int64_t lo, int64_t hi) {
    fused *f = arg;
    aj_jit *r = f->r;
    group *g = f->g;
    aj_tensor *own = malloc((size_t)g->n_tensor * sizeof *own);
    char *chunk = g->n_local ? aligned_alloc(64, (size_t)g->n_local * PIECE * 8) : NULL;
    int *map = malloc((size_t)(g->last - g->first + 1) * AJ_MAX_OPERANDS * sizeof *map);
    if (!own || !map || (g->n_local && !chunk)) { f->failed = true; goto done; }
    for (int a = 0; a < g->n_tensor; a++) {
        own[a] = *g->tensor[a];
        own[a].ndim = 1; own[a].stride[0] = 1; own[a].contiguous = true;
    }
    for (int k = g->first; k <= g->last; k++) {
        aj_tensor *list[AJ_MAX_OPERANDS];
        int n = operands(&r->entry[k], list);
        for (int a = 0; a < n; a++)
            for (int b = 0; b < g->n_tensor; b++) if (g->tensor[b] == list[a]) map[(k - g->first) * AJ_MAX_OPERANDS + a] = b;
    }
    for (int64_t at = lo * PIECE; at < hi * PIECE && at < g->n; at += PIECE) {
        int64_t n = g->n - at < PIECE ? g->n - at : PIECE;
        for (int a = 0; a < g->n_tensor; a++) {
            int local = 0;
            for (int i = 0; at == lo * PIECE && i < r->n_memory; i++) if (r->memory[i].local && r->memory[i].tensor[0] == g->tensor[a]) local = r->memory[i].local;
            if (at == lo * PIECE) own[a].view_epoch = local;         /* kept for the pieces that follow */
            local = own[a].view_epoch;
            own[a].data = local ? chunk + (size_t)(local - 1) * PIECE * 8 : g->tensor[a]->data + at * (int64_t)aj_dtype_size((aj_dtype)own[a].dtype);
            own[a].numel = own[a].shape[0] = n;
        }
        for (int k = g->first; k <= g->last && !f->failed; k++) {
            entry *e = &r->entry[k];
            const int *w = map + (k - g->first) * AJ_MAX_OPERANDS;
            if (e->kind == GRADIENT) {
                int a = 0;
                aj_grad_call c = {.attrs = e->grad.attrs};
                c.gx = &own[w[a++]];
                c.gy = &own[w[a++]];
                if (e->grad.y) c.y = &own[w[a++]];
                if (e->grad.in[0]) c.in[0] = &own[w[a++]];
                if (e->grad.in[1]) c.in[1] = &own[w[a++]];
                if (!aj_cpu->grad[e->call.op][e->column](&c)) f->failed = true;
            } else {
                aj_tensor *in[AJ_MAX_OPERANDS];
                aj_call c = {.op = e->call.op, .n_in = e->call.n_in, .n_out = 1, .in = in, .attrs = e->call.attrs};
                c.out[0] = &own[w[0]];
                for (int a = 0; a < c.n_in; a++) in[a] = &own[w[a + 1]];
                if (!aj_cpu->forward[c.op](&c)) f->failed = true;
            }
        }
    }
done:
    free(own); free(chunk); free(map);
}

static bool fits(const aj_jit *r, aj_tensors inputs) {
    if (inputs->n != r->n_input) return false;
    for (int i = 0; i < inputs->n; i++) {
        const aj_tensor *x = aj_live(inputs->v[i]), *own = r->input[i];
        if (!x || x->dtype != own->dtype || x->device != own->device || !x->contiguous || !aj_same_shape(x, own)) return false;
        if (x->requires_grad && aj_ctx.grad_mode) return false;
    }
    for (int i = 0; i < r->n_condition; i++) {
        const condition *c = &r->condition[i];
        if ((!c->any && c->leaf->grad != c->grad) || c->leaf->requires_grad != c->requires_grad) return false;
    }
    return true;
}

static bool run_entries(aj_jit *r) {
    for (int i = 0; i < r->n_take; i++) if (!r->take[i].fixed) r->take[i].now = aj_random_take(r->take[i].n);
    for (int i = 0; i < r->n_entry; i++) {
        entry *e = &r->entry[i];
        if (e->group) {
            group *g = &r->group[e->group - 1];
            fused f = {r, g, false};
            aj_parallel((g->n + PIECE - 1) / PIECE, 8, run_pieces, &f);
            if (f.failed) return aj_error("out of memory: no room for a fused chunk");
            i = g->last;
        } else if (e->kind == CALL) {
            if (e->take) {
                const reservation *take = &r->take[e->take - 1];
                e->attrs.position = take->now;
                e->attrs.seed = take->fixed ? take->seed : aj_ctx.seed;
            }
            if (!aj_backend_of(e->call.out[0]->device)->forward[e->call.op](&e->call)) return false;
            if (e->in_place) e->call.out[0]->storage->version++;
        } else if (e->kind == GRADIENT) {
            if (!aj_backend_of(e->grad.gx->device)->grad[e->call.op][e->column](&e->grad)) return false;
        } else if (e->kind == STEP) {
            if (!e->step.run(&e->step)) return false;
        } else {
            aj_tensor *old = e->leaf->grad;
            e->leaf->grad = aj_hold(e->leaf_grad);
            if (old) aj_drop(old);
        }
    }
    return true;
}

int32_t aj_jit_run(aj_jit *r, aj_tensors inputs) {
    if (!fits(r, inputs)) return 0;
    if (aj_interrupted()) return -1;
    for (int i = 0; i < r->n_memory; i++) {
        memory *m = &r->memory[i];
        if (m->bound > 0) {
            aj_tensor *x = aj_live(inputs->v[m->bound - 1]);
            bind(m, x->storage, x->data - m->offset[0]);
        } else if (m->bound < 0) {
            int64_t bytes = m->storage->bytes - 64;
            aj_storage *s = aj_storage_new(bytes, AJ_CPU);
            if (!s) return -1;
            bind(m, s, s->data);
            aj_storage_drop(s);
        }
    }
    if (!run_entries(r)) return -1;
    aj_ctx.n_result = 0;
    for (int i = 0; i < r->n_output; i++) {
        aj_tensor *y = aj_alias(r->output[i]);
        if (!y) return -1;
        if (i < AJ_MAX_RESULTS) { aj_ctx.result[i] = aj_give(y); aj_ctx.n_result = i + 1; }
        else aj_drop(y);
    }
    return 1;
}

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
    for (int i = 0; i < r->n_group; i++) free(r->group[i].tensor);
    if (r->arena) aj_storage_drop(r->arena);
    free(r->entry); free(r->memory); free(r->take); free(r->condition); free(r->group);
    free(r->input); free(r->output); free(r->output_memory);
    free(r);
}
