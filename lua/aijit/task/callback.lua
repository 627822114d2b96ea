--- Callbacks: parts of a training that several tasks share. `self:add_callback(MyCallback())` in a task's __init.

local class = require "aijit.class"

---@class aijit.Callback
local Callback = class("Callback")

--- Before the first step, when a checkpoint has been taken up.
---@param task aijit.Task
---@param state aijit.State
function Callback:on_training_start(task, state) end

--- Before the first step of each epoch; state.num_epochs are over.
---@param task aijit.Task
---@param state aijit.State
function Callback:on_epoch_start(task, state) end

--- After the last step of each epoch, which state.num_epochs counts, and before its validation.
---@param task aijit.Task
---@param state aijit.State
function Callback:on_epoch_end(task, state) end

--- Before each optimizer step.
---@param task aijit.Task
---@param state aijit.State
function Callback:on_step_start(task, state) end

--- After each optimizer step.
---@param task aijit.Task
---@param state aijit.State
---@param loss number
function Callback:on_step_end(task, state, loss) end

--- Before each validation.
---@param task aijit.Task
---@param state aijit.State
function Callback:on_validation_start(task, state) end

--- After each validation, whose results are in state.valid.
---@param task aijit.Task
---@param state aijit.State
function Callback:on_validation_end(task, state) end

--- After a checkpoint was saved.
---@param task aijit.Task
---@param path string
function Callback:on_save_checkpoint(task, path) end

--- After the last step.
---@param task aijit.Task
---@param state aijit.State
function Callback:on_training_end(task, state) end

--- What a checkpoint keeps of it: plain data.
---@return table?
function Callback:state_dict() return nil end

--- Goes on from what `state_dict` gave.
---@param dict table
function Callback:load_state_dict(dict) end

--- Ends the training when a value of the validation has not become better for a while.
---@class aijit.EarlyStopping: aijit.Callback
---@overload fun(o: {patience: integer, metric: string?, mode: string?, min_delta: number?}): aijit.EarlyStopping
local EarlyStopping = class("EarlyStopping", Callback)

function EarlyStopping:__init(o)
  if type(o) ~= "table" or type(o.patience) ~= "number" or o.patience < 1 then
    error("EarlyStopping: patience is the number of validations without a better value, 1 or more", 3)
  end
  self.patience, self.metric, self.mode, self.min_delta = o.patience, o.metric or "loss", o.mode or "min", o.min_delta or 0
  if self.mode ~= "min" and self.mode ~= "max" then
    error(("EarlyStopping: mode is 'min' or 'max', not '%s'"):format(tostring(self.mode)), 3)
  end
  self.bad, self.best, self.best_step = 0, nil, nil
end

local function stop_if_due(self, task)
  if self.bad < self.patience then return end
  task:stop(("%s has not become better than %g, of step %d, in %d validations"):format(self.metric, self.best or 0 / 0,
    self.best_step or 0, self.bad))
end

--- A run that it has ended stays ended when it is resumed, unless its patience has grown.
function EarlyStopping:on_training_start(task) stop_if_due(self, task) end

function EarlyStopping:on_validation_end(task, state)
  local value = state.valid[self.metric]
  if value == nil then
    local names = {}
    for name in pairs(state.valid) do names[#names + 1] = name end
    table.sort(names)
    error(("early stopping: the validation has no value '%s'; it has %s"):format(self.metric, table.concat(names, ", ")), 0)
  end
  local gain = self.best and (self.mode == "min" and self.best - value or value - self.best)
  if value == value and (not self.best or gain > self.min_delta) then
    self.best, self.best_step, self.bad = value, state.num_steps, 0
    return
  end
  self.bad = self.bad + 1
  stop_if_due(self, task)
end

function EarlyStopping:state_dict() return {bad = self.bad, best = self.best, best_step = self.best_step} end

function EarlyStopping:load_state_dict(dict) self.bad, self.best, self.best_step = dict.bad, dict.best, dict.best_step end

return {Callback = Callback, EarlyStopping = EarlyStopping}
