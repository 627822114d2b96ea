--- What can be done to a whole model: move it, freeze it, clip it, copy it.

local ai = require "aijit"
local meta = require "aijit.nn.meta"
local optim = require "aijit.bindings.optim"
local registry = require "aijit.nn.registry"
local raise = require("aijit.bindings.lib").raise

local service = {}

--- Refuses what is not wanted of an argument.
local function want(ok, who, what, value)
  if not ok then
    raise(("%s: %s is wanted, got %s"):format(who, what, type(value) == "number" and tostring(value) or type(value) == "nil" and "nil"
      or type(value) == "string" and ("%q"):format(value) or "a " .. type(value)))
  end
end

local function want_model(who, value) want(registry.is_module(value), who, "another model", value) end

local function set_requires_grad(self, on)
  for _, p in ipairs(self:parameters()) do p:requires_grad_(on) end
  return self
end

--- Runs the model on zeros, as it would in evaluation.
local function try(self, ...)
  local input, modules, training = ..., self:modules(), {}
  if not ai.is_tensor(input) then input = ai.zeros(...) end
  for i, module in ipairs(modules) do training[i] = rawget(module, "training") end
  self:eval()
  local ok, message = pcall(ai.no_grad, function() ai.scope(function() self(input) end) end)
  for i, module in ipairs(modules) do rawset(module, "training", training[i]) end
  if not ok then error(message, 0) end
end

--- Lets every layer infer its sizes, from those of an input: m:infer(1, 3, 32, 32). Shapes alone are computed, unless a
--- layer needs values to go on.
---@param ... integer|integer[]|aijit.Tensor sizes, one list of them, or an input
---@return aijit.nn.Module self
function service:infer(...)
  local input = ...
  if input == nil then raise "infer: the sizes of an input are wanted, as in m:infer(1, 3, 32, 32)" end
  input = ai.is_tensor(input) and meta.like(input) or ai.device_scope("meta", ai.zeros, ...)
  local ok, message = pcall(meta.build, self, input)
  if not ok then
    if not tostring(message):find("no elements", 1, true) then error(message, 0) end
    try(self, ...)
  end
  return self
end

--- No parameter is trained from now on.
---@return aijit.nn.Module self
function service:freeze()
  return set_requires_grad(self, false)
end

---@return aijit.nn.Module self
function service:unfreeze()
  return set_requires_grad(self, true)
end

---@param on? boolean
---@return aijit.nn.Module self
function service:requires_grad_(on)
  want(on == nil or type(on) == "boolean", "requires_grad_", "true or false", on)
  return set_requires_grad(self, on ~= false)
end

--- Forgets all gradients.
---@return aijit.nn.Module self
function service:zero_grad()
  optim.zero_grad(self:present_parameters())
  return self
end

--- Scales all gradients down together, so that their norm is at most max_norm.
---@param max_norm number
---@param options? {norm_type: number} 2 by default; math.huge: the largest element
---@return number? norm before clipping; nil in a function that ai.jit records
function service:clip_grad_norm(max_norm, options)
  want(type(max_norm) == "number" and max_norm >= 0, "clip_grad_norm", "a largest norm, a number from 0 up,", max_norm)
  for key in pairs(options or {}) do want(key == "norm_type", "clip_grad_norm", "no option but norm_type", key) end
  local norm_type = options and options.norm_type or 2
  want(type(norm_type) == "number" and norm_type > 0, "clip_grad_norm", "a norm_type above 0", norm_type)
  return optim.clip_grad_norm(self:parameters(), max_norm, norm_type)
end

--- Limits every element of every gradient to -value .. value.
---@param value number
---@return aijit.nn.Module self
function service:clip_grad_value(value)
  want(type(value) == "number" and value >= 0, "clip_grad_value", "a largest value, a number from 0 up,", value)
  optim.clip_grad_value(self:parameters(), value)
  return self
end

