/* oom.c - every allocation of core/io fails once: for n = 1, 2, ... the n-th malloc, calloc, realloc or strdup returns NULL
 * while each reader and writer works on a good file. Nothing may crash or leak, and every failure must have a message.
 * Started by spec/fuzz/oom, which links it with --wrap.
 */
#include "fuzz.h"
#include <sys/stat.h>
#include <unistd.h>

static long count, failing;
static bool fails(void) { return failing && ++count == failing; }

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n) { return fails() ? NULL : __real_malloc(n); }
void *__real_calloc(size_t n, size_t m);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_calloc(size_t n, size_t m) { return fails() ? NULL : __real_calloc(n, m); }
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n) { return fails() ? NULL : __real_realloc(p, n); }
char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
char *__wrap_strdup(const char *s) { return fails() ? NULL : __real_strdup(s); }

static const char *source, *target;

static bool use(aj_tensor *t) {
    if (t) fuzz_consume(t);
    return t != NULL;
}

static bool read_safetensors(aj_blob *b) {
    aj_safetensors *s = aj_safetensors_read(b);
    bool good = s != NULL;
    for (int64_t i = 0; good && i < aj_safetensors_count(s); i++) good = use(aj_safetensors_tensor(s, i));
    aj_safetensors_drop(s);
    return good;
}

static bool read_npz(aj_blob *b) {
    aj_npz *z = aj_npz_read(b, 0);
    bool good = z != NULL;
    for (int64_t i = 0; good && i < aj_npz_count(z); i++) good = use(aj_npz_tensor(z, i));
    aj_npz_drop(z);
    return good;
}

static bool read_pt(aj_blob *b) {
    aj_pt *p = aj_pt_read(b, 0);
    bool good = p != NULL;
    uint32_t list[1000] = {0}, n = 0;
    if (p) list[n++] = aj_pt_top(p);
    while (good && n > 0) {
        const aj_pt_node *x = &aj_pt_nodes(p)[list[--n]];
        if (x->kind == AJ_PT_TENSOR) {
            aj_tensor *t = aj_pt_tensor(p, (uint32_t)(x - aj_pt_nodes(p)));
            good = t != NULL;
            if (t) aj_drop(t);
        }
        bool holds = x->kind == AJ_PT_LIST || x->kind == AJ_PT_TUPLE || x->kind == AJ_PT_DICT || x->kind == AJ_PT_SET;
        for (uint32_t i = 0; holds && i < x->n && n < 1000; i++) list[n++] = x->items[i];
    }
    aj_pt_drop(p);
    return good;
}

static bool read_csv(aj_blob *b) {
    aj_csv_how how = {',', true, 0, NULL};
    aj_csv *c = aj_csv_open(b, &how);
    bool good = c && aj_csv_fill(c);
    aj_csv_drop(c);
    return good;
}

static bool read_yaml(aj_blob *b) {
    aj_json *j = aj_yaml_parse(aj_blob_data(b), aj_blob_size(b), false);
    aj_json_drop(j);
    return j != NULL;
}
static bool read_json(aj_blob *b) {
    aj_json *j = aj_json_parse(aj_blob_data(b), aj_blob_size(b), false);
    aj_json_drop(j);
    return j != NULL;
}

static bool written(bool to_file, bool (*put)(aj_writer *w, aj_tensor *t), aj_tensor *t) {
    aj_writer *w = aj_writer_open(to_file ? target : NULL);
    bool good = w && put(w, t);
    if (good && to_file) good = aj_writer_commit(w);
    if (good && !to_file) {
        aj_blob *b = aj_writer_blob(w);
        good = b != NULL;
        aj_blob_drop(b);
    }
    aj_writer_drop(w);
    return good;
}

