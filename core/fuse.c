/* fuse.c - a group of a recording on a device, as what the backend makes one kernel of: aj_fused. */
#include "recording.h"
#include <stdlib.h>
#include <string.h>

enum { WIDEST = 16384, MOST_LINES = 40, MOST_PARTS = 64 };     /* WIDEST: of rows that are folded */

static int column_of(const entry *e) { return e->kind == GRADIENT ? e->column : -1; }

/* All lines have one width, or one number a row; what is folded is a whole row. */
bool aj_fuse_takes(group *g, const entry *e, bool elementwise) {
    aj_tensor *list[AJ_MAX_OPERANDS];
    aj_operands(e, list);
    const aj_tensor *whole = elementwise ? list[0] : list[1];
    int64_t row = whole->numel / g->rows, out = list[0]->numel / g->rows, width = g->fused.width > 1 ? g->fused.width : row;
    if ((row != 1 && row != width) || g->n_line >= MOST_LINES || g->n_part + AJ_MAX_OPERANDS > MOST_PARTS) return false;
    if (!elementwise) {
        bool reduction = out == 1;
        int dim = e->attrs.dim < 0 ? e->attrs.dim + whole->ndim : e->attrs.dim;
        if (row == 1 || width > WIDEST || (!reduction && (out != width || whole->shape[dim] != width))) return false;
    }
    if (!aj_plugged->device->fuses(e->call.op, column_of(e))) return false;
    g->fused.width = width;
    return true;
}

/* The first of the group's parts that is the same numbers. */
static int first_of(const group *g, int p) {
    const aj_tensor *t = g->part[p].tensor;
    for (int i = 0; i < p; i++) {
        const aj_tensor *o = g->part[i].tensor;
        if (o->data == t->data && o->storage == t->storage && o->dtype == t->dtype && g->part[i].row == g->part[p].row && g->part[i].sliced == g->part[p].sliced) return i;
    }
    return p;
}

/* Where the elements of a part lie along a row of what it is broadcast to; false: elsewhere than for another line. */
static bool lie(aj_fused_part *p, const part *q, const part *whole, bool known) {
    const aj_tensor *t = q->tensor, *w = whole->tensor;
    aj_fused_part found = {.n = 0};
    for (int d = whole->lead; d < w->ndim; d++) {
        int k = d - (w->ndim - t->ndim);
        found.size[found.n] = w->shape[d];
        found.stride[found.n++] = k >= 0 && k >= q->lead && t->shape[k] != 1 ? t->stride[k] : 0;
    }
    if (known && (p->n != found.n || memcmp(p->size, found.size, sizeof p->size) || memcmp(p->stride, found.stride, sizeof p->stride))) return false;
    p->n = found.n;
    memcpy(p->size, found.size, sizeof p->size);
    memcpy(p->stride, found.stride, sizeof p->stride);
    return true;
}

/* The places of a line's inputs among its operands; -1: none. */
static void inputs_of(const entry *e, int in[4]) {
    for (int k = 0; k < 4; k++) in[k] = -1;
    if (e->kind == GRADIENT) {
        int at = 1;
        in[0] = at++;
        if (e->grad.y) in[1] = at++;
        for (int k = 0; k < 2; k++) if (e->grad.in[k]) in[2 + k] = at++;
    } else if (e->call.op == OP_copy_) in[0] = 2;
    else if (e->call.op != OP_fill_) for (int k = 0; k < e->call.n_in && k < 4; k++) in[k] = 1 + k;
}

static bool describe(aj_jit *r, group *g, aj_fused *f, bool *written) {
    f->device = r->device;
    f->rows = g->rows;
    if (f->width < 1) f->width = 1;
    for (int i = 0; i < g->n_part; i++) f->part[i] = (aj_fused_part){.tensor = g->part[i].tensor, .row = g->part[i].row, .sliced = g->part[i].sliced};
    for (int n = 0; n < g->n_line; n++) {
        const line *l = &g->line[n];
        const entry *e = &r->entry[l->entry];
        int in[4], out = first_of(g, l->part[0]);
        inputs_of(e, in);
        aj_fused_line *to = &f->line[n];
        *to = (aj_fused_line){.op = e->call.op, .column = column_of(e), .out = out, .attrs = &e->attrs};
        for (int k = 0; k < 4; k++) {
            to->in[k] = in[k] < 0 ? -1 : first_of(g, l->part[in[k]]);
            if (in[k] < 0) continue;
            aj_fused_part *p = &f->part[to->in[k]];
            if (p->row != 1 && p->row != f->width && !lie(p, &g->part[to->in[k]], &g->part[l->part[0]], p->read)) return false;
            if (!written[to->in[k]]) p->read = true;
        }
        written[out] = true;
        f->part[out].stored = !r->memory[aj_memory_index(r, f->part[out].tensor)].local;
        /* One thread writes what is made once a row. */
        if (f->width > 1 && (g->part[out].row == 1 || (to->column < 0 && (to->op == OP_softmax || to->op == OP_log_softmax)))) f->by_rows = true;
    }
    f->n_part = g->n_part;
    f->n_line = g->n_line;
    return !f->by_rows || f->width <= WIDEST;
}

int aj_fuse(aj_jit *r, group *g) {
    aj_fused *f = &g->fused;
    bool *written = calloc((size_t)g->n_part + 1, sizeof *written);
    f->part = calloc((size_t)g->n_part + 1, sizeof *f->part);
    f->line = calloc((size_t)g->n_line + 1, sizeof *f->line);
    int made = -1;
    if (!written || !f->part || !f->line) aj_error("out of memory: no room for a recording");
    else made = describe(r, g, f, written) ? aj_plugged->device->fuse(f) : 0;
    free(written);
    return made;
}

void aj_fuse_free(group *g) {
    if (g->fused.kernel) aj_plugged->device->fused_free(&g->fused);
    free(g->fused.part);
    free(g->fused.line);
    g->fused = (aj_fused){.device = 0};
}
