/* watch.c - the events of a thread, and the search for the op that made the first NaN or infinity. */
#include "core.h"
#include "watch.h"
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1 << 22 };                                 /* events that are kept: 300 MB */
typedef struct {
    aj_event *event;
    int64_t *shape;             /* of each input: dtype, number of dimensions, sizes */
    int32_t n, cap, n_shape, shape_cap, open;            /* open: the innermost event, -1: none */
    int64_t lost, call, traced, fault;
    int depth;                  /* of ops within ops */
    struct { uint64_t id; int64_t call; int op; } *bools;
    int32_t n_bools, bools_cap;
} watch;
static _Thread_local watch *own;

static watch *mine(void) {
    if (own) return own;
    aj_thread_enter();
    own = calloc(1, sizeof *own);
    if (own) own->open = -1;
    return own;
}

void aj_watch_leave(void) {
    if (!own) return;
    free(own->event);
    free(own->shape);
    free(own->bools);
    free(own);
    own = NULL;
}

int32_t aj_watch(int32_t what) {
    int32_t was = aj_ctx.state.watch;
    if (what && !mine()) { aj_error("out of memory: no room to watch ops"); return was; }
    aj_ctx.state.watch = what;
    if (own) own->fault = 0;
    return was;
}

int64_t aj_watch_call(void) { aj_attend_no_more(AJ_TRACE); return own ? own->traced : 0; }
int64_t aj_watch_fault(void) { return own ? own->fault : 0; }
int32_t aj_thread_number(void) { return (int32_t)syscall(SYS_gettid); }

/* -- Events --------------------------------------------------------------------------------------------------------- */

static int64_t clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static bool room(void **v, int32_t n, int32_t *cap, size_t size) {
    if (n <= *cap) return true;
    int32_t wider = n < 512 ? 1024 : 2 * n;
    void *p = realloc(*v, (size_t)wider * size);
    if (!p) return false;
    *v = p; *cap = wider;
    return true;
}

static int32_t put_shapes(watch *w, aj_tensor *const *in, int n_in) {
    if (n_in <= 0 || !room((void **)&w->shape, w->n_shape + 1 + n_in * (2 + AJ_MAX_DIM), &w->shape_cap, sizeof *w->shape)) return -1;
    int32_t at = w->n_shape;
    int64_t *p = w->shape + at;
    *p++ = n_in;
    for (int k = 0; k < n_in; k++) {
        const aj_tensor *t = aj_live(in[k]);
        *p++ = t ? t->dtype : -1;
        *p++ = t ? t->ndim : 0;
        for (int d = 0; t && d < t->ndim; d++) *p++ = t->shape[d];
    }
    w->n_shape = (int32_t)(p - w->shape);
    return at;
}

static int32_t open_event(const char *name, int kind, bool backward, aj_tensor *const *in, int n_in) {
    watch *w = mine();
    if (!w || w->n >= MOST || !room((void **)&w->event, w->n + 1, &w->cap, sizeof *w->event)) { if (w) w->lost++; return -1; }
    int32_t i = w->n++;
    w->event[i] = (aj_event){.name = name, .bytes = aj_memory_taken(), .parent = w->open, .kind = (uint8_t)kind, .backward = backward,
                             .shapes = put_shapes(w, in, n_in)};
    w->open = i;
    w->event[i].start = clock_now();
    return i;
}

void aj_event_close(int32_t i) {
    if (i < 0 || !own || i >= own->n) return;
    int64_t now = clock_now(), taken = aj_memory_taken();
    while (own->open >= i) {
        aj_event *e = &own->event[own->open];
        e->end = now;
        e->bytes = taken - e->bytes;
        if (e->parent >= 0) own->event[e->parent].inner += now - e->start;
        own->open = e->parent;
    }
}

int32_t aj_event_open(const char *name, int32_t kind) {
    return aj_ctx.state.watch & AJ_WATCH_TIMES ? open_event(kind == AJ_EVENT_STEP ? name : aj_event_name(name), kind, false, NULL, 0) : -1;
}
int32_t aj_event_of(const char *name, int kind, bool backward, aj_tensor *const *in, int n_in) { return open_event(name, kind, backward, in, n_in); }

