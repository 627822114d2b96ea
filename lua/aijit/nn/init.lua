--- ai.nn: layers and models as classes. See nn/module.lua for what a module is, nn/layer.lua for how one is written.

local ai = require "aijit"
local Module = require "aijit.nn.module"
local layers = require "aijit.nn.layer"
local raise = require("aijit.bindings.lib").raise

local nn = {
  Module = Module,
  Layer = layers.Layer,
  layer = layers.layer,
  init = require "aijit.nn.initial",
  register = Module.register,
  from_spec = Module.make_from_spec,
  path = require "aijit.nn.path",
  load = require("aijit.nn.module.file").load,
  parameters_to_vector = require("aijit.nn.module.file").parameters_to_vector,
  vector_to_parameters = require("aijit.nn.module.file").vector_to_parameters,
}

--- A leaf tensor that requires a gradient, outliving every scope: as a field of a module it is a parameter.
---@param tensor aijit.Tensor
---@param options? {requires_grad: boolean}
---@return aijit.Tensor
function nn.Parameter(tensor, options)
  if not ai.is_tensor(tensor) then
    raise(("nn.Parameter: a tensor is wanted, got a %s"):format(type(tensor)))
  end
  local parameter = ai.keep(tensor:detach())
  parameter:requires_grad_(not options or options.requires_grad ~= false)
  return parameter
end

for _, part in ipairs{
  "container", "residual", "linear", "parallel", "conv", "streaming", "pool", "norm", "activation", "regular", "loss", "spectral", "functional",
  "packed", "recurrent", "position", "attention", "monotonic", "transformer", "parametrize",
  "merge", "gradient", "image", "pad", "place", "named", "quantize", "int8", "unet", "bifpn", "rwkv", "sampling", "next_token",
  "diffusion", "perceptual", "face",
} do
  for name, value in pairs(require("aijit.nn." .. part)) do nn[name] = value end
end

nn.Dense, nn.SimpleRNN = nn.Linear, nn.RNN

-- Those take lists, packed sequences, networks, or anything.
require("aijit.nn.registry").take_tensors(nn, "Module Layer Sequential ModuleList ModuleDict Lambda Functional Identity IdentityPositionalEmbeddings "
  .. "Residual GatedResidual Add Subtract Multiply Divide Maximum Minimum Average Concat RNN GRU LSTM GetRNNOutput GetRNNState BiFPN BiFPNBlock ComboLoss "
  .. "TripletMarginWithDistanceLoss GaussianDiffusion ConsistencyModel Slice")

return require("aijit.nearest").guard(nn, "nn")
