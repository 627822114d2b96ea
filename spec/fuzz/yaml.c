/* Every item is walked as Lua walks them: the counts must add up to the end. */
#include "fuzz.h"

static const aj_json_item *walk(const aj_json_item *at) {
    const aj_json_item *item = at++;
    if ((item->kind == AJ_JSON_TEXT || item->kind == AJ_JSON_MERGE) && (aj_utf8_bad(item->text, item->size) >= 0 || item->text[item->size])) abort();
    if (item->kind == AJ_JSON_ARRAY) for (uint32_t i = 0; i < item->size; i++) at = walk(at);
    if (item->kind == AJ_JSON_OBJECT)
        for (uint32_t i = 0; i < item->size; i++) {
            if (at->kind != AJ_JSON_TEXT && at->kind != AJ_JSON_MERGE) abort();
            at = walk(walk(at));
        }
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    aj_blob *b = fuzz_blob(data + 1, size - 1);     /* a copy, whose end the sanitizer guards */
    aj_json *j = aj_yaml_parse(aj_blob_data(b), aj_blob_size(b), data[0] & 1);
    if (j) walk(aj_json_items(j));
    else fuzz_consume(NULL);
    aj_json_drop(j);
    aj_blob_drop(b);
    return 0;
}
