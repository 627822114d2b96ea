/* grid.c - images looked up at the places of a grid (Jaderberg and others, "Spatial transformer networks", 2015). */
#include "matrix.h"
#include <math.h>
#include <string.h>

enum { NEAREST, BILINEAR, BICUBIC };
enum { ZEROS, BORDER, REFLECTION };
static const char *const modes[] = {"nearest", "bilinear", "bicubic"}, *const paddings[] = {"zeros", "border", "reflection"};
int8_t aj_grid_mode(const char *name) {
    for (int i = 0; i < 3; i++) if (name && !strcmp(name, modes[i])) return (int8_t)i;
    return -1;
}
int8_t aj_grid_padding(const char *name) {
    for (int i = 0; i < 3; i++) if (name && !strcmp(name, paddings[i])) return (int8_t)i;
    return -1;
}

static bool fits(const aj_call *c, const aj_tensor *x, const aj_tensor *grid) {
    const aj_attrs *a = c->attrs;
    if (a->mode < 0) return aj_refuse(c, "the mode is nearest, bilinear or bicubic");
    if (a->reduction < 0) return aj_refuse(c, "the padding_mode is zeros, border or reflection");
    int nd = x->ndim - 2;
    if (nd != 2 && nd != 3) return aj_refuse(c, "the input has %d dimensions, and must have 4, (N, C, H, W), or 5, (N, C, D, H, W)", x->ndim);
    if (nd == 3 && a->mode == BICUBIC) return aj_refuse(c, "bicubic is for inputs of 4 dimensions");
    if (grid->ndim != x->ndim || grid->shape[nd + 1] != nd) return aj_refuse(c, "the grid must have %d dimensions, of which the last holds %d coordinates", x->ndim, nd);
    if (grid->shape[0] != x->shape[0]) return aj_refuse(c, "the input has a batch of %lld, and the grid one of %lld", (long long)x->shape[0], (long long)grid->shape[0]);
    for (int d = 2; d < x->ndim; d++) if (x->shape[d] < 1) return aj_refuse(c, "dimension %d of the input has no elements", d + 1);
    return true;
}
bool grid_sample_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_floats(c, 1) || !aj_same_dtype(c) || !fits(c, c->in[0], c->in[1])) return false;
    aj_spec_like(&c->spec[0], c->in[0]);
    for (int d = 2; d < c->in[0]->ndim; d++) c->spec[0].shape[d] = c->in[1]->shape[d - 1];
    return true;
}

