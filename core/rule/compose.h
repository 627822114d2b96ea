/* compose.h - ops that pass NULL on, so that a composition is one expression: NULL comes out when a step has failed,
 * and the error is that of the step. What they return is plain.
 */
#ifndef AJ_COMPOSE_H
#define AJ_COMPOSE_H
#include "rule.h"

#define OF_ONE(name) static inline aj_tensor *do_##name(aj_tensor *x) { return x ? aj_live(aj_##name(x)) : NULL; }
#define OF_TWO(name) static inline aj_tensor *do_##name(aj_tensor *a, aj_tensor *b) { return a && b ? aj_live(aj_##name(a, b)) : NULL; }
#define OF_NUMBER(name) static inline aj_tensor *do_##name##_n(aj_tensor *x, double v) { return x ? aj_live(aj_##name##_number(x, v, false)) : NULL; }
OF_TWO(add) OF_TWO(sub) OF_TWO(mul) OF_TWO(div) OF_TWO(matmul) OF_TWO(eq) OF_TWO(ne) OF_TWO(lt) OF_TWO(le) OF_TWO(gt) OF_TWO(ge)
OF_TWO(logical_and) OF_TWO(logical_or) OF_TWO(maximum) OF_TWO(minimum) OF_TWO(pow) OF_TWO(masked_select)
OF_NUMBER(add) OF_NUMBER(sub) OF_NUMBER(mul) OF_NUMBER(div) OF_NUMBER(pow) OF_NUMBER(eq) OF_NUMBER(ne) OF_NUMBER(lt) OF_NUMBER(le) OF_NUMBER(gt) OF_NUMBER(ge)
OF_ONE(neg) OF_ONE(abs) OF_ONE(exp) OF_ONE(log) OF_ONE(sqrt) OF_ONE(square) OF_ONE(sign) OF_ONE(relu) OF_ONE(log_sigmoid) OF_ONE(isnan)
OF_ONE(isfinite) OF_ONE(logical_not) OF_ONE(floor) OF_ONE(ceil) OF_ONE(contiguous) OF_ONE(clone) OF_ONE(reciprocal)

/* number - x */
static inline aj_tensor *do_n_sub(double v, aj_tensor *x) { return x ? aj_live(aj_sub_number(x, v, true)) : NULL; }
static inline aj_tensor *do_where(aj_tensor *c, aj_tensor *a, aj_tensor *b) { return c && a && b ? aj_live(aj_where(c, a, b)) : NULL; }
static inline aj_tensor *do_cast(aj_tensor *x, int dtype) { return !x || x->dtype == dtype ? x : aj_live(aj_cast(x, (aj_dtype)dtype)); }
static inline aj_tensor *do_fill_where(aj_tensor *x, aj_tensor *mask, double v) { return x && mask ? aj_live(aj_masked_fill(x, mask, v)) : NULL; }

static inline aj_tensor *do_reshape(aj_tensor *x, const aj_ints *shape) { return x ? aj_live(aj_reshape(x, shape)) : NULL; }
static inline aj_tensor *do_expand(aj_tensor *x, const aj_ints *shape) { return x ? aj_live(aj_expand(x, shape)) : NULL; }
static inline aj_tensor *do_permute(aj_tensor *x, const aj_ints *order) { return x ? aj_live(aj_permute(x, order)) : NULL; }
static inline aj_tensor *do_unsqueeze(aj_tensor *x, int dim) { return x ? aj_live(aj_unsqueeze(x, dim)) : NULL; }
static inline aj_tensor *do_squeeze(aj_tensor *x, int dim) { return x ? aj_live(aj_squeeze(x, &(aj_ints){1, {dim}})) : NULL; }
static inline aj_tensor *do_transpose(aj_tensor *x, int a, int b) { return x ? aj_live(aj_transpose(x, a, b)) : NULL; }
static inline aj_tensor *do_select(aj_tensor *x, int dim, int64_t i) { return x ? aj_live(aj_select(x, dim, i)) : NULL; }
static inline aj_tensor *do_narrow(aj_tensor *x, int dim, int64_t at, int64_t n) { return x ? aj_live(aj_narrow(x, dim, at, n)) : NULL; }
static inline aj_tensor *do_row(aj_tensor *x) { return x ? do_reshape(x, &(aj_ints){1, {x->numel}}) : NULL; }
static inline aj_tensor *do_cat(aj_tensor *a, aj_tensor *b, int dim) {
    aj_tensor *two[] = {a, b};
    return a && b ? aj_live(aj_cat(&(aj_list){2, two}, dim)) : NULL;
}

static inline aj_tensor *do_sum(aj_tensor *x, int dim, bool keepdim) { return x ? aj_live(aj_sum(x, &(aj_ints){1, {dim}}, keepdim)) : NULL; }
static inline aj_tensor *do_mean(aj_tensor *x, int dim, bool keepdim) { return x ? aj_live(aj_mean(x, &(aj_ints){1, {dim}}, keepdim)) : NULL; }
static inline aj_tensor *do_gather(aj_tensor *x, int dim, aj_tensor *index) { return x && index ? aj_live(aj_gather(x, dim, index, 0)) : NULL; }

static inline aj_tensor *do_number(const aj_tensor *like, double v) { return aj_live(aj_full((aj_dtype)like->dtype, &(aj_ints){0}, like->device, v)); }
static inline aj_tensor *do_full(const aj_tensor *like, const aj_ints *shape, double v) { return aj_live(aj_full((aj_dtype)like->dtype, shape, like->device, v)); }
/* first, first + 1, ... as many as n, of i64 */
static inline aj_tensor *do_count(const aj_tensor *like, int64_t first, int64_t n) { return aj_live(aj_arange(AJ_I64, like->device, (double)first, 1, n)); }
#endif
