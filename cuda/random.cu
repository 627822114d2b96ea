// random.cu - tensors filled with random numbers: number i of a fill is the one that the CPU draws.
#include "draw.cuh"
#include "each.cuh"

namespace cuda {

enum drawing { UNIFORM, NORMAL, EXPONENTIAL, BERNOULLI };

// The largest number below 1 that rounds to no more in the dtype that will hold it.
__device__ inline float below_one(int dtype) { return dtype == AJ_BF16 ? 1 - 0x1p-8f : dtype == AJ_F16 ? 1 - 0x1p-11f : 1; }

template <drawing how> struct draw_f32 {
    elements x;
    drawn from;
    uint64_t below;
    float s, t;
    __device__ void operator()(int64_t i) const {
        const uint64_t seed = from.key(), at = from.at(i);
        float v;
        if (how == UNIFORM) {
            v = philox_uniform_f32(seed, at);
            float most = below_one(x.dtype);
            v = s + (t - s) * (v > most ? most : v);
        } else if (how == NORMAL) v = s + t * philox_normal_f32(seed, at);
        else if (how == EXPONENTIAL) v = s * logf(((float)(int32_t)(philox_word(seed, at) >> 9) + 0.5f) * 0x1p-23f);
        else v = philox_word(seed, at) < below;
        x.set<float>(i, v);
    }
};
template <drawing how> struct draw_f64 {
    elements x;
    drawn from;
    uint64_t below;
    double s, t;
    __device__ void operator()(int64_t i) const {
        const uint64_t seed = from.key(), at = from.at(i);
        double v;
        if (how == UNIFORM) v = s + (t - s) * philox_uniform_f64(seed, at);
        else if (how == NORMAL) v = s + t * philox_normal_f64(seed, at);
        else if (how == EXPONENTIAL) v = s * log(philox_uniform_f64(seed, at) + 0x1p-54);
        else v = philox_word(seed, at) < below;
        x.set<double>(i, v);
    }
};
struct draw_whole {
    elements x;
    drawn from;
    uint64_t count;
    int64_t low;
    __device__ void operator()(int64_t i) const {
        uint64_t w = philox_long(from.key(), from.at(i));
        // The upper half of a product of 64 bits by 64.
        uint64_t a = w >> 32, b = w & 0xffffffffu, c = count >> 32, d = count & 0xffffffffu, bd = b * d, ad = a * d, bc = b * c;
        uint64_t middle = (bd >> 32) + (ad & 0xffffffffu) + (bc & 0xffffffffu);
        x.set<int64_t>(i, (int64_t)((uint64_t)low + a * c + (ad >> 32) + (bc >> 32) + (middle >> 32)));
    }
};

template <drawing how> static bool draw(const aj_call *c, double s, double t) {
    aj_tensor *x = c->in[0];
    const aj_attrs *a = c->attrs;
    work w(c);
    uint64_t below = how == BERNOULLI ? (uint64_t)(a->s * 0x1p32) : 0;
    if (x->dtype == AJ_F64) return each(w, x->numel, draw_f64<how>{elements_of(x), drawn_of(a), below, s, t});
    return each(w, x->numel, draw_f32<how>{elements_of(x), drawn_of(a), below, (float)s, (float)t});
}
extern "C" bool uniform__cuda(const aj_call *c) { return draw<UNIFORM>(c, c->attrs->s, c->attrs->t); }
extern "C" bool normal__cuda(const aj_call *c) { return draw<NORMAL>(c, c->attrs->s, c->attrs->t); }
extern "C" bool exponential__cuda(const aj_call *c) { return draw<EXPONENTIAL>(c, -1 / c->attrs->s, 0); }
extern "C" bool bernoulli__cuda(const aj_call *c) { return draw<BERNOULLI>(c, 0, 0); }
extern "C" bool random__cuda(const aj_call *c) {
    work w(c);
    const aj_attrs *a = c->attrs;
    return each(w, c->in[0]->numel, draw_whole{elements_of(c->in[0]), drawn_of(a), (uint64_t)a->j - (uint64_t)a->i, a->i});
}

}
