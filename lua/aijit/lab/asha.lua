--- Asynchronous successive halving (Li and others, "A System for Massively Parallel Hyperparameter Tuning", 2020), as a rule for
--- stopping: a trial that reaches step min, min factor, min factor^2, ... goes on only when its value there is among the best
--- 1 / factor of all that have reached it so far, or the best.

local class = require "aijit.class"

---@class aijit.lab.ASHA
---@overload fun(o: {min: number, factor: number?, max: number?}): aijit.lab.ASHA
local ASHA = class("ASHA")

---@param o {min: number, factor: number?, max: number?} min: steps before the first decision; factor: 3; max: no decision from there on
function ASHA:__init(o)
  if type(o) ~= "table" or type(o.min) ~= "number" or o.min <= 0 then error("ASHA: min is the number of steps before the first decision", 3) end
  self.min, self.factor, self.max = o.min, o.factor or 3, o.max or math.huge
  if type(self.factor) ~= "number" or self.factor <= 1 then error("ASHA: factor must be above 1", 3) end
end

--- The rungs that a step has reached, lowest first.
---@param step number
---@return number[]
function ASHA:rungs(step)
  local list, at = {}, self.min
  while at <= step and at < self.max do
    list[#list + 1] = at
    at = at * self.factor
  end
  return list
end

--- A trial's value at a rung: that of its first report from there on.
---@param reports {step: number, value: number}[] in order
---@param rung number
---@return number?
function ASHA:value_at(reports, rung)
  for _, r in ipairs(reports) do if r.step >= rung then return r.value end end
end

--- Whether a trial that has just reported is to end.
---@param reports {step: number, value: number}[] its own; smaller values are better
---@param others {step: number, value: number}[][] of all other trials
---@return boolean
function ASHA:stops(reports, others)
  local last, before = reports[#reports], reports[#reports - 1]
  local reached = self:rungs(last.step)
  local rung = reached[#reached]
  if not rung or before and before.step >= rung then return false end            -- nothing new is decided
  local mine, better, n = last.value, 0, 1
  if mine ~= mine then return true end
  for _, list in ipairs(others) do
    local v = self:value_at(list, rung)
    if v then
      n = n + 1
      if v < mine then better = better + 1 end
    end
  end
  return better >= math.max(1, math.floor(n / self.factor))
end

return ASHA
