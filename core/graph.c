/* graph.c - nodes: what an op leaves behind so that gradients can flow back through it.
 *
 * A tensor holds the node that made it; a node holds the nodes of its inputs and the tensors its gradient reads.
 * So a graph lives as long as some output of it does. A leaf's node points back to its tensor without owning it.
 */
#include "jit.h"
#include "watch.h"
#include <stdlib.h>
#include <string.h>

/* -- Making and freeing ---------------------------------------------------------------------------------------- */

/* A node, its edges, saved inputs and attributes are one block; blocks of the usual sizes are kept for reuse. */
enum { UNIT = 64, KEPT = 32, STALE = -1 };
static _Thread_local aj_node *free_node[KEPT];
static _Thread_local struct { aj_node *dead; bool draining; } grave;

extern void aj_custom_drop(uint64_t id);

/* Up to 8 bytes more than n may be cleared. The compiler's own choice for this size, a string instruction, takes longer to start than this to end. */
static inline void zero(void *p, size_t n) {
    typedef int64_t pair __attribute__((vector_size(16), may_alias, aligned(8)));
    pair *q = p;
    for (size_t i = 0; i < (n + 8) / sizeof *q; i++) {
        q[i] = (pair){0, 0};
        __asm__ volatile("" ::: "memory");
    }
}

static aj_node *node_new(int op, int n_in, int n_out, bool attrs) {
    size_t results = (size_t)n_out, inputs = (size_t)n_in;
    size_t cleared = sizeof(aj_node) + results * (4 * sizeof(int64_t) + sizeof(aj_saved)) + inputs * (sizeof(aj_edge) + sizeof(aj_saved));
    size_t bytes = cleared + results * sizeof(aj_spec) + (attrs ? sizeof(aj_attrs) : 0);
    size_t units = (bytes + UNIT - 1) / UNIT;
    aj_node *n = NULL;
    if (units < KEPT && free_node[units]) { n = free_node[units]; free_node[units] = n->next; }
    else n = malloc(units * UNIT);
    if (!n) { aj_error("out of memory: no room to record an op"); return NULL; }
    zero(n, cleared);
    n->op = (int16_t)op; n->n_in = (int16_t)n_in; n->n_out = (uint8_t)n_out;
    n->refs = 1;
    n->units = (uint32_t)units;
    n->pending = (aj_tensor **)(n + 1);
    n->hook = (uint64_t *)(n->pending + results);
    n->watcher = (aj_tensor **)(n->hook + results);
    n->want = (int64_t *)(n->watcher + results);
    n->out = (aj_saved *)(n->want + results);
    n->in = n->out + results;
    n->edge = (aj_edge *)(n->in + inputs);
    n->spec = (aj_spec *)(n->edge + inputs);
    n->attrs = attrs ? (aj_attrs *)(n->spec + results) : NULL;
    return n;
}

void aj_graph_leave(void) {
    for (int i = 0; i < KEPT; i++) {
        while (free_node[i]) {
            aj_node *n = free_node[i];
            free_node[i] = n->next;
            free(n);
        }
    }
}

static void forget(aj_saved *s) {
    if (s->t) { aj_tensor *t = s->t; s->t = NULL; aj_drop(t); }
}

void aj_node_forget(aj_node *n) {
    for (int k = 0; k < n->n_in; k++) forget(&n->in[k]);
    for (int i = 0; i < n->n_out; i++) forget(&n->out[i]);
}

/* Long chains are freed by a loop, not by recursion. */
void aj_node_release(aj_node *n) {
    if (--n->refs > 0) return;
    n->next = grave.dead;
    grave.dead = n;
    if (grave.draining) return;
    grave.draining = true;
    while ((n = grave.dead)) {
        grave.dead = n->next;
        aj_node_forget(n);
        for (int i = 0; i < n->n_out; i++) if (n->pending[i]) aj_drop(n->pending[i]);
        for (int k = 0; k < n->n_in; k++) if (n->edge[k].node) aj_node_release(n->edge[k].node);
        if (n->op == OP_CUSTOM) aj_custom_drop(n->custom);
        if (n->units < KEPT) { n->next = free_node[n->units]; free_node[n->units] = n; }
        else free(n);
    }
    grave.draining = false;
}

