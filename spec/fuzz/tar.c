/* Every file that is listed is read to its last byte: all must lie within the archive. */
#include "fuzz.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    aj_blob *b = fuzz_blob(data, size);
    aj_tar *t = aj_tar_read(b);
    if (!t && !aj_fuzz_message[0]) abort();
    size_t names = 0;
    for (int64_t i = 0; t && i < aj_tar_count(t); i++) {
        names += strlen(aj_tar_name(t, i));
        aj_blob *part = aj_blob_slice(b, aj_tar_offset(t, i), aj_tar_size(t, i), aj_tar_name(t, i));
        if (!part) abort();
        fuzz_consume(aj_raw_read(part, AJ_U8));
        aj_blob_drop(part);
    }
    if (names > 2 * size) abort();
    aj_tar_drop(t);
    aj_blob_drop(b);
    return 0;
}
