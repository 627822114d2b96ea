--- Parts of image networks: squeeze-excite, blur.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local conv = require "aijit.nn.conv"
local layer = require "aijit.nn.layer".layer
local Module = require "aijit.nn.module"

local f = ai.f
local nn = {}

--- Squeeze and excite (Hu and others, 2018): each channel times a gate made from the means of all channels,
--- (N, C, H, W) -> (N, C, H, W).
---@class aijit.nn.SqueezeExcite: aijit.nn.Module
---@field squeeze aijit.nn.Module 1x1, to C / reduction channels
---@field excite aijit.nn.Module 1x1, back
---@overload fun(channels: integer, options?: {reduction: integer, actv: aijit.nn.Module|function}): aijit.nn.SqueezeExcite
local SqueezeExcite = class("SqueezeExcite", Module)
nn.SqueezeExcite = Module.register(SqueezeExcite)
SqueezeExcite.declaration = argument.declare("nn.SqueezeExcite", "channels reduction:positive=16 actv:layer=none")

--- reduction 16; actv ReLU: a module, or a function, which a spec cannot hold.
---@param channels integer
---@param options? {reduction: integer, actv: aijit.nn.Module|function}
function SqueezeExcite:__init(...)
  local o = SqueezeExcite.declaration:read({}, ...)
  local channels = o.channels
  local inner = math.max(1, math.floor(channels / o.reduction))
  self.squeeze = conv.Conv2d(channels, inner, 1)
  self.actv = o.actv or require("aijit.nn.activation").ReLU()
  self.excite = conv.Conv2d(inner, channels, 1)
end

function SqueezeExcite:forward(x)
  local gate = self.excite(self.actv(self.squeeze(x:mean({3, 4}, {keepdim = true}))))
  return x * gate:sigmoid()
end

--- A small low-pass filter over each channel (Karras and others, 2020), [1 3 3 1] in both directions by default: the image is
--- made `up` times larger with zeros between, padded, filtered, and multiplied by gain. Without `pad` the size is kept (times
--- up). pad: a number, or {before, after}.
---@class aijit.nn.Blur: aijit.nn.Layer
local Blur = layer("Blur", "pad=none gain=1 up=1 kernel=none")
nn.Blur = Blur

function Blur:build()
  local taps, sum = self.kernel or {1, 3, 3, 1}, 0
  for _, v in ipairs(taps) do sum = sum + v end
  local n, values = #taps, {}
  for i = 1, n do
    for j = 1, n do values[(i - 1) * n + j] = taps[n + 1 - i] * taps[n + 1 - j] / sum ^ 2 * self.gain end
  end
  local where = {dtype = self._where.dtype, device = self._where.device}
  self:register_buffer("filter", ai.tensor(values, where):reshape(1, 1, n, n), {persistent = false})
  local first, last = self.pad, self.pad
  if type(self.pad) == "table" then first, last = self.pad[1], self.pad[2] end
  if self.pad == nil then
    local spare = n - self.up
    first, last = math.floor((spare + 1) / 2) + self.up - 1, math.floor(spare / 2)
  end
  self._pad = {first, last, first, last}
end

function Blur:forward(x)
  local n, c, h, w, up = x:size(1), x:size(2), x:size(3), x:size(4), self.up
  x = x:reshape(n * c, 1, h, w)
  if up > 1 then
    x = f.pad(x:reshape(n * c, 1, h, 1, w, 1), {0, up - 1, 0, 0, 0, up - 1}):reshape(n * c, 1, h * up, w * up)
  end
  x = f.conv2d(f.pad(x, self._pad), self.filter:to(x.dtype))
  return x:reshape(n, c, x:size(3), x:size(4))
end

return nn
