--- Shapes without arithmetic: modules and functions run on the meta device.
--
-- A module is run as its shadow: a copy whose parameters and buffers are meta tensors, in evaluation mode, without its
-- hooks. Layers that still wait for their sizes infer them in the shadow, and so nothing of the module itself changes. The
-- stream of random numbers is put back where it was. A function that a module holds is shared with the shadow: modules that
-- it captured run as they are.

local ai = require "aijit"
local registry = require "aijit.nn.registry"
local raise = require("aijit.bindings.lib").raise

local meta = {}

local is_tensor = ai.is_tensor

--- A tensor of a shape and no elements.
---@param shape integer[]
---@param dtype? string "f32"
---@return aijit.Tensor
function meta.tensor(shape, dtype)
  return ai.empty(shape, {dtype = dtype or "f32", device = "meta"})
end

--- The same shape and dtype without the elements.
---@param t aijit.Tensor
---@return aijit.Tensor
function meta.like(t)
  if t.device == "meta" then return t end
  return meta.tensor(t.shape, t.dtype)
end

--- Tensors in nested plain tables, and by themselves, replaced by what `f` makes of them.
---@param value any
---@param f fun(t: aijit.Tensor): any
---@return any
function meta.map(value, f)
  if is_tensor(value) then return f(value) end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return value end
  local out = {}
  for key, inner in pairs(value) do out[key] = meta.map(inner, f) end
  return out
end

local function finish(state, ok, ...)
  ai.set_random_state(state)
  if not ok then error((...), 0) end
  return ...
end

--- f(...) without recording, on the meta device; the stream of random numbers stays where it is.
---@param f function
---@return any ...
function meta.run(f, ...)
  return finish(ai.get_random_state(), pcall(ai.no_grad, ai.device_scope, "meta", f, ...))
end

-- -- Shadows -------------------------------------------------------------------------------------------------

local skipped = {_hooks = true}

local function keep_values() end

local function shadow(value, memo)
  if type(value) == "cdata" and is_tensor(value) then
    local new = memo[value]
    if not new then
      new = meta.like(value)
      if value.requires_grad then new:requires_grad_(true) end
      memo[value] = new
    end
    return new
  end
  if type(value) ~= "table" or getmetatable(value) ~= nil and not registry.is_module(value) then return value end
  if memo[value] then return memo[value] end
  local new = setmetatable({}, getmetatable(value))
  memo[value] = new
  local is_module = registry.is_module(value)
  for key, inner in next, value do
    if not (is_module and skipped[key]) then rawset(new, key, shadow(inner, memo)) end
  end
  if is_module then
    rawset(new, "training", false)
    local where = rawget(new, "_unbuilt")
    if where then
      where.device = "meta"
      rawset(new, "_first_values", keep_values)
    end
  end
  return new
end

--- A copy of a module to be run on the meta device.
---@param module aijit.nn.Module
---@return aijit.nn.Module shadow
---@return table<any, any> memo what stands for what
function meta.shadow(module)
  local memo = {}
  return shadow(module, memo), memo
end

