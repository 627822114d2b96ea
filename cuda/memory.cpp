// memory.cpp - the caching allocator of devices.
//
// Memory comes from CUDA in segments, which are cut into blocks; a block given back is joined with its free neighbours and
// used again, without a call of CUDA. When CUDA has no more, segments that are wholly free go back to it, and it is asked
// once again. Small blocks have segments of their own, so that they do not hold large ones in pieces.
#include "graph.cuh"
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <vector>

namespace cuda {

namespace {
enum : int64_t { UNIT = 512, SMALL = 1 << 20, SMALL_SEGMENT = 2 << 20, LARGE = 10 << 20, LARGE_SEGMENT = 20 << 20, ROUND = 2 << 20 };

struct block {
    char *p;
    int64_t size;
    bool free, small;
    block *before, *after;                               // its neighbours in the segment
    pool *home;
    bool ahead = false;                                  // for copies ahead of use
    cudaEvent_t used = nullptr;                          // then: after the last work with it
};
struct smaller {
    bool operator()(const block *a, const block *b) const { return a->size != b->size ? a->size < b->size : a->p < b->p; }
};
}
struct pool {
    std::mutex lock;
    std::set<block *, smaller> free[3];                  // large, small, for copies ahead
    int64_t live = 0, peak = 0, reserved = 0, blocks = 0;
    pool *of = nullptr;                                  // a graph's: the device's own, to which all of this is in use
    std::vector<block *> segments;                       // a graph's
};
namespace {
enum { AHEAD = 2 };
pool pools[MAX_DEVICES];

#ifdef __SANITIZE_ADDRESS__
const bool apart = true;                                 // every block an allocation of its own, so that a tool sees where it ends
#else
const bool apart = [] { const char *s = getenv("AIJIT_DEBUG"); return s && *s && strcmp(s, "0"); }();
#endif

int64_t segment_size(int64_t size) {
    if (apart) return size;
    return size <= SMALL ? SMALL_SEGMENT : size < LARGE ? LARGE_SEGMENT : (size + ROUND - 1) / ROUND * ROUND;
}

void trim(pool &p) {
    if (p.of) return;                                    // its launches use what is free too
    for (auto &all : p.free)
        for (auto i = all.begin(); i != all.end();) {
            block *b = *i;
            if (b->before || b->after) { ++i; continue; }
            cudaFree(b->p);
            if (b->used) cudaEventDestroy(b->used);
            p.reserved -= b->size;
            i = all.erase(i);
            delete b;
        }
}

block *segment(pool &p, int64_t size, bool alone) {
    int64_t whole = alone ? size : segment_size(size);
    void *at = nullptr;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;       // in a capture too, of which it is no part
    cudaThreadExchangeStreamCaptureMode(&mode);
    cudaError_t e = cudaMalloc(&at, (size_t)whole);
    if (e != cudaSuccess) {
        cudaGetLastError();
        trim(p);
        e = cudaMalloc(&at, (size_t)whole);
    }
    cudaThreadExchangeStreamCaptureMode(&mode);
    if (e != cudaSuccess) { cudaGetLastError(); return nullptr; }
    p.reserved += whole;
    block *b = new block{(char *)at, whole, false, size <= SMALL, nullptr, nullptr, &p};
    if (p.of) {
        std::lock_guard<std::mutex> guard(p.of->lock);
        p.segments.push_back(b);
        p.of->reserved += whole;
        p.of->live += whole;
        if (p.of->live > p.of->peak) p.of->peak = p.of->live;
    }
    return b;
}

// b keeps its first `size` bytes; the rest is a free block of its own, if it is worth it.
void cut(pool &p, block *b, int64_t size) {
    int64_t rest = b->size - size;
    if (apart || rest < (b->small ? (int64_t)UNIT : (int64_t)SMALL)) return;
    block *r = new block{b->p + size, rest, true, b->small, b, b->after, &p};
    if (b->after) b->after->before = r;
    b->after = r;
    b->size = size;
    p.free[r->small].insert(r);
}

block *join(pool &p, block *a, block *b) {               // b follows a, both free, neither in the set
    a->size += b->size;
    a->after = b->after;
    if (b->after) b->after->before = a;
    (void)p;
    delete b;
    return a;
}

void out_of_memory(int32_t device, pool &p, int64_t bytes) {
    char asked[32], live[32], cached[32], left[32], total[32];
    size_t free_bytes = 0, all = 0;
    cudaMemGetInfo(&free_bytes, &all);
    aj_put_bytes(asked, sizeof asked, bytes);
    aj_put_bytes(live, sizeof live, p.live);
    aj_put_bytes(cached, sizeof cached, p.reserved - p.live);
    aj_put_bytes(left, sizeof left, (int64_t)free_bytes);
    aj_put_bytes(total, sizeof total, (int64_t)all);
    aj_error("out of memory: asked for %s on cuda:%d; live %s in %lld blocks, cached %s, free on the device %s of %s", asked, device, live, (long long)p.blocks,
             cached, left, total);
}
}

void *memory_take(int32_t device, int64_t bytes, int64_t *size, void **out) {
    work w("memory", device);                            // the device is current from here on
    if (!w.done()) return nullptr;
    pool *graph = capture_memory(device), &p = graph ? *graph : pools[device];
    std::lock_guard<std::mutex> guard(p.lock);
    if (bytes < 0 || bytes > INT64_MAX / 4) { out_of_memory(device, p, bytes < 0 ? INT64_MAX : bytes); return nullptr; }
    int64_t n = bytes ? (bytes + UNIT - 1) / UNIT * UNIT : (int64_t)UNIT;
    if (apart) n = bytes ? bytes : 1;
    cudaStream_t side = graph ? nullptr : side_stream(device);
    if (side && !apart && n > SMALL) n = (n + ROUND - 1) / ROUND * ROUND;
    block want{nullptr, n, true, n <= SMALL, nullptr, nullptr, nullptr}, *b;
    auto &all = p.free[side ? (int)AHEAD : (int)want.small];
    auto i = all.lower_bound(&want);
    // A much larger block would be held whole by a small one.
    if (i != all.end() && !apart && ((n < LARGE && !side) || (*i)->size - n < n)) {
        b = *i;
        all.erase(i);
        if (side && !check(cudaStreamWaitEvent(side, b->used, 0), "memory")) { all.insert(b); return nullptr; }
    } else if (!(b = segment(p, n, side != nullptr))) {
        out_of_memory(device, p, bytes);
        return nullptr;
    }
    b->free = false;
    if (side) b->ahead = true;
    else cut(p, b, n);
    p.blocks++;
    p.live += b->size;
    if (p.live > p.peak) p.peak = p.live;
    *size = b->size;
    *out = b;
    return b->p;
}

void memory_give(int32_t device, void *given) {
    block *b = (block *)given;
    pool &p = *b->home;
    std::lock_guard<std::mutex> guard(p.lock);
    p.live -= b->size;
    p.blocks--;
    b->free = true;
    if (!apart && b->ahead) {
        work w("memory", device);
        bool ready = (b->used || cudaEventCreateWithFlags(&b->used, cudaEventDisableTiming) == cudaSuccess) && cudaEventRecord(b->used, w.stream) == cudaSuccess;
        if (ready) { p.free[AHEAD].insert(b); return; }
        cudaGetLastError();
    }
    if ((apart && !p.of) || b->ahead) {
        p.reserved -= b->size;
        cudaFree(b->p);
        if (b->used) cudaEventDestroy(b->used);
        delete b;
        return;
    }
    if (b->after && b->after->free) { p.free[b->small].erase(b->after); b = join(p, b, b->after); }
    if (b->before && b->before->free) { p.free[b->small].erase(b->before); b = join(p, b->before, b); }
    p.free[b->small].insert(b);
}

void memory_stats(int32_t device, aj_memory_t *out) {
    pool &p = pools[device];
    std::lock_guard<std::mutex> guard(p.lock);
    out->live = p.live;
    out->peak = p.peak;
    out->cached = p.reserved - p.live;
}
void memory_reset_peak(int32_t device) {
    pool &p = pools[device];
    std::lock_guard<std::mutex> guard(p.lock);
    p.peak = p.live;
}
void memory_trim(int32_t device) {
    if (device >= device_count()) return;
    pool &p = pools[device];
    std::lock_guard<std::mutex> guard(p.lock);
    trim(p);                                             // cudaFree waits for what still uses them
    pinned_trim();
}

pool *memory_open(int32_t device) {
    pool *p = new pool;
    p->of = &pools[device];
    return p;
}
void memory_close(pool *p) {
    pool &home = *p->of;
    std::lock_guard<std::mutex> guard(home.lock);
    home.live -= p->reserved - p->live;
    for (block *first : p->segments)
        for (block *b = first, *next; b; b = next) {
            next = b->after;
            b->home = &home;
            if (!b->free) continue;
            if (!apart) { home.free[b->small].insert(b); continue; }
            home.reserved -= b->size;
            cudaFree(b->p);
            delete b;
        }
    delete p;
}

}
