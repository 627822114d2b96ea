// dnn.cpp - cuDNN of the stand-in. Descriptors are checked as cuDNN's documentation asks, and a graph is run operation by
// operation by plain loops, in double precision; so a graph that is wired wrongly gives wrong numbers, or an error.
//
// AIJIT_STANDIN_CUDNN   a true libcudnn.so.9, by path: it is asked too, of each descriptor, for a GPU that need not be there, and
//                       what it refuses is refused. So that what aijit asks of cuDNN can be tried without a GPU.
// AIJIT_STANDIN_GPU     that GPU: H100 (the default) or A100
// AIJIT_STANDIN_TELL    what is refused and what is run is written to stderr
// AIJIT_STANDIN_DRY     nothing is run: large graphs can be tried, and give no numbers
#include <cudnn.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

struct cudnnContext { cudaStream_t stream; };

namespace {
thread_local std::string last;
cudnnStatus_t wrong(cudnnStatus_t s, const std::string &why) {
    last = why;
    if (getenv("AIJIT_STANDIN_TELL")) fprintf(stderr, "cuDNN stand-in: %d: %s\n", (int)s, why.c_str());
    return s;
}

// -- The true library, where it is named

struct true_library {
    decltype(&cudnnGetVersion) version;
    decltype(&cudnnGetLastErrorString) last_error;
    decltype(&cudnnBackendCreateDescriptor) create;
    decltype(&cudnnBackendDestroyDescriptor) destroy;
    decltype(&cudnnBackendFinalize) finalize;
    decltype(&cudnnBackendSetAttribute) set;
    decltype(&cudnnBackendGetAttribute) get;
    cudnnBackendDescriptor_t gpu = nullptr;
    [[noreturn]] void die(const char *what) { fprintf(stderr, "cuDNN stand-in: AIJIT_STANDIN_CUDNN: %s\n", what); abort(); }
    explicit true_library(const char *path) {
        // It compiles kernels by NVRTC, and wants a driver to load them: the toolkit has one that does nothing, which will do.
        std::string folder = std::string(path).substr(0, std::string(path).rfind('/') + 1);
        for (const char *other : {"stubs/libcuda.so", "../lib64/stubs/libcuda.so", "libnvrtc.so.13", "libnvrtc.so.12"}) dlopen((folder + other).c_str(), RTLD_NOW | RTLD_GLOBAL);
        void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!h) die(dlerror());
#define TAKE(field, name) if (!(field = (decltype(field))dlsym(h, #name))) die(#name " is not there")
        TAKE(version, cudnnGetVersion);
        TAKE(last_error, cudnnGetLastErrorString);
        TAKE(create, cudnnBackendCreateDescriptor);
        TAKE(destroy, cudnnBackendDestroyDescriptor);
        TAKE(finalize, cudnnBackendFinalize);
        TAKE(set, cudnnBackendSetAttribute);
        TAKE(get, cudnnBackendGetAttribute);
#undef TAKE
        const char *named = getenv("AIJIT_STANDIN_GPU");
        bool ampere = named && !strcmp(named, "A100");
        char json[1024];
        snprintf(json, sizeof json,
                 "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"multiProcessorCount\":%d,\"warpSize\":32,"
                 "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":%d,\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,"
                 "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,\"isTccDriver\":0,\"supportCoopLaunch\":1,\"totalGlobalMem\":84929347584,"
                 "\"smClockRateKHz\":%d,\"memClockRateKHz\":%d,\"l2CacheSize\":%d,\"cudaDeviceId\":0,\"deviceVer\":%d,\"driverVer\":13000,\"deviceName\":\"%s\"}",
                 ampere ? 108 : 132, ampere ? 166912 : 232448, ampere ? 1410000 : 1980000, ampere ? 1593000 : 2619000, ampere ? 41943040 : 52428800, ampere ? 800 : 900,
                 ampere ? "NVIDIA A100-SXM4-80GB" : "NVIDIA H100 80GB HBM3");
        if (create(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &gpu) || set(gpu, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json), json) || finalize(gpu))
            die("it takes no description of a GPU; it must be cuDNN 9.11 or newer");
    }
};
true_library *truth() {
    static true_library *library = getenv("AIJIT_STANDIN_CUDNN") ? new true_library(getenv("AIJIT_STANDIN_CUDNN")) : nullptr;
    return library;
}
cudnnStatus_t as_truth(cudnnStatus_t s, const char *what) {
    if (s == CUDNN_STATUS_SUCCESS) return s;
    char why[2048] = "";
    truth()->last_error(why, sizeof why);
    return wrong(s, std::string(what) + ": " + why);
}

// -- Descriptors

