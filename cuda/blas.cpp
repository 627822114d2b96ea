// blas.cpp - products of matrices by cuBLASLt: what is known of each shape, and how its algorithm is chosen.
//
// cuBLASLt's matrices lie by columns, and ours by rows; so it is asked for the transposed product, C' = B' A', whose
// matrices lie by columns in the same memory.
#include "blas.h"
#include "cache.h"
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

namespace cuda {

bool blas_matrix::oriented(int64_t rows, int64_t columns, bool *by_column, int64_t *leading) const {
    if ((column == 1 || columns == 1) && (row >= columns || rows == 1)) {
        *by_column = false;
        *leading = rows == 1 && row < columns ? columns : row;
        return true;
    }
    if ((row == 1 || rows == 1) && (column >= rows || columns == 1)) {
        *by_column = true;
        *leading = columns == 1 && column < rows ? rows : column;
        return true;
    }
    return false;
}

namespace {
enum : int64_t { WORKSPACE = 32 << 20, WORTH_TIMING = 1 << 20 };
enum { CANDIDATES = 8, USES_BEFORE_TIMING = 2, ROUNDS = 3, MOST_PLANS = 8192 };

// All that a choice of algorithm depends on. Compared by bytes: no padding.
struct shape_key {
    int64_t batches, M, N, K, lda, ldb, ldc, sa, sb, sc;
    int32_t dtype, epilogue;
    int8_t ta, tb, tf32, aligned_a, aligned_b, aligned_c, deterministic, zero;
    bool operator==(const shape_key &o) const { return !memcmp(this, &o, sizeof o); }
};
static_assert(sizeof(shape_key) == 96, "padding would be compared");
struct hash_key {
    size_t operator()(const shape_key &k) const {        // FNV-1a by words
        uint64_t h = 0xcbf29ce484222325u, word[sizeof k / 8];
        memcpy(word, &k, sizeof k);
        for (uint64_t x : word) h = (h ^ x) * 0x100000001b3u, h ^= h >> 29;
        return (size_t)h;
    }
};

struct plan {
    cublasLtMatmulDesc_t desc = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;      // in cuBLASLt's order: a is our B
    cublasLtMatmulAlgo_t algo;
    size_t workspace = 0;
    int uses = 0;
    bool taken = false, settled = false;
    plan() = default;
    plan(const plan &) = delete;
    plan &operator=(const plan &) = delete;
    ~plan() {
        if (desc) blas.desc_destroy(desc);
        for (auto l : {a, b, c}) if (l) blas.layout_destroy(l);
    }
};

struct handle {
    std::once_flag once;
    cublasLtHandle_t lt = nullptr;
    cublasStatus_t state = CUBLAS_STATUS_SUCCESS;
    std::mutex lock;                                     // a plan's descriptor is written before each call
    std::unordered_map<shape_key, std::unique_ptr<plan>, hash_key> plans;
    std::unique_ptr<choices> chosen;
};
handle handles[MAX_DEVICES];

void open(handle &h, int32_t device) {
    h.state = blas.create(&h.lt);
    char version[32];
    cudaDeviceProp p;
    blas.tell_version(version, sizeof version);
    if (cudaGetDeviceProperties(&p, device) == cudaSuccess) h.chosen.reset(new choices(std::string("cublaslt-") + version + "-" + p.name));
}

cudaDataType type_of(int dtype) { return dtype == AJ_F16 ? CUDA_R_16F : dtype == AJ_BF16 ? CUDA_R_16BF : dtype == AJ_F64 ? CUDA_R_64F : CUDA_R_32F; }
int8_t alignment(const void *p) {                        // as a power of two, of which more than 256 bytes help nobody
    int8_t n = 0;
    while (n < 8 && !((uintptr_t)p >> n & 1)) n++;
    return n;
}

template <typename T> bool set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t which, T v) { return blas.desc_set(d, which, &v, sizeof v) == CUBLAS_STATUS_SUCCESS; }
template <typename T> bool set(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t which, T v) { return blas.preference_set(p, which, &v, sizeof v) == CUBLAS_STATUS_SUCCESS; }
bool layout(cublasLtMatrixLayout_t *l, cudaDataType type, int64_t rows, int64_t columns, int64_t leading, int64_t batches, int64_t stride) {
    int32_t count = (int32_t)batches;
    if (blas.layout_create(l, type, (uint64_t)rows, (uint64_t)columns, leading) != CUBLAS_STATUS_SUCCESS) return false;
    return batches == 1 || (blas.layout_set(*l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count) == CUBLAS_STATUS_SUCCESS &&
                            blas.layout_set(*l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride) == CUBLAS_STATUS_SUCCESS);
}

std::string text_of(const shape_key &k) {
    char s[320];
    snprintf(s, sizeof s, "%s%s e%d %lldx%lldx%lldx%lld %c%c %lld,%lld,%lld %lld,%lld,%lld %d%d%d", aj_dtype_name((aj_dtype)k.dtype), k.tf32 ? " tf32" : "", k.epilogue,
             (long long)k.batches, (long long)k.M, (long long)k.N, (long long)k.K, k.ta ? 't' : 'n', k.tb ? 't' : 'n', (long long)k.lda, (long long)k.ldb, (long long)k.ldc,
             (long long)k.sa, (long long)k.sb, (long long)k.sc, k.aligned_a, k.aligned_b, k.aligned_c);
    return s;
}
std::string text_of(const cublasLtMatmulAlgo_t &a) {
    std::string s;
    char word[20];
    for (uint64_t x : a.data) { snprintf(word, sizeof word, "%s%llx", s.empty() ? "" : " ", (unsigned long long)x); s += word; }
    return s;
}
bool read_algo(const std::string &s, cublasLtMatmulAlgo_t *a) {
    const char *p = s.c_str();
    for (uint64_t &x : a->data) {
        char *end;
        x = strtoull(p, &end, 16);
        if (end == p) return false;
        p = end;
    }
    return !*p;
}

// What the library proposes, quickest first by its own estimate.
int propose(const handle &h, const plan &n, const shape_key &k, int wanted, cublasLtMatmulHeuristicResult_t *result) {
    cublasLtMatmulPreference_t p;
    int found = 0;
    if (blas.preference_create(&p) != CUBLAS_STATUS_SUCCESS) return 0;
    bool ok = set(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)WORKSPACE) && set(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (uint32_t)1 << k.aligned_a) &&
              set(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, (uint32_t)1 << k.aligned_b) && set(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, (uint32_t)1 << k.aligned_c) &&
              set(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, (uint32_t)1 << k.aligned_c);
    if (!ok || blas.heuristic(h.lt, n.desc, n.a, n.b, n.c, n.c, p, wanted, result, &found) != CUBLAS_STATUS_SUCCESS) found = 0;
    blas.preference_destroy(p);
    int good = 0;
    for (int i = 0; i < found; i++) if (result[i].state == CUBLAS_STATUS_SUCCESS) result[good++] = result[i];
    return good;
}

