--- The training loop: steps, validation, checkpoints, and the ways in which it ends.

local ai = require "aijit"
local checkpoint = require "aijit.task.checkpoint"
local State = require "aijit.task.state"
local system = require "aijit.bindings.system"

local loop = {}

--- A tensor, or tables of them, on another device.
local function to_device(value, device)
  if type(value) == "cdata" then return value:to(device) end
  if type(value) ~= "table" then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = to_device(inner, device) end
  return result
end

--- The number of samples in a batch: the first dimension of the first tensor in it.
local function count_samples(batch)
  for _, field in ipairs(batch) do
    if type(field) == "cdata" then return field:size(1) end
    if type(field) == "table" then
      local _, inner = next(field)
      if type(inner) == "cdata" then return inner:size(1) end
      return #field
    end
  end
  return 1
end

--- One tensor from what get_loss gave: a table's losses are summed, and logged by their names.
local function total_loss(task, loss)
  if type(loss) == "cdata" then return loss end
  if type(loss) ~= "table" or next(loss) == nil then
    error(("%s:get_loss gave %s: it must give the loss, a tensor of one element, or a table of such")
      :format(task.__name, loss == nil and "nothing" or "a " .. type(loss)), 0)
  end
  local names, sum = {}, nil
  for name in pairs(loss) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    task:log_scalar("loss/" .. tostring(name), loss[name])
    sum = sum and sum + loss[name] or loss[name]
  end
  return sum
end

local function check_finite(task, value, state)
  if value - value == 0 then return end
  error(("%s: the loss is %s in %s step %d (epoch %d, after %d samples): try a lower learning rate or look at the data; "
    .. "the last checkpoint is from before"):format(task.__name, tostring(value), state.phase, state.num_steps + 1,
    state.num_epochs + 1, state.num_samples), 0)
end

local function about(run)
  local state = run.state
  local progress, total = state:progress(run.limits, run.loader:size())
  -- What is measured between two epochs belongs to the one that is over.
  local between = state.phase == "valid" and state.batch == 0 and state.num_epochs > 0
  local epoch = state.num_epochs + (between and 0 or 1)
  return {
    step = state.num_steps, samples = state.num_samples, epoch = epoch, phase = state.phase,
    elapsed = state.elapsed, progress = progress, total = total,
  }
end

--- Some optimizers train other weights than those to be used (optimizer:train() and :eval()).
local function show(optimizer, mode)
  if type(optimizer[mode]) == "function" then optimizer[mode](optimizer) end
end

--- The whole validation set, once. Values that the task logs are averaged over its samples.
---@param task aijit.Task
---@param run table
---@return table<string, number> results
function loop.validate(task, run)
  local state, board = run.state, task.board
  task:eval()
  show(run.optimizer, "eval")
  state.phase = "valid"
  board:begin(about(run), {force = true, collect = true})
  local function measure()
    local batch = run.valid_loader:next_batch()
    if not batch then return false end
    if run.device ~= "cpu" then batch = to_device(batch, run.device) end
    state.batch_size = count_samples(batch)
    local value = total_loss(task, task:get_loss(batch, state)):item()
    check_finite(task, value, state)
    task:log_scalar("loss", value)
    return true
  end
  local function in_scope() return ai.scope(measure) end
  run.valid_loader:seek(1)
  ai.no_grad(function()
    while in_scope() do end
  end)
  local line = board:finish()
  state.valid = {}
  for _, pair in ipairs(line.scalars) do state.valid[pair[1]] = pair[2] end
  state.phase = "train"
  task:train()
  show(run.optimizer, "train")
  if run.schedule and run.schedule.observe and state.valid.loss then run.schedule:observe(state.valid.loss) end
  return state.valid
end

--- The next training batch, on the task's device; nil when the epoch is over.
---@param run table from `loop.prepare`
---@return any[]? batch
function loop.next_batch(run)
  local batch = run.loader:next_batch()
  if not batch then return nil end
  if run.device ~= "cpu" then batch = to_device(batch, run.device) end
  run.state.batch_size = count_samples(batch)
  return batch
end

--- The loss of a batch, as a tensor of one element.
---@param task aijit.Task
---@param run table
---@param batch any[]
---@return aijit.Tensor
function loop.loss(task, run, batch) return total_loss(task, task:get_loss(batch, run.state)) end

--- One optimizer step on the next batch; false when the epoch is over.
local function train_step(task, run)
  local state, board = run.state, task.board
  local batch = loop.next_batch(run)
  if not batch then return false end
  board:begin(about(run))
  run.optimizer:zero_grad()
  local loss = loop.loss(task, run, batch)
  local value = loss:item()
  check_finite(task, value, state)
  loss:backward()
  if run.clip > 0 then
    local norm = task:clip_grad_norm(run.clip)
    if norm ~= nil then task:log_scalar("grad_norm", norm) end
  end
  if run.factor then
    for i, group in ipairs(run.optimizer.param_groups) do group.lr = run.rates[i] * run.factor(state) end
  end
  local rate = run.optimizer.param_groups[1].lr
  run.optimizer:step()
  if run.schedule then run.schedule:step() end
  state.num_steps = state.num_steps + 1
  state.num_samples = state.num_samples + state.batch_size
  state.batch = state.batch + 1
  state.elapsed = system.monotonic() - run.started
  task:log_scalar("loss", value)
  task:log_scalar("lr", rate)
  board:update {step = state.num_steps, samples = state.num_samples, elapsed = state.elapsed}
  board:finish()
  return true
