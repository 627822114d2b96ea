// graph.cuh - what a capture in progress means for the rest of this folder; graph.cu.
#pragma once
#include "device.h"

namespace cuda {

// Of this thread's capture, if it is of the device; else NULL.
cudaStream_t capture_stream(int32_t device);
pool *capture_memory(int32_t device);
bool may_wait(const char *who);                          // false after aj_error: within a capture

bool graphs();                                           // the rest is as in aj_device_calls
void *graph_capture(int32_t device, int64_t n, double **place);
bool graph_captured(void *of, bool whole);
bool graph_launch(void *of, const double *numbers, const aj_copied *before, int n_before, const aj_copied *after, int n_after);
void graph_free(void *of);
bool derive(int32_t device, int32_t n, int what, const double *total, double *number);

// fuse.cpp
bool fuses(int op, int column);
int fuse(aj_fused *f);
bool fused_run(const aj_fused *f);
void fused_free(aj_fused *f);

bool put_words(work &w, void *to, const void *words, int64_t n);         // of 8 bytes each, by the arguments of a kernel: a graph keeps them

}
