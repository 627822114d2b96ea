--- Reductions over segments of a dimension, and the places of what is not 0 in a table of a given length.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local construct = require "aijit.bindings.construct"
local f = op.functions

local segment = {}

local function refuse(name, text, ...) lib.raise(name .. ": " .. text:format(...)) end

local KINDS = {sum = "sum", mean = "sum", max = "amax", min = "amin", prod = "prod"}
local OF_NONE = {sum = 0, mean = 0, max = -math.huge, min = math.huge, prod = 1}
local ORDER = {"lengths", "offsets", "axis", "unsafe", "initial"}
local KNOWN = {lengths = true, offsets = true, axis = true, unsafe = true, initial = true}

local function check(lengths, offsets, size)
  -- Where only shapes go through, there are no values to check.
  if Tensor.numel(lengths) == 0 or f.amin(lengths).device == "meta" then return end
  if Tensor.item(f.amin(lengths)) < 0 then
    if offsets then refuse("segment_reduce", "offsets go backwards") end
    refuse("segment_reduce", "a length of %d", Tensor.item(f.amin(lengths)))
  end
  if offsets then
    local low, high = Tensor.item(f.amin(offsets)), Tensor.item(f.amax(offsets))
    if low < 1 or high > size + 1 then
      refuse("segment_reduce", "an offset of %d: they are positions from 1, and end with that after the last, which is %d at most",
        low < 1 and low or high, size + 1)
    end
    return
  end
  local sums = f.sum(lengths, -1)
  if Tensor.item(f.amin(sums)) ~= size or Tensor.item(f.amax(sums)) ~= size then
    refuse("segment_reduce", "the lengths must sum to the %d elements of the axis unless unsafe", size)
  end
end

--- Each segment of consecutive elements along a dimension becomes one: its sum, mean, max, min or prod. A segment of none has the
--- sum 0, the prod 1, the mean NaN, the max -inf and the min inf; with `initial` that value, from which all segments begin.
---@param data aijit.Tensor      of floats
---@param reduce string          "sum", "mean", "max", "min" or "prod"
---@param o {lengths: aijit.Tensor?, offsets: aijit.Tensor?, axis: integer?, unsafe: boolean?, initial: number?}
--- one of lengths (..., S) and offsets (..., S + 1): positions from 1 where segments begin, and that after the last; their leading
--- sizes are data's, and the axis is their last dimension; unsafe: their values are not checked, and elements in no segment are left out
---@return aijit.Tensor
function segment.segment_reduce(data, reduce, o)
  if not op.is_operand(data) then op.helper.bad("segment_reduce", 1, "data", "a tensor", data) end
  local kind = KINDS[reduce]
  if not kind then refuse("segment_reduce", "reduce is %s, and must be one of sum, mean, max, min and prod", lib.describe(reduce)) end
  if type(o) ~= "table" then op.helper.bad("segment_reduce", 3, "options", "a table with lengths or offsets", o) end
  op.helper.read_options("segment_reduce", o, KNOWN, ORDER)
  if (o.lengths == nil) == (o.offsets == nil) then refuse("segment_reduce", "one of lengths and offsets is wanted") end
  local marks, what = o.lengths or o.offsets, o.lengths and "lengths" or "offsets"
  if not lib.is_tensor(marks) then refuse("segment_reduce", "%s are a tensor of values, not %s", what, lib.describe(marks)) end
  if marks.dtype ~= "i64" and marks.dtype ~= "i32" then refuse("segment_reduce", "%s are of i64 or i32, not %s", what, marks.dtype) end
  if not Tensor.is_floating_point(data) then refuse("segment_reduce", "floats are reduced, not %s", data.dtype) end
  local initial = o.initial
  if initial ~= nil and type(initial) ~= "number" then refuse("segment_reduce", "initial is a number, not %s", lib.describe(initial)) end
  local sizes, lead = Tensor.size(data), Tensor.size(marks)
  local axis = #lead
  if axis < 1 or axis > #sizes then refuse("segment_reduce", "%s of %d dimensions for data of %d", what, axis, #sizes) end
  if o.axis ~= nil and o.axis ~= axis and o.axis ~= axis - #sizes - 1 then
    refuse("segment_reduce", "axis is %s, and must be the last dimension of the %s, %d", lib.describe(o.axis), what, axis)
  end
  for d = 1, axis - 1 do
    if sizes[d] ~= lead[d] then refuse("segment_reduce", "data and %s have %s and %s elements along dimension %d", what, tostring(sizes[d]), lead[d], d) end
  end
  if not sizes[axis] then refuse("segment_reduce", "the axis is open, and the segments are of a given number of elements") end
  if o.offsets and lead[axis] < 1 then refuse("segment_reduce", "offsets are at least 1: the position after the last segment") end

  marks = Tensor.long(marks)
  local offsets, lengths = o.offsets and marks, o.lengths and marks
  if offsets then lengths = f.diff(offsets, 1, -1)
  else
    local first = {unpack(lead)}
    first[axis] = 1
    offsets = f.cat({construct.ones(first, {dtype = "i64", device = marks.device}), f.add(f.cumsum(marks, -1), 1)}, -1)
  end
  if not o.unsafe then check(lengths, o.offsets and offsets, sizes[axis]) end
  local count = Tensor.size(lengths)[axis]

  -- Segment 1 of the table takes what lies before the first, and the last what lies behind.
  local row, column, table_sizes = {unpack(sizes, 1, axis)}, {unpack(sizes, 1, axis)}, {unpack(sizes)}
  for d = axis + 1, #sizes do column[d] = 1 end
  table_sizes[axis] = count + 2
  local positions = f.contiguous(f.expand(construct.arange(1, sizes[axis], {dtype = "i64", device = marks.device}), row))
  local at = f.expand(Tensor.reshape(f.searchsorted(f.contiguous(offsets), positions, {right = true}), column), sizes)
  local y = f.scatter_reduce(construct.full(table_sizes, OF_NONE[reduce], {dtype = data.dtype, device = data.device}), axis, at, data, kind, false)
  y = f.narrow(y, axis, 2, count)

  if initial then
    if reduce == "max" then y = Tensor.where(f.lt(y, initial), initial, y)
    elseif reduce == "min" then y = Tensor.where(f.gt(y, initial), initial, y)
    elseif reduce == "prod" then y = f.mul(y, initial)
    else y = f.add(y, initial) end
  end
  if reduce == "mean" then
    column[axis] = count
    local n = Tensor.to(Tensor.reshape(lengths, column), data.dtype)
    y = f.div(y, initial and Tensor.clamp(n, 1) or n)
  end
  return y
