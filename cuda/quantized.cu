// quantized.cu - eight-bit products: tiles of whole sums, four products to an instruction, and one pass from sums to results.
//
// A linear layer is the convolution of places by themselves. A sum runs over the taps of a kernel, and within a tap over the
// channels of a group, of which four lie side by side in x.
#include "block.cuh"
#include "each.cuh"

namespace cuda {

__device__ inline int32_t whole(float v, float inverse, float low, float high) {         // 0 for a NaN
    v = v == v ? v * inverse : 0;
    v = v < high ? v : high;
    v = v > low ? v : low;
    return (int32_t)rintf(v);
}

struct quantized {
    elements x;
    char *y;
    float inverse;
    bool is_signed;
    __device__ void operator()(int64_t i) const {
        float v = x.get<float>(i);
        if (is_signed) ((int8_t *)y)[i] = (int8_t)whole(v, inverse, -127, 127);
        else ((uint8_t *)y)[i] = (uint8_t)whole(v, inverse, 0, 255);
    }
};
extern "C" bool quantize_cuda(const aj_call *c) {
    work w(c);
    return each(w, c->in[0]->numel, quantized{elements_of(c->in[0]), c->out[0]->data, (float)(1 / c->attrs->s), c->attrs->flag});
}

// -- Sums: tiles of 32 places by 32 outputs, of which a thread has four places

enum { TILE = 32, WORDS = 16 };                          // WORDS of four channels at a time
struct products {
    const uint8_t *x;
    const int8_t *w;
    int32_t *sum;
    bool is_signed;             // x
    int64_t places, C, O, H, W, YH, YW, group, outputs;  // channels and outputs of a group
    int32_t KH, KW, SH, SW, PH, PW, LH, LW;
};
__global__ void __launch_bounds__(THREADS) product_tile(const __grid_constant__ products p) {
    __shared__ int32_t xs[TILE][WORDS + 1], ws[TILE][WORDS + 1];
    const int column = threadIdx.x % TILE, row = threadIdx.x / TILE;
    const int64_t place0 = (int64_t)blockIdx.x * TILE, o0 = (int64_t)blockIdx.y * TILE, g = blockIdx.z, taps = (int64_t)p.KH * p.KW;
    int32_t sum[4] = {0, 0, 0, 0};
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c0 = 0; c0 < p.group; c0 += 4 * WORDS) {
            for (int e = threadIdx.x; e < TILE * WORDS; e += THREADS) {
                int r = e / WORDS, k = e % WORDS;
                int64_t place = place0 + r, o = o0 + r, c = c0 + 4 * k;
                int64_t h = place / p.YW % p.YH * p.SH - p.PH + t / p.KW * p.LH, v = place % p.YW * p.SW - p.PW + t % p.KW * p.LW;
                const bool in = place < p.places && h >= 0 && h < p.H && v >= 0 && v < p.W;
                const uint8_t *x = p.x + (in ? ((place / (p.YH * p.YW) * p.H + h) * p.W + v) * p.C + g * p.group + c : 0);
                const int8_t *w = p.w + (o < p.outputs ? ((g * p.outputs + o) * p.group + c) * taps + t : 0);
                uint32_t a = 0, b = 0;
                for (int j = 0; j < 4; j++) {
                    if (in && c + j < p.group) a |= (uint32_t)x[j] << 8 * j;
                    if (o < p.outputs && c + j < p.group) b |= (uint32_t)(uint8_t)w[j * taps] << 8 * j;
                }
                xs[r][k] = (int32_t)a;
                ws[r][k] = (int32_t)b;
            }
            __syncthreads();
            for (int k = 0; k < WORDS; k++)
                for (int j = 0; j < 4; j++) {
                    int32_t a = xs[row + 8 * j][k], b = ws[column][k];
                    // u8 by i8 has no instruction: x less 128 is an i8, and 128 times the weights is added again.
                    if (p.is_signed) sum[j] = __dp4a(a, b, sum[j]);
                    else sum[j] = __dp4a(0x01010101, b, 0) * 128 + __dp4a((int32_t)((uint32_t)a ^ 0x80808080u), b, sum[j]);
                }
            __syncthreads();
        }
    for (int j = 0; j < 4; j++) {
        int64_t place = place0 + row + 8 * j, o = o0 + column;
        if (place < p.places && o < p.outputs) p.sum[place * p.O + g * p.outputs + o] = sum[j];
    }
}

// -- From sums to results

