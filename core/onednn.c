/* onednn.c - every call of oneDNN; versions 2 and 3 differ in the first section only.
 *
 * A plan is a primitive with its memory objects and the reorders around it. Plans are kept by shape, for each thread,
 * because making one takes 0.1 ms and running one 0.2 us. Internal layouts and scratch come from our allocator.
 */
#include "onednn.h"
#include <dnnl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#ifndef AJ_NO_OPENMP
#include <omp.h>
#endif

/* -- The two versions ---------------------------------------------------------------------------------------------- */

static dnnl_engine_t engine;

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout;                       /* owned */
typedef const_dnnl_memory_desc_t layout_ref;
static layout_ref ref(const layout *l) { return *l; }
static bool layout_strided(layout *l, int nd, const dnnl_dims_t dims, dnnl_data_type_t t, const dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(l, nd, dims, t, strides) == dnnl_success;
}
static bool layout_any(layout *l, int nd, const dnnl_dims_t dims, dnnl_data_type_t t) {
    return dnnl_memory_desc_create_with_tag(l, nd, dims, t, dnnl_format_tag_any) == dnnl_success;
}
static void layout_free(layout *l) { if (*l) dnnl_memory_desc_destroy(*l); }
static bool describe_matmul(dnnl_primitive_desc_t *pd, layout_ref a, layout_ref b, layout_ref bias, layout_ref c, dnnl_primitive_attr_t attr) {
    return dnnl_matmul_primitive_desc_create(pd, engine, a, b, bias, c, attr) == dnnl_success;
}
static bool describe_conv(dnnl_primitive_desc_t *pd, int what, dnnl_alg_kind_t alg, layout_ref x, layout_ref w, layout_ref bias, layout_ref y,
                          const dnnl_dims_t s, const dnnl_dims_t l, const dnnl_dims_t p, const dnnl_dims_t q, dnnl_primitive_attr_t attr) {
    dnnl_primitive_desc_t hint = NULL;
    if (what == AJ_CONV_FORWARD)
        return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_training, alg, x, w, bias, y, s, l, p, q, attr) == dnnl_success;
    if (dnnl_convolution_forward_primitive_desc_create(&hint, engine, dnnl_forward_training, alg, x, w, NULL, y, s, l, p, q, NULL) != dnnl_success) return false;
    bool ok = (what == AJ_CONV_INPUT
        ? dnnl_convolution_backward_data_primitive_desc_create(pd, engine, alg, x, w, y, s, l, p, q, hint, attr)
        : dnnl_convolution_backward_weights_primitive_desc_create(pd, engine, alg, x, w, NULL, y, s, l, p, q, hint, attr)) == dnnl_success;
    dnnl_primitive_desc_destroy(hint);
    return ok;
}
static dnnl_status_t set_handle(dnnl_memory_t m, void *p, dnnl_stream_t s) { (void)s; return dnnl_memory_set_data_handle(m, p); }
#else
typedef dnnl_memory_desc_t layout;
typedef const dnnl_memory_desc_t *layout_ref;
static layout_ref ref(const layout *l) { return l; }
static bool layout_strided(layout *l, int nd, const dnnl_dims_t dims, dnnl_data_type_t t, const dnnl_dims_t strides) {
    return dnnl_memory_desc_init_by_strides(l, nd, dims, t, strides) == dnnl_success;
}
static bool layout_any(layout *l, int nd, const dnnl_dims_t dims, dnnl_data_type_t t) {
    return dnnl_memory_desc_init_by_tag(l, nd, dims, t, dnnl_format_tag_any) == dnnl_success;
}
static void layout_free(layout *l) { (void)l; }
static bool describe_matmul(dnnl_primitive_desc_t *pd, layout_ref a, layout_ref b, layout_ref bias, layout_ref c, dnnl_primitive_attr_t attr) {
    dnnl_matmul_desc_t d;
    return dnnl_matmul_desc_init(&d, a, b, bias, c) == dnnl_success && dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) == dnnl_success;
}
static bool describe_conv(dnnl_primitive_desc_t *pd, int what, dnnl_alg_kind_t alg, layout_ref x, layout_ref w, layout_ref bias, layout_ref y,
                          const dnnl_dims_t s, const dnnl_dims_t l, const dnnl_dims_t p, const dnnl_dims_t q, dnnl_primitive_attr_t attr) {
    dnnl_convolution_desc_t d;
    dnnl_status_t st = what == AJ_CONV_FORWARD ? dnnl_dilated_convolution_forward_desc_init(&d, dnnl_forward_training, alg, x, w, bias, y, s, l, p, q)
        : what == AJ_CONV_INPUT ? dnnl_dilated_convolution_backward_data_desc_init(&d, alg, x, w, y, s, l, p, q)
        : dnnl_dilated_convolution_backward_weights_desc_init(&d, alg, x, w, NULL, y, s, l, p, q);
    return st == dnnl_success && dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) == dnnl_success;
}
static dnnl_status_t set_handle(dnnl_memory_t m, void *p, dnnl_stream_t s) { return dnnl_memory_set_data_handle_v2(m, p, s); }
#endif

