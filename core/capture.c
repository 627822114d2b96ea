/* capture.c - a recording on a device as a graph, that is one launch instead of a call for each kernel.
 *
 * A graph's kernels have the addresses and the numbers of the capture for good. So inputs and results have places in the
 * arena, from and to which each launch copies; and what changes from run to run (places in the stream of random numbers,
 * rates, counts of steps) are numbers on the device, which a launch writes first and kernels read. What else a run does, it does
 * here on the host: gradients get their places, writes are counted, optimizers count their steps and work out their numbers.
 */
#include "recording.h"
#include <stdlib.h>
#include <string.h>

int aj_numbers_take(int n) {
    aj_numbers *a = aj_ctx.numbers;
    int at = a->n;
    if (at + n > a->cap) {
        int cap = a->cap ? 2 * a->cap + n : 64 + n;
        double *p = realloc(a->v, (size_t)cap * sizeof *p);
        if (!p) { aj_error("out of memory: no room for the numbers of a graph"); return -1; }
        a->v = p;
        a->cap = cap;
    }
    memset(a->v + at, 0, (size_t)n * sizeof *a->v);
    a->n += n;
    return at;
}

/* f(r) with r's numbers counted from the first, which are those of the reservations. */
static bool with_numbers(aj_jit *r, bool only, bool (*f)(aj_jit *r)) {
    r->numbers.n = 0;
    r->numbers.only = only;
    aj_ctx.numbers = &r->numbers;
    bool ok = aj_numbers_take(2 * r->n_take) >= 0 && f(r);
    aj_ctx.numbers = NULL;
    return ok;
}

static bool run_steps(aj_jit *r) {
    for (int i = 0; i < r->n_entry; i++) {
        entry *e = &r->entry[i];
        if (e->kind == LEAF) aj_set_leaf(e);
        else if (e->kind == CALL && e->in_place) e->call.out[0]->storage->version++;
        else if (e->kind == STEP && !e->step.run(&e->step)) return false;
    }
    return true;
}

static bool put_takes(aj_jit *r) {
    for (int i = 0; i < r->n_take; i++) {
        uint64_t at[2] = {aj_ctx.seed, r->take[i].fixed ? r->take[i].position : aj_random_take(r->take[i].n)};
        memcpy(r->numbers.v + 2 * i, at, sizeof at);
    }
    return run_steps(r);
}

/* -- Capturing ------------------------------------------------------------------------------------------------------- */

/* The steps that optimizers have counted, which a capture, being no run, leaves as they are. */
static bool keep_counts(aj_jit *r, aj_optim_count **kept) {
    int64_t n = 0;
    for (int i = 0; i < r->n_entry; i++) if (r->entry[i].kind == STEP && r->entry[i].step.count) n += r->entry[i].step.list[0]->n;
    if (!(*kept = malloc((size_t)(n + 1) * sizeof **kept))) return aj_error("out of memory: no room for a recording");
    aj_optim_count *to = *kept;
    for (int i = 0; i < r->n_entry; i++) {
        const aj_jit_step *s = &r->entry[i].step;
        if (r->entry[i].kind != STEP || !s->count) continue;
        memcpy(to, s->count, (size_t)s->list[0]->n * sizeof *to);
        to += s->list[0]->n;
    }
    return true;
}
static void put_back(aj_jit *r, const aj_optim_count *kept) {
    for (int i = 0; i < r->n_entry; i++) {
        aj_jit_step *s = &r->entry[i].step;
        if (r->entry[i].kind != STEP || !s->count) continue;
        memcpy(s->count, kept, (size_t)s->list[0]->n * sizeof *kept);
        kept += s->list[0]->n;
    }
}

static bool captured(aj_jit *r, aj_optim_count *kept) {
    const aj_device_calls *d = aj_plugged->device;
    if (!with_numbers(r, true, run_steps)) return false;             /* how many there are */
    put_back(r, kept);
    if (!(r->graph = d->capture(r->device, r->numbers.n, &r->numbers.place))) return false;
    return d->captured(r->graph, with_numbers(r, false, aj_run_entries));
}

