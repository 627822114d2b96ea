/* random.c - this thread's place in the Philox stream. */
#include "jit.h"

void aj_seed(uint64_t seed) { aj_ctx.seed = seed; aj_ctx.offset = 0; }
void aj_random_state(uint64_t *seed, uint64_t *offset) { *seed = aj_ctx.seed; *offset = aj_ctx.offset; }
void aj_set_random_state(uint64_t seed, uint64_t offset) { aj_ctx.seed = seed; aj_ctx.offset = offset; }
uint64_t aj_random_take(int64_t n) {
    uint64_t at = aj_ctx.offset;
    aj_ctx.offset += (uint64_t)(n > 0 ? n : 0);
    if (AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_take(at, n);
    return at;
}