static layout_ref asked(dnnl_primitive_desc_t pd, dnnl_query_t what) { return dnnl_primitive_desc_query_md(pd, what, 0); }
static dnnl_data_type_t type_of(int dtype) { return dtype == AJ_BF16 ? dnnl_bf16 : dtype == AJ_U8 ? dnnl_u8 : dtype == AJ_I8 ? dnnl_s8 : dnnl_f32; }

/* -- Plans ------------------------------------------------------------------------------------------------------------ */

enum { OPERANDS = 4, KEY = 30, WAYS = 4, SLOTS = 512 };

typedef struct { int64_t n, v[KEY]; } key;               /* the first n say all */
typedef struct {
    int arg;
    bool written;
    dnnl_memory_t memory;                                /* what the primitive reads or writes */
    dnnl_memory_t outside;                               /* the caller's, where that has another layout */
    dnnl_primitive_t reorder;
    int64_t bytes;                                       /* of memory, where it is ours */
    bool keeps;                                          /* what the first run reordered is good for all */
    void *kept;
    int64_t scratch;                                     /* of the reorder */
    dnnl_memory_t reorder_scratch;
} operand;
typedef struct {
    dnnl_primitive_t primitive;
    operand op[OPERANDS];
    int n;
    int64_t scratch;
    dnnl_memory_t scratch_memory;
} plan;
typedef struct { key k; uint64_t used; int way; plan plan; bool taken; } slot;

static _Thread_local struct { dnnl_stream_t stream; slot *slot; uint64_t clock; } own;
static dnnl_primitive_attr_t attributes;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void plan_free(plan *p);
static void start(void) {
    if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) { engine = NULL; return; }
    if (dnnl_primitive_attr_create(&attributes) == dnnl_success) dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
}
static bool ready(void) {
    pthread_once(&once, start);
    if (!engine) return false;
    if (!own.stream && dnnl_stream_create(&own.stream, engine, dnnl_stream_default_flags) != dnnl_success) return false;
    return own.slot || (own.slot = calloc(SLOTS, sizeof *own.slot));
}

void aj_onednn_leave(void) {
    for (int i = 0; own.slot && i < SLOTS; i++) if (own.slot[i].taken) plan_free(&own.slot[i].plan);
    free(own.slot);
    own.slot = NULL;
    if (own.stream) dnnl_stream_destroy(own.stream);
    own.stream = NULL;
}

/* oneDNN takes its number of threads from OpenMP, and a primitive must run with as many as it was made for. */
static int with_threads(int n) {
#ifndef AJ_NO_OPENMP
    int was = omp_get_max_threads();
    if (was != n) omp_set_num_threads(n);
    return was;
#else
    return n;
#endif
}

static bool scratch_of(dnnl_primitive_desc_t pd, int64_t *bytes, dnnl_memory_t *memory) {
    layout_ref l = asked(pd, dnnl_query_scratchpad_md);
    *bytes = l ? (int64_t)dnnl_memory_desc_get_size(l) : 0;
    return *bytes == 0 || dnnl_memory_create(memory, l, engine, NULL) == dnnl_success;
}

/* The caller's layout of an operand, and the primitive's: where they differ, a reorder stands between. */
static bool add_operand(plan *p, int arg, bool written, layout_ref outside, layout_ref inside) {
    operand *o = &p->op[p->n++];
    o->arg = arg; o->written = written;
    if (dnnl_memory_create(&o->memory, inside, engine, NULL) != dnnl_success) return false;
    if (dnnl_memory_desc_equal(outside, inside)) return true;
    o->bytes = (int64_t)dnnl_memory_desc_get_size(inside);
    if (dnnl_memory_create(&o->outside, outside, engine, NULL) != dnnl_success) return false;
    dnnl_primitive_desc_t pd;
    if (dnnl_reorder_primitive_desc_create(&pd, written ? inside : outside, engine, written ? outside : inside, engine, attributes) != dnnl_success) return false;
    bool ok = dnnl_primitive_create(&o->reorder, pd) == dnnl_success && scratch_of(pd, &o->scratch, &o->reorder_scratch);
    dnnl_primitive_desc_destroy(pd);
    return ok;
}

