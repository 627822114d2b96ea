// device.cpp - the devices there are, the table of their kernels, and the ways between their memory and the host's.
#include "library.h"
#include "graph.cuh"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

// A structured row has a kernel where a file of this folder defines one under its name; else its place is empty.
#define GIVEN(name) extern "C" aj_kernel name##_cuda; extern "C" aj_grad_kernel name##_grad0_cuda, name##_grad1_cuda;
#define MAYBE(name) extern "C" __attribute__((weak)) aj_kernel name##_cuda;
#define UNARY(name, ...) GIVEN(name)
#define UNARY_S(name, ...) GIVEN(name)
#define BINARY(name, ...) GIVEN(name)
#define BINARY_S(name, ...) GIVEN(name)
#define COMPARE(name, ...) GIVEN(name)
#define TEST(name, ...) GIVEN(name)
#define REDUCE(name, ...) GIVEN(name)
#define OP(name, ...) MAYBE(name)
#define OP_N(name, ...) MAYBE(name)
#define UPDATE(name, ...) MAYBE(name)
#define UPDATE_GRAD(name, ...) MAYBE(name)
#include "../core/ops.def"

namespace cuda {

namespace {
struct device {
    std::once_flag once;
    cudaError_t state = cudaSuccess;
    cudaStream_t stream = nullptr;
    fault *faults = nullptr;
    int processors = 0;
};
device devices[MAX_DEVICES];
int found;
bool debug;                                              // AIJIT_DEBUG: every op waits for its own work

void open(device &d, int32_t n) {
    cudaDeviceProp p;
    cudaError_t e = cudaSetDevice(n);
    if (e == cudaSuccess) e = cudaGetDeviceProperties(&p, n);
    if (e == cudaSuccess) e = cudaStreamCreateWithFlags(&d.stream, cudaStreamNonBlocking);
    if (e == cudaSuccess) e = cudaHostAlloc((void **)&d.faults, sizeof(fault), cudaHostAllocMapped | cudaHostAllocPortable);
    if (e == cudaSuccess) memset((void *)d.faults, 0, sizeof(fault));
    if (e == cudaSuccess) d.processors = p.multiProcessorCount;
    d.state = e;
}
device &current(int32_t n) {
    device &d = devices[n];
    std::call_once(d.once, open, std::ref(d), n);
    if (d.state == cudaSuccess) cudaSetDevice(n);
    return d;
}

bool synchronize(int32_t n) { return work("synchronize", n).wait(); }
bool describe(int32_t n, aj_device_t *out) {
    cudaDeviceProp p;
    size_t free = 0, total = 0;
    if (!check(current(n).state, "device") || !check(cudaGetDeviceProperties(&p, n), "device") || !check(cudaMemGetInfo(&free, &total), "device")) return false;
    snprintf(out->name, sizeof out->name, "%.95s", p.name);
    out->total = (int64_t)total;
    out->free = (int64_t)free;
    out->major = p.major;
    out->minor = p.minor;
    out->processors = p.multiProcessorCount;
    cudaRuntimeGetVersion(&out->runtime);
    cudaDriverGetVersion(&out->driver);
    return true;
}

bool tell_library(int32_t i, aj_device_library_t *out) {
    library *l = library::at(i);
    if (l) l->describe(out);
    return l;
}

bool write(int32_t n, void *to, const void *from, int64_t bytes) { return device_write(n, to, from, bytes); }

aj_device_calls calls = {0, describe, memory_take, memory_give, memory_stats, memory_reset_peak, memory_trim, device_read, write, update, synchronize, pin, unpin, is_pinned,
    ahead, join, tell_library, graphs, graph_capture, graph_captured, graph_launch, graph_free, fuses, fuse, fused_run, fused_free, derive};
aj_backend table;

void fill() {
    table.name = "CUDA";
    table.size = sizeof table;
    table.device = &calls;
#define KERNEL(name) table.forward[OP_##name] = name##_cuda;
#define UNARY(name, ...) KERNEL(name) table.grad[OP_##name][0] = name##_grad0_cuda;
#define UNARY_S(name, ...) UNARY(name)
#define BINARY(name, ...) KERNEL(name) table.grad[OP_##name][0] = name##_grad0_cuda; table.grad[OP_##name][1] = name##_grad1_cuda;
#define BINARY_S(name, ...) BINARY(name)
#define COMPARE(name, ...) KERNEL(name)
#define TEST(name, ...) KERNEL(name)
#define REDUCE(name, ...) KERNEL(name)
#define OP(name, ...) KERNEL(name)
#define OP_N(name, ...) KERNEL(name)
#define UPDATE(name, ...) KERNEL(name)
#define UPDATE_GRAD(name, ...) KERNEL(name)
#include "../core/ops.def"
#undef KERNEL
}
}

int device_count() { return found; }

bool check(cudaError_t e, const char *who) {
    if (e == cudaSuccess) return true;
    cudaGetLastError();                                  // an error that can be gone on from is not met again
    return aj_error("%s: CUDA: %s (%s)", who, cudaGetErrorString(e), cudaGetErrorName(e));
}

work::work(const char *name, int32_t n) : op(-1), who(name), device(n) {
    cuda::device &d = current(n);
    cudaStream_t captured = capture_stream(n);
    stream = captured ? captured : d.stream;
    faults = d.faults;
    processors = d.processors;
}
work::work(const aj_call *c) : work(aj_op_name(c->op), c->n_out && c->out[0] ? c->out[0]->device : c->in[0]->device) { op = c->op; }

bool work::done(cudaError_t e) {
    if (!check(devices[device].state, who) || !check(e, who) || !check(cudaGetLastError(), who)) return false;
    return !debug || capture_stream(device) || wait();
}
// A fault is told once; the device goes on as if it had not been.
bool work::wait() {
    if (!may_wait(who) || !check(devices[device].state, who) || !check(cudaStreamSynchronize(stream), who)) return false;
    if (*(volatile int32_t *)&faults->kind == FINE) return true;
    fault f = *faults;
    memset((void *)faults, 0, sizeof f);
    return tell(f, who);
}

scratch::scratch(int32_t n, int64_t bytes) : device(n) {
    int64_t size;
    p = memory_take(n, bytes, &size, &block);
}
scratch::~scratch() { if (p) memory_give(device, block); }

}

