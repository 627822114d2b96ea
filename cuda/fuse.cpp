// fuse.cpp - chains of elementwise ops and reductions of rows as one kernel, whose source is made of the rows of ops.def and
// compiled by NVRTC.
//
// A value of a chain is a variable of the type that its dtype is computed in, rounded to the dtype after each op as a store and
// a load would round it; so elementwise results are those of the ops one by one, to the bit. Sums of a row are added in
// another order. Kernels are kept by their source: in this process, and as files for the next.
#include "cache.h"
#include "graph.cuh"
#include "rtc.h"
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <unistd.h>

namespace cuda {

namespace {

// -- The beginning of every source

#define TEXT(...) TEXT_OF(__VA_ARGS__)
#define TEXT_OF(...) #__VA_ARGS__ "\n"
#define AJ_CODE(...) TEXT(__VA_ARGS__)
#define AJ_FUNCTION AT
const char names[] =
#include "../core/ordinary.h"
#include "names.cuh"
    ;
#undef AJ_CODE
#undef AJ_FUNCTION

// NVRTC has no headers at hand. Opaque values keep the compiler from fusing a product of one op with a sum of the next.
const char types[] = R"(#ifdef __CUDACC_RTC__
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef int int32_t;
typedef unsigned short uint16_t;
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#define AT __device__ __forceinline__
#define OPAQUE(v, how) asm("" : "+" how(v))
AT uint16_t half_bits(float v) { uint16_t h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v)); return h; }
AT float half_value(uint16_t h) { float v; asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(h)); return v; }
AT unsigned bits_of(float v) { return __float_as_uint(v); }
AT float of_bits(unsigned u) { return __uint_as_float(u); }
#else
#define AT inline
#define OPAQUE(v, how)
#endif
#define R(v) ((real)(v))
namespace row {
)";

const char dtypes[] = R"(
AT uint16_t bfloat_bits(float v) { unsigned u = bits_of(v); return (uint16_t)(v != v ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16); }
AT float bfloat_value(uint16_t h) { return of_bits((unsigned)h << 16); }
template <typename T> AT bool as_bool(T v) { return v != 0; }
#define INTEGER(name, type) template <typename T> AT int64_t as_##name(T v) { return (int64_t)(type)(int64_t)v; }
INTEGER(u8, unsigned char) INTEGER(i8, signed char) INTEGER(i16, short) INTEGER(i32, int) INTEGER(i64, int64_t)
template <typename T> AT float as_f16(T v) { float f = half_value(half_bits((float)v)); OPAQUE(f, "f"); return f; }
template <typename T> AT float as_bf16(T v) { float f = bfloat_value(bfloat_bits((float)v)); OPAQUE(f, "f"); return f; }
template <typename T> AT float as_f32(T v) { float f = (float)v; OPAQUE(f, "f"); return f; }
template <typename T> AT double as_f64(T v) { double f = (double)v; OPAQUE(f, "d"); return f; }
AT bool from_bool(unsigned char v) { return v != 0; }
AT unsigned char to_bool(bool v) { return v; }
#define PLAIN(name, type, kept) AT kept from_##name(type v) { return (kept)v; } AT type to_##name(kept v) { return (type)v; }
PLAIN(u8, unsigned char, int64_t) PLAIN(i8, signed char, int64_t) PLAIN(i16, short, int64_t) PLAIN(i32, int, int64_t) PLAIN(i64, int64_t, int64_t)
PLAIN(f32, float, float) PLAIN(f64, double, double)
AT float from_f16(uint16_t v) { return half_value(v); }
AT uint16_t to_f16(float v) { return half_bits(v); }
AT float from_bf16(uint16_t v) { return bfloat_value(v); }
AT uint16_t to_bf16(float v) { return bfloat_bits(v); }
template <typename T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) packet { T v[N]; };
template <int threads, typename T, typename F> AT T fold(T v, F f) {
    for (int k = 16; k; k /= 2) v = f(v, __shfl_xor_sync(0xffffffffu, v, k));
    if (threads > 32) {
        __shared__ T part[threads / 32];
        __syncthreads();
        if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
        __syncthreads();
        v = part[0];
        for (int i = 1; i < threads / 32; i++) v = f(v, part[i]);
    }
    return v;
}
)";

