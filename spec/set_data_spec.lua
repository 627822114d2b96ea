--- A leaf that is given other data stays what optimizers, modules and recordings hold.

local ai = require "aijit"
local nn = ai.nn

local message_of = require "spec.support.raises"

local function far(a, b) return (a:detach():double() - b:detach():double()):abs():max():item() end

describe("set_data", function()
  it("gives a leaf another tensor's elements, shape and dtype, which both share", function()
    local p, q = ai.zeros(2, {requires_grad = true}), ai.tensor({{1, 2, 3}}, {dtype = "f64"})
    local id = p:id()
    assert.is_true(p:set_data(q):is_same(p))
    assert.are.same({{1, 2, 3}}, p:totable())
    assert.are.same({1, 3}, p.shape)
    assert.are.equal("f64", p.dtype)
    assert.are.equal(id, p:id())
    assert.is_true(p.requires_grad and p.is_leaf)
    q[{1, 2}] = 7
    assert.are.equal(7, p[{1, 2}]:item())
    ;(p * 2):sum():backward()
    assert.are.same({{2, 2, 2}}, p.grad:totable())
    assert.are.equal("f64", p.grad.dtype)
  end)

  it("is refused where it cannot be", function()
    local p = ai.zeros(2, {requires_grad = true})
    local y = p * 2
    assert.matches("set_data: a tensor is wanted, not 3", message_of(p.set_data, p, 3))
    assert.matches("made by mul and is part of a graph", message_of(y.set_data, y, ai.ones(2)))
    assert.matches("is a view of one that requires gradients", message_of(p.set_data, p[{{1, 1}}], ai.ones(1)))
    assert.matches("data of i64 have none", message_of(p.set_data, p, ai.ones(2):long()))
    p.grad = ai.ones(2)
    assert.matches("gradient would not fit", message_of(p.set_data, p, ai.ones(3)))
    assert.are.same({0, 0}, p:totable())
    p:set_data(ai.ones(2))                                         -- the gradient fits
    assert.are.same({1, 1}, p.grad:totable())
  end)

  it("makes graphs from before fail rather than give other gradients", function()
    local p = ai.ones(2, {requires_grad = true})
    local square, sum = (p * p):sum(), p:sum()
    p:set_data(ai.zeros(2))
    sum:backward()                                                 -- nothing of p was needed, and its gradient fits
    assert.are.same({1, 1}, p.grad:totable())
    assert.matches("changed in place", message_of(square.backward, square))
    p.grad = nil
    local later = p:sum()
    p:set_data(ai.zeros(3))
    assert.matches("given other data", message_of(later.backward, later))
  end)

  it("leaves views what they were, now of their own", function()
    local p = ai.tensor({1, 2, 3}, {requires_grad = true})
    local plain = ai.tensor{4, 5, 6}
    local view, other = p[{{1, 2}}], plain[{{1, 2}}]
    p:set_data(ai.zeros(1))
    plain:set_data(ai.zeros(1))
    assert.are.same({1, 2}, view:totable())
    assert.matches("given other data", message_of(function() view:sum():backward() end))
    other:mul_(ai.ones(2, {requires_grad = true}))
    plain:add_(ai.ones(1, {requires_grad = true}))
    assert.are.same({4, 5}, other:totable())
    other:sum():backward()
  end)

  it("keeps hooks", function()
    local p, seen = ai.ones(2, {requires_grad = true}), 0
    p:register_hook(function() seen = seen + 1 end)
    p:set_data(ai.ones(3, {dtype = "f64"}))
    p:sum():backward()
    assert.are.equal(1, seen)
  end)

  it("makes recordings anew, also those that knew the tensor under another handle", function()
    local p = ai.ones(2, {requires_grad = true})
    local alias = p:detach()
    local direct = ai.jit(function(x) return x * alias end)
    local held = ai.jit(function(x) return ai.no_grad(function() return x * p end) end)
    local x = ai.ones(2)
    for _ = 1, 2 do direct(x) held(x) end
    p:set_data(ai.tensor{3, 4})
    for _ = 1, 2 do
      assert.are.same({3, 4}, held(x):totable())
      assert.are.same({1, 1}, direct(x):totable())
    end
    p:set_data(ai.tensor({5, 6}, {dtype = "f64"}))
    for _ = 1, 2 do assert.are.same({5, 6}, held(x):totable()) end
    local refused = ai.jit(function(v) p:set_data(v) return v * 2 end)
    assert.matches("being recorded", message_of(refused, ai.ones(2):double()))
  end)
end)

