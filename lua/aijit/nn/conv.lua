--- Convolutions, and their transposes, of 1, 2 and 3 dimensions.

local ai = require "aijit"
local init = require "aijit.nn.initial"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- A size for each of n dimensions.
local function each(window, n)
  local list = {}
  for i = 1, n do list[i] = type(window) == "table" and (window[i] or window[1]) or window end
  return list
end

--- The shape of a weight: (a, b, kernel...).
local function weight_shape(a, b, kernel_size, n)
  return a, b, unpack(each(kernel_size, n))
end

local function check_groups(self)
  for _, name in ipairs{"in_channels", "out_channels"} do
    local size = self[name]
    if size and size % self.groups ~= 0 then
      raise(("%s: %s is %d, which %d groups do not divide"):format(self:summary(), name, size, self.groups))
    end
  end
end

--- "same": as much on both sides as keeps the size, for a stride of 1.
local function padding_of(self, n)
  if self.padding == "valid" then return 0 end
  if self.padding ~= "same" then return self.padding end
  local out, kernel, dilation, stride = {}, each(self.kernel_size, n), each(self.dilation, n), each(self.stride, n)
  for i = 1, n do
    local total = dilation[i] * (kernel[i] - 1)
    if stride[i] ~= 1 or total % 2 ~= 0 then
      raise(("%s: padding \"same\" wants a stride of 1 and an odd kernel"):format(self:summary()))
    end
    out[i] = total / 2
  end
  return out
end

--- What f.pad takes, from the last dimension backwards.
local function both_sides(padding, n)
  local list, sizes = {}, each(padding, n)
  for i = n, 1, -1 do
    list[#list + 1] = sizes[i]
    list[#list + 1] = sizes[i]
  end
  return list
end

for n = 1, 3 do
  local op, transposed = ("conv%dd"):format(n), ("conv_transpose%dd"):format(n)

  --- Cross-correlation: (N, in, *size) -> (N, out, *size'),
  --- size' = floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
  --- weight (out, in / groups, *kernel), bias (out). Windows are a number, or one for each dimension; padding may be "same".
  --- padding_mode: "zeros", "reflect", "replicate" or "circular".
  ---@class aijit.nn.Conv: aijit.nn.Layer
  local Conv = layer(("Conv%dd"):format(n),
    "in_channels? out_channels kernel_size stride=1 padding=0 dilation=1 groups=1 bias=true padding_mode=zeros")
  nn[Conv.__name] = Conv

  Conv._check_groups = check_groups
  function Conv:sizes(x) self.in_channels = x:size(-n - 1) end
  function Conv:sizes_from(state) self.in_channels = state.weight:size(2) * self.groups end

  function Conv:build()
    check_groups(self)
    self:parameter("weight", weight_shape(self.out_channels, self.in_channels / self.groups, self.kernel_size, n))
    self.bias = self.bias and self:parameter("bias", self.out_channels) or nil
    local padding = padding_of(self, n)
    self._pad = self.padding_mode ~= "zeros" and both_sides(padding, n) or nil
    self._options = {stride = self.stride, padding = self._pad and 0 or padding, dilation = self.dilation, groups = self.groups}
  end

  function Conv:reset() init.default_(self.weight, self.bias) end
  function Conv:forward(x)
    if self._pad then x = f.pad(x, self._pad, self.padding_mode) end
    return f[op](x, self.weight, self.bias, self._options)
  end

  --- The gradient of Conv with respect to its input, as a layer:
  --- size' = (size - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1. weight (in, out / groups, *kernel).
  ---@class aijit.nn.ConvTranspose: aijit.nn.Layer
  local ConvTranspose = layer(("ConvTranspose%dd"):format(n),
    "in_channels? out_channels kernel_size stride=1 padding=0 output_padding=0 groups=1 bias=true dilation=1")
  nn[ConvTranspose.__name] = ConvTranspose

  ConvTranspose.sizes = Conv.sizes
  function ConvTranspose:sizes_from(state) self.in_channels = state.weight:size(1) end

  function ConvTranspose:build()
    check_groups(self)
    self:parameter("weight", weight_shape(self.in_channels, self.out_channels / self.groups, self.kernel_size, n))
    self.bias = self.bias and self:parameter("bias", self.out_channels) or nil
    self._options = {stride = self.stride, padding = self.padding, output_padding = self.output_padding,
                     groups = self.groups, dilation = self.dilation}
  end

  ConvTranspose.reset = Conv.reset
  function ConvTranspose:forward(x) return f[transposed](x, self.weight, self.bias, self._options) end
end

return nn
