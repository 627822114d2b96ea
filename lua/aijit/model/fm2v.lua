--- m.fm2v: from a feature map, (N, nc, H, W), to a vector, (N, n_out).

local ai = require "aijit"
local argument = require "aijit.argument"
local conv = require "aijit.model.conv"
local linear = require "aijit.model.linear"
local norm = require "aijit.model.norm"
local sequence = require "aijit.model.sequence"

local nn = ai.nn
local fm2v = {}

local simple_arguments = argument.declare("m.fm2v.simple", "nc n_out actv:actv=none")
local mbstd_arguments = argument.declare("m.fm2v.mbstd", "res:kernel nc n_out=1 actv:actv=lrelu group_size=4 mbstd_nc:count=1 scale_w=false")

--- The mean of each channel, then a matrix.
---@param nc integer
---@param n_out integer
---@param options? {actv: string} after the matrix
---@return aijit.nn.Module
function fm2v.simple(nc, n_out, options)
  local o = simple_arguments:options(options, nc, n_out)
  return sequence.seq{conv.global_avg(), linear.fc(nc, n_out, {actv = o.actv})}
end

--- The end of a discriminator (Karras and others, 2020): the deviation within the batch as one more channel, a convolution,
--- and two matrices.
---@param res integer|integer[] height and width of the map
---@param nc integer
---@param n_out? integer 1
---@param options? {actv: string, group_size: integer, mbstd_nc: integer, scale_w: boolean} "lrelu", 4, 1, false
---@return aijit.nn.Module
---@overload fun(res: integer, nc: integer, options?: table): aijit.nn.Module
function fm2v.mbstd(...)
  local o = mbstd_arguments:read({}, ...)
  local res, nc = o.res, o.nc
  local h, w = res, res
  if type(res) == "table" then h, w = res[1], res[2] end
  return sequence.seq{
    norm.MinibatchStd{group_size = o.group_size, nc = o.mbstd_nc},
    conv.conv(nc + o.mbstd_nc, nc, {actv = o.actv, scale_w = o.scale_w}),
    nn.Flatten(),
    linear.fc(nc * h * w, nc, {actv = o.actv, scale_w = o.scale_w}),
    linear.fc(nc, o.n_out, {scale_w = o.scale_w}),
  }
end

return fm2v