std::unique_ptr<plan> make(const handle &h, const shape_key &k) {
    std::unique_ptr<plan> n(new plan);
    cudaDataType type = type_of(k.dtype);
    bool wide = k.dtype == AJ_F64;
    cublasComputeType_t compute = wide ? CUBLAS_COMPUTE_64F : k.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    bool ok = blas.desc_create(&n->desc, compute, wide ? CUDA_R_64F : CUDA_R_32F) == CUBLAS_STATUS_SUCCESS;
    ok = ok && set(n->desc, CUBLASLT_MATMUL_DESC_TRANSA, (int32_t)(k.ta ? CUBLAS_OP_T : CUBLAS_OP_N)) && set(n->desc, CUBLASLT_MATMUL_DESC_TRANSB, (int32_t)(k.tb ? CUBLAS_OP_T : CUBLAS_OP_N)) &&
         set(n->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, (int32_t)k.epilogue);
    ok = ok && layout(&n->a, type, k.ta ? k.K : k.N, k.ta ? k.N : k.K, k.lda, k.batches, k.sa) && layout(&n->b, type, k.tb ? k.M : k.K, k.tb ? k.K : k.M, k.ldb, k.batches, k.sb) &&
         layout(&n->c, type, k.N, k.M, k.ldc, k.batches, k.sc);
    if (!ok) return n;
    std::string kept;
    cublasLtMatmulHeuristicResult_t r;
    if (!k.deterministic && h.chosen && h.chosen->find(text_of(k), &kept) && read_algo(kept, &n->algo) &&
        blas.algo_check(h.lt, n->desc, n->a, n->b, n->c, n->c, &n->algo, &r) == CUBLAS_STATUS_SUCCESS && r.workspaceSize <= (size_t)WORKSPACE) {
        n->workspace = r.workspaceSize;
        n->taken = n->settled = true;
    } else if (propose(h, *n, k, 1, &r)) {
        n->algo = r.algo;
        n->workspace = r.workspaceSize;
        n->taken = true;
        n->settled = k.deterministic || k.batches * k.M * k.N * k.K < WORTH_TIMING;
    }
    return n;
}

struct operands { const void *a, *b; void *c; };
cublasStatus_t run(const handle &h, const plan &n, bool wide, const operands &o, const cublasLtMatmulAlgo_t &algo, void *room, size_t size, cudaStream_t stream) {
    const double one = 1, zero = 0;
    const float onef = 1, zerof = 0;
    return blas.matmul(h.lt, n.desc, wide ? (const void *)&one : &onef, o.a, n.a, o.b, n.b, wide ? (const void *)&zero : &zerof, o.c, n.c, o.c, n.c, &algo, room, size, stream);
}

