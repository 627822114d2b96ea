--- Config files: JSON, YAML, and Lua files that return a table.

local grammar = require "aijit.config.grammar"

local file = {}

local readers = {}

-- A Lua file sees nothing of the program: no functions, no io, no methods of strings; it can only make a table, in a limited
-- number of steps and of bytes.
local MAX_STEPS, MAX_BYTES, STRIDE = 10000000, 64 * 2 ^ 20, 10

local function limited(chunk)
  local steps, start = 0, collectgarbage "count"
  local strings = debug.getmetatable ""
  local methods, hook, mask, count = strings.__index, debug.gethook()
  jit.off(chunk, true)                  -- compiled code does not count
  -- Not by a method of a string, which there is not until the file is read.
  local too_long, too_large = ("it takes more than %d steps"):format(MAX_STEPS), ("it takes more than %d MB"):format(MAX_BYTES / 2 ^ 20)
  strings.__index = nil
  debug.sethook(function()
    steps = steps + STRIDE
    if steps > MAX_STEPS then error(too_long, 0) end
    if (collectgarbage "count" - start) * 1024 > MAX_BYTES then error(too_large, 0) end
  end, "", STRIDE)
  local ok, value = pcall(chunk)
  debug.sethook(hook, mask, count)
  strings.__index = methods
  if not ok then error(value, 0) end
  return value
end

function readers.lua(content, path)
  local chunk, problem = load(content, "@" .. path, "t", {})
  if not chunk then error(problem, 0) end
  return limited(chunk)
end

-- The place that counts is the one in the file, which the message has.
local function decoded(format, content)
  local ok, value = pcall(format.decode, content)
  if not ok then error((tostring(value):gsub("^[^\n:]+:%d+: ", "")), 0) end
  return value, format.null
end

function readers.json(content) return decoded(require "aijit.json", content) end

function readers.yaml(content) return decoded(require "aijit.yaml", content) end
readers.yml = readers.yaml

-- Every format has its own null and its own marks on tables; here they become ours, and none.
local function plain(value, null, depth)
  if value ~= nil and value == null then return grammar.null end
  local kind = type(value)
  if kind == "function" or kind == "cdata" or kind == "thread" then error(("it holds a %s, which is no value of a config"):format(kind), 0) end
  if kind ~= "table" then return value end
  if depth > 512 then error("it nests deeper than 512: does a table contain itself?", 0) end
  local result = {}
  for key, inner in pairs(value) do result[key] = plain(inner, null, depth + 1) end
  return result
end

--- Whether a word of a command line names a config file.
---@param word string
---@return boolean
function file.is_name(word)
  local extension = word:match("%.(%a+)$")
  return extension ~= nil and readers[extension] ~= nil and not word:find("=", 1, true)
end

local function open(path)
  local handle = io.open(path, "rb")
  if handle or path:find("/", 1, true) then return handle, path end
  local folder = type(arg) == "table" and type(arg[0]) == "string" and arg[0]:match("^(.*/)")
  if not folder then return nil, path end
  return io.open(folder .. path, "rb"), folder .. path
end

--- Reads a config file. A name without a folder is also looked for beside the program.
---@param path string ending in .json, .yaml, .yml or .lua
---@return table values
function file.read(path)
  local reader = readers[path:match("%.(%a+)$") or ""]
  if not reader then error(("config file '%s': its name must end in .yaml, .yml, .json or .lua"):format(path), 0) end
  local handle, found = open(path)
  if not handle then error(("config file '%s' cannot be opened"):format(path), 0) end
  local content = handle:read("*a")
  handle:close()
  if not content then error(("config file '%s' cannot be read"):format(found), 0) end
  return file.parse(content, path:match("%.(%a+)$"), found)
end

--- The table in a config file's text.
---@param content string
---@param format "yaml"|"yml"|"json"|"lua"
---@param path string for errors
---@return table values
function file.parse(content, format, path)
  local ok, values, null = pcall(readers[format], content, path)
  if not ok then error(("config file '%s': %s"):format(path, values), 0) end
  if values == nil and content:match("^%s*$") or format ~= "lua" and values == null then values = {} end
  if type(values) ~= "table" then
    error(("config file '%s' holds %s, not a table of fields"):format(path, values == nil and "nothing" or type(values)), 0)
  end
  if #values > 0 then error(("config file '%s' holds a list, not a table of fields"):format(path), 0) end
  ok, values = pcall(plain, values, null, 0)
  if not ok then error(("config file '%s': %s"):format(path, values), 0) end
  return values
end

return file
