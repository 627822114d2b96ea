--- m.conv: a convolution of images, and what commonly stands around it.

local ai = require "aijit"
local name = require "aijit.model.name"
local option = require "aijit.model.option"
local sequence = require "aijit.model.sequence"
local raise = require("aijit.bindings.lib").raise

local nn, f = ai.nn, ai.f
local init = nn.init
local conv = {}

--- A convolution with an equalised learning rate: the weight is N(0, 1) / lr_mul, and is used times lr_mul / sqrt(fan_in).
local EqualConv2d = nn.layer("EqualConv2d",
  "in_channels? out_channels kernel_size stride=1 padding=0 dilation=1 groups=1 bias=true lr_mul=1 scale_w=true padding_mode=zeros")
conv.EqualConv2d = EqualConv2d

EqualConv2d.sizes, EqualConv2d.sizes_from, EqualConv2d.build = nn.Conv2d.sizes, nn.Conv2d.sizes_from, nn.Conv2d.build

function EqualConv2d:reset()
  init.normal_(self.weight, 0, 1 / self.lr_mul)
  if self.bias then init.zeros_(self.bias) end
end

EqualConv2d.init_params = EqualConv2d.reset

function EqualConv2d:forward(x)
  local gain = self.scale_w and self.lr_mul / math.sqrt((init.fans(self.weight))) or self.lr_mul
  local bias = self.bias
  if self._pad then x = f.pad(x, self._pad, self.padding_mode) end
  return f.conv2d(x, self.weight * gain, bias and self.lr_mul ~= 1 and bias * self.lr_mul or bias, self._options)
end

--- x times a number.
local Gain = nn.layer("Gain", "gain")
conv.Gain = Gain
function Gain:forward(x) return x * self.gain end

--- x between -limit and limit.
local Clamp = nn.layer("Clamp", "limit")
conv.Clamp = Clamp
function Clamp:forward(x) return f.clamp_min(f.clamp_max(x, self.limit), -self.limit) end

--- x plus noise, the same for all channels, with a learned strength that is 0 at first.
local Noise = nn.layer("Noise", "")
conv.Noise = Noise
function Noise:build() self:parameter("strength") end
function Noise:reset() init.zeros_(self.strength) end
Noise.init_params = Noise.reset
function Noise:forward(x)
  return x + self.strength * ai.randn({x:size(1), 1, x:size(3), x:size(4)}, {dtype = x.dtype, device = x.device})
end

--- An image's size times `scale`: below 1 the mean of blocks, above 1 each pixel repeated.
local Resample = nn.layer("Resample", "scale")

function Resample:check()
  local factor = self.scale < 1 and 1 / self.scale or self.scale
  if type(factor) ~= "number" or factor < 1 or factor % 1 ~= 0 then
    raise(("resample: a scale of %s is neither a whole number nor one divided by one"):format(tostring(self.scale)))
  end
end

function Resample:forward(x)
  local scale = self.scale
  if scale == 1 then return x end
  if scale < 1 then return f.avg_pool2d(x, 1 / scale) end
  return f.interpolate(x, {scale_factor = scale})
end

---@param scale number 0.5 halves, 2 doubles
---@return aijit.nn.Module
function conv.resample(scale) return Resample(scale) end

---@param limit? number nil: nothing is limited
---@return aijit.nn.Module
function conv.clamp(limit) return limit and Clamp(limit) or nn.Identity() end

---@return aijit.nn.Module # (N, C, H, W) -> (N, C): the mean of each channel
function conv.global_avg() return nn.Sequential{nn.AdaptiveAvgPool2d(1), nn.Flatten()} end

local defaults = {
  k = 3, stride = 1, actv = false, norm = false, gain = false, clamp = false, noise = false, dropout = false, bias = true,
  scale_w = false, lr_mul = false, groups = 1, padtype = "zeros", blur = false,
}

--- blur -> resample -> convolution -> norm -> noise -> activation -> gain -> clamp -> dropout, each if asked for; one alone comes bare.
--- The padding keeps the size. A stride below 1 enlarges first (0.5: twice the size); so that no pixel is lost, a 1x1
--- kernel with a stride averages first. The bias is left out where the norm has one. A blur pads for a convolution that does
--- not.
---@param nc1 integer channels in; conv(nc2, options) infers them
---@param nc2? integer channels out
---@param k? integer kernel size, 3
---@param options? {k: integer, stride: number, actv: string, norm: string, gain: number, clamp: number, noise: boolean}
--- also {blur: boolean, dropout: number, bias: boolean, scale_w: boolean, lr_mul: number, groups: integer, padtype: string}
---@return aijit.nn.Module
function conv.conv(nc1, nc2, k, options)
  if type(nc2) ~= "number" then nc1, nc2, k, options = nil, nc1, nc2, k end
  if type(k) == "table" then k, options = nil, k end
  local o = option("conv", options, defaults)
  k = k or o.k
  local norm, idle_bias = name.norm(o.norm, 2, nc2)
  local first = o.stride < 1 or (k == 1 and o.stride ~= 1)
  local args = {in_channels = nc1, out_channels = nc2, kernel_size = k, stride = first and 1 or o.stride,
                padding = o.blur and 0 or math.floor((k - 1) / 2), groups = o.groups,
                bias = o.bias and not idle_bias, padding_mode = o.padtype}
  local layer
  if o.scale_w or o.lr_mul then
    args.scale_w, args.lr_mul = o.scale_w or false, o.lr_mul
    layer = EqualConv2d(args)
  else
    layer = nn.Conv2d(args)
  end
  local spare = 3 + k - 1                                      -- the blur's kernel has four taps
  return sequence.several{
    o.blur and nn.Blur{pad = {math.ceil(spare / 2), math.floor(spare / 2)}} or false,
    first and conv.resample(1 / o.stride) or false,
    layer,
    norm or false,
    o.noise and Noise() or false,
    name.activation(o.actv) or false,
    o.gain and Gain(o.gain) or false,
    o.clamp and Clamp(o.clamp) or false,
    o.dropout and nn.Dropout(o.dropout) or false,
  }
end

return conv
