/* backend.c - the devices there are, and the instruction level of this processor. */
#include "core.h"
#include <stdlib.h>
#include <string.h>

#ifdef AJ_LEVELS_v2
extern const aj_backend backend_cpu_v2;
#endif
#ifdef AJ_LEVELS_v3
extern const aj_backend backend_cpu_v3;
#endif
#ifdef AJ_LEVELS_v4
extern const aj_backend backend_cpu_v4;
#endif
#ifdef AJ_LEVELS_base
extern const aj_backend backend_cpu_base;
#endif

const aj_backend *aj_cpu;
static const char *level = "none";

/* AIJIT_CPU names a level to compare with another; one that the processor lacks is passed over. */
__attribute__((constructor)) static void pick(void) {
    const char *only = getenv("AIJIT_CPU");
    (void)only;
#if defined __x86_64__
    __builtin_cpu_init();
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd");
    (void)v3; (void)v4;
#define LEVEL(name, ok) if ((ok) && (!only || !*only || !aj_cpu || !strcmp(only, #name))) { aj_cpu = &backend_cpu_##name; level = #name; }
#ifdef AJ_LEVELS_v2
    LEVEL(v2, true)
#endif
#ifdef AJ_LEVELS_v3
    LEVEL(v3, v3)
#endif
#ifdef AJ_LEVELS_v4
    LEVEL(v4, v4)
#endif
#endif
#ifdef AJ_LEVELS_base
    aj_cpu = &backend_cpu_base; level = "base";
#endif
}

/* The device of shapes: every op runs its rule and no kernel. What an op gives for tensors of which one is meta is meta. */
static bool nothing(const aj_call *c) { (void)c; return true; }
static bool no_gradient(const aj_grad_call *g) { (void)g; return true; }
static aj_backend meta = {.name = "meta"};
__attribute__((constructor)) static void fill_meta(void) {
    for (int i = 0; i < OP_COUNT; i++) {
        meta.forward[i] = nothing;
        meta.grad[i][0] = meta.grad[i][1] = no_gradient;
    }
}

const aj_backend *aj_backend_of(int32_t device) { return AJ_LIKELY(device == AJ_CPU) ? aj_cpu : device == AJ_META ? &meta : aj_plugged; }
const char *aj_cpu_level(void) { return level; }

#ifndef AJ_NO_LIBRARIES
#include <dnnl.h>
#include <pthread.h>
#include <stdio.h>
extern char *openblas_get_config(void);
static char versions[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void tell(void) {
    const dnnl_version_t *v = dnnl_version();
    snprintf(versions, sizeof versions, "oneDNN %d.%d.%d; %s", v->major, v->minor, v->patch, openblas_get_config());
}
const char *aj_library_versions(void) {
    pthread_once(&once, tell);
    return versions;
}
#endif
