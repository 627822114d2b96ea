// library.h - the libraries of the CUDA toolkit that kernels of this folder call: found at run time, each when it is first
// asked for, so that aijit needs none of them to be built, to start, or to run what they do not do.
//
// A library is a class with its names and the functions that are called of it. All that it takes, for cuRAND say:
//
//     // curand.h
//     #pragma once
//     #include "library.h"
//     #include <curand.h>                               // the toolkit's, or where it has none include/curand.h of this folder
//     namespace cuda {
//     struct curand_library : library {
//         curand_library() : library("cuRAND", {"libcurand.so.10"}, "libcurand-13-0, or nvidia-curand", "there is no faster uniform") {}
//         symbol<decltype(curandCreateGenerator)> create{this, "curandCreateGenerator"};
//         symbol<decltype(curandGetVersion)> get_version{this, "curandGetVersion"};
//         void tell_version(char *to, size_t size) override { int v = 0; get_version(&v); number(to, size, v / 1000, v / 100 % 10, v % 100); }
//     };
//     inline curand_library curand;
//     }
//
// and where it is used, either of
//
//     if (curand.here()) return fast(c);                // with a kernel of our own as the other way
//     if (!curand.need(aj_op_name(c->op))) return false;      // without one: the error says what was looked for and what to do
//
// after which `curand.create(&g)` is the library's own function. All of this is for any thread.
//
// The folder include/ has the declarations that we use of each library, by its documentation: with them a build needs no
// header of cuDNN or NCCL, and the stand-in for CUDA (spec/support/cuda) needs no toolkit. Compilers read them only where the
// library's own header is absent, and spec/cuda_build_spec.lua compares the two. The stand-in's libraries are shared objects of
// the true names, made by its CMakeLists.txt from one file each, which are found in the same way as the true ones.
//
// AIJIT_CUDA_LIBRARIES   folders to look in, instead of the toolkit's and the system's; an empty one is the system's own search
#pragma once
#include "device.h"
#include <initializer_list>
#include <mutex>
#include <string>
#include <vector>

// The number in a soname, which for most libraries changes with CUDA's major version.
#if CUDART_VERSION >= 13000
#define AJ_SONAME(name, of_13, of_12) name ".so." of_13
#else
#define AJ_SONAME(name, of_13, of_12) name ".so." of_12
#endif

namespace cuda {

class library {
  public:
    // install: the packages that have it; without: what is then missing or slower, a clause.
    library(const char *name, std::initializer_list<const char *> sonames, const char *install, const char *without);
    virtual ~library() = default;
    library(const library &) = delete;
    library &operator=(const library &) = delete;
    bool here();                                         // found, with all its symbols
    bool need(const char *who);                          // the same; false after aj_error
    bool describe(aj_device_library_t *out);
    const char *const name;
    static library *at(int i);                           // all of them by number; NULL after the last

  protected:
    virtual void tell_version(char *to, size_t size) = 0;      // of one that is here
    static void number(char *to, size_t size, int major, int minor, int patch);

  private:
    template <typename F> friend class symbol;
    void find();
    bool take(const std::string &path);
    std::once_flag once;
    const std::vector<const char *> sonames;
    const char *const install, *const without;
    std::vector<std::pair<const char *, void **>> symbols;
    std::string path, tried;                             // where it is; what was tried, for the error
    bool found = false;
};

// A function of a library, called by the object's name; only where the library is here.
template <typename F> class symbol;
template <typename R, typename... A> class symbol<R(A...)> {
  public:
    symbol(library *of, const char *name) { of->symbols.emplace_back(name, (void **)&function); }
    R operator()(A... a) const { return function(a...); }
    symbol(const symbol &) = delete;
    symbol &operator=(const symbol &) = delete;

  private:
    R (*function)(A...) = nullptr;
};

}
