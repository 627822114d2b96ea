--- Adam and AdamW.

local class = require "aijit.class"
local Optimizer = require "aijit.optim.optimizer"
local raise = require("aijit.bindings.lib").raise
local calls = require "aijit.bindings.optim"

--- Adam (Kingma and Ba, 2015), as PyTorch computes it. For the t-th gradient g of parameter p:
---     g = g + weight_decay p
---     m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
---     p = p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
--- amsgrad: the largest v so far stands in for v (Reddi and others, 2018). maximize: g has the other sign.
---@class aijit.optim.Adam: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.Adam
local Adam = class("Adam", Optimizer)

Adam.defaults = {lr = 1e-3, betas = {0.9, 0.999}, eps = 1e-8, weight_decay = 0, amsgrad = false, maximize = false}
Adam.decoupled = false

function Adam:check(group)
  for i = 1, 2 do
    local beta = group.betas[i]
    if type(beta) ~= "number" or beta < 0 or beta >= 1 then
      raise(("%s: betas[%d] is %s; a number of at least 0 and less than 1 is wanted"):format(
        getmetatable(self).__name, i, tostring(beta)))
    end
  end
end

function Adam:state_names(group)
  return {"exp_avg", "exp_avg_sq", group.amsgrad and "max_exp_avg_sq" or nil}
end

function Adam:update(group)
  local state, betas = group._state, group.betas
  calls.adam(group.params, state.exp_avg, state.exp_avg_sq, state.max_exp_avg_sq, group._count,
    group.lr, betas[1], betas[2], group.eps, group.weight_decay, self.decoupled, group.maximize)
end

--- AdamW (Loshchilov and Hutter, 2019): p = p - lr weight_decay p before the step, and g is left as it is.
---@class aijit.optim.AdamW: aijit.optim.Adam
---@overload fun(params: any, options?: table): aijit.optim.AdamW
local AdamW = class("AdamW", Adam)

AdamW.defaults = {lr = 1e-3, betas = {0.9, 0.999}, eps = 1e-8, weight_decay = 1e-2, amsgrad = false, maximize = false}
AdamW.decoupled = true

return {Adam = Adam, AdamW = AdamW}
