--- nn.BiFPN: feature maps of several sizes that exchange what they know, upwards and downwards (Tan and others, 2020).

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local container = require "aijit.nn.container"
local conv = require "aijit.nn.conv"
local init = require "aijit.nn.initial"
local layer = require "aijit.nn.layer".layer
local Module = require "aijit.nn.module"
local norm = require "aijit.nn.norm"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- A weighted mean of maps of one size, relu(w_i) / (sum of relu(w) + eps) each, then a separable convolution.
local Fuse = layer("BiFPNFuse", "n channels")

function Fuse:build()
  local channels, where = self.channels, {dtype = self._where.dtype, device = self._where.device}
  self:parameter("weight", self.n)
  self.depthwise = conv.Conv2d{in_channels = channels, out_channels = channels, kernel_size = 3, padding = 1, groups = channels, bias = false,
                               dtype = where.dtype, device = where.device}
  self.pointwise = conv.Conv2d{in_channels = channels, out_channels = channels, kernel_size = 1, bias = false,
                               dtype = where.dtype, device = where.device}
  self.norm = norm.BatchNorm2d(channels, where)
end

function Fuse:reset() init.ones_(self.weight) end

function Fuse:forward(maps)
  local w = f.relu(self.weight)
  w = w / (w:sum() + 1e-4)
  local y
  for i, x in ipairs(maps) do
    local part = x * f.select(w, 1, i)
    y = y and y + part or part
  end
  return self.norm(self.pointwise(self.depthwise(f.silu(y))))
end

local function to_size(x, like)
  local h, w = like:size(3), like:size(4)
  if x:size(3) == h and x:size(4) == w then return x end
  if x:size(3) < h then return f.interpolate(x, {size = {h, w}}) end
  return f.adaptive_max_pool2d(x, {h, w})
end

--- One way down from the smallest map to the largest, and one back.
local Block = class("BiFPNBlock", Module)
nn.BiFPNBlock = Module.register(Block)

---@param levels integer
---@param channels integer
function Block:__init(levels, channels)
  self.levels, self.inner, self.outer = levels, container.ModuleList(), container.ModuleList()
  for i = 1, levels - 1 do self.inner:append(Fuse(2, channels)) end
  for i = 2, levels do self.outer:append(Fuse(i < levels and 3 or 2, channels)) end
end

function Block:forward(maps)
  local n, td, out = self.levels, {}, {}
  td[n] = maps[n]
  for i = n - 1, 1, -1 do td[i] = self.inner[i]{maps[i], to_size(td[i + 1], maps[i])} end
  out[1] = td[1]
  for i = 2, n do
    local below = to_size(out[i - 1], maps[i])
    out[i] = self.outer[i - 1](i < n and {maps[i], td[i], below} or {maps[i], below})
  end
  return out
end

--- From feature maps of input_sizes channels, the largest first, to as many of feature_size channels and the same sizes.
---@class aijit.nn.BiFPN: aijit.nn.Module
---@overload fun(input_sizes: integer[], feature_size: integer, options?: {num_layers: integer}): aijit.nn.BiFPN
local BiFPN = class("BiFPN", Module)
nn.BiFPN = Module.register(BiFPN)
BiFPN.declaration = argument.declare("nn.BiFPN", "input_sizes:counts feature_size:count num_layers=2")

---@param input_sizes integer[] channels of each map
---@param feature_size integer
---@param options? {num_layers: integer} 2
function BiFPN:__init(...)
  local o = BiFPN.declaration:read({}, ...)
  local input_sizes, feature_size, n = o.input_sizes, o.feature_size, o.num_layers
  if #input_sizes < 2 then raise "BiFPN: input_sizes are the channels of two maps or more" end
  self.input_sizes, self.project, self.blocks = input_sizes, container.ModuleList(), container.ModuleList()
  for _, size in ipairs(input_sizes) do self.project:append(conv.Conv2d(size, feature_size, 1)) end
  for _ = 1, n do self.blocks:append(Block(#input_sizes, feature_size)) end
end

---@param maps aijit.Tensor[] each (N, C_i, H_i, W_i), no map larger than the one before
---@return aijit.Tensor[] each (N, feature_size, H_i, W_i)
function BiFPN:forward(maps)
  if type(maps) ~= "table" or #maps ~= #self.input_sizes then
    raise(("BiFPN: a list of %d feature maps is wanted"):format(#self.input_sizes))
  end
  local x = {}
  for i, map in ipairs(maps) do
    if i > 1 and (map:size(3) > maps[i - 1]:size(3) or map:size(4) > maps[i - 1]:size(4)) then
      raise(("BiFPN: map %d is larger than the one before it; the largest comes first"):format(i))
    end
    x[i] = self.project[i](map)
  end
  for _, block in ipairs(self.blocks) do x = block(x) end
  return x
end

return nn
