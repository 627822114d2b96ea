/* place.c - argmax and its like, and cumulative sums and products: along one dimension, outer * K * inner numbers.
 *
 * Along the innermost dimension each run is walked on its own; otherwise a block of neighbours goes along together.
 */
#include "dense.h"
#include "lanes.h"

enum { BLOCK = 128, RUNS = 4 };
typedef struct {
    const void *x;
    void *y;
    int64_t *at;
    int64_t outer, K, inner, base;
    bool back;                  /* from the end */
} walk;
#define KERNELS "place.inc"
#define INTEGERS
#include "reals.h"

typedef void range_fn(void *, int64_t, int64_t);
#define EACH(name) (range_fn *const[3]){name##_f32, name##_f64, name##_i64}

static bool run(const aj_call *c, range_fn *const f[3], aj_tensor *y, aj_tensor *at, bool back) {
    aj_tensor *x = c->in[0];
    int class = class_of_dtype(x->dtype);
    dense d[2] = {{0}};
    walk w = {.base = c->attrs->base, .back = back, .at = at ? (int64_t *)(void *)at->data : NULL};
    dense_split(x, c->attrs->dim, &w.outer, &w.K, &w.inner);
    bool ok = dense_in(&d[0], x, class) && dense_place(&d[1], y, class);
    w.x = d[0].p;
    w.y = d[1].p;
    if (ok && x->numel) {
        int64_t blocks = (w.inner + BLOCK - 1) / BLOCK;
        aj_parallel(w.outer * blocks, 1 + (1 << 15) / (w.K * (w.inner < BLOCK ? w.inner : BLOCK)), f[class], &w);
    }
    ok = ok && dense_put(&d[1]);
    dense_free(d, 2);
    return ok;
}

bool KERNEL(argmax)(const aj_call *c) { return run(c, EACH(largest), NULL, c->out[0], false); }
bool KERNEL(argmin)(const aj_call *c) { return run(c, EACH(smallest), NULL, c->out[0], false); }
bool KERNEL(max_dim)(const aj_call *c) { return run(c, EACH(largest), c->out[0], c->out[1], false); }
bool KERNEL(min_dim)(const aj_call *c) { return run(c, EACH(smallest), c->out[0], c->out[1], false); }
bool KERNEL(cumsum)(const aj_call *c) { return run(c, EACH(sums), c->out[0], NULL, false); }
bool KERNEL(cumsum_from_end)(const aj_call *c) { return run(c, EACH(sums), c->out[0], NULL, true); }
bool KERNEL(cumprod)(const aj_call *c) { return run(c, EACH(products), c->out[0], NULL, false); }
