// dnn.cpp - graphs of cuDNN as descriptors, and the plans made of them.
#include "dnn.h"
#include "cache.h"
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>

namespace cuda {

namespace {
enum { CANDIDATES = 8, REPEATS = 3, NOTES = 32 };
enum : int64_t { ALIGNMENT = 16, ROOM = (int64_t)1 << 30 };        // ROOM: the most memory that a way chosen by timing works in

struct plan {
    cudnnBackendDescriptor_t at = nullptr;               // NULL: there is none
    int64_t room = 0;
    std::unique_ptr<dnn_graph> graph;                    // whose descriptors it may look at
    bool settled = true;                                 // false: a graph of CUDA's was being recorded, and nothing could be timed
};
struct device {
    std::mutex lock;                                     // a handle is used by one thread at a time
    cudnnHandle_t handle = nullptr;
    std::map<std::string, plan> plans;
    std::unique_ptr<choices> chosen;                     // of cases that are timed: the mode of the heuristics, and which of its ways
};
device *const devices = new device[MAX_DEVICES];         // for as long as the process runs: at its end the library may have gone

choices &chosen(int32_t n) {
    device &d = devices[n];
    if (!d.chosen) {
        cudaDeviceProp p;
        char version[32];
        dnn.tell_version(version, sizeof version);
        d.chosen.reset(new choices(std::string("cudnn-") + version + "-" + (cudaGetDeviceProperties(&p, n) == cudaSuccess ? p.name : "")));
    }
    return *d.chosen;
}
bool unsupported(cudnnStatus_t s) { return (int)s / 1000 == (int)CUDNN_STATUS_NOT_SUPPORTED / 1000; }
bool recording(const work &w) {
    cudaStreamCaptureStatus s;
    return cudaStreamIsCapturing(w.stream, &s) != cudaSuccess || s != cudaStreamCaptureStatusNone;
}
bool told(cudnnStatus_t s, const char *who) {
    if (s == CUDNN_STATUS_SUCCESS) return true;
    char why[512] = "";
    dnn.last_error(why, sizeof why);
    return aj_error("%s: cuDNN %d: %s%s%s", who, (int)dnn.get_version(), dnn.error_string(s), *why ? ": " : "", why);
}
}

cudnnDataType_t dnn_type(int dtype) {
    switch (dtype) {
    case AJ_F64: return CUDNN_DATA_DOUBLE;
    case AJ_F16: return CUDNN_DATA_HALF;
    case AJ_BF16: return CUDNN_DATA_BFLOAT16;
    case AJ_I32: return CUDNN_DATA_INT32;
    case AJ_BOOL: return CUDNN_DATA_BOOLEAN;
    default: return CUDNN_DATA_FLOAT;
    }
}

// -- Graphs

dnn_graph::dnn_graph(cudnnDataType_t type) : compute(type), next(DNN_BETWEEN) {}
dnn_graph::~dnn_graph() {
    for (size_t i = made.size(); i-- > 0;) dnn.destroy_descriptor(made[i]);
}
cudnnBackendDescriptor_t dnn_graph::make(cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t d = nullptr;
    if (status != CUDNN_STATUS_SUCCESS) return nullptr;
    status = dnn.create_descriptor(type, &d);
    if (status == CUDNN_STATUS_SUCCESS) made.push_back(d);
    return d;
}
void dnn_graph::set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void *v) {
    if (status == CUDNN_STATUS_SUCCESS) status = dnn.set(d, name, type, count, v);
}
void dnn_graph::finish(cudnnBackendDescriptor_t d) {
    if (status == CUDNN_STATUS_SUCCESS) status = dnn.finalize(d);
}

