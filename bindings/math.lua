--- Faces of mathematical rows that take numbers, tensors or options where PyTorch's do.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local construct = require "aijit.bindings.construct"
local f = op.functions

local function is_tensor(v) return type(v) == "cdata" end

--- The value of the one option `key` of a table o.
local function option(o, name, key)
  if type(o) ~= "table" then op.helper.bad(name, 3, "options", "a table", o) end
  op.helper.read_options(name, o, {[key] = true}, {key})
  return o[key]
end

local div, div_, trunc_divide, floor_divide = f.div, f.div_, f.trunc_divide, f.floor_divide

local function rounding(name, o)
  local mode = option(o, name, "rounding_mode")
  if mode ~= nil and mode ~= "trunc" and mode ~= "floor" then
    lib.raise(("%s: the rounding_mode is \"trunc\", \"floor\" or nil, not %s"):format(name, lib.describe(mode)))
  end
  return mode
end

--- a / b, broadcast; with rounding_mode "trunc" towards 0, with "floor" down.
---@param a aijit.Tensor|number
---@param b aijit.Tensor|number
---@param o {rounding_mode: "trunc"|"floor"?}?
---@return aijit.Tensor
function Tensor.div(a, b, o)
  if o == nil then return div(a, b) end
  local mode = rounding("div", o)
  return (mode == "trunc" and trunc_divide or mode == "floor" and floor_divide or div)(a, b)
end
--- div, in place.
---@return aijit.Tensor a
function Tensor.div_(a, b, o)
  if o == nil then return div_(a, b) end
  local mode = rounding("div_", o)
  return (mode == "trunc" and f.trunc_divide_ or mode == "floor" and f.floor_divide_ or div_)(a, b)
end

local round, round_ = f.round, f.round_

--- The nearest whole number, halves to the even one; with decimals the nearest number with so many of them.
---@param x aijit.Tensor
---@param decimals integer|{decimals: integer}?
---@return aijit.Tensor
function Tensor.round(x, decimals)
  if decimals == nil then return round(x) end
  return f.round_decimals(x, type(decimals) == "table" and option(decimals, "round", "decimals") or decimals)
end
--- round, in place.
---@return aijit.Tensor x
function Tensor.round_(x, decimals)
  if decimals == nil then return round_(x) end
  return f.round_decimals_(x, type(decimals) == "table" and option(decimals, "round_", "decimals") or decimals)
end

local lerp, lerp_, lerp_by = f.lerp, f.lerp_, f.lerp_by

--- a + weight * (b - a); the weight is a number or a tensor.
---@param a aijit.Tensor
---@param b aijit.Tensor
---@param weight number|aijit.Tensor
---@return aijit.Tensor
function Tensor.lerp(a, b, weight)
  if op.is_operand(weight) then return lerp_by(a, b, weight) end
  return lerp(a, b, weight)
end
--- lerp, in place.
---@return aijit.Tensor a
function Tensor.lerp_(a, b, weight)
  if is_tensor(weight) then return f.copy_(a, lerp_by(a, b, weight)) end
  return lerp_(a, b, weight)
end

--- x between min and max, numbers or tensors; either may be nil.
---@param x aijit.Tensor
---@param min number|aijit.Tensor|{min: number|aijit.Tensor?, max: number|aijit.Tensor?}?
---@param max number|aijit.Tensor?
---@return aijit.Tensor
function Tensor.clamp(x, min, max)
  if type(min) == "table" then min, max = min.min, min.max end
  if min == nil and max == nil then lib.raise "clamp: neither min nor max is given" end
  if min ~= nil then x = op.is_operand(min) and f.clamp_min_by(x, min) or f.clamp_min(x, min) end
  if max ~= nil then x = op.is_operand(max) and f.clamp_max_by(x, max) or f.clamp_max(x, max) end
  return x
end
--- clamp, in place.
---@return aijit.Tensor x
function Tensor.clamp_(x, min, max)
  if type(min) == "table" then min, max = min.min, min.max end
  if min == nil and max == nil then lib.raise "clamp_: neither min nor max is given" end
  if min ~= nil then x = is_tensor(min) and f.clamp_min_by_(x, min) or f.clamp_min_(x, min) end
  if max ~= nil then x = is_tensor(max) and f.clamp_max_by_(x, max) or f.clamp_max_(x, max) end
  return x
end

local clamp_min, clamp_max, clamp_min_, clamp_max_ = f.clamp_min, f.clamp_max, f.clamp_min_, f.clamp_max_

--- x, but at least min, a number or a tensor.
---@return aijit.Tensor
function Tensor.clamp_min(x, min) return (op.is_operand(min) and f.clamp_min_by or clamp_min)(x, min) end
--- x, but at most max, a number or a tensor.
---@return aijit.Tensor
function Tensor.clamp_max(x, max) return (op.is_operand(max) and f.clamp_max_by or clamp_max)(x, max) end
--- clamp_min, in place.
---@return aijit.Tensor x
function Tensor.clamp_min_(x, min) return (is_tensor(min) and f.clamp_min_by_ or clamp_min_)(x, min) end
--- clamp_max, in place.
---@return aijit.Tensor x
function Tensor.clamp_max_(x, max) return (is_tensor(max) and f.clamp_max_by_ or clamp_max_)(x, max) end

