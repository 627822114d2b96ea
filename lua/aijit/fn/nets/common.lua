--- What the nets share: how they read options, declare parameters, and apply an activation.

local ai = require "aijit"
local argument = require "aijit.argument"
local flexible = require("aijit.fn.hole").flexible
local nearest = require "aijit.nearest"
local trace = require "aijit.fn.trace"
local symbol = require "aijit.bindings.symbol"
local raise = require("aijit.bindings.lib").raise

local common = {}

--- What a net takes besides params: a declaration of aijit.argument.
---@param name string
---@param text string
---@param leading? string|false "params"
---@return aijit.Declaration
function common.declare(name, text, leading)
  return argument.declare("nets." .. name, text, nil, leading == nil and "params" or leading or nil)
end

--- Refuses what is no table of parameters, nor stands for one.
---@param who string
---@param params any
function common.want_params(who, params)
  if type(params) ~= "table" and not symbol.is(params) then
    raise(("%s: params is %s, where a table of parameters is wanted%s"):format(who,
      params == nil and "nil" or ai.is_tensor(params) and "a tensor" or "a " .. type(params),
      params == nil and ": is the sub-tree's name right, and was it traced?" or ""))
  end
end

--- params[name], declared.
---@param who string
---@param params table
---@param name string
---@param shape integer[]
---@param o? table as of fn.validate
---@return aijit.Tensor
function common.param(who, params, name, shape, o)
  common.want_params(who, params)
  o = o or {}
  o.name = who .. "'s " .. name
  return trace.validate(params[name], shape, o)
end

--- x through an activation: a function, or the name of an op.
function common.activate(who, x, activation)
  if activation == nil or activation == false then return x end
  if type(activation) == "string" then
    local known = pcall(function() return ai.f[activation] end)
    if not known then
      raise(("%s: there is no activation '%s': %s"):format(who, activation, nearest.hint(activation, require("aijit.bindings.op").names)))
    end
    return ai.f[activation](x)
  end
  return activation(x)
end

--- Makes each function of a table flexible.
function common.flexible(nets)
  for name, f in pairs(nets) do nets[name] = flexible(f, "nets." .. name) end
  return nets
end

return common
