--- Modules around others: what they make is added to what they were given, or mixed with it.

local argument = require "aijit.argument"
local class = require "aijit.class"
local Lambda = require("aijit.nn.container").Lambda
local Module = require "aijit.nn.module"

local nn = {}

local function as_module(value) return type(value) == "function" and Lambda(value) or value end

--- main(x) + shortcut(x); without a shortcut, main(x) + x (He and others, 2016).
---@class aijit.nn.Residual: aijit.nn.Module
---@field main aijit.nn.Module
---@field shortcut aijit.nn.Module?
---@overload fun(main: aijit.nn.Module|function, shortcut?: aijit.nn.Module|function): aijit.nn.Residual
local Residual = class("Residual", Module)
nn.Residual = Module.register(Residual)
Residual.declaration = argument.declare("nn.Residual", "main:layer shortcut:layer=none")

---@param main aijit.nn.Module|function
---@param shortcut? aijit.nn.Module|function
function Residual:__init(...)
  local o = Residual.declaration:read({}, ...)
  self.main = as_module(o.main)
  self.shortcut = as_module(o.shortcut)
end

function Residual:forward(x)
  local shortcut = self.shortcut
  return self.main(x) + (shortcut and shortcut(x) or x)
end

--- x g + module(x) (1 - g), g = gate(x) (Srivastava and others, 2015): where the gate is 1 the input is handed on.
---@class aijit.nn.GatedResidual: aijit.nn.Module
---@field module aijit.nn.Module
---@field gate aijit.nn.Module its outputs between 0 and 1, as those of a Sigmoid are
---@overload fun(module: aijit.nn.Module|function, gate: aijit.nn.Module|function): aijit.nn.GatedResidual
local GatedResidual = class("GatedResidual", Module)
nn.GatedResidual = Module.register(GatedResidual)
GatedResidual.declaration = argument.declare("nn.GatedResidual", "module:layer gate:layer")

---@param module aijit.nn.Module|function
---@param gate aijit.nn.Module|function
function GatedResidual:__init(...)
  local o = GatedResidual.declaration:read({}, ...)
  self.module, self.gate = as_module(o.module), as_module(o.gate)
end

function GatedResidual:forward(x)
  local y, g = self.module(x), self.gate(x)
  return y + (x - y) * g
end

return nn
