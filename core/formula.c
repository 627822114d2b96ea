/* formula.c - the text of elementwise rows of ops.def as values, one for each number that a register will hold. Products
 * that are added to something become fused ones where the compiler of the kernels fuses them. */
#include "formula.h"
#include "special.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int fail(maker *m) { m->failed = true; return 0; }

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

/* ndtr_at_f32 of special.h, step by step. */
static int ndtr_of(maker *m, int x) {
    static const float above[] = {AJ_NDTR_ABOVE}, below[] = {AJ_NDTR_BELOW};
    int z = node(m, MUL, x, x), top = constant(m, AJ_NDTR_TOP);
    z = select_of(m, GT, z, top, top, z);
    int p = constant(m, above[0]), q = constant(m, below[0]);
    for (int i = 1; i < 6; i++) {
        p = node(m, ADD, node(m, MUL, p, z), constant(m, above[i]));
        q = node(m, ADD, node(m, MUL, q, z), constant(m, below[i]));
    }
    int y = node(m, ADD, node(m, DIV, node(m, MUL, x, p), q), constant(m, 0.5f)), one = constant(m, 1), zero = constant(m, 0);
    y = select_of(m, GT, y, one, one, y);
    return select_of(m, LT, y, zero, zero, y);
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
    if (IS("ndtr")) return ndtr_of(m, x);
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

bool aj_read_formula(maker *m, const aj_formula *f) {
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
