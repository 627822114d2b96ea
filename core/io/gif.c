/* gif.c - animations as GIF89a. A frame's colours go into a palette of its own: exact where there are at most 256 of them, else by
 * median cut (Heckbert 1982) over colours of five bits a channel. Grey frames are exact.
 */
#include "io/blob.h"
#include "io/picture.h"
#include <inttypes.h>
#include <stdlib.h>

enum { BINS = 1 << 15, CODES = 4096 };

typedef struct { uint32_t count, sum[3]; } bin;
typedef struct { int low[3], high[3]; uint64_t count; } box;

typedef struct {
    unsigned char palette[256][3];
    int colours;
    bin *bins;                  /* of the frame, by five bits of red, green, blue */
    unsigned char *index;       /* bin -> place in the palette */
    unsigned char *places;      /* pixel -> place in the palette */
    unsigned char *out;         /* the packed codes */
    size_t n_out, room;
    uint32_t bits;
    int n_bits;
    int16_t (*next)[256];       /* code and colour -> longer code; -1: none */
} gif;

static int bin_of(const unsigned char *c) { return (c[0] >> 3) << 10 | (c[1] >> 3) << 5 | c[2] >> 3; }

/* -- Palettes ------------------------------------------------------------------------------------------ */

/* At most 256 colours, as they are. */
static bool exact(gif *g, const unsigned char *pixels, int64_t n, int channels) {
    uint32_t seen[1024];        /* open addressing: colour + 1 */
    unsigned char at[1024];
    memset(seen, 0, sizeof seen);
    g->colours = 0;
    for (int64_t i = 0; i < n; i++) {
        const unsigned char *p = pixels + i * channels;
        uint32_t colour = channels == 1 ? p[0] * 0x010101u : (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        uint32_t slot = colour * 2654435761u >> 22;
        while (seen[slot] && seen[slot] != colour + 1) slot = (slot + 1) & 1023;
        if (!seen[slot]) {
            if (g->colours == 256) return false;
            seen[slot] = colour + 1;
            at[slot] = (unsigned char)g->colours;
            for (int c = 0; c < 3; c++) g->palette[g->colours][c] = (unsigned char)(colour >> (16 - 8 * c));
            g->colours++;
        }
        g->places[i] = at[slot];
    }
    return true;
}

/* A box that holds just what is in it. */
static void shrink(const gif *g, box *b) {
    box found = {{31, 31, 31}, {0, 0, 0}, 0};
    for (int r = b->low[0]; r <= b->high[0]; r++)
        for (int h = b->low[1]; h <= b->high[1]; h++)
            for (int l = b->low[2]; l <= b->high[2]; l++) {
                const bin *at = &g->bins[r << 10 | h << 5 | l];
                if (!at->count) continue;
                found.count += at->count;
                const int v[3] = {r, h, l};
                for (int c = 0; c < 3; c++) {
                    if (v[c] < found.low[c]) found.low[c] = v[c];
                    if (v[c] > found.high[c]) found.high[c] = v[c];
                }
            }
    *b = found;
}

/* Cuts b where half of its pixels lie on each side, across its longest edge. */
static void cut(const gif *g, box *b, box *rest) {
    int edge = 0;
    for (int c = 1; c < 3; c++) if (b->high[c] - b->low[c] > b->high[edge] - b->low[edge]) edge = c;
    uint64_t slice[32] = {0};
    for (int r = b->low[0]; r <= b->high[0]; r++)
        for (int h = b->low[1]; h <= b->high[1]; h++)
            for (int l = b->low[2]; l <= b->high[2]; l++) {
                const int v[3] = {r, h, l};
                slice[v[edge]] += g->bins[r << 10 | h << 5 | l].count;
            }
    uint64_t half = 0;
    int at = b->low[edge];
    while (at < b->high[edge] - 1 && 2 * (half + slice[at]) < b->count) half += slice[at++];
    *rest = *b;
    b->high[edge] = at;
    rest->low[edge] = at + 1;
    shrink(g, b);
    shrink(g, rest);
}

static void median_cut(gif *g, const unsigned char *pixels, int64_t n) {
    memset(g->bins, 0, BINS * sizeof *g->bins);
    for (int64_t i = 0; i < n; i++) {
        bin *b = &g->bins[bin_of(pixels + 3 * i)];
        b->count++;
        for (int c = 0; c < 3; c++) b->sum[c] += pixels[3 * i + c];
    }
    box boxes[256] = {{{0, 0, 0}, {31, 31, 31}, 0}};
    int count = 1;
    shrink(g, &boxes[0]);
    while (count < 256) {
        /* The box with the most pixels among those that can be cut, weighted by its longest edge. */
        int best = -1;
        uint64_t most = 0;
        for (int i = 0; i < count; i++) {
            int longest = 0;
            for (int c = 0; c < 3; c++) if (boxes[i].high[c] - boxes[i].low[c] > longest) longest = boxes[i].high[c] - boxes[i].low[c];
            if (longest > 0 && boxes[i].count * (uint64_t)longest > most) most = boxes[i].count * (uint64_t)longest, best = i;
        }
        if (best < 0) break;
        cut(g, &boxes[best], &boxes[count++]);
    }
    g->colours = count;
    for (int i = 0; i < count; i++) {
        const box *b = &boxes[i];
        uint64_t sum[3] = {0, 0, 0};
        for (int r = b->low[0]; r <= b->high[0]; r++)
            for (int h = b->low[1]; h <= b->high[1]; h++)
                for (int l = b->low[2]; l <= b->high[2]; l++) {
                    int k = r << 10 | h << 5 | l;
                    g->index[k] = (unsigned char)i;
                    for (int c = 0; c < 3; c++) sum[c] += g->bins[k].sum[c];
                }
        for (int c = 0; c < 3; c++) g->palette[i][c] = (unsigned char)((sum[c] + b->count / 2) / (b->count ? b->count : 1));
    }
    for (int64_t i = 0; i < n; i++) g->places[i] = g->index[bin_of(pixels + 3 * i)];
}

/* -- Codes of growing length (LZW) ------------------------------------------------------------------- */

static void put_byte(gif *g, unsigned char byte) { g->out[g->n_out++] = byte; }

static void put_code(gif *g, int code, int width) {
    g->bits |= (uint32_t)code << g->n_bits;
    for (g->n_bits += width; g->n_bits >= 8; g->n_bits -= 8, g->bits >>= 8) put_byte(g, (unsigned char)g->bits);
}

/* A code of 12 bits for each pixel is the worst case; g->out has room for it. */
static void compress(gif *g, int64_t n, int depth) {
    const int clear = 1 << depth, end = clear + 1;
    int width = depth + 1, free_code = end + 1, code = g->places[0];
    g->n_out = 0;
    g->bits = 0;
    g->n_bits = 0;
    memset(g->next, -1, CODES * sizeof *g->next);
    put_code(g, clear, width);
    for (int64_t i = 1; i < n; i++) {
        int pixel = g->places[i], longer = g->next[code][pixel];
        if (longer >= 0) {
            code = longer;
            continue;
        }
        put_code(g, code, width);
        if (free_code == CODES) {
            put_code(g, clear, width);
            memset(g->next, -1, CODES * sizeof *g->next);
            width = depth + 1;
            free_code = end + 1;
        } else {
            if (free_code == 1 << width) width++;
            g->next[code][pixel] = (int16_t)free_code++;
        }
        code = pixel;
    }
    put_code(g, code, width);
    if (free_code == 1 << width && width < 12) width++;
    put_code(g, end, width);
    if (g->n_bits > 0) put_byte(g, (unsigned char)g->bits);
}

/* -- The file ------------------------------------------------------------------------------------------------ */

static void little(unsigned char *to, int64_t v) {
    to[0] = (unsigned char)v;
    to[1] = (unsigned char)(v >> 8);
}

static bool put_frame(gif *g, aj_writer *w, const unsigned char *pixels, int64_t height, int64_t width, int channels, int32_t delay) {
    if (!exact(g, pixels, height * width, channels)) median_cut(g, pixels, height * width);
    int depth = 2;
    while (1 << depth < g->colours) depth++;
    unsigned char head[8 + 10 + 768 + 1] = {0x21, 0xF9, 4, 0, 0, 0, 0, 0, 0x2C};
    little(head + 4, delay);
    little(head + 13, width);
    little(head + 15, height);
    head[17] = (unsigned char)(0x80 | (depth - 1));
    memcpy(head + 18, g->palette, 3 * (size_t)g->colours);
    size_t n = 18 + 3 * ((size_t)1 << depth);
    head[n++] = (unsigned char)depth;
    compress(g, height * width, depth);
    bool good = aj_writer_put(w, head, n);
    for (size_t at = 0; good && at < g->n_out; at += 255) {
        unsigned char size = (unsigned char)(g->n_out - at < 255 ? g->n_out - at : 255);
        good = aj_writer_put(w, &size, 1) && aj_writer_put(w, g->out + at, size);
    }
    return good && aj_writer_put(w, "", 1);
}

bool aj_gif_write(aj_writer *w, aj_tensor *handle, int32_t delay) {
    const char *name = aj_writer_name(w);
    const aj_tensor *t = aj_need(handle, "gif");
    if (!t) return false;
    if (t->device != AJ_CPU || t->dtype != AJ_U8 || t->ndim != 4 || (t->shape[3] != 1 && t->shape[3] != 3))
        return aj_error("gif: %s: frames must be u8 (T, H, W, C) on the CPU, C of 1 or 3", name);
    int64_t frames = t->shape[0], height = t->shape[1], width = t->shape[2];
    int channels = (int)t->shape[3];
    if (t->numel == 0 || height > 65535 || width > 65535)
        return aj_error("gif: %s: %" PRId64 " frames of %" PRId64 " x %" PRId64 ": there must be one, and none may be empty or beyond 65535", name, frames, height, width);
    if (delay < 1 || delay > 65535) return aj_error("gif: %s: the time of a frame must be 0.01 to 655 seconds", name);
    size_t pixels = (size_t)(height * width);
    gif g = {.bins = malloc(BINS * sizeof(bin)), .index = malloc(BINS), .places = malloc(pixels), .out = malloc(pixels * 3 / 2 + 64 + pixels / 512),
             .next = malloc(CODES * sizeof(int16_t[256]))};
    unsigned char *frame = malloc(pixels * (size_t)channels);
    bool good = (g.bins && g.index && g.places && g.out && g.next && frame) || aj_error("gif: %s: out of memory", name);
    if (good) {
        unsigned char head[32] = "GIF89a";
        little(head + 6, width);
        little(head + 8, height);
        memcpy(head + 13, "\x21\xFF\x0BNETSCAPE2.0\x03\x01\0\0\0", 19);       /* shown again and again */
        good = aj_writer_put(w, head, 32);
    }
    for (int64_t i = 0; good && i < frames; i++) {
        aj_pack(frame, (const char *)t->data + i * t->stride[0], 1, 3, t->shape + 1, t->stride + 1);
        good = put_frame(&g, w, frame, height, width, channels, delay);
    }
    if (good) good = aj_writer_put(w, "\x3B", 1);
    free(g.bins);
    free(g.index);
    free(g.places);
    free(g.out);
    free(g.next);
    free(frame);
    return good;
}
