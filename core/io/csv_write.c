/* csv_write.c - numbers to text and back, exactly and whatever the locale; and tables of columns written as CSV. */
#include "io/csv.h"
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* -- Text to numbers ------------------------------------------------------------------------------------------------------- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static void trim(const char **s, size_t *n) {
    while (*n && (**s == ' ' || **s == '\t')) (*s)++, (*n)--;
    while (*n && ((*s)[*n - 1] == ' ' || (*s)[*n - 1] == '\t')) (*n)--;
}

bool aj_csv_integer(const char *s, size_t n, int64_t *v) {
    trim(&s, &n);
    bool minus = n && *s == '-';
    if (n && (*s == '-' || *s == '+')) s++, n--;
    if (n == 0) return false;
    uint64_t all = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(s[i]) || !times(all, 10, &all) || !plus(all, (uint64_t)(s[i] - '0'), &all)) return false;
    }
    if (all > (uint64_t)INT64_MAX + minus) return false;
    *v = (int64_t)(minus ? 0 - all : all);
    return true;
}

static locale_t plain(void) {
    static locale_t made;
    locale_t l = __atomic_load_n(&made, __ATOMIC_ACQUIRE);
    if (l) return l;
    l = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t none = (locale_t)0;
    if (l && !__atomic_compare_exchange_n(&made, &none, l, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        freelocale(l);
        l = none;
    }
    return l;
}

/* What has too many digits, or too large an exponent, for the way below. */
static bool by_library(const char *s, size_t n, double *v) {
    char small[128], *text = n < sizeof small ? small : malloc(n + 1), *end;
    if (!text) return false;
    memcpy(text, s, n);
    text[n] = 0;
    locale_t l = plain();
    *v = l ? strtod_l(text, &end, l) : (end = text, 0);
    bool good = end == text + n;
    if (text != small) free(text);
    return good;
}

static bool by_name(const char *s, size_t n, bool minus, double *v) {
    if ((n == 3 && strncasecmp(s, "inf", 3) == 0) || (n == 8 && strncasecmp(s, "infinity", 8) == 0)) *v = minus ? -INFINITY : INFINITY;
    else if (n == 3 && strncasecmp(s, "nan", 3) == 0) *v = (double)NAN;
    else return false;
    return true;
}

bool aj_csv_number(const char *s, size_t n, double *v) {
    static const double tens[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    trim(&s, &n);
    const char *all = s, *end = s + n;
    bool minus = n && *s == '-', any = false;
    if (n && (*s == '-' || *s == '+')) s++;
    if (s < end && !is_digit(*s) && *s != '.') return by_name(s, (size_t)(end - s), minus, v);
    uint64_t m = 0;
    int digits = 0, exponent = 0;       /* significant ones; more than 19 do not fit */
    for (bool point = false; s < end && (is_digit(*s) || (*s == '.' && !point)); s++) {
        if (*s == '.') {
            point = true;
            continue;
        }
        any = true;
        if (digits >= 19) {
            digits = 99;
            continue;
        }
        m = m * 10 + (uint64_t)(*s - '0');
        if (m) digits++;
        if (point) exponent--;
    }
    if (!any) return false;
    if (s < end && (*s == 'e' || *s == 'E')) {
        s++;
        bool down = s < end && *s == '-';
        if (s < end && (*s == '-' || *s == '+')) s++;
        int e = 0;
        if (s == end) return false;
        for (; s < end && is_digit(*s); s++) if (e < 100000) e = e * 10 + (*s - '0');
        exponent += down ? -e : e;
    }
    if (s != end) return false;
    /* Both numbers are exact as doubles, so that one operation rounds once (Clinger 1990). */
    if (digits <= 19 && m <= (uint64_t)1 << 53 && exponent >= -22 && exponent <= 22) {
        double x = exponent < 0 ? (double)m / tens[-exponent] : (double)m * tens[exponent];
        *v = minus ? -x : x;
        return true;
    }
    return by_library(all, n, v);
}

/* -- Numbers to text ------------------------------------------------------------------------------------------------------- */

size_t aj_csv_put_number(char *text, double v, bool is_float) {
    if (v != v) return (size_t)sprintf(text, "nan");
    if (v - v != 0) return (size_t)sprintf(text, v < 0 ? "-inf" : "inf");
    /* A few digits suffice for most; 9 for every float, 17 for every double. */
    int n = 0;
    for (int digits = is_float ? 6 : 15; digits <= 17; digits++) {
        n = snprintf(text, 32, "%.*g", digits, v);
        for (int i = 0; i < n; i++) if (text[i] == ',') text[i] = '.';     /* of another locale */
        double back;
        if (aj_csv_number(text, (size_t)n, &back) && (is_float ? (double)(float)back == v : back == v)) break;
    }
    if (!memchr(text, '.', (size_t)n) && !memchr(text, 'e', (size_t)n)) {
        memcpy(text + n, ".0", 3);
        n += 2;
    }
    return (size_t)n;
}

/* -- Tables ------------------------------------------------------------------------------------------------------------------ */

static bool put_text(aj_writer *w, aj_csv_text s, char delimiter, bool alone) {
    /* An empty line is no row, and what looks like a byte order mark would be taken for one. */
    bool plain_text = s.size > 0 ? s.size < 3 || memcmp(s.text, "\xEF\xBB\xBF", 3) != 0 : !alone;
    for (size_t i = 0; plain_text && i < s.size; i++)
        plain_text = s.text[i] != delimiter && s.text[i] != '"' && s.text[i] != '\n' && s.text[i] != '\r';
    if (plain_text) return aj_writer_put(w, s.text, s.size);
    if (!aj_writer_put(w, "\"", 1)) return false;
    for (const char *p = s.text, *end = p + s.size; p < end;) {
        const char *quote = memchr(p, '"', (size_t)(end - p)), *to = quote ? quote + 1 : end;
        if (!aj_writer_put(w, p, (size_t)(to - p)) || (quote && !aj_writer_put(w, "\"", 1))) return false;
        p = to;
    }
    return aj_writer_put(w, "\"", 1);
}

static bool put_item(aj_writer *w, const aj_tensor *t, int64_t i) {
    const char *p = t->data + i * t->stride[0] * (int64_t)aj_dtype_size((aj_dtype)t->dtype);
    char text[32];
    int64_t v = 0;
    float f;
    double d;
    switch (t->dtype) {
    case AJ_BOOL: return aj_writer_put(w, *p ? "true" : "false", *p ? 4 : 5);
    case AJ_U8: v = *(const uint8_t *)p; break;
    case AJ_I8: v = *(const int8_t *)p; break;
    case AJ_I16: v = *(const int16_t *)p; break;
    case AJ_I32: v = *(const int32_t *)p; break;
    case AJ_I64: v = *(const int64_t *)p; break;
    case AJ_F32: memcpy(&f, p, 4); return aj_writer_put(w, text, aj_csv_put_number(text, (double)f, true));
    default: memcpy(&d, p, 8); return aj_writer_put(w, text, aj_csv_put_number(text, d, false));
    }
    return aj_writer_put(w, text, (size_t)snprintf(text, sizeof text, "%" PRId64, v));
}

static bool put_row(aj_writer *w, int64_t n, const aj_csv_column *columns, aj_tensor *const *t, int64_t row, char delimiter) {
    for (int64_t k = 0; k < n; k++) {
        if (k && !aj_writer_put(w, &delimiter, 1)) return false;
        if (row < 0 ? !put_text(w, columns[k].name, delimiter, n == 1) :
            t[k] ? !put_item(w, t[k], row) : !put_text(w, columns[k].texts[row], delimiter, n == 1)) return false;
    }
    return aj_writer_put(w, "\n", 1);
}

bool aj_csv_write(aj_writer *w, int64_t n, const aj_csv_column *columns, int64_t rows, bool header, char delimiter) {
    aj_tensor **t = calloc((size_t)n + 1, sizeof *t);
    bool good = t || aj_error("csv: out of memory");
    if (good && (delimiter == 0 || delimiter == '"' || delimiter == '\n' || delimiter == '\r'))
        good = aj_error("csv: the delimiter can be any byte but a quote, a line end or zero");
    for (int64_t k = 0; good && k < n; k++) {
        if (!columns[k].t) continue;
        t[k] = aj_need(columns[k].t, "csv");
        if (!t[k]) good = false;
        else if (t[k]->ndim != 1 || t[k]->shape[0] != rows) good = aj_error("csv: column %" PRId64 " is no tensor of one dimension and %" PRId64 " elements",
                                                                                      k + 1, rows);
        else if (t[k]->device != AJ_CPU || t[k]->dtype == AJ_F16 || t[k]->dtype == AJ_BF16)
            good = aj_error("csv: column %" PRId64 " is on a GPU, or of %s", k + 1, aj_dtype_name((aj_dtype)t[k]->dtype));
    }
    if (good && header) good = put_row(w, n, columns, t, -1, delimiter);
    for (int64_t row = 0; good && row < rows; row++) good = put_row(w, n, columns, t, row, delimiter) && (row % 65536 || !aj_interrupted());
    free(t);
    return good;
}