--- The tensors of two models of one structure, beside each other.
local function beside(self, other, who)
  want_model(who, other)
  local mine, theirs, float, whole = {}, {}, {{}, {}}, {{}, {}}
  self:each_tensor(function(name, tensor, kind) if kind ~= "scratch" then mine[#mine + 1] = {name, tensor} end end)
  other:each_tensor(function(name, tensor, kind) if kind ~= "scratch" then theirs[#theirs + 1] = {name, tensor} end end)
  for i = 1, math.max(#mine, #theirs) do
    local a, b = mine[i], theirs[i]
    if not a or not b or a[1] ~= b[1] then
      raise(("%s: the models differ: %s here, %s there"):format(
        who, a and a[1] or "nothing more", b and b[1] or "nothing more"))
    end
    local to = a[2]:is_floating_point() and float or whole
    to[1][#to[1] + 1], to[2][#to[2] + 1] = a[2], b[2]
  end
  return float, whole
end

--- Moves this model's parameters and buffers towards another's of the same structure: x = x + tau * (source - x).
--- Integers, such as counters, are copied.
---@param source aijit.nn.Module
---@param tau number 0: nothing changes; 1: a copy
---@return aijit.nn.Module self
function service:soft_update(source, tau)
  if type(tau) ~= "number" or not (tau >= 0 and tau <= 1) then
    raise(("soft_update: tau is %s; a number between 0 and 1 is wanted, as in m:soft_update(source, 0.01)"):format(tostring(tau)))
  end
  local float, whole = beside(self, source, "soft_update")
  optim.lerp_all(float[1], float[2], tau)
  ai.no_grad(function() for i, tensor in ipairs(whole[1]) do tensor:copy_(whole[2][i]) end end)
  return self
end

--- Copies another model's parameters and buffers.
---@param source aijit.nn.Module of the same structure
---@return aijit.nn.Module self
function service:hard_update(source)
  local float, whole = beside(self, source, "hard_update")
  ai.no_grad(function()
    for _, lists in ipairs{float, whole} do
      for i, tensor in ipairs(lists[1]) do tensor:copy_(lists[2][i]) end
    end
  end)
  return self
end

service.copy_from = service.hard_update

--- Copies this model's parameters and buffers to another one.
---@param target aijit.nn.Module of the same structure
---@return aijit.nn.Module self
function service:copy_to(target)
  want_model("copy_to", target)
  target:copy_from(self)
  return self
end

--- Puts a tensor in the place of another.
local function replace(module, slot, new)
  local list, i = slot.name:match "^(.*)%.(%d+)$"
  if list then rawget(module, list)[i + 1] = new else rawset(module, slot.name, new) end
end

--- Converts every tensor of a module. Parameters stay the tensors that they are, and so do their gradients' places; a buffer
--- is replaced, one that stands in several places by one. What is converted is all there before anything changes.
local function convert_tensors(self, convert)
  local made, parameters, buffers = {}, {}, {}
  for name, module in self:named_modules() do
    for _, slot in ipairs(module:slots()) do
      if slot.kind ~= "module" then
        local old = slot.value
        local new = made[old]
        if not new then
          new = convert(old)
          made[old] = new
          if slot.kind == "parameter" and not new:is_same(old) then
            parameters[#parameters + 1] = {old, new, old.grad and convert(old.grad),
                                           name == "" and slot.name or name .. "." .. slot.name}
          end
        end
        if slot.kind ~= "parameter" and not new:is_same(old) then buffers[#buffers + 1] = {module, slot, new} end
      end
    end
  end
  for _, entry in ipairs(parameters) do
    local p, new, grad, name = unpack(entry, 1, 4)
    local old_grad = p.grad
    p.grad = nil
    local ok, message = pcall(p.set_data, p, new)
    p.grad = ok and grad or old_grad
    if not ok then raise(("to: %s: %s"):format(name, tostring(message):gsub("^[^\n]-:%d+: ", ""))) end
  end
  for _, entry in ipairs(buffers) do replace(unpack(entry)) end
  return self
end

--- Makes this model use another one's tensors in place of its own: what one is trained to, both are.
---@param source aijit.nn.Module of the same structure
---@param ... string only fields of these names, such as "weight", "bias"; none: all parameters and buffers
---@return aijit.nn.Module self
function service:share(source, ...)
  want_model("share", source)
  local wanted, found = {}, 0
  for i = 1, select("#", ...) do wanted[select(i, ...)] = true end
  local theirs, by_path = {}, {}
  for name, module in source:named_modules() do theirs[name] = module end
  for name, module in self:named_modules() do by_path[#by_path + 1] = {name, module} end
  local shared = {}
  for _, entry in ipairs(by_path) do
    local other, slots = theirs[entry[1]], {}
    for _, slot in ipairs(other and other:slots() or {}) do slots[slot.name] = slot end
    for _, slot in ipairs(entry[2]:slots()) do
      local field = slot.name:match "^[^.]*"
      if slot.kind ~= "module" and (next(wanted) == nil or wanted[field]) then
        local with, name = slots[slot.name], entry[1] == "" and slot.name or entry[1] .. "." .. slot.name
        if not with or with.kind ~= slot.kind or table.concat(with.value.shape, ",") ~= table.concat(slot.value.shape, ",") then
          raise(("share: the other model has no %s '%s' of that shape"):format(slot.kind, name))
        end
        shared[#shared + 1] = {entry[2], slot, with.value}
        found = found + 1
      end
    end
  end
  if found == 0 then raise("share: the model has no tensor of those names") end
  for _, entry in ipairs(shared) do
    replace(unpack(entry))
  end
  return self
end

local dtypes = {f64 = "f64", f32 = "f32", f16 = "f16", bf16 = "bf16", double = "f64", float = "f32", half = "f16"}

--- Converts parameters, their gradients and buffers: floating ones to a dtype, all to a device. Parameters stay the tensors
--- that they are, so that an optimizer made before trains them still; a graph made before is not run backward any more.
---@param where string|{dtype: string, device: any} a dtype, a device ("cuda:0", "cpu"), or both
---@return aijit.nn.Module self
function service:to(where)
  local dtype, device
  if type(where) == "table" then
    for key in pairs(where) do
      if key ~= "dtype" and key ~= "device" then
        raise(("to: there is no option '%s'; m:to{dtype = \"bf16\", device = \"cpu\"}"):format(tostring(key)))
      end
    end
    dtype, device = where.dtype, where.device
    if dtype ~= nil and not dtypes[dtype] then
      raise(("to: a model is converted to f64, f32, f16 or bf16, not %s"):format(tostring(dtype)))
    end
    dtype = dtypes[dtype]
  elseif dtypes[where] then dtype = dtypes[where]
  elseif where == nil then raise "to: a dtype or a device is wanted, as in m:to(\"bf16\") or m:to(\"cuda:0\")"
  else device = where end
  if device ~= nil then ai.zeros(0, {device = device}) end         -- an error if there is none
  convert_tensors(self, function(old)
    local as_is = old:detach()
    local new = as_is
    if dtype and old:is_floating_point() then new = new:to(dtype) end
    if device ~= nil then new = new:to(device) end
    if new:is_same(as_is) then return old end
    return ai.keep(new)
  end)
  for _, module in ipairs(self:modules()) do
    local options = rawget(module, "_unbuilt")
    if options then options.dtype, options.device = dtype or options.dtype, device or options.device end
  end
  return self
end

for name, dtype in pairs{float = "f32", double = "f64", half = "f16", bf16 = "bf16"} do
  service[name] = function(self) return self:to(dtype) end
end

---@return aijit.nn.Module self
function service:cpu()
  return self:to("cpu")
end

---@param device? string|integer "cuda:0" by default
---@return aijit.nn.Module self
function service:cuda(device)
  return self:to(device or "cuda:0")
end

local function copy(value, memo)
  local kind = type(value)
  if kind == "cdata" and ai.is_tensor(value) then
    local new = memo[value]
    if not new then
      new = ai.keep(value:detach():clone())
      if value.requires_grad then new:requires_grad_(true) end
      memo[value] = new
    end
    return new
  elseif kind == "table" then
    local new = memo[value]
    if not new then
      new = setmetatable({}, getmetatable(value))
      memo[value] = new
      for key, inner in next, value do rawset(new, key, copy(inner, memo)) end
    end
    return new
  end
  return value
end

--- A copy with parameters of its own; what is shared within the model is shared within the copy.
---@return aijit.nn.Module
function service:clone()
  return copy(self, {})
end

return service