// -- The ops

struct dtype_name { const char *name, *type, *stored; int bytes; };
const dtype_name &dtype(int d) {
    static const dtype_name f64 = {"f64", "double", "double", 8}, f32 = {"f32", "float", "float", 4}, f16 = {"f16", "float", "uint16_t", 2},
        bf16 = {"bf16", "float", "uint16_t", 2}, i64 = {"i64", "int64_t", "int64_t", 8}, i32 = {"i32", "int64_t", "int", 4}, i16 = {"i16", "int64_t", "short", 2},
        i8 = {"i8", "int64_t", "signed char", 1}, u8 = {"u8", "int64_t", "unsigned char", 1}, truth = {"bool", "bool", "unsigned char", 1};
    switch (d) {
    case AJ_F64: return f64;
    case AJ_F32: return f32;
    case AJ_F16: return f16;
    case AJ_BF16: return bf16;
    case AJ_I64: return i64;
    case AJ_I32: return i32;
    case AJ_I16: return i16;
    case AJ_I8: return i8;
    case AJ_U8: return u8;
    }
    return truth;
}
// What a dtype is computed in, as in number.cuh.
const char *class_of(int d) { return d == AJ_F64 ? "double" : aj_is_float(d) ? "float" : "int64_t"; }

struct row_text { const char *value, *slope[2], *start; int inputs; };
const row_text &text_of(int op) {
    static row_text all[OP_COUNT];
    static const bool filled = [] {
#define UNARY(name, domain, value, dx, ...) all[OP_##name] = {#value, {#dx, nullptr}, nullptr, 1};
#define UNARY_S(name, domain, params, attrs, defaults, value, dx, ...) UNARY(name, domain, value, dx)
#define BINARY(name, domain, value, da, db, ...) all[OP_##name] = {#value, {#da, #db}, nullptr, 2};
#define BINARY_S(name, domain, params, attrs, defaults, value, da, db, ...) BINARY(name, domain, value, da, db)
#define COMPARE(name, value, ...) all[OP_##name] = {#value, {nullptr, nullptr}, nullptr, 2};
#define TEST(name, value, ...) all[OP_##name] = {#value, {nullptr, nullptr}, nullptr, 1};
#define REDUCE(name, domain, begin, step, ...) all[OP_##name] = {#step, {nullptr, nullptr}, #begin, 1};
#include "../core/ops.def"
        all[OP_mean] = all[OP_sum];
        return true;
    }();
    (void)filled;
    return all[op];
}

// Every word is a variable, or a function that stands in names.cuh.
bool readable(const char *text) {
    static const std::string known = std::string(" ") + names;
    for (const char *p = text; *p;) {
        if (!isalpha((unsigned char)*p) && *p != '_') {
            if (isdigit((unsigned char)*p)) while (isalnum((unsigned char)*p) || *p == '.') p++;
            else p++;
            continue;
        }
        const char *end = p;
        while (isalnum((unsigned char)*end) || *end == '_') end++;
        std::string word(p, (size_t)(end - p));
        p = end;
        if (word.size() == 1 && strchr("xabystuR", word[0])) continue;
        if (word == "acc" || word == "INFINITY" || word == "NAN") continue;
        if (*end != '(' || known.find(" " + word + "(") == std::string::npos) return false;
    }
    return true;
}

bool is_copy(int op) { return op == OP_cast || op == OP_clone || op == OP_copy_; }

// -- A source

