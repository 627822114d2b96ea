--- Learning rates that change from step to step: the rate of each group times a factor of the number of steps done.
---
---     local schedule = ai.optim.CosineLR(opt, {total = 1000, warmup = 100})
---     opt:step() schedule:step()

local class = require "aijit.class"
local nearest = require "aijit.nearest"
local raise = require("aijit.bindings.lib").raise

---@class aijit.optim.Schedule
---@field t integer  steps done
---@field optimizer aijit.optim.Optimizer
local Schedule = class("Schedule")

Schedule.defaults = {warmup = 0}

local function apply(self)
  local factor = self:factor(self.t)
  for _, group in ipairs(self.optimizer.param_groups) do group.lr = group.initial_lr * factor end
end

local function check(self, options)
  local name = getmetatable(self).__name
  local names = {"total"}
  for key in pairs(self.defaults) do names[#names + 1] = key end
  for key in pairs(options) do
    if key ~= "total" and self.defaults[key] == nil then
      raise(("%s: there is no option '%s': %s"):format(name, tostring(key), nearest.hint(tostring(key), names)))
    end
  end
  if self.wants_total and type(options.total) ~= "number" then
    raise(("%s: say how many steps there are: {total = ...}"):format(name))
  end
end

--- The first step's rate is set at once. The rates that the groups have now are those that a factor of 1 gives.
---@param optimizer aijit.optim.Optimizer
---@param options? {total: integer, warmup: integer, min: number}
function Schedule:__init(optimizer, options)
  if type(optimizer) ~= "table" or not optimizer.param_groups then
    raise(("%s: the first argument is the optimizer"):format(getmetatable(self).__name))
  end
  options = options or {}
  check(self, options)
  for key, default in pairs(self.defaults) do
    local value = options[key]
    if value == nil then value = default end
    self[key] = value
  end
  self.total = options.total
  self.optimizer, self.t = optimizer, 0
  for _, group in ipairs(optimizer.param_groups) do group.initial_lr = group.initial_lr or group.lr end
  apply(self)
end

--- The rates for the next step; call it after each optimizer step.
function Schedule:step()
  self.t = self.t + 1
  apply(self)
end

--- The factor for the step after t steps: a straight rise over the first `warmup` steps, which ends at 1, then `after`.
---@param t integer
---@return number
function Schedule:factor(t)
  if t < self.warmup then return (t + 1) / self.warmup end
  if not self.total then return self:after(0) end
  return self:after(math.min(1, (t - self.warmup) / math.max(1, self.total - self.warmup)))
end

--- The factor after the warm-up, at a share of 0 .. 1 of the way.
function Schedule:after() return 1 end

---@return number[] # the rate of each group
function Schedule:get_lr()
  local rates = {}
  for i, group in ipairs(self.optimizer.param_groups) do rates[i] = group.lr end
  return rates
end

---@return {t: integer}
function Schedule:state_dict() return {t = self.t} end

---@return aijit.optim.Schedule self
function Schedule:load_state_dict(dict)
  self.t = dict.t
  apply(self)
  return self
end

--- The same rate, after a warm-up.
local ConstantLR = class("ConstantLR", Schedule)

--- Down a straight line to `min` times the rate at `total`.
local LinearLR = class("LinearLR", Schedule)
LinearLR.defaults = {warmup = 0, min = 0}
LinearLR.wants_total = true
function LinearLR:after(share) return self.min + (1 - self.min) * (1 - share) end

--- Down half a cosine to `min` times the rate at `total` (Loshchilov and Hutter, 2017).
local CosineLR = class("CosineLR", Schedule)
CosineLR.defaults = {warmup = 0, min = 0}
CosineLR.wants_total = true
function CosineLR:after(share) return self.min + (1 - self.min) * (1 + math.cos(math.pi * share)) / 2 end

--- Up from rate / div_factor to the rate over pct_start of the way, then down to rate / div_factor / final_div_factor, both
--- along half a cosine (Smith and Topin, 2018). The group's rate is the highest one.
local OneCycleLR = class("OneCycleLR", Schedule)
OneCycleLR.defaults = {pct_start = 0.3, div_factor = 25, final_div_factor = 1e4}
OneCycleLR.wants_total = true

local function between(from, to, share) return to + (from - to) * (1 + math.cos(math.pi * share)) / 2 end

function OneCycleLR:factor(t)
  local low, top, last = 1 / self.div_factor, self.pct_start * self.total - 1, self.total - 1
  if t <= top then return between(low, 1, top > 0 and t / top or 1) end
  return between(1, low / self.final_div_factor, math.min(1, (t - top) / math.max(1e-12, last - top)))
end

--- Any function of the number of steps done: optim.LambdaLR(opt, function(t) return 0.95 ^ t end).
local LambdaLR = class("LambdaLR", Schedule)

function LambdaLR:__init(optimizer, factor)
  if type(factor) ~= "function" then raise("LambdaLR: the second argument is a function of the step") end
  self.fn = factor
  Schedule.__init(self, optimizer)
end

function LambdaLR:factor(t) return self.fn(t) end

return {
  Schedule = Schedule, ConstantLR = ConstantLR, LinearLR = LinearLR, CosineLR = CosineLR, OneCycleLR = OneCycleLR,
  LambdaLR = LambdaLR,
}
