-- Averages of weights: EMA, SWA, batch norm measured anew; and optimizers that a task switches between training and use.

local ai = require "aijit"
local checkpoint = require "aijit.task.checkpoint"
local process = require "support.process"
local system = require "aijit.bindings.system"
local nn, optim, data = ai.nn, ai.optim, ai.data

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function set(p, value) ai.no_grad(function() p:fill_(value) end) end

describe("EMA", function()
  it("follows a = decay a + (1 - decay) p, through parameters and floating buffers", function()
    local model = nn.BatchNorm1d(2)
    local ema = optim.EMA(model:double(), 0.9)
    local w, m = 1, 0
    for t = 1, 5 do
      set(model.weight, t)
      set(model.running_mean, 10 * t)
      model.num_batches_tracked:fill_(t)
      ema:update()
      w, m = 0.9 * w + 0.1 * t, 0.9 * m + t
    end
    local weights = ema:weights()
    assert.is_near(w, weights.weight:totable()[1], 1e-12)
    assert.is_near(m, weights.running_mean:totable()[2], 1e-12)
    assert.are.equal(5, weights.num_batches_tracked:item())
  end)

  it("forgets its beginning with warmup", function()
    local p = nn.Parameter(ai.zeros(1, {dtype = "f64"}))
    local ema, a = optim.EMA({p}, 0.999, {warmup = true}), 0
    for t = 0, 20 do
      set(p, t)
      ema:update()
      local d = math.min(0.999, (1 + t) / (10 + t))
      a = d * a + (1 - d) * t
    end
    assert.is_near(a, ema:weights()["1"]:item(), 1e-12)
  end)

  it("is shown and taken back to the last bit, also after an error", function()
    local model = nn.Linear(3, 2)
    local ema = optim.EMA(model, 0.5)
    set(model.weight, 0.3)
    ema:update()
    local own = model.weight:detach():totable()
    assert.are.equal("seen", ema:average(function(word)
      assert.are.same(ema:weights().weight:totable(), model.weight:detach():totable())
      return word
    end, "seen"))
    assert.are.same(own, model.weight:detach():totable())
    assert.matches("oops", message_of(ema.average, ema, function() error "oops" end))
    assert.are.same(own, model.weight:detach():totable())
    ema:apply()
    assert.matches("applied already", message_of(ema.apply, ema))
    assert.matches("restore%(%) it before update", message_of(ema.update, ema))
    ema:restore()
    assert.matches("apply%(%) comes first", message_of(ema.restore, ema))
    assert.is_true(model.weight.requires_grad)
  end)

  it("of bf16 weights adds up in f32", function()
    local p = nn.Parameter(ai.ones(4):bf16())
    local ema = optim.EMA({w = p}, 0.999)
    set(p, 2)
    for _ = 1, 100 do ema:update() end
    assert.are.equal("f32", ema:weights().w.dtype)
    assert.is_near(2 - 0.999 ^ 100, ema:weights().w:mean():item(), 1e-5)
    ema:apply()
    assert.are.equal("bf16", p.dtype)
    assert.is_near(2 - 0.999 ^ 100, p:detach():float():mean():item(), 0.01)
    ema:restore()
    assert.are.equal(2, p:detach():float():mean():item())
  end)

  it("goes on to the same bits from a saved state", function()
    local folder = process.folder()
    local a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    local first, second = optim.EMA(a, 0.7, {warmup = true}), optim.EMA(b, 0.7, {warmup = true})
    for t = 1, 3 do set(a.weight, t / 7) first:update() end
    local dict = first:state_dict()
    ai.save(dict.shadow, folder .. "/ema.safetensors")
    second:load_state_dict{t = dict.t, shadow = ai.load(folder .. "/ema.safetensors")}
    b:hard_update(a)
    for t = 4, 6 do
      for _, m in ipairs{a, b} do set(m.weight, t / 7) end
      first:update()
      second:update()
    end
    os.execute("rm -r " .. folder)
    assert.are.same(first:weights().weight:totable(), second:weights().weight:totable())
    assert.matches("no tensor 'bias'", message_of(second.load_state_dict, second, {t = 1, shadow = {weight = ai.zeros(2, 3)}}))
    assert.matches("weight is %(3%) in the state, %(2, 3%)", message_of(second.load_state_dict, second, {t = 1, shadow = {weight = ai.zeros(3)}}))
  end)

  it("refuses what is no model and no decay", function()
    assert.matches("decay is 2", message_of(optim.EMA, nn.Linear(2, 2), 2))
    assert.matches("got a number", message_of(optim.EMA, 3))
    assert.matches("no argument 'warm'", message_of(optim.EMA, nn.Linear(2, 2), 0.9, {warm = true}))
    assert.matches("sizes come from the first input", message_of(optim.EMA, nn.Linear(2)))
    assert.matches("no parameters", message_of(optim.EMA, {}))
  end)
end)

