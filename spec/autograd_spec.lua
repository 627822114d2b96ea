--- Gradients: the semantics that PyTorch's users know.

local ai = require "aijit"

local function leaf(v) return ai.tensor(v, {dtype = "f64", requires_grad = true}) end
local function fails(f, part)
  local ok, message = pcall(f)
  assert.is_false(ok)
  assert.is_truthy(tostring(message):find(part, 1, true), ("%q lacks %q"):format(tostring(message), part))
end

describe("backward", function()
  it("fills .grad of the leaves, and adds on the next call", function()
    local w = leaf {1, 2, 3}
    local function loss() return (w * w):sum() end
    loss():backward()
    assert.are.same({2, 4, 6}, w.grad:totable())
    loss():backward()
    assert.are.same({4, 8, 12}, w.grad:totable())
    w.grad = nil
    assert.is_nil(w.grad)
  end)
  it("keeps independent graphs apart", function()
    local w = leaf {1, 2}
    local a, b = (w * 3):sum(), (w * w):sum()
    a:backward()
    assert.are.same({3, 3}, w.grad:totable())
    b:backward()
    assert.are.same({5, 7}, w.grad:totable())
  end)
  it("takes a gradient for outputs of many elements", function()
    local w = leaf {1, 2}
    fails(function() (w * w):backward() end, "2 elements");
    (w * w):backward(ai.tensor({1, 10}, {dtype = "f64"}))
    assert.are.same({2, 40}, w.grad:totable())
    fails(function() (w * w):backward(ai.ones(3, {dtype = "f64"})) end, "another shape")
  end)
  it("refuses a second pass unless the graph is retained", function()
    local w = leaf {2}
    local y = (w * w):sum()
    y:backward({retain_graph = true})
    y:backward()
    assert.are.same({8}, w.grad:totable())
    fails(function() y:backward() end, "retain_graph")
  end)
  it("needs something to differentiate", function()
    fails(function() ai.ones(1):sum():backward() end, "does not require gradients")
    fails(function() ai.tensor({1}, {dtype = "i64", requires_grad = true}) end, "floats")
  end)
  it("gives gradients in the inputs' dtypes and shapes", function()
    local a = ai.ones(3, 1, {requires_grad = true})
    local b = ai.ones(4, {dtype = "f64", requires_grad = true});
    (a * b):sum():backward()
    assert.are.same({3, 1}, a.grad.shape)
    assert.are.equal("f32", a.grad.dtype)
    assert.are.same({4}, b.grad.shape)
  end)
  it("walks a graph of 200,000 nodes without the C stack", function()
    local w = leaf {1}
    local y = w
    for _ = 1, 200000 do y = y + 1 end
    y:backward()
    assert.are.same({1}, w.grad:totable())
  end)
  it("frees a long graph that is dropped", function()
    local live = ai.memory().cpu.tensors
    ai.scope(function()
      local y = leaf {1}
      for _ = 1, 100000 do y = y * 1 end
    end)
    collectgarbage() collectgarbage()
    assert.is_true(ai.memory().cpu.tensors <= live + 2)
  end)
end)

describe("grad", function()
  it("is of chosen inputs only, and leaves .grad alone", function()
    local a, b = leaf {2}, leaf {3}
    local g = ai.grad((a * a * b):sum(), {a})
    assert.are.same({12}, g[1]:totable())
    assert.is_nil(a.grad)
    assert.is_nil(b.grad)
  end)
  it("reaches tensors in the middle of a graph", function()
    local a = leaf {2}
    local h = a * 3
    local g = ai.grad((h * h):sum(), {h, a})
    assert.are.same({12}, g[1]:totable())
    assert.are.same({36}, g[2]:totable())
  end)
  it("has any order", function()
    local x = leaf {0.5}
    local y, sign = x:sin(), {math.cos(0.5), -math.sin(0.5), -math.cos(0.5), math.sin(0.5), math.cos(0.5)}
    for order = 1, 5 do
      y = ai.grad(y, {x}, {create_graph = true})[1]
      assert.are.near(sign[order], y:item(), 1e-12)
    end
  end)
  it("tells an unused input", function()
    local a, b = leaf {1}, leaf {1}
    fails(function() ai.grad(a:sum(), {b}) end, "input 1")
    assert.is_false(ai.grad(a:sum(), {b}, {allow_unused = true})[1])
  end)
  it("goes through a gradient penalty", function()
    local w, x = leaf {{1, 2}, {3, 4}}, leaf {{1, -1}}
    local y = x:matmul(w):tanh():sum()
    local g = ai.grad(y, {x}, {create_graph = true})[1]
    ;(g * g):sum():backward()
    assert.is_truthy(w.grad)
    assert.are.same({2, 2}, w.grad.shape)
  end)
end)

