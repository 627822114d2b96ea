// blas.h - cuBLASLt, the products of matrices of the CUDA toolkit.
#pragma once
#include "library.h"
#include <cublasLt.h>

namespace cuda {

struct blas_library : library {
    blas_library() : library("cuBLASLt", {AJ_SONAME("libcublasLt", "13", "12")}, "libcublas of the CUDA toolkit, or nvidia-cublas", "products of matrices use aijit's own kernel, which is slower") {}
    symbol<decltype(cublasLtCreate)> create{this, "cublasLtCreate"};
    symbol<decltype(cublasLtDestroy)> destroy{this, "cublasLtDestroy"};
    symbol<decltype(cublasLtGetVersion)> get_version{this, "cublasLtGetVersion"};
    symbol<decltype(cublasLtGetStatusString)> status_string{this, "cublasLtGetStatusString"};
    void tell_version(char *to, size_t size) override {
        int v = (int)get_version();
        number(to, size, v / 10000, v / 100 % 100, v % 100);
    }
};
inline blas_library blas;

}
