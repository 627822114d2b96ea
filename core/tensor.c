/* tensor.c - headers: making, sharing and freeing them, and what a caller may ask of one. */
#include "jit.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Headers come from slabs that are never returned, so that a stale handle can always be read. */
enum { SLAB = 256 };
static _Thread_local aj_tensor *free_header;
static aj_tensor *left_header;          /* of threads that ended, under the lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t alive;                   /* of all threads, but for what each has not yet added */
static _Thread_local int32_t alive_here;
static uint64_t last_id;
static bool never_reuse;

__attribute__((constructor)) static void read_environment(void) {
    const char *s = getenv("AIJIT_DEBUG");
    never_reuse = s && *s && strcmp(s, "0") != 0;
}

static void count_tensor(int n) {
    alive_here += n;
    if (AJ_LIKELY(alive_here < 1024 && alive_here > -1024)) return;
    __atomic_fetch_add(&alive, alive_here, __ATOMIC_RELAXED);
    alive_here = 0;
}
int64_t aj_tensors_alive(void) { return __atomic_load_n(&alive, __ATOMIC_RELAXED) + alive_here; }

static aj_tensor *header(void) {
    aj_tensor *t = free_header;
    if (AJ_UNLIKELY(!t)) {
        aj_thread_enter();
        pthread_mutex_lock(&lock);
        t = free_header = left_header;
        left_header = NULL;
        pthread_mutex_unlock(&lock);
    }
    if (AJ_UNLIKELY(!t)) {
        aj_tensor *slab = calloc(SLAB, sizeof *slab);
        if (!slab) { aj_error("out of memory: no room for tensor headers"); return NULL; }
        for (int i = 0; i < SLAB; i++) {
            slab[i].magic = AJ_MAGIC;
            slab[i].generation = 1;
            slab[i].grad = free_header;                  /* free headers are chained through grad */
            free_header = &slab[i];
        }
        t = free_header;
    }
    free_header = t->grad;
    t->refs = 1;
    t->requires_grad = t->retains_grad = t->traced = t->planned = false;
    t->out_index = 0;
    t->node = NULL; t->grad = NULL; t->base = NULL;
    t->view_epoch = t->epoch = 0;
    t->hook = 0;
    t->id = 0;
    count_tensor(1);
    return t;
}

void aj_tensor_leave(void) {
    __atomic_fetch_add(&alive, alive_here, __ATOMIC_RELAXED);
    alive_here = 0;
    if (!free_header) return;
    aj_tensor *last = free_header;
    while (last->grad) last = last->grad;
    pthread_mutex_lock(&lock);
    last->grad = left_header;
    left_header = free_header;
    pthread_mutex_unlock(&lock);
    free_header = NULL;
}

static void header_free(aj_tensor *t) {
    count_tensor(-1);
    if (++t->generation == 0) t->generation = 1;
    if (AJ_UNLIKELY(never_reuse)) return;
    t->grad = free_header;
    free_header = t;
}

void aj_drop(aj_tensor *t) {
    if (!t || --t->refs > 0) return;
    if (t->node) {
        if (t->node->leaf == t) t->node->leaf = NULL;
        if (t->retains_grad && t->node->watcher[t->out_index] == t) t->node->watcher[t->out_index] = NULL;
        aj_node_release(t->node);
    }
    if (t->grad) aj_drop(t->grad);
    if (t->base) aj_drop(t->base);
    aj_storage_drop(t->storage);
    header_free(t);
}

void aj_release(aj_tensor *h) {
    aj_tensor *t = aj_live(h);
    if (t) aj_drop(t);
}
aj_tensor *aj_retain(aj_tensor *h) {
    aj_tensor *t = aj_need(h, "retain");
    if (t) t->refs++;
    return t ? h : NULL;
}

aj_tensor *aj_need(aj_tensor *h, const char *who) {
    aj_tensor *t = aj_untag(h);
    bool is = t && t->magic == AJ_MAGIC;
    if (AJ_LIKELY(is && (t = aj_live(h)) != NULL && (!t->planned || aj_ctx.replaying))) return t;
    if (!aj_untag(h)) aj_error("%s: nil where a tensor is wanted", who);
    else if (is && t) aj_jit_escaped(who);
    else if (!is) aj_error("%s: a tensor is wanted, and not what stands for one, or another object", who);
    else aj_error("%s: this tensor was freed when its scope ended; return it from the scope, or ai.keep() it there", who);
    return NULL;
}
static bool is_one(aj_tensor *h) { return aj_untag(h) && aj_untag(h)->magic == AJ_MAGIC; }
bool aj_is_live(aj_tensor *h) { return is_one(h) && aj_live(h) != NULL; }
bool aj_is_same(aj_tensor *a, aj_tensor *b) { return a == b || (is_one(a) && is_one(b) && aj_live(a) && aj_live(a) == aj_live(b)); }
uint64_t aj_id(aj_tensor *h) {
    aj_tensor *t = aj_need(h, "id");
    if (!t) return 0;
    if (!t->id) t->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
    return t->id;
}