describe("modes", function()
  it("no_grad records nothing, also after an error within", function()
    local w = leaf {1}
    ai.no_grad(function() assert.is_false((w * 2).requires_grad) end)
    pcall(ai.no_grad, function() error "x" end)
    assert.is_true(ai.is_grad_enabled())
    assert.is_true((w * 2).requires_grad)
    ai.no_grad(function() ai.enable_grad(function() assert.is_true((w * 2).requires_grad) end) end)
  end)
  it("detach cuts", function()
    local w = leaf {3}
    local d = (w * 2):detach()
    assert.is_false(d.requires_grad)
    ;(w * d):sum():backward()
    assert.are.same({6}, w.grad:totable())
  end)
  it("retain_grad keeps a middle gradient", function()
    local w = leaf {3}
    local h = (w * 2):retain_grad()
    ;(h * h):sum():backward()
    assert.are.same({12}, h.grad:totable())
  end)
end)

describe("writes in place", function()
  it("are part of the graph", function()
    local w = leaf {1, 2}
    local y = w * 1
    y:mul_(w)
    y:add_(1)
    y:sum():backward()
    assert.are.same({2, 4}, w.grad:totable())
  end)
  it("into a view reach the whole and its other views", function()
    local w = leaf {2}
    local y = ai.zeros(3, {dtype = "f64"})
    local other = y[{{1, 2}}]
    y[1] = w[1]
    other:sum():backward({retain_graph = true})
    assert.are.same({1}, w.grad:totable())
    y[1]:mul_(5)
    assert.are.same({10, 0, 0}, y:totable())
    assert.are.same({5}, ai.grad(y:sum(), {w})[1]:totable())
  end)
  it("stop the gradient of what they replace", function()
    local w = leaf {1, 2}
    local y = w * 3
    y[1] = 0
    y:sum():backward()
    assert.are.same({0, 3}, w.grad:totable())
  end)
  it("make a stale gradient an error", function()
    local w = leaf {1}
    local a = w * 2
    local b = a:exp()
    b:add_(1)
    fails(function() b:sum():backward() end, "changed in place")
    local c = w * 2
    local d = c * c
    c:zero_()
    fails(function() d:sum():backward() end, "mul")
  end)
  it("refuse leaves that require gradients", function()
    local w = leaf {1}
    fails(function() w:add_(1) end, "no_grad")
    fails(function() w[1] = 2 end, "no_grad")
    ai.no_grad(function() w:add_(1) end)
    assert.are.same({2}, w:totable())
  end)
  it("refuse expanded tensors", function()
    fails(function() ai.ones(1):expand(3):add_(1) end, "expanded")
  end)
end)

describe("hooks", function()
  it("see the complete gradient and may replace it", function()
    local w = leaf {1}
    local h, seen = w * 2, nil
    local remove = h:register_hook(function(g) seen = g:item() return g * 10 end)
    ;(h * 3 + h * 4):sum():backward()
    assert.are.equal(7, seen)
    assert.are.same({140}, w.grad:totable())
    remove()
  end)
  it("run on leaves, once for a pass", function()
    local w, calls = leaf {1}, 0
    w:register_hook(function() calls = calls + 1 end)
    ;(w * w + w):sum():backward()
    assert.are.equal(1, calls)
  end)
  it("raise through the pass, which leaves the graph usable", function()
    local w = leaf {1}
    local y = w * 2
    local remove = y:register_hook(function() error("no", 0) end)
    local s = y:sum()
    fails(function() s:backward({retain_graph = true}) end, "no")
    remove()
    s:backward()
    assert.are.same({2}, w.grad:totable())
    assert.is_true(ai.is_grad_enabled())
  end)
end)

