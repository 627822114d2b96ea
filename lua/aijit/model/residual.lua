--- Residual blocks: m.res, m.se, m.resblk, m.resblk_group.

local ai = require "aijit"
local argument = require "aijit.argument"
local conv = require "aijit.model.conv"
local name = require "aijit.model.name"
local sequence = require "aijit.model.sequence"

local nn = ai.nn
local residual = {}

local res_arguments = argument.declare("m.res", "main:layer shortcut:layer=none")

--- nn.Residual: main(x) + shortcut(x); without a shortcut, main(x) + x.
---@param main aijit.nn.Module|function
---@param shortcut? aijit.nn.Module|function
---@return aijit.nn.Residual
function residual.res(main, shortcut)
  local o = res_arguments:read({}, main, shortcut)
  return nn.Residual(o.main, o.shortcut)
end

local se_arguments = argument.declare("m.se", "nc reduction:positive=16 actv:actv=mish")
local block_options = "stride:positive=1 actv:actv=mish norm:model_norm=batch se=true"
local block_arguments = argument.declare("m.resblk", "nc1 nc2 " .. block_options)
local group_arguments = argument.declare("m.resblk_group", "n:size nc1 nc2 " .. block_options)

--- nn.SqueezeExcite, with an activation by name.
---@param nc integer
---@param options? {reduction: integer, actv: string} 16, "mish"
---@return aijit.nn.SqueezeExcite
function residual.se(nc, options)
  local o = se_arguments:options(options, nc)
  return nn.SqueezeExcite(nc, {reduction = o.reduction, actv = name.activation(o.actv) or nn.Identity()})
end

--- conv(stride, actv, norm) -> conv(norm) -> squeeze and excite, plus a shortcut: the input itself, or a 1x1 convolution
--- where size or channels change. A stride of 0.5 doubles the size.
---@param nc1 integer
---@param nc2 integer
---@param options? {stride: number, actv: string, norm: string, se: boolean} 1, "mish", "batch", true
---@return aijit.nn.Residual
function residual.resblk(nc1, nc2, options)
  local o = block_arguments:options(options, nc1, nc2)
  local main = sequence.several{
    conv.conv(nc1, nc2, {stride = o.stride, actv = o.actv, norm = o.norm}),
    conv.conv(nc2, nc2, {norm = o.norm}),
    o.se and residual.se(nc2) or false,
  }
  local same = nc1 == nc2 and o.stride == 1
  return nn.Residual(main, not same and conv.conv(nc1, nc2, 1, {stride = o.stride}) or nil)
end

--- n blocks; the first one changes size and channels.
---@param n integer
---@param nc1 integer
---@param nc2 integer
---@param options? table as for resblk
---@return aijit.nn.Module
function residual.resblk_group(n, nc1, nc2, options)
  group_arguments:options(options, n, nc1, nc2)
  local list, later = {}, {}
  for key, value in pairs(options or {}) do if key ~= "stride" then later[key] = value end end
  for i = 1, n do list[i] = residual.resblk(i == 1 and nc1 or nc2, nc2, i == 1 and options or later) end
  return sequence.seq(list)
end

return residual
