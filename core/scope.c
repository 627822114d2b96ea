/* scope.c - who owns what was made: the innermost open scope, else the caller. */
#include "core.h"
#include <stdlib.h>
#include <string.h>

typedef struct { aj_tensor *t; int32_t mark; } kept;
static _Thread_local struct { kept *v; int n, cap; } keep;

/* What open scopes own is freed with them. */
void aj_scope_leave(void) {
    aj_context *x = &aj_ctx;
    if (x->state.scopes > 0) aj_scope_close(0);
    free(x->scope); free(x->mark); free(keep.v);
    x->scope = NULL; x->mark = NULL; keep.v = NULL;
    x->n_scope = x->scope_cap = 0;
    x->mark_cap = keep.n = keep.cap = 0;
}

static bool grow(void **v, int64_t n, int64_t *cap, size_t size) {
    if (AJ_LIKELY(n < *cap)) return true;
    int64_t wider = *cap ? 2 * *cap : 256;
    void *p = realloc(*v, (size_t)wider * size);
    if (!p) return false;
    *v = p; *cap = wider;
    return true;
}

void aj_scope_add(aj_tensor *t) {
    aj_context *x = &aj_ctx;
    if (!grow((void **)&x->scope, x->n_scope, &x->scope_cap, sizeof *x->scope)) return;     /* lost, not freed */
    x->scope[x->n_scope++] = t;
}

aj_tensor *aj_give(aj_tensor *t) {
    if (AJ_UNLIKELY(!t)) return NULL;
    if (AJ_LIKELY(aj_ctx.state.scopes > 0)) aj_scope_add(t);
    if (aj_ctx.inner) return t;
    return (aj_tensor *)((uintptr_t)t | (uintptr_t)t->generation << 48);
}

static int32_t open_scope(void) {
    aj_context *x = &aj_ctx;
    if (x->state.scopes == x->mark_cap) {
        int32_t cap = x->mark_cap ? 2 * x->mark_cap : 64;
        int64_t *m = realloc(x->mark, (size_t)cap * sizeof *m);
        if (!m) { aj_error("out of memory: no room for another scope"); return -1; }
        x->mark = m; x->mark_cap = cap;
    }
    x->mark[x->state.scopes] = x->n_scope;
    return x->state.scopes++;
}

static void close_scope(int32_t mark) {
    aj_context *x = &aj_ctx;
    if (mark < 0 || mark >= x->state.scopes) return;
    int64_t first = x->mark[mark], last = x->n_scope;
    x->state.scopes = mark;
    /* A released tensor may release others, but adds none: the range stands. */
    for (int64_t i = last - 1; i >= first; i--) aj_drop(x->scope[i]);
    x->n_scope = first;
    while (keep.n > 0 && keep.v[keep.n - 1].mark >= mark) {
        kept k = keep.v[--keep.n];
        if (x->state.scopes > 0) aj_scope_add(k.t);
    }
}

int32_t aj_scope_open(void) {
    int32_t mark = open_scope();
    if (mark == 0) aj_attend_no_more(AJ_UNSCOPED);
    return mark;
}

void aj_scope_close(int32_t mark) {
    close_scope(mark);
    if (aj_ctx.state.scopes == 0) aj_attend(AJ_UNSCOPED);
}

/* Takes t from the scope that owns it. With a mark: from that one, to the scope around it or, at the outermost, the
 * caller; else from any, to the caller. False: it belongs elsewhere, and needs no keeping. */
bool aj_scope_keep(int32_t mark, aj_tensor *h) {
    aj_tensor *t = aj_need(h, "keep");
    aj_context *x = &aj_ctx;
    if (!t) return false;
    int64_t first = mark >= 0 && mark < x->state.scopes ? x->mark[mark] : 0, i = x->n_scope - 1;
    while (i >= first && x->scope[i] != t) i--;
    if (i < first) return false;
    if (mark > 0) {
        if (keep.n == keep.cap) {
            int cap = keep.cap ? 2 * keep.cap : 64;
            kept *v = realloc(keep.v, (size_t)cap * sizeof *v);
            if (!v) return aj_error("out of memory: no room to keep another tensor");
            keep.v = v; keep.cap = cap;
        }
        /* Entries stand in the order of their marks, so that closing takes them from the end. */
        int j = keep.n++;
        while (j > 0 && keep.v[j - 1].mark > mark) { keep.v[j] = keep.v[j - 1]; j--; }
        keep.v[j] = (kept){t, mark};
    }
    x->scope[i] = NULL;
    return true;
}

void aj_scope_adopt(aj_tensor *h) {
    aj_tensor *t = aj_live(h);
    if (t && aj_ctx.state.scopes > 0) aj_scope_add(t);
}

int32_t aj_inner_open(void) {
    aj_ctx.inner++;
    return open_scope();
}
void aj_inner_close(int32_t mark) {
    close_scope(mark);
    aj_ctx.inner--;
}