end

--- Saves a checkpoint of a run: the weights as they are to be used, and in the optimizer's state those that it trains.
---@return string path
function loop.save(task, run)
  local state = run.state:to_table()
  state.seed = task.config.seed
  if run.schedule and run.schedule.state_dict then state.schedule = run.schedule:state_dict() end
  run.saved_at, run.saved_step = system.monotonic(), run.state.num_steps
  show(run.optimizer, "eval")
  local path = checkpoint.save(task.exp_dir, {
    model = task:state_dict(), optimizer = run.optimizer.state_dict and run.optimizer:state_dict(), state = state,
  })
  if not run.over then show(run.optimizer, "train") end
  return path
end

local function resume(task, run)
  local path = checkpoint.latest(task.exp_dir)
  if not path then return end
  local kept = checkpoint.load(path)
  task:load_state_dict(kept.model)
  if kept.optimizer and run.optimizer.load_state_dict then run.optimizer:load_state_dict(kept.optimizer) end
  run.state:load(kept.state)
  if run.schedule and run.schedule.load_state_dict then
    run.schedule:load_state_dict(kept.state.schedule or {t = run.state.num_steps})
  end
  task.board:status(("resumed at step %d from %s"):format(run.state.num_steps, path))
end

--- Shows the model one batch when it has layers that wait for their sizes, so that an optimizer finds all parameters.
local function infer_sizes(task, run)
  local waiting = false
  for _, module in ipairs(task:modules()) do waiting = waiting or rawget(module, "_unbuilt") ~= nil end
  if not waiting then return end
  task:eval()
  ai.scope(function()
    ai.no_grad(function()
      local batch = run.loader:next_batch()
      if run.device ~= "cpu" then batch = to_device(batch, run.device) end
      task:get_loss(batch, run.state)
    end)
  end)
  task:train()
end

--- Gets ready what the loop needs.
---@param task aijit.Task
---@return table run
function loop.prepare(task)
  local config = task.config
  local run = {
    state = task.state, limits = State.limits(config), device = config.device, clip = config.clip_grad_norm,
    every = config.valid_every_n_steps, save_every = config.save_every_n_seconds, first = config.valid_on_first_step,
  }
  if run.device ~= "cpu" then task:to(run.device) end
  run.loader = task:get_loader("train")
  run.valid_loader = task:get_loader("valid")
  task._steps_per_epoch = run.loader:size()
  infer_sizes(task, run)
  local optimizer, schedule = task:build_optimizer()
  if optimizer == nil then error(("%s:build_optimizer gave nothing"):format(task.__name), 0) end
  run.optimizer = optimizer
  if type(schedule) == "function" then
    run.factor, run.rates = schedule, {}
    for i, group in ipairs(optimizer.param_groups) do run.rates[i] = group.lr end
  else
    run.schedule = schedule
  end
  return run
end

--- Trains until a limit is reached.
---@param task aijit.Task
---@param run table from `loop.prepare`
function loop.train(task, run)
  local state = run.state
  resume(task, run)
  run.loader:seek(state.num_epochs + 1, state.batch + 1)
  run.started = system.monotonic() - state.elapsed
  run.saved_at, run.saved_step = system.monotonic(), state.num_steps
  task:train()
  show(run.optimizer, "train")
  if run.first and run.valid_loader and state.num_steps == 0 then loop.validate(task, run) end
  local validated, checked = -1, false
  local function step() return train_step(task, run) end

  while not state:is_done(run.limits) do
    if run.loader:size() == 0 then
      error(("%s: the training data give no batch: %d samples, batch_size %d"):format(task.__name, run.loader.dataset:size(),
        run.loader.batch_size), 0)
    end
    local more = ai.scope(step)
    if not more then
      state.num_epochs, state.batch = state.num_epochs + 1, 0
    end
    if more and not checked then
      checked = true
      local unread = task.config:unread()
      if #unread > 0 then
        task.board:status(("note: %s was set, but nothing has read it so far"):format(table.concat(unread, ", ")))
      end
    end
    local due
    if run.every then due = more and state.num_steps % run.every == 0 else due = not more end
    if due and run.valid_loader and not state:is_done(run.limits) then
      loop.validate(task, run)
      validated = state.num_steps
    end
    if run.save_every > 0 and system.monotonic() - run.saved_at >= run.save_every then loop.save(task, run) end
  end
  if run.valid_loader and validated ~= state.num_steps then loop.validate(task, run) end
  run.over = true
  show(run.optimizer, "eval")
end

return loop
