--- Modules made of modules: Sequential, ModuleList, ModuleDict, TimeDistributed; and those that hold a function.
--- A list's modules are its elements: net[1], #net. In parameters and states they are named from "0", as in PyTorch.

local ai = require "aijit"
local class = require "aijit.class"
local nearest = require "aijit.nearest"
local Module = require "aijit.nn.module"
local layers = require "aijit.nn.layer"
local registry = require "aijit.nn.registry"
local ReLU = require("aijit.nn.activation").ReLU
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

local Lambda

local function as_module(self, value, place)
  if Module.is_module(value) then return value end
  if type(value) == "function" then return Lambda(value) end
  raise(("%s: element %s is a %s; give modules, or functions of the input"):format(
    getmetatable(self).__name, tostring(place), type(value)))
end

-- -- Lists ---------------------------------------------------------------------------------------------------

--- Modules in order; it has no forward.
---@class aijit.nn.ModuleList: aijit.nn.Module
---@overload fun(modules?: table, ...: any): aijit.nn.ModuleList
local ModuleList = class("ModuleList", Module)
nn.ModuleList = Module.register(ModuleList)

--- Takes a list, or the modules themselves. A function becomes a Lambda.
function ModuleList:__init(...)
  Module.register(getmetatable(self))
  local first = ...
  local list = type(first) == "table" and getmetatable(first) == nil and first or {...}
  self:extend(list)
end

function ModuleList:forward()
  raise(("%s has no forward: call its modules, as in list[1](x); nn.Sequential calls them one after another"):format(getmetatable(self).__name))
end

