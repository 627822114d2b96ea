// dnn.h - cuDNN 9, the layers of neural networks, by its graph interface.
//
// What a kernel wants is a graph of operations on tensors, which cuDNN makes into plans; the plan of a case is made when the
// case is first met, chosen by the library's heuristics or by timing, and kept. Tensors are known by numbers: those in memory
// get their address, and scalars their value, when a plan is run; tensors between operations are in no memory.
//
//     dnn_case k("exp", device, dtype);                  // with all that the graph depends on
//     k.add(sizes);
//     switch (dnn_run(w, k, {{0, x}, {1, y}}, [&](dnn_graph &g) { g.pointwise(CUDNN_POINTWISE_EXP, g.in_memory(0, ...), g.in_memory(1, ...)); })) {
//     case DNN_DONE: return true;
//     case DNN_FAILED: return false;                     // after aj_error
//     case DNN_NONE: break;                              // cuDNN is not here, or does not do it: a kernel of our own does
//     }
#pragma once
#include "library.h"
#include <cudnn.h>
#include <functional>
#include <string>
#include <utility>

namespace cuda {

struct dnn_library : library {
    dnn_library() : library("cuDNN", {"libcudnn.so.9"}, "cudnn9, or nvidia-cudnn", "convolutions and attention use aijit's own kernels, which are slower") {}
    symbol<decltype(cudnnGetVersion)> get_version{this, "cudnnGetVersion"};
    symbol<decltype(cudnnGetErrorString)> error_string{this, "cudnnGetErrorString"};
    symbol<decltype(cudnnGetLastErrorString)> last_error{this, "cudnnGetLastErrorString"};
    symbol<decltype(cudnnCreate)> create{this, "cudnnCreate"};
    symbol<decltype(cudnnSetStream)> set_stream{this, "cudnnSetStream"};
    symbol<decltype(cudnnBackendCreateDescriptor)> create_descriptor{this, "cudnnBackendCreateDescriptor"};
    symbol<decltype(cudnnBackendDestroyDescriptor)> destroy_descriptor{this, "cudnnBackendDestroyDescriptor"};
    symbol<decltype(cudnnBackendFinalize)> finalize{this, "cudnnBackendFinalize"};
    symbol<decltype(cudnnBackendSetAttribute)> set{this, "cudnnBackendSetAttribute"};
    symbol<decltype(cudnnBackendGetAttribute)> get{this, "cudnnBackendGetAttribute"};
    symbol<decltype(cudnnBackendExecute)> execute{this, "cudnnBackendExecute"};
    void tell_version(char *to, size_t size) override {
        int v = (int)get_version();
        number(to, size, v / 10000, v / 100 % 100, v % 100);
    }
};
inline dnn_library dnn;

cudnnDataType_t dnn_type(int dtype);                     // of floats, and of AJ_I32 and AJ_BOOL

// A tensor of a graph, of up to five dimensions.
struct dnn_tensor {
    cudnnBackendDescriptor_t at = nullptr;
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    int n = 0;
    int64_t size[5] = {}, stride[5] = {};                // in elements
};

// The first thing that cuDNN refuses ends a graph: what is asked of it afterwards is nothing.
class dnn_graph {
  public:
    explicit dnn_graph(cudnnDataType_t compute);
    ~dnn_graph();
    dnn_graph(const dnn_graph &) = delete;
    dnn_graph &operator=(const dnn_graph &) = delete;

    dnn_tensor in_memory(int64_t uid, cudnnDataType_t type, int n, const int64_t *size, const int64_t *stride);
    dnn_tensor scalar(int64_t uid, int n);               // an f32, of sizes 1
    dnn_tensor between(cudnnDataType_t type, int n, const int64_t *size, const int64_t *stride = nullptr);      // in order without strides

    // kind: CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR (of x and w), ..._BACKWARD_DATA_ (of w and y), ..._BACKWARD_FILTER_ (of x and y)
    void convolution(cudnnBackendDescriptorType_t kind, const dnn_tensor &x, const dnn_tensor &w, const dnn_tensor &y, int spatial, const int64_t *stride,
                     const int64_t *padding, const int64_t *dilation);
    // y = mode(x, b), broadcast, and for CUDNN_POINTWISE_BINARY_SELECT t ? x : b; returns y. axis: of CUDNN_POINTWISE_GEN_INDEX
    dnn_tensor pointwise(cudnnPointwiseMode_t mode, const dnn_tensor &x, const dnn_tensor *b, const dnn_tensor *t, const dnn_tensor &y, int64_t axis = -1);
    dnn_tensor matmul(const dnn_tensor &a, const dnn_tensor &b, const dnn_tensor &c);
    dnn_tensor reduce(cudnnReduceTensorOp_t op, const dnn_tensor &x, const dnn_tensor &y);          // over the dimensions that y has of size 1
    dnn_tensor reshape(const dnn_tensor &x, const dnn_tensor &y);

    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;

  private:
    friend struct dnn_maker;
    cudnnBackendDescriptor_t make(cudnnBackendDescriptorType_t type);
    void set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void *v);
    void set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, const dnn_tensor &t) { set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &t.at); }
    void finish(cudnnBackendDescriptor_t d);
    dnn_tensor tensor(int64_t uid, cudnnDataType_t type, int n, const int64_t *size, const int64_t *stride, bool is_virtual, bool by_value);
    const cudnnDataType_t compute;
    int64_t next;
    std::vector<cudnnBackendDescriptor_t> made, ops;
};

// What a plan is remembered by: everything that its graph is made of, in numbers.
class dnn_case {
  public:
    dnn_case(const char *kind, int32_t device, int dtype);
    dnn_case &add(int64_t v) { key += ' ' + std::to_string(v); return *this; }
    dnn_case &timed() { times = true; return *this; }    // of several ways the fastest is kept, on disk too; unless aj_deterministic()
    bool possible() const;                               // false: it is known that cuDNN does not do it
    std::string key;
    int32_t device;
    int dtype;
    bool times = false;
};

enum dnn_result { DNN_DONE, DNN_NONE, DNN_FAILED };
enum : int64_t { DNN_SCALAR = 500, DNN_BETWEEN = 1000 };         // from where on uids are of scalars, and of tensors between operations
typedef std::vector<std::pair<int64_t, const void *>> dnn_places;         // by uid; of scalars on the host
dnn_result dnn_run(work &w, const dnn_case &k, const dnn_places &places, const std::function<void(dnn_graph &)> &describe);

}
