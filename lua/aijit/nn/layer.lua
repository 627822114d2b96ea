--- How a layer is written: its name, its arguments in one string, and up to five short methods.
---
---     local Scale = nn.layer("Scale", "features:count? init:number=1")     -- a declaration, as aijit.argument has it
---     function Scale:sizes(x) self.features = x:size(-1) end              -- from the first input
---     function Scale:sizes_from(state) self.features = state.weight:size(1) end    -- or from weights being loaded
---     function Scale:build() self:parameter("weight", self.features) end  -- once the sizes are known
---     function Scale:reset() init.constant_(self.weight, self.init) end    -- first values
---     function Scale:forward(x) return x * self.weight end
---
--- The declaration gives the constructor (positional and named arguments, checked), to_spec, print, and the name in
--- errors. Arguments are fields of the object. A kind that only this class has may be a function (aijit.argument says what
--- it returns): Class.argument_rules = {stride = "positive", index = function(value) ... end}.
--- Every layer with parameters takes {dtype=, device=} as well; a layer that infers follows its first input.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local op = require "aijit.bindings.op"
local Module = require "aijit.nn.module"
local registry = require "aijit.nn.registry"
local raise = require("aijit.bindings.lib").raise

---@class aijit.nn.Layer: aijit.nn.Module
local Layer = class("Layer", Module)

local common = {dtype = "float_dtype", device = "text"}

--- Refuses what its arguments cannot be together, or a weight's sizes.
local function refuse(cls, text, ...) cls.declaration:refuse(cls.__name, text, ...) end

local function sizes_known(self)
  if self:waits() then return false end
  for _, one in ipairs(getmetatable(self).arguments) do
    if one.inferred and self[one.field] == nil then return false end
  end
  return true
end

local function finish(self, where)
  rawset(self, "_where", where)
  self:build()
  rawset(self, "_unbuilt", nil)
  rawset(self, "_where", nil)
  local first_values = rawget(self, "_first_values")
  rawset(self, "_first_values", nil)
  if first_values then first_values(self) else self:reset() end
end

function Layer:__init(...)
  local cls = getmetatable(self)
  local _, options = cls.declaration:read(self, ...)
  if options and options.device ~= nil then ai.empty({0}, {device = options.device}) end
  local where = {dtype = options and options.dtype, device = options and options.device}
  if self.check then self:check() end
  if sizes_known(self) then
    finish(self, where)
  else
    rawset(self, "_unbuilt", where)
    self:take_detour()
  end
end

--- Whether a size other than the declared ones is still to be seen.
function Layer:waits() return false end

--- Takes the sizes that were left out from the first input.
---@param x aijit.Tensor
function Layer:sizes(x) end

--- Takes the sizes that were left out from weights that are about to be loaded.
---@param state table<string, aijit.Tensor> this layer's part of a state_dict
function Layer:sizes_from(state) end

--- Makes the parameters and buffers; the sizes are known.
function Layer:build() end

--- Gives the parameters their first values.
function Layer:reset() end

--- Takes the sizes from the first input, and builds.
function Layer:build_for(x)
  if not op.is_operand(x) then
    raise(("%s: the first input is a %s, not a tensor"):format(self:summary(), type(x)))
  end
  local where = self._unbuilt
  local ok, message = pcall(self.sizes, self, x)
  if not ok then
    raise(("%s: its sizes cannot be told from an input of (%s): %s"):format(
      self:summary(), table.concat(x.shape, ", "), tostring(message):gsub("^[^\n]-:%d+: ", "", 1):match "^[^\n]*"))
  end
  finish(self, {
    dtype = where.dtype or x:is_floating_point() and x.dtype or nil,
    device = where.device or x.device,
  })
end

--- Takes the sizes from weights that are about to be loaded, and builds; what does not fit is left for the report.
---@param state table<string, aijit.Tensor> this layer's part of a state_dict
function Layer:build_from(state)
  if pcall(self.sizes_from, self, state) and sizes_known(self) then finish(self, self._unbuilt) end
end

--- A parameter of the layer's dtype and device, not yet filled.
---@param name string
---@param ... integer its sizes
---@return aijit.Tensor
function Layer:parameter(name, ...)
  for i = 1, select("#", ...) do
    local size = select(i, ...)
    if type(size) ~= "number" or size < 0 or size % 1 ~= 0 then
      refuse(getmetatable(self), "%s cannot have the sizes %s; whole numbers are wanted", name, Module.quoted{...})
    end
  end
  return self:register_parameter(name, ai.empty({...}, self._where):requires_grad_(true))
