// dnn.h - cuDNN 9, the layers of neural networks.
#pragma once
#include "library.h"
#include <cudnn.h>

namespace cuda {

struct dnn_library : library {
    dnn_library() : library("cuDNN", {"libcudnn.so.9"}, "cudnn9, or nvidia-cudnn", "convolutions and attention use aijit's own kernels, which are slower") {}
    symbol<decltype(cudnnGetVersion)> get_version{this, "cudnnGetVersion"};
    symbol<decltype(cudnnGetErrorString)> error_string{this, "cudnnGetErrorString"};
    void tell_version(char *to, size_t size) override {
        int v = (int)get_version();
        number(to, size, v / 10000, v / 100 % 100, v % 100);
    }
};
inline dnn_library dnn;

}