describe("ops written in Lua", function()
  local cube = ai.define_op {
    name = "cube",
    forward = function(ctx, x) ctx:save(x) return x * x * x end,
    backward = function(ctx, g) return g * 3 * ctx.saved[1] ^ 2 end,
  }
  it("run, and have their own gradient", function()
    local w = leaf {2}
    cube(w):sum():backward()
    assert.are.same({12}, w.grad:totable())
    assert.are.equal("custom", cube(w).grad_fn)
  end)
  it("have second gradients when backward is differentiable", function()
    local w = leaf {2}
    local g = ai.grad(cube(w):sum(), {w}, {create_graph = true})[1]
    assert.are.same({12}, ai.grad(g:sum(), {w})[1]:totable())
  end)
  it("have several arguments and results", function()
    local op = ai.define_op {
      forward = function(_, a, b) return a + b, a - b end,
      backward = function(_, g, h) return (g or 0) + (h or 0), g and (h and g - h or g) or -h end,
    }
    local a, b = leaf {1}, leaf {5}
    local s, d = op(a, b)
    ;(s * 2 + d * 3):sum():backward()
    assert.are.same({5}, a.grad:totable())
    assert.are.same({-1}, b.grad:totable())
  end)
  it("must return gradients that fit", function()
    local bad = ai.define_op {name = "bad", forward = function(_, x) return x * 2 end, backward = function() return ai.ones(3, {dtype = "f64"}) end}
    local w = leaf {1, 2}
    fails(function() bad(w):sum():backward() end, "(3)")
  end)
  it("may be used within other passes", function()
    local inner = ai.define_op {
      forward = function(ctx, x) ctx:save(x:detach()) return x:sin() end,
      backward = function(ctx, g)
        local x = ctx.saved[1]:requires_grad_()
        return ai.enable_grad(function() return ai.grad(x:sin():sum(), {x})[1] end) * g
      end,
    }
    local w = leaf {0.3}
    inner(w * 2):sum():backward()
    assert.are.near(2 * math.cos(0.6), w.grad:item(), 1e-12)
  end)
end)

describe("a leaf that is itself a view", function()
  local function view_leaf() return ai.arange(6):double():view(2, 3):requires_grad_() end
  it("is not written while gradients are recorded, nor by a view of it", function()
    for _, write in ipairs {function(x) x:mul_(3) end, function(x) x:t():mul_(3) end, function(x) x[1] = 0 end,
                            function(x) x:view(6):narrow(1, 2, 2):fill_(1) end} do
      local x = view_leaf()
      assert.has_error(function() write(x) end)
      assert.are.same({{1, 2, 3}, {4, 5, 6}}, x:totable())
    end
  end)
  it("is written without, and its results are written with them", function()
    local x = view_leaf()
    ai.no_grad(function() x:t():mul_(2) end)
    local y = x * 2
    y:t():mul_(3)
    y:sum():backward()
    assert.are.same({{6, 6, 6}, {6, 6, 6}}, x.grad:totable())
  end)
end)

describe("a standard deviation of 0", function()
  it("has the gradient 0, of second order too", function()
    local x, w = ai.tensor({2, 2}, {dtype = "f64"}):requires_grad_(), ai.tensor(3, {dtype = "f64"}):requires_grad_()
    local g = ai.grad(x:std() * w, {x}, {create_graph = true})[1]
    assert.are.same({0, 0}, g:totable())
    local second = ai.grad((g * ai.tensor({1, 2}, {dtype = "f64"})):sum(), {x, w}, {allow_unused = true})
    assert.are.same({0, 0}, second[1]:totable())
    assert.are.equal(0, second[2]:item())
  end)
end)
