/* assemble.c - chains of elementwise ops as machine code, for processors with AVX-512.
 *
 * The text of each op's row in ops.def is read into values, one for each number that a register will hold; products that
 * are added to something become fused ones where the compiler of the kernels fuses them. Each op's bits are compared with its
 * kernel's before it is used.
 * Then each value gets a register, and each is one instruction or two. Between the ops of a chain nothing is stored.
 */
#include "assemble.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined __x86_64__

enum { MAX_VALUES = 400, MAX_CODE = 8192, REGISTERS = 32 };
enum { LOAD, CONSTANT, ADD, SUB, MUL, DIV, NEG, SQRT, FMA, FNMA, FMS, SELECT, MIN, MAX, RINT, SCALE, STORE };

typedef struct {
    uint8_t kind, predicate;
    int16_t a, b, c, d;                                  /* operands, -1: none. FMA: a b + c; FNMA: c - a b; FMS: a b - c; SELECT: c ? d */
    float v;
    int stream, uses, last, reg;
} val;

typedef struct {
    val v[MAX_VALUES];
    int n, first;                                        /* of the op that is being read */
    int *of;                                             /* the value of each array; -1: none so far */
    aj_loop *loop;
    const bool *single;                                  /* by array; NULL: none is */
    bool failed;
    uint8_t code[MAX_CODE];
    size_t size;
    uint32_t free;                                       /* registers */
    int least_free;
    int n_constant, n_held;                              /* the first of the constants stay in the last registers */
    float constant[128];
} maker;

/* -- Values ------------------------------------------------------------------------------------------------------- */

static int fail(maker *m) { m->failed = true; return 0; }
static bool is_constant(const maker *m, int i, float v) { return m->v[i].kind == CONSTANT && m->v[i].v == v; }

static int put(maker *m, val x) {
    if ((x.kind == ADD || x.kind == MUL) && x.a > x.b) { int16_t t = x.a; x.a = x.b; x.b = t; }
    for (int i = x.kind == CONSTANT ? 0 : m->first; i < m->n; i++) {
        const val *o = &m->v[i];
        if (o->kind == x.kind && o->predicate == x.predicate && o->a == x.a && o->b == x.b && o->c == x.c && o->d == x.d && o->stream == x.stream
            && !memcmp(&o->v, &x.v, sizeof x.v)) return i;
    }
    if (m->n == MAX_VALUES) return fail(m);
    m->v[m->n] = x;
    return m->n++;
}
static int constant(maker *m, float v) { return put(m, (val){.kind = CONSTANT, .a = -1, .b = -1, .c = -1, .d = -1, .v = v, .stream = -1}); }
static int node(maker *m, int kind, int a, int b) {
    if (m->failed) return 0;
    const val *x = &m->v[a], *y = b >= 0 ? &m->v[b] : x;
    if (x->kind == CONSTANT && y->kind == CONSTANT) switch (kind) {
        case ADD: return constant(m, x->v + y->v);
        case SUB: return constant(m, x->v - y->v);
        case MUL: return constant(m, x->v * y->v);
        case DIV: return constant(m, x->v / y->v);
        case NEG: return constant(m, -x->v);
    }
    if (kind == MUL && is_constant(m, a, 1)) return b;
    if (kind == MUL && is_constant(m, b, 1)) return a;
    if (kind == MUL && (is_constant(m, a, -1) || is_constant(m, b, -1))) return node(m, NEG, is_constant(m, a, -1) ? b : a, -1);
    return put(m, (val){.kind = (uint8_t)kind, .a = (int16_t)a, .b = (int16_t)b, .c = -1, .d = -1, .stream = -1});
}

