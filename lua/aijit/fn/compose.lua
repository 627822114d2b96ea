--- Functions made of functions: one after another, around a residual, each with its part of the parameters or of a key.

local key = require "aijit.fn.key"
local flexible = require("aijit.fn.hole").flexible
local running = require "aijit.fn.running"
local symbol = require "aijit.bindings.symbol"
local raise = require("aijit.bindings.lib").raise

local compose = {}

local function is_callable(f)
  if type(f) == "function" then return true end
  local meta = getmetatable(f)
  return type(meta) == "table" and meta.__call ~= nil
end

local function check(fs, who)
  if type(fs) ~= "table" or getmetatable(fs) ~= nil then
    raise(("%s: a list of functions is wanted, not a %s"):format(who, type(fs)))
  end
  for i = 1, #fs do
    if not is_callable(fs[i]) then
      raise(("%s: entry %d is a %s, not a function%s"):format(who, i, type(fs[i]),
        type(fs[i]) == "cdata" and "; is a hole missing, as in nets.linear(params, _, 4)?" or ""))
    end
  end
end

local function run(fs, i, n, ...)
  if i > n then return ... end
  return run(fs, i + 1, n, fs[i](...))
end

-- In errors: which function of the chain is running.
running.name(run, function(level)
  local _, i = debug.getlocal(level, 2)
  local _, n = debug.getlocal(level, 3)
  return ("function %d of %d of a chain"):format(i, n)
end)

--- A function that runs others one after another: each gets all that the one before it returned. None: what goes in comes
--- out. Modules are functions too.
---@param fs function[]
---@return function
function compose.chain(fs)
  check(fs, "fn.chain")
  local list, n = {}, #fs
  for i = 1, n do list[i] = fs[i] end
  return flexible(function(...) return run(list, 1, n, ...) end, "chain")
end

--- x + f(x), with whatever else f takes.
---@param f function
---@return function
function compose.skip(f)
  if not is_callable(f) then raise(("fn.skip: a function is wanted, not a %s"):format(type(f))) end
  return flexible(function(x, ...) return x + f(x, ...) end, "skip")
end

--- Each function with its first argument bound to its part of a value.
---@param fs function[]
---@param value any
---@param split? fun(value: any, n: integer): any[] the parts, one a function; by default the value itself, n times
---@return function[]
function compose.thread(fs, value, split)
  check(fs, "fn.thread")
  local n, parts = #fs, nil
  if split then
    parts = split(value, n)
    if type(parts) ~= "table" then raise(("fn.thread: the split gave a %s, not a list of parts"):format(type(parts))) end
  end
  local bound = {}
  for i, f in ipairs(fs) do
    local part = value
    if parts then part = parts[i] end
    bound[i] = flexible(function(...) return f(part, ...) end, ("function %d of a thread"):format(i))
  end
  return bound
end

--- The same value to every function.
---@param fs function[]
---@param value any
---@return function[]
function compose.thread_identity(fs, value) return compose.thread(fs, value) end

--- params[1] to the first function, params[2] to the second, and so on.
---@param fs function[]
---@param params table
---@return function[]
function compose.thread_params(fs, params)
  if type(params) ~= "table" and not symbol.is(params) then
    raise(("fn.thread_params: params is a %s, not a table of parameters"):format(type(params)))
  end
  return compose.thread(fs, params, function(tree, n)
    local parts = {}
    for i = 1, n do parts[i] = tree[i] end
    return parts
  end)
end

--- A key of its own to each function.
---@param fs function[]
---@param k aijit.fn.Key
---@return function[]
function compose.thread_key(fs, k)
  key.want(k, "fn.thread_key", "argument 2")
  return compose.thread(fs, k, function(whole, n)
    if n == 0 then return {} end
    return {key.split(whole, n)}
  end)
end

return compose
