/* backward.c - a pass over a graph from outputs to leaves, which may pause for Lua and be resumed.
 *
 * A first walk counts, for each node, the consumers that will send it a gradient; the second runs each node when
 * the last of them has. Passes may nest as long as they do not share nodes.
 */
#include "jit.h"
#include "watch.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void aj_node_forget(aj_node *n);

/* A leaf of a pass that is paused, as it was when a pass within it came to it too. */
typedef struct { aj_node *node; aj_backward *busy; aj_tensor *pending; int64_t want; int32_t deps; uint8_t mark; } suspended;

struct aj_backward {
    aj_node **node;             /* all that the pass visits, each held */
    int n_node, cap;
    aj_node **ready;
    int n_ready;
    aj_tensor **input;          /* gradients of the inputs asked for; NULL: none reached it */
    aj_node **input_node;
    int32_t *input_out;
    int n_input;
    bool retain, create, was_recording, into_leaves;
    int32_t was_autocast;       /* gradients are in the dtypes of the forward pass */
    bool stop;                  /* does not look beyond the inputs asked for */
    suspended *leaf;            /* of the passes around this one */
    int n_leaf, leaf_cap;
    int32_t scopes;             /* open when the pass began */
    aj_node *paused;
    int hook;                   /* the result whose hook is running; -1: none */
    int hooks_done;
    aj_tensor *given[AJ_MAX_ARGS];
    aj_tensor **gx;             /* of the paused Lua op */
};

/* -- Dropped Lua ops -------------------------------------------------------------------------------------------- */

static _Thread_local struct { uint64_t *id; int n, cap; } dropped;
void aj_custom_drop(uint64_t id) {
    if (dropped.n == dropped.cap) {
        int cap = dropped.cap ? 2 * dropped.cap : 64;
        uint64_t *v = realloc(dropped.id, (size_t)cap * sizeof *v);
        if (!v) return;
        dropped.id = v; dropped.cap = cap;
    }
    dropped.id[dropped.n++] = id;
}
void aj_backward_leave(void) {
    free(dropped.id);
    dropped.id = NULL;
    dropped.n = dropped.cap = 0;
}
uint64_t aj_custom_dropped(void) { return dropped.n ? dropped.id[--dropped.n] : 0; }

/* -- Gradients of elementwise rows and of writes into views --------------------------------------------------------- */

static const aj_attrs no_attrs;

