/* special.c - special functions made of others, and the numbers next to others. */
#include "compose.h"

aj_tensor *frexp_compose(aj_call *c) {
    if (!aj_floats(c, 0)) return NULL;
    aj_tensor *y = aj_live(aj_frexp_mantissa(c->in[0])), *e = y ? aj_live(aj_frexp_exponent(c->in[0])) : NULL;
    c->out[1] = do_cast(e, AJ_I32);
    c->n_out = 2;
    return c->out[1] ? y : NULL;
}

aj_tensor *mvlgamma_compose(aj_call *c) {
    if (!aj_given(c, 0, 1)) return NULL;
    int64_t p = c->attrs->i;
    if (p < 1 || p > 1000) { aj_refuse(c, "p is %lld, and must be from 1 to 1000", (long long)p); return NULL; }
    aj_tensor *x = c->in[0], *sum = NULL;
    if (!aj_is_float(x->dtype)) x = do_cast(x, AJ_F32);
    for (int64_t i = 0; i < p; i++) {
        aj_tensor *t = i ? do_add_n(x, -0.5 * (double)i) : x;
        t = t ? aj_live(aj_lgamma(t)) : NULL;
        sum = i ? do_add(sum, t) : t;
    }
    return do_add_n(sum, 0.25 * (double)(p * (p - 1)) * 1.1447298858494002);
}

bool nextafter_shape(aj_call *c) {
    if (!aj_given(c, 0, 2)) return false;
    const aj_tensor *a = c->in[0], *b = c->in[1];
    int d = (int)aj_promote((aj_dtype)a->dtype, (aj_dtype)b->dtype);
    if (a->ndim && !b->ndim && aj_is_float(a->dtype)) d = a->dtype;      /* a rank-0 tensor only decides between kinds */
    if (b->ndim && !a->ndim && aj_is_float(b->dtype)) d = b->dtype;
    if (!aj_cast_inputs(c, 0, 2, aj_is_float(d) ? d : AJ_F32) || !aj_broadcast(c, &c->spec[0])) return false;
    c->spec[0].dtype = c->in[0]->dtype;
    aj_ints shape = {c->spec[0].ndim, {0}};
    for (int i = 0; i < shape.n; i++) shape.v[i] = c->spec[0].shape[i];
    for (int k = 0; k < 2; k++) {
        c->in[k] = do_expand(c->in[k], &shape);
        if (!c->in[k] || (!c->in[k]->contiguous && !(c->in[k] = do_contiguous(c->in[k])))) return false;
    }
    return true;
}
bool nextafter_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }
