/* Both ways of computing SHA-256 agree, in one piece or two; so does CRC-32C with its definition, bit by bit. */
#include "io/hash.c"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    size_t cut = data[0] < size ? data[0] : size;
#if defined __x86_64__
    if (has_sha()) {
        uint32_t a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, b[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        blocks_plain(a, data, size / 64);
        blocks_sha(b, data, size / 64);
        if (memcmp(a, b, sizeof a)) abort();
    }
#endif
    char one[65], two[65];
    aj_sha256(data, size, one);
    aj_sha256_state s;
    aj_sha256_start(&s);
    aj_sha256_add(&s, data, cut);
    aj_sha256_add(&s, data + cut, size - cut);
    aj_sha256_end(&s, two);
    if (memcmp(one, two, sizeof one)) abort();
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    if (aj_crc32c(aj_crc32c(0, data, cut), data + cut, size - cut) != ~crc) abort();
    return 0;
}
