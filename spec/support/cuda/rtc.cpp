// rtc.cpp - NVRTC of the stand-in.
#include <nvrtc.h>

const char *nvrtcGetErrorString(nvrtcResult) { return "an error of the stand-in's NVRTC"; }
nvrtcResult nvrtcVersion(int *major, int *minor) {
    *major = 13;
    *minor = 0;
    return NVRTC_SUCCESS;
}
