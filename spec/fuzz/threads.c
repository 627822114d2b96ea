/* threads.c - the core used by several threads at a time, for the thread sanitizer: spec/fuzz/threads.
 *
 * Each thread has tensors, scopes, a graph, a recording and random numbers of its own; what is shared is read through an
 * aj_detach() of the other thread's tensor, while that lives. Threads come and go, and take over what others made. Every
 * thread must find the same sums. The main thread sets limits, counts memory and interrupts.
 */
#include "aijit.h"
#include "io.h"
#include "worker.h"
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4, GENERATIONS = 3, ROUNDS = 12 };
static aj_tensor *weight, *kernel, *image, *labels;
static atomic_int faults;
static double wanted;
static char folder[64] = "/tmp/aijit-threads-XXXXXX";

static void fault(const char *what) {
    char text[1024] = "";
    aj_error_take(text, sizeof text);
    fprintf(stderr, "threads: %s: %s\n", what, text);
    atomic_fetch_add(&faults, 1);
}
#define NEED(x) do { if (!(x)) { fault(#x); return; } } while (0)

#define INTS(...) (&(aj_ints){sizeof((int64_t[]){__VA_ARGS__}) / 8, {__VA_ARGS__}})
static const aj_ints ALL = {.n = -1};
static double number(aj_tensor *t) {
    double v = NAN;
    if (t) aj_get(t, NULL, &v);
    return v;
}

/* A training step on shared values: linear, convolution, softmax, loss, gradients, an update. */
static void step(double *sum) {
    aj_tensor *w = aj_clone(aj_detach(weight)), *k = aj_clone(aj_detach(kernel)), *x = aj_detach(image), *y = aj_detach(labels);
    NEED(w && k && x && y);
    NEED(aj_set_requires_grad(w, true) && aj_set_requires_grad(k, true));
    aj_tensor *h = aj_conv2d(x, k, NULL, INTS(1), INTS(1), INTS(1), 1);
    NEED(h = h ? aj_relu(h) : NULL);
    NEED(h = aj_max_pool2d(h, INTS(2), INTS(2), INTS(0), INTS(1), false));
    NEED(h = aj_reshape(h, INTS(4, -1)));
    NEED(h = aj_linear(h, w, NULL));
    aj_tensor *loss = aj_cross_entropy(h, y, NULL, -100, "mean", 0, 0);
    NEED(loss);
    aj_list outputs = {1, &loss};
    aj_backward *b = aj_backward_start(&outputs, NULL, NULL, false, false);
    NEED(b);
    int end = aj_backward_run(b);
    aj_backward_end(b);
    NEED(end == AJ_DONE);
    bool mode = aj_grad_mode(false);
    NEED(aj_add_scaled_(w, aj_grad_of(w), -0.1));
    NEED(aj_add_scaled_(k, aj_grad_of(k), -0.1));
    aj_grad_mode(mode);
    *sum = number(loss) + number(aj_sum(w, &ALL, false)) + number(aj_sum(k, &ALL, false));
}

/* What has kernels, tables or caches of its own. */
static void others(double *sum) {
    aj_tensor *x = aj_detach(weight);
    NEED(x);
    aj_tensor *y = aj_rfft(x, 0, -1, "backward");
    NEED(y);
    *sum += number(aj_sum(aj_abs(y), &ALL, false));
    aj_tensor *square = aj_narrow(x, 1, 0, 10);
    NEED(square = aj_add(aj_matmul(square, aj_transpose(square, 0, 1)), aj_eye(AJ_F32, -1, 10, 10)));
    NEED(y = aj_cholesky(square, false));
    *sum += number(aj_sum(y, &ALL, false));
    NEED(y = aj_sort(x, -1, false, false, 0));
    *sum += number(aj_sum(aj_narrow(y, 1, 0, 3), &ALL, false));
    NEED(y = aj_cast(x, AJ_BF16));
    NEED(y = aj_matmul(y, aj_transpose(y, 0, 1)));
    *sum += number(aj_sum(aj_cast(y, AJ_F32), &ALL, false));
    NEED(y = aj_softmax(aj_cast(x, AJ_F64), -1));
    *sum += number(aj_sum(aj_square(y), &ALL, false));
}

