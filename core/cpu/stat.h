/* stat.h - what kernels share of one dense run of numbers. */
#ifndef AJ_STAT_H
#define AJ_STAT_H
#include "lanes.h"

#define KERNEL_OF(name, type) KERNEL_OF_(KERNEL(name), type)
#define KERNEL_OF_(name, type) KERNEL_OF__(name, type)
#define KERNEL_OF__(name, type) name##_##type
/* s = sum (x - shift), q = sum (x - shift)^2 */
void KERNEL_OF(moments, f32)(const float *x, int64_t n, float shift, double *s, double *q);
void KERNEL_OF(moments, f64)(const double *x, int64_t n, double shift, double *s, double *q);
/* the largest element; any number where some are NaN */
float KERNEL_OF(top, f32)(const float *x, int64_t n);
double KERNEL_OF(top, f64)(const double *x, int64_t n);
/* sum of exp(x - top) */
double KERNEL_OF(sum_exp, f32)(const float *x, int64_t n, float top);
double KERNEL_OF(sum_exp, f64)(const double *x, int64_t n, double top);
/* log(sum(exp(x))), from the largest element */
double KERNEL_OF(log_sum_exp, f32)(const float *x, int64_t n, float top);
double KERNEL_OF(log_sum_exp, f64)(const double *x, int64_t n, double top);
#endif
