/* grid.c - images looked up at the places of a grid: of each place the points around it and their weights, found once for
 * all channels of a block. */
#include "dense.h"
#include "../grid.h"
#include <math.h>
#include <string.h>

enum { BLOCK = 16 };                                     /* channels that a thread adds gradients to */
typedef struct {
    grid_shape shape;
    int64_t N, C, I, P;                                  /* elements of a channel, places of a grid */
    const void *x, *grid, *g;
    void *y, *gx, *ggrid;
} work;

#define KERNELS "grid.inc"
#include "reals.h"

static work begin(const aj_call *c, const aj_tensor *x, const aj_tensor *grid) {
    const aj_attrs *a = c->attrs;
    work w = {.shape = {.nd = x->ndim - 2, .mode = a->mode, .padding = a->reduction, .corners = a->flag}, .N = x->shape[0], .C = x->shape[1], .I = 1, .P = 1};
    for (int d = 0; d < w.shape.nd; d++) {
        w.shape.size[d] = x->shape[d + 2];
        w.I *= x->shape[d + 2];
        w.P *= grid->shape[d + 1];
    }
    return w;
}
bool KERNEL(grid_sample)(const aj_call *c) {
    int class = class_of_dtype(c->in[0]->dtype);
    dense d[3] = {{0}};
    work w = begin(c, c->in[0], c->in[1]);
    bool ok = dense_in(&d[0], c->in[0], class) && dense_in(&d[1], c->in[1], class) && dense_place(&d[2], c->out[0], class);
    w.x = d[0].p;
    w.grid = d[1].p;
    w.y = d[2].p;
    if (ok) aj_parallel(w.N * w.P, 1 + 50000 / (20 + 8 * w.C), class == CLASS_F32 ? look_up_f32 : look_up_f64, &w);
    ok = ok && dense_put(&d[2]);
    dense_free(d, 3);
    return ok;
}
bool KERNEL(grid_sample_grad)(const aj_call *c) {
    int class = class_of_dtype(c->in[0]->dtype);
    dense d[5] = {{0}};
    work w = begin(c, c->in[1], c->in[2]);
    bool ok = true, f = class == CLASS_F32;
    for (int k = 0; k < 3; k++) ok = ok && dense_in(&d[k], c->in[k], class);
    for (int k = 0; k < 2; k++) ok = ok && dense_place(&d[3 + k], c->out[k], class);
    w.g = d[0].p;
    w.x = d[1].p;
    w.grid = d[2].p;
    w.gx = d[3].p;
    w.ggrid = d[4].p;
    if (ok) {
        int64_t blocks = (w.C + BLOCK - 1) / BLOCK;
        aj_parallel(w.N * blocks, 1 + 50000 / (1 + w.P * 8 * BLOCK), f ? to_image_f32 : to_image_f64, &w);
        aj_parallel(w.N * w.P, 1 + 50000 / (20 + 16 * w.C), f ? to_grid_f32 : to_grid_f64, &w);
    }
    for (int k = 3; k < 5; k++) ok = ok && dense_put(&d[k]);
    dense_free(d, 5);
    return ok;
}
