--- Classes: `local Dog = ai.class("Dog", Animal)`, `function Dog:__init(name) ... end`, `Dog("Rex")`.
--
-- A class is the metatable of its objects, and every method it inherits is copied into it when it is made. So a call
-- costs one table look-up, however deep the family, and LuaJIT compiles it to a constant. The price: a method added to
-- a parent later does not reach children that exist already. Metamethods (`__call`, `__tostring`, `__add`) are
-- inherited like any method. Of several parents the first one that has a name gives it.

local class = {}

--- What a class keeps for itself: never inherited.
local own = {__name = true, __index = true, __ancestors = true, __parents = true}

local ClassMeta = {__name = "aijit.Class"}

function ClassMeta.__call(cls, ...)
  local object = setmetatable({}, cls)
  cls.__init(object, ...)
  return object
end

function ClassMeta.__tostring(cls)
  return "class " .. cls.__name
end

--- Whether `value` is a class made by `ai.class`.
---@param value any
---@return boolean
function class.is_class(value)
  return type(value) == "table" and getmetatable(value) == ClassMeta
end

--- Whether `value` is an object of `cls` or of a class derived from it. Any value may be asked about.
---@param value any
---@param cls table a class
---@return boolean
function class.is(value, cls)
  if getmetatable(cls) ~= ClassMeta then
    error(("ai.is: the second argument is a %s, not a class made by ai.class"):format(type(cls)), 2)
  end
  if type(value) ~= "table" then return false end
  local family = getmetatable(value)
  local ancestors = type(family) == "table" and rawget(family, "__ancestors")
  return ancestors and ancestors[cls] or false
end

--- Whether class `cls` is `parent` or derived from it.
---@param cls table
---@param parent table
---@return boolean
function class.is_subclass(cls, parent)
  return class.is_class(cls) and cls.__ancestors[parent] or false
end

--- A method that derived classes must write: `Shape.area = ai.class.abstract "area"`.
---@param name string the method's name, for the error
---@return function raises when it is called
function class.abstract(name)
  return function(self)
    local family = type(self) == "table" and (rawget(self, "__name") or (getmetatable(self) or {}).__name)
    family = family or "this class"
    error(("%s has no method '%s': write  function %s:%s(...)"):format(family, name, family, name), 2)
  end
end

local function default_init() end

local function default_tostring(self)
  return getmetatable(self).__name .. " object"
end

local function define(_, name, ...)
  if type(name) ~= "string" or name == "" then
    error(("ai.class: the first argument is the class's name, a string; got %s"):format(type(name)), 2)
  end
  local parents = {...}
  for i = 1, select("#", ...) do
    if not class.is_class(parents[i]) then
      local what = parents[i] == nil and "nil: is its name spelt right, and its module required?"
        or ("a %s, not a class made by ai.class"):format(type(parents[i]))
      error(("ai.class: parent %d of %s is %s"):format(i, name, what), 2)
    end
  end

  local cls = {__name = name, __parents = parents, __ancestors = {}}
  cls.__ancestors[cls] = true
  cls.__index = cls
  for _, parent in ipairs(parents) do
    for ancestor in pairs(parent.__ancestors) do cls.__ancestors[ancestor] = true end
    for key, value in pairs(parent) do
      if not own[key] and cls[key] == nil then cls[key] = value end
    end
    -- A parent that looks its fields up itself hands that on.
    if parent.__index ~= parent and cls.__index == cls then cls.__index = parent.__index end
  end
  cls.__init = cls.__init or default_init
  cls.__tostring = cls.__tostring or default_tostring
  cls.is = cls.is or class.is
  return setmetatable(cls, ClassMeta)
end

--- Makes a class.
---@param name string
---@param ... table parents, from whom methods and metamethods are copied now
---@return table class call it to make an object: `Class(...)` runs `Class.__init(object, ...)`
---@overload fun(name: string, ...: table): table
class.define = function(...) return define(nil, ...) end

--- The metatable of all classes.
class.meta = ClassMeta

return setmetatable(class, {__name = "aijit.class", __call = define})
