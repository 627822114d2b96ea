/* The inflating reader as well: half of the corpus is gzipped. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    aj_blob *b = fuzz_blob(data, size);
    fuzz_consume(aj_idx_read(b));
    aj_blob *plain = aj_gunzip(b, 1 << 20);
    if (plain && aj_blob_size(plain) > 1 << 20) abort();
    aj_blob_drop(plain);
    aj_blob_drop(b);
    return 0;
}
