/* apply.c - the one path of every op: check, shape, allocate, run, record, hand out. */
#include "jit.h"
#include "watch.h"
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 32 };

const char *aj_op_name(int op) { return aj_ops[aj_ctx.face ? aj_ctx.face - 1 : op].info->name; }

static bool tracked(aj_tensor *t) {
    return t->requires_grad || (aj_base_of(t) && t->view_epoch != t->base->epoch && t->base->requires_grad);
}

static const char *device_name(int32_t device, char to[24]) {
    if (device < 0) return "cpu";
    snprintf(to, 24, "cuda:%d", device);
    return to;
}

/* Handles to tensors; false after an error. *record: some input is part of a graph. */
static bool read_inputs(int op, aj_tensor *const *handle, int n, aj_tensor **in, bool *record, int32_t *where) {
    int32_t device = AJ_CPU;
    bool any = false, seen = false, meta = false;
    for (int k = 0; k < n; k++) {
        aj_tensor *t = in[k] = aj_live(handle[k]);
        if (AJ_UNLIKELY(!t)) {
            if (!aj_untag(handle[k])) continue;          /* left out; the op's rule knows whether it may be */
            return aj_error("%s: input %d was freed when its scope ended; return it from the scope, or ai.keep() it there", aj_op_name(op), k + 1);
        }
        if (AJ_UNLIKELY(t->planned) && !aj_ctx.replaying) return aj_jit_escaped(aj_op_name(op));
        any |= tracked(t);
        if (AJ_UNLIKELY(t->device == AJ_META)) { meta = true; continue; }
        if (!seen) { device = t->device; seen = true; }
        else if (AJ_UNLIKELY(t->device != device) && op != OP_copy_) {
            char a[24], b[24];
            return aj_error("%s: the inputs are on different devices (%s and %s); move one with :to", aj_op_name(op), device_name(device, a), device_name(t->device, b));
        }
    }
    *record = any && aj_ctx.grad_mode;
    *where = meta ? AJ_META : device;
    return true;
}

static int dtype_of(const aj_op *o, aj_call *c) {
    int all = -1, ranked = -1;                           /* a rank-0 tensor only decides between kinds */
    for (int k = 0; k < c->n_in; k++) {
        const aj_tensor *t = c->in[k];
        all = all < 0 ? t->dtype : (int)aj_promote((aj_dtype)all, t->dtype);
        if (t->ndim) ranked = ranked < 0 ? t->dtype : (int)aj_promote((aj_dtype)ranked, t->dtype);
    }
    int d = ranked < 0 || aj_is_float(all) > aj_is_float(ranked) || (all != AJ_BOOL) > (ranked != AJ_BOOL) ? all : ranked;
    if (c->attrs && c->attrs->number) {
        double v = c->attrs->s;
        bool whole = v >= -9.3e18 && v <= 9.2e18 && v == (double)(int64_t)v;
        if (!aj_is_float(d) && !whole) d = AJ_F32;
        else if (d == AJ_BOOL && v != 0 && v != 1) d = AJ_I64;
        else if (d == AJ_BOOL && o->domain == AJ_NUM) d = AJ_I64;
    } else if (o->kind == AJ_UNARY && c->attrs && o->attrs && !aj_is_float(d) && (c->attrs->s != (double)(int64_t)c->attrs->s) && o->domain != AJ_FLOAT) {
        d = AJ_F32;                                      /* a fraction among the scalars */
    } else if (o->kind == AJ_BINARY_S && !aj_is_float(d) && c->attrs->s != (double)(int64_t)c->attrs->s) {
        d = AJ_F32;
    }
    if (o->domain == AJ_FLOAT && !aj_is_float(d)) d = AJ_F32;
    return d;
}

/* What a row's text cannot say: bits of a bool, the largest number of a dtype, and what there is no result for. */
static bool at_edge(aj_call *c, int d) {
    static const double largest[AJ_DTYPES] = {[AJ_F16] = 65504, [AJ_BF16] = 3.3895313892515355e38, [AJ_F32] = (double)FLT_MAX, [AJ_F64] = DBL_MAX};
    aj_attrs *a = c->attrs;
    switch (c->op) {
    case OP_bitwise_not: a->s = d == AJ_BOOL ? 1 : -1; break;
    case OP_nan_to_num:
        if (a->t == (double)FLT_MAX && aj_is_float(d)) a->t = largest[d];
        if (a->u == -(double)FLT_MAX && aj_is_float(d)) a->u = -largest[d];
        break;
    case OP_clamp_min: case OP_clamp_max:
        if (!aj_is_float(d) && (c->op == OP_clamp_min ? a->s > 0 : a->s < 0) && d == c->in[0]->dtype && !aj_holds(c, a->s)) return false;
        break;
    case OP_softshrink:
        if (!(a->s >= 0)) return aj_refuse(c, "lambda is %g, and must not be negative", a->s);
        break;
    case OP_pow:
        if (a->number == 2 && a->s < 0) return aj_refuse(c, "integers have no negative powers among the integers; convert with :float()");
        break;
    }
    return true;
}

