--- AdamW that needs no schedule of its rate, and shows other weights in evaluation than it trains.

local ai = require "aijit"
local calls = require "aijit.bindings.optim"
local class = require "aijit.class"
local Optimizer = require "aijit.optim.optimizer"

--- Schedule-free AdamW (Defazio and others, 2024). Three points go along: z, which makes the steps, x, their average, which
--- is what was learnt, and y between them, where gradients are taken. In training the parameters are y, in evaluation x:
---     v = beta2 v + (1 - beta2) g^2,  u = g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y
---     z = z - rate u,  c = w_t / (w_1 + ... + w_t),  x = (1 - c) x + c z,  y = (1 - beta1) z + beta1 x
--- with w_t = t^r (largest rate so far)^weight_lr_power, and a rate that rises to lr over warmup_steps.
---
--- Call optimizer:eval() before the model is used or saved, and optimizer:train() before it is trained on; ai.Task does.
--- Batch norm's means belong to x: a model that has them sees a few batches in training mode, without steps, before they count.
---@class aijit.optim.ScheduleFreeAdamW: aijit.optim.Optimizer
---@field evaluating boolean? the parameters are x now
---@overload fun(params: any, options?: table): aijit.optim.ScheduleFreeAdamW
local ScheduleFree = class("ScheduleFreeAdamW", Optimizer)

ScheduleFree:takes [[
  lr=2.5e-3 betas={0.9,0.999} eps=1e-8 weight_decay=0 warmup_steps:size=0 r=0 weight_lr_power=2
  maximize=false]]
ScheduleFree.method, ScheduleFree.number_names = "schedule_free", {"weight_sum", "lr_max"}

function ScheduleFree:check(group)
  if group.betas[1] == 0 then self:fail("betas[1] is 0; x could not be had from y") end
end

function ScheduleFree:add_param_group(group)
  Optimizer.add_param_group(self, group)
  for _, one in ipairs(self.param_groups) do one._kept.y = one._kept.y or {} end
  return self
end

function ScheduleFree:state_names() return {"z", "exp_avg_sq"} end
function ScheduleFree:first_value(name, _, p) return name == "z" and p:detach() or 0 end

function ScheduleFree:fill(o, group)
  Optimizer.fill(self, o, group)
  o.warmup, o.rate_power, o.weight_power = group.warmup_steps, group.r, group.weight_lr_power
end

--- A step updates y, z and x. The parameters must be y: an optimizer that was set to eval() refuses.
function ScheduleFree:check_step()
  if self.evaluating then self:fail("the parameters are those of evaluation; call optimizer:train() before training on") end
end

--- The parameters become x, the average. y is kept beside them, so that train() brings it back to the last bit.
---@return aijit.optim.ScheduleFreeAdamW self
function ScheduleFree:eval()
  if self.evaluating then return self end
  for _, group in ipairs(self.param_groups) do
    local params, z, y = {}, {}, group._kept.y
    ai.no_grad(function()
      for i, p in ipairs(group.params) do
        if group._ready and group._ready[i] then
          y[i] = ai.keep(p:detach():clone())
          params[#params + 1], z[#z + 1] = p, group._state[1][i]
        end
      end
    end)
    calls.lerp_all(params, z, 1 - 1 / group.betas[1])
  end
  self.evaluating = true
  return self
end

--- The parameters become y again.
---@return aijit.optim.ScheduleFreeAdamW self
function ScheduleFree:train()
  if not self.evaluating then return self end
  ai.no_grad(function()
    for _, group in ipairs(self.param_groups) do
      local y = group._kept.y
      for i, p in ipairs(group.params) do
        if y[i] then p:copy_(y[i]) end
        y[i] = nil
      end
    end
  end)
  self.evaluating = nil
  return self
end

return ScheduleFree
