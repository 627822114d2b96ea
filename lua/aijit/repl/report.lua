-- What a session prints: values, and errors without the session's own frames.

local inspect = require "aijit.inspect"
local traceback = require "aijit.traceback"

local M = {}

--- Colours for a terminal; all of them empty text where there is none.
---@param enabled boolean
---@return table<string, string>
function M.style(enabled)
  if enabled then return {red = "\27[31m", dim = "\27[2m", bold = "\27[1m", off = "\27[0m"} end
  return {red = "", dim = "", bold = "", off = ""}
end

--- The values of an expression as text; nil when there are none. Short ones share a line.
---@param values {n: integer, [integer]: any}
---@param width integer
---@return string?
function M.values(values, width)
  if values.n == 0 then return nil end
  local texts, total = {}, 0
  for i = 1, values.n do
    texts[i] = inspect.inspect(values[i], {width = width - 1})
    total = texts[i]:find("\n", 1, true) and math.huge or total + #texts[i] + 4
  end
  return table.concat(texts, total <= width and "    " or "\n")
end

--- The message of an error of any type.
---@param err any
---@return string
function M.message(err)
  if type(err) == "string" then return err end
  local meta = debug.getmetatable(err)
  if type(meta) == "table" and rawget(meta, "__tostring") then
    local ok, text = pcall(tostring, err)
    if ok then return text end
  end
  return ("(error object is a %s value) %s"):format(type(err), inspect.inspect(err))
end

--- For xpcall: message and stack, separated by a line break. A failure in the typed line itself needs no stack.
---@param err any
---@return string
function M.describe(err)
  local list = {M.message(err)}
  local useful = false
  for _, line in ipairs(traceback.frames(2, list[1])) do
    list[#list + 1] = line
    if not line:find("^\t%[C%]") and not line:find("^\t%[builtin") and not line:find(": in main chunk$") then useful = true end
  end
  return useful and table.concat(list, "\n") or list[1]
end

--- Seconds with a unit in which they can be read.
---@param seconds number
---@return string
function M.duration(seconds)
  if seconds < 1e-3 then return ("%.3g us"):format(seconds * 1e6) end
  if seconds < 1 then return ("%.3g ms"):format(seconds * 1e3) end
  return ("%.3g s"):format(seconds)
end

return M