static bool elementwise_shape(const aj_op *o, aj_call *c) {
    for (int k = 0; k < c->n_in; k++)
        if (AJ_UNLIKELY(!c->in[k])) return aj_error("%s: input %d is nil, where a tensor is wanted", aj_op_name(c->op), k + 1);
    int d;
    if (c->n_in == 1 && o->domain <= AJ_FLOAT && aj_is_float(c->in[0]->dtype)) d = c->in[0]->dtype;
    else if (c->n_in == 2 && c->in[0]->dtype == c->in[1]->dtype && aj_is_float(c->in[0]->dtype) && o->domain != AJ_INT) d = c->in[0]->dtype;
    else {
        d = dtype_of(o, c);
        if (d == AJ_BOOL && c->op == OP_square) d = AJ_I64;
        if (o->domain == AJ_INT && aj_is_float(d)) return aj_refuse(c, "is for integers and bools, not %s", aj_dtype_name((aj_dtype)d));
        if (o->domain == AJ_NUM && d == AJ_BOOL) return aj_refuse(c, "is not for bools; convert them with :long()");
    }
    c->attrs->dtype = (int8_t)d;
    if (AJ_UNLIKELY(o->domain == AJ_INT || c->op == OP_nan_to_num || c->op == OP_softshrink || !aj_is_float(d)) && !at_edge(c, d)) return false;
    c->spec[0].dtype = (uint8_t)(o->kind == AJ_COMPARE || o->kind == AJ_TEST ? AJ_BOOL : d);
    if (c->n_in == 1 || aj_same_shape(c->in[0], c->in[1])) {
        const aj_tensor *t = c->in[0];
        c->spec[0].ndim = t->ndim;
        for (int i = 0; i < t->ndim; i++) c->spec[0].shape[i] = t->shape[i];
        return true;
    }
    return aj_broadcast(c, &c->spec[0]);
}

static bool reduce_shape(aj_call *c) {
    aj_tensor *x = c->in[0];
    if (!x) return aj_error("%s: the input is nil, where a tensor is wanted", aj_op_name(c->op));
    bool over[AJ_MAX_DIM];
    if (!aj_dims_of(c, &c->attrs->list, x->ndim, over)) return false;
    aj_spec *y = &c->spec[0];
    y->ndim = 0;
    for (int d = 0; d < x->ndim; d++) {
        if (over[d] && x->shape[d] == 0 && (c->op == OP_amax || c->op == OP_amin))
            return aj_refuse(c, "dimension %d has no elements, and an empty set has no largest or smallest", d + 1);
        if (!over[d]) y->shape[y->ndim++] = x->shape[d];
        else if (c->attrs->keepdim) y->shape[y->ndim++] = 1;
    }
    y->dtype = x->dtype;
    if (c->op == OP_all || c->op == OP_any) y->dtype = x->dtype == AJ_U8 ? AJ_U8 : AJ_BOOL;
    else if ((c->op == OP_sum || c->op == OP_prod) && !aj_is_float(x->dtype)) y->dtype = AJ_I64;
    return true;
}

static void hand_out(aj_call *c) {
    aj_context *x = &aj_ctx;
    x->n_result = c->n_out;
    for (int i = 0; i < c->n_out; i++) x->result[i] = c->out[i] = aj_give(c->out[i]);
}
aj_tensor *aj_result(int32_t i) { return i >= 1 && i <= aj_ctx.n_result ? aj_ctx.result[i - 1] : NULL; }

/* The results that only the gradient needs are not handed out. */
static void drop_hidden(const aj_op *o, aj_call *c) {
    while (c->n_out > o->n_returns) aj_drop(c->out[--c->n_out]);
}

static bool allocate(aj_call *c, int32_t device) {
    for (int i = 0; i < c->n_out; i++) {
        c->out[i] = aj_new((aj_dtype)c->spec[i].dtype, c->spec[i].ndim, c->spec[i].shape, device);
        if (AJ_UNLIKELY(!c->out[i])) {
            while (i > 0) aj_drop(c->out[--i]);
            return false;
        }
    }
    return true;
}

static void drop_all(aj_call *c) {
    for (int i = 0; i < c->n_out; i++) aj_drop(c->out[i]);
}

