/* dropout.c - dropout, of elements and of whole channels. No mask is kept: dropout_at finds it again from its place in the
 * random stream, in the gradient as well. */
#include "rule.h"
#include <math.h>

static bool chance(const aj_call *c) {
    if (c->attrs->s >= 0 && c->attrs->s <= 1) return true;
    return aj_refuse(c, "p is %g, and must be a probability, from 0 to 1", c->attrs->s);
}

bool dropout_at_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !chance(c)) return false;
    aj_spec_like(&c->spec[0], c->in[0]);
    return true;
}
bool dropout_at_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    return (gx[0] = aj_dropout_at(gy[0], n->attrs->s, (int64_t)n->attrs->seed, (int64_t)n->attrs->position)) != NULL;
}

/* The numbers of this thread's stream that come next, one for each element. */
static aj_tensor *drop_next(aj_tensor *x, double p) {
    return aj_live(aj_dropout_at(x, p, (int64_t)aj_ctx.seed, (int64_t)aj_random_take(x->numel)));
}

aj_tensor *dropout_compose(aj_call *c) {
    if (!aj_floats(c, 0) || !chance(c)) return NULL;
    return !c->attrs->flag || c->attrs->s == 0 ? c->in[0] : drop_next(c->in[0], c->attrs->s);
}

/* x times a mask of its first n dimensions. */
static aj_tensor *drop_outer(aj_call *c, int n) {
    aj_tensor *x = c->in[0];
    if (!chance(c)) return NULL;
    if (!c->attrs->flag || c->attrs->s == 0) return x;
    aj_ints shape = aj_sizes(x);
    for (int d = n; d < x->ndim; d++) shape.v[d] = 1;
    aj_tensor *mask = aj_full((aj_dtype)x->dtype, &shape, x->device, 1);
    return mask && (mask = drop_next(mask, c->attrs->s)) ? aj_mul(x, mask) : NULL;
}
static aj_tensor *drop_channels(aj_call *c, int batched) {
    if (!aj_floats(c, 0)) return NULL;
    int ndim = c->in[0]->ndim;
    if (ndim != batched && ndim != batched - 1) {
        aj_refuse(c, "the input has %d dimensions, and must have %d, (N, C, ...), or %d, (C, ...)", ndim, batched, batched - 1);
        return NULL;
    }
    return drop_outer(c, ndim == batched ? 2 : 1);
}
aj_tensor *dropout1d_compose(aj_call *c) { return drop_channels(c, 3); }
aj_tensor *dropout3d_compose(aj_call *c) { return drop_channels(c, 5); }
/* Three dimensions are (N, C, L), as in PyTorch. */
aj_tensor *dropout2d_compose(aj_call *c) { return aj_floats(c, 0) && c->in[0]->ndim == 3 ? drop_outer(c, 2) : drop_channels(c, 4); }

/* Klambauer and others, 2017: what is dropped becomes selu's lower limit, and the whole is scaled to keep mean and variance. */
aj_tensor *alpha_dropout_compose(aj_call *c) {
    if (!aj_floats(c, 0) || !chance(c)) return NULL;
    aj_tensor *x = c->in[0];
    double p = c->attrs->s, low = -1.7580993408473766;
    if (!c->attrs->flag || p == 0) return x;
    if (p == 1) return aj_mul_number(x, 0, false);
    aj_ints shape = aj_sizes(x);
    double a = 1 / sqrt((1 - p) * (1 + p * low * low)), b = -a * p * low;
    aj_tensor *mask = aj_full((aj_dtype)x->dtype, &shape, x->device, 1 - p);
    if (!mask || !(mask = drop_next(mask, p))) return NULL;
    aj_tensor *kept = aj_mul(x, mask), *rest = aj_sub_number(mask, 1, true);      /* 1 - mask */
    kept = kept && rest ? aj_mul_number(kept, a, false) : NULL;
    rest = kept ? aj_mul_number(rest, a * low, false) : NULL;
    rest = rest ? aj_add_number(rest, b, false) : NULL;
    return rest ? aj_add(kept, rest) : NULL;
}
