// dnn_attention.cu - attention by cuDNN: the graph of its operations, which the library knows as one kernel.
//
// The graph is that of the definition; cuDNN recognises it and never has the scores in memory (Dao and others, "FlashAttention-2",
// 2023). Its operations and their order are those that cuDNN's documentation gives for scaled dot-product attention.
//
// A mask is added as numbers. What may not be seen gets one so low that its weight is 0 beside any other, but no infinity, of
// which a row of nothing else would make NaN: such a row is told by its lse, and becomes zeros.
#include "dnn_attention.h"
#include "each.cuh"
#include <cmath>

namespace cuda {

namespace {
enum uid : int64_t { Q, K, V, O, LSE, DO, DQ, DK, DV, DELTA, DQ_SUM, BIAS, SCALE = DNN_SCALAR, LOW, ONE };

// (N, heads, rows, columns) with the columns side by side and rows that begin at 16 bytes, as the library wants them; NULL after an error.
aj_tensor *in_rows(aj_tensor *t) {
    bool suits = t->stride[3] == 1 && (uintptr_t)t->data % 16 == 0;
    for (int d = 0; d < 3; d++) suits = suits && t->stride[d] > 0 && t->stride[d] % 8 == 0;
    return suits ? t : aj_untag(aj_clone(t));
}

// The numbers that a mask adds, without those that it repeats.
struct mask_numbers {
    elements mask;
    float *to;
    __device__ void operator()(int64_t i) const {
        float v = mask.get<float>(i);
        to[i] = mask.dtype == AJ_BOOL ? (v != 0 ? 0 : (float)-1e30) : v < (float)-1e30 ? (float)-1e30 : v;
    }
};
// Rows that saw nothing become zeros, and their lse -infinity.
struct unseen_rows {
    char *y;
    float *lse;
    int32_t dtype;
    int64_t columns;
    __device__ void operator()(int64_t i) const {
        if (lse[i / columns] >= (float)-1e29 || lse[i / columns] != lse[i / columns]) return;
        write<float>(y, dtype, i, 0);
    }
};
struct unseen_sums {
    float *lse, *to;
    float instead;
    __device__ void operator()(int64_t i) const { to[i] = lse[i] < (float)-1e29 ? instead : lse[i]; }
};

struct attention {
    const aj_tensor *bias;                               // f32; NULL: none
    int64_t N, H, L, S, E, F, G;
    bool causal;
    cudnnDataType_t type;
    dnn_graph &g;

    dnn_tensor given(int64_t uid, const aj_tensor *t) { return g.in_memory(uid, type, 4, t->shape, t->stride); }
    dnn_tensor turned(int64_t uid, const aj_tensor *t) {
        const int64_t size[4] = {t->shape[0], t->shape[1], t->shape[3], t->shape[2]}, stride[4] = {t->stride[0], t->stride[1], t->stride[3], t->stride[2]};
        return g.in_memory(uid, type, 4, size, stride);
    }
    dnn_tensor in_f32(int64_t uid, int64_t columns) {
        const int64_t size[4] = {N, H, L, columns}, stride[4] = {H * L * columns, L * columns, columns, 1};
        return g.in_memory(uid, CUDNN_DATA_FLOAT, 4, size, stride);
    }
    dnn_tensor scores(cudnnDataType_t of = CUDNN_DATA_FLOAT) {
        const int64_t size[4] = {N, H, L, S};
        return g.between(of, 4, size);
    }
    dnn_tensor column() {
        const int64_t size[4] = {N, H, L, 1};
        return g.between(CUDNN_DATA_FLOAT, 4, size);
    }
    dnn_tensor map(cudnnPointwiseMode_t mode, const dnn_tensor &x, const dnn_tensor &y) { return g.pointwise(mode, x, nullptr, nullptr, y); }
    dnn_tensor map(cudnnPointwiseMode_t mode, const dnn_tensor &x, const dnn_tensor &b, const dnn_tensor &y) { return g.pointwise(mode, x, &b, nullptr, y); }

    dnn_tensor with_bias(const dnn_tensor &s) {
        return bias ? map(CUDNN_POINTWISE_ADD, s, g.in_memory(BIAS, CUDNN_DATA_FLOAT, 4, bias->shape, bias->stride), scores()) : s;
    }
    // Keys after a query become -infinity.
    dnn_tensor masked(const dnn_tensor &s) {
        if (!causal) return s;
        dnn_tensor row = g.pointwise(CUDNN_POINTWISE_GEN_INDEX, s, nullptr, nullptr, scores(CUDNN_DATA_INT32), 2);
        dnn_tensor key = g.pointwise(CUDNN_POINTWISE_GEN_INDEX, s, nullptr, nullptr, scores(CUDNN_DATA_INT32), 3);
        dnn_tensor seen = map(CUDNN_POINTWISE_CMP_GE, row, key, scores(CUDNN_DATA_BOOLEAN)), low = g.scalar(LOW, 4);
        return g.pointwise(CUDNN_POINTWISE_BINARY_SELECT, s, &low, &seen, scores());
    }

