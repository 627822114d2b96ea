--- Layers that act in training only: dropout in its kinds, noise.

local ai = require "aijit"
local argument = require "aijit.argument"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- class, op. Dropout zeroes each element with probability p and divides the rest by 1 - p (Srivastava and others, 2014);
--- Dropout1d to 3d whole channels of (N, C, *) (Tompson and others, 2015); AlphaDropout goes with selu (Klambauer and
--- others, 2017).
local rows = {
  {"Dropout", "dropout"},
  {"Dropout1d", "dropout1d"},
  {"Dropout2d", "dropout2d"},
  {"Dropout3d", "dropout3d"},
  {"AlphaDropout", "alpha_dropout"},
}

for _, row in ipairs(rows) do
  local name, op = row[1], row[2]
  local Dropout = layer(name, "p=0.5 inplace=false")
  nn[name] = Dropout

  Dropout.argument_rules = {p = "probability"}

  function Dropout:build()
    self._options = {p = self.p, training = true}
  end

  function Dropout:forward(x)
    if not self.training or self.p == 0 then return x end
    local y = f[op](x, self._options)
    return self.inplace and x:copy_(y) or y
  end
end

--- AlphaDropout of whole channels, (N, C, *): those that are dropped get the value that selu tends to far below 0, and then all are
--- scaled and shifted so that mean and variance stay.
local FeatureAlphaDropout = layer("FeatureAlphaDropout", "p=0.5 inplace=false")
nn.FeatureAlphaDropout = FeatureAlphaDropout
FeatureAlphaDropout.argument_rules = {p = "part"}

local far_below = -1.0507009873554805 * 1.6732632423543772

function FeatureAlphaDropout:forward(x)
  local p = self.p
  if not self.training or p == 0 then return x end
  if x:dim() < 2 then raise(("FeatureAlphaDropout: the input is (%s); (N, C, *) is wanted"):format(table.concat(x.shape, ", "))) end
  local shape = {x:size(1), x:size(2)}
  for i = 3, x:dim() do shape[i] = 1 end
  local a = ((1 - p) * (1 + p * far_below ^ 2)) ^ -0.5
  local kept = ai.empty(shape, {dtype = x.dtype, device = x.device}):bernoulli_(1 - p)
  local y = x * (kept * a) + (1 - kept) * (a * far_below) - a * far_below * p
  return self.inplace and x:copy_(y) or y
end

local drop_path = argument.declare("nn.drop_path", "x p:part training=true scale_by_keep=true")

--- Whole samples of x, (N, *), become 0 with probability p, for residual branches; the others are divided by 1 - p, unless
--- scale_by_keep is false (Huang and others, 2016).
---@param x aijit.Tensor
---@param p number from 0 to below 1
---@param options? {training: boolean, scale_by_keep: boolean} true, true; not in training x is handed on
---@return aijit.Tensor
function nn.drop_path(x, p, options)
  local o = drop_path:options(options, x, p)
  if not o.training or p == 0 then return x end
  if x:dim() == 0 then raise "drop_path: the input has no dimensions; samples, (N, *), are wanted" end
  local shape = {x:size(1)}
  for i = 2, x:dim() do shape[i] = 1 end
  local kept = ai.empty(shape, {dtype = x.dtype, device = x.device}):bernoulli_(1 - p)
  return x * (o.scale_by_keep and kept / (1 - p) or kept)
end

--- nn.drop_path in training, nothing in evaluation.
local DropPath = layer("DropPath", "p=0.1 scale_by_keep=true")
nn.DropPath = DropPath
DropPath.argument_rules = {p = "part"}

function DropPath:forward(x)
  return nn.drop_path(x, self.p, {training = self.training, scale_by_keep = self.scale_by_keep})
end

--- x times normal numbers of mean 1 and variance p / (1 - p) (Srivastava and others, 2014).
local GaussianDropout = layer("GaussianDropout", "p=0.5")
nn.GaussianDropout = GaussianDropout
GaussianDropout.argument_rules = {p = "part"}

function GaussianDropout:forward(x)
  if not self.training or self.p == 0 then return x end
  return x * ai.empty(x.shape, {dtype = x.dtype, device = x.device}):normal_(1, math.sqrt(self.p / (1 - self.p)))
end

--- x plus normal numbers of a standard deviation.
local GaussianNoise = layer("GaussianNoise", "std=0.1")
nn.GaussianNoise = GaussianNoise

function GaussianNoise:forward(x)
  if not self.training or self.std == 0 then return x end
  return x + ai.empty(x.shape, {dtype = x.dtype, device = x.device}):normal_(0, self.std)
end

return nn
