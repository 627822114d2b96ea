--- Forms in place of functions whose rows have none: x:tril_(), x:cumsum_(1), x:gt_(y). The result is computed and then
-- written into x, which keeps its dtype; so is PyTorch's.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local C, f = lib.C, op.functions

local inplace = {}

--- The functions that have such a form, without the `_`.
---@type string[]
inplace.names = {}
for name in ([[eq ne lt le gt ge logical_and logical_or logical_xor logical_not cumsum cumprod tril triu addmm addmv addr addbmm baddbmm
  renorm nextafter mvlgamma dropout alpha_dropout feature_alpha_dropout rrelu]]):gmatch "%S+" do inplace.names[#inplace.names + 1] = name end

-- A comparison's bools may be written into any dtype, floats not into integers.
local function fits(name, x, y)
  if C.aj_dtype_is_float(C.aj_dtype_of(y)) and not C.aj_dtype_is_float(C.aj_dtype_of(x)) then
    lib.raise(("%s: the result is of floats, and cannot be stored in place in %s"):format(name, x.dtype))
  end
  local from, to = Tensor.size(y), Tensor.size(x)
  local same = #from == #to
  for d = 1, #to do same = same and from[d] == to[d] end
  if not same then
    lib.raise(("%s: the result has sizes {%s}, and cannot be stored in place in {%s}"):format(name, table.concat(from, ", "), table.concat(to, ", ")))
  end
  return y
end

for _, name in ipairs(inplace.names) do
  local place = name .. "_"
  Tensor[place] = function(x, ...)
    if op.is_symbol(x) then return f.copy_(x, Tensor[name](x, ...)) end
    if not lib.is_tensor(x) then op.helper.bad(place, 1, "x", "a tensor", x) end
    return f.copy_(x, fits(place, x, Tensor[name](x, ...)))
  end
  op.faces[place] = true
end

--- The diagonal of x becomes a number: of a matrix its main one, of more dimensions, all of one size, where all positions agree.
---@param x aijit.Tensor  of at least 2 dimensions
---@param value number
---@param wrap boolean?   of a matrix with more rows than columns: the diagonal begins anew, one row after it ended
---@return aijit.Tensor x
function Tensor.fill_diagonal_(x, value, wrap)
  if not lib.is_tensor(x) then op.helper.bad("fill_diagonal_", 1, "x", "a tensor", x) end
  local sizes = Tensor.size(x)
  if #sizes < 2 then lib.raise(("fill_diagonal_: a tensor of %d dimensions, where at least 2 are wanted"):format(#sizes)) end
  local least = math.huge
  for _, n in ipairs(sizes) do
    least = math.min(least, n)
    if #sizes > 2 and n ~= sizes[1] then
      lib.raise(("fill_diagonal_: sizes {%s}; of more than 2 dimensions all must be equal"):format(table.concat(sizes, ", ")))
    end
  end
  if least == 0 then return x end
  if #sizes == 2 then
    f.fill_(f.diagonal(x), value)
    local first = sizes[2] + 2
    while wrap and first <= sizes[1] do
      f.fill_(f.diagonal(f.slice(x, 1, first, sizes[1])), value)
      first = first + sizes[2] + 1
    end
    return x
  end
  local part = x
  for _ = 2, #sizes do part = f.diagonal(part, 0, 1, 2) part = f.movedim(part, -1, 1) end
  f.fill_(part, value)
  return x
end

op.faces.fill_diagonal_ = true

return inplace
