/* assemble.c - chains of elementwise ops as machine code, for processors with AVX-512.
 *
 * Each value of a chain (formula.c) gets a register, and is one instruction or two; between the ops nothing is stored. Each
 * op's bits are compared with its kernel's before its code is used.
 */
#include "formula.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined __x86_64__

/* -- Code -------------------------------------------------------------------------------------------------------------- */

static void byte(maker *m, int b) {
    if (m->size == MAX_CODE) { m->failed = true; return; }
    m->code[m->size++] = (uint8_t)b;
}
static void word32(maker *m, int32_t w) { for (int i = 0; i < 4; i++) byte(m, w >> 8 * i & 255); }

/* General registers: the streams' bases, rdi the offset into them, rsi its end, rdx the constants. */
static const uint8_t base[AJ_STREAMS] = {0, 1, 8, 9, 10, 11, 3, 5, 12, 13, 14, 15};
enum { RDI = 7, RSI = 6, RDX = 2 };
enum { NONE = 0, P66 = 1, MAP_0F = 1, MAP_0F38 = 2, MAP_0F3A = 3 };
typedef struct { enum { REGISTER, STREAM, SINGLE, BROADCAST } kind; int at; } operand;

/* One EVEX instruction of 512 bits. mask: of writing, 0: none; zero: what it leaves out becomes 0. */
static void evex(maker *m, int map, int prefix, int opcode, int reg, int vvvv, operand o, int mask, bool zero) {
    int b3 = 0, x = 0;                                   /* the high bits of what is in r/m */
    if (o.kind == REGISTER) { b3 = o.at >> 3 & 1; x = o.at >> 4 & 1; }
    if (o.kind == STREAM || o.kind == SINGLE) b3 = base[o.at] >> 3 & 1;
    byte(m, 0x62);
    byte(m, (~reg >> 3 & 1) << 7 | !x << 6 | !b3 << 5 | (~reg >> 4 & 1) << 4 | map);
    byte(m, (~vvvv & 15) << 3 | 4 | prefix);
    byte(m, zero << 7 | 2 << 5 | (o.kind == BROADCAST) << 4 | (~vvvv >> 4 & 1) << 3 | mask);
    byte(m, opcode);
    if (o.kind == REGISTER) byte(m, 0xc0 | (reg & 7) << 3 | (o.at & 7));
    else if (o.kind == BROADCAST) { byte(m, 0x80 | (reg & 7) << 3 | RDX); word32(m, o.at * 4); }
    else { byte(m, 0x80 | (reg & 7) << 3 | 4); byte(m, (o.kind == STREAM ? RDI : 4) << 3 | (base[o.at] & 7)); word32(m, 0); }
}

static int new_register(maker *m) {
    if (!m->free) { m->failed = true; return 0; }
    int r = __builtin_ctz(m->free), left = __builtin_popcount(m->free &= m->free - 1);
    if (left < m->least_free) m->least_free = left;
    return r;
}
static operand place_of_constant(maker *m, float v) {
    int i = 0;
    while (i < m->n_constant && memcmp(&m->constant[i], &v, sizeof v)) i++;
    if (i == 128) { m->failed = true; i = 0; }
    else if (i == m->n_constant) m->constant[m->n_constant++] = v;
    if (i < m->n_held) return (operand){REGISTER, REGISTERS - 1 - i};
    return (operand){BROADCAST, i};
}
static operand bits(maker *m, int32_t b) { float v; memcpy(&v, &b, sizeof v); return place_of_constant(m, v); }
static void broadcast(maker *m, int reg, operand o, int mask) {
    if (o.kind == REGISTER) { evex(m, MAP_0F, NONE, 0x28, reg, 0, o, mask, mask != 0); return; }
    /* vbroadcastss, whose memory operand is not said to be broadcast. */
    evex(m, MAP_0F38, P66, 0x18, reg, 0, o, mask, mask != 0);
    m->code[m->size - 7] &= (uint8_t)~0x10;
}

