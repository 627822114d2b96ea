--- What happens when a loss or a gradient is NaN or infinite: the run ends, the step is left out, or the weights go back to
--- an earlier step; in each case with the name of the tensor and the step.

local ai = require "aijit"
local class = require "aijit.class"

---@class aijit.task.Guard
---@field policy "raise"|"skip"|"rollback"
---@field in_a_row integer steps left out one after another
---@field skipped integer steps left out in all
local Guard = class("Guard")

-- So many bad steps one after another are no accident of the data.
local MOST = 10

---@param policy "raise"|"skip"|"rollback"
function Guard:__init(policy) self.policy, self.in_a_row, self.skipped = policy, 0, 0 end

local function is_finite(tensor)
  return not tensor:is_floating_point() or ai.no_grad(function() return tensor:isfinite():all():item() end)
end

--- The first parameter that is not finite, or whose gradient is not.
---@param task aijit.Task
---@param what "parameter"|"gradient"
---@return string? name such as "model.0.weight"
function Guard.culprit(task, what)
  return ai.scope(function()
    for name, tensor in task:named_parameters() do
      if what == "gradient" then tensor = tensor.grad end
      if tensor ~= nil and not is_finite(tensor) then return name end
    end
  end)
end

local function place(task, state)
  return ("%s step %d (epoch %d, after %d samples)"):format(state.phase, state.num_steps + 1, state.num_epochs + 1, state.num_samples)
end

--- A sentence about a loss that is not finite.
---@param task aijit.Task
---@param state aijit.State
---@param name string "loss", or the name of one of several
---@param value number
---@return string
function Guard.about_loss(task, state, name, value)
  local bad = Guard.culprit(task, "parameter")
  return ("the %s is %s in %s%s"):format(name, tostring(value), place(task, state),
    bad and (", and the parameter '%s' is not finite already"):format(bad) or "")
end

--- A sentence about gradients that are not finite.
---@param task aijit.Task
---@param state aijit.State
---@return string
function Guard.about_gradients(task, state)
  local bad = Guard.culprit(task, "gradient")
  return bad and ("the gradient of '%s' is not finite in %s"):format(bad, place(task, state))
    or ("the gradients are too large for their norm in %s"):format(place(task, state))
end

--- The op that made the first NaN or infinity of a step, found by running it once more, as it was, under ai.detect_anomaly.
---@param random table the state of the random numbers when the step began
---@param again fun() computes the losses and their gradients
---@return string sentence "" when the step does not fail a second time
function Guard.find_op(random, again)
  local now = ai.get_random_state()
  ai.set_random_state(random)
  local ok, problem = pcall(ai.scope, ai.detect_anomaly, again)
  ai.set_random_state(now)
  return ok and "" or "\n  it comes from " .. tostring(problem)
end

--- A step that must not be made. Raises by the policy, or after too many of them.
---@param task aijit.Task
---@param reason string
---@param find_op? fun(): string tells where it comes from; called when the run is about to end
---@return "skip"|"rollback" what the loop does
function Guard:refuse(task, reason, find_op)
  local advice = ": try a lower learning rate or look at the data; the last checkpoint is from before"
  if self.policy == "raise" then error(("%s: %s%s%s"):format(task.__name, reason, advice, find_op and find_op() or ""), 0) end
  self.in_a_row, self.skipped = self.in_a_row + 1, self.skipped + 1
  if self.in_a_row >= MOST then error(("%s: %s, the last of %d such steps in a row%s"):format(task.__name, reason, MOST, advice), 0) end
  task.board:status(("%s: the step is left out%s"):format(reason, self.policy == "rollback" and ", and the weights go back" or ""))
  return self.policy
end

--- A step that was made.
function Guard:accept() self.in_a_row = 0 end

---@return table plain data
function Guard:state_dict() return {in_a_row = self.in_a_row, skipped = self.skipped} end

---@param dict table
function Guard:load_state_dict(dict) self.in_a_row, self.skipped = dict.in_a_row, dict.skipped end

return Guard