std::string format(const char *how, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char *how, ...) {
    char few[512];
    va_list a, again;
    va_start(a, how);
    va_copy(again, a);
    int n = vsnprintf(few, sizeof few, how, a);
    std::string s(few, n < (int)sizeof few ? (size_t)n : 0);
    if (n >= (int)sizeof few) { s.resize((size_t)n); vsnprintf(&s[0], (size_t)n + 1, how, again); }
    va_end(a);
    va_end(again);
    return s;
}

enum { MOST_ARGUMENTS = 440 };                           // of 8 bytes each, in the 4096 that a kernel may have

struct shape_of_kernel { int threads, rows, each, packet; };         // each: elements of a thread in a row; rows: of a block

class source {
    const aj_fused &f;
    bool wide;

  public:
    shape_of_kernel k;
    source(const aj_fused &of, int of_packet) : f(of), wide(f.width > 1), k{256, 1, 1, of_packet} {
        if (f.by_rows) {
            k.threads = f.width <= 256 ? 32 : f.width <= 4096 ? 256 : 1024;
            k.rows = f.width <= 256 ? 8 : 1;
            k.each = (int)((f.width + k.threads - 1) / k.threads);
        }
    }
    std::string text() {
        std::string all = std::string(types) + names + dtypes;
        all += format("struct fused_args { int64_t rows; void *p[%d]; double number[%d]; };\n", f.n_part, 3 * f.n_line);
        all += format("extern \"C\" __global__ void __launch_bounds__(%d) fused(const fused_args a) {\n", k.threads * k.rows);
        all += f.by_rows ? rows() : elements();
        return all + "}\n}\n";
    }

  private:
    // Where a part's element lies: of an element k of row r, i = r * width + k.
    std::string place(const aj_fused_part &p) const {
        if (!wide) return p.sliced ? "i" : "0";
        if (p.row == f.width) return p.sliced ? "i" : "k";
        if (p.row == 1) return p.sliced ? "r" : "0";
        std::string at = p.sliced ? format("r * %lld", (long long)p.row) : "0";
        int64_t inner = 1;
        for (int d = p.n - 1; d >= 0; d--) {
            if (p.stride[d]) at += inner == 1 ? format(" + k %% %lld * %lld", (long long)p.size[d], (long long)p.stride[d])
                                              : format(" + k / %lld %% %lld * %lld", (long long)inner, (long long)p.size[d], (long long)p.stride[d]);
            inner *= p.size[d];
        }
        return at;
    }
    // A part has a number for each element: each of a thread's elements then has its own, v3[j]; else it is one, v3.
    bool many(int part) const { return f.part[part].row != 1 || (!f.by_rows && f.part[part].sliced && !wide); }
    std::string value(int part) const { return format(many(part) ? "v%d[j]" : "v%d", part); }

    std::string declare(int i) const {
        return format("%s v%d%s;\n", dtype(f.part[i].tensor->dtype).type, i, many(i) ? format("[%d]", f.by_rows ? k.each : k.packet).c_str() : "");
    }
    std::string load(int i, const std::string &at) const {
        const dtype_name &d = dtype(f.part[i].tensor->dtype);
        return format("%s = from_%s(((const %s *)a.p[%d])[%s]);\n", value(i).c_str(), d.name, d.stored, i, at.c_str());
    }
    std::string store(int i, const std::string &at) const {
        const dtype_name &d = dtype(f.part[i].tensor->dtype);
        return format("((%s *)a.p[%d])[%s] = to_%s(%s);\n", d.stored, i, at.c_str(), d.name, value(i).c_str());
    }

