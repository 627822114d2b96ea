// fft.cu - Fourier transforms of lines along a dimension.
//
// Stockham's form, which sorts as it goes, over radices 2 to 13 (Van Loan, "Computational frameworks for the fast Fourier
// transform", 1992). Short lines are transformed in shared memory, several by a block, so that memory is read and written
// once; long ones pass by pass. Lengths with larger prime factors go through a convolution (Bluestein, 1970).
#include "each.cuh"

namespace cuda {

template <typename real> struct alignas(2 * sizeof(real)) pair {
    real re, im;
    __device__ pair operator*(const pair &b) const { return {re * b.re - im * b.im, re * b.im + im * b.re}; }
    __device__ pair operator+(const pair &b) const { return {re + b.re, im + b.im}; }
    __device__ pair operator-(const pair &b) const { return {re - b.re, im - b.im}; }
};
// exp(sign 2 pi i k / n), of k from 0 up to below n
template <typename real> __device__ inline pair<real> root(int64_t k, int64_t n, int sign) {
    if constexpr (sizeof(real) == 4) {
        float s, c;
        sincospif(2 * (float)k / (float)n, &s, &c);
        return {c, sign < 0 ? -s : s};
    } else {
        double s, c;
        sincospi(2 * (double)k / (double)n, &s, &c);
        return {c, sign < 0 ? -s : s};
    }
}

// One of the n / r butterflies of a pass, in which the product of the radices before r is s.
enum { LARGEST = 13 };
template <typename real> __device__ inline void butterfly(const pair<real> *x, pair<real> *y, int64_t n, int64_t s, int r, int64_t i, int sign) {
    const int64_t m = n / s / r, p = i / s, q = i % s, from = q + s * p, to = q + s * r * p, step = s * m;
    if (r == 2) {
        pair<real> a = x[from], b = x[from + step];
        y[to] = a + b;
        y[to + s] = (a - b) * root<real>(p, 2 * m, sign);
        return;
    }
    if (r == 4) {
        pair<real> a = x[from], b = x[from + step], c = x[from + 2 * step], d = x[from + 3 * step];
        pair<real> even = a + c, odd = a - c, sum = b + d, turn = b - d;
        turn = sign < 0 ? pair<real>{turn.im, -turn.re} : pair<real>{-turn.im, turn.re};
        pair<real> w = root<real>(p, 4 * m, sign), w2 = w * w;
        y[to] = even + sum;
        y[to + s] = (odd + turn) * w;
        y[to + 2 * s] = (even - sum) * w2;
        y[to + 3 * s] = (odd - turn) * (w2 * w);
        return;
    }
    pair<real> a[LARGEST], w[LARGEST];
    for (int t = 0; t < r; t++) { a[t] = x[from + t * step]; w[t] = root<real>(t, r, sign); }
    for (int k = 0; k < r; k++) {
        pair<real> sum = a[0];
        for (int t = 1; t < r; t++) sum = sum + a[t] * w[t * k % r];
        y[to + k * s] = sum * root<real>(p * k, r * m, sign);
    }
}

// -- Where lines lie

enum shape { PAIRS, HALF, WHOLE };                       // pairs to pairs; reals to half of their spectrum; and back
struct lines {
    const char *x;
    char *y;
    int32_t dx, dy, what, sign;
    int64_t n, inner, count;                             // n counted in time
    double scale;
    template <typename real> __device__ pair<real> get(int64_t line, int64_t k) const {
        const int64_t outer = line / inner, in = line % inner;
        if (what == HALF) return {read<real>(x, dx, (outer * n + k) * inner + in), 0};
        const bool mirrored = what == WHOLE && k > n / 2, alone = what == WHOLE && (k == 0 || 2 * k == n);
        const int64_t at = 2 * ((outer * (what == WHOLE ? n / 2 + 1 : n) + (mirrored ? n - k : k)) * inner + in);
        real im = alone ? (real)0 : read<real>(x, dx, at + 1);
        return {read<real>(x, dx, at), mirrored ? -im : im};
    }
    template <typename real> __device__ void put(int64_t line, int64_t k, pair<real> v) const {
        const int64_t outer = line / inner, in = line % inner;
        const real s = (real)scale;
        if (what == WHOLE) { write<real>(y, dy, (outer * n + k) * inner + in, v.re * s); return; }
        if (what == HALF && k > n / 2) return;
        const int64_t at = 2 * ((outer * (what == HALF ? n / 2 + 1 : n) + k) * inner + in);
        write<real>(y, dy, at, v.re * s);
        write<real>(y, dy, at + 1, v.im * s);
    }
};

struct radices { int32_t count, of[48]; };
static bool factor(int64_t n, radices &r) {              // false: there is a prime factor above LARGEST
    r.count = 0;
    for (int f : {4, 2, 3, 5, 7, 11, 13}) while (n % f == 0) { r.of[r.count++] = f; n /= f; }
    return n == 1;
}

// -- Short lines

template <typename real> struct short_most { enum { pairs = 8192 / sizeof(real) }; };
template <typename real> __global__ void __launch_bounds__(THREADS) fft_short(const __grid_constant__ lines l, const __grid_constant__ radices r, int32_t together) {
    __shared__ pair<real> room[2][short_most<real>::pairs];
    const int64_t first = (int64_t)blockIdx.x * together;
    const int n = (int)l.n, here = l.count - first < together ? (int)(l.count - first) : together;
    const bool across = l.inner > 1;                     // neighbours in memory are lines
    for (int e = threadIdx.x; e < here * n; e += THREADS) {
        int line = across ? e % here : e / n, k = across ? e / here : e % n;
        room[0][line * n + k] = l.get<real>(first + line, k);
    }
    int now = 0, s = 1;
    for (int f = 0; f < r.count; f++) {
        __syncthreads();
        const int radix = r.of[f], per = n / radix;
        for (int e = threadIdx.x; e < here * per; e += THREADS) {
            int line = e / per;
            butterfly<real>(room[now] + line * n, room[1 - now] + line * n, n, s, radix, e % per, l.sign);
        }
        s *= radix;
        now = 1 - now;
    }
    __syncthreads();
    for (int e = threadIdx.x; e < here * n; e += THREADS) {
        int line = across ? e % here : e / n, k = across ? e / here : e % n;
        l.put<real>(first + line, k, room[now][line * n + k]);
    }
}

// -- Long lines, and any

template <typename real> struct fft_pass {
    const pair<real> *x;
    pair<real> *y;
    int64_t n, s;
    int32_t r, sign;
    __device__ void operator()(int64_t e) const {
        int64_t per = n / r, line = e / per;
        butterfly<real>(x + line * n, y + line * n, n, s, r, e % per, sign);
    }
};
// The transforms of `count` lines of n in a, by way of b; the one that holds them in the end becomes a.
template <typename real> static bool passes(work &w, const radices &r, int64_t n, int64_t count, pair<real> *&a, pair<real> *&b, int sign) {
    int64_t s = 1;
    for (int f = 0; f < r.count; f++) {
        if (!each(w, count * (n / r.of[f]), fft_pass<real>{a, b, n, s, r.of[f], sign})) return false;
        s *= r.of[f];
        std::swap(a, b);
    }
    return true;
}
template <typename real> struct take_lines {
    lines l;
    pair<real> *y;
    __device__ void operator()(int64_t e) const { y[e] = l.get<real>(e / l.n, e % l.n); }
};
template <typename real> struct put_lines {
    lines l;
    const pair<real> *x;
    __device__ void operator()(int64_t e) const { l.put<real>(e / l.n, e % l.n, x[e]); }
};

// exp(sign pi i k^2 / n)
template <typename real> __device__ inline pair<real> chirp(int64_t k, int64_t n, int sign) { return root<real>(k * k % (2 * n), 2 * n, sign); }
template <typename real> struct take_chirped {
    lines l;
    pair<real> *y;
    int64_t m;
    __device__ void operator()(int64_t e) const {
        int64_t k = e % m;
        y[e] = k < l.n ? l.get<real>(e / m, k) * chirp<real>(k, l.n, l.sign) : pair<real>{0, 0};
    }
};
template <typename real> struct put_chirp {
    pair<real> *y;
    int64_t n, m;
    int32_t sign;
    __device__ void operator()(int64_t k) const {
        int64_t j = k < n ? k : m - k;
        y[k] = j < n ? chirp<real>(j, n, -sign) : pair<real>{0, 0};
    }
};
template <typename real> struct times_chirp {
    pair<real> *x;
    const pair<real> *by;
    int64_t m;
    __device__ void operator()(int64_t e) const { x[e] = x[e] * by[e % m]; }
};
template <typename real> struct put_chirped {
    lines l;
    const pair<real> *x;
    int64_t m;
    __device__ void operator()(int64_t e) const {
        int64_t line = e / l.n, k = e % l.n;
        pair<real> v = x[line * m + k] * chirp<real>(k, l.n, l.sign);
        l.put<real>(line, k, {v.re / (real)m, v.im / (real)m});
    }
};

template <typename real> static bool transform(work &w, int32_t device, const lines &l) {
    radices r;
    bool smooth = factor(l.n, r);
    if (smooth && l.n <= short_most<real>::pairs) {
        int64_t together = short_most<real>::pairs / l.n, blocks;
        if (together > l.count) together = l.count;
        if (together > 64) together = 64;
        blocks = (l.count + together - 1) / together;
        if (blocks <= INT32_MAX) {
            launch_together(fft_short<real>, dim3((unsigned)blocks), dim3(THREADS), w.stream, l, r, (int32_t)together);
            return w.done();
        }
    }
    int64_t m = l.n;
    if (!smooth) {
        for (m = 1; m < 2 * l.n - 1;) m *= 2;
        factor(m, r);
    }
    scratch room(device, 2 * (l.count + !smooth) * m * (int64_t)sizeof(pair<real>));
    if (!room.p) return false;
    pair<real> *a = (pair<real> *)room.p, *b = a + (l.count + !smooth) * m;
    if (smooth) return each(w, l.count * m, take_lines<real>{l, a}) && passes(w, r, m, l.count, a, b, l.sign) && each(w, l.count * m, put_lines<real>{l, a});
    // The chirp is one more line.
    if (!each(w, l.count * m, take_chirped<real>{l, a, m}) || !each(w, m, put_chirp<real>{a + l.count * m, l.n, m, l.sign})) return false;
    return passes(w, r, m, l.count + 1, a, b, -1) && each(w, l.count * m, times_chirp<real>{a, a + l.count * m, m})
        && passes(w, r, m, l.count, a, b, 1) && each(w, l.count * l.n, put_chirped<real>{l, a, m});
}

static bool run(const aj_call *c, shape what, int64_t n, bool inverse) {
    aj_tensor *x = in_order(c->in[0]), *y = c->out[0];
    if (!x) return false;
    if (!x->numel) return true;
    work w(c);
    split s = split_at(x, c->attrs->dim);
    if (what != HALF) s.inner /= 2;
    lines l = {x->data, y->data, x->dtype, y->dtype, what, inverse ? 1 : -1, n, s.inner, s.outer * s.inner, c->attrs->s};
    return with_floats(x->dtype, [&](auto of) { return transform<decltype(of)>(w, x->device, l); });
}
extern "C" bool fft_pairs_cuda(const aj_call *c) { return run(c, PAIRS, c->in[0]->shape[c->attrs->dim], c->attrs->flag); }
extern "C" bool rfft_half_cuda(const aj_call *c) { return run(c, HALF, c->in[0]->shape[c->attrs->dim], false); }
extern "C" bool irfft_half_cuda(const aj_call *c) { return run(c, WHOLE, c->attrs->i, true); }

}
