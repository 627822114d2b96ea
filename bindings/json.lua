--- What aijit.json and aijit.yaml need of C: parsing, and the check that a string is UTF-8. Binds core/io.h.

local lib = require "aijit.bindings.lib"
local new_table = require "table.new"
local C, ffi = lib.C, lib.ffi
local string_of, tonumber = ffi.string, tonumber
local NULL, FALSE, TRUE, NUMBER = C.AJ_JSON_NULL, C.AJ_JSON_FALSE, C.AJ_JSON_TRUE, C.AJ_JSON_NUMBER
local BIG, TEXT, ARRAY, OBJECT, MERGE = C.AJ_JSON_BIG, C.AJ_JSON_TEXT, C.AJ_JSON_ARRAY, C.AJ_JSON_OBJECT, C.AJ_JSON_MERGE

local json = {}

local special = {NaN = 0 / 0, Infinity = math.huge, ["-Infinity"] = -math.huge}

--- The value at place `at` of the flat document, and the place after it.
local function read(items, at, how)
  local item = items[at]
  local kind, size = item.kind, item.size
  if kind == NUMBER then return item.number, at + 1 end
  if kind == TEXT then
    local text = string_of(item.text, size)
    if how.special and special[text] then return special[text], at + 1 end
    return text, at + 1
  elseif kind == TRUE then return true, at + 1
  elseif kind == FALSE then return false, at + 1
  elseif kind == NULL then return how.null, at + 1
  elseif kind == BIG then return item.integer, at + 1 end
  at = at + 1
  if kind == ARRAY then
    if size == 0 then return how.empty(), at end
    local list = new_table(size, 0)
    for i = 1, size do
      local element = items[at]
      if element.kind == NUMBER then
        list[i], at = element.number, at + 1
      else
        list[i], at = read(items, at, how)
      end
    end
    return list, at
  end
  assert(kind == OBJECT)
  local map = new_table(0, size)
  for _ = 1, size do
    local name = items[at]
    local key
    if name.kind == MERGE then key, how.merged = how.merge, true else key = string_of(name.text, name.size) end
    map[key], at = read(items, at + 1, how)
  end
  return map, at
end

--- Decodes a document. `how`: `null` stands for null, `empty()` makes an empty array, `special` turns the texts NaN,
-- Infinity and -Infinity into numbers, `exact` gives integers beyond 2^53 as int64.
---@param text string
---@param how {null: any, empty: fun(): table, special: boolean, exact: boolean}
---@return any
function json.decode(text, how) return json.value(C.aj_json_parse(text, #text, how.exact), how) end

--- The same of a text in YAML; `merge` becomes the key of what stands under `<<`, and `merged` true where there was one.
---@param text string
---@param how {null: any, empty: fun(): table, special: boolean, exact: boolean, merge: any, merged: boolean?}
---@return any
function json.decode_yaml(text, how) return json.value(C.aj_yaml_parse(text, #text, how.exact), how) end

--- The value of a parsed document, which is freed.
---@param document ffi.cdata* NULL raises the parser's error
---@param how table
---@return any
function json.value(document, how)
  if document == nil then lib.ok(false) end
  document = ffi.gc(document, C.aj_json_drop)
  local value = read(C.aj_json_items(document), 0, how)
  C.aj_json_drop(ffi.gc(document, nil))
  return value
end

--- Where a string stops being UTF-8, from 1; nil: nowhere.
---@param text string
---@return integer?
function json.utf8_bad(text)
  local at = tonumber(C.aj_utf8_bad(text, #text))
  return at >= 0 and at + 1 or nil
end

--- The digits of an int64 or uint64; nil for every other cdata.
---@param value any
---@return string?
function json.integer_text(value)
  if ffi.istype("int64_t", value) or ffi.istype("uint64_t", value) then return (tostring(value):gsub("U?LL$", "")) end
end

return json
