--- How far a training is.

local class = require "aijit.class"

---@class aijit.State
---@field num_steps integer optimizer steps done
---@field num_samples integer training samples seen
---@field num_epochs integer passes over the training data that are complete
---@field batch integer batches taken of the present epoch
---@field elapsed number seconds of training, those before a resume included
---@field phase "train"|"valid"
---@field valid table<string, number> the results of the last validation: loss, accuracy, and what the task logged
local State = class("State")

function State:__init()
  self.num_steps, self.num_samples, self.num_epochs, self.batch = 0, 0, 0, 0
  self.elapsed = 0
  self.phase = "train"
  self.valid = {}
end

--- The rules by which a training ends. With none given, one epoch.
---@param config table max_steps, max_epochs, max_seconds
---@return {steps: integer?, epochs: integer?, seconds: number?}
function State.limits(config)
  local limits = {steps = config.max_steps, epochs = config.max_epochs, seconds = config.max_seconds}
  if next(limits) == nil then limits.epochs = 1 end
  return limits
end

--- Whether one of the limits is reached.
function State:is_done(limits)
  return limits.steps ~= nil and self.num_steps >= limits.steps
    or limits.epochs ~= nil and self.num_epochs >= limits.epochs
    or limits.seconds ~= nil and self.elapsed >= limits.seconds
end

--- The part that is done, and the steps in all where they are known.
---@param limits table
---@param steps_per_epoch integer
---@return number progress 0 to 1
---@return integer? total steps
function State:progress(limits, steps_per_epoch)
  local total = limits.steps
  if limits.epochs then total = math.min(total or math.huge, limits.epochs * steps_per_epoch) end
  local part = total and total > 0 and self.num_steps / total or 0
  if limits.seconds and limits.seconds > 0 then
    local by_time = self.elapsed / limits.seconds
    -- Of two limits the one that will be met first counts, and then the number of steps is not known.
    if by_time > part then part, total = by_time, nil end
  end
  return math.min(1, part), total
end

--- What a checkpoint keeps.
---@return table
function State:to_table()
  return {
    num_steps = self.num_steps, num_samples = self.num_samples, num_epochs = self.num_epochs, batch = self.batch,
    elapsed = self.elapsed, valid = self.valid,
  }
end

--- Takes up what a checkpoint kept.
---@param values table
function State:load(values)
  for _, name in ipairs {"num_steps", "num_samples", "num_epochs", "batch", "elapsed"} do
    if type(values[name]) ~= "number" then
      error(("the checkpoint's state has no number '%s'"):format(name), 0)
    end
    self[name] = values[name]
  end
  self.valid = type(values.valid) == "table" and values.valid or {}
end

return State
