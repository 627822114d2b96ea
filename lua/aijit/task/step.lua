--- One optimizer step: batches, losses, gradients, and what keeps them in bounds.
--
-- A step takes batches_per_step batches (fewer at the end of an epoch), each in chunks_per_batch parts. Each part's loss is the
-- mean over its samples, so its gradient counts by its share of the step's samples: the step is that of one large batch.

local ai = require "aijit"
local batches = require "aijit.task.batch"
local Guard = require "aijit.task.guard"
local Optimizers = require "aijit.task.optimizers"
local snapshot = require "aijit.task.snapshot"

local step = {}

--- Tells a profile, where there is one, what comes next.
---@param run table
---@param name string
function step.enter(run, name)
  if run.profile then run.profile:enter(name) end
end

local function by_name(a, b) return tostring(a) < tostring(b) end

local function no_loss(task, loss)
  error(("%s:get_loss gave %s: it must give the loss, a tensor of one element, or a table of such")
    :format(task.__name, loss == nil and "nothing" or "a " .. type(loss)), 0)
end

--- One tensor from a loss or a table of them. A table's losses are summed, and logged by their names.
---@param task aijit.Task
---@param loss any
---@return aijit.Tensor
---@return table<string, aijit.Tensor>? parts
function step.total(task, loss)
  if type(loss) == "function" then loss = loss() end
  if type(loss) == "cdata" then return loss:numel() == 1 and loss or loss:mean() end
  if type(loss) ~= "table" or next(loss) == nil then no_loss(task, loss) end
  local names, sum, parts = {}, nil, {}
  for name in pairs(loss) do names[#names + 1] = name end
  table.sort(names, by_name)
  for _, name in ipairs(names) do
    local part, inner = step.total(task, loss[name])
    task:log_scalar("loss/" .. tostring(name), part)
    parts[tostring(name)] = part
    for deeper, value in pairs(inner or {}) do parts[name .. "/" .. deeper] = value end
    sum = sum and sum + part or part
  end
  return sum, parts
end

--- get_loss, in the precision of the config.
---@param task aijit.Task
---@param run table
---@param part {fields: any[], samples: integer}
---@return any
function step.get_loss(task, run, part)
  run.state.batch_size = part.samples
  step.enter(run, "forward")
  if run.precision == "f32" then return task:get_loss(part.fields, run.state) end
  return ai.autocast(run.precision, function() return task:get_loss(part.fields, run.state) end)
end

--- The next batch, on the task's device; nil when the epoch is over.
---@param run table
---@return any[]? batch
function step.next_batch(run)
  local batch = run.loader:next_batch()
  if not batch then return nil end
  if run.device ~= "cpu" then batch = batches.to_device(batch, run.device) end
  run.state.batch_size = batches.count(batch)
  return batch
end

-- The parts of the next step, and whether the epoch ends with it.
local function fetch(run)
  local parts, count, samples, over = {}, 0, 0, false
  local size = run.loader.size and run.loader:size()
  while count < run.batches_per_step do
    local batch = step.next_batch(run)
    if not batch then
      over = true
      break
    end
    count = count + 1
    for _, part in ipairs(batches.chunks(batch, run.chunks_per_batch)) do
      parts[#parts + 1] = part
      samples = samples + part.samples
    end
  end
  if not over and size and run.state.batch + count >= size then
    over = true
    if run.loader:next_batch() then error(("the loader's size is %d batches, and it gave more"):format(size), 0) end
  end
  return parts, count, samples, over
end

-- The loss of one optimizer from what get_loss gave for all of them.
local function loss_of(task, losses, one)
  local loss = type(losses) == "table" and losses[one.name] or nil
  if loss == nil then
    error(("%s:get_loss must give a loss for each optimizer, in a table: there is none for %s"):format(task.__name, tostring(one.name)), 0)
  end
  return loss
end

-- Gradients of a part's loss, into the parameters of one optimizer alone where there are several. Returns the loss as a number,
-- or why it is none.
local function backward(task, run, one, loss, weight, retain)
  local total, parts = step.total(task, loss)
  if not run.optimizers.single then
    task:log_scalar("loss/" .. tostring(one.name), total)
  end
  local value = total:item()
  if value - value ~= 0 then
    local name = "loss"
    for part, tensor in pairs(parts or {}) do
      local number = tensor:item()
      if number - number ~= 0 then name = "loss/" .. part end
    end
    if not run.optimizers.single then name = "loss of " .. tostring(one.name) end
    return value, Guard.about_loss(task, run.state, name, value)
  end
  step.enter(run, "backward")
  if run.scaler then total = run.scaler:scale(total) end
  if weight ~= 1 then total = total * weight end
  if run.optimizers.single then
    total:backward()
  else
    total:backward(nil, {inputs = one.params, retain_graph = retain})
  end
  return value
end

-- Unscales, limits and checks the gradients of one optimizer. Returns their norm before clipping, and why they cannot be used.
local function tame(task, run, one)
  if run.scaler then run.scaler:unscale_(one.params) end
  local norm = ai.optim.clip_grad_norm(one.params, math.huge)
  if norm - norm ~= 0 then return norm, Guard.about_gradients(task, run.state) end
  if run.clip_value > 0 then ai.optim.clip_grad_value(one.params, run.clip_value) end
  if run.clip > 0 and norm > run.clip then ai.optim.clip_grad_norm(one.params, run.clip) end
  return norm
end

-- The gradients of some optimizers over all parts, and their steps. Returns the weighted loss, the norm, the rate, or a reason.
local function turn(task, run, entries, parts, samples, first)
  local sum, norm_squared, rate = 0, 0, nil
  for j, part in ipairs(parts) do
    local losses = j == 1 and first or step.get_loss(task, run, part)
    run.state.batch_size = part.samples
    for i, one in ipairs(entries) do
      local loss = losses
      if not run.optimizers.single then loss = loss_of(task, losses, one) end
      local value, reason = backward(task, run, one, loss, part.samples / samples, i < #entries)
      sum = sum + value * (part.samples / samples)
      if reason then return sum, nil, nil, reason end
    end
    first = nil
  end
  step.enter(run, "optimizer")
  for _, one in ipairs(entries) do
    local norm, reason = tame(task, run, one)
    if reason then return sum, norm, nil, reason end
    norm_squared = norm_squared + norm * norm
  end
  for _, one in ipairs(entries) do
    local own = Optimizers.step(one, run.state)
    rate = rate or own
  end
  return sum, math.sqrt(norm_squared), rate
end

-- Several losses of which some are functions are taken one after another, each when the optimizers before it have stepped.
local function has_functions(losses)
  if type(losses) ~= "table" then return false end
  for _, loss in pairs(losses) do
    if type(loss) == "function" then return true end
  end
  return false
end

local function all_turns(task, run, parts, samples)
  local entries = run.optimizers.entries
  local first = step.get_loss(task, run, parts[1])
  if run.optimizers.single or not has_functions(first) then return turn(task, run, entries, parts, samples, first) end
  local sum, norm_squared, rate = 0, 0, nil
  for i, one in ipairs(entries) do
    run.optimizers:zero_grad()
    local value, norm, own, reason = turn(task, run, {one}, parts, samples, i == 1 and first or nil)
    sum = sum + value
    if reason then return sum, norm, nil, reason end
    norm_squared, rate = norm_squared + norm * norm, rate or own
  end
  return sum, math.sqrt(norm_squared), rate
end

-- The op that made a step's first NaN or infinity, as a sentence.
local function find_op(task, run, parts, random)
  return Guard.find_op(random, function()
    snapshot.sow(task.config.seed, run.state.num_steps)
    run.optimizers:zero_grad()
    for _, part in ipairs(parts) do
      local losses, entries = step.get_loss(task, run, part), run.optimizers.entries
      for i, one in ipairs(entries) do
        local loss = run.optimizers.single and losses or loss_of(task, losses, one)
        step.total(task, loss):backward(nil, {retain_graph = i < #entries})
      end
    end
  end)
end

--- One optimizer step on the next batches.
---@param task aijit.Task
---@param run table
---@param about table what the line that is logged says of itself
---@return boolean stepped false: there was no batch left in the epoch
---@return boolean over the epoch is over
---@return number? loss
---@return string? refused "skip" or "rollback" when the step was left out
function step.run(task, run, about)
  local state, board = run.state, task.board
  step.enter(run, "data")
  local parts, count, samples, over = fetch(run)
  if count == 0 then return false, over end
  board:begin(about)
  run.optimizers:zero_grad()
  local random = run.guard.policy == "raise" and ai.get_random_state()
  local value, norm, rate, reason = all_turns(task, run, parts, samples)
  local refused
  if run.scaler then
    run.scaler:update(reason ~= nil)
    if run.scaler:is_exhausted() then
      error(("%s: %s, however small the loss is scaled"):format(task.__name, reason or "the gradients are not finite"), 0)
    end
  end
  if not reason then
    run.guard:accept()
    if run.ema then run.ema:update() end
  elseif not run.scaler then
    refused = run.guard:refuse(task, reason, function() return find_op(task, run, parts, random) end)
  end
  if reason then run.optimizers:zero_grad() end
  run.optimizers:advance()
  step.enter(run, "log")
  state.num_steps = state.num_steps + 1
  state.num_samples = state.num_samples + samples
  state.batch = state.batch + count
  state.batch_size = samples
  task:log_scalar("loss", value)
  if rate then task:log_scalar("lr", rate) end
  if norm then task:log_scalar("grad_norm", norm) end
  if run.scaler then task:log_scalar("loss_scale", run.scaler:get_scale()) end
  return true, over, value, refused
end

return step