--- Gives the layers of a module that wait for their sizes those that these inputs imply, and builds them. Nothing is
-- computed; parameters are made on the device in scope, with their first values.
---@param module aijit.nn.Module
---@param ... any meta tensors, in plain tables or by themselves, and other arguments
function meta.build(module, ...)
  local waiting = {}
  for _, inner in ipairs(module:modules()) do
    if rawget(inner, "_unbuilt") then waiting[#waiting + 1] = inner end
  end
  if #waiting == 0 then return end
  local device = ai.empty(0).device
  local twin, memo = meta.shadow(module)
  local seen = {}
  for _, layer in ipairs(waiting) do
    memo[layer]:register_forward_pre_hook(function(_, ...)
      seen[layer] = seen[layer] or {n = select("#", ...), ...}
    end)
  end
  -- Hooks run after sizes are inferred, in a detour of the call; the inputs are the same.
  meta.run(function(...)
    twin(...)
  end, ...)
  for _, layer in ipairs(waiting) do
    local inputs = seen[layer]
    if inputs then
      local where = rawget(layer, "_unbuilt")
      where.device = where.device or device
      ai.no_grad(layer.build_for, layer, unpack(inputs, 1, inputs.n))
    end
  end
end

-- -- Shapes --------------------------------------------------------------------------------------------------

--- Sizes that stand in for one that is left open. Two runs that differ tell which sizes follow from it; both have many
-- divisors, for layers that take a batch in groups.
meta.open_sizes = {12, 24}

--- Whether a value is a list of sizes: whole numbers from 0 up, or false for one that is left open.
---@param value any
---@return boolean
function meta.is_shape(value)
  if type(value) ~= "table" or getmetatable(value) ~= nil or value[1] == nil then return false end
  for i = 1, #value do
    local size = value[i]
    if size ~= false and (type(size) ~= "number" or size < 0 or size % 1 ~= 0) then return false end
  end
  return true
end

--- A meta tensor of a shape whose open sizes are `size`.
---@param shape (integer|false)[] with `dtype`, if it is not f32
---@param size integer
---@return aijit.Tensor
function meta.of_shape(shape, size)
  local sizes = {}
  for i = 1, #shape do sizes[i] = shape[i] or size end
  return meta.tensor(sizes, shape.dtype)
end

local function has_open(value)
  if type(value) ~= "table" then return false end
  for _, inner in pairs(value) do
    if inner == false or type(inner) == "table" and getmetatable(inner) == nil and has_open(inner) then return true end
  end
  return false
end

local function inputs_of(value, size, who)
  if is_tensor(value) then return meta.like(value) end
  if meta.is_shape(value) then return meta.of_shape(value, size) end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return value end
  local out = {}
  for key, inner in pairs(value) do out[key] = inputs_of(inner, size, who) end
  return out
end

--- The arguments of output_shape: sizes in a row are one shape.
local function arguments(who, ...)
  local first = ...
  if type(first) == "number" or first == false then
    local shape = {...}
    if not meta.is_shape(shape) then
      raise(("%s: a shape is a list of whole numbers, with false for a size that is left open"):format(who))
    end
    return {shape}, 1
  end
  if select("#", ...) == 0 then raise(("%s: the shape of an input is wanted, as in m:%s{8, 3, 32, 32}"):format(who, who)) end
  return {...}, select("#", ...)
end

--- The sizes of two runs that differed in the open ones: where they differ, the size is open.
---@param a aijit.Tensor
---@param b? aijit.Tensor
---@return (integer|false)[]
function meta.merge(a, b)
  local shape = {unpack(a.shape)}
  if not b then return shape end
  local other = b.shape
  if #other ~= #shape then raise "the number of dimensions follows from a size that is left open" end
  for i = 1, #shape do if shape[i] ~= other[i] then shape[i] = false end end
  return shape
end

local function shapes_of(a, b)
  if is_tensor(a) then return meta.merge(a, b) end
  if type(a) ~= "table" or getmetatable(a) ~= nil then return a end
  local out = {}
  for key, inner in pairs(a) do out[key] = shapes_of(inner, b and b[key]) end
  return out
end

--- Runs f for the shapes of `...`, once or, with sizes left open, twice.
---@param who string the method's name, for errors
---@param f fun(...): any
---@return any ... what f returned, each tensor as its shape
function meta.shapes(who, f, ...)
  local given, n = arguments(who, ...)
  local function once(size)
    local inputs = {}
    for i = 1, n do inputs[i] = inputs_of(given[i], size, who) end
    return ai.scope(function()
      local results = {meta.run(f, unpack(inputs, 1, n))}
      return meta.map(results, function(t) return t end)
    end)
  end
  local a = once(meta.open_sizes[1])
  local b = has_open(given) and once(meta.open_sizes[2]) or nil
  return unpack(shapes_of(a, b))
end

return meta