static void plan_free(plan *p) {
    for (int i = 0; i < p->n; i++) {
        operand *o = &p->op[i];
        if (o->memory) dnnl_memory_destroy(o->memory);
        if (o->outside) dnnl_memory_destroy(o->outside);
        if (o->reorder) dnnl_primitive_destroy(o->reorder);
        if (o->reorder_scratch) dnnl_memory_destroy(o->reorder_scratch);
        free(o->kept);
    }
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->scratch_memory) dnnl_memory_destroy(p->scratch_memory);
    memset(p, 0, sizeof *p);
}

static int64_t round_up(int64_t n) { return (n + 63) / 64 * 64; }

static int broken(void) { aj_error("oneDNN: a primitive failed to run"); return AJ_ONEDNN_FAILED; }

static bool move(operand *o, void *scratch) {
    if (o->scratch && set_handle(o->reorder_scratch, scratch, own.stream) != dnnl_success) return false;
    dnnl_exec_arg_t arg[3] = {{DNNL_ARG_FROM, o->written ? o->memory : o->outside}, {DNNL_ARG_TO, o->written ? o->outside : o->memory},
                              {DNNL_ARG_SCRATCHPAD, o->reorder_scratch}};
    return dnnl_primitive_execute(o->reorder, own.stream, o->scratch ? 3 : 2, arg) == dnnl_success;
}

/* data: the operands in the order in which they were added. */
static int run(plan *p, void *const *data) {
    int64_t most = p->scratch, ours = 0;
    for (int i = 0; i < p->n; i++) {
        if (!p->op[i].keeps) ours += round_up(p->op[i].bytes);
        if (p->op[i].scratch > most) most = p->op[i].scratch;
    }
    char *arena = NULL;
    if (most + ours && !(arena = aj_scratch(round_up(most) + ours))) return AJ_ONEDNN_FAILED;
    int64_t at = round_up(most);
    dnnl_exec_arg_t arg[OPERANDS + 1];
    bool ok = true;
    for (int i = 0; i < p->n && ok; i++) {
        operand *o = &p->op[i];
        arg[i] = (dnnl_exec_arg_t){o->arg, o->memory};
        if (!o->reorder) { ok = dnnl_memory_set_data_handle(o->memory, data[i]) == dnnl_success; continue; }
        if (o->kept) continue;
        if (o->keeps && !(o->kept = aligned_alloc(64, (size_t)round_up(o->bytes)))) { aj_scratch_free(arena); aj_error("out of memory: no room for packed weights"); return AJ_ONEDNN_FAILED; }
        ok = set_handle(o->memory, o->keeps ? o->kept : arena + at, own.stream) == dnnl_success && set_handle(o->outside, data[i], own.stream) == dnnl_success;
        if (!o->keeps) at += round_up(o->bytes);
        if (ok && !o->written) ok = move(o, arena);
    }
    int n = p->n;
    if (p->scratch && ok) {
        ok = set_handle(p->scratch_memory, arena, own.stream) == dnnl_success;
        arg[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, p->scratch_memory};
    }
    ok = ok && dnnl_primitive_execute(p->primitive, own.stream, n, arg) == dnnl_success;
    for (int i = 0; i < p->n && ok; i++) if (p->op[i].reorder && p->op[i].written) ok = move(&p->op[i], arena);
    aj_scratch_free(arena);
    return ok ? AJ_ONEDNN_DONE : broken();
}

/* The place of a key: its own, or the least used of its few, emptied. */
static slot *find(const key *k) {
    uint64_t h = 1469598103934665603u;
    for (int i = 0; i < k->n; i++) h = (h << 7 | h >> 57) ^ ((uint64_t)k->v[i] * 0x9e3779b97f4a7c15u);
    h ^= h >> 32;
    slot *set = &own.slot[h % (SLOTS / WAYS) * WAYS], *oldest = set;
    for (int i = 0; i < WAYS; i++) {
        if (set[i].taken && set[i].k.n == k->n && !memcmp(set[i].k.v, k->v, (size_t)k->n * sizeof *k->v)) { set[i].used = ++own.clock; return &set[i]; }
        if (set[i].used < oldest->used) oldest = &set[i];
    }
    if (oldest->taken) plan_free(&oldest->plan);
    memset(oldest, 0, sizeof *oldest);
    oldest->k.n = k->n;
    memcpy(oldest->k.v, k->v, (size_t)k->n * sizeof *k->v);
    oldest->used = ++own.clock;
    return oldest;
}

