-- Optimizers beside PyTorch's, 50 steps each (spec/support/optim.py wrote what PyTorch does), and, where PyTorch has none,
-- beside their papers' formulas in Lua's doubles.

local ai = require "aijit"
local nn, optim = ai.nn, ai.optim

local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local vectors = here .. "vectors/optim/"

local START = {{0.5, -1.25, 2, 0, -3, 0.125}, {1.5, -0.75, 0.25, 4}}

local function gradient(x, i, t) return 0.8 * x + math.sin(3 * i + t) + 0.3 * math.cos(t / 5) end

local function parameters(dtype)
  local a = ai.tensor(START[1], {dtype = "f64"}):reshape(2, 3):to(dtype or "f64")
  local b = ai.tensor(START[2], {dtype = "f64"}):to(dtype or "f64")
  return {nn.Parameter(a), nn.Parameter(b)}
end

local function values(params)
  local list = {}
  for _, p in ipairs(params) do
    for _, x in ipairs(p:detach():to("f64"):reshape(-1):totable()) do list[#list + 1] = x end
  end
  return list
end

--- Sets the gradients of step t, and gives them flat.
local function set_gradients(params, t)
  local i, all = 0, {}
  for _, p in ipairs(params) do
    local list = {}
    for k, x in ipairs(p:detach():to("f64"):reshape(-1):totable()) do
      i = i + 1
      list[k] = gradient(x, i, t)
      all[i] = list[k]
    end
    p.grad = ai.tensor(list, {dtype = "f64"}):reshape(p.shape):to(p.dtype)
  end
  return all
end

local function compare(got, wanted, tolerance, what)
  for i = 1, #wanted do
    local bound = tolerance * math.max(math.abs(wanted[i]), 1e-3)
    if not (math.abs(got[i] - wanted[i]) <= bound) then
      error(("%s, element %d: %.17g, and not %.17g"):format(what, i, got[i], wanted[i]), 2)
    end
  end
end

-- -- PyTorch ------------------------------------------------------------------------------------------------------

describe("after each of 50 steps, equal to PyTorch within 1e-6:", function()
  for _, name in ipairs{"SGD", "Adam", "AdamW", "Adamax", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Rprop", "NAdam", "RAdamW"} do
    local tensors, metadata = ai.load(vectors .. name:lower() .. ".safetensors")
    local cases = {}
    for key in pairs(tensors) do cases[#cases + 1] = key end
    table.sort(cases)
    for _, key in ipairs(cases) do
      it(name .. " " .. metadata[key], function()
        local params = parameters()
        local opt = optim[name == "RAdamW" and "RAdam" or name](params, ai.json.decode(metadata[key]))
        local rows = tensors[key]:totable()
        assert.are.equal(50, #rows)
        for t = 1, 50 do
          set_gradients(params, t)
          opt:step()
          compare(values(params), rows[t], 1e-6, "step " .. t)
        end
      end)
    end
  end
end)

-- -- Formulas -----------------------------------------------------------------------------------------------------

--- Runs an optimizer and a formula beside each other for 50 steps. step(x, g, state, t) changes lists in place; the lists
--- are of one parameter each.
local function follow(make, step, dtype, tolerance)
  local params = parameters(dtype)
  local opt = make(params)
  local x, state = {{unpack(START[1])}, {unpack(START[2])}}, {{}, {}}
  for t = 1, 50 do
    local g = set_gradients(params, t)
    opt:step()
    local n = 0
    for k = 1, 2 do
      local own = {}
      for i = 1, #x[k] do own[i] = g[n + i] end
      n = n + #x[k]
      step(x[k], own, state[k], t, k)
    end
    compare(values(params), ai.list(x[1], x[2]), tolerance or 1e-9, "step " .. t)
  end
end

local function zeros(n)
  local list = {}
  for i = 1, n do list[i] = 0 end
  return list
end

local function lion(o)
  return function(x, g, s)
    s.m = s.m or zeros(#x)
    for i = 1, #x do
      local d = o.maximize and -g[i] or g[i]
      local c = o.betas[1] * s.m[i] + (1 - o.betas[1]) * d
      x[i] = x[i] - o.lr * ((c > 0 and 1 or c < 0 and -1 or 0) + o.weight_decay * x[i])
      s.m[i] = o.betas[2] * s.m[i] + (1 - o.betas[2]) * d
    end
  end
end

local function nadam(o)
  local b1, b2 = unpack(o.betas)
  local function mu(t) return b1 * (1 - 0.5 * 0.96 ^ (t * o.momentum_decay)) end
  return function(x, g, s, t)
    s.m, s.v, s.product = s.m or zeros(#x), s.v or zeros(#x), (s.product or 1) * mu(t)
    for i = 1, #x do
      local d = g[i] + o.weight_decay * x[i]
      s.m[i] = b1 * s.m[i] + (1 - b1) * d
      s.v[i] = b2 * s.v[i] + (1 - b2) * d ^ 2
      local ahead = (1 - mu(t)) / (1 - s.product) * d + mu(t + 1) / (1 - s.product * mu(t + 1)) * s.m[i]
      x[i] = x[i] - o.lr * ahead / (math.sqrt(s.v[i] / (1 - b2 ^ t)) + o.eps)
    end
  end
end

local function adan(o)
  local b1, b2, b3 = unpack(o.betas)
  return function(x, g, s, t)
    s.m, s.d, s.n = s.m or zeros(#x), s.d or zeros(#x), s.n or zeros(#x)
    for i = 1, #x do
      local change = t == 1 and 0 or g[i] - s.last[i]
      s.m[i] = b1 * s.m[i] + (1 - b1) * g[i]
      s.d[i] = b2 * s.d[i] + (1 - b2) * change
      s.n[i] = b3 * s.n[i] + (1 - b3) * (g[i] + b2 * change) ^ 2
      local u = (s.m[i] / (1 - b1 ^ t) + b2 * s.d[i] / (1 - b2 ^ t)) / (math.sqrt(s.n[i] / (1 - b3 ^ t)) + o.eps)
      if o.no_prox then x[i] = x[i] * (1 - o.lr * o.weight_decay) - o.lr * u
      else x[i] = (x[i] - o.lr * u) / (1 + o.lr * o.weight_decay) end
    end
    s.last = g
  end
end

local function lamb(o)
  local b1, b2 = unpack(o.betas)
  return function(x, g, s, t)
    s.m, s.v = s.m or zeros(#x), s.v or zeros(#x)
    local u, of_x, of_u = {}, 0, 0
    for i = 1, #x do
      s.m[i] = b1 * s.m[i] + (1 - b1) * g[i]
      s.v[i] = b2 * s.v[i] + (1 - b2) * g[i] ^ 2
      u[i] = s.m[i] / (1 - b1 ^ t) / (math.sqrt(s.v[i] / (1 - b2 ^ t)) + o.eps) + o.weight_decay * x[i]
      of_x, of_u = of_x + x[i] ^ 2, of_u + u[i] ^ 2
    end
    local trust = of_x > 0 and of_u > 0 and math.sqrt(of_x / of_u) or 1
    for i = 1, #x do x[i] = x[i] - o.lr * trust * u[i] end
  end
end

--- Schedule-free AdamW in its three points: x and z are kept, y is where the gradient was taken.
local function schedule_free(o)
  local beta, b2 = unpack(o.betas)
  return function(y, g, s, t)
    s.x, s.z, s.v = s.x or {unpack(y)}, s.z or {unpack(y)}, s.v or zeros(#y)
    local rate = o.lr * math.min(1, o.warmup_steps > 0 and t / o.warmup_steps or 1)
    s.top = math.max(s.top or 0, rate)
    local w = t ^ o.r * s.top ^ o.weight_lr_power
    s.sum = (s.sum or 0) + w
    local c = w / s.sum
    for i = 1, #y do
      s.v[i] = b2 * s.v[i] + (1 - b2) * g[i] ^ 2
      local u = g[i] / (math.sqrt(s.v[i] / (1 - b2 ^ t)) + o.eps) + o.weight_decay * y[i]
      s.z[i] = s.z[i] - rate * u
      s.x[i] = (1 - c) * s.x[i] + c * s.z[i]
      y[i] = (1 - beta) * s.z[i] + beta * s.x[i]
    end
  end
end

local function product(a, b, n, m, k)
  local c = {}
  for i = 1, n do
    c[i] = {}
    for j = 1, m do
      local sum = 0
      for l = 1, k do sum = sum + a[i][l] * b[l][j] end
      c[i][j] = sum
    end
  end
  return c
end

local function transposed(a, n, m)
  local b = {}
  for j = 1, m do b[j] = {} for i = 1, n do b[j][i] = a[i][j] end end
  return b
end

--- Newton and Schulz in lists; u has n rows and m columns.
local function orthogonal(u, n, m, c, steps, eps)
  local norm = 0
  for i = 1, n do for j = 1, m do norm = norm + u[i][j] ^ 2 end end
  norm = math.max(math.sqrt(norm), eps)
  for i = 1, n do for j = 1, m do u[i][j] = u[i][j] / norm end end
  local tall = n > m
  if tall then u = transposed(u, n, m) n, m = m, n end
  for _ = 1, steps do
    local a = product(u, transposed(u, n, m), n, n, m)
    local aa = product(a, a, n, n, n)
    local b = {}
    for i = 1, n do b[i] = {} for j = 1, n do b[i][j] = c[2] * a[i][j] + c[3] * aa[i][j] end end
    local bu = product(b, u, n, m, n)
    for i = 1, n do for j = 1, m do u[i][j] = c[1] * u[i][j] + bu[i][j] end end
  end
  if tall then u = transposed(u, n, m) end
  return u
end

local function adamw(lr, betas, eps, decay)
  return function(x, g, s, t)
    s.m, s.v = s.m or zeros(#x), s.v or zeros(#x)
    for i = 1, #x do
      s.m[i] = betas[1] * s.m[i] + (1 - betas[1]) * g[i]
      s.v[i] = betas[2] * s.v[i] + (1 - betas[2]) * g[i] ^ 2
      x[i] = x[i] * (1 - lr * decay) - lr * s.m[i] / (1 - betas[1] ^ t) / (math.sqrt(s.v[i] / (1 - betas[2] ^ t)) + eps)
    end
  end
end

local function muon(o, rows, columns)
  local rest = adamw(o.adamw_lr, o.betas, o.adamw_eps, o.adamw_weight_decay)
  return function(x, g, s, t, which)
    if which == 2 then return rest(x, g, s, t) end
    s.b = s.b or zeros(#x)
    local u = {}
    for i = 1, rows do
      u[i] = {}
      for j = 1, columns do
        local k = (i - 1) * columns + j
        s.b[k] = o.momentum * s.b[k] + (1 - o.momentum) * g[k]
        u[i][j] = o.nesterov and (1 - o.momentum) * g[k] + o.momentum * s.b[k] or s.b[k]
      end
    end
    u = orthogonal(u, rows, columns, o.ns_coefficients, o.ns_steps, o.eps)
    local scale = o.adjust_lr == "original" and math.sqrt(math.max(1, rows / columns)) or 0.2 * math.sqrt(math.max(rows, columns))
    for i = 1, rows do
      for j = 1, columns do
        local k = (i - 1) * columns + j
        x[k] = x[k] * (1 - o.lr * o.weight_decay) - o.lr * scale * u[i][j]
      end
    end
  end
end

local function with_defaults(cls, options)
  local all = {}
  for name, value in pairs(cls.defaults) do all[name] = value end
  for name, value in pairs(options) do all[name] = value end
  return all
end

describe("for 50 steps, as its paper says:", function()
  for _, case in ipairs{
    {"Lion", lion, {{}, {lr = 0.05, betas = {0.8, 0.95}, weight_decay = 0.3}, {lr = 0.01, maximize = true}}},
    {"NAdam", nadam, {{}, {lr = 0.1, betas = {0.8, 0.95}, weight_decay = 0.1, momentum_decay = 0.05}}},
    {"Adan", adan, {{}, {lr = 0.05, betas = {0.9, 0.8, 0.95}, weight_decay = 0.2}, {lr = 0.05, weight_decay = 0.2, no_prox = true}}},
    {"LAMB", lamb, {{}, {lr = 0.05, betas = {0.8, 0.9}, weight_decay = 0.2, eps = 1e-3}, {lr = 0.02, weight_decay = 0}}},
    {"ScheduleFreeAdamW", schedule_free,
      {{}, {lr = 0.1, betas = {0.8, 0.9}, weight_decay = 0.1, warmup_steps = 10}, {lr = 0.1, r = 1, weight_lr_power = 1}}},
  } do
    for _, options in ipairs(case[3]) do
      local cls = optim[case[1]]
      it(case[1] .. " " .. ai.json.encode(options), function()
        local step = case[2](with_defaults(cls, options))
        follow(function(params) return cls(params, options) end, step)
      end)
    end
  end

  for _, options in ipairs{{}, {lr = 0.05, nesterov = false, weight_decay = 0.2}, {lr = 0.1, adjust_lr = "match_rms_adamw", momentum = 0.8},
                           {ns_steps = 3, ns_coefficients = {2, -1.5, 0.5}, adamw_lr = 0.1, adamw_weight_decay = 0.1}} do
    it("Muon " .. ai.json.encode(options), function()
      follow(function(params) return optim.Muon(params, options) end, muon(with_defaults(optim.Muon, options), 2, 3))
    end)
  end

  it("Muon of a tall matrix, and of a convolution's kernel as a matrix", function()
    for _, shape in ipairs{{3, 2}, {3, 2, 1}, {2, 3, 1, 1}, {2, 1, 3}} do
      local rows = shape[1]
      follow(function(params)
        params[1] = nn.Parameter(params[1]:detach():reshape(shape))
        return optim.Muon(params, {lr = 0.05})
      end, muon(with_defaults(optim.Muon, {lr = 0.05}), rows, 6 / rows))
    end
  end)

  it("the same in f32, within its precision", function()
    local o = {lr = 0.05, weight_decay = 0.2}
    for name, formula in pairs{Adan = adan, LAMB = lamb, ScheduleFreeAdamW = schedule_free} do
      follow(function(params) return optim[name](params, o) end, formula(with_defaults(optim[name], o)), "f32", 2e-3)
    end
  end)

  it("NAdam and RAdam may decay as AdamW does", function()
    for _, name in ipairs{"NAdam", "RAdam"} do
      local a, b = parameters(), parameters()
      local first = optim[name](a, {lr = 0.1, weight_decay = 0.5, decoupled_weight_decay = true})
      local second = optim[name](b, {lr = 0.1})
      for t = 1, 5 do
        for k = 1, 2 do
          local g = ai.full(a[k].shape, math.sin(t + k), {dtype = "f64"})
          a[k].grad, b[k].grad = g, g
          ai.no_grad(function() b[k]:mul_(1 - 0.1 * 0.5) end)
        end
        first:step()
        second:step()
        compare(values(a), values(b), 1e-12, name .. " step " .. t)
      end
    end
  end)
end)

it("Muon's step is near orthonormal: its singular values lie between 0.6 and 1.3", function()
  ai.manual_seed(3)
  local p = nn.Parameter(ai.zeros(12, 20))
  p.grad = ai.randn(12, 20)
  optim.Muon({p}, {lr = 1}):step()
  local x = p:detach()
  local gram = x:matmul(x:t())
  -- The largest singular value is at most the root of the largest sum of a row; the smallest is bounded by a vector's image.
  for _ = 1, 5 do
    local v = ai.randn(12, 1)
    local length = gram:matmul(v):norm():item() / v:norm():item()
    assert.is_true(length > 0.36 and length < 1.7)
  end
end)
