// copy.cu - copies, conversions and fills; ways between devices.
#include "copy.cuh"
#include "layout.h"
#include "map.cuh"

namespace cuda {

namespace row {
struct same {
    enum { inputs = 1 };
    static constexpr bool divides = false;
    template <typename real> static __device__ inline real at(const real *in, real, real, real) { return in[0]; }
};
}

// Integers go as integers; a float on either side otherwise decides.
static bool convert(work &w, aj_tensor *y, aj_tensor *x, double number, int from) {
    map_job job = {y, {x}, 1, number, 0, 0, 0, w.op};
    if (!aj_is_float(from)) return map_run<row::same, int64_t>(job, w);
    if (from == AJ_F64 || !aj_is_float(y->dtype) || y->dtype == AJ_F64) return map_run<row::same, double>(job, w);
    return map_run<row::same, float>(job, w);
}

bool copy_into(work &w, aj_tensor *y, aj_tensor *x) {
    if (y->dtype == x->dtype && y->contiguous && x->contiguous && x->numel == y->numel)
        return !y->numel || w.done(cudaMemcpyAsync(y->data, x->data, (size_t)(y->numel * dtype_bytes(y->dtype)), cudaMemcpyDeviceToDevice, w.stream));
    return convert(w, y, x, 0, x->dtype);
}

bool fill(work &w, aj_tensor *y, double value) {
    if (value == 0 && !std::signbit(value) && y->contiguous) return !y->numel || w.done(cudaMemsetAsync(y->data, 0, (size_t)(y->numel * dtype_bytes(y->dtype)), w.stream));
    return convert(w, y, nullptr, value, AJ_F64);
}

static bool copied(const aj_call *c) {
    work w(c);
    return copy_into(w, c->out[0], c->in[0]);
}
extern "C" bool clone_cuda(const aj_call *c) { return copied(c); }
extern "C" bool cast_cuda(const aj_call *c) {
    follow_layout(c->out[0], c->in, 1);
    return copied(c);
}
extern "C" bool fill__cuda(const aj_call *c) {
    work w("fill_", c->in[0]->device);
    w.op = c->op;
    return fill(w, c->in[0], c->attrs->s);
}

// Bytes between two places of which one at least is on a device; both dense.
static bool transfer(const char *who, aj_tensor *y, aj_tensor *x, bool wait) {
    int64_t bytes = y->numel * dtype_bytes(y->dtype);
    if (x->device < 0) return device_write(y->device, y->data, x->data, bytes, wait);
    if (y->device < 0) return device_read(x->device, y->data, x->data, bytes);
    work to(who, y->device), from(who, x->device);
    if (y->device == x->device) return copy_into(from, y, x);
    // What stood in the new place is done with, and what is in the old one ready; nothing writes there before the copy is made.
    cudaEvent_t ready, made;
    bool ok = from.done(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming)) && to.done(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
    ok = ok && to.done(cudaEventRecord(made, to.stream)) && from.done(cudaStreamWaitEvent(from.stream, made, 0));
    ok = ok && from.done(cudaMemcpyPeerAsync(y->data, y->device, x->data, x->device, (size_t)bytes, from.stream));
    ok = ok && from.done(cudaEventRecord(ready, from.stream)) && to.done(cudaStreamWaitEvent(to.stream, ready, 0));
    cudaEventDestroy(ready);
    cudaEventDestroy(made);
    return ok;
}

static aj_tensor *dense(aj_tensor *x) { return x->contiguous ? x : aj_untag(aj_clone(x)); }      // the scope of the call owns it

extern "C" bool to_device_cuda(const aj_call *c) {
    aj_tensor *x = c->in[0];
    if (x->numel == 0) return true;
    x = dense(x);
    return x && transfer("to", c->out[0], x, !c->attrs->flag);
}

// Across devices the source goes to the other one first, as it is, and is converted and broadcast there.
extern "C" bool copy__cuda(const aj_call *c) {
    aj_tensor *y = c->in[0], *x = c->in[1];
    if (y->numel == 0) return true;
    if (y->device == x->device) {
        work w("copy_", y->device);
        w.op = c->op;
        return copy_into(w, y, x);
    }
    if (y->dtype == x->dtype && y->contiguous && y->numel == x->numel) {
        x = dense(x);
        return x && transfer("copy_", y, x, true);
    }
    bool mode = aj_grad_mode(false);
    aj_tensor *here = aj_to_device(x, y->device, false);
    bool ok = here && aj_copy_(y, here);
    aj_grad_mode(mode);
    return ok;
}

}
