/* device.c - loads the library of the devices that are not the CPU, when one is asked for. */
#include "core.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const aj_backend *aj_plugged;
static aj_backend table;                 /* the library's, with a place of every row filled */
static char absence[512];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* What stands where a row has no kernel. */
static bool no_kernel(const aj_call *c) {
    return aj_error("%s: there is no %s kernel for it; move its inputs with :cpu(), and the result back", aj_ops[c->op].info->name, table.name);
}
static bool no_gradient(const aj_grad_call *g) {
    return aj_error("backward: there is no %s kernel for the gradient of this op; move its inputs with :cpu()", g->gx->device < 0 ? "cpu" : table.name);
}

/* AIJIT_CUDA names another library than libaijit_cuda.so beside this one. */
static bool find(char *path, size_t size) {
    const char *named = getenv("AIJIT_CUDA");
    if (named && *named) { snprintf(path, size, "%s", named); return true; }
    Dl_info here;
    if (!dladdr((void *)(uintptr_t)find, &here)) return false;
    const char *slash = strrchr(here.dli_fname, '/');
    int n = slash ? (int)(slash - here.dli_fname) : 1;
    snprintf(path, size, "%.*s/libaijit_cuda.so", n, slash ? here.dli_fname : ".");
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

static void load(void) {
    char path[1024];
    if (!find(path, sizeof path)) {
        snprintf(absence, sizeof absence, "this build has no CUDA device: there is no libaijit_cuda.so beside libaijit.so; it is built where CMake finds the CUDA toolkit");
        return;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    aj_backend_start *start = NULL;
    if (library) *(void **)&start = dlsym(library, "aijit_backend");
    if (!start) {
        snprintf(absence, sizeof absence, "the CUDA library cannot be loaded: %s", library ? "it lacks the function aijit_backend" : dlerror());
        return;
    }
    const aj_backend *b = start(absence, sizeof absence);
    if (!b) return;
    if (b->size != (int64_t)sizeof *b) {
        snprintf(absence, sizeof absence, "%.300s was built with another version of aijit; build both anew", path);
        return;
    }
    table = *b;
    for (int i = 0; i < OP_COUNT; i++) {
        if (!table.forward[i]) table.forward[i] = no_kernel;
        for (int k = 0; k < 2; k++) if (!table.grad[i][k]) table.grad[i][k] = no_gradient;
    }
    aj_plugged = &table;
}

int32_t aj_device_count(void) {
    pthread_once(&once, load);
    return aj_plugged ? aj_plugged->device->count : 0;
}
int32_t aj_device_loaded(void) { return aj_plugged ? aj_plugged->device->count : 0; }
const char *aj_device_absence(void) { return aj_device_count() ? NULL : absence; }

bool aj_device_need(const char *who, int32_t device) {
    if (device == AJ_CPU || device == AJ_META) return true;
    if (device < 0) return aj_error("%s: there is no device number %d", who, device);
    int32_t n = aj_device_count();
    if (!n) return aj_error("%s: no device cuda:%d: %s; `aijit doctor` tells what else is here", who, device, absence);
    if (device >= n) return aj_error("%s: no device cuda:%d: there %s %d, numbered from cuda:0", who, device, n == 1 ? "is" : "are", n);
    return true;
}
bool aj_device_ready(int32_t device) { return aj_device_need("device", device); }

static const aj_device_calls *calls_of(const char *who, int32_t device) {
    if (device < 0) { aj_error("%s: device %d is no CUDA device", who, device); return NULL; }
    return aj_device_need(who, device) ? aj_plugged->device : NULL;
}
bool aj_device_describe(int32_t device, aj_device_t *out) {
    memset(out, 0, sizeof *out);
    const aj_device_calls *d = calls_of("device", device);
    return d && d->describe(device, out);
}
bool aj_device_synchronize(int32_t device) {
    if (device == AJ_CPU || device == AJ_META) return true;
    const aj_device_calls *d = calls_of("synchronize", device);
    return d && d->synchronize(device);
}
bool aj_device_library(int32_t i, aj_device_library_t *out) {
    memset(out, 0, sizeof *out);
    return aj_device_count() && aj_plugged->device->library(i, out);
}
bool aj_device_ahead(int32_t device, bool on) {
    const aj_device_calls *d = calls_of("copies ahead", device);
    return d && d->ahead(device, on);
}
bool aj_device_join(int32_t device) {
    const aj_device_calls *d = calls_of("copies ahead", device);
    return d && d->join(device);
}

bool aj_is_pinned(aj_tensor *h) {
    aj_tensor *x = aj_need(h, "is_pinned");
    return x && x->device == AJ_CPU && aj_plugged && aj_plugged->device->is_pinned(x->storage->data);
}
static void unpin(void *block) { aj_plugged->device->unpin(block); }
aj_tensor *aj_pin_memory(aj_tensor *h) {
    aj_tensor *x = aj_need(h, "pin_memory");
    if (!x) return NULL;
    if (x->device != AJ_CPU) { aj_error("pin_memory: the tensor is on %s, and only memory of the CPU is pinned", x->device < 0 ? "the meta device" : "a CUDA device"); return NULL; }
    if (!aj_device_need("pin_memory", 0)) return NULL;
    if (aj_is_pinned(h)) return h;
    void *block, *p = aj_plugged->device->pin(x->numel * (int64_t)aj_dtype_size(x->dtype), &block);
    if (!p) return NULL;
    aj_ints shape = aj_sizes(x);
    aj_tensor *y = aj_from_memory(x->dtype, &shape, p, unpin, block);
    if (!y) { unpin(block); return NULL; }
    bool grad = aj_grad_mode(false), ok = aj_copy_(y, h) != NULL;
    aj_grad_mode(grad);
    if (!ok) { if (!aj_ctx.state.scopes) aj_release(y); return NULL; }
    return y;
}

bool aj_has_kernel(int32_t op, int32_t device) {
    if (op < 0 || op >= OP_COUNT || aj_ops[op].kind == AJ_VIEW || aj_ops[op].kind == AJ_COMPOSE) return op >= 0 && op < OP_COUNT;
    const aj_backend *b = device >= 0 && !aj_device_count() ? NULL : aj_backend_of(device);
    return b && b->forward[op] && b->forward[op] != no_kernel;
}