static void random_numbers(double *sum) {
    aj_seed(7);
    aj_tensor *x = aj_randn(AJ_F32, INTS(100, 100), -1), *p = aj_randperm(AJ_I64, -1, 1000, 0);
    NEED(x && p);
    *sum += number(aj_sum(x, &ALL, false)) + number(aj_select(p, 0, 5));
    NEED(x = aj_dropout(x, 0.5, true));
    *sum += number(aj_sum(x, &ALL, false));
}

static void recorded(double *sum) {
    aj_tensor *x = aj_clone(aj_detach(image)), *y = NULL;
    NEED(x);
    aj_list inputs = {1, &x};
    aj_jit *r = aj_jit_begin(&inputs);
    NEED(r);
    aj_tensor *in = aj_jit_input(r, 0), *m = in ? aj_mul_number(in, 3, false) : NULL;
    m = m ? aj_tanh(m) : NULL;
    y = m ? aj_add(m, in) : NULL;
    aj_list outputs = {1, &y};
    if (!y || !aj_jit_end(r, &outputs)) { fault("recording"); aj_jit_free(r); return; }
    for (int i = 0; i < 3; i++) {
        if (aj_jit_run(r, &inputs) != 1) { fault("replay"); break; }
        if (i == 2) *sum += number(aj_sum(aj_result(1), &ALL, false));
    }
    aj_jit_free(r);
}

static void files(int id, double *sum) {
    char path[128];
    snprintf(path, sizeof path, "%s/%d.safetensors", folder, id);
    aj_tensor *w = aj_detach(weight);
    NEED(w);
    aj_writer *out = aj_writer_open(path);
    NEED(out);
    const char *name = "w";
    bool good = aj_safetensors_write(out, 1, &name, &w, 0, NULL, NULL) && aj_writer_commit(out);
    aj_writer_drop(out);
    NEED(good);
    aj_blob *b = aj_blob_open(path);
    NEED(b);
    aj_safetensors *s = aj_safetensors_read(b);
    aj_tensor *t = s ? aj_safetensors_tensor(s, 0) : NULL;
    if (t) *sum += number(aj_sum(t, &ALL, false));
    else fault("safetensors");
    aj_safetensors_drop(s);
    aj_blob_drop(b);

    out = aj_writer_open(NULL);
    NEED(out);
    good = aj_npy_write(out, w);
    b = good ? aj_writer_blob(out) : NULL;
    aj_writer_drop(out);
    NEED(b);
    t = aj_npy_read(b);
    aj_blob_drop(b);
    NEED(t);
    *sum += number(aj_sum(t, &ALL, false));

    aj_csv_column column = {{"a", 1}, aj_select(w, 0, 0), NULL};
    out = aj_writer_open(NULL);
    NEED(out);
    good = column.t && aj_csv_write(out, 1, &column, aj_numel(column.t), true, ',');
    b = good ? aj_writer_blob(out) : NULL;
    aj_writer_drop(out);
    NEED(b);
    aj_csv_how how = {',', true, 0, NULL};
    aj_csv *c = aj_csv_open(b, &how);
    if (!c || !aj_csv_fill(c) || aj_csv_rows(c) != aj_numel(column.t)) fault("csv");
    aj_csv_drop(c);
    aj_blob_drop(b);

    aj_json *j = aj_json_parse("{\"a\":[1,2.5,\"x\"]}", 17, false);
    if (!j) fault("json");
    aj_json_drop(j);
    char hex[65];
    aj_sha256("abc", 3, hex);
    if (strncmp(hex, "ba7816bf", 8)) fault("sha256");
    if (aj_crc32c(0, "123456789", 9) != 0xE3069283u) fault("crc32c");
}

