--- Gradient descent, and the signs of gradients alone.

local class = require "aijit.class"
local Optimizer = require "aijit.optim.optimizer"

--- Gradient descent, as PyTorch computes it. For gradient g of parameter p:
---     g = g + weight_decay p
---     b = momentum b + (1 - dampening) g;  the first b is g
---     g = g + momentum b  with nesterov,  else g = b;  without momentum g stays
---     p = p - lr g
---@class aijit.optim.SGD: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.SGD
local SGD = class("SGD", Optimizer)

SGD:takes "lr=1e-3 momentum:not_negative=0 dampening=0 weight_decay=0 nesterov=false maximize=false"
SGD.method = "sgd"

function SGD:check(group)
  if group.nesterov and (group.momentum == 0 or group.dampening ~= 0) then
    self:fail("nesterov wants a momentum and no dampening")
  end
end

function SGD:state_names(group)
  return {group.momentum ~= 0 and "momentum_buffer" or nil}
end

--- Each element goes by a step of its own, which grows while the gradient keeps its sign and shrinks when it turns
--- (Riedmiller and Braun, 1993); for gradients of all the data.
---@class aijit.optim.Rprop: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.Rprop
local Rprop = class("Rprop", Optimizer)

Rprop:takes "lr=1e-2 etas:range={0.5,1.2} step_sizes:range={1e-6,50} maximize=false"
Rprop.method = "rprop"

function Rprop:check(group)
  local low, high = group.etas[1], group.etas[2]
  if not (low > 0 and low < 1 and high > 1) then self:fail("etas are %g and %g; the first is below 1, the second above", low, high) end
end

function Rprop:state_names() return {"prev", "step_size"} end
function Rprop:first_value(name, group) return name == "step_size" and group.lr or 0 end

function Rprop:fill(o, group)
  Optimizer.fill(self, o, group)
  o.etaminus, o.etaplus, o.least, o.most = group.etas[1], group.etas[2], group.step_sizes[1], group.step_sizes[2]
end

return {SGD = SGD, Rprop = Rprop}
