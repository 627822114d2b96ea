--- The arguments of a function that makes a model: sizes, then one table of options. Each has a kind, and a wrong value is an error that names it.

local ai = require "aijit"
local nearest = require "aijit.nearest"
local raise = require("aijit.bindings.lib").raise

local option = {}

local function is_number(v) return type(v) == "number" and v == v and math.abs(v) < math.huge end
local function is_whole(v) return is_number(v) and v % 1 == 0 end

--- kind -> what is wanted, and whether a value is that.
local kinds = {
  size = {"a whole number from 1 up", function(v) return is_whole(v) and v >= 1 end},
  count = {"a whole number from 0 up", function(v) return is_whole(v) and v >= 0 end},
  integer = {"a whole number", is_whole},
  number = {"a number", is_number},
  positive = {"a number above 0", function(v) return is_number(v) and v > 0 end},
  probability = {"a number between 0 and 1", function(v) return is_number(v) and v >= 0 and v <= 1 end},
  boolean = {"true or false", function(v) return type(v) == "boolean" end},
  string = {"a string", function(v) return type(v) == "string" end},
  any = {"a value", function(v) return v ~= nil end},
  tensor = {"a tensor", function(v) return ai.is_tensor(v) or type(v) == "table" and (getmetatable(v) or {}).__record ~= nil end},
  window = {"a whole number from 1 up, or a list of them", function(v)
    if type(v) ~= "table" then return is_whole(v) and v >= 1 end
    for i = 1, #v do if not is_whole(v[i]) or v[i] < 1 then return false end end
    return #v > 0 and getmetatable(v) == nil
  end},
  sizes = {"a list of whole numbers from 1 up", function(v)
    if type(v) ~= "table" or getmetatable(v) ~= nil then return false end
    for i = 1, #v do if not is_whole(v[i]) or v[i] < 1 then return false end end
    return true
  end},
  module = {"a module", ai.nn.Module.is_module},
  layer = {"a module or a function", function(v) return ai.nn.Module.is_module(v) or type(v) == "function" end},
  noise = {"true, false or a number from 0 up", function(v) return type(v) == "boolean" or is_number(v) and v >= 0 end},
  callable = {"a function", function(v) return type(v) == "function" or type(v) == "table" and (getmetatable(v) or {}).__call ~= nil end},
  -- Looked up by name where they are used.
  actv = {"a name, a module or a function", function(v)
    return type(v) == "string" or type(v) == "function" or type(v) == "table" and (getmetatable(v) or {}).__call ~= nil
  end},
  norm = {"a name or a module", function(v) return type(v) == "string" or ai.nn.Module.is_module(v) end},
}

local function described(v)
  if type(v) == "string" then return ("%q"):format(v) end
  if type(v) == "number" or type(v) == "boolean" or v == nil then return tostring(v) end
  if ai.is_tensor(v) then return "a tensor" end
  return "a " .. type(v)
end

--- Checks one argument; an error names it.
---@generic T
---@param who string
---@param name string
---@param kind string
---@param value T
---@return T
function option.check(who, name, kind, value)
  local want = kinds[kind]
  if not want then                                       -- one of several words
    local list = {}
    for word in kind:gmatch "[^|]+" do
      if word == value then return value end
      list[#list + 1] = word
    end
    raise(("%s: %s is %s: %s"):format(who, name, described(value), nearest.hint(tostring(value), list)))
  end
  if not want[2](value) then raise(("%s: %s is %s, and must be %s"):format(who, name, described(value), want[1])) end
  return value
end

--- Checks positional arguments, "n1 n2 k:count", of the kind `size` unless they say another.
---@param who string
---@param text string
---@param ... any
function option.check_all(who, text, ...)
  local i = 0
  for name, kind in text:gmatch "([%w_%[%]]+):?([%w_]*)" do
    i = i + 1
    option.check(who, name, kind == "" and "size" or kind, (select(i, ...)))
  end
end

local words = {["true"] = true, ["false"] = false}

--- Declares options, "dropout:probability bias:boolean=true kind:a|b=a": the name, the kind or the words that it may be, and a
--- default. One without a default may be left out or false.
---@param who string
---@param text string
---@return fun(options?: table): table # options and defaults, checked; to be read only
function option.declare(who, text)
  local names, kind_of, defaults = {}, {}, {}
  for word in text:gmatch "%S+" do
    local name, kind, value = word:match "^([%w_]+):([%w_|]+)=?(.*)$"
    names[#names + 1], kind_of[name] = name, kind
    if value ~= "" then
      defaults[name] = words[value]
      if defaults[name] == nil then defaults[name] = tonumber(value) or value end
    end
  end
  return function(options)
    if options == nil then return defaults end
    local out = {}
    for name, value in pairs(defaults) do out[name] = value end
    if type(options) ~= "table" or getmetatable(options) ~= nil then
      raise(("%s: the options are %s, and must be a table"):format(who, described(options)))
    end
    for name, value in pairs(options) do
      if not kind_of[name] then
        raise(("%s: there is no option %s: %s"):format(who, type(name) == "string" and "'" .. name .. "'" or described(name),
          nearest.hint(tostring(name), names)))
      end
      local kind = kind_of[name]
      local off = value == false and kind ~= "boolean" and (defaults[name] == nil or kind == "actv" or kind == "norm")
      if off then out[name] = nil else out[name] = option.check(who, name, kind, value) end
    end
    return out
  end
end

return option