int32_t aj_event_count(void) { return own ? own->n : 0; }
int64_t aj_events_lost(void) { return own ? own->lost : 0; }
const aj_event *aj_event_at(int32_t i) { return own && i >= 0 && i < own->n ? &own->event[i] : NULL; }
void aj_events_clear(void) {
    if (!own) return;
    free(own->event);
    free(own->shape);
    own->event = NULL; own->shape = NULL;
    own->n = own->cap = own->n_shape = own->shape_cap = 0;
    own->open = -1; own->lost = own->traced = own->fault = 0;
}

size_t aj_event_shapes(int32_t i, char *text, size_t size) {
    size_t n = 0;
#define PUT(...) do { int k_ = snprintf(text + (n < size ? n : size), n < size ? size - n : 0, __VA_ARGS__); n += k_ > 0 ? (size_t)k_ : 0; } while (0)
    if (size) *text = 0;
    const aj_event *e = aj_event_at(i);
    if (!e || e->shapes < 0) return 0;
    const int64_t *p = own->shape + e->shapes;
    for (int64_t k = 0, n_in = *p++; k < n_in; k++) {
        int64_t dtype = *p++, ndim = *p++;
        PUT("%s%s", k ? ", " : "", dtype < 0 ? "nil" : aj_dtype_name((aj_dtype)dtype));
        for (int64_t d = 0; d < ndim; d++) PUT("%s%lld", d ? ", " : " (", (long long)*p++);
        if (dtype >= 0) PUT("%s", ndim ? ")" : " ()");
    }
    return n;
}

/* Names that programs give, one copy each for as long as the process lives. */
typedef struct name { struct name *next; char text[]; } name;
static name *names[256];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
const char *aj_event_name(const char *text) {
    unsigned h = 5381;
    for (const char *p = text; *p; p++) h = h * 33 + (unsigned char)*p;
    pthread_mutex_lock(&lock);
    name *m = names[h % 256];
    while (m && strcmp(m->text, text)) m = m->next;
    if (!m && (m = malloc(sizeof *m + strlen(text) + 1))) {
        strcpy(m->text, text);
        m->next = names[h % 256];
        names[h % 256] = m;
    }
    pthread_mutex_unlock(&lock);
    return m ? m->text : "?";
}

/* -- NaN and infinity ----------------------------------------------------------------------------------------------- */

typedef struct { int64_t nans, infinities; } census;

static bool count_where(aj_tensor *(*test)(aj_tensor *), aj_tensor *t, int64_t *n) {
    const aj_ints all = {.n = -1};
    aj_tensor *bad = test(t), *sum = bad ? aj_sum(bad, &all, false) : NULL;
    return sum && aj_get_int(sum, NULL, n);
}

/* Counts with ops, which are not watched meanwhile. */
static bool take_census(aj_tensor *t, census *c) {
    *c = (census){0, 0};
    if (!t || !aj_is_float(t->dtype) || t->device != AJ_CPU || !t->numel) return true;
    int32_t what = aj_ctx.state.watch, mark = aj_inner_open();
    bool mode = aj_grad_mode(false), ok = mark >= 0;
    aj_ctx.state.watch = 0;
    ok = ok && count_where(aj_isnan, t, &c->nans) && count_where(aj_isinf, t, &c->infinities);
    aj_ctx.state.watch = what;
    aj_grad_mode(mode);
    if (mark >= 0) aj_inner_close(mark);
    return ok;
}

static bool is_fault(const census *c, bool infinite_before) {
    int32_t what = aj_ctx.state.watch;
    return (what & AJ_WATCH_NAN && c->nans) || (what & AJ_WATCH_INFINITY && c->infinities && !infinite_before);
}

