--- Tensors with the dtype and device of another: x:new_zeros(2, 3); and questions about two.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local construct = require "aijit.bindings.construct"
local random = require "aijit.bindings.random"
local f = op.functions

local like = {}

local function wanted(name, x, i, param)
  if not op.is_operand(x) then op.helper.bad(name, i or 1, param or "x", "a tensor", x) end
end

-- Sizes and options as a constructor takes them, dtype and device being x's unless they are given.
local function with_options(x, ...)
  local args, n = {...}, select("#", ...)
  local last = args[n]
  local o = {dtype = x.dtype, device = x.device}
  if type(last) == "table" and (n > 1 or last[1] == nil and next(last) ~= nil) then
    for k, v in pairs(last) do o[k] = v end
  else n = n + 1 end
  args[n] = o
  return unpack(args, 1, n)
end

--- Zeros of the given sizes, with the dtype and device of x.
---@param x aijit.Tensor
---@param ... any  sizes, then options
---@return aijit.Tensor
function like.new_zeros(x, ...)
  wanted("new_zeros", x)
  return construct.zeros(with_options(x, ...))
end
--- Ones of the given sizes, with the dtype and device of x.
---@param x aijit.Tensor
---@param ... any  sizes, then options
---@return aijit.Tensor
function like.new_ones(x, ...)
  wanted("new_ones", x)
  return construct.ones(with_options(x, ...))
end
--- A tensor of the given sizes, uninitialised, with the dtype and device of x.
---@param x aijit.Tensor
---@param ... any  sizes, then options
---@return aijit.Tensor
function like.new_empty(x, ...)
  wanted("new_empty", x)
  return construct.empty(with_options(x, ...))
end
--- A tensor of these sizes, every element `value`, with the dtype and device of x.
---@param x aijit.Tensor
---@param sizes integer[]
---@param value number
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function like.new_full(x, sizes, value, o)
  wanted("new_full", x)
  o = o or {}
  return construct.full(sizes, value, {dtype = o.dtype or x.dtype, device = o.device or x.device, requires_grad = o.requires_grad})
end
--- A tensor of Lua values, as ai.tensor makes it, with the dtype and device of x.
---@param x aijit.Tensor
---@param values any
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function like.new_tensor(x, values, o)
  wanted("new_tensor", x)
  o = o or {}
  return construct.tensor(values, {dtype = o.dtype or x.dtype, device = o.device or x.device, requires_grad = o.requires_grad})
end

--- Whole numbers from first to last, both included, with the sizes, dtype and device of x.
---@param x aijit.Tensor
---@param first integer
---@param last integer
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function like.randint_like(x, first, last, o)
  wanted("randint_like", x)
  o = o or {}
  return random.randint(first, last, Tensor.size(x), {dtype = o.dtype or x.dtype, device = o.device or x.device, requires_grad = o.requires_grad})
end

--- b - alpha * a.
---@param a aijit.Tensor
---@param b aijit.Tensor|number
---@param o {alpha: number}?
---@return aijit.Tensor
function like.rsub(a, b, o)
  wanted("rsub", a, 1, "a")
  local alpha = 1
  if o ~= nil then
    if type(o) ~= "table" then op.helper.bad("rsub", 3, "options", "a table", o) end
    op.helper.read_options("rsub", o, {alpha = true}, {"alpha"})
    alpha = o.alpha or 1
  end
  return f.sub(b, alpha == 1 and a or f.mul(a, alpha))
end

--- Whether x has the sizes of y.
---@param x aijit.Tensor
---@param y aijit.Tensor
---@return boolean
function like.is_same_size(x, y)
  wanted("is_same_size", x)
  wanted("is_same_size", y, 2, "y")
  local a, b = Tensor.size(x), Tensor.size(y)
  if #a ~= #b then return false end
  for d = 1, #a do if a[d] ~= b[d] then return false end end
  return true