void aj_set_contiguous(aj_tensor *t) {
    int64_t n = 1;
    bool c = true;
    for (int d = t->ndim - 1; d >= 0; d--) {
        if (t->shape[d] != 1 && t->stride[d] != n) c = false;
        n = (int64_t)((uint64_t)n * (uint64_t)t->shape[d]);              /* wraps only where another size is 0 */
    }
    t->numel = n;
    t->contiguous = c || n == 0;
}

bool aj_same_shape(const aj_tensor *a, const aj_tensor *b) {
    if (a->ndim != b->ndim) return false;
    for (int d = 0; d < a->ndim; d++) if (a->shape[d] != b->shape[d]) return false;
    return true;
}

int64_t aj_count(int ndim, const int64_t *shape) {
    int64_t n = 1;
    bool over = false;
    for (int d = 0; d < ndim; d++) {
        if (shape[d] == 0) return 0;
        over |= __builtin_mul_overflow(n, shape[d], &n);
    }
    return over ? -1 : n;
}

aj_tensor *aj_new(aj_dtype dtype, int ndim, const int64_t *shape, int32_t device) {
    int64_t n = aj_count(ndim, shape);
    if (AJ_UNLIKELY(n < 0)) { aj_error("out of memory: the sizes of this tensor multiply to more than 2^63 elements"); return NULL; }
    int64_t bytes;
    if (AJ_UNLIKELY(__builtin_mul_overflow(n, (int64_t)aj_dtype_size(dtype), &bytes))) bytes = INT64_MAX;
    aj_storage *s = aj_storage_new(bytes, device);
    if (AJ_UNLIKELY(!s)) return NULL;
    aj_tensor *t = header();
    if (AJ_UNLIKELY(!t)) { aj_storage_drop(s); return NULL; }
    t->storage = s; t->data = s->data; t->device = device;
    t->dtype = (uint8_t)dtype; t->ndim = (uint8_t)ndim;
    t->numel = n; t->contiguous = true;
    int64_t step = 1;
    for (int d = ndim - 1; d >= 0; d--) { t->shape[d] = shape[d]; t->stride[d] = step; step = (int64_t)((uint64_t)step * (uint64_t)shape[d]); }
    return t;
}

aj_tensor *aj_new_view(aj_tensor *x, int ndim, const int64_t *shape, const int64_t *stride, int64_t offset) {
    aj_tensor *t = header();
    if (AJ_UNLIKELY(!t)) return NULL;
    t->storage = x->storage;
    __atomic_fetch_add(&t->storage->refs, 1, __ATOMIC_RELAXED);
    t->data = x->data + offset * (int64_t)aj_dtype_size(x->dtype);
    t->device = x->device; t->dtype = x->dtype; t->ndim = (uint8_t)ndim;
    for (int d = 0; d < ndim; d++) { t->shape[d] = shape[d]; t->stride[d] = stride[d]; }
    aj_set_contiguous(t);
    if (AJ_UNLIKELY(aj_ctx.jit != NULL)) aj_jit_view(t, x);
    return t;
}

aj_tensor *aj_alias(aj_tensor *x) { return aj_new_view(x, x->ndim, x->shape, x->stride, 0); }

/* -- Constructors ------------------------------------------------------------------------------------------- */

static bool good_shape(const char *who, aj_shape shape) {
    if (shape->n > AJ_MAX_DIM) return aj_error("%s: %d dimensions; a tensor has at most %d", who, shape->n, AJ_MAX_DIM);
    for (int d = 0; d < shape->n; d++)
        if (shape->v[d] < 0) return aj_error("%s: size %lld of dimension %d is negative", who, (long long)shape->v[d], d + 1);
    return true;
}
static bool good_place(const char *who, int dtype, int32_t device) {
    if (dtype < 0 || dtype >= AJ_DTYPES) return aj_error("%s: there is no dtype number %d", who, dtype);
    return aj_device_need(who, device);
}

aj_tensor *aj_empty(aj_dtype dtype, aj_shape shape, int32_t device) {
    if (!good_shape("empty", shape) || !good_place("empty", (int)dtype, device)) return NULL;
    return aj_give(aj_new(dtype, shape->n, shape->v, device));
}

