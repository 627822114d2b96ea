/* conv.c - how a convolution is done. At the first call for a shape each way is timed on the data at hand, over the whole
 * batch and over slices of it; the quickest is remembered by all threads.
 *
 * A slice is so many images that they stay in the second cache on their way from plain layout into oneDNN's, through the
 * convolution and back, each by one thread. On a Zen 4 core, 3 x 3 by Winograd, 32 to 32 channels of 28 x 28, batch 128:
 * forward 12.9 ms whole, 7.8 in slices; the gradient of the weights 14.0 and 7.8.
 */
#include "conv.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OWN = AJ_CONV_WAYS, WAYS, NO_WAY = WAYS, CUTS = 3, MOST = WAYS * CUTS, SLICE_BYTES = 1600000, STRANDS = 8 };
static const char *const way_name[WAYS] = {"blocked", "winograd", "nhwc", "plain", "own"};
typedef struct { int way; int64_t cut; } choice;         /* cut: the most images of a slice; 0: all at once */
typedef struct { const aj_conv *v; char *x, *w, *y; const void *bias; int threads; aj_conv_own *own; } work;

static int64_t volume(const int64_t *size) { return size[0] * size[1] * size[2]; }
static int64_t width(const aj_conv *v) { return (int64_t)aj_dtype_size((aj_dtype)v->dtype); }
static int64_t weights(const aj_conv *v) { return v->O * (v->C / v->G) * volume(v->K); }

/* -- Slices ------------------------------------------------------------------------------------------------------------ */

typedef struct { const work *of; int way, failed; int64_t slices, strands; float *part; } slicing;

/* Strands lo to hi: slices one after another. The gradient of the weights is summed within a strand, and then over the
 * strands, whose number does not hang on that of the threads: nor do its bits. */
static void strand_range(void *arg, int64_t lo, int64_t hi) {
    slicing *s = arg;
    const work *k = s->of;
    aj_conv v = *k->v;
    int64_t x = v.C * volume(v.I) * width(&v), y = v.O * volume(v.Y) * width(&v), n = weights(&v);
    bool sums = v.what == AJ_CONV_WEIGHT;
    float *more = sums && s->slices > s->strands ? aj_scratch(n * 4) : NULL;
    int r = sums && s->slices > s->strands && !more ? AJ_ONEDNN_FAILED : AJ_ONEDNN_DONE;
    for (int64_t strand = lo; strand < hi; strand++) {
        float *total = sums && strand ? s->part + (strand - 1) * n : (float *)(void *)k->w;
        int64_t first = s->slices * strand / s->strands, end = s->slices * (strand + 1) / s->strands;
        for (int64_t i = first; i < end && r == AJ_ONEDNN_DONE; i++) {
            int64_t at = k->v->N * i / s->slices;
            v.N = k->v->N * (i + 1) / s->slices - at;
            float *w = i > first && sums ? more : total;
            r = aj_onednn_conv(&v, s->way, 1, k->x + at * x, w, k->bias, k->y + at * y);
            if (w == more && sums) for (int64_t j = 0; j < n; j++) total[j] += w[j];
        }
    }
    aj_scratch_free(more);
    if (r != AJ_ONEDNN_DONE) __atomic_store_n(&s->failed, r, __ATOMIC_RELAXED);
}

static int run_slices(const work *k, int way, int64_t cut) {
    const aj_conv *v = k->v;
    slicing s = {.of = k, .way = way, .failed = AJ_ONEDNN_DONE, .slices = (v->N + cut - 1) / cut};
    bool sums = v->what == AJ_CONV_WEIGHT;
    s.strands = sums && s.slices > STRANDS ? STRANDS : s.slices;
    if (sums && s.strands > 1 && !(s.part = aj_scratch((s.strands - 1) * weights(v) * 4))) return AJ_ONEDNN_FAILED;
    aj_parallel(s.strands, k->threads > 1 ? 1 : s.strands, strand_range, &s);
    float *w = (float *)(void *)k->w;
    for (int64_t i = 0; i < s.strands - 1 && s.part; i++)
        for (int64_t j = 0; j < weights(v); j++) w[j] += s.part[i * weights(v) + j];
    aj_scratch_free(s.part);
    if (s.failed == AJ_ONEDNN_FAILED) aj_error("convolution: out of memory, or oneDNN failed");
    return s.failed;
}

