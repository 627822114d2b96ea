--- Attention: against its definition, in every form; and at lengths where all scores would not do.

local ai = require "aijit"
local gradcheck = require "spec.support.gradcheck"
local f = ai.f
local sdpa = f.scaled_dot_product_attention
local f64 = {dtype = "f64"}

local function largest(x) return x:abs():max():item() end
local function near(a, b, tolerance)
  assert.are.same(b:size(), a:size())
  assert.is_true(largest(a - b) <= (tolerance or 1e-10))
end
local function definition(q, k, v, o)
  o = o or {}
  local s = q:matmul(k:transpose(-2, -1)) * (o.scale or q:size(-1) ^ -0.5)
  if o.is_causal then
    local m = ai.ones({q:size(-2), k:size(-2)}, {dtype = "bool"}):tril()
    s = ai.where(m, s, -math.huge)
  end
  if o.attn_mask then
    if o.attn_mask.dtype == "bool" then s = ai.where(o.attn_mask, s, -math.huge) else s = s + o.attn_mask end
  end
  return s:softmax(-1):matmul(v)
end

before_each(function() ai.manual_seed(5) end)

describe("scaled_dot_product_attention", function()
  it("is its definition, whatever the lengths, masks and layouts, and so are its gradients", function()
    for _, size in ipairs {{1, 1}, {3, 7}, {64, 256}, {65, 257}, {130, 70}, {100, 600}} do
      local L, S = size[1], size[2]
      for case = 1, 5 do
        local o = case == 2 and {is_causal = true} or case == 3 and {attn_mask = ai.rand(L, S):gt(0.3)}
          or case == 4 and {attn_mask = ai.randn(2, 1, L, S, f64), scale = 0.3} or {}
        if case == 3 then o.attn_mask[{{}, 1}] = true end
        local q, k, v = ai.randn(2, 3, L, 5, f64), ai.randn(2, 3, S, 5, f64), ai.randn(2, 3, S, 4, f64)
        if case == 5 then
          q = ai.randn(2, L, 3, 5, f64):transpose(2, 3)
          v = ai.randn(2, 3, 4, S, f64):transpose(3, 4)
        end
        local function leaves() return {q:clone():requires_grad_(), k:clone():requires_grad_(), v:clone():requires_grad_()} end
        local a, b = leaves(), leaves()
        near(sdpa(q, k, v, o), definition(q, k, v, o))
        local y, z = sdpa(a[1], a[2], a[3], o), definition(b[1], b[2], b[3], o)
        local g = ai.randn(2, 3, L, 4, f64)
        y:backward(g)
        z:backward(g)
        for i = 1, 3 do near(a[i].grad, b[i].grad) end
      end
    end
  end)
  it("gives the same at every number of threads, when few heads are shared by many threads too", function()
    local q, k, v = ai.randn(1, 1, 300, 16), ai.randn(1, 1, 700, 16), ai.randn(1, 1, 700, 16)
    local function run(threads)
      ai.set_num_threads(threads)
      for _, x in ipairs {q, k, v} do x:requires_grad_() x.grad = nil end
      local y = sdpa(q, k, v, {dropout_p = 0})
      y:sum():backward()
      return {y:clone(), q.grad:clone(), k.grad:clone(), v.grad:clone()}
    end
    local one, two, three = run(1), run(2), run(3)
    ai.set_num_threads(2)
    for i = 1, 4 do
      assert.are.equal(0, largest(one[i] - two[i]))
      assert.are.equal(0, largest(one[i] - three[i]))
    end
  end)
  it("shares keys among heads with enable_gqa, and refuses without", function()
    local q, k, v = ai.randn(2, 6, 9, 4, f64), ai.randn(2, 2, 11, 4, f64), ai.randn(2, 2, 11, 3, f64)
    local y = sdpa(q, k, v, {enable_gqa = true, is_causal = true})
    near(y, definition(q, k:repeat_interleave(3, 2), v:repeat_interleave(3, 2), {is_causal = true}))
    assert.has_error(function() sdpa(q, k, v) end)
  end)
  it("takes any number of batch dimensions, broadcast", function()
    for _, lead in ipairs {{}, {3}, {2, 3}, {2, 1, 3}} do
      local function make(rows, columns, ones)
        local size = {}
        for i, d in ipairs(lead) do size[i] = ones and i == 1 and 1 or d end
        size[#size + 1], size[#size + 2] = rows, columns
        return ai.randn(size, f64)
      end
      local q, k, v = make(4, 2), make(5, 2, true), make(5, 3)
      near(sdpa(q, k, v), definition(q, k, v))
    end
  end)
  it("gives zeros to a query that may attend to nothing, and finite gradients", function()
    local q, k, v = ai.randn(2, 1, 3, 4, f64):requires_grad_(), ai.randn(2, 1, 5, 4, f64):requires_grad_(), ai.randn(2, 1, 5, 4, f64):requires_grad_()
    local mask = ai.ones({3, 5}, {dtype = "bool"})
    mask[2] = false
    local y = sdpa(q, k, v, mask)
    assert.are.equal(0, largest(y[{{}, {}, 2}]))
    y:square():sum():backward()
    assert.is_true(q.grad:isfinite():all():item() and k.grad:isfinite():all():item())
    assert.are.equal(0, largest(q.grad[{{}, {}, 2}]))
  end)
  it("drops weights by p, the same forward and backward, and scales the rest", function()
    local v = ai.eye(400, f64):reshape(1, 1, 400, 400)
    local q, k = ai.zeros({1, 1, 300, 2}, f64), ai.zeros({1, 1, 400, 2}, f64)
    local y = sdpa(q, k, v, {dropout_p = 0.25})
    assert.is_true(math.abs(y:gt(0):sum():item() / 120000 - 0.75) < 0.01)
    assert.is_true(math.abs(y:max():item() - 1 / 300) < 1e-12)
    local a, b, c = ai.randn(1, 2, 5, 3, f64):requires_grad_(), ai.randn(1, 2, 6, 3, f64):requires_grad_(), ai.randn(1, 2, 6, 2, f64):requires_grad_()
    local function loss()
      ai.manual_seed(9)
      return gradcheck.total {sdpa(a, b, c, {dropout_p = 0.4})}
    end
    local worst, where = gradcheck.first(loss, {a, b, c})
    assert.is_true(worst < 1e-6, where)
    worst, where = gradcheck.second(loss, {a, b, c})
    assert.is_true(worst < 1e-5, where)
  end)
  it("has the gradient of its mask", function()
    local q, k, v, m = ai.randn(2, 3, 4, f64), ai.randn(2, 5, 4, f64), ai.randn(2, 5, 4, f64), ai.randn(3, 5, f64):requires_grad_()
    local worst, where = gradcheck.first(function() return gradcheck.total {sdpa(q, k, v, m)} end, {m})
    assert.is_true(worst < 1e-6, where)
  end)
  it("keeps NaN, and takes scores of any size", function()
    local q = ai.randn(1, 1, 20, 4)
    q[{1, 1, 3, 1}] = 0 / 0
    local y = sdpa(q, q, q)
    assert.is_true(y:isnan():all():item())
    local big = ai.full({1, 1, 4, 4}, 1e4)
    near(sdpa(big, big, big), big, 0)
  end)
  it("takes empty inputs", function()
    assert.are.same({0, 2, 3, 4}, sdpa(ai.zeros(0, 2, 3, 4), ai.zeros(0, 2, 5, 4), ai.zeros(0, 2, 5, 4)):size())
    assert.are.same({2, 0, 4}, sdpa(ai.zeros(2, 0, 4), ai.zeros(2, 5, 4), ai.zeros(2, 5, 4)):size())
    assert.are.equal(0, largest(sdpa(ai.ones(2, 3, 4), ai.zeros(2, 0, 4), ai.zeros(2, 0, 4))))
  end)
  it("never holds all scores", function()
    local q = ai.randn(1, 2, 4096, 16):requires_grad_()
    ai.memory {reset_peak = true}
    local before = ai.memory().cpu.live
    ai.scope(function() sdpa(q, q, q, {is_causal = true}):sum():backward() end)
    assert.is_true(ai.memory().cpu.peak - before < 4096 * 4096 * 4 / 4)
    assert.are.same({1, 2, 4096, 16}, q.grad:size())
  end)
end)
