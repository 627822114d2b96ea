--- Placeholders: tensors that have a shape and no elements yet. What is done to them is written down, as a graph.
--
--     local x = nn.Placeholder{8, 3, 32, 32}         -- {false, 3, 32, 32}: the batch is left open
--     local h = nn.Conv2d(10, 3)(x)                   -- a layer is built at once, sizes inferred
--     local y = (h * 2):relu()[{{}, 1}]               -- operators, methods, indices, ai.f.relu(h), ai.cat{h, h}
--
-- #x is x:size(1). It cannot be the condition of an `if`: every value but nil and false is true to Lua, and so a comparison
-- that nothing uses is an error when the graph is made a module (see unused, below).
--
-- Each step is run once on the meta device, so that its shape, or its error, is known where it stands. Steps are nodes:
-- a module or an op, its arguments, and the placeholders of its results. nn.Functional makes a module of them.

local ai = require "aijit"
local Tensor = require "aijit.bindings.tensor"
local meta = require "aijit.nn.meta"
local nearest = require "aijit.nearest"
local op = require "aijit.bindings.op"
local registry = require "aijit.nn.registry"
local symbol = require "aijit.bindings.symbol"
local lib = require "aijit.bindings.lib"
local watch = require "aijit.bindings.watch"
local raise = lib.raise

local graph = {}

---@class aijit.nn.Node
---@field module? aijit.nn.Module
---@field op? string            a method of tensors
---@field args any[]            placeholders, tensors, numbers, strings, tables of these
---@field n integer             number of arguments
---@field results any[]         what it returns, with the states of placeholders where tensors come
---@field at string             where in the program it was made
---@field n_results integer

---@class aijit.nn.Placeholder
---@field shape (integer|false)[]
---@field dtype string
---@field node? aijit.nn.Node   what makes it; nil for one that is fed
---@operator add(any): aijit.nn.Placeholder
---@operator sub(any): aijit.nn.Placeholder
---@operator mul(any): aijit.nn.Placeholder
---@operator div(any): aijit.nn.Placeholder
---@operator pow(any): aijit.nn.Placeholder
---@operator unm: aijit.nn.Placeholder
local Placeholder = {__name = "Placeholder"}
graph.Placeholder = Placeholder

local serial = 0

--- samples: a meta tensor for each of meta.open_sizes, or one when no size is open.
local make
local function new(samples, node)
  serial = serial + 1
  return make{
    shape = meta.merge(samples[1], samples[2]), dtype = samples[1].dtype, node = node, serial = serial,
    samples = {{unpack(samples[1].shape)}, samples[2] and {unpack(samples[2].shape)}},
  }
end

--- What a placeholder is; nil: the value is none. A node's results hold these themselves.
---@param value any
---@return table?
function graph.state(value)
  return symbol.state(value, Placeholder) or type(value) == "table" and value.kind == Placeholder and value or nil
end
local state_of = graph.state

--- Whether a value is a placeholder.
---@param value any
---@return boolean
function graph.is_placeholder(value) return symbol.state(value, Placeholder) ~= nil end
local is_placeholder = graph.is_placeholder

--- Whether one is in a value: the value itself, or in plain tables.
---@param value any
---@return boolean
function graph.contains(value)
  if type(value) == "userdata" then return is_placeholder(value) end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return false end
  for _, inner in next, value do
    if graph.contains(inner) then return true end
  end
  return false
end

--- A tensor of a graph that is fed from outside.
---@param shape (integer|false)[] false: a size that is left open; dtype = "i64" may stand among them
---@return aijit.nn.Placeholder
function graph.new(shape, ...)
  if type(shape) == "number" or shape == false then shape = {shape, ...} end
  if type(shape) ~= "table" or next(shape) ~= nil and not meta.is_shape(shape) then
    raise "Placeholder: a list of sizes is wanted, whole numbers or false, as in nn.Placeholder{false, 3, 32, 32}"
  end
  for key in pairs(shape) do
    if type(key) ~= "number" and key ~= "dtype" then
      raise(("Placeholder: '%s' is no size; only dtype has a name: %s"):format(tostring(key), nearest.hint(tostring(key), {"dtype"})))
    end
  end
  local open = false
  for i = 1, #shape do open = open or shape[i] == false end
  return new({meta.of_shape(shape, meta.open_sizes[1]), open and meta.of_shape(shape, meta.open_sizes[2]) or nil})
end

-- -- Writing down a step ---------------------------------------------------------------------------------------

local function any_open(value)
  if is_placeholder(value) then return value.samples[2] ~= nil end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return false end
  for _, inner in pairs(value) do if any_open(inner) then return true end end
  return false
end

--- Placeholders, and tensors, as meta tensors.
local function sampled(value, which)
  if is_placeholder(value) then return meta.tensor(value.samples[which] or value.samples[1], value.dtype) end
  if ai.is_tensor(value) then return meta.like(value) end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return value end
  local out = {}
  for key, inner in pairs(value) do out[key] = sampled(inner, which) end
  return out
end

--- What a step returned, with a placeholder for each tensor.
local function placed(a, b, node)
  if ai.is_tensor(a) then return new({a, b}, node) end
  if type(a) ~= "table" or getmetatable(a) ~= nil then return a end
  local out = {}
  for key, inner in pairs(a) do out[key] = placed(inner, b and b[key], node) end
  return out
end

--- Calls visit(state) for the placeholders among values.
local function each_state(value, visit)
  local state = state_of(value)
  if state then visit(state)
  elseif type(value) == "table" and getmetatable(value) == nil then for _, inner in pairs(value) do each_state(inner, visit) end end
end

-- A comparison that no step uses and that is no output was most likely the condition of an `if`, which every placeholder
-- meets. All that it was made from keeps a note of it, since the result itself is gone by then.
local function note_comparison(node, result)
  local note, seen = {op = node.op, at = lib.place(), used = false}, {}
  result.comparison = note
  local function keep(state)
    if seen[state] then return end
    seen[state] = true
    state.compared = state.compared or {}
    state.compared[#state.compared + 1] = note
    if state.node then each_state(state.node.args, keep) end
  end
  each_state(node.args, keep)
end

--- The comparisons of placeholders that nothing uses: notes with `op` and `at`.
---@param value any placeholders, in plain tables or by themselves, also a node's args and results
---@param list? table[] to be added to
---@return table[] list
function graph.unused(value, list)
  list = list or {}
  each_state(value, function(state)
    for _, note in ipairs(state.compared or {}) do
      if not note.used then
        note.used = true                                 -- told once
        list[#list + 1] = note
      end
    end
  end)
  return list
end

--- Says that the placeholders among values are used.
function graph.use(value)
  each_state(value, function(state) if state.comparison then state.comparison.used = true end end)
end

--- Results as a node keeps them.
local function stated(value)
  if is_placeholder(value) then return symbol.state(value) end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return value end
  local out = {}
  for key, inner in pairs(value) do out[key] = stated(inner) end
  return out
end

local function record(node, run, ...)
  node.n, node.args = select("#", ...), {...}
  while node.n > 0 and node.args[node.n] == nil do node.n = node.n - 1 end
  local open = any_open(node.args)
  local function once(which)
    local args = sampled(node.args, which)
    return ai.scope(function()
      local function pack(...) return {n = select("#", ...), ...} end
      if node.op then return pack(meta.run(run, unpack(args, 1, node.n))) end
      return pack(watch.no_idle_bools(node.module:title(), "tensors without elements", meta.run, run, unpack(args, 1, node.n)))
    end)
  end
  local ok, a = pcall(once, 1)
  if not ok then error(open and ("%s\n  a size of %d stands for one that is left open"):format(a, meta.open_sizes[1]) or a, 0) end
  local b = open and once(2) or nil
  node.results, node.n_results = {}, a.n
  graph.use(node.args)
  local results = {}
  for i = 1, a.n do
    results[i] = placed(a[i], b and b[i], node)
    node.results[i] = stated(results[i])
  end
  if op.questions[node.op] then note_comparison(node, symbol.state(results[1])) end
  return unpack(results, 1, node.n_results)
end

--- A module called with placeholders: it is built if it waits for its sizes, and its call is a node.
---@param module aijit.nn.Module
---@return any ... placeholders
function graph.call(module, ...)
  meta.build(module, unpack(sampled({...}, 1), 1, select("#", ...)))
  return record({module = module}, meta.shadow(module), ...)
end

--- A method of tensors called with placeholders.
---@param name string
---@return any ... placeholders
function graph.op(name, ...)
  if name:sub(-1) == "_" then
    raise(("%s: a placeholder cannot be written in place; use %s"):format(name, name:sub(1, -2)))
  end
  return record({op = name}, Tensor[name], ...)
end

registry.record = graph.call
registry.stands_in = function(a, b) return graph.contains(a) or graph.contains(b) end
Placeholder.__record = graph.op
Placeholder.__whole = true                               -- functions made of ops in Lua are one step

-- -- What a placeholder can do ------------------------------------------------------------------------------------

local methods = {}

--- The number of sizes.
---@return integer
function methods:dim() return #self.shape end

--- A size; of one that is left open nothing can be said while the graph is made.
---@param dim? integer without it, all of them
---@return integer|(integer|false)[]
function methods:size(dim)
  if dim == nil then return {unpack(self.shape)} end
  local size = self.shape[dim < 0 and #self.shape + 1 + dim or dim]
  if size == nil then raise(("size: dimension %d of a placeholder of %d dimensions"):format(dim, #self.shape)) end
  if size == false then
    raise(("size: size %d of this placeholder is left open, %s; let it follow, as -1 in a reshape, or compute with it in an "
      .. "nn.Lambda"):format(dim, graph.shape_text(self.shape)))
  end
  return size
end

---@return integer
function methods:numel()
  local n = 1
  for i = 1, #self.shape do n = n * methods.size(self, i) end
  return n
end

--- All dimensions but the first made one, as nn.Flatten does: a placeholder's first dimension is the batch.
---@param start_dim? integer 2
---@param end_dim? integer -1
---@return aijit.nn.Placeholder
function methods:flatten(start_dim, end_dim)
  return graph.op("flatten", self, start_dim or 2, end_dim or -1)
end

--- Sizes as text: "(false, 3, 32, 32)" is "(?, 3, 32, 32)".
---@param shape (integer|false)[]
---@return string
function graph.shape_text(shape)
  local sizes = {}
  for i = 1, #shape do sizes[i] = shape[i] and tostring(shape[i]) or "?" end
  return "(" .. table.concat(sizes, ", ") .. ")"
end

local recorded = setmetatable({}, {__index = function(cache, name)
  local function method(...) return graph.op(name, ...) end
  rawset(cache, name, method)
  return method
end})

function Placeholder.__index(self, key)
  if type(key) ~= "string" then return graph.op("index_get", self, key) end
  local value = symbol.state(self)[key]
  if value ~= nil then return value end
  if methods[key] then return methods[key] end
  if Tensor[key] then return recorded[key] end
  if key == "node" or key == "device" or key == "grad" or key == "requires_grad" then return nil end
  raise(("a placeholder has no method or property '%s': %s"):format(key, nearest.hint(key, Tensor.names())))
end

function Placeholder.__newindex()
  raise "a placeholder cannot be written to: its graph holds what is computed, not memory"
end

for event, name in pairs {add = "add", sub = "sub", mul = "mul", div = "div", mod = "remainder", pow = "pow"} do
  Placeholder["__" .. event] = function(a, b) return graph.op(name, a, b) end
end
function Placeholder.__len(self) return methods.size(self, 1) end
function Placeholder.__unm(a) return graph.op("neg", a) end
function Placeholder.__lt() raise "placeholders are compared by :lt, :le, :gt, :ge and :eq, which make a node" end
Placeholder.__le = Placeholder.__lt

function Placeholder.__tostring(self)
  local node = self.node
  local from = node and " of " .. (node.op or node.module:title()) or ""
  return ("Placeholder %s %s%s"):format(graph.shape_text(self.shape), self.dtype, from)
end

make = symbol.kind(Placeholder, true)

return graph
