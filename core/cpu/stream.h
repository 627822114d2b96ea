/* stream.h - results written past the caches.
 *
 * To write a line of memory that no cache has, a processor first reads it. A result that is larger than the caches, or whose
 * block has left them, is written with stores that do not: of tensors of 16 MiB in huge pages a sum takes 0.9 ms and not 1.26.
 * A kernel computes a piece at a time into the first cache, and the piece is streamed. AIJIT_STREAM=never or =always
 * switches it off, or on for every result of a page and more.
 */
#ifndef AJ_STREAM_H
#define AJ_STREAM_H
#include "lanes.h"
#if defined __SSE2__
#include <immintrin.h>
#endif

/* Whether the result y is to be streamed; asked once, before it is written. */
static inline bool stream_wanted(const aj_tensor *y) {
    aj_storage *s = y->storage;
    if (AJ_LIKELY(!s || !s->cold)) return false;         /* a part of a fused group has none */
    s->cold = false;
    return y->contiguous;
}

/* n bytes from the first cache to memory. */
static ALWAYS_INLINE void stream_out(void *to, const void *from, size_t n) {
#if defined __SSE2__
    char *y = to;
    const char *x = from;
    size_t i = -(uintptr_t)y % 64;
    if (i > n) i = n;
    if (i) memcpy(y, x, i);
#if defined __AVX512F__
    for (; i + 64 <= n; i += 64) _mm512_stream_si512((__m512i *)(void *)(y + i), _mm512_loadu_si512(x + i));
#elif defined __AVX__
    for (; i + 32 <= n; i += 32) _mm256_stream_si256((__m256i *)(void *)(y + i), _mm256_loadu_si256((const __m256i *)(const void *)(x + i)));
#else
    for (; i + 16 <= n; i += 16) _mm_stream_si128((__m128i *)(void *)(y + i), _mm_loadu_si128((const __m128i *)(const void *)(x + i)));
#endif
    if (i < n) memcpy(y + i, x + i, n - i);
#else
    memcpy(to, from, n);
#endif
}

/* Whether rows of so many bytes of y, which lie at p, are to be streamed by whole vectors. */
static inline bool stream_rows(const aj_tensor *y, const void *p, int64_t row) {
    return p == y->data && row % VECTOR_BYTES == 0 && (uintptr_t)p % VECTOR_BYTES == 0 && stream_wanted(y);
}

/* A vector of this instruction level, VECTOR_BYTES long, to a place that is a multiple of so many. */
static ALWAYS_INLINE void stream_vector(void *to, const void *v) {
#if defined __AVX512F__
    _mm512_stream_si512((__m512i *)to, _mm512_loadu_si512(v));
#elif defined __AVX__
    _mm256_stream_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)v));
#elif defined __SSE2__
    _mm_stream_si128((__m128i *)to, _mm_loadu_si128((const __m128i *)v));
#else
    memcpy(to, v, 16);
#endif
}

/* What was streamed is there for other threads. */
static inline void stream_end(void) {
#if defined __SSE2__
    _mm_sfence();
#endif
}
#endif
