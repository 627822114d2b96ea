/* pickle.c - the machine that reads the pickle of a .pt file: the opcodes that tensors in lists and dictionaries need, and no
 * other. It makes nodes; nothing is imported, called or looked up (pt_build.c knows the few constructors by name).
 */
#include "io/pt.h"
#include <inttypes.h>
#include <stdlib.h>

enum { MAX_MEMO = 1 << 20, MAX_NODES = 1 << 26, MAX_TEXT = 1 << 28 };

bool pt_bad(const aj_pt *p, const char *what) { return aj_error("pt: %s: %s", p->blob->name, what); }
int64_t pt_refuse(const aj_pt *p, const char *what) {
    pt_bad(p, what);
    return -1;
}
static bool bad_at(const aj_pt *p, const char *what) {
    return aj_error("pt: %s: byte %zu of data.pkl: %s", p->blob->name, (size_t)(p->in.at - p->pickle->data), what);
}

bool pt_room(const aj_pt *p, void *array, uint32_t n, size_t item) {
    if (n & (n - 1)) return true;
    if (n >= MAX_NODES) return pt_bad(p, "holds too many values");
    void *old, *new;
    memcpy(&old, array, sizeof old);
    new = realloc(old, (n ? 2 * (size_t)n : 1) * item);
    if (!new) return pt_bad(p, "out of memory");
    memcpy(array, &new, sizeof new);
    return true;
}

int64_t pt_make(aj_pt *p, uint32_t kind) {
    if (!pt_room(p, &p->nodes, p->n_nodes, sizeof *p->nodes)) return -1;
    p->nodes[p->n_nodes] = (aj_pt_node){.kind = kind};
    return p->n_nodes++;
}

bool pt_append(aj_pt *p, uint32_t list, uint32_t item) {
    aj_pt_node *l = &p->nodes[list];
    if (!pt_room(p, &l->items, l->n, sizeof *l->items)) return false;
    l->items[l->n++] = item;
    return true;
}

bool pt_set(aj_pt *p, uint32_t dict, uint32_t key, uint32_t value) {
    uint32_t kind = p->nodes[key].kind;
    if (kind == AJ_PT_LIST || kind == AJ_PT_DICT || kind == AJ_PT_SET || kind >= AJ_PT_TENSOR) return bad_at(p, "a key that is no text or number");
    return pt_append(p, dict, key) && pt_append(p, dict, value);
}

/* -- The stack ------------------------------------------------------------------------------------------------------- */

static bool push(aj_pt *p, int64_t node) {
    if (node < 0 || !pt_room(p, &p->stack, p->n_stack, sizeof *p->stack)) return false;
    p->stack[p->n_stack++] = (uint32_t)node;
    return true;
}
static uint32_t floor_of(const aj_pt *p) { return p->n_marks ? p->marks[p->n_marks - 1] : 0; }
static bool holds(const aj_pt *p, uint32_t n) { return p->n_stack - floor_of(p) >= n || bad_at(p, "takes a value from an empty stack"); }
static uint32_t top(const aj_pt *p) { return p->stack[p->n_stack - 1]; }
static uint32_t pop(aj_pt *p) { return p->stack[--p->n_stack]; }

/* The values above the last mark are taken off and left at *from, n of them. */
static bool above_mark(aj_pt *p, const uint32_t **from, uint32_t *n) {
    if (!p->n_marks) return bad_at(p, "a mark is missing");
    uint32_t mark = p->marks[--p->n_marks];
    *n = p->n_stack - mark;
    *from = *n ? p->stack + mark : NULL;
    p->n_stack = mark;
    return true;
}

static bool top_is(const aj_pt *p, uint32_t kind, const char *what) {
    return holds(p, 1) && (p->nodes[top(p)].kind == kind || bad_at(p, what));
}

/* -- Values ------------------------------------------------------------------------------------------------------------ */

static bool push_number(aj_pt *p, double v) {
    int64_t i = pt_make(p, AJ_PT_NUMBER);
    if (i >= 0) p->nodes[i].number = v;
    return push(p, i);
}

static bool push_integer(aj_pt *p, int64_t v) {
    if (v <= (int64_t)1 << 53 && v >= -((int64_t)1 << 53)) return push_number(p, (double)v);
    int64_t i = pt_make(p, AJ_PT_INTEGER);
    if (i >= 0) p->nodes[i].integer = v;
    return push(p, i);
}

/* Little-endian, two's complement, of any length: beyond 64 bits the nearest number. */
static bool push_long(aj_pt *p) {
    uint8_t n;
    const unsigned char *s;
    if (!cursor_u8(&p->in, &n) || !(s = cursor_take(&p->in, n))) return bad_at(p, "is cut short");
    bool negative = n && s[n - 1] & 0x80;
    if (n <= 8) {
        uint64_t v = negative ? ~(uint64_t)0 : 0;
        for (int i = n - 1; i >= 0; i--) v = v << 8 | s[i];
        return push_integer(p, (int64_t)v);
    }
    double v = negative ? -1 : 0;
    for (int i = n - 1; i >= 0; i--) v = v * 256 + s[i];
    return push_number(p, v);
}

