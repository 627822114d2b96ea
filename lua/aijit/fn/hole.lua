--- Holes: `_` in a call of a flexible function gives a function that waits for what goes there.
--
--     local half = nets.linear(_, _, 256)         -- half(params, x); half(params, _) waits for x
--     nets.mlp(params, _, {64, 64}, {activation = _})    -- a hole in the options, too: it comes after the others
--
-- Holes are filled from left to right, all at once. One that is filled with a hole waits on. Ops are flexible:
-- ai.f.softmax(_, 1) is a function of x.

local Tensor = require "aijit.bindings.tensor"
local running = require "aijit.fn.running"
local symbol = require "aijit.bindings.symbol"
local raise = require("aijit.bindings.lib").raise

local hole = {}

local Hole = {__name = "hole", __tostring = function() return "_" end}
function Hole.__index(_, name) raise(("fn._ is a hole in a call, and has no field '%s'"):format(tostring(name))) end
function Hole.__newindex() raise "fn._ is a hole in a call, and cannot be written to" end

function Hole.__len() raise "fn._ is a hole in a call, and has no length" end
-- An op among whose arguments is a hole.
function Hole.__record(name, ...) return hole.op(name, ...) end

--- What a hole is; `local _ = fn._`.
local _ = symbol.kind(Hole){}
hole._ = _

--- Names of a function's parameters, as far as they are known.
local function parameters(f)
  local names, i = {}, 1
  while true do
    local name = debug.getlocal(f, i)
    if not name then return names end
    names[i] = name
    i = i + 1
  end
end

local function name_of(f)
  local info = debug.getinfo(f, "S")
  if info.source:sub(1, 1) == "=" then return (info.short_src:gsub("^aijit%.", "")) end
  return ("the function at %s:%d"):format(info.short_src:match("[^/]*$"), info.linedefined)
end

local function is_options(value) return type(value) == "table" and getmetatable(value) == nil and value[1] == nil end

--- Places of the holes: {argument} or {argument, name in its options}.
local function holes_in(args, n)
  local places
  for i = 1, n do
    if rawequal(args[i], _) then
      places = places or {}
      places[#places + 1] = {i}
    end
  end
  local options = args[n]
  if is_options(options) then
    local names = {}
    for name, value in pairs(options) do if rawequal(value, _) then names[#names + 1] = name end end
    table.sort(names)
    for i = 1, #names do
      places = places or {}
      places[#places + 1] = {n, names[i]}
    end
  end
  return places
end

local function waits_for(info, places)
  local names = {}
  for i, place in ipairs(places) do names[i] = place[2] or info.names[place[1]] or "argument " .. place[1] end
  return table.concat(names, ", ")
end

local bind

local function fill(info, args, n, places, given, n_given)
  local filled = {}
  for i = 1, n do filled[i] = args[i] end
  for i = 1, n_given do
    local place = places[i]
    if place[2] then
      if filled[n] == args[n] then
        local options = {}
        for key, value in pairs(args[n]) do options[key] = value end
        filled[n] = options
      end
      filled[n][place[2]] = given[i]
    else
      filled[place[1]] = given[i]
    end
  end
  return bind(info, filled, n)
end

--- Calls the function, or waits for what goes into the holes.
function bind(info, args, n)
  local places = holes_in(args, n)
  if not places then
    if info.most and n > info.most then
      raise(("%s: %d arguments are too many: it takes %s"):format(info.name, n, table.concat(info.names, ", ")))
    end
    return info.f(unpack(args, 1, n))
  end
  return function(...)
    local n_given = select("#", ...)
    if n_given ~= #places then
      raise(("%s: it waits for %s, and %s given"):format(info.name, waits_for(info, places),
        n_given == 0 and "nothing is" or n_given == 1 and "1 argument is" or n_given .. " arguments are"))
    end
    return fill(info, args, n, places, {...}, n_given)
  end
end

--- A function whose calls may have holes. More arguments than it has parameters are an error.
---@param f function
---@param name? string for errors
---@return function
function hole.flexible(f, name)
  if type(f) ~= "function" then raise(("fn.flexible: a function is wanted, not a %s"):format(type(f))) end
  local u = debug.getinfo(f, "u")
  local info = {f = f, name = running.name(f, name or name_of(f)), names = parameters(f), most = not u.isvararg and u.nparams or nil}
  return function(...) return bind(info, {...}, select("#", ...)) end
end

local ops = {}
--- An op, or what waits for the holes among its arguments.
function hole.op(name, ...)
  ops[name] = ops[name] or {f = function(...) return Tensor[name](...) end, name = name, names = parameters(Tensor[name])}
  local args, n = {...}, select("#", ...)
  if not holes_in(args, n) then raise(("%s: a hole within a list is not filled; write function(x) return ai.f.%s(...) end"):format(name, name)) end
  return bind(ops[name], args, n)
end

return hole