static bool put_safetensors(aj_writer *w, aj_tensor *t) {
    const char *names[] = {"a", "b"}, *key = "k", *value = "v";
    aj_tensor *tensors[] = {t, t};
    return aj_safetensors_write(w, 2, names, tensors, 1, &key, &value);
}
static bool put_npz(aj_writer *w, aj_tensor *t) {
    const char *names[] = {"a", "b"};
    aj_tensor *tensors[] = {t, t};
    return aj_npz_write(w, 2, names, tensors, true);
}
static bool put_jpeg(aj_writer *w, aj_tensor *t) { return aj_jpeg_write(w, t, false, 80); }
static bool put_csv(aj_writer *w, aj_tensor *t) {
    aj_csv_column column = {{"a", 1}, t, NULL};
    aj_tensor row = *t;
    row.ndim = 1;
    column.t = &row;
    return aj_csv_write(w, 1, &column, row.shape[0], true, ',');
}
static bool put_png(aj_writer *w, aj_tensor *t) { return aj_png_write(w, t, false); }

/* A view whose rows stand apart, so that writers must pack it; made without allocating. */
static bool write_all(void) {
    static unsigned char data[4 * 8 * 3];
    static aj_storage storage;
    static aj_tensor t = {.storage = &storage, .data = (char *)data, .refs = 1, .dtype = AJ_U8, .ndim = 3, .device = AJ_CPU, .numel = 4 * 4 * 3,
                          .shape = {4, 4, 3}, .stride = {24, 6, 1}};
    bool good = true;
    for (int to_file = 0; to_file < 2; to_file++)
        good = good && written(to_file, put_safetensors, &t) && written(to_file, aj_npy_write, &t) && written(to_file, put_npz, &t) && written(to_file, put_jpeg, &t) &&
               written(to_file, put_csv, &t)
             && written(to_file, put_png, &t);
    aj_tensor *small = good ? aj_picture_resize(&t, 2, 7, 2, false) : NULL;
    good = small != NULL;
    if (small) aj_drop(small);
    return good;
}

static bool work(const char *kind) {
    if (strcmp(kind, "write") == 0) return write_all();
    aj_blob *b = aj_blob_open(source);
    bool good = b != NULL;
    if (good) {
        if (strcmp(kind, "safetensors") == 0) good = read_safetensors(b);
        else if (strcmp(kind, "npy") == 0) good = use(aj_npy_read(b));
        else if (strcmp(kind, "npz") == 0) good = read_npz(b);
        else if (strcmp(kind, "jpeg") == 0) good = use(aj_jpeg_read(b, 3, true, 4, 4));
        else if (strcmp(kind, "csv") == 0) good = read_csv(b);
        else if (strcmp(kind, "pt") == 0) good = read_pt(b);
        else if (strcmp(kind, "idx") == 0) {
            aj_blob *out = NULL;
            good = use(aj_idx_read(b)) && (out = aj_gunzip(b, 1 << 20));
            aj_blob_drop(out);
        } else if (strcmp(kind, "png") == 0) good = use(aj_png_read(b, 3, true, 0));
        else good = strcmp(kind, "yaml") == 0 ? read_yaml(b) : read_json(b);
    }
    aj_blob_drop(b);
    return good;
}

/* oom KIND FILE TEMPORARY */
int main(int argc, char **argv) {
    if (argc != 4) return 2;
    source = argv[2];
    target = argv[3];
    for (long n = 1; n < 10000; n++) {
        aj_fuzz_message[0] = 0;
        count = 0;
        failing = n;
        bool good = work(argv[1]);
        bool met = count >= n;
        failing = 0;
        if (!good && !aj_fuzz_message[0]) {
            fprintf(stderr, "%s: allocation %ld failed without a message\n", argv[1], n);
            return 1;
        }
        if (!met) {
            if (!good) fprintf(stderr, "%s: %s\n", argv[1], aj_fuzz_message);
            else printf("%-12s %ld allocations, each of which may fail\n", argv[1], n - 1);
            return !good;
        }
    }
    return 1;
}
