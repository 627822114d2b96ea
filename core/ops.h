/* ops.h - the prototypes of the ops, from the rows of ops.def. */
#define ENTRY(name, params) aj_tensor *aj_##name params;
#include "ops.def"