enum { EQ = 0x00, LT = 0x11, LE = 0x12, NE = 0x04, GE = 0x1d, GT = 0x1e };
static int select_of(maker *m, int predicate, int a, int b, int p, int q) {
    /* The processor's smaller and larger, which of NaN and of zeros give the second, are these choices exactly. */
    if (!m->failed && (predicate == LT || predicate == GT)) {
        if (p == a && q == b) return put(m, (val){.kind = predicate == LT ? MIN : MAX, .a = (int16_t)a, .b = (int16_t)b, .c = -1, .d = -1, .stream = -1});
        if (p == b && q == a) return put(m, (val){.kind = predicate == LT ? MAX : MIN, .a = (int16_t)b, .b = (int16_t)a, .c = -1, .d = -1, .stream = -1});
    }
    return m->failed ? 0 : put(m, (val){.kind = SELECT, .predicate = (uint8_t)predicate, .a = (int16_t)a, .b = (int16_t)b, .c = (int16_t)p, .d = (int16_t)q, .stream = -1});
}

/* fast_exp_f32 of cpu/vmath.h, step by step; its two factors are exact unless the result is subnormal, which they round once. */
static int exp_of(maker *m, int x) {
    static const float series[] = {1.98412698e-4f, 1.38888889e-3f, 8.33333333e-3f, 4.16666667e-2f, 1.66666667e-1f, 0.5f, 1.0f, 1.0f};
    int high = constant(m, 89.0f), low = constant(m, -104.0f);
    x = select_of(m, GT, x, high, high, x);
    x = select_of(m, LT, x, low, low, x);
    int n = node(m, RINT, node(m, MUL, x, constant(m, 1.44269504f)), -1);
    int r = node(m, ADD, node(m, SUB, x, node(m, MUL, n, constant(m, 0.693359375f))), node(m, MUL, n, constant(m, 2.12194440e-4f)));
    int p = constant(m, series[0]);
    for (int i = 1; i < 8; i++) p = node(m, ADD, node(m, MUL, p, r), constant(m, series[i]));
    return node(m, SCALE, p, n);
}

/* -- Reading a row's text -------------------------------------------------------------------------------------------- */

static const char *const text_of[OP_COUNT] = {
#define UNARY(name, domain, value, ...) [OP_##name] = #value,
#define UNARY_S(name, domain, params, attrs, defaults, value, ...) [OP_##name] = #value,
#define BINARY UNARY
#define BINARY_S UNARY_S
#include "ops.def"
};

typedef struct {
    maker *m;
    const char *p, *names;
    int in[2], y;
    const aj_attrs *attrs;
    int depth;
} reader;
typedef struct { int i; bool is_test; int predicate, a, b; } term;       /* a test: a against b */

static term number(int i) { return (term){.i = i}; }
static int as_number(reader *r, term t) {
    if (!t.is_test) return t.i;
    maker *m = r->m;
    return select_of(m, t.predicate, t.a, t.b, constant(m, 1), constant(m, 0));
}
static term expression(reader *r);
static void space(reader *r) { while (isspace((unsigned char)*r->p)) r->p++; }
static bool take(reader *r, const char *token) {
    space(r);
    size_t n = strlen(token);
    if (strncmp(r->p, token, n)) return false;
    if (n == 1 && strchr("<>=!", *token) && r->p[1] == '=') return false;
    r->p += n;
    return true;
}

static int read_text(maker *m, const char *text, const char *names, int a, int b, int y, const aj_attrs *attrs, int depth) {
    reader r = {m, text, names, {a, b}, y, attrs, depth};
    int i = as_number(&r, expression(&r));
    space(&r);
    return *r.p && *r.p != '|' ? fail(m) : i;
}

