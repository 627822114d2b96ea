/* npz.c - NumPy's .npz: a zip of .npy files, stored or deflated. A name in Lua is that of an entry without its ".npy". */
#include "io/zip.h"
#include <stdlib.h>

struct aj_npz { aj_zip *zip; char name[1024]; };

aj_npz *aj_npz_read(aj_blob *b, int64_t limit) {
    aj_npz *z = calloc(1, sizeof *z);
    if (!z) {
        aj_error("npz: %s: out of memory", b->name);
        return NULL;
    }
    z->zip = aj_zip_open(b, "npz", limit);
    if (z->zip) return z;
    free(z);
    return NULL;
}

void aj_npz_drop(aj_npz *z) {
    if (!z) return;
    aj_zip_drop(z->zip);
    free(z);
}

int64_t aj_npz_count(aj_npz *z) { return aj_zip_count(z->zip); }

static bool ends_in_npy(const char *name, size_t n) { return n > 4 && memcmp(name + n - 4, ".npy", 4) == 0; }

const char *aj_npz_name(aj_npz *z, int64_t i) {
    const char *name = aj_zip_name(z->zip, i);
    size_t n = strlen(name);
    if (!ends_in_npy(name, n)) return name;
    memcpy(z->name, name, n - 4);
    z->name[n - 4] = 0;
    return z->name;
}

aj_tensor *aj_npz_tensor(aj_npz *z, int64_t i) {
    aj_blob *b = aj_zip_entry(z->zip, i);
    aj_tensor *t = b ? aj_npy_read(b) : NULL;
    aj_blob_drop(b);
    return t;
}

/* -- Writing ---------------------------------------------------------------------------------------------------------- */

typedef struct { char *head; void *packed; } piece;

static bool add(aj_zip_writer *z, piece *p, const char *name, aj_tensor *handle, bool deflated) {
    const aj_tensor *t = aj_need(handle, "save");
    if (!t) return false;
    if (t->device != AJ_CPU) return aj_error("npz: tensor \"%s\" is on cuda:%d: copy it with :cpu() first", name, t->device);
    size_t n = strlen(name), bytes = (size_t)t->numel * aj_dtype_size(t->dtype);
    const char *trouble = n > 1000 ? "it is too long" : aj_zip_trouble(name);
    if (trouble) return aj_error("npz: \"%s\" cannot be the name of an entry: %s", aj_shown(name, n).text, trouble);
    char entry[1008];
    memcpy(entry, name, n);
    memcpy(entry + n, ".npy", 5);
    p->head = malloc(AJ_NPY_HEADER);
    if (!p->head) return aj_error("npz: out of memory");
    size_t head = aj_npy_header(t, p->head);
    if (!head) return false;
    if (!t->contiguous) {
        p->packed = malloc(bytes);
        if (!p->packed) return aj_error("npz: out of memory: %zu bytes to pack \"%s\"", bytes, aj_shown(name, n).text);
        aj_pack(p->packed, t->data, aj_dtype_size(t->dtype), t->ndim, t->shape, t->stride);
    }
    return aj_zip_add(z, entry, p->head, head, p->packed ? p->packed : t->data, bytes, deflated);
}

bool aj_npz_write(aj_writer *w, int64_t n, const char *const *names, aj_tensor *const *tensors, bool deflated) {
    piece *pieces = calloc((size_t)n + 1, sizeof *pieces);
    if (!pieces) return aj_error("npz: out of memory");
    aj_zip_writer *z = aj_zip_create(w, "npz");
    bool good = z != NULL;
    for (int64_t i = 0; good && i < n; i++) good = add(z, &pieces[i], names[i], tensors[i], deflated);
    good = good && aj_zip_finish(z);
    aj_zip_writer_drop(z);
    for (int64_t i = 0; i < n; i++) {
        free(pieces[i].head);
        free(pieces[i].packed);
    }
    free(pieces);
    return good;
}