    // real x = ..., for what the line's text reads, and the value.
    std::string operand(const char *name, int part, int line) const {
        return part >= 0 ? format("real %s = (real)%s; ", name, value(part).c_str()) : format("real %s = (real)a.number[%d]; ", name, 3 * line);
    }
    std::string assign(int part, const std::string &what) const { return format("%s = as_%s(%s); ", value(part).c_str(), dtype(f.part[part].tensor->dtype).name, what.c_str()); }
    std::string line_of(int n) const {
        const aj_fused_line &l = f.line[n];
        const aj_attrs *t = l.attrs;
        int to = f.part[l.out].tensor->dtype, from = l.in[0] >= 0 ? f.part[l.in[0]].tensor->dtype : to;
        const char *real = class_of(t->dtype);
        if (is_copy(l.op)) {
            real = !aj_is_float(from) ? "int64_t" : from == AJ_F64 || !aj_is_float(to) || to == AJ_F64 ? "double" : "float";
            return "{ " + assign(l.out, format("(%s)%s", real, value(l.in[0]).c_str())) + "}\n";
        }
        if (l.op == OP_fill_) return "{ " + assign(l.out, format("a.number[%d]", 3 * n)) + "}\n";
        if (l.op == OP_where) {
            real = class_of(to);
            return "{ " + assign(l.out, format("%s ? (%s)%s : (%s)%s", value(l.in[0]).c_str(), real, value(l.in[1]).c_str(), real, value(l.in[2]).c_str())) + "}\n";
        }
        const row_text &row = text_of(l.op);
        std::string s;
        if (l.column >= 0) {
            real = to == AJ_F64 ? "double" : "float";
            s = format("{ typedef %s real; const real s = (real)a.number[%d], t = (real)a.number[%d], u = (real)a.number[%d]; (void)s; (void)t; (void)u; ", real, 3 * n, 3 * n + 1, 3 * n + 2);
            s += operand("gy_", l.in[0], n) + operand("y", l.in[1], n);
            s += row.inputs == 1 ? operand("x", l.in[2], n) : operand("a_", l.in[2], n) + operand("b_", l.in[3], n);
            s += row.inputs == 1 ? "(void)x; " : "(void)a_; (void)b_; ";
            return s + "(void)y; " + assign(l.out, "gy_ * (real)(" + renamed(row.slope[l.column]) + ")") + "}\n";
        }
        s = format("{ typedef %s real; const real s = (real)a.number[%d], t = (real)a.number[%d], u = (real)a.number[%d]; (void)s; (void)t; (void)u; ", real, 3 * n, 3 * n + 1, 3 * n + 2);
        if (row.inputs == 1) s += operand("x", l.in[0], n);
        else s += t->number == 1 ? operand("a_", -1, n) + operand("b_", l.in[0], n) : operand("a_", l.in[0], n) + operand("b_", l.in[1], n);
        return s + assign(l.out, "(real)(" + renamed(row.value) + ")") + "}\n";
    }
    // The kernel's own arguments are a: the rows' a and b get other names.
    static std::string renamed(const char *text) {
        std::string s;
        for (const char *p = text; *p;) {
            if (!isalpha((unsigned char)*p) && *p != '_' && !isdigit((unsigned char)*p)) { s += *p++; continue; }
            const char *end = p;
            while (isalnum((unsigned char)*end) || *end == '_' || (*end == '.' && isdigit((unsigned char)*p))) end++;
            std::string word(p, (size_t)(end - p));
            p = end;
            s += word == "a" ? "a_" : word == "b" ? "b_" : word;
        }
        return s;
    }

