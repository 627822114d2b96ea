-- From what was typed to a function: expressions return their values, locals of the top level belong to the session, and a
-- chunk that only lacks its end asks for another line.

local token = require "aijit.repl.token"

local M = {}

local opens = {["do"] = true, ["function"] = true, ["if"] = true, ["repeat"] = true}
local closes = {["end"] = true, ["until"] = true}

-- Replaces source[first..last] by blanks, so that lines and columns in messages stay as they were typed.
local function blank(source, first, last)
  return source:sub(1, first - 1) .. (" "):rep(last - first + 1) .. source:sub(last + 1)
end

-- The names of `local a, b`, and the index of the token after them.
local function names_after(tokens, i)
  local names = {}
  while tokens[i] and tokens[i].kind == "name" do
    names[#names + 1] = tokens[i].text
    i = i + 1
    if not (tokens[i] and tokens[i].text == ",") then break end
    i = i + 1
  end
  return names, i
end

--- Takes the word `local` from the declarations at the top level of `source`, so that they assign to the session's variables.
--- `local x` without a value becomes `x = nil`.
---@param source string
---@return string source, string[] names  the names that were declared, in order
function M.share_locals(source)
  local tokens, names, edits, depth = token.code(source), {}, {}, 0
  local brackets = 0
  for i, t in ipairs(tokens) do
    local text = t.kind ~= "string" and t.text or ""
    if t.kind == "keyword" then
      if opens[text] then depth = depth + 1 end
      if closes[text] then depth = depth - 1 end
    elseif t.kind == "symbol" then
      if text == "(" or text == "{" then brackets = brackets + 1 end
      if text == ")" or text == "}" then brackets = brackets - 1 end
    end
    if text == "local" and t.kind == "keyword" and depth == 0 and brackets == 0 then
      local follower = tokens[i + 1]
      if follower and follower.text == "function" then
        names[#names + 1] = tokens[i + 2] and tokens[i + 2].text
        edits[#edits + 1] = {first = t.first, last = t.last}
      else
        local found, after = names_after(tokens, i + 1)
        for _, name in ipairs(found) do names[#names + 1] = name end
        edits[#edits + 1] = {first = t.first, last = t.last}
        local has_value = tokens[after] and tokens[after].text == "="
        if #found > 0 and not has_value then edits[#edits + 1] = {insert = tokens[after - 1].last} end
      end
    end
  end
  for i = #edits, 1, -1 do
    local edit = edits[i]
    if edit.insert then
      source = source:sub(1, edit.insert) .. " = nil" .. source:sub(edit.insert + 1)
    else
      source = blank(source, edit.first, edit.last)
    end
  end
  return source, names
end

--- True when more lines could make the chunk whole.
---@param message string  the compiler's
---@return boolean
function M.is_incomplete(message)
  -- A quoted string ends on its line.
  return message:find("near '<eof>'", 1, true) ~= nil and not message:find("unfinished string", 1, true)
end

local function pass(...) return ... end

---@class aijit.Chunk
---@field run function?        nil when there is an error or the chunk is incomplete
---@field code function?       what `run` calls, for setfenv
---@field error string?
---@field incomplete boolean?
---@field silent boolean       it ended with ";": its values are not shown
---@field names string[]       locals that it declares for the session

--- Compiles what was typed: as an expression if it is one, else as statements.
---@param source string
---@param name string?   the chunk's name in messages; default "repl"
---@return aijit.Chunk
function M.compile(source, name)
  name = "=" .. (name or "repl")
  source = source:gsub("^%s*=", "", 1)
  local tokens = token.code(source)
  local last = tokens[#tokens]
  local silent = last ~= nil and last.text == ";" and last.kind == "symbol"
  if not last then return {run = pass, code = pass, silent = true, names = {}} end

  if loadstring("return " .. source, name) then
    -- Not as `return f(x)`: in a tail call an error has no place that it could name.
    local expression = source:sub(1, silent and last.first - 1 or last.last)
    local code = loadstring("return (...)(" .. expression .. ")", name)
    if code then return {run = function() return code(pass) end, code = code, silent = silent, names = {}} end
  end
  local shared, names = M.share_locals(source)
  local code, message = loadstring(shared, name)
  -- The text as it was typed decides whether it is whole: without `local`, `local x` alone would be `x`.
  local _, typed = loadstring(source, name)
  if typed and M.is_incomplete(typed) then return {incomplete = true, error = typed, silent = silent, names = names} end
  if not code or typed then return {error = typed or message, silent = silent, names = names} end
  return {run = code, code = code, silent = silent, names = names}
end

---@class aijit.Session
---@field env table                        the environment of every chunk
---@field values table<string, any>        the session's own variables
---@field declared table<string, boolean>

--- An environment in which declared names are the session's own and all others are globals. `lazy[name]()` gives the first
--- value of a global that is nobody's yet.
---@param lazy table<string, fun(): any>?
---@return aijit.Session
function M.session(lazy)
  local values, declared = {}, {}
  lazy = lazy or {}
  local env = setmetatable({}, {
    __index = function(_, name)
      if declared[name] then return values[name] end
      local value = _G[name]
      if value == nil and lazy[name] then
        value = lazy[name]()
        declared[name], values[name] = true, value
      end
      return value
    end,
    __newindex = function(_, name, value)
      if declared[name] then values[name] = value else _G[name] = value end
    end,
  })
  return {env = env, values = values, declared = declared}
end

--- Makes the chunk's locals the session's, and the session's variables what the chunk sees.
---@param session aijit.Session
---@param chunk aijit.Chunk
function M.enter(session, chunk)
  for _, name in ipairs(chunk.names) do session.declared[name] = true end
  setfenv(chunk.code, session.env)
end

return M
