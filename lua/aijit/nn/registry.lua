--- The classes of modules, and the functions, that nn.from_spec knows by name.

local class = require "aijit.class"
local nearest = require "aijit.nearest"
local op = require "aijit.bindings.op"
local raise = require("aijit.bindings.lib").raise

local registry = {}
local classes, functions = {}, {}
local name_of = setmetatable({}, {__mode = "k"})

--- nn.Module, from which all are derived; nn/module.lua says so.
---@type table
registry.root = nil

--- Whether a placeholder is among two values, and what a call with one does; nn/graph.lua says so when it is loaded.
---@type fun(a: any, b: any): boolean
registry.stands_in = nil
---@type fun(module: aijit.nn.Module, ...): ...
registry.record = nil

--- The classes whose forward takes a tensor first, and which say so to whoever gives another value. A class that is derived from one
--- may take what it likes.
---@type table<table, true>
registry.takes_tensor = setmetatable({}, {__mode = "k"})

--- Says so of classes, all but those named.
---@param named table<string, any> classes and other values by name
---@param but string names
function registry.take_tensors(named, but)
  local others = {}
  for name in but:gmatch "%S+" do others[name] = true end
  for _, value in pairs(named) do
    if class.is_class(value) and not others[value.__name] and class.is_subclass(value, registry.root) then registry.takes_tensor[value] = true end
  end
end

---@param value any
---@return boolean
function registry.is_module(value)
  return type(value) == "table" and registry.root ~= nil and class.is(value, registry.root)
end

--- Makes a class of modules known by its name, or a function by one: nn.register(Scale), nn.register("halve", function(x) ... end).
--- Specs then hold the name, and programs that read them make it known first.
---@generic T
---@param cls table|string a class derived from nn.Module, or the name of a function
---@param f? T the function
---@return table|T # the class, or the function
function registry.add(cls, f)
  if type(cls) == "string" then
    if cls == "" or type(f) ~= "function" then raise(("nn.register: %q is the name of a %s; a function is wanted"):format(cls, type(f))) end
    functions[cls], name_of[f] = f, cls
    return f
  end
  if type(cls) ~= "table" or not class.is_class(cls) then
    raise(("nn.register: a class, or a name and a function, is wanted, not a %s"):format(type(cls)))
  end
  classes[cls.__name:lower()] = cls
  return cls
end

--- A function that was made known by a name.
---@param name string
---@return function?
function registry.registered(name) return functions[name] end

--- A function by its name: one made known, or an op.
---@param name string
---@return function?
function registry.find_function(name)
  return functions[name] or (op.named[name] or op.faces[name]) and require("aijit").f[name] or nil
end

local function op_names()
  local list = {}
  for _, names in ipairs{op.named, op.faces} do
    for name in pairs(names) do list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

--- The name of a function that was made known, or of an op; nil: it has none.
---@param f function
---@return string?
function registry.name_of(f)
  if name_of[f] then return name_of[f] end
  local ops = require("aijit").f
  for _, name in ipairs(op_names()) do if rawequal(ops[name], f) then return name end end
end

---@param name string in any case
---@return table? cls
function registry.find(name)
  return classes[name:lower()]
end

--- The name that a spec holds for a function.
---@param module aijit.nn.Module that has it
---@param field string
---@param f function
---@return string
function registry.written(module, field, f)
  local name = registry.name_of(f)
  if name then return name end
  local info = debug.getinfo(f, "S")
  raise(("to_spec: %s.%s is a function (%s:%d), and a spec holds data only: give it a name, nn.register(\"name\", f)"):format(
    getmetatable(module).__name, tostring(field), info.short_src:match "[^/]*$", info.linedefined))
end

--- The function of a name, or an error.
---@param who string
---@param name string
---@return function
function registry.read(who, name)
  local f = registry.find_function(name)
  if f then return f end
  local names = op_names()
  for known in pairs(functions) do names[#names + 1] = known end
  raise(("%s: there is no function '%s': %s; one of your own is made known by nn.register(%q, f)"):format(who, name, nearest.hint(name, names), name))
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