struct descriptor;
typedef std::shared_ptr<descriptor> held;
struct attribute { cudnnBackendAttributeType_t type; int64_t count; std::vector<char> bytes; std::vector<held> of; };
struct descriptor : std::enable_shared_from_this<descriptor> {
    cudnnBackendDescriptorType_t type;
    bool finalized = false;
    std::map<int, attribute> has;
    cudnnBackendDescriptor_t twin = nullptr;             // in the true library
    bool unloaded = false;                               // a plan whose kernel the true library has made, and could not load
    int way = 0;                                         // of an engine, and its configuration
    held self;                                           // until it is destroyed by its user
    ~descriptor() { if (twin) truth()->destroy(twin); }
    template <typename T> T one(int name, T otherwise = T()) const {
        auto i = has.find(name);
        T v = otherwise;
        if (i != has.end()) memcpy(&v, i->second.bytes.data(), sizeof v);
        return v;
    }
    std::vector<int64_t> list(int name) const {
        auto i = has.find(name);
        std::vector<int64_t> v;
        if (i != has.end()) { v.resize((size_t)i->second.count); memcpy(v.data(), i->second.bytes.data(), v.size() * 8); }
        return v;
    }
    held of(int name, size_t k = 0) const {
        auto i = has.find(name);
        return i == has.end() || i->second.of.size() <= k ? nullptr : i->second.of[k];
    }
};
std::set<descriptor *> alive;

size_t bytes_of(cudnnBackendAttributeType_t t) {
    switch (t) {
    case CUDNN_TYPE_BOOLEAN: case CUDNN_TYPE_CHAR: return 1;
    case CUDNN_TYPE_INT64: case CUDNN_TYPE_DOUBLE: case CUDNN_TYPE_HANDLE: case CUDNN_TYPE_VOID_PTR: case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    default: return 4;
    }
}

