-- Optimizers against their formulas written out in Lua's doubles; schedules; bad input.

local ai = require "aijit"
local nn, optim = ai.nn, ai.optim

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function parameter(list, dtype)
  return nn.Parameter(ai.tensor(list, {dtype = dtype or "f64"}))
end

--- A gradient that depends on the step, so that moments matter.
local function gradient(x, i, t) return 2 * x + math.sin(i + t) end

local function set_gradients(p, t)
  local values, list = p:totable(), {}
  for i, x in ipairs(values) do list[i] = gradient(x, i, t) end
  p.grad = ai.tensor(list, {dtype = p.dtype})
end

--- Runs an optimizer and a formula beside each other; step(x, g, state, t) -> x.
local function compare(make, step, tolerance, dtype)
  local start = {0.5, -1.25, 2, 0, -3}
  local p = parameter(start, dtype)
  local opt = make{p}
  local x, state = {unpack(start)}, {}
  for i = 1, #start do state[i] = {} end
  for t = 1, 12 do
    set_gradients(p, t)
    local g = p.grad:totable()
    opt:step()
    for i = 1, #x do x[i] = step(x[i], g[i], state[i], t) end
    local got = p:totable()
    for i = 1, #x do assert.is_near(x[i], got[i], tolerance * math.max(1, math.abs(x[i]))) end
  end
end

local function adam_step(o)
  return function(x, g, s, t)
    if o.maximize then g = -g end
    if o.decoupled then x = x - o.lr * o.weight_decay * x else g = g + o.weight_decay * x end
    s.m = o.beta1 * (s.m or 0) + (1 - o.beta1) * g
    s.v = o.beta2 * (s.v or 0) + (1 - o.beta2) * g * g
    s.top = math.max(s.top or 0, s.v)
    local v = o.amsgrad and s.top or s.v
    return x - o.lr / (1 - o.beta1 ^ t) * s.m / (math.sqrt(v) / math.sqrt(1 - o.beta2 ^ t) + o.eps)
  end
end

local function sgd_step(o)
  return function(x, g, s)
    if o.maximize then g = -g end
    g = g + o.weight_decay * x
    if o.momentum ~= 0 then
      s.b = s.b and o.momentum * s.b + (1 - o.dampening) * g or g
      g = o.nesterov and g + o.momentum * s.b or s.b
    end
    return x - o.lr * g
  end
end

describe("Adam", function()
  for _, case in ipairs{
    {"with its defaults", optim.Adam, {}, {}},
    {"with weight decay in the gradient", optim.Adam, {lr = 0.1, weight_decay = 0.05}, {}},
    {"with other betas and eps", optim.Adam, {lr = 0.02, betas = {0.5, 0.9}, eps = 1e-3}, {}},
    {"with amsgrad", optim.Adam, {lr = 0.1, betas = {0.9, 0.5}, amsgrad = true}, {}},
    {"that maximizes", optim.Adam, {lr = 0.1, maximize = true}, {}},
    {"decoupled: AdamW with its defaults", optim.AdamW, {}, {decoupled = true, weight_decay = 0.01}},
    {"decoupled: AdamW with a large decay", optim.AdamW, {lr = 0.1, weight_decay = 0.5}, {decoupled = true}},
  } do
    it(case[1] .. " follows its formula", function()
      local options = case[3]
      local betas = options.betas or {0.9, 0.999}
      local o = {lr = options.lr or 1e-3, beta1 = betas[1], beta2 = betas[2], eps = options.eps or 1e-8,
                 weight_decay = options.weight_decay or case[4].weight_decay or 0, decoupled = case[4].decoupled,
                 amsgrad = options.amsgrad, maximize = options.maximize}
      compare(function(params) return case[2](params, options) end, adam_step(o), 1e-12)
      compare(function(params) return case[2](params, options) end, adam_step(o), 2e-5, "f32")
    end)
  end
end)

describe("SGD", function()
  for _, case in ipairs{
    {"plain", {lr = 0.1}},
    {"with weight decay", {lr = 0.1, weight_decay = 0.3}},
    {"with momentum", {lr = 0.1, momentum = 0.9}},
    {"with momentum, dampening and decay", {lr = 0.1, momentum = 0.9, dampening = 0.5, weight_decay = 0.1}},
    {"with nesterov", {lr = 0.1, momentum = 0.9, nesterov = true}},
    {"that maximizes", {lr = 0.01, momentum = 0.5, maximize = true}},
  } do
    it(case[1] .. " follows its formula", function()
      local o = case[2]
      local full = {lr = o.lr, momentum = o.momentum or 0, dampening = o.dampening or 0, weight_decay = o.weight_decay or 0,
                    nesterov = o.nesterov, maximize = o.maximize}
      compare(function(params) return optim.SGD(params, o) end, sgd_step(full), 1e-12)
      compare(function(params) return optim.SGD(params, o) end, sgd_step(full), 2e-5, "f32")
    end)
  end
end)

