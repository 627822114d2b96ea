--- nn.UNet: an image to an image of the same size, through smaller ones and back (Ronneberger and others, 2015), with
--- residual blocks that may be told of a time or a class, and attention at the smallest size (Ho and others, 2020).

local ai = require "aijit"
local argument = require "aijit.argument"
local activation = require "aijit.nn.activation"
local attention = require "aijit.nn.attention"
local class = require "aijit.class"
local container = require "aijit.nn.container"
local conv = require "aijit.nn.conv"
local linear = require "aijit.nn.linear"
local Module = require "aijit.nn.module"
local norm = require "aijit.nn.norm"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

local function group_norm(channels)
  local groups = math.min(8, channels)
  while channels % groups ~= 0 do groups = groups - 1 end
  return norm.GroupNorm(groups, channels)
end

--- x + conv(silu(norm(conv(silu(norm(x))) + the embedding))).
local Block = class("UNetBlock", Module)
Module.register(Block)

function Block:__init(a, b, embedding)
  self.norm1 = group_norm(a)
  self.conv1 = conv.Conv2d(a, b, 3, {padding = 1})
  self.embed = embedding and linear.Linear(embedding, b)
  self.norm2 = group_norm(b)
  self.conv2 = conv.Conv2d(b, b, 3, {padding = 1})
  self.skip = a ~= b and conv.Conv2d(a, b, 1)
end

function Block:forward(x, embedding)
  local y = self.conv1(f.silu(self.norm1(x)))
  if self.embed then y = y + f.unsqueeze(f.unsqueeze(self.embed(f.silu(embedding)), -1), -1) end
  y = self.conv2(f.silu(self.norm2(y)))
  return y + (self.skip and self.skip(x) or x)
end

--- Every pixel attends to all others.
local Attend = class("UNetAttention", Module)
Module.register(Attend)

function Attend:__init(channels, heads)
  self.norm = group_norm(channels)
  self.attn = attention.MultiheadAttention(channels, heads, {batch_first = true})
end

function Attend:forward(x)
  local y = self.attn(f.transpose(f.flatten(self.norm(x), 3), 2, 3))
  return x + f.transpose(y, 2, 3):reshape(x.shape)
end

---@class aijit.nn.UNet: aijit.nn.Module
---@overload fun(in_channels: integer, embed_dim: integer, options?: table): aijit.nn.UNet
local UNet = class("UNet", Module)
nn.UNet = Module.register(UNet)
UNet.declaration = argument.declare("nn.UNet",
  "in_channels embed_dim dim_scales:counts={1,2,4,8} out_channels=none embedding_dim=none heads:count=1")

--- embed_dim: channels at the image's size; dim_scales {1, 2, 4, 8}: the factors of each size, each half the one before;
--- embedding_dim: of the second input, (N, embedding_dim); out_channels: in_channels; heads: of the attention, 1.
---@param in_channels integer
---@param embed_dim integer
---@param options? {dim_scales: integer[], out_channels: integer, embedding_dim: integer, heads: integer}
---@overload fun(in_channels: integer, embed_dim: integer, options?: table)
function UNet:__init(...)
  local o = UNet.declaration:read({}, ...)
  local in_channels, embed_dim, scales, e = o.in_channels, o.embed_dim, o.dim_scales, o.embedding_dim
  local channels = {}
  for i, scale in ipairs(scales) do channels[i] = embed_dim * scale end
  local n, last = #channels, channels[#channels]
  self.levels, self.embedding_dim = n, e
  self.first = conv.Conv2d(in_channels, channels[1], 3, {padding = 1})
  self.down = {}                                         -- one after another: the order of definition is that of the parameters
  self.shrink = {}
  self.up = {}
  self.grow = {}
  for i = 1, n do
    self.down[i] = Block(channels[math.max(1, i - 1)], channels[i], e)
    if i < n then self.shrink[i] = conv.Conv2d(channels[i], channels[i], 3, {stride = 2, padding = 1}) end
  end
  self.middle1 = Block(last, last, e)
  self.attend = Attend(last, o.heads)
  self.middle2 = Block(last, last, e)
  for i = n, 1, -1 do
    local place = n + 1 - i
    self.up[place] = Block(2 * channels[i], channels[math.max(1, i - 1)], e)
    if i > 1 then self.grow[place] = conv.Conv2d(channels[i - 1], channels[i - 1], 3, {padding = 1}) end
  end
  self.last = container.Sequential{group_norm(channels[1]), activation.SiLU(),
                                   conv.Conv2d(channels[1], o.out_channels or in_channels, 3, {padding = 1})}
end

---@param x aijit.Tensor (N, in_channels, H, W), H and W divisible by 2^(levels - 1)
---@param embedding? aijit.Tensor (N, embedding_dim)
---@return aijit.Tensor (N, out_channels, H, W)
function UNet:forward(x, embedding)
  local factor = 2 ^ (self.levels - 1)
  if x:dim() ~= 4 or x:size(3) % factor ~= 0 or x:size(4) % factor ~= 0 then
    raise(("UNet: the input is (%s); (N, C, H, W) with H and W divisible by %d is wanted"):format(table.concat(x.shape, ", "), factor))
  end
  if (self.embedding_dim ~= nil) ~= (embedding ~= nil) then
    raise(self.embedding_dim and ("UNet: a second input (N, %d) is wanted"):format(self.embedding_dim)
      or "UNet: it takes no embedding; give embedding_dim")
  end
  x = self.first(x)
  local skips = {}
  for i = 1, self.levels do
    x = self.down[i](x, embedding)
    skips[i] = x
    if self.shrink[i] then x = self.shrink[i](x) end
  end
  x = self.middle2(self.attend(self.middle1(x, embedding)), embedding)
  for place = 1, self.levels do
    x = self.up[place](f.cat({x, skips[self.levels + 1 - place]}, 2), embedding)
    if self.grow[place] then x = self.grow[place](f.interpolate(x, {scale_factor = 2})) end
  end
  return self.last(x)
end

return nn