describe("a model that is converted", function()
  it("keeps its parameters, their gradients, what they share, and its optimizer", function()
    for _, name in ipairs{"SGD", "Adam", "AdamW", "Lion", "RMSprop", "Muon"} do
      local m = nn.Sequential{nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4, {bias = false})}
      local opt = ai.optim[name](name == "Muon" and {m[1].weight, m[3].weight} or m:parameters(), {lr = 0.1})
      local w = m[1].weight
      local function step(dtype)
        m:zero_grad()
        m(ai.randn(5, 3):to(dtype)):square():sum():backward()
        opt:step()
      end
      step "f32"
      for _, dtype in ipairs{"f64", "bf16", "f32"} do
        assert.is_true(m:to(dtype)[1].weight:is_same(w))
        assert.are.equal(dtype, w.dtype)
        assert.are.equal(dtype, w.grad.dtype)
        local before = w:detach():clone()
        step(dtype)
        assert.is_true(far(w, before) > 0, name .. " " .. dtype)
        opt:load_state_dict(opt:state_dict())
      end
    end
  end)

  it("trains on as one that was in that dtype from the start", function()
    local a = nn.Linear(3, 2)
    local b = a:clone():double()
    local inputs = ai.randn(6, 3, {dtype = "f64"})
    local one, two = ai.optim.Adam(a:parameters(), {lr = 0.1}), ai.optim.Adam(b:parameters(), {lr = 0.1})
    a:double()
    for _ = 1, 3 do
      for model, opt in pairs{[a] = one, [b] = two} do
        model:zero_grad()
        model(inputs):square():sum():backward()
        opt:step()
      end
    end
    assert.are.equal(0, far(a.weight, b.weight))
  end)

  it("in a recorded step is recorded anew", function()
    local m = nn.Linear(3, 2)
    local opt = ai.optim.Adam(m:parameters(), {lr = 0.1})
    local step = ai.jit(function(x)
      opt:zero_grad()
      local loss = m(x):square():sum()
      loss:backward()
      opt:step()
      return loss:detach()
    end)
    local x = ai.randn(4, 3)
    local first = step(x):item()
    for _ = 1, 20 do step(x) end
    m:double()
    local between = step(x:double())
    assert.are.equal("f64", between.dtype)
    for _ = 1, 20 do step(x:double()) end
    assert.is_true(between:item() < first and step(x:double()):item() < between:item())
  end)

  it("refuses what is no dtype or device, and stays as it was", function()
    local m = nn.Linear(2, 2)
    assert.matches("no CUDA device", message_of(m.to, m, "cuda:0"))
    assert.matches('"b16" is not a device', message_of(m.to, m, "b16"))
    assert.matches("a dtype or a device is wanted", message_of(m.to, m))
    assert.matches("not i32", message_of(m.to, m, {dtype = "i32"}))
    assert.matches("no option 'dtyp'", message_of(m.to, m, {dtyp = "f64"}))
    assert.are.equal("f32", m.weight.dtype)
  end)

  it("that waits for its sizes is made in that dtype", function()
    local m = nn.Linear(2):to "f64"
    assert.are.equal("f64", m(ai.ones(1, 3, {dtype = "f64"})).dtype)
    assert.are.equal("f64", m.weight.dtype)
  end)
end)
