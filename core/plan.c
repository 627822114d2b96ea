/* plan.c - what of a recording runs together, and where its tensors lie. */
#include "recording.h"
#include <stdlib.h>
#include <string.h>

int aj_memory_index(const aj_jit *r, const aj_tensor *t) {
    for (int i = 0; i < r->n_memory; i++) if (r->memory[i].storage == t->storage) return i;
    return -1;
}

int aj_operands(const entry *e, aj_tensor *list[AJ_MAX_OPERANDS]) {
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

/* -- Groups ------------------------------------------------------------------------------------------------------------ */

enum { STEP_ELEMENTS = 2048, WIDEST_ROW = 16384, FEWEST = 8192 };

/* Leading dimensions of a shape that are `rows` elements in all; -1: none are. */
static int lead_of(const aj_tensor *t, int64_t rows) {
    int64_t n = 1;
    for (int d = 0; d <= t->ndim; d++) {
        if (n == rows) return d;
        if (d < t->ndim) n *= t->shape[d];
    }
    return -1;
}

/* What is done to each element, broadcast, whatever its dtypes. */
static bool is_elementwise(const entry *e) {
    if (e->kind == GRADIENT) return true;
    if (e->kind != CALL || e->take) return false;
    int op = e->call.op;
    bool divides = op == OP_floor_divide || op == OP_remainder || op == OP_fmod || op == OP_trunc_divide;
    if (divides && !aj_is_float(e->call.out[0]->dtype)) return false;    /* may fail, which only the calling thread can tell */
    return aj_ops[op].kind <= AJ_TEST || op == OP_cast || op == OP_clone || op == OP_copy_ || op == OP_fill_ || op == OP_where;
}
static bool is_reduction(const entry *e) {
    return e->kind == CALL && (aj_ops[e->call.op].kind == AJ_REDUCE || e->call.op == OP_mean) && e->attrs.list.n > 0;
}
static bool is_along_a_row(const entry *e) {
    return e->kind == CALL && (e->call.op == OP_softmax || e->call.op == OP_log_softmax);
}

static int actual(int64_t dim, int ndim) { return (int)(dim < 0 ? dim + ndim : dim); }

/* Whether an entry treats `rows` rows each by itself; lead[k] leading dimensions of operand k are its rows, or, with
 * sliced[k] false, are left out, as the operand is the same for all. */
static bool by_rows(const entry *e, int64_t rows, bool *sliced, int *lead) {
    aj_tensor *list[AJ_MAX_OPERANDS];
    bool elementwise = is_elementwise(e), reduction = is_reduction(e);
    if (!elementwise && !reduction && !is_along_a_row(e)) return false;
    int n = aj_operands(e, list);
    for (int k = 0; k < n; k++) if (!list[k] || !list[k]->contiguous || list[k]->device == AJ_META || list[k]->numel == 0) return false;
    const aj_tensor *whole = reduction ? list[1] : list[0];
    int p = lead_of(whole, rows);
    if (p <= 0) return false;
    if (!elementwise) {
        if (reduction) for (int i = 0; i < e->attrs.list.n; i++) if (actual(e->attrs.list.v[i], whole->ndim) < p) return false;
        if (!reduction && actual(e->attrs.dim, whole->ndim) < p) return false;
        sliced[0] = sliced[1] = true;
        lead[0] = lead[1] = p;
        return n == 2;
    }
    for (int k = 0; k < n; k++) {
        const aj_tensor *t = list[k];
        int off = whole->ndim - t->ndim;
        if (off < 0) return false;
        bool all = off == 0, none = true;
        for (int d = 0; d < p; d++) {
            if (d >= off && t->shape[d - off] != 1) none = false;
            if (all && t->shape[d] != whole->shape[d]) all = false;
        }
        if (!all && !none) return false;
        sliced[k] = all;
        lead[k] = all ? p : p > off ? p - off : 0;
    }
    return sliced[0];
}

/* What a tensor is to a group, without a change of what it is already. */
static int part_of(aj_jit *r, group *g, aj_tensor *t, bool sliced, int lead) {
    for (int i = 0; i < g->n_part; i++) if (g->part[i].tensor == t && g->part[i].sliced == sliced && g->part[i].lead == lead) return i;
    if (r->failed || !aj_recording_grow((void **)&g->part, g->n_part, &g->part_cap, sizeof *g->part)) { r->failed = true; return -1; }
    part *p = &g->part[g->n_part];
    *p = (part){.tensor = t, .view = *t, .lead = lead, .sliced = sliced, .row = 1};
    aj_tensor *v = &p->view;
    static aj_storage nowhere = {.refs = 1, .device = AJ_CPU};           /* its tensor's is another when memory has been planned */
    v->storage = &nowhere;
    v->ndim = (uint8_t)(t->ndim - lead + sliced);
    for (int d = lead; d < t->ndim; d++) {
        v->shape[d - lead + sliced] = t->shape[d];
        v->stride[d - lead + sliced] = t->stride[d];
        p->row *= t->shape[d];
    }
    if (sliced) v->stride[0] = p->row;
    v->contiguous = true;
    return g->n_part++;
}

/* Whether the entry may join: a piece must find what it reads as the whole would, though later rows come later. What is
 * written in the group is read by the same rows alone, under no other place in its storage. */
static bool may_join(const group *g, const entry *e, const bool *sliced) {
    aj_tensor *list[AJ_MAX_OPERANDS];
    int n = aj_operands(e, list);
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < g->n_part; i++) {
            const part *p = &g->part[i];
            if (p->tensor->storage != list[k]->storage || (!p->written && k)) continue;
            if (!p->sliced || !sliced[k] || p->tensor->data != list[k]->data || p->tensor->numel != list[k]->numel) return false;
        }
        for (int i = 1; k == 0 && i < n; i++)            /* the same of the entry's own operands */
            if (list[i]->storage == list[0]->storage && (!sliced[i] || list[i]->data != list[0]->data || list[i]->numel != list[0]->numel)) return false;
    }
    return true;
}