static bool push_float(aj_pt *p) {
    uint64_t bits;
    double v;
    if (!cursor_u64(&p->in, &bits)) return bad_at(p, "is cut short");
    bits = __builtin_bswap64(bits);
    memcpy(&v, &bits, 8);
    return push_number(p, v);
}

static bool push_text(aj_pt *p, uint64_t n, bool utf8) {
    if (n > MAX_TEXT) return bad_at(p, "a text is too long");
    const unsigned char *s = cursor_take(&p->in, n);
    if (!s) return bad_at(p, "is cut short");
    if (utf8 && aj_utf8_bad((const char *)s, n) >= 0) return bad_at(p, "a text is not UTF-8");
    int64_t i = pt_make(p, AJ_PT_TEXT);
    if (i >= 0) {
        p->nodes[i].text = (const char *)s;
        p->nodes[i].n = (uint32_t)n;
    }
    return push(p, i);
}

/* The n values at from, in a new list or tuple. from may move: it lies on the stack. */
static int64_t collect(aj_pt *p, uint32_t kind, const uint32_t *from, uint32_t n) {
    int64_t list = pt_make(p, kind);
    for (uint32_t i = 0; list >= 0 && i < n; i++) if (!pt_append(p, (uint32_t)list, from[i])) return -1;
    return list;
}

static bool small_tuple(aj_pt *p, uint32_t n) {
    if (!holds(p, n)) return false;
    p->n_stack -= n;
    return push(p, collect(p, AJ_PT_TUPLE, p->stack + p->n_stack, n));
}

static bool set_items(aj_pt *p) {
    const uint32_t *from = NULL;
    uint32_t n = 0;
    if (!above_mark(p, &from, &n) || !top_is(p, AJ_PT_DICT, "sets keys of what is no dictionary")) return false;
    if (n % 2) return bad_at(p, "a key without a value");
    for (uint32_t i = 0; i < n; i += 2) if (!pt_set(p, top(p), from[i], from[i + 1])) return false;
    return true;
}

static bool append_items(aj_pt *p, uint32_t kind) {
    const uint32_t *from = NULL;
    uint32_t n = 0;
    if (!above_mark(p, &from, &n) || !top_is(p, kind, "appends to what is no list")) return false;
    for (uint32_t i = 0; i < n; i++) if (!pt_append(p, top(p), from[i])) return false;
    return true;
}

/* -- Memo and names ---------------------------------------------------------------------------------------------------- */

static bool memo_put(aj_pt *p, uint32_t at) {
    /* Each takes two bytes of the pickle, so an honest number is smaller than its size. */
    if (at >= MAX_MEMO || at >= p->pickle->size) return bad_at(p, "a place in the memo is too large");
    if (!holds(p, 1)) return false;
    while (p->n_memo <= at) {
        if (!pt_room(p, &p->memo, p->n_memo, sizeof *p->memo)) return false;
        p->memo[p->n_memo++] = UINT32_MAX;
    }
    p->memo[at] = top(p);
    return true;
}

static bool memo_get(aj_pt *p, uint32_t at) {
    if (at >= p->n_memo || p->memo[at] == UINT32_MAX) return bad_at(p, "asks for what the memo does not hold");
    return push(p, p->memo[at]);
}

static bool line(aj_pt *p, const char **text, size_t *n) {
    const unsigned char *end = memchr(p->in.at, '\n', cursor_left(&p->in));
    if (!end) return bad_at(p, "is cut short");
    *text = (const char *)p->in.at;
    *n = (size_t)(end - p->in.at);
    p->in.at = end + 1;
    return true;
}

static bool global(aj_pt *p) {
    const char *module = NULL, *name = NULL;
    size_t module_n = 0, name_n = 0;
    return line(p, &module, &module_n) && line(p, &name, &name_n) && push(p, pt_global(p, module, module_n, name, name_n));
}

static bool stack_global(aj_pt *p) {
    if (!holds(p, 2)) return false;
    aj_pt_node name = p->nodes[pop(p)], module = p->nodes[pop(p)];
    if (name.kind != AJ_PT_TEXT || module.kind != AJ_PT_TEXT) return bad_at(p, "the name of a global is no text");
    return push(p, pt_global(p, module.text, module.n, name.text, name.n));
}

static bool call(aj_pt *p) {
    if (!holds(p, 2)) return false;
    uint32_t args = pop(p), callable = pop(p);
    if (p->nodes[args].kind != AJ_PT_TUPLE) return bad_at(p, "calls with what is no tuple");
    if (p->nodes[callable].kind != PT_GLOBAL) return bad_at(p, "calls what is no constructor");
    return push(p, pt_call(p, callable, args));
}

