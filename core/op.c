/* op.c - the op table: entry points, rules, and the description Lua builds itself from. */
#include "core.h"
#include "rule/rule.h"
#include <stdio.h>
#include <string.h>

#define UNPAREN(...) __VA_ARGS__
#define ATTRS(...) &(aj_attrs){__VA_ARGS__}
#define ints aj_ints_of
#define triple aj_triple_of
#define COUNT(in) (int)(sizeof in / sizeof *in)

/* -- Entry points: gather the arguments, then one common path ------------------------------------------ */

#define UNARY(name, ...) \
    aj_tensor *aj_##name(aj_tensor *x) { return aj_apply(OP_##name, &x, 1, NULL); } \
    aj_tensor *aj_##name##_(aj_tensor *x) { return aj_apply_(OP_##name, &x, 1, NULL); }
#define UNARY_S(name, domain, params, attrs, ...) \
    aj_tensor *aj_##name params { return aj_apply(OP_##name, &x, 1, ATTRS(UNPAREN attrs)); } \
    aj_tensor *aj_##name##_ params { return aj_apply_(OP_##name, &x, 1, ATTRS(UNPAREN attrs)); }
#define NUMBER(name) \
    aj_tensor *aj_##name##_number(aj_tensor *a, double number, bool left) { return aj_apply(OP_##name, &a, 1, ATTRS(.s = number, .number = left ? 1 : 2)); }
#define BINARY(name, ...) \
    aj_tensor *aj_##name(aj_tensor *a, aj_tensor *b) { aj_tensor *in[] = {a, b}; return aj_apply(OP_##name, in, 2, NULL); } \
    aj_tensor *aj_##name##_(aj_tensor *a, aj_tensor *b) { aj_tensor *in[] = {a, b}; return aj_apply_(OP_##name, in, 2, NULL); } \
    NUMBER(name) \
    aj_tensor *aj_##name##_number_(aj_tensor *a, double number) { return aj_apply_(OP_##name, &a, 1, ATTRS(.s = number, .number = 2)); }
#define BINARY_S(name, domain, params, attrs, ...) \
    aj_tensor *aj_##name params { aj_tensor *in[] = {a, b}; return aj_apply(OP_##name, in, 2, ATTRS(UNPAREN attrs)); } \
    aj_tensor *aj_##name##_ params { aj_tensor *in[] = {a, b}; return aj_apply_(OP_##name, in, 2, ATTRS(UNPAREN attrs)); }
#define COMPARE(name, ...) \
    aj_tensor *aj_##name(aj_tensor *a, aj_tensor *b) { aj_tensor *in[] = {a, b}; return aj_apply(OP_##name, in, 2, NULL); } \
    NUMBER(name)
#define TEST(name, ...) \
    aj_tensor *aj_##name(aj_tensor *x) { return aj_apply(OP_##name, &x, 1, NULL); }
#define REDUCE(name, ...) \
    aj_tensor *aj_##name(aj_tensor *x, aj_dims dim, bool keepdim) { return aj_apply(OP_##name, &x, 1, ATTRS(.list = ints(dim), .keepdim = keepdim)); }
#define STRUCTURED(name, params, tensors, attrs, run) \
    aj_tensor *aj_##name params { aj_tensor *in[] = {UNPAREN tensors}; return run(OP_##name, in, COUNT(in), ATTRS(UNPAREN attrs)); }
#define LISTED(name, params, list, attrs) \
    aj_tensor *aj_##name params { return aj_apply(OP_##name, (UNPAREN list)->v, (UNPAREN list)->n, ATTRS(UNPAREN attrs)); }
#define VIEW(name, params, tensors, attrs, ...) STRUCTURED(name, params, tensors, attrs, aj_apply)
#define OP(name, params, tensors, attrs, ...) STRUCTURED(name, params, tensors, attrs, aj_apply)
#define COMPOSE(name, params, tensors, attrs, ...) STRUCTURED(name, params, tensors, attrs, aj_apply)
#define OP_N(name, params, list, attrs, ...) LISTED(name, params, list, attrs)
#define COMPOSE_N(name, params, list, attrs, ...) LISTED(name, params, list, attrs)
#define UPDATE(name, params, tensors, attrs, ...) STRUCTURED(name, params, tensors, attrs, aj_apply_)
#define UPDATE_GRAD(name, params, tensors, attrs, ...) STRUCTURED(name, params, tensors, attrs, aj_apply_)
#include "ops.def"

