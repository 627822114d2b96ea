/* gemm.c - which library makes a matrix product: oneDNN, OpenBLAS held to one thread, or the loops here.
 *
 * f32 and bf16 go to oneDNN; below a size that depends on how wide OpenBLAS's kernels are on this processor, and always
 * for f64, to OpenBLAS; the smallest, vectors and integers stay here. f16, and bf16 where the processor has none, are computed in f32.
 */
#include "gemm.h"
#include "onednn.h"
#include <cblas.h>
#include <string.h>

enum { LANES = 16 };
#if defined __AVX512F__
#define VECTOR 64
#elif defined __AVX__
#define VECTOR 32
#else
#define VECTOR 16
#endif
#define KERNELS "gemm.inc"
#include "reals.h"
#define KERNELS "small.inc"
#include "reals.h"

/* Whether stride pairs of a rows x cols operand suit a library, which wants one of them to be 1; on return they are
 * those of a matrix whose dimensions of size 1 do not mislead it. */
static bool suits(int64_t *s, int64_t rows, int64_t cols) {
    if (cols == 1 && rows == 1) { s[0] = s[1] = 1; return true; }
    if (rows == 1 && s[1] == 1) { s[0] = cols; return true; }
    if (cols == 1 && s[0] == 1) { s[1] = rows; return true; }
    if (rows == 1 && s[1] >= 1) { s[0] = 1; return true; }
    if (cols == 1 && s[0] >= 1) { s[1] = 1; return true; }
    return (s[1] == 1 && s[0] >= cols) || (s[0] == 1 && s[1] >= rows);
}

/* -- OpenBLAS ----------------------------------------------------------------------------------------------------------- */

enum { BLAS_ROWS = 256 };                                /* what a thread takes at a time; fixed, so that results do not depend on threads */

static void blas_rows(const gemm *g, int64_t lo, int64_t hi) {
    bool ta = g->sa[1] != 1, tb = g->sb[1] != 1;
    int M = (int)(hi - lo), N = (int)g->N, K = (int)g->K, lda = (int)g->sa[ta], ldb = (int)g->sb[tb], ldc = (int)g->ldc;
    if (lda < (ta ? M : K)) lda = ta ? M : K;            /* of one row or column: any will do */
    if (g->dtype == AJ_F32)
        cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, M, N, K, 1,
                    (const float *)g->a + lo * g->sa[0], lda, g->b, ldb, g->add || g->bias ? 1 : 0, (float *)g->c + lo * g->ldc, ldc);
    else
        cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, M, N, K, 1,
                    (const double *)g->a + lo * g->sa[0], lda, g->b, ldb, g->add || g->bias ? 1 : 0, (double *)g->c + lo * g->ldc, ldc);
}
static void blas_range(void *arg, int64_t lo, int64_t hi) {
    const gemm *g = arg;
    for (int64_t r = lo; r < hi; r++) blas_rows(g, r * BLAS_ROWS, (r + 1) * BLAS_ROWS < g->M ? (r + 1) * BLAS_ROWS : g->M);
}
static bool blas(const gemm *g) {
    if (g->bias) {
        size_t bytes = (size_t)(g->N * dtype_bytes[g->dtype]);
        for (int64_t r = 0; r < g->M; r++) memcpy((char *)g->c + r * g->ldc * dtype_bytes[g->dtype], g->bias, bytes);
    }
    int64_t blocks = (g->M + BLAS_ROWS - 1) / BLAS_ROWS;
    if (g->threads == 1 || blocks == 1) blas_range((void *)g, 0, blocks);
    else aj_parallel(blocks, 1 + 2000000 / (BLAS_ROWS * g->N * g->K), blas_range, (void *)g);
    return true;
}

extern char *openblas_get_corename(void);
/* Below so many multiplications OpenBLAS is the quicker one; where its kernels are narrower than oneDNN's, only where
 * it is oneDNN's 0.15 us of overhead that counts. Measured on Zen 4 and Zen 5. */
static int64_t small(void) {
    static int64_t known;                                /* every thread finds the same */
    int64_t limit = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (!limit) {
        const char *core = openblas_get_corename();
        bool wide = strstr(core, "Skylake") || strstr(core, "Cooper") || strstr(core, "Sapphire");
        limit = aj_onednn_lanes() == 16 && !wide ? 12000 : 300000;
        __atomic_store_n(&known, limit, __ATOMIC_RELAXED);
    }
    return limit;
}

/* -- Integers -------------------------------------------------------------------------------------------------------------- */