aj_tensor *aj_full(aj_dtype dtype, aj_shape shape, int32_t device, double value) {
    aj_tensor *h = aj_empty(dtype, shape, device);
    if (h && !aj_fill_(h, value)) { if (!aj_ctx.state.scopes) aj_release(h); return NULL; }
    return h;
}
/* A tensor that was made on the CPU, on another device; what is left behind goes. */
static aj_tensor *moved(aj_tensor *h, int32_t device) {
    aj_tensor *y = h ? aj_to_device(h, device, false) : NULL;
    if (h && !aj_ctx.state.scopes) aj_release(h);
    return y;
}

aj_tensor *aj_full_int(aj_dtype dtype, aj_shape shape, int32_t device, int64_t value) {
    if (device >= 0 && value > -(INT64_C(1) << 53) && value < INT64_C(1) << 53) return aj_full(dtype, shape, device, (double)value);
    aj_tensor *h = aj_full(dtype, shape, device >= 0 ? AJ_CPU : device, (double)value), *t = aj_live(h);
    if (t && t->dtype == AJ_I64 && t->device == AJ_CPU) for (int64_t i = 0; i < t->numel; i++) ((int64_t *)t->data)[i] = value;
    return device >= 0 ? moved(h, device) : h;
}

aj_tensor *aj_arange(aj_dtype dtype, int32_t device, double start, double step, int64_t n) {
    if (n < 0) n = 0;
    if (device >= 0) return moved(aj_arange(dtype, AJ_CPU, start, step, n), device);
    aj_ints shape = {1, {n}};
    bool whole = !aj_is_float((int)dtype) && start == (double)(int64_t)start && step == (double)(int64_t)step;
    aj_tensor *h = aj_empty(whole ? AJ_I64 : AJ_F64, &shape, device), *t = aj_live(h);
    if (!t) return NULL;
    if (device == AJ_META) { }
    else if (whole) for (int64_t i = 0; i < n; i++) ((int64_t *)t->data)[i] = (int64_t)start + i * (int64_t)step;
    else for (int64_t i = 0; i < n; i++) ((double *)t->data)[i] = start + (double)i * step;
    if (t->dtype == dtype) return h;
    aj_tensor *y = aj_cast(h, dtype);
    if (!aj_ctx.state.scopes) aj_release(h);
    return y;
}

aj_tensor *aj_from_memory(aj_dtype dtype, aj_shape shape, void *data, void (*done)(void *), void *arg) {
    if (!good_shape("from_memory", shape) || !good_place("from_memory", (int)dtype, AJ_CPU)) return NULL;
    if (!data) { aj_error("from_memory: the pointer is NULL"); return NULL; }
    if ((uintptr_t)data % aj_dtype_size(dtype)) { aj_error("from_memory: the pointer is not aligned for %s", aj_dtype_name(dtype)); return NULL; }
    aj_storage *s = malloc(sizeof *s);
    aj_tensor *t = s ? header() : NULL;
    if (!t) { free(s); aj_error("out of memory: no room for a tensor header"); return NULL; }
    *s = (aj_storage){.data = data, .refs = 1, .device = AJ_CPU, .size_class = -2, .era = aj_ctx.era, .done = done, .arg = arg};
    t->storage = s; t->data = data; t->device = AJ_CPU;
    t->dtype = (uint8_t)dtype; t->ndim = (uint8_t)shape->n;
    int64_t step = 1;
    for (int d = shape->n - 1; d >= 0; d--) { t->shape[d] = shape->v[d]; t->stride[d] = step; step *= shape->v[d]; }
    aj_set_contiguous(t);
    return aj_give(t);
}

/* -- Questions ------------------------------------------------------------------------------------------------ */

