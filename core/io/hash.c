/* hash.c - checksums: SHA-256 (FIPS 180-4), CRC-32 by zlib, CRC-32C by table. */
#include "io/hash.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>
#if defined __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void blocks_plain(uint32_t *h, const unsigned char *p, size_t n) {
    for (; n > 0; n--, p += 64) {
        uint32_t w[64], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], k = h[7];
        for (int i = 0; i < 16; i++) {
            memcpy(&w[i], p + 4 * i, 4);
            w[i] = __builtin_bswap32(w[i]);
        }
        for (int i = 16; i < 64; i++) {
            uint32_t s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3;
            uint32_t s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        for (int i = 0; i < 64; i++) {
            uint32_t t1 = k + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i];
            uint32_t t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            k = g; g = f; f = e; e = d + t1;
            d = c; c = b; b = a; a = t1 + t2;
        }
        h[0] += a; h[1] += b; h[2] += c; h[3] += d;
        h[4] += e; h[5] += f; h[6] += g; h[7] += k;
    }
}

#if defined __x86_64__
/* The processor's own rounds: two a time on the state as ABEF and CDGH. */
__attribute__((target("sha,sse4.1,ssse3")))
static void blocks_sha(uint32_t *h, const unsigned char *p, size_t n) {
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const void *)h), 0xB1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const void *)(h + 4)), 0x1B);
    __m128i abef = _mm_alignr_epi8(abcd, efgh, 8), cdgh = _mm_blend_epi16(efgh, abcd, 0xF0);
    for (; n > 0; n--, p += 64) {
        __m128i abef0 = abef, cdgh0 = cdgh, w[4];
        for (int i = 0; i < 16; i++) {
            if (i < 4) w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(p + 16 * i)), order);
            else {
                __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]), _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
                w[i & 3] = _mm_sha256msg2_epu32(sum, w[(i + 3) & 3]);
            }
            __m128i wk = _mm_add_epi32(w[i & 3], _mm_loadu_si128((const void *)(K + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0E));
        }
        abef = _mm_add_epi32(abef, abef0);
        cdgh = _mm_add_epi32(cdgh, cdgh0);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((void *)h, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((void *)(h + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static bool has_sha(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 29) && __builtin_cpu_supports("sse4.1");
}
#endif

typedef void blocks(uint32_t *h, const unsigned char *p, size_t n);
static blocks *pick(void) {
#if defined __x86_64__
    if (has_sha()) return blocks_sha;
#endif
    return blocks_plain;
}

void aj_sha256_start(aj_sha256_state *s) {
    *s = (aj_sha256_state){.h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void aj_sha256_add(aj_sha256_state *s, const void *data, size_t size) {
    blocks *run = pick();
    const unsigned char *p = data;
    s->size += size;
    if (s->held) {
        size_t n = 64 - s->held < size ? 64 - s->held : size;
        memcpy(s->rest + s->held, p, n);
        s->held += n;
        p += n;
        size -= n;
        if (s->held < 64) return;
        run(s->h, s->rest, 1);
        s->held = 0;
    }
    run(s->h, p, size / 64);
    s->held = size % 64;
    if (s->held) memcpy(s->rest, p + size - s->held, s->held);
}

void aj_sha256_end(aj_sha256_state *s, char *hex) {
    static const unsigned char pad[64] = {0x80};
    uint64_t bits = __builtin_bswap64(s->size * 8);
    aj_sha256_add(s, pad, 1 + (119 - s->held) % 64);
    aj_sha256_add(s, &bits, 8);
    for (int i = 0; i < 64; i++) hex[i] = "0123456789abcdef"[s->h[i / 8] >> (28 - i % 8 * 4) & 15];
    hex[64] = 0;
}

void aj_sha256(const void *data, size_t size, char *hex) {
    aj_sha256_state s;
    aj_sha256_start(&s);
    if (size) aj_sha256_add(&s, data, size);
    aj_sha256_end(&s, hex);
}

bool aj_sha256_file(const char *path, char *hex) {
    enum { STEP = 1 << 20 };
    unsigned char *buffer = malloc(STEP);
    if (!buffer) return aj_error("file: %s: out of memory", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 || aj_error("file: %s: cannot be opened: %s", path, strerror(errno));
    aj_sha256_state s;
    aj_sha256_start(&s);
    while (good) {
        ssize_t n = read(fd, buffer, STEP);
        if (n > 0) aj_sha256_add(&s, buffer, (size_t)n);
        if (n == 0) break;
        if (n < 0 && errno != EINTR) good = aj_error("file: %s: cannot be read: %s", path, strerror(errno));
        else good = !aj_interrupted();
    }
    if (fd >= 0) close(fd);
    free(buffer);
    if (good) aj_sha256_end(&s, hex);
    return good;
}

uint32_t aj_crc32(uint32_t crc, const void *data, size_t size) { return (uint32_t)crc32_z(crc, size ? data : (const void *)"", size); }

/* Eight bytes a step: column[k][b] is the CRC of byte b followed by k zero bytes. */
static uint32_t column[8][256];
__attribute__((constructor)) static void fill(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0x82F63B78u : 0);
        column[0][i] = c;
    }
    for (int k = 1; k < 8; k++)
        for (int i = 0; i < 256; i++) column[k][i] = column[k - 1][i] >> 8 ^ column[0][column[k - 1][i] & 255];
}

uint32_t aj_crc32c(uint32_t crc, const void *data, size_t size) {
    const unsigned char *p = data;
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        v ^= crc;
        crc = 0;
        for (int k = 0; k < 8; k++) crc ^= column[7 - k][v >> 8 * k & 255];
    }
    for (; size > 0; size--) crc = crc >> 8 ^ column[0][(crc ^ *p++) & 255];
    return ~crc;
}
