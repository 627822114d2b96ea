// rtc.cpp - NVRTC of the stand-in: a program is compiled for the host, by the C++ compiler that built this, and its code is a
// shared object, which the stand-in's driver loads. A kernel `f` has one argument, a struct f_args.
//
// AIJIT_STANDIN_NVRTC         a true NVRTC, libnvrtc.so, that compiles each program too and has to accept it
// AIJIT_STANDIN_NVRTC_TIMES   says how long that took
#include <nvrtc.h>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <dlfcn.h>
#include <fstream>
#include <sstream>
#include <string>
#include <unistd.h>

struct _nvrtcProgram { std::string source, code, log; };

namespace {
// What NVRTC knows by itself.
const char before[] = R"(
#include <math.h>
#include <stdint.h>
struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
namespace standin {
struct place { uint3 thread, block; dim3 threads, blocks; };
extern place now;
void sync_block();
void sync_warp(unsigned mask);
unsigned lane();
uint64_t *slots();
}
#define threadIdx (standin::now.thread)
#define blockIdx (standin::now.block)
#define blockDim (standin::now.threads)
#define gridDim (standin::now.blocks)
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
inline void __syncthreads() { standin::sync_block(); }
inline void __syncwarp() { standin::sync_warp(0xffffffffu); }
template <typename T> T __shfl_xor_sync(unsigned mask, T v, int with) {
    union { uint64_t bits; T value; } mine = {0}, its;
    mine.value = v;
    unsigned lane = standin::lane();
    standin::slots()[lane] = mine.bits;
    uint64_t *slot = standin::slots();
    standin::sync_warp(mask);
    its.bits = slot[(lane ^ (unsigned)with) % 32];
    return its.value;
}
inline unsigned bits_of(float v) { unsigned u; __builtin_memcpy(&u, &v, 4); return u; }
inline float of_bits(unsigned u) { float v; __builtin_memcpy(&v, &u, 4); return v; }
uint16_t standin_half_bits(float v);
float standin_half_value(uint16_t v);
#define half_bits standin_half_bits
#define half_value standin_half_value
)";
const char after[] = "extern \"C\" unsigned long fused_size() { return sizeof(row::fused_args); }\nextern \"C\" void fused_call(const void *p) { row::fused(*(const row::fused_args *)p); }\n";

std::string read(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream all;
    all << file.rdbuf();
    return all.str();
}

// The true compiler's word on a program; "" where it is content.
std::string truly(const std::string &source, const char *arch, const char *path) {
    static void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return std::string("the true NVRTC cannot be loaded: ") + dlerror();
    auto create = (decltype(&nvrtcCreateProgram))dlsym(library, "nvrtcCreateProgram");
    auto compile = (decltype(&nvrtcCompileProgram))dlsym(library, "nvrtcCompileProgram");
    auto destroy = (decltype(&nvrtcDestroyProgram))dlsym(library, "nvrtcDestroyProgram");
    auto log_size = (decltype(&nvrtcGetProgramLogSize))dlsym(library, "nvrtcGetProgramLogSize");
    auto log = (decltype(&nvrtcGetProgramLog))dlsym(library, "nvrtcGetProgramLog");
    nvrtcProgram p;
    std::string what;
    std::clock_t start = std::clock();
    if (create(&p, source.c_str(), "fused.cu", 0, nullptr, nullptr) != NVRTC_SUCCESS) return "the true NVRTC takes no program";
    const char *options[] = {arch, "--std=c++17"};
    nvrtcResult e = compile(p, 2, options);
    double ms = 1e3 * (double)(std::clock() - start) / CLOCKS_PER_SEC;
    size_t n = 0;
    log_size(p, &n);
    what.resize(n + 1);
    log(p, &what[0]);
    destroy(&p);
    if (getenv("AIJIT_STANDIN_NVRTC_TIMES")) fprintf(stderr, "NVRTC: %.1f ms of a processor\n", ms);
    what = what.c_str();
    return e == NVRTC_SUCCESS ? "" : "the true NVRTC: " + what;
}
}

const char *nvrtcGetErrorString(nvrtcResult) { return "an error of the stand-in's NVRTC"; }
nvrtcResult nvrtcVersion(int *major, int *minor) {
    *major = 13;
    *minor = 0;
    return NVRTC_SUCCESS;
}
nvrtcResult nvrtcCreateProgram(nvrtcProgram *program, const char *source, const char *, int, const char *const *, const char *const *) {
    *program = new _nvrtcProgram{source, "", ""};
    return NVRTC_SUCCESS;
}
nvrtcResult nvrtcDestroyProgram(nvrtcProgram *program) {
    delete *program;
    *program = nullptr;
    return NVRTC_SUCCESS;
}
nvrtcResult nvrtcCompileProgram(nvrtcProgram p, int options, const char *const *option) {
    const char *real = getenv("AIJIT_STANDIN_NVRTC");
    if (real && options > 0 && !(p->log = truly(p->source, option[0], real)).empty()) return NVRTC_ERROR_COMPILATION;
    char folder[] = "/tmp/aijit-standin-XXXXXX";
    if (!mkdtemp(folder)) return NVRTC_ERROR_OUT_OF_MEMORY;
    const std::string at = folder;
    std::ofstream(at + "/fused.cpp") << before << p->source << after;
    // Its symbols of the stand-in are found when it is loaded.
    int status = system((STANDIN_COMPILER " -std=c++17 -O1 -w -fPIC -shared -nostdlib -fno-exceptions -fno-rtti -fno-strict-aliasing -fwrapv -ffp-contract=off -o " +
                         at + "/fused.so " + at + "/fused.cpp >" + at + "/log 2>&1").c_str());
    p->log = read(at + "/log");
    p->code = status == 0 ? read(at + "/fused.so") : "";
    for (const char *name : {"/fused.cpp", "/fused.so", "/log"}) remove((at + name).c_str());
    rmdir(folder);
    return status == 0 ? NVRTC_SUCCESS : NVRTC_ERROR_COMPILATION;
}
nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram p, size_t *size) { *size = p->log.size() + 1; return NVRTC_SUCCESS; }
nvrtcResult nvrtcGetProgramLog(nvrtcProgram p, char *log) { p->log.copy(log, p->log.size()); log[p->log.size()] = 0; return NVRTC_SUCCESS; }
nvrtcResult nvrtcGetCUBINSize(nvrtcProgram p, size_t *size) { *size = p->code.size(); return NVRTC_SUCCESS; }
nvrtcResult nvrtcGetCUBIN(nvrtcProgram p, char *code) { p->code.copy(code, p->code.size()); return NVRTC_SUCCESS; }
