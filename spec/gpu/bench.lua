--- What spec/gpu/report.lua measures on a device. spec/gpu/peer.py measures the same rows, under the same names, with PyTorch
-- and JAX.
--
-- A row is {name, unit, work of a call in units, build}: build() gives the function that is called again and again. A row whose
-- op has no kernel, or that finds no memory, is an error in the report and no end of it.

local ai = require "aijit"
local nn = ai.nn
local F = ai.f
local model = require "spec.gpu.model"
local now = require("aijit.bindings.system").monotonic

local M = {}

-- With a scale below 1 the numbers do not count: sizes are small, and each row is called a few times.
local function sizes(scale)
  local small = scale < 1
  return function(whole, tiny) if small then return tiny end return whole end, small and 1 or 7, small and 0 or 0.1
end

--- Seconds that one call of f takes: the median of rounds, each of as many calls as take a tenth of a second.
local function time(f, rounds, span)
  local calls = 1
  local function round()
    ai.cuda.synchronize()
    local start = now()
    for _ = 1, calls do ai.scope(f) end
    ai.cuda.synchronize()
    return (now() - start) / calls
  end
  for _ = 1, 3 do round() end                            -- choices by timing, the first loads of kernels
  calls = math.max(1, math.min(2000, math.ceil(span / math.max(round(), 1e-7))))
  local list = {}
  for i = 1, rounds do list[i] = round() end
  table.sort(list)
  return list[math.ceil(rounds / 2)]
end

