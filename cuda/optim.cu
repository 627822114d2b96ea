// optim.cu - the optimizers' loops and the clipping of gradients: core/cpu/optim.inc, over many tensors in one launch.
//
// A launch has a table of tensors among its arguments. Each is cut into pieces of one size, a block has a piece, and a thread
// packets of neighbours; tensors that are strided, or not aligned, are gone through element by element. Sums are taken
// over pieces, and those of a tensor are added up in order, so that they do not depend on how blocks take turns.
#include "block.cuh"
#include "each.cuh"
#include "graph.cuh"

namespace cuda {

// A pointer of any type to one number of each operand, as a pointer to void is in C.
struct any {
    void *p;
    __device__ any(void *q = nullptr) : p(q) {}
    template <typename T> __device__ operator T *() const { return (T *)p; }
    explicit __device__ operator bool() const { return p != nullptr; }
};

namespace loops {
#define CHUNK 1
#define LOOP static __device__ inline
#define LOOP_PART static __device__ inline
#define OPERANDS const any *
#define SIDE_BY_SIDE
#define restrict __restrict__
#include "../core/cpu/optim_reals.inc"
#undef restrict
#undef CHUNK

template <int row> __device__ inline void run(const any *at, const double *number, double *sum, float);
template <int row> __device__ inline void run(const any *at, const double *number, double *sum, double);
#define RUN(name) \
    template <> __device__ inline void run<AJ_ROW_##name>(const any *at, const double *number, double *sum, float) { name##_f32(at, 1, number, sum); } \
    template <> __device__ inline void run<AJ_ROW_##name>(const any *at, const double *number, double *sum, double) { name##_f64(at, 1, number, sum); }
AJ_OPTIM_ROWS(RUN)
#undef RUN
}

enum { OPERANDS_AND_MASTER = AJ_UPDATE_OPERANDS + 1, MASTER = AJ_UPDATE_OPERANDS, TENSORS = 40, PIECE = 8192 };

struct update_sums { double at[AJ_UPDATE_SUMS]; };
struct updates {                                         // within the four KiB that a kernel's arguments may have
    struct tensor {
        char *p[OPERANDS_AND_MASTER];                    // NULL: absent
        int64_t count;
        int32_t first;                                   // its first block
        uint8_t dtype[OPERANDS_AND_MASTER];
    } of[TENSORS];
    double number[AJ_UPDATE_NUMBERS];
    const double *live;                                  // in place of the numbers: those of each tensor; or NULL
    const update_sums *ratio;                            // of each tensor, which LAMB's second pass multiplies number[7] by; or NULL
    update_sums *part;                                   // of each block, or NULL
    int32_t n;
    bool reads, largest;
};
static_assert(sizeof(updates) <= 4096, "the table fits a kernel's arguments");

// One element, or rather N of them that lie apart: v[k][j] is number j of operand k.
template <typename real, int row, int N> __device__ inline void advance(real (*v)[N], const bool *there, int n, int half, const double *number, double *sum) {
    for (int j = 0; j < N; j++) {
        if (j >= n) break;
        any at[AJ_UPDATE_OPERANDS];
        for (int k = 0; k < AJ_UPDATE_OPERANDS; k++) if (there[k]) at[k] = any(&v[k][j]);
        if (there[MASTER]) {                             // it holds what the parameter rounds, unless somebody has written that since
            real m = v[MASTER][j], rounded = half == AJ_BF16 ? (real)__bfloat162float(__float2bfloat16_rn((float)m)) : (real)__half2float(__float2half_rn((float)m));
            if (rounded == v[0][j]) v[0][j] = m;
        }
        loops::run<row>(at, number, sum, real());
        if (there[MASTER]) v[MASTER][j] = v[0][j];
    }
}
__device__ inline void trusted(double *number, const update_sums &s) {
    double weights = sqrt(s.at[0]), change = sqrt(s.at[1]);
    if (weights > 0 && change > 0) number[7] *= weights / change;
}
__device__ inline void put_sums(update_sums *to, const double *sum, bool largest) {
    for (int j = 0; j < AJ_UPDATE_SUMS; j++) {
        double all = largest ? of_block(sum[j], larger()) : of_block(sum[j], add());
        if (threadIdx.x == 0) to->at[j] = all;
    }
}

template <typename real, int row> __global__ void __launch_bounds__(THREADS) update_many(const __grid_constant__ updates u) {
    enum { N = class_of<real>::packet };
    int lo = 0, hi = u.n;                                // the tensor of this block
    while (lo + 1 < hi) { int half = (lo + hi) / 2; if (u.of[half].first <= (int)blockIdx.x) lo = half; else hi = half; }
    const auto &t = u.of[lo];
    const int64_t from = (int64_t)((int)blockIdx.x - t.first) * PIECE, end = from + PIECE < t.count ? from + PIECE : t.count;
    double number[AJ_UPDATE_NUMBERS], sum[AJ_UPDATE_SUMS] = {0};
    for (int k = 0; k < AJ_UPDATE_NUMBERS; k++) number[k] = u.live ? u.live[lo * AJ_UPDATE_NUMBERS + k] : u.number[k];
    if (u.ratio) trusted(number, u.ratio[lo]);
    bool there[OPERANDS_AND_MASTER];
    for (int k = 0; k < OPERANDS_AND_MASTER; k++) there[k] = t.p[k] != nullptr;
    for (int64_t i = from + (int64_t)threadIdx.x * N; i < end; i += THREADS * N) {
        real v[OPERANDS_AND_MASTER][N];
        const int n = end - i < N ? (int)(end - i) : (int)N;
        for (int k = 0; k < OPERANDS_AND_MASTER; k++) {
            if (!there[k]) continue;
            if (n == N) read_packet<real>(v[k], t.p[k], t.dtype[k], i);
            else for (int j = 0; j < n; j++) v[k][j] = read<real>(t.p[k], t.dtype[k], i + j);
        }
        advance<real, row, N>(v, there, n, t.dtype[0], number, sum);
        if (u.reads) continue;
        for (int k = 0; k < OPERANDS_AND_MASTER; k++) {
            if (!there[k] || k == 1) continue;
            if (n == N) write_packet<real>(t.p[k], t.dtype[k], i, v[k]);
            else for (int j = 0; j < n; j++) write<real>(t.p[k], t.dtype[k], i + j, v[k][j]);
        }
    }
    if (u.part) put_sums(&u.part[blockIdx.x], sum, u.largest);
}

// A tensor whose elements do not lie in packets; pieces as above.
struct scattered {
    elements of[OPERANDS_AND_MASTER];
    int64_t count;
    double number[AJ_UPDATE_NUMBERS];
    const double *live;
    const update_sums *ratio;
    update_sums *part;
    bool reads, largest;
};
template <typename real, int row> __global__ void __launch_bounds__(THREADS) update_scattered(const __grid_constant__ scattered u) {
    const int64_t from = (int64_t)blockIdx.x * PIECE, end = from + PIECE < u.count ? from + PIECE : u.count;
    double number[AJ_UPDATE_NUMBERS], sum[AJ_UPDATE_SUMS] = {0};
    for (int k = 0; k < AJ_UPDATE_NUMBERS; k++) number[k] = u.live ? u.live[k] : u.number[k];
    if (u.ratio) trusted(number, *u.ratio);
    bool there[OPERANDS_AND_MASTER];
    for (int k = 0; k < OPERANDS_AND_MASTER; k++) there[k] = u.of[k].p != nullptr;
    for (int64_t i = from + threadIdx.x; i < end; i += THREADS) {
        real v[OPERANDS_AND_MASTER][1];
        for (int k = 0; k < OPERANDS_AND_MASTER; k++) if (there[k]) v[k][0] = u.of[k].get<real>(i);
        advance<real, row, 1>(v, there, 1, u.of[0].dtype, number, sum);
        if (u.reads) continue;
        for (int k = 0; k < OPERANDS_AND_MASTER; k++) if (there[k] && k != 1) u.of[k].set<real>(i, v[k][0]);
    }
    if (u.part) put_sums(u.part, sum, u.largest);
}

// The sums of a tensor's pieces, by a block.
struct adding { const update_sums *part; update_sums *sum; const int64_t *first; bool largest; };
__global__ void __launch_bounds__(THREADS) add_pieces(const __grid_constant__ adding a) {
    double sum[AJ_UPDATE_SUMS] = {0};
    for (int64_t i = a.first[blockIdx.x] + threadIdx.x; i < a.first[blockIdx.x + 1]; i += THREADS)
        for (int j = 0; j < AJ_UPDATE_SUMS; j++) sum[j] = a.largest ? larger()(a.part[i].at[j], sum[j]) : sum[j] + a.part[i].at[j];
    put_sums(&a.sum[blockIdx.x], sum, a.largest);
}

// What the host would make of the sums, in the same order.
static __global__ void total_kernel(const update_sums *sum, int n, double *total, bool largest) {
    int j = threadIdx.x;
    double all = total[j];
    for (int i = 0; i < n; i++) {
        double v = sum[i].at[j];
        all = !largest ? all + v : v > all || v != v ? v : all;
    }
    total[j] = all;
}

// -- Host

static int64_t pieces(const aj_update &u) { return (u.operand[0]->numel + PIECE - 1) / PIECE; }
static const aj_tensor *operand(const aj_update &u, int k) { return k == MASTER ? u.master : u.operand[k]; }
static bool in_packets(const aj_update &u) {
    for (int k = 0; k < OPERANDS_AND_MASTER; k++) {
        const aj_tensor *t = operand(u, k);
        if (t && (!t->contiguous || ((uintptr_t)t->data & 15))) return false;
    }
    return true;
}

template <typename P> struct starter {
    const P &p;
    dim3 blocks;
    work &w;
    template <typename K> void operator()(K kernel) const {
        if (p.part) launch_together(kernel, blocks, dim3(THREADS), w.stream, p);
        else launch(kernel, blocks, dim3(THREADS), w.stream, p);
    }
};
template <typename real> static bool start(const updates *many, const scattered *one, int row, dim3 blocks, work &w) {
    switch (row) {
#define CASE(name) case AJ_ROW_##name: \
        if (many) starter<updates>{*many, blocks, w}(update_many<real, AJ_ROW_##name>); \
        else starter<scattered>{*one, blocks, w}(update_scattered<real, AJ_ROW_##name>); \
        break;
    AJ_OPTIM_ROWS(CASE)
#undef CASE
    default: return aj_error("the optimizers' loop %d has no CUDA kernel", row);
    }
    return w.done();
}

// Neighbours of one type and with the same numbers go into one table. ratio: of each of the n, or NULL; part: of each piece.
static bool start_all(const aj_update *u, int n, int row, const update_sums *ratio, update_sums *part, work &w) {
    updates table = {};
    int64_t before = 0;                                  // pieces
    auto flush = [&]() {
        if (!table.n) return true;
        int last = table.n - 1;
        int64_t blocks = table.of[last].first + (table.of[last].count + PIECE - 1) / PIECE;
        bool wide = table.of[0].dtype[0] == AJ_F64;
        bool ok = wide ? start<double>(&table, nullptr, row, dim3((unsigned)blocks), w) : start<float>(&table, nullptr, row, dim3((unsigned)blocks), w);
        table.n = 0;
        return ok;
    };
    for (int i = 0; i < n; i++) {
        const aj_update &one = u[i];
        const bool wide = one.operand[0]->dtype == AJ_F64, packets = in_packets(one);
        int64_t count = pieces(one), taken = table.n ? table.of[table.n - 1].first + (table.of[table.n - 1].count + PIECE - 1) / PIECE : 0;
        if (count > INT32_MAX) return aj_error("optimizer: a parameter of %lld elements is too large for a CUDA device", (long long)one.operand[0]->numel);
        if (table.n && (!packets || table.n == TENSORS || taken + count > INT32_MAX || wide != (table.of[0].dtype[0] == AJ_F64) || (!one.live && memcmp(table.number, one.number, sizeof one.number))))
            if (!flush()) return false;
        if (packets) {
            if (!table.n) {
                taken = 0;
                memcpy(table.number, one.number, sizeof one.number);
                table.live = one.live;
                table.ratio = ratio ? ratio + i : nullptr;
                table.part = part ? part + before : nullptr;
                table.reads = one.reads;
                table.largest = one.largest;
            }
            updates::tensor &t = table.of[table.n++];
            t = {};
            for (int k = 0; k < OPERANDS_AND_MASTER; k++) if (const aj_tensor *x = operand(one, k)) { t.p[k] = x->data; t.dtype[k] = x->dtype; }
            t.count = one.operand[0]->numel;
            t.first = (int32_t)taken;
        } else {
            scattered s = {};
            for (int k = 0; k < OPERANDS_AND_MASTER; k++) if (const aj_tensor *x = operand(one, k)) s.of[k] = elements_of(x);
            s.count = one.operand[0]->numel;
            memcpy(s.number, one.number, sizeof one.number);
            s.live = one.live;
            s.ratio = ratio ? ratio + i : nullptr;
            s.part = part ? part + before : nullptr;
            s.reads = one.reads;
            s.largest = one.largest;
            dim3 blocks((unsigned)count);
            if (!(wide ? start<double>(nullptr, &s, row, blocks, w) : start<float>(nullptr, &s, row, blocks, w))) return false;
        }
        before += count;
    }
    return flush();
}

bool update(aj_update *u, int32_t n, int row) {
    int32_t device = u->operand[0]->device;
    work w("optimizer", device);
    if (!u->summed) return start_all(u, n, row, nullptr, nullptr, w);
    std::vector<int64_t> first(n + 1);
    for (int i = 0; i < n; i++) first[i + 1] = first[i] + pieces(u[i]);
    int64_t places = (int64_t)first.size() * 8, parts = first[n];
    scratch room(device, places + (parts + n) * (int64_t)sizeof(update_sums));
    if (!room.p || !put_words(w, room.p, first.data(), (int64_t)first.size())) return false;
    update_sums *part = (update_sums *)(void *)((char *)room.p + places), *sum = part + parts;
    if (!start_all(u, n, row, nullptr, part, w)) return false;
    launch_together(add_pieces, dim3((unsigned)n), dim3(THREADS), w.stream, adding{part, sum, (const int64_t *)room.p, u->largest});
    if (!w.done()) return false;
    if (u->trust != 0) {                                 // LAMB goes on without the host's having seen the sums
        std::vector<aj_update> second(u, u + n);
        for (aj_update &one : second) one.number[7] = one.trust;
        return start_all(second.data(), n, AJ_ROW_lamb_apply, sum, nullptr, w);
    }
    if (u->total) {
        launch(total_kernel, dim3(1), dim3(AJ_UPDATE_SUMS), w.stream, (const update_sums *)sum, n, u->total, u->largest);
        return w.done();
    }
    std::vector<update_sums> host(n);
    if (!device_read(device, host.data(), sum, (int64_t)(n * sizeof(update_sums)))) return false;
    for (int i = 0; i < n; i++) for (int j = 0; j < AJ_UPDATE_SUMS; j++) u[i].sum[j] = host[i].at[j];
    return true;
}

}
