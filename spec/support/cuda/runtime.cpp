// runtime.cpp - streams, events, memory and blocks of the stand-in for the CUDA runtime. See include/cuda_runtime.h.
//
// AIJIT_STANDIN_DEVICES   how many devices there are (1); "old": the driver is too old
// AIJIT_STANDIN_MEMORY    bytes of memory that each has (1 GiB)
#include <cuda_runtime.h>
#include "fibre.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sys/mman.h>
#include <thread>
#include <vector>

#if defined __SANITIZE_ADDRESS__
enum { CHECKED = 1 };                                    // each allocation is the sanitizer's own
#else
enum { CHECKED = 0 };
#endif

namespace {
enum { MAX_DEVICES = 8 };
enum : size_t { PAGE = 2 << 20 };
std::recursive_mutex lock;
typedef std::lock_guard<std::recursive_mutex> guard;
thread_local int current;
thread_local cudaError_t last;

cudaError_t report(cudaError_t e) { if (e != cudaSuccess) last = e; return e; }

[[noreturn]] void die(const char *why) { fprintf(stderr, "CUDA stand-in: %s\n", why); abort(); }

// -- Memory

struct device {
    char *arena = nullptr;
    size_t size = 0, used = 0, reach = 0;                // reach: no memory beyond it was ever given
    std::map<size_t, size_t> taken;                      // offset, size; under the sanitizer addresses
    int open = 0;                                        // how deep in work that may touch its memory
};
device devices[MAX_DEVICES];
std::map<uintptr_t, size_t> pinned;

int device_count() {
    const char *s = getenv("AIJIT_STANDIN_DEVICES");
    int n = s ? atoi(s) : 1;
    return n > MAX_DEVICES ? MAX_DEVICES : n;
}
size_t memory_size() {
    const char *s = getenv("AIJIT_STANDIN_MEMORY");
    return s ? strtoull(s, nullptr, 10) : (size_t)1 << 30;
}
device &at(int n) {
    device &d = devices[n];
    if (!d.size) {
        d.size = memory_size();
        if (!CHECKED) {
            void *p = mmap(nullptr, d.size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED) die("no room for the memory of a device");
            d.arena = (char *)(((uintptr_t)p + PAGE - 1) / PAGE * PAGE);
            madvise(d.arena, d.size + PAGE, MADV_HUGEPAGE);      // few pages are quick to open and close
        }
    }
    return d;
}
struct opened {                                          // its lifetime is that of work that touches the memory of a device
    device &d;
    explicit opened(int n) : d(at(n)) { if (!d.open++ && !CHECKED) mprotect(d.arena, d.reach, PROT_READ | PROT_WRITE); }
    ~opened() { if (!--d.open && !CHECKED) mprotect(d.arena, d.reach, PROT_NONE); }
};

bool is_device_pointer(const void *p) {
    for (int n = 0; n < MAX_DEVICES; n++) {
        device &d = devices[n];
        if (CHECKED) {
            auto i = d.taken.upper_bound((size_t)p);
            if (i != d.taken.begin() && (size_t)p < (--i)->first + i->second) return true;
        } else if (d.arena && (const char *)p >= d.arena && (const char *)p < d.arena + d.size) return true;
    }
    return false;
}
bool is_pinned(const void *p) {
    auto i = pinned.upper_bound((uintptr_t)p);
    return i != pinned.begin() && (uintptr_t)p < (--i)->first + i->second;
}
}

// -- Streams

typedef std::vector<std::function<void()>> nodes;
struct standin_graph { std::shared_ptr<nodes> all; };

struct standin_stream {
    int device;
    std::shared_ptr<nodes> captured;                     // while it is captured
    bool invalid = false;                                // something was asked of it that a graph cannot do
    cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    std::thread::id by;
    uint64_t put = 0, done = 0;                          // how much was queued and done since it was made
    std::deque<std::function<void()>> queue;
};
struct standin_event {
    standin_stream *stream = nullptr;
    uint64_t place = 0;
    std::shared_ptr<double> seconds;                     // when its stream came to it; negative before
};