/* Coordinates brought into the image, where padding does so. */
static aj_tensor *inside(aj_tensor *x, int64_t size, int padding, bool corners) {
    if (padding == ZEROS || !x) return x;
    if (padding == REFLECTION) {
        double low = corners ? 0 : -0.5, span = corners ? (double)(size - 1) : (double)size;
        if (span <= 0) return scaled(x, 0);
        x = aj_live(aj_abs(aj_live(aj_sub_number(x, low, false))));
        aj_tensor *turns = x ? aj_live(aj_floor(aj_live(aj_div_number(aj_live(aj_detach(x)), span, false)))) : NULL;
        aj_tensor *rest = minus(x, scaled(turns, span)), *odd = turns ? aj_live(aj_remainder_number(turns, 2, false)) : NULL;
        odd = odd ? aj_live(aj_gt_number(odd, 0.5, false)) : NULL;
        aj_tensor *mirrored = rest ? aj_live(aj_sub_number(rest, span, true)) : NULL;
        x = odd && mirrored ? aj_live(aj_where(odd, mirrored, rest)) : NULL;
        x = x ? aj_live(aj_add_number(x, low, false)) : NULL;
    }
    x = x ? aj_live(aj_clamp_min(x, 0)) : NULL;
    return x ? aj_live(aj_clamp_max(x, (double)(size - 1))) : NULL;
}
/* Along one dimension: whole places (as floats, valid) and the weight of each; how many. */
static int taps(const aj_attrs *a, aj_tensor *g, int64_t size, aj_tensor **place, aj_tensor **weight) {
    bool corners = a->flag;
    int n = a->mode == NEAREST ? 1 : a->mode == BILINEAR ? 2 : 4, padding = a->reduction;
    aj_tensor *x = scaled(aj_live(aj_add_number(g, 1, false)), corners ? (double)(size - 1) / 2 : (double)size / 2);
    if (x && !corners) x = aj_live(aj_add_number(x, -0.5, false));
    if (a->mode != BICUBIC) x = inside(x, size, padding, corners);
    aj_tensor *still = x ? aj_live(aj_detach(x)) : NULL;
    aj_tensor *first = still ? aj_live(a->mode == NEAREST ? aj_round(still) : aj_floor(still)) : NULL, *t = minus(x, first);
    if (!t) return 0;
    if (n == 1) weight[0] = aj_live(aj_full((aj_dtype)g->dtype, &(aj_ints){0}, g->device, 1));
    else if (n == 2) { weight[0] = aj_live(aj_sub_number(t, 1, true)); weight[1] = t; }
    else aj_cubic_weights(t, weight);
    for (int k = 0; k < n; k++) {
        aj_tensor *p = n == 1 ? first : aj_live(aj_add_number(first, n == 2 ? k : k - 1, false));
        if (a->mode == BICUBIC) p = inside(p, size, padding, corners);
        aj_tensor *low = p ? aj_live(aj_ge_number(p, 0, false)) : NULL, *high = low ? aj_live(aj_le_number(p, (double)(size - 1), false)) : NULL;
        aj_tensor *valid = high ? aj_live(aj_logical_and(low, high)) : NULL;
        valid = valid ? aj_live(aj_cast(valid, (aj_dtype)g->dtype)) : NULL;
        weight[k] = times(weight[k], valid);
        p = p ? aj_live(aj_nan_to_num(p, 0, 0, 0)) : NULL;
        p = p ? aj_live(aj_clamp_min(p, 0)) : NULL;
        place[k] = p ? aj_live(aj_clamp_max(p, (double)(size - 1))) : NULL;
        place[k] = place[k] ? aj_live(aj_cast(place[k], AJ_I64)) : NULL;
        if (!weight[k] || !place[k]) return 0;
    }
    return n;
}
static aj_tensor *by_gather(aj_tensor *const *in, int n_in, const aj_attrs *a) {
    (void)n_in;
    aj_tensor *x = in[0], *grid = in[1], *place[3][4], *weight[3][4], *y = NULL;
    int nd = x->ndim - 2, count[3] = {1, 1, 1};
    int64_t N = x->shape[0], C = x->shape[1], I = 1, P = 1;
    for (int d = 0; d < nd; d++) { I *= x->shape[d + 2]; P *= grid->shape[d + 1]; }
    aj_tensor *flat = aj_live(aj_reshape(x, &(aj_ints){3, {N, C, I}})), *points = aj_live(aj_reshape(grid, &(aj_ints){3, {N, P, nd}}));
    if (!flat || !points) return NULL;
    for (int d = 0; d < nd; d++) {                       /* dimension d of the image; coordinates are x, y, z */
        aj_tensor *g = aj_live(aj_select(points, 2, nd - 1 - d));
        if (!g || !(count[d] = taps(a, g, x->shape[d + 2], place[d], weight[d]))) return NULL;
    }
    aj_ints all = {3, {N, C, P}};
    for (int i = 0; i < count[0] * count[1] * count[2]; i++) {
        aj_tensor *p = NULL, *w = NULL;
        for (int d = 0, at = i; d < nd; d++) {
            int k = at % count[d];
            at /= count[d];
            p = p ? plus(aj_live(aj_mul_number(p, (double)x->shape[d + 2], false)), place[d][k]) : place[d][k];
            w = w ? times(w, weight[d][k]) : weight[d][k];
        }
        p = p ? aj_live(aj_unsqueeze(p, 1)) : NULL;
        p = p ? aj_live(aj_expand(p, &all)) : NULL;
        w = w ? aj_live(aj_unsqueeze(w, 1)) : NULL;
        aj_tensor *part = p ? times(aj_live(aj_gather(flat, 2, p, 0)), w) : NULL;
        if (!part || !(y = y ? plus(y, part) : part)) return NULL;
    }
    aj_ints size = {x->ndim, {N, C}};
    for (int d = 0; d < nd; d++) size.v[d + 2] = grid->shape[d + 1];
    return aj_reshape(y, &size);
}

bool grid_sample_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    const aj_attrs *a = n->attrs;
    if (aj_recording()) return aj_vjp_by_definition(n, by_gather, gy[0], gx);
    aj_tensor *g = aj_grid_sample_grad(gy[0], n->in[0].t, n->in[1].t, modes[a->mode], paddings[a->reduction], a->flag);
    if (!g) return false;
    aj_tensor *second = aj_result(2);
    if (aj_wants(n, 0)) gx[0] = g;
    if (aj_wants(n, 1)) gx[1] = second;
    return true;
}
bool grid_sample_grad_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_floats(c, 1) || !aj_floats(c, 2) || !aj_same_dtype(c) || !fits(c, c->in[1], c->in[2])) return false;
    const aj_tensor *g = c->in[0], *x = c->in[1], *grid = c->in[2];
    bool same = g->ndim == x->ndim && g->shape[0] == x->shape[0] && g->shape[1] == x->shape[1];
    for (int d = 2; same && d < x->ndim; d++) same = g->shape[d] == grid->shape[d - 1];
    if (!same) return aj_refuse(c, "the gradient has the result's shape");
    aj_spec_like(&c->spec[0], x);
    aj_spec_like(&c->spec[1], grid);
    c->n_out = 2;
    return true;
}
bool grid_sample_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }
