/* attention.c - attention of queries to keys: softmax(scale Q K^T + mask) V, without the matrix of scores (Rabe and Staats,
 * "Self-attention does not need O(n^2) memory", 2021; Dao and others, "FlashAttention", 2022). The first gradient computes
 * the scores anew from the logarithm of each row's sum; higher ones follow the definition.
 */
#include "matrix.h"
#include <math.h>

/* -- On (N, heads, L, E), (N, key heads, S, E) and (N, key heads, S, Ev); the mask is (N, heads, L, S) ------------------ */

static bool fits(const aj_call *c, int first) {
    aj_tensor *const *in = c->in + first;
    for (int k = 0; k < 3; k++) {
        if (!aj_floats(c, first + k)) return false;
        if (in[k]->ndim != 4) return aj_refuse(c, "query, key and value have four dimensions: batch, heads, positions, features");
    }
    const aj_tensor *q = in[0], *k = in[1], *v = in[2], *m = in[3];
    if (q->dtype != k->dtype || q->dtype != v->dtype) return aj_refuse(c, "query, key and value are of different dtypes");
    if (q->shape[0] != k->shape[0] || k->shape[0] != v->shape[0]) return aj_refuse(c, "the batch sizes differ");
    if (k->shape[1] != v->shape[1] || (k->shape[1] ? q->shape[1] % k->shape[1] : q->shape[1]) != 0)
        return aj_refuse(c, "key and value have %lld and %lld heads, which must be equal and divide the query's %lld", (long long)k->shape[1], (long long)v->shape[1], (long long)q->shape[1]);
    if (q->shape[3] != k->shape[3]) return aj_refuse(c, "the query has %lld features and the key %lld; these must agree", (long long)q->shape[3], (long long)k->shape[3]);
    if (k->shape[2] != v->shape[2]) return aj_refuse(c, "there are %lld keys and %lld values; these must agree", (long long)k->shape[2], (long long)v->shape[2]);
    if (!m) return true;
    int64_t of[4] = {q->shape[0], q->shape[1], q->shape[2], k->shape[2]};
    for (int d = 0; d < 4; d++)
        if (m->ndim != 4 || m->shape[d] != of[d]) return aj_refuse(c, "the mask must be (batch, heads, queries, keys)");
    return m->dtype == AJ_BOOL || aj_is_float(m->dtype) || aj_refuse(c, "the mask is of bools or floats, not %s", aj_dtype_name((aj_dtype)m->dtype));
}

bool attention_shape(aj_call *c) {
    if (!fits(c, 0)) return false;
    const aj_tensor *q = c->in[0];
    aj_spec *y = c->spec;
    aj_spec_like(&y[0], q);
    y[0].shape[3] = c->in[2]->shape[3];
    aj_spec_like(&y[1], q);
    y[1].ndim = 3;
    y[1].dtype = q->dtype == AJ_F64 ? AJ_F64 : AJ_F32;
    c->n_out = 2;
    return true;
}