static int run(const work *k, choice c) {
    if (c.way == NO_WAY) return AJ_ONEDNN_NOT;
    if (c.way == OWN) return !k->own ? AJ_ONEDNN_NOT : k->own(k->v, k->x, k->w, k->bias, k->y) ? AJ_ONEDNN_DONE : AJ_ONEDNN_FAILED;
    return c.cut ? run_slices(k, c.way, c.cut) : aj_onednn_conv(k->v, c.way, k->threads, k->x, k->w, k->bias, k->y);
}

/* -- Choosing ------------------------------------------------------------------------------------------------------------ */

/* AIJIT_CONV, for measurements and where runs must agree to the bit: names of ways, or "direct" for all but Winograd;
 * "whole" for no slices. */
static bool says(const char *only, const char *word) {
    for (size_t n = strlen(word); only && (only = strstr(only, word)) != NULL; only += n) if (only[n] == 0 || only[n] == ',') return true;
    return false;
}
static bool allowed(int way) {
    const char *only = getenv("AIJIT_CONV");
    bool any = says(only, "direct");
    for (int i = 0; i < WAYS; i++) any |= says(only, way_name[i]);
    return !any || says(only, way_name[way]) || (says(only, "direct") && way != AJ_CONV_WINOGRAD);
}

/* The cuts to try, after 0: as many images as stay in the cache, and a share for each thread. */
static int cuts_of(const work *k, int64_t cut[CUTS]) {
    const aj_conv *v = k->v;
    int64_t fit = SLICE_BYTES / ((v->C * volume(v->I) + v->O * volume(v->Y)) * width(v) + 1), share = (v->N + k->threads - 1) / k->threads;
    int n = 0;
    cut[n++] = 0;
    if (says(getenv("AIJIT_CONV"), "whole") || (v->what == AJ_CONV_WEIGHT && v->dtype != AJ_F32)) return n;      /* sums of bf16 would be rounded again */
    if (fit < 1) fit = 1;
    if (fit < v->N) cut[n++] = fit;
    if (share < v->N && share != fit) cut[n++] = share < fit ? share : (share + 1) / 2 > fit ? fit * 2 : share;
    return n;
}