/* -- The table ---------------------------------------------------------------------------------------------- */

static const aj_op_info infos[OP_COUNT] = {
#define ROW(name, kind, domain, params, tensors, defaults, returns, saves, sample, doc, autocast) \
    [OP_##name] = {#name, #kind, #domain, params, tensors, defaults, returns, saves, sample, doc, #autocast},
#include "ops.def"
};

aj_op aj_ops[OP_COUNT] = {
#define ROW(name, k, d, params, tensors, defaults, returns, saves, sample, doc, cast) \
    [OP_##name] = {.info = &infos[OP_##name], .kind = AJ_##k, .domain = AJ_##d, .autocast = AJ_AUTOCAST_##cast},
#include "ops.def"
};

static void link_rules(void) {
#define REDUCE(name, ...) aj_ops[OP_##name].vjp = name##_vjp;
#define VIEW(name, ...) aj_ops[OP_##name].view = name##_view; aj_ops[OP_##name].vjp = name##_vjp;
#define OP(name, ...) aj_ops[OP_##name].shape = name##_shape; aj_ops[OP_##name].vjp = name##_vjp;
#define OP_N(name, ...) aj_ops[OP_##name].shape = name##_shape; aj_ops[OP_##name].vjp = name##_vjp;
#define COMPOSE(name, ...) aj_ops[OP_##name].compose = name##_compose;
#define COMPOSE_N(name, ...) aj_ops[OP_##name].compose = name##_compose;
#define UPDATE(name, ...) aj_ops[OP_##name].shape = name##_check;
#define UPDATE_GRAD(name, ...) aj_ops[OP_##name].shape = name##_check; aj_ops[OP_##name].vjp = name##_vjp;
#include "ops.def"
}

static const char cdef[] =
#define ENTRY(name, params) "aj_tensor *aj_" #name #params ";\n"
#include "ops.def"
;

int32_t aj_op_count(void) { return OP_COUNT; }
const aj_op_info *aj_op_info_at(int32_t op) { return op >= 0 && op < OP_COUNT ? &infos[op] : NULL; }
const char *aj_op_cdef(void) { return cdef; }

/* -- What a gradient reads, from the text of its row ----------------------------------------------------------- */

static bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

/* The next name in *p, up to end; its length, 0 at the end. */
static int next_word(const char **p, const char *end) {
    while (*p < end && !is_word(**p)) (*p)++;
    int n = 0;
    while (*p + n < end && is_word((*p)[n])) n++;
    return n;
}

static int place_of(const char *list, const char *word, int n) {
    const char *p = list, *end = list + strcspn(list, "");
    for (int i = 0, m; (m = next_word(&p, end)); i++, p += m)
        if (m == n && !memcmp(p, word, (size_t)n)) return i;
    return -1;
}

static void read_saves(aj_op *op) {
    const aj_op_info *info = op->info;
    const char *p = info->saves;
    for (int k = 0; k < AJ_MAX_ARGS; k++) {
        const char *end = p + strcspn(p, "|");
        const char *q = p;
        while (*q == ' ') q++;
        op->never[k] = *q == '-' && (q[1] == 0 || q[1] == '|' || q[1] == ' ');
        op->unknown[k] = !strncmp(q, "no_derivative", 13);
        for (int n; (n = next_word(&q, end)); q += n) {
            int j = place_of(info->tensors, q, n);
            if (j >= 0 && j < 16) op->saves_in[k] |= (uint16_t)(1u << j);
            j = place_of(info->returns, q, n);
            if (j >= 0 && j < AJ_MAX_OUT) op->saves_out[k] |= (uint8_t)(1u << j);
        }
        p = *end ? end + 1 : end;
    }
}

__attribute__((constructor)) static void start(void) {
    link_rules();
    for (int i = 0; i < OP_COUNT; i++) {
        aj_op *op = &aj_ops[i];
        read_saves(op);
        const char *p = infos[i].returns, *end = p + strcspn(p, ";");
        for (int n; (n = next_word(&p, end)); p += n) op->n_returns++;
        op->attrs = op->kind != AJ_UNARY && op->kind != AJ_BINARY ? true : strchr(infos[i].params, ',') != NULL;
        if (op->kind == AJ_BINARY) op->attrs = false;    /* but for a number, which apply.c looks at */
    }
}