end

--- A buffer of the layer's device, filled.
---@param name string
---@param value number
---@param shape integer[]
---@param dtype? string the layer's
---@return aijit.Tensor
function Layer:buffer(name, value, shape, dtype)
  local where = self._where
  return self:register_buffer(name, ai.full(shape, value, {dtype = dtype or where.dtype, device = where.device}))
end

--- An argument as it stands now: of a bias, whether there is one.
local function value_of(self, one)
  local value = self[one.field]
  if type(one.default) == "boolean" and (value == nil or ai.is_tensor(value)) then return value ~= nil end
  return value
end

--- The arguments as they would be written: positional ones, and a table of those that differ from their defaults.
local function written(self)
  local positional, named = {}, {}
  for _, one in ipairs(getmetatable(self).arguments) do
    local value = value_of(self, one)
    local text = ai.is_tensor(value) and "tensor" or Module.quoted(value)
    if one.required or one.inferred then
      if value ~= nil then positional[#positional + 1] = text end
    elseif value ~= one.default then
      named[#named + 1] = one.name .. " = " .. text
    end
  end
  if #named > 0 then positional[#positional + 1] = "{" .. table.concat(named, ", ") .. "}" end
  return table.concat(positional, ", ")
end

function Layer:call_text()
  return ("nn.%s(%s)"):format(getmetatable(self).__name, written(self))
end

--- "Linear 784 -> 10" for a layer that goes from one size to another, else its call.
function Layer:title()
  local cls = getmetatable(self)
  local from, to = cls.arguments[1], cls.arguments[2]
  if from and to and from.name:find "^in_" and to.name:find "^out_" then
    return ("%s %s -> %s"):format(cls.__name, tostring(self[from.name] or "?"), tostring(self[to.name]))
  end
  return ("%s(%s)"):format(cls.__name, written(self))
end

--- {type = "Linear", in_features = 784, out_features = 10}: what is known of the sizes, and what differs from defaults. An argument
--- that is a tensor, such as the weights of classes, is a list of its values, a function its name.
function Layer:to_spec()
  local name = getmetatable(self).__name
  local spec = {type = name}
  for _, one in ipairs(getmetatable(self).arguments) do
    local value = value_of(self, one)
    if ai.is_tensor(value) then
      if value.dtype ~= "f32" then spec.dtype = value.dtype end
      value = value:totable()
    elseif type(value) == "function" then value = registry.written(self, one.name, value) end
    if value ~= one.default then spec[one.name] = value end
  end
  local first = self:slots("parameter")[1]
  if first and first.value.dtype ~= "f32" then spec.dtype = first.value.dtype end
  for path, inner in self:named_modules() do
    for _, entry in ipairs(rawget(inner, "_applied") or {}) do
      spec.applied = spec.applied or {}
      table.insert(spec.applied, {entry[1], path == "" and entry[2] or path .. "." .. entry[2], entry[3]})
    end
  end
  return spec
end

--- Positional arguments may stand in the spec's list part, or under `args`. `applied` lists what was done to the layer's
--- weights, and to those of the layers in it: {{"weight_norm", "weight", {dim = 1}}, {"lora_weight", "out_proj.weight", {r = 2}}}.
function Layer.from_spec(cls, spec)
  local options, positional = {}, {}
  for key, value in pairs(spec) do
    if type(key) == "number" then positional[key] = value
    elseif key == "args" then positional = type(value) == "table" and value or {value}
    elseif key ~= "type" and key ~= "applied" then options[key] = value end
  end
  positional[#positional + 1] = options
  local object = cls(unpack(positional))
  object:apply_to_weights(spec.applied)
  return object
end

--- Declares a class of layers.
---@param name string
---@param arguments string its declaration: "in_features? out_features bias=true"
---@param parent? table a class of layers to derive from
---@return table class
local function layer(name, arguments, parent)
  local cls = class(name, parent or Layer)
  cls.declaration = argument.declare("nn." .. name, arguments, common)
  cls.declared_at = debug.getinfo(2, "Sl")                     -- for ai.help
  cls.arguments = cls.declaration.list
  return Module.register(cls)
end

return {Layer = Layer, layer = layer, common = common}
