--- Tables of text (CSV, TSV) as tables of columns: columns of numbers are tensors, others lists of strings.
--
-- A column of whole numbers is i64, of others f64, with NaN where a field is missing; one of true and false is bool; `types` says
-- otherwise. Columns are known by the header's names, or without a header by their places, 1 to n.

local raise = require("aijit.bindings.lib").raise
local core = require "aijit.bindings.csv"
local format = require "aijit.bindings.format"

local csv = {}

local function fail(message, ...) raise(message:format(...)) end

local kinds = {string = true, bool = true, u8 = true, i8 = true, i16 = true, i32 = true, i64 = true, f32 = true, f64 = true}
local MISSING = {"NA", "N/A", "NaN", "nan", "null", "NULL", "None"}

local function delimiter_of(opts)
  local d = opts.delimiter or ","
  if type(d) ~= "string" or #d ~= 1 then fail("csv: the delimiter must be one character, got %s", tostring(d)) end
  return d
end

--- The keys of the columns: opts.names, else the header's, else 1 to n.
local function keys_of(names, opts)
  local n = type(names) == "table" and #names or names
  local keys, seen = {}, {}
  if opts.names then
    if type(opts.names) ~= "table" or #opts.names ~= n then fail("csv: names must be a list of %d names, one a column", n) end
    names = opts.names
  end
  for k = 1, n do
    local key = type(names) == "table" and names[k] or k
    if seen[key] then fail("csv: columns %d and %d are both named %q: the option names gives them others", seen[key], k, tostring(key)) end
    keys[k], seen[key] = key, k
  end
  return keys, seen
end

local function types_of(places, n, opts)
  local types = {}
  for key, kind in pairs(opts.types or {}) do
    local k = places[key] or (type(key) == "number" and key >= 1 and key <= n and key % 1 == 0 and key)
    if not k then fail("csv: types names a column %q that there is not", tostring(key)) end
    if not kinds[kind] then
      fail('csv: column %s: %q is no type of a column; there are "string", bool, u8, i8, i16, i32, i64, f32 and f64', tostring(key), tostring(kind))
    end
    types[k] = kind
  end
  return types
end

---@param blob ffi.cdata*
---@param opts aijit.LoadOptions
---@return table<string|integer, aijit.Tensor|string[]> columns
---@return (string|integer)[] keys  of the columns, in their order
function csv.read(blob, opts)
  local missing = opts.missing or MISSING
  if type(missing) ~= "table" then fail "csv: missing must be a list of strings" end
  for _, word in ipairs(missing) do
    if type(word) ~= "string" then fail "csv: missing must be a list of strings" end
  end
  local columns, keys = core.read(blob, delimiter_of(opts), opts.header ~= false, missing, function(names)
    local keys, places = keys_of(names, opts)
    return keys, types_of(places, #keys, opts)
  end)
  if opts.device then
    for key, column in pairs(columns) do if format.is_tensor(column) then columns[key] = column:to(opts.device) end end
  end
  return columns, keys
end

-- ---- writing

--- A column as C writes it, and its length: a tensor, or a list of strings; lists of numbers and booleans become tensors.
local function column_of(value, name)
  if format.is_tensor(value) then
    if value:dim() ~= 1 then fail("csv: column %s: needs a tensor of one dimension, got %d", name, value:dim()) end
    if value.dtype == "bf16" or value.dtype == "f16" then value = value:to "f32" end
    return value, value:size(1)
  end
  if type(value) ~= "table" then fail("csv: column %s is a %s, not a tensor or a list", name, type(value)) end
  local n, kind, whole = #value, type(value[1]), true
  for i = 1, n do
    if type(value[i]) ~= kind then fail("csv: column %s: entry %d is a %s, those before it are of type %s", name, i, type(value[i]), kind) end
    whole = whole and (kind ~= "number" or (value[i] % 1 == 0 and math.abs(value[i]) <= 2 ^ 53))
  end
  if n == 0 or kind == "string" then return value, n end
  if kind ~= "number" and kind ~= "boolean" then fail("csv: column %s: a %s cannot be written", name, kind) end
  return require("aijit.bindings.construct").tensor(value, {dtype = kind == "boolean" and "bool" or whole and "i64" or "f64"}), n
end

---@param value table<string|integer, aijit.Tensor|any[]>
---@param path string?
---@param opts aijit.SaveOptions
---@return string? bytes
function csv.write(value, path, opts)
  if type(value) ~= "table" then fail("csv: needs a table of columns, got a %s", type(value)) end
  local keys = opts.columns
  if not keys then
    keys = {}
    for key in pairs(value) do keys[#keys + 1] = key end
    table.sort(keys, function(a, b)
      if type(a) ~= type(b) then return type(a) == "number" end
      return a < b
    end)
  end
  local names, columns, rows = {}, {}, nil
  for k, key in ipairs(keys) do
    local name = tostring(key)
    if value[key] == nil then fail("csv: there is no column %q", name) end
    local n
    names[k] = name
    columns[k], n = column_of(value[key], name)
    if rows and n ~= rows then fail("csv: column %s has %d entries, those before it %d", name, n, rows) end
    rows = n
  end
  if not rows then fail "csv: there is no column to write" end
  return core.write(path, names, columns, rows, opts.header ~= false, delimiter_of(opts))
end

return csv
