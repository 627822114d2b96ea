--- Activations: one line of the table each. The op does the work; the layer keeps its options.

local ai = require "aijit"
local init = require "aijit.nn.initial"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- class, op, options. All take {inplace = true}.
local elementwise = {
  {"ReLU", "relu"},
  {"ReLU6", "relu6"},
  {"LeakyReLU", "leaky_relu", "negative_slope=0.01"},
  {"ELU", "elu", "alpha=1"},
  {"CELU", "celu", "alpha=1"},
  {"SELU", "selu"},
  {"GELUTanh", "gelu_tanh"},
  {"SiLU", "silu"},
  {"Mish", "mish"},
  {"Sigmoid", "sigmoid"},
  {"LogSigmoid", "log_sigmoid"},
  {"Tanh", "tanh"},
  {"Softplus", "softplus", "beta=1 threshold=20"},
  {"Softsign", "softsign"},
  {"Softshrink", "softshrink", "lambda=0.5"},
  {"Hardshrink", "hardshrink", "lambda=0.5"},
  {"Hardsigmoid", "hardsigmoid"},
  {"Hardswish", "hardswish"},
  {"Hardtanh", "hardtanh", "min=-1 max=1"},
  {"Tanhshrink", "tanhshrink"},
}

for _, row in ipairs(elementwise) do
  local name, op, options = row[1], row[2], row[3]
  local Activation = layer(name, (options and options .. " " or "") .. "inplace=false")
  nn[name] = Activation

  function Activation:build()
    self._op = self.inplace and op .. "_" or op
    if not options then return end
    self._options = {}
    for _, argument in ipairs(Activation.arguments) do
      if argument.name ~= "inplace" then self._options[argument.name] = self[argument.name] end
    end
  end

  if options then
    function Activation:forward(x) return f[self._op](x, self._options) end
  else
    function Activation:forward(x) return f[self._op](x) end
  end
end

--- x times the normal distribution function of x; approximate "tanh" is quicker (Hendrycks and Gimpel, 2016).
local GELU = layer("GELU", "approximate=exact")
nn.GELU = GELU
function GELU:forward(x)
  if self.approximate == "tanh" then return f.gelu_tanh(x) end
  return f.gelu(x)
end

--- x where above threshold, else value.
local Threshold = layer("Threshold", "threshold value inplace=false")
nn.Threshold = Threshold
function Threshold:forward(x)
  return f[self.inplace and "threshold_" or "threshold"](x, self.threshold, self.value)
end

--- Over one dimension, the last by default.
for name, op in pairs{Softmax = "softmax", LogSoftmax = "log_softmax", Softmin = "softmin"} do
  local Over = layer(name, "dim=-1")
  nn[name] = Over
  function Over:forward(x) return f[op](x, self.dim) end
end

--- Half of the channels gates the other half: a * sigmoid(b) (Dauphin and others, 2017).
local GLU = layer("GLU", "dim=-1")
nn.GLU = GLU
function GLU:forward(x) return f.glu(x, {dim = self.dim}) end

--- x where positive, else weight * x; one weight, or one a channel (dimension 2). num_parameters "channels" infers how many.
---@class aijit.nn.PReLU: aijit.nn.Layer
local PReLU = layer("PReLU", "num_parameters@slopes=1 init@first=0.25")
nn.PReLU = PReLU

function PReLU:waits() return self.slopes == "channels" end
function PReLU:sizes(x) self.slopes = x:size(2) end
function PReLU:sizes_from(state) self.slopes = state.weight:size(1) end
function PReLU:build() self:parameter("weight", self.slopes) end
function PReLU:reset() init.constant_(self.weight, self.first) end

function PReLU:forward(x) return f.prelu(x, self.weight) end

--- x where positive, else x times a slope: a new one between lower and upper for each element in training, their mean in
--- evaluation (Xu and others, 2015).
local RReLU = layer("RReLU", "lower=0.125 upper=0.3333333333333333 inplace=false")
nn.RReLU = RReLU

function RReLU:check()
  if self.lower > self.upper then raise(("RReLU: lower is %g, above upper, which is %g"):format(self.lower, self.upper)) end
end

function RReLU:forward(x)
  local slope = (self.lower + self.upper) / 2
  if not self.training then return f[self.inplace and "leaky_relu_" or "leaky_relu"](x, {negative_slope = slope}) end
  slope = ai.empty(x.shape, {dtype = x.dtype, device = x.device}):uniform_(self.lower, self.upper)
  local y = f.where(x:ge(0), x, x * slope)
  return self.inplace and x:copy_(y) or y
end

--- Softmax over the channels at each place of an image, (N, C, H, W) or (C, H, W).
local Softmax2d = layer("Softmax2d", "")
nn.Softmax2d = Softmax2d
function Softmax2d:forward(x)
  if x:dim() ~= 3 and x:dim() ~= 4 then
    raise(("Softmax2d: the input is (%s); (N, C, H, W) or (C, H, W) is wanted"):format(table.concat(x.shape, ", ")))
  end
  return f.softmax(x, -3)
end

--- x between -limit and limit.
local Clamp = layer("Clamp", "limit inplace=false")
nn.Clamp = Clamp
Clamp.argument_rules = {limit = "positive"}
function Clamp:forward(x) return f[self.inplace and "clamp_" or "clamp"](x, -self.limit, self.limit) end

--- relu(x)^2 (So and others, 2021).
local ReLUSquared = layer("ReLUSquared", "inplace=false")
nn.ReLUSquared = ReLUSquared
function ReLUSquared:forward(x) return self.inplace and x:relu_():square_() or f.square(f.relu(x)) end

--- x sigmoid(1.702 x), close to gelu (Hendrycks and Gimpel, 2016).
local QuickGELU = layer("QuickGELU", "")
nn.QuickGELU = QuickGELU
function QuickGELU:forward(x) return x * f.sigmoid(x * 1.702) end

--- The normal distribution function of mean mu and deviation sigma, close to the square of relu within attention (Ma and
--- others, 2022).
local Laplace = layer("Laplace", "mu=0.707107 sigma=0.282095")
nn.Laplace = Laplace
function Laplace:forward(x) return (f.erf((x - self.mu) * (1 / (self.sigma * math.sqrt(2)))) + 1) * 0.5 end

return nn
