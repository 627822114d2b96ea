--- vmap: a function of one example made a function of many, along an axis, without a loop.
--
-- The function sees batched tensors: they have the shape of one example, and every op on them runs once, on all examples,
-- by a rule that puts the batch first. An op without a rule is an error that says why there is none: nothing is ever done by
-- a loop behind one's back. The rules are here and in fn/rules; fn/rules/none.lua lists the ops without one. A write in place
-- into a batched tensor writes into the tensor that was mapped, as PyTorch's does.
--
-- #x is x:size(1). A batched tensor cannot be the condition of an `if`, since each example may want the other way: a comparison
-- that nothing uses, and that is not returned, is an error at the end of the map, which names its line.
--
-- Random numbers are drawn as the option `randomness` says: "error" (the default), "different" for each example, or "same".
-- Numbers drawn from a key are the same for every example, as the key is.

local ai = require "aijit"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local nearest = require "aijit.nearest"
local none = require "aijit.fn.rules.none"
local symbol = require "aijit.bindings.symbol"
local lib = require "aijit.bindings.lib"
local raise = lib.raise

local vmap = {}

---@class aijit.fn.Batched
---@field value aijit.Tensor  (B, shape of one example); of an outer level, when vmaps are nested, batched itself
---@field level integer
---@field shape integer[]
---@field dtype string
---@field device string
local Batched = {__name = "batched tensor"}
local states = symbol.states
local make

-- The sizes of the vmaps that are running, outermost first, how each draws random numbers, and its comparisons.
local levels, randomness, compared = {}, {}, {}

local function new(value, level)
  local shape = value:size()
  table.remove(shape, 1)
  return make{value = value, level = level, shape = shape, dtype = value.dtype, device = value.device}
end

local function is_batched(v, level)
  if type(v) ~= "userdata" then return false end
  local state = states[v]
  return state ~= nil and state.kind == Batched and (level == nil or state.level == level)
end

local function is_tensor(v) return ai.is_tensor(v) or is_batched(v) end

-- -- Rules ---------------------------------------------------------------------------------------------------------

-- A rule gets the level, the name and the arguments, of which some are batched at that level, and returns values.
local rules = {}

--- The batch first, then ones, then the example's dimensions.
local function lifted(v, level, rank)
  if not is_batched(v, level) then return v end
  local value = v.value
  for _ = #v.shape + 1, rank do value = value:unsqueeze(2) end
  return value
end

local function value_of(v, level) return is_batched(v, level) and v.value or v end

--- A tensor with the batch first, repeated if it has none.
local function spread(v, level)
  if is_batched(v, level) then return v.value end
  local shape = v:size()
  table.insert(shape, 1, levels[level])
  return v:unsqueeze(1):expand(shape)
end

local function elementwise(level, name, ...)
  local args, n, rank = {...}, select("#", ...), 0
  for i = 1, n do if is_tensor(args[i]) then rank = math.max(rank, args[i]:dim()) end end
  for i = 1, n do args[i] = lifted(args[i], level, rank) end
  return Tensor[name](unpack(args, 1, n))
end

local function same(level, name, x, ...) return Tensor[name](value_of(x, level), ...) end

--- Dimensions of an example, in the batch: those that count from the end stay.
local function dim_in(d) return type(d) == "number" and d > 0 and d + 1 or d end
local function dims_in(d)
  if type(d) ~= "table" then return dim_in(d) end
  local list = {}
  for i, k in ipairs(d) do list[i] = dim_in(k) end
  return list
end

local function refuse(name, why)
  local reason = none[name]
  why = why or "has no rule for a batch" .. (reason and ", since " .. reason or "")
  raise(("vmap: %s %s: write the function for a batch, or call it for each example yourself"):format(name, why))
end

