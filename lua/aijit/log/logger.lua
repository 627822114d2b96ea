--- What every logger is: something that takes a line of values now and then.

local class = require "aijit.class"
local nearest = require "aijit.nearest"

---@class aijit.LogLine what was logged in one step
---@field step integer optimizer steps done
---@field samples integer
---@field epoch integer
---@field phase "train"|"valid"
---@field time number seconds since 1970
---@field elapsed number seconds since training began
---@field progress number? the part of training that is done, 0 to 1
---@field total integer? steps in all, when that is known
---@field scalars {[1]: string, [2]: number}[] name and value, in the order they were logged
---@field texts {[1]: string, [2]: string}[]
---@field images {name: string, images: any, captions: string[]?}[]
---@field histograms aijit.Histogram[] each with its name, as are the next
---@field sounds aijit.Sound[]
---@field videos aijit.Video[]
---@field meshes aijit.Mesh[]

-- A logger whose file cannot be written raises, and the run ends with its message: a hole in a log is found too late. One whose
-- server is gone says so, keeps what it can, and lets the training go on.

---@class aijit.Logger
local Logger = class("Logger")

--- Seconds between two lines of the same phase.
Logger.interval = 10

--- What it can show; a value of another kind is not even computed for it.
Logger.kinds = {scalar = true, text = true, image = true}

--- Limits by name: {["grad/*"] = 60} takes names that begin with grad/ at most once a minute and phase; `*` stands for any
-- letters, and 0 means each time the logger is due. Of several that fit a name, the longest counts. Every logger's option.
---@type table<string, number>?
Logger.keys = nil

--- Called once before the first line.
---@param run {name: string, dir: string?, config: table?}
function Logger:start(run) end

--- Writes one line.
---@param line aijit.LogLine
Logger.write = class.abstract "write"

--- A message for people: what was validated, where something was saved.
---@param message string
function Logger:status(message) end

--- Where the log stands, on the disk for good: plain data, kept in a checkpoint. nil: it cannot be cut back.
---@return table?
function Logger:position() return nil end

--- Called after `start` when a run is resumed: takes away what was logged after the checkpoint, so that the steps done again
--- stand there once.
---@param position table from `position`, perhaps of another process
---@return integer? missing bytes that were in the log and are not there any more; nil or 0 where all is well
function Logger:rewind(position) end

--- Called once at the end, also after an error.
---@param ok? boolean whether the run ended well
function Logger:stop(ok) end

--- Whether it wants the coming line; then the next one of that phase must wait `interval` seconds.
---@param phase string
---@param now number seconds on a clock that is never set back
---@param force boolean the line is wanted in any case
---@param line aijit.LogLine what is known of the line already: step, progress
---@return boolean
function Logger:due(phase, now, force, line)
  self._last = self._last or {}
  local last = self._last[phase]
  if not force and last and now - last < self.interval then return false end
  self._last[phase] = now
  return true
end

local function seconds_of(keys, name)
  local best, length = 0, -1
  for pattern, seconds in pairs(keys) do
    local fits = name:match("^" .. pattern:gsub("%p", "%%%0"):gsub("%%%*", ".*") .. "$")
    if fits and #pattern > length then best, length = seconds, #pattern end
  end
  return best
end

--- Whether a logger that is due takes a name, by `keys`; then the next one of that name must wait.
---@param phase string
---@param name string
---@param now number
---@param force boolean
---@return boolean
function Logger:takes(phase, name, now, force)
  self._last_of = self._last_of or {}
  local key = phase .. ":" .. name
  local last = self._last_of[key]
  if not force and last and now - last < seconds_of(self.keys, name) then return false end
  self._last_of[key] = now
  return true
end

--- Reads the options that every logger has.
---@param o? {interval?: number, keys?: table<string, number>}
---@param who string for errors
---@param own? string[] the options that this kind of logger has besides; another is an error
function Logger:limits(o, who, own)
  if o == nil then return end
  if type(o) ~= "table" then error(("%s: the options are a table, not %s"):format(who, tostring(o)), 3) end
  local known = {"interval", "keys", unpack(own or {})}
  for name in pairs(o) do
    local found = false
    for _, one in ipairs(known) do found = found or one == name end
    if not found then error(("%s: there is no option '%s'; %s"):format(who, tostring(name), nearest.hint(tostring(name), known)), 3) end
  end
  if o.interval ~= nil and (type(o.interval) ~= "number" or o.interval < 0) then
    error(("%s: interval is a number of seconds, not %s"):format(who, tostring(o.interval)), 3)
  end
  self.interval = o.interval or self.interval
  for pattern, seconds in pairs(o.keys or {}) do
    if type(pattern) ~= "string" or type(seconds) ~= "number" then
      error(('%s: keys is a table of names and seconds, such as {["grad/*"] = 60}'):format(who), 3)
    end
  end
  self.keys = o.keys
end

return Logger