static aj_tensor *compose(const aj_op *o, aj_call *c) {
    int32_t mark = aj_inner_open(), before = aj_ctx.face;
    if (mark < 0) return NULL;
    c->n_out = 1;
    if (!before) aj_ctx.face = c->op + 1;
    aj_tensor *y = o->compose(c);
    aj_ctx.face = before;
    if (y) {
        c->out[0] = y;
        for (int i = 0; i < c->n_out; i++) aj_hold(c->out[i]);
    }
    aj_inner_close(mark);
    if (!y) return NULL;
    hand_out(c);
    return c->out[0];
}

/* What a device's kernel calls of other ops is its own affair, and no part of a recording. */
static bool run_kernel(int32_t device, const aj_call *c) {
    const aj_backend *b = aj_backend_of(device);
    if (AJ_LIKELY(device < 0 || !aj_ctx.jit)) return b->forward[c->op](c);
    aj_jit *r = aj_ctx.jit;
    aj_ctx.jit = NULL;
    bool ok = b->forward[c->op](c);
    aj_ctx.jit = r;
    return ok;
}

/* The op with its inputs cast, which belong to a scope of its own. */
static aj_tensor *apply_cast(aj_call *c, const aj_attrs *attrs) {
    int32_t mark = aj_inner_open();
    if (mark < 0) return NULL;
    aj_tensor *y = aj_autocast_inputs(c->op, c->in, c->n_in) ? aj_apply_now(c->op, c->in, c->n_in, attrs) : NULL;
    c->n_out = y ? aj_ctx.n_result : 0;
    for (int i = 0; i < c->n_out; i++) c->out[i] = aj_hold(aj_live(aj_ctx.result[i]));
    aj_inner_close(mark);
    if (!y) return NULL;
    hand_out(c);
    return c->out[0];
}