/* Heads that share a key in a dimension of their own: (N, H, L, E) -> (N, K, H / K, L, E). */
static aj_tensor *grouped(aj_tensor *x, int64_t heads) {
    aj_ints shape = {5, {x->shape[0], heads, heads ? x->shape[1] / heads : 0, x->shape[2], x->shape[3]}};
    return aj_live(aj_reshape(x, &shape));
}
static aj_tensor *by_softmax(aj_tensor *const *in, int n_in, const aj_attrs *a) {
    (void)n_in;
    aj_tensor *q = in[0], *k = in[1], *v = in[2], *mask = in[3];
    int64_t L = q->shape[2], S = k->shape[2], heads = k->shape[1];
    aj_ints whole = {4, {q->shape[0], q->shape[1], L, S}}, none = {0};
    aj_tensor *low = aj_live(aj_full((aj_dtype)q->dtype, &none, q->device, -INFINITY)), *zero = aj_live(aj_full((aj_dtype)q->dtype, &none, q->device, 0));
    aj_tensor *s = grouped(q, heads), *t = aj_live(aj_unsqueeze(k, 2)), *u = aj_live(aj_unsqueeze(v, 2));
    s = dot(scaled(s, a->t), turned(t));
    if (!s || !low || !zero || !u || !(s = aj_live(aj_reshape(s, &whole)))) return NULL;
    if (mask && mask->dtype == AJ_BOOL) s = aj_live(aj_where(mask, s, low));
    else if (mask) s = plus(s, mask->dtype == q->dtype ? mask : aj_live(aj_cast(mask, (aj_dtype)q->dtype)));
    if (s && a->flag) {
        aj_tensor *ones = aj_live(aj_full(AJ_BOOL, &(aj_ints){2, {L, S}}, q->device, 1));
        if (!ones || !(ones = aj_live(aj_tril(ones, 0)))) return NULL;
        s = aj_live(aj_where(ones, s, low));
    }
    aj_tensor *p = s ? aj_live(aj_softmax(s, -1)) : NULL;
    if (p && mask) {                                     /* a query that may attend to nothing gets zeros */
        aj_tensor *top = S ? aj_live(aj_amax(aj_live(aj_detach(s)), &(aj_ints){1, {-1}}, true)) : NULL;
        aj_tensor *some = top ? aj_live(aj_ne_number(top, -INFINITY, false)) : NULL;
        if (some) p = aj_live(aj_where(some, p, zero));
    }
    if (p && a->s > 0) p = aj_live(aj_dropout_at(p, a->s, (int64_t)a->seed, (int64_t)a->position));
    p = p ? grouped(p, heads) : NULL;
    aj_tensor *y = dot(p, u);
    aj_ints of = {4, {q->shape[0], q->shape[1], L, v->shape[3]}};
    return y ? aj_reshape(y, &of) : NULL;
}

bool attention_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    if (aj_recording() || aj_wants(n, 3)) return aj_vjp_by_definition(n, by_softmax, gy[0], gx);
    const aj_attrs *a = n->attrs;
    aj_tensor *g = aj_attention_grad(gy[0], n->in[0].t, n->in[1].t, n->in[2].t, n->in[3].t, n->out[0].t, n->out[1].t, a->t, a->flag, a->s, (int64_t)a->seed, (int64_t)a->position);
    if (!g) return false;
    for (int k = 0; k < 3; k++) if (aj_wants(n, k)) gx[k] = aj_result(k + 1);
    return true;
}

bool attention_grad_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !fits(c, 1) || !aj_floats(c, 5) || !aj_floats(c, 6)) return false;
    const aj_tensor *g = c->in[0], *y = c->in[5], *q = c->in[1], *lse = c->in[6];
    if (!aj_same_shape(g, y) || y->ndim != 4 || y->shape[2] != q->shape[2] || y->shape[3] != c->in[3]->shape[3]) return aj_refuse(c, "the gradient has the result's shape");
    if (lse->ndim != 3 || lse->numel * q->shape[3] != q->numel) return aj_refuse(c, "lse has one number for each query");
    if (g->dtype != q->dtype || y->dtype != q->dtype) return aj_refuse(c, "the gradient, the result and the query are of different dtypes");
    for (int k = 0; k < 3; k++) aj_spec_like(&c->spec[k], c->in[k + 1]);
    c->n_out = 3;
    return true;
}
bool attention_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }

/* -- With any number of batch dimensions --------------------------------------------------------------------------------- */

/* x (..., rows, columns) with its leading dimensions expanded to `lead`, and those before the heads as one. */
static aj_tensor *four(aj_tensor *x, const aj_ints *lead, int64_t heads, bool keep_heads) {
    aj_ints full = *lead, shape = {4, {1, 1, rows_of(x), columns_of(x)}};
    if (keep_heads && full.n) full.v[full.n - 1] = heads;
    full.v[full.n] = rows_of(x);
    full.v[full.n + 1] = columns_of(x);
    full.n += 2;
    for (int d = 0; d < full.n - 3; d++) shape.v[0] *= full.v[d];
    if (full.n > 2) shape.v[1] = full.v[full.n - 3];
    bool same = x->ndim == full.n;
    for (int d = 0; same && d < full.n; d++) same = x->shape[d] == full.v[d];
    if (!same && !(x = aj_live(aj_expand(x, &full)))) return NULL;
    return x->ndim == 4 ? x : aj_live(aj_reshape(x, &shape));
}

