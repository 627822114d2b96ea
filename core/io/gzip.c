/* gzip.c - inflates gzip, of one member or several; what is cut short, damaged or followed by other bytes is an error. */
#include "io/gzip.h"
#include <stdlib.h>

bool aj_unzip_start(aj_unzip *u, const aj_blob *b) {
    *u = (aj_unzip){.in = cursor_over(b->data, b->size)};
    u->zipped = b->size >= 2 && b->data[0] == 0x1F && b->data[1] == 0x8B;
    if (u->zipped && inflateInit2(&u->z, 15 + 16) != Z_OK) return aj_error("gzip: %s: out of memory", b->name);
    return true;
}

static bool next_member(aj_unzip *u) {
    cursor c = u->in;
    if (cursor_left(&c) == 0) u->ended = true;
    else if (cursor_skip(&c, "\x1F\x8B")) inflateReset(&u->z);
    else {
        /* Tapes and some servers fill up with zeros. */
        while (cursor_left(&c) && *c.at == 0) c.at++;
        u->ended = true;
        if (cursor_left(&c)) u->trouble = "foreign bytes follow the compressed data";
    }
    return !u->ended;
}

size_t aj_unzip_get(aj_unzip *u, void *to, size_t size) {
    if (!u->zipped) {
        size_t n = size < cursor_left(&u->in) ? size : cursor_left(&u->in);
        if (n) memcpy(to, cursor_take(&u->in, n), n);
        return n;
    }
    enum { STEP = 1 << 30 };
    size_t got = 0;
    while (got < size && !u->ended && !u->trouble) {
        size_t left = cursor_left(&u->in);
        uInt in = left < STEP ? (uInt)left : STEP, out = size - got < STEP ? (uInt)(size - got) : STEP;
        u->z.next_in = (Bytef *)(uintptr_t)u->in.at;
        u->z.avail_in = in;
        u->z.next_out = (Bytef *)to + got;
        u->z.avail_out = out;
        int r = inflate(&u->z, Z_NO_FLUSH);
        cursor_take(&u->in, in - u->z.avail_in);
        got += out - u->z.avail_out;
        if (r == Z_STREAM_END) next_member(u);
        else if (r == Z_MEM_ERROR) u->trouble = "out of memory";
        else if (r == Z_BUF_ERROR || (r == Z_OK && cursor_left(&u->in) == 0 && got < size)) u->trouble = "the compressed data are cut short";
        else if (r != Z_OK) u->trouble = u->z.msg ? u->z.msg : "the compressed data are damaged";
    }
    return got;
}

void aj_unzip_end(aj_unzip *u) {
    if (u->zipped) inflateEnd(&u->z);
}

aj_blob *aj_gunzip(aj_blob *b, size_t limit) {
    aj_unzip u;
    if (!aj_unzip_start(&u, b)) return NULL;
    aj_writer *w = aj_writer_open(NULL);
    enum { STEP = 256 << 10 };
    unsigned char *buffer = malloc(STEP);
    bool good = w && (buffer || aj_error("gzip: %s: out of memory", b->name)) && (u.zipped || aj_error("gzip: %s: is not gzipped", b->name));
    size_t all = 0;
    while (good) {
        size_t n = aj_unzip_get(&u, buffer, STEP);
        all += n;
        if (all > limit) good = aj_error("gzip: %s: holds more than %zu bytes", b->name, limit);
        else good = aj_writer_put(w, buffer, n) && !aj_interrupted();
        if (n < STEP) break;
    }
    if (good && u.trouble) good = aj_error("gzip: %s: %s, after %zu bytes", b->name, u.trouble, all);
    aj_blob *out = good ? aj_writer_blob(w) : NULL;
    aj_unzip_end(&u);
    aj_writer_drop(w);
    free(buffer);
    return out;
}