namespace {
std::set<standin_stream *> streams;
thread_local cudaStreamCaptureMode allowed = cudaStreamCaptureModeGlobal;

// What cannot be asked for of a stream that is captured, or of a device while one of its is; the capture is lost.
cudaError_t refused(standin_stream *s) {
    s->invalid = true;
    return report(cudaErrorStreamCaptureUnsupported);
}
// An unsafe call, such as of cudaMalloc: the captures that it breaks are those of this thread, and the global ones of all.
bool breaks_a_capture() {
    bool any = false;
    if (allowed == cudaStreamCaptureModeRelaxed) return false;
    for (standin_stream *s : streams)
        if (s->captured && s->mode != cudaStreamCaptureModeRelaxed && (s->by == std::this_thread::get_id() || (s->mode == cudaStreamCaptureModeGlobal && allowed == cudaStreamCaptureModeGlobal)))
            any = refused(s) != cudaSuccess;
    return any;
}
bool device_is_captured(int n) {
    bool any = false;
    for (standin_stream *s : streams) if (s->captured && s->device == n) any = refused(s) != cudaSuccess;
    return any;
}

void advance(standin_stream *s, uint64_t place) {
    if (s->done >= place) return;
    opened memory(s->device);
    while (s->done < place && !s->queue.empty()) {
        std::function<void()> f = std::move(s->queue.front());
        s->queue.pop_front();
        f();
        s->done++;
    }
}
void finish(int n) {
    for (standin_stream *s : streams) if (s->device == n) advance(s, s->put);
}
void put(standin_stream *s, std::function<void()> f) {
    if (!s) { finish(current); opened memory(current); f(); return; }
    if (s->captured) { s->captured->push_back(std::move(f)); return; }
    s->queue.push_back(std::move(f));
    s->put++;
}
void complete(standin_event *e) { if (e->stream && streams.count(e->stream)) advance(e->stream, e->place); }

void run(dim3 blocks, dim3 threads, bool together, const std::function<void()> &kernel) {
    standin::place before = standin::now;
    standin::now.threads = threads;
    standin::now.blocks = blocks;
    for (unsigned z = 0; z < blocks.z; z++) for (unsigned y = 0; y < blocks.y; y++) for (unsigned x = 0; x < blocks.x; x++) {
        standin::now.block = {x, y, z};
        if (together) { fibre_block(kernel); continue; }
        for (unsigned k = 0; k < threads.z; k++) for (unsigned j = 0; j < threads.y; j++) for (unsigned i = 0; i < threads.x; i++) {
            standin::now.thread = {i, j, k};
            kernel();
        }
    }
    standin::now = before;
}
}

standin::place standin::now;

void standin::enqueue(cudaStream_t s, dim3 blocks, dim3 threads, bool together, std::function<void()> kernel) {
    guard g(lock);
    uint64_t n = (uint64_t)threads.x * threads.y * threads.z;
    if (!n || n > 1024 || !blocks.x || !blocks.y || !blocks.z || blocks.x > 0x7fffffffu || blocks.y > 65535 || blocks.z > 65535) { report(cudaErrorInvalidValue); return; }
    if (!s && breaks_a_capture()) return;
    put(s, [=] { run(blocks, threads, together, kernel); });
}
void standin::enqueue(cudaStream_t s, std::function<void()> work) {
    guard g(lock);
    put(s, std::move(work));
}

// -- The runtime's functions