aj_tensor *scaled_dot_product_attention_compose(aj_call *c) {
    for (int k = 0; k < 3; k++) if (!is_matrix(c, k)) return NULL;
    const aj_attrs *a = c->attrs;
    if (!aj_same_dtype(&(aj_call){.op = c->op, .n_in = 3, .in = c->in})) return NULL;
    if (!(a->s >= 0 && a->s <= 1)) { aj_refuse(c, "dropout_p is %g, and must be from 0 to 1", a->s); return NULL; }
    aj_tensor *x[3] = {c->in[0], c->in[1], c->in[2]}, *mask = c->in[3];
    int most = 0;
    for (int k = 0; k < 3; k++) if (x[k]->ndim > most) most = x[k]->ndim;
    aj_ints lead = {most - 2, {0}};
    for (int d = 0; d < lead.n; d++) {
        int64_t size = 1;
        bool heads = d == lead.n - 1 && a->flag2;        /* with enable_gqa, the query's; keys have their own */
        for (int k = 0; k < (heads ? 1 : 3); k++) {
            int e = d - (most - x[k]->ndim);
            int64_t s = e < 0 ? 1 : x[k]->shape[e];
            if (s == 1 || s == size) continue;
            if (size != 1) { aj_refuse(c, "sizes %lld and %lld along dimension %d do not match%s", (long long)size, (long long)s, d + 1, d == lead.n - 1 ? "; heads that share keys need enable_gqa" : ""); return NULL; }
            size = s;
        }
        lead.v[d] = size;
    }
    aj_ints of = lead;
    for (int k = 0; k < 3; k++) {
        bool gqa = a->flag2 && k > 0 && x[k]->ndim > 2;
        if (!(x[k] = four(x[k], &lead, gqa ? x[k]->shape[x[k]->ndim - 3] : 0, gqa))) return NULL;
    }
    if (mask) {
        if (mask->dtype != AJ_BOOL && !aj_is_float(mask->dtype)) { aj_refuse(c, "the mask is of bools (true: attend) or of floats, which are added, not %s", aj_dtype_name((aj_dtype)mask->dtype)); return NULL; }
        aj_ints full = lead;
        full.v[full.n++] = rows_of(x[0]);
        full.v[full.n++] = rows_of(x[1]);
        if (mask->ndim > full.n) { aj_refuse(c, "the mask has more dimensions than the scores"); return NULL; }
        for (int d = 0; d < mask->ndim; d++) {
            int64_t want = full.v[full.n - mask->ndim + d];
            if (mask->shape[d] != want && mask->shape[d] != 1) {
                aj_refuse(c, "the mask's dimension %d is %lld, where the scores have %lld", d + 1, (long long)mask->shape[d], (long long)want);
                return NULL;
            }
        }
        if (!(mask = aj_live(aj_expand(mask, &full)))) return NULL;
        aj_ints shape = {4, {x[0]->shape[0], x[0]->shape[1], rows_of(x[0]), rows_of(x[1])}};
        if (full.n != 4 && !(mask = aj_live(aj_reshape(mask, &shape)))) return NULL;
    }
    int64_t E = columns_of(x[0]), seed = 0, position = 0;
    double scale = a->t != 0 ? a->t : E ? 1 / sqrt((double)E) : 1;
    if (a->s > 0) {
        position = (int64_t)aj_random_take(x[0]->shape[0] * x[0]->shape[1] * rows_of(x[0]) * rows_of(x[1]));
        seed = (int64_t)aj_ctx.seed;
    }
    aj_tensor *y = aj_live(aj_attention(x[0], x[1], x[2], mask, scale, a->flag, a->s, seed, position));
    if (!y || of.n == 2) return y;
    of.v[of.n++] = rows_of(x[0]);
    of.v[of.n++] = columns_of(x[2]);
    return aj_reshape(y, &of);
}
