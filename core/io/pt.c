/* pt.c - reads PyTorch's .pt and .pth, which are zips of a pickle and of the bytes of storages.
 *
 * The result is a graph of nodes that the bindings walk, and tensors over the file's bytes in place. The pickle is read as data:
 * a name that is not on the short list of pt_build.c is an error, and nothing is ever executed.
 */
#include "io/pt.h"
#include <inttypes.h>
#include <stdlib.h>

enum { MAX_DEPTH = 100, MAX_PICKLE = 1 << 28 };

/* -- Opening ------------------------------------------------------------------------------------------------------------ */

static bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0 && (n == m || name[n - m - 1] == '/');
}

/* data.pkl lies in the one folder that all entries share. */
static int64_t find_pickle(aj_pt *p) {
    int64_t found = -1;
    for (int64_t i = 0; i < aj_zip_count(p->zip); i++) {
        const char *name = aj_zip_name(p->zip, i), *slash = strchr(name, '/');
        if (!ends_with(name, "data.pkl") || (slash && strchr(slash + 1, '/'))) continue;
        if (found >= 0) return pt_refuse(p, "has two pickles named data.pkl");
        found = i;
    }
    if (found < 0) return pt_refuse(p, "is a zip without data.pkl: is it a .pt file?");
    p->folder = aj_zip_name(p->zip, found);
    p->folder_n = (int)strlen(p->folder) - 8;
    return found;
}

static bool read_byteorder(aj_pt *p) {
    char name[1100];
    memcpy(name, p->folder, (size_t)p->folder_n);
    strcpy(name + p->folder_n, "byteorder");
    int64_t i = aj_zip_find(p->zip, name);
    if (i < 0) return true;
    aj_blob *b = aj_zip_entry(p->zip, i);
    if (!b) return false;
    p->big_endian = b->size == 3 && memcmp(b->data, "big", 3) == 0;
    bool good = p->big_endian || (b->size == 6 && memcmp(b->data, "little", 6) == 0) || pt_bad(p, "byteorder is neither \"little\" nor \"big\"");
    aj_blob_drop(b);
    return good;
}

/* How deep the values under a node lie, 1 for a plain one; 0 after an error. known[i]: 0 not yet, 255 it is above us. */
static int height_of(const aj_pt *p, uint32_t node, int depth, unsigned char *known) {
    const aj_pt_node *x = &p->nodes[node];
    if (known[node] == 255) return pt_bad(p, "a value contains itself");
    if (depth + known[node] > MAX_DEPTH) return aj_error("pt: %s: nested deeper than %d", p->blob->name, MAX_DEPTH);
    if (known[node]) return known[node];
    if (x->kind == PT_GLOBAL) return pt_bad(p, "holds a class, where a value is wanted");
    int height = 0;
    if (x->kind == AJ_PT_LIST || x->kind == AJ_PT_TUPLE || x->kind == AJ_PT_DICT || x->kind == AJ_PT_SET) {
        known[node] = 255;
        for (uint32_t i = 0; i < x->n; i++) {
            int h = height_of(p, x->items[i], depth + 1, known);
            if (!h) return 0;
            if (h > height) height = h;
        }
    }
    known[node] = (unsigned char)(height + 1);
    return height + 1;
}

static bool check_depth(const aj_pt *p) {
    unsigned char *known = calloc(p->n_nodes, 1);
    bool good = known ? height_of(p, p->top, 0, known) > 0 : pt_bad(p, "out of memory");
    free(known);
    return good;
}

/* A bare storage becomes a tensor of one dimension. */
static bool storages_to_tensors(aj_pt *p) {
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        if (p->nodes[i].kind != PT_STORAGE) continue;
        if (!pt_room(p, &p->tensors, p->n_tensors, sizeof *p->tensors)) return false;
        uint32_t s = p->nodes[i].n;
        p->tensors[p->n_tensors] = (pt_tensor){.storage = s, .ndim = 1, .shape = {(int64_t)p->storages[s].numel}, .stride = {1}};
        p->nodes[i] = (aj_pt_node){.kind = AJ_PT_TENSOR, .n = p->n_tensors++};
    }
    return true;
}

