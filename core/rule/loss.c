/* loss.c - losses between an input and a target of one shape: an elementwise row of ops.def, weights, and a reduction. */
#include "rule.h"

static bool pair(aj_call *c, bool batchmean) {
    if (!aj_given(c, 0, 2) || !aj_reduction(c, batchmean)) return false;
    const aj_tensor *x = c->in[0], *t = c->in[1];
    if (aj_same_shape(x, t) || x->ndim == 0 || t->ndim == 0) return true;
    return aj_refuse(c, "the input and the target have different shapes; reshape or expand one of them");
}

static aj_tensor *reduced(aj_call *c, aj_tensor *y) {
    aj_ints all = {-1, {0}};
    if (!y || c->attrs->reduction == AJ_NONE) return y;
    if (c->attrs->reduction == AJ_MEAN) return aj_mean(y, &all, false);
    return aj_sum(y, &all, false);
}

aj_tensor *mse_loss_compose(aj_call *c) { return pair(c, false) ? reduced(c, aj_squared_error(c->in[0], c->in[1])) : NULL; }
aj_tensor *l1_loss_compose(aj_call *c) { return pair(c, false) ? reduced(c, aj_absolute_error(c->in[0], c->in[1])) : NULL; }

aj_tensor *smooth_l1_loss_compose(aj_call *c) {
    if (!pair(c, false)) return NULL;
    if (!(c->attrs->s >= 0)) { aj_refuse(c, "beta is %g, and must not be negative", c->attrs->s); return NULL; }
    return reduced(c, c->attrs->s == 0 ? aj_absolute_error(c->in[0], c->in[1]) : aj_smooth_l1_error(c->in[0], c->in[1], c->attrs->s));
}
aj_tensor *huber_loss_compose(aj_call *c) {
    if (!pair(c, false)) return NULL;
    if (!(c->attrs->s > 0)) { aj_refuse(c, "delta is %g, and must be above 0", c->attrs->s); return NULL; }
    return reduced(c, aj_huber_error(c->in[0], c->in[1], c->attrs->s));
}

aj_tensor *bce_loss_compose(aj_call *c) {
    if (!pair(c, false)) return NULL;
    aj_tensor *y = aj_bce_error(c->in[0], c->in[1]);
    if (y && c->in[2]) y = aj_mul(y, c->in[2]);
    return reduced(c, y);
}

/* With pos_weight p: (1 - t) x - (1 + (p - 1) t) log(sigmoid(x)). */
aj_tensor *bce_with_logits_compose(aj_call *c) {
    if (!pair(c, false)) return NULL;
    aj_tensor *x = c->in[0], *t = c->in[1], *y;
    if (!c->in[3]) y = aj_bce_logits_error(x, t);
    else {
        aj_tensor *p = aj_sub_number(c->in[3], 1, false), *ps = p ? aj_mul(p, t) : NULL, *l = ps ? aj_log_sigmoid(x) : NULL;
        aj_tensor *s = l ? aj_add_number(ps, 1, false) : NULL, *b = s ? aj_mul(s, l) : NULL, *r = b ? aj_sub_number(t, 1, true) : NULL;
        aj_tensor *a = r ? aj_mul(r, x) : NULL;
        y = a ? aj_sub(a, b) : NULL;
    }
    if (y && c->in[2]) y = aj_mul(y, c->in[2]);
    return reduced(c, y);
}

aj_tensor *kl_div_compose(aj_call *c) {
    if (!pair(c, true)) return NULL;
    aj_tensor *x = c->in[0], *t = c->in[1], *y;
    if (!c->attrs->flag) y = aj_kl_error(x, t);
    else {
        aj_tensor *p = aj_exp(t), *d = p ? aj_sub(t, x) : NULL;
        y = d ? aj_mul(p, d) : NULL;
    }
    y = reduced(c, y);
    if (!y || c->attrs->reduction != AJ_BATCHMEAN) return y;
    return aj_div_number(y, x->ndim ? (double)x->shape[0] : 1, false);
}
