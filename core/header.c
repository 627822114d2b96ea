/* header.c - the text of the public headers, carried in the library, so that the bindings never meet another version of them. */
#include "aijit.h"
#include "io.h"
#include "optim.h"
#include "watch.h"
#include "worker.h"

#define TEXT(name, file) \
    __asm__(".pushsection .rodata\n" #name ": .incbin \"" AJ_CORE_DIR "/" file "\"\n.byte 0\n.popsection\n"); \
    extern const char name[];
TEXT(aj_text_aijit, "aijit.h")
TEXT(aj_text_io, "io.h")
TEXT(aj_text_optim, "optim.h")
TEXT(aj_text_watch, "watch.h")
TEXT(aj_text_worker, "worker.h")

AJ_API const char *aj_header(int32_t i);
const char *aj_header(int32_t i) {
    const char *const all[] = {aj_text_aijit, aj_text_io, aj_text_optim, aj_text_watch, aj_text_worker};
    return i >= 0 && i < (int32_t)(sizeof all / sizeof *all) ? all[i] : NULL;
}
