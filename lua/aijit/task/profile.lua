--- Where the time of a training's steps goes: data, forward, backward, optimizer, log, validation, checkpoint. As a table, and
--- as a trace that chrome://tracing and Perfetto show. With config.profile, of the steps 6 to 55.
--
-- The clock is the host's: an op on a device that computes on its own counts where its result is waited for.

local class = require "aijit.class"
local file = require "aijit.io.file"
local system = require "aijit.bindings.system"

---@class aijit.task.Profile
---@field spans {name: string, from: number, to: number}[] seconds
local Profile = class("Profile")

local order = {"data", "forward", "backward", "optimizer", "log", "validation", "checkpoint", "other"}

---@param o? {first?: integer, steps?: integer} first 5: steps that are not measured, while caches fill; steps 50: that are
function Profile:__init(o)
  self.first, self.steps = o and o.first or 5, o and o.steps or 50
  self.spans, self.count, self.begun = {}, 0, nil
end

--- Ends the phase that was, and begins another.
---@param name string
function Profile:enter(name)
  if self.count < self.first then return end
  local now = system.monotonic()
  self.begun = self.begun or now
  local last = self.spans[#self.spans]
  if last and not last.to then last.to = now end
  self.spans[#self.spans + 1] = {name = name, from = now, step = self.count + 1}
end

--- Ends a step. True when enough were measured.
---@return boolean over
function Profile:end_step()
  self.count = self.count + 1
  return self.count >= self.first + self.steps
end

--- Ends the last phase.
function Profile:finish()
  local last = self.spans[#self.spans]
  if last and not last.to then last.to = system.monotonic() end
end

--- Seconds by phase.
---@return table<string, number>
function Profile:totals()
  local totals = {}
  for _, span in ipairs(self.spans) do totals[span.name] = (totals[span.name] or 0) + (span.to - span.from) end
  return totals
end

--- The table: a line for each phase, its time a step and its share.
---@return string
function Profile:table()
  local totals, sum, steps = self:totals(), 0, math.max(1, self.count - self.first)
  for _, seconds in pairs(totals) do sum = sum + seconds end
  local lines = {("where the time of %d steps went (%.2f ms a step):"):format(steps, sum / steps * 1e3)}
  for _, name in ipairs(order) do
    local seconds = totals[name]
    if seconds then lines[#lines + 1] = ("  %-10s %9.3f ms %5.1f %%"):format(name, seconds / steps * 1e3, sum > 0 and seconds / sum * 100 or 0) end
  end
  return table.concat(lines, "\n")
end

--- Writes the trace, in Chrome's JSON form: complete events, times in microseconds.
---@param path string
function Profile:write(path)
  local json, events, pid = require("aijit").json, {}, system.pid()
  for i, span in ipairs(self.spans) do
    events[i] = {
      name = span.name, cat = "step", ph = "X", pid = pid, tid = 1, ts = (span.from - self.begun) * 1e6,
      dur = (span.to - span.from) * 1e6, args = {step = span.step},
    }
  end
  file.write(path, json.encode {traceEvents = json.array(events), displayTimeUnit = "ms"} .. "\n")
end

return Profile
