--- Learning rates that change from step to step: the rate of each group times a factor of the number of steps done.
---
---     local schedule = ai.optim.CosineLR(opt, {total = 1000, warmup = 100})
---     opt:step() schedule:step()

local class = require "aijit.class"
local jit = require "aijit.bindings.jit"
local nearest = require "aijit.nearest"
local raise = require("aijit.bindings.lib").raise

---@class aijit.optim.Schedule
---@field t integer  steps done
---@field optimizer aijit.optim.Optimizer
local Schedule = class("Schedule")

--- Options with their defaults; `wants` names those that have none, with what they are, for messages.
Schedule.defaults = {warmup = 0}
Schedule.wants = {}

--- Sets the rates of all groups.
function Schedule:apply()
  local factor = self:factor(self.t)
  for _, group in ipairs(self.optimizer.param_groups) do group.lr = group.initial_lr * factor end
end

local function fail(self, text, ...)
  raise(("%s: %s"):format(getmetatable(self).__name, text:format(...)))
end
Schedule.fail = fail

local function check(self, options)
  local names = {total = "number"}
  for key, value in pairs(self.defaults) do names[key] = type(value) end
  for key, value in pairs(self.wants) do names[key] = type(value[1]) end
  local list = {}
  for key in pairs(names) do list[#list + 1] = key end
  for key, value in pairs(options) do
    if not names[key] then fail(self, "there is no option '%s': %s", tostring(key), nearest.hint(tostring(key), list)) end
    if type(value) ~= names[key] then fail(self, "%s is a %s; a %s is wanted", key, type(value), names[key]) end
    if type(value) == "number" and not (value >= 0) then fail(self, "%s is %g; it must not be negative", key, value) end
  end
  if self.wants_total and type(options.total) ~= "number" then
    fail(self, "say how many steps there are: {total = ...}")
  end
  for key, value in pairs(self.wants) do
    if options[key] == nil then fail(self, "say %s: {%s = ...}", value[2], key) end
  end
end

--- The first step's rate is set at once. The rates that the groups have now are those that a factor of 1 gives.
---@param optimizer aijit.optim.Optimizer
---@param options? {total: integer, warmup: integer, min: number}
function Schedule:__init(optimizer, options)
  if type(optimizer) ~= "table" or not optimizer.param_groups then fail(self, "the first argument is the optimizer") end
  if options ~= nil and type(options) ~= "table" then fail(self, "options are a table, not a %s", type(options)) end
  options = options or {}
  check(self, options)
  for key, default in pairs(self.defaults) do
    local value = options[key]
    if value == nil then value = default end
    self[key] = value
  end
  for key in pairs(self.wants) do self[key] = options[key] end
  self.total = options.total
  self.optimizer, self.t = optimizer, 0
  for _, group in ipairs(optimizer.param_groups) do group.initial_lr = group.initial_lr or group.lr end
  self:check()
  self:apply()
end

--- Refuses options that do not go together.
function Schedule:check() end

--- The rates for the next step; call it after each optimizer step.
function Schedule:step()
  if jit.is_recording() then self:fail("step: a function that ai.jit records would step the schedule only once; do it after the call") end
  self.t = self.t + 1
  self:apply()
end

--- The factor for the step after t steps: a straight rise over the first `warmup` steps, which ends at 1, then `after`.
---@param t integer
---@return number
function Schedule:factor(t)
  if t < self.warmup then return (t + 1) / self.warmup end
  if not self.total then return self:after(0, t - self.warmup) end
  return self:after(math.min(1, (t - self.warmup) / math.max(1, self.total - self.warmup)), t - self.warmup)
end

--- The factor after the warm-up, at a share of 0 .. 1 of the way, n steps after it.
function Schedule:after() return 1 end

---@return number[] # the rate of each group
function Schedule:get_lr()
  local rates = {}
  for i, group in ipairs(self.optimizer.param_groups) do rates[i] = group.lr end
  return rates
end

--- Plain data that say where the schedule is.
---@return {t: integer}
function Schedule:state_dict() return {t = self.t} end

--- Goes on from a state, and sets the rates.
---@return aijit.optim.Schedule self
function Schedule:load_state_dict(dict)
  if type(dict) ~= "table" or type(dict.t) ~= "number" then fail(self, "load_state_dict: a table with a number `t` is wanted") end
  self.t = dict.t
  self:apply()
  return self
end

-- -- Curves ---------------------------------------------------------------------------------------------------------

--- The same rate, after a warm-up.
local ConstantLR = class("ConstantLR", Schedule)

--- Up a straight line over `warmup` steps, from `start` times the rate, then the same.
local WarmupLR = class("WarmupLR", Schedule)
WarmupLR.defaults = {start = 0}
WarmupLR.wants = {warmup = {1, "how many steps the rise takes"}}
function WarmupLR:factor(t)
  return t >= self.warmup and 1 or self.start + (1 - self.start) * (t + 1) / self.warmup
end

--- Down a straight line to `min` times the rate at `total`.
local LinearLR = class("LinearLR", Schedule)
LinearLR.defaults = {warmup = 0, min = 0}
LinearLR.wants_total = true
function LinearLR:after(share) return self.min + (1 - self.min) * (1 - share) end

--- Down to 0 at `total` as (1 - share)^power.
local PolynomialLR = class("PolynomialLR", Schedule)
PolynomialLR.defaults = {warmup = 0, power = 1}
PolynomialLR.wants_total = true
function PolynomialLR:after(share) return (1 - share) ^ self.power end

local function cosine(share) return (1 + math.cos(math.pi * share)) / 2 end

--- Down half a cosine to `min` times the rate at `total` (Loshchilov and Hutter, 2017).
local CosineLR = class("CosineLR", Schedule)
CosineLR.defaults = {warmup = 0, min = 0}
CosineLR.wants_total = true
function CosineLR:after(share) return self.min + (1 - self.min) * cosine(share) end

--- Down half a cosine to `min` times the rate over `period` steps, then anew, each time over `mult` times as many
--- (SGDR: Loshchilov and Hutter, 2017).
local CosineRestartsLR = class("CosineRestartsLR", Schedule)
CosineRestartsLR.defaults = {warmup = 0, min = 0, mult = 1}
CosineRestartsLR.wants = {period = {1, "how many steps the first fall takes"}}

function CosineRestartsLR:check()
  if self.period < 1 then self:fail("period is %g; it must be at least 1", self.period) end
  if self.mult < 1 then self:fail("mult is %g; it must be at least 1", self.mult) end
end

function CosineRestartsLR:after(_, n)
  local period = self.period
  if self.mult == 1 then
    n = n % period
  else
    while n >= period do n, period = n - period, period * self.mult end
  end
  return self.min + (1 - self.min) * cosine(n / period)
end

--- Up a straight line over `warmup` steps, then down as 1 / sqrt(t) (Vaswani and others, 2017). The rate is the highest one;
--- with `dim`, the model's width, the factor is theirs: dim^-0.5 min(t^-0.5, t warmup^-1.5).
local NoamLR = class("NoamLR", Schedule)
NoamLR.defaults = {dim = 0}
NoamLR.wants = {warmup = {1, "how many steps the rise takes"}}

function NoamLR:check()
  if self.warmup < 1 then self:fail("warmup is %g; it must be at least 1", self.warmup) end
end

function NoamLR:factor(t)
  t = t + 1
  local factor = math.min(t ^ -0.5, t * self.warmup ^ -1.5)
  return self.dim > 0 and self.dim ^ -0.5 * factor or factor * self.warmup ^ 0.5
end

--- Times gamma after every step_size steps.
local StepLR = class("StepLR", Schedule)
StepLR.defaults = {warmup = 0, gamma = 0.1}
StepLR.wants = {step_size = {1, "after how many steps the rate falls"}}

function StepLR:check()
  if self.step_size < 1 then self:fail("step_size is %g; it must be at least 1", self.step_size) end
end

function StepLR:after(_, n) return self.gamma ^ math.floor(n / self.step_size) end

--- Times gamma at each of the milestones, which count from the end of the warm-up.
local MultiStepLR = class("MultiStepLR", Schedule)
MultiStepLR.defaults = {warmup = 0, gamma = 0.1}
MultiStepLR.wants = {milestones = {{}, "at which steps the rate falls"}}

function MultiStepLR:check()
  for i, at in ipairs(self.milestones) do
    if type(at) ~= "number" then self:fail("milestones[%d] is a %s, not a number", i, type(at)) end
  end
end

function MultiStepLR:after(_, n)
  local passed = 0
  for _, at in ipairs(self.milestones) do if n >= at then passed = passed + 1 end end
  return self.gamma ^ passed
end

--- Times gamma at every step.
local ExponentialLR = class("ExponentialLR", Schedule)
ExponentialLR.defaults = {warmup = 0, min = 0}
ExponentialLR.wants = {gamma = {1, "by what the rate is multiplied at each step"}}
function ExponentialLR:after(_, n) return math.max(self.min, self.gamma ^ n) end

--- Up from rate / div_factor to the rate over pct_start of the way, then down to rate / div_factor / final_div_factor, both
--- along half a cosine (Smith and Topin, 2018). The group's rate is the highest one.
local OneCycleLR = class("OneCycleLR", Schedule)
OneCycleLR.defaults = {pct_start = 0.3, div_factor = 25, final_div_factor = 1e4}
OneCycleLR.wants_total = true

local function between(from, to, share) return to + (from - to) * cosine(share) end

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
  Schedule = Schedule, ConstantLR = ConstantLR, WarmupLR = WarmupLR, LinearLR = LinearLR, PolynomialLR = PolynomialLR,
  CosineLR = CosineLR, CosineRestartsLR = CosineRestartsLR, NoamLR = NoamLR, StepLR = StepLR, MultiStepLR = MultiStepLR,
  ExponentialLR = ExponentialLR, OneCycleLR = OneCycleLR, LambdaLR = LambdaLR,
}
