--- m.modconv: convolutions that a vector z directs, y = block(x, z): by AdaLIN, or by StyleGAN2's weight modulation.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local conv = require "aijit.model.conv"
local linear = require "aijit.model.linear"
local name = require "aijit.model.name"
local norm = require "aijit.model.norm"
local sequence = require "aijit.model.sequence"
local raise = require("aijit.bindings.lib").raise

local nn, f = ai.nn, ai.f
local init = nn.init
local modulate = {}

--- A convolution whose input channels are scaled by a style, s = fc(z), and whose output channels are then brought back to
--- a variance of 1 (Karras and others, 2020): with w' = w s, y = conv(x, w') / sqrt(sum of w'^2 + eps). The scales stand
--- outside the convolution, so that all samples share one. Weight and styles are first divided by their largest element,
--- which changes nothing but keeps 16-bit numbers in range. stride 0.5: transposed, then blurred, twice the size; 2: blurred
--- first.
---@class aijit.model.ModulatedConv2d: aijit.nn.Layer
---@field weight aijit.Tensor (out, in, k, k), N(0, 1)
---@field bias aijit.Tensor (out)
---@field style aijit.nn.Module z_dim -> in, its bias 1 at first
local ModulatedConv2d = nn.layer("ModulatedConv2d", "in_channels out_channels z_dim kernel_size=3 stride=1 demodulate=true bias=true eps=1e-08")
modulate.ModulatedConv2d = ModulatedConv2d
ModulatedConv2d.argument_rules = {stride = "positive"}

function ModulatedConv2d:check()
  if self.stride ~= 1 and self.stride ~= 2 and self.stride ~= 0.5 then
    raise(("%s: stride is 0.5, 1 or 2"):format(self:title()))
  end
  if type(self.kernel_size) ~= "number" or self.kernel_size % 2 ~= 1 then raise(("%s: the kernel's size is odd"):format(self:title())) end
end

function ModulatedConv2d:build()
  local k, where = self.kernel_size, {dtype = self._where.dtype, device = self._where.device}
  self:parameter("weight", self.out_channels, self.in_channels, k, k)
  self.bias = self.bias and self:parameter("bias", self.out_channels) or nil
  self.style = linear.EqualLinear{in_features = self.z_dim, out_features = self.in_channels, bias_init = 1, dtype = where.dtype, device = where.device}
  if self.stride == 0.5 then
    -- A transposed convolution gives 2 size + k - 2; the blur takes 3 more.
    local spare = 3 + 2 - k
    self.blur = nn.Blur{pad = {math.ceil(spare / 2), math.floor(spare / 2)}, gain = 4, dtype = where.dtype, device = where.device}
  elseif self.stride == 2 then
    local spare = 3 + k - 2
    self.blur = nn.Blur{pad = {math.ceil(spare / 2), math.floor(spare / 2)}, dtype = where.dtype, device = where.device}
  end
end

function ModulatedConv2d:reset()
  init.normal_(self.weight)
  if self.bias then init.zeros_(self.bias) end
end

ModulatedConv2d.init_params = ModulatedConv2d.reset

local function channels(s) return f.unsqueeze(f.unsqueeze(s, -1), -1) end

function ModulatedConv2d:forward(x, z)
  if not ai.is_tensor(z) or z:dim() ~= 2 or z:size(1) ~= x:size(1) or z:size(2) ~= self.z_dim then
    raise(("%s: the second input is %s; z, (%d, %d), is wanted"):format(self:title(),
      ai.is_tensor(z) and "(" .. table.concat(z.shape, ", ") .. ")" or "a " .. type(z), x:size(1), self.z_dim))
  end
  local w, s = self.weight, self.style(z)
  if self.demodulate then
    w = w / (w:abs():amax({2, 3, 4}, {keepdim = true}) * math.sqrt((init.fans(w))))
    s = s / s:abs():amax({2}, {keepdim = true})
  else
    w = w / math.sqrt((init.fans(w)))
  end
  local d
  if self.demodulate then d = (f.matmul(s:square(), w:square():sum{3, 4}:t()) + self.eps):rsqrt() end
  x = x * channels(s)
  if self.stride == 0.5 then x = self.blur(f.conv_transpose2d(x, f.transpose(w, 1, 2), nil, {stride = 2}))
  elseif self.stride == 2 then x = f.conv2d(self.blur(x), w, nil, {stride = 2})
  else x = f.conv2d(x, w, nil, {padding = (self.kernel_size - 1) / 2}) end
  if d then x = x * channels(d) end
  return self.bias and x + channels(self.bias) or x
end

--- A first part that takes z, then one that does not.
---@class aijit.model.Modulated: aijit.nn.Module
local Modulated = class("Modulated", nn.Module)
nn.register(Modulated)

function Modulated:__init(conv_part, norm_part, rest)
  self.conv, self.norm, self.rest = conv_part, norm_part, rest
end

function Modulated:forward(x, z)
  if self.norm then x = self.norm(self.conv(x), z) else x = self.conv(x, z) end
  return self.rest(x)
end

local arguments = [[
  nc1 nc2 z_dim modtype:adalin|weight=adalin k:count=3 stride:positive=1 actv:actv=mish noise:noise=none gain:finite=none clamp:positive=none
  blur:flag=none scale_w:flag=none lr_mul:positive=none padtype=zeros demodulate=true]]
local conv_arguments = argument.declare("m.modconv", arguments)
local block_arguments = argument.declare("m.modresblk", arguments)

local function modulated(o)
  local rest = sequence.several{
    o.noise and conv.Noise(o.noise ~= true and {fixed = o.noise} or nil) or false, name.activation(o.actv) or false, o.gain and conv.Gain(o.gain) or false,
    o.clamp and conv.Clamp(o.clamp) or false,
  }
  if o.modtype == "weight" then
    for _, key in ipairs{"blur", "scale_w", "lr_mul"} do
      if o[key] then raise(("modconv: %s goes with modtype \"adalin\" only"):format(key)) end
    end
    return Modulated(ModulatedConv2d(o.nc1, o.nc2, o.z_dim, {kernel_size = o.k, stride = o.stride, demodulate = o.demodulate}), nil, rest)
  end
  local plain = conv.conv(o.nc1, o.nc2, o.k, {stride = o.stride, bias = false, blur = o.blur, scale_w = o.scale_w, lr_mul = o.lr_mul,
                                          padtype = o.padtype})
  return Modulated(plain, norm.AdaLIN(o.nc2, o.z_dim), rest)
end

--- y = modconv(x, z): (N, nc1, H, W), (N, z_dim) -> (N, nc2, H', W'). modtype "adalin": convolution without bias -> AdaLIN(z);
--- "weight": StyleGAN2's modulated convolution; then noise -> activation -> gain -> clamp.
---@param nc1 integer
---@param nc2 integer
---@param z_dim integer
---@param options? {modtype: "adalin"|"weight", k: integer, stride: number, actv: string, noise: boolean, gain: number, clamp: number}
--- also {demodulate: boolean} of "weight"; {blur: boolean, scale_w: boolean, lr_mul: number, padtype: string} of "adalin"
---@return aijit.model.Modulated
function modulate.modconv(nc1, nc2, z_dim, options)
  return modulated(conv_arguments:read({}, nc1, nc2, z_dim, options))
end

--- x plus two modulated convolutions of it.
---@class aijit.model.ModulatedResidual: aijit.nn.Module
local ModulatedResidual = class("ModulatedResidual", nn.Module)
nn.register(ModulatedResidual)
ModulatedResidual.declaration = block_arguments

function ModulatedResidual:__init(...)
  local o = block_arguments:read({}, ...)
  local nc1, nc2, stride = o.nc1, o.nc2, o.stride
  self.first = modulated(o)
  o.nc1, o.stride = nc2, 1
  self.second = modulated(o)
  if nc1 ~= nc2 or stride ~= 1 then self.shortcut = conv.conv(nc1, nc2, 1, {stride = stride}) end
end

function ModulatedResidual:forward(x, z)
  return self.second(self.first(x, z), z) + (self.shortcut and self.shortcut(x) or x)
end

---@param nc1 integer
---@param nc2 integer
---@param z_dim integer
---@param options? table as for modconv; the first convolution alone has the stride
---@return aijit.model.ModulatedResidual
function modulate.modresblk(nc1, nc2, z_dim, options)
  return ModulatedResidual(nc1, nc2, z_dim, options)
end

return modulate