end

--- nonzero, with a given number of rows: the first `size`, and rows of `fill_value` behind where there are fewer.
---@param x aijit.Tensor
---@param size integer|{size: integer, fill_value: integer?}
---@param fill_value integer?   0, which is no position
---@return aijit.Tensor         (size, dimensions of x), i64, positions from 1
function segment.nonzero_static(x, size, fill_value)
  if not op.is_operand(x) then op.helper.bad("nonzero_static", 1, "x", "a tensor", x) end
  if type(size) == "table" then
    op.helper.read_options("nonzero_static", size, {size = true, fill_value = true}, {"size", "fill_value"})
    size, fill_value = size.size, size.fill_value
  elseif type(fill_value) == "table" then
    op.helper.read_options("nonzero_static", fill_value, {fill_value = true}, {"fill_value"})
    fill_value = fill_value.fill_value
  end
  fill_value = fill_value or 0
  if type(size) ~= "number" or size < 0 or size % 1 ~= 0 then
    refuse("nonzero_static", "size is %s, and must be a whole number from 0 up", lib.describe(size))
  end
  if type(fill_value) ~= "number" or fill_value % 1 ~= 0 then
    refuse("nonzero_static", "fill_value is %s, and must be a whole number", lib.describe(fill_value))
  end
  if x.device == "meta" then return construct.empty({size, Tensor.dim(x)}, {dtype = "i64", device = "meta"}) end
  local rows = f.nonzero(x)
  local found, columns = unpack(Tensor.size(rows))
  if found >= size then return Tensor.clone(f.narrow(rows, 1, 1, size)) end
  return f.cat({rows, construct.full({size - found, columns}, fill_value, {dtype = "i64", device = x.device})}, 1)
end

for name, fn in pairs(segment) do
  Tensor[name] = op.whole_list(name, fn)
  op.faces[name] = true
end

return segment
