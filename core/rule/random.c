/* random.c - random numbers in place, and choices by probabilities.
 *
 * Element i, counted in order of the shape, is made of number position + i of the seed's stream: the same for every
 * layout, device and number of threads.
 */
#include "rule.h"
#include <math.h>

static bool reserve(aj_call *c, int64_t n) {
    uint64_t offset;
    aj_random_state(&c->attrs->seed, &offset);
    c->attrs->position = aj_random_take(n);
    return true;
}

bool uniform__check(aj_call *c) {
    double from = c->attrs->s, to = c->attrs->t;
    if (!(from <= to) || isinf(to - from)) return aj_refuse(c, "from is %g and to is %g; from must not be above to", from, to);
    return aj_floats(c, 0) && reserve(c, c->in[0]->numel);
}
bool normal__check(aj_call *c) {
    if (!(c->attrs->t >= 0)) return aj_refuse(c, "std is %g, and must not be negative", c->attrs->t);
    return aj_floats(c, 0) && reserve(c, c->in[0]->numel);
}
bool exponential__check(aj_call *c) {
    if (!(c->attrs->s > 0)) return aj_refuse(c, "lambda is %g, and must be above 0", c->attrs->s);
    return aj_floats(c, 0) && reserve(c, c->in[0]->numel);
}
bool bernoulli__check(aj_call *c) {
    if (!(c->attrs->s >= 0 && c->attrs->s <= 1)) return aj_refuse(c, "p is %g, and must be from 0 to 1", c->attrs->s);
    return reserve(c, c->in[0]->numel);
}
bool random__check(aj_call *c) {
    if (c->attrs->i >= c->attrs->j) return aj_refuse(c, "from is %lld and to is %lld; whole numbers from the first up to below the second are drawn", (long long)c->attrs->i, (long long)c->attrs->j);
    return reserve(c, c->in[0]->numel);
}

/* Gradients do not flow through a choice. */
aj_tensor *bernoulli_compose(aj_call *c) {
    aj_tensor *p = c->in[0];
    if (!aj_floats(c, 0)) return NULL;
    aj_ints shape = aj_sizes(p);
    bool mode = aj_grad_mode(false);
    aj_tensor *u = aj_empty(p->dtype == AJ_F64 ? AJ_F64 : AJ_F32, &shape, p->device);
    u = u ? aj_uniform_(u, 0, 1) : NULL;
    u = u ? aj_lt(u, p) : NULL;
    u = u ? aj_cast(u, (aj_dtype)p->dtype) : NULL;
    aj_grad_mode(mode);
    return u;
}

/* Weights in double; one row of numbers for each row of x. */
bool multinomial_shape(aj_call *c) {
    aj_tensor *x = c->in[0];
    int64_t n = c->attrs->i;
    if (!aj_floats(c, 0)) return false;
    if (x->ndim != 1 && x->ndim != 2) return aj_refuse(c, "takes a row of weights, or a matrix of rows");
    int64_t classes = x->shape[x->ndim - 1], rows = x->ndim == 2 ? x->shape[0] : 1;
    if (n < 1) return aj_refuse(c, "num_samples is %lld, and must be at least 1", (long long)n);
    if (classes < 1) return aj_refuse(c, "there are no weights to choose by");
    if (!c->attrs->flag && n > classes) return aj_refuse(c, "%lld samples without replacement from %lld", (long long)n, (long long)classes);
    if (!aj_cast_inputs(c, 0, 1, AJ_F64) || !(c->in[0] = aj_live(aj_contiguous(c->in[0])))) return false;
    aj_spec *y = &c->spec[0];
    aj_spec_like(y, x);
    y->dtype = AJ_I64;
    y->shape[y->ndim - 1] = n;
    return reserve(c, rows * (c->attrs->flag ? n : classes));
}
bool multinomial_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }
