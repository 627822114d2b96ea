--- Normalisation: batch, instance, group, layer, root mean square.

local ai = require "aijit"
local init = require "aijit.nn.initial"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

local function affine(self, ...)
  self:parameter("weight", ...)
  self:parameter("bias", ...)
end

local function reset_affine(self)
  if self.weight then init.ones_(self.weight) end
  if self.bias then init.zeros_(self.bias) end
end

local function channels(self, x) self.num_features = x:size(2) end
local function channels_from(self, state) self.num_features = (state.weight or state.running_mean):size(1) end

local function running(self)
  self:buffer("running_mean", 0, {self.num_features})
  self:buffer("running_var", 1, {self.num_features})
  self:buffer("num_batches_tracked", 0, {}, "i64")
end

for n = 1, 3 do
  --- (N, C, *): each channel with the mean and variance of the batch in training, of all batches so far in evaluation
  --- (Ioffe and Szegedy, 2015). momentum "none": the plain mean of all batches.
  ---@class aijit.nn.BatchNorm: aijit.nn.Layer
  local BatchNorm = layer(("BatchNorm%dd"):format(n), "num_features? eps=1e-05 momentum=0.1 affine=true track_running_stats=true")
  nn[BatchNorm.__name] = BatchNorm

  BatchNorm.sizes, BatchNorm.sizes_from, BatchNorm.reset = channels, channels_from, reset_affine

  function BatchNorm:build()
    if self.affine then affine(self, self.num_features) end
    if self.track_running_stats then running(self) end
    self._options = {
      training = {training = true, momentum = self.momentum, eps = self.eps},
      running = {training = false, eps = self.eps},
    }
  end

  --- relu: and then a ReLU, in the same pass over memory.
  function BatchNorm:forward(x, relu)
    local options = self._options[self.track_running_stats and not self.training and "running" or "training"]
    options.relu = relu or false
    if not self.track_running_stats then return f.batch_norm(x, nil, nil, self.weight, self.bias, options) end
    if self.training then
      self.num_batches_tracked:add_(1)
      if self.momentum == "none" then options.momentum = 1 / self.num_batches_tracked:item() end
    end
    return f.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, options)
  end

  --- A Sequential hands a ReLU that follows to this forward.
  BatchNorm.takes_relu = BatchNorm.forward

  --- (N, C, *): each channel of each sample with its own mean and variance (Ulyanov and others, 2016).
  ---@class aijit.nn.InstanceNorm: aijit.nn.Layer
  local InstanceNorm = layer(("InstanceNorm%dd"):format(n), "num_features? eps=1e-05 momentum=0.1 affine=false track_running_stats=false")
  nn[InstanceNorm.__name] = InstanceNorm

  InstanceNorm.sizes, InstanceNorm.sizes_from, InstanceNorm.reset = channels, channels_from, reset_affine

  function InstanceNorm:build()
    if self.affine then affine(self, self.num_features) end
    if self.track_running_stats then running(self) end
    self._options = {
      training = {use_input_stats = true, momentum = self.momentum, eps = self.eps},
      running = {use_input_stats = false, eps = self.eps},
    }
  end

  --- With track_running_stats the means and variances of training are what evaluation uses.
  function InstanceNorm:forward(x)
    local tracks = self.track_running_stats
    local options = self._options[tracks and not self.training and "running" or "training"]
    if tracks and self.training then
      self.num_batches_tracked:add_(1)
      if self.momentum == "none" then options.momentum = 1 / self.num_batches_tracked:item() end
    end
    return f.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias, options)
  end
end

--- (N, C, *): groups of channels of each sample with their mean and variance (Wu and He, 2018).
---@class aijit.nn.GroupNorm: aijit.nn.Layer
local GroupNorm = layer("GroupNorm", "num_groups num_channels? eps=1e-05 affine=true")
nn.GroupNorm = GroupNorm

function GroupNorm:sizes(x) self.num_channels = x:size(2) end
function GroupNorm:sizes_from(state) self.num_channels = state.weight:size(1) end

function GroupNorm:build()
  if self.num_channels % self.num_groups ~= 0 then
    raise(("%s: %d groups do not divide %d channels"):format(self:summary(), self.num_groups, self.num_channels))
  end
  if self.affine then affine(self, self.num_channels) end
  self._options = {eps = self.eps}
end

GroupNorm.reset = reset_affine
function GroupNorm:forward(x) return f.group_norm(x, self.num_groups, self.weight, self.bias, self._options) end

local function trailing(self, x) self.normalized_shape = {x:size(-1)} end
local function trailing_from(self, state) self.normalized_shape = {unpack(state.weight.shape)} end
local function trailing_list(self)
  if type(self.normalized_shape) == "number" then self.normalized_shape = {self.normalized_shape} end
end

--- The trailing dimensions of each sample with their mean and variance (Ba and others, 2016); the last one when no shape
--- is given.
---@class aijit.nn.LayerNorm: aijit.nn.Layer
local LayerNorm = layer("LayerNorm", "normalized_shape? eps=1e-05 elementwise_affine=true bias=true num_normalize_dim=1")
nn.LayerNorm = LayerNorm

LayerNorm.sizes_from, LayerNorm.check = trailing_from, trailing_list
LayerNorm.argument_rules = {num_normalize_dim = "count"}

--- num_normalize_dim: so many trailing dimensions, where no shape is given.
function LayerNorm:sizes(x)
  local n, shape = self.num_normalize_dim, {}
  if n > x:dim() then
    raise(("LayerNorm: the input is (%s), of which the last %d dimensions are wanted"):format(table.concat(x.shape, ", "), n))
  end
  for i = 1, n do shape[i] = x:size(i - n - 1) end
  self.normalized_shape = shape