describe("a step", function()
  it("leaves a parameter without a gradient alone, and starts its state when one comes", function()
    local a, b = parameter{1}, parameter{1}
    local opt = optim.Adam({a, b}, {lr = 0.1})
    a.grad = ai.tensor({1}, {dtype = "f64"})
    opt:step()
    assert.are.equal(1, b:item())
    assert.is_nil(opt:state_dict().state[2])
    b.grad = ai.tensor({1}, {dtype = "f64"})
    opt:step()
    assert.is_near(0.9, b:item(), 1e-8)
    assert.are.equal(1, opt:state_dict().state[2].step)
  end)

  it("is right for large and for strided tensors", function()
    local n = 300001
    local p = nn.Parameter(ai.ones(n))
    p.grad = ai.ones(n) * 2
    optim.SGD({p}, {lr = 0.25}):step()
    assert.are.equal(0.5 * n, p:sum():item())
    local base = ai.zeros(3, 4)
    local view = base:t():detach():requires_grad_(true)
    view.grad = ai.arange(1, 12):float():reshape(4, 3)
    optim.SGD({view}, {lr = 1}):step()
    assert.are.same({-1, -4, -7, -10, -2, -5, -8, -11, -3, -6, -9, -12}, base:reshape(-1):totable())
  end)

  it("is not recorded, and makes a saved value stale", function()
    local p = parameter{2}
    local y = (p * p):sum()
    p.grad = ai.ones(1, {dtype = "f64"})
    optim.SGD({p}, {lr = 1}):step()
    assert.is_true(p.is_leaf)
    assert.has_error(function() y:backward() end)
  end)

  it("has a rate, and other options, for each group", function()
    local a, b = parameter{1}, parameter{1}
    local opt = optim.SGD({{params = {a}, lr = 0.5}, {params = {b}}}, {lr = 0.1})
    a.grad, b.grad = ai.ones(1, {dtype = "f64"}), ai.ones(1, {dtype = "f64"})
    opt:step()
    assert.are.same({0.5, 0.9}, {a:item(), b:item()})
    opt.param_groups[2].lr = 0.4
    opt:step()
    assert.is_near(0.5, b:item(), 1e-12)
  end)

  it("keeps its state when it runs in a scope", function()
    local p = parameter{1}
    local opt = optim.AdamW({p}, {lr = 0.1})
    for _ = 1, 3 do
      ai.scope(function()
        opt:zero_grad()
        local loss = (p * p):sum()
        loss:backward()
        opt:step()
      end)
    end
    assert.are.equal(3, opt:state_dict().state[1].step)
  end)

  it("trains a model", function()
    ai.manual_seed(1)
    local m = nn.Sequential{nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)}
    local opt = optim.AdamW(m, {lr = 0.02})
    local x, y = ai.tensor{{0, 0}, {0, 1}, {1, 0}, {1, 1}}, ai.tensor{{0}, {1}, {1}, {0}}
    local loss
    for _ = 1, 300 do
      opt:zero_grad()
      loss = (m(x) - y):square():mean()
      loss:backward()
      opt:step()
    end
    assert.is_true(loss:item() < 1e-2)
  end)
end)

describe("an optimizer", function()
  it("refuses a state that lacks something, or is of another shape, and keeps its own", function()
    local p = parameter{1, 2}
    local opt = optim.Adam({p}, {lr = 0.1})
    set_gradients(p, 1)
    opt:step()
    local dict = opt:state_dict()
    dict.state[1].exp_avg = ai.zeros(3, {dtype = "f64"})
    assert.matches("exp_avg of parameter 1 is %(3%), and the parameter %(2%)", message_of(opt.load_state_dict, opt, dict))
    dict.state[1].exp_avg = nil
    assert.matches("parameter 1 has no tensor 'exp_avg'", message_of(opt.load_state_dict, opt, dict))
    assert.matches("no tensor 'square_avg'", message_of(function() optim.RMSprop{p}:load_state_dict(opt:state_dict()) end))
    assert.are.equal(1, opt:state_dict().state[1].step)
  end)

  it("goes on exactly from a saved state", function()
    for _, make in ipairs{
      function(p) return optim.AdamW({p}, {lr = 0.1, amsgrad = true}) end,
      function(p) return optim.SGD({p}, {lr = 0.1, momentum = 0.9, dampening = 0.3}) end,
    } do
      local a = parameter{1, 2}
      local first = make(a)
      for t = 1, 3 do set_gradients(a, t); first:step() end
      local b = parameter(a:totable())
      local second = make(b):load_state_dict(first:state_dict())
      for t = 4, 6 do
        set_gradients(a, t)
        set_gradients(b, t)
        first:step()
        second:step()
      end
      assert.are.same(a:totable(), b:totable())
    end
  end)

  it("takes a model, and each tensor once", function()
    local m = nn.Module()
    m.a = nn.Linear(2, 2, {bias = false})
    m.b = m.a
    assert.are.equal(1, #optim.Adam(m).param_groups[1].params)
    assert.are.equal(1, #optim.Adam{m.a.weight, m.a.weight}.param_groups[1].params)
  end)

  it("refuses a model whose layers wait for their sizes", function()
    assert.matches("sizes come from the first input", message_of(optim.Adam, nn.Linear(3)))
  end)

  it("refuses options it does not have, of another type, or out of range", function()
    local p = parameter{1}
    assert.matches("no argument 'learning_rate'", message_of(optim.Adam, {p}, {learning_rate = 1}))
    assert.matches("lr is \"1\"", message_of(optim.Adam, {p}, {lr = "1"}))
    assert.matches("lr is %-1", message_of(optim.Adam, {p}, {lr = -1}))
    assert.matches("betas is {1, 0.9}", message_of(optim.Adam, {p}, {betas = {1, 0.9}}))
    assert.matches("nesterov", message_of(optim.SGD, {p}, {nesterov = true}))
    assert.matches("no parameters", message_of(optim.Adam, {}))
    assert.matches("not a tensor", message_of(optim.Adam, {1}))
    assert.matches("made by an op", message_of(optim.Adam, {p * 2}))
  end)

  it("refuses what it cannot update, before it changes anything", function()
    local p, q = parameter{1}, nn.Parameter(ai.ones(1, {dtype = "f64"}):expand(3))
    local opt = optim.SGD({p, q}, {lr = 1})
    p.grad = ai.ones(1, {dtype = "f64"})
    q.grad = ai.ones(3, {dtype = "f64"})
    assert.matches("parameter 2 is expanded", message_of(opt.step, opt))
    assert.are.equal(1, p:item())
  end)
end)

describe("clipping", function()
  it("leaves small gradients as they are, to the last bit", function()
    local p = parameter{1}
    p.grad = ai.tensor({0.1}, {dtype = "f64"})
    assert.are.equal(0.1, optim.clip_grad_norm({p}, 1))
    assert.are.equal(0.1, p.grad:item())
  end)

  it("takes norms over all parameters, of any order", function()
    local a, b = parameter{1, 1}, nn.Parameter(ai.ones(2))
    a.grad, b.grad = ai.tensor({3, 0}, {dtype = "f64"}), ai.tensor{0, -4}
    assert.are.equal(7, optim.clip_grad_norm({a, b}, 100, {norm_type = 1}))
    assert.are.equal(4, optim.clip_grad_norm({a, b}, 100, {norm_type = math.huge}))
    assert.are.equal(5, optim.clip_grad_norm({a, b}, 2.5))
    assert.is_near(-2, b.grad:totable()[2], 1e-6)
    assert.are.equal(0, optim.clip_grad_norm({parameter{1}}, 1))
    assert.matches("max_norm is %-1", message_of(optim.clip_grad_norm, {a}, -1))
  end)
end)

describe("a schedule", function()
  local function rates(make, n)
    local opt = optim.SGD({parameter{1}}, {lr = 2})
    local schedule, list = make(opt), {}
    for i = 1, n do
      list[i] = opt.param_groups[1].lr
      schedule:step()
    end
    return list
  end

  it("warms up along a straight line that ends at the rate", function()
    assert.are.same({0.5, 1, 1.5, 2, 2, 2}, rates(function(o) return optim.ConstantLR(o, {warmup = 4}) end, 6))
  end)

  it("falls linearly", function()
    assert.are.same({1, 2, 2, 1.5, 1, 0.5, 0, 0}, rates(function(o) return optim.LinearLR(o, {total = 6, warmup = 2}) end, 8))
  end)

  it("falls along half a cosine to its least", function()
    local list = rates(function(o) return optim.CosineLR(o, {total = 4, min = 0.5}) end, 6)
    assert.are.equal(2, list[1])
    assert.is_near(1.5, list[3], 1e-12)
    assert.is_near(1, list[5], 1e-12)
    assert.is_near(1, list[6], 1e-12)
  end)

  it("goes up and down in one cycle", function()
    local list = rates(function(o) return optim.OneCycleLR(o, {total = 10, pct_start = 0.3}) end, 10)
    assert.is_near(2 / 25, list[1], 1e-12)
    assert.is_near(2, list[3], 1e-12)
    assert.is_near(2 / 25 / 1e4, list[10], 1e-12)
  end)

  it("may be any function, and is restored by its step", function()
    assert.are.same({2, 1, 0.5}, rates(function(o) return optim.LambdaLR(o, function(t) return 0.5 ^ t end) end, 3))
    local opt = optim.SGD({parameter{1}}, {lr = 2})
    optim.LinearLR(opt, {total = 4}):load_state_dict{t = 2}
    assert.are.equal(1, opt.param_groups[1].lr)
  end)

  it("must know how long it is", function()
    assert.matches("arguments are missing: total", message_of(optim.CosineLR, optim.SGD{parameter{1}}))
  end)
end)
