// device.h - what the files of cuda/ share: the devices, their one stream of work each, and how errors are told.
//
// All work of a device goes onto one stream, in the order in which ops were called, whichever thread called them; so a
// block of memory that was given back may be used again at once, by work that comes later on that stream. Copies ahead of
// use alone have a stream, and memory, of their own (transfer.cpp).
#pragma once
#include "../core/backend.h"
#include <cuda_runtime.h>

namespace cuda {

enum { MAX_DEVICES = 64 };

// What a kernel found wrong in its inputs' values: the first such finding, told at the next synchronisation. fault.cpp has
// the words. value is not from low to high; or it is the number, from 0, of a row or matrix, and low an element of it.
enum fault_kind { FINE, DIVISION, INDEX, LABEL, OFFSET, PIVOT, BAD_WEIGHT, NO_WEIGHT, FEW_WEIGHTS, SINGULAR, INDEFINITE, INFINITE, DIVERGED, BAD_SCALE };
struct fault { int32_t kind, op; int64_t value, low, high; };
bool tell(const fault &f, const char *who);              // false after aj_error; who: what waited for the device

// The device of a call made current, and its stream: for a kernel's launches, after which done() tells how they went.
class work {
  public:
    work(const char *who, int32_t device);               // who: the op, for errors
    explicit work(const aj_call *c);
    cudaStream_t stream;
    fault *faults;                                       // in memory of the host that the device sees
    int processors;
    int op;
    bool done(cudaError_t e = cudaSuccess);              // false after aj_error
    bool wait();                                         // for all work; false after aj_error, also of what a kernel found
  private:
    const char *who;
    int32_t device;
};

int device_count();

// transfer.cpp; see aj_device_calls
bool device_read(int32_t device, void *to, const void *from, int64_t bytes);
bool device_write(int32_t device, void *to, const void *from, int64_t bytes, bool wait = true);
void *pin(int64_t bytes, void **block);
void unpin(void *block);
bool is_pinned(const void *p);
void pinned_trim();
bool ahead(int32_t device, bool on);
bool join(int32_t device);
cudaStream_t side_stream(int32_t device);                // while this thread copies ahead to the device, else NULL
bool check(cudaError_t e, const char *who);              // false after aj_error

// Memory for work on the stream, given back when this goes: what the stream still does with it comes before its next use.
class scratch {
  public:
    scratch(int32_t device, int64_t bytes);
    ~scratch();
    scratch(const scratch &) = delete;
    scratch &operator=(const scratch &) = delete;
    void *p;                                             // NULL after aj_error
  private:
    int32_t device;
    void *block;
};

// optim.cu
bool update(aj_update *u, int32_t n, int row);          // see aj_device_calls

// memory.cpp
void *memory_take(int32_t device, int64_t bytes, int64_t *size, void **block);
void memory_give(int32_t device, void *block);
void memory_stats(int32_t device, aj_memory_t *out);
void memory_reset_peak(int32_t device);
void memory_trim(int32_t device);

// Memory that is taken while a graph is captured, and is the graph's until it goes.
struct pool;
pool *memory_open(int32_t device);
void memory_close(pool *p);                              // all of it is the device's again

}
