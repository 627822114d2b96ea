/* grid.h - how images are looked up at the places of a grid; core/grid.inc finds the points. */
#ifndef AJ_GRID_H
#define AJ_GRID_H
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

enum grid_mode { NEAREST, BILINEAR, BICUBIC };
enum grid_padding { ZEROS, BORDER, REFLECTION };
enum { GRID_MOST = 16 };                                 /* points around a place */
typedef struct {
    int32_t nd, mode, padding;
    bool corners;               /* -1 and 1 are the middles of the outermost elements, not their edges */
    int64_t size[3];            /* of a channel, outermost dimension first */
} grid_shape;
#endif
