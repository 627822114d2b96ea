/* What is accepted is written again, and what was written must be accepted with the same bytes. */
#include "fuzz.h"

static void again(aj_safetensors *s, int64_t n, const char **names, aj_tensor **tensors) {
    for (int64_t i = 0; i < n; i++) names[i] = aj_safetensors_name(s, i);
    aj_writer *w = aj_writer_open(NULL);
    if (!aj_safetensors_write(w, n, names, tensors, 0, NULL, NULL)) abort();
    aj_blob *b = aj_writer_blob(w);
    aj_safetensors *r = aj_safetensors_read(b);
    if (!r || aj_safetensors_count(r) != n) {
        fprintf(stderr, "%s\n", aj_fuzz_message);
        abort();
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t k = 0;
        while (strcmp(aj_safetensors_name(r, i), names[k])) k++;
        aj_tensor *t = aj_safetensors_tensor(r, i);
        if (!t || t->dtype != tensors[k]->dtype || t->numel != tensors[k]->numel) abort();
        if (t->numel && memcmp(t->data, tensors[k]->data, (size_t)t->numel * aj_dtype_size(t->dtype))) abort();
        aj_drop(t);
    }
    aj_safetensors_drop(r);
    aj_blob_drop(b);
    aj_writer_drop(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    aj_blob *b = fuzz_blob(data, size);
    aj_safetensors *s = aj_safetensors_read(b);
    aj_blob_drop(b);
    if (!s) {
        fuzz_consume(NULL);
        return 0;
    }
    int64_t n = aj_safetensors_count(s), good = 0;
    aj_tensor **t = calloc((size_t)n + 1, sizeof *t);
    const char **names = calloc((size_t)n + 1, sizeof *names);
    for (int64_t i = 0; i < n; i++) if ((t[i] = aj_safetensors_tensor(s, i))) good++;
    if (good == n) again(s, n, names, t);
    for (int64_t i = 0; i < n; i++) if (t[i]) fuzz_consume(t[i]);
    free(t);
    free(names);
    aj_safetensors_drop(s);
    return 0;
}