/* A tensor that one thread made is taken by the next, which may let go of it last. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static aj_tensor *passed;
static aj_tensor *hand_over(void) {
    aj_tensor *mine = aj_full(AJ_F32, INTS(1000), -1, 1), *taken = NULL;
    pthread_mutex_lock(&lock);
    bool any = passed != NULL;
    if (any) taken = aj_detach(passed);
    passed = mine;
    pthread_mutex_unlock(&lock);
    if (!mine || (any && !taken) || (taken && number(aj_sum(taken, &ALL, false)) != 1000)) fault("what was handed over");
    return mine;
}
static void take_back(aj_tensor *mine) {
    pthread_mutex_lock(&lock);
    if (passed == mine) passed = NULL;
    pthread_mutex_unlock(&lock);
}

typedef struct { int id; } job;
static void *work(void *arg) {
    const job *j = arg;
    aj_state();
    for (int i = 0; i < ROUNDS; i++) {
        int32_t mark = aj_scope_open();
        double sum = 0;
        step(&sum);
        others(&sum);
        random_numbers(&sum);
        recorded(&sum);
        files(j->id, &sum);
        aj_tensor *mine = hand_over();
        if (i % 3 == 0) random_numbers(&(double){0});
        take_back(mine);
        pthread_mutex_lock(&lock);
        if (wanted == 0) wanted = sum;
        bool same = fabs(sum - wanted) <= 1e-5 * fabs(wanted);           /* convolutions may be done in several ways */
        pthread_mutex_unlock(&lock);
        if (!same) { fprintf(stderr, "threads: %.17g where %.17g was found before\n", sum, wanted); atomic_fetch_add(&faults, 1); }
        aj_scope_close(mark);
        aj_memory_t m;
        aj_memory(-1, &m);
        if (i % 4 == 3) aj_memory_trim(-1);
    }
    return NULL;
}

static void *work_interrupted(void *arg) {
    (void)arg;
    aj_state();
    for (int i = 0; i < 200; i++) {
        int32_t mark = aj_scope_open();
        aj_tensor *w = aj_detach(weight), *y = w ? aj_matmul(w, aj_transpose(w, 0, 1)) : NULL;
        char text[256];
        if (!y && (!aj_error_take(text, sizeof text) || !strstr(text, "interrupted"))) fault("an interrupted thread");
        aj_scope_close(mark);
    }
    return NULL;
}

static void all(void *(*f)(void *), void (*meanwhile)(int)) {
    pthread_t thread[THREADS];
    job jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i].id = i;
        if (pthread_create(&thread[i], NULL, f, &jobs[i])) exit(2);
    }
    for (int i = 0; i < 50; i++) meanwhile(i);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
}

static void watch(int i) {
    aj_memory_t m;
    aj_memory(-1, &m);
    aj_memory_limit(i % 2 ? (int64_t)1 << 32 : 0);
    aj_govern((int64_t)1 << 30);
    if (i % 10 == 0) aj_memory_reset_peak(-1);
    aj_set_num_threads(1 + i % 2);
    aj_set_deterministic(true);
    usleep(2000);
}
static void interrupt(int i) {
    aj_interrupt(i % 2 == 0);
    usleep(500);
    if (i == 49) aj_interrupt(false);
}

/* Threads as aj_thread_start() makes them, with a function of C in the place of lua_pcall: each takes numbers from a channel and
 * puts tensors of them into another, until the first is closed. One is stopped while it waits. */
