// linalg.cu - equations, inverses, determinants and Cholesky of batches of matrices, a block for each.
//
// A matrix for which there is no result is told of at the next synchronisation, by its number in the batch.
#include "matrix.cuh"

namespace cuda {

// Rows and columns may be exchanged by their strides.
template <typename real> struct matrix {
    real *p;
    int64_t row, column;
    __device__ real &operator()(int64_t i, int64_t j) const { return p[i * row + j * column]; }
};

// P A = L U in place, the diagonal of ones of L left out. pivot, which may be NULL: the row that each was exchanged with, from
// 1; *sign, of these exchanges. The first element of U's diagonal that is 0, or -1.
template <typename real> __device__ inline int64_t factor(real *a, int64_t m, int64_t n, int64_t *pivot, real *sign) {
    const int64_t low = m < n ? m : n;
    int64_t singular = -1;
    *sign = 1;
    for (int64_t k = 0; k < low; k++) {
        real most = -1;
        int64_t at = k;
        for (int64_t i = k + threadIdx.x; i < m; i += THREADS) {
            real v = a[i * n + k] < 0 ? -a[i * n + k] : a[i * n + k];
            if (v > most) { most = v; at = i; }
        }
        at = place_of_largest(most, at);
        if (at >= m) at = k;                             // NaN all the way down
        if (pivot && threadIdx.x == 0) pivot[k] = at + 1;
        if (at != k) {
            *sign = -*sign;
            for (int64_t j = threadIdx.x; j < n; j += THREADS) { real v = a[k * n + j]; a[k * n + j] = a[at * n + j]; a[at * n + j] = v; }
        }
        __syncthreads();
        const real d = a[k * n + k];
        if (d == 0) {
            if (singular < 0) singular = k;
            continue;                                    // so is all below it
        }
        for (int64_t i = k + 1 + threadIdx.x; i < m; i += THREADS) a[i * n + k] /= d;
        __syncthreads();
        const int64_t wide = n - k - 1;
        for (int64_t e = threadIdx.x; e < (m - k - 1) * wide; e += THREADS) {
            int64_t i = k + 1 + e / wide, j = k + 1 + e % wide;
            a[i * n + j] -= a[i * n + k] * a[k * n + j];
        }
        __syncthreads();
    }
    return singular;
}
// b, of n rows and k columns, becomes the X of A X = b, for a triangle of a.
template <typename real> __device__ inline void substitute(matrix<const real> a, bool lower, bool unit, matrix<real> b, int64_t n, int64_t k) {
    for (int64_t s = 0; s < n; s++) {
        const int64_t i = lower ? s : n - 1 - s, first = lower ? i + 1 : 0, rows = n - 1 - s;
        if (!unit) {
            for (int64_t j = threadIdx.x; j < k; j += THREADS) b(i, j) /= a(i, i);
            __syncthreads();
        }
        for (int64_t e = threadIdx.x; e < rows * k; e += THREADS) {
            int64_t r = first + e / k, j = e % k;
            b(r, j) -= a(r, i) * b(i, j);
        }
        __syncthreads();
    }
}
template <typename real> __device__ inline void exchange_rows(const int64_t *pivot, real *b, int64_t n, int64_t k) {
    for (int64_t j = threadIdx.x; j < k; j += THREADS)
        for (int64_t i = 0; i < n; i++) {
            int64_t p = pivot[i] - 1;
            if (p == i) continue;
            real v = b[i * k + j];
            b[i * k + j] = b[p * k + j];
            b[p * k + j] = v;
        }
    __syncthreads();
}

enum { PIVOT_ROOM = 2 };        // numbers of scratch that hold a pivot, of floats
template <typename real> __global__ void __launch_bounds__(THREADS) solve_matrix(const __grid_constant__ batch b, bool inverse) {
    const int64_t n = b.n, k = b.k;
    real *a = b.scratch<real>(), *y = b.output<real>(0), sign;
    int64_t *pivot = (int64_t *)(void *)(a + (n * n + 1) / 2 * 2);
    copy_numbers(a, b.input<real>(0), n * n);
    if (inverse) {
        for (int64_t e = threadIdx.x; e < n * n; e += THREADS) y[e] = e / n == e % n ? (real)1 : (real)0;
        __syncthreads();
    } else copy_numbers(y, b.input<real>(1), n * k);
    int64_t singular = factor(a, n, n, pivot, &sign);
    if (singular >= 0) { b.complain(SINGULAR, singular); return; }
    __syncthreads();
    exchange_rows(pivot, y, n, k);
    matrix<const real> lu = {a, n, 1};
    substitute(lu, true, true, matrix<real>{y, k, 1}, n, k);
    substitute(lu, false, false, matrix<real>{y, k, 1}, n, k);
}
static int64_t solve_room(int64_t n) { return n * n + 2 + n * PIVOT_ROOM; }
extern "C" bool solve_cuda(const aj_call *c) {
    int64_t n = c->in[0]->shape[c->in[0]->ndim - 1];
    return run_batch(c, c->in[1]->shape[c->in[1]->ndim - 1], solve_room(n), [](auto of, const batch &b, work &w) {
        launch_together(solve_matrix<decltype(of)>, BLOCKS(b), w.stream, b, false);
    });
}
extern "C" bool inverse_cuda(const aj_call *c) {
    int64_t n = c->in[0]->shape[c->in[0]->ndim - 1];
    return run_batch(c, n, solve_room(n), [](auto of, const batch &b, work &w) { launch_together(solve_matrix<decltype(of)>, BLOCKS(b), w.stream, b, true); });
}

template <typename real> __global__ void __launch_bounds__(THREADS) solve_triangle(const __grid_constant__ batch b) {
    const bool upper = b.flag, left = b.flag2;
    const int64_t n = b.n, k = b.k;
    real *y = b.output<real>(0);
    copy_numbers(y, b.input<real>(1), n * k);
    // X A = B is A^T X^T = B^T.
    if (left) substitute(matrix<const real>{b.input<real>(0), n, 1}, !upper, b.unit, matrix<real>{y, k, 1}, n, k);
    else substitute(matrix<const real>{b.input<real>(0), 1, n}, upper, b.unit, matrix<real>{y, 1, n}, n, k);
}
extern "C" bool solve_triangular_cuda(const aj_call *c) {
    const aj_tensor *right = c->in[1];
    return run_batch(c, right->shape[right->ndim - (c->attrs->flag2 ? 1 : 2)], 0, [](auto of, const batch &b, work &w) {
        launch_together(solve_triangle<decltype(of)>, BLOCKS(b), w.stream, b);
    });
}

// -- Determinants

template <typename real> __global__ void __launch_bounds__(THREADS) determinant(const __grid_constant__ batch b, bool logarithm) {
    const int64_t n = b.n;
    real *a = b.scratch<real>(), sign;
    copy_numbers(a, b.input<real>(0), n * n);
    factor(a, n, n, (int64_t *)nullptr, &sign);
    __syncthreads();
    if (threadIdx.x) return;
    if (!logarithm) {
        for (int64_t k = 0; k < n; k++) sign *= a[k * n + k];
        *b.output<real>(0) = sign;
        return;
    }
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        real u = a[k * n + k];
        sign = u < 0 ? -sign : u == 0 ? (real)0 : u != u ? u : sign;
        sum += log(fabs((double)u));
    }
    *b.output<real>(0) = sign;
    *b.output<real>(1) = (real)sum;
}
static bool determinants(const aj_call *c, bool logarithm) {
    int64_t n = c->in[0]->shape[c->in[0]->ndim - 1];
    return run_batch(c, 0, n * n, [&](auto of, const batch &b, work &w) { launch_together(determinant<decltype(of)>, BLOCKS(b), w.stream, b, logarithm); });
}
extern "C" bool det_cuda(const aj_call *c) { return determinants(c, false); }
extern "C" bool slogdet_cuda(const aj_call *c) { return determinants(c, true); }