// What a descriptor takes: the attribute, its type, how many, and whether it must be there.
struct takes { int descriptor, name; cudnnBackendAttributeType_t type; int64_t least, most; bool needed; };
enum : int64_t { MOST = 1 << 16 };
const takes table[] = {
#define T(d, name, type, least, most, needed) {CUDNN_BACKEND_##d##_DESCRIPTOR, CUDNN_ATTR_##name, CUDNN_TYPE_##type, least, most, needed},
    T(TENSOR, TENSOR_UNIQUE_ID, INT64, 1, 1, true) T(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, 1, 1, true) T(TENSOR, TENSOR_BYTE_ALIGNMENT, INT64, 1, 1, true)
    T(TENSOR, TENSOR_DIMENSIONS, INT64, 1, 8, true) T(TENSOR, TENSOR_STRIDES, INT64, 1, 8, true) T(TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN, 1, 1, false)
    T(TENSOR, TENSOR_IS_BY_VALUE, BOOLEAN, 1, 1, false)
    T(CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, INT64, 1, 1, true) T(CONVOLUTION, CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, 1, true)
    T(CONVOLUTION, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, 1, true) T(CONVOLUTION, CONVOLUTION_PRE_PADDINGS, INT64, 1, 3, true)
    T(CONVOLUTION, CONVOLUTION_POST_PADDINGS, INT64, 1, 3, true) T(CONVOLUTION, CONVOLUTION_DILATIONS, INT64, 1, 3, true)
    T(CONVOLUTION, CONVOLUTION_FILTER_STRIDES, INT64, 1, 3, true)
#define CONVOLUTION(d, n, x, w, y, real) \
    T(d, n##x, BACKEND_DESCRIPTOR, 1, 1, true) T(d, n##w, BACKEND_DESCRIPTOR, 1, 1, true) T(d, n##y, BACKEND_DESCRIPTOR, 1, 1, true) \
    T(d, n##CONV_DESC, BACKEND_DESCRIPTOR, 1, 1, true) T(d, n##ALPHA, real, 1, 1, true) T(d, n##BETA, real, 1, 1, true)
    CONVOLUTION(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_, X, W, Y, FLOAT)
    CONVOLUTION(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_, DX, W, DY, FLOAT)
    CONVOLUTION(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_, X, DW, DY, FLOAT)
    T(POINTWISE, POINTWISE_MODE, POINTWISE_MODE, 1, 1, true) T(POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, 1, 1, true) T(POINTWISE, POINTWISE_AXIS, INT64, 1, 1, false)
    T(OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, 1, 1, true) T(OPERATION_POINTWISE, OPERATION_POINTWISE_XDESC, BACKEND_DESCRIPTOR, 1, 1, true)
    T(OPERATION_POINTWISE, OPERATION_POINTWISE_BDESC, BACKEND_DESCRIPTOR, 1, 1, false) T(OPERATION_POINTWISE, OPERATION_POINTWISE_TDESC, BACKEND_DESCRIPTOR, 1, 1, false)
    T(OPERATION_POINTWISE, OPERATION_POINTWISE_YDESC, BACKEND_DESCRIPTOR, 1, 1, true)
    T(MATMUL, MATMUL_COMP_TYPE, DATA_TYPE, 1, 1, true)
    T(OPERATION_MATMUL, OPERATION_MATMUL_ADESC, BACKEND_DESCRIPTOR, 1, 1, true) T(OPERATION_MATMUL, OPERATION_MATMUL_BDESC, BACKEND_DESCRIPTOR, 1, 1, true)
    T(OPERATION_MATMUL, OPERATION_MATMUL_CDESC, BACKEND_DESCRIPTOR, 1, 1, true) T(OPERATION_MATMUL, OPERATION_MATMUL_DESC, BACKEND_DESCRIPTOR, 1, 1, true)
    T(REDUCTION, REDUCTION_OPERATOR, REDUCTION_OPERATOR_TYPE, 1, 1, true) T(REDUCTION, REDUCTION_COMP_TYPE, DATA_TYPE, 1, 1, true)
    T(OPERATION_REDUCTION, OPERATION_REDUCTION_XDESC, BACKEND_DESCRIPTOR, 1, 1, true) T(OPERATION_REDUCTION, OPERATION_REDUCTION_YDESC, BACKEND_DESCRIPTOR, 1, 1, true)
    T(OPERATION_REDUCTION, OPERATION_REDUCTION_DESC, BACKEND_DESCRIPTOR, 1, 1, true)
    T(OPERATION_RESHAPE, OPERATION_RESHAPE_XDESC, BACKEND_DESCRIPTOR, 1, 1, true) T(OPERATION_RESHAPE, OPERATION_RESHAPE_YDESC, BACKEND_DESCRIPTOR, 1, 1, true)
    T(OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE, 1, 1, true) T(OPERATIONGRAPH, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, 1, MOST, true)
    T(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, 1, true) T(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, 1, 1, true)
    T(ENGINECFG, ENGINECFG_ENGINE, BACKEND_DESCRIPTOR, 1, 1, true) T(ENGINE, ENGINE_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, 1, true)
    T(EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE, 1, 1, true) T(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, BACKEND_DESCRIPTOR, 1, 1, true)
    T(VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, 1, MOST, true) T(VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, 1, MOST, true)
    T(VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, 1, true)
#undef T
};
const takes *found(int type, int name) {
    for (const takes &t : table) if (t.descriptor == type && t.name == name) return &t;
    return nullptr;
}

// -- Tensors and operations

struct tensor {
    int64_t uid, alignment;
    cudnnDataType_t type;
    std::vector<int64_t> size, stride;
    bool is_virtual, by_value;
    int64_t count() const { int64_t n = 1; for (int64_t s : size) n *= s; return n; }
    int64_t span() const { int64_t n = 1; for (size_t d = 0; d < size.size(); d++) n += (size[d] - 1) * stride[d]; return n; }
};
tensor tensor_of(const held &d) {
    return {d->one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID), d->one<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT), (cudnnDataType_t)d->one<int32_t>(CUDNN_ATTR_TENSOR_DATA_TYPE),
            d->list(CUDNN_ATTR_TENSOR_DIMENSIONS), d->list(CUDNN_ATTR_TENSOR_STRIDES), d->one<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL), d->one<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE)};
}
size_t bytes_of(cudnnDataType_t t) {
    return t == CUDNN_DATA_BOOLEAN ? 1 : t == CUDNN_DATA_HALF || t == CUDNN_DATA_BFLOAT16 ? 2 : t == CUDNN_DATA_DOUBLE || t == CUDNN_DATA_INT64 ? 8 : 4;
}

enum kind { FORWARD, DATA, FILTER, MAP, MATMUL, REDUCE, RESHAPE };
struct operation { kind k; std::vector<tensor> in; tensor out; int mode; int64_t axis; std::vector<int64_t> stride, padding, dilation; };

std::string shape(const tensor &t) {
    std::string s = "(";
    for (size_t d = 0; d < t.size.size(); d++) s += (d ? ", " : "") + std::to_string(t.size[d]);
    return s + ")";
}
bool spreads(const tensor &x, const tensor &over) {       // x's sizes are those of over, or 1
    if (x.size.size() != over.size.size()) return false;
    for (size_t d = 0; d < x.size.size(); d++) if (x.size[d] != over.size[d] && x.size[d] != 1) return false;
    return true;
}