static bool elementwise_vjp(aj_node *n, aj_tensor *gy, aj_tensor **gx) {
    const aj_attrs *attrs = n->attrs ? n->attrs : &no_attrs;
    for (int k = 0; k < n->n_in; k++) {
        if (!aj_wants(n, k)) continue;
        int column = attrs->number == 1 ? 1 : k;
        if (AJ_UNLIKELY(aj_ops[n->op].unknown[column]))
            return aj_error("%s: its derivative by the %s tensor is not known; detach that one", aj_ops[n->op].info->name, column ? "second" : "first");
        aj_tensor *y = n->out[0].t;
        if (aj_ctx.grad_mode) {
            aj_tensor *in[2] = {n->in[0].t, n->n_in > 1 ? n->in[1].t : NULL};
            if (attrs->number == 1) { in[1] = in[0]; in[0] = NULL; }
            y = aj_saved_out(n, 0);
            aj_tensor *d = aj_derivative(n->op, column, in, y, attrs, gy->device);
            if (!d) return false;
            gx[k] = aj_mul(gy, d);
        } else {
            /* A gradient that nobody else holds, and that this input is the last to need, becomes the new one where it lies. */
            bool dies = gy->refs == 1 && gy->storage->refs == 1 && gy->contiguous && !(k + 1 < n->n_in && aj_wants(n, k + 1)) && !aj_ctx.jit;
            aj_tensor *g = dies ? aj_hold(gy) : aj_new((aj_dtype)gy->dtype, n->spec[0].ndim, n->spec[0].shape, gy->device);
            if (!g) return false;
            gx[k] = aj_untag(aj_give(g));
            aj_grad_call c = {.gx = g, .gy = gy, .y = y, .in = {n->in[0].t, n->n_in > 1 ? n->in[1].t : NULL}, .attrs = attrs};
            if (attrs->number == 1) { c.in[1] = c.in[0]; c.in[0] = NULL; }
            if (!aj_backend_of(gy->device)->grad[n->op][column](&c)) return false;
            if (AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_gradient(n->op, column, &c);
        }
        if (!gx[k]) return false;
    }
    return true;
}

/* The part of g outside the written window goes to the old value, the part inside to what was written. */
static bool inplace_view_vjp(aj_node *n, aj_tensor *gy, aj_tensor **gx) {
    aj_tensor *g = gy->contiguous ? gy : aj_clone(gy);
    if (!g) return false;
    gx[1] = aj_as_strided(g, &n->attrs->list, &n->attrs->list2, n->attrs->i);
    if (!gx[1]) return false;
    if (!aj_wants(n, 0)) return true;
    gx[0] = aj_clone(g);
    aj_tensor *window = gx[0] ? aj_as_strided(gx[0], &n->attrs->list, &n->attrs->list2, n->attrs->i) : NULL;
    return window && aj_fill_(window, 0);
}

static bool run_rule(aj_node *n, aj_tensor **gx) {
    if (n->op == OP_INPLACE_VIEW) return inplace_view_vjp(n, n->pending[0], gx);
    const aj_op *o = &aj_ops[n->op];
    if (o->kind <= AJ_BINARY_S) return elementwise_vjp(n, n->pending[0], gx);
    if (o->kind == AJ_UPDATE && !o->vjp) return true;    /* the old value is gone, and nothing flows in */
    return o->vjp(n, n->pending, gx);
}

static bool run_vjp(aj_node *n, aj_tensor **gx) {
    if (!aj_check_saved(n)) return false;
    return AJ_UNLIKELY(aj_ctx.state.watch) ? aj_watch_rule(n, gx, run_rule) : run_rule(n, gx);
}

/* -- Sums --------------------------------------------------------------------------------------------------------- */

aj_tensor *aj_sum_to(aj_tensor *h, int ndim, const int64_t *shape) {
    aj_tensor *g = aj_live(h);
    aj_ints dims = {0};
    int lead = g->ndim - ndim;
    for (int d = 0; d < g->ndim; d++)
        if (d < lead || (shape[d - lead] == 1 && g->shape[d] != 1)) dims.v[dims.n++] = d;
    if (dims.n == 0) return h;
    aj_tensor *s = aj_live(aj_sum(g, &dims, true));
    if (!s || lead == 0) return s;
    aj_ints to = {ndim, {0}};
    for (int d = 0; d < ndim; d++) to.v[d] = shape[d];
    return aj_view(s, &to);
}

/* Adds a gradient to what a node's result has so far. g belongs to the rule's scope. */
static bool send(aj_backward *b, aj_edge e, aj_tensor *g) {
    aj_node *n = e.node;
    const aj_spec *s = &n->spec[e.out];
    if (!(g = aj_live(aj_sum_to(g, s->ndim, s->shape)))) return false;
    if (g->dtype != s->dtype && !(g = aj_live(aj_cast(g, (aj_dtype)s->dtype)))) return false;
    aj_tensor **p = &n->pending[e.out];
    if (!*p) { *p = aj_hold(g); return true; }
    if (!b->create && (*p)->refs == 1 && (*p)->contiguous && (*p)->storage->refs == 1) return aj_add_(*p, g) != NULL;
    aj_tensor *sum = aj_live(aj_add(*p, g));
    if (!sum) return false;
    aj_drop(*p);
    *p = aj_hold(sum);
    return true;
}

/* A leaf keeps memory of its own. */
static bool into_leaf(aj_backward *b, aj_tensor *leaf, aj_tensor *g) {
    if (leaf->grad && !b->create && leaf->grad->dtype == g->dtype && !leaf->grad->requires_grad) {
        if (AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_leaf(leaf, leaf->grad);
        return aj_add_(leaf->grad, g) != NULL;
    }
    int32_t mark = aj_inner_open();                      /* the caller may have no scope open */
    if (mark < 0) return false;
    int alone = aj_ctx.jit ? 2 : 1;                      /* a recording holds what it has seen once */
    aj_tensor *new;
    if (leaf->grad) new = aj_live(aj_add(leaf->grad, g));
    else if (g->contiguous && g->storage->refs == alone && (g->refs == alone || b->create)) new = g;
    else new = aj_live(aj_clone(g));
    aj_hold(new);
    aj_inner_close(mark);
    if (!new) return false;
    if (AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_leaf(leaf, new);
    if (leaf->grad) aj_drop(leaf->grad);
    leaf->grad = new;
    return true;
}

/* -- Starting --------------------------------------------------------------------------------------------------------- */

/* A pass that does not look beyond its inputs may share leaves with those it runs within: what theirs hold is set aside. */
static bool claim(aj_backward *b, aj_node *n) {
    if (!n->busy || n->busy == b || !b->stop || n->op != OP_LEAF) return true;
    if (b->n_leaf == b->leaf_cap) {
        int cap = b->leaf_cap ? 2 * b->leaf_cap : 16;
        suspended *v = realloc(b->leaf, (size_t)cap * sizeof *v);
        if (!v) return aj_error("out of memory: no room for the backward pass");
        b->leaf = v; b->leaf_cap = cap;
    }
    b->leaf[b->n_leaf++] = (suspended){n, n->busy, n->pending[0], n->want[0], n->deps, n->mark};
    n->busy = NULL; n->pending[0] = NULL; n->want[0] = 0;
    return true;
}

static bool visit(aj_backward *b, aj_node *n) {
    if (n->busy == b) return true;
    if (!claim(b, n)) return false;
    if (n->busy) return aj_error("backward: this graph is part of a backward pass that is still running");
    if (n->freed && n->op == OP_LEAF) return aj_error("backward: a leaf was given other data (set_data, a model's :to()) after this graph was made; run the forward pass again");
    if (n->freed) return aj_error("backward: a second time through %s, whose saved values were freed by the first; pass retain_graph = true to the first",
                                  n->op < OP_COUNT ? aj_ops[n->op].info->name : "the graph");
    if (b->n_node == b->cap) {
        int cap = b->cap ? 2 * b->cap : 64;
        aj_node **v = realloc(b->node, (size_t)cap * sizeof *v);
        if (!v) return aj_error("out of memory: no room for the backward pass");
        b->node = v; b->cap = cap;
    }
    n->busy = b; n->deps = 0; n->mark = 0;
    n->refs++;
    b->node[b->n_node++] = n;
    return true;
}

static bool is_end(const aj_backward *b, const aj_node *n) {
    if (!b->stop) return false;
    for (int i = 0; i < n->n_out; i++) if (n->want[i]) return true;
    return false;
}

/* Which nodes lie between the outputs and the inputs asked for: marks them 1. A walk with a stack of its own. */
static bool mark_needed(aj_backward *b, int roots) {
    typedef struct { aj_node *n; int k; } frame;
    frame *stack = malloc(((size_t)b->n_node + 1) * sizeof *stack);
    if (!stack) return aj_error("out of memory: no room for the backward pass");
    for (int r = 0; r < roots; r++) {
        if (b->node[r]->mark & 2) continue;
        int top = 0;
        stack[top] = (frame){b->node[r], 0};
        b->node[r]->mark |= 2;
        while (top >= 0) {
            frame *f = &stack[top];
            if (f->k < f->n->n_in && !is_end(b, f->n)) {
                aj_node *child = f->n->edge[f->k++].node;
                if (child && !(child->mark & 2)) { child->mark |= 2; stack[++top] = (frame){child, 0}; }
                continue;
            }
            for (int i = 0; i < f->n->n_out; i++) if (f->n->want[i]) f->n->mark |= 1;
            for (int k = 0; k < f->n->n_in && !is_end(b, f->n); k++)
                if (f->n->edge[k].node && f->n->edge[k].node->mark & 1) f->n->mark |= 1;
            top--;
        }
    }
    free(stack);
    return true;
}

static bool set_up(aj_backward *b, aj_tensors outputs, aj_tensors gradients, aj_tensors inputs) {
    int roots = 0;
    for (int i = 0; i < outputs->n; i++) {
        aj_tensor *y = aj_need(outputs->v[i], "backward");
        if (!y) return false;
        aj_node *n = aj_node_of(y);
        if (!n) return aj_error("backward: the output does not require gradients: no tensor that requires them led to it, or it was made in no_grad");
        if (!visit(b, n)) return false;
        roots = b->n_node;
        aj_tensor *g = gradients && i < gradients->n && aj_untag(gradients->v[i]) ? aj_need(gradients->v[i], "backward") : NULL;
        if (aj_ctx.state.attend & AJ_FAILED) return false;
        if (g && !aj_same_shape(g, y)) return aj_error("backward: the gradient given for output %d has another shape than the output", i + 1);
        if (!g) {
            if (y->numel != 1) return aj_error("backward: output %d has %lld elements; only a one-element output needs no gradient of its own: reduce it, or pass one", i + 1, (long long)y->numel);
            aj_ints shape = {y->ndim, {1, 1, 1, 1, 1, 1, 1, 1}};
            if (!(g = aj_live(aj_full((aj_dtype)y->dtype, &shape, y->device, 1)))) return false;
        }
        if (!send(b, (aj_edge){n, y->out_index}, g)) return false;
    }
    if (inputs) {
        b->n_input = inputs->n;
        b->input = calloc((size_t)inputs->n + 1, sizeof *b->input);
        b->input_node = calloc((size_t)inputs->n + 1, sizeof *b->input_node);
        b->input_out = calloc((size_t)inputs->n + 1, sizeof *b->input_out);
        if (!b->input || !b->input_node || !b->input_out) return aj_error("out of memory: no room for the backward pass");
        for (int i = 0; i < inputs->n; i++) {
            aj_tensor *x = aj_need(inputs->v[i], "grad");
            if (!x) return false;
            aj_node *n = aj_node_of(x);
            if (!n) return aj_error("grad: input %d does not require gradients", i + 1);
            if (!claim(b, n)) return false;
            b->input_node[i] = n;
            b->input_out[i] = x->out_index;
            n->refs++;
            n->want[x->out_index] = i + 1;
        }
    }
    for (int i = 0; i < b->n_node; i++)                  /* grows while it is walked */
        for (int k = 0; k < b->node[i]->n_in && !is_end(b, b->node[i]); k++)
            if (b->node[i]->edge[k].node && !visit(b, b->node[i]->edge[k].node)) return false;
    if (inputs) {
        if (!mark_needed(b, roots)) return false;
    } else {
        for (int i = 0; i < b->n_node; i++) b->node[i]->mark = 1;
    }
    for (int i = 0; i < b->n_node; i++) {
        aj_node *n = b->node[i];
        if (!(n->mark & 1) || is_end(b, n)) continue;
        for (int k = 0; k < n->n_in; k++) if (n->edge[k].node && n->edge[k].node->mark & 1) n->edge[k].node->deps++;
    }
    b->ready = malloc(((size_t)b->n_node + 1) * sizeof *b->ready);
    if (!b->ready) return aj_error("out of memory: no room for the backward pass");
    for (int i = roots - 1; i >= 0; i--) if (b->node[i]->mark & 1 && b->node[i]->deps == 0) b->ready[b->n_ready++] = b->node[i];
    return true;
}

static aj_backward *begin(aj_tensors outputs, aj_tensors gradients, aj_tensors inputs, bool retain_graph, bool create_graph, bool stop) {
    aj_backward *b = calloc(1, sizeof *b);
    if (!b) { aj_error("out of memory: no room for the backward pass"); return NULL; }
    b->retain = retain_graph || create_graph;
    b->create = create_graph;
    b->hook = -1;
    b->stop = stop;
    b->into_leaves = inputs == NULL;
    b->was_recording = aj_grad_mode(create_graph);
    b->was_autocast = aj_autocast(0);
    aj_ctx.passes++;
    int32_t mark = aj_inner_open();
    bool ok = mark >= 0 && set_up(b, outputs, gradients, inputs);
    if (mark >= 0) aj_inner_close(mark);
    if (ok) return b;
    aj_backward_end(b);
    return NULL;
}

aj_backward *aj_backward_start(aj_tensors outputs, aj_tensors gradients, aj_tensors inputs, bool retain_graph, bool create_graph) {
    return begin(outputs, gradients, inputs, retain_graph, create_graph, false);
}
aj_backward *aj_backward_within(aj_tensors outputs, aj_tensors gradients, aj_tensors inputs, bool create_graph) {
    return begin(outputs, gradients, inputs, false, create_graph, true);
}

/* -- Running ------------------------------------------------------------------------------------------------------------ */

static void done_with(aj_backward *b, aj_node *n) {
    for (int i = 0; i < n->n_out; i++) if (n->pending[i]) { aj_drop(n->pending[i]); n->pending[i] = NULL; }
    if (b->retain || n->op == OP_LEAF) return;
    bool saved = n->op == OP_CUSTOM;
    for (int k = 0; k < n->n_in; k++) saved |= n->in[k].t != NULL;
    for (int i = 0; i < n->n_out; i++) saved |= n->out[i].t != NULL;
    aj_node_forget(n);
    n->freed = saved;
}

/* Sends gx on to the inputs' nodes, and wakes those that wait for nothing more. */
static bool pass_on(aj_backward *b, aj_node *n, aj_tensor **gx) {
    for (int k = 0; k < n->n_in; k++) {
        aj_node *m = n->edge[k].node;
        if (!m || !(m->mark & 1)) continue;
        if (gx[k] && !send(b, n->edge[k], gx[k])) return false;
        if (--m->deps == 0) b->ready[b->n_ready++] = m;
    }
    done_with(b, n);
    return true;
}

/* What waits for a finished gradient of the node: those who asked, watchers, the leaf. */
static bool deliver(aj_backward *b, aj_node *n) {
    for (int i = 0; i < n->n_out; i++) {
        aj_tensor *g = n->pending[i];
        if (!g) continue;
        if (n->watcher[i] && !into_leaf(b, n->watcher[i], g)) return false;
        if (!n->want[i]) continue;
        for (int j = 0; j < b->n_input; j++)             /* an input may be asked for twice */
            if (b->input_node[j] == n && b->input_out[j] == i) b->input[j] = aj_hold(g);
    }
    if (n->op == OP_LEAF && n->leaf && n->pending[0] && b->into_leaves) return into_leaf(b, n->leaf, n->pending[0]);
    return true;
}

enum { FINISHED = 100 };
static int32_t step(aj_backward *b, aj_node *n) {
    if (n->hooked && !is_end(b, n)) {                    /* of an end, the pass around this one runs them */
        while (b->hooks_done < n->n_out) {
            int i = b->hooks_done++;
            if (n->hook[i] && n->pending[i]) { b->paused = n; b->hook = i; return AJ_HOOK; }
        }
    }
    b->hooks_done = 0;
    if (!deliver(b, n)) return AJ_BROKEN;
    bool any = false, more = false;
    for (int i = 0; i < n->n_out; i++) any |= n->pending[i] != NULL;
    for (int k = 0; k < n->n_in && !is_end(b, n); k++) more |= n->edge[k].node && n->edge[k].node->mark & 1;
    if (n->op == OP_LEAF || !more) { done_with(b, n); return FINISHED; }
    aj_tensor *few[AJ_MAX_ARGS] = {0}, **gx = few;
    if (n->n_in > AJ_MAX_ARGS && !(gx = calloc((size_t)n->n_in, sizeof *gx))) { aj_error("out of memory: no room for the backward pass"); return AJ_BROKEN; }
    if (any && n->op == OP_CUSTOM) {
        b->gx = calloc((size_t)n->n_in + 1, sizeof *b->gx);
        if (gx != few) free(gx);
        if (!b->gx) { aj_error("out of memory: no room for the backward pass"); return AJ_BROKEN; }
        b->paused = n;
        return AJ_CUSTOM;
    }
    int32_t mark = aj_inner_open();
    bool ok = mark >= 0 && (!any || run_vjp(n, gx)) && pass_on(b, n, gx);
    if (mark >= 0) aj_inner_close(mark);
    if (gx != few) free(gx);
    return ok ? FINISHED : AJ_BROKEN;
}

int32_t aj_backward_run(aj_backward *b) {
    aj_node *n = b->paused;
    aj_grad_mode(b->create);
    if (n && b->hook < 0) {                              /* a Lua op has given its gradients */
        b->paused = NULL;
        int32_t mark = aj_inner_open();
        bool ok = mark >= 0 && pass_on(b, n, b->gx);
        if (mark >= 0) aj_inner_close(mark);
        for (int k = 0; k < n->n_in; k++) if (b->gx[k]) aj_drop(b->gx[k]);
        free(b->gx); b->gx = NULL;
        if (!ok) return AJ_BROKEN;
        n = NULL;
    }
    b->hook = -1;
    for (;;) {
        if (!n) {
            if (!b->n_ready) return AJ_DONE;
            if (AJ_UNLIKELY(aj_interrupted())) return AJ_BROKEN;
            n = b->ready[--b->n_ready];
        }
        b->paused = NULL;
        int32_t what = step(b, n);
        if (what != FINISHED) return what;
        n = NULL;
    }
}

uint64_t aj_backward_id(aj_backward *b) { return !b->paused ? 0 : b->hook >= 0 ? b->paused->hook[b->hook] : b->paused->custom; }
aj_tensor *aj_backward_gradient(aj_backward *b, int32_t i) {
    if (!b->paused) return NULL;
    if (b->hook >= 0) i = b->hook;
    if (i < 0 || i >= b->paused->n_out || !b->paused->pending[i]) return NULL;
    return aj_give(aj_hold(b->paused->pending[i]));
}
bool aj_backward_needs(aj_backward *b, int32_t i) { return b->paused && i >= 0 && i < b->paused->n_in && b->paused->edge[i].node && b->paused->edge[i].node->mark & 1; }

bool aj_backward_give(aj_backward *b, int32_t i, aj_tensor *h) {
    if (!b->paused) return aj_error("backward: no op waits for a gradient");
    if (!aj_untag(h)) return true;
    aj_tensor *g = aj_need(h, "backward");
    if (!g) return false;
    if (b->hook >= 0) {
        const aj_spec *s = &b->paused->spec[b->hook];
        bool same = g->ndim == s->ndim && g->dtype == s->dtype;
        for (int d = 0; same && d < s->ndim; d++) same = g->shape[d] == s->shape[d];
        if (!same) return aj_error("register_hook: what a hook returns in place of a gradient has its shape and dtype");
        aj_drop(b->paused->pending[b->hook]);
        b->paused->pending[b->hook] = aj_hold(g);
        return true;
    }
    if (i < 0 || i >= b->paused->n_in) return aj_error("function: there is no input %d", i + 1);
    if (!b->paused->edge[i].node) return true;
    const aj_spec *s = &b->paused->edge[i].node->spec[b->paused->edge[i].out];
    aj_spec y = {.ndim = g->ndim};
    bool fits = g->ndim >= s->ndim;
    for (int d = 0; fits && d < s->ndim; d++) {
        int64_t v = g->shape[y.ndim - s->ndim + d];
        fits = v == s->shape[d] || s->shape[d] == 1;
    }
    if (!fits) {
        char want[128] = "", have[128] = "";
        size_t n = 0;
        for (int d = 0; d < s->ndim; d++) n += (size_t)snprintf(want + n, sizeof want - n, d ? ", %lld" : "%lld", (long long)s->shape[d]);
        n = 0;
        for (int d = 0; d < g->ndim; d++) n += (size_t)snprintf(have + n, sizeof have - n, d ? ", %lld" : "%lld", (long long)g->shape[d]);
        return aj_error("function: the gradient of input %d is (%s), and must fit the input, (%s)", i + 1, have, want);
    }
    if (b->gx[i]) aj_drop(b->gx[i]);
    b->gx[i] = aj_hold(g);
    return true;
}

aj_tensor *aj_backward_input(aj_backward *b, int32_t i) {
    return i >= 0 && i < b->n_input && b->input[i] ? aj_give(aj_hold(b->input[i])) : NULL;
}

void aj_backward_end(aj_backward *b) {
    if (!b) return;
    for (int i = 0; i < b->n_node; i++) {
        aj_node *n = b->node[i];
        for (int j = 0; j < n->n_out; j++) {
            if (n->pending[j]) { aj_drop(n->pending[j]); n->pending[j] = NULL; }
            n->want[j] = 0;
        }
        n->busy = NULL;
    }
    for (int i = 0; i < b->n_node; i++) aj_node_release(b->node[i]);
    if (b->gx && b->paused) for (int k = 0; k < b->paused->n_in; k++) if (b->gx[k]) aj_drop(b->gx[k]);
    for (int i = 0; i < b->n_input; i++) {
        if (b->input && b->input[i]) aj_drop(b->input[i]);
        if (!b->input_node || !b->input_node[i]) continue;
        b->input_node[i]->want[b->input_out[i]] = 0;     /* also of one that no output led to */
        aj_node_release(b->input_node[i]);
    }
    for (int i = b->n_leaf - 1; i >= 0; i--) {
        suspended *s = &b->leaf[i];
        s->node->busy = s->busy; s->node->pending[0] = s->pending; s->node->want[0] = s->want; s->node->deps = s->deps; s->node->mark = s->mark;
    }
    free(b->leaf); free(b->gx); free(b->node); free(b->ready); free(b->input); free(b->input_node); free(b->input_out);
    aj_grad_mode(b->was_recording);
    aj_autocast(b->was_autocast);
    aj_ctx.passes--;
    free(b);
}

/* -- Higher gradients by definition ---------------------------------------------------------------------------------------- */

bool aj_vjp_by_definition(aj_node *n, aj_definition *f, aj_tensor *gy, aj_tensor **gx) {
    /* The inputs stand behind views of their own, so that the inner pass ends there and shares no node with the outer. */
    aj_tensor *in[AJ_MAX_ARGS] = {0}, *wanted[AJ_MAX_ARGS];
    int n_wanted = 0;
    bool create = aj_grad_mode(true);
    bool ok = true;
    for (int k = 0; k < n->n_in && ok; k++) {
        aj_tensor *t = n->in[k].t;
        if (!t) continue;
        if (aj_wants(n, k)) {
            aj_tensor *a = create ? aj_alias(t) : NULL;
            if (create) {                                /* an identity in the graph */
                aj_ints shape = {t->ndim, {0}};
                for (int d = 0; d < t->ndim; d++) shape.v[d] = t->shape[d];
                if (a) aj_drop(a);
                a = aj_live(aj_expand(t, &shape));
            } else {
                a = aj_alias(t);
                if (a) { aj_give(a); a->requires_grad = true; }
            }
            ok = a != NULL;
            in[k] = a;
            wanted[n_wanted++] = a;
        } else in[k] = t;
    }
    aj_tensor *y = ok ? f(in, n->n_in, n->attrs ? n->attrs : &no_attrs) : NULL;
    if (!y) { aj_grad_mode(create); return false; }
    aj_list ys = {1, &y}, gs = {1, &gy}, xs = {n_wanted, wanted};
    aj_backward *b = begin(&ys, &gs, &xs, false, create, true);
    ok = b && aj_backward_run(b) == AJ_DONE;
    for (int k = 0, j = 0; k < n->n_in && ok; k++) {
        if (!n->in[k].t || !aj_wants(n, k)) continue;
        gx[k] = aj_backward_input(b, j++);
    }
    aj_backward_end(b);
    aj_grad_mode(create);
    return ok;
}
