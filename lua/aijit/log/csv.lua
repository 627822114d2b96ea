--- A table of a run's numbers, for spreadsheets: DIR/log.csv, a column for each name (a comma or a quote in it is written as _).
--
-- Columns are known when the first line that has them comes. A name that comes later makes the file anew with one more column,
-- in one step; the lines before it are empty there.

local Appender = require "aijit.log.appender"
local class = require "aijit.class"
local file = require "aijit.io.file"
local Logger = require "aijit.log.logger"
local system = require "aijit.bindings.system"

---@class aijit.CsvLogger: aijit.Logger
local Csv = class("Csv", Logger)

Csv.interval = 1
Csv.kinds = {scalar = true}

local fixed = {"time", "phase", "step", "epoch", "samples"}

local function field(value)
  if value == nil then return "" end
  if type(value) == "number" then
    if value ~= value then return "nan" end
    if value == math.huge then return "inf" elseif value == -math.huge then return "-inf" end
    local short = ("%.14g"):format(value)
    return tonumber(short) == value and short or ("%.17g"):format(value)
  end
  return (tostring(value):gsub('[,"%c]', "_"))
end

local function row(values)
  local parts = {}
  for i = 1, #values do parts[i] = field(values[i]) end
  return table.concat(parts, ",") .. "\n"
end

-- The names in a file's first line, and all of the file.
local function head_of(path)
  local handle = io.open(path, "rb")
  if not handle then return nil end
  local text = handle:read "*a"
  handle:close()
  local line = text:match "^([^\n]*)\n"
  if not line then return nil end
  local names = {}
  for name in (line .. ","):gmatch "([^,]*)," do names[#names + 1] = name end
  return names, text
end

---@param dir string folder of the run; the file is log.csv there
---@param o? {interval?: number, keys?: table<string, number>, name?: string} interval: seconds between two lines of a phase (1)
function Csv:__init(dir, o)
  if type(dir) ~= "string" then error(("ai.log.Csv: the folder is %s, not a string"):format(tostring(dir)), 3) end
  o = o or {}
  self:limits(o, "ai.log.Csv", {"name"})
  self.path = system.make_directories(dir) .. "/" .. (o.name or "log.csv")
  self._names = head_of(self.path)
  self._file = Appender(self.path, {lines = true})
  if not self._names then
    self._names = {unpack(fixed)}
    self._file:write(row(self._names))
    self._file:flush()
  end
  self:_number()
end

function Csv:_number()
  self._place = {}
  for i, name in ipairs(self._names) do self._place[name] = i end
end

-- The file with more columns: written beside it, then put in its place.
local function widen(self, names)
  self._file:close()
  local _, text = head_of(self.path)
  local more = (","):rep(#names)
  local rest = text:match "^[^\n]*\n(.*)$"
  for _, name in ipairs(names) do table.insert(self._names, name) end
  file.write(self.path, row(self._names) .. (rest:gsub("\n", more .. "\n")))
  self:_number()
  self._file = Appender(self.path, {lines = true})
end

function Csv:write(line)
  local fresh = {}
  for _, pair in ipairs(line.scalars) do
    local name = field(pair[1])
    if not self._place[name] then
      fresh[#fresh + 1] = name
      self._place[name] = 0
    end
  end
  if #fresh > 0 then widen(self, fresh) end
  local values = {}
  for i = 1, #self._names do values[i] = "" end
  local about = {math.floor(line.time * 1000 + 0.5) / 1000, line.phase, line.step, line.epoch, line.samples}
  for i, name in ipairs(fixed) do if self._place[name] then values[self._place[name]] = about[i] end end
  for _, pair in ipairs(line.scalars) do values[self._place[field(pair[1])]] = pair[2] end
  self._file:write(row(values))
  self._file:flush()
end

-- Columns that come after the checkpoint make the lines before it longer: what stands still is their number.
function Csv:position()
  self._file:position()
  local _, text = head_of(self.path)
  local _, lines = text:gsub("\n", "")
  return {lines = lines}
end

function Csv:rewind(position)
  self._file:close()
  local _, text = head_of(self.path)
  local at, lines = 0, 0
  while text and lines < position.lines do
    local stop = text:find("\n", at + 1, true)
    if not stop then break end
    at, lines = stop, lines + 1
  end
  if text and at < #text then system.truncate(self.path, at) end
  self._file = Appender(self.path, {lines = true})
  return position.lines - lines
end

function Csv:stop()
  if self._file then self._file:close() end
  self._file = nil
end

return Csv