struct finish_sums {
    const int32_t *sum;
    const float *scale, *bias;
    char *y;
    int32_t dtype, op;
    int64_t O, H, W, PH, PW, pool;                       // places of the sums, and of the results
    float inverse;
    bool relu;
    fault *faults;
    __device__ void operator()(int64_t i) const {
        int64_t o = i % O, p = i / O;
        int32_t most = sum[i];
        if (pool > 1) {                                  // scales are positive, so that the largest sum has the largest result
            if (!(scale[o] > 0)) report(faults, BAD_SCALE, op, o, 0, 0);
            int64_t first = (p / (PH * PW) * H + p / PW % PH * pool) * W + p % PW * pool;
            most = sum[first * O + o];
            for (int64_t a = 0; a < pool; a++)
                for (int64_t b = 0; b < pool; b++) { int32_t s = sum[(first + a * W + b) * O + o]; most = s > most ? s : most; }
        }
        float v = (float)most * scale[o] + (bias ? bias[o] : 0);
        if (dtype == AJ_U8) ((uint8_t *)y)[i] = (uint8_t)whole(v, inverse, 0, 255);
        else if (dtype == AJ_I8) ((int8_t *)y)[i] = (int8_t)whole(v, inverse, -127, 127);
        else write<float>(y, dtype, i, relu && v < 0 ? 0 : v);
    }
};

static bool run(const aj_call *c, products p, bool product) {
    aj_tensor *x = in_order(c->in[0]), *weight = in_order(c->in[1]), *scale = in_order(c->in[2]), *bias = in_order(c->in[3]), *y = c->out[0];
    if (!x || !weight || !scale || (c->in[3] && !bias)) return false;
    work w(c);
    p.O = weight->shape[0];
    p.outputs = p.O / c->attrs->groups;
    p.group = p.C / c->attrs->groups;
    int64_t tiles = (p.places + TILE - 1) / TILE, across = (p.outputs + TILE - 1) / TILE;
    if (tiles > INT32_MAX || across > 65535 || c->attrs->groups > 65535) return aj_refuse(c, "too large for a CUDA device: at most 65535 groups, and two million outputs of each");
    scratch room(y->device, p.places * p.O * 4);
    if (!room.p) return false;
    p.x = (const uint8_t *)x->data;
    p.is_signed = x->dtype == AJ_I8;
    p.w = (const int8_t *)weight->data;
    p.sum = (int32_t *)room.p;
    launch_together(product_tile, dim3((unsigned)tiles, (unsigned)across, (unsigned)c->attrs->groups), dim3(THREADS), w.stream, p);
    if (!w.done()) return false;
    finish_sums f = {p.sum, (const float *)(const void *)scale->data, bias ? (const float *)(const void *)bias->data : nullptr, y->data, y->dtype, c->op,
                     p.O, p.YH, p.YW, 1, 1, 1, c->attrs->s > 0 ? (float)(1 / c->attrs->s) : 0, c->attrs->flag, w.faults};
    if (!product && c->attrs->k > 1) { f.pool = c->attrs->k; f.PH = y->shape[1]; f.PW = y->shape[2]; }
    return each(w, y->numel, f);
}
extern "C" bool quantized_linear_cuda(const aj_call *c) {
    const aj_tensor *weight = c->in[1];
    if (!c->out[0]->numel) return true;
    aj_attrs one = *c->attrs;
    aj_call call = *c;
    one.groups = 1;
    call.attrs = &one;
    products p = {};
    p.places = c->out[0]->numel / weight->shape[0];
    p.C = weight->shape[1];
    p.H = p.W = p.YH = p.YW = p.KH = p.KW = p.SH = p.SW = p.LH = p.LW = 1;
    return run(&call, p, true);
}
extern "C" bool quantized_conv2d_cuda(const aj_call *c) {
    const aj_tensor *x = c->in[0], *weight = c->in[1];
    const aj_attrs *a = c->attrs;
    if (!c->out[0]->numel) return true;
    products p = {};
    p.C = x->shape[3];
    p.H = x->shape[1]; p.W = x->shape[2];
    p.KH = (int32_t)weight->shape[2]; p.KW = (int32_t)weight->shape[3];
    p.SH = a->stride.v[0]; p.SW = a->stride.v[1];
    p.PH = a->padding.v[0]; p.PW = a->padding.v[1];
    p.LH = a->dilation.v[0]; p.LW = a->dilation.v[1];
    p.YH = (p.H + 2 * p.PH - p.LH * (p.KH - 1) - 1) / p.SH + 1;
    p.YW = (p.W + 2 * p.PW - p.LW * (p.KW - 1) - 1) / p.SW + 1;
    p.places = x->shape[0] * p.YH * p.YW;
    return run(c, p, false);
}

}
