/* pt_build.c - the constructors that a .pt file may name, and what each makes of its arguments: dictionaries, sets, sizes, and
 * tensors, whose storage, offset, sizes and strides are checked against the file here.
 */
#include "io/pt.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

const pt_type pt_types[] = {
    {"FloatStorage", AJ_F32, 4}, {"DoubleStorage", AJ_F64, 8}, {"HalfStorage", AJ_F16, 2}, {"BFloat16Storage", AJ_BF16, 2},
    {"LongStorage", AJ_I64, 8}, {"IntStorage", AJ_I32, 4}, {"ShortStorage", AJ_I16, 2}, {"CharStorage", AJ_I8, 1}, {"ByteStorage", AJ_U8, 1},
    {"BoolStorage", AJ_BOOL, 1}, {"UntypedStorage", AJ_U8, 1}, {"ComplexFloatStorage", -1, 8}, {"ComplexDoubleStorage", -1, 16},
};
enum { TYPES = sizeof pt_types / sizeof *pt_types };

enum { DICT, SET, SIZE, DEVICE, TENSOR, TENSOR_V2, PARAMETER, PARAMETER_WITH_STATE, PARAMETER_CLASS, STORAGES };
static const struct { const char *module, *name; int what; } globals[] = {
    {"collections", "OrderedDict", DICT}, {"__builtin__", "set", SET}, {"builtins", "set", SET}, {"torch", "Size", SIZE}, {"torch", "device", DEVICE},
    {"torch._utils", "_rebuild_tensor", TENSOR}, {"torch._utils", "_rebuild_tensor_v2", TENSOR_V2},
    {"torch._utils", "_rebuild_parameter", PARAMETER}, {"torch._utils", "_rebuild_parameter_with_state", PARAMETER_WITH_STATE},
    {"torch.nn.parameter", "Parameter", PARAMETER_CLASS},
};
static const struct { const char *torch, *ours; } dtypes[] = {
    {"float32", "f32"}, {"float64", "f64"}, {"float16", "f16"}, {"bfloat16", "bf16"}, {"int64", "i64"}, {"int32", "i32"}, {"int16", "i16"},
    {"int8", "i8"}, {"uint8", "u8"}, {"bool", "bool"}, {"complex64", "complex64"}, {"complex128", "complex128"},
};

static bool same(const char *text, size_t n, const char *name) { return strlen(name) == n && memcmp(text, name, n) == 0; }

static int64_t class_of(aj_pt *p, int what) {
    int64_t i = pt_make(p, PT_GLOBAL);
    if (i >= 0) p->nodes[i].n = (uint32_t)what;
    return i;
}

int64_t pt_global(aj_pt *p, const char *module, size_t module_n, const char *name, size_t name_n) {
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (same(module, module_n, globals[i].module) && same(name, name_n, globals[i].name)) return class_of(p, globals[i].what);
    bool torch = same(module, module_n, "torch");
    if (torch || same(module, module_n, "torch.storage"))
        for (int i = 0; i < TYPES; i++) if (same(name, name_n, pt_types[i].name)) return class_of(p, STORAGES + i);
    for (size_t i = 0; torch && i < sizeof dtypes / sizeof *dtypes; i++)
        if (same(name, name_n, dtypes[i].torch)) {
            int64_t text = pt_make(p, AJ_PT_TEXT);
            if (text < 0) return -1;
            p->nodes[text].text = dtypes[i].ours;
            p->nodes[text].n = (uint32_t)strlen(dtypes[i].ours);
            return text;
        }
    aj_error("pt: %s: asks for %s.%s, which is not plain data: refused. Save a state_dict of tensors and numbers instead", p->blob->name,
             aj_shown(module, module_n).text, aj_shown(name, name_n).text);
    return -1;
}

/* -- Tensors ----------------------------------------------------------------------------------------------------------- */

static bool whole(const aj_pt *p, uint32_t node, uint64_t *v) {
    const aj_pt_node *x = &p->nodes[node];
    if (x->kind == AJ_PT_INTEGER && x->integer >= 0) *v = (uint64_t)x->integer;
    else if (x->kind == AJ_PT_NUMBER && x->number >= 0 && x->number <= 0x1p53 && x->number == (double)(uint64_t)x->number) *v = (uint64_t)x->number;
    else return false;
    return *v <= INT64_MAX;
}