    void forward(const aj_tensor *q, const aj_tensor *k, const aj_tensor *v, const aj_tensor *o) {
        dnn_tensor s = g.matmul(given(Q, q), turned(K, k), scores());
        s = masked(with_bias(map(CUDNN_POINTWISE_MUL, s, g.scalar(SCALE, 4), scores())));
        dnn_tensor top = g.reduce(CUDNN_REDUCE_TENSOR_MAX, s, column());
        dnn_tensor e = map(CUDNN_POINTWISE_EXP, map(CUDNN_POINTWISE_SUB, s, top, scores()), scores());
        dnn_tensor sum = g.reduce(CUDNN_REDUCE_TENSOR_ADD, e, column());
        map(CUDNN_POINTWISE_ADD, map(CUDNN_POINTWISE_LOG, sum, column()), top, in_f32(LSE, 1));
        g.matmul(map(CUDNN_POINTWISE_DIV, e, sum, scores(type)), given(V, v), given(O, o));
    }

    // x as the transpose of its last two dimensions, in x's own order.
    dnn_tensor transposed(const dnn_tensor &x) {
        const int64_t size[4] = {x.size[0], x.size[1], x.size[3], x.size[2]}, stride[4] = {x.stride[0], x.stride[1], x.stride[3], x.stride[2]};
        return g.reshape(x, g.between(type, 4, size, stride));
    }
    // a b, and where heads share keys its sum over those heads.
    void over_heads(const dnn_tensor &a, const dnn_tensor &b, const dnn_tensor &y) {
        if (G == H) { g.matmul(a, b, y); return; }
        const int64_t size[4] = {N, H, S, y.size[3]};
        g.reduce(CUDNN_REDUCE_TENSOR_ADD, g.matmul(a, b, g.between(type, 4, size)), y);
    }
    void backward(const aj_tensor *q, const aj_tensor *k, const aj_tensor *v, const aj_tensor *o, const aj_tensor *d_o, const aj_tensor *dq, const aj_tensor *dk, const aj_tensor *dv) {
        const int64_t of_o[4] = {N, H, L, F};
        dnn_tensor tq = given(Q, q), tk = turned(K, k), td = given(DO, d_o), scale = g.scalar(SCALE, 4), one = g.scalar(ONE, 4), delta = in_f32(DELTA, 1);
        dnn_tensor dot = g.reduce(CUDNN_REDUCE_TENSOR_ADD, map(CUDNN_POINTWISE_MUL, td, given(O, o), g.between(CUDNN_DATA_FLOAT, 4, of_o)), column());
        map(CUDNN_POINTWISE_MUL, dot, one, delta);
        dnn_tensor s = with_bias(map(CUDNN_POINTWISE_MUL, g.matmul(tq, tk, scores()), scale, scores()));
        dnn_tensor p = map(CUDNN_POINTWISE_EXP, masked(map(CUDNN_POINTWISE_SUB, s, in_f32(LSE, 1), scores())), scores());
        over_heads(transposed(p), td, given(DV, dv));
        dnn_tensor dp = map(CUDNN_POINTWISE_SUB, g.matmul(td, turned(V, v), scores()), delta, scores());
        dnn_tensor ds = map(CUDNN_POINTWISE_MUL, map(CUDNN_POINTWISE_MUL, dp, p, scores()), scale, scores());
        over_heads(transposed(ds), tq, given(DK, dk));
        dnn_tensor sum = g.matmul(ds, transposed(tk), in_f32(DQ_SUM, E));
        map(CUDNN_POINTWISE_IDENTITY, sum, given(DQ, dq));
    }
};

// What the library's kernels take: halves, without dropout, whose random numbers would not be the CPU's.
bool suits(const aj_call *c, const aj_tensor *q, const aj_tensor *k, const aj_tensor *v) {
    return dnn.here() && (q->dtype == AJ_F16 || q->dtype == AJ_BF16) && c->attrs->s == 0 && q->numel && k->numel && v->numel;
}
// The mask's numbers as a tensor that the scope of the call owns; *to stays NULL without a mask. False after aj_error.
bool bias_of(work &w, aj_tensor *mask, aj_tensor **to) {
    if (!mask) return true;
    aj_ints shape = {4, {0}};
    for (int d = 0; d < 4; d++) {
        shape.v[d] = mask->shape[d];
        if (mask->stride[d] || shape.v[d] == 1 || d == 3) continue;
        shape.v[d] = 1;
        if (!(mask = aj_untag(aj_narrow(mask, d, 0, 1)))) return false;
    }
    return (*to = aj_untag(aj_empty(AJ_F32, &shape, mask->device))) && each(w, mask->numel, mask_numbers{elements_of(mask), (float *)(void *)(*to)->data});
}
void describe(dnn_case &k, std::initializer_list<const aj_tensor *> of) {
    for (const aj_tensor *t : of) for (int d = 0; d < 4; d++) k.add(t->shape[d]).add(t->stride[d]);
}
const float low = -INFINITY, one = 1;
}

dnn_result dnn_attention(work &w, const aj_call *c) {
    if (!suits(c, c->in[0], c->in[1], c->in[2])) return DNN_NONE;
    aj_tensor *bias = nullptr, *q = in_rows(c->in[0]), *k = in_rows(c->in[1]), *v = in_rows(c->in[2]), *y = c->out[0];
    if (!q || !k || !v || !bias_of(w, c->in[3], &bias)) return DNN_FAILED;
    dnn_case of("attention", y->device, q->dtype);
    describe(of, {q, k, v});
    if (bias) describe(of, {bias});
    of.add(c->attrs->flag);
    const float scale = (float)c->attrs->t;
    dnn_places at = {{Q, q->data}, {K, k->data}, {V, v->data}, {O, y->data}, {LSE, c->out[1]->data}, {SCALE, &scale}};
    if (c->attrs->flag) at.emplace_back(LOW, &low);
    if (bias) at.emplace_back(BIAS, bias->data);
    dnn_result r = dnn_run(w, of, at, [&](dnn_graph &g) {
        attention a = {bias, q->shape[0], q->shape[1], q->shape[2], k->shape[2], q->shape[3], v->shape[3], k->shape[1], c->attrs->flag, dnn_type(q->dtype), g};
        a.forward(q, k, v, y);
    });
    if (r != DNN_DONE || !bias) return r;
    float *lse = (float *)(void *)c->out[1]->data;
    return each(w, y->numel, unseen_rows{y->data, lse, y->dtype, v->shape[3]}) && each(w, c->out[1]->numel, unseen_sums{lse, lse, low}) ? DNN_DONE : DNN_FAILED;
}

dnn_result dnn_attention_grad(work &w, const aj_call *c) {
    // The library's blocks add to DQ_SUM in any order; kernels of our own keep one.
    if (!suits(c, c->in[1], c->in[2], c->in[3]) || c->in[6]->dtype != AJ_F32 || aj_deterministic()) return DNN_NONE;
    aj_tensor *bias = nullptr, *g_y = in_rows(c->in[0]), *q = in_rows(c->in[1]), *k = in_rows(c->in[2]), *v = in_rows(c->in[3]), *y = in_rows(c->in[5]);
    aj_tensor *lse = c->in[6]->contiguous ? c->in[6] : aj_untag(aj_clone(c->in[6]));
    if (!g_y || !q || !k || !v || !y || !lse || !bias_of(w, c->in[4], &bias)) return DNN_FAILED;
    const int64_t N = q->shape[0], H = q->shape[1], L = q->shape[2], E = q->shape[3], S = k->shape[2];
    // Before 9.16 a number of keys that tiles do not divide is wrong; before 9.6 the sums must start at 0.
    const size_t version = dnn.get_version();
    if (version < 91600 && S % 128) return DNN_NONE;
    scratch delta(q->device, N * H * L * 4), sum(q->device, N * H * L * E * 4), sums(q->device, bias ? N * H * L * 4 : 1);
    if (!delta.p || !sum.p || !sums.p) return DNN_FAILED;
    float *seen = (float *)(void *)lse->data;
    if (bias) {                                          // rows that saw nothing have weights of 0
        if (!each(w, lse->numel, unseen_sums{seen, (float *)sums.p, INFINITY})) return DNN_FAILED;
        seen = (float *)sums.p;
    }
    if (version < 90600 && !w.done(cudaMemsetAsync(sum.p, 0, (size_t)(N * H * L * E * 4), w.stream))) return DNN_FAILED;
    dnn_case of("attention_grad", q->device, q->dtype);
    describe(of, {q, k, v, y, g_y});
    if (bias) describe(of, {bias});
    of.add(c->attrs->flag);
    const float scale = (float)c->attrs->t;
    dnn_places at = {{Q, q->data}, {K, k->data}, {V, v->data}, {O, y->data}, {LSE, seen}, {DO, g_y->data}, {DQ, c->out[0]->data}, {DK, c->out[1]->data},
                     {DV, c->out[2]->data}, {DELTA, delta.p}, {DQ_SUM, sum.p}, {SCALE, &scale}, {ONE, &one}};
    if (c->attrs->flag) at.emplace_back(LOW, &low);
    if (bias) at.emplace_back(BIAS, bias->data);
    return dnn_run(w, of, at, [&](dnn_graph &g) {
        attention a = {bias, N, H, L, S, E, v->shape[3], k->shape[1], c->attrs->flag, dnn_type(q->dtype), g};
        a.backward(q, k, v, y, g_y, c->out[0], c->out[1], c->out[2]);
    });
}

}