dnn_tensor dnn_graph::tensor(int64_t uid, cudnnDataType_t type, int n, const int64_t *size, const int64_t *stride, bool is_virtual, bool by_value) {
    dnn_tensor t;
    int64_t alignment = by_value ? (int64_t)sizeof(float) : (int64_t)ALIGNMENT;
    t.type = type;
    t.n = n;
    for (int d = 0; d < n; d++) { t.size[d] = size[d]; t.stride[d] = stride[d]; }
    t.at = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(t.at, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(t.at, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(t.at, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    set(t.at, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, n, size);
    set(t.at, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, n, stride);
    if (is_virtual) set(t.at, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    if (by_value) set(t.at, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    finish(t.at);
    return t;
}
dnn_tensor dnn_graph::in_memory(int64_t uid, cudnnDataType_t type, int n, const int64_t *size, const int64_t *stride) { return tensor(uid, type, n, size, stride, false, false); }
dnn_tensor dnn_graph::scalar(int64_t uid, int n) {
    const int64_t one[5] = {1, 1, 1, 1, 1};
    return tensor(uid, CUDNN_DATA_FLOAT, n, one, one, false, true);
}
dnn_tensor dnn_graph::between(cudnnDataType_t type, int n, const int64_t *size, const int64_t *stride) {
    int64_t in_order[5] = {}, step = 1;
    for (int d = n - 1; d >= 0; d--) { in_order[d] = step; step *= size[d]; }
    return tensor(next++, type, n, size, stride ? stride : in_order, true, false);
}

void dnn_graph::convolution(cudnnBackendDescriptorType_t kind, const dnn_tensor &x, const dnn_tensor &w, const dnn_tensor &y, int spatial, const int64_t *stride,
                            const int64_t *padding, const int64_t *dilation) {
    cudnnBackendDescriptor_t c = make(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t n = spatial;
    set(c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &n);
    set(c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, n, padding);
    set(c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, n, padding);
    set(c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, n, dilation);
    set(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, n, stride);
    finish(c);

    struct names { cudnnBackendAttributeName_t x, w, y, conv, alpha, beta; };
    static const names of_forward = {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    static const names of_data = {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    static const names of_filter = {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    const names &a = kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ? of_forward
                   : kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? of_data : of_filter;
    cudnnBackendDescriptor_t op = make(kind);
    set(op, a.x, x);
    set(op, a.w, w);
    set(op, a.y, y);
    set(op, a.conv, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &c);
    const double one = 1, zero = 0;
    const float one_f = 1, zero_f = 0;
    bool wide = compute == CUDNN_DATA_DOUBLE;
    set(op, a.alpha, wide ? CUDNN_TYPE_DOUBLE : CUDNN_TYPE_FLOAT, 1, wide ? (const void *)&one : &one_f);
    set(op, a.beta, wide ? CUDNN_TYPE_DOUBLE : CUDNN_TYPE_FLOAT, 1, wide ? (const void *)&zero : &zero_f);
    finish(op);
    ops.push_back(op);
}

dnn_tensor dnn_graph::pointwise(cudnnPointwiseMode_t mode, const dnn_tensor &x, const dnn_tensor *b, const dnn_tensor *t, const dnn_tensor &y, int64_t axis) {
    cudnnBackendDescriptor_t p = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR), op;
    const cudnnDataType_t as = mode == CUDNN_POINTWISE_GEN_INDEX ? CUDNN_DATA_INT32 : mode == CUDNN_POINTWISE_CMP_GE ? CUDNN_DATA_BOOLEAN : compute;
    set(p, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(p, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &as);
    if (mode == CUDNN_POINTWISE_GEN_INDEX) set(p, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
    finish(p);
    op = make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &p);
    set(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b) set(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
    if (t) set(op, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, *t);
    set(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finish(op);
    ops.push_back(op);
    return y;
}
dnn_tensor dnn_graph::matmul(const dnn_tensor &a, const dnn_tensor &b, const dnn_tensor &c) {
    cudnnBackendDescriptor_t m = make(CUDNN_BACKEND_MATMUL_DESCRIPTOR), op;
    set(m, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    finish(m);
    op = make(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    set(op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    set(op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    set(op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    set(op, CUDNN_ATTR_OPERATION_MATMUL_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &m);
    finish(op);
    ops.push_back(op);
    return c;
}
dnn_tensor dnn_graph::reduce(cudnnReduceTensorOp_t how, const dnn_tensor &x, const dnn_tensor &y) {
    cudnnBackendDescriptor_t r = make(CUDNN_BACKEND_REDUCTION_DESCRIPTOR), op;
    set(r, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &how);
    set(r, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    finish(r);
    op = make(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    set(op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    set(op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    set(op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &r);
    finish(op);
    ops.push_back(op);
    return y;
}
dnn_tensor dnn_graph::reshape(const dnn_tensor &x, const dnn_tensor &y) {
    cudnnBackendDescriptor_t op = make(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    set(op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    set(op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    finish(op);
    ops.push_back(op);
    return y;
}

// -- Plans

dnn_case::dnn_case(const char *kind, int32_t its_device, int its_dtype) : key(kind), device(its_device), dtype(its_dtype) {
    add(its_dtype).add(aj_deterministic()).add(aj_tf32());
}

bool dnn_case::possible() const {
    if (!dnn.here()) return false;
    cuda::device &d = devices[device];
    std::lock_guard<std::mutex> hold(d.lock);
    auto found = d.plans.find(key);
    return found == d.plans.end() || found->second.at;
}

struct dnn_maker {
    work &w;
    const dnn_case &k;
    cudnnHandle_t handle;
    dnn_graph *g = nullptr;
    bool full = false;                                   // there was no memory, which aj_error told

    cudnnBackendDescriptor_t graph() {
        cudnnBackendDescriptor_t d = g->make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
        g->set(d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
        g->set(d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, (int64_t)g->ops.size(), g->ops.data());
        g->finish(d);
        return d;
    }

    // The ways that the library proposes, best first.
    std::vector<cudnnBackendDescriptor_t> ways(cudnnBackendDescriptor_t of, cudnnBackendHeurMode_t mode) {
        std::vector<cudnnBackendDescriptor_t> list;
        cudnnBackendDescriptor_t h = g->make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
        g->set(h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &of);
        g->set(h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
        g->finish(h);
        int64_t n = 0;
        if (g->status == CUDNN_STATUS_SUCCESS) g->status = dnn.get(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &n, nullptr);
        for (int64_t i = 0; i < n; i++) list.push_back(g->make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
        if (g->status == CUDNN_STATUS_SUCCESS && n) g->status = dnn.get(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, &n, list.data());
        list.resize(g->status == CUDNN_STATUS_SUCCESS ? (size_t)n : 0);
        if (unsupported(g->status)) g->status = CUDNN_STATUS_SUCCESS;      // of this mode
        return list;
    }

    // f32 is computed in f32, or where it is allowed in TF32, never in halves; and sums keep their order where that is asked for.
    bool allowed(cudnnBackendDescriptor_t way) {
        cudnnBackendDescriptor_t engine = g->make(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
        cudnnBackendNumericalNote_t note[NOTES];
        int64_t n = 0;
        cudnnStatus_t s = g->status;
        if (s == CUDNN_STATUS_SUCCESS) s = dnn.get(way, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine);
        if (s == CUDNN_STATUS_SUCCESS) s = dnn.get(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, NOTES, &n, note);
        if (s != CUDNN_STATUS_SUCCESS) return false;
        for (int64_t i = 0; i < n; i++) {
            if (note[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC && aj_deterministic()) return false;
            if (note[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS && (k.dtype == AJ_F32 || k.dtype == AJ_F64)) return false;
            if (note[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE && k.dtype == AJ_F32 && !aj_tf32()) return false;
        }
        return true;
    }

    bool plan_of(cudnnBackendDescriptor_t way, plan *out) {
        cudnnBackendDescriptor_t d = g->make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        int64_t n = 0;
        cudnnStatus_t s = g->status;
        if (s == CUDNN_STATUS_SUCCESS) s = dnn.set(d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
        if (s == CUDNN_STATUS_SUCCESS) s = dnn.set(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &way);
        if (s == CUDNN_STATUS_SUCCESS) s = dnn.finalize(d);
        if (s == CUDNN_STATUS_SUCCESS) s = dnn.get(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &out->room);
        out->at = d;
        return s == CUDNN_STATUS_SUCCESS;
    }

    cudnnStatus_t run(const plan &p, const dnn_places &places) {
        scratch room(k.device, p.room ? p.room : 1);
        if (!room.p) { full = true; return CUDNN_STATUS_EXECUTION_FAILED; }
        std::vector<int64_t> uids;
        std::vector<void *> at;
        for (auto &i : places) { uids.push_back(i.first); at.push_back((void *)(uintptr_t)i.second); }
        cudnnBackendDescriptor_t v = nullptr;
        cudnnStatus_t s = dnn.create_descriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &v);
        if (s == CUDNN_STATUS_SUCCESS) s = dnn.set(v, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, (int64_t)uids.size(), uids.data());
        if (s == CUDNN_STATUS_SUCCESS) s = dnn.set(v, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, (int64_t)at.size(), at.data());
        if (s == CUDNN_STATUS_SUCCESS) s = dnn.set(v, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &room.p);
        if (s == CUDNN_STATUS_SUCCESS) s = dnn.finalize(v);
        if (s == CUDNN_STATUS_SUCCESS) s = dnn.execute(handle, p.at, v);
        if (v) dnn.destroy_descriptor(v);
        return s;
    }

    double seconds(const plan &p, const dnn_places &places) {
        if (run(p, places) != CUDNN_STATUS_SUCCESS || cudaStreamSynchronize(w.stream) != cudaSuccess) return INFINITY;
        auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < REPEATS; i++) if (run(p, places) != CUDNN_STATUS_SUCCESS) return INFINITY;
        return cudaStreamSynchronize(w.stream) == cudaSuccess ? std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() : INFINITY;
    }

    plan choose(const dnn_places &places) {
        plan best;
        std::string value;
        double least = INFINITY;
        int tried = 0;
        const bool wants = k.times && !aj_deterministic(), times = wants && !recording(w);
        cudnnBackendDescriptor_t of = graph();
        if (times && chosen(k.device).find(k.key, &value)) {
            int mode = 0, i = 0;
            if (sscanf(value.c_str(), "%d %d", &mode, &i) == 2 && (mode == CUDNN_HEUR_MODE_A || mode == CUDNN_HEUR_MODE_FALLBACK)) {
                auto list = ways(of, (cudnnBackendHeurMode_t)mode);
                if (i >= 0 && i < (int)list.size() && allowed(list[(size_t)i]) && plan_of(list[(size_t)i], &best)) return best;
            }
            best = plan();
        }
        for (cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
            int i = -1;
            for (cudnnBackendDescriptor_t way : ways(of, mode)) {
                plan p;
                i++;
                if (tried == CANDIDATES || !allowed(way) || !plan_of(way, &p)) continue;
                p.settled = times == wants;
                if (!times) return p;
                if (p.room > ROOM) continue;
                double t = seconds(p, places);
                tried++;
                if (t < least) { least = t; best = std::move(p); value = std::to_string((int)mode) + " " + std::to_string(i); }
            }
            if (best.at) break;
        }
        if (best.at) chosen(k.device).keep(k.key, value);
        return best;
    }
};

dnn_result dnn_run(work &w, const dnn_case &k, const dnn_places &places, const std::function<void(dnn_graph &)> &describe) {
    if (!dnn.here()) return DNN_NONE;
    for (auto &i : places) if (i.first < DNN_SCALAR && (uintptr_t)i.second % ALIGNMENT) return DNN_NONE;
    const char *who = aj_op_name(w.op);
    device &d = devices[k.device];
    std::lock_guard<std::mutex> hold(d.lock);
    if (!d.handle && !told(dnn.create(&d.handle), who)) return DNN_FAILED;
    if (!told(dnn.set_stream(d.handle, w.stream), who)) return DNN_FAILED;
    auto found = d.plans.find(k.key);
    dnn_maker m = {w, k, d.handle};
    if (found != d.plans.end() && !found->second.settled && !recording(w)) {
        d.plans.erase(found);
        found = d.plans.end();
    }
    if (found == d.plans.end()) {
        std::unique_ptr<dnn_graph> g(new dnn_graph(k.dtype == AJ_F64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT));
        describe(*g);
        plan p;
        m.g = g.get();
        if (g->status == CUDNN_STATUS_SUCCESS) p = m.choose(places);
        if (g->status != CUDNN_STATUS_SUCCESS && !unsupported(g->status)) { told(g->status, who); return DNN_FAILED; }
        if (p.at) p.graph = std::move(g);
        found = d.plans.emplace(k.key, std::move(p)).first;
    }
    const plan &p = found->second;
    if (!p.at) return DNN_NONE;
    m.full = false;
    cudnnStatus_t s = m.run(p, places);
    return !m.full && told(s, who) && w.done() ? DNN_DONE : DNN_FAILED;
}

}
