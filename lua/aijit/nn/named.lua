--- Activations and norms by name, for models whose parts are chosen by a config.

local activation = require "aijit.nn.activation"
local container = require "aijit.nn.container"
local nearest = require "aijit.nearest"
local norm = require "aijit.nn.norm"
local raise = require("aijit.bindings.lib").raise

local nn = {}

local activations = {
  no_act = container.Identity, identity = container.Identity, swish = activation.SiLU, lrelu = activation.LeakyReLU,
  gelu_fast = activation.GELUTanh, gelu_quick = activation.QuickGELU, relu2 = activation.ReLU, clamp6 = activation.Clamp,
}
local options = {clamp6 = {limit = 6}, lrelu = {negative_slope = 0.2}}

--- Under its own name in snake case too, and with an underscore or without in those whose classes have none.
for name, cls in pairs(activation) do
  local snake = name:gsub("ReLU", "Relu"):gsub("SiLU", "Silu"):gsub("(%l)(%u)", "%1_%2"):gsub("(%u)(%u%l)", "%1_%2"):lower()
  activations[snake], activations[name:lower()] = cls, cls
end
for new, old in pairs{hard_sigmoid = "hardsigmoid", hard_sigomid = "hardsigmoid", hard_swish = "hardswish", hard_tanh = "hardtanh", soft_shrink = "softshrink",
                      hard_shrink = "hardshrink", tanh_shrink = "tanhshrink", soft_sign = "softsign", soft_plus = "softplus",
                      relu_squared = "relusquared"} do
  activations[new] = activations[old]
end
-- These want arguments.
for _, name in ipairs{"threshold", "clamp"} do activations[name] = nil end

local function find(what, list, key)
  if type(key) == "string" and list[key:lower()] ~= nil then return list[key:lower()], key:lower() end
  local names = {}
  for name in pairs(list) do names[#names + 1] = name end
  raise(("nn.%s: there is no %s '%s': %s"):format(what, what:gsub("_", " "), tostring(key), nearest.hint(tostring(key), names)))
end

--- An activation by name: "relu", "gelu", "swish", "hard_swish", "leaky_relu", "no_act", and so on, in any case.
---@param name string
---@param o? table the layer's arguments, by name
---@return aijit.nn.Layer
function nn.activation(name, o)
  local cls, key = find("activation", activations, name)
  if o == nil then o = options[key] end
  return o and cls(o) or cls()
end

--- For n spatial dimensions; 0: features alone, (N, ..., C).
local norms = {
  no_norm = function() return container.Identity() end,
  batch = function(n, o) return norm[("BatchNorm%dd"):format(math.max(n, 1))]{num_features = o.channels, affine = o.affine} end,
  instance = function(n, o) return norm[("InstanceNorm%dd"):format(math.max(n, 1))]{num_features = o.channels, affine = o.affine} end,
  group = function(_, o)
    if not o.groups then raise 'nn.norm: "group" wants a number of groups, as in nn.norm("group", 2, {groups = 4})' end
    return norm.GroupNorm{num_groups = o.groups, num_channels = o.channels, affine = o.affine}
  end,
  layer = function(n, o)
    if n == 0 then return norm.LayerNorm{normalized_shape = o.channels, elementwise_affine = o.affine} end
    return norm.ConvLayerNorm{num_channels = o.channels, affine = o.affine}
  end,
  rms = function(_, o) return norm.RMSNorm{normalized_shape = o.channels, elementwise_affine = o.affine} end,
}

--- A norm by name: "batch", "instance", "group", "layer", "rms" or "no_norm"; with _affine, as in "batch_affine", it has a
--- learned weight and bias, without, none.
---@param name string
---@param n? integer spatial dimensions, 0 to 3; 0
---@param o? {channels: integer, groups: integer} channels are inferred unless given
---@return aijit.nn.Layer
function nn.norm(name, n, o)
  n = n or 0
  if n ~= 0 and n ~= 1 and n ~= 2 and n ~= 3 then raise(("nn.norm: n is %s; spatial dimensions, 0 to 3, are wanted"):format(tostring(n))) end
  if o ~= nil and (type(o) ~= "table" or getmetatable(o) ~= nil) then raise(("nn.norm: the options are a %s; a table is wanted"):format(type(o))) end
  for key in pairs(o or {}) do
    if key ~= "channels" and key ~= "groups" then
      raise(("nn.norm: there is no option '%s': %s"):format(tostring(key), nearest.hint(tostring(key), {"channels", "groups"})))
    end
  end
  local base = type(name) == "string" and name:lower():match "^(.*)_affine$"
  local make = find("norm", norms, base or name)
  return make(n, {channels = o and o.channels, groups = o and o.groups, affine = base and true or false})
end

local parametrizations = {no_parametrization = false, none = false, weight = "weight_norm", spectral = "spectral_norm"}

--- A module whose weight is computed, by name: "weight" for nn.weight_norm, "spectral" for nn.spectral_norm, "none" for the
--- module as it is.
---@generic M: aijit.nn.Module
---@param module M with its sizes known
---@param name string
---@param o? table as for nn.weight_norm or nn.spectral_norm
---@return M module
function nn.parametrization_norm(module, name, o)
  local how = find("parametrization_norm", parametrizations, name)
  if not how then return module end
  return require("aijit.nn.parametrize")[how](module, o)
end

return nn
