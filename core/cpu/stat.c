/* stat.c - variances, norms and logsumexp of rows, (M, K).
 *
 * A row is cut into parts of a fixed size, so that one long row is shared among threads and their number does not
 * change a bit of the outcome.
 */
#include "dense.h"
#include "vmath.h"
#include "stat.h"

enum { PART = 1 << 15 };
typedef struct {
    const void *x;
    void *y;
    int64_t M, K, parts;
    int width;                  /* numbers a part leaves */
    double *part, p;            /* p: of a norm; of a variance the correction */
    bool root;
} rows;

#define KERNELS "stat.inc"
#include "reals.h"

typedef void range_fn(void *, int64_t, int64_t);
enum { MOMENTS, NORM, LOGSUMEXP };

static bool run(const aj_call *c, int what, bool root) {
    aj_tensor *x = c->in[0], *y = c->out[0];
    int class = class_of_dtype(x->dtype);
    dense d[2] = {{0}};
    rows r = {.M = x->shape[0], .K = x->shape[1], .p = c->attrs->s, .root = root, .width = what == MOMENTS ? 2 : 1};
    r.parts = r.K > PART ? (r.K + PART - 1) / PART : 1;
    bool ok = dense_in(&d[0], x, class) && dense_place(&d[1], y, class);
    r.x = d[0].p;
    r.y = d[1].p;
    int64_t each = r.K < PART ? r.K : PART;
    bool f = class == CLASS_F32;
    if (ok && what == LOGSUMEXP) aj_parallel(r.M, 1 + (1 << 14) / (r.K + 1), f ? logsumexps_f32 : logsumexps_f64, &r);
    else if (ok && r.M && (ok = (r.part = aj_scratch(r.M * r.parts * r.width * 8)) != NULL)) {
        range_fn *parts = what == MOMENTS ? (f ? moments_of_parts_f32 : moments_of_parts_f64) : f ? norms_of_parts_f32 : norms_of_parts_f64;
        aj_parallel(r.M * r.parts, 1 + (1 << 16) / (each + 1), parts, &r);
        if (f) finish_f32(&r); else finish_f64(&r);
        aj_scratch_free(r.part);
    }
    ok = ok && dense_put(&d[1]);
    dense_free(d, 2);
    return ok;
}

bool KERNEL(var)(const aj_call *c) { return run(c, MOMENTS, false); }
bool KERNEL(std)(const aj_call *c) { return run(c, MOMENTS, true); }
bool KERNEL(norm)(const aj_call *c) { return run(c, NORM, false); }
bool KERNEL(logsumexp)(const aj_call *c) { return run(c, LOGSUMEXP, false); }
