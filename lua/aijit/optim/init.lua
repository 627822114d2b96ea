--- ai.optim: optimizers, averages of weights, and schedules for rates.

local calls = require "aijit.bindings.optim"
local group = require "aijit.optim.group"

local optim = {
  Optimizer = require "aijit.optim.optimizer",
  Muon = require "aijit.optim.muon",
  ScheduleFreeAdamW = require "aijit.optim.schedule_free",
  separate_decay = group.separate_decay,
  is_undecayed = group.is_undecayed,
}

for _, part in ipairs{"sgd", "adam", "adaptive", "schedule", "compose", "average", "range", "preset"} do
  for name, value in pairs(require("aijit.optim." .. part)) do optim[name] = value end
end

--- Scales the gradients of a list of parameters down together, so that their norm is at most max_norm.
---@param params aijit.Tensor[]
---@param max_norm number
---@param options? {norm_type: number} 2 by default; math.huge: the largest element
---@return number? norm before clipping; nil in a function that ai.jit records
function optim.clip_grad_norm(params, max_norm, options)
  return calls.clip_grad_norm(params, max_norm, options and options.norm_type or 2)
end

--- Limits every element of the gradients of a list of parameters to -value .. value.
---@param params aijit.Tensor[]
---@param value number
function optim.clip_grad_value(params, value)
  calls.clip_grad_value(params, value)
end

return require("aijit.nearest").guard(optim, "optim")