// Replaces the plan's algorithm by the quickest of those proposed. Not while a graph is recorded, which nobody can wait for.
void choose(work &w, handle &h, plan &n, const shape_key &k, int32_t device, const operands &o) {
    cudaStreamCaptureStatus recording;
    if (cudaStreamIsCapturing(w.stream, &recording) != cudaSuccess || recording != cudaStreamCaptureStatusNone) return;
    n.settled = true;
    cublasLtMatmulHeuristicResult_t r[CANDIDATES];
    int count = propose(h, n, k, CANDIDATES, r), best = -1;
    size_t most = 0;
    for (int i = 0; i < count; i++) if (r[i].workspaceSize > most) most = r[i].workspaceSize;
    if (count < 2) return;
    scratch room(device, (int64_t)most);
    cudaEvent_t start, end;
    if (!room.p || cudaEventCreate(&start) != cudaSuccess) return;
    if (cudaEventCreate(&end) != cudaSuccess) { cudaEventDestroy(start); return; }
    float least = 0;
    for (int i = 0; i < count; i++) {
        float took = -1;
        for (int round = 0; round <= ROUNDS; round++) {  // the first loads the kernel
            float ms;
            cudaEventRecord(start, w.stream);
            if (run(h, n, k.dtype == AJ_F64, o, r[i].algo, room.p, r[i].workspaceSize, w.stream) != CUBLAS_STATUS_SUCCESS) { took = -1; break; }
            cudaEventRecord(end, w.stream);
            if (cudaEventSynchronize(end) != cudaSuccess || cudaEventElapsedTime(&ms, start, end) != cudaSuccess) { took = -1; break; }
            if (round && (took < 0 || ms < took)) took = ms;
        }
        if (took >= 0 && (best < 0 || took < least)) { best = i; least = took; }
    }
    cudaEventDestroy(start);
    cudaEventDestroy(end);
    if (best < 0) return;
    n.algo = r[best].algo;
    n.workspace = r[best].workspaceSize;
    if (h.chosen) h.chosen->keep(text_of(k), text_of(n.algo));
}
}

blas_outcome blas_multiply(work &w, const blas_product &p) {
    bool by_column_a, by_column_b;
    shape_key k = {};
    if (!blas.here() || !p.K || p.batches > INT32_MAX || p.a.batch < 0 || p.b.batch < 0 || !p.b.oriented(p.K, p.N, &by_column_b, &k.lda) || !p.a.oriented(p.M, p.K, &by_column_a, &k.ldb))
        return BLAS_NOT_TAKEN;
    handle &h = handles[p.device];
    std::call_once(h.once, open, std::ref(h), p.device);
    if (h.state != CUBLAS_STATUS_SUCCESS) { aj_error("%s: cuBLASLt does not start: %s", aj_op_name(w.op), blas.status_string(h.state)); return BLAS_FAILED; }
    k.batches = p.batches; k.M = p.M; k.N = p.N; k.K = p.K;
    k.ldc = p.c_row;
    k.sa = p.b.batch; k.sb = p.a.batch; k.sc = p.c_batch;
    k.dtype = p.dtype;
    k.epilogue = p.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    k.ta = by_column_b; k.tb = by_column_a;
    k.tf32 = p.dtype == AJ_F32 && aj_tf32();
    k.aligned_a = alignment(p.b.p); k.aligned_b = alignment(p.a.p); k.aligned_c = alignment(p.c);
    k.deterministic = aj_deterministic();
    const operands o = {p.b.p, p.a.p, p.c};

    std::lock_guard<std::mutex> guard(h.lock);
    if (h.plans.size() > MOST_PLANS) h.plans.clear();    // shapes without end: of a length that changes, say
    std::unique_ptr<plan> &n = h.plans[k];
    if (!n) n = make(h, k);
    if (!n->taken) return BLAS_NOT_TAKEN;
    if (p.bias && !set(n->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias)) { aj_error("%s: cuBLASLt does not take the bias", aj_op_name(w.op)); return BLAS_FAILED; }
    if (!n->settled && n->uses++ >= USES_BEFORE_TIMING) choose(w, h, *n, k, p.device, o);
    std::optional<scratch> room;
    if (n->workspace && !room.emplace(p.device, (int64_t)n->workspace).p) return BLAS_FAILED;
    cublasStatus_t s = run(h, *n, p.dtype == AJ_F64, o, n->algo, room ? room->p : nullptr, n->workspace, w.stream);
    if (s != CUBLAS_STATUS_SUCCESS) { aj_error("%s: cuBLASLt: %s", aj_op_name(w.op), blas.status_string(s)); return BLAS_FAILED; }
    return w.done() ? BLAS_DONE : BLAS_FAILED;
}

}
