--- m.f: functions of tensors for models: what is here, and every op of ai.f.

local ai = require "aijit"

local functional = {}

--- All dimensions from start_dim made one: (N, *) -> (N, product).
---@param x aijit.Tensor
---@param start_dim? integer 2
---@return aijit.Tensor
function functional.flatten(x, start_dim)
  return ai.f.flatten(x, start_dim or 2)
end

--- An image's size times `scale`.
---@param x aijit.Tensor (N, C, *)
---@param scale number
---@param mode? string "bilinear"; also "nearest", "linear", "trilinear", "area"; corners are aligned
---@return aijit.Tensor
function functional.resample(x, scale, mode)
  mode = mode or "bilinear"
  return ai.f.interpolate(x, {scale_factor = scale, mode = mode, align_corners = mode:find "linear" ~= nil})
end

--- x divided by the root of its mean square over a dimension.
---@param x aijit.Tensor
---@param dim? integer 2
---@return aijit.Tensor
function functional.normalize_2nd_moment(x, dim)
  return x * (x:square():mean(dim or 2, {keepdim = true}) + 1e-8):rsqrt()
end

return setmetatable(functional, {__index = ai.f})
