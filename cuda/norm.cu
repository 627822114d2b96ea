// norm.cu - layer, group and rms normalisation, and their gradients. That of batches is batch_norm.cu's.
//
// x is (N, C, S). A row - a group of channels of a sample - is a block's, which sums (x - shift) and its square, with the
// row's first element as shift, so that nothing cancels. The gradients of weight and bias are a channel's.
#include "block.cuh"
#include "each.cuh"

namespace cuda {

struct norm {
    const char *x, *g, *weight, *bias;
    char *y, *mean, *rstd, *gw, *gb;
    int32_t dx, dg, dw, db, dy, ds, dgw;                 // dtypes; ds: of mean and rstd
    int64_t N, C, S, G;
    double eps;
    bool centered;
};

template <typename real> __global__ void __launch_bounds__(THREADS) norm_rows(const __grid_constant__ norm m) {
    const int64_t per = m.C / m.G, K = per * m.S, r = blockIdx.x, at = r * K;
    real shift = m.centered && K ? read<real>(m.x, m.dx, at) : (real)0;
    double s = 0, q = 0;
    real a = 0, b = 0;
    share<real> mine;
    auto get = [&](int64_t k) { return read<real>(m.x, m.dx, at + k); };
    mine.first(K, get, [&](int64_t, real v) { real d = v - shift; a += d; b += d * d; });
    s = of_block((double)a, add());
    q = of_block((double)b, add());
    double mean = 0, var = K ? q / (double)K : 0;
    if (m.centered) {
        s /= (double)K;
        var -= s * s;
        mean = (double)shift + s;
    }
    real mu = (real)mean, rs = (real)(1 / sqrt((var < 0 ? 0 : var) + m.eps));
    if (threadIdx.x == 0) {
        write<real>(m.mean, m.ds, r, mu);
        write<real>(m.rstd, m.ds, r, rs);
    }
    mine.again(K, get, [&](int64_t k, real v) {
        int64_t c = r % m.G * per + k / m.S;
        v = (v - mu) * rs;
        if (m.weight) v *= read<real>(m.weight, m.dw, c);
        if (m.bias) v += read<real>(m.bias, m.db, c);
        write<real>(m.y, m.dy, at + k, v);
    });
}

// gx = rstd (g w - mean(g w) - xhat mean(g w xhat))
template <typename real> __global__ void __launch_bounds__(THREADS) norm_rows_grad(const __grid_constant__ norm m) {
    const int64_t per = m.C / m.G, K = per * m.S, r = blockIdx.x, at = r * K;
    real mean = read<real>(m.mean, m.ds, r), rstd = read<real>(m.rstd, m.ds, r), a = 0, b = 0;
    auto scaled = [&](int64_t k) {
        real g = read<real>(m.g, m.dg, at + k);
        return m.weight ? g * read<real>(m.weight, m.dw, r % m.G * per + k / m.S) : g;
    };
    share<real> g_mine, x_mine;
    auto less = [&](int64_t k) { return read<real>(m.x, m.dx, at + k) - mean; };
    x_mine.first(K, less, [](int64_t, real) {});
    g_mine.first(K, scaled, [](int64_t, real) {});
    for (int j = 0; j < SHARE; j++)
        if (threadIdx.x + (int64_t)j * THREADS < K) { a += g_mine.kept[j]; b += g_mine.kept[j] * x_mine.kept[j]; }
    for (int64_t k = threadIdx.x + (int64_t)SHARE * THREADS; k < K; k += THREADS) { real g = scaled(k); a += g; b += g * less(k); }
    double s = of_block((double)a, add()), p = of_block((double)b, add()), r1 = (double)rstd;
    real c = m.centered ? (real)(r1 * s / (double)K) : (real)0, d = (real)(r1 * r1 * r1 * p / (double)K);
    for (int j = 0; j < SHARE; j++) {
        int64_t k = threadIdx.x + (int64_t)j * THREADS;
        if (k < K) write<real>(m.y, m.dy, at + k, g_mine.kept[j] * rstd - c - x_mine.kept[j] * d);
    }
    for (int64_t k = threadIdx.x + (int64_t)SHARE * THREADS; k < K; k += THREADS) write<real>(m.y, m.dy, at + k, scaled(k) * rstd - c - less(k) * d);
}

// gw and gb of 32 channels side by side, by 8 threads each: where a channel is one element of each of N rows.
template <typename real> __global__ void __launch_bounds__(THREADS) norm_lines_affine(const __grid_constant__ norm m) {
    __shared__ double w[THREADS / 32][32], b[THREADS / 32][32];
    int64_t c = (int64_t)blockIdx.x * 32 + threadIdx.x;
    double gw = 0, gb = 0;
    if (c < m.C)
        for (int64_t n = threadIdx.y; n < m.N; n += THREADS / 32) {
            double g = read<double>(m.g, m.dg, n * m.C + c);
            gw += g * (read<double>(m.x, m.dx, n * m.C + c) - read<double>(m.mean, m.ds, n)) * read<double>(m.rstd, m.ds, n);
            gb += g;
        }
    w[threadIdx.y][threadIdx.x] = gw;
    b[threadIdx.y][threadIdx.x] = gb;
    __syncthreads();
    if (threadIdx.y || c >= m.C) return;
    for (int i = 1; i < THREADS / 32; i++) { gw += w[i][threadIdx.x]; gb += b[i][threadIdx.x]; }
    write<double>(m.gw, m.dgw, c, gw);
    write<double>(m.gb, m.dgw, c, gb);
}
// The same by a block for each channel.
template <typename real> __global__ void __launch_bounds__(THREADS) norm_channel_affine(const __grid_constant__ norm m) {
    const int64_t c = blockIdx.x, per = m.C / m.G;
    double gw = 0, gb = 0;
    for (int64_t i = threadIdx.x; i < m.N * m.S; i += THREADS) {
        int64_t n = i / m.S, at = (n * m.C + c) * m.S + i % m.S, row = n * m.G + c / per;
        double g = read<double>(m.g, m.dg, at);
        gw += g * (read<double>(m.x, m.dx, at) - read<double>(m.mean, m.ds, row)) * read<double>(m.rstd, m.ds, row);
        gb += g;
    }
    gw = of_block(gw, add());
    gb = of_block(gb, add());
    if (threadIdx.x) return;
    write<double>(m.gw, m.dgw, c, gw);
    write<double>(m.gb, m.dgw, c, gb);
}

// -- Rows of the table

static const char *data(const aj_tensor *t) { return t ? t->data : nullptr; }
static int32_t dtype(const aj_tensor *t) { return t ? t->dtype : 0; }
static norm from(const aj_call *c, const aj_tensor *x, const aj_tensor *weight, const aj_tensor *bias, const aj_tensor *mean, const aj_tensor *rstd, const aj_tensor *y) {
    const aj_attrs *a = c->attrs;
    norm m = {};
    m.x = x->data; m.dx = x->dtype;
    m.weight = data(weight); m.dw = dtype(weight);
    m.bias = data(bias); m.db = dtype(bias);
    m.mean = mean->data; m.rstd = rstd->data; m.ds = mean->dtype;
    m.y = y->data; m.dy = y->dtype;
    m.C = a->i; m.S = a->j; m.N = a->k; m.G = a->groups;
    m.eps = a->s;
    m.centered = a->flag;
    return m;
}

static bool rows(const aj_call *c) {
    aj_tensor *x = in_order(c->in[0]), *weight = in_order(c->in[1]), *bias = c->n_in > 2 ? in_order(c->in[2]) : nullptr;
    if (!x || (c->in[1] && !weight) || (c->n_in > 2 && c->in[2] && !bias)) return false;
    work w(c);
    norm m = from(c, x, weight, bias, c->out[1], c->out[2], c->out[0]);
    if (m.N * m.G > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 rows");
    return !x->numel || with_floats(x->dtype, [&](auto of) {
        launch_together(norm_rows<decltype(of)>, dim3((unsigned)(m.N * m.G)), dim3(THREADS), w.stream, m);
        return w.done();
    });
}
extern "C" bool layer_norm_cuda(const aj_call *c) { return rows(c); }
extern "C" bool rms_norm_cuda(const aj_call *c) { return rows(c); }
extern "C" bool group_norm_cuda(const aj_call *c) { return rows(c); }

// in: g, x, weight, mean, rstd; out: gx, gw, gb.
static bool gradients(const aj_call *c, work &w, norm &m, bool *some) {
    aj_tensor *g = in_order(c->in[0]), *x = in_order(c->in[1]), *weight = in_order(c->in[2]), *mean = in_order(c->in[3]), *rstd = in_order(c->in[4]);
    if (!g || !x || !mean || !rstd || (c->in[2] && !weight)) return false;
    m = from(c, x, weight, nullptr, mean, rstd, c->out[0]);
    m.g = g->data;
    m.dg = g->dtype;
    if (c->attrs->flag2) { m.gw = c->out[1]->data; m.gb = c->out[2]->data; m.dgw = c->out[1]->dtype; }
    *some = x->numel > 0;
    if (m.N * (m.G ? m.G : 1) > INT32_MAX) return aj_refuse(c, "more than 2^31 - 1 rows");
    for (int k = 1; k < 3 && !*some; k++)
        if (!w.done(c->out[k]->numel ? cudaMemsetAsync(c->out[k]->data, 0, (size_t)(c->out[k]->numel * dtype_bytes(c->out[k]->dtype)), w.stream) : cudaSuccess)) return false;
    return true;
}
extern "C" bool group_norm_grad_cuda(const aj_call *c) {
    work w(c);
    norm m;
    bool some = false;
    if (!gradients(c, w, m, &some) || !some) return !some && w.done();
    m.N = c->in[1]->numel / (m.C * m.S);
    return with_floats(m.dx, [&](auto of) {
        typedef decltype(of) real;
        launch_together(norm_rows_grad<real>, dim3((unsigned)(m.N * m.G)), dim3(THREADS), w.stream, m);
        if (m.gw && m.S == 1 && m.G == 1) launch_together(norm_lines_affine<real>, dim3((unsigned)((m.C + 31) / 32)), dim3(32, THREADS / 32), w.stream, m);
        else if (m.gw) launch_together(norm_channel_affine<real>, dim3((unsigned)m.C), dim3(THREADS), w.stream, m);
        return w.done();
    });
}

}
