--- How far, how fast, how long still: the numbers and the text of a progress bar.

local class = require "aijit.class"

local progress = {}

--- Seconds as 1:02:03 or 02:03.
---@param seconds number
---@return string
function progress.duration(seconds)
  if seconds ~= seconds or seconds == math.huge then return "?" end
  seconds = math.floor(seconds + 0.5)
  local hours, minutes = math.floor(seconds / 3600), math.floor(seconds / 60) % 60
  if hours >= 24 then return ("%dd %02d:%02d:%02d"):format(math.floor(hours / 24), hours % 24, minutes, seconds % 60) end
  if hours > 0 then return ("%d:%02d:%02d"):format(hours, minutes, seconds % 60) end
  return ("%02d:%02d"):format(minutes, seconds % 60)
end

--- A rate in steps per second, or, below one, in seconds per step.
---@param rate number? steps per second
---@return string
function progress.rate(rate)
  if not rate or rate <= 0 then return "? it/s" end
  if rate < 1 then return ("%.2f s/it"):format(1 / rate) end
  return rate < 100 and ("%.1f it/s"):format(rate) or ("%.0f it/s"):format(rate)
end

local eighths = {"▏", "▎", "▍", "▌", "▋", "▊", "▉"}

--- A bar of `width` columns.
---@param part number 0 to 1
---@param width integer
---@return string
function progress.bar(part, width)
  local filled = math.floor(math.max(0, math.min(1, part)) * width * 8 + 0.5)
  local full, rest = math.floor(filled / 8), filled % 8
  return ("█"):rep(full) .. (eighths[rest] or "") .. (" "):rep(width - full - (rest > 0 and 1 or 0))
end

--- A value in a line: four figures.
---@param value number
---@return string
function progress.number(value)
  local size = math.abs(value)
  if value == math.floor(value) and size < 1e6 then return ("%d"):format(value) end
  if size >= 1e-3 and size < 1e4 then
    return (("%.4f"):format(value):gsub("0+$", ""):gsub("%.$", ""))
  end
  return ("%.3g"):format(value)
end

--- Smooths the rate of something that goes on.
---@class aijit.Meter
local Meter = class("Meter")

--- Weight of the newest measurement.
local newest = 0.3

function Meter:__init() self.rate = nil end

--- Tells how much is done.
---@param done number in any unit: steps, or a part of 1
---@param now number seconds
function Meter:update(done, now)
  if self._now and now > self._now and done >= self._done then
    local rate = (done - self._done) / (now - self._now)
    self.rate = self.rate and self.rate + newest * (rate - self.rate) or rate
  end
  if not self._now or now > self._now then self._done, self._now = done, now end
end

--- Seconds until `goal` is done; nil when the rate is not known yet.
---@param goal number
---@return number?
function Meter:eta(goal)
  if not self.rate or self.rate <= 0 then return nil end
  return math.max(0, (goal - self._done) / self.rate)
end

progress.Meter = Meter

--- The text of a line's values: "loss=0.31, accuracy=0.9".
---@param scalars {[1]: string, [2]: number}[]
---@return string
function progress.values(scalars)
  local parts = {}
  for i, pair in ipairs(scalars) do parts[i] = pair[1] .. "=" .. progress.number(pair[2]) end
  return table.concat(parts, ", ")
end

return progress
