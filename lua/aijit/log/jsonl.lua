--- The log that programs read: one JSON object a line, appended.
--
--   {"t":1795257234.03,"step":100,"epoch":1,"phase":"train","train/loss":0.31}
--
-- A line is written in one piece and flushed. A line that a crash tore is ended when the file is opened again, so a reader
-- need only skip lines that do not parse. NaN and the infinities, which JSON lacks, are "NaN", "Infinity", "-Infinity".

local Appender = require "aijit.log.appender"
local class = require "aijit.class"
local Logger = require "aijit.log.logger"
local system = require "aijit.bindings.system"

local jsonl = {}

local escapes = {['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t"}

local function encode_string(text)
  return '"' .. text:gsub('[%c"\\\127]', function(c) return escapes[c] or ("\\u%04x"):format(c:byte()) end) .. '"'
end

local function encode(value)
  local kind = type(value)
  if kind == "number" then
    if value ~= value then return '"NaN"' end
    if value == math.huge then return '"Infinity"' elseif value == -math.huge then return '"-Infinity"' end
    local short = ("%.14g"):format(value)
    return tonumber(short) == value and short or ("%.17g"):format(value)
  end
  if kind == "boolean" then return tostring(value) end
  return encode_string(tostring(value))
end

--- One object, its fields in the order given.
---@param pairs_in_order {[1]: string, [2]: any}[] names with numbers, booleans or strings
---@return string line without an end
function jsonl.line(pairs_in_order)
  local parts = {}
  for i, pair in ipairs(pairs_in_order) do parts[i] = encode_string(pair[1]) .. ":" .. encode(pair[2]) end
  return "{" .. table.concat(parts, ",") .. "}"
end

--- Opens a file for appending whole lines. Raises when it cannot be opened.
---@param path string
---@return aijit.log.Appender
function jsonl.open(path) return Appender(path, {lines = true}) end

---@class aijit.JsonlLogger: aijit.Logger
local Jsonl = class("Jsonl", Logger)

Jsonl.interval = 1
Jsonl.kinds = {scalar = true, text = true, histogram = true}

---@param dir string folder of the run; the file is log.jsonl there
---@param o? {interval?: number, keys?: table<string, number>, name?: string} interval: seconds between two lines of a phase (1)
function Jsonl:__init(dir, o)
  if type(dir) ~= "string" then error(("ai.log.Jsonl: the folder is %s, not a string"):format(tostring(dir)), 3) end
  o = o or {}
  self:limits(o, "ai.log.Jsonl", {"name"})
  self.path = system.make_directories(dir) .. "/" .. (o.name or "log.jsonl")
  self._file = jsonl.open(self.path)
end

function Jsonl:write(line)
  local fields = {
    {"t", math.floor(line.time * 1000 + 0.5) / 1000}, {"step", line.step}, {"epoch", line.epoch},
    {"samples", line.samples}, {"phase", line.phase},
  }
  for _, pair in ipairs(line.scalars) do table.insert(fields, {line.phase .. "/" .. pair[1], pair[2]}) end
  for _, pair in ipairs(line.texts) do table.insert(fields, {line.phase .. "/" .. pair[1], pair[2]}) end
  for _, h in ipairs(line.histograms) do
    local mean = h.count > 0 and h.sum / h.count or 0
    local std = h.count > 0 and math.sqrt(math.max(0, h.sum_squares / h.count - mean * mean)) or 0
    for _, pair in ipairs {{"min", h.min}, {"max", h.max}, {"mean", mean}, {"std", std}, {"bad", h.bad}} do
      table.insert(fields, {("%s/%s/%s"):format(line.phase, h.name, pair[1]), pair[2]})
    end
  end
  self._file:write(jsonl.line(fields), "\n")
  self._file:flush()
end

function Jsonl:position() return {bytes = self._file:position()} end

function Jsonl:rewind(position) return self._file:rewind(position.bytes) end

function Jsonl:stop()
  if self._file then self._file:close() end
  self._file = nil
end

jsonl.Jsonl = Jsonl

return jsonl
