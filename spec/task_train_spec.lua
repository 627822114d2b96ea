--- What a training does beyond plain steps: many batches a step, several optimizers, guards, averages, precision, callbacks.

local ai = require "aijit"
local files = require "support.files"
local task_module = require "aijit.task"
local GradScaler = task_module.GradScaler

local nn, data = ai.nn, ai.data

local message = require "spec.support.raises"

local folder
before_each(function() folder = files.folder() end)
after_each(function() files.remove(folder) end)

local Line = ai.class("Line", data.Dataset)
function Line:__init(n) self.n = n end
function Line:size() return self.n end
function Line:get(i) return {math.sin(i), math.cos(3 * i)}, {math.sin(i) - 2 * math.cos(3 * i)} end

local Keeper = ai.class("TrainKeeper", ai.log.Logger)
function Keeper:__init() self.lines, self.said, self.interval = {}, {}, 0 end
function Keeper:write(line) table.insert(self.lines, line) end
function Keeper:status(text) table.insert(self.said, text) end

local function make(build)
  local Task = ai.class("LineTask", ai.Task)
  function Task:__init(config)
    ai.Task.__init(self, config)
    self.model = nn.Linear(2, 1)
    self.keeper = Keeper()
    if build then build(self) end
  end
  function Task:set_loggers() self:add_logger(self.keeper) end
  function Task:get_dataset(phase) return Line(phase == "train" and 22 or 10) end
  function Task:build_optimizer() return ai.optim.SGD(self, {lr = 0.1}) end
  function Task:get_loss(batch) return ai.mse_loss(self.model(batch[1]), batch[2]) end
  return Task
end

local function launch(Task, values)
  values.run_dir = values.run_dir or folder
  values.batch_size = values.batch_size or 8
  return Task:launch(Task.Config(values), {})
end

local function weights(task) return {task.model.weight:detach():totable(), task.model.bias:detach():totable()} end

local function said(task) return table.concat(task.keeper.said, "\n") end

local function near(a, b, tolerance)
  for i = 1, 2 do assert.near(a[1][1][i], b[1][1][i], tolerance or 1e-6) end
  assert.near(a[2][1], b[2][1], tolerance or 1e-6)
end

