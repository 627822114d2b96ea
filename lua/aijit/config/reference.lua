--- What stands for other values in a config: `${optim.lr}` for the field of that name, `${.lr}` for one of the same section,
-- `${env:NAME}` and `${env:NAME,default}` for a variable of the environment (`oc.env` is the same word), `${now:%Y-%m-%d}` for the
-- time this process began, as os.date writes it; `Config.add_resolver` adds others.
--
-- A text that is nothing but one of these has the other value's type; within a longer text each becomes text. They nest:
-- `${env:DATA_${name},/data}`. `\${` is `${` as text. They are looked up when the field is read, so that what the command line
-- changes is seen by all that refer to it.

local grammar = require "aijit.config.grammar"

local reference = {}

--- Functions of the texts after the colon, by name.
---@type table<string, fun(...: string): any>
reference.resolvers = {}

local started = os.time()

--- The time this process began, so that all that refer to it agree.
function reference.resolvers.now(format) return os.date(format or "%Y-%m-%d_%H-%M-%S", started) end

--- Whether a value, or something in it, is to be looked up.
---@param value any
---@return boolean
function reference.is(value)
  if type(value) == "string" then return value:find("${", 1, true) ~= nil end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return false end
  for _, inner in pairs(value) do if reference.is(inner) then return true end end
  return false
end

local resolve_text

-- Where the brace that opens at `at` closes.
local function closing(text, at)
  local depth, i = 0, at
  while i <= #text do
    local c = text:sub(i, i)
    if c == "{" then depth = depth + 1 elseif c == "}" then depth = depth - 1 end
    if depth == 0 then return i end
    i = i + 1
  end
  error(("'%s': a '${' is not closed"):format(text), 0)
end

local function look_up(inner, look, getenv)
  inner = tostring(resolve_text(inner, look, getenv))
  local rest = inner:match "^%s*env:(.*)$" or inner:match "^%s*oc%.env:(.*)$"
  if rest then
    local name, default = rest:match "^%s*([^,]-)%s*,%s*(.-)%s*$"
    name = name or rest:match "^%s*(.-)%s*$"
    local value = getenv(name)
    if value == nil then value = default end
    if value == nil then error(("${%s}: the environment has no %s; ${env:%s,DEFAULT} gives it a default"):format(inner, name, name), 0) end
    return grammar.value(value)
  end
  local name, arguments = inner:match "^%s*([%a_][%w_%.]*)%s*:(.*)$"
  if name then
    local resolver, words = reference.resolvers[name], {}
    if not resolver then
      local names = {"env"}
      for known in pairs(reference.resolvers) do names[#names + 1] = known end
      error(("${%s}: there is no resolver '%s'; %s"):format(inner, name, require("aijit.nearest").hint(name, names)), 0)
    end
    for i, word in ipairs(arguments:match "%S" and grammar.choices(arguments) or {}) do words[i] = word:match "^%s*(.-)%s*$" end
    local ok, value = pcall(resolver, unpack(words))
    if not ok then error(("${%s}: %s"):format(inner, tostring(value)), 0) end
    return value
  end
  local path = inner:match "^%s*(%.*[%a_][%w_%-%.]*)%s*$"
  if not path then error(("${%s}: ${a.b} names a field, ${env:NAME} or ${env:NAME,default} a variable"):format(inner), 0) end
  return look(path)
end

function resolve_text(text, look, getenv)
  local parts, at = {}, 1
  while true do
    local start = text:find("${", at, true)
    if not start then break end
    if text:sub(start - 1, start - 1) == "\\" and start > at then
      parts[#parts + 1] = text:sub(at, start - 2) .. "${"
      at = start + 2
    else
      local stop = closing(text, start + 1)
      local value = look_up(text:sub(start + 2, stop - 1), look, getenv)
      if start == 1 and stop == #text then return value end
      if type(value) == "table" and value ~= grammar.null then
        error(("'%s': a table cannot stand within a text"):format(text), 0)
      end
      parts[#parts + 1] = text:sub(at, start - 1)
      parts[#parts + 1] = type(value) == "number" and ("%.14g"):format(value) or tostring(value)
      at = stop + 1
    end
  end
  parts[#parts + 1] = text:sub(at)
  return table.concat(parts)
end

--- A value with all that is to be looked up in it. Raises, without a place in the code, what cannot be found.
---@param value any
---@param look fun(path: string): any the value of a field; raises when there is none
---@param getenv fun(name: string): string?
---@return any
function reference.resolve(value, look, getenv)
  if type(value) == "string" then return resolve_text(value, look, getenv) end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = reference.resolve(inner, look, getenv) end
  return result
end

return reference