static void clear(group *g) {
    aj_fuse_free(g);
    for (int i = 0; i < g->n_line; i++) aj_loop_free(g->line[i].loop);
    free(g->part);
    free(g->line);
}

/* The group of rows that begins at an entry, as long as it goes; its n_line is 0 when there is none. */
static group gather(aj_jit *r, int first, int64_t rows) {
    group g = {.first = first, .last = first - 1, .rows = rows};
    for (int i = first; i < r->n_entry && !r->failed; i++) {
        const entry *e = &r->entry[i];
        bool sliced[AJ_MAX_OPERANDS];
        int lead[AJ_MAX_OPERANDS];
        if (e->kind == LEAF && g.n_line) continue;       /* where a gradient is found may be said after the group */
        if (!by_rows(e, rows, sliced, lead) || !may_join(&g, e, sliced) || (r->device >= 0 && !aj_fuse_takes(&g, e, is_elementwise(e)))) break;
        aj_tensor *list[AJ_MAX_OPERANDS];
        line l = {.entry = i, .n_part = aj_operands(e, list), .attrs = e->attrs};
        bool narrow = true;
        for (int k = 0; k < l.n_part && narrow; k++) {
            l.part[k] = part_of(r, &g, list[k], sliced[k], lead[k]);
            narrow = l.part[k] >= 0 && (r->device >= 0 || g.part[l.part[k]].row <= WIDEST_ROW);
        }
        if (!narrow) break;
        if (!is_elementwise(e)) {
            for (int d = 0; d < l.attrs.list.n; d++) if (l.attrs.list.v[d] >= 0) l.attrs.list.v[d] -= lead[1] - 1;
            if (l.attrs.dim >= 0) l.attrs.dim -= lead[1] - 1;
        }
        g.part[l.part[0]].written = true;
        for (int k = 0; k < l.n_part; k++) if (g.part[l.part[k]].sliced && g.part[l.part[k]].row > g.work) g.work = g.part[l.part[k]].row;
        if (!aj_recording_grow((void **)&g.line, g.n_line, &g.line_cap, sizeof *g.line)) { r->failed = true; break; }
        g.line[g.n_line++] = l;
        g.last = i;
    }
    return g;
}

/* A memory whose every tensor is a part, at one place, and that no one needs outside the group. */
static bool dies_within(const group *g, const memory *m) {
    if (!m->made || m->bound || m->pinned || m->first < g->first || m->last > g->last) return false;
    for (int k = 0; k < m->n; k++) {
        int i = 0;
        while (i < g->n_part && g->part[i].tensor != m->tensor[k]) i++;
        if (i == g->n_part || m->offset[k] != m->offset[0]) return false;
    }
    return true;
}