/* -- Matrix products ---------------------------------------------------------------------------------------------------- */

int aj_onednn_lanes(void) {
    int isa = (int)dnnl_get_effective_cpu_isa();
    return (isa & 0x27) == 0x27 ? 16 : (isa & 7) == 7 ? 8 : 4;
}

bool aj_onednn_has(int dtype) {
    if (dtype == AJ_F32) return true;
#if defined __x86_64__
    return dtype == AJ_BF16 && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

static bool plan_matmul(plan *p, const aj_product *m) {
    dnnl_data_type_t t = type_of(m->dtype);
    layout a, b, c, bias;
    memset(&a, 0, sizeof a); memset(&b, 0, sizeof b); memset(&c, 0, sizeof c); memset(&bias, 0, sizeof bias);
    dnnl_primitive_desc_t pd = NULL;
    bool ok = layout_strided(&a, 2, (dnnl_dims_t){m->M, m->K}, t, (dnnl_dims_t){m->sa[0], m->sa[1]}) && layout_strided(&b, 2, (dnnl_dims_t){m->K, m->N}, t, (dnnl_dims_t){m->sb[0], m->sb[1]})
           && layout_strided(&c, 2, (dnnl_dims_t){m->M, m->N}, t, (dnnl_dims_t){m->ldc, 1})
           && (!m->bias || layout_strided(&bias, 2, (dnnl_dims_t){1, m->N}, t, (dnnl_dims_t){m->N, 1}))
           && describe_matmul(&pd, ref(&a), ref(&b), m->bias ? ref(&bias) : NULL, ref(&c), attributes)
           && dnnl_primitive_create(&p->primitive, pd) == dnnl_success && scratch_of(pd, &p->scratch, &p->scratch_memory)
           && add_operand(p, DNNL_ARG_SRC, false, ref(&a), ref(&a)) && add_operand(p, DNNL_ARG_WEIGHTS, false, ref(&b), ref(&b))
           && add_operand(p, DNNL_ARG_DST, true, ref(&c), ref(&c)) && (!m->bias || add_operand(p, DNNL_ARG_BIAS, false, ref(&bias), ref(&bias)));
    if (pd) dnnl_primitive_desc_destroy(pd);
    layout_free(&a); layout_free(&b); layout_free(&c); layout_free(&bias);
    return ok;
}

int aj_onednn_matmul(const aj_product *m) {
    if (!ready()) return AJ_ONEDNN_NOT;
    key k;
    k.n = 9;                                             /* one stride of each is 1 */
    k.v[0] = m->dtype | m->threads << 8 | (m->bias != NULL) << 24 | (m->sa[1] != 1) << 25 | (m->sb[1] != 1) << 26;
    k.v[1] = m->M; k.v[2] = m->N; k.v[3] = m->K; k.v[4] = m->sa[0]; k.v[5] = m->sa[1]; k.v[6] = m->sb[0]; k.v[7] = m->sb[1]; k.v[8] = m->ldc;
    int was = with_threads(m->threads);
    slot *s = find(&k);
    if (!s->taken) {
        s->taken = true;
        s->way = plan_matmul(&s->plan, m);
        if (!s->way) plan_free(&s->plan);
    }
    int r = AJ_ONEDNN_NOT;
    if (s->way) r = run(&s->plan, (void *const[]){(void *)m->a, (void *)m->b, m->c, (void *)m->bias});
    with_threads(was);
    return r;
}

/* -- Convolutions --------------------------------------------------------------------------------------------------------- */

static bool plan_conv(plan *p, const aj_conv *v, int way) {
    int nd = (int)v->nd, wd = nd + (v->G > 1);
    dnnl_data_type_t t = type_of((int)v->dtype);
    dnnl_dims_t xs = {v->N, v->C}, ys = {v->N, v->O}, ws = {v->G, v->O / v->G, v->C / v->G}, S = {0}, P = {0}, L = {0}, Q = {0};
    dnnl_dims_t x_stride = {0}, y_stride = {0}, w_stride = {0}, x_last = {0}, y_last = {0};
    int64_t *wk = v->G > 1 ? ws + 3 : ws + 2;
    if (v->G == 1) { ws[0] = v->O; ws[1] = v->C; }
    for (int i = 0; i < nd; i++) {
        xs[2 + i] = v->I[i]; ys[2 + i] = v->Y[i]; wk[i] = v->K[i];
        S[i] = v->S[i]; P[i] = v->P[i]; L[i] = v->L[i] - 1;
        Q[i] = (v->Y[i] - 1) * v->S[i] + (v->K[i] - 1) * v->L[i] + 1 - v->I[i] - v->P[i];
    }
    x_stride[nd + 1] = y_stride[nd + 1] = w_stride[wd + 1] = 1;
    for (int i = nd; i >= 0; i--) { x_stride[i] = x_stride[i + 1] * xs[i + 1]; y_stride[i] = y_stride[i + 1] * ys[i + 1]; }
    for (int i = wd; i >= 0; i--) w_stride[i] = w_stride[i + 1] * ws[i + 1];
    x_last[1] = y_last[1] = 1;
    int64_t sx = v->C, sy = v->O;
    for (int i = nd + 1; i >= 2; i--) { x_last[i] = sx; y_last[i] = sy; sx *= xs[i]; sy *= ys[i]; }
    x_last[0] = sx; y_last[0] = sy;

    enum { X, W, Y, B, X_IN, W_IN, Y_IN, LAYOUTS };
    layout l[LAYOUTS];
    memset(l, 0, sizeof l);
    dnnl_primitive_desc_t pd = NULL;
    bool ok = layout_strided(&l[X], nd + 2, xs, t, x_stride) && layout_strided(&l[Y], nd + 2, ys, t, y_stride)
           && layout_strided(&l[W], wd + 2, ws, t, w_stride) && layout_any(&l[W_IN], wd + 2, ws, t)
           && (!v->bias || layout_strided(&l[B], 1, (dnnl_dims_t){v->O}, t, (dnnl_dims_t){1}))
           && (way == AJ_CONV_NHWC ? layout_strided(&l[X_IN], nd + 2, xs, t, x_last) && layout_strided(&l[Y_IN], nd + 2, ys, t, y_last)
               : way == AJ_CONV_PLAIN ? layout_strided(&l[X_IN], nd + 2, xs, t, x_stride) && layout_strided(&l[Y_IN], nd + 2, ys, t, y_stride)
               : layout_any(&l[X_IN], nd + 2, xs, t) && layout_any(&l[Y_IN], nd + 2, ys, t))
           && describe_conv(&pd, (int)v->what, way == AJ_CONV_WINOGRAD ? dnnl_convolution_winograd : dnnl_convolution_direct, ref(&l[X_IN]), ref(&l[W_IN]),
                            v->bias ? ref(&l[B]) : NULL, ref(&l[Y_IN]), S, L, P, Q, attributes);
    const char *impl = "";
    if (ok) dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &impl);
    ok = ok && !strstr(impl, "ref") && dnnl_primitive_create(&p->primitive, pd) == dnnl_success && scratch_of(pd, &p->scratch, &p->scratch_memory);
    if (ok && v->what == AJ_CONV_FORWARD)
        ok = add_operand(p, DNNL_ARG_SRC, false, ref(&l[X]), asked(pd, dnnl_query_src_md))
          && add_operand(p, DNNL_ARG_WEIGHTS, false, ref(&l[W]), asked(pd, dnnl_query_weights_md))
          && add_operand(p, DNNL_ARG_DST, true, ref(&l[Y]), asked(pd, dnnl_query_dst_md))
          && (!v->bias || add_operand(p, DNNL_ARG_BIAS, false, ref(&l[B]), ref(&l[B])));
    else if (ok && v->what == AJ_CONV_INPUT)
        ok = add_operand(p, DNNL_ARG_DIFF_SRC, true, ref(&l[X]), asked(pd, dnnl_query_diff_src_md))
          && add_operand(p, DNNL_ARG_WEIGHTS, false, ref(&l[W]), asked(pd, dnnl_query_weights_md))
          && add_operand(p, DNNL_ARG_DIFF_DST, false, ref(&l[Y]), asked(pd, dnnl_query_diff_dst_md));
    else if (ok)
        ok = add_operand(p, DNNL_ARG_SRC, false, ref(&l[X]), asked(pd, dnnl_query_src_md))
          && add_operand(p, DNNL_ARG_DIFF_WEIGHTS, true, ref(&l[W]), asked(pd, dnnl_query_diff_weights_md))
          && add_operand(p, DNNL_ARG_DIFF_DST, false, ref(&l[Y]), asked(pd, dnnl_query_diff_dst_md));
    if (pd) dnnl_primitive_desc_destroy(pd);
    for (int i = 0; i < LAYOUTS; i++) layout_free(&l[i]);
    return ok;
}

