/* scan.c - extremes with their places and log-sums of exponentials, of all elements up to each place along one dimension:
 * outer * K * inner numbers, a block of neighbours at a time.
 */
#include "dense.h"
#include "vmath.h"

enum { BLOCK = 128 };
typedef struct {
    const void *x, *y, *g;
    void *to;
    int64_t *at;
    int64_t outer, K, inner, base;
} scan;
#define real float
#define REAL(name) name##_f32
#define FLOATS 1
#include "scan.inc"
#undef real
#undef REAL
#define real double
#define REAL(name) name##_f64
#include "scan.inc"
#undef real
#undef REAL
#undef FLOATS
#define real int64_t
#define REAL(name) name##_i64
#define FLOATS 0
#include "scan.inc"
#undef real
#undef REAL
#undef FLOATS

typedef void range_fn(void *, int64_t, int64_t);

/* Inputs as dense numbers: n of them, of one shape. */
static bool run(const aj_call *c, range_fn *const f[3], int n, aj_tensor *to, aj_tensor *at) {
    aj_tensor *x = c->in[n - 1];
    int class = class_of_dtype(x->dtype);
    dense d[4] = {{0}};
    scan s = {.base = c->attrs->base, .at = at ? (int64_t *)(void *)at->data : NULL};
    dense_split(x, c->attrs->dim, &s.outer, &s.K, &s.inner);
    bool ok = dense_place(&d[3], to, class);
    for (int k = 0; k < n && ok; k++) ok = dense_in(&d[k], c->in[k], class);
    s.to = d[3].p;
    if (n == 1) s.x = d[0].p;
    else { s.g = d[0].p; s.x = d[1].p; s.y = d[2].p; }
    if (ok && x->numel) {
        int64_t blocks = (s.inner + BLOCK - 1) / BLOCK;
        aj_parallel(s.outer * blocks, 1 + (1 << 14) / (s.K * (s.inner < BLOCK ? s.inner : BLOCK)), f[class], &s);
    }
    ok = ok && dense_put(&d[3]);
    dense_free(d, 4);
    return ok;
}

bool KERNEL(cummax)(const aj_call *c) { return run(c, (range_fn *const[3]){largest_f32, largest_f64, largest_i64}, 1, c->out[0], c->out[1]); }
bool KERNEL(cummin)(const aj_call *c) { return run(c, (range_fn *const[3]){smallest_f32, smallest_f64, smallest_i64}, 1, c->out[0], c->out[1]); }
bool KERNEL(logcumsumexp)(const aj_call *c) { return run(c, (range_fn *const[3]){logs_f32, logs_f64, NULL}, 1, c->out[0], NULL); }
bool KERNEL(logcumsumexp_grad)(const aj_call *c) { return run(c, (range_fn *const[3]){log_grads_f32, log_grads_f64, NULL}, 3, c->out[0], NULL); }