typedef struct { aj_channel *in, *out; } pipes;
static int produce(void *arg, int arguments, int results, int handler) {
    (void)arguments; (void)results; (void)handler;
    const pipes *p = arg;
    for (;;) {
        aj_message *m;
        int32_t got = aj_channel_get(p->in, &m, 10000);
        if (got != AJ_CHANNEL_OK) return got == AJ_CHANNEL_CLOSED ? 0 : 1;
        int32_t n;
        memcpy(&n, aj_message_data(m), sizeof n);
        aj_message_drop(m);
        int32_t mark = aj_scope_open();
        aj_tensor *t = aj_full(AJ_F32, INTS(100, 50), -1, n);
        aj_list list = {1, &t};
        if (!t || aj_channel_put(p->out, &n, sizeof n, &list, NULL, 10000) != AJ_CHANNEL_OK) fault("put");
        aj_scope_close(mark);
    }
}
static const char *no_text(void *arg, int index, size_t *size) { (void)arg; (void)index; (void)size; return "interrupted"; }
static void no_close(void *arg) { (void)arg; }

static void channels(void) {
    enum { WORKERS = 3, MESSAGES = 200 };
    const aj_program program = {produce, no_text, no_close};
    pipes p = {aj_channel_new(4), aj_channel_new(2)};
    NEED(p.in && p.out);
    aj_thread *thread[WORKERS];
    for (int i = 0; i < WORKERS; i++) NEED(thread[i] = aj_thread_start(&program, &p, 0));
    double sum = 0;
    int sent = 0;
    for (int had = 0; had < MESSAGES;) {
        int32_t n = sent + 1;
        if (sent < MESSAGES && aj_channel_put(p.in, &n, sizeof n, NULL, NULL, 0) == AJ_CHANNEL_OK) sent++;
        aj_message *m;
        if (aj_channel_get(p.out, &m, 1) != AJ_CHANNEL_OK) continue;
        had++;
        int32_t mark = aj_scope_open();
        sum += number(aj_sum(aj_message_tensor(m, 0), &ALL, false));
        aj_message_drop(m);
        aj_scope_close(mark);
    }
    if (sum != 5000.0 * MESSAGES * (MESSAGES + 1) / 2) fault("the sum of what was put");
    aj_thread_stop(thread[0]);
    if (aj_thread_join(thread[0], 10000) != AJ_CHANNEL_OK || !aj_thread_problem(thread[0])) fault("a thread that was stopped");
    aj_channel_close(p.in);
    for (int i = 1; i < WORKERS; i++)
        if (aj_thread_join(thread[i], 10000) != AJ_CHANNEL_OK || aj_thread_problem(thread[i])) fault("a thread whose channel was closed");
    for (int i = 0; i < WORKERS; i++) aj_thread_drop(thread[i]);
    aj_channel_release(p.in);
    aj_channel_release(p.out);
}

int main(void) {
    if (!mkdtemp(folder)) return 2;
    aj_state();
    aj_set_deterministic(true);
    aj_seed(1);
    weight = aj_randn(AJ_F32, INTS(10, 8 * 6 * 6), -1);
    kernel = aj_randn(AJ_F32, INTS(8, 3, 3, 3), -1);
    image = aj_randn(AJ_F32, INTS(4, 3, 12, 12), -1);
    labels = aj_randint(AJ_I64, INTS(4), -1, 0, 10);
    if (!weight || !kernel || !image || !labels) { fault("the shared tensors"); return 2; }
    aj_memory_t before, after;
    for (int g = 0; g < GENERATIONS; g++) {
        all(work, watch);
        channels();
        aj_memory(-1, g == 0 ? &before : &after);
    }
    all(work_interrupted, interrupt);
    aj_memory(-1, &after);
    /* Threads that ended leave no tensor, and their caches to the next. */
    if (after.tensors != 4 || after.live != before.live) { fprintf(stderr, "threads: %ld tensors of %ld bytes are left\n", (long)after.tensors, (long)after.live); return 1; }
    for (int i = 0; i < THREADS; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%d.safetensors", folder, i);
        unlink(path);
    }
    rmdir(folder);
    printf("%d threads, %d times over, %d rounds each: %d faults\n", THREADS, GENERATIONS, ROUNDS, atomic_load(&faults));
    return atomic_load(&faults) != 0;
}