const char *cudaGetErrorName(cudaError_t e) {
    switch (e) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorIllegalState: return "cudaErrorIllegalState";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    }
    return "an unknown error";
}
const char *cudaGetErrorString(cudaError_t e) { return cudaGetErrorName(e); }
cudaError_t cudaGetLastError() { cudaError_t e = last; last = cudaSuccess; return e; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = 13000; return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) {
    const char *s = getenv("AIJIT_STANDIN_DEVICES");
    *version = s && !strcmp(s, "old") ? 11040 : s && !strcmp(s, "none") ? 0 : 13000;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *count) {
    int version;
    cudaDriverGetVersion(&version);
    *count = version < 13000 ? 0 : device_count();
    return report(version < 13000 ? cudaErrorInsufficientDriver : *count ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= device_count()) return report(cudaErrorInvalidDevice);
    current = device;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) { *device = current; return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    if (device < 0 || device >= device_count()) return report(cudaErrorInvalidDevice);
    *p = {};
    snprintf(p->name, sizeof p->name, "host stand-in %d", device);
    p->totalGlobalMem = memory_size();
    p->sharedMemPerBlock = 49152;
    p->major = 9; p->minor = 0;
    p->multiProcessorCount = 4; p->maxThreadsPerBlock = 1024; p->warpSize = 32;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    guard g(lock);
    device &d = at(current);
    *total = d.size;
    *free = d.size - d.used;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
    guard g(lock);
    if (device_is_captured(current)) return cudaErrorStreamCaptureUnsupported;
    finish(current);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t size) {
    guard g(lock);
    if (breaks_a_capture()) return cudaErrorStreamCaptureUnsupported;
    device &d = at(current);
    size_t n = (size + 511) & ~(size_t)511;
    if (!n || n > d.size - d.used) return report(cudaErrorMemoryAllocation);
    if (CHECKED) {
        if (posix_memalign(p, 512, size)) return report(cudaErrorMemoryAllocation);
        memset(*p, 0xdb, size);
        d.taken[(size_t)*p] = size;
        d.used += n;
        return cudaSuccess;
    }
    size_t offset = 0;                                   // the first gap that is wide enough
    for (auto &t : d.taken) {
        if (t.first - offset >= n) break;
        offset = t.first + t.second;
    }
    if (d.size - offset < n) return report(cudaErrorMemoryAllocation);
    d.taken[offset] = n;
    d.used += n;
    if (offset + n > d.reach) {
        size_t reach = (offset + n + PAGE - 1) / PAGE * PAGE;
        if (d.open) mprotect(d.arena + d.reach, reach - d.reach, PROT_READ | PROT_WRITE);
        d.reach = reach;
    }
    *p = d.arena + offset;
    opened memory(current);
    memset(*p, 0xdb, n < 65536 ? n : 65536);             // what is read before it is written is no zero
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
    guard g(lock);
    if (!p) return cudaSuccess;
    if (breaks_a_capture()) return cudaErrorStreamCaptureUnsupported;
    for (int n = 0; n < MAX_DEVICES; n++) {
        device &d = devices[n];
        auto i = d.taken.find(CHECKED ? (size_t)p : (size_t)((char *)p - d.arena));
        if (!d.size || i == d.taken.end() || (!CHECKED && ((char *)p < d.arena || (char *)p >= d.arena + d.size))) continue;
        finish(n);
        d.used -= (i->second + 511) & ~(size_t)511;
        d.taken.erase(i);
        if (CHECKED) free(p);
        return cudaSuccess;
    }
    return report(cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void **p, size_t size, unsigned) {
    guard g(lock);
    if (breaks_a_capture()) return cudaErrorStreamCaptureUnsupported;
    if (posix_memalign(p, 4096, size ? size : 1)) return report(cudaErrorMemoryAllocation);
    pinned[(uintptr_t)*p] = size;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p) {
    guard g(lock);
    if (breaks_a_capture()) return cudaErrorStreamCaptureUnsupported;
    if (!pinned.erase((uintptr_t)p)) return report(cudaErrorInvalidValue);
    for (int n = 0; n < MAX_DEVICES; n++) finish(n);
    free(p);
    return cudaSuccess;
}

// Memory that is not pinned is read, or written, before the call returns, as CUDA does by way of its own buffers.
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t s) {
    guard g(lock);
    bool to_device = is_device_pointer(to), from_device = is_device_pointer(from);
    if (kind != cudaMemcpyDefault && kind != (from_device ? to_device ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost
                                                          : to_device ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost)) return report(cudaErrorInvalidValue);
    bool pageable = (!to_device && !is_pinned(to)) || (!from_device && !is_pinned(from));
    if (s && s->captured && pageable) return refused(s);
    if (!s && breaks_a_capture()) return cudaErrorStreamCaptureUnsupported;
    put(s, [=] { memcpy(to, from, size); });
    if (s && pageable) advance(s, s->put);
    return cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t size, cudaStream_t s) {
    guard g(lock);
    put(s, [=] { opened a(to_device), b(from_device); memcpy(to, from, size); });
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t size, cudaStream_t s) {
    guard g(lock);
    put(s, [=] { memset(p, value, size); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) {
    guard g(lock);
    *s = new standin_stream;
    (*s)->device = current;
    streams.insert(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    guard g(lock);
    advance(s, s->put);
    streams.erase(s);
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    guard g(lock);
    if (s && s->captured) return refused(s);
    if (!s && device_is_captured(current)) return cudaErrorStreamCaptureUnsupported;
    if (s) advance(s, s->put);
    else finish(current);
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) { *e = new standin_event; return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    guard g(lock);
    if (!start->seconds || !end->seconds) return report(cudaErrorInvalidValue);
    if (*start->seconds < 0 || *end->seconds < 0) return cudaErrorNotReady;
    *ms = (float)((*end->seconds - *start->seconds) * 1000);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) { delete e; return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    guard g(lock);
    if (s && s->captured) return refused(s);             // CUDA can, to capture other streams with this one
    std::shared_ptr<double> seconds = std::make_shared<double>(-1);
    put(s, [=] { *seconds = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); });
    *e = {s, s ? s->put : 0, seconds};
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    guard g(lock);
    return !e->stream || !streams.count(e->stream) || e->stream->done >= e->place ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    guard g(lock);
    complete(e);
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    guard g(lock);
    if (s && s->captured) return refused(s);
    standin_event copy = *e;
    put(s, [=]() mutable { complete(&copy); });
    return cudaSuccess;
}

// -- Graphs

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) {
    std::swap(*mode, allowed);
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
    guard g(lock);
    if (!s || s->captured) return report(s ? cudaErrorIllegalState : cudaErrorStreamCaptureUnsupported);
    s->captured = std::make_shared<nodes>();
    s->invalid = false;
    s->mode = mode;
    s->by = std::this_thread::get_id();
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph) {
    guard g(lock);
    *graph = nullptr;
    if (!s || !s->captured) return report(cudaErrorIllegalState);
    if (!s->invalid) *graph = new standin_graph{s->captured};
    s->captured.reset();
    return s->invalid ? report(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status) {
    guard g(lock);
    *status = !s || !s->captured ? cudaStreamCaptureStatusNone : s->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    guard g(lock);
    if (!graph) return report(cudaErrorInvalidValue);
    *exec = new standin_graph{std::make_shared<nodes>(*graph->all)};
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
    guard g(lock);
    if (!exec) return report(cudaErrorInvalidValue);
    std::shared_ptr<nodes> all = exec->all;              // they stay until they have run, whatever becomes of the graph
    put(s, [all] { for (auto &f : *all) f(); });
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { delete graph; return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { delete exec; return cudaSuccess; }