static bool read_all(aj_pt *p, int64_t limit) {
    if (p->blob->size && p->blob->data[0] == 0x80)
        return pt_bad(p, "is a bare pickle, as PyTorch wrote before 1.6, which runs code when it is read: load it there, and save it again");
    p->zip = aj_zip_open(p->blob, "pt", limit);
    int64_t i = p->zip ? find_pickle(p) : -1;
    if (i < 0 || !read_byteorder(p)) return false;
    if (aj_zip_size(p->zip, i) > MAX_PICKLE) return pt_bad(p, "data.pkl is too large");
    p->bytes = calloc((size_t)aj_zip_count(p->zip), sizeof *p->bytes);
    if (!p->bytes) return pt_bad(p, "out of memory");
    p->pickle = aj_zip_entry(p->zip, i);
    return p->pickle && pt_run(p) && check_depth(p) && storages_to_tensors(p);
}

aj_pt *aj_pt_read(aj_blob *b, int64_t limit) {
    aj_pt *p = calloc(1, sizeof *p);
    if (!p) {
        aj_error("pt: %s: out of memory", b->name);
        return NULL;
    }
    p->blob = aj_blob_hold(b);
    if (read_all(p, limit)) return p;
    aj_pt_drop(p);
    return NULL;
}

void aj_pt_drop(aj_pt *p) {
    if (!p) return;
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        uint32_t kind = p->nodes[i].kind;
        if (kind == AJ_PT_LIST || kind == AJ_PT_TUPLE || kind == AJ_PT_DICT || kind == AJ_PT_SET) free(p->nodes[i].items);
    }
    for (int64_t i = 0; p->bytes && i < aj_zip_count(p->zip); i++) if (p->bytes[i].bytes) aj_storage_drop(p->bytes[i].bytes);
    free(p->bytes);
    free(p->nodes);
    free(p->tensors);
    free(p->storages);
    free(p->stack);
    free(p->marks);
    free(p->memo);
    aj_blob_drop(p->pickle);
    aj_zip_drop(p->zip);
    aj_blob_drop(p->blob);
    free(p);
}

const aj_pt_node *aj_pt_nodes(aj_pt *p) { return p->nodes; }
uint32_t aj_pt_top(aj_pt *p) { return p->top; }

/* -- Tensors ---------------------------------------------------------------------------------------------------------------- */

static void drop(void *b) { aj_blob_drop(b); }

/* The bytes of an entry as a storage, made once: tensors of one storage share it here too. In place where they are aligned and in
 * our byte order. */
static aj_storage *storage_of(aj_pt *p, int64_t entry, size_t item) {
    pt_bytes *s = &p->bytes[entry];
    if (s->bytes) {
        if (!p->big_endian || s->item == item) return s->bytes;
        pt_bad(p, "a big-endian storage has elements of two sizes");
        return NULL;
    }
    aj_blob *b = aj_zip_entry(p->zip, entry);
    if (b && ((uintptr_t)b->data % 8 || (p->big_endian && item > 1))) {
        aj_blob *copy = aj_blob_of(b->data, b->size, b->name);
        aj_blob_drop(b);
        b = copy;
        if (b && p->big_endian) aj_swap_bytes(b->data, item, b->size / item);
    }
    if (!b) return NULL;
    aj_storage *bytes = malloc(sizeof *bytes);
    if (!bytes) {
        aj_blob_drop(b);
        pt_bad(p, "out of memory");
        return NULL;
    }
    *bytes = (aj_storage){.data = b->data, .refs = 1, .device = AJ_CPU, .size_class = -2, .done = drop, .arg = b};
    *s = (pt_bytes){bytes, item, false};
    return bytes;
}

aj_tensor *aj_pt_tensor(aj_pt *p, uint32_t node) {
    const pt_tensor *t = &p->tensors[p->nodes[node].n];
    const pt_storage *s = &p->storages[t->storage];
    const pt_type *type = &pt_types[s->type];
    if (type->dtype < 0) {
        aj_error("pt: %s: a tensor of complex numbers, which aijit does not have", p->blob->name);
        return NULL;
    }
    aj_storage *bytes = storage_of(p, s->entry, type->item);
    if (!bytes) return NULL;
    if (type->dtype == AJ_BOOL && !p->bytes[s->entry].bools) {
        if (!aj_check_bools("pt", p->blob->name, bytes->data, s->numel)) return NULL;
        p->bytes[s->entry].bools = true;
    }
    aj_tensor whole = {.storage = bytes, .data = bytes->data, .device = AJ_CPU, .dtype = (uint8_t)type->dtype};
    aj_tensor *view = aj_new_view(&whole, t->ndim, t->shape, t->stride, t->offset);
    return view ? aj_give(view) : NULL;
}
