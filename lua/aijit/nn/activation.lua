--- Activations: one line of the table each. The op does the work; the layer keeps its options.

local ai = require "aijit"
local init = require "aijit.nn.initial"
local layer = require "aijit.nn.layer".layer

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
function GLU:forward(x)
  local half = x:size(self.dim) / 2
  return f.slice(x, self.dim, 1, half) * f.sigmoid(f.slice(x, self.dim, half + 1, -1))
end

--- x where positive, else weight * x; one weight, or one a channel (dimension 2). num_parameters "channels" infers how many.
---@class aijit.nn.PReLU: aijit.nn.Layer
local PReLU = layer("PReLU", "num_parameters:slopes=1 init=0.25")
nn.PReLU = PReLU

function PReLU:waits() return self.slopes == "channels" end
function PReLU:sizes(x) self.slopes = x:size(2) end
function PReLU:sizes_from(state) self.slopes = state.weight:size(1) end
function PReLU:build() self:parameter("weight", self.slopes) end
function PReLU:reset() init.constant_(self.weight, self.init) end

function PReLU:forward(x)
  local weight = self.weight
  if self.slopes > 1 then
    local shape = {weight:size(1)}
    for i = 3, x:dim() do shape[i - 1] = 1 end
    weight = weight:reshape(shape)
  end
  return f.clamp_min(x, 0) + weight * f.clamp_max(x, 0)
end

return nn
