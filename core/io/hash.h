/* hash.h - SHA-256 of bytes that come in pieces. */
#ifndef AJ_HASH_H
#define AJ_HASH_H
#include "io/blob.h"

typedef struct {
    uint32_t h[8];
    uint64_t size;
    size_t held;
    unsigned char rest[64];
} aj_sha256_state;
void aj_sha256_start(aj_sha256_state *s);
void aj_sha256_add(aj_sha256_state *s, const void *data, size_t size);
void aj_sha256_end(aj_sha256_state *s, char *hex);      /* 64 digits and a 0 */
#endif
