--- Chains of a recording that become one kernel on a CUDA device: they give what the ops give one by one. Run by
-- spec/cuda_spec.lua over the stand-in, and by spec/gpu/check on a GPU. AIJIT_CACHE_DIR is a folder of its own.

local ai = require "aijit"

local folder = os.getenv "AIJIT_CACHE_DIR"
if not folder then
  pending "fused kernels: AIJIT_CACHE_DIR names no folder for them"
  return
end
local function kernels()
  local list = {}
  local pipe = io.popen(("ls '%s/cuda' 2>/dev/null"):format(folder))
  for name in pipe:lines() do if name:match "^fused%-.*%.cubin$" then list[#list + 1] = ("%s/cuda/%s"):format(folder, name) end end
  pipe:close()
  return list
end

local function same(a, b) return a.dtype == b.dtype and a:eq(b):logical_or(a:ne(a):logical_and(b:ne(b))):all():item() end

-- f recorded gives f's own results, of new arguments too; error: what sums of rows may differ by, nil: not a bit.
local function check(f, arguments, error)
  local g = ai.jit(f)
  for _ = 1, 2 do
    local given = arguments()
    g(unpack(given))
    local have, want = {g(unpack(given))}, {f(unpack(given))}
    for i = 1, #want do
      if error then assert.is_true(ai.allclose(have[i], want[i], {rtol = error, atol = error}):item())
      else assert.is_true(same(have[i], want[i])) end
    end
  end
end
local function fused(name, f)
  return it(name, function()
    local before = #kernels()
    ai.device_scope("cuda", f)
    assert.is_true(#kernels() > before, "no kernel was made")
  end)
end

describe("a fused chain on a CUDA device gives the bits of its ops", function()
  fused("of floats of one shape, in packets and beside them", function()
    local function chain(a, b, c)
      local u = (a * b + c) * 1.7 - a
      return u:relu() * u:sigmoid(), ai.f.gelu(u)
    end
    for _, n in ipairs {1, 10, 5000, 50001} do check(chain, function() return {ai.randn(n), ai.randn(n), ai.randn(n)} end) end
    local all = ai.randn(4000)
    check(chain, function() return {all[{{2, 1001}}], all[{{1003, 2002}}], all[{{2004, 3003}}]} end)       -- aligned to 4 bytes alone
  end)
  fused("of halves, doubles, integers and choices among them", function()
    check(function(x, y)
      local z = (x * y):to "bf16"
      local h = (z:float() + y):to "f16" * 3
      return ai.f.where(z:gt(0), z:float() * 2, y) + h:float(), (z + 1):double():exp() / 3, x:gt(y):long() * 3 - 1
    end, function() return {ai.randn(777), ai.randn(777)} end)
  end)
  fused("of a row and a number for all, and of channels within a picture", function()
    check(function(x, b, c) return ((x + b) * c - 1):tanh() * b end, function() return {ai.randn(17, 36), ai.randn(36), ai.randn(17, 1)} end)
    check(function(x, w, b) return (x * w + b):relu() + 1 end, function() return {ai.randn(3, 5, 4, 6), ai.randn(5, 1, 1), ai.randn(5, 1, 1)} end)
  end)
  fused("and of their gradients", function()
    check(function(x, y)
      local p, q = x:detach():requires_grad_(), y:detach():requires_grad_()
      local r = ((p * q):exp() + p):log1p():square() * 0.5
      r:backward(y)
      return p.grad, q.grad
    end, function() return {ai.rand(1000), ai.rand(1000)} end)
  end)
  fused("where it writes in place", function()
    check(function(x, b)
      local z = x * 2
      z:add_(b):mul_(3)
      local flat = (z:reshape(-1) + 1):relu()
      return flat, z
    end, function() return {ai.randn(9, 20), ai.randn(20)} end)
  end)
end)

describe("fused rows on a CUDA device", function()
  for _, width in ipairs {3, 40, 300, 5000} do
    fused("are folded, and what is made of that: " .. width, function()
      check(function(x, b, y)
        local mean = x:mean(2, {keepdim = true})
        local d = x - mean
        local v = d:square():mean(-1, {keepdim = true})
        return d / (v + 1e-5):sqrt() * b + y, mean * 2, (y * 2):sum(2)
      end, function() return {ai.randn(5, width), ai.randn(width), ai.randn(5, width)} end, 1e-4)
      check(function(x, y) return ((x * y):softmax(2) + y):log_softmax(-1):neg(), (x + y):amax(2), (x - y):amin(2) end,
        function() return {ai.randn(5, width), ai.randn(5, width)} end, 1e-4)
    end)
  end
end)

describe("kernels made at run time", function()
  local function f(x) return (x * 3 - 2):tanh() * 5 + 0.25 end
  it("are compiled once for all processes, and anew where a file is damaged", function()
    ai.device_scope("cuda", check, f, function() return {ai.randn(64)} end)
    local made = #kernels()
    ai.device_scope("cuda", check, f, function() return {ai.randn(65)} end)
    assert.are.equal(made, #kernels())                   -- of another length, the same kernel
    for _, path in ipairs(kernels()) do
      local file = assert(io.open(path, "r+b"))
      file:seek("end", -100)
      file:write "damaged"
      file:close()
    end
  end)
end)