/* -- Machine code -------------------------------------------------------------------------------------------------------- */

/* One number for all parts at one place that are read alike. */
static int array_of(const group *g, int p) {
    const part *q = &g->part[p];
    for (int i = 0; i < p; i++) {
        const part *o = &g->part[i];
        if (o->tensor->data == q->tensor->data && o->tensor->storage == q->tensor->storage && o->row == q->row && o->sliced == q->sliced) return i;
    }
    return p;
}

static bool formula_of(const aj_jit *r, const group *g, const line *l, aj_formula *f) {
    const entry *e = &r->entry[l->entry];
    if (e->kind == CALL && (aj_ops[e->call.op].kind > AJ_BINARY_S || (aj_ops[e->call.op].kind == AJ_UNARY && e->attrs.number))) return false;
    for (int k = 0; k < l->n_part; k++) {
        const part *p = &g->part[l->part[k]];
        if ((p->row != 1 && p->row != g->part[l->part[0]].row) || p->tensor->dtype != AJ_F32) return false;
    }
    *f = (aj_formula){.op = e->call.op, .column = -1, .out = array_of(g, l->part[0]), .in = {-1, -1}, .y = -1, .gy = -1, .apart = l->apart, .attrs = &e->attrs};
    if (e->kind == GRADIENT) {
        int k = 1;
        f->column = e->column;
        f->gy = array_of(g, l->part[k++]);
        if (e->grad.y) f->y = array_of(g, l->part[k++]);
        for (int i = 0; i < 2; i++) if (e->grad.in[i]) f->in[i] = array_of(g, l->part[k++]);
        return true;
    }
    if (e->call.n_in == 1) f->in[e->attrs.number == 1 && aj_ops[e->call.op].kind != AJ_UNARY] = array_of(g, l->part[1]);
    else for (int i = 0; i < 2; i++) f->in[i] = array_of(g, l->part[i + 1]);
    return true;
}

/* Lines first to last - 1 as one loop; false: they stay as they are. */
static bool assemble(aj_jit *r, group *g, int first, int last) {
    int n = last - first;
    aj_formula *f = malloc((size_t)n * sizeof *f);
    bool *wanted = calloc((size_t)g->n_part, sizeof *wanted), *single = calloc((size_t)g->n_part, sizeof *single), each_row = false;
    int64_t row = g->part[g->line[first].part[0]].row;
    aj_loop *loop = NULL;
    if (f && wanted && single) {
        for (int i = 0; i < n; i++) {
            formula_of(r, g, &g->line[first + i], &f[i]);
            const memory *m = &r->memory[aj_memory_index(r, g->part[g->line[first + i].part[0]].tensor)];
            wanted[f[i].out] = !m->local || m->last > g->line[last - 1].entry;
        }
        for (int i = first; i < last; i++)
            for (int k = 0; k < g->line[i].n_part; k++) {
                const part *p = &g->part[g->line[i].part[k]];
                if (p->sliced && p->row == row) continue;
                single[array_of(g, g->line[i].part[k])] = p->row == 1;
                each_row |= p->sliced || p->row > 1;
            }
        loop = aj_assemble(f, n, wanted, single);
    }
    free(f);
    free(wanted);
    free(single);
    if (!loop) return false;
    line *l = &g->line[first];
    l->loop = loop;
    l->n_code = n;
    l->each_row = each_row;
    for (int s = 0; s < loop->n_stream; s++) l->stream[s] = loop->stream[s];
    memmove(l + 1, l + n, (size_t)(g->n_line - last) * sizeof *l);
    g->n_line -= n - 1;
    return true;
}

static void assemble_lines(aj_jit *r, group *g) {
    for (int i = 0; i < g->n_line; i++) {
        int64_t row = g->part[g->line[i].part[0]].row;
        int j = i;
        for (; j < g->n_line; j++) {
            aj_formula f;
            line *l = &g->line[j];
            if (g->part[l->part[0]].row != row || !formula_of(r, g, l, &f) || !aj_can_assemble(&f)) break;
            l->apart = f.apart;
        }
        for (int n = j - i; n > 1 && !assemble(r, g, i, i + n); n = n > 2 ? (n + 1) / 2 : 0) { }
    }
}

/* -- Chunks -------------------------------------------------------------------------------------------------------------- */

