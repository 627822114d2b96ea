// rtc.h - NVRTC, the compiler of kernels at run time.
#pragma once
#include "library.h"
#include <nvrtc.h>

namespace cuda {

struct rtc_library : library {
    rtc_library() : library("NVRTC", {AJ_SONAME("libnvrtc", "13", "12")}, "libnvrtc of the CUDA toolkit, or nvidia-cuda-nvrtc", "chains of elementwise ops are not fused") {}
    symbol<decltype(nvrtcVersion)> version{this, "nvrtcVersion"};
    symbol<decltype(nvrtcGetErrorString)> error_string{this, "nvrtcGetErrorString"};
    symbol<decltype(nvrtcCreateProgram)> create{this, "nvrtcCreateProgram"};
    symbol<decltype(nvrtcDestroyProgram)> destroy{this, "nvrtcDestroyProgram"};
    symbol<decltype(nvrtcCompileProgram)> compile{this, "nvrtcCompileProgram"};
    symbol<decltype(nvrtcGetProgramLogSize)> log_size{this, "nvrtcGetProgramLogSize"};
    symbol<decltype(nvrtcGetProgramLog)> log{this, "nvrtcGetProgramLog"};
    symbol<decltype(nvrtcGetCUBINSize)> cubin_size{this, "nvrtcGetCUBINSize"};
    symbol<decltype(nvrtcGetCUBIN)> cubin{this, "nvrtcGetCUBIN"};
    void tell_version(char *to, size_t size) override {
        int major = 0, minor = 0;
        version(&major, &minor);
        number(to, size, major, minor, 0);
    }
};
inline rtc_library rtc;

}
