--- The training loop: when steps, validations and checkpoints come, and the ways in which it ends.

local ai = require "aijit"
local checkpoint = require "aijit.task.checkpoint"
local GradScaler = require "aijit.task.scaler"
local Guard = require "aijit.task.guard"
local Optimizers = require "aijit.task.optimizers"
local pass = require "aijit.task.pass"
local Profile = require "aijit.task.profile"
local resume = require "aijit.task.resume"
local signals = require "aijit.task.signals"
local snapshot = require "aijit.task.snapshot"
local State = require "aijit.task.state"
local step = require "aijit.task.step"
local system = require "aijit.bindings.system"

local loop = {}

local function steps_per_epoch(run)
  local size = run.loader.size and run.loader:size()
  return size and math.ceil(size / run.batches_per_step)
end

-- What a line says of itself.
local function about(run, phase)
  local state = run.state
  local progress, total = state:progress(run.limits, steps_per_epoch(run))
  -- What is measured between two epochs belongs to the one that is over.
  local between = phase ~= "train" and state.batch == 0 and state.num_epochs > 0
  local epoch = state.num_epochs + (between and 0 or 1)
  return {
    step = state.num_steps, samples = state.num_samples, epoch = epoch, phase = phase,
    elapsed = state.elapsed, progress = progress, total = total,
  }
end

-- ---- before the first step

--- Shows the model one batch when it has layers that wait for their sizes, so that an optimizer finds all parameters.
---@param task aijit.Task
---@param run table
function loop.infer_sizes(task, run)
  local waiting = false
  for _, module in ipairs(task:modules()) do waiting = waiting or rawget(module, "_unbuilt") ~= nil end
  if not waiting then return end
  task:eval()
  ai.scope(function()
    ai.no_grad(function()
      local batch = step.next_batch(run)
      if batch then step.total(task, step.get_loss(task, run, {fields = batch, samples = run.state.batch_size})) end
    end)
  end)
  task:train()
end

--- What every phase needs: device, precision, guard.
---@param task aijit.Task
---@return table run
function loop.begin(task)
  local config = task.config
  local run = {
    state = task.state, limits = State.limits(config), device = config.device, precision = config.precision,
    batches_per_step = config.batches_per_step, chunks_per_batch = config.chunks_per_batch,
    clip = config.clip_grad_norm, clip_value = config.clip_grad_value, guard = Guard(config.nonfinite),
  }
  if run.device ~= "cpu" then task:to(run.device) end
  return run
end

--- Gets ready what the loop needs.
---@param task aijit.Task
---@return table run
function loop.prepare(task)
  local config, run = task.config, loop.begin(task)
  run.loader = task:get_loader("train")
  run.valid_loader = task:get_loader("valid")
  task._steps_per_epoch = steps_per_epoch(run)
  loop.infer_sizes(task, run)
  run.optimizers = Optimizers(task.__name, task:build_optimizer())
  run.optimizer = run.optimizers.entries[1].optimizer
  if config.ema > 0 then run.ema = ai.optim.EMA(task, config.ema, {warmup = true}) end
  if run.precision == "f16" then run.scaler = GradScaler(config.grad_scaler:to_table()) end
  return run
end

loop.next_batch = step.next_batch

--- The loss of a batch, as a tensor of one element.
---@param task aijit.Task
---@param run table
---@param batch any[]
---@return aijit.Tensor
function loop.loss(task, run, batch)
  return (step.total(task, step.get_loss(task, run, {fields = batch, samples = run.state.batch_size})))
end

-- ---- during it

local function each_callback(task, name, ...)
  for _, callback in ipairs(task.callbacks) do callback[name](callback, task, ...) end
end

--- Saves a checkpoint of a run: the weights as they are to be used, and in the optimizer's state those that it trains.
---@param task aijit.Task
---@param run table
---@return string path
function loop.save(task, run)
  step.enter(run, "checkpoint")
  run.optimizers:show("eval")
  local kept = snapshot.take(task, run)
  kept.state.logs = ai.json.array(task.board:position())
  local path = run.store:save(kept)
  if not run.over then run.optimizers:show("train") end
  run.saved_at, run.saved_step, run.saved_path = system.monotonic(), run.state.num_steps, path
  if run.copy_every then run.copy = snapshot.copy(task, run) end
  each_callback(task, "on_save_checkpoint", path)
  task:on_save_checkpoint(path)
  return path
end

-- A validation, and what follows from it. One that a signal ends is due again when the run is resumed.
local function validate(task, run)
  local state = run.state
  each_callback(task, "on_validation_start", state)
  task:on_validation_start(state)
  state.valid_due = true
  step.enter(run, "validation")
  local profile = run.profile
  run.profile = nil                      -- its own forward passes are part of it
  local results = pass.run(task, run, "valid", run.valid_loader, about(run, "valid"))
  run.profile = profile
  if not results then return end
  state.valid, state.validated_step, state.valid_due = results, state.num_steps, false
  run.validated_at = system.monotonic()
  run.optimizers:observe(results.loss)
  each_callback(task, "on_validation_end", state)
  task:on_validation_end(state)
  if run.store:is_good(results[run.store.metric]) then loop.save(task, run) end
end

local function roll_back(task, run)
  local kept = run.copy
  if not kept then
    local path = checkpoint.latest(task.exp_dir)
    if not path then error(("%s: there is no checkpoint to go back to"):format(task.__name), 0) end
    kept = checkpoint.read(path)
  end
  snapshot.restore_weights(task, run, kept)
  task.board:status(("the weights are those of step %d again"):format(kept.state.num_steps))
