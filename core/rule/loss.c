/* loss.c - losses between an input and a target of one shape: an elementwise row of ops.def, weights, and a reduction. */
#include "compose.h"

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

aj_tensor *pseudo_huber_loss_compose(aj_call *c) {
    if (!pair(c, false)) return NULL;
    if (!(c->attrs->s > 0)) { aj_refuse(c, "delta is %g, and must be above 0", c->attrs->s); return NULL; }
    return reduced(c, aj_pseudo_huber_error(c->in[0], c->in[1], c->attrs->s));
}
aj_tensor *log_cosh_loss_compose(aj_call *c) { return pair(c, false) ? reduced(c, aj_log_cosh_error(c->in[0], c->in[1])) : NULL; }

/* -- Margins: targets are 1 or -1 -------------------------------------------------------------------------------------- */

/* max(0, margin - x) */
static aj_tensor *short_of(aj_tensor *x, double margin) { return do_relu(do_n_sub(margin, x)); }

aj_tensor *hinge_loss_compose(aj_call *c) { return pair(c, false) ? reduced(c, short_of(do_mul(c->in[0], c->in[1]), c->attrs->s)) : NULL; }
aj_tensor *soft_margin_loss_compose(aj_call *c) { return pair(c, false) ? reduced(c, do_neg(do_log_sigmoid(do_mul(c->in[0], c->in[1])))) : NULL; }
aj_tensor *margin_ranking_loss_compose(aj_call *c) {
    if (!aj_given(c, 0, 3) || !aj_reduction(c, false)) return NULL;
    aj_tensor *y = do_mul(c->in[2], do_sub(c->in[0], c->in[1]));
    if (y && !aj_is_float(y->dtype)) y = do_cast(y, AJ_F32);
    return reduced(c, short_of(y, c->attrs->s));
}
/* Where the target is 1 the distance x, where it is -1 what it lacks of the margin. */
aj_tensor *hinge_embedding_loss_compose(aj_call *c) {
    if (!pair(c, false)) return NULL;
    aj_tensor *x = c->in[0], *t = c->in[1], *zero = do_number(x, 0);
    aj_tensor *far = do_where(do_ne_n(t, 1), short_of(x, c->attrs->s), zero), *near = do_where(do_ne_n(t, -1), x, zero);
    return reduced(c, do_add(far, near));
}
/* Of rows, or of one vector. */
aj_tensor *cosine_embedding_loss_compose(aj_call *c) {
    if (!aj_given(c, 0, 3) || !aj_reduction(c, false)) return NULL;
    aj_tensor *a = c->in[0], *b = c->in[1], *t = c->in[2];
    if (a->ndim < 1 || a->ndim > 2 || b->ndim != a->ndim || t->ndim != a->ndim - 1) { aj_refuse(c, "two batches of vectors with a target each, or two vectors and one target"); return NULL; }
    const double tiny = 1e-12;
    aj_tensor *size = do_mul(do_add_n(do_sum(do_square(a), -1, false), tiny), do_add_n(do_sum(do_square(b), -1, false), tiny));
    aj_tensor *y = do_div(do_sum(do_mul(a, b), -1, false), do_sqrt(size)), *zero = y ? do_number(y, 0) : NULL;
    aj_tensor *same = do_where(do_eq_n(t, 1), do_n_sub(1, y), zero), *other = do_where(do_eq_n(t, -1), do_relu(do_sub_n(y, c->attrs->s)), zero);
    return reduced(c, do_add(same, other));
}
aj_tensor *triplet_margin_loss_compose(aj_call *c) {
    if (!aj_given(c, 0, 3) || !aj_reduction(c, false)) return NULL;
    aj_tensor *a = c->in[0], *p = c->in[1], *n = c->in[2];
    double margin = c->attrs->s, power = c->attrs->t, eps = c->attrs->u;
    if (!(margin > 0)) { aj_refuse(c, "margin is %g, and must be above 0", margin); return NULL; }
    aj_tensor *near = aj_live(aj_pairwise_distance(a, p, power, eps, false)), *far = near ? aj_live(aj_pairwise_distance(a, n, power, eps, false)) : NULL;
    if (far && c->attrs->flag) {                         /* the negative that is nearer, of the anchor's and the positive's */
        aj_tensor *swapped = aj_live(aj_pairwise_distance(p, n, power, eps, false));
        far = swapped ? aj_live(aj_minimum(far, swapped)) : NULL;
    }
    return reduced(c, short_of(do_sub(far, near), margin));
}
/* sum over classes i other than y of max(0, margin - x_y + x_i)^p, divided by their number; that of y itself is margin^p. */
aj_tensor *multi_margin_loss_compose(aj_call *c) {
    if (!aj_given(c, 0, 2) || !aj_index_dtype(c, 1) || !aj_floats(c, 0) || !aj_reduction(c, false)) return NULL;
    aj_tensor *x = c->in[0], *t = c->in[1], *w = c->in[2];
    double margin = c->attrs->s;
    if (c->attrs->i != 1 && c->attrs->i != 2) { aj_refuse(c, "p is %lld, and must be 1 or 2", (long long)c->attrs->i); return NULL; }
    bool one = x->ndim <= 1;
    if (x->ndim > 2 || t->ndim > 1 || t->numel != (one ? 1 : x->shape[0])) { aj_refuse(c, "scores, (N, C) or (C), and a class for each row"); return NULL; }
    if (one) x = do_reshape(x, &(aj_ints){2, {1, x->numel}});
    t = do_row(t);
    if (!x || !t) return NULL;
    int64_t C = x->shape[1], base = c->attrs->base;
    if (w && (w->ndim != 1 || w->numel != C)) { aj_refuse(c, "the weight has one number for each of the %lld classes", (long long)C); return NULL; }
    aj_tensor *at = do_sub_n(do_unsqueeze(t, 1), (double)base);
    aj_tensor *y = do_relu(do_add_n(do_sub(x, do_gather(x, 1, at)), margin));
    if (y && c->attrs->i == 2) y = do_square(y);
    if (w) y = do_mul(y, do_reshape(aj_live(aj_index_select(w, 0, t, (aj_base)base)), &(aj_ints){2, {t->numel, 1}}));
    y = do_fill_where(y, do_eq(do_count(x, 0, C), at), 0);
    y = do_div_n(do_sum(y, 1, false), (double)C);
    return reduced(c, one && c->attrs->reduction == AJ_NONE ? do_squeeze(y, 0) : y);
}
/* sum over the classes j that a row names and i that it does not of max(0, 1 - x_j + x_i), divided by their number; how steep
 * that is at x comes with it, and is constant nearby. */
