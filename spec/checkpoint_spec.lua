local ai = require "aijit"
local nn = ai.nn

local function same(a, b) return ai.equal(a, b):item() end

-- The loss and the gradients of a chain of blocks, each through `through`.
local function train(blocks, x0, through)
  ai.manual_seed(2)
  for _, block in ipairs(blocks) do block:zero_grad() end
  local x = x0:detach():requires_grad_()
  local loss = ai.scope(function()
    local h = x
    for _, block in ipairs(blocks) do h = through(block, h) end
    h = h:square():mean()
    h:backward()
    return h:detach()
  end)
  local grads = {loss, x.grad}
  for _, block in ipairs(blocks) do
    for _, p in block:named_parameters() do grads[#grads + 1] = p.grad end
  end
  return grads
end

local function plain(block, h) return block(h) end

local function blocks_of(n, size)
  ai.manual_seed(1)
  local blocks = {}
  for i = 1, n do
    blocks[i] = nn.Sequential {nn.Linear(size, size), nn.Tanh(), nn.Linear(size, size), nn.LayerNorm(size), nn.ReLU(), nn.Dropout(0.3)}
  end
  return blocks
end

describe("ai.checkpoint", function()
  it("gives the bits of the function alone, dropout and all", function()
    local blocks, x = blocks_of(4, 16), ai.randn(8, 16)
    local a, b = train(blocks, x, plain), train(blocks, x, ai.checkpoint)
    assert.equal(#a, #b)
    for i = 1, #a do assert.is_true(same(a[i], b[i]), "gradient " .. i) end
    local after = ai.rand(1):item()
    train(blocks, x, plain)
    assert.equal(after, ai.rand(1):item())                             -- as many random numbers were drawn
  end)

  it("needs memory for the results and one part at a time", function()
    local blocks, x = blocks_of(12, 64), ai.randn(1024, 64)
    local function peak(through)
      local before = ai.memory {reset_peak = true}.cpu.live
      train(blocks, x, through)
      return ai.memory().cpu.peak - before
    end
    peak(plain)
    local all, parts = peak(plain), peak(ai.checkpoint)
    assert.is_true(parts < 0.5 * all, ("%d bytes of %d"):format(parts, all))
  end)

  it("may lie within another", function()
    local blocks, x = blocks_of(4, 8), ai.randn(3, 8)
    local function pair(i) return function(h) return ai.checkpoint(blocks[i + 1], ai.checkpoint(blocks[i], h)) end end
    local a = train(blocks, x, plain)
    ai.manual_seed(2)
    for _, block in ipairs(blocks) do block:zero_grad() end
    local y = x:detach():requires_grad_()
    local h = ai.checkpoint(pair(3), ai.checkpoint(pair(1), y))
    h:square():mean():backward()
    assert.is_true(same(a[2], y.grad))
    assert.is_true(same(a[3], blocks[1][1].weight.grad))
    assert.is_true(same(a[#a], blocks[4][4].bias.grad))
  end)

  it("runs in the mixed precision that it ran in first", function()
    local w, x = ai.randn(8, 8, {requires_grad = true}), ai.randn(4, 8)
    local seen = {}
    local function f(h)
      local y = ai.f.linear(h, w)
      seen[#seen + 1] = y.dtype
      return y:tanh()
    end
    local function grad(through) return ai.grad(ai.autocast("bf16", through, f, x):float():sum(), {w})[1] end
    local a = grad(function(g, h) return g(h) end)
    assert.is_true(same(a, grad(ai.checkpoint)))
    assert.same({"bf16", "bf16", "bf16"}, seen)
  end)

  it("has gradients of gradients, in its arguments and in the parameters it reaches", function()
    local w = ai.randn(4, 4, {requires_grad = true, dtype = "f64"})
    local function f(x) return x:matmul(w):tanh():matmul(w) end
    local function second(through)
      local x = ai.ones(2, 4, {dtype = "f64"}):requires_grad_()
      local first = ai.grad(through(f, x * 2):square():sum(), {x, w}, {create_graph = true})
      return ai.grad(first[1]:square():sum() + first[2]:square():sum(), {x, w})
    end
    local a, b = second(function(g, x) return g(x) end), second(ai.checkpoint)
    for i = 1, 2 do assert.is_true(ai.allclose(a[i], b[i], {rtol = 1e-10}):item()) end
  end)

  it("serves ai.grad, hooks, and parameters that other parts use too", function()
    local w, x = ai.randn(4, 4, {requires_grad = true}), ai.randn(2, 4)
    local calls = 0
    local remove = w:register_hook(function() calls = calls + 1 end)
    local function f(h) return h:matmul(w):tanh() end
    local function model(through) return (through(f, through(f, x)):sum() + w:square():sum()) end
    local a = ai.grad(model(function(g, h) return g(h) end), {w})[1]
    assert.equal(1, calls)
    local b = ai.grad(model(ai.checkpoint), {w})[1]
    assert.equal(2, calls)
    assert.is_true(ai.allclose(a, b):item())
    remove()
    model(ai.checkpoint):backward()
    assert.is_true(same(b, w.grad))
    local loss = model(ai.checkpoint)
    loss:backward(nil, {retain_graph = true})
    loss:backward()
    assert.is_true(ai.allclose(b * 3, w.grad):item())
  end)

  it("passes other arguments and results on, and gradients of the results that are used", function()
    local x = ai.tensor({1, 2}, {requires_grad = true})
    local function f(t, k, o) return t * k, "text", (t * o.by):sum(), t:detach():argmax(1), nil end
    local a, text, b, index, last = ai.checkpoint(f, x, 3, {by = 5})
    assert.equal("text", text)
    assert.equal(2, index:item())
    assert.is_nil(last)
    assert.equal(5, select("#", ai.checkpoint(f, x, 3, {by = 5})))
    b:backward(nil, {retain_graph = true})
    assert.same({5, 5}, x.grad:totable())
    x.grad = nil
    a:sum():backward()
    assert.same({3, 3}, x.grad:totable())
  end)

  it("is the function alone where no gradients are recorded or wanted", function()
    local runs = 0
    local function f(t) runs = runs + 1 return t * 2 end
    local x = ai.ones(2, {requires_grad = true})
    assert.is_false(ai.no_grad(ai.checkpoint, f, x).requires_grad)
    assert.is_false(ai.checkpoint(f, ai.ones(2)).requires_grad)
    assert.equal(2, runs)
  end)

  it("reports errors of its function, and one that computes something else the second time", function()
    local x = ai.ones(2, {requires_grad = true})
    assert.error_matches(function() ai.checkpoint(function(t) return t:matmul(ai.ones(3)) end, x) end, "matmul")
    local runs = 0
    local y = ai.checkpoint(function(t) runs = runs + 1 return runs == 1 and t * 2 or t:detach() end, x)
    assert.error_matches(function() y:sum():backward() end, "checkpoint: result 1 required gradients when f ran first")
    assert.is_nil(x.grad)
    local z = ai.checkpoint(function(t) runs = runs + 1 return runs == 3 and t * 2 or t:view(2, 1) * 2 end, x)
    assert.error_matches(function() z:sum():backward() end, "another shape")
    ai.checkpoint(function(t) return t * 2 end, x):sum():backward()
    assert.same({2, 2}, x.grad:totable())
    assert.error_matches(function() ai.checkpoint(3, x) end, "a function is wanted")
    assert.error_matches(function() ai.jit(function() return ai.checkpoint(print, x) end)() end, "not within a function that ai.jit records")
  end)

  it("leaves no tensor behind", function()
    local blocks, x = blocks_of(2, 8), ai.randn(2, 8)
    local function count()
      collectgarbage() collectgarbage()
      return ai.memory().cpu.tensors
    end
    train(blocks, x, ai.checkpoint)
    local before = count()
    for _ = 1, 5 do train(blocks, x, ai.checkpoint) end
    assert.is_true(count() <= before)                                  -- fewer: what earlier specs left has been collected
  end)
end)
