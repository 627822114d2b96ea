--- Functions that leave values as they are and change what goes backward.

local ai = require "aijit"
local raise = require("aijit.bindings.lib").raise

local nn = {}

--- The values of x, the gradients of `carrier`; elements that are not finite become nan.
local function through(x, carrier) return x:detach() + (carrier - carrier:detach()) end

local function check(name, ...)
  for i = 1, select("#", ...) do
    local x = select(i, ...)
    if not ai.is_tensor(x) or not x:is_floating_point() then
      raise(("%s: argument %d is %s; a tensor of floats is wanted"):format(name, i, ai.is_tensor(x) and "one of " .. x.dtype or "a " .. type(x)))
    end
  end
end

local function check_pair(name, x, y)
  check(name, x, y)
  if table.concat(x.shape, ", ") ~= table.concat(y.shape, ", ") then
    raise(("%s: the tensors are (%s) and (%s); one shape is wanted"):format(name, table.concat(x.shape, ", "), table.concat(y.shape, ", ")))
  end
end

--- x, whose gradient becomes `scale` times what arrives.
---@param x aijit.Tensor
---@param scale number
---@return aijit.Tensor
function nn.scale_grad(x, scale)
  check("scale_grad", x)
  if type(scale) ~= "number" then raise(("scale_grad: scale is a %s, not a number"):format(type(scale))) end
  return through(x, x * scale)
end

--- x, whose gradient changes its sign, for a part that shall make worse what the rest makes better (Ganin and Lempitsky, 2015).
---@param x aijit.Tensor
---@return aijit.Tensor
function nn.invert_grad(x)
  check("invert_grad", x)
  return through(x, -x)
end

--- x and y, each with the gradient that arrives at the other.
---@param x aijit.Tensor
---@param y aijit.Tensor of the same shape
---@return aijit.Tensor x
---@return aijit.Tensor y
function nn.swap_grads(x, y)
  check_pair("swap_grads", x, y)
  return through(x, y), through(y, x)
end

--- x and y, each with the sum of what arrives at both.
---@param x aijit.Tensor
---@param y aijit.Tensor of the same shape
---@return aijit.Tensor x
---@return aijit.Tensor y
function nn.combine_grads(x, y)
  check_pair("combine_grads", x, y)
  return through(x, x + y), through(y, x + y)
end

return nn
