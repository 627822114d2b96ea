// map.cu - how the operands of an elementwise kernel lie, found out once for all of them. See map.cuh.
#include "layout.h"
#include "map.cuh"

namespace cuda {

// The quotient of n is (n * magic / 2^32 + n) / 2^shift, for n and `by` below 2^31.
divider divide_by(uint32_t by) {
    uint32_t shift = 0;
    while (shift < 32 && ((uint64_t)1 << shift) < by) shift++;
    uint64_t magic = (((uint64_t)1 << 32) * (((uint64_t)1 << shift) - by)) / by + 1;
    return {by, (uint32_t)magic, shift};
}

void put_dim(dims &d, int64_t size, int64_t stride) {
    d.count *= size;
    d.wide = d.count > INT32_MAX;
    if (size == 1) return;
    if (d.ndim && d.stride[d.ndim - 1] * d.shape[d.ndim - 1].by == stride && (int64_t)d.shape[d.ndim - 1].by * size <= INT32_MAX) {
        d.shape[d.ndim - 1] = divide_by((uint32_t)(d.shape[d.ndim - 1].by * size));
        return;
    }
    d.shape[d.ndim] = divide_by((uint32_t)size);
    d.stride[d.ndim++] = stride;
}
dims dims_of(const aj_tensor *t) {
    dims d = {};
    d.count = 1;
    if (t->contiguous) {                                 // one run, however long
        d.count = t->numel;
        d.ndim = 1;
        d.stride[0] = 1;
        return d;
    }
    for (int k = t->ndim - 1; k >= 0; k--) put_dim(d, t->shape[k], t->stride[k]);
    return d;
}

dim3 blocks_for(int64_t threads, int processors) {
    int64_t n = (threads + THREADS - 1) / THREADS, most = (int64_t)processors * 32;
    return dim3((unsigned)(n < 1 ? 1 : n < most ? n : most));
}

static operand operand_of(const aj_tensor *t) { return t ? operand{t->data, t->dtype, t->numel == 1} : operand{nullptr, AJ_F64, true}; }
// Packets of these dtypes are read by sixteen bytes at a time.
static bool aligned(const operand &o) { return o.dtype < AJ_I64 || ((uintptr_t)o.p & 15) == 0; }

static void split(std::vector<strided_map> &parts, const aj_iter &it, const map_job &job, fault *faults, int64_t *offset) {
    const int operands = 1 + job.n_in;
    if (it.count > INT32_MAX) {                          // in two along the outermost dimension
        int d = it.ndim - 1;
        aj_iter half = it;
        int64_t rest = it.count / it.shape[d], first = it.shape[d] / 2, then[1 + MAX_INPUTS];
        half.shape[d] = first;
        half.count = rest * first;
        split(parts, half, job, faults, offset);
        for (int k = 0; k < operands; k++) then[k] = offset[k] + first * it.stride[k][d];
        half.shape[d] = it.shape[d] - first;
        half.count = rest * half.shape[d];
        split(parts, half, job, faults, then);
        return;
    }
    strided_map m = {};
    m.count = (uint32_t)it.count;
    m.ndim = it.ndim;
    for (int d = 0; d < it.ndim; d++) m.shape[d] = divide_by((uint32_t)it.shape[d]);
    for (int k = 0, j = 0; k < operands; k++) {          // the iterator knows only those that are tensors
        aj_tensor *t = k ? job.in[k - 1] : job.y;
        operand o = operand_of(t);
        if (t) {
            for (int d = 0; d < it.ndim; d++) m.stride[k][d] = it.stride[j][d];
            o.p += offset[j++] * dtype_bytes(o.dtype);
        }
        if (k) m.in[k - 1] = o;
        else m.y = o;
    }
    m.number = job.number;
    m.s = job.s; m.t = job.t; m.u = job.u;
    m.faults = faults;
    m.op = job.op;
    parts.push_back(m);
}

map_planned::map_planned(const map_job &job, fault *faults) : empty(job.y->numel == 0), flat(true), f{} {
    if (empty) return;
    f.count = job.y->numel;
    f.y = operand_of(job.y);
    f.number = job.number;
    f.s = job.s; f.t = job.t; f.u = job.u;
    f.faults = faults;
    f.op = job.op;
    const bool in_order = job.y->contiguous;             // or channels last, as all of them then are
    flat = (in_order || channels_last(job.y)) && aligned(f.y);
    for (int k = 0; k < job.n_in; k++) {
        const aj_tensor *t = job.in[k];
        f.in[k] = operand_of(t);
        if (!t || f.in[k].one) continue;
        flat = flat && (in_order ? t->contiguous && t->numel == f.count : same_layout(t, job.y)) && aligned(f.in[k]);
    }
    if (flat) return;
    const aj_tensor *operands[1 + MAX_INPUTS] = {job.y};
    int n = 1;
    for (int k = 0; k < job.n_in; k++) if (job.in[k]) operands[n++] = job.in[k];
    aj_iter it;
    aj_iter_init(&it, operands, n);
    int64_t offset[1 + MAX_INPUTS] = {0};
    split(parts, it, job, faults, offset);
}

}
