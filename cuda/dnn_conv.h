// dnn_conv.h - convolutions by cuDNN.
#pragma once
#include "dnn.h"

namespace cuda {

// A convolution over `spatial` dimensions of x (N, G C, I) by w (G O, C, K) to y (N, G O, Y); dimensions that are not there have
// size 1. S: strides, P: paddings, L: dilations.
struct conv_sizes {
    int spatial;
    int64_t N, C, O, G, I[3], K[3], Y[3], S[3], P[3], L[3];
};

enum conv_kind { CONV_FORWARD, CONV_DATA, CONV_FILTER };         // what is computed: y, x or w
// All of one dtype, the bias (of the channels of what is computed; NULL: none) in order. What is computed has channels last
// where what it is an image of the other kind of has.
dnn_result dnn_convolve(work &w, conv_kind kind, const conv_sizes &v, aj_tensor *x, aj_tensor *weight, aj_tensor *y, const aj_tensor *bias);

}
