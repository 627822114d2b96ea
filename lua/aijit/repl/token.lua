-- A scanner for Lua, for what the REPL must know of a line before it is compiled: which locals it declares at the top level,
-- whether it ends in a semicolon, and in what the cursor stands.

local M = {}

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch("%a+") do
  keywords[word] = true
end
M.keywords = keywords

---@class aijit.Token
---@field kind "name"|"keyword"|"string"|"number"|"comment"|"symbol"
---@field text string
---@field first integer  position of its first byte
---@field last integer   position of its last byte
---@field open boolean?  a string or comment whose end is missing

local symbols = {"...", "..", "==", "~=", "<=", ">=", "::"}

local function long_bracket(source, at)
  local equals = source:match("^%[(=*)%[", at)
  if not equals then return nil end
  local _, last = source:find("]" .. equals .. "]", at, true)
  return last or #source, last == nil
end

local function quoted(source, at)
  local mark = source:sub(at, at)
  local i = at + 1
  while i <= #source do
    local c = source:sub(i, i)
    if c == "\\" then
      i = i + 1
    elseif c == mark then
      return i, false
    elseif c == "\n" then
      return i - 1, true
    end
    i = i + 1
  end
  return #source, true
end

local function scan(source, at)
  local c = source:sub(at, at)
  if source:find("^%-%-", at) then
    local last, open = long_bracket(source, at + 2)
    if last then return "comment", last, open end
    local stop = source:find("\n", at, true)
    return "comment", (stop or #source + 1) - 1, stop == nil
  end
  if c:match("[%a_\128-\255]") then
    local _, last = source:find("^[%w_\128-\255]+", at)
    return keywords[source:sub(at, last)] and "keyword" or "name", last
  end
  if c:match("%d") or source:find("^%.%d", at) then
    local _, last = source:find("^0[xX][%x.]*[pP]?[+-]?%x*[uUlLiI]*", at)
    if not last then
      _, last = source:find("^[%d.]+", at)
      local _, exponent = source:find("^[eE][+-]?%d*", last + 1)
      last = exponent or last
      local _, suffix = source:find("^[uUlLiI]+", last + 1)
      last = suffix or last
    end
    return "number", last
  end
  if c == '"' or c == "'" then
    local last, open = quoted(source, at)
    return "string", last, open
  end
  local last, open = long_bracket(source, at)
  if last then return "string", last, open end
  for _, symbol in ipairs(symbols) do
    if source:sub(at, at + #symbol - 1) == symbol then return "symbol", at + #symbol - 1 end
  end
  return "symbol", at
end

--- All tokens of `source`, comments too. Never fails: what is not Lua becomes symbols of one byte.
---@param source string
---@return aijit.Token[]
function M.tokens(source)
  local list, at = {}, 1
  while true do
    at = source:find("%S", at)
    if not at then return list end
    local kind, last, open = scan(source, at)
    list[#list + 1] = {kind = kind, text = source:sub(at, last), first = at, last = last, open = open or nil}
    at = last + 1
  end
end

--- The tokens that the compiler sees: without comments.
---@param source string
---@return aijit.Token[]
function M.code(source)
  local list = {}
  for _, token in ipairs(M.tokens(source)) do
    if token.kind ~= "comment" then list[#list + 1] = token end
  end
  return list
end

return M