--- input + value * tensor1 * tensor2, in place.
---@return aijit.Tensor input
function Tensor.addcmul_(input, tensor1, tensor2, value) return f.copy_(input, f.addcmul(input, tensor1, tensor2, value)) end
--- input + value * tensor1 / tensor2, in place.
---@return aijit.Tensor input
function Tensor.addcdiv_(input, tensor1, tensor2, value) return f.copy_(input, f.addcdiv(input, tensor1, tensor2, value)) end

local polygamma = f.polygamma

--- The n-th derivative of digamma at x: polygamma(n, x), or x:polygamma(n).
---@param n integer|aijit.Tensor
---@param x aijit.Tensor|integer
---@return aijit.Tensor
function Tensor.polygamma(n, x)
  if type(n) == "number" then n, x = x, n end
  return polygamma(n, x)
end

--- a to the power b, in double precision whatever the dtypes.
---@param a aijit.Tensor|number
---@param b aijit.Tensor|number
---@return aijit.Tensor
function Tensor.float_power(a, b)
  if op.is_operand(a) then a = a:to("f64") end
  if op.is_operand(b) then b = b:to("f64") end
  return Tensor.pow(a, b)
end

--- float_power, in place, of f64.
---@return aijit.Tensor a
function Tensor.float_power_(a, b)
  if a.dtype ~= "f64" then lib.raise(("float_power_: the result is of f64, and cannot be stored in place in %s"):format(a.dtype)) end
  return f.copy_(a, Tensor.float_power(a, b))
end

local tensordot = f.tensordot

--- Sums of products over pairs of dimensions. dims: how many of the last of a and the first of b; or a list of a's and one of b's.
---@param a aijit.Tensor
---@param b aijit.Tensor
---@param dims integer|integer[]|{[1]: integer[], [2]: integer[]}|{dims: any}?  2 by default
---@param dims_b integer[]?  when dims is the list of a's
---@return aijit.Tensor
function Tensor.tensordot(a, b, dims, dims_b)
  if dims_b ~= nil then return tensordot(a, b, dims, dims_b) end
  if type(dims) == "table" and dims.dims ~= nil then dims = option(dims, "tensordot", "dims") end
  if dims == nil then dims = 2 end
  if type(dims) == "table" then return tensordot(a, b, dims[1], dims[2]) end
  if type(dims) ~= "number" or dims < 0 or dims > Tensor.dim(a) or dims > Tensor.dim(b) then
    lib.raise(("tensordot: dims is %s, and must be from 0 to the number of dimensions of both tensors"):format(lib.describe(dims)))
  end
  local last, first = {}, {}
  for i = 1, dims do last[i], first[i] = Tensor.dim(a) - dims + i, i end
  return tensordot(a, b, last, first)
end

-- -- Order ------------------------------------------------------------------------------------------------------------

local quantile, nanquantile, median, nanmedian = f.quantile, f.nanquantile, f.median, f.nanmedian

-- A number as a tensor of the dtype of x.
local function of_dtype(x, q)
  if type(q) == "number" and lib.is_tensor(x) then return lib.check(lib.C.aj_full(lib.C.aj_dtype_of(x), lib.ffi.new "aj_ints", lib.C.aj_device_of(x), q)) end
  return q
end

--- The values of x along dim below which a part q of them lies; q is a number, or a tensor of them.
---@param x aijit.Tensor
---@param q number|aijit.Tensor  from 0 to 1
---@param dim integer|{dim: integer?, keepdim: boolean?, interpolation: string?}?
---@param keepdim boolean?
---@param interpolation string?  linear, lower, higher, midpoint or nearest
---@return aijit.Tensor
function Tensor.quantile(x, q, dim, keepdim, interpolation) return quantile(x, of_dtype(x, q), dim, keepdim, interpolation) end
--- quantile of what is not NaN.
---@return aijit.Tensor
function Tensor.nanquantile(x, q, dim, keepdim, interpolation) return nanquantile(x, of_dtype(x, q), dim, keepdim, interpolation) end

--- Without dim, the median of all elements; along dim, the medians and where they are. Of two in the middle it is the lower.
---@param x aijit.Tensor
---@param dim integer|{dim: integer?, keepdim: boolean?}?
---@param keepdim boolean?
---@return aijit.Tensor values
---@return aijit.Tensor? indices
function Tensor.median(x, dim, keepdim)
  if dim == nil or type(dim) == "table" and dim.dim == nil then return (median(x, dim, keepdim)) end
  return median(x, dim, keepdim)