/* The value as an operand that may be memory, and as one that may not: a constant then gets a register for this instruction. */
static operand any(maker *m, int i) {
    return m->v[i].kind == CONSTANT ? place_of_constant(m, m->v[i].v) : (operand){REGISTER, m->v[i].reg};
}
static int in_register(maker *m, int i, uint32_t *borrowed) {
    if (m->v[i].kind != CONSTANT) return m->v[i].reg;
    operand o = place_of_constant(m, m->v[i].v);
    if (o.kind == REGISTER) return o.at;
    int r = new_register(m);
    *borrowed |= 1u << r;
    broadcast(m, r, o, 0);
    return r;
}

static void give_back(maker *m, int i, int at) {
    if (i >= 0 && m->v[i].kind != CONSTANT && m->v[i].last == at) m->free |= 1u << m->v[i].reg;
}
static void emit_fused(maker *m, int at) {
    val *x = &m->v[at];
    static const uint8_t opcode[3] = {0xb8, 0xbc, 0xba};             /* dst = a b + dst, dst - a b, a b - dst; less 0x10: dst = a dst + b and so on */
    int which = x->kind - FMA, a = x->a, b = x->b, c = x->c;
    uint32_t borrowed = 0;
    if (m->v[a].kind == CONSTANT || (m->v[a].last != at && m->v[b].kind != CONSTANT)) { int t = a; a = b; b = t; }
    if (m->v[c].kind == CONSTANT && m->v[a].last == at && m->v[b].kind != CONSTANT && a != b) {
        x->reg = m->v[a].reg;
        evex(m, MAP_0F38, P66, opcode[which] - 0x10, x->reg, m->v[b].reg, any(m, c), 0, false);
        give_back(m, b, at);
        return;
    }
    int ra = in_register(m, a, &borrowed), dst;
    bool own = m->v[c].kind != CONSTANT && m->v[c].last == at && c != a && c != b;
    if (own) dst = m->v[c].reg;
    else {
        dst = new_register(m);
        if (m->v[c].kind == CONSTANT) broadcast(m, dst, any(m, c), 0);
        else evex(m, MAP_0F, NONE, 0x28, dst, 0, any(m, c), 0, false);
    }
    evex(m, MAP_0F38, P66, opcode[which], dst, ra, any(m, b), 0, false);
    m->free |= borrowed;
    give_back(m, a, at);
    give_back(m, b, at);
    if (!own) give_back(m, c, at);
    x->reg = dst;
}

static void emit(maker *m, int at) {
    val *x = &m->v[at];
    static const uint8_t arithmetic[] = {[ADD] = 0x58, [SUB] = 0x5c, [MUL] = 0x59, [DIV] = 0x5e, [MIN] = 0x5d, [MAX] = 0x5f};
    uint32_t borrowed = 0;
    int a = x->a, b = x->b, r;
    switch (x->kind) {
    case CONSTANT: return;
    case LOAD:
        x->reg = new_register(m);
        if (m->loop->single[x->stream]) evex(m, MAP_0F38, P66, 0x18, x->reg, 0, (operand){SINGLE, x->stream}, 0, false);      /* vbroadcastss */
        else evex(m, MAP_0F, NONE, 0x10, x->reg, 0, (operand){STREAM, x->stream}, 0, false);
        return;
    case STORE:
        r = in_register(m, a, &borrowed);
        evex(m, MAP_0F, NONE, 0x11, r, 0, (operand){STREAM, x->stream}, 0, false);
        m->free |= borrowed;
        give_back(m, a, at);
        return;
    case FMA: case FNMA: case FMS: emit_fused(m, at); return;
    case ADD: case SUB: case MUL: case DIV:
        if ((x->kind == ADD || x->kind == MUL) && m->v[a].kind == CONSTANT) { a = x->b; b = x->a; }
        r = in_register(m, a, &borrowed);
        break;
    case SELECT: {
        int left = in_register(m, a, &borrowed);
        evex(m, MAP_0F, NONE, 0xc2, 1, left, any(m, b), 0, false);       /* vcmpps k1 */
        byte(m, x->predicate);
        r = is_constant(m, x->d, 0) && m->v[x->c].kind == CONSTANT && !signbit(m->v[x->d].v) ? -1 : in_register(m, x->d, &borrowed);
        break;
    }
    default: r = in_register(m, a, &borrowed);
    }
    operand second = x->kind == SELECT ? any(m, x->c) : b >= 0 ? any(m, b) : (operand){REGISTER, r};
    give_back(m, a, at);
    give_back(m, b, at);
    if (x->kind == SELECT) { give_back(m, x->c, at); give_back(m, x->d, at); }
    m->free |= borrowed;
    int dst = x->reg = new_register(m);
    switch (x->kind) {
    case SELECT:
        if (r < 0) broadcast(m, dst, second, 1);
        else evex(m, MAP_0F38, P66, 0x65, dst, r, second, 1, false);     /* vblendmps */
        break;
    case NEG: evex(m, MAP_0F, P66, 0xef, dst, r, bits(m, INT32_MIN), 0, false); break;         /* vpxord */
    case SQRT: evex(m, MAP_0F, NONE, 0x51, dst, 0, second, 0, false); break;
    case RINT: evex(m, MAP_0F3A, P66, 0x08, dst, 0, second, 0, false); byte(m, 0); break;      /* vrndscaleps, to even */
    case SCALE: evex(m, MAP_0F38, P66, 0x2c, dst, r, second, 0, false); break;                 /* vscalefps */
    default: evex(m, MAP_0F, NONE, arithmetic[x->kind], dst, r, second, 0, false);
    }
}