end

-- What was set to another value than the default and is read by nobody. The task knows its own fields; those of `optim` are
-- for a task that builds no optimizer.
local function note_unread(task)
  local own, values, names = require "aijit.config.fields", {}, {}
  task.config:each(function(path, field, value) values[path] = value ~= field.default end)
  for _, path in ipairs(task.config:unread()) do
    local first = path:match("^[^.]+")
    if values[path] and (own[first] == nil or first == "optim") then names[#names + 1] = path end
  end
  if #names == 0 then return end
  task.board:status(("note: %s %s, but nothing has read %s so far"):format(table.concat(names, ", "),
    #names > 1 and "were set" or "was set", #names > 1 and "them" or "it"))
end

local function check_data(task, run)
  if run.loader.size and run.loader:size() == 0 then
    error(("%s: the training data give no batch: %d samples, batch_size %d"):format(task.__name, run.loader.dataset:size(),
      run.loader.batch_size), 0)
  end
end

-- A step with what surrounds it. Returns whether there was one, and whether the epoch is over.
local function one_step(task, run)
  local state = run.state
  step.enter(run, "other")
  snapshot.sow(task.config.seed, state.num_steps)
  if state.batch == 0 then
    each_callback(task, "on_epoch_start", state)
    task:on_epoch_start(state)
  end
  each_callback(task, "on_step_start", state)
  task:on_step_start(state)
  local stepped, over, loss, refused
  ai.scope(function()
    stepped, over, loss, refused = step.run(task, run, about(run, "train"))
    if not stepped then return end
    state.elapsed = system.monotonic() - run.started
    task.board:update {step = state.num_steps, samples = state.num_samples, elapsed = state.elapsed}
    task.board:finish()
  end)
  if over then state.num_epochs, state.batch = state.num_epochs + 1, 0 end
  if refused == "rollback" then roll_back(task, run) end
  if stepped then
    each_callback(task, "on_step_end", state, loss)
    task:on_step_end(state, loss)
  end
  if over then
    each_callback(task, "on_epoch_end", state)
    task:on_epoch_end(state)
  end
  return stepped, over
end

-- The profile of the first steps: said, and written to profile.json.
local function tell_profile(task, run)
  local path = task.exp_dir .. "/profile.json"
  if run.profile:finish() then
    run.profile:write(path)
    task.board:status(("%s\n  the trace is in %s"):format(run.profile:table(), path))
  end
  run.profile = nil
end

local function start(task, run)
  local state, config = run.state, task.config
  run.store = checkpoint.Store(task.exp_dir, {
    keep_last = config.keep_last, keep_best = config.keep_best, metric = config.best_metric, mode = config.best_mode,
  })
  run.store:clean()
  run.saved_path = resume.run(task, run)
  run.resumed = run.saved_path ~= nil
  if run.resumed then run.saved_step = state.num_steps else run.loader:seek(1, 1) end
  run.started = system.monotonic() - state.elapsed
  run.saved_at, run.validated_at = system.monotonic(), system.monotonic()
  task:train()
  run.optimizers:show("train")
  if config.nonfinite == "rollback" then
    run.copy_every = config.snapshot_every_n_steps
    if run.copy_every then run.copy = snapshot.copy(task, run)
    elseif not run.resumed then loop.save(task, run) end
  end
end

--- Trains until a limit is reached, the task is stopped, or a signal comes.
---@param task aijit.Task
---@param run table from `loop.prepare`
---@return {name: string, number: integer}? signal that ended it
function loop.train(task, run)
  local state, config = run.state, task.config
  start(task, run)
  each_callback(task, "on_training_start", state)
  task:on_training_start(state)
  if run.valid_loader and (state.valid_due or config.valid_on_first_step and state.num_steps == 0 and not run.resumed) then
    validate(task, run)
  end
  if config.profile then run.profile = Profile() end
  local noted = false
  while not task.stopped and not state:is_done(run.limits) and not signals.requested() do
    check_data(task, run)
    local stepped, over = one_step(task, run)
    if stepped and not noted then
      noted = true
      note_unread(task)
    end
    local due = over and not config.valid_every_n_steps and not config.valid_every_n_seconds
    if config.valid_every_n_steps and stepped then due = due or state.num_steps % config.valid_every_n_steps == 0 end
    if config.valid_every_n_seconds then
      due = due or system.monotonic() - run.validated_at >= config.valid_every_n_seconds
    end
    local done = task.stopped or state:is_done(run.limits)
    if run.valid_loader and (due or done) and state.validated_step ~= state.num_steps then
      state.valid_due = true
      if not signals.requested() then validate(task, run) end
    end
    if stepped and run.copy_every and state.num_steps % run.copy_every == 0 then run.copy = snapshot.copy(task, run) end
    local save = config.save_every_n_steps and state.num_steps % config.save_every_n_steps == 0
    save = save or config.save_every_n_seconds > 0 and system.monotonic() - run.saved_at >= config.save_every_n_seconds
    if save and not done and run.saved_step ~= state.num_steps then loop.save(task, run) end
    if run.profile then
      step.enter(run, "other")
      if run.profile:end_step() then tell_profile(task, run) end
    end
  end
  if run.profile then tell_profile(task, run) end
  run.over = true
  run.optimizers:show("eval")
  if task.stopped then task.board:status("stopped: " .. task.stopped) end
  return signals.requested()
end

return loop
