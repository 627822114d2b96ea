/* common.c - what many rules need: dimensions, broadcasting, dtypes, lists. */
#include "rule.h"
#include <float.h>
#include <math.h>
#include <string.h>

aj_ints aj_ints_of(const aj_ints *list) {
    aj_ints none = {0};
    return list ? *list : none;
}

aj_triple aj_triple_of(const aj_ints *window, int32_t fallback) {
    aj_triple t;
    for (int i = 0; i < 3; i++)
        t.v[i] = !window || window->n <= 0 ? fallback : aj_int32(window->v[window->n == 1 ? 0 : i < window->n ? i : 0]);
    return t;
}

int aj_dim_of(const aj_call *c, int64_t dim, int ndim) {
    int64_t d = dim < 0 ? dim + ndim : dim;
    if (d >= 0 && d < ndim) return (int)d;
    if (ndim == 0 && (dim == 0 || dim == -1)) return 0;
    aj_refuse(c, "there is no dimension %lld", (long long)dim + (dim >= 0 && dim < INT64_MAX));
    return -1;
}

aj_tensor *aj_unshared(aj_tensor *h, const aj_tensor *x) {
    aj_tensor *y = aj_live(h);
    return y && y->storage == x->storage ? aj_clone(y) : y;
}

bool aj_values_and_places(aj_call *c) {
    if (!aj_given(c, 0, 1)) return false;
    int dim = aj_dim_of(c, c->attrs->dim, c->in[0]->ndim);
    if (dim < 0) return false;
    c->attrs->dim = dim;
    aj_spec_like(&c->spec[0], c->in[0]);
    c->spec[1] = c->spec[0];
    c->spec[1].dtype = AJ_I64;
    c->n_out = 2;
    return true;
}

bool aj_dims_of(const aj_call *c, const aj_ints *dims, int ndim, bool *is_in) {
    for (int d = 0; d < AJ_MAX_DIM; d++) is_in[d] = dims->n < 0 && d < ndim;
    for (int i = 0; i < dims->n; i++) {
        int d = aj_dim_of(c, dims->v[i], ndim);
        if (d < 0) return false;
        if (ndim == 0 && i == 0) continue;
        if (ndim == 0) return aj_refuse(c, "a tensor of no dimensions has not %d", dims->n);
        if (is_in[d]) return aj_refuse(c, "dimension %d is named twice", d + 1);
        is_in[d] = true;
    }
    return true;
}

bool aj_broadcast(const aj_call *c, aj_spec *out) {
    int ndim = 0;
    for (int k = 0; k < c->n_in; k++) if (c->in[k] && c->in[k]->ndim > ndim) ndim = c->in[k]->ndim;
    for (int d = 0; d < ndim; d++) {
        int64_t size = 1;
        for (int k = 0; k < c->n_in; k++) {
            const aj_tensor *t = c->in[k];
            int e = t ? d - (ndim - t->ndim) : -1;
            if (e < 0 || t->shape[e] == 1 || t->shape[e] == size) continue;
            if (size != 1) return aj_refuse(c, "sizes %lld and %lld do not match along dimension %d from the end", (long long)size, (long long)t->shape[e], ndim - d);
            size = t->shape[e];
        }
        out->shape[d] = size;
    }
    out->ndim = (uint8_t)ndim;
    return true;
}

bool aj_same_dtype(const aj_call *c) {
    const aj_tensor *first = NULL;
    for (int k = 0; k < c->n_in; k++) {
        if (!c->in[k]) continue;
        if (!first) first = c->in[k];
        else if (c->in[k]->dtype != first->dtype)
            return aj_refuse(c, "dtypes %s and %s differ; convert one with :to \"%s\"", aj_dtype_name(first->dtype), aj_dtype_name(c->in[k]->dtype), aj_dtype_name(first->dtype));
    }
    return true;
}

bool aj_index_dtype(const aj_call *c, int k) {
    int d = c->in[k]->dtype;
    if (d >= AJ_U8 && d <= AJ_I64) return true;
    return aj_refuse(c, "input %d holds indices and must be of integers, not %s; convert it with :long()", k + 1, aj_dtype_name((aj_dtype)d));
}

