// dnn_conv.cu - convolutions by cuDNN. Halves, and what has channels last already, are given to it with channels last, for
// which its tensor core kernels are made: other tensors are turned to that order and back by a kernel here, and bias is added
// on the way.
#include "dnn_conv.h"
#include "each.cuh"
#include "launch.cuh"
#include "layout.h"

namespace cuda {

namespace {
enum { SIDE = 32, ROWS = 8 };

// Matrices of rows x columns to columns x rows; bias, one for each column, is added to them as numbers of dtype.
struct turning { const char *from, *bias; char *to; int64_t count, rows, columns; int32_t dtype; };
template <typename bits, typename real> __global__ void __launch_bounds__(SIDE * ROWS) turn_kernel(const __grid_constant__ turning t) {
    __shared__ bits tile[SIDE][SIDE + (sizeof(bits) == 2 ? 2 : 1)];
    for (int64_t z = blockIdx.z; z < t.count; z += gridDim.z)
        for (int64_t r0 = (int64_t)blockIdx.y * SIDE; r0 < t.rows; r0 += (int64_t)gridDim.y * SIDE) {
            const int64_t c0 = (int64_t)blockIdx.x * SIDE, at = z * t.rows * t.columns;
            for (int j = threadIdx.y; j < SIDE; j += ROWS)
                if (r0 + j < t.rows && c0 + threadIdx.x < t.columns) tile[j][threadIdx.x] = ((const bits *)(const void *)t.from)[at + (r0 + j) * t.columns + c0 + threadIdx.x];
            __syncthreads();
            for (int j = threadIdx.y; j < SIDE; j += ROWS) {
                int64_t c = c0 + j, r = r0 + threadIdx.x;
                if (c >= t.columns || r >= t.rows) continue;
                bits v = tile[threadIdx.x][j];
                if (t.bias) write<real>(&v, t.dtype, 0, read<real>(&v, t.dtype, 0) + read<real>(t.bias, t.dtype, c));
                ((bits *)(void *)t.to)[at + c * t.rows + r] = v;
            }
            __syncthreads();
        }
}
bool turn(work &w, const void *from, void *to, int64_t count, int64_t rows, int64_t columns, int dtype, const void *bias) {
    turning t = {(const char *)from, (const char *)bias, (char *)to, count, rows, columns, dtype};
    int64_t down = (rows + SIDE - 1) / SIDE;
    dim3 blocks((unsigned)((columns + SIDE - 1) / SIDE), (unsigned)(down < 65535 ? down : 65535), (unsigned)(count < 65535 ? count : 65535)), threads(SIDE, ROWS);
    launch_together(dtype == AJ_F64 ? turn_kernel<uint64_t, double> : dtype == AJ_F32 ? turn_kernel<uint32_t, float> : turn_kernel<uint16_t, float>, blocks, threads, w.stream, t);
    return w.done();
}

template <typename real> struct add_channels {
    char *y;
    const char *bias;
    int32_t dtype;
    int64_t channels, inner;                             // inner: how many neighbours are of one channel
    __device__ void operator()(int64_t i) const { write<real>(y, dtype, i, read<real>(y, dtype, i) + read<real>(bias, dtype, i / inner % channels)); }
};

// A tensor as (count, channels, ...) as the library sees it, with at least two dimensions after these.
struct side {
    int64_t size[5], stride[5], count, channels, inner;
    void *at;
    bool moved;                                          // it is to be turned
    void set(const aj_tensor *t, int64_t outer, int64_t c, int spatial, const int64_t *s, bool last) {
        int n = spatial < 2 ? 2 : spatial;
        at = t->data;
        count = size[0] = outer;
        channels = size[1] = c;
        inner = 1;
        for (int d = 0; d < n; d++) { size[2 + d] = d < n - spatial ? 1 : s[d - (n - spatial)]; inner *= size[2 + d]; }
        moved = last && channels > 1 && inner > 1 && !channels_last(t);
        int64_t step = last ? channels : 1;
        for (int d = n + 1; d >= 2; d--) { stride[d] = step; step *= size[d]; }
        stride[1] = last ? 1 : inner;
        stride[0] = channels * inner;
    }
};
bool suits(const aj_tensor *t) { return (t->contiguous || channels_last(t)) && (uintptr_t)t->data % 16 == 0; }
}

dnn_result dnn_convolve(work &w, conv_kind kind, const conv_sizes &v, aj_tensor *x, aj_tensor *weight, aj_tensor *y, const aj_tensor *bias) {
    const int n = v.spatial < 2 ? 2 : v.spatial, dtype = weight->dtype, made = kind == CONV_FORWARD ? 2 : kind == CONV_DATA ? 0 : 1;
    if (!dnn.here() || !aj_is_float(dtype)) return DNN_NONE;
    int64_t stride[3], padding[3], dilation[3];
    for (int d = 0; d < n; d++) {
        int e = d - (n - v.spatial);
        stride[d] = e < 0 ? 1 : v.S[e];
        padding[d] = e < 0 ? 0 : v.P[e];
        dilation[d] = e < 0 ? 1 : v.L[e];
        // A transposed convolution may have outputs that no input reaches, which the library has not.
        if (e >= 0 && (v.I[e] + 2 * v.P[e] - (v.K[e] - 1) * v.L[e] - 1) / v.S[e] + 1 != v.Y[e]) return DNN_NONE;
    }
    aj_tensor *t[3] = {x, weight, y};
    for (int k = 0; k < 3; k++) if (k != made && !suits(t[k]) && !(t[k] = aj_untag(aj_clone(t[k])))) return DNN_FAILED;
    const bool follows = made != 1 && channels_last(t[2 - made]), last = dtype == AJ_F16 || dtype == AJ_BF16 || channels_last(t[0]) || channels_last(t[2]);
    side o[3];                                           // x, w, y
    o[0].set(t[0], v.N, v.G * v.C, v.spatial, v.I, last);
    o[1].set(t[1], v.G * v.O, v.C, v.spatial, v.K, last);
    o[2].set(t[2], v.N, v.G * v.O, v.spatial, v.Y, last);
    if (follows) o[made].moved = false;
    int64_t offset[4] = {};
    for (int k = 0; k < 3; k++) offset[k + 1] = offset[k] + (o[k].moved ? (o[k].count * o[k].channels * o[k].inner * dtype_bytes(dtype) + 255) / 256 * 256 : 0);

    dnn_case of("conv", y->device, dtype);
    of.add(kind).add(v.spatial).add(v.G).add(last);
    for (int k = 0; k < 3; k++) for (int d = 0; d < n + 2; d++) of.add(o[k].size[d]);
    for (int d = 0; d < n; d++) of.add(stride[d]).add(padding[d]).add(dilation[d]);
    if (!of.possible()) return DNN_NONE;

    scratch room(y->device, offset[3] ? offset[3] : 1);
    if (!room.p) return DNN_FAILED;
    dnn_places at;
    for (int k = 0; k < 3; k++) {
        void *there = (char *)room.p + offset[k];
        if (o[k].moved && k != made && !turn(w, o[k].at, there, o[k].count, o[k].channels, o[k].inner, dtype, nullptr)) return DNN_FAILED;
        at.emplace_back(k, o[k].moved ? there : o[k].at);
    }
    static const cudnnBackendDescriptorType_t kinds[] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                                                         CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR};
    dnn_result r = dnn_run(w, of.timed(), at, [&](dnn_graph &g) {
        dnn_tensor d[3];
        for (int k = 0; k < 3; k++) d[k] = g.in_memory(k, dnn_type(dtype), n + 2, o[k].size, o[k].stride);
        g.convolution(kinds[kind], d[0], d[1], d[2], n, stride, padding, dilation);
    });
    if (r != DNN_DONE) return r;
    const side &out = o[made];
    if (follows && out.channels > 1 && out.inner > 1) lay_channels_last(t[made]);
    if (out.moved) return turn(w, at[(size_t)made].second, out.at, out.count, out.inner, out.channels, dtype, bias ? bias->data : nullptr) ? DNN_DONE : DNN_FAILED;
    if (!bias) return DNN_DONE;
    return with_floats(dtype, [&](auto real) {
        return each(w, out.count * out.channels * out.inner, add_channels<decltype(real)>{(char *)out.at, bias->data, dtype, out.channels, last ? 1 : out.inner});
    }) ? DNN_DONE : DNN_FAILED;
}

}
