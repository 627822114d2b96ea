--- ai.optim: optimizers, and schedules for their rates.

local adam = require "aijit.optim.adam"
local calls = require "aijit.bindings.optim"

local optim = {
  Optimizer = require "aijit.optim.optimizer",
  SGD = require "aijit.optim.sgd",
  Adam = adam.Adam,
  AdamW = adam.AdamW,
}

for name, value in pairs(require "aijit.optim.schedule") do optim[name] = value end

--- Scales the gradients of a list of parameters down together, so that their norm is at most max_norm.
---@param params aijit.Tensor[]
---@param max_norm number
---@param options? {norm_type: number} 2 by default; math.huge: the largest element
---@return number norm before clipping
function optim.clip_grad_norm(params, max_norm, options)
  return calls.clip_grad_norm(params, max_norm, options and options.norm_type or 2)
end

--- Limits every element of the gradients of a list of parameters to -value .. value.
---@param params aijit.Tensor[]
---@param value number
function optim.clip_grad_value(params, value)
  calls.clip_grad_value(params, value)
end

return optim
