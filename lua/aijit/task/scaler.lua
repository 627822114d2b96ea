--- Dynamic loss scaling, for gradients that f16 would round to zero: the loss is multiplied by a scale, the gradients are
--- divided by it, and the scale follows what f16 can hold. Meanings and defaults of torch.amp.GradScaler.

local ai = require "aijit"
local class = require "aijit.class"

---@class aijit.GradScaler
---@field enabled boolean
---@field good_steps integer since the scale changed
local GradScaler = class("GradScaler")

-- Below this a scale no longer helps: the gradients are not finite for another reason.
local LEAST = 2 ^ -14

local defaults = {enabled = true, init_scale = 2 ^ 16, growth_factor = 2, backoff_factor = 0.5, growth_interval = 2000}

---@param o? {enabled?: boolean, init_scale?: number, growth_factor?: number, backoff_factor?: number, growth_interval?: integer}
function GradScaler:__init(o)
  for name, value in pairs(o or {}) do
    if defaults[name] == nil then error(("GradScaler: there is no option '%s'"):format(tostring(name)), 3) end
    if type(value) ~= type(defaults[name]) then
      error(("GradScaler: %s is a %s; a %s is wanted"):format(name, type(value), type(defaults[name])), 3)
    end
  end
  for name, default in pairs(defaults) do
    if o and o[name] ~= nil then self[name] = o[name] else self[name] = default end
  end
  self._scale, self.good_steps = self.init_scale, 0
end

--- The factor of the loss; 1 when it is not enabled.
---@return number
function GradScaler:get_scale() return self.enabled and self._scale or 1 end

--- The loss times the scale.
---@param loss aijit.Tensor
---@return aijit.Tensor
function GradScaler:scale(loss) return self.enabled and loss * self._scale or loss end

--- Divides gradients by the scale.
---@param params aijit.Tensor[]
function GradScaler:unscale_(params)
  if not self.enabled or self._scale == 1 then return end
  ai.no_grad(function()
    for _, p in ipairs(params) do
      local grad = p.grad
      if grad ~= nil then grad:mul_(1 / self._scale) end
    end
  end)
end

--- Follows a step: a smaller scale after gradients that were not finite, a larger one after growth_interval good steps.
---@param found_inf boolean the gradients were not finite, and the step was left out
function GradScaler:update(found_inf)
  if not self.enabled then return end
  if found_inf then
    self._scale, self.good_steps = self._scale * self.backoff_factor, 0
    return
  end
  self.good_steps = self.good_steps + 1
  if self.good_steps == self.growth_interval then
    local grown = self._scale * self.growth_factor
    if grown < math.huge then self._scale = grown end
    self.good_steps = 0
  end
end

--- Whether the scale is so small that gradients which are not finite are no matter of scale.
---@return boolean
function GradScaler:is_exhausted() return self.enabled and self._scale < LEAST end

---@return table plain data
function GradScaler:state_dict() return {scale = self._scale, good_steps = self.good_steps} end

---@param dict table
function GradScaler:load_state_dict(dict) self._scale, self.good_steps = dict.scale, dict.good_steps end

return GradScaler