typedef struct { const int64_t *a, *b; char *c; int64_t N, K, ldc; int dtype; bool add; } int_work;
static void int_range(void *arg, int64_t lo, int64_t hi) {
    const int_work *w = arg;
    int64_t acc[CHUNK], old[CHUNK];
    int size = dtype_bytes[w->dtype];
    for (int64_t i = lo; i < hi; i++)
        for (int64_t j = 0; j < w->N; j += CHUNK) {
            int64_t n = w->N - j < CHUNK ? w->N - j : CHUNK;
            memset(acc, 0, sizeof acc);
            for (int64_t k = 0; k < w->K; k++) {
                uint64_t a = (uint64_t)w->a[i * w->K + k];           /* wraps, and unsigned may */
                const int64_t *b = w->b + k * w->N + j;
                for (int64_t r = 0; r < n; r++) acc[r] = (int64_t)((uint64_t)acc[r] + a * (uint64_t)b[r]);
            }
            char *to = w->c + (i * w->ldc + j) * size;
            if (w->add) {
                aj_load(CLASS_I64, w->dtype)(old, to, 1, n);
                for (int64_t r = 0; r < n; r++) acc[r] = (int64_t)((uint64_t)acc[r] + (uint64_t)old[r]);
            }
            aj_store(CLASS_I64, w->dtype)(to, 1, acc, n);
        }
}

/* rows x cols of any dtype and strides, dense in a class. */
static void gather(int class, void *to, int dtype, const void *from, const int64_t *s, int64_t rows, int64_t cols) {
    int bytes = dtype_bytes[dtype_of_class[class]];
    for (int64_t r = 0; r < rows; r++)
        aj_load(class, dtype)((char *)to + r * cols * bytes, (const char *)from + r * s[0] * dtype_bytes[dtype], s[1], cols);
}

static bool integers(const gemm *g) {
    int64_t *a = aj_scratch(8 * (g->M * g->K + g->K * g->N)), *b = a ? a + g->M * g->K : NULL;
    if (!a) return false;
    gather(CLASS_I64, a, g->dtype, g->a, g->sa, g->M, g->K);
    gather(CLASS_I64, b, g->dtype, g->b, g->sb, g->K, g->N);
    int_work w = {a, b, g->c, g->N, g->K, g->ldc, g->dtype, g->add};
    if (g->threads == 1) int_range(&w, 0, g->M);
    else aj_parallel(g->M, 1 + 100000 / (g->N * g->K + 1), int_range, &w);
    if (g->bias) {
        int64_t x[CHUNK], y[CHUNK];
        for (int64_t i = 0; i < g->M; i++)
            for (int64_t j = 0; j < g->N; j += CHUNK) {
                int64_t n = g->N - j < CHUNK ? g->N - j : CHUNK;
                char *to = (char *)g->c + (i * g->ldc + j) * dtype_bytes[g->dtype];
                aj_load(CLASS_I64, g->dtype)(x, to, 1, n);
                aj_load(CLASS_I64, g->dtype)(y, (const char *)g->bias + j * dtype_bytes[g->dtype], 1, n);
                for (int64_t r = 0; r < n; r++) x[r] = (int64_t)((uint64_t)x[r] + (uint64_t)y[r]);
                aj_store(CLASS_I64, g->dtype)(to, 1, x, n);
            }
    }
    aj_scratch_free(a);
    return true;
}

/* -- Halves, by way of f32 ------------------------------------------------------------------------------------------------- */

static bool halves(const gemm *g) {
    int64_t n = g->M * g->K + g->K * g->N + g->M * g->N + g->N;
    float *a = aj_scratch(4 * n);
    if (!a) return false;
    float *b = a + g->M * g->K, *c = b + g->K * g->N, *bias = c + g->M * g->N;
    gather(CLASS_F32, a, g->dtype, g->a, g->sa, g->M, g->K);
    gather(CLASS_F32, b, g->dtype, g->b, g->sb, g->K, g->N);
    if (g->add) gather(CLASS_F32, c, g->dtype, g->c, (int64_t[]){g->ldc, 1}, g->M, g->N);
    if (g->bias) aj_load(CLASS_F32, g->dtype)(bias, g->bias, 1, g->N);
    gemm f = *g;
    f.dtype = AJ_F32;
    f.a = a; f.b = b; f.c = c; f.bias = g->bias ? bias : NULL;
    f.sa[0] = g->K; f.sb[0] = f.ldc = g->N; f.sa[1] = f.sb[1] = 1;
    bool ok = KERNEL(gemm)(&f);
    for (int64_t r = 0; r < g->M && ok; r++)
        aj_store(CLASS_F32, g->dtype)((char *)g->c + r * g->ldc * dtype_bytes[g->dtype], 1, c + r * g->N, g->N);
    aj_scratch_free(a);
    return ok;
}

/* -- The choice -------------------------------------------------------------------------------------------------------------- */

static void only_bias(const gemm *g) {
    int size = dtype_bytes[g->dtype];
    for (int64_t r = 0; r < g->M; r++) {
        char *to = (char *)g->c + r * g->ldc * size;
        if (g->bias) memcpy(to, g->bias, (size_t)(g->N * size));
        else if (!g->add) memset(to, 0, (size_t)(g->N * size));
    }
}

/* An operand that suits no library is copied. */
static void *copied(const gemm *g, const void *from, int64_t *s, int64_t rows, int64_t cols) {
    int class = g->dtype == AJ_F64 ? CLASS_F64 : CLASS_F32;
    void *to = aj_scratch(rows * cols * dtype_bytes[g->dtype]);
    if (!to) return NULL;
    if (g->dtype == AJ_F32 || g->dtype == AJ_F64) gather(class, to, g->dtype, from, s, rows, cols);
    else
        for (int64_t r = 0; r < rows; r++)
            for (int64_t k = 0; k < cols; k++) ((uint16_t *)to)[r * cols + k] = ((const uint16_t *)from)[r * s[0] + k * s[1]];
    s[0] = cols; s[1] = 1;
    return to;
}

