// fibre.cpp - the threads of a block take turns: one runs until it waits for others, or ends. See fibre.h.
#include <cuda_runtime.h>
#include "fibre.h"
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#if defined __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace {
enum { STACK = 1 << 16, MOST = 1024 };

struct barrier { unsigned arrived, generation; };
struct fibre {
    bool ended;
    const barrier *at;                                   // where it waits, until the generation there is another
    unsigned generation;
    uint3 thread;
#ifdef __x86_64__
    void *sp;
#else
    ucontext_t context;
#endif
};

fibre fibres[MOST], home;
barrier block_barrier, warp_barrier[MOST / 32];
uint64_t slot[2][MOST];
char *stacks;
unsigned count, alive, running;
bool active, moved;                                      // moved: some fibre got on since the last round
const std::function<void()> *body;

[[noreturn]] void die(const char *why) { fprintf(stderr, "CUDA stand-in: %s\n", why); abort(); }

#ifdef __x86_64__
extern "C" void standin_switch(void **from, void *to);
__asm__(".text\n.globl standin_switch\n.hidden standin_switch\n.type standin_switch,@function\nstandin_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
#endif

// to: its stack, of the home fibre unknown until a fibre has been entered
void go(fibre *from, fibre *to, const void *bottom, size_t size, bool last) {
#if defined __SANITIZE_ADDRESS__
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(last ? nullptr : &fake, bottom, size);
#else
    (void)bottom; (void)size; (void)last;
#endif
#ifdef __x86_64__
    standin_switch(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
#if defined __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}
const void *home_bottom;
size_t home_size;
void go_home(bool last) { go(&fibres[running], &home, home_bottom, home_size, last); }

void release(barrier &b) { b.arrived = 0; b.generation++; moved = true; }

void start() {
#if defined __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &home_bottom, &home_size);
#endif
    (*body)();
    fibres[running].ended = moved = true;
    alive--;
    if (block_barrier.arrived && block_barrier.arrived == alive) release(block_barrier);     // who has ended is not waited for
    go_home(true);
    die("a thread went on after its end");
}

void make(unsigned i) {
    fibre &f = fibres[i];
    char *stack = stacks + (size_t)i * STACK;
    f.ended = false;
    f.at = nullptr;
#ifdef __x86_64__
    void **sp = (void **)(void *)(stack + STACK);
    *--sp = nullptr;                                     // start() finds the alignment of a call
    *--sp = (void *)start;
    for (int k = 0; k < 6; k++) *--sp = nullptr;
    f.sp = sp;
#else
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = stack;
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, start, 0);
#endif
}

void wait_at(barrier &b, unsigned expected) {
    unsigned generation = b.generation;
    moved = true;
    if (++b.arrived >= expected) { release(b); return; }
    fibres[running].at = &b;
    fibres[running].generation = generation;
    while (b.generation == generation) go_home(false);
    fibres[running].at = nullptr;
}

void need() { if (!active) die("threads wait for each other in a kernel that launch() started: it wants launch_together()"); }
}

unsigned standin::lane() { need(); return running % 32; }
// Those of one exchange are read while the next one's are written: who is a step ahead waits there for the others.
uint64_t *standin::slots() { return slot[warp_barrier[running / 32].generation & 1] + running / 32 * 32; }

void standin::sync_block() { need(); wait_at(block_barrier, alive); }

void standin::sync_warp(unsigned mask) {
    need();
    unsigned first = running / 32 * 32, there = count - first < 32 ? (1u << (count - first)) - 1 : 0xffffffffu;
    if (!(mask >> (running - first) & 1)) die("a thread is not in the mask of its own shuffle");
    wait_at(warp_barrier[running / 32], (unsigned)__builtin_popcount(mask & there));
}

void fibre_block(const std::function<void()> &kernel) {
    dim3 n = standin::now.threads;
    if (active) die("a block within a block");
    if (!stacks) {
        stacks = (char *)mmap(nullptr, (size_t)STACK * MOST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED) die("no room for the stacks of a block");
    }
    active = true;
    body = &kernel;
    count = alive = n.x * n.y * n.z;
    block_barrier = {};
    for (barrier &b : warp_barrier) b = {};
    for (unsigned i = 0; i < count; i++) {
        make(i);
        fibres[i].thread = {i % n.x, i / n.x % n.y, i / (n.x * n.y)};
    }
    while (alive) {
        moved = false;
        for (running = 0; running < count; running++) {
            fibre &f = fibres[running];
            if (f.ended || (f.at && f.at->generation == f.generation)) continue;
            standin::now.thread = f.thread;
            go(&home, &f, stacks + (size_t)running * STACK, STACK, false);
        }
        if (!moved) die("threads of a block wait at different places, and none can go on");
    }
    active = false;
}