--- x along dimensions, of which the places among the arguments are given.
local function along(...)
  local places = {...}
  return function(level, name, x, ...)
    local args, n = {...}, select("#", ...)
    for _, place in ipairs(places) do args[place] = dims_in(args[place]) end
    for i = 1, n do
      if is_batched(args[i], level) then refuse(name, "takes a batched argument besides its input") end
    end
    if not is_batched(x, level) then refuse(name) end
    return Tensor[name](x.value, unpack(args, 1, math.max(n, places[#places])))
  end
end

--- A reduction: over all dimensions of the example unless it says over which.
local function reduce(place)
  return function(level, name, x, ...)
    local args, n = {...}, select("#", ...)
    if args[place] ~= nil then args[place] = dims_in(args[place])
    elseif #x.shape == 0 then
      args[place], n = {2}, math.max(n, place)
      return Tensor[name](x.value:unsqueeze(2), unpack(args, 1, n))
    else
      args[place] = {}
      for i = 1, #x.shape do args[place][i] = i + 1 end
    end
    return Tensor[name](x.value, unpack(args, 1, math.max(n, place)))
  end
end

for _, name in ipairs {"sum", "prod", "amax", "amin", "all", "any", "mean", "var", "std"} do rules[name] = reduce(1) end
rules.norm = reduce(2)
for _, name in ipairs {"softmax", "log_softmax", "softmin", "cumsum", "cumprod", "logsumexp", "max_dim", "min_dim", "sort", "argsort", "flip",
  "select", "slice", "narrow", "unsqueeze", "unfold"} do
  rules[name] = along(1)
end
rules.topk, rules.transpose = along(2), along(1, 2)
for _, name in ipairs {"clone", "cast", "contiguous", "to_device"} do rules[name] = same end
rules.where = elementwise
function rules.masked_fill(level, _, x, mask, value)
  if is_tensor(value) then return elementwise(level, "where", mask, value:to(x.dtype), x) end
  return elementwise(level, "masked_fill", x, mask, value)
end

local function all_or_along(level, name, x, dim, keepdim)
  if dim ~= nil then return Tensor[name](x.value, dim_in(dim), keepdim) end
  return Tensor[name](x.value:reshape(levels[level], -1), 2)
end
rules.argmax, rules.argmin = all_or_along, all_or_along

local function last_two(level, name, x, ...)
  if #x.shape < 2 then raise(("%s: a tensor of %d dimensions; a matrix is wanted"):format(name, #x.shape)) end
  return Tensor[name](x.value, ...)
end
rules.tril, rules.triu = last_two, last_two

function rules.permute(_, _, x, dims, ...)
  if type(dims) == "number" then dims = {dims, ...} end
  local list = {1}
  for i, d in ipairs(dims) do list[i + 1] = dim_in(d) end
  return x.value:permute(list)
end

function rules.squeeze(_, _, x, dims)
  if dims ~= nil then return x.value:squeeze(dims_in(dims)) end
  local list = {}
  for i, size in ipairs(x.shape) do if size == 1 then list[#list + 1] = i + 1 end end
  return #list > 0 and x.value:squeeze(list) or x.value
end

function rules.flatten(_, _, x, start_dim, end_dim)
  if #x.shape == 0 then return x.value:unsqueeze(2) end
  return x.value:flatten(dim_in(start_dim or 1), dim_in(end_dim or -1))
end

local function sizes_in(level, shape, ...)
  if type(shape) ~= "table" then shape = {shape, ...} end
  return {levels[level], unpack(shape)}
end
function rules.reshape(level, _, x, ...) return x.value:reshape(sizes_in(level, ...)) end
function rules.view(level, _, x, ...) return x.value:view(sizes_in(level, ...)) end
function rules.expand(level, _, x, ...)
  local sizes = sizes_in(level, ...)
  return lifted(x, level, #sizes - 1):expand(sizes)
end

function rules.matmul(level, _, a, b)
  local row, column = a:dim() == 1, b:dim() == 1
  if row then a = a:unsqueeze(1) end
  if column then b = b:unsqueeze(2) end
  local rank = math.max(a:dim(), b:dim())
  local y = lifted(a, level, rank):matmul(lifted(b, level, rank))
  if row then y = y:squeeze(-2) end
  if column then y = y:squeeze(-1) end
  return y
end

function rules.linear(level, _, x, weight, bias)
  if not is_batched(weight, level) and not is_batched(bias, level) then return ai.f.linear(x.value, weight, bias) end
  local y = x:matmul(weight:transpose(1, 2))
  return value_of(bias and y + bias or y, level)
end

local function joined(level, name, list, dim)
  local all = {}
  for i, t in ipairs(list) do all[i] = spread(t, level) end
  return Tensor[name](all, dim_in(dim or 1))
end
rules.cat, rules.stack = joined, joined

local function normalised(level, name, x, shape, weight, ...)
  local bias, eps
  if name == "layer_norm" then bias, eps = ... else eps = ... end
  if not is_batched(x, level) then x = new(spread(x, level), level) end
  local o = {eps = eps}
  if is_batched(weight, level) or is_batched(bias, level) then
    local y = new(Tensor[name](x.value, shape, o), level)
    if weight then y = y * weight end
    if bias then y = y + bias end
    return y.value
  end
  o.weight, o.bias = weight, bias
  return Tensor[name](x.value, shape, o)
end
rules.layer_norm, rules.rms_norm = normalised, normalised

--- The batch and the leading dimensions of x taken together; `rank` dimensions, the op's own, are left.
local function merged(x, rank)
  local shape = x.value:size()
  local lead, rest = {}, {}
  for i, size in ipairs(shape) do
    local to = i <= #shape - rank and lead or rest
    to[#to + 1] = size
  end
  return x.value:reshape{ai.prod(lead), unpack(rest)}, lead
end

local function unmerged(y, lead)
  local shape = {unpack(lead)}
  for i = 2, y:dim() do shape[#shape + 1] = y:size(i) end
  return y:reshape(shape)
end

rules.isclose = elementwise
function rules.pad(_, _, x, ...) return x.value:pad(...) end

for _, part in ipairs {"init", "loss", "layer", "place", "random", "written"} do
  require("aijit.fn.rules." .. part)(rules, {
    new = new, value_of = value_of, spread = spread, lifted = lifted, elementwise = elementwise, dims_in = dims_in, refuse = refuse, along = along,
    reduce = reduce, merged = merged, unmerged = unmerged, is_batched = is_batched,
    size = function(level) return levels[level] end, randomness = function(level) return randomness[level] end,
  })
end

local by_kind = {UNARY = elementwise, BINARY = elementwise, BINARY_S = elementwise, COMPARE = elementwise, TEST = elementwise}

--- A write in place: what the op without the `_` gives is copied into the batched tensor.
local function written_in_place(level, name, x, ...)
  if not is_batched(x, level) then
    refuse(name, "writes what differs between the examples into a tensor that they share")
  end
  if rules[name] then
    rules[name](level, name, x, ...)
    return x
  end
  local base = name:sub(1, -2)
  local rule = rules[base] or op.named[base] and by_kind[op.named[base].kind]
  if not rule then refuse(name) end
  x.value:copy_((rule(level, base, x, ...)))
  return x
end

--- What an op with batched tensors does.
function Batched.__record(name, ...)
  local level = 0
  local function look(v)
    local state = symbol.state(v, Batched)
    if state then
      level = math.max(level, state.level)
      if state.comparison then state.comparison.used = true end
    elseif type(v) == "table" and getmetatable(v) == nil then for i = 1, #v do look(v[i]) end end
  end
  for i = 1, select("#", ...) do look((select(i, ...))) end
  if name:sub(-1) == "_" then return written_in_place(level, name, ...) end
  local info = op.named[name]
  local rule = rules[name] or info and by_kind[info.kind]
  if not rule then refuse(name) end
  local before = {}
  for i = 1, #levels do before[i] = #compared[i] end
  local results = {rule(level, name, ...)}
  for i = 1, #before do for k = #compared[i], before[i] + 1, -1 do compared[i][k] = nil end end       -- a rule's own are no program's
  local count = info and #info.returns or 1
  for i = 1, count do results[i] = results[i] and new(results[i], level) end
  if op.questions[name] then
    local note = {op = name, at = lib.place(), used = false}
    states[results[1]].comparison = note
    table.insert(compared[level], note)
  end
  return unpack(results, 1, count)
end

-- -- What a batched tensor can do --------------------------------------------------------------------------------

local methods = {}

---@return integer
function methods:dim() return #self.shape end

---@param dim? integer
---@return integer|integer[]
function methods:size(dim)
  if dim == nil then return {unpack(self.shape)} end
  local size = self.shape[dim < 0 and #self.shape + 1 + dim or dim]
  if not size then raise(("size: dimension %d of a tensor of %d dimensions"):format(dim, #self.shape)) end
  return size
end

---@return integer
function methods:numel() return ai.prod(self.shape) end

---@return boolean
function methods:is_floating_point() return self.value:is_floating_point() end

function methods:t()
  if #self.shape ~= 2 then return self end
  return self:transpose(1, 2)
end

--- Methods made of a tensor's sizes: as those of a tensor, on what it has of them.
function methods:unbind(dim)
  local list = {}
  for i = 1, self:size(dim or 1) do list[i] = self:select(dim or 1, i) end
  return list
end

function methods:split(size, dim)
  dim = dim or 1
  if type(size) == "number" then
    local n = self:size(dim)
    local sizes = {}
    for first = 1, n, size do sizes[#sizes + 1] = math.min(size, n - first + 1) end
    size = sizes
  end
  local list, first = {}, 1
  for i, n in ipairs(size) do
    list[i] = self:narrow(dim, first, n)
    first = first + n
  end
  return list
end

function methods:chunk(chunks, dim)
  return methods.split(self, math.max(1, math.ceil(self:size(dim or 1) / chunks)), dim)
end

--- The value, which is used by what is made of it.
local function taken(self)
  local state = states[self]
  if state.comparison then state.comparison.used = true end
  return state.value
end

function methods:detach() return new(taken(self):detach(), self.level) end
function methods:type_as(other) return self:to(other.dtype) end

--- Methods that are made of ops in Lua: these see the batched tensor.
local composed = {}
for name in ([[clamp float_power expand_as reshape_as view_as unflatten atleast_1d atleast_2d atleast_3d combinations vander pdist where
  lerp positive rsub narrow_copy adjoint new_empty new_zeros new_ones new_full segment_reduce fractional_max_pool2d
  fractional_max_pool2d_with_indices fractional_max_pool3d fractional_max_pool3d_with_indices]]):gmatch "%S+" do composed[name] = true end


function methods:max(dim, keepdim)
  if is_tensor(dim) then return ai.f.maximum(self, dim) end
  if dim == nil then return self:amax() end
  return self:max_dim(dim, keepdim)
end

function methods:min(dim, keepdim)
  if is_tensor(dim) then return ai.f.minimum(self, dim) end
  if dim == nil then return self:amin() end
  return self:min_dim(dim, keepdim)
end

for name, dtype in pairs {float = "f32", double = "f64", half = "f16", bf16 = "bf16", long = "i64", int = "i32", bool = "bool"} do
  methods[name] = function(self) return self:cast(dtype) end
end

--- Another dtype, another device, or those of another tensor.
function methods:to(...)
  local first = ...
  if is_batched(first) then return self:to(first.dtype) end
  return new(taken(self):to(...), self.level)
end

function methods:item() raise "vmap: item of a batched tensor: each example has another value; use :where or arithmetic" end

local function is_mask(k) return k.dtype == "bool" end

--- x[k], of which one or both are batched: numbers and ranges are views, positions a copy.
local function index_get(x, k)
  if type(k) ~= "table" or is_tensor(k) then k = {k} end
  local dim = 1
  for i = 1, #k do
    local r = k[i]
    if type(r) == "number" then x = x:select(dim, r)
    elseif is_tensor(r) then
      if is_mask(r) then refuse("masked_select") end
      x = ai.f.index_select(x, dim, r)
      dim = dim + 1
    elseif type(r) == "table" then
      if #r > 0 then x = x:slice(dim, r[1], r[2] or r[1], r[3] or 1) end
      dim = dim + 1
    else raise(("index: entry %d is a %s; an index is a number, a range {first, last}, {} or a tensor"):format(i, type(r))) end
  end
  return x
end

function rules.index_get(level, _, x, k) return value_of(index_get(x, k), level) end

function Batched.__index(self, k)
  if type(k) ~= "string" then return index_get(self, k) end
  local value = states[self][k]
  if value ~= nil then return value end
  if methods[k] then return methods[k] end
  local method = Tensor[k]
  if method then
    if op.functions[k] or composed[k] then return method end
    refuse("the method " .. k)
  end
  raise(("a batched tensor has no method or property '%s': %s"):format(k, nearest.hint(k, Tensor.names())))
end

--- x[k] = v: numbers and ranges; of positions and masks, masked_fill, index_copy and their kin write.
function Batched.__newindex(self, k, v)
  if type(k) == "string" then raise(("a batched tensor has no field '%s' that can be set"):format(k)) end
  if is_tensor(k) and is_mask(k) and type(v) == "number" then self:masked_fill_(k, v) return end
  local function has_tensor(key)
    if is_tensor(key) then return true end
    for i = 1, type(key) == "table" and #key or 0 do if is_tensor(key[i]) then return true end end
  end
  if has_tensor(k) then refuse("an assignment by a tensor", "has no rule for a batch, but index_copy, index_put and masked_scatter have") end
  local window = index_get(self, k)
  if type(v) == "number" then window:fill_(v)
  elseif is_tensor(v) then window:copy_(v)
  else window:copy_(ai.tensor(v, {dtype = self.dtype, device = self.device})) end
end

for event, name in pairs {add = "add", sub = "sub", mul = "mul", div = "div", mod = "remainder", pow = "pow"} do
  Batched["__" .. event] = function(a, b) return op.functions[name](a, b) end
end
function Batched.__lt() raise "vmap: batched tensors are compared by :lt, :le, :gt, :ge and :eq, for each example" end
Batched.__le = Batched.__lt
function Batched.__len(self) return methods.size(self, 1) end
function Batched.__unm(a) return op.functions.neg(a) end

function Batched.__tostring(self)
  return ("batched tensor (%s) %s, %d of them"):format(table.concat(self.shape, ", "), self.dtype, levels[self.level] or 0)
end

make = symbol.kind(Batched)

-- -- vmap ----------------------------------------------------------------------------------------------------------

local function describe(shape) return "(" .. table.concat(shape, ", ") .. ")" end

--- Tensors, batched or not, in plain tables replaced.
local function map_any(value, f)
  if is_tensor(value) then return f(value) end
  if type(value) ~= "table" or getmetatable(value) ~= nil then return value end
  local out = {}
  for key, inner in pairs(value) do out[key] = map_any(inner, f) end
  return out
end

local function leave(depth, ok, ...)
  for i = #levels, depth + 1, -1 do levels[i], randomness[i], compared[i] = nil, nil, nil end
  if not ok then error((...), 0) end
  return ...
end

local OPTIONS = {"in_axes", "out_axis", "randomness"}
local RANDOMNESS = {error = true, different = true, same = true}

local function is_axis(axis) return type(axis) == "number" and axis % 1 == 0 and axis ~= 0 end

local function check_options(o)
  if type(o) ~= "table" then raise(("fn.vmap: the options are a %s, where a table is wanted"):format(type(o))) end
  for k in pairs(o) do
    local known = false
    for _, name in ipairs(OPTIONS) do known = known or k == name end
    if not known then raise(("fn.vmap: unknown option '%s': %s"):format(tostring(k), nearest.hint(tostring(k), OPTIONS))) end
  end
  local axes, out_axis, random = o.in_axes == nil and 1 or o.in_axes, o.out_axis or 1, o.randomness or "error"
  if not is_axis(axes) and type(axes) ~= "table" then
    raise(("fn.vmap: in_axes is %s, where a dimension, or a list with one or false for each argument, is wanted"):format(tostring(axes)))
  end
  for i, axis in pairs(type(axes) == "table" and axes or {}) do
    if axis ~= false and not is_axis(axis) then
      raise(("fn.vmap: in_axes[%s] is %s, where a dimension or false is wanted"):format(tostring(i), tostring(axis)))
    end
  end
  if not is_axis(out_axis) then raise(("fn.vmap: out_axis is %s, where a dimension is wanted"):format(tostring(out_axis))) end
  if not RANDOMNESS[random] then
    raise(("fn.vmap: randomness is \"error\", \"different\" or \"same\", not %s"):format(tostring(random)))
  end
  return axes, out_axis, random
end

--- A function that does for every example what f does for one. Its tensors have the examples along an axis, the first unless
--- in_axes says another for an argument, or false for one that is the same for all; so have its results, along out_axis.
--- Tensors in tables count too; keys and other values are the same for all.
---@param f function
---@param o? {in_axes: (integer|false)[]|integer, out_axis: integer, randomness: "error"|"different"|"same"}
---@return function
function vmap.vmap(f, o)
  if type(f) ~= "function" and not (getmetatable(f) or {}).__call then
    raise(("fn.vmap: a function is wanted, not a %s"):format(type(f)))
  end
  o = o or {}
  local axes, out_axis, random = check_options(o)
  return function(...)
    local args, n, size = {...}, select("#", ...), nil
    local depth = #levels
    local level = depth + 1
    for i = 1, n do
      local axis = axes
      if type(axes) == "table" then axis = axes[i] if axis == nil then axis = 1 end end
      if axis then
        args[i] = map_any(args[i], function(t)
          if t:dim() == 0 then raise(("fn.vmap: argument %d has a tensor without dimensions, and so none to map along"):format(i)) end
          local n_here = t:size(axis)
          if size and n_here ~= size then
            raise(("fn.vmap: argument %d has %d examples, in a tensor of sizes %s, where those before have %d"):format(
              i, n_here, describe(t:size()), size))
          end
          size = n_here
          local value = axis == 1 and t or t:movedim(axis, 1)
          return new(value, level)
        end)
      end
    end
    if not size then raise "fn.vmap: no argument has a tensor to map along" end
    levels[level], randomness[level], compared[level] = size, random, {}
    local function finish(...)
      local results, m = {...}, select("#", ...)
      for i = 1, m do
        results[i] = map_any(results[i], function(t)
          local note = is_batched(t) and states[t].comparison
          if note then note.used = true end
          local value = spread(t, level)
          return out_axis == 1 and value or value:movedim(1, out_axis)
        end)
      end
      local unused = {}
      for _, note in ipairs(compared[level]) do if not note.used then unused[#unused + 1] = note end end
      lib.refuse_unused("fn.vmap", "a batched tensor", unused)
      return unpack(results, 1, m)
    end
    return leave(depth, pcall(function() return finish(f(unpack(args, 1, n))) end))
  end
end

--- For fn.grad within a vmap: the innermost level, a way to make a variable of it of any tensor, and back.
---@return integer? level
function vmap.level() return levels[1] and #levels or nil end

--- A variable for each example: the gradient with respect to it is that example's.
---@param t any a tensor or a batched one
---@param level integer
---@return aijit.fn.Batched
function vmap.variable(t, level)
  local value = spread(t, level)
  if not ai.is_tensor(value) then refuse("fn.grad within two vmaps", "has no rule") end
  return new(value:detach():contiguous():clone():requires_grad_(true), level)
end

---@param value aijit.Tensor
---@param level integer
---@return aijit.fn.Batched
function vmap.batched(value, level) return new(value, level) end

---@return boolean
function vmap.is_batched(v) return is_batched(v) end

return vmap
