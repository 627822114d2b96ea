--- The words of a command line: `a.b=1`, `+a.b=1`, `++a.b=1`, `~a`, and the values in them (a subset of Hydra's grammar).
--
-- value := number | true | false | null | 'text' | "text" | [value, ...] | {key: value, ...} | text
-- Plain text ends at a comma or a bracket inside a list or a table. In quotes, a backslash keeps the next letter.

local grammar = {}

--- What `null` is read as: a value, so that it can stand in a list.
grammar.null = require("aijit.json").null

local function fail(text, at, what)
  error(("%s, at letter %d of  %s"):format(what, at, text), 0)
end

local function skip(text, at) return text:match("^%s*()", at) end

local words = {["true"] = true, ["false"] = false, null = grammar.null, inf = math.huge, ["-inf"] = -math.huge}

local function plain(word)
  if words[word] ~= nil then return words[word] end
  if word:match("^[+-]?%.?%d") then
    local number = tonumber((word:gsub("^%+", ""):gsub("(%d)_(%d)", "%1%2")))
    if number then return number end
  end
  return word
end

local value

local function quoted(text, at)
  local quote, parts, i = text:sub(at, at), {}, at + 1
  while true do
    local c = text:sub(i, i)
    if c == "" then fail(text, at, "a quote is not closed") end
    if c == quote then return table.concat(parts), i + 1 end
    if c == "\\" then
      i = i + 1
      c = text:sub(i, i)
    end
    parts[#parts + 1] = c
    i = i + 1
  end
end

local function list(text, at)
  local items = {}
  at = skip(text, at + 1)
  if text:sub(at, at) == "]" then return items, at + 1 end
  while true do
    local item
    item, at = value(text, at)
    items[#items + 1] = item
    at = skip(text, at)
    local c = text:sub(at, at)
    if c == "]" then return items, at + 1 end
    if c ~= "," then fail(text, at, "a list wants ',' or ']' here") end
    at = skip(text, at + 1)
  end
end

local function mapping(text, at)
  local result = {}
  at = skip(text, at + 1)
  if text:sub(at, at) == "}" then return result, at + 1 end
  while true do
    local key
    if text:match("^['\"]", at) then
      key, at = quoted(text, at)
    else
      key, at = text:match("^([%w_%-%.]+)()", at)
      if not key then fail(text, at or 1, "a table wants a name here") end
    end
    at = skip(text, at)
    if text:sub(at, at) ~= ":" then fail(text, at, "a table wants ':' after " .. key) end
    local inner
    inner, at = value(text, skip(text, at + 1))
    if inner == grammar.null then inner = nil end
    result[key] = inner
    at = skip(text, at)
    local c = text:sub(at, at)
    if c == "}" then return result, at + 1 end
    if c ~= "," then fail(text, at, "a table wants ',' or '}' here") end
    at = skip(text, at + 1)
  end
end

function value(text, at)
  local c = text:sub(at, at)
  if c == "[" then return list(text, at) end
  if c == "{" then return mapping(text, at) end
  if c == "'" or c == '"' then return quoted(text, at) end
  local word, stop = text:match("^([^,%[%]{}]*)()", at)
  word = word:match("^(.-)%s*$")
  if word == "" then fail(text, at, "a value is missing") end
  return plain(word), stop
end

--- The choices of a sweep, `a=1,2`: the parts between commas that stand in no bracket or quote.
---@param text string
---@return string[]
function grammar.choices(text)
  local parts, depth, quote, start = {}, 0, nil, 1
  local i = 1
  while i <= #text do
    local c = text:sub(i, i)
    if quote then
      if c == "\\" then i = i + 1 elseif c == quote then quote = nil end
    elseif c == "'" or c == '"' then
      quote = c
    elseif c == "[" or c == "{" or c == "(" then
      depth = depth + 1
    elseif c == "]" or c == "}" or c == ")" then
      depth = depth - 1
    elseif c == "," and depth == 0 then
      parts[#parts + 1] = text:sub(start, i - 1)
      start = i + 1
    end
    i = i + 1
  end
  parts[#parts + 1] = text:sub(start)
  return parts
end

local RANGE = "a range is range(END), range(START, END) or range(START, END, STEP)"

--- What a field of a sweep goes through: `1,2`, `choice(1,2)`, `range(0,5)`, `range(0,1,0.25)`, several of these, or one value.
---@param text string
---@return string[] values as they would be written
function grammar.sweep(text)
  local values = {}
  for _, part in ipairs(grammar.choices(text)) do
    local name, inner = part:match "^%s*(%a+)%((.*)%)%s*$"
    if name == "choice" then
      for _, choice in ipairs(grammar.choices(inner)) do values[#values + 1] = choice:match "^%s*(.-)%s*$" end
    elseif name == "range" then
      local numbers = {}
      for i, word in ipairs(grammar.choices(inner)) do numbers[i] = tonumber(word) or fail(text, 1, RANGE) end
      local start, stop, step = numbers[1], numbers[2], numbers[3] or 1
      if not stop then start, stop = 0, start end
      if not start or numbers[4] or step == 0 then fail(text, 1, RANGE) end
      local count = math.ceil((stop - start) / step - 1e-9)
      if count > 10000 then fail(text, 1, "a range of more than 10000 values") end
      for i = 0, count - 1 do values[#values + 1] = ("%.12g"):format(start + i * step) end
    else
      values[#values + 1] = part
    end
  end
  if #values == 0 then fail(text, 1, "a sweep over nothing") end
  return values
end

--- Reads one value. Raises, without a place in the code, when it cannot be read.
---@param text string
---@return any value `grammar.null` for null; an empty text is an empty string
function grammar.value(text)
  if text:match("^%s*$") then return "" end
  local first = text:match("^%s*(.)")
  if first ~= "[" and first ~= "{" and first ~= "'" and first ~= '"' then
    if #grammar.choices(text) > 1 then
      error(("'%s' is several values: a list is written [%s], a text in quotes, and a sweep wants -m"):format(text, text), 0)
    end
    return plain(text:match("^%s*(.-)%s*$"))
  end
  local result, at = value(text, skip(text, 1))
  at = skip(text, at)
  if at <= #text then
    if text:sub(at, at) == "," then
      error(("'%s' is several values: put them in [ ] for a list; a sweep wants -m"):format(text), 0)
    end
    fail(text, at, "nothing may follow the value")
  end
  return result
end

---@class aijit.Override
---@field action "set"|"add"|"force"|"delete"
---@field path string dotted
---@field value any nil for a delete without a value
---@field text string the value as it was written

--- Reads `a.b=1`, `+a.b=1`, `++a.b=1`, `~a` or `~a=1`.
---@param word string
---@return aijit.Override? override nil when the word has none of these shapes
function grammar.override(word)
  local deleted, gone = word:match("^~([%a_][%w_%-%.]*)(.*)$")
  if deleted and (gone == "" or gone:sub(1, 1) == "=") then
    local text = gone ~= "" and gone:sub(2) or nil
    return {action = "delete", path = deleted, text = text, value = text and grammar.value(text)}
  end
  local sign, path, text = word:match("^(%+*)([%a_][%w_%-%.]*)=(.*)$")
  if not path or #sign > 2 then return nil end
  return {
    action = sign == "" and "set" or sign == "+" and "add" or "force", path = path, text = text, value = grammar.value(text),
  }
end

return grammar
