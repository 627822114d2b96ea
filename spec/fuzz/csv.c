/* The first bytes choose delimiter, header and types. What is accepted is written, and reading that gives the same columns. */
#include "fuzz.h"
#include "io/csv.h"

typedef struct { aj_csv_column columns[64]; aj_tensor *t[64]; int64_t n, rows; aj_csv *from; } table;

static bool read_table(table *x, aj_blob *b, const aj_csv_how *how, unsigned types) {
    static const int32_t kinds[4] = {AJ_CSV_TEXT, AJ_F32, AJ_I8, AJ_BOOL};
    *x = (table){.from = aj_csv_open(b, how)};
    if (!x->from) return false;
    x->n = aj_csv_columns(x->from);
    for (int64_t k = 0; k < x->n && types; k++, types >>= 3) if (types & 1) aj_csv_type(x->from, k, kinds[types >> 1 & 3]);
    if (!aj_csv_fill(x->from)) {
        aj_csv_drop(x->from);
        return false;
    }
    x->rows = aj_csv_rows(x->from);
    for (int64_t k = 0; k < x->n && k < 64; k++) {
        bool text = aj_csv_kind(x->from, k) == AJ_CSV_TEXT;
        x->t[k] = text ? NULL : aj_csv_tensor(x->from, k);
        x->columns[k] = (aj_csv_column){aj_csv_name(x->from, k), x->t[k], text ? aj_csv_texts(x->from, k) : NULL};
    }
    return true;
}

static void drop_table(table *x) {
    for (int64_t k = 0; k < x->n && k < 64; k++) if (x->t[k]) fuzz_consume(x->t[k]);
    aj_csv_drop(x->from);
}

static bool same_text(aj_csv_text a, aj_csv_text b) { return a.size == b.size && (a.size == 0 || memcmp(a.text, b.text, a.size) == 0); }

static void again(const table *x, const aj_csv_how *how) {
    aj_writer *w = aj_writer_open(NULL);
    if (!aj_csv_write(w, x->n, x->columns, x->rows, how->header, how->delimiter)) abort();
    aj_blob *b = aj_writer_blob(w);
    aj_writer_drop(w);
    aj_csv *c = aj_csv_open(b, how);
    if (!c || aj_csv_columns(c) != x->n) abort();
    for (int64_t k = 0; k < x->n; k++) aj_csv_type(c, k, x->t[k] ? x->t[k]->dtype : AJ_CSV_TEXT);
    if (!aj_csv_fill(c) || aj_csv_rows(c) != x->rows) {
        fprintf(stderr, "%s\n", aj_fuzz_message);
        abort();
    }
    for (int64_t k = 0; k < x->n; k++) {
        if (!same_text(aj_csv_name(c, k), x->columns[k].name)) abort();
        if (!x->t[k]) {
            for (int64_t i = 0; i < x->rows; i++) if (!same_text(aj_csv_texts(c, k)[i], x->columns[k].texts[i])) abort();
            continue;
        }
        aj_tensor *t = aj_csv_tensor(c, k);
        for (int64_t i = 0; i < x->rows; i++) {
            size_t item = aj_dtype_size((aj_dtype)t->dtype);
            const char *p = t->data + (size_t)i * item, *q = x->t[k]->data + (size_t)i * item;
            bool nan = (t->dtype == AJ_F64 && *(const double *)q != *(const double *)q) || (t->dtype == AJ_F32 && *(const float *)q != *(const float *)q);
            if (!nan && memcmp(p, q, item)) abort();
        }
        aj_drop(t);
    }
    aj_csv_drop(c);
    aj_blob_drop(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    static const aj_csv_text missing[] = {{"NA", 2}};
    aj_csv_how how = {",;\t "[data[0] & 3], data[0] & 4, 1, missing};
    aj_blob *b = fuzz_blob(data + 2, size - 2);
    table x;
    if (read_table(&x, b, &how, data[0] & 8 ? data[1] : 0)) {
        if (x.n <= 64) again(&x, &how);
        drop_table(&x);
    } else fuzz_consume(NULL);
    aj_blob_drop(b);
    return 0;
}