bool aj_cast_inputs(aj_call *c, int first, int n, int dtype) {
    for (int k = first; k < first + n; k++) {
        if (!c->in[k] || c->in[k]->dtype == dtype) continue;
        aj_tensor *t = aj_live(aj_cast(c->in[k], (aj_dtype)dtype));
        if (!t) return false;
        c->in[k] = t;
    }
    return true;
}

bool aj_given(const aj_call *c, int first, int n) {
    for (int k = first; k < first + n; k++)
        if (!c->in[k]) return aj_error("%s: input %d is nil, where a tensor is wanted", aj_op_name(c->op), k + 1);
    return true;
}

bool aj_holds(const aj_call *c, double value) {
    static const double most[AJ_DTYPES] = {[AJ_U8] = 255, [AJ_I8] = 127, [AJ_I16] = 32767, [AJ_I32] = 2147483647, [AJ_I64] = 9223372036854775808.0,
                                           [AJ_F16] = 65504, [AJ_BF16] = 3.3895313892515355e38, [AJ_F32] = (double)FLT_MAX, [AJ_F64] = DBL_MAX};
    int d = c->in[0]->dtype;
    if (d == AJ_BOOL || (aj_is_float(d) && value - value != 0)) return true;
    double whole = aj_is_float(d) ? value : trunc(value), least = aj_is_float(d) || d == AJ_U8 ? -most[d] : -most[d] - (d != AJ_I64);
    if (whole >= least && whole <= most[d]) return true;
    return aj_error("%s: %.17g is no number that %s holds: they go from %.17g to %.17g", aj_op_name(c->op), value, aj_dtype_name((aj_dtype)d), d == AJ_U8 ? 0 : least, most[d]);
}

bool aj_floats(const aj_call *c, int k) {
    if (!aj_given(c, k, 1)) return false;
    if (aj_is_float(c->in[k]->dtype)) return true;
    return aj_refuse(c, "input %d is of %s, and must be of floats; convert it with :float()", k + 1, aj_dtype_name((aj_dtype)c->in[k]->dtype));
}

aj_ints aj_sizes(const aj_tensor *t) {
    aj_ints v = {t->ndim, {0}};
    for (int d = 0; d < t->ndim; d++) v.v[d] = t->shape[d];
    return v;
}
aj_ints aj_sizes_in(const aj_node *n, int k) {
    const aj_spec *s = &n->edge[k].node->spec[n->edge[k].out];
    aj_ints v = {s->ndim, {0}};
    for (int d = 0; d < s->ndim; d++) v.v[d] = s->shape[d];
    return v;
}

void aj_reduced(const aj_tensor *x, const bool *over, bool keepdim, aj_spec *y) {
    y->ndim = 0;
    y->dtype = x->dtype;
    for (int d = 0; d < x->ndim; d++) {
        if (!over[d]) y->shape[y->ndim++] = x->shape[d];
        else if (keepdim) y->shape[y->ndim++] = 1;
    }
}

aj_tensor *aj_as_rows(aj_tensor *x, const bool *over) {
    aj_ints order = {0}, shape = {2, {1, 1}};
    bool moved = false;
    for (int last = 0; last < 2; last++)
        for (int d = 0; d < x->ndim; d++) {
            if (over[d] != last) continue;
            moved |= order.n != d;
            order.v[order.n++] = d;
            shape.v[last] *= x->shape[d];
        }
    if (moved && !(x = aj_live(aj_permute(x, &order)))) return NULL;
    if (x->ndim == 2 && x->contiguous && x->shape[0] == shape.v[0] && x->shape[1] == shape.v[1]) return x;
    x = x->contiguous ? x : aj_live(aj_clone(x));
    return x ? aj_live(aj_view(x, &shape)) : NULL;
}

int8_t aj_reduction_of(const char *name) {
    static const char *const names[] = {"none", "mean", "sum", "batchmean"};
    for (int i = 0; i < 4; i++) if (name && !strcmp(name, names[i])) return (int8_t)i;
    return -1;
}
bool aj_reduction(const aj_call *c, bool batchmean) {
    int r = c->attrs->reduction;
    if (r >= 0 && (r < AJ_BATCHMEAN || batchmean)) return true;
    return aj_refuse(c, "the reduction is \"none\", \"mean\" or \"sum\"%s", batchmean ? ", or \"batchmean\"" : "");
}