// What the driver says when it is not there, is too old, or shows no device.
extern "C" AJ_API const aj_backend *aijit_backend(char *why, size_t size);
extern "C" const aj_backend *aijit_backend(char *why, size_t size) {
    int runtime = 0, driver = 0, n = 0;
    cudaRuntimeGetVersion(&runtime);
    cudaDriverGetVersion(&driver);
    cudaError_t e = cudaGetDeviceCount(&n);
    cudaGetLastError();
    if (e == cudaErrorInsufficientDriver && driver == 0) {
        snprintf(why, size, "no NVIDIA driver was found (libcuda.so.1); install the driver of the graphics card");
        return nullptr;
    }
    if (e == cudaErrorInsufficientDriver) {
        snprintf(why, size, "the NVIDIA driver is too old: it can CUDA %d.%d, and this build needs %d.%d; install a newer driver, or build aijit with an older CUDA toolkit",
                 driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
        return nullptr;
    }
    if (e == cudaErrorNoDevice || (e == cudaSuccess && n == 0)) {
        const char *visible = getenv("CUDA_VISIBLE_DEVICES");
        snprintf(why, size, "the NVIDIA driver shows no device%s%.100s%s", visible ? " (CUDA_VISIBLE_DEVICES=\"" : "", visible ? visible : "", visible ? "\")" : "");
        return nullptr;
    }
    if (e != cudaSuccess) {
        snprintf(why, size, "CUDA does not start: %s (%s)", cudaGetErrorString(e), cudaGetErrorName(e));
        return nullptr;
    }
    cuda::found = n > cuda::MAX_DEVICES ? (int)cuda::MAX_DEVICES : n;
    cuda::calls.count = cuda::found;
    const char *s = getenv("AIJIT_DEBUG");
    cuda::debug = s && *s && strcmp(s, "0");
    cuda::fill();
    return &cuda::table;
}
