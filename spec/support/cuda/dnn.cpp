// dnn.cpp - cuDNN of the stand-in, by plain loops.
#include <cudnn.h>

size_t cudnnGetVersion() { return 90000; }
const char *cudnnGetErrorString(cudnnStatus_t) { return "an error of the stand-in's cuDNN"; }
