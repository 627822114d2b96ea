--- Adam and its kin: a mean of gradients, divided by the root of a mean of their squares.

local class = require "aijit.class"
local Optimizer = require "aijit.optim.optimizer"

--- Adam (Kingma and Ba, 2015), as PyTorch computes it. For the t-th gradient g of parameter p:
---     g = g + weight_decay p
---     m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
---     p = p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
--- amsgrad: the largest v so far stands in for v (Reddi and others, 2018). maximize: g has the other sign.
---@class aijit.optim.Adam: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.Adam
local Adam = class("Adam", Optimizer)

Adam:takes "lr=1e-3 betas={0.9,0.999} eps=1e-8 weight_decay=0 amsgrad=false maximize=false"
Adam.method = "adam"

function Adam:state_names(group)
  return {"exp_avg", "exp_avg_sq", group.amsgrad and "max_exp_avg_sq" or nil}
end

--- AdamW (Loshchilov and Hutter, 2019): p = p - lr weight_decay p before the step, and g is left as it is.
---@class aijit.optim.AdamW: aijit.optim.Adam
---@overload fun(params: any, options?: table): aijit.optim.AdamW
local AdamW = class("AdamW", Adam)

AdamW:takes "lr=1e-3 betas={0.9,0.999} eps=1e-8 weight_decay=1e-2 amsgrad=false maximize=false"
AdamW.decoupled = true

--- Adamax (Kingma and Ba, 2015, section 7): u = max(beta2 u, |g| + eps),  p = p - lr / (1 - beta1^t) m / u.
---@class aijit.optim.Adamax: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.Adamax
local Adamax = class("Adamax", Optimizer)

Adamax:takes "lr=2e-3 betas={0.9,0.999} eps=1e-8 weight_decay=0 maximize=false"
Adamax.method = "adamax"
function Adamax:state_names() return {"exp_avg", "exp_inf"} end

--- NAdam (Dozat, 2016): Adam whose momentum looks ahead. mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2):
---     p = p - lr ((1 - mu_t) / (1 - prod mu) g + mu_(t+1) / (1 - prod mu mu_(t+1)) m) / (sqrt(v) / sqrt(1 - beta2^t) + eps)
---@class aijit.optim.NAdam: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.NAdam
local NAdam = class("NAdam", Optimizer)

NAdam:takes [[
  lr=2e-3 betas={0.9,0.999} eps=1e-8 weight_decay=0 momentum_decay=4e-3 decoupled_weight_decay=false
  maximize=false]]
NAdam.method, NAdam.number_names = "nadam", {"mu_product"}
function NAdam:state_names() return {"exp_avg", "exp_avg_sq"} end

--- RAdam (Liu and others, 2020): Adam whose step is rectified by what is known of the second moment's variance; in the first
--- steps, when that has no bound, momentum alone.
---@class aijit.optim.RAdam: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.RAdam
local RAdam = class("RAdam", Optimizer)

RAdam:takes "lr=1e-3 betas={0.9,0.999} eps=1e-8 weight_decay=0 decoupled_weight_decay=false maximize=false"
RAdam.method = "radam"
RAdam.state_names = NAdam.state_names

--- LAMB (You and others, 2020), for large batches: u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay p,
---     p = p - lr |p| / |u| u,  with norms over the whole parameter; where one is 0: p - lr u.
---@class aijit.optim.LAMB: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.LAMB
local LAMB = class("LAMB", Optimizer)

LAMB:takes "lr=1e-3 betas={0.9,0.999} eps=1e-6 weight_decay=1e-2 maximize=false"
LAMB.method = "lamb"
LAMB.state_names = NAdam.state_names

--- Adan (Xie and others, 2022). With the gradient before g', which is g at first, and betas the shares that stay:
---     m = beta1 m + (1 - beta1) g,  d = beta2 d + (1 - beta2) (g - g'),  n = beta3 n + (1 - beta3) (g + beta2 (g - g'))^2
---     u = (m / (1 - beta1^t) + beta2 d / (1 - beta2^t)) / (sqrt(n / (1 - beta3^t)) + eps)
---     p = (p - lr u) / (1 + lr weight_decay);  no_prox: p = (1 - lr weight_decay) p - lr u
---@class aijit.optim.Adan: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.Adan
local Adan = class("Adan", Optimizer)

Adan:takes "lr=1e-3 betas:betas3={0.98,0.92,0.99} eps=1e-8 weight_decay=0 no_prox=false maximize=false"
Adan.method = "adan"
function Adan:state_names() return {"exp_avg", "exp_avg_diff", "exp_avg_sq", "prev_grad"} end

--- Lion (Chen and others, 2023): p = (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g), then
---     m = beta2 m + (1 - beta2) g. A rate of a third to a tenth of AdamW's, and a decay as much larger, are its authors' advice.
---@class aijit.optim.Lion: aijit.optim.Optimizer
---@overload fun(params: any, options?: table): aijit.optim.Lion
local Lion = class("Lion", Optimizer)

Lion:takes "lr=1e-4 betas={0.9,0.99} weight_decay=0 maximize=false"
Lion.method = "lion"
function Lion:state_names() return {"exp_avg"} end

return {Adam = Adam, AdamW = AdamW, Adamax = Adamax, NAdam = NAdam, RAdam = RAdam, LAMB = LAMB, Adan = Adan, Lion = Lion}
