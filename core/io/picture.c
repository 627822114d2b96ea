/* picture.c - tensors as pictures, and pictures of another size. */
#include "io/picture.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

bool picture_channels(const char *format, const char *name, int32_t channels) {
    return channels == 0 || channels == 1 || channels == 3 || channels == 4 ||
           aj_error("%s: %s: channels can be 1, 3 or 4, or be left out", format, name);
}

aj_tensor *picture_give(aj_tensor *t, bool chw) {
    if (!t || !chw) return t ? aj_give(t) : NULL;
    int64_t h = t->shape[0], w = t->shape[1], c = t->shape[2], shape[3] = {c, h, w}, stride[3] = {1, w * c, c};
    aj_tensor *y = aj_new(AJ_U8, 3, shape, AJ_CPU);
    if (y) aj_pack(y->data, t->data, 1, 3, shape, stride);
    aj_drop(t);
    return y ? aj_give(y) : NULL;
}

bool picture_open(picture *p, const char *format, const char *name, aj_tensor *handle, bool chw) {
    *p = (picture){0};
    const aj_tensor *t = aj_need(handle, format);
    if (!t) return false;
    if (t->device != AJ_CPU) return aj_error("%s: %s: the tensor is on a GPU: copy it with :cpu() first", format, name);
    if (t->dtype != AJ_U8)
        return aj_error("%s: %s: needs u8, got %s: for values from 0 to 1, (x * 255 + 0.5):clamp(0, 255):to \"u8\"", format, name,
                        aj_dtype_name(t->dtype));
    bool flat = t->ndim == 2;
    if (!flat && t->ndim != 3) return aj_error("%s: %s: needs (H, W), (H, W, C) or (C, H, W), got %d dimensions", format, name, t->ndim);
    int dh = chw && !flat, dc = chw ? 0 : 2;
    p->height = t->shape[dh];
    p->width = t->shape[dh + 1];
    p->channels = flat ? 1 : t->shape[dc];
    if (p->channels != 1 && p->channels != 3 && p->channels != 4)
        return aj_error("%s: %s: needs 1, 3 or 4 channels, got %" PRId64 "%s", format, name, p->channels, flat ? "" :
                        chw ? " in (C, H, W)" : " in (H, W, C): layout = \"chw\" reads (C, H, W)");
    uint64_t pixels;
    if (!p->height || !p->width) return aj_error("%s: %s: the picture is empty", format, name);
    if (!times((uint64_t)p->height, (uint64_t)p->width, &pixels) || pixels > MAX_PIXELS || p->height > INT32_MAX / 4 || p->width > INT32_MAX / 4)
        return aj_error("%s: %s: too large: %" PRId64 " x %" PRId64 " pixels", format, name, p->width, p->height);
    p->pixels = (const unsigned char *)t->data;
    if (t->contiguous && (!chw || p->channels == 1)) return true;
    int64_t shape[3] = {p->height, p->width, p->channels}, stride[3] = {t->stride[dh], t->stride[dh + 1], flat ? 1 : t->stride[dc]};
    p->packed = malloc((size_t)(p->height * p->width * p->channels));
    if (!p->packed) return aj_error("%s: %s: out of memory", format, name);
    aj_pack(p->packed, t->data, 1, 3, shape, stride);
    p->pixels = p->packed;
    return true;
}

void picture_close(picture *p) { free(p->packed); }

/* -- Resizing: each pixel of the result is a weighted mean of those that it covers, or of its neighbours where it covers less than one.
 * Rows first, then columns, with weights of 22 bits: the arithmetic of Pillow, whose results these are to the bit (but for RGBA, whose
 * colours it weighs by their alpha). ------------------------------------------------------------------------------------------------- */

enum { BITS = 22 };
enum { NEAREST, BILINEAR, BICUBIC, FILTERS };

