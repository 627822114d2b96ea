/* The zip reader too: names are those of an honest archive; what is accepted is written again, and read. */
#include "fuzz.h"

static void again(int64_t n, const char **names, aj_tensor **t) {
    aj_writer *w = aj_writer_open(NULL);
    if (!aj_npz_write(w, n, names, t, n & 1)) {
        /* A name may hold what ours must not. */
        if (!aj_fuzz_message[0]) abort();
        aj_writer_drop(w);
        return;
    }
    aj_blob *b = aj_writer_blob(w);
    aj_npz *z = aj_npz_read(b, 1 << 30);
    if (!z || aj_npz_count(z) != n) abort();
    for (int64_t i = 0; i < n; i++) {
        const char *name = aj_npz_name(z, i);
        int64_t k = 0;
        while (strcmp(name, names[k])) k++;
        aj_tensor *u = aj_npz_tensor(z, i);
        if (!u || u->dtype != t[k]->dtype || u->numel != t[k]->numel) abort();
        if (u->numel && memcmp(u->data, t[k]->data, (size_t)u->numel * aj_dtype_size(u->dtype))) abort();
        aj_drop(u);
    }
    aj_npz_drop(z);
    aj_blob_drop(b);
    aj_writer_drop(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    aj_blob *b = fuzz_blob(data, size);
    aj_npz *z = aj_npz_read(b, 1 << 22);
    aj_blob_drop(b);
    if (!z) {
        fuzz_consume(NULL);
        return 0;
    }
    int64_t n = aj_npz_count(z), good = 0;
    aj_tensor **t = calloc((size_t)n + 1, sizeof *t);
    const char **names = calloc((size_t)n + 1, sizeof *names);
    for (int64_t i = 0; i < n; i++) {
        const char *name = aj_npz_name(z, i);
        if (name[0] == '/' || aj_utf8_bad(name, strlen(name)) >= 0) abort();
        names[i] = strdup(name);
        if ((t[i] = aj_npz_tensor(z, i))) good++;
    }
    bool same = false;      /* "a" and "a.npy" are both "a" */
    for (int64_t i = 1; i < n; i++) if (strcmp(names[i - 1], names[i]) == 0) same = true;
    if (good == n && !same && n < 100) again(n, names, t);
    for (int64_t i = 0; i < n; i++) {
        if (t[i]) fuzz_consume(t[i]);
        free((void *)(uintptr_t)names[i]);
    }
    free(t);
    free(names);
    aj_npz_drop(z);
    return 0;
}