/* Whether a line reads or writes a part; in memory that dies there its chunk is free for the lines that follow. */
static bool uses(const group *g, const line *l, const memory *m) {
    for (int k = 0; k < (l->loop ? l->loop->n_stream : l->n_part); k++)
        if (g->part[l->loop ? l->stream[k] : l->part[k]].tensor->storage == m->storage) return true;
    return false;
}

static bool give_chunks(aj_jit *r, group *g) {
    int *until = calloc((size_t)g->n_line + 1, sizeof *until);       /* the last line that needs each chunk */
    if (!until) return aj_error("out of memory: no room for a recording");
    for (int i = 0; i < r->n_memory; i++) {
        memory *m = &r->memory[i];
        if (!m->local || m->first < g->first || m->last > g->last) continue;
        int first = -1, last = -1;
        for (int k = 0; k < g->n_line; k++) if (uses(g, &g->line[k], m)) { if (first < 0) first = k; last = k; }
        if (first < 0) continue;                         /* it never leaves a register */
        int c = 0;
        while (c < g->n_chunk && until[c] >= first) c++;
        if (c == g->n_chunk) g->n_chunk++;
        until[c] = last;
        for (int k = 0; k < g->n_part; k++) if (g->part[k].tensor->storage == m->storage) g->part[k].chunk = c + 1;
    }
    free(until);
    return true;
}

static bool is_worth_it(const group *g) {
    int64_t elements = g->rows * g->work;
    bool code = false;
    for (int i = 0; i < g->n_line; i++) code |= g->line[i].loop != NULL;
    return code || (elements >= FEWEST && g->n_line > 1);
}

/* AIJIT_FUSE=none replays op by op, AIJIT_FUSE=pieces without machine code, to compare. A chain of 7 ops over 2^20 floats on a
 * Zen 4 core, in microseconds: 2000 op by op, 1750 in pieces, 390 as machine code. */
static bool make_groups(aj_jit *r) {
    const char *fuse = getenv("AIJIT_FUSE");
    if (fuse && !strcmp(fuse, "none")) return true;
    for (int i = 0; i < r->n_entry; ) {
        const entry *e = &r->entry[i];
        group best = {0};
        const aj_tensor *whole = !is_elementwise(e) && !is_reduction(e) && !is_along_a_row(e) ? NULL : is_reduction(e) ? e->call.in[0] : e->kind == GRADIENT ? e->grad.gx : e->call.out[0];
        for (int d = whole ? whole->ndim : 0; d > 0; d--) {          /* short rows first: of two as long that is the better */
            int64_t rows = 1;
            for (int k = 0; k < d; k++) rows *= whole->shape[k];
            group g = gather(r, i, rows);
            if (g.n_line > best.n_line) { clear(&best); best = g; }
            else clear(&g);
        }
        if (r->failed) { clear(&best); return aj_error("out of memory: no room for a recording"); }
        if (best.n_line < 1) { clear(&best); i++; continue; }
        for (int k = 0; k < r->n_memory; k++) if (dies_within(&best, &r->memory[k])) r->memory[k].local = true;
        int fused = r->device >= 0 && best.n_line > 1 ? aj_fuse(r, &best) : 0;
        if (fused < 0) { clear(&best); return false; }
        if (r->device < 0) assemble_lines(r, &best);
        if (r->device < 0 ? !is_worth_it(&best) : !fused) {
            for (int k = 0; k < r->n_memory; k++) if (dies_within(&best, &r->memory[k])) r->memory[k].local = false;
            clear(&best);
            i++;
            continue;
        }
        best.step = STEP_ELEMENTS / best.work;
        if (best.step < 1) best.step = 1;
        if (best.n_line == 1 || best.step > best.rows) best.step = best.rows;
        best.chunk_bytes = (best.step * best.work * 8 + 63) / 64 * 64;
        if (r->device < 0 && !give_chunks(r, &best)) { clear(&best); return false; }
        if (!ROOM(r, group, 0)) { clear(&best); return false; }
        r->group[r->n_group++] = best;
        r->entry[i].group = r->n_group;
        /* Later rows read what is read, and write what is written, by then: all that the group touches lives through it. */
        for (int k = 0; k < r->n_memory; k++) {
            memory *m = &r->memory[k];
            if (m->local || m->last < best.first || m->first > best.last) continue;
            if (m->first > best.first) m->first = best.first;
            if (m->last < best.last) m->last = best.last;
        }
        i = best.last + 1;
    }
    int64_t bytes = 0;
    for (int i = 0; i < r->n_group; i++) if (r->group[i].n_chunk * r->group[i].chunk_bytes > bytes) bytes = r->group[i].n_chunk * r->group[i].chunk_bytes;
    if (bytes) r->chunks = aj_storage_new(bytes, AJ_CPU);
    return !bytes || r->chunks;
}