int32_t aj_ndim(aj_tensor *h) { aj_tensor *t = aj_need(h, "dim"); return t ? t->ndim : -1; }
int64_t aj_numel(aj_tensor *h) { aj_tensor *t = aj_need(h, "numel"); return t ? t->numel : -1; }
static int64_t along(aj_tensor *h, aj_dim dim, const char *who, bool size) {
    aj_tensor *t = aj_need(h, who);
    if (!t) return -1;
    int d = dim < 0 ? dim + t->ndim : dim;
    if (d < 0 || d >= t->ndim) { aj_error("%s: a tensor of %d dimensions has no dimension %lld", who, t->ndim, (long long)dim + (dim >= 0)); return -1; }
    return size ? t->shape[d] : t->stride[d];
}
int64_t aj_size(aj_tensor *h, aj_dim dim) { return along(h, dim, "size", true); }
int64_t aj_stride(aj_tensor *h, aj_dim dim) { return along(h, dim, "stride", false); }
int64_t aj_offset(aj_tensor *h) {
    aj_tensor *t = aj_need(h, "offset");
    return t ? (t->data - (char *)t->storage->data) / (int64_t)aj_dtype_size(t->dtype) : -1;
}
aj_dtype aj_dtype_of(aj_tensor *h) { aj_tensor *t = aj_need(h, "dtype"); return t ? t->dtype : AJ_DTYPES; }
int32_t aj_device_of(aj_tensor *h) { aj_tensor *t = aj_need(h, "device"); return t ? t->device : -2; }
bool aj_is_contiguous(aj_tensor *h) { aj_tensor *t = aj_need(h, "is_contiguous"); return t && t->contiguous; }
int32_t aj_version(aj_tensor *h) { aj_tensor *t = aj_need(h, "version"); return t ? t->storage->version : -1; }
void aj_touch(aj_tensor *h) { aj_tensor *t = aj_need(h, "touch"); if (t) t->storage->version++; }
void *aj_data(aj_tensor *h) {
    aj_tensor *t = aj_need(h, "data");
    if (!t) return NULL;
    if (AJ_UNLIKELY(aj_ctx.jit != NULL) && aj_jit_reads(t, "data")) return NULL;
    if (t->device == AJ_META) { aj_error("data: a meta tensor has a shape and no elements"); return NULL; }
    if (t->device != AJ_CPU) { aj_error("data: the tensor is on cuda:%d; copy it with :cpu() first", t->device); return NULL; }
    return t->data;
}

/* -- One element ------------------------------------------------------------------------------------------------ */

static char *element(aj_tensor *h, const int64_t *index, const char *who, aj_tensor **tensor) {
    aj_tensor *t = *tensor = aj_need(h, who);
    if (!t) return NULL;
    if (AJ_UNLIKELY(aj_ctx.jit != NULL) && aj_jit_reads(t, who)) return NULL;
    if (t->device == AJ_META) { aj_error("%s: a meta tensor has a shape and no elements: a size or a branch that depends on values cannot be told from shapes", who); return NULL; }
    int64_t at = 0;
    for (int d = 0; d < t->ndim; d++) {
        int64_t i = index[d] < 0 ? index[d] + t->shape[d] : index[d];
        if (i < 0 || i >= t->shape[d]) {
            aj_error("%s: index %lld is out of range for dimension %d of size %lld", who, (long long)(index[d] < 0 ? index[d] : index[d] + 1), d + 1, (long long)t->shape[d]);
            return NULL;
        }
        at += i * t->stride[d];
    }
    return t->data + at * (int64_t)aj_dtype_size(t->dtype);
}

/* The four go through a one-element tensor of double or int64, so that conversion stands in one place. */
static bool move(aj_tensor *h, const int64_t *index, const char *who, void *value, aj_dtype dtype, bool set) {
    aj_tensor *t;
    char *p = element(h, index, who, &t), *place = p;
    if (!p) return false;
    int64_t size = (int64_t)aj_dtype_size(t->dtype), bits;
    if (t->device >= 0) {
        p = (char *)&bits;
        if (!set && !aj_plugged->device->read(t->device, p, place, size)) return false;
    }
    aj_storage s = {.refs = 100, .device = AJ_CPU};
    aj_tensor one = {.storage = &s, .data = p, .refs = 1, .dtype = t->dtype, .device = AJ_CPU, .numel = 1, .contiguous = true};
    aj_tensor number = {.storage = &s, .data = value, .refs = 1, .dtype = (uint8_t)dtype, .device = AJ_CPU, .numel = 1, .contiguous = true};
    aj_tensor *from = set ? &number : &one, *to = set ? &one : &number;
    aj_call c = {.op = OP_cast, .n_in = 1, .n_out = 1, .in = &from, .out = {to}};
    if (set) {
        if (t->requires_grad && !aj_before_write(t, who, false)) return false;
        t->storage->version++;
    }
    return aj_cpu->forward[OP_cast](&c) && (t->device < 0 || !set || aj_plugged->device->write(t->device, place, p, size));
}
bool aj_get(aj_tensor *h, const int64_t *index, double *value) {
    if (!move(h, index, "item", value, AJ_F64, false)) return false;
    if (*value != *value) *value = NAN;                  /* LuaJIT would take other bits of NaN for a value of another type */
    return true;
}
bool aj_get_int(aj_tensor *h, const int64_t *index, int64_t *value) { return move(h, index, "item", value, AJ_I64, false); }
bool aj_set(aj_tensor *h, const int64_t *index, double value) { return move(h, index, "set", &value, AJ_F64, true); }
bool aj_set_int(aj_tensor *h, const int64_t *index, int64_t value) { return move(h, index, "set", &value, AJ_I64, true); }
