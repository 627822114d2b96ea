--- Where the time of a training's steps goes: data, forward, backward, optimizer, log, validation, checkpoint; and op by op. As
--- tables, and as a trace that chrome://tracing and Perfetto show. With config.profile, of the steps 6 to 55.
--
-- The clock is the host's: an op on a device that computes on its own counts where its result is waited for.

local class = require "aijit.class"
local profile = require "aijit.profile"
local watch = require "aijit.bindings.watch"

---@class aijit.task.Profile
---@field report aijit.Profile? when it is finished
local Profile = class("TaskProfile")

local order = {"data", "forward", "backward", "optimizer", "log", "validation", "checkpoint", "other"}

---@param o? {first?: integer, steps?: integer} first 5: steps that are not measured, while caches fill; steps 50: that are
function Profile:__init(o)
  self.first, self.steps = o and o.first or 5, o and o.steps or 50
  self.count = 0
end

--- Ends the phase that was, and begins another.
---@param name string
function Profile:enter(name)
  if self.count < self.first or self.report then return end
  if not self.begun then self.begun = profile.start() end
  if self.range then watch.close(self.range) end
  self.range = watch.open(name)
end

--- Ends a step. True when enough were measured.
---@return boolean over
function Profile:end_step()
  self.count = self.count + 1
  return self.count >= self.first + self.steps
end

--- Ends it.
---@return boolean measured whether there was a step to measure
function Profile:finish()
  if self.begun and not self.report then self.report = profile.stop(self.begun) end
  return self.report ~= nil
end

--- The tables: a line for each phase, its time a step and its share; then the ops.
---@return string
function Profile:table()
  local totals, sum, steps = self.report:ranges(), 0, math.max(1, self.count - self.first)
  for _, seconds in pairs(totals) do sum = sum + seconds end
  local lines = {("where the time of %d steps went (%.2f ms a step):"):format(steps, sum / steps * 1e3)}
  for _, name in ipairs(order) do
    local seconds = totals[name]
    if seconds then lines[#lines + 1] = ("  %-10s %9.3f ms %5.1f %%"):format(name, seconds / steps * 1e3, sum > 0 and seconds / sum * 100 or 0) end
  end
  return ("%s\nits ops, in all steps together:\n%s"):format(table.concat(lines, "\n"), self.report:table {limit = 15})
end

--- Writes the trace.
---@param path string
function Profile:write(path) self.report:write(path) end

return Profile
