// blas.cpp - cuBLASLt of the stand-in: by plain loops what the library documents, and refused what it does not take.
//
// Three algorithms are proposed: 0 for operands aligned to 16 bytes, 1 for all, 2 with a workspace, which it fills. One that
// is given for another product than it was proposed for is refused, as is an operand aligned less than was promised.
#include <cublasLt.h>
#include <vector>

struct cublasLtContext { int device; };

namespace {
struct layout { int64_t type, rows, cols, ld, batches, stride; };
struct desc { int64_t compute, scale; int32_t ta, tb, epilogue, zero; const void *bias; void *aux; int64_t aux_ld; };
struct preference { uint64_t workspace; uint32_t a, b, c, d; };
static_assert(sizeof(layout) <= sizeof(cublasLtMatrixLayoutOpaque_t) && sizeof(desc) <= sizeof(cublasLtMatmulDescOpaque_t), "they lie in the opaque structs");

template <typename T, typename O> T &in(O *opaque) { return *(T *)(void *)opaque; }
template <typename T> T value(const void *p, size_t size, bool *ok) {
    T v = {};
    if (size != sizeof v) *ok = false;
    else memcpy(&v, p, sizeof v);
    return v;
}

int bytes_of(int64_t type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }
double get(const void *p, int64_t type, int64_t i) {
    switch (type) {
    case CUDA_R_64F: return ((const double *)p)[i];
    case CUDA_R_32F: return (double)((const float *)p)[i];
    case CUDA_R_16F: return (double)__half2float(((const __half *)p)[i]);
    default: return (double)__bfloat162float(((const __nv_bfloat16 *)p)[i]);
    }
}
void put(void *p, int64_t type, int64_t i, double v) {
    switch (type) {
    case CUDA_R_64F: ((double *)p)[i] = v; break;
    case CUDA_R_32F: ((float *)p)[i] = (float)v; break;
    case CUDA_R_16F: ((__half *)p)[i] = __float2half_rn((float)v); break;
    default: ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn((float)v);
    }
}
double to_tf32(double v) {
    float f = (float)v;
    uint32_t u;
    memcpy(&u, &f, 4);
    u = (u + 0xfff + (u >> 13 & 1)) & ~0x1fffu;
    memcpy(&f, &u, 4);
    return (double)f;
}

struct sizes { int64_t M, N, K, batches; };
bool fits(const desc &d, const layout &a, const layout &b, const layout &c, sizes *s) {
    *s = {d.ta ? a.cols : a.rows, d.tb ? b.rows : b.cols, d.ta ? a.rows : a.cols, c.batches};
    if (a.type != b.type || a.type != c.type || (d.compute == CUBLAS_COMPUTE_64F) != (a.type == CUDA_R_64F)) return false;
    if (d.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a.type != CUDA_R_32F) return false;
    if (d.epilogue != CUBLASLT_EPILOGUE_DEFAULT && a.type == CUDA_R_64F) return false;
    for (const layout *l : {&a, &b, &c}) if (l->rows < 1 || l->cols < 1 || l->ld < l->rows || l->batches != s->batches || l->batches < 1) return false;
    return s->K == (d.tb ? b.cols : b.rows) && s->M == c.rows && s->N == c.cols;
}
uint64_t mark(const desc &d, const layout &a, const layout &b, const layout &c) {
    uint64_t h = 14695981039346656037u;
    for (uint64_t x : {(uint64_t)a.type, (uint64_t)d.compute, (uint64_t)d.ta, (uint64_t)d.tb, (uint64_t)d.epilogue, (uint64_t)c.rows, (uint64_t)c.cols, (uint64_t)(d.ta ? a.rows : a.cols),
                       (uint64_t)c.batches, (uint64_t)a.ld, (uint64_t)b.ld, (uint64_t)c.ld}) h = (h ^ x) * 1099511628211u;
    return h;
}
enum { ROOM = 4096 };
bool is_aligned(const void *p, int64_t to) { return (uintptr_t)p % (uintptr_t)to == 0; }
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = new cublasLtContext;
    cudaGetDevice(&(*handle)->device);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { delete handle; return CUBLAS_STATUS_SUCCESS; }
size_t cublasLtGetVersion() { return 130000; }
const char *cublasLtGetStatusString(cublasStatus_t s) {
    return s == CUBLAS_STATUS_INVALID_VALUE ? "invalid value" : s == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported" : s == CUBLAS_STATUS_SUCCESS ? "success" : "another error";
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld) {
    *l = new cublasLtMatrixLayoutOpaque_t();
    in<layout>(*l) = {type, (int64_t)rows, (int64_t)cols, ld, 1, 0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) { delete l; return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t attr, const void *p, size_t size) {
    bool ok = true;
    if (attr == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) in<layout>(l).batches = value<int32_t>(p, size, &ok);
    else in<layout>(l).stride = value<int64_t>(p, size, &ok);
    return ok ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale) {
    if ((compute == CUBLAS_COMPUTE_64F) != (scale == CUDA_R_64F)) return CUBLAS_STATUS_INVALID_VALUE;
    *d = new cublasLtMatmulDescOpaque_t();
    in<desc>(*d).compute = compute;
    in<desc>(*d).scale = scale;
    in<desc>(*d).epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) { delete d; return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t opaque, cublasLtMatmulDescAttributes_t attr, const void *p, size_t size) {
    bool ok = true;
    desc &d = in<desc>(opaque);
    switch (attr) {
    case CUBLASLT_MATMUL_DESC_TRANSA: d.ta = value<int32_t>(p, size, &ok); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: d.tb = value<int32_t>(p, size, &ok); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: d.epilogue = value<int32_t>(p, size, &ok); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: d.bias = value<const void *>(p, size, &ok); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: d.aux = value<void *>(p, size, &ok); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: d.aux_ld = value<int64_t>(p, size, &ok); break;
    }
    return ok ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p) {
    *p = new cublasLtMatmulPreferenceOpaque_t();
    in<preference>(*p) = {0, 256, 256, 256, 256};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) { delete p; return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t opaque, cublasLtMatmulPreferenceAttributes_t attr, const void *v, size_t size) {
    bool ok = true;
    preference &p = in<preference>(opaque);
    switch (attr) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: p.workspace = value<uint64_t>(v, size, &ok); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: p.a = value<uint32_t>(v, size, &ok); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: p.b = value<uint32_t>(v, size, &ok); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: p.c = value<uint32_t>(v, size, &ok); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: p.d = value<uint32_t>(v, size, &ok); break;
    }
    return ok ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t pref, int wanted, cublasLtMatmulHeuristicResult_t results[], int *found) {
    sizes s;
    preference &p = in<preference>(pref);
    *found = 0;
    if (!fits(in<desc>(d), in<layout>(a), in<layout>(b), in<layout>(c), &s)) return CUBLAS_STATUS_NOT_SUPPORTED;
    for (uint64_t i = 0; i < 3 && *found < wanted; i++) {
        if (i == 0 && (p.a < 16 || p.b < 16 || p.c < 16 || p.d < 16)) continue;
        if (i == 2 && p.workspace < ROOM) continue;
        cublasLtMatmulHeuristicResult_t &r = results[(*found)++];
        memset(&r, 0, sizeof r);
        r.algo.data[0] = i;
        r.algo.data[1] = mark(in<desc>(d), in<layout>(a), in<layout>(b), in<layout>(c));
        r.workspaceSize = i == 2 ? ROOM : 0;
    }
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *r) {
    sizes s;
    bool ok = fits(in<desc>(d), in<layout>(a), in<layout>(b), in<layout>(c), &s) && algo->data[0] < 3 && algo->data[1] == mark(in<desc>(d), in<layout>(a), in<layout>(b), in<layout>(c));
    r->workspaceSize = algo->data[0] == 2 ? ROOM : 0;
    return r->state = ok ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t opaque, const void *alpha_at, const void *A, cublasLtMatrixLayout_t la, const void *B, cublasLtMatrixLayout_t lb,
                              const void *beta_at, const void *C, cublasLtMatrixLayout_t lc, void *D, cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t *algo, void *workspace, size_t size,
                              cudaStream_t stream) {
    const desc d = in<desc>(opaque);
    const layout a = in<layout>(la), b = in<layout>(lb), c = in<layout>(lc), e = in<layout>(ld);
    cublasLtMatmulHeuristicResult_t r;
    int device;
    cudaGetDevice(&device);
    sizes s;
    if (device != handle->device || memcmp(&c, &e, sizeof c) || !fits(d, a, b, c, &s)) return CUBLAS_STATUS_INVALID_VALUE;
    if (algo && cublasLtMatmulAlgoCheck(handle, opaque, la, lb, lc, ld, algo, &r) != CUBLAS_STATUS_SUCCESS) return CUBLAS_STATUS_INVALID_VALUE;
    if (algo && (r.workspaceSize > size || (r.workspaceSize && !is_aligned(workspace, 16)))) return CUBLAS_STATUS_INVALID_VALUE;
    for (const void *p : {A, B, C, (const void *)D}) if (!is_aligned(p, algo && algo->data[0] == 0 ? 16 : bytes_of(a.type))) return CUBLAS_STATUS_INVALID_VALUE;
    if ((d.epilogue & CUBLASLT_EPILOGUE_BIAS) && !d.bias) return CUBLAS_STATUS_INVALID_VALUE;
    bool wide = d.scale == CUDA_R_64F, tf32 = d.compute == CUBLAS_COMPUTE_32F_FAST_TF32, fills = algo && algo->data[0] == 2;
    double alpha = wide ? *(const double *)alpha_at : (double)*(const float *)alpha_at, beta = wide ? *(const double *)beta_at : (double)*(const float *)beta_at;
    standin::enqueue(stream, [=] {
        if (fills) memset(workspace, 0xee, ROOM);
        std::vector<double> row((size_t)s.K);
        for (int64_t z = 0; z < s.batches; z++)
            for (int64_t m = 0; m < s.M; m++) {
                for (int64_t k = 0; k < s.K; k++) {
                    double v = get(A, a.type, z * a.stride + (d.ta ? k + m * a.ld : m + k * a.ld));
                    row[(size_t)k] = tf32 ? to_tf32(v) : v;
                }
                for (int64_t n = 0; n < s.N; n++) {
                    double sum = 0;
                    for (int64_t k = 0; k < s.K; k++) {
                        double v = get(B, b.type, z * b.stride + (d.tb ? n + k * b.ld : k + n * b.ld));
                        sum += row[(size_t)k] * (tf32 ? to_tf32(v) : v);
                    }
                    int64_t at = z * c.stride + m + n * c.ld;
                    double v = alpha * sum + (beta != 0 ? beta * get(C, c.type, at) : 0);
                    if (d.epilogue & CUBLASLT_EPILOGUE_BIAS) v += get(d.bias, c.type, m);
                    put(D, c.type, at, v);
                }
            }
    });
    return CUBLAS_STATUS_SUCCESS;
}