// -- Triangular factors

template <typename real> __global__ void __launch_bounds__(THREADS) lu_matrix(const __grid_constant__ batch b) {
    real *a = b.output<real>(0), sign;
    copy_numbers(a, b.input<real>(0), b.m * b.n);
    factor(a, b.m, b.n, b.output<int64_t>(1), &sign);    // a singular matrix has factors too
}
extern "C" bool lu_factor_cuda(const aj_call *c) {
    return run_batch(c, 0, 0, [](auto of, const batch &b, work &w) { launch_together(lu_matrix<decltype(of)>, BLOCKS(b), w.stream, b); });
}

// The rows' places after the exchanges, which are of row i with a row from i on, counted from 1.
struct places_after {
    const int64_t *pivot;
    int64_t *y, n, k, base;
    fault *faults;
    int32_t op;
    __device__ void operator()(int64_t b) const {
        int64_t *to = y + b * n;
        const int64_t *p = pivot + b * k;
        for (int64_t i = 0; i < n; i++) to[i] = i + base;
        for (int64_t i = 0; i < k; i++) {
            if (p[i] < 1 || p[i] > n) { report(faults, PIVOT, op, p[i], 1, n); continue; }
            int64_t v = to[i];
            to[i] = to[p[i] - 1];
            to[p[i] - 1] = v;
        }
    }
};
extern "C" bool pivots_order_cuda(const aj_call *c) {
    const aj_tensor *p = c->in[0], *y = c->out[0];
    int64_t n = c->attrs->i;
    work w(c);
    return each(w, n ? y->numel / n : 0, places_after{(const int64_t *)(const void *)p->data, (int64_t *)(void *)y->data, n, p->shape[p->ndim - 1], c->attrs->base, w.faults, c->op});
}

template <typename real> __global__ void __launch_bounds__(THREADS) cholesky_matrix(const __grid_constant__ batch b) {
    const int64_t n = b.n;
    real *y = b.output<real>(0);
    copy_numbers(y, b.input<real>(0), n * n);
    matrix<real> a = b.flag ? matrix<real>{y, 1, n} : matrix<real>{y, n, 1};     // the upper one by its transposed
    for (int64_t k = 0; k < n; k++) {
        const real d = a(k, k);
        if (!(d > 0)) { b.complain(INDEFINITE, k); return; }
        __syncthreads();
        const real l = (real)sqrt((double)d);
        for (int64_t i = k + threadIdx.x; i < n; i += THREADS) a(i, k) = i == k ? l : a(i, k) / l;
        __syncthreads();
        const int64_t rest = n - k - 1;
        for (int64_t e = threadIdx.x; e < rest * rest; e += THREADS) {
            int64_t i = k + 1 + e / rest, j = k + 1 + e % rest;
            if (j <= i) a(i, j) -= a(i, k) * a(j, k);
        }
        for (int64_t j = k + 1 + threadIdx.x; j < n; j += THREADS) a(k, j) = 0;
        __syncthreads();
    }
}
extern "C" bool cholesky_cuda(const aj_call *c) {
    return run_batch(c, 0, 0, [](auto of, const batch &b, work &w) { launch_together(cholesky_matrix<decltype(of)>, BLOCKS(b), w.stream, b); });
}

}
