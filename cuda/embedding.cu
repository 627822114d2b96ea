// embedding.cu - bags of rows of a table: a thread has one column of a bag; rows renormalised where they lie, each by a block.
#include "block.cuh"
#include "each.cuh"

namespace cuda {

struct bags {
    const char *table, *weights;
    char *y, *factor;
    const int64_t *index, *offsets;                      // offsets NULL: bags of N indices each
    int64_t *bag, *place;                                // for the gradient, or NULL
    int64_t rows, D, N, n, count, given, padding, base;
    int32_t dtype, dw, df, mode, op;
    fault *faults;
    __device__ int64_t begin(int64_t b) const {          // where bag b begins, or the one before it ends
        if (!offsets) return b * N;
        int64_t at = b < given ? offsets[b] - base : n;
        return at < 0 ? 0 : at > n ? n : at;
    }
    __device__ int64_t row(int64_t i) const {            // -1: does not count
        int64_t r = index[i] - base;
        if (r < 0 || r >= rows) { report(faults, INDEX, op, index[i], base, base + rows - 1); return -1; }
        return r == padding ? -1 : r;
    }
};
template <typename real> struct bag_column {
    bags m;
    __device__ void operator()(int64_t t) const {
        int64_t b = t / m.D, d = t % m.D, first = m.begin(b), end = m.begin(b + 1), count = 0, where = -1;
        real acc = 0;
        for (int64_t i = first; i < end; i++) {
            int64_t r = m.row(i);
            if (r < 0) continue;
            real v = read<real>(m.table, m.dtype, r * m.D + d);
            if (m.mode == 2) {
                if (!count || v > acc || (v != v && acc == acc)) { acc = v; where = r; }
            } else acc += m.weights ? read<real>(m.weights, m.dw, i) * v : v;
            count++;
        }
        if (m.mode == 1 && count) acc /= (real)count;
        write<real>(m.y, m.dtype, t, acc);
        if (m.place) m.place[t] = where;
    }
};
// Which bag an index is in, and by what its row was multiplied; both 0 where it is in none.
template <typename real> struct bag_of_index {
    bags m;
    __device__ void operator()(int64_t i) const {
        int64_t lo = 0, hi = m.count;                    // the last bag that begins at i or before
        while (lo + 1 < hi) { int64_t half = (lo + hi) / 2; if (m.begin(half) <= i) lo = half; else hi = half; }
        bool in = m.count && m.begin(lo) <= i && i < m.begin(lo + 1);
        int64_t rows = 0;
        if (in && m.mode == 1) for (int64_t k = m.begin(lo), end = m.begin(lo + 1); k < end; k++) rows += m.row(k) >= 0;
        m.bag[i] = in ? lo : 0;
        write<real>(m.factor, m.df, i, !in || m.row(i) < 0 ? (real)0 : m.mode == 1 ? 1 / (real)rows : (real)1);
    }
};
struct check_offsets {
    bags m;
    __device__ void operator()(int64_t b) const {
        int64_t at = m.offsets[b], low = b ? m.offsets[b - 1] : m.base, high = b ? m.n + m.base : m.base;
        if (at < low || at > high) report(m.faults, OFFSET, m.op, at, low, high);
    }
};

extern "C" bool embedding_bag_cuda(const aj_call *c) {
    const aj_tensor *table = c->in[0], *index = c->in[1], *offsets = c->in[2], *weights = c->in[3];
    const aj_attrs *a = c->attrs;
    work w(c);
    bags m = {};
    m.table = table->data; m.dtype = table->dtype;
    m.y = c->out[0]->data;
    m.index = (const int64_t *)(const void *)index->data;
    m.rows = table->shape[0]; m.D = table->shape[1];
    m.n = index->numel;
    m.N = index->ndim == 2 ? index->shape[1] : 0;
    m.count = c->out[0]->shape[0];
    m.padding = a->i == INT32_MIN ? -1 : a->i;
    m.base = a->base;
    m.mode = a->mode;
    m.op = c->op;
    m.faults = w.faults;
    if (weights) { m.weights = weights->data; m.dw = weights->dtype; }
    if (offsets) {
        m.offsets = (const int64_t *)(const void *)offsets->data;
        m.given = offsets->numel;
        if (!each(w, m.given, check_offsets{m})) return false;
    }
    if (c->n_out > 1) {
        m.bag = (int64_t *)(void *)c->out[1]->data;
        m.factor = c->out[2]->data; m.df = c->out[2]->dtype;
        m.place = m.mode == 2 ? (int64_t *)(void *)c->out[3]->data : nullptr;
    }
    return with_floats(table->dtype, [&](auto of) {
        typedef decltype(of) real;
        return each(w, m.count * m.D, bag_column<real>{m}) && (!m.bag || each(w, m.n, bag_of_index<real>{m}));
    });
}

// -- Rows of a table that are too long

struct renorm {
    char *table;
    int32_t dtype, op;
    int64_t rows, D, s_row, s_column, base;
    const int64_t *index;
    int32_t *owner;             // of each row the first place of the index that names it
    double most, p;
    fault *faults;
};
struct claim {
    renorm m;
    __device__ void operator()(int64_t i) const {
        int64_t r = m.index[i] - m.base;
        if (r < 0 || r >= m.rows) report(m.faults, INDEX, m.op, m.index[i], m.base, m.base + m.rows - 1);
        else atomicMin(&m.owner[r], (int32_t)i);
    }
};
struct unclaimed {
    int32_t *owner;
    __device__ void operator()(int64_t r) const { owner[r] = INT32_MAX; }
};
__global__ void __launch_bounds__(THREADS) renorm_row(const __grid_constant__ renorm m) {
    int64_t r = m.index[blockIdx.x] - m.base;
    if (r < 0 || r >= m.rows || m.owner[r] != (int32_t)blockIdx.x) return;
    double norm = 0;
    for (int64_t d = threadIdx.x; d < m.D; d += THREADS) {
        double v = fabs(read<double>(m.table, m.dtype, r * m.s_row + d * m.s_column));
        norm = m.p == (double)INFINITY ? larger()(v, norm) : norm + (m.p == 2 ? v * v : m.p == 1 ? v : pow(v, m.p));
    }
    norm = m.p == (double)INFINITY ? of_block(norm, larger()) : of_block(norm, add());
    if (m.p == 2) norm = sqrt(norm);
    else if (m.p != 1 && m.p != (double)INFINITY) norm = pow(norm, 1 / m.p);
    if (!(norm > m.most)) return;
    for (int64_t d = threadIdx.x; d < m.D; d += THREADS) {
        int64_t at = r * m.s_row + d * m.s_column;
        write<double>(m.table, m.dtype, at, read<double>(m.table, m.dtype, at) * (m.most / (norm + 1e-7)));
    }
}
extern "C" bool embedding_renorm__cuda(const aj_call *c) {
    aj_tensor *table = c->in[0], *index = c->in[1];
    work w(c);
    if (!index->numel || !table->numel) return true;
    if (index->numel > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 indices");
    scratch room(table->device, table->shape[0] * 4);
    if (!room.p) return false;
    renorm m = {table->data, table->dtype, c->op, table->shape[0], table->shape[1], table->stride[0], table->stride[1], c->attrs->base,
                (const int64_t *)(const void *)index->data, (int32_t *)room.p, c->attrs->s, c->attrs->t, w.faults};
    if (!each(w, m.rows, unclaimed{m.owner}) || !each(w, index->numel, claim{m})) return false;
    launch_together(renorm_row, dim3((unsigned)index->numel), dim3(THREADS), w.stream, m);
    return w.done();
}

}
