--- The logger of the terminal: a bar that is drawn again and again, or, when the output is a file, a plain line now and then.

local class = require "aijit.class"
local Logger = require "aijit.log.logger"
local progress = require "aijit.log.progress"
local system = require "aijit.bindings.system"

---@class aijit.StdoutLogger: aijit.Logger
local Stdout = class("Stdout", Logger)

Stdout.kinds = {scalar = true, text = true}

-- Without a terminal: a line after so many seconds, or after such a part of the work.
local plain_interval, plain_part = 10, 0.1

---@param o? {interval?: number, keys?: table<string, number>, write?: fun(text: string), terminal?: boolean, columns?: integer}
---  interval: seconds between two drawings (0.1); write, terminal, columns: in place of standard output
function Stdout:__init(o)
  o = o or {}
  if o.terminal == nil then self.terminal = system.is_terminal(1) else self.terminal = o.terminal end
  self.interval = self.terminal and 0.1 or plain_interval
  self:limits(o, "ai.log.Stdout", {"write", "terminal", "columns"})
  self.columns = o.columns
  self._write = o.write or function(text)
    io.stdout:write(text)
    io.stdout:flush()
  end
  self._meter = progress.Meter()
  self._drawn = false
  self._part = 0
end

function Stdout:due(phase, now, force, line)
  if not self.terminal and phase == "train" and line.progress then
    local part = math.floor(line.progress / plain_part + 1e-9)
    if part > self._part then
      self._part, force = part, true
    end
  end
  return Logger.due(self, phase, now, force, line)
end

local function fit(text, columns)
  -- Only the values at the end are cut, which are ASCII as a rule; a cut letter's first bytes go too.
  local width, i = 0, 1
  while i <= #text do
    local bytes = text:match("^[%z\1-\127\194-\244][\128-\191]*()", i) or i + 1
    width = width + 1
    if width > columns then return text:sub(1, i - 1) end
    i = bytes
  end
  return text
end

local function erase(self)
  if self._drawn then self._write("\r\27[K") end
  self._drawn = false
end

local function width_of(text)
  local _, letters = text:gsub("[%z\1-\127\194-\244]", "")
  return letters
end

local WIDEST = 16          -- columns of the bar

--- The line as text, without an end. On a terminal the bar shrinks until the values fit, then the last of them are left out, so that
-- none is cut within a number.
---@param line aijit.LogLine
---@param columns? integer that there are; as many as it takes
---@return string
function Stdout:format(line, columns)
  local eta = line.progress and line.progress > 0 and line.elapsed * (1 - line.progress) / line.progress
  local rate = progress.rate(self._meter.rate)
  local count = line.total and ("%d/%d"):format(line.step, line.total) or ("%d"):format(line.step)
  local time = progress.duration(line.elapsed) .. (eta and "<" .. progress.duration(eta) or "")
  local part = line.progress and ("%3d%%"):format(math.floor(line.progress * 100))
  local function text(bar, shown)
    local values = progress.values(shown)
    local middle = not part and "" or bar > 0 and ("%s|%s| "):format(part, progress.bar(line.progress, bar)) or part .. " "
    return ("%s %s%s [%s, %s]%s"):format(line.phase, middle, count, time, rate, values ~= "" and "  " .. values or "")
  end
  if not self.terminal then return text(0, line.scalars) end
  local shown = {unpack(line.scalars)}
  while true do
    local bare = width_of(text(0, shown))
    local bar = columns and math.min(WIDEST, columns - bare - 2) or WIDEST
    if bar >= 4 then return text(bar, shown) end
    if bare <= (columns or bare) or #shown == 0 then return text(0, shown) end
    shown[#shown] = nil
  end
end

function Stdout:write(line)
  if line.phase ~= "train" then
    erase(self)
    self._write(("%s step %d, epoch %d: %s\n"):format(line.phase, line.step, line.epoch, progress.values(line.scalars)))
  else
    self._meter:update(line.step, line.elapsed)
    if self.terminal then
      local columns = (self.columns or system.columns(1) or 80) - 1
      self._write("\r\27[K" .. fit(self:format(line, columns), columns))
      self._drawn = true
    else
      self._write(self:format(line) .. "\n")
    end
  end
  for _, pair in ipairs(line.texts) do
    erase(self)
    self._write(("%s: %s\n"):format(pair[1], pair[2]))
  end
end

function Stdout:status(message)
  erase(self)
  self._write(message .. "\n")
end

function Stdout:stop()
  if self._drawn then self._write("\n") end
  self._drawn = false
end

return Stdout
