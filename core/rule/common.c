/* common.c - what many rules need: dimensions, broadcasting, dtypes, lists. */
#include "rule.h"

aj_ints aj_ints_of(const aj_ints *list) {
    aj_ints none = {0};
    return list ? *list : none;
}

aj_triple aj_triple_of(const aj_ints *window, int32_t fallback) {
    aj_triple t;
    for (int i = 0; i < 3; i++)
        t.v[i] = !window || window->n <= 0 ? fallback : (int32_t)window->v[window->n == 1 ? 0 : i < window->n ? i : 0];
    return t;
}

int aj_dim_of(const aj_call *c, int dim, int ndim) {
    int d = dim < 0 ? dim + ndim : dim;
    if (d >= 0 && d < ndim) return d;
    if (ndim == 0 && (dim == 0 || dim == -1)) return 0;
    aj_refuse(c, "there is no dimension %d", dim < 0 ? dim : dim + 1);
    return -1;
}

bool aj_dims_of(const aj_call *c, const aj_ints *dims, int ndim, bool *is_in) {
    for (int d = 0; d < AJ_MAX_DIM; d++) is_in[d] = dims->n < 0 && d < ndim;
    for (int i = 0; i < dims->n; i++) {
        int d = aj_dim_of(c, (int)dims->v[i], ndim);
        if (d < 0) return false;
        if (ndim == 0) continue;
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
