--- Activations and norms by name, as the factories take them. A module, or a function, may stand for a name.

local ai = require "aijit"
local argument = require "aijit.argument"
local nearest = require "aijit.nearest"

local nn = ai.nn
local name = {}

local activations = {
  relu = function() return nn.ReLU() end,
  lrelu = function() return nn.LeakyReLU(0.2) end,
  prelu = function() return nn.PReLU() end,
  sigmoid = function() return nn.Sigmoid() end,
  mish = function() return nn.Mish() end,
  gelu = function() return nn.GELU() end,
  silu = function() return nn.SiLU() end,
  elu = function() return nn.ELU() end,
  selu = function() return nn.SELU() end,
  softplus = function() return nn.Softplus() end,
  tanh = function() return nn.Tanh() end,
}

--- Norms of n spatial dimensions, for nc channels. One that takes each channel's mean away and has a bias of its own makes
--- the bias of the layer before it idle.
local norms = {
  batch = {idle_bias = true, make = function(n, nc) return nn["BatchNorm" .. math.max(n, 1) .. "d"](nc) end},
  instance = {idle_bias = false, make = function(n, nc) return nn["InstanceNorm" .. math.max(n, 1) .. "d"](nc) end},
  layer = {idle_bias = false, make = function(n, nc) return n == 0 and nn.LayerNorm(nc) or nn.GroupNorm(1, nc) end},
  rms = {idle_bias = false, make = function(_, nc) return nn.RMSNorm(nc) end},
}

--- A kind of argument: one of a list's names, or a value that passes a test.
local function kind_of(list, test, text)
  local names = {}
  for name_of in pairs(list) do names[#names + 1] = name_of end
  table.sort(names)
  return function(value)
    if list[value] or test(value) then return end
    local near = type(value) == "string" and nearest.find(value, names) or {}
    return ("%s, %s"):format(table.concat(names, ", "), text), #near > 0 and nearest.hint(value, names) or nil
  end
end

argument.kinds.actv = kind_of(activations, function(value) return type(value) == "function" or nn.Module.is_module(value) end,
  "a module or a function")
argument.kinds.model_norm = kind_of(norms, nn.Module.is_module, "or a module")

---@param actv string|aijit.nn.Module|function|nil
---@return aijit.nn.Module?
function name.activation(actv)
  if actv == nil or actv == false then return nil end
  if nn.Module.is_module(actv) then return actv end
  if type(actv) == "function" then return nn.Lambda(actv) end
  return activations[actv]()
end

---@param norm string|aijit.nn.Module|nil
---@param n integer spatial dimensions: 0 for fc, 2 for images
---@param nc? integer channels; nil: inferred
---@return aijit.nn.Module? norm
---@return boolean idle_bias
function name.norm(norm, n, nc)
  if norm == nil or norm == false then return nil, false end
  if nn.Module.is_module(norm) then return norm, false end
  local found = norms[norm]
  return found.make(n, nc), found.idle_bias
end

return name
