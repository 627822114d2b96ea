--- nn.Functional: the part of a graph between some placeholders and others, as a module.
--
-- The modules in it are its list, net[1], net[2], ..., each once however often it is called; they are shared with whoever
-- made them. Tensors that steps use are its parameters (leaves that require a gradient) and buffers: constant_1, ...

local ai = require "aijit"
local Tensor = require "aijit.bindings.tensor"
local class = require "aijit.class"
local graph = require "aijit.nn.graph"
local nearest = require "aijit.nearest"
local registry = require "aijit.nn.registry"
local Module = require "aijit.nn.module"
local lib = require "aijit.bindings.lib"
local raise = lib.raise

local is_placeholder, shape_text = graph.is_placeholder, graph.shape_text

---@class aijit.nn.Functional: aijit.nn.Module
---@overload fun(o: {inputs: any, outputs: any}): aijit.nn.Functional
local Functional = class("Functional", Module)
Module.register(Functional)

for _, name in ipairs {"_inputs", "_outputs", "_steps", "_fed", "_at"} do Module.private_fields[name] = true end

-- -- Making ----------------------------------------------------------------------------------------------------

--- Calls visit(state, place) for each placeholder in a structure, in the order of its keys.
local function each(value, visit, place)
  local state = graph.state(value)
  if state then return visit(state, place or "") end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return end
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if type(a) == type(b) then return a < b end
    return type(a) == "number"
  end)
  for _, key in ipairs(keys) do
    each(value[key], visit, (place or "") .. (type(key) == "number" and ("[%d]"):format(key) or "." .. tostring(key)))
  end
end

