--- The two libraries behind matmul, called without anything between.

local ffi = require "ffi"
local lib = require "aijit.bindings.lib"

ffi.cdef [[
int bench_dnnl_sgemm(char ta, char tb, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda,
                     const float *B, int64_t ldb, float beta, float *C, int64_t ldc) __asm__("dnnl_sgemm");
void bench_cblas_sgemm(int order, int ta, int tb, int M, int N, int K, float alpha, const float *A, int lda,
                       const float *B, int ldb, float beta, float *C, int ldc) __asm__("cblas_sgemm");
]]
local function load(...)
  for _, name in ipairs {...} do
    local ok, library = pcall(ffi.load, name)
    if ok then return library end
  end
  error("none of " .. table.concat({...}, ", ") .. " can be loaded")
end
local onednn, openblas = load("libdnnl.so.2", "libdnnl.so.3", "dnnl"), load("libopenblas.so.0", "openblas")

local direct = {}
local function p(t) return ffi.cast("float *", lib.C.aj_data(t)) end
function direct.onednn(out, x, y, n)
  onednn.bench_dnnl_sgemm(78, 78, n, n, n, 1, p(x), n, p(y), n, 0, p(out), n)
end
function direct.openblas(out, x, y, n)
  openblas.bench_cblas_sgemm(101, 111, 111, n, n, n, 1, p(x), n, p(y), n, 0, p(out), n)
end
return direct
