--- Learning rates that change from step to step: the rate of each group times a factor of the number of steps done.
---
---     local schedule = ai.optim.CosineLR(opt, {total = 1000, warmup = 100})
---     opt:step() schedule:step()

local argument = require "aijit.argument"
local class = require "aijit.class"
local jit = require "aijit.bindings.jit"
local raise = require("aijit.bindings.lib").raise

---@class aijit.optim.Schedule
---@field t integer  steps done
---@field optimizer aijit.optim.Optimizer
local Schedule = class("Schedule")

--- Says what a class takes besides the optimizer: a text as of aijit.argument.
function Schedule.takes(cls, text)
  cls.declaration = argument.declare("optim." .. cls.__name, text, nil, "optimizer")
end
Schedule:takes "warmup=0 total:count=none"

--- Sets the rates of all groups.
function Schedule:apply()
  local factor = self:factor(self.t)
  for _, group in ipairs(self.optimizer.param_groups) do group.lr = group.initial_lr * factor end
end

local function fail(self, text, ...)
  raise(("%s: %s"):format(getmetatable(self).__name, text:format(...)))
end
Schedule.fail = fail

--- The first step's rate is set at once. The rates that the groups have now are those that a factor of 1 gives.
---@param optimizer aijit.optim.Optimizer
---@param ... any what its class takes, by place or in a table: {total = 1000, warmup = 100}
function Schedule:__init(optimizer, ...)
  if type(optimizer) ~= "table" or not optimizer.param_groups then
    fail(self, "the first argument is the optimizer, and not %s", argument.described(optimizer))
  end
  self.declaration:read(self, ...)
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
WarmupLR:takes "warmup start:not_negative=0 total:count=none"
function WarmupLR:factor(t)
  return t >= self.warmup and 1 or self.start + (1 - self.start) * (t + 1) / self.warmup
end

--- Down a straight line to `min` times the rate at `total`.
local LinearLR = class("LinearLR", Schedule)
LinearLR:takes "total:count warmup=0 min:not_negative=0"
function LinearLR:after(share) return self.min + (1 - self.min) * (1 - share) end

--- Down to 0 at `total` as (1 - share)^power.
local PolynomialLR = class("PolynomialLR", Schedule)
PolynomialLR:takes "total:count warmup=0 power:not_negative=1"
function PolynomialLR:after(share) return (1 - share) ^ self.power end

local function cosine(share) return (1 + math.cos(math.pi * share)) / 2 end

--- Down half a cosine to `min` times the rate at `total` (Loshchilov and Hutter, 2017).
local CosineLR = class("CosineLR", Schedule)
CosineLR:takes "total:count warmup=0 min:not_negative=0"
function CosineLR:after(share) return self.min + (1 - self.min) * cosine(share) end

--- Down half a cosine to `min` times the rate over `period` steps, then anew, each time over `mult` times as many
--- (SGDR: Loshchilov and Hutter, 2017).
local CosineRestartsLR = class("CosineRestartsLR", Schedule)
CosineRestartsLR:takes "period:at_least_one warmup=0 min:not_negative=0 mult:at_least_one=1 total:count=none"

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
NoamLR:takes "warmup:at_least_one dim:not_negative=0 total:count=none"

function NoamLR:factor(t)
  t = t + 1
  local factor = math.min(t ^ -0.5, t * self.warmup ^ -1.5)
  return self.dim > 0 and self.dim ^ -0.5 * factor or factor * self.warmup ^ 0.5
end

--- Times gamma after every step_size steps.
local StepLR = class("StepLR", Schedule)
StepLR:takes "step_size:at_least_one warmup=0 gamma:not_negative=0.1 total:count=none"

function StepLR:after(_, n) return self.gamma ^ math.floor(n / self.step_size) end

--- Times gamma at each of the milestones, which count from the end of the warm-up.
local MultiStepLR = class("MultiStepLR", Schedule)
MultiStepLR:takes "milestones:steps warmup=0 gamma:not_negative=0.1 total:count=none"

function MultiStepLR:after(_, n)
  local passed = 0
  for _, at in ipairs(self.milestones) do if n >= at then passed = passed + 1 end end
  return self.gamma ^ passed
end

--- Times gamma at every step.
local ExponentialLR = class("ExponentialLR", Schedule)
ExponentialLR:takes "gamma:not_negative warmup=0 min:not_negative=0 total:count=none"
function ExponentialLR:after(_, n) return math.max(self.min, self.gamma ^ n) end

--- Up from rate / div_factor to the rate over pct_start of the way, then down to rate / div_factor / final_div_factor, both
--- along half a cosine (Smith and Topin, 2018). The group's rate is the highest one.
local OneCycleLR = class("OneCycleLR", Schedule)
OneCycleLR:takes "total:count pct_start:probability=0.3 div_factor:positive=25 final_div_factor:positive=1e4"

local function between(from, to, share) return to + (from - to) * cosine(share) end

function OneCycleLR:factor(t)
  local low, top, last = 1 / self.div_factor, self.pct_start * self.total - 1, self.total - 1
  if t <= top then return between(low, 1, top > 0 and t / top or 1) end
  return between(1, low / self.final_div_factor, math.min(1, (t - top) / math.max(1e-12, last - top)))
end

--- Any function of the number of steps done: optim.LambdaLR(opt, function(t) return 0.95 ^ t end).
local LambdaLR = class("LambdaLR", Schedule)
LambdaLR:takes "factor:function@fn"

function LambdaLR:factor(t) return self.fn(t) end

return {
  Schedule = Schedule, ConstantLR = ConstantLR, WarmupLR = WarmupLR, LinearLR = LinearLR, PolynomialLR = PolynomialLR,
  CosineLR = CosineLR, CosineRestartsLR = CosineRestartsLR, NoamLR = NoamLR, StepLR = StepLR, MultiStepLR = MultiStepLR,
  ExponentialLR = ExponentialLR, OneCycleLR = OneCycleLR, LambdaLR = LambdaLR,
}