// The operation of a descriptor; what is wrong with it.
std::string read_operation(const descriptor &d, operation &o) {
    auto t = [&](int name) { return tensor_of(d.of(name)); };
    switch (d.type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR: {
        o.k = d.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ? FORWARD : d.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? DATA : FILTER;
        static const int names[3][6] = {
            {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
            {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
            {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};
        const int *n = names[o.k];
        held c = d.of(n[3]);
        tensor x = t(n[0]), w = t(n[1]), y = t(n[2]);
        bool wide = c->one<int32_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) == CUDNN_DATA_DOUBLE;
        for (int k = 4; k < 6; k++) {
            if (d.has.at(n[k]).type != (wide ? CUDNN_TYPE_DOUBLE : CUDNN_TYPE_FLOAT)) return "alpha and beta are not of the type computed in";
            if ((wide ? d.one<double>(n[k]) : (double)d.one<float>(n[k])) != (k == 4)) return "the stand-in has alpha 1 and beta 0 only";
        }
        o.stride = c->list(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
        o.padding = c->list(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
        o.dilation = c->list(CUDNN_ATTR_CONVOLUTION_DILATIONS);
        size_t s = o.stride.size();
        if (x.size.size() != s + 2 || w.size.size() != s + 2 || y.size.size() != s + 2) return "a convolution over " + std::to_string(s) + " dimensions of tensors of other ranks";
        if (x.size[0] != y.size[0] || w.size[0] != y.size[1] || x.size[1] % w.size[1] || y.size[1] % (x.size[1] / w.size[1]))
            return "channels of x " + shape(x) + ", w " + shape(w) + ", y " + shape(y) + " do not fit";
        for (size_t i = 0; i < s; i++) {
            int64_t room = x.size[i + 2] + 2 * o.padding[i] - (w.size[i + 2] - 1) * o.dilation[i] - 1;
            if (room < 0 || room / o.stride[i] + 1 != y.size[i + 2]) return "sizes of x " + shape(x) + ", w " + shape(w) + ", y " + shape(y) + " do not fit";
        }
        o.in = o.k == FORWARD ? std::vector<tensor>{x, w} : o.k == DATA ? std::vector<tensor>{w, y} : std::vector<tensor>{x, y};
        o.out = o.k == FORWARD ? y : o.k == DATA ? x : w;
        return "";
    }
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: {
        held p = d.of(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
        o.k = MAP;
        o.mode = p->one<int32_t>(CUDNN_ATTR_POINTWISE_MODE);
        o.axis = p->one<int64_t>(CUDNN_ATTR_POINTWISE_AXIS, -1);
        o.out = t(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
        o.in = {t(CUDNN_ATTR_OPERATION_POINTWISE_XDESC)};
        bool binary = false, ternary = o.mode == CUDNN_POINTWISE_BINARY_SELECT;
        for (int m : {CUDNN_POINTWISE_ADD, CUDNN_POINTWISE_MUL, CUDNN_POINTWISE_DIV, CUDNN_POINTWISE_SUB, CUDNN_POINTWISE_CMP_GE}) binary = binary || o.mode == m;
        if ((binary || ternary) != !!d.of(CUDNN_ATTR_OPERATION_POINTWISE_BDESC) || ternary != !!d.of(CUDNN_ATTR_OPERATION_POINTWISE_TDESC)) return "a pointwise operation has inputs that its mode does not";
        if (binary || ternary) o.in.push_back(t(CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
        if (ternary) o.in.push_back(t(CUDNN_ATTR_OPERATION_POINTWISE_TDESC));
        if (ternary && o.in[2].type != CUDNN_DATA_BOOLEAN) return "a choice is not by booleans";
        if ((o.mode == CUDNN_POINTWISE_GEN_INDEX) != (o.axis >= 0) || o.axis >= (int64_t)o.out.size.size()) return "an index has no axis, or another operation one";
        for (const tensor &x : o.in) if (!spreads(x, o.out)) return "pointwise: " + shape(x) + " does not spread over " + shape(o.out);
        return "";
    }
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: {
        o.k = MATMUL;
        o.in = {t(CUDNN_ATTR_OPERATION_MATMUL_ADESC), t(CUDNN_ATTR_OPERATION_MATMUL_BDESC)};
        o.out = t(CUDNN_ATTR_OPERATION_MATMUL_CDESC);
        const tensor &a = o.in[0], &b = o.in[1], &c = o.out;
        size_t n = c.size.size();
        std::string what = "matmul: " + shape(a) + " " + shape(b) + " " + shape(c);
        if (n < 3 || a.size.size() != n || b.size.size() != n || a.size[n - 2] != c.size[n - 2] || b.size[n - 1] != c.size[n - 1] || a.size[n - 1] != b.size[n - 2]) return what;
        for (size_t k = 0; k + 2 < n; k++) if (c.size[k] % a.size[k] || c.size[k] % b.size[k]) return what;
        if (a.type != b.type && !a.is_virtual && !b.is_virtual) return "matmul: operands of different types";
        return "";
    }
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: {
        o.k = REDUCE;
        o.mode = d.of(CUDNN_ATTR_OPERATION_REDUCTION_DESC)->one<int32_t>(CUDNN_ATTR_REDUCTION_OPERATOR);
        o.in = {t(CUDNN_ATTR_OPERATION_REDUCTION_XDESC)};
        o.out = t(CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
        for (size_t k = 0; k < o.out.size.size(); k++) if (o.in[0].size.size() != o.out.size.size() || o.in[0].size[k] % o.out.size[k]) return "reduction: " + shape(o.in[0]) + " to " + shape(o.out);
        return "";
    }
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        o.k = RESHAPE;
        o.in = {t(CUDNN_ATTR_OPERATION_RESHAPE_XDESC)};
        o.out = t(CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
        return o.in[0].count() == o.out.count() ? "" : "reshape: " + shape(o.in[0]) + " to " + shape(o.out);
    default: return "not an operation";
    }
}

// -- Runs

struct place { tensor t; char *at; std::vector<double> own; };
double get(const place &p, int64_t offset) {
    if (!p.at) return p.own[(size_t)offset];
    const char *at = p.at + offset * (int64_t)bytes_of(p.t.type);
    switch (p.t.type) {
    case CUDNN_DATA_DOUBLE: { double v; memcpy(&v, at, 8); return v; }
    case CUDNN_DATA_HALF: { uint16_t v; memcpy(&v, at, 2); return (double)__half2float(__ushort_as_half(v)); }
    case CUDNN_DATA_BFLOAT16: { uint16_t v; memcpy(&v, at, 2); return (double)__bfloat162float(__ushort_as_bfloat16(v)); }
    default: { float v; memcpy(&v, at, 4); return (double)v; }
    }
}
void put(place &p, int64_t offset, double v) {
    if (!p.at) {
        p.own[(size_t)offset] = p.t.type == CUDNN_DATA_HALF ? (double)__half2float(__float2half_rn((float)v)) : p.t.type == CUDNN_DATA_BFLOAT16 ? (double)__bfloat162float(__float2bfloat16_rn((float)v))
                              : p.t.type == CUDNN_DATA_FLOAT ? (double)(float)v : v;
        return;
    }
    char *at = p.at + offset * (int64_t)bytes_of(p.t.type);
    switch (p.t.type) {
    case CUDNN_DATA_DOUBLE: memcpy(at, &v, 8); break;
    case CUDNN_DATA_HALF: { uint16_t h = __half_as_ushort(__float2half_rn((float)v)); memcpy(at, &h, 2); break; }
    case CUDNN_DATA_BFLOAT16: { uint16_t h = __bfloat16_as_ushort(__float2bfloat16_rn((float)v)); memcpy(at, &h, 2); break; }
    default: { float f = (float)v; memcpy(at, &f, 4); }
    }
}
// Where in x the index of another tensor falls, whose sizes are multiples of x's.
int64_t offset(const tensor &x, const std::vector<int64_t> &index, const tensor &over) {
    int64_t at = 0;
    for (size_t d = 0; d < x.size.size(); d++) at += index[d] / (over.size[d] / x.size[d]) * x.stride[d];
    return at;
}
template <typename F> void each(const tensor &t, F f) {
    std::vector<int64_t> i(t.size.size());
    for (int64_t n = t.count(); n > 0; n--) {
        f(i);
        for (size_t d = i.size(); d-- > 0;) { if (++i[d] < t.size[d]) break; i[d] = 0; }
    }
}

double map(int mode, double a, double b, double t) {
    switch (mode) {
    case CUDNN_POINTWISE_ADD: return a + b;
    case CUDNN_POINTWISE_SUB: return a - b;
    case CUDNN_POINTWISE_MUL: return a * b;
    case CUDNN_POINTWISE_DIV: return a / b;
    case CUDNN_POINTWISE_EXP: return std::exp(a);
    case CUDNN_POINTWISE_LOG: return std::log(a);
    case CUDNN_POINTWISE_CMP_GE: return a >= b;
    case CUDNN_POINTWISE_BINARY_SELECT: return t != 0 ? a : b;
    default: return a;
    }
}

void convolve(const operation &o, const place &x, const place &w, const place &y, place &out) {
    std::vector<double> sum((size_t)out.t.span());
    int64_t groups = x.t.size[1] / w.t.size[1], outputs = y.t.size[1] / groups;
    each(y.t, [&](const std::vector<int64_t> &i) {
        each(w.t, [&](const std::vector<int64_t> &j) {
            if (j[0] != i[1]) return;
            int64_t ax = i[0] * x.t.stride[0] + (i[1] / outputs * w.t.size[1] + j[1]) * x.t.stride[1], aw = j[0] * w.t.stride[0] + j[1] * w.t.stride[1], ay = i[0] * y.t.stride[0] + i[1] * y.t.stride[1];
            for (size_t d = 0; d < o.stride.size(); d++) {
                int64_t p = i[d + 2] * o.stride[d] - o.padding[d] + j[d + 2] * o.dilation[d];
                if (p < 0 || p >= x.t.size[d + 2]) return;
                ax += p * x.t.stride[d + 2];
                aw += j[d + 2] * w.t.stride[d + 2];
                ay += i[d + 2] * y.t.stride[d + 2];
            }
            if (o.k == FORWARD) sum[(size_t)ay] += get(x, ax) * get(w, aw);
            else if (o.k == DATA) sum[(size_t)ax] += get(w, aw) * get(y, ay);
            else sum[(size_t)aw] += get(x, ax) * get(y, ay);
        });
    });
    each(out.t, [&](const std::vector<int64_t> &i) { int64_t at = offset(out.t, i, out.t); put(out, at, sum[(size_t)at]); });
}

void run(const operation &o, std::map<int64_t, place> &places) {
    place &y = places.at(o.out.uid), &a = places.at(o.in[0].uid), *b = o.in.size() > 1 ? &places.at(o.in[1].uid) : nullptr, *t = o.in.size() > 2 ? &places.at(o.in[2].uid) : nullptr;
    switch (o.k) {
    case FORWARD: convolve(o, a, *b, y, y); break;
    case DATA: convolve(o, y, a, *b, y); break;
    case FILTER: convolve(o, a, y, *b, y); break;
    case MAP:
        each(y.t, [&](const std::vector<int64_t> &i) {
            double v = o.mode == CUDNN_POINTWISE_GEN_INDEX ? (double)i[(size_t)o.axis]
                     : map(o.mode, get(a, offset(a.t, i, y.t)), b ? get(*b, offset(b->t, i, y.t)) : 0, t ? get(*t, offset(t->t, i, y.t)) : 0);
            put(y, offset(y.t, i, y.t), v);
        });
        break;
    case MATMUL: {
        size_t n = y.t.size.size();
        int64_t K = a.t.size[n - 1];
        each(y.t, [&](const std::vector<int64_t> &i) {
            int64_t pa = i[n - 2] * a.t.stride[n - 2], pb = i[n - 1] * b->t.stride[n - 1];
            for (size_t d = 0; d + 2 < n; d++) {
                pa += i[d] / (y.t.size[d] / a.t.size[d]) * a.t.stride[d];
                pb += i[d] / (y.t.size[d] / b->t.size[d]) * b->t.stride[d];
            }
            double sum = 0;
            for (int64_t k = 0; k < K; k++) sum += get(a, pa + k * a.t.stride[n - 1]) * get(*b, pb + k * b->t.stride[n - 2]);
            put(y, offset(y.t, i, y.t), sum);
        });
        break;
    }
    case REDUCE: {
        std::map<int64_t, double> sum;
        each(a.t, [&](const std::vector<int64_t> &i) {
            double v = get(a, offset(a.t, i, a.t));
            auto s = sum.emplace(offset(y.t, i, a.t), v);
            if (!s.second) s.first->second = o.mode == CUDNN_REDUCE_TENSOR_ADD ? s.first->second + v : std::max(s.first->second, v);
        });
        for (auto &s : sum) put(y, s.first, s.second);
        break;
    }
    case RESHAPE: each(y.t, [&](const std::vector<int64_t> &i) { int64_t at = offset(y.t, i, y.t); put(y, at, get(a, at)); }); break;
    }
}

// -- Checks at the end of a descriptor

std::string check_graph(const descriptor &d) {
    std::map<int64_t, held> of;
    std::set<int64_t> ready;
    for (const held &op : d.has.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).of) {
        operation o;
        std::string why = read_operation(*op, o);
        if (!why.empty()) return why;
        for (auto &a : op->has)
            for (const held &t : a.second.of) {
                if (t->type != CUDNN_BACKEND_TENSOR_DESCRIPTOR) continue;
                held &known = of[t->one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)];
                if (known && known != t) return "two tensors have the number " + std::to_string(t->one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID));
                known = t;
            }
        for (const tensor &t : o.in) if (t.is_virtual && !ready.count(t.uid)) return "tensor " + std::to_string(t.uid) + " is read before an operation writes it";
        if (o.out.by_value || !ready.insert(o.out.uid).second) return "tensor " + std::to_string(o.out.uid) + " is written twice, or is a scalar";
    }
    return "";
}
std::string check(const descriptor &d) {
    for (const takes &t : table) if (t.descriptor == d.type && t.needed && !d.has.count(t.name)) return "attribute " + std::to_string(t.name) + " is missing";
    switch (d.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: {
        std::vector<int64_t> size = d.list(CUDNN_ATTR_TENSOR_DIMENSIONS), stride = d.list(CUDNN_ATTR_TENSOR_STRIDES);
        int64_t alignment = d.one<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
        if (size.size() != stride.size()) return "a tensor has other numbers of sizes and strides";
        for (size_t i = 0; i < size.size(); i++) if (size[i] < 1 || stride[i] < 1) return "a tensor has sizes or strides below 1";
        if (alignment < 1 || (alignment & (alignment - 1))) return "an alignment is no power of 2";
        return "";
    }
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR: {
        size_t n = (size_t)d.one<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS);
        for (int a : {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES})
            if (d.list(a).size() != n) return "a convolution's attributes are not of its spatial dimensions";
        return d.list(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS) == d.list(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS) ? "" : "the stand-in has equal paddings only";
    }
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: return check_graph(d);
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        return d.has.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).count == d.has.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).count ? "" : "a variant pack has other numbers of pointers and uids";
    case CUDNN_BACKEND_POINTWISE_DESCRIPTOR: case CUDNN_BACKEND_MATMUL_DESCRIPTOR: case CUDNN_BACKEND_REDUCTION_DESCRIPTOR: case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR: case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: return "";
    default: { operation o; return read_operation(d, o); }
    }
}
descriptor *known(cudnnBackendDescriptor_t d) { return alive.count((descriptor *)d) ? (descriptor *)d : nullptr; }
enum { WAYS = 2 };                                       // the first is quick and inexact, the second the opposite
}

// -- The library's functions

size_t cudnnGetVersion() { return truth() ? truth()->version() : 91900; }
const char *cudnnGetErrorString(cudnnStatus_t s) {
    return s == CUDNN_STATUS_SUCCESS ? "CUDNN_STATUS_SUCCESS" : (int)s / 1000 == 2 ? "CUDNN_STATUS_BAD_PARAM" : (int)s / 1000 == 3 ? "CUDNN_STATUS_NOT_SUPPORTED" : "CUDNN_STATUS_EXECUTION_FAILED";
}
void cudnnGetLastErrorString(char *message, size_t size) { snprintf(message, size, "%s", last.c_str()); }
cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) { *handle = new cudnnContext{nullptr}; return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { delete handle; return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) { handle->stream = stream; return CUDNN_STATUS_SUCCESS; }

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out) {
    held d = std::make_shared<descriptor>();
    d->type = type;
    if (truth() && type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        if (cudnnStatus_t s = as_truth(truth()->create(type, &d->twin), "create")) return s;
    d->self = d;
    alive.insert(d.get());
    *out = d.get();
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t p) {
    descriptor *d = known(p);
    if (!d) return wrong(CUDNN_STATUS_BAD_PARAM, "no descriptor is destroyed");
    alive.erase(d);
    held last_one = std::move(d->self);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t p, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void *v) {
    descriptor *d = known(p);
    if (!d || !v) return wrong(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "set of nothing");
    const takes *t = found(d->type, name);
    std::string what = "attribute " + std::to_string(name) + " of descriptor type " + std::to_string(d->type);
    if (d->finalized) return wrong(CUDNN_STATUS_BAD_PARAM, what + " is set after its end");
    if (!t) return wrong(CUDNN_STATUS_BAD_PARAM, what + " is not there");
    if (type != t->type && !(t->type == CUDNN_TYPE_FLOAT && type == CUDNN_TYPE_DOUBLE)) return wrong(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, what + " has another type");
    if (count < t->least || count > t->most) return wrong(CUDNN_STATUS_BAD_PARAM, what + " has another count");
    attribute a = {type, count, std::vector<char>((const char *)v, (const char *)v + bytes_of(type) * (size_t)count), {}};
    std::vector<cudnnBackendDescriptor_t> twins;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < count; i++) {
            descriptor *e = known(((cudnnBackendDescriptor_t const *)v)[i]);
            if (!e || !e->finalized) return wrong(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, what + " is a descriptor that is not finished");
            a.of.push_back(e->shared_from_this());
            twins.push_back(e->twin);
        }
    if (d->twin && type != CUDNN_TYPE_HANDLE)
        if (cudnnStatus_t s = as_truth(truth()->set(d->twin, name, type, count, twins.empty() ? v : twins.data()), what.c_str())) return s;
    d->has[name] = std::move(a);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t p) {
    descriptor *d = known(p);
    if (!d) return wrong(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no descriptor is finished");
    std::string why = check(*d);
    if (!why.empty()) return wrong(CUDNN_STATUS_BAD_PARAM, why);
    if (d->twin) {
        int gpu = d->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR ? CUDNN_ATTR_ENGINEHEUR_DEVICEPROP : d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ? CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP : -1;
        if (gpu >= 0)
            if (cudnnStatus_t s = as_truth(truth()->set(d->twin, (cudnnBackendAttributeName_t)gpu, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &truth()->gpu), "GPU")) return s;
        cudnnStatus_t is = truth()->finalize(d->twin);
        d->unloaded = d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR && is == CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER;
        if (cudnnStatus_t s = as_truth(d->unloaded ? CUDNN_STATUS_SUCCESS : is, ("end of descriptor type " + std::to_string(d->type)).c_str())) return s;
    }
    d->finalized = true;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t p, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *out) {
    descriptor *d = known(p);
    if (!d) return wrong(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "get of nothing");
    if (!d->finalized) return wrong(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "get of a descriptor that is not finished");
    descriptor **of = (descriptor **)out;
    std::vector<cudnnBackendDescriptor_t> twins;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < room; i++) {
            if (!known(of[i]) || of[i]->finalized) return wrong(CUDNN_STATUS_BAD_PARAM, "descriptors that are got must be made, and not finished");
            twins.push_back(of[i]->twin);
        }
    bool is_true = d->twin && !d->unloaded;
    if (is_true)
        if (cudnnStatus_t s = as_truth(truth()->get(d->twin, name, type, room, count, twins.empty() ? out : twins.data()), "get")) return s;
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
        if (!is_true) *count = !room || room > WAYS ? (int64_t)WAYS : room;
        for (int64_t i = 0; i < room && i < *count; i++) {
            of[i]->way = (int)i;
            of[i]->finalized = true;
            held g = d->of(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
            of[i]->has[CUDNN_ATTR_ENGINE_OPERATION_GRAPH] = {CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, std::vector<char>(8), {g}};
        }
    } else if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {
        *count = 1;
        if (room) { of[0]->way = d->way; of[0]->finalized = true; }
    } else if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        if (is_true) return CUDNN_STATUS_SUCCESS;
        cudnnBackendNumericalNote_t *note = (cudnnBackendNumericalNote_t *)out;
        *count = d->way == 0 ? 2 : 0;
        if (*count && room >= 2) { note[0] = CUDNN_NUMERICAL_NOTE_TENSOR_CORE; note[1] = CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC; }
    } else if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE && type == CUDNN_TYPE_INT64) {
        *count = 1;
        if (!is_true) *(int64_t *)out = 64;
    } else return wrong(CUDNN_STATUS_BAD_PARAM, "the stand-in does not know what is got");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
    descriptor *p = known(plan), *v = known(pack);
    if (!p || !v || !p->finalized || !v->finalized || p->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || v->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        return wrong(CUDNN_STATUS_BAD_PARAM, "a run is of a plan and a variant pack");
    held graph = p->of(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->of(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
    std::map<int64_t, place> places;
    std::vector<operation> ops;
    for (const held &d : graph->has.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).of) {
        operation o;
        read_operation(*d, o);
        for (const tensor &t : o.in) places[t.uid] = {t, nullptr, {}};
        places[o.out.uid] = {o.out, nullptr, {}};
        ops.push_back(o);
    }
    std::vector<int64_t> uids = v->list(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS), at = v->list(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (size_t i = 0; i < uids.size(); i++) {
        auto t = places.find(uids[i]);
        std::string what = "the variant pack's tensor " + std::to_string(uids[i]);
        if (t == places.end() || t->second.t.is_virtual) return wrong(CUDNN_STATUS_BAD_PARAM, what + " is not one of the graph's");
        if (!at[i]) return wrong(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, what + " is nowhere");
        if (at[i] % t->second.t.alignment) return wrong(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, what + " is misaligned");
        if (t->second.t.by_value) { float f; memcpy(&f, (const void *)at[i], 4); t->second.own.assign(1, (double)f); }      // read at once
        else t->second.at = (char *)at[i];
    }
    for (auto &t : places) {
        if (t.second.t.is_virtual && !getenv("AIJIT_STANDIN_DRY")) t.second.own.assign((size_t)t.second.t.span(), 0);
        if (!t.second.t.is_virtual && !t.second.at && t.second.own.empty()) return wrong(CUDNN_STATUS_BAD_PARAM, "tensor " + std::to_string(t.first) + " is not in the variant pack");
    }
    if (getenv("AIJIT_STANDIN_TELL")) fprintf(stderr, "cuDNN stand-in: a graph of %zu operations runs, the first of kind %d\n", ops.size(), (int)ops[0].k);
    if (getenv("AIJIT_STANDIN_DRY")) return CUDNN_STATUS_SUCCESS;
    auto all = std::make_shared<std::map<int64_t, place>>(std::move(places));
    standin::enqueue(handle->stream, [ops, all] { for (const operation &o : ops) run(o, *all); });
    return CUDNN_STATUS_SUCCESS;
}