    // A packet of neighbours, whose elements of parts that have one for each come and go in one piece.
    std::string elements() const {
        int V = k.packet;
        std::string s = format("const int64_t n = a.rows * %lld;\nfor (int64_t at = ((int64_t)blockIdx.x * 256 + threadIdx.x) * %d; at < n; at += (int64_t)gridDim.x * 256 * %d) {\n",
                               (long long)f.width, V, V);
        if (wide) s += format("const int64_t r = at / %lld; const int k0 = (int)(at - r * %lld); (void)k0;\n", (long long)f.width, (long long)f.width);
        else s += "const int64_t r = 0; (void)r;\n";
        for (int i = 0; i < f.n_part; i++) s += declare(i);
        const std::string each = format("for (int j = 0; j < %d; j++) { ", V) + (wide ? "const int64_t i = at + j; const int k = k0 + j; (void)i; (void)k; " : "const int64_t i = at + j; (void)i; ");
        const char *guard = V > 1 && !wide ? "if (at + j < n) " : "";
        if (V > 1 && !wide) s += format("const bool whole = at + %d <= n;\n", V);
        for (int i = 0; i < f.n_part; i++) {
            const aj_fused_part &p = f.part[i];
            if (!p.read) continue;
            if (!many(i)) { s += load(i, place(p)); continue; }
            const dtype_name &d = dtype(p.tensor->dtype);
            if (V > 1 && p.row == f.width) {
                if (!wide) s += "if (whole) ";
                s += format("{ const packet<%s, %d> q = *(const packet<%s, %d> *)((const %s *)a.p[%d] + %s); for (int j = 0; j < %d; j++) v%d[j] = from_%s(q.v[j]); }\n",
                            d.stored, V, d.stored, V, d.stored, i, p.sliced ? "at" : "k0", V, i, d.name);
                if (wide) continue;
                s += "else ";
            }
            s += each + guard + load(i, place(p)) + "}\n";
        }
        for (int n = 0; n < f.n_line; n++) s += many(f.line[n].out) ? format("for (int j = 0; j < %d; j++) ", V) + line_of(n) : line_of(n);
        for (int i = 0; i < f.n_part; i++) {
            const aj_fused_part &p = f.part[i];
            if (!p.stored) continue;
            const dtype_name &d = dtype(p.tensor->dtype);
            if (V > 1) {
                if (!wide) s += "if (whole) ";
                s += format("{ packet<%s, %d> q; for (int j = 0; j < %d; j++) q.v[j] = to_%s(v%d[j]); *(packet<%s, %d> *)((%s *)a.p[%d] + at) = q; }\n",
                            d.stored, V, V, d.name, i, d.stored, V, d.stored, i);
                if (wide) continue;
                s += "else ";
            }
            s += each + guard + store(i, place(p)) + "}\n";
        }
        return s + "}\n";
    }
    // A row by 32 threads, or by a block.
    std::string rows() const {
        std::string s = k.rows > 1 ? format("const int64_t r = (int64_t)blockIdx.x * %d + threadIdx.x / 32;\nconst int first = threadIdx.x %% 32;\nif (r >= a.rows) return;\n", k.rows)
                                   : "const int64_t r = blockIdx.x;\nconst int first = threadIdx.x;\n";
        const bool full = f.width == (int64_t)k.threads * k.each;
        const std::string each = format("_Pragma(\"unroll\") for (int j = 0; j < %d; j++) { const int k = first + j * %d; const int64_t i = r * %lld + k; (void)i; ", k.each, k.threads, (long long)f.width) +
                                 (full ? "" : format("if (k < %lld) ", (long long)f.width));
        for (int i = 0; i < f.n_part; i++) s += declare(i);
        for (int i = 0; i < f.n_part; i++) {
            if (!f.part[i].read) continue;
            s += many(i) ? each + load(i, place(f.part[i])) + "}\n" : load(i, place(f.part[i]));
        }
        for (int n = 0; n < f.n_line; n++) {
            const aj_fused_line &l = f.line[n];
            if (l.column < 0 && (text_of(l.op).start || l.op == OP_softmax || l.op == OP_log_softmax)) s += along(n, each);
            else s += many(l.out) ? each + line_of(n) + "}\n" : line_of(n);
        }
        s += k.rows > 1 ? "__syncwarp();\n" : "__syncthreads();\n";      // a number of a row has been read before it is written
        for (int i = 0; i < f.n_part; i++) {
            if (!f.part[i].stored) continue;
            s += many(i) ? each + store(i, place(f.part[i])) + "}\n" : "if (first == 0) " + store(i, place(f.part[i]));
        }
        return s;
    }
    // What a whole row is made into.
    std::string along(int n, const std::string &each) const {
        const aj_fused_line &l = f.line[n];
        int from = f.part[l.in[0]].tensor->dtype;
        std::string x = value(l.in[0]);
        if (text_of(l.op).start) {
            const char *real = class_of(from), *start = text_of(l.op).start;
            bool is_float = real[0] != 'i', low = !strcmp(start, "LOWEST"), high = !strcmp(start, "HIGHEST");
            std::string begin = low || high ? is_float ? format("%s(real)INFINITY", low ? "-" : "") : low ? "(-9223372036854775807LL - 1)" : "9223372036854775807LL" : std::string("(real)(") + start + ")";
            std::string s = format("{ typedef %s real; auto step = [](real acc, real x) { return (real)(%s); };\nreal acc = %s;\n", real, text_of(l.op).value, begin.c_str());
            s += each + "acc = step(acc, (real)" + x + "); }\n";
            s += format("acc = fold<%d>(acc, step);\n", k.threads);
            if (l.op == OP_mean) s += format("acc = acc / (real)%lld;\n", (long long)f.width);
            return s + assign(l.out, "acc") + "}\n";
        }
        const char *real = from == AJ_F64 ? "double" : "float";
        std::string s = format("{ typedef %s real; real top = -(real)INFINITY, sum = 0;\n", real);
        s += each + "{ real x = (real)" + x + "; top = top != top || top > x ? top : x; } }\n";
        s += format("top = fold<%d>(top, [](real a, real b) { return a != a || a > b ? a : b; });\n", k.threads);
        s += each + "sum += exp((real)" + x + " - top); }\n";
        s += format("sum = fold<%d>(sum, [](real a, real b) { return a + b; });\n", k.threads);
        if (l.op == OP_softmax) return s + "const real scale = 1 / sum;\n" + each + assign(l.out, "exp((real)" + x + " - top) * scale") + "}\n}\n";
        return s + "const real l = log(sum);\n" + each + assign(l.out, "(real)" + x + " - top - l") + "}\n}\n";
    }
};