typedef struct { char text[640]; size_t n; } note;
__attribute__((format(printf, 2, 3))) static void say(note *s, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int k = vsnprintf(s->text + s->n, sizeof s->text - s->n, fmt, args);
    va_end(args);
    if (k > 0) s->n = s->n + (size_t)k < sizeof s->text ? s->n + (size_t)k : sizeof s->text - 1;
}
static void say_shape(note *s, const aj_tensor *t) {
    say(s, "%s (", aj_dtype_name((aj_dtype)t->dtype));
    for (int d = 0; d < t->ndim; d++) say(s, d ? ", %lld" : "%lld", (long long)t->shape[d]);
    say(s, ")");
}
static void say_census(note *s, const aj_tensor *t, const census *c) {
    say_shape(s, t);
    if (!c->nans && !c->infinities) say(s, t->ndim || aj_is_float(t->dtype) ? ", finite" : "");
    else say(s, ", with %lld NaN and %lld infinite of %lld", (long long)c->nans, (long long)c->infinities, (long long)t->numel);
}

static bool is_infinite_number(const aj_attrs *a) { return a && (isinf(a->s) || isinf(a->t) || isinf(a->u)); }

/* Whether the results of an op that has run are numbers, where its inputs were. */
static bool results_are_sound(int op, bool in_place, aj_tensor *const *result, int n_out, aj_tensor *const *in, int n_in, const census *before, bool infinite) {
    for (int i = 0; i < n_out; i++) {
        census c;
        aj_tensor *y = aj_live(result[i]);
        if (!take_census(y, &c)) return false;
        if (!y || !is_fault(&c, infinite)) continue;
        note s = {.n = 0};
        say(&s, n_out > 1 ? "result %d is " : "the result is ", i + 1);
        say_census(&s, y, &c);
        bool given = false;
        for (int k = 0; k < n_in; k++) {
            const aj_tensor *t = aj_live(in[k]);
            if (!t) continue;
            say(&s, "; input %d: ", k + 1);
            say_census(&s, t, &before[k]);
            given |= before[k].nans > 0;
        }
        if (given) say(&s, "; it was given NaN: look at what made that input, outside of what is watched");
        return aj_error("%s%s: %s", aj_ops[op].info->name, in_place ? "_" : "", s.text);
    }
    return true;
}

/* -- Bools that nothing takes ------------------------------------------------------------------------------------------- */

int32_t aj_bools_waiting(void) { return own ? own->n_bools : 0; }

void aj_bools_take(aj_tensor *t) {
    if (!own || !own->n_bools || !(t = aj_live(t)) || !t->id) return;
    for (int32_t i = 0; i < own->n_bools; i++)
        if (own->bools[i].id == t->id) {
            memmove(&own->bools[i], &own->bools[i + 1], (size_t)(own->n_bools-- - i - 1) * sizeof *own->bools);
            return;
        }
}

void aj_bools_forget(int64_t call) {
    if (own && own->n_bools && own->bools[own->n_bools - 1].call == call) own->n_bools--;
}

const char *aj_bools_end(int32_t waiting, int64_t *call) {
    if (!own || own->n_bools <= waiting) return NULL;
    *call = own->bools[waiting].call;
    const char *first = aj_ops[own->bools[waiting].op].info->name;
    own->n_bools = waiting;
    return first;
}

static bool is_question(int op) {
    switch (op) {
    case OP_all: case OP_any: case OP_isin: case OP_isclose: case OP_equal: case OP_allclose: return true;
    }
    return aj_ops[op].kind == AJ_COMPARE || aj_ops[op].kind == AJ_TEST;
}

/* What an op of the program, and not one within another, has answered. */
static void wait_for(watch *w, int op, aj_tensor *y, int64_t call) {
    if (!is_question(op) || !aj_live(y)) return;
    if (!room((void **)&w->bools, w->n_bools + 1, &w->bools_cap, sizeof *w->bools)) return;
    w->bools[w->n_bools].id = aj_id(y);
    w->bools[w->n_bools].call = call;
    w->bools[w->n_bools++].op = op;
    w->traced = call;
    aj_attend(AJ_TRACE);
}

/* -- The two doors ---------------------------------------------------------------------------------------------------- */

static const char *name_of(int op) {
    return op < OP_COUNT ? aj_ops[op].info->name : op == OP_INPLACE_VIEW ? "write into a view" : "function";
}

/* What the caller would have to free of results that it does not get. */
static void take_back(aj_tensor *const *result, int n) {
    if (aj_ctx.state.scopes > 0) return;
    for (int i = 0; i < n; i++) aj_release(result[i]);
}

