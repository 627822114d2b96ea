--- What the nets share: how they read options, declare parameters, and apply an activation.

local ai = require "aijit"
local flexible = require("aijit.fn.hole").flexible
local nearest = require "aijit.nearest"
local trace = require "aijit.fn.trace"
local raise = require("aijit.bindings.lib").raise

local common = {}

--- A net's options, with defaults: "use_bias=true w_init b_init activation".
---@param who string
---@param text string
---@return fun(o?: table): table
function common.options(who, text)
  local names, known, defaults = {}, {}, {}
  for name, value in text:gmatch "([%w_]+)=?(%S*)" do
    names[#names + 1], known[name] = name, true
    if value == "true" or value == "false" then defaults[name] = value == "true"
    elseif value ~= "" then defaults[name] = tonumber(value) or value end
  end
  return function(o)
    if o == nil then return defaults end
    if type(o) ~= "table" then raise(("%s: the last argument is a %s, where a table of options is wanted"):format(who, type(o))) end
    local all = {}
    for name, value in pairs(defaults) do all[name] = value end
    for name, value in pairs(o) do
      if not known[name] then raise(("%s: unknown option '%s': %s"):format(who, tostring(name), nearest.hint(tostring(name), names))) end
      all[name] = value
    end
    return all
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
  if type(params) ~= "table" then
    raise(("%s: params is %s, where a table of parameters is wanted%s"):format(who,
      params == nil and "nil" or ai.is_tensor(params) and "a tensor" or "a " .. type(params),
      params == nil and ": is the sub-tree's name right, and was it traced?" or ""))
  end
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

--- Checks that an argument is a whole number from 1 up.
function common.size(who, name, value)
  if type(value) ~= "number" or value < 1 or value % 1 ~= 0 then
    raise(("%s: %s is %s, where a whole number from 1 up is wanted"):format(who, name, tostring(value)))
  end
end

--- Makes each function of a table flexible.
function common.flexible(nets)
  for name, f in pairs(nets) do nets[name] = flexible(f, "nets." .. name) end
  return nets
end

return common
