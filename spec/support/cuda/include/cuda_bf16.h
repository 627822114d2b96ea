// The half types are in the stand-in for the runtime.
#pragma once
#include <cuda_runtime.h>