static void emit_all(maker *m) {
    static const uint8_t push[] = {0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57};
    static const uint8_t pop[] = {0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc5, 0xf8, 0x77, 0xc3};       /* ..., vzeroupper, ret */
    for (size_t i = 0; i < sizeof push; i++) byte(m, push[i]);
    for (int i = 0; i < m->loop->n_stream; i++) {        /* mov base, [rdi + 8 i] */
        byte(m, 0x48 | (base[i] >> 3 & 1) << 2);
        byte(m, 0x8b);
        byte(m, 0x40 | (base[i] & 7) << 3 | RDI);
        byte(m, 8 * i);
    }
    for (int i = 0; i < m->n_held; i++) broadcast(m, REGISTERS - 1 - i, (operand){BROADCAST, i}, 0);
    byte(m, 0x31); byte(m, 0xff);                        /* xor edi, edi */
    size_t start = m->size;
    m->free = UINT32_MAX >> m->n_held;
    for (int i = 0; i < m->n && !m->failed; i++) if (m->v[i].uses || m->v[i].kind == STORE) emit(m, i);
    static const uint8_t next[] = {0x48, 0x83, 0xc7, 0x40, 0x48, 0x39, 0xf7, 0x0f, 0x82};    /* add rdi, 64; cmp rdi, rsi; jb */
    for (size_t i = 0; i < sizeof next; i++) byte(m, next[i]);
    word32(m, (int32_t)start - (int32_t)(m->size + 4));
    for (size_t i = 0; i < sizeof pop; i++) byte(m, pop[i]);
}

/* -- A loop --------------------------------------------------------------------------------------------------------------- */

static void count_uses(maker *m) {
    for (int i = m->n - 1; i >= 0; i--) {
        val *x = &m->v[i];
        if (!x->uses && x->kind != STORE) continue;
        const int16_t operands[] = {x->a, x->b, x->c, x->d};
        for (int k = 0; k < 4; k++) {
            if (operands[k] < 0) continue;
            val *o = &m->v[operands[k]];
            if (!o->uses++) o->last = i;
        }
    }
}

static bool finish(maker *m) {
    aj_loop *l = m->loop;
    l->size = (m->size + 4095) / 4096 * 4096;
    l->constants = malloc(sizeof m->constant);
    void *code = mmap(NULL, l->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) code = NULL;
    if (!code || !l->constants) { if (code) munmap(code, l->size); return false; }
    memcpy(code, m->code, m->size);
    memcpy(l->constants, m->constant, sizeof m->constant);
    if (mprotect(code, l->size, PROT_READ | PROT_EXEC)) { munmap(code, l->size); return false; }
    memcpy(&l->code, &code, sizeof code);
    return true;
}