static double weight(int filter, double x) {
    x = fabs(x);
    if (filter == BILINEAR) return x < 1 ? 1 - x : 0;
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/* Pixel i of the result is made of count pixels from first on, weights w[i * most] and so on. */
typedef struct { int32_t *first, *count, *w; int64_t most; } plan;

static void plan_free(plan *p) {
    free(p->first);
    free(p->w);
}

static bool plan_make(plan *p, int filter, int64_t from, int64_t to) {
    double scale = (double)from / (double)to, wide = scale < 1 ? 1 : scale, reach = (filter == BICUBIC ? 2 : 1) * wide;
    p->most = filter == NEAREST ? 1 : 2 * (int64_t)ceil(reach) + 1;
    p->first = malloc((size_t)to * 2 * sizeof *p->first);
    p->w = malloc((size_t)(to * p->most) * sizeof *p->w);
    double *v = malloc((size_t)p->most * sizeof *v);
    bool good = p->first && p->w && v;
    if (good) p->count = p->first + to;
    for (int64_t i = 0; good && i < to; i++) {
        double centre = ((double)i + 0.5) * scale, sum = 0;
        if (filter == NEAREST) {
            p->first[i] = (int32_t)centre < from ? (int32_t)centre : (int32_t)from - 1;
            p->count[i] = 1;
            p->w[i] = 1 << BITS;
            continue;
        }
        int64_t a = (int64_t)(centre - reach + 0.5), b = (int64_t)(centre + reach + 0.5);
        if (a < 0) a = 0;
        if (b > from) b = from;
        for (int64_t k = a; k < b; k++) sum += v[k - a] = weight(filter, ((double)k - centre + 0.5) / wide);
        p->first[i] = (int32_t)a;
        p->count[i] = (int32_t)(b - a);
        for (int64_t k = 0; k < b - a; k++) {
            double w = v[k] / sum * (1 << BITS);
            p->w[i * p->most + k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
    }
    free(v);
    return good || aj_error("resize: out of memory");
}

static inline unsigned char rounded(int32_t sum) {
    sum >>= BITS;
    return (unsigned char)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* (rows, W, C) to (rows, to, C) */
static void along_rows(const plan *p, const unsigned char *x, unsigned char *y, int64_t rows, int64_t W, int64_t to, int64_t C) {
    for (int64_t r = 0; r < rows; r++, x += W * C)
        for (int64_t i = 0; i < to; i++) {
            const int32_t *w = p->w + i * p->most;
            const unsigned char *s = x + p->first[i] * C;
            for (int64_t c = 0; c < C; c++) {
                int32_t sum = 1 << (BITS - 1);
                for (int32_t k = 0; k < p->count[i]; k++) sum += s[k * C + c] * w[k];
                *y++ = rounded(sum);
            }
        }
}

/* (H, n) to (to, n) */
static void along_columns(const plan *p, const unsigned char *x, unsigned char *y, int64_t to, int64_t n) {
    enum { WIDE = 256 };
    for (int64_t i = 0; i < to; i++, y += n)
        for (int64_t j = 0; j < n; j += WIDE) {
            int32_t sum[WIDE];
            int64_t m = n - j < WIDE ? n - j : WIDE;
            for (int64_t k = 0; k < m; k++) sum[k] = 1 << (BITS - 1);
            for (int32_t t = 0; t < p->count[i]; t++) {
                const unsigned char *s = x + (p->first[i] + t) * n + j;
                int32_t w = p->w[i * p->most + t];
                for (int64_t k = 0; k < m; k++) sum[k] += s[k] * w;
            }
            for (int64_t k = 0; k < m; k++) y[j + k] = rounded(sum[k]);
        }
}

static bool resize(const picture *p, unsigned char *y, int64_t H, int64_t W, int filter) {
    plan rows = {0}, columns = {0};
    const unsigned char *x = p->pixels;
    unsigned char *between = NULL;
    int64_t C = p->channels;
    bool good = plan_make(&rows, filter, p->width, W) && plan_make(&columns, filter, p->height, H);
    if (good && W != p->width && H != p->height) {
        between = malloc((size_t)(p->height * W * C));
        good = between || aj_error("resize: out of memory");
    }
    if (good && W != p->width) {
        along_rows(&rows, x, between ? between : y, p->height, p->width, W, C);
        x = between;
    }
    if (good && H != p->height) along_columns(&columns, x, y, H, W * C);
    if (good && W == p->width && H == p->height) memcpy(y, x, (size_t)(H * W * C));
    free(between);
    plan_free(&rows);
    plan_free(&columns);
    return good;
}

aj_tensor *aj_picture_resize(aj_tensor *handle, int64_t height, int64_t width, int32_t filter, bool chw) {
    picture p;
    uint64_t pixels;
    bool flat = aj_live(handle) && aj_live(handle)->ndim == 2;
    bool good = picture_open(&p, "resize", "the picture", handle, chw);
    if (good && (filter < 0 || filter >= FILTERS)) good = aj_error("resize: there is no filter number %d", filter);
    if (good && (height < 1 || width < 1 || !times((uint64_t)height, (uint64_t)width, &pixels) || pixels > MAX_PIXELS))
        good = aj_error("resize: the new size cannot be %" PRId64 " x %" PRId64 " pixels", width, height);
    int64_t shape[3] = {height, width, p.channels};
    aj_tensor *t = good ? aj_new(AJ_U8, flat ? 2 : 3, shape, AJ_CPU) : NULL;
    if (t && !resize(&p, (unsigned char *)t->data, height, width, filter)) {
        aj_drop(t);
        t = NULL;
    }
    picture_close(&p);
    return picture_give(t, chw && !flat);
}
