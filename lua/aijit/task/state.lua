--- How far a training is.

local class = require "aijit.class"

---@class aijit.State
---@field num_steps integer optimizer steps done
---@field num_samples integer training samples seen
---@field num_epochs integer passes over the training data that are complete
---@field batch integer batches taken of the present epoch
---@field elapsed number seconds of training, those before a resume included
---@field phase "train"|"valid"|"test"
---@field batch_size integer? samples in the batch, or part of one, that is computed
---@field valid table<string, number> the results of the last validation: loss, accuracy, and what the task logged
---@field validated_step integer? the step they are of
---@field valid_due boolean a validation was to come when a signal ended the run
local State = class("State")

function State:__init()
  self.num_steps, self.num_samples, self.num_epochs, self.batch = 0, 0, 0, 0
  self.elapsed = 0
  self.phase = "train"
  self.valid, self.validated_step, self.valid_due = {}, nil, false
end

--- The rules by which a training ends. With none given, one epoch.
---@param config table max_steps, max_epochs, max_samples, max_seconds
---@return {steps: integer?, epochs: integer?, samples: integer?, seconds: number?}
function State.limits(config)
  local limits = {
    steps = config.max_steps, epochs = config.max_epochs, samples = config.max_samples, seconds = config.max_seconds,
  }
  if next(limits) == nil then limits.epochs = 1 end
  return limits
end

--- Whether one of the limits is reached.
function State:is_done(limits)
  return limits.steps ~= nil and self.num_steps >= limits.steps
    or limits.epochs ~= nil and self.num_epochs >= limits.epochs
    or limits.samples ~= nil and self.num_samples >= limits.samples
    or limits.seconds ~= nil and self.elapsed >= limits.seconds
end

--- The part that is done, and the steps in all where they are known.
---@param limits table
---@param steps_per_epoch integer? nil: not known
---@return number progress 0 to 1
---@return integer? total steps
function State:progress(limits, steps_per_epoch)
  local total = limits.steps
  if limits.epochs and steps_per_epoch then total = math.min(total or math.huge, limits.epochs * steps_per_epoch) end
  local part = total and total > 0 and self.num_steps / total or 0
  if limits.samples and limits.samples > 0 then
    local by_samples = self.num_samples / limits.samples
    if by_samples > part then part, total = by_samples, nil end
  end
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
    elapsed = self.elapsed, valid = self.valid, validated_step = self.validated_step, valid_due = self.valid_due,
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
  self.validated_step, self.valid_due = values.validated_step, values.valid_due == true
end

return State