--- Nodes between the inputs and the outputs, each after those it needs.
local function order(inputs, outputs)
  local fed, nodes, state = {}, {}, {}
  each(inputs, function(p) fed[p] = true end)
  local function visit(p)
    if fed[p] then return end
    local node = p.node
    if not node then
      raise(("Functional: the outputs need a placeholder of sizes %s that is not among the inputs"):format(shape_text(p.shape)))
    end
    if state[node] then return end
    state[node] = true
    each(node.args, visit)
    nodes[#nodes + 1] = node
  end
  each(outputs, visit)
  return nodes
end

--- An argument or a result, with each placeholder as its register and each tensor as the name it has here.
local function compiled(self, value, registers, names)
  local state = graph.state(value)
  if state then return {register = registers[state]} end
  if ai.is_tensor(value) then
    local name = names[value:id()]
    if not name then
      names.n = names.n + 1
      name = "constant_" .. names.n
      names[value:id()] = name
      if value.requires_grad and value.is_leaf then self:register_parameter(name, value)
      else self:register_buffer(name, value) end
    end
    return {constant = name}
  end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return {value = value} end
  local out = {}
  for key, inner in pairs(value) do out[key] = compiled(self, inner, registers, names) end
  return {table = out}
end

function Functional:__init(o)
  if type(o) ~= "table" or o.inputs == nil or o.outputs == nil then
    raise "Functional: usage: nn.Functional{inputs = x, outputs = y}; each is a placeholder, a list of them, or a table"
  end
  for key in pairs(o) do
    if key ~= "inputs" and key ~= "outputs" then
      raise(("Functional: it has no argument '%s': %s"):format(tostring(key), nearest.hint(tostring(key), {"inputs", "outputs"})))
    end
  end
  local registers, n, steps, places, names = {}, 0, {}, {}, {n = 0}
  local function give(p)
    if not registers[p] then n = n + 1 registers[p] = n end
    return registers[p]
  end
  local fed = {}
  local function structure(value, what)
    if is_placeholder(value) then return {register = give(graph.state(value))} end
    if type(value) ~= "table" or getmetatable(value) ~= nil then
      raise(("Functional: %s holds a %s, where a placeholder or a table of them is wanted"):format(what, type(value)))
    end
    local out = {}
    for key, inner in pairs(value) do out[key] = structure(inner, what) end
    return {table = out}
  end
  local first = {}
  each(o.inputs, function(p, where)
    if first[p] then raise(("Functional: the same placeholder is input%s and input%s"):format(first[p], where)) end
    first[p] = where
    give(p)
    fed[#fed + 1] = {register = registers[p], shape = p.shape, dtype = p.dtype, where = where}
  end)
  if #fed == 0 then raise "Functional: there is no placeholder among the inputs" end
  if not graph.contains(o.outputs) then raise "Functional: there is no placeholder among the outputs" end
  local nodes = order(o.inputs, o.outputs)
  graph.use(o.outputs)
  local unused = graph.unused(o.inputs)
  for _, node in ipairs(nodes) do graph.unused(node.results, unused) end
  lib.refuse_unused("Functional", "placeholders", unused)
  for i, node in ipairs(nodes) do
    local step = {op = node.op, n = node.n, args = {}, results = {}, n_results = node.n_results}
    if node.module then
      if not places[node.module] then
        self[#self + 1] = node.module
        places[node.module] = #self
      end
      step.module = places[node.module]
    end
    for k = 1, node.n do step.args[k] = compiled(self, node.args[k], registers, names) end
    for k = 1, node.n_results do
      each(node.results[k], give)
      step.results[k] = compiled(self, node.results[k], registers, names)
    end
    steps[i] = step
    -- Most steps take registers and return one tensor.
    step.plain = node.n <= 3 and node.n_results == 1 and step.results[1].register ~= nil
    for k = 1, node.n do step.plain = step.plain and step.args[k].register ~= nil end
    local shapes = {}
    each(node.results, function(p) shapes[#shapes + 1] = shape_text(p.shape) end)
    step.shapes = table.concat(shapes, ", ")
  end
  self._inputs = structure(o.inputs, "inputs")
  self._outputs = structure(o.outputs, "outputs")
  self._steps, self._fed = steps, fed
end

-- -- Running ---------------------------------------------------------------------------------------------------

local function value_of(self, part, values)
  if part.register then return values[part.register] end
  if part.constant then return self[part.constant] end
  if part.table then
    local out = {}
    for key, inner in pairs(part.table) do out[key] = value_of(self, inner, values) end
    return out
  end
  return part.value
end

local function bind(part, value, values)
  if part.register then values[part.register] = value
  elseif part.table then
    for key, inner in pairs(part.table) do bind(inner, value[key], values) end
  end
end

local function feed(self, part, value, values, place)
  if part.register then
    if not ai.is_tensor(value) then
      raise(("Functional: input%s is a %s, where a tensor is wanted"):format(place, type(value)))
    end
    values[part.register] = value
    return
  end
  if type(value) ~= "table" then
    raise(("Functional: input%s is %s, where a table is wanted, as the inputs were given"):format(place,
      ai.is_tensor(value) and "a tensor" or "a " .. type(value)))
  end
  for key, inner in pairs(part.table) do
    feed(self, inner, value[key], values, place .. (type(key) == "number" and ("[%d]"):format(key) or "." .. tostring(key)))
  end
  for key in pairs(value) do
    if part.table[key] == nil then
      local names = {}
      for name in pairs(part.table) do names[#names + 1] = tostring(name) end
      raise(("Functional: there is no input%s named '%s': %s"):format(place, tostring(key), nearest.hint(tostring(key), names)))
    end
  end
end

--- The first size is the batch's, which may be any.
local function check(self, values)
  for _, input in ipairs(self._fed) do
    local x, shape = values[input.register], input.shape
    local fits = x:dim() == #shape
    for i = 2, fits and #shape or 0 do fits = fits and (shape[i] == false or x:size(i) == shape[i]) end
    if not fits then
      raise(("Functional: input%s has the sizes %s, where the graph was made for %s (the first may differ)"):format(
        input.where, shape_text(x.shape), shape_text(shape)))
    end
  end
end

local function run_step(self, step, values)
  local f = step.module and self[step.module] or Tensor[step.op]
  if step.plain then
    local args = step.args
    local a, b, c = args[1], args[2], args[3]
    local y
    if c then y = f(values[a.register], values[b.register], values[c.register])
    elseif b then y = f(values[a.register], values[b.register])
    else y = f(values[a.register]) end
    values[step.results[1].register] = y
    return
  end
  local args = {}
  for k = 1, step.n do args[k] = value_of(self, step.args[k], values) end
  local results = {f(unpack(args, 1, step.n))}
  for k = 1, step.n_results do bind(step.results[k], results[k], values) end
end

--- Takes what the inputs were: one tensor, a list (or its entries, one after another), or a table of names; returns what the
--- outputs were.
function Functional:forward(...)
  rawset(self, "_at", nil)                               -- of an error before
  local given, n, values = ..., select("#", ...), {}
  local list = self._inputs.table
  if list and (n > 1 or ai.is_tensor(given)) then
    if #list ~= n then raise(("Functional: %d inputs are given, where the graph has %d"):format(n, #list)) end
    given = {...}
  elseif n ~= 1 then
    raise(("Functional: %d inputs are given, where the graph has one"):format(n))
  end
  feed(self, self._inputs, given, values, "")
  check(self, values)
  local steps = self._steps
  for i = 1, #steps do
    rawset(self, "_at", i)
    run_step(self, steps[i], values)
  end
  rawset(self, "_at", nil)
  return value_of(self, self._outputs, values)
end

-- -- Printing ----------------------------------------------------------------------------------------------------

local quoted = Module.quoted

local function text_of(part)
  if part.register then return "x" .. part.register end
  if part.constant then return "self." .. part.constant end
  if not part.table then return quoted(part.value) end
  local parts, n = {}, #part.table
  for i = 1, n do parts[i] = text_of(part.table[i]) end
  local keys = {}
  for key in pairs(part.table) do
    if type(key) ~= "number" or key > n then keys[#keys + 1] = key end
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do parts[#parts + 1] = tostring(key) .. " = " .. text_of(part.table[key]) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function list_text(parts, n)
  local list = {}
  for i = 1, n do list[i] = parts[i] and text_of(parts[i]) or "nil" end
  return table.concat(list, ", ")
end

--- One line a step: what it makes, from what, and its sizes. A module is written out where it is first called; later calls
--- name its place.
function Functional:__tostring()
  local lines, comments, seen, width = {}, {}, {}, 0
  local function put(text, comment)
    lines[#lines + 1], comments[#lines + 1] = text, comment or false
    if comment then width = math.max(width, #text) end
  end
  put("nn.Functional{", ("%d parameters"):format(self:num_parameters()))
  for _, input in ipairs(self._fed) do
    put(("  x%d = nn.Placeholder%s"):format(input.register, quoted(input.shape)), input.dtype ~= "f32" and input.dtype or nil)
  end
  for _, step in ipairs(self._steps) do
    local what
    if step.op then
      what = ("%s(%s)"):format(step.op, list_text(step.args, step.n))
    else
      local module = self[step.module]
      local name = seen[step.module] and ("self[%d]"):format(step.module) or module:call_text()
      seen[step.module] = true
      what = ("%s(%s)"):format(name, list_text(step.args, step.n))
    end
    put(("  %s = %s"):format(list_text(step.results, step.n_results), what), step.shapes)
  end
  put(("  inputs = %s, outputs = %s"):format(text_of(self._inputs), text_of(self._outputs)))
  put("}")
  for i, comment in ipairs(comments) do
    if comment then lines[i] = ("%s%s  -- %s"):format(lines[i], (" "):rep(width - #lines[i]), comment) end
  end
  return table.concat(lines, "\n")
end

--- The step that is being run, for errors: "Functional{}, step 2: x3 = reshape(x2, -1, 2, 3)".
function Functional:at_work()
  local step = self._steps[rawget(self, "_at")]
  if not step or not step.op then return self:summary() end
  return ("%s, step %d: %s = %s(%s)"):format(self:summary(), self._at, list_text(step.results, step.n_results), step.op, list_text(step.args, step.n))
end

function Functional:call_text() return "nn.Functional{}" end
function Functional:brackets() return "nn.Functional{", "}" end

-- -- Specs -------------------------------------------------------------------------------------------------------

--- {ref = 3}: a placeholder; {constant = "constant_1"}; {list = {...}}, {map = {...}}: tables; {none = true}: nil; other
--- values as they are.
local function encode(part)
  if part.register then return {ref = part.register} end
  if part.constant then return {constant = part.constant} end
  if part.table then
    local n, count, out = #part.table, 0, {}
    for key, inner in pairs(part.table) do
      count = count + 1
      out[key] = encode(inner)
    end
    return n == count and {list = out} or {map = out}
  end
  if part.value == nil then return {none = true} end
  local kind = type(part.value)
  if kind ~= "number" and kind ~= "string" and kind ~= "boolean" then
    raise(("to_spec: a step of this Functional takes a %s, and a spec holds data only"):format(kind))
  end
  return part.value
end

--- The graph as data: its modules' specs, its inputs, its steps, its outputs.
---@return table
function Functional:to_spec()
  local spec = {type = "Functional", layers = {}, steps = {}, placeholders = {}, inputs = encode(self._inputs), outputs = encode(self._outputs)}
  for i = 1, #self do spec.layers[i] = self[i]:to_spec() end
  for i, input in ipairs(self._fed) do
    spec.placeholders[i] = {ref = input.register, shape = {unpack(input.shape)}, dtype = input.dtype}
  end
  for i, step in ipairs(self._steps) do
    local out = {layer = step.module, op = step.op, args = {}, results = {}}
    for k = 1, step.n do out.args[k] = encode(step.args[k]) end
    for k = 1, step.n_results do out.results[k] = encode(step.results[k]) end
    spec.steps[i] = out
  end
  for _, slot in ipairs(self:slots()) do
    if slot.kind ~= "module" then
      spec.constants = spec.constants or {}
      spec.constants[slot.name] = {shape = {unpack(slot.value.shape)}, dtype = slot.value.dtype, parameter = slot.kind == "parameter" or nil}
    end
  end
  return spec
end

local known = {"type", "layers", "steps", "placeholders", "inputs", "outputs", "constants"}

local function check_keys(spec)
  local names = {}
  for _, name in ipairs(known) do names[name] = true end
  for key in pairs(spec) do
    if not names[key] then
      raise(("from_spec: a Functional has no '%s': %s"):format(tostring(key), nearest.hint(tostring(key), known)))
    end
  end
  for _, name in ipairs {"layers", "steps", "placeholders"} do
    if type(spec[name]) ~= "table" then raise(("from_spec: the spec of a Functional has no list '%s'"):format(name)) end
  end
end

local function decode(value, made)
  if type(value) ~= "table" then return value end
  if value.ref then
    if made[value.ref] == nil then
      raise(("from_spec: a step of a Functional uses placeholder %s before anything makes it"):format(tostring(value.ref)))
    end
    return made[value.ref]
  end
  if value.constant then
    if not made.constants[value.constant] then
      raise(("from_spec: a step of a Functional uses %s, which is not among its constants"):format(tostring(value.constant)))
    end
    return made.constants[value.constant]
  end
  local out = {}
  for key, inner in pairs(value.list or value.map or {}) do out[key] = decode(inner, made) end
  if value.none then return nil end
  return out
end

local function take(spec, value, made)
  if type(spec) ~= "table" then return end
  if spec.ref then made[spec.ref] = value
  else
    for key, inner in pairs(spec.list or spec.map or {}) do take(inner, type(value) == "table" and value[key], made) end
  end
end

--- Makes the graph anew from a spec, step by step, so that every shape is checked again.
function Functional.from_spec(cls, spec)
  check_keys(spec)
  local made, layers = {constants = {}}, {}
  for i, layer in ipairs(spec.layers) do layers[i] = registry.root.make_from_spec(layer) end
  for name, constant in pairs(spec.constants or {}) do
    local t = ai.zeros(constant.shape, {dtype = constant.dtype})
    made.constants[name] = constant.parameter and t:requires_grad_(true) or t
  end
  for _, p in ipairs(spec.placeholders) do
    local shape = {unpack(p.shape)}
    shape.dtype = p.dtype
    made[p.ref] = graph.new(shape)
  end
  for i, step in ipairs(spec.steps) do
    local f
    if step.layer then
      f = layers[step.layer]
      if not f then raise(("from_spec: step %d calls layer %s, and there are %d"):format(i, tostring(step.layer), #layers)) end
    elseif type(step.op) == "string" and Tensor[step.op] then
      f = function(...) return graph.op(step.op, ...) end
    else
      raise(("from_spec: step %d has no op '%s': %s"):format(i, tostring(step.op), nearest.hint(tostring(step.op), Tensor.names())))
    end
    local args, n = {}, #step.args
    for k = 1, n do args[k] = decode(step.args[k], made) end
    local results = {f(unpack(args, 1, n))}
    for k, result in ipairs(step.results) do take(result, results[k], made) end
  end
  return cls{inputs = decode(spec.inputs, made), outputs = decode(spec.outputs, made)}
end

return {Functional = Functional, Placeholder = graph.new}