/* The sizes or strides of a tensor; their number, or -1 after an error. */
static int sizes_of(const aj_pt *p, uint32_t node, int64_t *to, const char *what) {
    const aj_pt_node *x = &p->nodes[node];
    if (x->kind != AJ_PT_TUPLE && x->kind != AJ_PT_LIST) pt_bad(p, what);
    else if (x->n > AJ_MAX_DIM) aj_error("pt: %s: a tensor of %" PRIu32 " dimensions: at most %d are supported", p->blob->name, x->n, AJ_MAX_DIM);
    else {
        for (uint32_t i = 0; i < x->n; i++) {
            uint64_t v;
            if (!whole(p, x->items[i], &v)) {
                pt_bad(p, what);
                return -1;
            }
            to[i] = (int64_t)v;
        }
        return (int)x->n;
    }
    return -1;
}

/* Does every element lie in the storage? */
static bool check_place(const aj_pt *p, const pt_tensor *t, const pt_storage *s) {
    uint64_t last = (uint64_t)t->offset, bytes, part;
    if (!dense_bytes(t->ndim, t->shape, pt_types[s->type].item, &bytes)) return pt_bad(p, "the sizes of a tensor multiply to more than 2^63 bytes (overflow)");
    bool empty = false, fits = true;
    for (int d = 0; d < t->ndim; d++) {
        if (t->shape[d] == 0) empty = true;
        else fits = fits && times((uint64_t)t->shape[d] - 1, (uint64_t)t->stride[d], &part) && plus(last, part, &last);
    }
    if (!fits) return pt_bad(p, "the strides of a tensor lead past 2^64 (overflow)");
    if (empty ? (uint64_t)t->offset <= s->numel : last < s->numel) return true;
    return aj_error("pt: %s: a tensor reaches to element %" PRIu64 " of a storage that has %" PRIu64 ": the file is damaged, or made to mislead",
                    p->blob->name, last, s->numel);
}

static int64_t rebuild(aj_pt *p, const uint32_t *args, uint32_t n, bool v2) {
    if (v2 ? n < 6 || n > 7 : n != 4) return pt_refuse(p, "a tensor with a wrong number of arguments");
    pt_tensor t = {0};
    uint64_t offset;
    if (p->nodes[args[0]].kind != PT_STORAGE) return pt_refuse(p, "a tensor without a storage");
    t.storage = p->nodes[args[0]].n;
    if (!whole(p, args[1], &offset)) return pt_refuse(p, "the offset of a tensor is no whole number");
    t.offset = (int64_t)offset;
    t.ndim = sizes_of(p, args[2], t.shape, "the sizes of a tensor are no list of whole numbers");
    int strides = t.ndim < 0 ? -1 : sizes_of(p, args[3], t.stride, "the strides of a tensor are no list of whole numbers");
    if (strides < 0) return -1;
    if (strides != t.ndim) return pt_refuse(p, "a tensor has another number of strides than of sizes");
    if (!check_place(p, &t, &p->storages[t.storage])) return -1;
    int64_t node = pt_make(p, AJ_PT_TENSOR);
    if (node < 0 || !pt_room(p, &p->tensors, p->n_tensors, sizeof *p->tensors)) return -1;
    p->tensors[p->n_tensors] = t;
    p->nodes[node].n = p->n_tensors++;
    return node;
}