local function lines(task, phase)
  local list = {}
  for _, line in ipairs(task.keeper.lines) do if line.phase == phase then list[#list + 1] = line end end
  return list
end

local function scalar(line, name)
  for _, pair in ipairs(line.scalars) do if pair[1] == name then return pair[2] end end
end

describe("a step of several batches", function()
  it("is the step of one large batch, also when its last batch is short", function()
    local one = launch(make(), {batch_size = 22, max_epochs = 3})
    local many = launch(make(), {batch_size = 8, batches_per_step = 3, max_epochs = 3})
    assert.equal(3, many.state.num_steps)
    assert.equal(66, many.state.num_samples)
    near(weights(one), weights(many))
    assert.near(scalar(lines(one, "train")[1], "loss"), scalar(lines(many, "train")[1], "loss"), 1e-6)
  end)

  it("takes fewer at the end of an epoch", function()
    assert.equal(4, launch(make(), {batch_size = 8, batches_per_step = 2, max_epochs = 2}).state.num_steps)
  end)

  it("is the same whether a batch is computed whole or in chunks", function()
    local whole, parts = launch(make(), {max_steps = 5}), launch(make(), {max_steps = 5, chunks_per_batch = 3})
    near(weights(whole), weights(parts))
  end)
end)

describe("limits", function()
  it("of samples and of validations by seconds hold", function()
    local task = launch(make(), {max_samples = 40, valid_every_n_seconds = 0})
    assert.equal(44, task.state.num_samples)
    assert.equal(6, #lines(task, "valid"))
  end)
end)

-- ---- several optimizers

describe("several optimizers", function()
  local function gan(losses)
    local Task = make(function(task) task.other = nn.Linear(2, 1) end)
    function Task:build_optimizer()
      return {a = ai.optim.SGD(self.model, {lr = 0.1}), b = {ai.optim.SGD(self.other, {lr = 0.2}), function() return 0.5 end}}
    end
    Task.get_loss = losses
    return Task
  end
  local function both(self, batch)
    local x, y = self.model(batch[1]), self.other(batch[1])
    return {a = ai.mse_loss(x, batch[2] + y), b = ai.mse_loss(y, x)}
  end

  it("train their own parameters with their own loss", function()
    local seen = {}
    local Task = gan(function(self, batch)
      local x, y = self.model(batch[1]), self.other(batch[1])
      local a, b = ai.mse_loss(x, batch[2] + y), ai.mse_loss(y, x)
      if not seen.grad and self.state.phase == "train" then
        seen.grad = ai.grad(a, {self.model.weight}, {retain_graph = true})[1]:totable()
        seen.before = self.model.weight:detach():totable()
        seen.other = ai.grad(b, {self.other.weight}, {retain_graph = true})[1]:totable()
        seen.other_before = self.other.weight:detach():totable()
      end
      return {a = a, b = b}
    end)
    local task = launch(Task, {max_steps = 1, clip_grad_norm = 0})
    for i = 1, 2 do
      assert.near(seen.before[1][i] - 0.1 * seen.grad[1][i], task.model.weight[{1, i}]:item(), 1e-6)
      assert.near(seen.other_before[1][i] - 0.1 * seen.other[1][i], task.other.weight[{1, i}]:item(), 1e-6)
    end
    local line = lines(task, "train")[1]
    assert.near(scalar(line, "loss"), scalar(line, "loss/a") + scalar(line, "loss/b"), 1e-5)
  end)

  it("resume", function()
    local whole = launch(gan(both), {max_steps = 7})
    launch(gan(both), {exp_dir = folder .. "/r", max_steps = 3})
    local rest = launch(gan(both), {exp_dir = folder .. "/r", max_steps = 7})
    assert.same(weights(whole), weights(rest))
    assert.same(whole.other.weight:detach():totable(), rest.other.weight:detach():totable())
  end)

  it("take losses that are functions in turn, each after the steps before it", function()
    local order = {}
    local Task = gan(function(self, batch)
      return {
        a = function()
          order[#order + 1] = self.other.weight[{1, 1}]:item()
          return ai.mse_loss(self.model(batch[1]), batch[2])
        end,
        b = function()
          order[#order + 1] = self.model.weight[{1, 1}]:item()
          return ai.mse_loss(self.other(batch[1]), self.model(batch[1]))
        end,
      }
    end)
    function Task:get_dataset(phase) return phase == "train" and Line(22) or nil end
    local task
    function Task:on_training_start() task, order.start = self, self.model.weight[{1, 1}]:item() end
    launch(Task, {max_steps = 1})
    assert.equal(2, #order)
    assert.are_not.equal(order.start, order[2])
    assert.equal(task.model.weight[{1, 1}]:item(), order[2])
  end)

  it("must not share a parameter, and each wants a loss", function()
    local Task = gan(both)
    function Task:build_optimizer() return {ai.optim.SGD(self.model, {lr = 0.1}), ai.optim.SGD(self.model, {lr = 0.1})} end
    assert.matches("optimizers 1 and 2 train one parameter both", message(launch, Task, {max_steps = 1}))
    local Short = gan(function(self, batch) return {a = ai.mse_loss(self.model(batch[1]), batch[2])} end)
    assert.matches("there is none for b", message(launch, Short, {max_steps = 1}))
  end)
end)

-- ---- guards

describe("a loss or gradient that is not finite", function()
  local function bad_at(step, what)
    local Task = make()
    function Task:get_loss(batch, state)
      local loss = ai.mse_loss(self.model(batch[1]), batch[2])
      if state.phase == "train" and state.num_steps + 1 == step then
        if what == "loss" then return {fine = loss, broken = loss * (0 / 0)} end
        return loss + (self.model.bias - self.model.bias:detach()):abs():sqrt():sum()      -- a gradient of 0 times infinity
      end
      return loss
    end
    return Task
  end

  it("ends the run with the name of the loss and the step", function()
    assert.matches("the loss/broken is %-?nan in train step 3 %(epoch 1, after 16 samples%)", message(launch, bad_at(3, "loss"), {max_steps = 5}))
  end)

  it("ends the run with the name of the parameter whose gradient it is", function()
    assert.matches("the gradient of 'model.bias' is not finite in train step 2 ", message(launch, bad_at(2, "gradient"), {max_steps = 5}))
  end)

  it("names the parameter that was not finite already", function()
    local Task = make()
    function Task:on_step_start(state)
      if state.num_steps == 1 then ai.no_grad(function() self.model.weight:fill_(0 / 0) end) end
    end
    assert.matches("train step 2 .-and the parameter 'model.weight' is not finite already", message(launch, Task, {max_steps = 5}))
  end)

  it("leaves the step out when it is to be skipped, and the others are as they would be", function()
    for _, what in ipairs {"loss", "gradient"} do
      local Task, before, after = bad_at(2, what), nil, nil
      function Task:on_step_start(state) if state.num_steps == 1 then before = weights(self) end end
      function Task:on_step_end(state) if state.num_steps == 2 then after = weights(self) end end
      local task = launch(Task, {max_steps = 4, nonfinite = "skip"})
      assert.same(before, after)
      assert.are_not.same(after, weights(task))
      assert.equal(4, task.state.num_steps)
      assert.matches("in train step 2 .*: the step is left out", said(task))
    end
  end)

  it("ends the run, by default, with the op and the place that it comes from, and the module that was running", function()
    local Task = make()
    local function run() launch(Task, {max_steps = 4}) end
    function Task:get_loss(batch, state)
      local y = self.model(batch[1])
      return ((y - batch[2]) * (state.num_steps == 2 and 0 or 1)):square():sum():sqrt()
    end
    local text = message(run)
    assert.matches("the gradient of 'model[^']*' is not finite in train step 3", text)
    assert.matches("it comes from .*backward of sqrt: the gradient of input 1 is f32 %(%), with 0 NaN and 1 infinite of 1", text)
    assert.matches("the forward call:\n\t[^\n]*task_train_spec.lua:%d+:", text)
    function Task:get_loss(batch) return ai.mse_loss(self.model(batch[1]) * (0 / 0), batch[2]) end
    assert.matches("the loss is %-?nan in train step 1 .*it comes from .*mul: the result is f32", message(run))
  end)

  it("is no accident ten times in a row", function()
    local Task = make()
    function Task:get_loss(batch) return ai.mse_loss(self.model(batch[1]), batch[2]) * (0 / 0) end
    function Task:get_dataset(phase) return phase == "train" and Line(22) or nil end
    assert.matches("train step 10 .*the last of 10 such steps in a row", message(launch, Task, {max_steps = 50, nonfinite = "skip"}))
  end)

  it("brings the weights back to a copy in memory, or to the last checkpoint", function()
    for _, every in ipairs {2, 0} do
      local Task, kept, after = bad_at(4, "loss"), nil, nil
      function Task:on_step_end(state)
        if state.num_steps == 2 then kept = weights(self) end
        if state.num_steps == 4 then after = weights(self) end
      end
      local values = {max_steps = 6, nonfinite = "rollback", exp_dir = folder .. "/" .. every}
      if every > 0 then values.snapshot_every_n_steps = every else values.save_every_n_steps = 2 end
      local task = launch(Task, values)
      assert.same(kept, after)
      assert.equal(6, task.state.num_steps)
      assert.matches("the weights are those of step 2 again", said(task))
    end
  end)
end)

-- ---- averages, precision, stopping

describe("an average of the weights", function()
  it("is validated and saved, and the training goes on with its own", function()
    local plain = launch(make(), {max_steps = 6})
    local task = launch(make(), {max_steps = 6, ema = 0.9, exp_dir = folder .. "/ema"})
    assert.same(weights(plain), weights(task))
    assert.are_not.equal(plain.state.valid.loss, task.state.valid.loss)
    local kept = task_module.checkpoint.load(task_module.checkpoint.latest(folder .. "/ema"))
    assert.are_not.same(kept.model["model.weight"]:totable(), kept.ema["model.weight"]:totable())
    local again = make():from_checkpoint(task_module.checkpoint.latest(folder .. "/ema"))
    assert.same(kept.ema["model.weight"]:totable(), again.model.weight:detach():totable())
    assert.near(task.state.valid.loss, again:evaluate("valid").loss, 1e-6)
  end)
end)

describe("the loss scale", function()
  it("halves after gradients that are not finite, and doubles after enough that are", function()
    local scaler = GradScaler {init_scale = 1024, growth_interval = 2}
    scaler:update(true)
    assert.equal(512, scaler:get_scale())
    scaler:update(false)
    assert.equal(512, scaler:get_scale())
    scaler:update(false)
    assert.equal(1024, scaler:get_scale())
    scaler:update(false)
    scaler:update(true)
    scaler:update(false)
    assert.equal(512, scaler:get_scale())
    local other = GradScaler()
    other:load_state_dict(scaler:state_dict())
    other.growth_interval = 2
    other:update(false)
    assert.equal(1024, other:get_scale())
  end)

  it("is gone from the gradients before they are used", function()
    local w = ai.tensor({2, 3}, {requires_grad = true})
    local scaler = GradScaler {init_scale = 8}
    scaler:scale((w * w):sum()):backward()
    assert.same({32, 48}, w.grad:totable())
    scaler:unscale_({w})
    assert.same({4, 6}, w.grad:totable())
  end)

  it("goes up and down as PyTorch's does", function()
    local python = files.python "torch"
    if not python then return pending "there is no Python with torch" end
    local found = {}
    for i = 1, 60 do found[i] = (i * 7919) % 11 < 2 and 1 or 0 end
    local output = files.run(([[%s -c '
import torch
scale, tracker = torch.tensor([1024.0]), torch.tensor([0], dtype=torch.int32)
for f in [%s]:
    try:
        torch._amp_update_scale_(scale, tracker, torch.tensor([float(f)]), 2.0, 0.5, 4)
    except NotImplementedError:      # some versions have it for GPUs only
        print("absent")
        break
    print(scale.item())
']]):format(python, table.concat(found, ",")))
    if output:match "^absent" then return pending "this PyTorch scales losses on a GPU only" end
    local scaler, i = GradScaler {init_scale = 1024, growth_interval = 4}, 0
    for text in output:gmatch "%S+" do
      i = i + 1
      scaler:update(found[i] == 1)
      assert.equal(tonumber(text), scaler:get_scale())
    end
    assert.equal(60, i)
  end)

  it("does nothing when it is not enabled, and refuses options it has not", function()
    assert.equal(1, GradScaler {enabled = false}:get_scale())
    assert.matches("there is no option 'scale'", message(GradScaler, {scale = 3}))
  end)
end)

describe("a training in a low precision", function()
  it("leaves out steps whose scaled gradients are not finite, until the scale is small enough, and keeps it in checkpoints", function()
    local Task, seen = make(), {}
    function Task:get_loss(batch, state)
      local loss = ai.mse_loss(self.model(batch[1]), batch[2])
      return state.phase == "train" and loss * 100 or loss       -- overflows in f16
    end
    function Task:on_step_end(state) seen[state.num_steps] = weights(self) end
    local values = {max_steps = 12, precision = "f16", exp_dir = folder .. "/f", grad_scaler = {growth_interval = 1000}}
    local task = launch(Task, values)
    local scales = {}
    for i, line in ipairs(lines(task, "train")) do scales[i] = scalar(line, "loss_scale") end
    assert.equal(32768, scales[1])
    assert.equal(scales[11], scales[12])
    assert.is_true(scales[12] < 16384)
    assert.same(seen[1], seen[2])
    assert.are_not.same(seen[11], seen[12])
    values.max_steps = 13
    assert.equal(scales[12], scalar(lines(launch(Task, values), "train")[1], "loss_scale"))
  end)

  it("computes products in the low precision and comes near the training in f32, for either", function()
    local plain = launch(make(), {max_steps = 6})
    for precision, tolerance in pairs {f16 = 5e-3, bf16 = 4e-2} do
      local Task, dtype = make(), nil
      function Task:get_loss(batch)
        local y = self.model(batch[1])
        dtype = y.dtype
        return ai.mse_loss(y, batch[2])
      end
      local task = launch(Task, {max_steps = 6, precision = precision, grad_scaler = {init_scale = 128}})
      assert.equal(precision, dtype)
      assert.equal("f32", task.model.weight.dtype)
      assert.are_not.same(weights(plain), weights(task))
      near(weights(plain), weights(task), tolerance)
    end
  end)

  it("ends when no scale helps", function()
    local Task = make()
    function Task:get_loss(batch) return ai.mse_loss(self.model(batch[1]), batch[2]) * (0 / 0) end
    function Task:get_dataset(phase) return phase == "train" and Line(22) or nil end
    assert.matches("the loss is .- in train step %d+ .*, however small the loss is scaled", message(launch, Task, {max_steps = 500, precision = "f16"}))
  end)
end)

describe("early stopping", function()
  local function worse_after(step)
    local Task = make()
    function Task:get_loss(batch, state)
      local loss = ai.mse_loss(self.model(batch[1]), batch[2])
      if state.phase == "valid" then return loss * 0 + math.abs(state.num_steps - step) end
      return loss
    end
    return Task
  end
  local values = {max_steps = 50, valid_every_n_steps = 1, early_stopping = {patience = 3}}

  it("ends the training after so many validations that are no better", function()
    local task = launch(worse_after(5), {max_steps = 50, valid_every_n_steps = 1, early_stopping = {patience = 3}})
    assert.equal(8, task.state.num_steps)
    assert.matches("stopped: loss has not become better than 0, of step 5, in 3 validations", said(task))
  end)

  it("remembers over a resume", function()
    local exp_dir = folder .. "/early"
    launch(worse_after(5), {max_steps = 7, valid_every_n_steps = 1, early_stopping = {patience = 3}, exp_dir = exp_dir})
    assert.equal(8, launch(worse_after(5), {max_steps = 50, valid_every_n_steps = 1, early_stopping = {patience = 3}, exp_dir = exp_dir}).state.num_steps)
    -- What it has ended stays ended, until it is given more patience.
    assert.equal(8, launch(worse_after(5), {max_steps = 50, valid_every_n_steps = 1, early_stopping = {patience = 3}, exp_dir = exp_dir}).state.num_steps)
    assert.equal(9, launch(worse_after(5), {max_steps = 50, valid_every_n_steps = 1, early_stopping = {patience = 4}, exp_dir = exp_dir}).state.num_steps)
  end)

  it("names the values there are when its own is not", function()
    values.early_stopping.metric = "accuracy"
    assert.matches("the validation has no value 'accuracy'; it has loss", message(launch, worse_after(5), values))
  end)
end)

describe("a task that runs twice", function()
  it("goes on in its folder, with its logs open once", function()
    local Task = make()
    local exp_dir = folder .. "/twice"
    function Task:set_loggers() self:add_logger(ai.log.Jsonl(self.exp_dir, {interval = 0})) end
    function Task:on_step_end(state) if state.num_steps == 2 then self:stop("enough for today") end end
    local task = Task {max_steps = 4, batch_size = 8, exp_dir = exp_dir}
    task:run()
    assert.equal(2, task.state.num_steps)
    task:run()
    local count = 0
    for line in io.lines(exp_dir .. "/log.jsonl") do if line:find '"phase":"train"' then count = count + 1 end end
    assert.equal(4, count)
  end)
end)

describe("a profile", function()
  it("says where the time of the steps went, and writes a trace", function()
    local task = launch(make(), {max_steps = 20, profile = true, exp_dir = folder .. "/p", save_every_n_steps = 10})
    local text = said(task)
    assert.matches("where the time of 15 steps went %(.* ms a step%):\n  data ", text)
    local sum = 0
    for share in text:match("^(.-)\nits ops"):gmatch("([%d%.]+) %%") do sum = sum + share end
    assert.near(100, sum, 0.5)
    local trace = ai.json.decode(files.get(folder .. "/p/profile.json"))
    local seen, last = {}, 0
    for _, event in ipairs(trace.traceEvents) do
      seen[event.name] = true
      if event.cat == "range" then
        assert.equal("X", event.ph)
        assert.is_true(event.ts >= last - 1e-3 and event.dur >= 0)
        last = event.ts + event.dur
      end
    end
    for _, name in ipairs {"data", "forward", "backward", "optimizer", "validation", "checkpoint", "linear", "linear backward", "sgd"} do
      assert.is_true(seen[name], name)
    end
    assert.matches("\n  linear +forward +[%d.]+ +[%d.]+ %% +[%d.]+ +%d+ ", text)
  end)
end)

describe("a loss for each sample", function()
  it("counts by its mean, also in parts", function()
    local function train(loss, values)
      local Task = make()
      Task.get_loss = loss
      values.max_steps = 4
      return weights(launch(Task, values))
    end
    local function mean(self, batch) return ai.mse_loss(self.model(batch[1]), batch[2]) end
    local function each(self, batch) return (self.model(batch[1]) - batch[2]):square():squeeze(2) end
    near(train(mean, {}), train(each, {}))
    near(train(mean, {}), train(each, {chunks_per_batch = 3}))
  end)
end)

describe("callbacks", function()
  it("are called at their places, and kept in checkpoints", function()
    local Count = ai.class("Count", task_module.Callback)
    function Count:__init() self.calls = {} end
    for _, name in ipairs {"on_training_start", "on_epoch_start", "on_epoch_end", "on_step_start", "on_step_end", "on_validation_start", "on_validation_end",
      "on_save_checkpoint", "on_training_end"} do
      Count[name] = function(self) self.calls[name] = (self.calls[name] or 0) + 1 end
    end
    function Count:state_dict() return self.calls end
    function Count:load_state_dict(dict) self.calls = dict end
    local count
    local Task = make(function(task)
      count = Count()
      task:add_callback(count)
    end)
    launch(Task, {max_steps = 3, exp_dir = folder .. "/c"})
    assert.same({on_training_start = 1, on_epoch_start = 1, on_epoch_end = 1, on_step_start = 3, on_step_end = 3, on_validation_start = 1,
      on_validation_end = 1, on_training_end = 1, on_save_checkpoint = 1}, count.calls)
    launch(Task, {max_steps = 5, exp_dir = folder .. "/c"})
    assert.equal(5, count.calls.on_step_end)
    assert.matches("argument 1 is a number, not a callback", message(Task().add_callback, Task(), 3))
  end)
end)

describe("evaluation", function()
  it("measures a phase with the weights of a checkpoint, and trains nothing", function()
    local Task = make()
    local exp_dir = folder .. "/e"
    local task = launch(Task, {max_steps = 5, exp_dir = exp_dir})
    local fresh = Task(Task.Config {exp_dir = exp_dir})
    local results = fresh:evaluate("test", "latest")
    assert.near(task.state.valid.loss, results.loss, 1e-6)
    assert.same(weights(task), weights(fresh))
    assert.matches('"phase":"test"', files.get(exp_dir .. "/evaluations.jsonl"))
    assert.matches("the phase is 'valid', 'test' or 'train', not 'later'", message(fresh.evaluate, fresh, "later"))
  end)

  it("is a word of the command line", function()
    local Task = make()
    local exp_dir = folder .. "/w"
    launch(Task, {max_steps = 5, exp_dir = exp_dir})
    local task = Task:launch({}, {"--evaluate", "test", "exp_dir=" .. exp_dir})
    assert.equal(5, task.state.num_steps)
    assert.matches("%-%-checkpoint belongs to %-%-evaluate", message(Task.launch, Task, {}, {"--checkpoint", "best"}))
    assert.matches("no checkpoint in '.*/none' that verifies", message(Task.launch, Task, {}, {"--evaluate=test", "exp_dir=" .. folder .. "/none"}))
  end)
end)

describe("the best checkpoint", function()
  it("is kept when it is not among the newest, and found again", function()
    local Task = make()
    function Task:get_loss(batch, state)
      local loss = ai.mse_loss(self.model(batch[1]), batch[2])
      if state.phase ~= "train" then return loss * 0 + math.abs(state.num_steps - 3) end
      return loss
    end
    local exp_dir = folder .. "/best"
    launch(Task, {max_steps = 9, valid_every_n_steps = 1, keep_last = 1, keep_best = 2, exp_dir = exp_dir})
    local kept = {}
    for i, one in ipairs(task_module.checkpoint.list(exp_dir)) do kept[i] = one.step end
    assert.same({9, 3, 2}, kept)
    local fresh = Task {exp_dir = exp_dir}
    fresh:evaluate("valid", "best")
    assert.equal(3, fresh.state.num_steps)
  end)
end)

describe("a loader of one's own", function()
  it("need not know how many batches it has", function()
    local Task = make()
    function Task:get_loader(phase)
      if phase ~= "train" then return nil end
      local at = 0
      return {
        seek = function(_, _, batch) at = batch - 1 end,
        next_batch = function()
          at = at + 1
          if at == 4 then
            at = 0
            return nil
          end
          return {ai.full({5, 2}, at), ai.full({5, 1}, 1)}
        end,
      }
    end
    local whole = launch(Task, {max_epochs = 3})
    assert.same({9, 45, 3}, {whole.state.num_steps, whole.state.num_samples, whole.state.num_epochs})
    launch(Task, {max_steps = 5, exp_dir = folder .. "/own"})
    assert.same(weights(whole), weights(launch(Task, {max_epochs = 3, exp_dir = folder .. "/own"})))
  end)
end)

describe("a script", function()
  it("has a config, a folder and loggers, and no training", function()
    local Script = ai.class("SumScript", ai.Script)
    Script.Config = ai.Script.Config.extend("SumConfig", {n = 3})
    local keeper = Keeper()
    function Script:set_loggers() self:add_logger(keeper) end
    function Script:main()
      for i = 1, self.config.n do self:log_line(i, function() self:log_scalar("i", i) end, {total = self.config.n}) end
    end
    local script = Script:launch({run_dir = folder}, {"n=4"})
    assert.equal(folder .. "/sum_script/run_1", script.exp_dir)
    assert.equal(4, #keeper.lines)
    assert.equal(1, keeper.lines[4].progress)
    local Empty = ai.class("EmptyScript", ai.Script)
    assert.matches("EmptyScript has no method 'main'", message(Empty.launch, Empty, {run_dir = folder}, {}))
  end)
end)