--- Adds a module at the end.
---@return aijit.nn.ModuleList self
function ModuleList:append(module)
  self[#self + 1] = as_module(self, module, #self + 1)
  return self
end

ModuleList.add = ModuleList.append

---@return aijit.nn.ModuleList self
function ModuleList:extend(modules)
  for i = 1, #modules do self:append(modules[i]) end
  return self
end

--- Puts a module in before the one at `place`.
---@return aijit.nn.ModuleList self
function ModuleList:insert(place, module)
  table.insert(self, place, as_module(self, module, place))
  return self
end

---@return aijit.nn.Module # the one that was there
function ModuleList:remove(place)
  return table.remove(self, place)
end

--- The module at a place; -1 is the last.
---@return aijit.nn.Module?
function ModuleList:get(place)
  return self[place < 0 and #self + 1 + place or place]
end

--- Modules first to last, as a list of the same class; they are shared, not copied.
function ModuleList:slice(first, last)
  local list = {}
  last = last or #self
  for i = first, last < 0 and #self + 1 + last or last do list[#list + 1] = self[i] end
  return getmetatable(self)(list)
end

function ModuleList:brackets()
  return "nn." .. getmetatable(self).__name .. "{", "}"
end

function ModuleList:call_text()
  return "nn." .. getmetatable(self).__name .. "{}"
end

function ModuleList:to_spec()
  local list = {}
  for i = 1, #self do list[i] = self[i]:to_spec() end
  return {type = getmetatable(self).__name, layers = list}
end

local list_keys = {"type", "layers", "layer_list", "args"}

--- Refuses what a container's spec cannot hold.
local function check_keys(spec, keys)
  for key in pairs(spec) do
    local known = type(key) == "number"
    for _, name in ipairs(keys) do known = known or key == name end
    if not known then
      raise(("from_spec: %s has no argument '%s': %s"):format(spec.type, tostring(key), nearest.hint(tostring(key), keys)))
    end
  end
end

--- The layers stand under `layers`, `layer_list` or `args`, or in the spec's list part.
function ModuleList.from_spec(cls, spec)
  check_keys(spec, list_keys)
  local list = {}
  for i, layer in ipairs(spec.layers or spec.layer_list or spec.args or spec) do list[i] = Module.make_from_spec(layer) end
  return cls(list)
end

--- Modules one after another: each gets what the one before it returned.
---@class aijit.nn.Sequential: aijit.nn.ModuleList
---@overload fun(modules?: table, ...: any): aijit.nn.Sequential
local Sequential = class("Sequential", ModuleList)
nn.Sequential = Module.register(Sequential)

--- AIJIT_FUSE=none keeps them apart, to compare. Forward and backward of 16 x 32 x 28 x 28 on a Zen 4 core: 178 us in place of 282.
local fuses = os.getenv "AIJIT_FUSE" ~= "none"

--- A ReLU after a batch norm is done in the norm's pass over memory, unless hooks or a class of its own stand in the way.
function Sequential:forward(x)
  local i, n = 1, #self
  while i <= n do
    local layer, after = self[i], self[i + 1]
    if fuses and after and after.forward == ReLU.forward and layer.forward == layer.takes_relu then
      x = layer(x, true)
      i = i + 2
    else
      x = layer(x)
      i = i + 1
    end
  end
  return x
end

-- -- Dictionaries --------------------------------------------------------------------------------------------

--- Modules by name: d.encoder; it has no forward.
---@class aijit.nn.ModuleDict: aijit.nn.Module
---@overload fun(modules?: table<string, aijit.nn.Module>): aijit.nn.ModuleDict
local ModuleDict = class("ModuleDict", Module)
nn.ModuleDict = Module.register(ModuleDict)

--- Names given together are taken in alphabetical order; names assigned later follow.
function ModuleDict:__init(modules)
  local names = {}
  for name in pairs(modules or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do self[name] = modules[name] end
end

function ModuleDict:__newindex(name, module)
  if type(name) ~= "string" or ModuleDict[name] ~= nil then
    raise(("ModuleDict: '%s' cannot be a module's name: %s"):format(tostring(name),
      type(name) == "string" and "ModuleDict has a method of that name" or "names are strings"))
  end
  Module.__newindex(self, name, Module.private_fields[name] and module or as_module(self, module, name))
end

function ModuleDict:forward()
  raise(("%s has no forward: call its modules, as in dict.name(x)"):format(getmetatable(self).__name))
end

function ModuleDict:brackets()
  return "nn.ModuleDict{", "}"
end

-- -- Others --------------------------------------------------------------------------------------------------

--- A function as a module: one of Lua, or the name of an op or of a function that nn.register made known, which a spec can hold.
---@class aijit.nn.Lambda: aijit.nn.Module
---@overload fun(f: function|string): aijit.nn.Lambda
Lambda = class("Lambda", Module)
nn.Lambda = Module.register(Lambda)

function Lambda:__init(fn)
  if type(fn) == "string" then fn = registry.read("Lambda", fn) end
  if type(fn) ~= "function" then raise(("Lambda: a function is wanted, got a %s"):format(type(fn))) end
  self.fn = fn
end

function Lambda:forward(...) return self.fn(...) end

function Lambda:to_spec() return {type = "Lambda", fn = registry.written(self, "fn", self.fn)} end

--- The name stands under `fn` or `args`.
function Lambda.from_spec(cls, spec)
  check_keys(spec, {"type", "fn", "args"})
  local name = spec.fn or type(spec.args) == "table" and spec.args[1] or spec.args or spec[1]
  if type(name) ~= "string" then raise(("from_spec: the fn of a Lambda is a %s; the name of a function is wanted"):format(type(name))) end
  return cls(registry.read("from_spec", name))
end

function Lambda:call_text()
  local name = registry.name_of(self.fn)
  if name then return ("nn.Lambda(%q)"):format(name) end
  local info = debug.getinfo(self.fn, "S")
  return ("nn.Lambda(%s:%d)"):format(info.short_src:match("[^/]*$"), info.linedefined)
end

--- What goes in comes out.
local Identity = layers.layer("Identity", "")
nn.Identity = Identity
function Identity:forward(x) return x end

--- Dimensions start_dim to end_dim made one; all but the first by default: (N, *) -> (N, product).
local Flatten = layers.layer("Flatten", "start_dim=2 end_dim=-1")
nn.Flatten = Flatten

function Flatten:forward(x) return f.flatten(x, self.start_dim, self.end_dim) end

--- One dimension made several: Unflatten(2, {3, -1}).
local Unflatten = layers.layer("Unflatten", "dim sizes")
nn.Unflatten = Unflatten

function Unflatten:forward(x)
  local shape, dim = {}, self.dim < 0 and x:dim() + 1 + self.dim or self.dim
  for i = 1, dim - 1 do shape[i] = x:size(i) end
  for _, size in ipairs(self.sizes) do shape[#shape + 1] = size end
  for i = dim + 1, x:dim() do shape[#shape + 1] = x:size(i) end
  return x:reshape(shape)
end

--- A module applied to each step of a sequence at once: dimensions 1 and 2 are taken together, (N, T, *) -> (N, T, *').
---@class aijit.nn.TimeDistributed: aijit.nn.Module
---@overload fun(...: aijit.nn.Module): aijit.nn.TimeDistributed
local TimeDistributed = class("TimeDistributed", Module)
nn.TimeDistributed = Module.register(TimeDistributed)

--- Several modules are put one after another.
function TimeDistributed:__init(...)
  self.module = select("#", ...) == 1 and as_module(self, (...), 1) or Sequential(...)
end

local function shape_of(first, second, x, from)
  local shape = {first, second}
  for i = from, x:dim() do shape[#shape + 1] = x:size(i) end
  return shape
end

function TimeDistributed:forward(x)
  if x:dim() < 3 then raise(("TimeDistributed: the input has %d dimensions; (N, T, ...) is wanted"):format(x:dim())) end
  local n, t = x:size(1), x:size(2)
  local y = self.module(x:reshape(shape_of(n * t, nil, x, 3)))
  return y:reshape(shape_of(n, t, y, 2))
end

--- The module stands under `module`; several under `layers` or `args`.
function TimeDistributed.from_spec(cls, spec)
  check_keys(spec, {"type", "module", "layers", "args"})
  if spec.module then return cls(Module.make_from_spec(spec.module)) end
  local list = {}
  for i, layer in ipairs(spec.layers or spec.args or spec) do list[i] = Module.make_from_spec(layer) end
  return cls(unpack(list))
end

function TimeDistributed:to_spec()
  return {type = "TimeDistributed", module = self.module:to_spec()}
end

function TimeDistributed:brackets()
  return "nn.TimeDistributed{", "}"
end

return nn