enum { LOOKED_AT = 32 };
aj_tensor *aj_watch_op(int op, aj_tensor *const *in, int n, const aj_attrs *attrs, bool in_place) {
    watch *w = own;
    int32_t what = aj_ctx.state.watch, event = -1;
    int64_t call = ++w->call;
    bool suffix = in_place && aj_ops[op].kind != AJ_UPDATE;  /* whose names have it */
    bool looks = what & (AJ_WATCH_NAN | AJ_WATCH_INFINITY) && !w->depth && !aj_ctx.passes && !aj_ctx.jit;
    bool infinite = looks && is_infinite_number(attrs);
    census before[LOOKED_AT] = {{0, 0}};
    int n_before = looks ? n < LOOKED_AT ? n : LOOKED_AT : 0;
    for (int k = 0; k < n_before; k++) {
        if (!take_census(aj_live(in[k]), &before[k])) return NULL;
        infinite |= before[k].infinities > 0;
    }
    if (what & AJ_WATCH_TIMES) {
        event = open_event(name_of(op), AJ_EVENT_OP, aj_ctx.passes > 0, in, n);
        if (event >= 0) { w->event[event].call = call; w->event[event].in_place = suffix; }
    }
    bool bools = what & AJ_WATCH_BOOLS && !w->depth && !aj_ctx.passes;
    for (int k = 0; k < n && bools; k++) if (aj_untag(in[k])) aj_bools_take(in[k]);
    w->depth++;
    aj_tensor *y = in_place ? aj_apply_now_(op, in, n, attrs) : aj_apply_now(op, in, n, attrs);
    w->depth--;
    aj_event_close(event);
    if (!y) return NULL;
    aj_tensor *t = aj_live(y), *kept[AJ_MAX_RESULTS];
    if (t && t->node && t->node->op != OP_LEAF && t->node->op != OP_CUSTOM && !t->node->custom) t->node->custom = (uint64_t)call;
    if (bools && !in_place) wait_for(w, op, y, call);
    if (!looks) return y;
    int n_out = in_place ? 1 : aj_ctx.n_result;
    for (int i = 0; i < n_out; i++) kept[i] = in_place ? y : aj_ctx.result[i];
    bool sound = results_are_sound(op, suffix, kept, n_out, in, n_before, before, infinite);
    aj_ctx.n_result = in_place ? aj_ctx.n_result : n_out;
    for (int i = 0; i < n_out && !in_place; i++) aj_ctx.result[i] = kept[i];
    if (!sound) {
        if (!in_place) take_back(kept, n_out);
        return NULL;
    }
    if (t && t->requires_grad) { w->traced = call; aj_attend(AJ_TRACE); }
    return y;
}

bool aj_watch_rule(aj_node *n, aj_tensor **gx, aj_rule_run *run) {
    watch *w = own;
    int32_t what = aj_ctx.state.watch, event = -1;
    bool looks = what & (AJ_WATCH_NAN | AJ_WATCH_INFINITY) && w->depth == 0;
    census came = {0, 0};
    for (int i = 0; looks && i < n->n_out; i++) {
        census c;
        if (!take_census(n->pending[i], &c)) return false;
        came.nans += c.nans;
        came.infinities += c.infinities;
    }
    if (what & AJ_WATCH_TIMES) {
        event = open_event(name_of(n->op), AJ_EVENT_BACKWARD, true, n->pending, n->n_out);
        if (event >= 0) w->event[event].call = n->op == OP_CUSTOM ? 0 : (int64_t)n->custom;
    }
    w->depth++;
    bool ok = run(n, gx);
    w->depth--;
    aj_event_close(event);
    for (int k = 0; looks && ok && k < n->n_in; k++) {
        census c;
        aj_tensor *g = gx[k] ? aj_live(gx[k]) : NULL;
        if (!take_census(g, &c)) return false;
        if (!g || came.nans || !is_fault(&c, came.infinities > 0)) continue;
        w->fault = n->op == OP_CUSTOM ? 0 : (int64_t)n->custom;
        note s = {.n = 0};
        say_census(&s, g, &c);
        return aj_error("backward of %s: the gradient of input %d is %s; that of its result was %s", name_of(n->op), k + 1, s.text,
                        came.infinities ? "infinite in places" : "finite");
    }
    return ok;
}
