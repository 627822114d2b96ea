--- Schedules made of schedules, and one that goes by what was measured.

local class = require "aijit.class"
local Schedule = require("aijit.optim.schedule").Schedule

local function check_parts(self, optimizer, parts)
  for i, part in ipairs(parts) do
    if part.optimizer ~= optimizer then self:fail("entry %d, %s, is of another optimizer", i, getmetatable(part).__name) end
  end
end

local function states(parts)
  local list = {}
  for i, part in ipairs(parts) do list[i] = part:state_dict() end
  return list
end

local function load_parts(self, dict)
  if dict.parts ~= nil then
    if type(dict.parts) ~= "table" or #dict.parts ~= #self.parts then
      self:fail("load_state_dict: %d parts here, %s in the state", #self.parts, type(dict.parts) == "table" and #dict.parts or "none")
    end
    for i, part in ipairs(self.parts) do part:load_state_dict(dict.parts[i]) end
  else
    self:each_part(dict.t)
  end
  return Schedule.load_state_dict(self, dict)
end

--- Several schedules at once: their factors are multiplied. Only this one is stepped.
---     ChainedLR(opt, {WarmupLR(opt, {warmup = 100}), StepLR(opt, {step_size = 1000})})
local ChainedLR = class("ChainedLR", Schedule)
ChainedLR:takes "parts:schedules"

function ChainedLR:check() check_parts(self, self.optimizer, self.parts) end

--- Puts the parts at t steps.
function ChainedLR:each_part(t)
  for _, part in ipairs(self.parts) do part.t = t end
end

function ChainedLR:factor(t)
  local product = 1
  for _, part in ipairs(self.parts) do product = product * part:factor(t) end
  return product
end

function ChainedLR:step()
  self:each_part(self.t + 1)
  Schedule.step(self)
end

function ChainedLR:observe(value)
  for _, part in ipairs(self.parts) do if part.observe then part:observe(value) end end
  self:apply()
end

function ChainedLR:state_dict() return {t = self.t, parts = states(self.parts)} end
ChainedLR.load_state_dict = load_parts

--- One schedule after another: the second begins, from its own start, after milestones[1] steps, and so on.
---     SequentialLR(opt, {WarmupLR(opt, {warmup = 100}), CosineLR(opt, {total = 900})}, {100})
local SequentialLR = class("SequentialLR", ChainedLR)

SequentialLR:takes "parts:schedules milestones:steps"

function SequentialLR:check()
  check_parts(self, self.optimizer, self.parts)
  local milestones = self.milestones
  if #milestones ~= #self.parts - 1 then
    self:fail("milestones are the steps at which the next schedule begins: one fewer than there are schedules, which are %d", #self.parts)
  end
  for i, at in ipairs(milestones) do
    if at <= (milestones[i - 1] or 0) then self:fail("milestones[%d] is %g; they are numbers that rise", i, at) end
  end
end

--- The part that holds after t steps, and its own t.
local function place(self, t)
  local i = 1
  while self.milestones[i] and t >= self.milestones[i] do i = i + 1 end
  return self.parts[i], t - (self.milestones[i - 1] or 0)
end

function SequentialLR:each_part(t)
  local part, own = place(self, t)
  part.t = own
end

function SequentialLR:factor(t)
  local part, own = place(self, t)
  return part:factor(own)
end

--- Times `factor` when what is measured has not become better for more than `patience` measurements; PyTorch's
--- ReduceLROnPlateau. `observe` gives it a measurement; ai.Task does so with the loss of each validation.
---     schedule:observe(valid_loss)
local PlateauLR = class("PlateauLR", Schedule)

PlateauLR:takes [[
  warmup=0 mode:min|max=min factor:part@share=0.1 patience:not_negative=10 threshold:not_negative=1e-4 threshold_mode:rel|abs=rel
  cooldown:not_negative=0 min_lr:not_negative=0 eps=1e-8]]

function PlateauLR:check()
  self.bad, self.rest, self.scale = 0, 0, {}
  for i in ipairs(self.optimizer.param_groups) do self.scale[i] = 1 end
end

function PlateauLR:apply()
  local rise = self.t < self.warmup and (self.t + 1) / self.warmup or 1
  for i, group in ipairs(self.optimizer.param_groups) do group.lr = group.initial_lr * rise * (self.scale[i] or 1) end
end

--- The factor of the first group.
function PlateauLR:factor(t)
  return (t < self.warmup and (t + 1) / self.warmup or 1) * self.scale[1]
end

local function is_better(self, value)
  if not self.best then return value == value end
  local by = self.threshold
  if self.threshold_mode == "rel" then
    return self.mode == "min" and value < self.best * (1 - by) or self.mode == "max" and value > self.best * (1 + by)
  end
  return self.mode == "min" and value < self.best - by or self.mode == "max" and value > self.best + by
end

--- What was measured: the lower the better, or with mode = "max" the higher.
---@param value number
function PlateauLR:observe(value)
  if type(value) ~= "number" then self:fail("observe: a number is wanted, not a %s", type(value)) end
  if is_better(self, value) then self.best, self.bad = value, 0 else self.bad = self.bad + 1 end
  if self.rest > 0 then self.rest, self.bad = self.rest - 1, 0 end
  if self.bad > self.patience then
    for i, group in ipairs(self.optimizer.param_groups) do
      local now = group.initial_lr * self.scale[i]
      local new = math.max(now * self.share, self.min_lr)
      if now - new > self.eps then self.scale[i] = new / group.initial_lr end
    end
    self.bad, self.rest = 0, self.cooldown
  end
  self:apply()
end

function PlateauLR:state_dict()
  return {t = self.t, best = self.best, bad = self.bad, rest = self.rest, scale = {unpack(self.scale)}}
end

function PlateauLR:load_state_dict(dict)
  self.best, self.bad, self.rest = dict.best, dict.bad or 0, dict.rest or 0
  for i, scale in ipairs(dict.scale or {}) do self.scale[i] = scale end
  return Schedule.load_state_dict(self, dict)
end

return {ChainedLR = ChainedLR, SequentialLR = SequentialLR, PlateauLR = PlateauLR}