/* Of one thread the time that it ran, for others may be at its core. */
static double seconds(const work *k) {
    struct timespec t;
    clock_gettime(k->threads > 1 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The first way there is, in an order that suits most shapes. Its result is there. */
static int choose_fixed(const work *k, choice *best) {
    static const int order[WAYS] = {AJ_CONV_WINOGRAD, AJ_CONV_BLOCKED, AJ_CONV_NHWC, AJ_CONV_PLAIN, OWN};
    int64_t cut[CUTS];
    int cuts = cuts_of(k, cut);
    for (int i = 0; i < WAYS; i++) {
        *best = (choice){order[i], order[i] == OWN || cuts < 2 ? 0 : cut[1]};
        int r = allowed(order[i]) ? run(k, *best) : AJ_ONEDNN_NOT;
        if (r != AJ_ONEDNN_NOT) return r;
    }
    best->way = NO_WAY;
    return AJ_ONEDNN_NOT;
}

/* Each way over the whole batch, or, where slices go to several threads, in slices of the first size, by one thread, whose time
 * nobody disturbs; those that come near the quickest in the other sizes too; then the good ones in turn. */
static int time_all(const work *k, choice *best, int first, int cuts, const int64_t *cut) {
    enum { ROUNDS = 6 };
    choice c[MOST];
    double took[MOST], least = 1e30, spent = 0, at_first[WAYS];
    int n = 0;
    for (int i = first; i < cuts; i++)
        for (int way = 0; way < WAYS; way++) {
            at_first[way] = 1e30;
            if (allowed(way) && (i == first || way != OWN)) { took[n] = 1e30; c[n++] = (choice){way, way == OWN ? 0 : cut[i]}; }
        }
    for (int round = 0; round < ROUNDS && (round < 2 || spent < 0.3); round++)
        for (int i = 0; i < n; i++) {
            if (took[i] < 0 || (round > 0 && took[i] > (round > 1 ? 1.4 : 2.5) * least)) continue;    /* not there; out of the race */
            if (round == 0 && c[i].way != OWN && c[i].cut != cut[first] && at_first[c[i].way] > 2 * least) { took[i] = -1; continue; }
            int r = AJ_ONEDNN_DONE;
            double t = 0;
            for (int warm = round > 0; warm < 2 && r == AJ_ONEDNN_DONE; warm++) {
                t = seconds(k);
                r = run(k, c[i]);
                t = seconds(k) - t;
                spent += t;
            }
            if (r == AJ_ONEDNN_FAILED) return r;
            if (r == AJ_ONEDNN_NOT) { took[i] = -1; continue; }
            if (t < took[i]) took[i] = t;
            if (t < least) least = t;
            if (c[i].cut == cut[first] && t < at_first[c[i].way]) at_first[c[i].way] = t;
        }
    best->way = NO_WAY;
    least = 1e30;
    for (int i = 0; i < n; i++) if (took[i] >= 0 && took[i] < least) { least = took[i]; *best = c[i]; }
    return AJ_ONEDNN_DONE;
}
static int choose_timed(const work *k, choice *best) {
    int64_t cut[CUTS];
    int cuts = cuts_of(k, cut), first = k->threads > 1 && cuts > 1;       /* oneDNN's own threads wait for the slowest */
    work alone = *k;
    int32_t limit = 0;
    if (first) {
        alone.threads = 1;
        limit = aj_thread_limit(1);
    }
    int r = time_all(&alone, best, first, cuts, cut);
    if (first) aj_thread_limit(limit);
    aj_memory_trim(AJ_CPU);                              /* the losers' scratch would stay in the cache unused */
    return r == AJ_ONEDNN_DONE ? run(k, *best) : r;
}

/* -- What was chosen --------------------------------------------------------------------------------------------------------- */

enum { SLOTS = 1024, SIDE_BY_SIDE = 4 };
typedef struct { aj_conv v; int64_t threads; choice c; uint64_t used; } slot;
static slot *table;
static uint64_t clock_now;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The slot of a shape, or the one that it may have. */
static slot *find(const aj_conv *v, int64_t threads) {
    const int64_t *number = (const int64_t *)v;
    uint64_t h = 1469598103934665603u ^ (uint64_t)threads;
    for (size_t i = 0; i < sizeof *v / sizeof *number; i++) h = (h << 7 | h >> 57) ^ ((uint64_t)number[i] * 0x9e3779b97f4a7c15u);
    h ^= h >> 32;
    slot *set = &table[h % (SLOTS / SIDE_BY_SIDE) * SIDE_BY_SIDE], *oldest = set;
    for (int i = 0; i < SIDE_BY_SIDE; i++) {
        if (set[i].used && set[i].threads == threads && !memcmp(&set[i].v, v, sizeof *v)) return &set[i];
        if (set[i].used < oldest->used) oldest = &set[i];
    }
    oldest->used = 0;
    return oldest;
}

/* What is known of a shape, or, where `made` is given, is to be known from here on. */
static bool remember(const aj_conv *v, int64_t threads, choice *c, const choice *made) {
    pthread_mutex_lock(&lock);
    if (!table) table = calloc(SLOTS, sizeof *table);
    slot *s = table ? find(v, threads) : NULL;
    if (s && made) *s = (slot){*v, threads, *made, 0};
    bool known = s && (made || s->used);
    if (known) { s->used = ++clock_now; *c = s->c; }
    pthread_mutex_unlock(&lock);
    return known;
}

int aj_conv_quickest(const aj_conv *v, void *x, void *w, const void *bias, void *y, aj_conv_own *own) {
    if (!aj_onednn_has((int)v->dtype)) return AJ_ONEDNN_NOT;
    double flops = 2.0 * (double)(v->N * v->O) * (double)(v->C / v->G) * (double)volume(v->Y) * (double)volume(v->K);
    int threads = flops < 2e7 ? 1 : aj_threads();
    if (aj_in_parallel()) threads = 1;
    work k = {v, x, w, y, bias, threads, own};
    int64_t under = aj_deterministic() ? -threads : threads;
    choice c;
    if (remember(v, under, &c, NULL)) return run(&k, c);
    int r = under < 0 ? choose_fixed(&k, &c) : choose_timed(&k, &c);
    if (r != AJ_ONEDNN_FAILED) remember(v, under, &c, &c);
    return r;
}
