/* picture.h - what the formats of pictures share: u8 tensors of (H, W), (H, W, C) or (C, H, W), and rows of pixels. */
#ifndef AJ_PICTURE_H
#define AJ_PICTURE_H
#include "io/blob.h"

static const uint64_t MAX_PIXELS = 178956970;   /* what Pillow calls a bomb */

typedef struct {
    int64_t height, width, channels;
    const unsigned char *pixels;        /* (height, width, channels), dense */
    unsigned char *packed;              /* if they had to be copied */
} picture;
/* The picture that a tensor is; errors begin with format and name. Closed in any case. */
bool picture_open(picture *p, const char *format, const char *name, aj_tensor *handle, bool chw);
void picture_close(picture *p);
bool picture_channels(const char *format, const char *name, int32_t channels);          /* as an option: 0, 1, 3 or 4 */
/* Dense (H, W, C), whose reference is taken, in the order asked for, as a handle; NULL is passed on. */
aj_tensor *picture_give(aj_tensor *t, bool chw);
#endif
