--- From samples to a batch: fields of one place are stacked.
--
-- numbers -> a tensor (B); booleans -> bool (B); tensors of one shape -> (B, ...), their dtype kept; lists of numbers ->
-- (B, n); tables with names -> a table of batches; strings, and what else cannot be stacked -> a list.

local ai = require "aijit"

local collate = {}

local function is_list(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n == #t and n > 0
end

--- A table of numbers, or of such tables, all of one length: what ai.tensor takes.
local function is_array(value)
  if type(value) ~= "table" or getmetatable(value) ~= nil or not is_list(value) then return false end
  local kind = type(value[1])
  for _, item in ipairs(value) do
    if type(item) ~= kind then return false end
    if kind == "table" and not (is_array(item) and #item == #value[1]) then return false end
  end
  return kind == "number" or kind == "table"
end

local function fail(name, i, first, other)
  error(("field %s: sample %d of the batch is %s where the first is %s"):format(name, i, other, first), 0)
end

local function describe(value)
  if type(value) ~= "cdata" then return "a " .. type(value) end
  local sizes = {}
  for i = 1, value:dim() do sizes[i] = value:size(i) end
  return ("a tensor (%s) of %s"):format(table.concat(sizes, ", "), value.dtype)
end

--- Stacks the values that a field has in each sample of a batch. Raises without a place in the code.
---@param values any[] one for each sample
---@param name string the field, for errors
---@return any
function collate.stack(values, name)
  local first = values[1]
  local kind = type(first)
  for i = 2, #values do
    if type(values[i]) ~= kind then fail(name, i, describe(first), describe(values[i])) end
  end
  if kind == "number" then return ai.tensor(values) end
  if kind == "boolean" then return ai.tensor(values, {dtype = "bool"}) end
  if kind == "cdata" then
    for i = 2, #values do
      local a, b = describe(first), describe(values[i])
      if a ~= b then fail(name, i, a, b) end
    end
    return ai.stack(values, 1)
  end
  if kind ~= "table" then return values end
  if is_array(first) then
    for i = 2, #values do
      if #values[i] ~= #first then
        fail(name, i, ("a list of %d"):format(#first), ("a list of %d"):format(#values[i]))
      end
    end
    return ai.tensor(values)
  end
  local result = {}
  for key in pairs(first) do
    local column = {}
    for i, value in ipairs(values) do
      if value[key] == nil then fail(name .. "." .. tostring(key), i, "there", "missing") end
      column[i] = value[key]
    end
    result[key] = collate.stack(column, name .. "." .. tostring(key))
  end
  return result
end

--- The default collate function of `data.Loader`.
---@param samples any[][] a table of fields for each sample
---@return any[] fields of the batch, in the same order
function collate.batch(samples)
  local fields, count = {}, samples[1].n or #samples[1]
  for k = 1, count do
    local column = {}
    for i, sample in ipairs(samples) do
      if (sample.n or #sample) ~= count then
        error(("sample %d of the batch has %d fields where the first has %d"):format(i, sample.n or #sample, count), 0)
      end
      column[i] = sample[k]
    end
    fields[k] = collate.stack(column, tostring(k))
  end
  return fields
end

return collate