bool aj_capture(aj_jit *r) {
    r->copied = calloc((size_t)(r->n_input + r->n_output + r->n_input) + 1, sizeof *r->copied);
    r->fresh = calloc((size_t)r->n_output + 1, sizeof *r->fresh);
    aj_optim_count *kept = NULL;
    if (!r->copied || !r->fresh) return aj_error("out of memory: no room for a recording");
    if (!keep_counts(r, &kept)) return false;
    bool ok = captured(r, kept);
    put_back(r, kept);
    free(kept);
    for (int i = 0; i < r->n_entry && !ok; i++) if (r->entry[i].kind == LEAF) aj_set_leaf(&r->entry[i]);
    return ok;
}

void aj_capture_free(aj_jit *r) {
    if (r->graph) aj_plugged->device->graph_free(r->graph);
    free(r->copied);
    free(r->fresh);
    free(r->numbers.v);
}

/* -- Launching --------------------------------------------------------------------------------------------------------- */

static int64_t bytes_of(const aj_tensor *t) { return t->numel * (int64_t)aj_dtype_size((aj_dtype)t->dtype); }

/* The input that a tensor of the recording is a part of; -1: of none. */
static int input_of(const aj_jit *r, const aj_tensor *t) {
    for (int i = 0; i < r->n_input; i++)
        if (t->storage == r->input[i]->storage && t->data >= r->input[i]->data && t->data < r->input[i]->data + bytes_of(r->input[i])) return i;
    return -1;
}

/* A result over what was copied out, over the caller's own input, or over what the recording itself uses where it lies. */
static aj_tensor *result_of(aj_jit *r, aj_tensors inputs, int i) {
    aj_tensor *own = r->output[i], *y = aj_alias(own);
    int m = r->output_memory[i], k;
    aj_storage *s = NULL;
    char *data = NULL;
    if (!y || m < 0 || !r->memory[m].bound) return y;
    if (r->memory[m].bound < 0) {
        s = r->fresh[-1 - r->memory[m].bound];
        data = (char *)s->data + (own->data - ((char *)r->arena->data + r->memory[m].place));
    } else if ((k = input_of(r, own)) >= 0) {
        const aj_tensor *x = aj_live(inputs->v[k]);
        s = x->storage;
        data = x->data + (own->data - r->input[k]->data);
    } else return y;
    __atomic_fetch_add(&s->refs, 1, __ATOMIC_RELAXED);
    aj_storage_drop(y->storage);
    y->storage = s;
    y->data = data;
    return y;
}

static bool hand_out(aj_jit *r, aj_tensors inputs) {
    for (int i = 0; i < r->n_output; i++) {
        aj_tensor *y = result_of(r, inputs, i);
        if (!y) return false;
        r->result[i] = aj_give(y);
    }
    return true;
}

static bool launch(aj_jit *r, aj_tensors inputs) {
    int before = 0, after = 0;
    aj_copied *in = r->copied, *out = r->copied + r->n_input;
    for (int i = 0; i < r->n_input; i++) {
        aj_tensor *x = aj_live(inputs->v[i]), *own = r->input[i];
        in[before++] = (aj_copied){x->data, own->data, bytes_of(own)};
        if (!r->memory[r->input_memory[i]].writes) continue;
        out[after++] = (aj_copied){own->data, x->data, bytes_of(own)};
        x->storage->version++;
    }
    for (int i = 0; i < r->n_output; i++) {
        const memory *m = r->output_memory[i] < 0 ? NULL : &r->memory[r->output_memory[i]];
        if (!m || m->bound != -1 - i) continue;
        if (!(r->fresh[i] = aj_storage_new(m->bytes, r->device))) return false;
        out[after++] = (aj_copied){(char *)r->arena->data + m->place, r->fresh[i]->data, m->bytes};
    }
    return with_numbers(r, true, put_takes) && aj_plugged->device->launch(r->graph, r->numbers.v, in, before, out, after) && hand_out(r, inputs);
}

int32_t aj_launch(aj_jit *r, aj_tensors inputs) {
    if (aj_interrupted()) return -1;
    bool ok = launch(r, inputs);
    for (int i = 0; i < r->n_output; i++) if (r->fresh[i]) { aj_storage_drop(r->fresh[i]); r->fresh[i] = NULL; }
    return ok ? 1 : -1;
}
