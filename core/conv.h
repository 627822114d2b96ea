/* conv.h - a convolution in the quickest of the ways that there are. */
#ifndef AJ_CONV_H
#define AJ_CONV_H
#include "onednn.h"

/* A way that the caller has, beside oneDNN's. */
typedef bool aj_conv_own(const aj_conv *v, void *x, void *w, const void *bias, void *y);
/* As aj_onednn_conv. own may be NULL. Not done: the caller's way is the quickest, or there is no other. */
int aj_conv_quickest(const aj_conv *v, void *x, void *w, const void *bias, void *y, aj_conv_own *own);
#endif
