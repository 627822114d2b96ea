// graph.cu - recordings as CUDA graphs. See aj_device_calls.
//
// A capture has a stream of its own, so that work of other threads goes on, and memory of its own: what a kernel takes for
// its work and gives back is the graph's as long as it is there, since each launch uses it again.
//
// AIJIT_CUDA_GRAPH=0   recordings are replayed kernel by kernel
#include "block.cuh"
#include "graph.cuh"
#include "launch.cuh"
#include <cstdlib>
#include <cstring>

namespace cuda {

struct graph {
    int32_t device;
    cudaStream_t stream = nullptr;                       // of the capture
    cudaGraphExec_t exec = nullptr;
    pool *memory = nullptr;
    void *block = nullptr;                               // of the numbers
    double *numbers = nullptr;
    int64_t n = 0;
};

namespace {
thread_local graph *capturing;

// -- What a launch begins and ends with

// As much as fits the 4096 bytes that a kernel's arguments may have on every CUDA.
enum { COPIES = 32, NUMBERS = 384 };
struct written {
    aj_copied copied[COPIES];
    double *to, number[NUMBERS];
    int32_t n_copied, n;
};
static_assert(sizeof(written) <= 4096, "a kernel's arguments have at most 4 KiB");

__device__ void copy_bytes(const aj_copied &c, int64_t first, int64_t step) {
    int64_t done = 0;
    if (((uintptr_t)c.from & 15) == 0 && ((uintptr_t)c.to & 15) == 0) {
        done = c.bytes / 16 * 16;
        for (int64_t i = first; i < c.bytes / 16; i += step) ((quad *)c.to)[i] = ((const quad *)c.from)[i];
    }
    for (int64_t i = done + first; i < c.bytes; i += step) ((char *)c.to)[i] = ((const char *)c.from)[i];
}
__global__ void __launch_bounds__(THREADS) write_kernel(const __grid_constant__ written w) {
    if (blockIdx.x == 0 && blockIdx.y == 0) for (int i = threadIdx.x; i < w.n; i += THREADS) w.to[i] = w.number[i];
    if ((int)blockIdx.y < w.n_copied) copy_bytes(w.copied[blockIdx.y], (int64_t)blockIdx.x * THREADS + threadIdx.x, (int64_t)gridDim.x * THREADS);
}

bool write(work &w, double *to, const double *number, int64_t n, const aj_copied *copied, int n_copied) {
    while (n > 0 || n_copied > 0) {
        written a;
        int64_t most = 1;
        a.n = (int32_t)(n < NUMBERS ? n : (int64_t)NUMBERS);
        a.to = to;
        if (a.n) memcpy(a.number, number, (size_t)a.n * sizeof *number);
        a.n_copied = n_copied < COPIES ? n_copied : (int)COPIES;
        for (int i = 0; i < a.n_copied; i++) {
            a.copied[i] = copied[i];
            if (copied[i].bytes > most) most = copied[i].bytes;
        }
        int64_t blocks = (most + 16 * THREADS - 1) / (16 * THREADS), limit = (int64_t)w.processors * 8;
        launch(write_kernel, dim3((unsigned)(blocks < limit ? blocks : limit), (unsigned)(a.n_copied ? a.n_copied : 1)), dim3(THREADS), w.stream, a);
        to += a.n; number += a.n; n -= a.n;
        copied += a.n_copied; n_copied -= a.n_copied;
    }
    return w.done();
}

__global__ void derive_kernel(int what, const double *total, double *number) {
    double a = total[0];
    number += (int64_t)blockIdx.x * AJ_UPDATE_NUMBERS;
    if (what == AJ_DERIVE_CLIP) {
        double p = number[2], norm = p == 2 ? sqrt(a) : p > 1.7e308 ? a : pow(a, 1 / p), scale = number[1] / (norm + 1e-6);
        number[0] = scale >= 1 ? 1 : scale;
    } else number[0] = 1 / fmax(sqrt(a), number[1]);
}

void close(graph *g) {
    if (g->exec) cudaGraphExecDestroy(g->exec);
    if (g->stream) cudaStreamDestroy(g->stream);
    if (g->memory) memory_close(g->memory);
    if (g->block) memory_give(g->device, g->block);
    delete g;
}
}

bool derive(int32_t device, int32_t n, int what, const double *total, double *number) {
    work w("optimizer", device);
    launch(derive_kernel, dim3((unsigned)n), dim3(1), w.stream, what, total, number);
    return w.done();
}

bool put_words(work &w, void *to, const void *words, int64_t n) { return write(w, (double *)to, (const double *)words, n, nullptr, 0); }

// -- What a capture changes for others

cudaStream_t capture_stream(int32_t device) { return capturing && capturing->device == device ? capturing->stream : nullptr; }
pool *capture_memory(int32_t device) { return capturing && capturing->device == device ? capturing->memory : nullptr; }
bool may_wait(const char *who) {
    return !capturing || aj_error("%s waits for the device, which a CUDA graph cannot; AIJIT_CUDA_GRAPH=0 has ai.jit replay kernel by kernel", who);
}

// -- Graphs

bool graphs() {
    const char *s = getenv("AIJIT_CUDA_GRAPH"), *debug = getenv("AIJIT_DEBUG");
    return !(s && !strcmp(s, "0")) && !(debug && *debug && strcmp(debug, "0"));      // where every op waits for its own work there is no capture
}

void *graph_capture(int32_t device, int64_t n, double **place) {
    work w("jit", device);
    graph *g = new graph{device};
    g->n = n;
    int64_t size;
    if (n && !(g->numbers = (double *)memory_take(device, n * (int64_t)sizeof(double), &size, &g->block))) { delete g; return nullptr; }
    *place = g->numbers;
    g->memory = memory_open(device);
    cudaError_t e = cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking);
    if (e == cudaSuccess) e = cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal);
    if (!w.done(e)) { close(g); return nullptr; }
    capturing = g;
    return g;
}

bool graph_captured(void *of, bool whole) {
    graph *g = (graph *)of;
    capturing = nullptr;
    cudaGraph_t made = nullptr;
    cudaError_t e = cudaStreamEndCapture(g->stream, &made);
    if (whole && e == cudaSuccess) e = cudaGraphInstantiate(&g->exec, made, 0);
    if (made) cudaGraphDestroy(made);
    cudaStreamDestroy(g->stream);
    g->stream = nullptr;
    if (!whole) { cudaGetLastError(); return false; }    // what went wrong has been told
    if (e == cudaErrorStreamCaptureUnsupported || e == cudaErrorStreamCaptureInvalidated) {
        cudaGetLastError();
        return aj_error("jit: some op of the function does what a CUDA graph cannot (%s); AIJIT_CUDA_GRAPH=0 has ai.jit replay kernel by kernel", cudaGetErrorName(e));
    }
    return check(e, "jit");
}

bool graph_launch(void *of, const double *numbers, const aj_copied *before, int n_before, const aj_copied *after, int n_after) {
    graph *g = (graph *)of;
    work w("jit", g->device);
    return w.done() && write(w, g->numbers, numbers, g->n, before, n_before) && w.done(cudaGraphLaunch(g->exec, w.stream)) && write(w, nullptr, nullptr, 0, after, n_after);
}

void graph_free(void *of) {
    graph *g = (graph *)of;
    if (capturing == g) graph_captured(g, false);
    close(g);
}

}
