// copy.cuh - copies on one device, for other files too.
#pragma once
#include "device.h"

namespace cuda {
bool copy_into(work &w, aj_tensor *y, aj_tensor *x);     // y's elements become x's, converted and broadcast
bool fill(work &w, aj_tensor *y, double value);
}