static int call(reader *r, const char *word, size_t n) {
    static const struct { const char *name, *text; } plain[] = {      /* as map.inc has them */
        {"sigmoid", "1 / (1 + exp(-x))"}, {"square", "x * x"}, {"sign", "(x > 0) - (x < 0)"}, {"abs", "x < 0 ? -x : x"},
    };
    maker *m = r->m;
    int x = as_number(r, expression(r));
    if (!take(r, ")") || m->failed || r->depth > 4) return fail(m);
#define IS(s) (n == sizeof s - 1 && !memcmp(word, s, n))
    if (IS("R")) return x;
    if (IS("exp")) return exp_of(m, x);
    if (IS("sqrt")) return node(m, SQRT, x, -1);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strlen(plain[i].name) == n && !memcmp(plain[i].name, word, n)) return read_text(m, plain[i].text, "x", x, -1, -1, r->attrs, r->depth + 1);
#undef IS
    return fail(m);
}

static term primary(reader *r) {
    maker *m = r->m;
    space(r);
    if (take(r, "(")) {
        term v = expression(r);
        if (!take(r, ")")) fail(m);
        return v;
    }
    if (isdigit((unsigned char)*r->p) || *r->p == '.') {
        char *end;
        double v = strtod(r->p, &end);
        r->p = end;
        return number(constant(m, (float)v));
    }
    const char *word = r->p;
    while (isalnum((unsigned char)*r->p) || *r->p == '_') r->p++;
    size_t n = (size_t)(r->p - word);
    if (n && take(r, "(")) return number(call(r, word, n));
    if (n == 1) {
        for (int k = 0; r->names[k]; k++) if (*word == r->names[k] && r->in[k] >= 0) return number(r->in[k]);
        if (*word == 'y' && r->y >= 0) return number(r->y);
        if (*word == 's') return number(constant(m, (float)r->attrs->s));
        if (*word == 't') return number(constant(m, (float)r->attrs->t));
        if (*word == 'u') return number(constant(m, (float)r->attrs->u));
    }
    return number(fail(m));
}
static term unary(reader *r) {
    if (take(r, "-")) return number(node(r->m, NEG, as_number(r, unary(r)), -1));
    return primary(r);
}
static term product(reader *r) {
    term a = unary(r);
    for (;;) {
        bool times = take(r, "*");
        if (!times && !take(r, "/")) return a;
        int x = as_number(r, a);
        a = number(node(r->m, times ? MUL : DIV, x, as_number(r, unary(r))));
    }
}
static term sum(reader *r) {
    term a = product(r);
    for (;;) {
        bool plus = take(r, "+");
        if (!plus && !take(r, "-")) return a;
        int x = as_number(r, a);
        a = number(node(r->m, plus ? ADD : SUB, x, as_number(r, product(r))));
    }
}
static term comparison(reader *r) {
    static const struct { const char *token; int predicate; } tests[] = {{"<=", LE}, {">=", GE}, {"==", EQ}, {"!=", NE}, {"<", LT}, {">", GT}};
    term a = sum(r);
    for (int i = 0; i < 6; i++) {
        if (!take(r, tests[i].token)) continue;
        int x = as_number(r, a), y = as_number(r, sum(r));
        return (term){.is_test = true, .predicate = tests[i].predicate, .a = x, .b = y};
    }
    return a;
}
static term expression(reader *r) {
    term c = comparison(r);
    if (take(r, "&&") || take(r, "||")) { fail(r->m); return c; }
    if (!take(r, "?")) return c;
    int p = as_number(r, expression(r));
    if (!take(r, ":")) { fail(r->m); return c; }
    int q = as_number(r, expression(r));
    if (!c.is_test) { c.predicate = NE; c.a = c.i; c.b = constant(r->m, 0); }
    return number(select_of(r->m, c.predicate, c.a, c.b, p, q));
}

/* -- Fused products -------------------------------------------------------------------------------------------------- */

