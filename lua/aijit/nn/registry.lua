--- The classes of modules that nn.from_spec knows by name.

local class = require "aijit.class"
local nearest = require "aijit.nearest"

local registry = {}
local classes = {}

--- nn.Module, from which all are derived; nn/module.lua says so.
---@type table
registry.root = nil

--- Whether a placeholder is among two values, and what a call with one does; nn/graph.lua says so when it is loaded.
---@type fun(a: any, b: any): boolean
registry.stands_in = nil
---@type fun(module: aijit.nn.Module, ...): ...
registry.record = nil

---@param value any
---@return boolean
function registry.is_module(value)
  return type(value) == "table" and registry.root ~= nil and class.is(value, registry.root)
end

---@param cls table a class derived from nn.Module
---@return table cls
function registry.add(cls)
  classes[cls.__name:lower()] = cls
  return cls
end

---@param name string in any case
---@return table? cls
function registry.find(name)
  return classes[name:lower()]
end

--- The names of all classes, sorted.
---@return string[]
function registry.names()
  local names = {}
  for _, cls in pairs(classes) do names[#names + 1] = cls.__name end
  table.sort(names)
  return names
end

--- What to say when there is no such class.
---@param name string
---@return string
function registry.hint(name) return nearest.hint(name, registry.names()) end

return registry