/* What of its storage is used: made by the recording it is all, of an input that is a view the part it is of. */
static void measure(const aj_jit *r, memory *m) {
    int64_t align = r->device >= 0 ? 256 : 64, end = 0;
    m->low = m->n ? m->offset[0] : 0;
    for (int k = 0; k < m->n; k++) {
        const aj_tensor *t = m->tensor[k];
        int64_t last = m->offset[k] + 8;
        for (int d = 0; d < t->ndim; d++) last += (t->shape[d] > 0 ? t->shape[d] - 1 : 0) * t->stride[d] * (int64_t)aj_dtype_size((aj_dtype)t->dtype);
        if (last > end) end = last;
        if (m->offset[k] < m->low) m->low = m->offset[k];
    }
    if (m->made) m->low = 0;
    m->bytes = (end - m->low + align - 1) / align * align;
}

/* Whether it has a place in the arena; what a graph reads and writes lies where it lay. */
static bool in_arena(const aj_jit *r, const memory *m) { return !m->pinned && (r->fixed ? m->made || m->bound > 0 : m->made && !m->bound); }

/* Places in one arena: what is free when a memory begins is taken where it fits best. Its size. */
static int64_t place_all(aj_jit *r) {
    int64_t top = 0;
    for (int i = 0; i < r->n_memory; i++) {
        memory *m = &r->memory[i];
        measure(r, m);
        if (!in_arena(r, m) || m->local) continue;
        /* The lowest place that no memory live at the same time reaches into. */
        m->place = 0;
        for (bool moved = true; moved; ) {
            moved = false;
            for (int j = 0; j < i; j++) {
                const memory *o = &r->memory[j];
                if (!in_arena(r, o) || o->local || o->last < m->first || o->first > m->last) continue;
                if (m->place < o->place + o->bytes && o->place < m->place + m->bytes) { m->place = o->place + o->bytes; moved = true; }
            }
        }
        if (m->place + m->bytes > top) top = m->place + m->bytes;
    }
    return top;
}

/* Lets every tensor over a memory lie in a storage; the reference to it is the caller's. */
void aj_bind(memory *m, aj_storage *s, char *data) {
    for (int k = 0; k < m->n; k++) {
        aj_tensor *t = m->tensor[k];
        __atomic_fetch_add(&s->refs, 1, __ATOMIC_RELAXED);
        aj_storage_drop(t->storage);
        t->storage = s;
        t->data = data + m->offset[k];
    }
}


/* The recorded run's own memory goes back first, so that a recording never holds both. */
static bool move_to_arena(aj_jit *r) {
    int64_t bytes = place_all(r);
    int32_t device = r->device >= 0 ? r->device : AJ_CPU;
    aj_storage *none = aj_storage_new(0, device);
    if (!none) return false;
    for (int i = 0; i < r->n_memory; i++) {
        memory *m = &r->memory[i];
        if (!in_arena(r, m)) continue;
        aj_bind(m, none, none->data);
        for (int k = 0; k < m->n; k++) m->tensor[k]->planned = true;
        aj_storage_drop(m->storage);
        m->storage = NULL;
    }
    aj_storage_drop(none);
    if (device == AJ_CPU) aj_memory_trim(AJ_CPU);
    if (!(r->arena = aj_storage_new(bytes, device))) return false;
    for (int i = 0; i < r->n_memory; i++)                /* what is local to a group is never used in the arena */
        if (in_arena(r, &r->memory[i])) aj_bind(&r->memory[i], r->arena, (char *)r->arena->data + (r->memory[i].local ? 0 : r->memory[i].place) - r->memory[i].low);
    return true;
}

/* What is done to what once a recording is whole. */
bool aj_plan(aj_jit *r) { return make_groups(r) && move_to_arena(r); }

void aj_plan_free(aj_jit *r) {
    for (int i = 0; i < r->n_group; i++) clear(&r->group[i]);
    if (r->arena) aj_storage_drop(r->arena);
    if (r->chunks) aj_storage_drop(r->chunks);
    free(r->group);
}