/* ("storage", class, key, location, number of elements) */
int64_t pt_persistent(aj_pt *p, uint32_t id) {
    aj_pt_node x = p->nodes[id];
    bool good = x.kind == AJ_PT_TUPLE && x.n >= 5 && p->nodes[x.items[1]].kind == PT_GLOBAL && p->nodes[x.items[1]].n >= STORAGES;
    aj_pt_node kind = good ? p->nodes[x.items[0]] : x, key = good ? p->nodes[x.items[2]] : x;
    uint64_t numel, bytes;
    if (!good || kind.kind != AJ_PT_TEXT || !same(kind.text, kind.n, "storage") || key.kind != AJ_PT_TEXT || !whole(p, x.items[4], &numel))
        return pt_refuse(p, "a storage is not described as one");
    int type = (int)p->nodes[x.items[1]].n - STORAGES;
    char name[1100];
    int n = snprintf(name, sizeof name, "%.*sdata/%.*s", p->folder_n, p->folder, key.n > 40 ? 40 : (int)key.n, key.text);
    int64_t entry = key.n > 40 || memchr(key.text, 0, key.n) || n >= (int)sizeof name ? -1 : aj_zip_find(p->zip, name);
    if (entry < 0) {
        aj_error("pt: %s: storage \"%s\" is not in the file", p->blob->name, aj_shown(key.text, key.n).text);
        return -1;
    }
    if (!times(numel, pt_types[type].item, &bytes) || bytes != aj_zip_size(p->zip, entry)) {
        aj_error("pt: %s: storage \"%s\" should hold %" PRIu64 " elements of %d bytes, and has %" PRIu64 " bytes", p->blob->name,
                 aj_shown(key.text, key.n).text, numel, pt_types[type].item, aj_zip_size(p->zip, entry));
        return -1;
    }
    int64_t node = pt_make(p, PT_STORAGE);
    if (node < 0 || !pt_room(p, &p->storages, p->n_storages, sizeof *p->storages)) return -1;
    p->storages[p->n_storages] = (pt_storage){entry, numel, type};
    p->nodes[node].n = p->n_storages++;
    return node;
}

/* -- The others ----------------------------------------------------------------------------------------------------------- */

/* OrderedDict(), or of a list of pairs. */
static int64_t dictionary(aj_pt *p, const uint32_t *args, uint32_t n) {
    int64_t dict = pt_make(p, AJ_PT_DICT);
    if (dict < 0 || n == 0) return dict;
    aj_pt_node list = p->nodes[args[0]];
    if (n > 1 || (list.kind != AJ_PT_LIST && list.kind != AJ_PT_TUPLE)) return pt_refuse(p, "an OrderedDict of what is no list");
    for (uint32_t i = 0; i < list.n; i++) {
        aj_pt_node pair = p->nodes[list.items[i]];
        if ((pair.kind != AJ_PT_LIST && pair.kind != AJ_PT_TUPLE) || pair.n != 2) return pt_refuse(p, "an OrderedDict of what are no pairs");
        if (!pt_set(p, (uint32_t)dict, pair.items[0], pair.items[1])) return -1;
    }
    return dict;
}

static int64_t set_of(aj_pt *p, const uint32_t *args, uint32_t n) {
    int64_t set = pt_make(p, AJ_PT_SET);
    if (set < 0 || n == 0) return set;
    aj_pt_node list = p->nodes[args[0]];
    if (n > 1 || (list.kind != AJ_PT_LIST && list.kind != AJ_PT_TUPLE)) return pt_refuse(p, "a set of what is no list");
    for (uint32_t i = 0; i < list.n; i++) if (!pt_append(p, (uint32_t)set, list.items[i])) return -1;
    return set;
}

int64_t pt_call(aj_pt *p, uint32_t callable, uint32_t args) {
    /* Nodes move as others are made; the items of a finished tuple do not. */
    const uint32_t *items = p->nodes[args].items;
    uint32_t n = p->nodes[args].n, first = n ? p->nodes[items[0]].kind : PT_GLOBAL;
    switch (p->nodes[callable].n) {
    case DICT: return dictionary(p, items, n);
    case SET: return set_of(p, items, n);
    case SIZE: return n == 1 && (first == AJ_PT_TUPLE || first == AJ_PT_LIST) ? (int64_t)items[0] : pt_refuse(p, "a torch.Size of what is no tuple");
    case DEVICE: return n >= 1 && n <= 2 && first == AJ_PT_TEXT ? (int64_t)items[0] : pt_refuse(p, "a torch.device without a name");
    case TENSOR: return rebuild(p, items, n, false);
    case TENSOR_V2: return rebuild(p, items, n, true);
    case PARAMETER: case PARAMETER_WITH_STATE: case PARAMETER_CLASS:
        return n >= 1 && n <= 4 && first == AJ_PT_TENSOR ? (int64_t)items[0] : pt_refuse(p, "a parameter without a tensor");
    }
    return pt_refuse(p, "a class of storages is called");
}