/* Winograd's sums are a little less exact (F(4,3): some 3e-6 at values near 1), as in every library that uses it. */
static bool has_winograd(const aj_conv *v) {
    return v->nd == 2 && v->dtype == AJ_F32 && v->G == 1 && v->K[0] == 3 && v->K[1] == 3 && v->S[0] == 1 && v->S[1] == 1
        && v->L[0] == 1 && v->L[1] == 1 && v->C >= 16 && v->O >= 16;
}

int aj_onednn_conv(const aj_conv *v, int way, int threads, void *x, void *w, const void *bias, void *y) {
    if (!aj_onednn_has((int)v->dtype) || (way == AJ_CONV_WINOGRAD && !has_winograd(v)) || !ready()) return AJ_ONEDNN_NOT;
    key k = {KEY - 2, {200 + way, threads}};
    _Static_assert(sizeof *v + 4 * sizeof(int64_t) == sizeof k.v, "a key holds a convolution, and whose weights are packed");
    memcpy(k.v + 2, v, sizeof *v);
    int was = with_threads(threads);
    slot *s = find(&k);
    if (!s->taken) {
        s->taken = true;
        s->way = plan_conv(&s->plan, v, way);
        if (!s->way) plan_free(&s->plan);
    }
    int r = s->way ? run(&s->plan, (void *const[]){x, w, y, (void *)bias}) : AJ_ONEDNN_NOT;
    with_threads(was);
    return r;
}

