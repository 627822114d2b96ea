// draw.cuh - where a kernel's random numbers begin: as the op's attributes say, or where a graph keeps it, since it moves on
// from launch to launch.
#pragma once
#include "device.h"
#include "../core/philox.h"

namespace cuda {

struct drawn {
    uint64_t seed, position;
    const uint64_t *live;                                // seed and position on the device; NULL: they are those above
    __device__ uint64_t key() const { return live ? live[0] : seed; }
    __device__ uint64_t at(int64_t i) const { return (live ? live[1] : position) + (uint64_t)i; }
};
inline drawn drawn_of(const aj_attrs *a) { return {a->seed, a->position, a->live}; }

}
