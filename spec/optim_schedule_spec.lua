-- Schedules beside PyTorch's and beside their formulas; chains of them; plateaus; the range test.

local ai = require "aijit"
local process = require "support.process"
local nn, optim, data = ai.nn, ai.optim, ai.data

local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local torch = ai.load(here .. "vectors/optim/schedules.safetensors")

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function optimizer(lr) return optim.SGD({nn.Parameter(ai.zeros(1))}, {lr = lr or 0.5}) end

local function rates(schedule, n)
  local list = {}
  for i = 1, n do
    list[i] = schedule.optimizer.param_groups[1].lr
    schedule:step()
  end
  return list
end

local function assert_near(wanted, got)
  assert.are.equal(#wanted, #got)
  for i = 1, #wanted do
    if not (math.abs(wanted[i] - got[i]) <= 1e-9 * math.abs(wanted[i]) + 1e-15) then
      error(("step %d: %.17g, and not %.17g"):format(i, got[i], wanted[i]), 2)
    end
  end
end

local like_torch = {
  step = function(o) return optim.StepLR(o, {step_size = 7, gamma = 0.5}) end,
  multistep = function(o) return optim.MultiStepLR(o, {milestones = {5, 20, 21}, gamma = 0.3}) end,
  exponential = function(o) return optim.ExponentialLR(o, {gamma = 0.93}) end,
  linear = function(o) return optim.LinearLR(o, {total = 30, min = 0.2}) end,
  cosine = function(o) return optim.CosineLR(o, {total = 59, min = 0.1}) end,
  restarts = function(o) return optim.CosineRestartsLR(o, {period = 7, mult = 2, min = 0.1}) end,
  polynomial = function(o) return optim.PolynomialLR(o, {total = 40, power = 2}) end,
  onecycle = function(o) return optim.OneCycleLR(o, {total = 60, pct_start = 0.25}) end,
  chained = function(o) return optim.ChainedLR(o, {optim.StepLR(o, {step_size = 7, gamma = 0.5}), optim.ExponentialLR(o, {gamma = 0.9})}) end,
  sequential = function(o)
    return optim.SequentialLR(o, {optim.ExponentialLR(o, {gamma = 0.9}), optim.StepLR(o, {step_size = 5, gamma = 0.5})}, {12})
  end,
}

local function measurement(t, mode) return 3 + math.sin(t * t) + (mode == "max" and 1 or -1) * math.min(t, 20) * 0.1 end

describe("a schedule has PyTorch's rates for 60 steps:", function()
  for name, make in pairs(like_torch) do
    it(name, function() assert_near(torch[name]:totable(), rates(make(optimizer()), 60)) end)
  end
  for _, mode in ipairs{"min", "max"} do
    it("plateau of the " .. mode, function()
      local schedule = optim.PlateauLR(optimizer(), {mode = mode, factor = 0.3, patience = 2, threshold = 0.05, cooldown = 1, min_lr = 0.01})
      local got = {}
      for t = 0, 59 do
        got[t + 1] = schedule:get_lr()[1]
        schedule:step()
        schedule:observe(measurement(t, mode))
      end
      assert_near(torch["plateau_" .. mode]:totable(), got)
      assert.is_true(got[60] < 0.5)
    end)
  end
end)

describe("a schedule by its formula:", function()
  it("Noam rises to the rate at the end of the warm-up, then falls as 1 / sqrt(t)", function()
    local got, wanted = rates(optim.NoamLR(optimizer(2), {warmup = 4}), 16), {}
    for t = 1, 16 do wanted[t] = 2 * math.min(t / 4, math.sqrt(4 / t)) end
    assert_near(wanted, got)
    assert.are.equal(2, got[4])
    local paper = {}
    for t = 1, 16 do paper[t] = 512 ^ -0.5 * math.min(t ^ -0.5, t * 4 ^ -1.5) end
    assert_near(paper, rates(optim.NoamLR(optimizer(1), {warmup = 4, dim = 512}), 16))
  end)

  it("a warm-up from a share of the rate", function()
    assert_near({0.4, 0.6, 0.8, 1, 1}, rates(optim.WarmupLR(optimizer(1), {warmup = 4, start = 0.2}), 5))
  end)

  it("every curve may begin with a warm-up, and its own steps count from there", function()
    assert_near({0.5, 1, 1, 1, 0.5, 0.5, 0.25}, rates(optim.StepLR(optimizer(1), {warmup = 2, step_size = 2, gamma = 0.5}), 7))
    assert_near({0.5, 1, 1, 0.5, 1, 0.5}, rates(optim.CosineRestartsLR(optimizer(1), {warmup = 2, period = 2}), 6))
  end)

  it("a chain multiplies, also with a plateau in it", function()
    local o = optimizer(1)
    local chain = optim.ChainedLR(o, {optim.WarmupLR(o, {warmup = 2}), optim.PlateauLR(o, {factor = 0.5, patience = 0})})
    local got = {chain:get_lr()[1]}
    chain:step()
    chain:observe(1)
    chain:observe(2)
    got[2] = chain:get_lr()[1]
    assert.are.same({0.5, 0.5}, got)
    local p = optimizer(1)
    local again = optim.ChainedLR(p, {optim.WarmupLR(p, {warmup = 2}), optim.PlateauLR(p, {factor = 0.5, patience = 0})})
    again:load_state_dict(ai.json.decode(ai.json.encode(chain:state_dict())))
    assert.are.same({0.5}, again:get_lr())
  end)
end)

describe("a schedule's state", function()
  it("goes through JSON, and on to the same rates", function()
    for name, make in pairs(like_torch) do
      local first = make(optimizer())
      for _ = 1, 13 do first:step() end
      local second = make(optimizer()):load_state_dict(ai.json.decode(ai.json.encode(first:state_dict())))
      assert.are.same(rates(first, 20), rates(second, 20), name)
    end
    local first, second = optim.PlateauLR(optimizer(), {patience = 1}), optim.PlateauLR(optimizer(), {patience = 1})
    for t = 1, 9 do first:step() first:observe(measurement(t, "min")) end
    second:load_state_dict(ai.json.decode(ai.json.encode(first:state_dict())))
    for t = 10, 30 do
      first:observe(measurement(t, "min"))
      second:observe(measurement(t, "min"))
      assert.are.same(first:get_lr(), second:get_lr())
    end
  end)

  it("is one of each group's own rate", function()
    local o = optim.SGD({{params = {nn.Parameter(ai.zeros(1))}, lr = 1}, {params = {nn.Parameter(ai.zeros(1))}, lr = 0.1}})
    local schedule = optim.ExponentialLR(o, {gamma = 0.5})
    schedule:step()
    assert.are.same({0.5, 0.05}, schedule:get_lr())
  end)
end)

it("a schedule refuses what it cannot do", function()
  local o = optimizer()
  assert.matches("the first argument is the optimizer", message_of(optim.StepLR, {}))
  assert.matches("arguments are missing: step_size", message_of(optim.StepLR, o))
  assert.matches("no argument 'stepsize': did you mean 'step_size'", message_of(optim.StepLR, o, {stepsize = 3}))
  assert.matches("gamma is \"1\"", message_of(optim.ExponentialLR, o, {gamma = "1"}))
  assert.matches("gamma is %-1", message_of(optim.ExponentialLR, o, {gamma = -1}))
  assert.matches("period is 0", message_of(optim.CosineRestartsLR, o, {period = 0}))
  assert.matches("mult is 0.5", message_of(optim.CosineRestartsLR, o, {period = 2, mult = 0.5}))
  assert.matches("milestones is {\"a\"}", message_of(optim.MultiStepLR, o, {milestones = {"a"}}))
  assert.matches("mode is \"least\"", message_of(optim.PlateauLR, o, {mode = "least"}))
  assert.matches("factor is 2", message_of(optim.PlateauLR, o, {factor = 2}))
  assert.matches("observe: a number", message_of(function() optim.PlateauLR(o):observe "x" end))
  assert.matches("arguments are missing: parts", message_of(optim.ChainedLR, o, {}))
  assert.matches("parts is {3}", message_of(optim.ChainedLR, o, {3}))
  assert.matches("is of another optimizer", message_of(optim.ChainedLR, o, {optim.ConstantLR(optimizer())}))
  assert.matches("one fewer", message_of(optim.SequentialLR, o, {optim.ConstantLR(o)}, {3}))
  assert.matches("a number `t`", message_of(function() optim.ConstantLR(o):load_state_dict{} end))
end)

-- -- The range test ---------------------------------------------------------------------------------------------------------

describe("the range test", function()
  local function problem()
    ai.manual_seed(11)
    local model = nn.Sequential{nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)}
    local x = ai.randn(32, 4)
    local y = x:sum(-1, true)
    return model, optim.SGD(model, {lr = 0.1, momentum = 0.9}), function() return (model(x) - y):square():mean() end
  end

  it("tells the losses of rates that rise by one factor, until the loss explodes, and suggests a rate below that", function()
    local model, opt, loss = problem()
    local r = optim.range_test(loss, {optimizer = opt, model = model, min = 1e-5, max = 1e3, steps = 81})
    assert.is_near(1e-5, r.lr[1], 1e-15)
    assert.is_near(10 ^ 0.1, r.lr[2] / r.lr[1], 1e-9)
    assert.are.equal(#r.lr, #r.loss)
    assert.is_true(#r.lr < 81 and r.diverged > r.best and r.suggestion < r.diverged)
    assert.is_true(r.suggestion > 1e-4)
    assert.is_near(r.loss[1], r.smoothed[1], 1e-9)
  end)

  it("leaves weights, buffers, optimizer and random numbers as they were", function()
    local model, opt, loss = problem()
    loss():backward()
    opt:step()
    local before, state = model:clone():state_dict(), opt:state_dict()
    local buffer = state.state[1].momentum_buffer:clone()
    local random = ai.get_random_state()
    optim.range_test(function(lr) ai.rand(3) assert(lr > 0) return loss() end, {optimizer = opt, model = model, steps = 10, max = 1})
    for name, tensor in pairs(model:state_dict()) do assert.is_true(tensor:equal(before[name]):item(), name) end
    assert.is_true(opt:state_dict().state[1].momentum_buffer:equal(buffer):item())
    assert.are.equal(1, opt:state_dict().state[1].step)
    assert.are.equal(0.1, opt.param_groups[1].lr)
    assert.are.same(random, ai.get_random_state())
    assert.is_nil(opt.param_groups[1].params[1].grad)
  end)

  it("keeps the ratio of the groups' rates", function()
    local a, b = nn.Parameter(ai.zeros(1)), nn.Parameter(ai.zeros(1))
    local opt, seen = optim.SGD{{params = {a}, lr = 1}, {params = {b}, lr = 0.1}}, {}
    optim.range_test(function() seen[#seen + 1] = opt.param_groups[2].lr / opt.param_groups[1].lr return (a + b - 1):square():sum() end,
      {optimizer = opt, steps = 5, max = 0.1})
    for i = 1, 5 do assert.is_near(0.1, seen[i], 1e-12) end
  end)

  it("takes a task", function()
    local Points = ai.class("RangePoints", data.Dataset)
    function Points:size() return 20 end
    function Points:get(i) return {i / 20, 1}, {i / 10} end
    local Task = ai.class("RangeTask", ai.Task)
    function Task:__init(c) ai.Task.__init(self, c) self.model = nn.Linear(2, 1) end
    function Task:set_loggers() end
    function Task:get_dataset() return Points() end
    function Task:build_optimizer() return optim.SGD(self, {lr = 0.1}) end
    function Task:get_loss(batch)
      self:log_scalar("seen", 1)
      return {fit = ai.mse_loss(self.model(batch[1]), batch[2])}
    end
    local task = Task{batch_size = 8}
    local before = task.model.weight:detach():totable()
    local r = optim.range_test(task, {min = 1e-4, max = 100, steps = 40})
    assert.is_true(#r.lr > 10 and r.diverged ~= nil and r.suggestion ~= nil)
    assert.are.same(before, task.model.weight:detach():totable())
    local folder = process.folder()
    task:run(folder)
    os.execute("rm -r " .. folder)
    assert.are_not.same(before, task.model.weight:detach():totable())
  end)

  it("restores after an error, and refuses what it cannot use", function()
    local model, opt = problem()
    local w = model[1].weight:detach():totable()
    local n = 0
    assert.matches("my own", message_of(optim.range_test, function()
      n = n + 1
      if n == 3 then error "my own" end
      return model(ai.ones(4, 4)):sum()
    end, {optimizer = opt}))
    assert.are.same(w, model[1].weight:detach():totable())
    assert.matches("say whose rate", message_of(optim.range_test, function() end))
    assert.matches("a task, or a function", message_of(optim.range_test, 3))
    assert.matches("gave a nil", message_of(optim.range_test, function() end, {optimizer = opt}))
    assert.matches("no argument 'low'", message_of(optim.range_test, function() end, {optimizer = opt, low = 1}))
    assert.matches("must be more than min", message_of(optim.range_test, function() end, {optimizer = opt, max = 1e-9}))
  end)
end)