static bool here(void) {
    const char *fuse = getenv("AIJIT_FUSE");
    return !strcmp(aj_cpu_level(), "v4") && !(fuse && !strcmp(fuse, "pieces"));
}

aj_loop *aj_assemble(const aj_formula *f, int n, const bool *wanted, const bool *single) {
    int arrays = 0;
    for (int i = 0; i < n; i++) {
        const int all[] = {f[i].out, f[i].in[0], f[i].in[1], f[i].y, f[i].gy};
        for (int k = 0; k < 5; k++) if (all[k] >= arrays) arrays = all[k] + 1;
    }
    if (!here()) return NULL;
    maker *m = calloc(1, sizeof *m);
    aj_loop *l = calloc(1, sizeof *l);
    int *of = malloc((size_t)(arrays + 1) * sizeof *of);
    bool ok = m && l && of;
    if (ok) {
        m->loop = l;
        m->of = of;
        m->single = single;
        for (int i = 0; i < arrays; i++) of[i] = -1;
        for (int i = 0; i < n && ok; i++) ok = aj_read_formula(m, &f[i]);
        bool *seen = calloc((size_t)arrays + 1, sizeof *seen);
        ok = ok && seen;
        for (int i = 0; i < n && ok; i++) {
            int out = f[i].out;
            if (!wanted[out] || seen[out]) continue;
            seen[out] = true;
            int s = 0;
            while (s < l->n_stream && l->stream[s] != out) s++;
            if (s == AJ_STREAMS || m->n == MAX_VALUES) { ok = false; break; }
            if (s == l->n_stream) l->stream[l->n_stream++] = out;
            l->written[s] = true;
            m->v[m->n++] = (val){.kind = STORE, .a = (int16_t)of[out], .b = -1, .c = -1, .d = -1, .stream = s};
        }
        free(seen);
    }
    if (ok) {
        count_uses(m);
        m->least_free = REGISTERS;
        emit_all(m);
        m->n_held = m->n_constant < m->least_free ? m->n_constant : m->least_free;
        m->size = 0;
        if (!m->failed) emit_all(m);                     /* again, with constants in the registers that were never needed */
        ok = !m->failed && finish(m);
    }
    free(m);
    free(of);
    if (ok) return l;
    if (l) { free(l->constants); free(l); }
    return NULL;
}

/* Numbers of all sizes, and the edges. */
enum { SAMPLES = 1024 };
static void sample(float *x, int which) {
    static const float edge[] = {0.0f, -0.0f, 1.0f, -1.0f, 0.5f, 20.0f, -100.0f, 88.5f, -103.5f, 1e-40f, 3e38f, -3e38f, INFINITY, -INFINITY, NAN, 2.0f};
    static const float scale[] = {30.0f, 0.01f, 3.0f, 1.0f};
    uint32_t state = 12345u + 977u * (uint32_t)which;
    for (int i = 0; i < SAMPLES; i++) {
        state = state * 1664525u + 1013904223u;
        float u = (float)(state >> 8) * 0x1p-23f - 1.0f;
        x[i] = i < 16 ? edge[(i + which * 5) % 16] : u * scale[state >> 5 & 3];
    }
}

