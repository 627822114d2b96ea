--- JSON: `json.decode(text)`, `json.encode(value)`.
--
-- Decoding: objects and arrays become tables, null becomes `json.null` (a value that is true in a condition), empty
-- arrays are marked so that they stay arrays. Duplicate keys, text after the document, more than 512 levels and bad
-- UTF-8 are errors with line and column.
--
-- Encoding: a table with elements 1..n is an array, any other an object, and `{}` an object; `json.array` and
-- `json.object` decide where that guess is wrong. Keys are sorted, so that equal values give equal text. Numbers
-- take as many digits as read back the same, at most 17. A metamethod `__tojson(value)` returns what stands for an object.

local raise = require("aijit.bindings.lib").raise
local core = require "aijit.bindings.json"
local buffer = require "string.buffer"

local json = {}

local MAX_DEPTH = 512
local EXACT = 2 ^ 53

local Array = {__name = "json.array"}
local Object = {__name = "json.object"}

--- null. Assigning nil to a field drops the field; this keeps it.
json.null = setmetatable({}, {__name = "json.null", __tostring = function() return "null" end})

--- Marks a table as an array, even when it is empty.
---@generic T: table
---@param list T
---@return T list
function json.array(list)
  local meta = getmetatable(list)
  if meta ~= nil and meta ~= Array and meta ~= Object then raise "json.array: the table has a metatable of its own" end
  return setmetatable(list, Array)
end

--- Marks a table as an object: its keys are written as strings, even those that are whole numbers.
---@generic T: table
---@param map T
---@return T map
function json.object(map)
  local meta = getmetatable(map)
  if meta ~= nil and meta ~= Array and meta ~= Object then raise "json.object: the table has a metatable of its own" end
  return setmetatable(map, Object)
end

--- Whether a table was marked by `json.array`, as the empty arrays of a decoded document are.
---@param value any
---@return boolean
function json.is_array(value) return type(value) == "table" and getmetatable(value) == Array end

-- ---- decoding

local function empty() return setmetatable({}, Array) end

---@class aijit.JsonDecode
---@field null any              what stands for null; json.null
---@field special? "string"     the texts "NaN", "Infinity" and "-Infinity" become numbers
---@field int64? boolean        integers beyond 2^53 come as int64 instead of rounded

--- The value of a JSON text.
---@param text string
---@param opts? aijit.JsonDecode
---@return any
function json.decode(text, opts)
  if type(text) ~= "string" then raise("json.decode: the text must be a string, got " .. type(text)) end
  local how = {null = json.null, empty = empty, special = false, exact = false}
  if opts then
    if opts.null ~= nil then how.null = opts.null end
    how.special, how.exact = opts.special == "string", opts.int64 == true
  end
  return core.decode(text, how)
end

-- ---- encoding

local escapes = setmetatable({
  ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t",
}, {__index = function(_, c) return ("\\u%04x"):format(c:byte()) end})

--- The message names the place, such as `.layers[2].weight`.
local function fail(state, depth, what)
  local path = {}
  for i = 1, depth do
    local key = state.keys[i]
    path[i] = type(key) == "number" and ("[%d]"):format(key) or "." .. tostring(key)
  end
  local where = #path > 12 and table.concat(path, "", 1, 12) .. "..." or table.concat(path)
  error({message = ("json.encode: %s%s"):format(where == "" and "" or "at " .. where .. ": ", what)}, 0)
end