end

function LayerNorm:build()
  local shape = self.normalized_shape
  if self.elementwise_affine then self:parameter("weight", unpack(shape)) end
  self.bias = self.bias and self.elementwise_affine and self:parameter("bias", unpack(shape)) or nil
  self._options = {eps = self.eps}
end

LayerNorm.reset = reset_affine
function LayerNorm:forward(x) return f.layer_norm(x, self.normalized_shape, self.weight, self.bias, self._options) end

--- Layer norm over the channels at each place, (N, C, *).
---@class aijit.nn.ConvLayerNorm: aijit.nn.Layer
local ConvLayerNorm = layer("ConvLayerNorm", "num_channels? eps=1e-05 affine=true")
nn.ConvLayerNorm = ConvLayerNorm

ConvLayerNorm.sizes, ConvLayerNorm.sizes_from, ConvLayerNorm.reset = GroupNorm.sizes, GroupNorm.sizes_from, reset_affine

function ConvLayerNorm:build()
  if self.affine then affine(self, self.num_channels) end
  self._options = {eps = self.eps}
end

function ConvLayerNorm:forward(x)
  return f.transpose(f.layer_norm(f.transpose(x, 2, -1), {self.num_channels}, self.weight, self.bias, self._options), 2, -1)
end

--- Each channel over a power of the squares of `size` channels around it (Krizhevsky and others, 2012): (N, C, *).
local LocalResponseNorm = layer("LocalResponseNorm", "size alpha=0.0001 beta=0.75 k=1")
nn.LocalResponseNorm = LocalResponseNorm
LocalResponseNorm.argument_rules = {size = "count"}
function LocalResponseNorm:build() self._options = {alpha = self.alpha, beta = self.beta, k = self.k} end
function LocalResponseNorm:forward(x) return f.local_response_norm(x, self.size, self._options) end

--- The same for images, (N, C, H, W), with the window of AlexNet's code: of an even `size` one channel fewer counts.
--- PyTorch's class keeps the first channel in the sums of all that follow the first few; here it leaves with its window.
local CrossMapLRN2d = layer("CrossMapLRN2d", "size alpha=0.0001 beta=0.75 k=1")
nn.CrossMapLRN2d = CrossMapLRN2d
CrossMapLRN2d.argument_rules = {size = "count"}

function CrossMapLRN2d:build()
  self._window = 2 * math.floor((self.size + 1) / 2) - 1
  self._options = {alpha = self.alpha * self._window / self.size, beta = self.beta, k = self.k}
end

function CrossMapLRN2d:forward(x)
  if x:dim() ~= 4 then raise(("CrossMapLRN2d: the input is (%s); (N, C, H, W) is wanted"):format(table.concat(x.shape, ", "))) end
  return f.local_response_norm(x, self._window, self._options)
end

--- Over the last dimension, (..., features): running means and variances, which each batch of training moves by 1 - momentum
--- before they are used, so that training and evaluation compute the same.
---@class aijit.nn.LastBatchNorm: aijit.nn.Layer
local LastBatchNorm = layer("LastBatchNorm", "channels? momentum=0.99 affine=true eps=0.0001")
nn.LastBatchNorm = LastBatchNorm

LastBatchNorm.reset = reset_affine
function LastBatchNorm:sizes(x) self.channels = x:size(-1) end
function LastBatchNorm:sizes_from(state) self.channels = state.mean:size(1) end

function LastBatchNorm:build()
  self:buffer("mean", 0, {self.channels})
  self:buffer("var", 1, {self.channels})
  if self.affine then affine(self, self.channels) end
end

LastBatchNorm.argument_rules = {momentum = "probability"}

function LastBatchNorm:forward(x)
  if x:size(-1) ~= self.channels then
    raise(("%s: the input is (%s), and %d features are wanted"):format(self:title(), table.concat(x.shape, ", "), self.channels))
  end
  local mean, var = self.mean, self.var
  if self.training then
    if x:numel() == 0 then raise(("%s: a batch of (%s) has no mean to learn from"):format(self:title(), table.concat(x.shape, ", "))) end
    local rows, share = x:reshape(-1, self.channels), 1 - self.momentum
    local center = rows:mean{1}
    mean = mean * self.momentum + center * share
    var = var * self.momentum + (rows - center):square():mean{1} * share
    ai.no_grad(function()
      self.mean:copy_(mean)
      self.var:copy_(var)
    end)
  end
  local y = (x - mean) * f.rsqrt(var + self.eps)
  if self.affine then y = y * self.weight + self.bias end
  return y
end

--- x / sqrt(mean(x^2) + eps) over the trailing dimensions (Zhang and Sennrich, 2019); eps is that of the dtype unless given.
---@class aijit.nn.RMSNorm: aijit.nn.Layer
local RMSNorm = layer("RMSNorm", "normalized_shape? eps=none elementwise_affine=true")
nn.RMSNorm = RMSNorm

RMSNorm.sizes, RMSNorm.sizes_from, RMSNorm.check = trailing, trailing_from, trailing_list

function RMSNorm:build()
  if self.elementwise_affine then self:parameter("weight", unpack(self.normalized_shape)) end
  self._options = {eps = self.eps}
end

RMSNorm.reset = reset_affine
function RMSNorm:forward(x) return f.rms_norm(x, self.normalized_shape, self.weight, self._options) end

return nn
