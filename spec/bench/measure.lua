--- Timing: interleaved rounds, median and spread, results checked equal before anything is timed.

local system = require "aijit.bindings.system"

local measure = {}

measure.now = system.monotonic

local function median(list)
  table.sort(list)
  local n = #list
  return n % 2 == 1 and list[(n + 1) / 2] or (list[n / 2] + list[n / 2 + 1]) / 2
end

--- Seconds for one call of f, by calling it often enough for `target` seconds.
local function time(f, count)
  local start = measure.now()
  f(count)
  return (measure.now() - start) / count
end

---@class aijit.Timing
---@field median number  seconds for one
---@field spread number  (largest - smallest) / median

--- Times several functions in turn: each takes a count and does its work that often. Rounds are interleaved, so that
-- whatever else the machine does falls on all alike.
---@param fs (fun(count: integer))[]
---@param o {rounds: integer?, target: number?}?
---@return aijit.Timing[]
function measure.compare(fs, o)
  local rounds, target = o and o.rounds or 9, o and o.target or 0.02
  local counts, times = {}, {}
  for i, f in ipairs(fs) do
    f(1)
    local count = 1
    while true do
      local t = time(f, count) * count
      if t >= target then break end
      count = math.max(count + 1, math.ceil(count * math.min(10, 1.2 * target / math.max(t, 1e-9))))
    end
    counts[i], times[i] = count, {}
  end
  for _ = 1, rounds do
    for i, f in ipairs(fs) do times[i][#times[i] + 1] = time(f, counts[i]) end
  end
  local results = {}
  for i, list in ipairs(times) do
    local m = median(list)
    results[i] = {median = m, spread = (list[#list] - list[1]) / m}
  end
  return results
end

--- A duration with three digits and its unit.
---@param s number
---@return string
function measure.text(s)
  if s < 1e-6 then return ("%.0f ns"):format(s * 1e9) end
  if s < 1e-3 then return ("%.3g us"):format(s * 1e6) end
  if s < 1 then return ("%.3g ms"):format(s * 1e3) end
  return ("%.3g s"):format(s)
end

return measure