--- The rows: lists of name, unit, work, build.
---@param scale number  1: as they are compared; less: tiny
---@param device string
function M.rows(scale, device)
  local pick = sizes(scale)
  local on = {device = device}
  local rows = {}
  local function row(name, unit, work, build) rows[#rows + 1] = {name = name, unit = unit, work = work, build = build} end
  local function randn(dtype, ...) return ai.randn(...):to(device):to(dtype) end

  -- What a call costs before any work: the device is not waited for.
  row("op.add_1k", "ops", 100, function()
    local x = ai.randn(1024, on)
    return function() local y = x for _ = 1, 100 do y = x + y end return y end
  end)

  local n = pick(2 ^ 26, 1000)
  for _, dtype in ipairs {"f32", "bf16"} do
    local bytes = dtype == "f32" and 4 or 2
    row("copy." .. dtype, "bytes", 2 * bytes * n, function()
      local x, y = randn(dtype, n), randn(dtype, n)
      return function() y:copy_(x) end
    end)
    row("add." .. dtype, "bytes", 3 * bytes * n, function()
      local x, y = randn(dtype, n), randn(dtype, n)
      return function() return x + y end
    end)
    row("gelu." .. dtype, "bytes", 2 * bytes * n, function()
      local x = randn(dtype, n)
      return function() return F.gelu(x) end
    end)
    local rows_, columns = pick(16384, 8), pick(4096, 50)
    local all = rows_ * columns
    for name, f in pairs {
      sum_rows = function(x) return x:sum(2) end, sum_columns = function(x) return x:sum(1) end,
    } do
      row(name .. "." .. dtype, "bytes", bytes * all, function()
        local x = randn(dtype, rows_, columns)
        return function() return f(x) end
      end)
    end
    for name, f in pairs {softmax = function(x) return F.softmax(x, 2) end, layer_norm = function(x) return F.layer_norm(x, {columns}) end} do
      row(name .. "." .. dtype, "bytes", 2 * bytes * all, function()
        local x = randn(dtype, rows_, columns)
        return function() return f(x) end
      end)
    end
  end

  for _, case in ipairs {
    {"f32", 4096, 4096, 4096}, {"tf32", 4096, 4096, 4096}, {"bf16", 4096, 4096, 4096}, {"bf16", 8192, 8192, 8192}, {"f16", 4096, 4096, 4096},
    {"bf16", 32768, 2304, 768}, {"bf16", 32768, 3072, 768}, {"bf16", 32768, 768, 3072}, {"f64", 4096, 4096, 4096},
  } do
    local dtype, M_, N, K = case[1], pick(case[2], 32), pick(case[3], 24), pick(case[4], 16)
    row(("gemm.%s.%dx%dx%d"):format(dtype, case[2], case[3], case[4]), "flops", 2 * M_ * N * K, function()
      local kind = dtype == "tf32" and "f32" or dtype
      local a, b = randn(kind, M_, K), randn(kind, N, K)
      return function()
        ai.cuda.tf32(dtype == "tf32")
        local y = a:matmul(b:t())
        ai.cuda.tf32(false)
        return y
      end
    end)
  end

  -- Forward and backward; half of the products of a causal attention are not done.
  for _, T in ipairs {1024, 4096} do
    local B, H, D, time_ = pick(32 * 1024 / T, 1), pick(12, 2), pick(64, 8), pick(T, 16)
    row("sdpa.bf16." .. T, "flops", 3.5 * 4 * B * H * time_ * time_ * D / 2, function()
      local x = {}
      for i = 1, 3 do x[i] = randn("bf16", B, H, time_, D):detach():requires_grad_() end
      local g = randn("bf16", B, H, time_, D)
      return function()
        for i = 1, 3 do x[i].grad = nil end
        F.scaled_dot_product_attention(x[1], x[2], x[3], {is_causal = true}):backward(g)
      end
    end)
  end

  -- What launching costs: a small network's step, one op after another, and recorded.
  for _, recorded in ipairs {false, true} do
    row(recorded and "mlp_step.graph" or "mlp_step", "steps", 1, function()
      local net = nn.Sequential{nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)}
      net:to(device)
      local x, y = ai.randn(32, 784, on), ai.randint(1, 10, {32}):to(device)
      local step = model.step(net, nil, function() return F.cross_entropy(net(x), y) end)
      return recorded and ai.jit(step) or step
    end)
  end

  -- A network's step of training in bf16; its work is examples, or tokens.
  local function training(name, unit, work, make)
    for _, recorded in ipairs {false, true} do
      row(name .. (recorded and ".graph" or ""), unit, work, function()
        local net, loss = make()
        net:to(device)
        local step = model.step(net, "bf16", loss)
        return recorded and ai.jit(step) or step
      end)
    end
  end
  local batch, image = pick(256, 2), pick(224, 32)
  local classes = pick(1000, 10)
  local function images()
    return ai.randn(batch, 3, image, image, on), ai.randint(1, classes, {batch}):to(device)
  end
  training("resnet50.bf16", "images", batch, function()
    local net = model.resnet(pick({3, 4, 6, 3}, {1, 1, 1, 1}), pick(64, 8), classes)
    local x, y = images()
    return net, function() return F.cross_entropy(net(x), y) end
  end)
  training("vit_s16.bf16", "images", batch, function()
    local net = model.vit(pick(nil, {image = image, patch = 16, layers = 1, heads = 2, width = 16, classes = classes}))
    local x, y = images()
    return net, function() return F.cross_entropy(net(x), y) end
  end)
  local B, T, V = pick(32, 2), pick(1024, 16), pick(50304, 40)
  training("gpt2_124m.bf16", "tokens", B * T, function()
    local net = model.gpt2(pick(nil, {vocabulary = V, context = T, layers = 1, heads = 2, width = 16}))
    local x, y = ai.randint(1, V, {B, T}):to(device), ai.randint(1, V, {B, T}):to(device)
    return net, function() return net(x, y) end
  end)
  return rows
end

--- Measures the rows, or those whose name has `only` in it.
---@return table<string, {seconds: number?, per_second: number?, unit: string, error: string?}>
function M.measure(scale, device, only)
  local _, rounds, span = sizes(scale)
  local out = {}
  for _, r in ipairs(M.rows(scale, device)) do
    if not only or r.name:find(only, 1, true) then
      local ok, seconds = pcall(function() return time(r.build(), rounds, span) end)
      out[r.name] = ok and {seconds = seconds, per_second = r.work / seconds, unit = r.unit} or {unit = r.unit, error = tostring(seconds):match "^[^\n]*"}
      io.stderr:write(("%-28s %s\n"):format(r.name, ok and ("%.3e %s/s"):format(r.work / seconds, r.unit) or out[r.name].error))
      collectgarbage() collectgarbage()
      ai.empty_cache()
    end
  end
  return out
end

return M
