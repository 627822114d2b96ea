-- What Tab offers. Reads tables without calling anything of the user's: fields are looked up raw, and through __index only
-- where that is a table.

local token = require "aijit.repl.token"

local M = {}

---@class aijit.Completion
---@field from integer        position in the line where the completed word begins
---@field words string[]      what the word could become, sorted

local function sorted(set)
  local list = {}
  for word in pairs(set) do list[#list + 1] = word end
  table.sort(list)
  return list
end

local function is_name(k)
  return type(k) == "string" and k:match("^[%a_][%w_]*$") and not token.keywords[k]
end

local function index_of(value)
  local meta = debug.getmetatable(value)
  local index = type(meta) == "table" and rawget(meta, "__index")
  return type(index) == "table" and index or nil
end

-- obj.name without calling an __index function.
local function field(value, name)
  for _ = 1, 20 do
    if type(value) ~= "table" then return nil end
    local found = rawget(value, name)
    if found ~= nil then return found end
    value = index_of(value)
    if not value then return nil end
  end
end

-- What can be reached from a value by a name: its fields, its class's, and the methods of a tensor.
local function tables_of(value, context)
  local list = {}
  local t = type(value) == "table" and value or index_of(value)
  for _ = 1, 20 do
    if not t then break end
    list[#list + 1] = t
    -- A class whose instances find it by an __index function still has its methods in its metatable.
    local meta = debug.getmetatable(t)
    if type(meta) == "table" and type(rawget(meta, "__index")) == "function" then list[#list + 1] = meta end
    t = index_of(t)
  end
  if context.methods then
    for _, more in ipairs(context.methods(value) or {}) do list[#list + 1] = more end
  end
  return list
end

local function words_from(tables, prefix, want, suffixes)
  local set = {}
  for _, t in ipairs(tables) do
    for k, v in next, t do
      local hidden = prefix == "" and type(k) == "string" and k:sub(1, 1) == "_"
      if is_name(k) and not hidden and k:sub(1, #prefix) == prefix and (not want or type(v) == want) then
        set[k .. (suffixes and type(v) == "function" and "(" or "")] = true
      end
    end
  end
  return sorted(set)
end

-- The value of `a.b.c` to the left of the token at index i; nil, false if it is not that simple.
local function value_before(tokens, i, context)
  local path = {}
  while true do
    local t = tokens[i]
    if not t or t.kind ~= "name" then
      if t and t.kind == "string" and #path == 0 then return "", true end
      return nil, false
    end
    table.insert(path, 1, t.text)
    local dot = tokens[i - 1]
    if not dot or dot.text ~= "." then
      if dot and dot.text == ":" then return nil, false end
      break
    end
    i = i - 2
  end
  local value = context.get(path[1])
  for k = 2, #path do value = field(value, path[k]) end
  return value, value ~= nil
end

local function module_names(prefix, context)
  local set = {}
  for name in pairs(package.loaded) do
    if name:sub(1, #prefix) == prefix then set[name] = true end
  end
  for name in pairs(package.preload) do
    if name:sub(1, #prefix) == prefix then set[name] = true end
  end
  local folder, leaf = prefix:match("^(.*%.)([^.]*)$")
  folder, leaf = folder or "", leaf or prefix
  for template in (context.path or package.path):gmatch("[^;]+") do
    local pattern, tail = template:match("^(.-)%?(.*)$")
    if pattern then
      for _, file in ipairs(context.glob(pattern .. folder:gsub("%.", "/") .. leaf .. "*" .. tail)) do
        local name = file:sub(#pattern + 1, #file - #tail):gsub("/", ".")
        if name:match("^[%w_.]+$") then set[name] = true end
      end
    end
  end
  return sorted(set)
end

local function in_string(tokens, t, context)
  local mark = t.text:match("^%[=*%[") or t.text:sub(1, 1)
  local prefix = t.text:sub(#mark + 1)
  local before = tokens[#tokens - 1]
  if before and before.text == "(" then before = tokens[#tokens - 2] end
  local from = t.first + #mark
  if before and before.text == "require" then
    return {from = from, words = module_names(prefix, context)}
  end
  if before and before.text == "[" then                                -- t["key
    local value = value_before(tokens, #tokens - 2, context)
    local set = {}
    if type(value) == "table" then
      for k in next, value do
        if type(k) == "string" and k:sub(1, #prefix) == prefix then set[k] = true end
      end
    end
    return {from = from, words = sorted(set)}
  end
  return {from = from, words = context.glob(prefix .. "*")}
end

---@class aijit.CompletionContext
---@field get fun(name: string): any          the value of a global or session variable
---@field names fun(): table[]                tables whose keys are the names in scope
---@field methods (fun(value: any): table[]?)?  more tables of methods for a value
---@field glob fun(pattern: string): string[]
---@field path string?                        default package.path
---@field commands string[]?                  words after ":" at the start of a line

--- Completes the end of `line`, the text left of the cursor.
---@param line string
---@param context aijit.CompletionContext
---@return aijit.Completion
function M.complete(line, context)
  local command = line:match("^:(%a*)$")
  if command then
    local words = {}
    for _, word in ipairs(context.commands or {}) do
      if word:sub(1, #command) == command then words[#words + 1] = word end
    end
    return {from = 2, words = words}
  end
  local tokens = token.tokens((line:gsub("^[?:]%a*", function(s) return (" "):rep(#s) end, line:match("^:") and 1 or 0)))
  local last = tokens[#tokens]
  if last and last.open then
    if last.kind == "string" then return in_string(tokens, last, context) end
    return {from = #line + 1, words = {}}
  end
  local prefix, at = "", #tokens + 1
  if last and last.last == #line and (last.kind == "name" or last.kind == "keyword") then prefix, at = last.text, #tokens end
  local from = #line - #prefix + 1
  local dot = tokens[at - 1]
  if dot and (dot.text == "." or dot.text == ":") then
    local value, known = value_before(tokens, at - 2, context)
    if not known then return {from = from, words = {}} end
    local methods_only = dot.text == ":"
    return {from = from, words = words_from(tables_of(value, context), prefix, methods_only and "function", true)}
  end
  local set = {}
  for _, word in ipairs(words_from(context.names(), prefix, nil, true)) do set[word] = true end
  if prefix ~= "" then
    for word in pairs(token.keywords) do
      if word:sub(1, #prefix) == prefix then set[word] = true end
    end
  end
  return {from = from, words = sorted(set)}
end

--- The longest beginning that all words share.
---@param words string[]
---@return string
function M.common(words)
  local common = words[1] or ""
  for i = 2, #words do
    while words[i]:sub(1, #common) ~= common do common = common:sub(1, -2) end
  end
  return common
end

--- Words in columns, as a shell shows them; at most `rows` lines.
---@param words string[]
---@param width integer   of the terminal
---@param rows integer?   default 20
---@return string
function M.columns(words, width, rows)
  local widest = 0
  for _, word in ipairs(words) do widest = math.max(widest, #word) end
  local columns = math.max(1, math.floor((width + 1) / (widest + 2)))
  local lines = math.ceil(#words / columns)
  local shown, text = math.min(lines, rows or 20), {}
  for row = 1, shown do
    local cells = {}
    for column = 1, columns do
      local word = words[(column - 1) * lines + row]
      if word then cells[#cells + 1] = word .. (" "):rep(widest - #word) end
    end
    text[row] = table.concat(cells, "  "):gsub("%s+$", "")
  end
  if shown < lines then text[shown + 1] = ("... %d names"):format(#words) end
  return table.concat(text, "\n")
end

return M