/* -- A tensor's place in the graph --------------------------------------------------------------------------------- */

static void set_node(aj_tensor *t, aj_node *n, int out) {
    if (t->retains_grad && t->node && t->node->watcher[t->out_index] == t) t->node->watcher[t->out_index] = NULL;
    if (t->node) aj_node_release(t->node);
    t->node = n;
    t->out_index = (uint8_t)out;
    t->requires_grad = true;
    if (t->retains_grad) n->watcher[out] = t;
}

static void spec_of(aj_spec *s, const aj_tensor *t) { aj_spec_like(s, t); }

/* A node of one result for a window on b, or for a write into one. */
static aj_node *window_node(int op, int n_in, const aj_tensor *window, const aj_tensor *b, const aj_tensor *result) {
    aj_node *n = node_new(op, n_in, 1, true);
    if (!n) return NULL;
    spec_of(&n->spec[0], result);
    n->device = b->device;
    memset(n->attrs, 0, sizeof *n->attrs);
    n->attrs->list.n = n->attrs->list2.n = window->ndim;
    for (int d = 0; d < window->ndim; d++) { n->attrs->list.v[d] = window->shape[d]; n->attrs->list2.v[d] = window->stride[d]; }
    n->attrs->i = (window->data - b->data) / (int64_t)aj_dtype_size(window->dtype);
    return n;
}

/* The node of t, which is brought up to date; *n NULL: it is in no graph. False: out of memory. */
static bool place(aj_tensor *t, aj_node **n) {
    if (AJ_UNLIKELY(aj_base_of(t) && t->view_epoch != t->base->epoch)) {       /* its storage was written in a graph since */
        aj_tensor *b = t->base;
        if (b->requires_grad) {
            aj_node *m, *from;
            if (!place(b, &from) || !(m = window_node(OP_as_strided, 1, t, b, t))) { *n = NULL; return false; }
            from->refs++;
            m->edge[0] = (aj_edge){from, b->out_index};
            set_node(t, m, 0);
        }
        t->view_epoch = b->epoch;
    }
    *n = t->node;
    if (!t->requires_grad) { *n = NULL; return true; }
    if (*n) return true;
    if (!(*n = node_new(OP_LEAF, 0, 1, false))) return false;
    (*n)->leaf = t;
    (*n)->device = t->device;
    spec_of(&(*n)->spec[0], t);
    t->node = *n;
    t->out_index = 0;
    return true;
}

aj_node *aj_node_of(aj_tensor *t) {
    aj_node *n;
    place(t, &n);
    return n;
}

bool aj_is_leaf(aj_tensor *h) {
    aj_tensor *t = aj_need(h, "is_leaf");
    if (!t) return false;
    aj_node *n = aj_node_of(t);
    return !n || n->op == OP_LEAF;
}
const char *aj_grad_fn(aj_tensor *h) {
    aj_tensor *t = aj_need(h, "grad_fn");
    aj_node *n = t ? aj_node_of(t) : NULL;
    if (!n || n->op == OP_LEAF) return NULL;
    return n->op == OP_CUSTOM ? "custom" : n->op == OP_INPLACE_VIEW ? "write into a view" : aj_ops[n->op].info->name;
}
bool aj_requires_grad(aj_tensor *h) {
    aj_tensor *t = aj_need(h, "requires_grad");
    if (t) aj_node_of(t);
    return t && t->requires_grad;
}
bool aj_set_requires_grad(aj_tensor *h, bool on) {
    aj_tensor *t = aj_need(h, "requires_grad_");
    if (!t) return false;
    if (on && !aj_is_float(t->dtype)) return aj_error("requires_grad_: only tensors of floats can require gradients, and this one is of %s", aj_dtype_name(t->dtype));
    aj_node *n = aj_node_of(t);
    if (n && n->op != OP_LEAF) {
        if (on) return true;
        return aj_error("requires_grad_: this tensor was made by %s from others that require gradients; use :detach() for one that does not", aj_grad_fn(h));
    }
    if (!on && n) { n->leaf = NULL; t->node = NULL; aj_node_release(n); }
    t->requires_grad = on;
    return true;
}

