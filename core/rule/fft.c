/* fft.c - discrete Fourier transforms. A complex number is a pair in a last dimension of size 2, which dims do not count.
 *
 * Three linear maps are ops: pairs to pairs, reals to the half of their spectrum that says all, and back. As maps of reals
 * the adjoint of the first is the other direction; the two others are each other's, but for the weight 2 of each frequency
 * that stands for two.
 */
#include "matrix.h"
#include <math.h>
#include <string.h>

enum { BACKWARD, ORTHO, FORWARD };
int8_t aj_fft_norm(const char *name) {
    static const char *const names[] = {"backward", "ortho", "forward"};
    for (int i = 0; i < 3; i++) if (name && !strcmp(name, names[i])) return (int8_t)i;
    return -1;
}

/* attrs->dim from 0, among the dimensions without the pair. */
static bool line(aj_call *c, bool pairs) {
    if (!aj_floats(c, 0)) return false;
    const aj_tensor *x = c->in[0];
    if (pairs && (!x->ndim || x->shape[x->ndim - 1] != 2)) return aj_refuse(c, "complex numbers are pairs: the last dimension must be of size 2");
    if (x->ndim < 1 + pairs) return aj_refuse(c, "there is no dimension to transform");
    int dim = aj_dim_of(c, c->attrs->dim, x->ndim - pairs);
    if (dim < 0) return false;
    c->attrs->dim = dim;
    return x->shape[dim] > 0 || aj_refuse(c, "dimension %d has no elements", dim + 1);
}
bool fft_pairs_shape(aj_call *c) {
    if (!line(c, true)) return false;
    aj_spec_like(&c->spec[0], c->in[0]);
    return true;
}
bool fft_pairs_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    return (gx[0] = aj_fft_pairs(gy[0], n->attrs->dim, !n->attrs->flag, n->attrs->s)) != NULL;
}

/* 1 for the frequencies that stand for themselves, 0 and the half of n, `other` for those that stand for two. */
static aj_tensor *weighted(aj_tensor *x, int dim, int64_t n, double other) {
    int64_t m = n / 2 + 1, inner = n % 2 ? m - 1 : m - 2;
    aj_tensor *part[3];
    aj_ints one = {1, {1}}, size = {x->ndim, {1, 1, 1, 1, 1, 1, 1, 1}};
    if (inner <= 0 || !x) return x;
    size.v[dim] = m;
    part[0] = part[2] = aj_live(aj_full((aj_dtype)x->dtype, &one, x->device, 1));
    part[1] = aj_live(aj_full((aj_dtype)x->dtype, &(aj_ints){1, {inner}}, x->device, other));
    aj_list all = {n % 2 ? 2 : 3, part};
    aj_tensor *w = part[0] && part[1] ? aj_live(aj_cat(&all, 0)) : NULL;
    return w ? times(x, aj_live(aj_reshape(w, &size))) : NULL;
}
bool rfft_half_shape(aj_call *c) {
    if (!line(c, false)) return false;
    const aj_tensor *x = c->in[0];
    if (x->ndim == AJ_MAX_DIM) return aj_refuse(c, "has %d dimensions already, the most there can be", AJ_MAX_DIM);
    aj_spec_like(&c->spec[0], x);
    c->spec[0].shape[c->attrs->dim] = x->shape[c->attrs->dim] / 2 + 1;
    c->spec[0].shape[c->spec[0].ndim++] = 2;
    return true;
}
bool rfft_half_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_ints of = aj_sizes_in(n, 0);
    int dim = n->attrs->dim;
    aj_tensor *g = weighted(gy[0], dim, of.v[dim], 0.5);
    return g && (gx[0] = aj_irfft_half(g, dim, of.v[dim], n->attrs->s)) != NULL;
}
bool irfft_half_shape(aj_call *c) {
    if (!line(c, true)) return false;
    const aj_tensor *x = c->in[0];
    int64_t n = c->attrs->i;
    if (n < 1 || x->shape[c->attrs->dim] != n / 2 + 1) return aj_refuse(c, "a transform of %lld reals has %lld frequencies, not %lld", (long long)n, (long long)(n / 2 + 1), (long long)x->shape[c->attrs->dim]);
    aj_spec_like(&c->spec[0], x);
    c->spec[0].ndim--;
    c->spec[0].shape[c->attrs->dim] = n;
    return true;
}
bool irfft_half_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *g = aj_live(aj_rfft_half(gy[0], n->attrs->dim, n->attrs->s));
    return g && (gx[0] = weighted(g, n->attrs->dim, n->attrs->i, 2)) != NULL;
}

