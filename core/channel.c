/* channel.c - bounded queues of messages between threads. */
#include "core.h"
#include "worker.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A tensor on its way: it has no header, since headers belong to threads. */
typedef struct { aj_storage *storage; char *data; int32_t device; uint8_t dtype, ndim; int64_t shape[AJ_MAX_DIM], stride[AJ_MAX_DIM]; } parcel;
struct aj_message {
    aj_message *next;
    size_t size;
    int32_t n_tensors, n_channels;
    parcel *tensor;             /* these two and the bytes lie in the message's block */
    aj_channel **channel;
    char *data;
};
struct aj_channel {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    aj_message *first, *last;
    int64_t count, capacity;
    int32_t refs;
    bool closed;
};

aj_channel *aj_channel_new(int64_t capacity) {
    if (capacity < 1) { aj_error("channel: room for %lld messages; at least 1 is needed", (long long)capacity); return NULL; }
    aj_channel *c = calloc(1, sizeof *c);
    if (!c) { aj_error("out of memory: no room for a channel"); return NULL; }
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_t how;
    pthread_condattr_init(&how);
    pthread_condattr_setclock(&how, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &how);
    pthread_condattr_destroy(&how);
    c->capacity = capacity;
    c->refs = 1;
    return c;
}

aj_channel *aj_channel_retain(aj_channel *c) {
    __atomic_fetch_add(&c->refs, 1, __ATOMIC_RELAXED);
    return c;
}

void aj_channel_release(aj_channel *c) {
    if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) != 0) return;
    while (c->first) {
        aj_message *m = c->first;
        c->first = m->next;
        aj_message_drop(m);
    }
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void aj_message_drop(aj_message *m) {
    if (!m) return;
    for (int i = 0; i < m->n_tensors; i++) if (m->tensor[i].storage) aj_storage_drop(m->tensor[i].storage);
    for (int i = 0; i < m->n_channels; i++) aj_channel_release(m->channel[i]);
    free(m);
}

static aj_message *pack(const void *data, size_t size, aj_tensors tensors, const aj_channels *channels) {
    int n = tensors ? tensors->n : 0, k = channels ? channels->n : 0;
    aj_message *m = malloc(sizeof *m + (size_t)n * sizeof(parcel) + (size_t)k * sizeof(aj_channel *) + size);
    if (!m) { aj_error("out of memory: no room for a message of %zu bytes", size); return NULL; }
    *m = (aj_message){.size = size, .n_tensors = n, .tensor = (parcel *)(m + 1)};
    m->channel = (aj_channel **)(m->tensor + n);
    m->data = (char *)(m->channel + k);
    if (size) memcpy(m->data, data, size);
    for (int i = 0; i < n; i++) {
        aj_tensor *t = aj_need(tensors->v[i], "put");
        if (!t || t->traced) {
            if (t) aj_error("put: a function that is being recorded cannot send its tensors to another thread");
            m->n_tensors = i;
            aj_message_drop(m);
            return NULL;
        }
        parcel *p = &m->tensor[i];
        *p = (parcel){.storage = t->storage, .data = t->data, .device = t->device, .dtype = t->dtype, .ndim = t->ndim};
        __atomic_fetch_add(&t->storage->refs, 1, __ATOMIC_RELAXED);
        memcpy(p->shape, t->shape, sizeof p->shape);
        memcpy(p->stride, t->stride, sizeof p->stride);
    }
    for (int i = 0; i < k; i++) m->channel[i] = aj_channel_retain(channels->v[i]);
    m->n_channels = k;
    return m;
}

static struct timespec from_now(int64_t ms) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t ns = t.tv_nsec + ms % 1000 * 1000000;
    t.tv_sec += ms / 1000 + ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    return t;
}
static bool passed(const struct timespec *end) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > end->tv_sec || (now.tv_sec == end->tv_sec && now.tv_nsec >= end->tv_nsec);
}

/* Waits under the lock, in slices, for no signal and no request to stop wakes it. */
static int32_t wait_a_little(aj_channel *c, const struct timespec *end) {
    enum { SLICE = 20 };
    if (passed(end)) return AJ_TIMED_OUT;
    struct timespec slice = from_now(SLICE);
    bool sooner = slice.tv_sec > end->tv_sec || (slice.tv_sec == end->tv_sec && slice.tv_nsec > end->tv_nsec);
    pthread_cond_timedwait(&c->changed, &c->lock, sooner ? end : &slice);
    return AJ_CHANNEL_OK;
}

int32_t aj_channel_put(aj_channel *c, const void *data, size_t size, aj_tensors tensors, const aj_channels *channels, int32_t timeout) {
    struct timespec end = from_now(timeout < 0 ? 0 : timeout);
    aj_message *m = pack(data, size, tensors, channels);
    if (!m) return AJ_CHANNEL_ERROR;
    int32_t r = AJ_CHANNEL_OK;
    pthread_mutex_lock(&c->lock);
    while (r == AJ_CHANNEL_OK) {
        if (c->closed) { r = AJ_CHANNEL_CLOSED; break; }
        if (c->count < c->capacity) break;
        if (aj_interrupted()) r = AJ_CHANNEL_ERROR;
        else r = wait_a_little(c, &end);
    }
    if (r == AJ_CHANNEL_OK) {
        if (c->last) c->last->next = m;
        else c->first = m;
        c->last = m;
        c->count++;
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    if (r != AJ_CHANNEL_OK) aj_message_drop(m);
    return r;
}

int32_t aj_channel_get(aj_channel *c, aj_message **message, int32_t timeout) {
    struct timespec end = from_now(timeout < 0 ? 0 : timeout);
    int32_t r = AJ_CHANNEL_OK;
    *message = NULL;
    pthread_mutex_lock(&c->lock);
    while (!c->first && r == AJ_CHANNEL_OK) {
        if (c->closed) r = AJ_CHANNEL_CLOSED;
        else if (aj_interrupted()) r = AJ_CHANNEL_ERROR;
        else r = wait_a_little(c, &end);
    }
    if (c->first) {
        *message = c->first;
        c->first = c->first->next;
        if (!c->first) c->last = NULL;
        c->count--;
        r = AJ_CHANNEL_OK;
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    return r;
}

void aj_channel_close(aj_channel *c) {
    pthread_mutex_lock(&c->lock);
    c->closed = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

int64_t aj_channel_count(aj_channel *c) {
    pthread_mutex_lock(&c->lock);
    int64_t n = c->count;
    pthread_mutex_unlock(&c->lock);
    return n;
}

bool aj_channel_is_closed(aj_channel *c) {
    pthread_mutex_lock(&c->lock);
    bool closed = c->closed;
    pthread_mutex_unlock(&c->lock);
    return closed;
}

const char *aj_message_data(aj_message *m) { return m->data; }
size_t aj_message_size(aj_message *m) { return m->size; }

aj_tensor *aj_message_tensor(aj_message *m, int32_t i) {
    const parcel *p = i >= 0 && i < m->n_tensors ? &m->tensor[i] : NULL;
    if (!p) { aj_error("get: a message of %d tensors has none at place %d", m->n_tensors, i + 1); return NULL; }
    aj_tensor like = {.storage = p->storage, .data = p->data, .device = p->device, .dtype = p->dtype, .ndim = p->ndim};
    return aj_give(aj_new_view(&like, p->ndim, p->shape, p->stride, 0));
}

aj_channel *aj_message_channel(aj_message *m, int32_t i) {
    if (i < 0 || i >= m->n_channels) { aj_error("get: a message of %d channels has none at place %d", m->n_channels, i + 1); return NULL; }
    return aj_channel_retain(m->channel[i]);
}
