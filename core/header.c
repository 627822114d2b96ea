/* header.c - the text of the public headers, carried in the library, so that the bindings never meet another version of them. */
#include "aijit.h"
#include "io.h"
#include "optim.h"

#define TEXT(name, file) \
    __asm__(".pushsection .rodata\n" #name ": .incbin \"" AJ_CORE_DIR "/" file "\"\n.byte 0\n.popsection\n"); \
    extern const char name[];
TEXT(aj_text_aijit, "aijit.h")
TEXT(aj_text_io, "io.h")
TEXT(aj_text_optim, "optim.h")

AJ_API const char *aj_header(int32_t i);
const char *aj_header(int32_t i) { return i == 0 ? aj_text_aijit : i == 1 ? aj_text_io : i == 2 ? aj_text_optim : NULL; }
