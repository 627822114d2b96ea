--- m.f: functions of tensors for models: what is here, and every op of ai.f.

local ai = require "aijit"
local argument = require "aijit.argument"
local rearrange = require "aijit.model.rearrange"

local functional = {}
local flatten_arguments = argument.declare("m.f.flatten", "x start_dim:integer")
local resample_arguments = argument.declare("m.f.resample", "x scale mode:text")
local normalize_arguments = argument.declare("m.f.normalize_2nd_moment", "x dim:integer")

--- All dimensions from start_dim made one: (N, *) -> (N, product).
---@param x aijit.Tensor
---@param start_dim? integer 2
---@return aijit.Tensor
function functional.flatten(x, start_dim)
  flatten_arguments:options(nil, x, start_dim or 2)
  return ai.f.flatten(x, start_dim or 2)
end

--- An image's size times `scale`.
---@param x aijit.Tensor (N, C, *)
---@param scale number
---@param mode? string "bilinear"; also "nearest", "linear", "trilinear", "area"; corners are aligned
---@return aijit.Tensor
function functional.resample(x, scale, mode)
  mode = mode or "bilinear"
  resample_arguments:options(nil, x, scale, mode)
  return ai.f.interpolate(x, {scale_factor = scale, mode = mode, align_corners = mode:find "linear" ~= nil})
end

--- x divided by the root of its mean square over a dimension.
---@param x aijit.Tensor
---@param dim? integer 2
---@return aijit.Tensor
function functional.normalize_2nd_moment(x, dim)
  normalize_arguments:options(nil, x, dim or 2)
  return x * (x:square():mean(dim or 2, {keepdim = true}) + 1e-8):rsqrt()
end

functional.rearrange = rearrange.rearrange
functional.repeat_axes = rearrange.repeat_axes
functional["repeat"] = rearrange.repeat_axes       -- `repeat` is a word of Lua, and so m.f.repeat cannot be written

--- A padded batch, (N, T, *), as a packed one, in any order of lengths.
---@param x aijit.Tensor
---@param lengths integer[]|aijit.Tensor
---@return aijit.nn.PackedSequence
function functional.pack_padded_sequence(x, lengths)
  return ai.nn.pack_padded_sequence(x, lengths, {batch_first = true, enforce_sorted = false})
end

return setmetatable(functional, {__index = ai.f})
