--- m.fm2v: from a feature map, (N, nc, H, W), to a vector, (N, n_out).

local ai = require "aijit"
local conv = require "aijit.model.conv"
local linear = require "aijit.model.linear"
local norm = require "aijit.model.norm"
local option = require "aijit.option"
local sequence = require "aijit.model.sequence"

local nn = ai.nn
local fm2v = {}

local simple_options = option.declare("fm2v.simple", "actv:actv")
local mbstd_options = option.declare("fm2v.mbstd", "actv:actv=lrelu group_size:size=4 mbstd_nc:size=1 scale_w:boolean=false")

--- The mean of each channel, then a matrix.
---@param nc integer
---@param n_out integer
---@param options? {actv: string} after the matrix
---@return aijit.nn.Module
function fm2v.simple(nc, n_out, options)
  option.check_all("fm2v.simple", "nc n_out", nc, n_out)
  local o = simple_options(options)
  return sequence.seq{conv.global_avg(), linear.fc(nc, n_out, {actv = o.actv})}
end

--- The end of a discriminator (Karras and others, 2020): the deviation within the batch as one more channel, a convolution,
--- and two matrices.
---@param res integer|integer[] height and width of the map
---@param nc integer
---@param n_out? integer 1
---@param options? {actv: string, group_size: integer, mbstd_nc: integer, scale_w: boolean} "lrelu", 4, 1, false
---@return aijit.nn.Module
function fm2v.mbstd(res, nc, n_out, options)
  if type(n_out) == "table" then n_out, options = nil, n_out end
  local h, w = res, res
  if type(res) == "table" then h, w = res[1], res[2] end
  option.check_all("fm2v.mbstd", "res res nc n_out", h, w, nc, n_out or 1)
  local o = mbstd_options(options)
  return sequence.seq{
    norm.MinibatchStd{group_size = o.group_size, nc = o.mbstd_nc},
    conv.conv(nc + o.mbstd_nc, nc, {actv = o.actv, scale_w = o.scale_w}),
    nn.Flatten(),
    linear.fc(nc * h * w, nc, {actv = o.actv, scale_w = o.scale_w}),
    linear.fc(nc, n_out or 1, {scale_w = o.scale_w}),
  }
end

return fm2v
