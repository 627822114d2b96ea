/* csv.c - reads tables of text: RFC 4180, with the delimiter of choice. Columns of numbers become tensors, others texts.
 *
 * The text is gone through twice, and nothing but the columns is kept: first to count rows and to see what every column
 * holds, then to fill them. Errors name the line and the column.
 */
#include "io/csv.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_COLUMNS = 1 << 16, STRIDE = 65536 };

typedef struct {
    aj_csv_text name;
    int32_t kind;               /* AJ_CSV_TEXT, or a dtype: what it holds, or shall hold */
    bool given;                 /* by the caller, so that other fields are errors */
    bool real, number, word, missing;   /* what a field was: with a point, no number, true or false, not there */
    bool seen;
    aj_tensor *t;
    aj_csv_text *texts;
} column;

struct aj_csv {
    aj_blob *blob;
    aj_csv_how how;
    const char *text, *end;
    int64_t n_columns, n_rows;
    column *columns;
    /* where the reader stands */
    const char *at;
    int64_t line;
    /* the field that was read last */
    const char *field;
    size_t size;
    bool quoted, doubled;       /* doubled: "" stands in it for " */
    char *owned;                /* texts whose quotes were doubled, one after another */
    size_t owned_n;
};

static bool bad(const aj_csv *c, const char *what) { return aj_error("csv: %s: %s", c->blob->name, what); }
static bool bad_line(const aj_csv *c, int64_t line, const char *what) { return aj_error("csv: %s: line %" PRId64 ": %s", c->blob->name, line, what); }
static bool bad_field(const aj_csv *c, int64_t line, int64_t k, const char *what) {
    const column *col = k < c->n_columns ? &c->columns[k] : NULL;
    char name[128] = "";
    if (col && col->name.size) snprintf(name, sizeof name, " (\"%s\")", aj_shown(col->name.text, col->name.size).text);
    return aj_error("csv: %s: line %" PRId64 ", column %" PRId64 "%s: \"%s\" %s", c->blob->name, line, k + 1, name, aj_shown(c->field, c->size).text, what);
}

/* -- Fields --------------------------------------------------------------------------------------------------------------- */

enum { MORE, LAST, BROKEN };

static int line_end(aj_csv *c) {
    if (c->at < c->end && *c->at == '\r') {
        c->at++;
        if (c->at < c->end && *c->at == '\n') c->at++;
    } else if (c->at < c->end) c->at++;
    c->line++;
    return LAST;
}

/* Reads one field, and says whether more follow on its line. */
static int next_field(aj_csv *c, int64_t k) {
    const char delimiter = c->how.delimiter;
    const char *p = c->at;
    c->quoted = c->doubled = false;
    c->field = p;
    c->size = 0;
    if (p < c->end && *p == '"') {
        int64_t first = c->line;
        c->quoted = true;
        c->field = ++p;
        for (;; p++) {
            if (p == c->end) {
                bad_line(c, first, "a quoted field has no closing quote");
                return BROKEN;
            }
            if (*p == '"') {
                if (p + 1 == c->end || p[1] != '"') break;
                c->doubled = true;
                p++;
            } else if (*p == '\n' || (*p == '\r' && (p + 1 == c->end || p[1] != '\n'))) c->line++;
        }
        c->size = (size_t)(p - c->field);
        c->at = ++p;
        if (p < c->end && *p != delimiter && *p != '\n' && *p != '\r') {
            bad_field(c, c->line, k, "is followed by text after its closing quote");
            return BROKEN;
        }
    } else {
        while (p < c->end && *p != delimiter && *p != '\n' && *p != '\r' && *p != '"') p++;
        c->size = (size_t)(p - c->field);
        c->at = p;
        if (p < c->end && *p == '"') {
            bad_field(c, c->line, k, "has a quote in it: such a field must be quoted, and its quotes doubled");
            return BROKEN;
        }
    }
    if (c->at < c->end && *c->at == delimiter) {
        c->at++;
        return MORE;
    }
    return line_end(c);
}

/* A line with nothing on it is no row; a field of no characters that is alone on its line must be quoted. */
static void skip_blank_lines(aj_csv *c) {
    while (c->at < c->end && (*c->at == '\n' || *c->at == '\r')) line_end(c);
}

static void rewind_to(aj_csv *c, const char *at, int64_t line) {
    c->at = at;
    c->line = line;
}

static bool is_missing(const aj_csv *c) {
    if (c->size == 0) return true;
    for (int64_t i = 0; i < c->how.n_missing; i++)
        if (c->how.missing[i].size == c->size && memcmp(c->how.missing[i].text, c->field, c->size) == 0) return true;
    return false;
}

/* -- What a column holds --------------------------------------------------------------------------------------------------- */

