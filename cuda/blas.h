// blas.h - cuBLASLt, the products of matrices of the CUDA toolkit.
#pragma once
#include "library.h"
#include <cublasLt.h>

namespace cuda {

struct blas_library : library {
    blas_library() : library("cuBLASLt", {AJ_SONAME("libcublasLt", "13", "12")}, "libcublas of the CUDA toolkit, or nvidia-cublas", "products of matrices use aijit's own kernel, which is slower") {}
    symbol<decltype(cublasLtCreate)> create{this, "cublasLtCreate"};
    symbol<decltype(cublasLtGetVersion)> get_version{this, "cublasLtGetVersion"};
    symbol<decltype(cublasLtGetStatusString)> status_string{this, "cublasLtGetStatusString"};
    symbol<decltype(cublasLtMatrixLayoutCreate)> layout_create{this, "cublasLtMatrixLayoutCreate"};
    symbol<decltype(cublasLtMatrixLayoutDestroy)> layout_destroy{this, "cublasLtMatrixLayoutDestroy"};
    symbol<decltype(cublasLtMatrixLayoutSetAttribute)> layout_set{this, "cublasLtMatrixLayoutSetAttribute"};
    symbol<decltype(cublasLtMatmulDescCreate)> desc_create{this, "cublasLtMatmulDescCreate"};
    symbol<decltype(cublasLtMatmulDescDestroy)> desc_destroy{this, "cublasLtMatmulDescDestroy"};
    symbol<decltype(cublasLtMatmulDescSetAttribute)> desc_set{this, "cublasLtMatmulDescSetAttribute"};
    symbol<decltype(cublasLtMatmulPreferenceCreate)> preference_create{this, "cublasLtMatmulPreferenceCreate"};
    symbol<decltype(cublasLtMatmulPreferenceDestroy)> preference_destroy{this, "cublasLtMatmulPreferenceDestroy"};
    symbol<decltype(cublasLtMatmulPreferenceSetAttribute)> preference_set{this, "cublasLtMatmulPreferenceSetAttribute"};
    symbol<decltype(cublasLtMatmulAlgoGetHeuristic)> heuristic{this, "cublasLtMatmulAlgoGetHeuristic"};
    symbol<decltype(cublasLtMatmulAlgoCheck)> algo_check{this, "cublasLtMatmulAlgoCheck"};
    symbol<decltype(cublasLtMatmul)> matmul{this, "cublasLtMatmul"};
    void tell_version(char *to, size_t size) override {
        int v = (int)get_version();
        number(to, size, v / 10000, v / 100 % 100, v % 100);
    }
};
inline blas_library blas;

// C = A B + bias, for each of a batch: A is M x K, B is K x N, C is M x N with neighbouring columns. Strides are in elements.
struct blas_matrix {
    const void *p;
    int64_t row, column, batch;
    bool oriented(int64_t rows, int64_t columns, bool *by_column, int64_t *leading) const;      // false: it lies in no order that cuBLASLt takes
};
struct blas_product {
    int32_t device, dtype;                               // one of floats
    int64_t batches, M, N, K;
    blas_matrix a, b;
    void *c;
    int64_t c_row, c_batch;
    const void *bias;                                    // N neighbours; NULL: none
};
enum blas_outcome { BLAS_DONE, BLAS_FAILED, BLAS_NOT_TAKEN };     // FAILED: after aj_error; NOT_TAKEN: the library is not here, or does not do it

// The algorithm is the library's first guess at first. A product of some size that comes again is timed with the several that
// it proposes, once; what was quickest is kept on disk. Nothing is timed when ai.deterministic() is on.
blas_outcome blas_multiply(work &w, const blas_product &p);

}
