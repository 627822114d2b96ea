--- One pass through the data of a phase: a validation during a training, an evaluation without one.

local ai = require "aijit"
local batches = require "aijit.task.batch"
local Guard = require "aijit.task.guard"
local signals = require "aijit.task.signals"
local snapshot = require "aijit.task.snapshot"
local step = require "aijit.task.step"

local pass = {}

local function measure(task, run, loader)
  local batch = loader:next_batch()
  if not batch then return false end
  if run.device ~= "cpu" then batch = batches.to_device(batch, run.device) end
  local part = {fields = batch, samples = batches.count(batch)}
  local loss = step.total(task, step.get_loss(task, run, part))
  local value = loss:item()
  if value - value ~= 0 and run.guard.policy == "raise" then
    run.guard:refuse(task, Guard.about_loss(task, run.state, "loss", value), function()
      return Guard.find_op(ai.get_random_state(), function() step.total(task, step.get_loss(task, run, part)) end)
    end)
  end
  task:log_scalar("loss", value)
  return true
end

-- All batches; false when a signal came between two of them.
local function all(task, run, loader)
  local function one() return ai.scope(function() return measure(task, run, loader) end) end
  return ai.no_grad(function()
    while one() do
      if signals.requested() then return false end
    end
    return true
  end)
end

--- Goes through the data of a phase. The values that the task logs are averaged over the samples. What a training draws from
-- the random numbers is not changed by it.
---@param task aijit.Task
---@param run table
---@param phase "valid"|"test"|"train"
---@param loader aijit.Loader
---@param about table what the line says of itself
---@return table<string, number>? results nil when a signal ended it before its end
function pass.run(task, run, phase, loader, about)
  local state, board = run.state, task.board
  local random = ai.get_random_state()
  local was_training, was_phase = task.training, state.phase
  task:eval()
  if run.optimizers then run.optimizers:show("eval") end
  state.phase = phase
  snapshot.sow(task.config.seed, state.num_steps + 0.5)
  board:begin(about, {force = true, collect = true})
  loader:seek(1)
  local whole
  if run.ema and not run.ema.applied then
    whole = run.ema:average(all, task, run, loader)
  else
    whole = all(task, run, loader)
  end
  ai.set_random_state(random)
  state.phase = was_phase
  if was_training then task:train() end
  if run.optimizers and was_training then run.optimizers:show("train") end
  if not whole then return nil end
  local line, results = board:finish(), {}
  for _, pair in ipairs(line.scalars) do results[pair[1]] = pair[2] end
  return results
end

return pass
