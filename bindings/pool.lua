--- Faces of the pools that tell, when asked to, where in its channel each element was.

local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local f = op.functions

-- The table of options among the arguments: one without a list part.
local function options(v) return type(v) == "table" and v[1] == nil and next(v) ~= nil end

local ORDER = {"stride", "padding", "dilation", "ceil_mode", "return_indices"}
local KNOWN = {stride = true, padding = true, dilation = true, ceil_mode = true, return_indices = true}

-- {stride = 2, return_indices = true} without its last entry, and what that was.
local function split(name, o)
  op.helper.read_options(name, o, KNOWN, ORDER)
  if o.return_indices == nil then return o, false end
  local rest = {}
  for key, v in pairs(o) do if key ~= "return_indices" then rest[key] = v end end
  return next(rest) and rest or nil, o.return_indices
end

for n = 1, 3 do
  local name, adaptive = ("max_pool%dd"):format(n), ("adaptive_max_pool%dd"):format(n)
  local plain, places = f[name], f[name .. "_with_indices"]
  local adaptive_plain, adaptive_places = f[adaptive], f[adaptive .. "_with_indices"]

  --- The largest element of each window; with return_indices also where in its channel, seen as one row, each was (i64, from 1).
  ---@param x aijit.Tensor
  ---@param kernel_size integer|integer[]
  ---@param stride integer|integer[]|table?  the kernel_size unless given; or a table of what follows by name
  ---@param padding integer|integer[]?
  ---@param dilation integer|integer[]?
  ---@param ceil_mode boolean?
  ---@param return_indices boolean?
  ---@return aijit.Tensor values
  ---@return aijit.Tensor? indices
  Tensor[name] = function(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    if options(stride) then stride, return_indices = split(name, stride)
    elseif options(padding) then padding, return_indices = split(name, padding)
    elseif options(dilation) then dilation, return_indices = split(name, dilation)
    elseif options(ceil_mode) then ceil_mode, return_indices = split(name, ceil_mode)
    elseif options(return_indices) then return_indices = return_indices.return_indices end
    if return_indices then return places(x, kernel_size, stride, padding, dilation, ceil_mode) end
    return plain(x, kernel_size, stride, padding, dilation, ceil_mode)
  end

  --- The largest element of windows that divide x evenly into output_size; with return_indices also where each was.
  ---@param x aijit.Tensor
  ---@param output_size integer|integer[]
  ---@param return_indices boolean|{return_indices: boolean}?
  ---@return aijit.Tensor values
  ---@return aijit.Tensor? indices
  Tensor[adaptive] = function(x, output_size, return_indices)
    if type(return_indices) == "table" then
      op.helper.read_options(adaptive, return_indices, {return_indices = true}, {"return_indices"})
      return_indices = return_indices.return_indices
    end
    if return_indices then return adaptive_places(x, output_size) end
    return adaptive_plain(x, output_size)
  end
end

return Tensor