/* -- As torch.fft has them ----------------------------------------------------------------------------------------------- */

static double norm_of(const aj_attrs *a, int64_t n, bool inverse) {
    return a->mode == ORTHO ? 1 / sqrt((double)n) : (a->mode == FORWARD) != inverse ? 1 / (double)n : 1;
}
/* x cut, or filled up with zeros, to n along dim; n at most 0: as it is. */
static aj_tensor *to_length(aj_tensor *x, int dim, int64_t n) {
    if (!x || n <= 0 || x->shape[dim] == n) return x;
    aj_ints before = {x->ndim, {0}}, after = {x->ndim, {0}};
    after.v[dim] = n - x->shape[dim];
    return aj_live(aj_constant_pad(x, &before, &after, 0));
}
static aj_tensor *pairs(const aj_attrs *a, aj_tensor *x, int dim, int64_t n, bool inverse) {
    x = to_length(x, dim, n);
    return x ? aj_live(aj_fft_pairs(x, dim, inverse, norm_of(a, x->shape[dim], inverse))) : NULL;
}
static aj_tensor *forward(const aj_attrs *a, aj_tensor *x, int dim, int64_t n) {
    x = to_length(x, dim, n);
    return x ? aj_live(aj_rfft_half(x, dim, norm_of(a, x->shape[dim], false))) : NULL;
}
static aj_tensor *backward(const aj_attrs *a, aj_tensor *x, int dim, int64_t n) {
    if (x && n <= 0) n = 2 * (x->shape[dim] - 1);
    x = to_length(x, dim, n / 2 + 1);
    return x ? aj_live(aj_irfft_half(x, dim, n, norm_of(a, n, true))) : NULL;
}
static bool ready(aj_call *c, bool has_pairs) {
    if (!aj_given(c, 0, 1)) return false;
    if (c->attrs->mode < 0) return aj_refuse(c, "the norm is \"backward\", \"ortho\" or \"forward\"");
    if (!aj_is_float(c->in[0]->dtype) && !aj_cast_inputs(c, 0, 1, AJ_F32)) return false;
    const aj_tensor *x = c->in[0];
    if (has_pairs && (!x->ndim || x->shape[x->ndim - 1] != 2)) return aj_refuse(c, "complex numbers are pairs: the last dimension must be of size 2");
    return true;
}
static bool ready_line(aj_call *c, bool has_pairs) {
    if (!ready(c, has_pairs) || !line(c, has_pairs)) return false;
    if (c->attrs->i < 0) return aj_refuse(c, "n is %lld, and must be positive", (long long)c->attrs->i);
    return true;
}
aj_tensor *fft_compose(aj_call *c) { return ready_line(c, true) ? pairs(c->attrs, c->in[0], c->attrs->dim, c->attrs->i, false) : NULL; }
aj_tensor *ifft_compose(aj_call *c) { return ready_line(c, true) ? pairs(c->attrs, c->in[0], c->attrs->dim, c->attrs->i, true) : NULL; }
aj_tensor *rfft_compose(aj_call *c) { return ready_line(c, false) ? forward(c->attrs, c->in[0], c->attrs->dim, c->attrs->i) : NULL; }
aj_tensor *irfft_compose(aj_call *c) { return ready_line(c, true) ? backward(c->attrs, c->in[0], c->attrs->dim, c->attrs->i) : NULL; }

