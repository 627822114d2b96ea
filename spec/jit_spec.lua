--- ai.jit: a recording computes what the function computes, to the bit, and refuses what it cannot record.

local ai = require "aijit"
local nn = ai.nn

local function fails(f, part)
  local ok, message = pcall(f)
  assert.is_false(ok)
  assert.is_truthy(tostring(message):find(part, 1, true), ("%q lacks %q"):format(tostring(message), part))
end

local function chain(a, b, c)
  local u = (a * b + c) * 1.7 - a
  return u:relu() * u:sigmoid()
end

describe("ai.jit", function()
  it("records once for each signature and then replays", function()
    local calls = 0
    local f = ai.jit(function(a, b) calls = calls + 1 return a * b + 1 end)
    for _ = 1, 3 do
      for n = 2, 4 do
        local a, b = ai.randn(n), ai.randn(n)
        assert.are.same((a * b + 1):totable(), f(a, b):totable())
      end
    end
    assert.are.equal(3, calls)
    assert.are.equal(3, f:count())
  end)
  it("fuses long chains without a change of bits", function()
    local f = ai.jit(chain)
    for _, n in ipairs {10, 5000, 8192, 50001} do
      for _ = 1, 2 do
        local a, b, c = ai.randn(n), ai.randn(n), ai.randn(n)
        assert.is_true(ai.equal(f(a, b, c), chain(a, b, c)):item())
      end
    end
  end)
  it("gives results of their own at each call", function()
    local f = ai.jit(function(a) return a + 1 end)
    local one, two = f(ai.ones(3)), f(ai.zeros(3))
    assert.are.same({2, 2, 2}, one:totable())
    assert.are.same({1, 1, 1}, two:totable())
    local three = f(ai.zeros(3) + 5)
    assert.are.same({1, 1, 1}, two:totable())
    assert.are.same({6, 6, 6}, three:totable())
  end)
  it("takes and gives tables, numbers and several results", function()
    local f = ai.jit(function(p, x, k) return {y = x:matmul(p.w) * k, p.b}, x:sum(), "done" end)
    local p = {w = ai.randn(3, 2), b = ai.randn(2)}
    for k = 1, 3 do
      for _ = 1, 2 do
        local x = ai.randn(4, 3)
        local t, s, word = f(p, x, k)
        assert.is_true(ai.allclose(t.y, x:matmul(p.w) * k):item())
        assert.is_true(ai.equal(t[1], p.b):item())
        assert.is_true(ai.allclose(s, x:sum()):item())
        assert.are.equal("done", word)
      end
    end
    assert.are.equal(3, f:count())
  end)
  it("tells arguments apart by their places, and words from what they name", function()
    local calls = 0
    local f = ai.jit(function(a, b, c)
      calls = calls + 1
      return type(a) == "string" and b * 2 or a * 3, c == nil
    end)
    local t = ai.ones(1)
    for _ = 1, 2 do
      assert.are.equal(3, (f(t, "tensor")):item())
      assert.are.equal(2, (f("tensor", t)):item())
      assert.are.same({3, true}, {f(t, nil, nil):item(), select(2, f(t, nil, nil))})
      assert.are.same({3, false}, {f(t, nil, "nil"):item(), select(2, f(t, nil, "nil"))})
    end
    assert.are.equal(4, calls)
    local g = ai.jit(function(p) return p[true] + p.x + p[1] end)
    for _ = 1, 2 do assert.are.equal(6, g{[true] = t, x = t * 2, t * 3}:item()) end
  end)
  it("takes and gives trees of many tensors: a step of a pure model", function()
    local fn = require "aijit.fn"
    local net = function(params, x) return fn.nets.mlp(params, x, {8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 3}) end
    local x, y = ai.randn(5, 4), ai.randn(5, 3)
    local function step(params, a, b)
      local grads, loss = fn.value_and_grad(function(p) return ai.mse_loss(net(p, a), b) end)(params)
      return fn.tree_map(function(p, g) return p - 0.1 * g end, params, grads), loss
    end
    local function train(f)
      local params, loss = fn.trace(net, fn.key(0), x), nil
      for _ = 1, 4 do params, loss = f(params, x, y) end
      local list = {loss:item()}
      for i, p in ipairs((fn.tree_leaves(params))) do list[i + 1] = p:totable() end
      return list
    end
    local f = ai.jit(step)
    local plain = train(step)
    assert.are.equal(25, #plain)
    assert.are.same(plain, train(f))
    assert.are.equal(1, f:count())
  end)
  it("takes arguments that have memory in common, or are one tensor, and later ones that have not", function()
    local f = ai.jit(function(a, b) return a * 10 + b end)
    local all = ai.arange(1, 12):reshape(3, 4)
    for _ = 1, 2 do
      assert.are.same({15, 26, 37, 48}, f(all[1], all[2]):totable())
      assert.are.same({59, 70, 81, 92}, f(all[2], all[3]):totable())
      assert.are.same({11, 22, 33, 44}, f(all[1], all[1]):totable())
      assert.are.same({10, 20, 30, 40}, f(all[1]:clone(), all[1]:clone() * 0):totable())
    end
    assert.are.equal(1, f:count())
    local g = ai.jit(function(a, b) a:add_(b) return b + 0 end)
    for _ = 1, 2 do assert.are.same({1, 2, 3, 4}, g(all[2]:clone(), all[1]):totable()) end
    fails(function() g(all[1], all[1]) end, "writes to an argument, and two arguments have memory in common")
  end)
  it("uses what it reaches by reference", function()
    local w = ai.ones(2)
    local f = ai.jit(function(x) return x * w end)
    assert.are.same({3, 3}, f(ai.full({2}, 3)):totable())
    w:fill_(10)
    assert.are.same({30, 30}, f(ai.full({2}, 3)):totable())
  end)
  it("sees views, copies and writes in place", function()
    local function g(x)
      local y = x:reshape(2, -1):t():contiguous()
      y[1] = 0
      y:add_(x[{1, {1, 2}}])
      return y:cumsum(1), x:view(-1):flip(1)
    end
    local f = ai.jit(g)
    for _ = 1, 3 do
      local x = ai.randn(4, 3)
      local a, b = f(x)
      local c, d = g(x)
      assert.is_true(ai.equal(a, c):item())
      assert.is_true(ai.equal(b, d):item())
    end
  end)
  it("is used in scopes, and outlives them", function()
    local f = ai.jit(chain)
    local x = ai.randn(9000)
    local first = ai.scope(function() return f(x, x, x) end)
    for _ = 1, 20 do ai.scope(function() ai.randn(9000) f(x, x, x) end) end
    assert.is_true(ai.equal(first, f(x, x, x)):item())
  end)
end)

describe("fused groups give the bits of the ops one by one:", function()
  local op = require "aijit.bindings.op"
  local function same(a, b) return a.dtype == b.dtype and a:eq(b):logical_or(a:ne(a):logical_and(b:ne(b))):all():item() end
  local EDGES = {0, -0.0, 1 / 0, -1 / 0, 0 / 0, 1e-40, 200, -200, 88.9, -103.5, -88, 20, -100, 1, -1, 0.5}
  local EXTRA = {clamp_min = 0.3, clamp_max = 0.3, threshold = {0.1, 2}, round_decimals = 1}

  -- Whose derivative by the first tensor is not known.
  local ONE_SIDED = {igamma = true, igammac = true, zeta = true}

  -- Within a chain, so that the op is part of a group; of f32 as machine code where the processor and the op allow it.
  for _, dtype in ipairs {"f32", "f64", "bf16"} do
    it("every elementwise op of floats and its gradients, " .. dtype, function()
      local n = 0
      ai.manual_seed(2)
      local x, y = ai.randn(331, {dtype = dtype}) * 3, ai.randn(331, {dtype = dtype}) * 2
      for i, v in ipairs(EDGES) do
        x[i] = v
        y[2 * i] = v
      end
      for name, row in pairs(op.named) do
        local extra = EXTRA[name] or {}
        if type(extra) ~= "table" then extra = {extra} end
        local function f(a, b)
          local r
          if row.kind == "UNARY" then r = ai.f[name](a, unpack(extra)) else r = ai.f[name](a, b) end
          return r * 2 + 1
        end
        if row.domain ~= "INT" and name ~= "lerp" and (row.kind == "UNARY" or row.kind == "BINARY" or row.kind == "BINARY_S") then
          local function g(a, b)
            local p, q = a:detach():requires_grad_(not ONE_SIDED[name]), b:detach():requires_grad_()
            local r = f(p, q) * 0.5
            r:backward(b)
            return p.grad or a, q.grad or a, r:detach()
          end
          local value, gradients = ai.jit(f), ai.jit(g)
          value(x, y)
          gradients(x, y)
          assert.is_true(same(value(x, y), f(x, y)), name)
          local have, want = {gradients(x, y)}, {g(x, y)}
          for i = 1, 3 do assert.is_true(same(have[i], want[i]), ("%s: gradient %d"):format(name, i)) end
          n = n + 1
        end
      end
      assert.is_true(n > 90)
    end)
  end

  local function agrees(f, ...)
    local g = ai.jit(f)
    g(...)
    local have, want = {g(...)}, {f(...)}
    for i = 1, #want do assert.is_true(same(have[i], want[i])) end
  end
  local function rows(f, sizes)
    for _, size in ipairs(sizes or {{7, 40}, {64, 300}, {33, 1025}, {2, 9000}}) do
      local m, n = unpack(size)
      agrees(f, ai.randn(m, n), ai.randn(n), ai.randn(m, 1), ai.randn(m, n))
    end
  end
  it("rows with what is the same for all of them, and with a number each", function()
    rows(function(x, b, c, y) return ((x + b) * c - y):relu() * b end)
    rows(function(x, b, c, y) return (c * 2 + 1) * (x - b):square() + y end)
  end)
  it("sums and the like over rows, and what is made of them", function()
    rows(function(x, b, c, y)
      local mean = x:mean(2, {keepdim = true})
      local d = x - mean
      local v = d:square():mean(-1, {keepdim = true})
      return d / (v + 1e-5):sqrt() * b + y, mean + c
    end)
    rows(function(x, b, _, y)
      local e = (x - x:amax(2, {keepdim = true})):exp()
      return e / e:sum(2, {keepdim = true}) * b, (y * 2):sum(2), (y * x):amin(-1) + x:prod(2)
    end)
    rows(function(x, b, c) return ((x * b):softmax(2) + c):log_softmax(-1):neg() end)
  end)
  it("casts and choices between", function()
    rows(function(x, b, _, y)
      local z = (x * b):to "bf16"
      return ai.f.where(z:gt(0), z:float() * 2, y) + x:gt(y):float(), (z + 1):double():exp()
    end)
  end)
  it("writes in place, and views under other shapes", function()
    rows(function(x, b, c, y)
      local z = x * 2
      z:add_(b):mul_(c)
      local flat = (z:reshape(-1) + 1):relu()
      z:copy_(y * 3)
      return flat:reshape(x:size()) + z, z
    end)
    agrees(function(x)
      local z = x * 1
      local head, tail = z[{{1, 4000}}], z[{{4001, 8000}}]
      head:add_(tail)
      tail:mul_(head)
      return (head + 1) * tail, z
    end, ai.randn(8000))
  end)
  it("rows of rows", function()
    local x, t = ai.randn(6, 5, 700), ai.randn(5, 700)
    agrees(function(a, b) return (a + b):tanh() * b, (a * 2):sum({2, 3}), (a - 1):mean(3) end, x, t)
  end)
  it("on several threads", function()
    ai.set_num_threads(2)
    local ok, e = pcall(function()
      agrees(chain, ai.randn(300001), ai.randn(300001), ai.randn(300001))
      rows(function(x, b, c, y) return ((x + b):sum(2, {keepdim = true}) * c - y):tanh() end, {{3000, 64}})
    end)
    ai.set_num_threads(tonumber(os.getenv "OMP_NUM_THREADS") or 2)
    assert(ok, e)
  end)
end)

describe("a recording refuses", function()
  it("to read values", function()
    fails(function() ai.jit(function(a) if a:sum():item() > 0 then return a end return -a end)(ai.ones(2)) end, "cannot read a value")
    fails(function() ai.jit(function(a) return ai.tensor((a * 2):totable()) end)(ai.ones(2)) end, "cannot read a value")
  end)
  it("to read what it reaches by reference, which may be another in the next run", function()
    local w = ai.ones(1)
    fails(function() ai.jit(function(a) return a * w:item() end)(ai.ones(2)) end, "cannot read a value")
  end)
  it("shapes that hang on values, by the op's name", function()
    for name, f in pairs {one_hot = function(a) return a:long():one_hot() end, bincount = function(a) return a:long():bincount() end} do
      fails(function() ai.jit(f)(ai.ones(2)) end, name .. ": a function that ai.jit records cannot read a value, nor have a shape that hangs on one")
    end
    fails(function() ai.jit(function(a) return a[a:gt(0)] end)(ai.ones(2)) end, "cannot read a value")
  end)
  it("to set the state of the random numbers", function()
    fails(function() ai.jit(function(a) ai.manual_seed(1) return a + ai.randn(2) end)(ai.ones(2)) end, "set the state of the random numbers")
  end)
  it("to change a tensor made of numbers, which every run would find changed", function()
    fails(function() ai.jit(function(a) return ai.tensor{1, 2}:add_(a) end)(ai.ones(2)) end, "add_: this tensor was made of numbers")
    local f = ai.jit(function(a) return ai.tensor{1, 2}:clone():add_(a), ai.zeros(2):add_(a), ai.empty(2):copy_(a):mul_(3) end)
    for _ = 1, 3 do
      local x, y, z = f(ai.ones(2))
      assert.are.same({{2, 3}, {1, 1}, {3, 3}}, {x:totable(), y:totable(), z:totable()})
    end
  end)
  it("to step a schedule or an average, which would be done only once", function()
    local w = ai.nn.Parameter(ai.ones(2))
    local o = ai.optim.SGD({w}, {lr = 0.1})
    local schedule, ema = ai.optim.ConstantLR(o), ai.optim.EMA({w}, 0.9)
    fails(function() ai.jit(function(a) schedule:step() return a * 2 end)(ai.ones(2)) end, "do it after the call")
    fails(function() ai.jit(function(a) ema:update() return a * 2 end)(ai.ones(2)) end, "do it after the call")
  end)
  it("arguments that want gradients", function()
    fails(function() ai.jit(function(a) return a * 2 end)(ai.ones(2, {requires_grad = true})) end, "requires gradients")
  end)
  it("more recordings than its limit", function()
    local f = ai.jit(function(a, k) return a * k end, {limit = 3})
    fails(function() for k = 1, 5 do f(ai.ones(1), k) end end, "more than 3 recordings")
  end)
  it("and leaves everything usable", function()
    pcall(ai.jit(function() error "stop" end), ai.ones(1))
    local f = ai.jit(function(a) return a * 2 end)
    f(ai.ones(1))
    assert.are.same({4}, f(ai.full({1}, 2)):totable())
  end)
end)

it("a recorded function within another is part of it", function()
  local inner = ai.jit(function(a) return a + 1 end)
  local outer = ai.jit(function(a) return inner(a) * 2 end)
  for i = 1, 3 do assert.are.same({2 * i + 2}, outer(ai.full({1}, i)):totable()) end
  assert.are.equal(0, inner:count())
end)

describe("random numbers of a recording", function()
  local function numbers(f, g)
    ai.manual_seed(11)
    local list = {}
    for i = 1, 4 do list[i] = {g(ai.ones(6)):totable(), ai.rand(2):totable()} end
    return list
  end
  for name, f in pairs {
    normal = function(x) return x + ai.randn(6) * ai.rand_like(x) end,
    dropout = function(x) return ai.f.dropout(x, 0.5, {training = true}) end,
    multinomial = function(x) return x:multinomial(3):float() + ai.randperm(6):sum() end,
    bernoulli = function(x) return (x * 0.5):bernoulli() end,
  } do
    it("are new ones at each call, those of the plain function: " .. name, function()
      local plain = numbers(f, f)
      assert.are.same(plain, numbers(f, ai.jit(f)))
      assert.are_not.same(plain[1][1], plain[2][1])
    end)
  end
  it("are a key's where they are drawn from a key", function()
    local fn = require "aijit.fn"
    local f = function(x) return x + fn.normal(fn.key(3), {6}) + ai.randn(6) + fn.nets.dropout({}, fn.key(4), x, 0.5) end
    assert.are.same(numbers(f, f), numbers(f, ai.jit(f)))
  end)
end)

describe("what could be silently another thing", function()
  local x = ai.tensor{{1, 2}, {3, 4}}

  it("a tensor that the function keeps, and does not return, is an error outside of it", function()
    local kept, view
    local f = ai.jit(function(a)
      kept = a * 2
      view = kept[1]
      return ((kept + 1):sum() + a):tanh()
    end)
    for _ = 1, 2 do
      f(x)
      for _, wrong in ipairs{function() return kept + 1 end, function() return kept:sum() end, function() return view:item() end,
                             function() return kept:totable() end, function() f(kept) end} do
        fails(wrong, "this tensor was made within a function that ai.jit has recorded")
      end
    end
  end)

  it("what it leaves in a module holds what the last call gave", function()
    local net = nn.Lambda(function(a) return a + 1 end)
    local keeper = nn.Module()
    keeper.forward = function(self, a)
      self.seen = net(a) * 2
      local z = (self.seen + 1):tanh()
      return (z * a):sum() + z
    end
    local f = ai.jit(function(a) return keeper(a) end)
    for k = 1, 3 do
      local y = f(x * k)
      assert.is_true(keeper.seen:equal((x * k + 1) * 2):item())
      assert.is_true(y:equal(keeper:forward(x * k)):item())
      keeper.seen = nil
      f(x * k)
    end
  end)

  it("arguments, and views of them, are the caller's memory in every call", function()
    local f = ai.jit(function(a) return a, a[1], a:t() end)
    local m = x:clone()
    for _ = 1, 2 do
      local same, row, turned = f(m)
      m:mul_(2)
      assert.are.same(m:totable(), same:totable())
      assert.are.same(m[1]:totable(), row:totable())
      assert.are.same(m:t():totable(), turned:totable())
    end
    local g = ai.jit(function(a) a:add_(1) return a * 2 end)
    local y = ai.zeros(2)
    g(y) g(y) g(y)
    assert.are.same({3, 3}, y:totable())
  end)

  it("another parameter, module or hook in the place of one makes another recording", function()
    local net = nn.Sequential{nn.Linear(2, 2), nn.Tanh()}
    net.extra = {nn.Linear(2, 2)}
    local f = ai.jit(function(a) return net.extra[1](net(a)):detach() end)
    local function agree()
      assert.is_true(f(x):equal(net.extra[1](net(x)):detach()):item())
      assert.is_true(f(x):equal(net.extra[1](net(x)):detach()):item())
    end
    agree()
    net[1].weight = nn.Parameter(ai.randn(2, 2))
    agree()
    net[1].bias = nil
    agree()
    net[1] = nn.Linear(2, 2)
    agree()
    net.extra[1] = nn.Linear(2, 2)
    agree()
    local remove = net:register_forward_hook(function(_, _, y) return y * 3 end)
    agree()
    net:register_forward_hook(function(_, _, y) return y - 1 end)
    agree()
    remove()
    agree()
    net[1]:freeze()
    agree()
    nn.weight_norm(net[1])
    agree()
    assert(f:count() <= 3, "recordings that do not count any more are dropped")
  end)
end)

it("recordings free what they held", function()
  collectgarbage() collectgarbage()
  local before = ai.memory().cpu.tensors
  for _ = 1, 5 do
    local f = ai.jit(chain)
    f(ai.ones(9000), ai.ones(9000), ai.ones(9000))
  end
  collectgarbage() collectgarbage()
  assert.are.equal(before, ai.memory().cpu.tensors)
end)
