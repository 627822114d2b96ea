/* derive.c - the derivative column of an elementwise row, evaluated in ops instead of in a kernel.
 *
 * Because the result is made of recorded ops, gradients of gradients follow from the same text. The grammar is the
 * part of C that rows use: numbers, R(number), names, calls, unary and binary operators, comparisons, ?:.
 */
#include "core.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct { aj_tensor *t; double v; bool is_bool; } value;     /* t NULL: the number v */

typedef struct {
    const char *p;
    aj_tensor *in[2];           /* NULL: the number s */
    aj_tensor *y;
    const aj_attrs *attrs;
    const char *names;          /* "x" or "ab" */
    int dtype;
    int32_t device;
    bool failed;
} reader;

static value number(double v) { return (value){NULL, v, false}; }
static value fail(reader *r, const char *why) {
    if (!r->failed) aj_error("ops.def: a derivative cannot be read at \"%.24s\": %s", r->p, why);
    r->failed = true;
    return number(0);
}
static value tensor(reader *r, aj_tensor *t) {
    t = aj_live(t);
    if (!t) r->failed = true;
    return (value){t, 0, t && t->dtype == AJ_BOOL};
}

/* A comparison used as a number is one of the derivative's own dtype, so that no precision is lost on the way. */
static value as_number(reader *r, value a) {
    if (!a.t || !a.is_bool || r->failed) return a;
    return tensor(r, aj_cast(a.t, (aj_dtype)r->dtype));
}

typedef aj_tensor *binary(aj_tensor *, aj_tensor *);
typedef aj_tensor *with_number(aj_tensor *, double, bool);
static value apply2(reader *r, value a, value b, binary *f, with_number *g) {
    if (r->failed) return a;
    if (a.t && b.t) return tensor(r, f(a.t, b.t));
    return a.t ? tensor(r, g(a.t, b.v, false)) : tensor(r, g(b.t, a.v, true));
}

static value expression(reader *r);

static void space(reader *r) { while (isspace((unsigned char)*r->p)) r->p++; }
static bool take(reader *r, const char *token) {
    space(r);
    size_t n = strlen(token);
    if (strncmp(r->p, token, n)) return false;
    if (n == 1 && (*token == '<' || *token == '>' || *token == '=' || *token == '!') && r->p[1] == '=') return false;
    r->p += n;
    return true;
}

static int op_named(const char *word, size_t n) {
    if (n == 4 && !memcmp(word, "fabs", 4)) { word = "abs"; n = 3; }
    for (int i = 0; i < OP_COUNT; i++)
        if (strlen(aj_ops[i].info->name) == n && !memcmp(aj_ops[i].info->name, word, n)) return i;
    return -1;
}

static value call(reader *r, const char *word, size_t n) {
    value arg[2] = {{0}};
    int count = 0;
    while (count < 2) {
        arg[count] = as_number(r, expression(r));
        count++;
        if (!take(r, ",")) break;
    }
    if (!take(r, ")")) return fail(r, "a ')' is missing");
    if (n == 1 && *word == 'R') return arg[0];
    int op = op_named(word, n);
    if (op < 0) return fail(r, "no row has this name");
    if (r->failed) return number(0);
    if (count == 2) {
        if (!arg[0].t && !arg[1].t) return fail(r, "a function of two numbers");
        if (arg[0].t && arg[1].t) { aj_tensor *in[] = {arg[0].t, arg[1].t}; return tensor(r, aj_apply(op, in, 2, NULL)); }
        bool left = !arg[0].t;
        aj_attrs a = {.s = left ? arg[0].v : arg[1].v, .number = left ? 1 : 2};
        return tensor(r, aj_apply(op, left ? &arg[1].t : &arg[0].t, 1, &a));
    }
    if (!arg[0].t) {                                     /* a function of a number: by way of a tensor */
        aj_ints none = {0};
        arg[0] = tensor(r, aj_full((aj_dtype)r->dtype, &none, r->device, arg[0].v));
        if (r->failed) return number(0);
    }
    if (op == OP_softplus) return tensor(r, aj_softplus(arg[0].t, 1, 20));
    return tensor(r, aj_apply(op, &arg[0].t, 1, NULL));
}

