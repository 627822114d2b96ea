--- m.conv: a convolution of images, and what commonly stands around it.

local ai = require "aijit"
local argument = require "aijit.argument"
local name = require "aijit.model.name"
local sequence = require "aijit.model.sequence"
local raise = require("aijit.bindings.lib").raise

local nn, f = ai.nn, ai.f
local init = nn.init
local conv = {}

--- A convolution with an equalised learning rate: the weight is N(0, 1) / lr_mul, and is used times lr_mul / sqrt(fan_in).
local EqualConv2d = nn.layer("EqualConv2d",
  "in_channels? out_channels kernel_size stride=1 padding=0 dilation=1 groups=1 bias=true lr_mul=1 scale_w=true padding_mode=zeros")
conv.EqualConv2d = EqualConv2d
EqualConv2d.argument_rules = {lr_mul = "positive"}

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
local Clamp = nn.Clamp
conv.Clamp = Clamp

--- x plus noise, the same for all channels, with a learned strength that is 0 at first, or a fixed one.
local Noise = nn.layer("Noise", "fixed=none")
conv.Noise = Noise
Noise.argument_rules = {fixed = "not_negative"}
function Noise:build() if not self.fixed then self:parameter("strength") end end
function Noise:reset() if self.strength then init.zeros_(self.strength) end end
Noise.init_params = Noise.reset
function Noise:forward(x)
  return x + (self.fixed or self.strength) * ai.randn({x:size(1), 1, x:size(3), x:size(4)}, {dtype = x.dtype, device = x.device})
end

--- An image's size times `scale`: below 1 the mean of blocks, above 1 each pixel repeated.
local Resample = nn.layer("Resample", "scale")

function Resample:check()
  local scale = self.scale
  local factor = type(scale) == "number" and scale > 0 and (scale < 1 and 1 / scale or scale)
  if not factor or math.abs(factor - math.floor(factor + 0.5)) > 1e-6 then
    raise(("resample: a scale of %s is neither a whole number nor one divided by one"):format(tostring(self.scale)))
  end
end

function Resample:forward(x)
  local scale = self.scale
  if scale == 1 then return x end
  if scale < 1 then return f.avg_pool2d(x, math.floor(1 / scale + 0.5)) end
  return f.interpolate(x, {scale_factor = scale})
end

---@param scale number 0.5 halves, 2 doubles
---@return aijit.nn.Module
function conv.resample(scale) return Resample(scale) end

local clamp_arguments = argument.declare("m.clamp", "limit:positive")

---@param limit? number nil: nothing is limited
---@return aijit.nn.Module
function conv.clamp(limit)
  return limit and Clamp(clamp_arguments:options(nil, limit) and limit) or nn.Identity()
end

---@return aijit.nn.Module # (N, C, H, W) -> (N, C): the mean of each channel
function conv.global_avg() return nn.Sequential{nn.AdaptiveAvgPool2d(1), nn.Flatten()} end

local declared = argument.declare("m.conv", [[
  nc1? nc2 k:count=3 stride:positive=1 actv:actv=none norm:model_norm=none gain:finite=none clamp:positive=none noise:noise=none dropout=none bias=true
  scale_w:flag=none lr_mul:positive=none groups=1 padtype=zeros blur:flag=none transposed:flag=none]])

--- A stride below 1 as a whole number of times.
local function times(stride)
  local n = math.floor(1 / stride + 0.5)
  if math.abs(n * stride - 1) > 1e-6 then raise(("conv: a stride of %g is neither a whole number nor one divided by one"):format(stride)) end
  return n
end

--- blur -> resample -> convolution -> norm -> noise -> activation -> gain -> clamp -> dropout, each if asked for; one alone comes bare.
--- The padding keeps the size. A stride below 1 enlarges first (0.5: twice the size); so that no pixel is lost, a 1x1
--- kernel with a stride averages first. The bias is left out where the norm has one. A blur pads for a convolution that does
--- not.
---@param nc1 integer channels in; conv(nc2, options) infers them
---@param nc2? integer channels out
---@param k? integer kernel size, 3
---@param options? {k: integer, stride: number, actv: string, norm: string, gain: number, clamp: number, noise: boolean}
--- also {blur: boolean, dropout: number, bias: boolean, scale_w: boolean, lr_mul: number, groups: integer, padtype: string};
--- transposed: enlarge by a transposed convolution; noise: a number is a fixed strength
---@return aijit.nn.Module
---@overload fun(nc2: integer, options?: table): aijit.nn.Module
function conv.conv(...)
  local o = declared:read({}, ...)
  local nc1, nc2, k = o.nc1, o.nc2, o.k
  if o.stride > 1 and o.stride % 1 ~= 0 then argument.check("conv", "stride", "count", o.stride) end
  local norm, idle_bias = name.norm(o.norm, 2, nc2)
  local first = o.stride < 1 or (k == 1 and o.stride ~= 1)
  local args = {in_channels = nc1, out_channels = nc2, kernel_size = k, stride = first and 1 or o.stride,
                padding = o.blur and 0 or math.floor((k - 1) / 2), groups = o.groups,
                bias = o.bias and not idle_bias, padding_mode = o.padtype}
  local layer
  if o.transposed then
    if o.stride >= 1 or o.scale_w or o.lr_mul or o.blur or o.padtype ~= "zeros" then
      raise "conv: transposed goes with a stride below 1, and without scale_w, lr_mul, blur and padtype"
    end
    local n = times(o.stride)
    args.stride, args.padding, args.padding_mode, first = n, math.max(0, math.ceil((k - n) / 2)), nil, false
    args.output_padding = n + 2 * args.padding - k
    if args.output_padding < 0 or args.output_padding >= n then raise(("conv: a kernel of %d does not enlarge %d times exactly"):format(k, n)) end
    layer = nn.ConvTranspose2d(args)
  elseif o.scale_w or o.lr_mul then
    args.scale_w, args.lr_mul = o.scale_w or false, o.lr_mul
    layer = EqualConv2d(args)
  else
    layer = nn.Conv2d(args)
  end
  local spare = 3 + k - 1                                      -- the blur's kernel has four taps
  return sequence.several{
    o.blur and nn.Blur{pad = {math.ceil(spare / 2), math.floor(spare / 2)}} or false,
    first and conv.resample(o.stride < 1 and times(o.stride) or 1 / o.stride) or false,
    layer,
    norm or false,
    o.noise and Noise(o.noise ~= true and {fixed = o.noise} or nil) or false,
    name.activation(o.actv) or false,
    o.gain and Gain(o.gain) or false,
    o.clamp and Clamp(o.clamp) or false,
    o.dropout and nn.Dropout(o.dropout) or false,
  }
end

return conv