aj_tensor *aj_detach(aj_tensor *h) {
    aj_tensor *t = aj_need(h, "detach");
    if (!t) return NULL;
    if (AJ_UNLIKELY(aj_ctx.state.watch)) aj_bools_take(t);
    return aj_give(aj_alias(t));
}

aj_tensor *aj_grad_of(aj_tensor *h) {
    aj_tensor *t = aj_need(h, "grad");
    return t && t->grad ? aj_give(aj_hold(t->grad)) : NULL;
}
bool aj_set_grad(aj_tensor *h, aj_tensor *gh) {
    aj_tensor *t = aj_need(h, "grad"), *g = aj_untag(gh) ? aj_need(gh, "grad") : NULL;
    if (!t || (aj_untag(gh) && !g)) return false;
    if (g && (!aj_same_shape(t, g) || t->dtype != g->dtype || t->device != g->device))
        return aj_error("grad: the gradient of a tensor has its shape, dtype and device");
    if (AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_leaf(t, g);
    aj_tensor *old = t->grad;
    t->grad = aj_hold(g);
    if (old) aj_drop(old);
    return true;
}

int32_t aj_data_moves;
int32_t aj_data_moved(void) { return __atomic_load_n(&aj_data_moves, __ATOMIC_RELAXED); }

/* Graphs that saved t see another version; those that only lead to it see a node without a leaf, unless the gradient fits
 * as before. Recordings over the storage that it leaves see the count there. */
bool aj_set_data(aj_tensor *h, aj_tensor *sh) {
    aj_tensor *t = aj_need(h, "set_data"), *s = t ? aj_need(sh, "set_data") : NULL;
    if (!s) return false;
    if (AJ_UNLIKELY(aj_ctx.jit != NULL)) return aj_error("set_data: a function that is being recorded cannot give a tensor other data; do it before the call");
    aj_tensor *base = aj_base_of(t);
    if (base && base->requires_grad) return aj_error("set_data: this tensor is a view of one that requires gradients; give that one other data, or :detach() this one first");
    aj_node *n = aj_node_of(t);
    if (n && n->op != OP_LEAF) return aj_error("set_data: this tensor was made by %s and is part of a graph; :detach() it first", aj_grad_fn(h));
    if (t->requires_grad && !aj_is_float(s->dtype)) return aj_error("set_data: this tensor requires gradients, and data of %s have none", aj_dtype_name(s->dtype));
    bool same = t->dtype == s->dtype && t->device == s->device && aj_same_shape(t, s);
    if (t->grad && !same) return aj_error("set_data: the tensor's gradient would not fit the new data; set .grad to nil first, and to one that fits afterwards");
    if (t == s || t->storage == s->storage) {
        if (t == s) return true;
        t->storage->version++;
    }
    if (n && !same) {
        aj_node *fresh = NULL;
        uint64_t hook = n->hook[0];
        bool hooked = n->hooked;
        if (hooked && !(fresh = node_new(OP_LEAF, 0, 1, false))) return false;
        n->leaf = NULL;
        n->freed = true;
        aj_node_release(n);
        t->node = fresh;
        if (fresh) {
            fresh->leaf = t;
            fresh->device = s->device;
            spec_of(&fresh->spec[0], s);
            fresh->hook[0] = hook;
            fresh->hooked = true;
        }
    }
    if (base) { t->base = NULL; aj_drop(base); }
    aj_storage *old = t->storage;
    if (s->storage->version <= old->version) s->storage->version = old->version + 1;
    __atomic_fetch_add(&s->storage->refs, 1, __ATOMIC_RELAXED);
    t->storage = s->storage;
    t->data = s->data;
    t->dtype = s->dtype; t->ndim = s->ndim; t->device = s->device;
    t->numel = s->numel; t->contiguous = s->contiguous;
    memcpy(t->shape, s->shape, sizeof t->shape);
    memcpy(t->stride, s->stride, sizeof t->stride);
    old->left++;
    __atomic_fetch_add(&aj_data_moves, 1, __ATOMIC_RELAXED);
    aj_storage_drop(old);
    return true;
}
bool aj_retain_grad(aj_tensor *h) {
    aj_tensor *t = aj_need(h, "retain_grad");
    aj_node *n = t ? aj_node_of(t) : NULL;
    if (!t) return false;
    if (!n) return aj_error("retain_grad: this tensor requires no gradient");
    t->retains_grad = true;
    if (n->op != OP_LEAF) n->watcher[t->out_index] = t;
    return true;
}
bool aj_set_hook(aj_tensor *h, uint64_t id) {
    aj_tensor *t = aj_need(h, "register_hook");
    aj_node *n = t ? aj_node_of(t) : NULL;
    if (!t) return false;
    if (!n) return aj_error("register_hook: this tensor requires no gradient, so that a hook would never run");
    n->hook[t->out_index] = id;
    n->hooked = true;
    return true;
}

bool aj_grad_mode(bool on) {
    bool was = aj_ctx.grad_mode;
    aj_ctx.grad_mode = on;
    aj_ctx.state.recording = on;
    return was;
}
bool aj_recording(void) { return aj_ctx.grad_mode; }

/* -- Recording ----------------------------------------------------------------------------------------------------- */

/* *node NULL: nothing to record. False: out of memory. */
static bool record(const aj_call *c, int n_results, aj_node **node) {
    *node = NULL;
    const aj_op *o = &aj_ops[c->op];
    const int number = c->attrs->number, n_in = c->n_in;
    unsigned saves_in = 0, saves_out = 0;
    uint64_t wanted = 0;                                 /* of the first 64 inputs; of a longer list, all that may be */
    for (int k = 0; k < n_in; k++) {
        aj_tensor *t = c->in[k];
        int j = k < AJ_MAX_ARGS ? k : AJ_MAX_ARGS - 1;
        if (!t || !aj_is_float(t->dtype) || o->never[j]) continue;
        aj_node *m;
        if (AJ_UNLIKELY(!place(t, &m))) return false;
        if (!m) continue;
        wanted |= 1ull << (k < 63 ? k : 63);
        /* A number in the first place of a binary row shifts the tensor to the second column. */
        int column = number == 1 ? 1 : j;
        saves_in |= o->saves_in[column];
        saves_out |= o->saves_out[column];
    }
    if (!wanted) return true;
    bool keep = o->attrs || number;
    aj_node *n = node_new(c->op, n_in, n_results, keep);
    if (!n) return false;
    if (keep) *n->attrs = *c->attrs;
    n->device = c->out[0]->device;
    if (number) saves_in = (number == 1 ? saves_in >> 1 : saves_in) & 1;      /* the number stands in the attributes */
    for (int k = 0; k < n_in; k++) {
        aj_tensor *t = c->in[k];
        if (!t) continue;
        if (wanted >> (k < 63 ? k : 63) & 1 && (k < 63 || (aj_is_float(t->dtype) && t->requires_grad))) {
            t->node->refs++;
            n->edge[k] = (aj_edge){t->node, t->out_index};
        }
        n->in[k].numel = t->numel;
        if (!(saves_in >> (k < 15 ? k : 15) & 1)) continue;
        t->refs++;
        n->in[k].t = t;
        n->in[k].version = t->storage->version;
    }
    for (int i = 0; i < n_results; i++) {
        spec_of(&n->spec[i], c->out[i]);
        if (!(saves_out >> i & 1)) continue;
        n->out[i] = (aj_saved){aj_alias(c->out[i]), c->out[i]->storage->version, c->out[i]->numel};
        if (AJ_UNLIKELY(!n->out[i].t)) { aj_node_release(n); return false; }
    }
    *node = n;
    return true;
}

bool aj_record(const aj_call *c) {
    aj_node *n;
    if (!record(c, c->n_out, &n)) return false;
    if (!n) return true;
    bool first = true;
    for (int i = 0; i < c->n_out; i++) {
        if (!aj_is_float(c->out[i]->dtype) || i >= aj_ops[c->op].n_returns) continue;
        if (!first) n->refs++;
        first = false;
        set_node(c->out[i], n, i);
    }
    if (first) aj_node_release(n);
    return true;
}

bool aj_record_custom(aj_tensors inputs, aj_tensors outputs, uint64_t id) {
    if (outputs->n > AJ_MAX_OUT) return aj_error("function: an op written in Lua has at most %d results, not %d", AJ_MAX_OUT, outputs->n);
    bool any = false;
    for (int k = 0; k < inputs->n; k++) {
        aj_tensor *t = aj_need(inputs->v[k], "function");
        if (!t) return false;
        aj_node *m;
        if (!place(t, &m)) return false;
        any |= m != NULL;
    }
    if (!any || !aj_ctx.grad_mode) return false;
    aj_node *n = node_new(OP_CUSTOM, inputs->n, outputs->n, false);
    if (!n) return false;
    n->custom = id;
    for (int k = 0; k < inputs->n; k++) {
        aj_tensor *t = aj_live(inputs->v[k]);
        if (!t->requires_grad) continue;
        t->node->refs++;
        n->edge[k] = (aj_edge){t->node, t->out_index};
    }
    bool used = false;
    for (int i = 0; i < outputs->n; i++) {
        aj_tensor *t = aj_need(outputs->v[i], "function");
        if (!t) { if (!used) { n->op = OP_LEAF; aj_node_release(n); } return false; }
        n->device = t->device;
        spec_of(&n->spec[i], t);
        if (!aj_is_float(t->dtype)) continue;
        if (used) n->refs++;
        used = true;
        set_node(t, n, i);
    }
    if (!used) { n->op = OP_LEAF; aj_node_release(n); }
    return used;
}

/* -- Writes in place ------------------------------------------------------------------------------------------------- */

/* Whether elements share a place, or may: strides from the smallest up, each must step over all that the ones before reach. */
static bool overlaps(const aj_tensor *x) {
    bool done[AJ_MAX_DIM] = {false};
    int64_t reach = 0;
    for (int left = x->ndim; left > 0; left--) {
        int least = -1;
        for (int d = 0; d < x->ndim; d++) if (!done[d] && (least < 0 || x->stride[d] < x->stride[least])) least = d;
        done[least] = true;
        if (x->shape[least] <= 1) continue;
        if (x->stride[least] <= reach) return true;
        reach += (x->shape[least] - 1) * x->stride[least];
    }
    return false;
}

/* x is a leaf, or a view of one; the leaf itself may be a view of what needs no gradients. */
static bool shows_leaf(const aj_tensor *x) {
    const aj_node *n = x->node;
    if (!x->requires_grad) return false;
    while (n && n->op < OP_COUNT && aj_ops[n->op].kind == AJ_VIEW) n = n->edge[0].node;
    return n ? n->op == OP_LEAF : !x->node;
}
bool aj_before_write(aj_tensor *x, const char *who, bool recording) {
    aj_tensor *base = aj_base_of(x), *root = base ? base : x;
    if (aj_ctx.grad_mode && (shows_leaf(x) || (base && root->requires_grad && (!root->node || root->node->op == OP_LEAF))))
        return aj_error("%s: a leaf that requires gradients cannot be written in place while gradients are recorded; do it in ai.no_grad(function() ... end)", who);
    if (!x->contiguous && overlaps(x)) return aj_error("%s: several elements of this expanded or unfolded tensor are one in memory; write into a :clone() of it", who);
    aj_node *n;
    return !recording || place(x, &n);
}

/* A node that had saved root, or a view of it, before a write that depends on that node would hold what holds it. What it
 * saved is of no use any more, and is let go of. No node is searched twice for one root: later nodes only stand before it. */
static void let_go(aj_node *from, aj_tensor *root) {
    const aj_storage *s = root->storage;
    uint64_t id = aj_id(root);
    aj_node *next = from;
    from->next = NULL;
    from->searched = id;
    while (next) {
        aj_node *n = next;
        next = n->next;
        for (int k = 0; k < n->n_in; k++) {
            aj_node *m = n->edge[k].node;
            if (m && m->searched != id) { m->searched = id; m->next = next; next = m; }
        }
        for (int k = 0; k < n->n_in; k++) {
            if (!n->in[k].t || n->in[k].t->storage != s || n->in[k].version == s->version) continue;
            n->in[k].version = STALE;
            forget(&n->in[k]);
        }
    }
}

/* x (which is c->out[0]) was written by an op that the graph must know. */
bool aj_after_write(aj_call *c, aj_tensor *x) {
    aj_tensor *b = aj_base_of(x);
    aj_node *n, *from = NULL;
    if (!record(c, 1, &n)) return false;
    if (!n && !x->requires_grad) return true;
    if (!n) {                                            /* nothing flows in: the old value is gone, and the new is a constant */
        if (!(n = node_new(c->op, c->n_in, 1, true))) return false;
        *n->attrs = *c->attrs;
        spec_of(&n->spec[0], x);
        n->device = x->device;
    }
    if (b) {
        aj_node *w = NULL;
        if (!place(b, &from) || !(w = window_node(OP_INPLACE_VIEW, 2, x, b, b))) { aj_node_release(n); return false; }
        if (from) { from->refs++; w->edge[0] = (aj_edge){from, b->out_index}; }
        w->edge[1] = (aj_edge){n, 0};
        n = w;
    } else b = x;
    if (b->refs > 1) let_go(n, b);
    set_node(b, n, 0);
    b->epoch++;
    return true;
}

/* -- What a rule reads ------------------------------------------------------------------------------------------------- */

static bool unchanged(const aj_node *n, const aj_saved *s, const char *what, int i) {
    if (s->version == STALE)
        return aj_error("backward: %s %d of %s, which its gradient needs, was changed in place since; change a :clone() instead", what, i + 1, aj_ops[n->op].info->name);
    if (!s->t || s->t->storage->version == s->version) return true;
    return aj_error("backward: %s %d of %s, which its gradient needs, was changed in place since (version %d, now %d); change a :clone() instead",
                    what, i + 1, aj_ops[n->op].info->name, s->version, s->t->storage->version);
}
bool aj_check_saved(aj_node *n) {
    for (int k = 0; k < n->n_in; k++) if (!unchanged(n, &n->in[k], "input", k)) return false;
    for (int i = 0; i < n->n_out; i++) if (!unchanged(n, &n->out[i], "result", i)) return false;
    return true;
}

aj_tensor *aj_saved_in(aj_node *n, int k) { return n->in[k].t; }

aj_tensor *aj_saved_out(aj_node *n, int i) {
    aj_tensor *t = n->out[i].t;
    if (!t || !aj_ctx.grad_mode || !aj_is_float(t->dtype)) return t;
    t = aj_alias(t);                                     /* owned by the rule's scope, so that the node does not own itself */
    if (!t) return NULL;
    n->refs++;
    set_node(t, n, i);
    return aj_untag(aj_give(t));
}