/* The compiler fuses a product of one op's formula when every use of it is an addition or a subtraction. */
static void fuse_products(maker *m, int result) {
    for (int i = m->first; i < m->n; i++) {
        if (m->v[i].kind != MUL || i == result) continue;
        bool all = true, any = false;
        for (int j = i + 1; j < m->n && all; j++) {
            const val *u = &m->v[j];
            if (u->a != i && u->b != i && u->c != i && u->d != i) continue;
            any = true;
            all = (u->kind == ADD || u->kind == SUB) && u->a != u->b;
        }
        for (int j = i + 1; j < m->n && all && any; j++) {
            val *u = &m->v[j];
            if (u->a != i && u->b != i) continue;
            int16_t other = u->a == i ? u->b : u->a;
            u->kind = u->kind == ADD ? FMA : u->a == i ? FMS : FNMA;
            u->a = m->v[i].a; u->b = m->v[i].b; u->c = other;
        }
    }
}

static int array(maker *m, int number_of) {
    if (number_of < 0) return -1;
    if (m->of[number_of] >= 0) return m->of[number_of];
    aj_loop *l = m->loop;
    if (l->n_stream == AJ_STREAMS) return fail(m);
    l->stream[l->n_stream] = number_of;
    l->single[l->n_stream] = m->single && m->single[number_of];
    m->of[number_of] = put(m, (val){.kind = LOAD, .a = -1, .b = -1, .c = -1, .d = -1, .stream = l->n_stream++});
    return m->of[number_of];
}

static bool read_formula(maker *m, const aj_formula *f) {
    int in[2] = {array(m, f->in[0]), array(m, f->in[1])}, y = array(m, f->y), gy = array(m, f->gy);
    bool two = aj_ops[f->op].kind != AJ_UNARY;
    if (two && f->attrs->number) in[f->attrs->number == 1 ? 0 : 1] = constant(m, (float)f->attrs->s);
    m->first = m->n;
    const char *text = text_of[f->op];
    if (f->column >= 0) {
        text = aj_ops[f->op].info->saves;
        for (int i = 0; i < f->column && text; i++) if ((text = strchr(text, '|'))) text++;
    }
    if (!text || m->failed) return false;
    int result = read_text(m, text, two ? "ab" : "x", in[0], in[1], y, f->attrs, 0);
    if (f->column >= 0) result = node(m, MUL, gy, result);
    if (m->failed) return false;
    if (!f->apart) fuse_products(m, result);
    m->of[f->out] = result;
    m->first = m->n;
    return true;
}

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

static bool here(void) { return !strcmp(aj_cpu_level(), "v4"); }

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
        for (int i = 0; i < n && ok; i++) ok = read_formula(m, &f[i]);
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
enum { SAMPLES = 80 };
static void sample(float *x, int which) {
    static const float edge[] = {0.0f, -0.0f, 1.0f, -1.0f, 0.5f, 20.0f, -100.0f, 88.5f, -103.5f, 1e-40f, 3e38f, -3e38f, INFINITY, -INFINITY, NAN, 2.0f};
    uint32_t state = 12345u + 977u * (uint32_t)which;
    for (int i = 0; i < SAMPLES; i++) {
        state = state * 1664525u + 1013904223u;
        float u = (float)(state >> 8) * 0x1p-23f - 1.0f;
        x[i] = i < 16 ? edge[(i + which * 5) % 16] : u * (i % 4 == 0 ? 30.0f : i % 4 == 1 ? 0.01f : 3.0f);
    }
}

bool aj_can_assemble(aj_formula *f) {
    if (!here()) return false;
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
    for (int apart = 0; apart < 2; apart++) {
        one.apart = f->apart = apart;
        aj_loop *l = aj_assemble(&one, 1, wanted, NULL);
        if (!l) return false;
        char *stream[AJ_STREAMS];
        for (int s = 0; s < l->n_stream; s++) stream[s] = l->written[s] ? (char *)result : (char *)number[l->stream[s]];
        aj_loop_run(l, stream, SAMPLES);
        aj_loop_free(l);
        bool same = true;
        for (int i = 0; i < SAMPLES && same; i++)
            same = !memcmp(&result[i], &number[0][i], sizeof *result) || (result[i] != result[i] && number[0][i] != number[0][i]);
        if (same) return true;
    }
    return false;
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
