--- The CUDA device over a stand-in for the CUDA runtime (spec/support/cuda), where there is a C++ compiler. Each part runs in
-- a process of its own, since a process asks once which devices there are.
--
-- The whole of it, every test of the op table on the device: `spec/support/cuda/check`.

local process = require "spec.support.process"
local paths = require "aijit.tree"

local folder = (os.getenv "AIJIT_LIB" or paths.lib or ""):match "^(.*)/[^/]*$"
local cmake = folder and io.open(folder .. "/CMakeCache.txt")
local has_compiler = cmake and cmake:read "*a":match "CMAKE_CXX_COMPILER:[%u]+=(/[^\n]+)"
if cmake then cmake:close() end
if not has_compiler then
  pending "the CUDA device over its stand-in: no build tree with a C++ compiler is here"
  return
end

-- The parts run with the compiler on, whichever way this file is run.
if not jit.status() then
  pending "the CUDA device over its stand-in: the run with the compiler on has it"
  return
end

-- Under a sanitizer the stand-in takes minutes to build: it is run there once it has been built by
-- `cmake --build build/asan --target aijit_cuda_host`.
if folder:match "asan$" or folder:match "tsan$" then
  local built = io.open(folder .. "/libaijit_cuda_host.so")
  if not built then
    pending "the CUDA device over its stand-in: it is not built for this sanitizer"
    return
  end
  built:close()
end

local host = process.aijit()

-- What is kept on disk goes to a folder of this run.
local cache = process.folder()
local function run(words, environment, limit)
  local line = ("AIJIT_CACHE_DIR=%s AIJIT_CUDA=%s/libaijit_cuda_host.so %s %s"):format(cache, process.quote(folder), environment or "", words)
  return process.run(line, {limit = limit or 300})
end
local function busted(words, environment, limit)
  local r = run(("%s \"$(command -v busted)\" --ignore-lua -o plainTerminal %s"):format(host, words), environment, limit)
  assert.are.equal(0, r.status, r.out:sub(-4000) .. r.err:sub(-2000))
  return r.out
end
local function program(text, environment)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write('local ai = require "aijit"\n' .. text)
  file:close()
  local r = run(host .. " " .. path, environment)
  os.remove(path)
  return r.out .. r.err
end