/* Small products stay here: a call of a library takes 0.1 to 0.2 us, which is what they take. */
static bool stays(const gemm *g) {
    enum { WIDE = VECTOR == 64 ? 270000 : 40000, NARROW = 4096 };    /* beyond, a library's packing pays */
    return g->sb[1] == 1 && g->N >= 4 && !g->add && g->K * g->N <= 1 << 14 && g->M * g->N * g->K <= (g->N < 16 ? NARROW : WIDE);
}

/* A large product by oneDNN in blocks of rows or columns, each on one thread. */
enum { BLOCK = 128 };
typedef struct { aj_product whole; int64_t size, blocks; bool by_rows; int outcome; } split;
static void blocks_range(void *arg, int64_t lo, int64_t hi) {
    split *s = arg;
    aj_product p = s->whole;
    int64_t first = s->size * lo / s->blocks, n = s->size * hi / s->blocks - first, bytes = dtype_bytes[p.dtype];
    if (s->by_rows) {
        p.M = n;
        p.a = (const char *)p.a + first * p.sa[0] * bytes;
        p.c = (char *)p.c + first * p.ldc * bytes;
    } else {
        p.N = n;
        p.b = (const char *)p.b + first * p.sb[1] * bytes;
        p.c = (char *)p.c + first * bytes;
        if (p.bias) p.bias = (const char *)p.bias + first * bytes;
    }
    int r = aj_onednn_matmul(&p);
    if (r != AJ_ONEDNN_DONE) __atomic_store_n(&s->outcome, r, __ATOMIC_RELAXED);
}
static int by_onednn(const gemm *g) {
    if (g->add || !aj_onednn_has(g->dtype)) return AJ_ONEDNN_NOT;
    split s = {.whole = {g->dtype, 1, g->M, g->N, g->K, g->a, g->b, g->bias, g->c, {g->sa[0], g->sa[1]}, {g->sb[0], g->sb[1]}, g->ldc},
               .by_rows = g->M >= g->N, .outcome = AJ_ONEDNN_DONE};
    int threads = g->threads ? g->threads : (double)g->M * (double)g->N * (double)g->K < 1e7 ? 1 : aj_threads();
    s.size = s.by_rows ? g->M : g->N;
    s.blocks = threads < 2 || aj_in_parallel() ? 1 : s.size / BLOCK > threads ? s.size / BLOCK : s.size / 16 < threads ? s.size / 16 : threads;
    if (s.blocks > 1) aj_parallel(s.blocks, 1, blocks_range, &s);
    else { s.blocks = 1; blocks_range(&s, 0, 1); }
    if (s.outcome == AJ_ONEDNN_FAILED) aj_error("matmul: out of memory, or oneDNN failed");
    return s.outcome;
}

static bool dense(gemm *g) {
    if ((g->M == 1 || g->N == 1) && g->dtype == AJ_F32) return vector_product_f32(g);
    if ((g->M == 1 || g->N == 1) && g->dtype == AJ_F64) return vector_product_f64(g);
    if (g->dtype == AJ_F32 && stays(g)) { small_product_f32(g); return true; }
    if (g->dtype == AJ_F64 && stays(g)) { small_product_f64(g); return true; }
    if (g->dtype == AJ_F64 || (g->dtype == AJ_F32 && (g->add || g->M * g->N * g->K < small()))) return blas(g);
    int r = by_onednn(g);
    if (r == AJ_ONEDNN_NOT) return g->dtype == AJ_F32 ? blas(g) : halves(g);
    return r == AJ_ONEDNN_DONE;
}

bool KERNEL(gemm)(const gemm *given) {
    gemm g = *given;
    if (g.M == 0 || g.N == 0) return true;
    if (g.K == 0) { only_bias(&g); return true; }
    if (!aj_is_float(g.dtype)) return integers(&g);
    if (g.dtype == AJ_F16) return halves(&g);
    if (g.dtype != AJ_BF16 && (g.M == 1 || g.N == 1)) {  /* one stride of the matrix must be 1; the vector's may be any */
        bool row = g.M == 1;
        const int64_t *s = row ? g.sb : g.sa;
        if (s[0] == 1 || s[1] == 1) return dense(&g);
    }
    void *a = NULL, *b = NULL;
    if (!suits(g.sa, g.M, g.K)) {
        if (!(a = copied(&g, g.a, g.sa, g.M, g.K))) return false;
        g.a = a;
    }
    if (!suits(g.sb, g.K, g.N)) {
        if (!(b = copied(&g, g.b, g.sb, g.K, g.N))) { aj_scratch_free(a); return false; }
        g.b = b;
    }
    bool ok = dense(&g);
    aj_scratch_free(a);
    aj_scratch_free(b);
    return ok;
}
