/* jpeg.c - reads and writes JPEG as u8 tensors of (H, W, C) or (C, H, W), through TurboJPEG.
 *
 * A picture may be decoded at a half, a quarter or an eighth of its size, which costs as much less. What the file's bytes cannot
 * hold is refused before anything is allocated; a picture cut short is an error, not half grey.
 */
#include "io/picture.h"
#include <inttypes.h>
#include <stdlib.h>
#include <turbojpeg.h>

/* Every 8 x 8 block takes at least a bit of a Huffman code. */
enum { PIXELS_PER_BYTE = 8 * 64 };

static bool bad(const char *name, const char *what) { return aj_error("jpeg: %s: %s", name, what); }

static bool check_header(tjhandle h, const aj_blob *b, int *width, int *height, int *space) {
    int sampling;
    if (b->size < 4 || memcmp(b->data, "\xFF\xD8\xFF", 3) != 0) return bad(b->name, "does not begin as a JPEG file does");
    if (tjDecompressHeader3(h, b->data, b->size, width, height, &sampling, space) != 0) return bad(b->name, tjGetErrorStr2(h));
    if (*width < 1 || *height < 1) return bad(b->name, "there is no picture in it, or an empty one");
    uint64_t pixels = (uint64_t)*width * (uint64_t)*height;
    if (pixels > MAX_PIXELS) return aj_error("jpeg: %s: too large: %d x %d pixels, at most %" PRIu64 " in all", b->name, *width, *height, MAX_PIXELS);
    if (pixels / PIXELS_PER_BYTE > b->size)
        return aj_error("jpeg: %s: %zu bytes cannot hold %d x %d pixels: it is cut short, or made to mislead", b->name, b->size, *width, *height);
    return true;
}

/* Adobe's CMYK, stored inverted, over black. */
static void cmyk_to_rgb(const unsigned char *x, unsigned char *y, size_t n) {
    for (size_t i = 0; i < n; i++, x += 4, y += 3) for (int c = 0; c < 3; c++) y[c] = (unsigned char)((x[c] * x[3] + 127) / 255);
}

static bool decode(tjhandle h, const aj_blob *b, unsigned char *to, int width, int height, int format) {
    const int flags = TJFLAG_LIMITSCANS | TJFLAG_ACCURATEDCT;
    if (tjDecompress2(h, b->data, b->size, to, width, 0, height, format, flags | TJFLAG_STOPONWARNING) == 0) return true;
    /* Some cameras leave bytes between segments, which harm nothing; whatever else there is to warn of is an error. */
    if (!strstr(tjGetErrorStr2(h), "extraneous bytes")) return bad(b->name, tjGetErrorStr2(h));
    if (tjDecompress2(h, b->data, b->size, to, width, 0, height, format, flags) == 0 || strstr(tjGetErrorStr2(h), "extraneous bytes")) return true;
    return bad(b->name, tjGetErrorStr2(h));
}

static aj_tensor *read_cmyk(tjhandle h, const aj_blob *b, int width, int height, int channels) {
    if (channels != 3) {
        bad(b->name, "is made of CMYK, which comes as 3 channels only");
        return NULL;
    }
    int64_t shape[3] = {height, width, 3};
    size_t n = (size_t)width * (size_t)height;
    unsigned char *inks = malloc(n * 4);
    aj_tensor *t = NULL;
    if (!inks) bad(b->name, "out of memory");
    else if (decode(h, b, inks, width, height, TJPF_CMYK) && (t = aj_new(AJ_U8, 3, shape, AJ_CPU))) cmyk_to_rgb(inks, (unsigned char *)t->data, n);
    free(inks);
    return t;
}

static aj_tensor *read_all(tjhandle h, const aj_blob *b, int channels, int64_t least_height, int64_t least_width) {
    int width = 0, height = 0, space = TJCS_RGB;        /* a file of tables alone has a header without them */
    if (!check_header(h, b, &width, &height, &space)) return NULL;
    int shrink = 1;
    if (least_height > 0 && least_width > 0)
        while (shrink < 8 && (height + 2 * shrink - 1) / (2 * shrink) >= least_height && (width + 2 * shrink - 1) / (2 * shrink) >= least_width) shrink *= 2;
    width = (width + shrink - 1) / shrink;
    height = (height + shrink - 1) / shrink;
    if (!channels) channels = space == TJCS_GRAY ? 1 : 3;
    if (space == TJCS_CMYK || space == TJCS_YCCK) return read_cmyk(h, b, width, height, channels);
    int64_t shape[3] = {height, width, channels};
    aj_tensor *t = aj_new(AJ_U8, 3, shape, AJ_CPU);
    if (!t || decode(h, b, (unsigned char *)t->data, width, height, channels == 1 ? TJPF_GRAY : channels == 3 ? TJPF_RGB : TJPF_RGBA)) return t;
    aj_drop(t);
    return NULL;
}

aj_tensor *aj_jpeg_read(aj_blob *b, int32_t channels, bool chw, int64_t least_height, int64_t least_width) {
    if (!picture_channels("jpeg", b->name, channels)) return NULL;
    tjhandle h = tjInitDecompress();
    if (!h) {
        bad(b->name, "out of memory");
        return NULL;
    }
    aj_tensor *t = read_all(h, b, channels, least_height, least_width);
    tjDestroy(h);
    return picture_give(t, chw);
}

static bool encode(aj_writer *w, const picture *p, int quality) {
    const char *name = aj_writer_name(w);
    if (p->channels == 4) return bad(name, "there is no alpha in a JPEG: write 3 channels, or a PNG");
    if (p->width > 65500 || p->height > 65500)
        return aj_error("jpeg: %s: %" PRId64 " x %" PRId64 " pixels: at most 65500 either way", name, p->width, p->height);
    tjhandle h = tjInitCompress();
    if (!h) return bad(name, "out of memory");
    unsigned char *out = NULL;
    unsigned long size = 0;
    int format = p->channels == 1 ? TJPF_GRAY : TJPF_RGB, sampling = p->channels == 1 ? TJSAMP_GRAY : quality < 90 ? TJSAMP_420 : TJSAMP_444;
    bool good = tjCompress2(h, p->pixels, (int)p->width, 0, (int)p->height, format, &out, &size, sampling, quality, TJFLAG_ACCURATEDCT) == 0;
    if (!good) bad(name, tjGetErrorStr2(h));
    good = good && aj_writer_put(w, out, size);
    tjFree(out);
    tjDestroy(h);
    return good;
}

bool aj_jpeg_write(aj_writer *w, aj_tensor *handle, bool chw, int32_t quality) {
    if (quality < 1 || quality > 100) return aj_error("jpeg: %s: quality is from 1 to 100, got %d", aj_writer_name(w), quality);
    picture p;
    bool good = picture_open(&p, "jpeg", aj_writer_name(w), handle, chw) && encode(w, &p, quality);
    picture_close(&p);
    return good;
}
