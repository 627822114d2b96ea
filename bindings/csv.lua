--- Tables of text, read into columns and written. Binds core/io.h.

local lib = require "aijit.bindings.lib"
local file = require "aijit.bindings.file"
local C, ffi = lib.C, lib.ffi

local csv = {}

local function text(t) return ffi.string(t.text, t.size) end

local function texts_of(list)
  local array = ffi.new("aj_csv_text[?]", #list + 1)
  for i = 1, #list do
    array[i - 1].text = list[i]
    array[i - 1].size = #list[i]
  end
  return array
end

--- Opens a table and calls `decide(names)` with the header's names, or with the number of columns; it returns the columns' keys and a
-- table of place -> type ("string" or a dtype). Then reads all of it.
---@param blob ffi.cdata*
---@param delimiter string
---@param header boolean
---@param missing string[]
---@param decide fun(names: string[]|integer): table, table<integer, string>
---@return table columns
---@return table keys
function csv.read(blob, delimiter, header, missing, decide)
  local how = ffi.new("aj_csv_how", {delimiter:byte(), header, #missing, texts_of(missing)})
  local words = how.missing
  local c = file.own(C.aj_csv_open(blob, how), C.aj_csv_drop)
  local n = tonumber(C.aj_csv_columns(c))
  local names = n
  if header then
    names = {}
    for k = 1, n do names[k] = text(C.aj_csv_name(c, k - 1)) end
  end
  local keys, types = decide(names)
  for k, kind in pairs(types) do C.aj_csv_type(c, k - 1, kind == "string" and C.AJ_CSV_TEXT or lib.dtype(kind)) end
  lib.ok(C.aj_csv_fill(c))
  local columns, rows = {}, tonumber(C.aj_csv_rows(c))
  for k = 1, n do
    if C.aj_csv_kind(c, k - 1) == C.AJ_CSV_TEXT then
      local from, list = C.aj_csv_texts(c, k - 1), {}
      for i = 1, rows do list[i] = text(from[i - 1]) end
      columns[keys[k]] = list
    else
      columns[keys[k]] = lib.check(C.aj_csv_tensor(c, k - 1))
    end
  end
  C.aj_csv_drop(ffi.gc(c, nil))
  assert(words ~= nil and missing)      -- alive until here
  return columns, keys
end

local function put(writer, n, columns, rows, header, delimiter) return C.aj_csv_write(writer, n, columns, rows, header, delimiter) end

--- Columns, each a tensor or a list of strings, all of `rows` entries.
---@param path string?
---@param names string[]
---@param columns (aijit.Tensor|string[])[]
---@param rows integer
---@param header boolean
---@param delimiter string
---@return string? bytes
function csv.write(path, names, columns, rows, header, delimiter)
  local array, held = ffi.new("aj_csv_column[?]", #names + 1), {}
  for k, column in ipairs(columns) do
    array[k - 1].name.text, array[k - 1].name.size = names[k], #names[k]
    if lib.is_tensor(column) then
      held[k] = C.aj_device_of(column) >= 0 and column:to "cpu" or column
      array[k - 1].t = held[k]
    else
      held[k] = texts_of(column)
      array[k - 1].texts = held[k]
    end
  end
  local bytes = file.write_with(path, put, #names, array, rows, header, delimiter:byte())
  held[1] = nil     -- alive until here
  return bytes
end

return csv