bool multilabel_margin_rows_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_given(c, 1, 1) || !aj_index_dtype(c, 1) || !aj_cast_inputs(c, 1, 1, AJ_I64)) return false;
    if (c->in[0]->ndim != 2 || !aj_same_shape(c->in[0], c->in[1])) return aj_refuse(c, "scores (N, C), and for each row a list of classes in the same shape");
    for (int k = 0; k < 2; k++) if (!(c->in[k] = aj_live(aj_contiguous(c->in[k])))) return false;
    c->spec[0] = (aj_spec){c->in[0]->dtype, 1, {c->in[0]->shape[0]}};
    if (aj_recording()) { c->n_out = 2; aj_spec_like(&c->spec[1], c->in[0]); }
    return true;
}
bool multilabel_margin_rows_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { return (gx[0] = do_mul(do_unsqueeze(gy[0], 1), n->out[1].t)) != NULL; }
aj_tensor *multilabel_margin_loss_compose(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_given(c, 1, 1) || !aj_reduction(c, false)) return NULL;
    aj_tensor *x = c->in[0], *t = c->in[1];
    if (x->ndim > 2 || !aj_same_shape(x, t)) { aj_refuse(c, "scores, (N, C) or (C), and for each row a list of classes in the same shape"); return NULL; }
    bool one = x->ndim < 2;
    aj_ints row = {2, {1, x->numel}};
    if (one) { x = do_reshape(x, &row); t = do_reshape(t, &row); }
    aj_tensor *y = x && t ? aj_live(aj_multilabel_margin_rows(x, t, c->attrs->base)) : NULL;
    return reduced(c, one && c->attrs->reduction == AJ_NONE ? do_squeeze(y, 0) : y);
}
aj_tensor *multilabel_soft_margin_loss_compose(aj_call *c) {
    if (!pair(c, false)) return NULL;
    aj_tensor *y = aj_live(aj_bce_logits_error(c->in[0], c->in[1]));
    if (c->in[2]) y = do_mul(y, c->in[2]);
    return y ? reduced(c, do_mean(y, -1, false)) : NULL;
}

/* -- Minus the logarithms of distributions, less what does not depend on x ------------------------------------------------ */

aj_tensor *poisson_nll_loss_compose(aj_call *c) {
    if (!pair(c, false)) return NULL;
    aj_tensor *x = c->in[0], *t = c->in[1], *y;
    if (c->attrs->flag) y = do_sub(do_exp(x), do_mul(t, x));
    else y = do_sub(x, do_mul(t, do_log(do_add_n(x, c->attrs->s))));
    if (c->attrs->flag2) {                               /* Stirling's approximation of log(t!), for t above 1 */
        aj_tensor *small = do_le_n(t, 1), *u = do_fill_where(t, small, 1);
        aj_tensor *s = do_add(do_sub(do_mul(u, do_log(u)), u), do_mul_n(do_log(do_mul_n(u, 6.283185307179586)), 0.5));
        y = do_add(y, do_fill_where(s, small, 0));
    }
    return reduced(c, y);
}
/* The gradient of var is that of the formula also where eps stands for it, as in PyTorch. */
aj_tensor *gaussian_nll_loss_compose(aj_call *c) {
    if (!aj_given(c, 0, 3) || !aj_reduction(c, false)) return NULL;
    aj_tensor *x = c->in[0], *t = c->in[1], *v = c->in[2];
    double least = 0;
    if (v->ndim + 1 == x->ndim) { if (!(v = do_unsqueeze(v, -1))) return NULL; }
    if (v->numel) {
        bool mode = aj_grad_mode(false);
        aj_tensor *low = aj_amin(v, &(aj_ints){-1, {0}}, false);
        aj_tensor *more = aj_clamp_min(v, c->attrs->s), *lift = more ? do_sub(aj_live(more), v) : NULL;
        aj_grad_mode(mode);
        if (!low || !lift || (low->device != AJ_META && !aj_get(low, NULL, &least))) return NULL;
        if (least < 0) { aj_refuse(c, "a variance is %g, and must not be negative", least); return NULL; }
        v = do_add(v, lift);
    }
    aj_tensor *y = do_mul_n(do_add(do_log(v), do_div(do_square(do_sub(x, t)), v)), 0.5);
    if (c->attrs->flag) y = do_add_n(y, 0.9189385332046727);
    return reduced(c, y);
}