/* -- Eight bits ------------------------------------------------------------------------------------------------------------- */

static bool has_eight_bits(void) {
#if defined __x86_64__
    return __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

static bool plan_conv8(plan *p, const aj_conv *v) {
    bool groups = v->G > 1;
    dnnl_dims_t xs = {v->N, v->C, v->I[0], v->I[1]}, ys = {v->N, v->O, v->Y[0], v->Y[1]}, ws = {v->O, v->C, v->K[0], v->K[1]};
    dnnl_dims_t xl = {v->C * v->I[0] * v->I[1], 1, v->C * v->I[1], v->C}, yl = {v->O * v->Y[0] * v->Y[1], 1, v->O * v->Y[1], v->O}, wl = {0};
    dnnl_dims_t S = {v->S[0], v->S[1]}, P = {v->P[0], v->P[1]}, L = {v->L[0] - 1, v->L[1] - 1}, Q = {0};
    int wd = groups ? 5 : 4;
    if (groups) memcpy(ws, (dnnl_dims_t){v->G, v->O / v->G, v->C / v->G, v->K[0], v->K[1]}, sizeof ws);
    int64_t step = 1;
    for (int i = wd - 1; i >= 0; i--) { wl[i] = step; step *= ws[i]; }
    for (int i = 0; i < 2; i++) Q[i] = (v->Y[i] - 1) * v->S[i] + (v->K[i] - 1) * v->L[i] + 1 - v->I[i] - v->P[i];
    layout x, w, w_in, y;
    memset(&x, 0, sizeof x); memset(&w, 0, sizeof w); memset(&w_in, 0, sizeof w_in); memset(&y, 0, sizeof y);
    dnnl_primitive_desc_t pd = NULL;
    const char *impl = "";
    bool ok = layout_strided(&x, 4, xs, type_of((int)v->dtype), xl) && layout_strided(&y, 4, ys, dnnl_s32, yl) && layout_strided(&w, wd, ws, dnnl_s8, wl)
           && layout_any(&w_in, wd, ws, dnnl_s8)
           && describe_conv(&pd, AJ_CONV_FORWARD, dnnl_convolution_direct, ref(&x), ref(&w_in), NULL, ref(&y), S, L, P, Q, attributes);
    if (ok) dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &impl);
    ok = ok && !strstr(impl, "ref") && dnnl_primitive_create(&p->primitive, pd) == dnnl_success && scratch_of(pd, &p->scratch, &p->scratch_memory)
      && add_operand(p, DNNL_ARG_SRC, false, ref(&x), ref(&x)) && add_operand(p, DNNL_ARG_WEIGHTS, false, ref(&w), asked(pd, dnnl_query_weights_md))
      && add_operand(p, DNNL_ARG_DST, true, ref(&y), ref(&y));
    if (pd) dnnl_primitive_desc_destroy(pd);
    layout_free(&x); layout_free(&w); layout_free(&w_in); layout_free(&y);
    return ok;
}

static bool plan_matmul8(plan *p, int dtype, int64_t M, int64_t N, int64_t K) {
    layout a, b, b_in, c;
    memset(&a, 0, sizeof a); memset(&b, 0, sizeof b); memset(&b_in, 0, sizeof b_in); memset(&c, 0, sizeof c);
    dnnl_primitive_desc_t pd = NULL;
    const char *impl = "";
    bool ok = layout_strided(&a, 2, (dnnl_dims_t){M, K}, type_of(dtype), (dnnl_dims_t){K, 1}) && layout_strided(&b, 2, (dnnl_dims_t){K, N}, dnnl_s8, (dnnl_dims_t){1, K})
           && layout_any(&b_in, 2, (dnnl_dims_t){K, N}, dnnl_s8) && layout_strided(&c, 2, (dnnl_dims_t){M, N}, dnnl_s32, (dnnl_dims_t){N, 1})
           && describe_matmul(&pd, ref(&a), ref(&b_in), NULL, ref(&c), attributes);
    if (ok) dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &impl);
    ok = ok && !strstr(impl, "ref") && dnnl_primitive_create(&p->primitive, pd) == dnnl_success && scratch_of(pd, &p->scratch, &p->scratch_memory)
      && add_operand(p, DNNL_ARG_SRC, false, ref(&a), ref(&a)) && add_operand(p, DNNL_ARG_WEIGHTS, false, ref(&b), asked(pd, dnnl_query_weights_md))
      && add_operand(p, DNNL_ARG_DST, true, ref(&c), ref(&c));
    if (pd) dnnl_primitive_desc_destroy(pd);
    layout_free(&a); layout_free(&b); layout_free(&b_in); layout_free(&c);
    return ok;
}

/* The plan for a key, made by conv or for the product M x N x K; its weights are packed by its first run. */
static int run_eight(const key *k, int threads, const aj_conv *v, int64_t M, int64_t N, int64_t K, void *const *data) {
    int was = with_threads(threads);
    slot *s = find(k);
    if (!s->taken) {
        s->taken = true;
        s->way = v ? plan_conv8(&s->plan, v) : plan_matmul8(&s->plan, (int)(k->v[0] & 255), M, N, K);
        if (!s->way) plan_free(&s->plan);
        else s->plan.op[1].keeps = s->plan.op[1].reorder != NULL;
    }
    int r = s->way ? run(&s->plan, data) : AJ_ONEDNN_NOT;
    with_threads(was);
    return r;
}

static int threads_for(double products) {
    return products < 4e7 || aj_in_parallel() ? 1 : aj_threads();
}

int aj_onednn_conv8(const aj_conv *v, void *x, void *w, uint64_t identity, int32_t version, int32_t *sum) {
    if (!has_eight_bits() || !ready()) return AJ_ONEDNN_NOT;
    int threads = threads_for((double)(v->N * v->O * v->Y[0] * v->Y[1]) * (double)(v->C / v->G * v->K[0] * v->K[1]));
    key k = {KEY, {300, threads}};
    memcpy(k.v + 2, v, sizeof *v);
    k.v[KEY - 2] = (int64_t)identity;
    k.v[KEY - 1] = version;
    return run_eight(&k, threads, v, 0, 0, 0, (void *const[]){x, w, sum});
}

int aj_onednn_matmul8(int dtype, int64_t M, int64_t N, int64_t K, void *x, void *w, uint64_t identity, int32_t version, int32_t *sum) {
    if (!has_eight_bits() || !ready()) return AJ_ONEDNN_NOT;
    int threads = threads_for((double)M * (double)N * (double)K);
    key k = {6, {dtype | threads << 8 | 1 << 30, M, N, K, (int64_t)identity, version}};
    return run_eight(&k, threads, NULL, M, N, K, (void *const[]){x, w, sum});
}