end
--- median of what is not NaN.
---@return aijit.Tensor values
---@return aijit.Tensor? indices
function Tensor.nanmedian(x, dim, keepdim)
  if dim == nil or type(dim) == "table" and dim.dim == nil then return (nanmedian(x, dim, keepdim)) end
  return nanmedian(x, dim, keepdim)
end

local searchsorted = f.searchsorted

--- Where in sorted rows each value, or the number, would be put in: before what equals it, or, right, behind.
---@param sorted_sequence aijit.Tensor
---@param values aijit.Tensor|number
---@param out_int32 boolean|table?  or a table of what follows by name
---@param right boolean?
---@param side "left"|"right"?
---@param sorter aijit.Tensor?
---@return aijit.Tensor
function Tensor.searchsorted(sorted_sequence, values, out_int32, right, side, sorter)
  return searchsorted(sorted_sequence, of_dtype(sorted_sequence, values), out_int32, right, side, sorter)
end

-- -- Places ---------------------------------------------------------------------------------------------------------------

local repeat_interleave, repeat_each = f.repeat_interleave, f.repeat_each

--- Every element along dim repeats times in a row; repeats is a number, or a tensor with one for each; without dim of x as one row.
---@param x aijit.Tensor
---@param repeats integer|aijit.Tensor
---@param dim integer|{dim: integer}?
---@return aijit.Tensor
function Tensor.repeat_interleave(x, repeats, dim)
  if is_tensor(repeats) then return repeat_each(x, repeats, dim) end
  return repeat_interleave(x, repeats, dim)
end

local index_fill, index_fill_, fill_ = f.index_fill, f.index_fill_, f.fill_

-- A value that is a tensor has no dimensions.
local function single(name, value)
  if Tensor.dim(value) ~= 0 then lib.raise(("%s: the value has %d dimensions; it is a number or a tensor of none"):format(name, Tensor.dim(value))) end
  return value
end
-- Where the slices are, so that an index that is named twice counts once in the value's gradient.
local function slices(x, dim, index, value)
  local none = construct.zeros(Tensor.size(x), {dtype = "bool", device = x.device})
  return f.where(index_fill_(none, dim, index, 1), Tensor.to(single("index_fill", value), x), x)
end

--- x with the slices along dim at index set to value, a number or a tensor of no dimensions.
---@param x aijit.Tensor
---@param dim integer
---@param index aijit.Tensor
---@param value number|aijit.Tensor
---@return aijit.Tensor
function Tensor.index_fill(x, dim, index, value)
  if is_tensor(value) and is_tensor(x) then return slices(x, dim, index, value) end
  return index_fill(x, dim, index, value)
end
--- index_fill, in place.
---@return aijit.Tensor x
function Tensor.index_fill_(x, dim, index, value)
  if is_tensor(value) and is_tensor(x) then return f.copy_(x, slices(x, dim, index, value)) end
  return index_fill_(x, dim, index, value)
end
--- Every element of x becomes value, a number or a tensor of no dimensions.
---@return aijit.Tensor x
function Tensor.fill_(x, value)
  if is_tensor(value) and is_tensor(x) then return f.copy_(x, single("fill_", value)) end
  return fill_(x, value)
end

local scatter, scatter_ = f.scatter, f.scatter_

local function source(x, src)
  if type(src) == "number" then return lib.check(lib.C.aj_full(lib.C.aj_dtype_of(x), lib.ffi.new "aj_ints", lib.C.aj_device_of(x), src)) end
  return src
end
--- x with each element of src, or the number src, written at its place, but at the index along dim.
---@param x aijit.Tensor
---@param dim integer
---@param index aijit.Tensor
---@param src aijit.Tensor|number
---@return aijit.Tensor
function Tensor.scatter(x, dim, index, src)
  if op.is_symbol(x) or op.is_symbol(index) then return op.record("scatter", x, dim, index, src) end
  return scatter(x, dim, index, source(x, src))
end
--- scatter, in place.
---@return aijit.Tensor x
function Tensor.scatter_(x, dim, index, src)
  if op.is_symbol(x) or op.is_symbol(index) then return op.record("scatter_", x, dim, index, src) end
  return scatter_(x, dim, index, source(x, src))
end
--- scatter_reduce, in place.
---@return aijit.Tensor x
function Tensor.scatter_reduce_(x, ...) return f.copy_(x, f.scatter_reduce(x, ...)) end

--- index_reduce, in place.
---@return aijit.Tensor x
function Tensor.index_reduce_(x, ...) return f.copy_(x, f.index_reduce(x, ...)) end

for _, name in ipairs {"clamp", "float_power", "lerp"} do Tensor[name] = op.whole(name, Tensor[name]) end
for name in ("clamp clamp_ scatter_reduce_ index_reduce_ addcmul_ addcdiv_ float_power float_power_"):gmatch "%S+" do op.faces[name] = true end

return Tensor
