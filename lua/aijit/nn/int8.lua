--- Inference in eight bits: nn.quantize(model, batches) gives a model whose linear and convolution layers multiply whole
--- numbers of eight bits. Weights have a scale for each output (the largest is 127), inputs one scale for a layer, found by
--- running `batches`. Layers that follow each other hand eight bits on, images as N x H x W x C; all other layers see floats
--- as before. (Jacob and others, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
--- Inference", 2018; without zero points: inputs that are never negative use 0 to 255, others -127 to 127.)

local ai = require "aijit"
local layer = require "aijit.nn.layer".layer
local registry = require "aijit.nn.registry"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

local function buffers(self, outputs, ...)
  self:buffer("weight", 0, {outputs, ...}, "i8")
  self:buffer("scale", 1, {outputs}, "f32")
  self:buffer("bias", 0, {outputs}, "f32")
end

--- y = scale * (x W^T) + bias of whole numbers: (..., in_features) -> (..., out_features). x is u8 or i8, or floats, which
-- are quantized by input_scale. With an output_scale the result is too: u8 with relu, else i8.
---@class aijit.nn.QuantizedLinear: aijit.nn.Layer
---@field weight aijit.Tensor  i8 (out_features, in_features)
---@field scale aijit.Tensor   (out_features)
---@field bias aijit.Tensor    (out_features)
local QuantizedLinear = layer("QuantizedLinear", "in_features out_features input_scale=1 input_signed=true relu=false output_scale=0")
nn.QuantizedLinear = QuantizedLinear

function QuantizedLinear:build() buffers(self, self.out_features, self.in_features) end

function QuantizedLinear:forward(x)
  if x:is_floating_point() then x = f.quantize(x, self.input_scale, self.input_signed) end
  return f.quantized_linear(x, self.weight, self.scale, self.bias, self.relu, self.output_scale)
end

--- A convolution of whole numbers, with ReLU and max pooling (windows side by side) after it: floats (N, in, H, W), which are
-- quantized by input_scale, or u8 or i8 (N, H, W, in) -> floats (N, out, H', W'), or with an output_scale (N, H', W', out)
-- of u8 with relu, else i8.
---@class aijit.nn.QuantizedConv2d: aijit.nn.Layer
---@field weight aijit.Tensor  i8 (out_channels, in_channels / groups, kernel, kernel)
---@field scale aijit.Tensor   (out_channels)
---@field bias aijit.Tensor    (out_channels)
local QuantizedConv2d = layer("QuantizedConv2d",
  "in_channels out_channels kernel_size stride=1 padding=0 dilation=1 groups=1 input_scale=1 input_signed=true relu=false output_scale=0 pool=1")
nn.QuantizedConv2d = QuantizedConv2d

function QuantizedConv2d:build()
  local k = self.kernel_size
  buffers(self, self.out_channels, self.in_channels / self.groups, type(k) == "table" and k[1] or k, type(k) == "table" and k[2] or k)
  self._options = {stride = self.stride, padding = self.padding, dilation = self.dilation, groups = self.groups,
                   relu = self.relu, out_scale = self.output_scale, pool = self.pool}
end

function QuantizedConv2d:forward(x)
  if x:is_floating_point() then x = f.quantize(x, self.input_scale, self.input_signed):permute(1, 3, 4, 2) end
  local y = f.quantized_conv2d(x, self.weight, self.scale, self.bias, self._options)
  return self.output_scale > 0 and y or y:permute(1, 4, 2, 3)
end

-- -- From floats to eight bits -----------------------------------------------------------------------------------------------

local function is(module, name) return getmetatable(module).__name == name end

--- A convolution that QuantizedConv2d can do, or a linear layer.
local function is_product(module)
  return is(module, "Linear") or is(module, "Conv2d") and module.padding_mode == "zeros" and type(module.padding) ~= "string"
end

local function is_plain_pool(module)
  return is(module, "MaxPool2d") and type(module.kernel_size) == "number" and (module.stride or module.kernel_size) == module.kernel_size
    and module.padding == 0 and module.dilation == 1 and not module.ceil_mode and not module.return_indices
end

--- Weight and bias with the batch norm behind them taken in, in floats.
local function folded(product, norm)
  local w = product.weight:detach():float()
  local b = product.bias and product.bias:detach():float() or ai.zeros(w:size(1))
  if not norm then return w, b end
  local factor = (norm.running_var + norm.eps):rsqrt()
  if norm.weight then factor = factor * norm.weight:detach() end
  b = (b - norm.running_mean) * factor
  if norm.bias then b = b + norm.bias:detach() end
  local each = {w:size(1)}
  for i = 2, w:dim() do each[i] = 1 end
  return w * factor:reshape(each), b
end

--- The scale of an input and whether it is signed, from what was seen of it, or from the layer before it.
local function scale_of(seen, signed)
  if signed == nil then signed = seen.least < 0 end
  local most = signed and math.max(seen.most, -seen.least) or seen.most
  return math.max(most, 1e-12) / (signed and 127 or 255), signed
end

--- The eight-bit layer of a run of layers: product, norm?, relu?, pool?; next: the run that takes its result, if one does.
local function make(run, seen, next)
  local product = run.product
  local w, b = folded(product, run.norm)
  if run.channels then                                   -- behind a Flatten of N x H x W x C: columns in that order
    local c, h, wide = unpack(run.channels)
    w = w:reshape(-1, c, h, wide):permute(1, 3, 4, 2):reshape(w:size(1), -1)
  end
  local input_scale, signed = scale_of(seen[run.product], run.signed)
  local over = {}
  for d = 2, w:dim() do over[#over + 1] = d end
  local own = w:abs():amax(over):clamp(1e-12) / 127
  local each = {w:size(1)}
  for i = 2, w:dim() do each[i] = 1 end
  local o = {input_scale = input_scale, input_signed = signed, relu = run.relu ~= nil,
             output_scale = next and scale_of(seen[next.product], next.signed) or 0}
  local q
  if is(product, "Linear") then q = QuantizedLinear(product.in_features, product.out_features, o)
  else
    o.stride, o.padding, o.dilation, o.groups = product.stride, product.padding, product.dilation, product.groups
    o.pool = run.pool and run.pool.kernel_size or 1
    q = QuantizedConv2d(product.in_channels, product.out_channels, product.kernel_size, o)
  end
  q.weight:copy_((w / own:reshape(each)):round())
  q.scale:copy_(own * input_scale)
  q.bias:copy_(b)
  return q
end

--- The layers from place i on that become one; and the place after them.
local function run_at(list, i)
  local run = {product = list[i]}
  i = i + 1
  local function take(field, fits)
    if list[i] and fits(list[i]) then run[field] = list[i] i = i + 1 end
  end
  local norm = is(run.product, "Conv2d") and "BatchNorm2d" or "BatchNorm1d"
  take("norm", function(m) return is(m, norm) and m.track_running_stats end)
  take("relu", function(m) return is(m, "ReLU") end)
  if norm == "BatchNorm2d" then take("pool", is_plain_pool) end
  return run, i
end

--- The run that takes the result of the kth part as eight bits: the next one if it is of the same kind, or a linear one behind
--- a Flatten of images.
local function taker(parts, k, seen)
  local kind, next, third = getmetatable(parts[k].product), parts[k + 1], parts[k + 2]
  if next and next.product then return getmetatable(next.product) == kind and next or nil end
  if not (next and third and third.product and kind.__name == "Conv2d" and is(third.product, "Linear")) then return nil end
  if not (is(next, "Flatten") and seen[next]) then return nil end
  third.channels = seen[next].channels
  return third
end

local quantized

--- A Sequential: runs become layers of eight bits that hand eight bits on where the next run takes them.
local function quantized_list(list, seen)
  local parts, i = {}, 1
  while i <= #list do
    if is_product(list[i]) and seen[list[i]] then
      local run
      run, i = run_at(list, i)
      parts[#parts + 1] = run
    else
      if not is(list[i], "Dropout") and not is(list[i], "Identity") then parts[#parts + 1] = list[i] end
      i = i + 1
    end
  end
  local out = {}
  for k, part in ipairs(parts) do
    if not part.product then out[k] = quantized(part, seen)
    else
      local next = taker(parts, k, seen)
      if next then next.signed = not part.relu end       -- its result is u8 or i8, and the next layer takes either
      out[k] = make(part, seen, next)
    end
  end
  return getmetatable(list)(out)
end

--- A module with its products of eight bits, wherever they stand in it.
function quantized(module, seen)
  if is(module, "Sequential") then return quantized_list(module, seen) end
  if is_product(module) and seen[module] then return make({product = module}, seen) end
  for _, slot in ipairs(module:slots "module") do
    local with = quantized(slot.value, seen)
    if with ~= slot.value then                           -- [1], .field or .field[1]
      local field, place = slot.index:match "^%.?([^%[]*)%[?(%d*)"
      if place == "" then module[field] = with
      elseif field == "" then module[tonumber(place)] = with
      else module[field][tonumber(place)] = with end
    end
  end
  return module
end

--- A copy of the model for inference whose Linear and Conv2d layers are of eight bits; batch norms behind them are taken in,
--- and the ReLU and the max pooling (windows side by side) that follow in a Sequential. Layers that the batches do not reach
--- stay as they are.
---@param model aijit.nn.Module  built; it is not changed
---@param batches aijit.Tensor[]|fun(): aijit.Tensor  inputs like those to come, a few hundred samples: a list, or an iterator such as a loader
---@return aijit.nn.Module quantized  in evaluation
function nn.quantize(model, batches)
  if not registry.is_module(model) then raise(("nn.quantize: a module is wanted, got a %s"):format(type(model))) end
  local copy = model:clone():eval()
  local seen, removers = {}, {}
  for _, module in ipairs(copy:modules()) do
    if is_product(module) then
      removers[#removers + 1] = module:register_forward_pre_hook(function(self, x)
        local s = seen[self] or {least = math.huge, most = -math.huge}
        seen[self] = s
        local least, most = x:min():item(), x:max():item()
        if not (least > -math.huge and most < math.huge) then raise(("nn.quantize: an input of %s is NaN or infinite"):format(self:summary())) end
        s.least, s.most = math.min(s.least, least), math.max(s.most, most)
      end)
    elseif is(module, "Flatten") then
      removers[#removers + 1] = module:register_forward_pre_hook(function(self, x)
        if x:dim() == 4 and self.start_dim == 2 and self.end_dim == -1 then seen[self] = {channels = {x:size(2), x:size(3), x:size(4)}} end
      end)
    end
  end
  local n = 0
  local function run(x)
    ai.scope(ai.no_grad, copy, x)
    n = n + 1
  end
  if type(batches) == "table" and getmetatable(batches) == nil then
    for _, x in ipairs(batches) do run(x) end
  else
    for x in batches do run(x) end
  end
  for _, remove in ipairs(removers) do remove() end
  if n == 0 then raise "nn.quantize: there is no batch to find the ranges of inputs by" end
  return ai.no_grad(quantized, copy, seen)
end

return nn
