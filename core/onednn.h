/* onednn.h - matrix products and convolutions of f32, bf16 and eight bits, as far as oneDNN has them. onednn.c alone calls oneDNN. */
#ifndef AJ_ONEDNN_H
#define AJ_ONEDNN_H
#include "core.h"

/* What became of a request: done; not one of oneDNN's, so that the caller does it; failed, with the error set. */
enum { AJ_ONEDNN_DONE, AJ_ONEDNN_NOT, AJ_ONEDNN_FAILED };

/* c (M x N, rows ldc apart) = a (M x K) b (K x N) + bias (N, or NULL). Of each operand one stride is 1. */
typedef struct {
    int dtype, threads;
    int64_t M, N, K;
    const void *a, *b, *bias;
    void *c;
    int64_t sa[2], sb[2], ldc;
} aj_product;
int aj_onednn_matmul(const aj_product *p);
bool aj_onednn_has(int dtype);                           /* this processor multiplies that dtype natively */
int aj_onednn_lanes(void);                               /* floats in the widest vector that oneDNN uses */

/* A convolution from N images of C channels and size I to O channels and size Y; the weights are O x C/G x K. All dense. */
enum { AJ_CONV_FORWARD, AJ_CONV_INPUT, AJ_CONV_WEIGHT };
typedef struct {
    int64_t what, dtype, nd;
    int64_t N, C, O, G;
    int64_t I[3], K[3], Y[3];
    int64_t S[3], P[3], L[3];                            /* strides, padding before, dilation */
    int64_t bias;                                        /* there is one (forward only) */
} aj_conv;
/* The ways to do one: what the names say is the layout of images within. Only some shapes have each. */
enum { AJ_CONV_BLOCKED, AJ_CONV_WINOGRAD, AJ_CONV_NHWC, AJ_CONV_PLAIN, AJ_CONV_WAYS };
/* forward: y from x, w, bias; input: x from w, y; weight: w from x, y. */
int aj_onednn_conv(const aj_conv *v, int way, int threads, void *x, void *w, const void *bias, void *y);

/* Sums, in 32 bits, of products of eight-bit numbers: x of AJ_U8 or AJ_I8 (v->dtype), the weights w of AJ_I8. Images and
 * sums have their channels last; of a product, sum (M x N) = x (M x K) w' (N x K). Weights are packed once, for as long as
 * identity (a number that no others have) and version stay. Not done where the processor lacks the instructions: older
 * ones lose bits in sums of pairs. */
int aj_onednn_conv8(const aj_conv *v, void *x, void *w, uint64_t identity, int32_t version, int32_t *sum);
int aj_onednn_matmul8(int dtype, int64_t M, int64_t N, int64_t K, void *x, void *w, uint64_t identity, int32_t version, int32_t *sum);
#endif
