--- Gradient descent.

local class = require "aijit.class"
local Optimizer = require "aijit.optim.optimizer"
local raise = require("aijit.bindings.lib").raise
local calls = require "aijit.bindings.optim"

--- Gradient descent, as PyTorch computes it. For gradient g of parameter p:
---     g = g + weight_decay p
---     b = momentum b + (1 - dampening) g;  the first b is g
---     g = g + momentum b  with nesterov,  else g = b;  without momentum g stays
---     p = p - lr g
---@class aijit.optim.SGD: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.SGD
local SGD = class("SGD", Optimizer)

SGD.defaults = {lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0, nesterov = false, maximize = false}

function SGD:check(group)
  if group.nesterov and (group.momentum == 0 or group.dampening ~= 0) then
    raise("SGD: nesterov wants a momentum and no dampening")
  end
end

function SGD:state_names(group)
  return group.momentum ~= 0 and {"momentum_buffer"} or {}
end

function SGD:update(group)
  calls.sgd(group.params, group._state.momentum_buffer or group.params, group._count,
    group.lr, group.momentum, group.dampening, group.weight_decay, group.nesterov, group.maximize)
end

return SGD
