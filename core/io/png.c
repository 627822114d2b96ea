/* png.c - reads and writes PNG as u8 tensors of (H, W), (H, W, C) or (C, H, W), through libpng's simplified interface.
 *
 * Sixteen-bit pictures come as eight bits, palettes as colours, grey with alpha as RGBA. The sizes are checked
 * against a limit, and against what the file's bytes can hold, before libpng sees them.
 */
#include "io/gzip.h"
#include "io/picture.h"
#include <inttypes.h>
#include <png.h>
#include <stdlib.h>

static bool bad(const char *name, const char *what) { return aj_error("png: %s: %s", name, what); }

static bool check_header(const aj_blob *b) {
    static const int samples[] = {1, 0, 3, 1, 2, 0, 4};
    cursor c = cursor_over(b->data, b->size);
    uint32_t length, width, height;
    uint8_t depth, type;
    if (!cursor_skip(&c, "\x89PNG\r\n\x1A\n")) return bad(b->name, "does not begin as a PNG file does");
    if (!cursor_u32_big(&c, &length) || !cursor_skip(&c, "IHDR") || length != 13 || !cursor_u32_big(&c, &width) ||
        !cursor_u32_big(&c, &height) || !cursor_u8(&c, &depth) || !cursor_u8(&c, &type))
        return bad(b->name, "the header is cut short or missing");
    if (type > 6 || !samples[type] || !depth || depth > 16) return bad(b->name, "the header names no known kind of picture");
    uint64_t pixels, bits;
    if (!width || !height) return bad(b->name, "the header says that the picture is empty");
    if (!times(width, height, &pixels) || pixels > MAX_PIXELS)
        return aj_error("png: %s: too large: %" PRIu32 " x %" PRIu32 " pixels, at most %" PRIu64 " in all", b->name, width, height, MAX_PIXELS);
    bits = pixels * depth * (unsigned)samples[type];
    if (bits / 8 > aj_inflated_limit(b->size))
        return aj_error("png: %s: %zu bytes cannot hold %" PRIu32 " x %" PRIu32 " pixels: it is cut short, or made to mislead", b->name, b->size,
                        width, height);
    return true;
}

static int channels_of(png_uint_32 format) {
    if (format & PNG_FORMAT_FLAG_ALPHA) return 4;
    return format & (PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_COLORMAP) ? 3 : 1;
}

aj_tensor *aj_png_read(aj_blob *b, int32_t channels, bool chw, int32_t background) {
    if (!picture_channels("png", b->name, channels) || !check_header(b)) return NULL;
    png_image image = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_memory(&image, b->data, b->size)) {
        bad(b->name, image.message);
        return NULL;
    }
    /* Sixteen bits without a word about their meaning are as those of eight, not linear light. */
    image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
    if (!channels) channels = channels_of(image.format);
    image.format = channels == 1 ? PNG_FORMAT_GRAY : channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_RGBA;
    png_color under = {(png_byte)(background >> 16), (png_byte)(background >> 8), (png_byte)background};
    int64_t shape[3] = {image.height, image.width, channels};
    aj_tensor *t = aj_new(AJ_U8, 3, shape, AJ_CPU);
    if (!t || !png_image_finish_read(&image, &under, t->data, 0, NULL)) {
        if (t) {
            bad(b->name, image.message);
            aj_drop(t);
        }
        png_image_free(&image);
        return NULL;
    }
    return picture_give(t, chw);
}

static bool encode(aj_writer *w, const picture *p) {
    const char *name = aj_writer_name(w);
    png_image image = {.version = PNG_IMAGE_VERSION, .width = (png_uint_32)p->width, .height = (png_uint_32)p->height,
                       .format = p->channels == 1 ? PNG_FORMAT_GRAY : p->channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_RGBA};
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
    void *out = malloc(size);
    bool good = out || bad(name, "out of memory");
    if (good) good = png_image_write_to_memory(&image, out, &size, 0, p->pixels, 0, NULL) || bad(name, image.message);
    if (good) good = aj_writer_put(w, out, size);
    free(out);
    return good;
}

bool aj_png_write(aj_writer *w, aj_tensor *handle, bool chw) {
    picture p;
    bool good = picture_open(&p, "png", aj_writer_name(w), handle, chw) && encode(w, &p);
    picture_close(&p);
    return good;
}
