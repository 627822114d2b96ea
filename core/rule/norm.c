/* norm.c - normalisation: over trailing dimensions, groups of channels, single samples and batches; of vectors.
 *
 * layer_norm, rms_norm and group_norm are one thing to the kernels: x as (N, C, S), the channels C in groups, each group
 * of each sample a row with its own mean, and a weight for each channel (layer_norm: S is 1, and all C are one group).
 * First gradients run fused; gradients of gradients go by the definition, written in ops.
 */
#include "rule.h"
#include <float.h>

static aj_tensor *times(aj_tensor *a, aj_tensor *b) { return a && b ? aj_live(aj_mul(a, b)) : NULL; }
static aj_tensor *plus(aj_tensor *a, aj_tensor *b) { return a && b ? aj_live(aj_add(a, b)) : NULL; }

/* t as it lines up with the channels, dimension 2, of n dimensions. */
static aj_tensor *channels(aj_tensor *t, int n) {
    aj_ints shape = {n, {1, 1, 1, 1, 1, 1, 1, 1}};
    shape.v[1] = t->numel;
    return aj_live(aj_reshape(t, &shape));
}

/* (x - mean) / sqrt(var + eps) over dims. */
static aj_tensor *standardised(aj_tensor *x, const aj_ints *dims, double eps, bool centered) {
    if (centered) {
        aj_tensor *m = aj_mean(x, dims, true);
        x = m ? aj_live(aj_sub(x, m)) : NULL;
    }
    aj_tensor *v = x ? aj_square(x) : NULL;
    v = v ? aj_mean(v, dims, true) : NULL;
    v = v ? aj_add_number(v, eps, false) : NULL;
    v = v ? aj_rsqrt(v) : NULL;
    return times(x, v);
}

/* Hidden results mean and rstd, n numbers each, in the type that is computed in. */
static void keep_statistics(aj_call *c, int64_t n) {
    for (int i = 1; i < 3; i++)
        c->spec[i] = (aj_spec){.dtype = c->in[0]->dtype == AJ_F64 ? AJ_F64 : AJ_F32, .ndim = 1, .shape = {n}};
    c->n_out = 3;
}

static bool affine(const aj_call *c, int k, int64_t channels_in) {
    for (int i = k; i < c->n_in; i++) {
        if (!c->in[i] || c->in[i]->numel == channels_in) continue;
        return aj_refuse(c, "input %d has %lld elements, and must have %lld, one for each channel", i + 1, (long long)c->in[i]->numel,
                         (long long)channels_in);
    }
    return true;
}

/* gx, gw, gb of an op with inputs x, ..., weight (at k), bias; g3: gx has been computed, with aj_result(2) and (3). */
static bool spread_results(aj_node *n, aj_tensor *gx0, int k, aj_tensor **gx) {
    if (!gx0) return false;
    aj_tensor *more[2] = {aj_result(2), aj_result(3)};
    gx[0] = gx0;
    for (int i = 0; i < 2 && k + i < n->n_in; i++) {
        if (!aj_wants(n, k + i)) continue;
        aj_ints shape = aj_sizes_in(n, k + i);
        if (!(gx[k + i] = aj_reshape(more[i], &shape))) return false;
    }
    return true;
}

/* -- Over trailing dimensions ---------------------------------------------------------------------------------------------- */

static bool trailing(aj_call *c, aj_tensor *const *others, int n_others) {
    if (!aj_floats(c, 0)) return false;
    aj_tensor *x = c->in[0];
    const aj_ints *of = &c->attrs->list;
    int64_t size = 1, rows = 1;
    bool fits = of->n >= 1 && of->n <= x->ndim;
    for (int i = 0; i < of->n && fits; i++) {
        fits = x->shape[x->ndim - of->n + i] == of->v[i];
        size *= of->v[i];
    }
    if (!fits) return aj_refuse(c, "the input's last sizes are not those of normalized_shape");
    for (int i = 0; i < n_others; i++) {
        const aj_tensor *t = others[i];
        if (!t) continue;
        bool same = t->ndim == of->n;
        for (int d = 0; d < of->n && same; d++) same = t->shape[d] == of->v[d];
        if (!same) return aj_refuse(c, "weight and bias have the shape normalized_shape");
    }
    for (int d = 0; d < x->ndim - of->n; d++) rows *= x->shape[d];
    aj_spec_like(&c->spec[0], x);
    keep_statistics(c, rows);
    c->attrs->i = size;                                  /* C, S, N and groups for the kernel */
    c->attrs->j = 1;
    c->attrs->k = rows;
    c->attrs->groups = 1;
    return true;
}
bool layer_norm_shape(aj_call *c) {
    c->attrs->flag = true;
    return trailing(c, c->in + 1, 2);
}
bool rms_norm_shape(aj_call *c) {
    c->attrs->flag = false;
    if (!trailing(c, c->in + 1, 1)) return false;
    static const double epsilon[] = {0x1p-10, 0x1p-7, (double)FLT_EPSILON, DBL_EPSILON};
    if (c->attrs->s < 0) c->attrs->s = epsilon[c->in[0]->dtype - AJ_F16];
    return true;
}