aj_tensor *aj_apply_now(int op, aj_tensor *const *handle, int n, const aj_attrs *attrs) {
    const aj_op *o = &aj_ops[op];
    aj_tensor *few[MANY], **in = few;
    bool record;
    int32_t device;
    if (AJ_UNLIKELY(n > MANY) && !(in = malloc((size_t)n * sizeof *in))) { aj_error("%s: out of memory", aj_op_name(op)); return NULL; }
    aj_attrs own;
    aj_call c;
    c.op = op; c.n_in = n; c.n_out = 1; c.in = in;
    if (attrs) own = *attrs;
    else own.number = 0;
    c.attrs = &own;
    aj_tensor *result = NULL;
    if (!read_inputs(op, handle, n, in, &record, &device)) goto done;
    if (AJ_UNLIKELY(aj_ctx.state.autocast) && aj_autocasts(op, in, n)) { result = apply_cast(&c, attrs); goto done; }

    if (o->kind <= AJ_TEST) {
        if (!elementwise_shape(o, &c)) goto done;
        if (!allocate(&c, device)) goto done;
        if (AJ_UNLIKELY(!run_kernel(device, &c))) { drop_all(&c); goto done; }
        if (AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_op(&c, false);
        if (record && o->kind < AJ_COMPARE && aj_is_float(c.spec[0].dtype) && AJ_UNLIKELY(!aj_record(&c))) { drop_all(&c); goto done; }
        hand_out(&c);
        result = c.out[0];
    } else if (o->kind == AJ_VIEW) {
        if (AJ_UNLIKELY(!in[0])) { aj_error("%s: input 1 is nil, where a tensor is wanted", aj_op_name(op)); goto done; }
        aj_tensor *y = o->view(&c);
        if (!y) goto done;
        c.out[0] = y;
        if (!y->base && y->storage == in[0]->storage) {
            aj_tensor *base = aj_base_of(in[0]);
            y->base = aj_hold(base ? base : in[0]);
            y->view_epoch = y->base->epoch;
        }
        if (record && aj_is_float(y->dtype)) {
            aj_spec_like(&c.spec[0], y);
            if (AJ_UNLIKELY(!aj_record(&c))) { drop_all(&c); goto done; }
        }
        hand_out(&c);
        result = c.out[0];
    } else if (o->kind == AJ_COMPOSE) {
        result = compose(o, &c);
    } else {
        /* What the rule casts belongs to a scope of its own. */
        int32_t mark = aj_inner_open();
        bool ok = mark >= 0 && (o->kind == AJ_REDUCE ? reduce_shape(&c) : o->shape(&c));
        int32_t runs = device;                           /* a copy between the CPU and another device is the other's work */
        if (ok && AJ_UNLIKELY(op == OP_to_device) && device != AJ_META) {
            ok = aj_device_need("to", own.dim) && (!aj_ctx.jit || aj_jit_moves(in[0], own.dim));
            device = own.dim;
            if (device != AJ_CPU) runs = device;
        }
        if (ok && (ok = allocate(&c, device))) {
            ok = run_kernel(runs, &c);
            if (ok && AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_op(&c, false);
            if (ok && record) ok = aj_record(&c);
            if (ok) drop_hidden(o, &c);
            else drop_all(&c);
        }
        if (mark >= 0) aj_inner_close(mark);
        if (!ok) goto done;
        hand_out(&c);
        result = c.out[0];
    }
done:
    if (in != few) free(in);
    return result;
}

aj_tensor *aj_apply(int op, aj_tensor *const *handle, int n, const aj_attrs *attrs) {
    if (AJ_UNLIKELY(aj_ctx.state.watch)) return aj_watch_op(op, handle, n, attrs, false);
    return aj_apply_now(op, handle, n, attrs);
}

static bool write_in_place(const aj_op *o, aj_call *c, bool record, int32_t device) {
    aj_tensor **in = c->in, *x = in[0];
    if (o->kind == AJ_UPDATE) {
        if (!o->shape(c)) return false;
        c->attrs->dtype = (int8_t)x->dtype;
    } else {
        if (!elementwise_shape(o, c)) return false;
        aj_spec *y = &c->spec[0];
        bool same = y->ndim == x->ndim;
        for (int d = 0; same && d < x->ndim; d++) same = y->shape[d] == x->shape[d];
        if (!same) return aj_refuse(c, "the result does not fit the first input, which an in-place op keeps the shape of");
        if (x->dtype == AJ_BOOL && y->dtype != AJ_BOOL) return aj_refuse(c, "the result is of %s, and cannot be stored in place in bools", aj_dtype_name((aj_dtype)y->dtype));
        if (aj_is_float(y->dtype) && !aj_is_float(x->dtype)) return aj_refuse(c, "the result is of floats, and cannot be stored in place in %s", aj_dtype_name((aj_dtype)x->dtype));
    }
    if (c->op == OP_copy_ && in[1]->device == AJ_META) device = AJ_META;
    if (device == AJ_META && x->device != AJ_META) return true;      /* shapes alone change nothing */
    if (!aj_before_write(x, aj_op_name(c->op), record)) return false;
    /* An input that overlaps the output differently from it, or that the graph would hold, is copied first: the write changes it. */
    for (int k = 1; k < c->n_in; k++) {
        if (!in[k] || in[k]->storage != x->storage) continue;
        if (!record && in[k]->data == x->data && aj_same_shape(in[k], x) && !memcmp(in[k]->stride, x->stride, x->ndim * sizeof *x->stride)) continue;
        if (!(in[k] = aj_live(aj_clone(in[k])))) return false;
    }
    aj_tensor *old = NULL;
    if (record) {
        unsigned reads = 0;
        for (int k = 0; k < c->n_in; k++) if (in[k] && tracked(in[k])) reads |= o->saves_in[k];
        if (reads & 1) {
            bool mode = aj_grad_mode(false);
            old = aj_live(aj_clone(x));
            aj_grad_mode(mode);
            if (!old) return false;
        }
    }
    c->out[0] = x;
    int32_t runs = c->op == OP_copy_ && x->device == AJ_CPU ? in[1]->device : x->device;
    if (!run_kernel(runs, c)) return false;
    if (AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_op(c, true);
    x->storage->version++;
    if (!record) return true;
    aj_spec_like(&c->spec[0], x);
    if (old) {                                           /* the copy stands for x in the graph */
        aj_node *before = aj_node_of(x);
        if (before) { old->node = before; before->refs++; old->requires_grad = true; old->out_index = x->out_index; }
        in[0] = old;
    }
    return aj_after_write(c, x);
}

aj_tensor *aj_apply_now_(int op, aj_tensor *const *handle, int n, const aj_attrs *attrs) {
    aj_tensor *in[AJ_MAX_ARGS];
    bool record;
    int32_t device;
    if (!read_inputs(op, handle, n, in, &record, &device)) return NULL;
    if (!in[0]) { aj_error("%s_: input 1 is nil, where a tensor is wanted", aj_op_name(op)); return NULL; }
    aj_attrs own;
    aj_call c = {.op = op, .n_in = n, .n_out = 1, .in = in, .attrs = &own};
    if (attrs) own = *attrs;
    else own.number = 0;
    int32_t mark = aj_inner_open();                      /* what the rule casts, and copies of inputs, belong to it */
    if (mark < 0) return NULL;
    bool ok = write_in_place(&aj_ops[op], &c, record, device);
    aj_inner_close(mark);
    return ok ? handle[0] : NULL;
}

aj_tensor *aj_apply_(int op, aj_tensor *const *handle, int n, const aj_attrs *attrs) {
    if (AJ_UNLIKELY(aj_ctx.state.watch)) return aj_watch_op(op, handle, n, attrs, true);
    return aj_apply_now_(op, handle, n, attrs);
}