describe("the CUDA device", function()
  teardown(function() process.run("rm -r " .. cache) end)
  setup(function()
    local r = process.run(("cmake --build %s --target aijit_cuda_host"):format(process.quote(folder)), {limit = 600})
    assert.are.equal(0, r.status, r.out .. r.err)
  end)

  it("has memory, streams, copies and errors of its own", function() busted "spec/support/cuda/device_check.lua" end)

  it("trains", function() busted "spec/support/cuda/train_check.lua" end)
  it("replays recordings of ai.jit as graphs, and kernel by kernel", function()
    busted("spec/support/cuda/jit_check.lua", "AIJIT_FUSE=none AIJIT_TEST_DEVICE=cuda")
    busted("--filter='a recording on a CUDA device' spec/support/cuda/jit_check.lua", "AIJIT_FUSE=none AIJIT_CUDA_GRAPH=0")
  end)

  -- Where the CUDA toolkit is, its compiler has to accept each kernel too.
  it("makes one kernel of a chain of ops", function()
    local nvrtc = os.getenv "AIJIT_NVRTC" or "/usr/local/cuda/lib64/libnvrtc.so"
    local file = io.open(nvrtc)
    if file then file:close() end
    local own = process.folder()
    local environment = ("AIJIT_CACHE_DIR=%s %s"):format(own, file and "AIJIT_STANDIN_NVRTC=" .. nvrtc or "")
    busted("spec/support/cuda/fuse_check.lua", environment)
    local again = run(("%s -e %s"):format(host, process.quote [[
      local ai = require "aijit"
      ai.device_scope("cuda", function()
        local f, x = ai.jit(function(x) return (x * 3 - 2):tanh() * 5 + 0.25 end), ai.ones(8)
        f(x)
        print(f(x):sum():item())
      end)]]), environment)
    process.run("rm -r " .. own)
    assert.is_truthy(again.err:find("is damaged; it is compiled anew", 1, true), again.err)
    assert.is_truthy(again.out:find("32.46", 1, true), again.out)
    local without = program([[
      ai.device_scope("cuda", function()
        local f, x = ai.jit(function(x) return (x * 3 - 2):tanh() * 5 + 0.25 end), ai.ones(8)
        f(x)
        print(f(x):sum():item())
      end)]], "AIJIT_CUDA_LIBRARIES=/nowhere")
    assert.is_truthy(without:find("32.46", 1, true), without)      -- op by op
  end)

  -- A graph's random numbers move on from launch to launch only where they begin at drawn_of(attributes).
  it("draws random numbers by draw.cuh alone", function()
    local found = process.run "grep -lE '(->|\\.)(seed|position)\\b' cuda/*.cu cuda/*.cuh cuda/*.cpp"
    assert.are.equal("cuda/draw.cuh\n", found.out)
  end)

  it("trains in mixed precision", function() busted "spec/support/cuda/autocast_check.lua" end)

  it("goes the other ways of its kernels at other sizes", function() busted "spec/support/cuda/size_check.lua" end)

  it("trains a task, and goes on from its checkpoints", function() busted "spec/support/cuda/task_check.lua" end)

  it("is given batches ahead of their use", function() busted "spec/support/cuda/loader_check.lua" end)

  it("may be one of several", function() busted("spec/support/cuda/several_check.lua", "AIJIT_STANDIN_DEVICES=3") end)

  it("gives what the CPU gives, of every op that it has a kernel for", function()
    local out = busted("--filter='gives what the CPU gives' spec/op_spec.lua", "AIJIT_TEST_DEVICE=cuda")
    local passed, pending_ = out:match "(%d+) successes", out:match "(%d+) pending"
    assert.is_true(tonumber(passed) > 100, passed .. " rows passed, " .. pending_ .. " have no kernel")
  end)

  it("multiplies matrices by cuBLASLt, and without it", function()
    busted "spec/support/cuda/matmul_check.lua"
    busted("spec/support/cuda/matmul_check.lua", "AIJIT_CUDA_LIBRARIES=/nowhere")
  end)

  it("goes on with an algorithm that another process chose, and without one that is spoilt", function()
    local text = "local a = ai.ones({128, 128}, {device = 'cuda'}) for _ = 1, 4 do a = a:matmul(a):mul(0) + 1 end print(a:sum():item())"
    assert.is_truthy(program(text):find("16384", 1, true))
    local path = process.run("ls " .. cache .. "/cuda/cublaslt-13.0.0-host-stand-in-0.txt").out:match "[^\n]+"
    local function lines()
      local file = assert(io.open(path))
      local all = file:read "*a"
      file:close()
      return all
    end
    local kept = lines()
    assert.is_truthy(kept:match "f32 e1 1x128x128x128 nn [%d,]+ [%d,]+ 888\t%x+ %x+[ 0]+\n", kept)
    assert.is_truthy(program(text):find("16384", 1, true))
    assert.are.equal(kept, lines())                      -- nothing was timed again
    for _, spoilt in ipairs {kept:gsub("\t%x+ %x+", "\t0 1"), kept:gsub("\t[^\n]+", "\tgarbage"), kept:sub(1, -5), "\0\1\2\n\n\t\n"} do
      local file = assert(io.open(path, "w"))
      file:write(spoilt)
      file:close()
      local out = program(text)
      assert.is_truthy(out:find("16384", 1, true), out)
    end
  end)

  it("convolves and attends by cuDNN as the CPU does, and without it", function()
    local told = busted("spec/support/cuda/dnn_check.lua 2>&1", "AIJIT_STANDIN_TELL=1")
    for _, n in ipairs {1, 10, 11, 14, 18, 22} do assert.is_truthy(told:find(("a graph of %d operations runs"):format(n), 1, true), n) end
    assert.is_falsy(told:match "cuDNN stand%-in: %d")
    busted("spec/support/cuda/dnn_check.lua", "AIJIT_CUDA_LIBRARIES=/nowhere")
  end)

  it("goes on with the way of convolving that another process chose, and without one that is spoilt", function()
    local text = "print(ai.f.conv2d(ai.ones({1, 2, 4, 4}, {device = 'cuda'}), ai.ones({3, 2, 3, 3}, {device = 'cuda'})):sum():item())"
    local function runs() return select(2, program(text, "AIJIT_STANDIN_TELL=1"):gsub("a graph of 1 operations runs", "")) end
    local path = process.run("ls " .. cache .. "/cuda/cudnn-9.19.0-host-stand-in-0.txt").out:match "[^\n]+"
    local function change(f)
      local file = assert(io.open(path))
      local all = file:read "*a"
      file:close()
      file = assert(io.open(path, "w"))
      file:write(f(all))
      file:close()
    end
    change(function() return "" end)
    assert.is_true(runs() > 1)                           -- ways were timed
    assert.are.equal(1, runs())
    change(function(all) return (all:gsub("\t[^\n]+", "\t7 99")) end)
    assert.is_true(runs() > 1)
    assert.is_truthy(program(text):find("216", 1, true))
  end)

  it("asks of cuDNN only what the true library accepts, where there is one #slow", function()
    local true_one = os.getenv "AIJIT_STANDIN_CUDNN"
      or process.run("ls /usr/local/cuda*/lib*/libcudnn.so.9 /usr/lib/*/libcudnn.so.9").out:match "[^\n]+"
    if not true_one then return pending "no libcudnn.so.9 is installed" end
    for _, gpu in ipairs {"H100", "A100"} do
      local told = busted("spec/support/cuda/dnn_check.lua 2>&1", ("AIJIT_STANDIN_TELL=1 AIJIT_STANDIN_GPU=%s AIJIT_STANDIN_CUDNN=%s"):format(gpu, true_one))
      for _, n in ipairs {1, 10, 11, 14, 18, 20, 22, 24} do assert.is_truthy(told:find(("a graph of %d operations runs"):format(n), 1, true), n) end
      assert.is_falsy(told:match "cuDNN stand%-in: %d[^\n]*")
    end
  end)

  it("says why there is none", function()
    local ask = "print(ai.cuda.is_available()) print(pcall(ai.zeros, 2, {device = 'cuda:1'})) print(ai.ones(2):sum():item())"
    local none = program(ask, "AIJIT_STANDIN_DEVICES=0")
    assert.is_truthy(none:find("the NVIDIA driver shows no device", 1, true), none)
    assert.is_truthy(none:find("no device cuda:1: the NVIDIA driver shows no device", 1, true), none)
    assert.is_truthy(none:match "\n2\n", none)           -- the CPU goes on
    local old = program(ask, "AIJIT_STANDIN_DEVICES=old")
    assert.is_truthy(old:find("the NVIDIA driver is too old: it can CUDA 11.4, and this build needs 13.0", 1, true), old)
    local absent = program(ask, "AIJIT_STANDIN_DEVICES=none")
    assert.is_truthy(absent:find("no NVIDIA driver was found", 1, true), absent)
    local lost = program(ask, "AIJIT_CUDA=/nowhere/libaijit_cuda.so")
    assert.is_truthy(lost:find("the CUDA library cannot be loaded: /nowhere/libaijit_cuda.so", 1, true), lost)
    assert.is_truthy(lost:match "\n2\n", lost)
  end)

  it("finds its libraries in the folders that AIJIT_CUDA_LIBRARIES names, or says what it looked for", function()
    local ask = "for _, l in ipairs(ai.cuda.libraries()) do print(l.name, l.version, l.path, l.absence, l.install) end "
      .. "print(ai.ones(2, {device = 'cuda'}):sum():item())"
    local here = program(ask)
    assert.is_truthy(here:match "cuBLASLt\t%d+%.%d+%.%d+\t[^\t]+/standin/libcublasLt%.so%.13\tnil", here)
    local nowhere = program(ask, "AIJIT_CUDA_LIBRARIES=/nowhere:/else")
    assert.is_truthy(nowhere:find("cuDNN\tnil\tnil\tnot found (/nowhere/libcudnn.so.9: cannot open shared object file", 1, true), nowhere)
    assert.is_truthy(nowhere:match "/else/libcudnn%.so%.9[^\n]*slower\tcudnn9", nowhere)
    assert.is_truthy(nowhere:match "\n2\n", nowhere)
    local other = process.folder()
    process.run(("echo 'int x;' | cc -shared -x c - -o %s/libcudnn.so.9"):format(other))
    local wrong = program(ask, "AIJIT_CUDA_LIBRARIES=" .. other)
    assert.is_truthy(wrong:find("/libcudnn.so.9: it has no cudnnGetVersion", 1, true), wrong)
    process.run("rm -r " .. other)
  end)

  it("writes the report of spec/gpu/check #slow", function()
    local reports = process.folder()
    local r = run(("%s spec/gpu/report.lua %s %s"):format(host, process.quote(folder), reports), "AIJIT_BENCH_SCALE=0.0001 AIJIT_PYTHON=")
    assert.are.equal(0, r.status, r.out .. r.err)
    local path = r.out:match "([^\n]+%.json)"
    local file = assert(io.open(path))
    local report = require "aijit.json".decode(file:read "*a")
    file:close()
    assert.are.equal("host stand-in 0", report.gpu)
    local rows = 0
    for name, m in pairs(report.bench) do
      rows = rows + 1
      assert.is_true((m.seconds or 0) > 0, name .. ": " .. tostring(m.error))
    end
    assert.is_true(rows >= 30)
    assert.is_true(report.training.mnist.accuracy >= 0 and report.training.mnist.steps == 2, tostring(report.training.mnist.error))
    assert.is_true(report.training.characters.apart < 1e-4, tostring(report.training.characters.error))
    local table_ = run(("%s spec/gpu/table.lua %s"):format(host, reports)).out
    assert.is_truthy(table_:match "\n| gpt2_124m.bf16 | [%d.e+]+ [Mk]?tokens/s | ", table_)
    os.execute("rm -r " .. reports)
  end)

  it("is refused by a number that it does not have", function()
    local out = program("print(pcall(ai.zeros, 2, {device = 'cuda:2'}))", "AIJIT_STANDIN_DEVICES=2")
    assert.is_truthy(out:find("no device cuda:2: there are 2, numbered from cuda:0", 1, true), out)
  end)
end)