// -- Kernels

// The driver's functions, found by way of the runtime, so that nothing is linked with the driver.
struct driver_calls {
    int (*load)(void **module, const void *image) = nullptr;
    int (*get)(void **function, void *module, const char *name) = nullptr;
    int (*launch)(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned x, unsigned y, unsigned z, unsigned shared, cudaStream_t s, void **arguments, void **extra) = nullptr;
    int (*name)(int error, const char **name) = nullptr;
    bool found = false;
    driver_calls() { found = find("cuModuleLoadData", &load) && find("cuModuleGetFunction", &get) && find("cuLaunchKernel", &launch) && find("cuGetErrorName", &name); }
    template <typename F> static bool find(const char *symbol, F *to) {
        void *p = nullptr;
        cudaDriverEntryPointQueryResult how = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
        cudaError_t e = cudaGetDriverEntryPointByVersion(symbol, &p, 12000, cudaEnableDefault, &how);
#else
        cudaError_t e = cudaGetDriverEntryPoint(symbol, &p, cudaEnableDefault, &how);
#endif
        if (e != cudaSuccess) cudaGetLastError();
        if (e != cudaSuccess || how != cudaDriverEntryPointSuccess || !p) return false;
        memcpy(to, &p, sizeof p);
        return true;
    }
    bool check(int error) const {
        const char *what = nullptr;
        if (!error) return true;
        name(error, &what);
        return aj_error("jit: a fused kernel: CUDA: %s", what ? what : "an unknown error");
    }
};
const driver_calls &driver() { static const driver_calls d; return d; }

