--- YAML 1.2: `yaml.decode(text)`, `yaml.encode(value)`.
--
-- Decoding: maps and lists become tables, null becomes `yaml.null` (which is `json.null`), empty lists are marked so that
-- they stay lists. Plain scalars follow the core schema: true, false, null, ~, numbers such as 1e-3, 0x1F and .inf; all
-- else is text, also yes, no, on, off, 1:30 and 2024-01-01. Keys are texts. `<<: *base` puts the fields of a map, or of
-- a list of maps, under those that stand beside it. Duplicate keys, a second document, tags that are not YAML's own, more
-- than 512 levels, and aliases that stand for more than a million values are errors with line and column.
--
-- Encoding: a table with elements 1..n is a list, any other a map, `{}` a map (`json.array`, `json.object` decide
-- where that is wrong). Keys are sorted, values before tables; short lists of plain values stay on one line. What is
-- written is read back the same by this reader, and by readers of YAML 1.1.

local raise = require("aijit.bindings.lib").raise
local core = require "aijit.bindings.json"
local json = require "aijit.json"
local buffer = require "string.buffer"

local yaml = {}

local MAX_DEPTH, WIDTH = 512, 100

yaml.null = json.null
yaml.is_list = json.is_array

-- ---- decoding

local MERGE = {}      -- the key of what stands under <<

-- A map with "<<" takes what the maps named there have and it has not.
local function merged(value)
  for _, inner in pairs(value) do
    if type(inner) == "table" and inner ~= json.null then merged(inner) end
  end
  local base = value[MERGE]
  if base == nil then return end
  local bases = type(base) == "table" and base[1] ~= nil and base or {base}
  value[MERGE] = nil
  for _, from in ipairs(bases) do
    if type(from) ~= "table" or from == json.null then
      raise "yaml.decode: '<<' takes a map or a list of maps, such as <<: *base"
    end
    for key, inner in pairs(from) do if value[key] == nil then value[key] = inner end end
  end
end

---@class aijit.YamlDecode
---@field null any              what stands for null; yaml.null
---@field int64? boolean        integers beyond 2^53 come as int64 instead of rounded

--- The value of a YAML text; `yaml.null` for one without a document.
---@param text string
---@param opts? aijit.YamlDecode
---@return any
function yaml.decode(text, opts)
  if type(text) ~= "string" then raise("yaml.decode: the text must be a string, got " .. type(text)) end
  local how = {null = json.null, empty = function() return json.array {} end, special = false, exact = false, merge = MERGE}
  if opts then
    if opts.null ~= nil then how.null = opts.null end
    how.exact = opts.int64 == true
  end
  local value = core.decode_yaml(text, how)
  if how.merged then merged(value) end
  return value
end

-- ---- encoding

-- What a reader of YAML 1.1 or 1.2 takes for something else than text.
local reserved = {["true"] = 1, ["false"] = 1, null = 1, yes = 1, no = 1, on = 1, off = 1, y = 1, n = 1}

local function fail(state, depth, what)
  local path = {}
  for i = 1, math.min(depth, 12) do
    local key = state.keys[i]
    path[i] = type(key) == "number" and ("[%d]"):format(key) or "." .. tostring(key)
  end
  error({message = ("yaml.encode: %s%s"):format(depth == 0 and "" or "at " .. table.concat(path) .. (depth > 12 and "...: " or ": "), what)}, 0)
end

