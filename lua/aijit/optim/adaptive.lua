--- Optimizers that divide gradients by the root of their squares, summed or averaged.

local class = require "aijit.class"
local Optimizer = require "aijit.optim.optimizer"

--- RMSprop (Hinton, 2012), as PyTorch computes it. For gradient g, with weight_decay p added to it:
---     s = alpha s + (1 - alpha) g^2;  centered: a = alpha a + (1 - alpha) g, and s - a^2 in place of s (Graves, 2013)
---     u = g / (sqrt(s) + eps);  with momentum b = momentum b + u, and u = b
---     p = p - lr u
---@class aijit.optim.RMSprop: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.RMSprop
local RMSprop = class("RMSprop", Optimizer)

RMSprop:takes "lr=1e-2 alpha=0.99 eps=1e-8 weight_decay=0 momentum:not_negative=0 centered=false maximize=false"
RMSprop.method = "rmsprop"

function RMSprop:state_names(group)
  return {"square_avg", group.centered and "grad_avg" or nil, group.momentum ~= 0 and "momentum_buffer" or nil}
end

--- Adagrad (Duchi and others, 2011): s = s + g^2,  p = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).
---@class aijit.optim.Adagrad: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.Adagrad
local Adagrad = class("Adagrad", Optimizer)

Adagrad:takes "lr=1e-2 lr_decay=0 weight_decay=0 initial_accumulator_value=0 eps=1e-10 maximize=false"
Adagrad.method = "adagrad"
function Adagrad:state_names() return {"sum"} end
function Adagrad:first_value(_, group) return group.initial_accumulator_value end

--- Adadelta (Zeiler, 2012): s = rho s + (1 - rho) g^2,  u = sqrt(a + eps) / sqrt(s + eps) g,  a = rho a + (1 - rho) u^2,
---     p = p - lr u.
---@class aijit.optim.Adadelta: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.Adadelta
local Adadelta = class("Adadelta", Optimizer)

Adadelta:takes "lr=1 rho=0.9 eps=1e-6 weight_decay=0 maximize=false"
Adadelta.method = "adadelta"
function Adadelta:state_names() return {"square_avg", "acc_delta"} end

return {RMSprop = RMSprop, Adagrad = Adagrad, Adadelta = Adadelta}