bool compile(const std::string &text, const std::string &arch, std::string *cubin) {
    nvrtcProgram p;
    std::string how = "--gpu-architecture=" + arch;
    const char *options[] = {how.c_str(), "--std=c++17"};
    nvrtcResult e = rtc.create(&p, text.c_str(), "fused.cu", 0, nullptr, nullptr);
    if (e != NVRTC_SUCCESS) return aj_error("jit: NVRTC: %s", rtc.error_string(e));
    if ((e = rtc.compile(p, 2, options)) != NVRTC_SUCCESS) {
        size_t n = 0;
        rtc.log_size(p, &n);
        std::string log(n + 1, 0);
        if (n) rtc.log(p, &log[0]);
        rtc.destroy(&p);
        return aj_error("jit: NVRTC could not compile a fused kernel for %s: %s: %.500s (AIJIT_FUSE=none has ai.jit do without)", arch.c_str(), rtc.error_string(e), log.c_str());
    }
    size_t n = 0;
    e = rtc.cubin_size(p, &n);
    cubin->assign(n, 0);
    if (e == NVRTC_SUCCESS) e = rtc.cubin(p, &(*cubin)[0]);
    rtc.destroy(&p);
    return e == NVRTC_SUCCESS || aj_error("jit: NVRTC: %s", rtc.error_string(e));
}

uint64_t hash(const std::string &s, uint64_t h) {
    for (unsigned char c : s) h = (h ^ c) * 0x100000001b3;           // FNV-1a
    return h;
}

// A file is the key that it was made for, the code, and a sum over both; what is damaged is made anew, with a notice.
const char MARK[8] = {'a', 'j', 'f', 'u', 's', 'e', '1', '\n'};
struct head { char mark[8]; uint64_t key, code, sum; };

bool read_file(const std::string &path, const std::string &key, std::string *code) {
    FILE *file = fopen(path.c_str(), "rb");
    if (!file) return false;
    head h = {};
    std::string its;
    bool ok = fread(&h, sizeof h, 1, file) == 1 && !memcmp(h.mark, MARK, sizeof MARK) && h.key == key.size() && h.code > 0 && h.code < 1 << 28;
    if (ok) {
        its.resize(h.key);
        code->resize(h.code);
        ok = fread(&its[0], h.key, 1, file) == 1 && fread(&(*code)[0], h.code, 1, file) == 1 && hash(*code, hash(its, 7)) == h.sum;
    }
    fclose(file);
    if (!ok) fprintf(stderr, "aijit: the cached kernel %s is damaged; it is compiled anew\n", path.c_str());
    return ok && its == key;                             // another key of the same hash is no damage
}
void write_file(const std::string &path, const std::string &key, const std::string &code) {
    static std::atomic<unsigned> count{0};
    std::string part = format("%s.%ld.%u", path.c_str(), (long)getpid(), count++);
    FILE *file = fopen(part.c_str(), "wb");
    if (!file) return;
    head h = {{0}, key.size(), code.size(), hash(code, hash(key, 7))};
    memcpy(h.mark, MARK, sizeof MARK);
    bool ok = fwrite(&h, sizeof h, 1, file) == 1 && fwrite(key.data(), key.size(), 1, file) == 1 && fwrite(code.data(), code.size(), 1, file) == 1;
    ok = fclose(file) == 0 && ok;
    if (!ok || rename(part.c_str(), path.c_str())) remove(part.c_str());
}

// The kernel of a source on a device; NULL after an error. They stay as long as the process.
void *function_of(const std::string &text, int32_t device, const std::string &arch) {
    static std::mutex lock;
    static std::unordered_map<std::string, void *> made;
    std::lock_guard<std::mutex> guard(lock);
    const std::string name = format("%d ", device) + text;
    auto known = made.find(name);
    if (known != made.end()) return known->second;
    int major = 0, minor = 0;
    rtc.version(&major, &minor);
    const std::string key = format("%s NVRTC %d.%d\n", arch.c_str(), major, minor) + text, folder = cache_folder();
    const std::string path = folder.empty() ? "" : format("%s/fused-%s-%016llx.cubin", folder.c_str(), arch.c_str(), (unsigned long long)hash(key, 0xcbf29ce484222325));
    std::string code;
    void *module = nullptr, *function = nullptr;
    if (path.empty() || !read_file(path, key, &code)) {
        if (!compile(text, arch, &code)) return nullptr;
        if (!path.empty()) write_file(path, key, code);
    }
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    cudaThreadExchangeStreamCaptureMode(&mode);
    bool ok = driver().check(driver().load(&module, code.data())) && driver().check(driver().get(&function, module, "fused"));
    cudaThreadExchangeStreamCaptureMode(&mode);
    if (ok) made[name] = function;
    return ok ? function : nullptr;
}

