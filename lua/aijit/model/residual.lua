--- Residual blocks: m.res, m.se, m.resblk, m.resblk_group.

local ai = require "aijit"
local class = require "aijit.class"
local conv = require "aijit.model.conv"
local name = require "aijit.model.name"
local option = require "aijit.option"
local sequence = require "aijit.model.sequence"

local nn = ai.nn
local residual = {}

--- main(x) + shortcut(x); without a shortcut, main(x) + x.
---@class aijit.model.Residual: aijit.nn.Module
local Residual = class("Residual", nn.Module)
nn.register(Residual)

function Residual:__init(main, shortcut)
  self.main = main
  self.shortcut = shortcut
end

function Residual:forward(x)
  local shortcut = self.shortcut
  return self.main(x) + (shortcut and shortcut(x) or x)
end

---@param main aijit.nn.Module
---@param shortcut? aijit.nn.Module
---@return aijit.model.Residual
function residual.res(main, shortcut)
  option.check("res", "main", "module", main)
  if shortcut then option.check("res", "shortcut", "module", shortcut) end
  return Residual(main, shortcut)
end

local se_options = option.declare("se", "reduction:positive=16 actv:actv=mish")
local block_options = option.declare("resblk", "stride:positive=1 actv:actv=mish norm:norm=batch se:boolean=true")

--- nn.SqueezeExcite, with an activation by name.
---@param nc integer
---@param options? {reduction: integer, actv: string} 16, "mish"
---@return aijit.nn.SqueezeExcite
function residual.se(nc, options)
  option.check("se", "nc", "size", nc)
  local o = se_options(options)
  return nn.SqueezeExcite(nc, {reduction = o.reduction, actv = name.activation(o.actv) or nn.Identity()})
end

--- conv(stride, actv, norm) -> conv(norm) -> squeeze and excite, plus a shortcut: the input itself, or a 1x1 convolution
--- where size or channels change. A stride of 0.5 doubles the size.
---@param nc1 integer
---@param nc2 integer
---@param options? {stride: number, actv: string, norm: string, se: boolean} 1, "mish", "batch", true
---@return aijit.model.Residual
function residual.resblk(nc1, nc2, options)
  option.check_all("resblk", "nc1 nc2", nc1, nc2)
  local o = block_options(options)
  local main = sequence.several{
    conv.conv(nc1, nc2, {stride = o.stride, actv = o.actv, norm = o.norm}),
    conv.conv(nc2, nc2, {norm = o.norm}),
    o.se and residual.se(nc2) or false,
  }
  local same = nc1 == nc2 and o.stride == 1
  return Residual(main, not same and conv.conv(nc1, nc2, 1, {stride = o.stride}) or nil)
end

--- n blocks; the first one changes size and channels.
---@param n integer
---@param nc1 integer
---@param nc2 integer
---@param options? table as for resblk
---@return aijit.nn.Module
function residual.resblk_group(n, nc1, nc2, options)
  option.check_all("resblk_group", "n:count nc1 nc2", n, nc1, nc2)
  block_options(options)
  local list, later = {}, {}
  for key, value in pairs(options or {}) do if key ~= "stride" then later[key] = value end end
  for i = 1, n do list[i] = residual.resblk(i == 1 and nc1 or nc2, nc2, i == 1 and options or later) end
  return sequence.seq(list)
end

return residual
