--- to_spec and from_spec: the structure of a model as plain data, for JSON and YAML; no weights.
--- A layer is {type = "Linear", in_features = 10, out_features = 20}; a container lists its layers; any other module is
--- its fields: numbers, strings, tables of these, and modules, with their `order`. A spec without an order was written by a
--- person: its fields are the constructor's arguments, of which a class that has a `declaration` (aijit.argument) refuses
--- those that are none.

local ai = require "aijit"
local registry = require "aijit.nn.registry"
local raise = require("aijit.bindings.lib").raise

local spec = {}

local function fail(module, key, value)
  raise(("to_spec: %s.%s is a %s, and a spec holds data only: give %s methods to_spec and from_spec"):format(
    getmetatable(module).__name, tostring(key), type(value), getmetatable(module).__name))
end

local function plain(module, key, value)
  local kind = type(value)
  if kind == "number" or kind == "string" or kind == "boolean" then return value end
  if registry.is_module(value) then return value:to_spec() end
  if kind == "function" then return {["function"] = registry.written(module, key, value)} end
  if ai.is_tensor(value) then
    return {tensor = {unpack(value.shape)}, dtype = value.dtype, parameter = module._kinds[key] == "parameter" or nil}
  end
  if kind ~= "table" or getmetatable(value) then fail(module, key, value) end
  local out = {}
  for inner_key, inner in pairs(value) do out[inner_key] = plain(module, key, inner) end
  return out
end

local taken = {type = true, order = true, args = true, applied = true}

--- The structure of this module as a plain table, which nn.from_spec turns into a module again.
---@return table
function spec:to_spec()
  self:slots()
  for key in pairs(taken) do
    if rawget(self, key) ~= nil then
      raise(("to_spec: %s.%s has a name that is a spec's own; give the field another one"):format(getmetatable(self).__name, key))
    end
  end
  if #self > 0 and rawget(self, "layers") ~= nil then
    raise(("to_spec: %s has a list part and a field `layers`, which is the list's name in a spec; give the field another one"):format(
      getmetatable(self).__name))
  end
  local out, computed = {type = getmetatable(self).__name}, rawget(self, "_applied") and "parametrizations"
  out.order = {unpack(rawget(self, "_order") or {})}
  for i, entry in ipairs(computed and self._applied or {}) do
    local weight = self.parametrizations[entry[2]]
    weight = weight.original or weight.original1
    out.applied = out.applied or {}
    out.applied[i] = {unpack(entry)}
    out[entry[2]] = {tensor = {unpack(weight.shape)}, dtype = weight.dtype, parameter = true}
    out.order[#out.order + 1] = entry[2]
  end
  for key, value in next, self do
    if not self.private_fields[key] and key ~= computed then
      if type(key) == "number" then
        out.layers = out.layers or {}
        out.layers[key] = plain(self, key, value)
      else
        out[key] = plain(self, key, value)
      end
    end
  end
  return out
end

local from_spec

local function restore(module, key, value)
  if type(value) ~= "table" then return value end
  if type(value.type) == "string" then return from_spec(value) end
  if type(value["function"]) == "string" and next(value, next(value)) == nil then return registry.read("from_spec", value["function"]) end
  if value.tensor then
    local tensor = ai.keep(ai.zeros(value.tensor, {dtype = value.dtype}))
    if value.parameter then tensor:requires_grad_(true) end
    return tensor
  end
  local out = {}
  for inner_key, inner in pairs(value) do out[inner_key] = restore(module, key, inner) end
  return out
end

--- Whether `layers` is the list part of a module, and not a field of that name.
local function is_list_part(data)
  local layers = data.layers
  if type(layers) ~= "table" or layers.type ~= nil or type(layers[1]) ~= "table" or layers[1].type == nil then return false end
  for _, key in ipairs(data.order or {}) do if key == "layers" then return false end end
  return true
end

local function is_structure(data, declared)
  if data.order then return true end
  if declared then return false end
  for _, value in pairs(data) do
    if type(value) == "table" and (value.type ~= nil or value.tensor ~= nil) then return true end
  end
  return is_list_part(data)
end

--- Calls the constructor with what a person wrote: positional arguments stand in the list part, or under `args`.
local function construct(cls, data)
  local positional, options = {}, {}
  for i, value in ipairs(data.args ~= nil and (type(data.args) == "table" and data.args or {data.args}) or data) do positional[i] = restore(nil, i, value) end
  for key, value in pairs(data) do
    if key ~= "type" and key ~= "args" and type(key) == "string" then options[key] = restore(nil, key, value) end
  end
  if next(options) then positional[#positional + 1] = options end
  return cls(unpack(positional))
end

--- Makes an object of this class from its spec; a class whose objects hold more than data writes its own.
---@param data table
---@return aijit.nn.Module
function spec.from_spec(cls, data)
  if not is_structure(data, cls.declaration) then return construct(cls, data) end
  local object = setmetatable({}, cls)
  local done = {type = true, order = true, applied = true, layers = is_list_part(data)}
  for i, layer in ipairs(done.layers and data.layers or {}) do object[i] = restore(object, i, layer) end
  local function set(key)
    if done[key] or data[key] == nil then return end
    done[key] = true
    local value = restore(object, key, data[key])
    if ai.is_tensor(value) then
      if data[key].parameter then object:register_parameter(key, value) else object:register_buffer(key, value) end
    else
      object[key] = value
    end
  end
  for _, key in ipairs(data.order or {}) do set(key) end
  local rest = {}
  for key in pairs(data) do rest[#rest + 1] = key end
  table.sort(rest)
  for _, key in ipairs(rest) do set(key) end
  object:apply_to_weights(data.applied)
  return object
end

--- Does to weights what a list says: {{"weight_norm", "fc.weight", {dim = 1}}}, by the names that they have below this module.
---@param applied? any[][]
function spec:apply_to_weights(applied)
  local known = {weight_norm = true, spectral_norm = true, lora_weight = true}
  for i, entry in ipairs(applied or {}) do
    local module, name = self, type(entry[2]) == "string" and entry[2] or ""
    local path, own = name:match "^(.*)%.([^.]+)$"
    if path then
      module, name = nil, own
      for inner_path, inner in self:named_modules() do if inner_path == path then module = inner end end
    end
    if not known[entry[1]] or not module then
      raise(("from_spec: entry %d of applied is %s of '%s'; %s"):format(i, tostring(entry[1]), tostring(entry[2]),
        module and "weight_norm, spectral_norm or lora_weight is wanted" or "there is no module '" .. path .. "'"))
    end
    require("aijit.nn.parametrize")[entry[1]](module, name, entry[3])
  end
end

--- A module from a spec. Layers whose sizes are given have fresh parameters; others wait for their first input.
---@param data table|string a table with `type`, the name of a class in any case; or a path to one in JSON or YAML
---@return aijit.nn.Module
function from_spec(data)
  if type(data) == "string" then
    data = ai.load(data)
  end
  if type(data) ~= "table" or type(data.type) ~= "string" then
    raise("from_spec: a spec is a table with a string `type`, such as {type = \"Linear\", out_features = 10}")
  end
  local cls = registry.find(data.type)
  if not cls then
    raise(("from_spec: there is no class '%s': %s; a class of your own is made known by nn.register(%s)"):format(
      data.type, registry.hint(data.type), data.type))
  end
  return cls:from_spec(data)
end

spec.make_from_spec = from_spec
return spec