/* The dimensions to transform and the sizes they get (0: their own); how many, or -1 after an error. */
static int several(aj_call *c, bool has_pairs, int *dim, int64_t *size) {
    if (!ready(c, has_pairs)) return -1;
    const aj_ints *s = &c->attrs->list, *dims = &c->attrs->list2;
    int ndim = c->in[0]->ndim - has_pairs, n = dims->n >= 0 ? dims->n : s->n > 0 ? s->n : ndim;
    bool in[AJ_MAX_DIM];
    if (!aj_dims_of(c, dims, ndim, in)) return -1;
    if (n > ndim || n < 1) { aj_refuse(c, "there are %d dimensions to transform", ndim); return -1; }
    if (s->n > 0 && s->n != n) { aj_refuse(c, "%d sizes for %d dimensions", s->n, n); return -1; }
    for (int i = 0; i < n; i++) {
        int64_t d = dims->n >= 0 ? dims->v[i] : ndim - n + i;
        dim[i] = (int)(d < 0 ? d + ndim : d);
        size[i] = s->n > 0 ? s->v[i] : 0;
        if (size[i] < 0) size[i] = 0;
    }
    return n;
}
static aj_tensor *many_pairs(aj_call *c, bool inverse) {
    int dim[AJ_MAX_DIM], n;
    int64_t size[AJ_MAX_DIM];
    if ((n = several(c, true, dim, size)) < 0) return NULL;
    aj_tensor *x = c->in[0];
    while (x && n-- > 0) x = pairs(c->attrs, x, dim[n], size[n], inverse);
    return x;
}
aj_tensor *fftn_compose(aj_call *c) { return many_pairs(c, false); }
aj_tensor *ifftn_compose(aj_call *c) { return many_pairs(c, true); }
aj_tensor *rfftn_compose(aj_call *c) {
    int dim[AJ_MAX_DIM], n;
    int64_t size[AJ_MAX_DIM];
    if ((n = several(c, false, dim, size)) < 0) return NULL;
    aj_tensor *x = forward(c->attrs, c->in[0], dim[n - 1], size[n - 1]);
    for (n--; x && n-- > 0; ) x = pairs(c->attrs, x, dim[n], size[n], false);
    return x;
}
aj_tensor *irfftn_compose(aj_call *c) {
    int dim[AJ_MAX_DIM], n;
    int64_t size[AJ_MAX_DIM];
    if ((n = several(c, true, dim, size)) < 0) return NULL;
    aj_tensor *x = c->in[0];
    for (int i = 0; i + 1 < n && x; i++) x = pairs(c->attrs, x, dim[i], size[i], true);
    return x ? backward(c->attrs, x, dim[n - 1], size[n - 1]) : NULL;
}

/* -- Short times -------------------------------------------------------------------------------------------------------------- */