describe("SWA", function()
  it("is the plain mean of the weights; buffers are the last ones, until batch norm is measured anew", function()
    ai.manual_seed(1)
    local model = nn.Sequential{nn.Linear(2, 3), nn.BatchNorm1d(3)}
    local swa = optim.SWA(model)
    for t = 1, 4 do
      set(model[1].weight, t)
      set(model[2].running_mean, t)
      swa:update()
    end
    assert.is_near(2.5, swa:weights()["0.weight"]:mean():item(), 1e-6)
    assert.are.equal(4, swa:weights()["1.running_mean"]:mean():item())

    swa:apply()
    model:eval()
    local batches = {ai.randn(8, 2), ai.randn(8, 2) + 1}
    assert.are.equal(2, optim.update_batch_norm(model, batches))
    local wanted = (model[1](batches[1]):mean(1) + model[1](batches[2]):mean(1)) / 2
    assert.is_true((wanted - model[2].running_mean):abs():max():item() < 1e-5)
    assert.is_false(model[2].training)
    assert.are.equal(0.1, model[2].momentum)
    assert.are.equal(2, model[2].num_batches_tracked:item())
    assert.are.equal(0, optim.update_batch_norm(nn.Linear(2, 2), batches))
    swa:restore()
    assert.are.equal(4, model[2].running_mean:mean():item())
  end)
end)

-- -- A task --------------------------------------------------------------------------------------------------------------

local Points = ai.class("AveragePoints", data.Dataset)
function Points:size() return 24 end
function Points:get(i) return {math.sin(i), math.cos(3 * i)}, {math.sin(i) - 2 * math.cos(3 * i)} end

local function make_task(build)
  local Task = ai.class("AverageTask", ai.Task)
  function Task:__init(config)
    ai.Task.__init(self, config)
    self.model, self.seen = nn.Linear(2, 1), {}
  end
  function Task:set_loggers() end
  function Task:get_dataset() return Points() end
  function Task:build_optimizer() return build(self) end
  function Task:get_loss(batch, state)
    self.seen[#self.seen + 1] = {state.phase, self.optimizer and self.optimizer.evaluating or false}
    return ai.mse_loss(self.model(batch[1]), batch[2])
  end
  return Task
end

describe("a task with a schedule-free optimizer", function()
  local function build(task)
    task.optimizer = optim.ScheduleFreeAdamW(task, {lr = 0.1})
    return task.optimizer
  end
  local folder
  before_each(function() folder = process.folder() end)
  after_each(function() os.execute("rm -r " .. folder) end)

  it("trains with y, validates and saves with x, and ends with x", function()
    local task = make_task(build){batch_size = 8, max_epochs = 2, num_workers = 0}
    task:run(system.make_directories(folder .. "/run"))
    for _, one in ipairs(task.seen) do assert.are.equal(one[1] == "valid", one[2]) end
    assert.is_true(task.optimizer.evaluating)
    local kept = checkpoint.load(checkpoint.latest(folder .. "/run"))
    assert.are.same(task.model.weight:detach():totable(), kept.model["model.weight"]:totable())
    assert.are_not.same(kept.model["model.weight"]:totable(), kept.optimizer.state[1].y:totable())
  end)

  it("goes on to the same bits after it was stopped", function()
    local whole = make_task(build){batch_size = 8, max_steps = 12}
    ai.manual_seed(3)
    set(whole.model.weight, 0.5)
    set(whole.model.bias, 0)
    whole:run(system.make_directories(folder .. "/whole"))
    local half = make_task(build){batch_size = 8, max_steps = 5}
    set(half.model.weight, 0.5)
    set(half.model.bias, 0)
    half:run(system.make_directories(folder .. "/parts"))
    local rest = make_task(build){batch_size = 8, max_steps = 12}
    rest:run(system.make_directories(folder .. "/parts"))
    assert.are.equal(12, rest.state.num_steps)
    assert.are.same(whole.model.weight:detach():totable(), rest.model.weight:detach():totable())
    assert.are.same(whole.model.bias:detach():totable(), rest.model.bias:detach():totable())
  end)
end)

describe("a task", function()
  local folder
  before_each(function() folder = process.folder() end)
  after_each(function() os.execute("rm -r " .. folder) end)

  it("tells a plateau schedule the loss of each validation, and keeps its state in the checkpoint", function()
    local schedule
    local Task = make_task(function(task)
      local opt = optim.SGD(task, {lr = 1e-9})
      schedule = optim.PlateauLR(opt, {patience = 0, factor = 0.5, threshold = 0.5, eps = 0})
      return opt, schedule
    end)
    Task{batch_size = 24, max_epochs = 3}:run(system.make_directories(folder .. "/run"))
    assert.are.equal(0.25, schedule.scale[1])
    assert.is_true(schedule.best > 0)
    Task{batch_size = 24, max_epochs = 3}:run(system.make_directories(folder .. "/run"))
    assert.is_true(schedule.scale[1] <= 0.25)
  end)

  it("has every optimizer by its name in the config", function()
    for name, class_name in pairs{muon = "Muon", schedule_free = "ScheduleFreeAdamW", lion = "Lion", lamb = "LAMB", rmsprop = "RMSprop"} do
      local Task = make_task()
      Task.build_optimizer = ai.Task.build_optimizer
      local opt = Task{optim = {name = name, lr = 0.01, weight_decay = 0.5}}:build_optimizer()
      assert.are.equal(class_name, getmetatable(opt).__name)
      assert.are.equal(0.01, opt.param_groups[1].lr)
      assert.are.equal(0.5, opt.param_groups[1].weight_decay)
    end
  end)
end)