static value primary(reader *r) {
    space(r);
    if (take(r, "(")) {
        value v = expression(r);
        return take(r, ")") ? v : fail(r, "a ')' is missing");
    }
    if (isdigit((unsigned char)*r->p) || *r->p == '.') {
        char *end;
        double v = strtod(r->p, &end);
        r->p = end;
        return number(v);
    }
    const char *word = r->p;
    while (isalnum((unsigned char)*r->p) || *r->p == '_') r->p++;
    size_t n = (size_t)(r->p - word);
    if (!n) return fail(r, "a value is missing");
    if (take(r, "(")) return call(r, word, n);
    if (n == 1) {
        for (int k = 0; r->names[k]; k++)
            if (*word == r->names[k]) return r->in[k] ? (value){r->in[k], 0, r->in[k]->dtype == AJ_BOOL} : number(r->attrs->s);
        if (*word == 'y' && r->y) return (value){r->y, 0, false};
        if (*word == 's') return number(r->attrs->s);
        if (*word == 't') return number(r->attrs->t);
        if (*word == 'u') return number(r->attrs->u);
    }
    r->p = word;
    return fail(r, "an unknown name, or a value that its row does not save");
}

static value unary(reader *r) {
    if (take(r, "-")) {
        value v = as_number(r, unary(r));
        return v.t && !r->failed ? tensor(r, aj_neg(v.t)) : number(-v.v);
    }
    return primary(r);
}

static value product(reader *r) {
    value a = unary(r);
    for (;;) {
        bool times = take(r, "*");
        if (!times && !take(r, "/")) return a;
        a = as_number(r, a);
        value b = as_number(r, unary(r));
        if (!a.t && !b.t) a = number(times ? a.v * b.v : a.v / b.v);
        else a = times ? apply2(r, a, b, aj_mul, aj_mul_number) : apply2(r, a, b, aj_div, aj_div_number);
    }
}

static value sum(reader *r) {
    value a = product(r);
    for (;;) {
        bool plus = take(r, "+");
        if (!plus && !take(r, "-")) return a;
        a = as_number(r, a);
        value b = as_number(r, product(r));
        if (!a.t && !b.t) a = number(plus ? a.v + b.v : a.v - b.v);
        else a = plus ? apply2(r, a, b, aj_add, aj_add_number) : apply2(r, a, b, aj_sub, aj_sub_number);
    }
}

static value comparison(reader *r) {
    static const struct { const char *token; binary *f; with_number *g; } ops[] = {
        {"<=", aj_le, aj_le_number}, {">=", aj_ge, aj_ge_number}, {"==", aj_eq, aj_eq_number}, {"!=", aj_ne, aj_ne_number},
        {"<", aj_lt, aj_lt_number}, {">", aj_gt, aj_gt_number},
    };
    value a = sum(r);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (!take(r, ops[i].token)) continue;
        value b = sum(r);
        if (!a.t && !b.t) {
            bool is[] = {a.v <= b.v, a.v >= b.v, a.v == b.v, a.v != b.v, a.v < b.v, a.v > b.v};
            return number(is[i]);
        }
        bool mode = aj_grad_mode(false);
        a = apply2(r, a, b, ops[i].f, ops[i].g);
        aj_grad_mode(mode);
        a.is_bool = true;
        return a;
    }
    return a;
}

static value expression(reader *r) {
    value c = comparison(r);
    if (!take(r, "?")) return c;
    value p = expression(r);
    if (!take(r, ":")) return fail(r, "a ':' is missing");
    value q = expression(r);
    if (r->failed) return c;
    if (!c.t) return c.v != 0 ? p : q;
    /* Made dense, so that a row's choice between numbers keeps the shape of the condition. */
    aj_ints shape = {c.t->ndim, {0}};
    for (int d = 0; d < c.t->ndim; d++) shape.v[d] = c.t->shape[d];
    if (!p.t) p = tensor(r, aj_full((aj_dtype)r->dtype, &shape, c.t->device, p.v));
    if (!q.t) q = tensor(r, aj_full((aj_dtype)r->dtype, &shape, c.t->device, q.v));
    return r->failed ? c : tensor(r, aj_where(c.t, p.t, q.t));
}

aj_tensor *aj_derivative(int op, int k, aj_tensor *const *in, aj_tensor *y, const aj_attrs *attrs, int32_t device) {
    const aj_op_info *info = aj_ops[op].info;
    const char *text = info->saves;
    for (int i = 0; i < k; i++) { text = strchr(text, '|'); if (!text) return NULL; text++; }
    reader r = {.p = text, .in = {in[0], in[1]}, .y = y, .attrs = attrs, .names = aj_ops[op].kind == AJ_UNARY ? "x" : "ab"};
    aj_tensor *like = y ? y : in[0] ? in[0] : in[1];
    r.dtype = like && aj_is_float(like->dtype) ? like->dtype : in[0] && aj_is_float(in[0]->dtype) ? in[0]->dtype : in[1] && aj_is_float(in[1]->dtype) ? in[1]->dtype : AJ_F64;
    r.device = device;
    value d = as_number(&r, expression(&r));
    if (r.failed) return NULL;
    if (d.t) return d.t;
    aj_ints none = {0};
    return aj_live(aj_full((aj_dtype)r.dtype, &none, r.device, d.v));
}
