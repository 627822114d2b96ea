--- Config files: JSON, YAML, and Lua files that return a table.

local grammar = require "aijit.config.grammar"

local file = {}

local readers = {}

--- A Lua file sees nothing of the program: no functions, no io; it can only make a table.
function readers.lua(content, path)
  local chunk, problem = load(content, "@" .. path, "t", {})
  if not chunk then error(problem, 0) end
  return chunk()
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

-- Every library has its own null and its own marks on tables; here they become ours, and none.
local function plain(value, null)
  if value ~= nil and (value == null or type(value) == "userdata" or type(value) == "cdata") then return grammar.null end
  if type(value) ~= "table" then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = plain(inner, null) end
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
  local ok, values, null = pcall(reader, content, found)
  if not ok then error(("config file '%s': %s"):format(found, values), 0) end
  if values == nil and content:match("^%s*$") then values = {} end
  if type(values) ~= "table" then
    error(("config file '%s' holds %s, not a table of fields"):format(found, values == nil and "nothing" or type(values)), 0)
  end
  return plain(values, null)
end

return file
