--- Ops on a CUDA device at sizes where their kernels go other ways than at those of the op table: few long rows, many short
-- ones, transforms of every kind of length, larger matrices. Run as device_check.lua is.

local ai = require "aijit"
local f = ai.f

assert(ai.cuda.is_available())

-- What op gives on the CPU and on the device, of the same tensors: how far they are apart, beside the largest of the CPU's.
local function apart(op, ...)
  local here = {}
  for i = 1, select("#", ...) do
    local x = select(i, ...)
    here[i] = ai.is_tensor(x) and x:cuda() or x
  end
  local a, b = {op(...)}, {op(unpack(here, 1, select("#", ...)))}
  local worst = 0
  for i, x in ipairs(a) do
    local y = b[i]:cpu():double()
    assert.are.same(x:size(), y:size())
    x = x:double()
    worst = math.max(worst, ((x - y):abs():max() / (x:abs():max() + 1e-30)):item())
  end
  return worst
end

describe("long rows", function()
  local one = ai.randn(40000)
  local three = ai.randn(3, 20000)
  for name, op in pairs {
    norm = function(x) return x:norm() end, ["1-norm"] = function(x) return f.norm(x, 1) end, ["inf-norm"] = function(x) return f.norm(x, math.huge) end,
    ["least norm"] = function(x) return f.norm(x, -math.huge) end, std = function(x) return x:std() end, var = function(x) return f.var(x, -1) end,
    logsumexp = function(x) return f.logsumexp(x, -1) end, argmax = function(x) return x:argmax(-1) end, min = function(x) return x:min(-1) end,
    cumsum = function(x) return x:cumsum(-1) end, cumprod = function(x) return f.cumprod(x * 0.01 + 1, -1) end, sort = function(x) return x:sort(-1) end,
    topk = function(x) return x:topk(50, -1) end, ["smallest of topk"] = function(x) return x:topk(9, -1, false) end,
    softmax = function(x) return x:softmax(-1) end, log_softmax = function(x) return x:log_softmax(-1) end,
    layer_norm = function(x) return f.layer_norm(x, {x:size(-1)}) end, rms_norm = function(x) return f.rms_norm(x, {x:size(-1)}) end,
  } do
    it("have the " .. name .. " that the CPU finds", function()
      for _, x in ipairs {one, three} do assert.is_true(apart(op, x) < 3e-5, name .. ": " .. apart(op, x)) end
    end)
  end
  it("have the CPU's gradients of layer_norm and cross_entropy", function()
    local x, labels = ai.randn(2, 9000), ai.tensor({5, 8999}, {dtype = "i64"})
    local function gradient(device, loss)
      local own = x:to(device):clone():requires_grad_()
      loss(own, device):backward()
      return own.grad:cpu()
    end
    for _, loss in ipairs {
      function(y) return (f.layer_norm(y, {9000}) * y):sum() end,
      function(y, device) return ai.cross_entropy(y, labels:to(device)) end,
      function(y, device) return f.cross_entropy(y, labels:to(device), nil, -100, "mean", 0.1) end,
    } do
      local a, b = gradient("cpu", loss), gradient("cuda", loss)
      assert.is_true((a - b):abs():max():item() < 2e-4 * (1 + a:abs():max():item()))
    end
  end)
  it("keep equal elements in their order, and NaN last", function()
    local x = ai.randint(1, 5, {2, 3000}):float()
    x[{1, 7}] = 0 / 0
    local _, there = x:sort(2)
    local _, here = x:cuda():sort(2)
    assert.are.same(there:totable(), here:cpu():totable())
    _, there = x:topk(300, 2, false)
    _, here = x:cuda():topk(300, 2, false)
    assert.are.same(there:totable(), here:cpu():totable())
  end)
end)

describe("transforms", function()
  it("of lengths that are smooth, prime, short and long agree with the CPU's", function()
    for _, n in ipairs {1, 2, 7, 12, 17, 60, 97, 128, 257, 1155, 4096, 5000} do
      for _, shape in ipairs {{2, n, 2}, {2, n, 3, 2}} do
        local x = ai.randn(shape)
        assert.is_true(apart(function(y) return f.fft(y, nil, 2) end, x) < 5e-6, "fft " .. n)
        assert.is_true(apart(function(y) return f.ifft(y, nil, 2) end, x) < 5e-6, "ifft " .. n)
      end
      local r = ai.randn(3, n)
      assert.is_true(apart(function(y) return f.rfft(y) end, r) < 5e-6, "rfft " .. n)
      assert.is_true(apart(function(y) return f.irfft(y, n) end, f.rfft(r)) < 5e-6, "irfft " .. n)
    end
  end)
end)

describe("matrices", function()
  it("have the CPU's factors, signs and all", function()
    for _, shape in ipairs {{2, 24, 24}, {2, 19, 11}, {11, 19}} do
      ai.manual_seed(shape[1])
      local A = ai.randn(shape, {dtype = "f64"})
      assert.is_true(apart(function(x) return f.svd(x, false) end, A) < 1e-11)
      assert.is_true(apart(f.qr, A) < 1e-12)
      assert.is_true(apart(f.pinv, A) < 1e-12)
      if shape[2] == shape[3] then
        assert.is_true(apart(f.inverse, A) < 1e-11)
        assert.is_true(apart(f.slogdet, A) < 1e-12)
        assert.is_true(apart(f.eigh, A + A:transpose(2, 3)) < 1e-11)
      end
    end
    local B = ai.randn(12, 3):matmul(ai.randn(3, 9)):cuda()
    local U, S, V = f.svd(B, true)
    assert.is_true((U:t():matmul(U) - ai.eye(12, {device = "cuda"})):abs():max():item() < 1e-5)
    assert.is_true((U:narrow(2, 1, 9):mul(S):matmul(V) - B):abs():max():item() < 1e-4)
    assert.are.equal(3, f.matrix_rank(B):item())
  end)
  it("that have no result are named when the device is waited for, and it goes on", function()
    local bad = ai.eye(3):unsqueeze(1):repeat_interleave(2, 1):clone()
    bad[{2, 2, 2}] = 0
    for text, op in pairs {
      ["inverse: matrix 2 of the batch is singular: element (2, 2)"] = f.inverse,
      ["cholesky: matrix 2 of the batch is not positive-definite: its leading minor of order 2"] = f.cholesky,
      ["svd: matrix 2 of the batch holds infinite elements or NaN"] = function(x) return f.svd(x / x) end,
    } do
      local x = text:match "^svd" and ai.ones(2, 3, 3) or bad:clone()
      if text:match "^svd" then x[{2, 2, 2}] = 0 end
      local ok, message = pcall(function() local _ = op(x:cuda()) ai.cuda.synchronize() end)
      assert.is_false(ok)
      assert.is_truthy(message:find(text, 1, true), message)
      ai.cuda.synchronize()
    end
    local ok, message = pcall(function() return ai.zeros(2, 4, {device = "cuda"}):multinomial(2):cpu() end)
    assert.is_false(ok)
    assert.is_truthy(message:find("multinomial: the weights of row 1 are all 0", 1, true), message)
    assert.are.equal(2, ai.ones(2, {device = "cuda"}):sum():item())
  end)
end)