static bool agrees(const aj_formula *f, bool apart) {
    float number[5][SAMPLES], result[SAMPLES];
    const int of[4] = {f->in[0], f->in[1], f->y, f->gy};
    aj_storage nowhere = {.refs = 100, .device = AJ_CPU};
    aj_tensor t[5];
    aj_formula one = *f;
    int *to[4] = {&one.in[0], &one.in[1], &one.y, &one.gy};
    bool wanted[5] = {true};
    for (int k = 0; k < 5; k++) {
        t[k] = (aj_tensor){.storage = &nowhere, .data = (char *)number[k], .refs = 1, .dtype = AJ_F32, .ndim = 1, .device = AJ_CPU, .contiguous = true,
                           .numel = SAMPLES, .shape = {SAMPLES}, .stride = {1}};
        if (k) sample(number[k], k);
        if (k) *to[k - 1] = of[k - 1] < 0 ? -1 : k;
    }
    one.out = 0;
    aj_tensor *in[2] = {of[0] < 0 ? &t[2] : &t[1], &t[2]};
    aj_attrs attrs = *f->attrs;
    if (f->column >= 0) {
        aj_grad_call g = {.gx = &t[0], .gy = &t[4], .y = of[2] < 0 ? NULL : &t[3], .in = {of[0] < 0 ? NULL : &t[1], of[1] < 0 ? NULL : &t[2]}, .attrs = &attrs};
        if (!aj_cpu->grad[f->op][f->column](&g)) return false;
    } else {
        aj_call c = {.op = f->op, .n_in = (of[0] >= 0) + (of[1] >= 0), .n_out = 1, .in = in, .attrs = &attrs};
        c.out[0] = &t[0];
        if (!aj_cpu->forward[f->op](&c)) return false;
    }
    one.apart = apart;
    aj_loop *l = aj_assemble(&one, 1, wanted, NULL);
    if (!l) return false;
    char *stream[AJ_STREAMS];
    for (int s = 0; s < l->n_stream; s++) stream[s] = l->written[s] ? (char *)result : (char *)number[l->stream[s]];
    aj_loop_run(l, stream, SAMPLES);
    aj_loop_free(l);
    bool same = true;
    for (int i = 0; i < SAMPLES && same; i++)
        same = !memcmp(&result[i], &number[0][i], sizeof *result) || (result[i] != result[i] && number[0][i] != number[0][i]);
    return same;
}

/* Whether the kernels of this build round products before they are added to something: a sum of a product tells. */
static bool products_are_apart(void) {
    static int known = -1;                               /* atomic: every thread finds the same */
    int apart = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (apart < 0) {
        aj_attrs attrs = {.s = 0.1, .dtype = AJ_F32};
        aj_formula f = {.op = OP_add_scaled, .column = -1, .out = 0, .in = {1, 2}, .y = -1, .gy = -1, .attrs = &attrs};
        apart = !agrees(&f, false);
        __atomic_store_n(&known, apart, __ATOMIC_RELAXED);
    }
    return apart;
}

bool aj_can_assemble(aj_formula *f) {
    if (!here()) return false;
    f->apart = products_are_apart();
    return agrees(f, f->apart);
}

#else
aj_loop *aj_assemble(const aj_formula *f, int n, const bool *wanted, const bool *single) { (void)f; (void)n; (void)wanted; (void)single; return NULL; }
bool aj_can_assemble(aj_formula *f) { (void)f; return false; }
#endif

/* What is left over at the end is filled up to a step, as the kernels do. */
void aj_loop_run(const aj_loop *l, char *const *stream, int64_t n) {
    int64_t rest = n % AJ_LOOP_STEP, whole = n - rest;
    if (whole) l->code(stream, whole * 4, l->constants);
    if (!rest) return;
    float buffer[AJ_STREAMS][AJ_LOOP_STEP] = {{0}};
    char *at[AJ_STREAMS] = {0};
    for (int i = 0; i < l->n_stream; i++) {
        at[i] = l->single[i] ? stream[i] : (char *)buffer[i];
        if (!l->single[i]) memcpy(at[i], stream[i] + whole * 4, (size_t)rest * 4);
    }
    l->code(at, AJ_LOOP_STEP * 4, l->constants);
    for (int i = 0; i < l->n_stream; i++) if (l->written[i]) memcpy(stream[i] + whole * 4, at[i], (size_t)rest * 4);
}

void aj_loop_free(aj_loop *l) {
    if (!l) return;
    void *code;
    memcpy(&code, &l->code, sizeof code);
    munmap(code, l->size);
    free(l->constants);
    free(l);
}
