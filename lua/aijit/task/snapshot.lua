--- All that a training is at a step: what a checkpoint holds, a rollback brings back and a resumed run begins from.

local ai = require "aijit"

local snapshot = {}

--- A copy of a state in which tensors are copies too, kept beyond the scope.
---@param value any
---@return any
local function frozen(value)
  if ai.is_tensor(value) then return ai.keep(value:detach():clone()) end
  if type(value) ~= "table" then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = frozen(inner) end
  return result
end
snapshot.frozen = frozen

--- math.random's own state cannot be read, so it is sown at each step from the seed and the step: then there is none to keep.
---@param seed integer
---@param step integer
function snapshot.sow(seed, step) math.randomseed(seed + step * 0.6180339887498949) end

local function loader_state(run)
  local loader = run.loader
  if loader.state_dict then return loader:state_dict() end
  return nil
end

--- What the weights, the optimizers and all that follows them are; tensors are the live ones.
---@param task aijit.Task
---@param run table
---@return {model: table, optimizer: table?, ema: table?, state: table}
function snapshot.take(task, run)
  local state = run.state:to_table()
  state.seed = task.config.seed
  state.config = task.config:to_table()
  state.aijit = ai._VERSION
  state.random = ai.get_random_state()
  state.schedules = run.optimizers:schedules()
  state.loader = loader_state(run)
  state.scaler = run.scaler and run.scaler:state_dict()
  state.guard = run.guard:state_dict()
  state.callbacks = {}
  for i, callback in ipairs(task.callbacks) do state.callbacks[i] = callback:state_dict() or {} end
  local average
  if run.ema then
    average = run.ema:state_dict()
    state.ema_updates = average.t
  end
  return {model = task:state_dict(), optimizer = run.optimizers:state_dict(), ema = average and average.shadow, state = state}
end

--- The same in memory, for a rollback.
---@param task aijit.Task
---@param run table
---@return table
function snapshot.copy(task, run)
  local kept = snapshot.take(task, run)
  return {model = frozen(kept.model), optimizer = frozen(kept.optimizer), ema = frozen(kept.ema), state = kept.state}
end

--- Brings weights, optimizers, average and loss scale back; where the data are, and how many steps there were, is not touched.
---@param task aijit.Task
---@param run table
---@param kept table from `take`, or of a checkpoint
function snapshot.restore_weights(task, run, kept)
  task:load_state_dict(kept.model)
  run.optimizers:load_state_dict(kept.optimizer)
  run.optimizers:show("train")
  if run.ema and kept.ema then run.ema:load_state_dict({t = kept.state.ema_updates, shadow = kept.ema}) end
  if run.scaler and kept.state.scaler then run.scaler:load_state_dict(kept.state.scaler) end
end

--- Brings everything back.
---@param task aijit.Task
---@param run table
---@param kept table of a checkpoint
function snapshot.restore(task, run, kept)
  local state = kept.state
  run.state:load(state)
  snapshot.restore_weights(task, run, kept)
  run.optimizers:load_schedules(state.schedules or {})
  if state.random then ai.set_random_state(state.random) end
  if state.guard then run.guard:load_state_dict(state.guard) end
  for i, callback in ipairs(task.callbacks) do
    if state.callbacks and state.callbacks[i] then callback:load_state_dict(state.callbacks[i]) end
  end
  if run.loader.load_state_dict and state.loader then
    run.loader:load_state_dict(state.loader)
  else
    run.loader:seek(run.state.num_epochs + 1, run.state.batch + 1)
  end
end

return snapshot
