// transfer.cpp - the ways between a device's memory and the host's: pinned memory of the host, from which a device copies by
// itself while the host goes on, and copies ahead of use, on a stream of their own.
//
// Pinned blocks are kept and used again, each once the copies from it are made. What is copied ahead lies in blocks that
// only copies ahead are given (memory.cpp), so that it waits for nothing but the work that used them last.
#include "graph.cuh"
#include <map>
#include <mutex>

namespace cuda {

namespace {
struct pinned {
    char *p;
    int64_t size;
    bool free;
    cudaEvent_t used[MAX_DEVICES];                       // after the last copy to each device
};
std::mutex lock;
std::map<uintptr_t, pinned *> all;                       // by where they begin

struct side { cudaStream_t stream; cudaEvent_t made; };
side sides[MAX_DEVICES];
thread_local int32_t ahead_on = -1;                      // the device that this thread copies to ahead

// No copy from it is to come.
bool at_rest(pinned *b, bool wait) {
    for (cudaEvent_t &e : b->used) {
        if (!e) continue;
        if (wait) cudaEventSynchronize(e);
        else if (cudaEventQuery(e) != cudaSuccess) { cudaGetLastError(); return false; }
        cudaEventDestroy(e);
        e = nullptr;
    }
    return true;
}
pinned *find(const void *p) {                            // with the lock
    auto i = all.upper_bound((uintptr_t)p);
    if (i == all.begin()) return nullptr;
    pinned *b = (--i)->second;
    return (const char *)p < b->p + b->size ? b : nullptr;
}
void free_all() {                                        // that nobody holds
    for (auto i = all.begin(); i != all.end();) {
        pinned *b = i->second;
        if (!b->free) { ++i; continue; }
        at_rest(b, true);
        cudaFreeHost(b->p);
        delete b;
        i = all.erase(i);
    }
}
}

void *pin(int64_t bytes, void **block) {
    std::lock_guard<std::mutex> guard(lock);
    work w("pin_memory", 0);                             // pinned for all devices, but asked for of one
    if (!w.done()) return nullptr;
    int64_t size = 4096;
    while (size < bytes && size < INT64_MAX / 4) size *= 2;
    for (auto &i : all)
        if (i.second->free && i.second->size == size && at_rest(i.second, false)) {
            i.second->free = false;
            *block = i.second;
            return i.second->p;
        }
    void *p = nullptr;
    cudaError_t e = cudaHostAlloc(&p, (size_t)size, cudaHostAllocPortable);
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        free_all();
        e = cudaHostAlloc(&p, (size_t)size, cudaHostAllocPortable);
    }
    if (!check(e, "pin_memory")) return nullptr;
    pinned *b = new pinned{(char *)p, size, false, {}};
    all[(uintptr_t)p] = b;
    *block = b;
    return p;
}
void unpin(void *block) {
    std::lock_guard<std::mutex> guard(lock);
    ((pinned *)block)->free = true;
}
bool is_pinned(const void *p) {
    std::lock_guard<std::mutex> guard(lock);
    return find(p) != nullptr;
}
void pinned_trim() {
    std::lock_guard<std::mutex> guard(lock);
    free_all();
}

bool device_read(int32_t n, void *to, const void *from, int64_t bytes) {
    work w("read", n);
    return may_wait("read") && w.done(bytes ? cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToHost, w.stream) : cudaSuccess) && w.wait();
}
bool device_write(int32_t n, void *to, const void *from, int64_t bytes, bool wait) {
    work w("write", n);
    if (!may_wait("write") || !w.done()) return false;
    if (!bytes) return true;
    const bool ahead = ahead_on == n;
    cudaStream_t stream = ahead ? sides[n].stream : w.stream;
    if (!w.done(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyHostToDevice, stream))) return false;
    std::lock_guard<std::mutex> guard(lock);
    pinned *b = find(from);
    if (!b) return true;                                 // CUDA has taken it into a buffer of its own
    if (wait && !ahead) return w.done(cudaStreamSynchronize(stream));
    if (!b->used[n] && !w.done(cudaEventCreateWithFlags(&b->used[n], cudaEventDisableTiming))) return false;
    return w.done(cudaEventRecord(b->used[n], stream));
}

bool ahead(int32_t n, bool on) {
    ahead_on = -1;
    if (!on) return true;
    work w("copies ahead", n);
    if (!may_wait("copies ahead") || !w.done()) return false;
    std::lock_guard<std::mutex> guard(lock);
    side &s = sides[n];
    if (!s.stream && (!w.done(cudaStreamCreateWithFlags(&s.stream, cudaStreamNonBlocking)) || !w.done(cudaEventCreateWithFlags(&s.made, cudaEventDisableTiming)))) return false;
    ahead_on = n;
    return true;
}
bool join(int32_t n) {
    work w("copies ahead", n);
    std::lock_guard<std::mutex> guard(lock);
    side &s = sides[n];
    return !s.made || (w.done(cudaEventRecord(s.made, s.stream)) && w.done(cudaStreamWaitEvent(w.stream, s.made, 0)));
}
cudaStream_t side_stream(int32_t n) { return ahead_on == n ? sides[n].stream : nullptr; }

}
