--- trace and validate: parameters from the functions that use them.
--
-- A traced function runs once on the meta device, so that nothing is computed but shapes, with a skeleton in the place of
-- its parameters: a table that has every key. validate writes down what is a parameter, and of which shape. Its first value
-- comes from the key, folded with the names on the way to it, and so depends on nothing else in the model.

local ai = require "aijit"
local Tensor = require "aijit.bindings.tensor"
local initial = require "aijit.fn.initial"
local key = require "aijit.fn.key"
local meta = require "aijit.nn.meta"
local nearest = require "aijit.nearest"
local registry = require "aijit.nn.registry"
local symbol = require "aijit.bindings.symbol"
local watch = require "aijit.bindings.watch"
local raise = require("aijit.bindings.lib").raise

local trace = {}

local function shape_text(shape)
  local sizes = {}
  for i = 1, #shape do sizes[i] = tostring(shape[i]) end
  return "(" .. table.concat(sizes, ", ") .. ")"
end

local function same(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do if a[i] ~= b[i] then return false end end
  return true
end

-- -- Skeletons ---------------------------------------------------------------------------------------------------

local Skeleton = {__name = "table of parameters"}

---@class aijit.fn.Node
---@field recorder {leaves: table[]}
---@field path any[]
---@field children table<any, aijit.fn.Node>
---@field n integer
---@field leaf? table  {path, shape, init, check, tensor, ...} once it is validated

-- What stands behind a skeleton: {node, shared}.
local behind = symbol.states
-- Leaves by their tensors' ids, while they are traced.
local declared = {}

local make
local function proxy(node, shared) return make{node = node, shared = shared} end

local function path_text(path)
  local text = "params"
  for _, k in ipairs(path) do text = text .. (type(k) == "number" and ("[%d]"):format(k) or "." .. tostring(k)) end
  return text
end

local function is_skeleton(value) return symbol.state(value, Skeleton) ~= nil end

local MOST = 1e6

local function child_of(node, k)
  local child = node.children[k]
  if not child then
    if type(k) ~= "string" and type(k) ~= "number" then
      raise(("fn.trace: %s is indexed by a %s; names are strings or numbers"):format(path_text(node.path), type(k)))
    end
    node.n = node.n + 1
    if node.n > MOST then
      raise(("fn.trace: %s has more than %d entries: while it is traced a table of parameters has every key, and no end")
        :format(path_text(node.path), MOST))
    end
    local path = {unpack(node.path)}
    path[#path + 1] = k
    child = {recorder = node.recorder, path = path, children = {}, n = 0}
    node.children[k] = child
  end
  return child
end

function Skeleton.__index(s, k)
  local self = behind[s]
  local node = self.node
  if node.leaf then                                      -- a parameter that was validated under another name
    local value = node.leaf.tensor[k]
    if type(value) ~= "function" then return value end
    return function(first, ...) return value(first == s and node.leaf.tensor or first, ...) end
  end
  local child = child_of(node, k)
  if child.leaf then
    if self.shared then child.leaf.shared = true end
    return child.leaf.tensor
  end
  return proxy(child, self.shared)
end

function Skeleton.__newindex(s)
  raise(("fn.trace: %s is written to; parameters are made by fn.validate"):format(path_text(behind[s].node.path)))
end

function Skeleton.__tostring(s) return path_text(behind[s].node.path) end

local function real(value)
  if not is_skeleton(value) then return value end
  local node = behind[value].node
  if not node.leaf then
    raise(("fn.trace: %s is used before fn.validate says what it is"):format(path_text(node.path)))
  end
  return node.leaf.tensor
end

function Skeleton.__record(name, ...)
  local args, n = {...}, select("#", ...)
  for i = 1, n do
    args[i] = real(args[i])
    if type(args[i]) == "table" and getmetatable(args[i]) == nil then
      local list = {}
      for k, v in pairs(args[i]) do list[k] = real(v) end
      args[i] = list
    end
  end
  return Tensor[name](unpack(args, 1, n))
end
for event, name in pairs {add = "add", sub = "sub", mul = "mul", div = "div", mod = "remainder", pow = "pow"} do
  Skeleton["__" .. event] = function(a, b) return Skeleton.__record(name, a, b) end
end
function Skeleton.__unm(a) return Skeleton.__record("neg", a) end
function Skeleton.__len(s)
  local node = behind[s].node
  if node.leaf then return #node.leaf.tensor end
  raise(("fn.trace: #%s: while it is traced a table of parameters has every key, and no length; count with a number that is known"):format(
    path_text(node.path)))
end
make = symbol.kind(Skeleton)

-- -- validate ----------------------------------------------------------------------------------------------------

local OPTIONS = {init = true, check = true, dtype = true, fan_in = true, fan_out = true, name = true}
local OPTION_NAMES = {"init", "check", "dtype", "fan_in", "fan_out", "name"}

local function check_options(o)
  if type(o) ~= "table" then raise("fn.validate: the options are a " .. type(o) .. ", where a table is wanted") end
  for k in pairs(o) do
    if not OPTIONS[k] then raise(("fn.validate: unknown option '%s': %s"):format(tostring(k), nearest.hint(tostring(k), OPTION_NAMES))) end
  end
  if o.check ~= nil and type(o.check) ~= "function" then raise("fn.validate: check is a " .. type(o.check) .. ", not a function") end
end

local function check_shape(shape)
  local ok = type(shape) == "table"
  for i = 1, ok and #shape or 0 do ok = ok and type(shape[i]) == "number" and shape[i] >= 0 and shape[i] % 1 == 0 end
  if not ok then
    raise("fn.validate: the shape of the parameter is wanted, a list of whole numbers, as in fn.validate(params.bias, {64})")
  end
end

local function again(leaf, shape)
  if not same(leaf.shape, shape) then
    raise(("fn.validate: %s is declared twice, as %s and as %s"):format(path_text(leaf.path), shape_text(leaf.shape), shape_text(shape)))
  end
  if not leaf.shared then
    raise(("fn.validate: %s is declared twice; if two places are meant to share it, hand both fn.shared(params...)"):format(path_text(leaf.path)))
  end
  return leaf.tensor
end

local function declare(s, shape, o)
  local self = behind[s]
  local node = self.node
  if node.leaf then return again(node.leaf, shape) end
  if node.n > 0 then
    local names = {}
    for k in pairs(node.children) do names[#names + 1] = tostring(k) end
    table.sort(names)
    raise(("fn.validate: %s cannot be a parameter, since it holds %s"):format(path_text(node.path), table.concat(names, ", ")))
  end
  local leaf = {path = node.path, shape = {unpack(shape)}, init = initial.of(o.init), check = o.check, dtype = o.dtype,
                fan_in = o.fan_in, fan_out = o.fan_out, shared = self.shared, tensor = meta.tensor(shape, o.dtype)}
  node.leaf = leaf
  local leaves = node.recorder.leaves
  leaves[#leaves + 1] = leaf
  declared[leaf.tensor:id()] = leaf
  return leaf.tensor
end

--- Says of a parameter what shape it has, while a function is traced; checks it, whenever the function runs.
---@param param any params.weights, or what stands for it in a trace
---@param shape integer[]
---@param o? {init: any, check: (fun(p: aijit.Tensor): any), dtype: string, fan_in: integer, fan_out: integer, name: string}
--- init: a function (key, shape, options) -> tensor, a name of fn.initial, {name, std = 0.02}, a number, a tensor; check: false
--- or nil from it is an error; name: of the parameter, for errors
---@return aijit.Tensor param
function trace.validate(param, shape, o)
  o = o or {}
  check_options(o)
  check_shape(shape)
  if is_skeleton(param) then return declare(param, shape, o) end
  local name = o.name or "the parameter"
  if not ai.is_tensor(param) then
    if symbol.is(param) then
      if not same(param.shape, shape) then
        raise(("fn.validate: %s has the sizes %s, where %s is wanted"):format(name, shape_text(param.shape), shape_text(shape)))
      end
      return param
    end
    raise(("fn.validate: %s is %s, where a tensor of sizes %s is wanted: were these parameters traced from this function?"):format(
      name, param == nil and "missing" or "a " .. type(param), shape_text(shape)))
  end
  local leaf = declared[param:id()]
  if leaf then return again(leaf, shape) end
  if not same(param.shape, shape) then
    raise(("fn.validate: %s has the sizes %s, where %s is wanted"):format(name, shape_text(param.shape), shape_text(shape)))
  end
  if o.check and not o.check(param) then raise(("fn.validate: %s, of sizes %s, does not pass its check"):format(name, shape_text(shape))) end
  return param
end

--- A sub-tree of parameters that several places use: in a trace what is below it may be declared by each, in one shape.
--- Elsewhere it is the sub-tree itself.
---@param params any
---@return any
function trace.shared(params)
  if not is_skeleton(params) then return params end
  return proxy(behind[params].node, true)
end

-- -- trace -------------------------------------------------------------------------------------------------------

local function values_of(leaf, k)
  for _, name in ipairs(leaf.path) do k = key.fold_in(k, name) end
  local value = leaf.init(k, {unpack(leaf.shape)}, {dtype = leaf.dtype, fan_in = leaf.fan_in, fan_out = leaf.fan_out})
  local name = path_text(leaf.path)
  if not ai.is_tensor(value) then raise(("fn.trace: the initialiser of %s gave a %s, not a tensor"):format(name, type(value))) end
  if not same(value.shape, leaf.shape) then
    raise(("fn.trace: the initialiser of %s gave the sizes %s, where %s is wanted"):format(name, shape_text(value.shape), shape_text(leaf.shape)))
  end
  if leaf.check and not leaf.check(value) then
    raise(("fn.trace: the first value of %s, of sizes %s, does not pass its check"):format(name, shape_text(leaf.shape)))
  end
  return value
end

local function build(node)
  if node.leaf then return node.leaf.value end
  local out = {}
  for k, child in pairs(node.children) do out[k] = build(child) end
  return out
end

local function forget(recorder)
  for _, leaf in ipairs(recorder.leaves) do declared[leaf.tensor:id()] = nil end
end

--- Arguments with meta tensors in the place of tensors.
local function shapeless(...)
  local args, n = {...}, select("#", ...)
  for i = 1, n do args[i] = meta.map(args[i], meta.like) end
  return args, n
end

--- The parameters of a function f(params, ...), as a nested table of tensors: f runs once, for shapes only, and each
--- parameter then gets its first value from the key. The same function, key and shapes give the same parameters.
---@param f fun(params: table, ...): any
---@param k aijit.fn.Key
---@param ... any its other arguments; of tensors only shape and dtype count
---@return table params
function trace.trace(f, k, ...)
  if type(f) ~= "function" and not (getmetatable(f) or {}).__call then
    raise(("fn.trace: argument 1 is a %s, where a function f(params, ...) is wanted"):format(type(f)))
  end
  if registry.is_module(f) then
    raise "fn.trace: argument 1 is a module, which has parameters of its own, where a function f(params, ...) is wanted"
  end
  key.want(k, "fn.trace", "argument 2")
  local args, n = shapeless(...)
  local root = {recorder = {leaves = {}}, path = {}, children = {}, n = 0}
  local ok, message = pcall(watch.no_idle_bools, "fn.trace", "tensors without elements", meta.run, f, proxy(root), unpack(args, 1, n))
  forget(root.recorder)
  if not ok then
    -- ipairs and pairs take tables only, and have no metamethod.
    local hint = tostring(message):find("table expected, got userdata", 1, true)
    error(hint and message .. "\n  while it is traced, params stands for any table: loop over what is known besides, as in for i = 1, n do ... params[i]"
      or message, 0)
  end
  for _, leaf in ipairs(root.recorder.leaves) do leaf.value = ai.no_grad(values_of, leaf, k) end
  return build(root)
end

--- The sizes of what f(...) returns, told without computing it; trees come as trees of shapes.
---@param f function
---@param ... any
---@return any ...
function trace.output_shape(f, ...)
  local args, n = shapeless(...)
  local results = {watch.no_idle_bools("fn.output_shape", "tensors without elements", meta.run, f, unpack(args, 1, n))}
  return unpack(meta.map(results, function(t) return {unpack(t.shape)} end))
end

return trace
