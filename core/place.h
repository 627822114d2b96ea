/* place.h - where an element of a resized image comes from. Plain C, for CUDA too. */
#ifndef AJ_PLACE_H
#define AJ_PLACE_H
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define AJ_PLACE static __host__ __device__ inline
#else
#define AJ_PLACE static inline
#endif

typedef struct { int64_t i, j; double part; } resampled_place;   /* element i, or part of the way from i to j */

/* Where result o of Y comes from among I. As in PyTorch a factor, which scale_factor gives, stands for the ratio of the sizes; 0: there is none.
 * corners: of nearest, from the middle of elements. It grows with o, and j is i or i + 1. */
AJ_PLACE resampled_place resampled_place_of(bool is_linear, bool corners, double factor, int64_t o, int64_t I, int64_t Y) {
    resampled_place p = {o, o, 0};
    if (!is_linear) {                                    /* in float, as everywhere, for the sake of equal rounding */
        float scale = factor > 0 ? (float)(1 / factor) : (float)I / (float)Y;
        int64_t i = I == Y ? o : (int64_t)floorf(((float)o + (corners ? 0.5f : 0)) * scale);
        p.i = p.j = i > I - 1 ? I - 1 : i;
        return p;
    }
    if (I == Y) return p;
    double at = corners ? (Y > 1 ? (double)(I - 1) / (double)(Y - 1) : 0) * (double)o
                        : ((double)o + 0.5) * (factor > 0 ? 1 / factor : (double)I / (double)Y) - 0.5;
    if (at < 0) at = 0;
    int64_t i = (int64_t)at;
    p.i = i > I - 1 ? I - 1 : i;
    p.j = p.i < I - 1 ? p.i + 1 : p.i;
    p.part = p.j == p.i ? 0 : at - (double)p.i;
    return p;
}
#endif
