--- The CUDA device as the CUDA toolkit's compiler sees it, where there is a toolkit; a GPU is not needed.
--
-- AIJIT_TEST_NVCC=1 builds all of it too, which takes a quarter of an hour on two cores.

local process = require "spec.support.process"
local paths = require "aijit.tree"

if not paths.source then
  pending "the CUDA device under nvcc: no source tree"
  return
end

local root = process.quote(paths.root)
local nvcc = process.run "command -v nvcc || ls /usr/local/cuda/bin/nvcc".out:match "^(/[^\n]+)"
local toolkit = nvcc and process.run("dirname $(dirname $(readlink -f " .. process.quote(nvcc) .. "))").out:match "^(/[^\n]+)"

local function shell(command, limit)
  local r = process.run(command, {limit = limit or 60})
  assert.are.equal(0, r.status, r.out:sub(-3000) .. r.err:sub(-3000))
  return r.out
end

describe("the CUDA device under nvcc", function()
  if not nvcc then
    pending "no CUDA toolkit is here"
    return
  end

  -- A header of cuda/include names what it declares as the toolkit's does, with the same numbers and types of arguments.
  for name in process.run("ls " .. root .. "/cuda/include").out:gmatch "(%w+)%.h" do
    it("declares " .. name .. ".h as the toolkit does", function()
      local header = toolkit .. "/include/" .. name .. ".h"
      local file = io.open(header)
      if not file then return pending(header .. " is not here") end
      file:close()
      file = assert(io.open(("%s/cuda/include/%s.h"):format(paths.root, name)))
      local text = file:read "*a"
      file:close()
      local lines = {"#include <cuda_runtime.h>", "#include <type_traits>", "#include <" .. name .. ".h>"}
      lines[#lines + 1] = "namespace ours {\n" .. text:gsub("#pragma once", ""):gsub("#include <cuda_runtime.h>", "") .. "\n}"
      local constants, functions = 0, 0
      for body in text:gmatch "enum[%s%w_]*(%b{})" do
        for constant in body:gmatch "([%u][%w_]+)%s*=" do
          constants = constants + 1
          lines[#lines + 1] = ("static_assert((long long)ours::%s == (long long)::%s, \"%s\");"):format(constant, constant, constant)
        end
      end
      -- Opaque types are other types here and there, and so are enumerations: what is compared is how arguments are passed.
      lines[#lines + 1] = [[
template <typename T> struct passed { static constexpr int as = std::is_floating_point<T>::value ? 100 + sizeof(T)
    : std::is_pointer<T>::value ? 200 : sizeof(T); };
template <> struct passed<void> { static constexpr int as = 0; };
template <typename F> struct shape;
template <typename R, typename... A> struct shape<R(A...)> { static constexpr bool same(std::initializer_list<int> of) {
    int mine[] = {passed<R>::as, passed<A>::as...}; int i = 0;
    for (int k : of) if (i >= (int)(sizeof mine / sizeof *mine) || mine[i++] != k) return false;
    return i == (int)(sizeof mine / sizeof *mine); } };
template <typename F> struct list;
template <typename R, typename... A> struct list<R(A...)> {
    template <typename G> static constexpr bool equals() { return shape<G>::same({passed<R>::as, passed<A>::as...}); } };]]
      for call in text:gmatch "\n[%w_ ]+[ *]([%l][%w]+)%(" do
        functions = functions + 1
        lines[#lines + 1] = ("static_assert(list<decltype(::%s)>::equals<decltype(ours::%s)>(), \"%s\");"):format(call, call, call)
      end
      assert.is_true(constants > 1 and functions > 1)
      local path = os.tmpname()
      file = assert(io.open(path, "w"))
      file:write(table.concat(lines, "\n"), "\n")
      file:close()
      shell(("c++ -std=c++17 -fsyntax-only -x c++ -I %s/include %s"):format(process.quote(toolkit), path))
      os.remove(path)
    end)
  end

  it("builds without a warning, for GPUs of both generations and those to come, and starts where there is no GPU #slow", function()
    if not os.getenv "AIJIT_TEST_NVCC" then return pending "AIJIT_TEST_NVCC=1 asks for it" end
    shell(("cd %s && PATH=$PATH:%s/bin rocks/bootstrap build cuda"):format(root, process.quote(toolkit)), 7200)
    local library = root .. "/build/cuda/libaijit_cuda.so"
    local tool = process.quote(toolkit) .. "/bin/cuobjdump"
    if process.has(tool) then
      assert.is_truthy(shell(tool .. " -lelf " .. library):find("sm_80", 1, true))
      assert.is_truthy(shell(tool .. " -lelf " .. library):find("sm_90", 1, true))
      assert.is_truthy(shell(tool .. " -lptx " .. library):find("sm_90", 1, true))
    end
    local needed = shell("readelf -d " .. library)
    for _, name in ipairs {"libcuda%.", "libcudart", "libcublas", "libcudnn", "libnvrtc", "libnccl"} do
      assert.is_nil(needed:match("NEEDED[^\n]*" .. name), "it is linked with " .. name)
    end
    local r = process.run(root .. "/build/cuda/aijit -e 'local ai = require \"aijit\" print(ai.cuda.is_available()) print(ai.ones(2):sum():item())'")
    assert.is_truthy(r.out:match "^true" or r.out:match "^false\tno NVIDIA driver was found" or r.out:match "^false\tthe NVIDIA driver ", r.out .. r.err)
    assert.is_truthy(r.out:match "\n2\n$", r.out .. r.err)
  end)
end)