/* The window in the middle of n_fft places. */
static aj_tensor *centred(aj_call *c, const aj_tensor *like, aj_tensor *window, int64_t n_fft, int64_t length) {
    if (window && (window->ndim != 1 || window->shape[0] != length)) { aj_refuse(c, "the window must have win_length, %lld, elements", (long long)length); return NULL; }
    aj_tensor *w = window ? window : aj_live(aj_full((aj_dtype)like->dtype, &(aj_ints){1, {length}}, like->device, 1));
    if (w && w->dtype != like->dtype) w = aj_live(aj_cast(w, (aj_dtype)like->dtype));
    aj_ints before = {1, {(n_fft - length) / 2}}, after = {1, {n_fft - length - (n_fft - length) / 2}};
    return !w || length == n_fft ? w : aj_live(aj_constant_pad(w, &before, &after, 0));
}
static bool lengths(aj_call *c, int64_t *n_fft, int64_t *hop, int64_t *length) {
    const aj_attrs *a = c->attrs;
    *n_fft = a->i;
    *length = a->k > 0 ? a->k : *n_fft;
    *hop = a->j > 0 ? a->j : *n_fft / 4;
    if (*n_fft < 1 || *hop < 1 || *length > *n_fft) return aj_refuse(c, "n_fft %lld, hop_length %lld and win_length %lld do not go together", (long long)*n_fft, (long long)*hop, (long long)*length);
    return true;
}
aj_tensor *stft_compose(aj_call *c) {
    int64_t n_fft, hop, length;
    if (!aj_floats(c, 0) || !lengths(c, &n_fft, &hop, &length)) return NULL;
    aj_tensor *x = c->in[0];
    if (x->ndim != 1 && x->ndim != 2) { aj_refuse(c, "the input is (batch, samples), or (samples)"); return NULL; }
    bool one = x->ndim == 1;
    aj_tensor *w = centred(c, x, c->in[1], n_fft, length);
    if (!w || (one && !(x = aj_live(aj_unsqueeze(x, 0))))) return NULL;
    if (c->attrs->flag) {                                /* frames are centred on their samples */
        static const char *const names[] = {"constant", "reflect", "replicate", "circular"};
        const char *mode = NULL;
        for (int i = 0; i < 4; i++) if (aj_pad_mode(names[i]) == c->attrs->mode) mode = names[i];
        if (!mode) { aj_refuse(c, "the pad_mode is constant, reflect, replicate or circular"); return NULL; }
        aj_ints pad = {2, {n_fft / 2, n_fft / 2}};
        if (!(x = aj_live(aj_unsqueeze(x, 1))) || !(x = aj_live(aj_pad(x, &pad, mode, 0))) || !(x = aj_live(aj_squeeze(x, &(aj_ints){1, {1}})))) return NULL;
    }
    if (x->shape[1] < n_fft) { aj_refuse(c, "%lld samples are fewer than n_fft, %lld", (long long)x->shape[1], (long long)n_fft); return NULL; }
    x = times(aj_live(aj_unfold(x, 1, n_fft, hop)), w);
    double s = c->attrs->flag2 ? 1 / sqrt((double)n_fft) : 1;
    x = x ? aj_live(aj_rfft_half(x, -1, s)) : NULL;
    x = x ? aj_live(aj_transpose(x, 1, 2)) : NULL;
    return x && one ? aj_squeeze(x, &(aj_ints){1, {0}}) : x;
}
/* Frames (N, count, n_fft) added up where they lie. */
static aj_tensor *laid(aj_tensor *x, int64_t hop) {
    int64_t N = x->shape[0], count = x->shape[1], n = x->shape[2], total = n + hop * (count - 1);
    return aj_live(aj_as_strided_grad(x, &(aj_ints){2, {N, total}}, &(aj_ints){3, {total, hop, 1}}, 0));
}
aj_tensor *istft_compose(aj_call *c) {
    int64_t n_fft, hop, length;
    if (!aj_floats(c, 0) || !lengths(c, &n_fft, &hop, &length)) return NULL;
    aj_tensor *x = c->in[0];
    if ((x->ndim != 3 && x->ndim != 4) || x->shape[x->ndim - 1] != 2 || x->shape[x->ndim - 3] != n_fft / 2 + 1 || x->shape[x->ndim - 2] < 1) {
        aj_refuse(c, "the input is (batch, %lld frequencies, frames, 2), as stft gives it", (long long)(n_fft / 2 + 1));
        return NULL;
    }
    bool one = x->ndim == 3;
    aj_tensor *w = centred(c, x, c->in[1], n_fft, length);
    if (!w || (one && !(x = aj_live(aj_unsqueeze(x, 0))))) return NULL;
    int64_t count = x->shape[2], want = c->attrs->dim;
    double s = c->attrs->flag2 ? 1 / sqrt((double)n_fft) : 1 / (double)n_fft;
    x = aj_live(aj_transpose(x, 1, 2));
    x = x ? aj_live(aj_irfft_half(x, 2, n_fft, s)) : NULL;
    x = times(x, w);
    x = x ? laid(x, hop) : NULL;
    aj_tensor *square = times(w, w);
    square = square ? aj_live(aj_expand(square, &(aj_ints){3, {1, count, n_fft}})) : NULL;
    square = square ? laid(square, hop) : NULL;
    if (!x || !square) return NULL;
    int64_t first = c->attrs->flag ? n_fft / 2 : 0, last = want > 0 ? first + want : x->shape[1] - first;
    int64_t have = last < x->shape[1] ? last : x->shape[1];
    if (have <= first) { aj_refuse(c, "nothing is left between the ends"); return NULL; }
    x = aj_live(aj_narrow(x, 1, first, have - first));
    square = aj_live(aj_narrow(square, 1, first, have - first));
    double least = 1;
    aj_tensor *low = square ? aj_live(aj_amin(aj_live(aj_detach(square)), &(aj_ints){-1, {0}}, false)) : NULL;
    if (!low || (low->device != AJ_META && !aj_get(low, (const int64_t[]){0}, &least))) return NULL;
    if (least < 1e-11) { aj_refuse(c, "the windows leave samples uncovered; take a smaller hop_length"); return NULL; }
    x = to_length(over(x, square), 1, last - first);
    return x && one ? aj_squeeze(x, &(aj_ints){1, {0}}) : x;
}