/* The state of an OrderedDict is a dictionary of attributes, such as _metadata; data it is not. */
static bool build(aj_pt *p) {
    if (!holds(p, 2)) return false;
    pop(p);
    return top_is(p, AJ_PT_DICT, "gives attributes to what is no dictionary");
}

/* -- Opcodes -------------------------------------------------------------------------------------------------------------- */

static bool step(aj_pt *p, uint8_t op) {
    uint8_t b = 0;
    uint16_t h = 0;
    uint32_t w = 0;
    uint64_t q = 0;
    const uint32_t *from = NULL;
    uint32_t n = 0;
    bool whole = true;
    switch (op) {
    case 0x80: case 'K': case 0x8C: case 'U': case 'q': case 'h': whole = cursor_u8(&p->in, &b); break;
    case 'M': whole = cursor_u16(&p->in, &h); break;
    case 'J': case 'X': case 'r': case 'j': whole = cursor_u32(&p->in, &w); break;
    case 0x95: whole = cursor_u64(&p->in, &q); break;
    }
    if (!whole) return bad_at(p, "is cut short");
    switch (op) {
    case 0x80: return (b >= 2 && b <= 5) || bad_at(p, "a protocol other than 2 to 5");
    case 0x95: return q <= cursor_left(&p->in) || bad_at(p, "is cut short");      /* FRAME */
    case '(':
        if (!pt_room(p, &p->marks, p->n_marks, sizeof *p->marks)) return false;
        p->marks[p->n_marks++] = p->n_stack;
        return true;
    case 'N': return push(p, pt_make(p, AJ_PT_NONE));
    case 0x88: return push(p, pt_make(p, AJ_PT_TRUE));
    case 0x89: return push(p, pt_make(p, AJ_PT_FALSE));
    case 'K': return push_number(p, b);
    case 'M': return push_number(p, h);
    case 'J': return push_number(p, (int32_t)w);
    case 0x8A: return push_long(p);
    case 'G': return push_float(p);
    case 'X': return push_text(p, w, true);
    case 0x8C: return push_text(p, b, true);
    case 'U': return push_text(p, b, false);
    case '}': return push(p, pt_make(p, AJ_PT_DICT));
    case ']': return push(p, pt_make(p, AJ_PT_LIST));
    case ')': return push(p, pt_make(p, AJ_PT_TUPLE));
    case 0x8F: return push(p, pt_make(p, AJ_PT_SET));
    case 't': return above_mark(p, &from, &n) && push(p, collect(p, AJ_PT_TUPLE, from, n));
    case 0x85: case 0x86: case 0x87: return small_tuple(p, op - 0x84u);
    case 'a': {
        if (!holds(p, 2)) return false;
        uint32_t item = pop(p);
        return top_is(p, AJ_PT_LIST, "appends to what is no list") && pt_append(p, top(p), item);
    }
    case 'e': return append_items(p, AJ_PT_LIST);
    case 0x90: return append_items(p, AJ_PT_SET);
    case 's': {
        if (!holds(p, 3)) return false;
        uint32_t value = pop(p), key = pop(p);
        return top_is(p, AJ_PT_DICT, "sets a key of what is no dictionary") && pt_set(p, top(p), key, value);
    }
    case 'u': return set_items(p);
    case 'q': return memo_put(p, b);
    case 'r': return memo_put(p, w);
    case 0x94: return memo_put(p, p->n_memo);
    case 'h': return memo_get(p, b);
    case 'j': return memo_get(p, w);
    case 'c': return global(p);
    case 0x93: return stack_global(p);
    case 'Q': return holds(p, 1) && push(p, pt_persistent(p, pop(p)));
    case 'R': case 0x81: return call(p);        /* NEWOBJ: the same of a class */
    case 'b': return build(p);
    }
    p->in.at--;
    return aj_error("pt: %s: byte %zu of data.pkl: opcode 0x%02x is none that tensors need: refused", p->blob->name,
                    (size_t)(p->in.at - p->pickle->data), op);
}

bool pt_run(aj_pt *p) {
    p->in = cursor_over(p->pickle->data, p->pickle->size);
    uint8_t op;
    for (uint32_t n = 0; cursor_u8(&p->in, &op); n++) {
        if (op == '.') {
            if (!holds(p, 1)) return false;
            if (p->n_stack > 1 || p->n_marks) return bad_at(p, "ends with values left over");
            if (cursor_left(&p->in)) return bad_at(p, "the pickle goes on after its end");
            p->top = pop(p);
            return true;
        }
        if (!step(p, op)) return false;
        if (n % 4096 == 0 && aj_interrupted()) return false;
    }
    return bad_at(p, "is cut short");
}