--- Each byte that is no part of UTF-8 becomes U+FFFD.
local function mend(text)
  local parts = {}
  local bad = core.utf8_bad(text)
  while bad do
    parts[#parts + 1] = text:sub(1, bad - 1) .. "\239\191\189"
    text = text:sub(bad + 1)
    bad = core.utf8_bad(text)
  end
  return table.concat(parts) .. text
end

local function put_text(out, text, state, depth)
  if text:find("[\128-\255]") and core.utf8_bad(text) then
    if not state.replace then
      fail(state, depth, ("the string is not UTF-8 at byte %d (utf8 = \"replace\" mends it)"):format(core.utf8_bad(text)))
    end
    text = mend(text)
  end
  if text:find('[%c"\\]') then text = text:gsub('[%c"\\]', escapes) end
  out:put('"', text, '"')
end

local function number_text(value, state, depth)
  if value % 1 == 0 and value >= -EXACT and value <= EXACT then
    if value == 0 and 1 / value < 0 then return "-0.0" end
    return ("%d"):format(value)
  end
  if value ~= value or value == math.huge or value == -math.huge then
    local name = value ~= value and "NaN" or value > 0 and "Infinity" or "-Infinity"
    if state.special == "string" then return '"' .. name .. '"' end
    if state.special == "null" then return "null" end
    fail(state, depth, name .. " has no JSON form (special = \"string\" or \"null\" gives it one)")
  end
  local text = ("%.15g"):format(value)
  if tonumber(text) ~= value then text = ("%.16g"):format(value) end
  if tonumber(text) ~= value then text = ("%.17g"):format(value) end
  return text
end

--- The length of a table that is to be an array; nil: it is an object.
local function array_length(value, state, depth)
  local meta, n = getmetatable(value), #value
  if meta == Object or (n == 0 and meta ~= Array) then return nil end
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  if count ~= n then fail(state, depth, "the table has both elements and named fields, or has holes") end
  return n
end

local function sorted_keys(value, state, depth)
  local keys, text = {}, {}
  for key in pairs(value) do
    local name = key
    if type(key) == "number" and getmetatable(value) == Object then name = number_text(key, state, depth) end
    if type(name) ~= "string" then fail(state, depth, ("the key %s is a %s, not a string"):format(tostring(key), type(key))) end
    if text[name] ~= nil then fail(state, depth, ("two keys are written as %q"):format(name)) end
    keys[#keys + 1], text[name] = name, key
  end
  table.sort(keys)
  return keys, text
end

local function is_flat(value, n)
  for i = 1, n do if type(value[i]) == "table" and value[i] ~= json.null then return false end end
  return true
end

local function break_line(out, depth) out:put("\n", ("  "):rep(depth)) end

local put

local function put_array(out, value, n, state, depth)
  local open = state.pretty and not is_flat(value, n)
  out:put("[")
  for i = 1, n do
    if i > 1 then out:put(state.pretty and not open and ", " or ",") end
    if open then break_line(out, depth + 1) end
    state.keys[depth + 1] = i
    put(out, value[i], state, depth + 1)
  end
  if open then break_line(out, depth) end
  out:put("]")
end

local function put_object(out, value, state, depth)
  local keys, original = sorted_keys(value, state, depth)
  local open = state.pretty and #keys > 0
  out:put("{")
  for i = 1, #keys do
    local key = keys[i]
    if i > 1 then out:put(",") end
    if open then break_line(out, depth + 1) end
    state.keys[depth + 1] = key
    put_text(out, key, state, depth + 1)
    out:put(open and ": " or ":")
    put(out, value[original[key]], state, depth + 1)
  end
  if open then break_line(out, depth) end
  out:put("}")
end

function put(out, value, state, depth)
  local kind = type(value)
  if kind == "string" then put_text(out, value, state, depth)
  elseif kind == "number" then out:put(number_text(value, state, depth))
  elseif kind == "boolean" then out:put(value and "true" or "false")
  elseif value == nil or value == json.null then out:put("null")
  elseif kind == "table" then
    if depth >= MAX_DEPTH then fail(state, depth, ("nested deeper than %d: does a table contain itself?"):format(MAX_DEPTH)) end
    local meta = getmetatable(value)
    local convert = meta and type(meta) == "table" and meta.__tojson
    if convert then return put(out, convert(value), state, depth + 1) end
    local n = array_length(value, state, depth)
    if n then put_array(out, value, n, state, depth) else put_object(out, value, state, depth) end
  else
    local digits = kind == "cdata" and core.integer_text(value)
    if not digits then
      fail(state, depth, kind == "cdata" and "a tensor or other cdata cannot be encoded" or "a " .. kind .. " cannot be encoded")
    end
    out:put(digits)
  end
end
-- Interpreted: this LuaJIT's traces of a deep mutual recursion have been seen to miss the limit of depth.
for _, f in ipairs {put, put_array, put_object} do jit.off(f) end

---@class aijit.JsonEncode
---@field pretty? boolean             indented by two spaces, arrays of plain values on one line
---@field special? "string"|"null"    what NaN and infinities become; without it they are an error
---@field utf8? "replace"             bytes that are not UTF-8 become U+FFFD; without it they are an error

--- The JSON text of a value.
---@param value any
---@param opts? aijit.JsonEncode
---@return string
function json.encode(value, opts)
  opts = opts or {}
  local state = {keys = {}, pretty = opts.pretty, special = opts.special, replace = opts.utf8 == "replace"}
  local out = buffer.new()
  local ok, problem = pcall(put, out, value, state, 0)
  if not ok then
    if type(problem) == "table" and problem.message then raise(problem.message) end
    error(problem, 0)
  end
  return out:tostring()
end

return json
