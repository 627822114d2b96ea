--- Tables of tables, taken apart for files: tensors under flat names, which safetensors keeps, and the rest, which JSON keeps.
--
--   {state = {{m = tensor, step = 3}}}  <->  {["state/#1/m"] = tensor}, {state = {["#1"] = {step = 3}}}

local pack = {}

local function text_of(key) return type(key) == "number" and "#" .. key or key end

local function key_of(text) return tonumber(text:match("^#(%d+)$")) or text end

--- Takes a value apart.
---@param value any numbers, booleans, strings, tensors, tables of these
---@param name string of the value; "" for the whole
---@param tensors table<string, any> gets the tensors
---@return any rest nil when all of it is tensors
function pack.split(value, name, tensors)
  if type(value) == "cdata" then
    tensors[name] = value
    return nil
  end
  if type(value) ~= "table" then return value end
  local rest = next(value) == nil and {} or nil
  for key, inner in pairs(value) do
    local text = text_of(key)
    local kept = pack.split(inner, name == "" and text or name .. "/" .. text, tensors)
    if kept ~= nil then
      rest = rest or {}
      rest[text] = kept
    end
  end
  return rest
end

local function plain(value)
  if type(value) ~= "table" then return value end
  local result = {}
  for key, inner in pairs(value) do result[key_of(key)] = plain(inner) end
  return result
end

--- Puts together what `split` took apart.
---@param rest any
---@param tensors table<string, any>
---@return table
function pack.join(rest, tensors)
  local result = plain(rest or {})
  for name, tensor in pairs(tensors) do
    local here, last = result, nil
    for part in name:gmatch("[^/]+") do
      if last ~= nil then
        here[last] = here[last] or {}
        here = here[last]
      end
      last = key_of(part)
    end
    here[last] = tensor
  end
  return result
end

return pack