local named = {["\n"] = "\\n", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\", ["\r"] = "\\r", ["\0"] = "\\0"}
local function escaped(c) return named[c] or ("\\x%02x"):format(c:byte()) end

local function text_of(value, state, depth)
  local high = value:find("[\128-\255]")
  if high and core.utf8_bad(value) then fail(state, depth, ("the string is not UTF-8 at byte %d"):format(core.utf8_bad(value))) end
  local plain = value:match("^[%a_/][%w_/%.%-]*$") or value:match("^[%a_/][%w_/%.%- ]*[%w_/%.%-]$")
  if plain and not reserved[value:lower()] and not value:find("  ", 1, true) then return value end
  value = value:gsub('[%c\127"\\]', escaped)
  if high then
    -- Control characters, other ends of lines, and what is no character.
    value = value:gsub("\194([\128-\159])", function(c) return ("\\x%02x"):format(c:byte()) end)
      :gsub("\226\128\168", "\\L"):gsub("\226\128\169", "\\P"):gsub("\239\187\191", "\\uFEFF"):gsub("\239\191\190", "\\uFFFE"):gsub("\239\191\191", "\\uFFFF")
  end
  return '"' .. value .. '"'
end

local function number_text(value)
  if value ~= value then return ".nan" end
  if value == math.huge then return ".inf" elseif value == -math.huge then return "-.inf" end
  if value == 0 and 1 / value < 0 then return "-0.0" end
  if value % 1 == 0 and math.abs(value) <= 2 ^ 53 then return ("%d"):format(value) end
  local text = ("%.15g"):format(value)
  if tonumber(text) ~= value then text = ("%.16g"):format(value) end
  if tonumber(text) ~= value then text = ("%.17g"):format(value) end
  -- YAML 1.1 takes 1e-05 for a text.
  return (text:gsub("^(%-?%d+)e", "%1.0e"))
end

--- The length of a table that is a list; nil: it is a map.
local function length(value, state, depth)
  local meta, n = getmetatable(value), #value
  if n == 0 and not json.is_array(value) then return nil end
  if meta ~= nil and not json.is_array(value) and meta.__name == "json.object" then return nil end
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  if count ~= n then fail(state, depth, "the table has both elements and named fields, or has holes") end
  return n
end

local function plain(value) return type(value) ~= "table" or value == json.null end

-- What a value is written as: tables that know how become plain ones.
local function given(value, state, depth)
  if type(value) ~= "table" or value == json.null then return value end
  if depth >= MAX_DEPTH then fail(state, depth, ("nested deeper than %d: does a table contain itself?"):format(MAX_DEPTH)) end
  local meta = getmetatable(value)
  if type(meta) == "table" and meta.__tojson then return given(meta.__tojson(value), state, depth + 1) end
  return value
end

local function scalar(value, state, depth)
  local kind = type(value)
  if kind == "string" then return text_of(value, state, depth) end
  if kind == "number" then return number_text(value) end
  if kind == "boolean" then return tostring(value) end
  if value == nil or value == json.null then return "null" end
  local digits = kind == "cdata" and core.integer_text(value)
  if not digits then
    fail(state, depth, kind == "cdata" and "a tensor or other cdata cannot be encoded" or "a " .. kind .. " cannot be encoded")
  end
  return digits
end

--- A value on one line; nil where it wants several.
local function inline(value, state, depth, room)
  if plain(value) then return scalar(value, state, depth) end
  local n = length(value, state, depth)
  if not n then return next(value) == nil and "{}" or nil end
  local parts, width = {}, 2
  for i = 1, n do
    state.keys[depth + 1] = i
    local item = given(value[i], state, depth + 1)
    if not plain(item) then return next(item) == nil and n == 1 and (json.is_array(item) and "[[]]" or "[{}]") or nil end
    parts[i] = scalar(item, state, depth + 1)
    width = width + #parts[i] + 2
    if width > room then return nil end
  end
  return "[" .. table.concat(parts, ", ") .. "]"
end

-- Maps, and lists of tables, come after the rest.
local function is_later(value, state, depth)
  if plain(value) then return false end
  local n = length(value, state, depth)
  for i = 1, n or 0 do if not plain(value[i]) then return true end end
  return n == nil
end

local function sorted(value, state, depth)
  local keys, names, tables = {}, {}, {}
  for key, inner in pairs(value) do
    local name = key
    if type(key) == "number" then name = number_text(key) end
    if type(name) ~= "string" or type(key) == "number" and (getmetatable(value) or {}).__name ~= "json.object" then
      fail(state, depth, ("the key %s is a %s, not a string"):format(tostring(key), type(key)))
    end
    state.keys[depth + 1] = name
    keys[#keys + 1], names[key], tables[key] = key, name, is_later(inner, state, depth + 1)
  end
  table.sort(keys, function(a, b)
    if tables[a] ~= tables[b] then return tables[b] end
    return names[a] < names[b]
  end)
  return keys, names
end

local block

-- What follows "key:" or "-", and the end of the line.
local function child(out, value, state, depth, indent, after_dash)
  value = given(value, state, depth)
  local line = inline(value, state, depth, WIDTH - #indent)
  if line then return out:put(" ", line, "\n") end
  if after_dash then
    out:put " "
    return block(out, value, state, depth, indent .. "  ", true)
  end
  out:put "\n"
  block(out, value, state, depth, indent .. "  ", false)
end

function block(out, value, state, depth, indent, begun)
  local n = length(value, state, depth)
  if n then
    for i = 1, n do
      state.keys[depth + 1] = i
      out:put(begun and i == 1 and "" or indent, "-")
      child(out, value[i], state, depth + 1, indent, true)
    end
    return
  end
  local keys, names = sorted(value, state, depth)
  for i, key in ipairs(keys) do
    state.keys[depth + 1] = names[key]
    local name = text_of(names[key], state, depth + 1)
    if not (begun and i == 1) then out:put(indent) end
    -- A key longer than 1024 letters must be marked as one.
    if #name > 1000 then out:put("? ", name, "\n", indent) name = "" end
    out:put(name, ":")
    child(out, value[key], state, depth + 1, indent, false)
  end
end
-- Interpreted: this LuaJIT's traces of a deep mutual recursion have been seen to miss the limit of depth.
for _, f in ipairs {block, child, inline, given} do jit.off(f) end

--- The YAML text of a value.
---@param value any
---@return string text with a line's end
function yaml.encode(value)
  local state, out = {keys = {}}, buffer.new()
  local ok, problem = pcall(function()
    value = given(value, state, 0)
    local line = inline(value, state, 0, WIDTH)
    if line then out:put(line, "\n") else block(out, value, state, 0, "", false) end
  end)
  if not ok then
    if type(problem) == "table" and problem.message then raise(problem.message) end
    error(problem, 0)
  end
  return out:tostring()
end

--- A value as it stands in a line of YAML, in brackets where it is a list or a map.
---@param value any
---@return string
function yaml.flow(value)
  local state = {keys = {}}
  local function put(v, depth)
    v = given(v, state, depth)
    if plain(v) then return scalar(v, state, depth) end
    local parts, n = {}, length(v, state, depth)
    if n then
      for i = 1, n do parts[i] = put(v[i], depth + 1) end
      return "[" .. table.concat(parts, ", ") .. "]"
    end
    local keys, names = sorted(v, state, depth)
    for i, key in ipairs(keys) do parts[i] = text_of(names[key], state, depth) .. ": " .. put(v[key], depth + 1) end
    return "{" .. table.concat(parts, ", ") .. "}"
  end
  local ok, text = pcall(put, value, 0)
  if ok then return text end
  if type(text) == "table" and text.message then raise(text.message) end
  error(text, 0)
end

return yaml