static aj_tensor *norm_by_definition(aj_tensor *const *in, int n_in, const aj_attrs *a) {
    aj_tensor *x = in[0];
    aj_ints dims = {a->list.n, {0}};
    for (int i = 0; i < dims.n; i++) dims.v[i] = x->ndim - dims.n + i;
    aj_tensor *y = standardised(x, &dims, a->s, a->flag);
    if (in[1]) y = times(y, in[1]);
    if (n_in > 2 && in[2]) y = plus(y, in[2]);
    return y;
}
static bool rows_vjp(aj_node *n, aj_tensor *gy, aj_tensor **gx, aj_definition *f) {
    if (aj_recording()) return aj_vjp_by_definition(n, f, gy, gx);
    const aj_attrs *a = n->attrs;
    bool wants = aj_wants(n, 1) || (n->n_in > 2 && aj_wants(n, 2));
    aj_tensor *x = aj_saved_in(n, 0);
    aj_tensor *g = aj_group_norm_grad(gy, x, aj_saved_in(n, 1), n->out[1].t, n->out[2].t, a->i, a->j, a->groups, a->flag, wants);
    return spread_results(n, g, 1, gx);
}
bool layer_norm_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return rows_vjp(n, gy[0], gx, norm_by_definition); }
bool rms_norm_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return rows_vjp(n, gy[0], gx, norm_by_definition); }

/* -- Over groups of channels ------------------------------------------------------------------------------------------------- */

bool group_norm_shape(aj_call *c) {
    if (!aj_floats(c, 0)) return false;
    aj_tensor *x = c->in[0];
    aj_attrs *a = c->attrs;
    if (x->ndim < 2) return aj_refuse(c, "the input is (N, C, ...)");
    if (a->groups < 1 || x->shape[1] % a->groups) return aj_refuse(c, "%lld channels do not divide into %d groups", (long long)x->shape[1], a->groups);
    if (!affine(c, 1, x->shape[1])) return false;
    a->i = x->shape[1];
    a->j = 1;
    a->k = x->shape[0];
    a->flag = true;
    for (int d = 2; d < x->ndim; d++) a->j *= x->shape[d];
    aj_spec_like(&c->spec[0], x);
    keep_statistics(c, a->k * a->groups);
    return true;
}
static aj_tensor *groups_by_definition(aj_tensor *const *in, int n_in, const aj_attrs *a) {
    (void)n_in;
    aj_tensor *x = in[0];
    aj_ints shape = aj_sizes(x), grouped = {3, {a->k, a->groups, a->i / a->groups * a->j}}, last = {1, {2}};
    aj_tensor *y = aj_reshape(x, &grouped);
    y = y ? standardised(aj_live(y), &last, a->s, true) : NULL;
    y = y ? aj_reshape(y, &shape) : NULL;
    if (in[1]) y = times(y, channels(in[1], x->ndim));
    if (in[2]) y = plus(y, channels(in[2], x->ndim));
    return y;
}
bool group_norm_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return rows_vjp(n, gy[0], gx, groups_by_definition); }

/* gx, and gw and gb (of no elements unless they are asked for). */
static bool gradients(aj_call *c, int64_t channels_in, bool wants) {
    aj_spec_like(&c->spec[0], c->in[1]);
    for (int i = 1; i < 3; i++)
        c->spec[i] = (aj_spec){.dtype = c->in[c->n_in - 1]->dtype, .ndim = 1, .shape = {wants ? channels_in : 0}};
    c->n_out = 3;
    return true;
}
bool group_norm_grad_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_floats(c, 1) || !aj_floats(c, 3) || !aj_floats(c, 4)) return false;
    aj_attrs *a = c->attrs;
    aj_tensor *x = c->in[1];
    int64_t n = a->groups > 0 ? c->in[3]->numel / a->groups : 0;
    if (a->i < 0 || a->j < 0 || (n && aj_count(3, (int64_t[]){n, a->i, a->j}) != x->numel)) return aj_refuse(c, "the sizes do not fit each other");
    if (!aj_same_shape(c->in[0], x) || a->groups < 1 || a->i % a->groups || (!n && x->numel) || c->in[4]->numel != c->in[3]->numel
        || (c->in[2] && c->in[2]->numel != a->i)) return aj_refuse(c, "the sizes do not fit each other");
    a->k = n;
    return gradients(c, a->i, a->flag2);
}
bool group_norm_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }

/* -- Over batches ---------------------------------------------------------------------------------------------------------------- */

bool batch_norm_shape(aj_call *c) {
    if (!aj_floats(c, 0)) return false;
    aj_tensor *x = c->in[0];
    aj_attrs *a = c->attrs;
    if (x->ndim < 2) return aj_refuse(c, "the input is (N, C, ...)");
    if (!affine(c, 1, x->shape[1])) return false;
    for (int k = 1; k < 3; k++) if (c->in[k] && !aj_floats(c, k)) return false;
    if (!c->in[1] != !c->in[2]) return aj_refuse(c, "running_mean and running_var come together");
    if (!a->flag && !c->in[1])
        return aj_refuse(c, "when not training, running_mean and running_var are wanted; training = true takes the batch's own");
    a->i = x->shape[1];
    a->j = 1;
    a->k = x->shape[0];
    for (int d = 2; d < x->ndim; d++) a->j *= x->shape[d];
    if (a->flag && a->k * a->j == 1 && a->i) return aj_refuse(c, "training wants more than one value for each channel");
    aj_spec_like(&c->spec[0], x);
    keep_statistics(c, a->i);
    return true;
}
static aj_tensor *batch_by_definition(aj_tensor *const *in, int n_in, const aj_attrs *a) {
    (void)n_in;
    aj_tensor *x = in[0];
    aj_ints dims = {0};
    for (int d = 0; d < x->ndim; d++) if (d != 1) dims.v[dims.n++] = d;
    aj_tensor *y = standardised(x, &dims, a->s, true);
    if (in[3]) y = times(y, channels(in[3], x->ndim));
    if (in[4]) y = plus(y, channels(in[4], x->ndim));
    return y && a->mode ? aj_live(aj_relu(y)) : y;
}
/* With fixed statistics the op is linear: y = x (rstd w) + ... */
static bool fixed_vjp(aj_node *n, aj_tensor *gy, aj_tensor **gx) {
    aj_tensor *x = aj_saved_in(n, 0), *w = aj_saved_in(n, 3);
    aj_tensor *mean = channels(n->out[1].t, x->ndim), *rstd = channels(n->out[2].t, x->ndim);
    aj_ints dims = {0};
    for (int d = 0; d < x->ndim; d++) if (d != 1) dims.v[dims.n++] = d;
    if (!mean || !rstd) return false;
    if (n->attrs->mode) {                                /* gy where the result is not 0 */
        aj_tensor *b = aj_saved_in(n, 4), *y = times(aj_live(aj_sub(x, mean)), w ? times(channels(w, x->ndim), rstd) : rstd);
        if (b) y = plus(y, channels(b, x->ndim));
        y = y ? aj_le_number(y, 0, false) : NULL;
        if (!y || !(gy = aj_live(aj_masked_fill(gy, y, 0)))) return false;
    }
    if (aj_wants(n, 0) && !(gx[0] = times(gy, w ? times(channels(w, x->ndim), rstd) : rstd))) return false;
    if (aj_wants(n, 3)) {
        aj_tensor *d = aj_sub(x, mean), *p = d ? times(times(d, rstd), gy) : NULL;
        if (!p || !(gx[3] = aj_sum(p, &dims, false))) return false;
    }
    return !aj_wants(n, 4) || (gx[4] = aj_sum(gy, &dims, false)) != NULL;
}
bool batch_norm_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    bool training = n->attrs->flag;
    if (aj_recording()) return training ? aj_vjp_by_definition(n, batch_by_definition, gy[0], gx) : fixed_vjp(n, gy[0], gx);
    bool wants = aj_wants(n, 3) || aj_wants(n, 4);
    aj_tensor *g = aj_batch_norm_grad(gy[0], aj_saved_in(n, 0), aj_saved_in(n, 3), aj_saved_in(n, 4), n->out[1].t, n->out[2].t, training, wants, n->attrs->mode);
    return spread_results(n, g, 3, gx);
}
bool batch_norm_grad_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_floats(c, 1) || !aj_floats(c, 4) || !aj_floats(c, 5)) return false;
    aj_attrs *a = c->attrs;
    aj_tensor *x = c->in[1];
    if (x->ndim < 2 || !aj_same_shape(c->in[0], x) || c->in[4]->numel != x->shape[1] || c->in[5]->numel != x->shape[1]
        || (c->in[2] && c->in[2]->numel != x->shape[1]) || (c->in[3] && c->in[3]->numel != x->shape[1])) return aj_refuse(c, "the sizes do not fit each other");
    a->i = x->shape[1];
    a->j = 1;
    a->k = x->shape[0];
    for (int d = 2; d < x->ndim; d++) a->j *= x->shape[d];
    return gradients(c, a->i, a->flag2);
}
bool batch_norm_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }

/* -- Over single samples -------------------------------------------------------------------------------------------------------------- */

/* r becomes (1 - momentum) r + momentum times the mean over samples of what each has. */
static bool follow(aj_tensor *r, aj_tensor *each, double momentum) {
    aj_ints samples = {1, {0}};
    aj_tensor *m = each ? aj_mean(each, &samples, false) : NULL;
    return m && (m = aj_cast(m, (aj_dtype)r->dtype)) && aj_lerp_(r, m, momentum);
}
aj_tensor *instance_norm_compose(aj_call *c) {
    if (!aj_floats(c, 0)) return NULL;
    aj_tensor *x = c->in[0], *mean = c->in[1], *var = c->in[2];
    const aj_attrs *a = c->attrs;
    if (x->ndim < 3) { aj_refuse(c, "the input is (N, C, L), (N, C, H, W) or (N, C, D, H, W)"); return NULL; }
    if (!affine(c, 1, x->shape[1])) return NULL;
    if (!mean != !var) { aj_refuse(c, "running_mean and running_var come together"); return NULL; }
    if (!a->flag) {
        if (!mean) { aj_refuse(c, "without use_input_stats, running_mean and running_var are wanted"); return NULL; }
        return aj_batch_norm(x, mean, var, c->in[3], c->in[4], false, a->t, a->s, false);
    }
    int64_t run = x->shape[1] && x->shape[0] ? x->numel / (x->shape[0] * x->shape[1]) : 2;
    if (run == 1) { aj_refuse(c, "there is one value for each channel of a sample, and more are wanted"); return NULL; }
    if (mean && x->numel) {
        aj_ints dims = {0};
        for (int d = 2; d < x->ndim; d++) dims.v[dims.n++] = d;
        bool mode = aj_grad_mode(false);
        bool ok = follow(mean, aj_mean(x, &dims, false), a->t) && follow(var, aj_var(x, &dims, 1, false), a->t);
        aj_grad_mode(mode);
        if (!ok) return NULL;
    }
    return aj_group_norm(x, x->shape[1], c->in[3], c->in[4], a->s);
}

/* -- Of vectors ---------------------------------------------------------------------------------------------------------------------------- */

aj_tensor *normalize_compose(aj_call *c) {
    if (!aj_floats(c, 0)) return NULL;
    int dim = aj_dim_of(c, c->attrs->dim, c->in[0]->ndim);
    if (dim < 0) return NULL;
    aj_ints dims = {1, {dim}};
    aj_tensor *n = aj_norm(c->in[0], c->attrs->s, &dims, true);
    n = n ? aj_clamp_min(n, c->attrs->t) : NULL;
    return n ? aj_div(c->in[0], n) : NULL;
}

/* a . b / (max(|a|, eps) max(|b|, eps)) */
aj_tensor *cosine_similarity_compose(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_floats(c, 1)) return NULL;
    aj_spec y;
    if (!aj_broadcast(c, &y)) return NULL;
    int dim = aj_dim_of(c, c->attrs->dim, y.ndim);
    if (dim < 0) return NULL;
    aj_ints dims = {y.ndim > 0, {dim}}, shape = {y.ndim, {0}};
    for (int d = 0; d < y.ndim; d++) shape.v[d] = y.shape[d];
    aj_tensor *unit[2];
    for (int k = 0; k < 2; k++) {
        aj_tensor *t = aj_expand(c->in[k], &shape), *n = t ? aj_norm(t, 2, &dims, true) : NULL;
        n = n ? aj_clamp_min(n, c->attrs->s) : NULL;
        if (!n || !(unit[k] = aj_div(t, n))) return NULL;
    }
    aj_tensor *p = times(unit[0], unit[1]);
    return p ? aj_sum(p, &dims, false) : NULL;
}