end
--- Whether the dtype of x holds numbers below 0.
---@param x aijit.Tensor
---@return boolean
function like.is_signed(x)
  wanted("is_signed", x)
  return x.dtype ~= "u8" and x.dtype ~= "bool"
end
--- Whether the one element of x is not 0.
---@param x aijit.Tensor  of one element
---@return boolean
function like.is_nonzero(x)
  wanted("is_nonzero", x)
  local v = Tensor.item(x)
  return v ~= 0 and v ~= false
end
--- x itself; of bools it is refused.
---@param x aijit.Tensor
---@return aijit.Tensor
function like.positive(x)
  wanted("positive", x)
  if not op.is_symbol(x) and x.dtype == "bool" then lib.raise "positive: bools have no sign" end
  return x
end
--- Which elements are real: all of them.
---@param x aijit.Tensor
---@return aijit.Tensor
function like.isreal(x)
  wanted("isreal", x)
  return construct.ones(Tensor.size(x), {dtype = "bool", device = x.device})
end
--- Matrices with rows and columns exchanged.
---@param x aijit.Tensor
---@return aijit.Tensor
function like.adjoint(x)
  wanted("adjoint", x)
  return f.transpose(x, -2, -1)
end
--- A copy of length elements of x along dim, from start on.
---@param x aijit.Tensor
---@param dim integer
---@param start integer
---@param length integer
---@return aijit.Tensor
function like.narrow_copy(x, dim, start, length)
  wanted("narrow_copy", x)
  return f.clone(f.narrow(x, dim, start, length))
end

--- x with src in place of a window on its elements in order, as as_strided cuts it; src has the window's sizes.
---@param x aijit.Tensor
---@param src aijit.Tensor
---@param size integer[]
---@param stride integer[]
---@param offset integer?  0
---@return aijit.Tensor
function like.as_strided_scatter(x, src, size, stride, offset)
  wanted("as_strided_scatter", x)
  wanted("as_strided_scatter", src, 2, "src")
  local y = f.clone(f.contiguous(x))
  local window = f.as_strided(y, size, stride, offset or 0)
  if not like.is_same_size(window, src) then
    lib.raise(("as_strided_scatter: src has sizes {%s}, and the window {%s}"):format(table.concat(Tensor.size(src), ", "), table.concat(size, ", ")))
  end
  f.copy_(window, src)
  return y
end

--- For positions in a tensor of these sizes read as one row, their coordinates, a tensor for each dimension.
---@param indices aijit.Tensor  of integers, from 1
---@param shape integer[]
---@return aijit.Tensor[]
function like.unravel_index(indices, shape)
  wanted("unravel_index", indices, 1, "indices")
  if type(shape) == "number" then shape = {shape} end
  if type(shape) ~= "table" then op.helper.bad("unravel_index", 2, "shape", "a table of sizes", shape) end
  if Tensor.is_floating_point(indices) or indices.dtype == "bool" then lib.raise("unravel_index: positions are integers, not " .. indices.dtype) end
  local total = 1
  for d, n in ipairs(shape) do
    if type(n) ~= "number" or n < 0 or n % 1 ~= 0 then lib.raise(("unravel_index: size %d is %s"):format(d, lib.describe(n))) end
    total = total * n
  end
  local rest, coordinates = f.sub(Tensor.to(indices, "i64"), 1), {}
  if Tensor.numel(indices) > 0 and indices.device ~= "meta" then
    local low, high = Tensor.item(f.amin(rest)), Tensor.item(f.amax(rest))
    if low < 0 or high >= total then
      lib.raise(("unravel_index: position %s of %d elements"):format(tostring(low < 0 and low + 1 or high + 1), total))
    end
  end
  for d = #shape, 1, -1 do
    coordinates[d] = f.add(f.remainder(rest, math.max(shape[d], 1)), 1)
    rest = f.floor_divide(rest, math.max(shape[d], 1))
  end
  return coordinates
end

for name, fn in pairs(like) do
  Tensor[name] = op.whole_list(name, fn)
  op.faces[name] = true
end

return like