struct kernel {
    std::string arch;
    shape_of_kernel shape[2];
    void *function[2] = {nullptr, nullptr};              // by packets, and element by element
    std::vector<double> number;
};

bool ready(const aj_fused *f, kernel *k, int which) {
    if (k->function[which]) return true;
    int V = 4;
    for (int i = 0; i < f->n_part; i++) if ((f->part[i].read || f->part[i].stored) && dtype(f->part[i].tensor->dtype).bytes == 2) V = 8;
    if (f->width > 1) while (f->width % V) V /= 2;
    source s(*f, which || f->by_rows ? 1 : V);
    k->shape[which] = s.k;
    return (k->function[which] = function_of(s.text(), f->device, k->arch)) != nullptr;
}

// Whether what goes by packets lies where they do.
bool aligned(const aj_fused *f, int packet) {
    for (int i = 0; i < f->n_part; i++) {
        const aj_fused_part &p = f->part[i];
        int bytes = dtype(p.tensor->dtype).bytes * packet;
        if ((p.read || p.stored) && p.row == f->width && (p.sliced || f->width > 1) && ((uintptr_t)p.tensor->data & (uintptr_t)((bytes < 16 ? bytes : 16) - 1))) return false;
    }
    return true;
}
}

bool fuses(int op, int column) {
    if (op == OP_where || op == OP_fill_ || is_copy(op) || op == OP_softmax || op == OP_log_softmax) return column < 0;
    const row_text &row = text_of(op);
    const char *text = column >= 0 ? row.slope[column] : row.value;
    return text && readable(text);
}

int fuse(aj_fused *f) {
    if (!rtc.here() || !driver().found || 1 + f->n_part + 3 * f->n_line > MOST_ARGUMENTS) return 0;
    cudaDeviceProp p;
    work w("jit", f->device);
    if (!w.done(cudaGetDeviceProperties(&p, f->device))) return -1;
    kernel *k = new kernel;
    k->arch = format("sm_%d%d", p.major, p.minor);
    for (int i = 0; i < f->n_line; i++) {
        const aj_attrs *t = f->line[i].attrs;
        for (double v : {t->s, t->t, t->u}) k->number.push_back(v);
    }
    f->kernel = k;
    return ready(f, k, 0) ? 1 : -1;
}
void fused_free(aj_fused *f) { delete (kernel *)f->kernel; }

bool fused_run(const aj_fused *f) {
    kernel *k = (kernel *)f->kernel;
    work w("jit", f->device);
    int which = aligned(f, k->shape[0].packet) ? 0 : 1;
    if (!w.done() || !ready(f, k, which)) return false;
    const shape_of_kernel &s = k->shape[which];
    std::vector<uint64_t> a;
    a.push_back((uint64_t)f->rows);
    for (int i = 0; i < f->n_part; i++) a.push_back((uint64_t)(uintptr_t)f->part[i].tensor->data);
    a.resize(a.size() + k->number.size());
    memcpy(&a[a.size() - k->number.size()], k->number.data(), k->number.size() * sizeof(double));
    int64_t blocks = f->by_rows ? (f->rows + s.rows - 1) / s.rows : (f->rows * f->width + 256 * s.packet - 1) / (256 * s.packet), most = (int64_t)w.processors * 32;
    if (!f->by_rows && blocks > most) blocks = most;
    void *arguments[] = {a.data()};
    return driver().check(driver().launch(k->function[which], (unsigned)blocks, 1, 1, (unsigned)(s.threads * s.rows), 1, 1, 0, w.stream, arguments, nullptr)) && w.done();
}

}
