--- From samples to a batch: fields of one place are stacked.
--
-- numbers -> a tensor f32 (B), for a Lua number does not tell whether it is a whole one; booleans -> bool (B); tensors of one
-- shape -> (B, ...), their dtype kept; lists of numbers -> (B, n); tables with names -> a table of batches; strings, and what else
-- cannot be stacked -> a list.

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

local function padded(values, value, name)
  local most, dim
  for i, x in ipairs(values) do
    dim = dim or x:dim()
    if x:dim() ~= dim or x.dtype ~= values[1].dtype then fail(name, i, describe(values[1]), describe(x)) end
    most = most or {}
    for d = 1, dim do most[d] = math.max(most[d] or 0, x:size(d)) end
  end
  local all = ai.full({#values, unpack(most)}, value, {dtype = values[1].dtype})
  for i, x in ipairs(values) do
    local place = all[i]
    for d = 1, dim do place = place:narrow(d, 1, x:size(d)) end
    place:copy_(x)
  end
  return all
end

--- A collate function for samples of different sizes: tensors, and lists of numbers, are padded at their ends to the largest of the
-- batch along each dimension; all else is stacked.
---@param o? {value: number, fields: integer[], lengths: boolean}
---  value 0: of the padding; fields: those to pad, by their places in the sample (all that are tensors or lists); lengths: the
---  batch gets one more field, i64 (B): the first size that each sample's first padded field had
---@return fun(samples: any[][]): any[]
function collate.pad(o)
  o = require("aijit.data.option").read("data.pad_collate", o, {value = 0, fields = {}, lengths = true})
  local value, wanted, lengths = o.value or 0, nil, o.lengths
  if o.fields then
    wanted = {}
    for _, k in ipairs(o.fields) do wanted[k] = true end
  end
  return function(samples)
    local fields, count, sizes = {}, samples[1].n or #samples[1], nil
    for k = 1, count do
      local column = {}
      for i, sample in ipairs(samples) do
        local x = sample[k]
        if type(x) == "table" and is_array(x) and (not wanted or wanted[k]) then x = ai.tensor(x) end
        column[i] = x
      end
      local pads = (not wanted or wanted[k]) and type(column[1]) == "cdata" and column[1]:dim() > 0
      for i = 2, #column do
        if pads and type(column[i]) ~= "cdata" then fail(tostring(k), i, describe(column[1]), describe(column[i])) end
      end
      if pads then
        if not sizes then
          sizes = {}
          for i, x in ipairs(column) do sizes[i] = x:size(1) end
        end
        fields[k] = padded(column, value, tostring(k))
      else
        fields[k] = collate.stack(column, tostring(k))
      end
    end
    if lengths then fields[count + 1] = ai.tensor(sizes or {}, {dtype = "i64"}) end
    return fields
  end
end

return collate
