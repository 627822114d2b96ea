--- The code of a run: the program and the modules it has loaded, kept in DIR/code, from which `aijit rerun DIR` runs them.

local file = require "aijit.io.file"
local system = require "aijit.bindings.system"

local program = {}

local function copy(from, to)
  local handle = io.open(from, "rb")
  if not handle then return end
  local text = handle:read("*a")
  handle:close()
  local old = io.open(to, "rb")
  local same = old and old:read("*a") == text
  if old then old:close() end
  if text and not same then
    system.make_directories(to:match("^(.*)/"))
    file.write(to, text)
  end
end

--- The Lua file that this process runs; nil for a session, standard input, or another program than a Lua file.
---@return string?
function program.path()
  local arguments = rawget(_G, "arg")
  local path = type(arguments) == "table" and arguments[0]
  return type(path) == "string" and path:match("%.lua$") and file.exists(path) and path or nil
end

--- Copies the program, and every module that is loaded now and not aijit's own, to DIR/code, a module under its own name.
---@param dir string the run's folder
function program.keep(dir)
  local path = program.path()
  if not path then return end
  copy(path, dir .. "/code/" .. path:match("[^/]+$"))
  for name in pairs(package.loaded) do
    local own = type(name) ~= "string" or name == "aijit" or name:match("^aijit%.")
    local found = not own and package.searchpath(name, package.path)
    if found then
      local tail = found:match("/init%.lua$") and "/init.lua" or ".lua"
      copy(found, dir .. "/code/" .. name:gsub("%.", "/") .. tail)
    end
  end
end

return program
