// driver.cpp - the driver's functions that kernels made at run time need: modules are shared objects, by rtc.cpp.
#include <cuda_runtime.h>
#include <cstdlib>
#include <dlfcn.h>
#include <elf.h>
#include <string>
#include <unistd.h>
#include <vector>

__attribute__((visibility("default"))) uint16_t standin_half_bits(float v) { return __float2half_rn(v).bits; }
__attribute__((visibility("default"))) float standin_half_value(uint16_t v) { return __half2float({v}); }

namespace {
enum { SUCCESS = 0, INVALID_VALUE = 1, INVALID_IMAGE = 200, NOT_FOUND = 500 };
struct function { unsigned long size; void (*call)(const void *); };

// As long as the section headers at its end say.
size_t length(const void *image) {
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)image;
    return memcmp(h->e_ident, ELFMAG, SELFMAG) ? 0 : h->e_shoff + (size_t)h->e_shentsize * h->e_shnum;
}
int load(void **module, const void *image) {
    static const bool shown = [] {                       // to modules: this library's names
        Dl_info here;
        return dladdr((void *)standin_half_bits, &here) && dlopen(here.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
    }();
    if (!shown) return NOT_FOUND;
    size_t n = length(image);
    char path[] = "/tmp/aijit-standin-XXXXXX";           // a new name for each: the loader knows a module by it
    int file = n ? mkstemp(path) : -1;
    if (file < 0) return INVALID_IMAGE;
    *module = write(file, image, n) == (ssize_t)n ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    close(file);
    unlink(path);
    return *module ? SUCCESS : INVALID_IMAGE;
}
int get(void **of, void *module, const char *name) {
    auto size = (unsigned long (*)())dlsym(module, (std::string(name) + "_size").c_str());
    auto call = (void (*)(const void *))dlsym(module, (std::string(name) + "_call").c_str());
    if (!size || !call) return NOT_FOUND;
    *of = new function{size(), call};
    return SUCCESS;
}
int launch_kernel(void *of, unsigned gx, unsigned gy, unsigned gz, unsigned x, unsigned y, unsigned z, unsigned, cudaStream_t s, void **arguments, void **) {
    const function *f = (const function *)of;
    std::vector<char> copy((const char *)arguments[0], (const char *)arguments[0] + f->size);
    auto call = f->call;
    standin::enqueue(s, dim3(gx, gy, gz), dim3(x, y, z), true, [=] { call(copy.data()); });
    return cudaGetLastError() == cudaSuccess ? SUCCESS : INVALID_VALUE;
}
int error_name(int error, const char **name) {
    *name = error == INVALID_IMAGE ? "CUDA_ERROR_INVALID_IMAGE" : error == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND" : "CUDA_ERROR_INVALID_VALUE";
    return SUCCESS;
}
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **of, unsigned, unsigned long long, cudaDriverEntryPointQueryResult *how) {
    const std::string name = symbol;
    *of = name == "cuModuleLoadData" ? (void *)load : name == "cuModuleGetFunction" ? (void *)get : name == "cuLaunchKernel" ? (void *)launch_kernel : name == "cuGetErrorName" ? (void *)error_name : nullptr;
    *how = *of ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}
