--- Batches: their samples counted, cut into parts, moved to a device.

local batch = {}

--- A tensor, or tables of them, on another device.
---@param value any
---@param device string
---@return any
function batch.to_device(value, device)
  if type(value) == "cdata" then return value:to(device) end
  if type(value) ~= "table" then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = batch.to_device(inner, device) end
  return result
end

local function size_of(value)
  if type(value) == "cdata" then return value:dim() > 0 and value:size(1) or nil end
  if type(value) ~= "table" then return nil end
  for _, inner in pairs(value) do
    local size = type(inner) == "cdata" and size_of(inner)
    if size then return size end
  end
  return #value > 0 and #value or nil
end

--- The number of samples in a batch: the first dimension of the first tensor in it.
---@param fields any[]
---@return integer
function batch.count(fields)
  for _, field in ipairs(fields) do
    local size = size_of(field)
    if size then return size end
  end
  return 1
end

local function part(value, first, count, all)
  if type(value) == "cdata" then
    if value:dim() == 0 or value:size(1) ~= all then return value end
    return value:narrow(1, first, count)
  end
  if type(value) ~= "table" then return value end
  local result = {}
  if #value == all and type(value[1]) ~= "cdata" then
    for i = 1, count do result[i] = value[first + i - 1] end
    return result
  end
  for key, inner in pairs(value) do result[key] = part(inner, first, count, all) end
  return result
end

--- Cuts a batch along its samples into at most `n` parts of sizes as equal as can be. Tensors are views.
---@param fields any[]
---@param n integer
---@return {fields: any[], samples: integer}[]
function batch.chunks(fields, n)
  local samples = batch.count(fields)
  if n == 1 or samples == 1 then return {{fields = fields, samples = samples}} end
  local parts, first = {}, 1
  n = math.min(n, samples)
  for i = 1, n do
    local count = math.floor(samples * i / n) - first + 1
    local cut = {}
    for k, field in pairs(fields) do cut[k] = part(field, first, count, samples) end
    parts[i] = {fields = cut, samples = count}
    first = first + count
  end
  return parts
end

return batch
