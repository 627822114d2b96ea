--- m.Model: the top of a model. It wraps a module, or is derived from and has a forward of its own.
---
---     local model = m.Model(m.seq{m.flatten(), m.fc(784, 10)}):init()

local ai = require "aijit"
local class = require "aijit.class"
local argument = require "aijit.argument"
local param = require "aijit.model.param"
local raise = require("aijit.bindings.lib").raise

local nn = ai.nn

---@class aijit.model.Model: aijit.nn.Module
---@field net aijit.nn.Module?
---@overload fun(net?: aijit.nn.Module): aijit.model.Model
local Model = class("Model", nn.Module)
nn.register(Model)

--- Without `net`, a derived class writes forward.
---@param net? aijit.nn.Module
function Model:__init(net)
  if net ~= nil and not nn.Module.is_module(net) then
    raise(("%s: the wrapped net is a %s, not a module"):format(getmetatable(self).__name, type(net)))
  end
  self.net = net
end

function Model:forward(...)
  local net = self.net
  if not net then
    local name = getmetatable(self).__name
    raise(("%s has neither a net nor a forward: write  function %s:forward(x) ... end"):format(name, name))
  end
  return net(...)
end

--- First values for all parameters: random ones by the rules of model/param.lua, or those of a file.
---@param path? string a state saved by Model:save
---@return aijit.model.Model self
function Model:init(path)
  if path == nil then return self:apply(param.init) end
  return nn.Module.init(self, path)
end

---@param on boolean whether parameters are trained
---@return aijit.model.Model self
function Model:set_req_grad(on)
  return self:requires_grad_(argument.check("set_req_grad", "argument 1", "flag", on))
end

---@return any # the device of the first parameter
function Model:get_device()
  local p = self:present_parameters()[1]
  return p and p.device or "cpu"
end

---@return integer
function Model:n_params()
  return self:num_parameters()
end

return Model