static bool is_word(const char *s, size_t n, bool *value) {
    static const char *const words[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    for (int i = 0; i < 6; i++)
        if (strlen(words[i]) == n && memcmp(words[i], s, n) == 0) {
            *value = i < 3;
            return true;
        }
    return false;
}

static void look_at(aj_csv *c, column *col) {
    if (is_missing(c)) {
        col->missing = true;
        return;
    }
    bool first = !col->seen, value;
    col->seen = true;
    bool word = (first || col->word) && is_word(c->field, c->size, &value), number = false, whole = false;
    if (!word && (first || col->number)) {
        double v;
        int64_t i;
        whole = !col->real && aj_csv_integer(c->field, c->size, &i);
        number = whole || aj_csv_number(c->field, c->size, &v);
    }
    col->word = word;
    col->number = number;
    if (number && !whole) col->real = true;
}

static void settle(column *col) {
    if (col->given) return;
    if (!col->seen) col->kind = col->missing ? AJ_F64 : AJ_CSV_TEXT;
    else if (col->word && !col->missing) col->kind = AJ_BOOL;
    else if (col->number) col->kind = col->real || col->missing ? AJ_F64 : AJ_I64;
    else col->kind = AJ_CSV_TEXT;
}

static bool count_rows(aj_csv *c) {
    for (skip_blank_lines(c); c->at < c->end; skip_blank_lines(c)) {
        int64_t k = 0, line = c->line;
        for (int more = MORE; more == MORE; k++) {
            more = next_field(c, k);
            if (more == BROKEN) return false;
            if (k < c->n_columns && !c->columns[k].given) look_at(c, &c->columns[k]);
        }
        if (k != c->n_columns)
            return aj_error("csv: %s: line %" PRId64 ": %" PRId64 " fields, where %s has %" PRId64, c->blob->name, line, k,
                            c->how.header ? "the header" : "the first line", c->n_columns);
        if (++c->n_rows % STRIDE == 0 && aj_interrupted()) return false;
    }
    return true;
}

/* -- Filling ----------------------------------------------------------------------------------------------------------------- */

static bool store_integer(aj_csv *c, const column *col, int64_t row, int64_t line, int64_t k) {
    static const struct { int64_t low, high; } range[AJ_DTYPES] = {
        [AJ_BOOL] = {0, 1}, [AJ_U8] = {0, UINT8_MAX}, [AJ_I8] = {INT8_MIN, INT8_MAX}, [AJ_I16] = {INT16_MIN, INT16_MAX},
        [AJ_I32] = {INT32_MIN, INT32_MAX}, [AJ_I64] = {INT64_MIN, INT64_MAX},
    };
    int64_t v;
    bool word;
    if (is_missing(c)) return bad_field(c, line, k, "is missing: a column of whole numbers has no room for that, one of f32 or f64 has");
    if (col->kind == AJ_BOOL && is_word(c->field, c->size, &word)) v = word;
    else if (!aj_csv_integer(c->field, c->size, &v)) return bad_field(c, line, k, "is no whole number");
    if (v < range[col->kind].low || v > range[col->kind].high) return bad_field(c, line, k, "is out of the range of its column's type");
    size_t item = aj_dtype_size((aj_dtype)col->kind);
    memcpy(col->t->data + (size_t)row * item, &v, item);        /* little-endian: the low bytes come first */
    return true;
}

static bool store_real(aj_csv *c, const column *col, int64_t row, int64_t line, int64_t k) {
    double v = __builtin_nan("");
    if (!is_missing(c) && !aj_csv_number(c->field, c->size, &v)) return bad_field(c, line, k, "is no number");
    if (col->kind == AJ_F64) ((double *)col->t->data)[row] = v;
    else ((float *)col->t->data)[row] = (float)v;
    return true;
}

static aj_csv_text text_of(aj_csv *c) {
    if (!c->doubled) return (aj_csv_text){c->field, c->size};
    char *to = c->owned + c->owned_n, *start = to;
    for (size_t i = 0; i < c->size; i++) {
        *to++ = c->field[i];
        if (c->field[i] == '"') i++;
    }
    c->owned_n += (size_t)(to - start);
    return (aj_csv_text){start, (size_t)(to - start)};
}

static bool check_text(aj_csv *c, int64_t line, int64_t k) {
    if (memchr(c->field, 0, c->size)) return bad_field(c, line, k, "has a zero byte in it");
    return aj_utf8_bad(c->field, c->size) < 0 || bad_field(c, line, k, "is not UTF-8: iconv -f latin1 -t utf8 may convert the file");
}

static bool fill(aj_csv *c) {
    for (int64_t row = 0; row < c->n_rows; row++) {
        skip_blank_lines(c);
        for (int64_t k = 0; k < c->n_columns; k++) {
            column *col = &c->columns[k];
            int64_t line = c->line;
            next_field(c, k);
            if (col->kind == AJ_CSV_TEXT) {
                if (!check_text(c, line, k)) return false;
                col->texts[row] = text_of(c);
            } else if (!(aj_dtype_is_float((aj_dtype)col->kind) ? store_real : store_integer)(c, col, row, line, k)) return false;
        }
        if (row % STRIDE == 0 && aj_interrupted()) return false;
    }
    return true;
}

static bool make_columns(aj_csv *c) {
    for (int64_t k = 0; k < c->n_columns; k++) {
        column *col = &c->columns[k];
        settle(col);
        if (col->kind == AJ_CSV_TEXT) {
            col->texts = malloc((size_t)(c->n_rows ? c->n_rows : 1) * sizeof *col->texts);
            if (!col->texts) return bad(c, "out of memory");
        } else if (!(col->t = aj_new((aj_dtype)col->kind, 1, &c->n_rows, AJ_CPU))) return false;
    }
    return true;
}

/* -- The header -------------------------------------------------------------------------------------------------------------- */

/* Counts the fields of the first line, and makes their columns. */
static bool first_line(aj_csv *c) {
    skip_blank_lines(c);
    const char *start = c->at;
    int64_t line = c->line, n = 0;
    for (int more = c->at < c->end ? MORE : LAST; more == MORE;) {
        more = next_field(c, n++);
        if (more == BROKEN) return false;
        if (n > MAX_COLUMNS) return aj_error("csv: %s: line %" PRId64 ": more than %d columns: is the delimiter another?", c->blob->name, line, MAX_COLUMNS);
    }
    rewind_to(c, start, line);
    if (n == 0) return bad(c, c->how.header ? "is empty: there is no header" : "is empty");
    c->columns = calloc((size_t)n, sizeof *c->columns);
    if (!c->columns) return bad(c, "out of memory");
    c->n_columns = n;
    return true;
}

static bool read_names(aj_csv *c) {
    for (int64_t k = 0; k < c->n_columns; k++) {
        int64_t line = c->line;
        next_field(c, k);
        if (!check_text(c, line, k)) return false;
        c->columns[k].name = text_of(c);
    }
    return true;
}

static bool start(aj_csv *c) {
    char d = c->how.delimiter;
    if (d == 0 || d == '"' || d == '\n' || d == '\r') return bad(c, "the delimiter can be any byte but a quote, a line end or zero");
    if (c->end - c->text >= 2 && (memcmp(c->text, "\xFF\xFE", 2) == 0 || memcmp(c->text, "\xFE\xFF", 2) == 0))
        return bad(c, "is UTF-16: iconv -f utf16 -t utf8 converts it");
    if (c->end - c->text >= 3 && memcmp(c->text, "\xEF\xBB\xBF", 3) == 0) c->text += 3;
    rewind_to(c, c->text, 1);
    /* Doubled quotes become single ones, so that all texts together are shorter than the file. */
    if (memchr(c->text, '"', (size_t)(c->end - c->text)) && !(c->owned = malloc((size_t)(c->end - c->text)))) return bad(c, "out of memory");
    return first_line(c) && (!c->how.header || read_names(c));
}

/* -- The interface ------------------------------------------------------------------------------------------------------------ */

aj_csv *aj_csv_open(aj_blob *b, const aj_csv_how *how) {
    aj_csv *c = calloc(1, sizeof *c);
    if (!c) {
        aj_error("csv: %s: out of memory", b->name);
        return NULL;
    }
    c->blob = aj_blob_hold(b);
    c->how = *how;
    c->text = (const char *)b->data;
    c->end = c->text + b->size;
    if (start(c)) return c;
    aj_csv_drop(c);
    return NULL;
}

int64_t aj_csv_columns(aj_csv *c) { return c->n_columns; }
int64_t aj_csv_rows(aj_csv *c) { return c->n_rows; }
aj_csv_text aj_csv_name(aj_csv *c, int64_t k) { return c->columns[k].name; }

void aj_csv_type(aj_csv *c, int64_t k, int32_t kind) {
    c->columns[k].kind = kind;
    c->columns[k].given = true;
}

bool aj_csv_fill(aj_csv *c) {
    const char *rows = c->at;
    int64_t line = c->line;
    if (!count_rows(c) || !make_columns(c)) return false;
    rewind_to(c, rows, line);
    return fill(c);
}

int32_t aj_csv_kind(aj_csv *c, int64_t k) { return c->columns[k].kind; }
const aj_csv_text *aj_csv_texts(aj_csv *c, int64_t k) { return c->columns[k].texts; }
aj_tensor *aj_csv_tensor(aj_csv *c, int64_t k) {
    aj_tensor *t = c->columns[k].t;
    c->columns[k].t = NULL;
    return aj_give(t);
}

void aj_csv_drop(aj_csv *c) {
    if (!c) return;
    for (int64_t k = 0; k < c->n_columns; k++) {
        free(c->columns[k].texts);
        if (c->columns[k].t) aj_drop(c->columns[k].t);
    }
    free(c->columns);
    free(c->owned);
    aj_blob_drop(c->blob);
    free(c);
}
