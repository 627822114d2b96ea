/* stream.h - results written past the caches.
 *
 * To write a line of memory that no cache has, a processor first reads it. A result of 16 MiB or more, of which little will
 * be in a cache when it is read, is written with stores that do not: layer norm of 4096 x 1024 floats takes 0.65 ms and not
 * 1.4, a product of two tensors of 16 MiB 1.1 and not 1.6. Smaller results gain nothing. AIJIT_STREAM=never or =always
 * switches it off, or on for every result of a page and more.
 */
#ifndef AJ_STREAM_H
#define AJ_STREAM_H
#include "lanes.h"
#if defined __SSE2__
#include <immintrin.h>
#endif

/* Whether the result y is to be streamed. */
static inline bool stream_wanted(const aj_tensor *y) {
    return AJ_UNLIKELY(y->numel * dtype_bytes[y->dtype] >= aj_stream_from) && y->contiguous;
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
