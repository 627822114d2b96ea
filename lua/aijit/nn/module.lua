--- nn.Module: what a layer or a model is. Parameters, buffers and children are plain fields of the object.
--
--     local Net = ai.class("Net", nn.Module)
--     function Net:__init() self.fc1 = nn.Linear(784, 32); self.fc2 = nn.Linear(32, 10) end
--     function Net:forward(x) return self.fc2(self.fc1(x):relu()) end
--
-- A field that holds a module, a leaf tensor that requires a gradient, or a plain list of these, is part of the model;
-- what is registered as a buffer is part of its state. Order is the order of definition: __newindex sees a new field
-- once and notes its name. Fields that came another way (an existing `false` replaced by a layer) follow by name.
-- Names in parameters and states are PyTorch's, and so lists count from 0 there: `net[1].weight` is "0.weight".

local ai = require "aijit"
local class = require "aijit.class"
local path = require "aijit.nn.path"
local devices = require "aijit.bindings.device"
local recording = require "aijit.bindings.jit"
local registry = require "aijit.nn.registry"
local raise = require("aijit.bindings.lib").raise

local is_tensor = ai.is_tensor
local is_operand = require("aijit.bindings.op").is_operand

---@class aijit.nn.Module
---@field training boolean  true until eval() is called
local Module = class("Module")

Module.training = true

--- Fields that are the module's own business.
local private = {forward = true, training = true}
for _, name in ipairs{"_order", "_kinds", "_hooks", "_unbuilt", "_options", "_op", "_pad", "_where", "_first_values",
                   "_applied"} do
  private[name] = true
end
Module.private_fields = private

registry.root = Module

--- Lets nn.from_spec find a class by its name. nn's own classes, and any class of which an object with parameters or
--- children was made, are known already.
---@param cls table a class derived from nn.Module
---@return table cls
Module.register = registry.add

local is_module = registry.is_module

local function is_parameter(value)
  return type(value) == "cdata" and is_tensor(value) and value:is_live() and value.requires_grad and value.is_leaf
end

local function kind_of(value)
  if type(value) == "table" then
    if class.is(value, Module) then return "module" end
    if getmetatable(value) == nil then return "list" end
  elseif is_parameter(value) then
    return "parameter"
  end
end

--- Whether a value is a module.
---@param value any
---@return boolean
Module.is_module = is_module

local function record(self, key, kind)
  local kinds = rawget(self, "_kinds")
  if not kinds then
    kinds = {}
    rawset(self, "_kinds", kinds)
    rawset(self, "_order", {})
    Module.register(getmetatable(self))
  end
  if not kinds[key] then
    local order = self._order
    order[#order + 1] = key
  end
  kinds[key] = kind
end

function Module:__init() end

--- A parameter outlives the scope that it was made in.
function Module:__newindex(key, value)
  if type(key) == "string" and not private[key] then
    local kind = kind_of(value)
    if kind then record(self, key, kind) end
    if kind == "parameter" then ai.keep(value) end
  end
  rawset(self, key, value)
end

-- -- Parts ----------------------------------------------------------------------------------------------------

--- Refuses what cannot be a part's name, or a part.
local function check_part(self, who, name, tensor)
  if type(name) ~= "string" or name == "" or name:find(".", 1, true) then
    raise(("%s: %s cannot be a name: a string without dots is wanted"):format(who, type(name) == "string" and ("%q"):format(name) or "a " .. type(name)))
  end
  if private[name] or type(getmetatable(self)[name]) == "function" then raise(("%s: '%s' is a method of a module"):format(who, name)) end
  if tensor ~= nil and not is_tensor(tensor) then raise(("%s: '%s' is a %s, not a tensor"):format(who, name, type(tensor))) end
end

--- Makes a tensor a parameter of this module, whether or not it requires a gradient now.
---@param name string
---@param tensor aijit.Tensor? nil: the field is cleared
---@return aijit.Tensor? tensor
function Module:register_parameter(name, tensor)
  check_part(self, "register_parameter", name, tensor)
  rawset(self, name, tensor and ai.keep(tensor))
  if tensor then record(self, name, "parameter") end
  return tensor
end

--- Makes a tensor part of the module's state, without a gradient: running means, masks.
---@param name string
---@param tensor aijit.Tensor?
---@param options? {persistent: boolean} persistent = false: it moves with the module, but is not in state_dict
---@return aijit.Tensor? tensor
function Module:register_buffer(name, tensor, options)
  check_part(self, "register_buffer", name, tensor)
  rawset(self, name, tensor and ai.keep(tensor))
  if tensor then record(self, name, options and options.persistent == false and "scratch" or "buffer") end
  return tensor
end

--- Forgets a part: the field becomes nil.
---@param name string
function Module:drop_part(name)
  rawset(self, name, nil)
  local kinds, order = rawget(self, "_kinds"), rawget(self, "_order")
  if not kinds or not kinds[name] then return end
  kinds[name] = nil
  for i = #order, 1, -1 do if order[i] == name then table.remove(order, i) end end
end

--- Notes fields that __newindex did not see, sorted by name.
local function find_unrecorded(self, kinds)
  local found
  for key, value in next, self do
    local type_of = type(value)
    if (type_of == "table" or type_of == "cdata") and type(key) == "string" and not kinds[key] and not private[key]
      and kind_of(value) then
      found = found or {}
      found[#found + 1] = key
    end
  end
  if not found then return end
  table.sort(found)
  for _, key in ipairs(found) do record(self, key, kind_of(self[key])) end
end

local is_tensor_kind = {parameter = true, buffer = true, scratch = true}
local none = {}

--- The parts of a module itself, in order of definition, four entries each: value, kind, field, place in a list or nil.
---@return any[] parts
---@return integer n four times their number
local function parts_of(self)
  find_unrecorded(self, rawget(self, "_kinds") or none)
  local kinds, parts, n = rawget(self, "_kinds"), {}, 0
  for i = 1, #self do
    local value = self[i]
    local kind = kind_of(value)
    if kind and kind ~= "list" then
      parts[n + 1], parts[n + 2], parts[n + 3] = value, kind, i
      n = n + 4
    end
  end
  if not kinds then return parts, n end
  local order = self._order
  for i = 1, #order do
    local key = order[i]
    local kind, value = kinds[key], rawget(self, key)
    -- What a tensor is was said when it was assigned or registered; anything else may have been replaced since.
    if not is_tensor_kind[kind] or not is_tensor(value) then kind = kind_of(value) end
    if kind == "list" then
      for j = 1, #value do
        local inner = kind_of(value[j])
        if inner == "list" or not inner then break end
        parts[n + 1], parts[n + 2], parts[n + 3], parts[n + 4] = value[j], inner, key, j
        n = n + 4
      end
    elseif kind then
      parts[n + 1], parts[n + 2], parts[n + 3] = value, kind, key
      n = n + 4
    end
  end
  return parts, n
end

---@class aijit.nn.Slot
---@field name string   as in state_dict, without a prefix: "fc1", "0", "blocks.0"
---@field index string  as in Lua, from the module: ".fc1", "[1]", ".blocks[1]"
---@field value any
---@field kind "module"|"parameter"|"buffer"|"scratch"

--- The parts of this module itself, in order of definition.
---@param wanted? "module"|"parameter"|"buffer"|"scratch" only these
---@return aijit.nn.Slot[]
function Module:slots(wanted)
  local slots = {}
  local parts, n = parts_of(self)
  for i = 1, n, 4 do
    local kind, key, place = parts[i + 1], parts[i + 2], parts[i + 3]
    if not wanted or kind == wanted then
      local name, index
      if type(key) == "number" then name, index = tostring(key - 1), ("[%d]"):format(key)
      elseif place then name, index = ("%s.%d"):format(key, place - 1), (".%s[%d]"):format(key, place)
      else name, index = key, "." .. key end
      slots[#slots + 1] = {name = name, index = index, value = parts[i], kind = kind}
    end
  end
  return slots
end

--- Adds the tensors of one kind, each once: a module's own, then those below it.
local function gather(self, kind, list, seen, refuse_waiting)
  if seen[self] then return list end
  seen[self] = true
  if refuse_waiting and rawget(self, "_unbuilt") then
    raise(("parameters: %s has none yet, since its sizes come from the first input: call the model once before, "
      .. "or model:infer(sizes of an input)"):format(self:summary()))
  end
  local parts, n = parts_of(self)
  for i = 1, n, 4 do
    local value = parts[i]
    if parts[i + 1] == kind and not seen[value] then
      seen[value] = true
      list[#list + 1] = value
    end
  end
  for i = 1, n, 4 do
    if parts[i + 1] == "module" then gather(parts[i], kind, list, seen, refuse_waiting) end
  end
  return list
end

local function join(prefix, name)
  return prefix == "" and name or prefix .. "." .. name
end

--- Calls visit(name, module) for this module and all below it, parents first: each once, or under every name it has.
local function each_module(self, visit, every_name, prefix, seen)
  prefix, seen = prefix or "", seen or {}
  if seen[self] then return end
  seen[self] = true
  visit(prefix, self)
  for _, slot in ipairs(self:slots("module")) do
    each_module(slot.value, visit, every_name, join(prefix, slot.name), seen)
  end
  if every_name then seen[self] = nil end
end

--- Calls visit(name, tensor, kind) for every tensor of the model: each once, or under every name it has.
---@param visit fun(name: string, tensor: aijit.Tensor, kind: string)
---@param every_name? boolean
local function each_tensor(self, visit, every_name)
  local seen = {}
  each_module(self, function(prefix, module)
    for _, slot in ipairs(module:slots()) do
      if slot.kind ~= "module" and (every_name or not seen[slot.value]) then
        seen[slot.value] = true
        visit(join(prefix, slot.name), slot.value, slot.kind)
      end
    end
  end, every_name)
end
Module.each_tensor = each_tensor

--- An iterator over names[i], values[i].
local function pairs_of(names, values)
  local i = 0
  return function()
    i = i + 1
    return names[i], values[i]
  end
end

local function collect(self, kind, other)
  local names, values = {}, {}
  each_tensor(self, function(name, tensor, this)
    if this == kind or this == other then
      names[#names + 1] = name
      values[#values + 1] = tensor
    end
  end)
  return names, values
end

--- All parameters, each once, in order of definition. A layer that still waits for its sizes is an error: an optimizer
--- made now would leave it out.
---@return aijit.Tensor[]
function Module:parameters()
  return gather(self, "parameter", {}, {}, true)
end

--- Those parameters that exist; layers may still wait for their sizes.
---@return aijit.Tensor[]
function Module:present_parameters()
  return gather(self, "parameter", {}, {})
end

--- `for name, p in m:named_parameters() do`
---@return fun(): string, aijit.Tensor
function Module:named_parameters()
  return pairs_of(collect(self, "parameter"))
end

--- All buffers, those outside the state too.
---@return aijit.Tensor[]
function Module:buffers()
  local _, values = collect(self, "buffer", "scratch")
  return values
end

---@return fun(): string, aijit.Tensor
function Module:named_buffers()
  return pairs_of(collect(self, "buffer", "scratch"))
end

--- The modules directly below this one.
---@return aijit.nn.Module[]
function Module:children()
  local list = {}
  for i, slot in ipairs(self:slots("module")) do list[i] = slot.value end
  return list
end

---@return fun(): string, aijit.nn.Module
function Module:named_children()
  local names, values = {}, {}
  for i, slot in ipairs(self:slots("module")) do names[i], values[i] = slot.name, slot.value end
  return pairs_of(names, values)
end

--- This module and all below it, parents first, each once.
---@return aijit.nn.Module[]
function Module:modules()
  local list = {}
  each_module(self, function(_, module) list[#list + 1] = module end)
  return list
end

--- The same with names; this module's own is "".
---@return fun(): string, aijit.nn.Module
function Module:named_modules()
  local names, values = {}, {}
  each_module(self, function(name, module) names[#names + 1], values[#values + 1] = name, module end)
  return pairs_of(names, values)
end

--- Runs `visit` on every module, children before their parents.
---@param visit fun(module: aijit.nn.Module)
---@return aijit.nn.Module self
function Module:apply(visit)
  if type(visit) ~= "function" then raise(("apply: a function of a module is wanted, got a %s"):format(type(visit))) end
  local all = self:modules()
  for i = #all, 1, -1 do visit(all[i]) end
  return self
end

--- How many numbers the parameters hold.
---@param trainable_only? boolean
---@return integer
function Module:num_parameters(trainable_only)
  local n = 0
  for _, p in ipairs(self:present_parameters()) do
    if not trainable_only or p.requires_grad then n = n + p:numel() end
  end
  return n
end

-- -- Running -------------------------------------------------------------------------------------------------

local stack, called, given, depth_of, CALLS = path.stack, path.called, path.given, path.depth_of, path.CALLS

local function leave(depth, ...)
  path.depth = depth
  return ...
end

-- A model that is called in a device_scope moves there first.
local function to_scope(self)
  local p = self:parameters()[1] or self:buffers()[1]
  local here = devices.scoped
  if (p and p.device or here) ~= (here < 0 and "cpu" or "cuda:" .. here) then self:to(here < 0 and "cpu" or "cuda:" .. here) end
end

--- m(x): forward, with this module's name in the errors raised inside. Of placeholders, which stand among the first two
--- arguments or in tables there, it makes a node of a graph.
function Module:__call(...)
  local first, second = ...
  local a, b = type(first), type(second)
  if (a == "userdata" or b == "userdata" or a == "table" or b == "table") and registry.stands_in and registry.stands_in(first, second) then
    return registry.record(self, ...)
  end
  local depth, call = path.depth + 1, path.call % CALLS + 1
  stack[depth] = self
  called[call], given[call], depth_of[call] = self, first, depth
  path.depth, path.call = depth, call
  if type(first) ~= "cdata" and registry.takes_tensor[getmetatable(self)] and not is_operand(first) and not rawget(self, "_hooks") then
    raise(("%s: the first input is a %s, not a tensor"):format(self:summary(), type(first)))
  end
  if recording.met then recording.met(self) end
  if devices.scoped and depth == 1 then to_scope(self) end
  return leave(depth - 1, self:forward(...))
end

--- What a class of modules must write: from inputs to outputs.
function Module:forward()
  local name = getmetatable(self).__name
  raise(("%s has no forward: write  function %s:forward(x) ... end"):format(name, name))
end

--- The tensors among values go through `op`, which hands them on.
local function through(op, ...)
  local values, n, tensors, places = {...}, select("#", ...), {}, {}
  for i = 1, n do
    if is_tensor(values[i]) and values[i]:is_floating_point() then
      tensors[#tensors + 1] = values[i]
      places[#places + 1] = i
    end
  end
  if #tensors > 0 then
    local same = {op(unpack(tensors))}
    for k, i in ipairs(places) do values[i] = same[k] end
  end
  return unpack(values, 1, n)
end

local function same(_, ...) return ... end

--- Two ops that change nothing and see the gradients: at a module's outputs, where they are noted, and at its inputs, where
--- the hooks are run.
local function backward_taps(self, hooks)
  local outputs
  local exit = ai.define_op{name = "backward_hook", forward = same, backward = function(_, ...)
    outputs = {...}
    return ...
  end}
  local enter = ai.define_op{name = "backward_hook", forward = same, backward = function(_, ...)
    local inputs, n = {...}, select("#", ...)
    for _, hook in ipairs(hooks) do inputs = hook(self, inputs, outputs) or inputs end
    return unpack(inputs, 1, n)
  end}
  return enter, exit
end

local function run_after(self, hooks, input, output, ...)
  for _, hook in ipairs(hooks) do
    local changed = hook(self, input, output, ...)
    if changed ~= nil then output = changed end
  end
  return output, ...
end

local function run_hooks(self, hooks, forward, ...)
  local args, n = {...}, select("#", ...)
  for _, hook in ipairs(hooks.before) do
    local changed = hook(self, unpack(args, 1, n))
    if changed ~= nil then args, n = {changed}, 1 end
  end
  if #hooks.backward == 0 then return run_after(self, hooks.after, args[1], forward(self, unpack(args, 1, n))) end
  local enter, exit = backward_taps(self, hooks.backward)
  return through(exit, run_after(self, hooks.after, args[1], forward(self, through(enter, unpack(args, 1, n)))))
end

--- The class's forward with the weights that are computed before each call; nn/parametrize.lua says which.
local function with_computed(self, ...)
  local computed = self.parametrizations:slots("module")
  for _, slot in ipairs(computed) do rawset(self, slot.name, slot.value()) end
  local function finish(ok, ...)
    for _, slot in ipairs(computed) do rawset(self, slot.name, nil) end
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(getmetatable(self).forward, self, ...))
end

--- Stands in an object's own field `forward` while something must happen before its class's forward: sizes to be
--- inferred, weights to be computed, hooks to be run. Without it a call looks for none of these.
local function detour(self, ...)
  if self._unbuilt then self:build_for(...) end
  local hooks, forward = self._hooks, self._applied and with_computed or getmetatable(self).forward
  if hooks then return run_hooks(self, hooks, forward, ...) end
  if forward == with_computed then return forward(self, ...) end
  rawset(self, "forward", nil)
  return self:forward(...)
end

--- Makes the next call go past `build_for` and the hooks.
function Module:take_detour()
  rawset(self, "forward", detour)
end

local function add_hook(self, place, hook)
  if type(hook) ~= "function" then raise(("a hook is a function, got a %s"):format(type(hook))) end
  local hooks = rawget(self, "_hooks")
  if not hooks then
    hooks = {before = {}, after = {}, backward = {}}
    rawset(self, "_hooks", hooks)
  end
  local list = hooks[place]
  list[#list + 1] = hook
  self:take_detour()
  return function()
    for i = #list, 1, -1 do if list[i] == hook then table.remove(list, i) end end
    if #hooks.before + #hooks.after + #hooks.backward == 0 then rawset(self, "_hooks", nil) end
  end
end

--- `hook(module, x...)` runs before forward; what it returns, if anything, is the input instead.
---@param hook function
---@return fun() remove
function Module:register_forward_pre_hook(hook)
  return add_hook(self, "before", hook)
end

--- `hook(module, x, y, ...)` runs after forward; what it returns, if anything, is the first output instead.
---@param hook function
---@return fun() remove
function Module:register_forward_hook(hook)
  return add_hook(self, "after", hook)
end

--- `hook(module, input_gradients, output_gradients)` runs in a backward pass when the gradients of the module's inputs are
--- known; both are lists of those of the tensors, with nil where there is none. A list that it returns takes the place of
--- the first. Only inputs that need gradients let it run.
---@param hook function
---@return fun() remove
function Module:register_full_backward_hook(hook)
  return add_hook(self, "backward", hook)
end

--- Training or evaluation: dropout and batch norm differ.
---@param on? boolean false: as eval()
---@return aijit.nn.Module self
function Module:train(on)
  if on ~= nil and type(on) ~= "boolean" then raise(("train: true or false is wanted, got a %s"):format(type(on))) end
  for _, module in ipairs(self:modules()) do rawset(module, "training", on ~= false) end
  recording.mode_changed()
  return self
end

---@return aijit.nn.Module self
function Module:eval()
  return self:train(false)
end

for _, part in ipairs{"state", "service", "spec", "show", "shape"} do
  for name, method in pairs(require("aijit.nn.module." .. part)) do Module[name] = method end
end

for _, name in ipairs{"init", "save"} do Module[name] = require("aijit.nn.module.file")[name] end

return Module
