--- ai.jit: a function of tensors recorded once for each signature, and then replayed by one call into C.

local lib = require "aijit.bindings.lib"
local C, S, ffi = lib.C, lib.state, lib.ffi

local jit = {}

-- Arguments and results are trees of tensors in plain tables. flatten() puts the tensors into a list, and what else there
-- is into another, with the keys that lead there; two trees of one form give equal lists of the second kind.
local function flatten(v, tensors, rest)
  if type(v) == "cdata" and ffi.istype("aj_tensor", v) then
    tensors[#tensors + 1] = v
    rest[#rest + 1] = "tensor"
  elseif type(v) == "table" and getmetatable(v) == nil then
    local keys = {}
    for k in pairs(v) do keys[#keys + 1] = k end
    table.sort(keys, function(a, b)
      if type(a) == type(b) then return a < b end
      return type(a) < type(b)
    end)
    rest[#rest + 1] = "table"
    for _, k in ipairs(keys) do
      rest[#rest + 1] = k
      flatten(v[k], tensors, rest)
    end
    rest[#rest + 1] = "end"
  elseif v == nil then rest[#rest + 1] = "nil"
  else rest[#rest + 1] = v end
end

local function rebuild(v, next_tensor)
  if type(v) == "cdata" and ffi.istype("aj_tensor", v) then return next_tensor() end
  if type(v) ~= "table" or getmetatable(v) ~= nil then return v end
  local keys, copy = {}, {}
  for k in pairs(v) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) == type(b) then return a < b end
    return type(a) < type(b)
  end)
  for _, k in ipairs(keys) do copy[k] = rebuild(v[k], next_tensor) end
  return copy
end

local function same(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do if a[i] ~= b[i] then return false end end
  return true
end

local Jit = {__name = "aijit.jit"}
Jit.__index = Jit

local function counter(list)
  local i = 0
  return function() i = i + 1 return list[i] end
end

--- Records f on these arguments, which are given in a form of their own.
local function record(self, n, args, tensors, rest)
  local recording = C.aj_jit_begin(lib.list(tensors, 6))
  if ffi.cast("void *", recording) == nil then lib.ok() end
  recording = ffi.gc(recording, C.aj_jit_free)
  local own = {}
  local ok, results = pcall(function()
    for i = 1, #tensors do own[i] = lib.check(C.aj_jit_input(recording, i - 1)) end
    local take = counter(own)
    local given = {}
    for i = 1, n do given[i] = rebuild(args[i], take) end
    local list = {self.f(unpack(given, 1, n))}
    list.n = #list
    return list
  end)
  if not ok then
    C.aj_jit_end(recording, nil)
    error(results, 0)
  end
  local outputs, shape = {}, {}
  for i = 1, results.n do flatten(results[i], outputs, shape) end
  if #outputs > C.AJ_MAX_RESULTS then
    C.aj_jit_end(recording, nil)
    lib.raise(("jit: the function returns %d tensors, and at most %d can be"):format(#outputs, C.AJ_MAX_RESULTS))
  end
  lib.ok(C.aj_jit_end(recording, lib.list(outputs, 6)))
  -- The form of the results, without the tensors of the recorded run.
  local form = {n = results.n}
  for i = 1, results.n do form[i] = rebuild(results[i], function() return jit.HOLE end) end
  local variant = {recording = recording, rest = rest, recorded = S.recording, form = form, n_out = #outputs,
    plain = results.n == 1 and lib.is_tensor(results[1])}
  self.variants[#self.variants + 1] = variant
  return variant
end

jit.HOLE = setmetatable({}, {__name = "hole"})

local function fill(v, next_tensor)
  if v == jit.HOLE then return next_tensor() end
  if type(v) ~= "table" or getmetatable(v) ~= nil then return v end
  local keys, copy = {}, {}
  for k in pairs(v) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) == type(b) then return a < b end
    return type(a) < type(b)
  end)
  for _, k in ipairs(keys) do copy[k] = fill(v[k], next_tensor) end
  return copy
end

local function results_of(variant)
  if variant.plain then return lib.check(C.aj_result(1)) end
  local list = {}
  for i = 1, variant.n_out do list[i] = lib.check(C.aj_result(i)) end
  local take, values = counter(list), {}
  for i = 1, variant.form.n do values[i] = fill(variant.form[i], take) end
  return unpack(values, 1, variant.form.n)
end

local function run(variant, list)
  local what = C.aj_jit_run(variant.recording, list)
  if what < 0 then lib.ok() end
  return what == 1
end

-- The common call: a few tensors and nothing else.
local plain_arguments = {}

function Jit:__call(...)
  local n = select("#", ...)
  local tensors, simple, rest = plain_arguments, n <= 8
  for i = 1, n do
    local v = select(i, ...)
    if not (type(v) == "cdata" and ffi.istype("aj_tensor", v)) then simple = false break end
    tensors[i] = v
  end
  local args = {...}                                     -- also keeps the arguments alive during the call
  if simple then
    rest = n
  else
    tensors, rest = {}, {}
    for i = 1, n do flatten(args[i], tensors, rest) end
  end
  local count = simple and n or #tensors
  local list = lib.list(tensors, 7, count)
  -- The list holds pointers; the arguments themselves live on in args. What is kept here would live too long.
  if simple then for i = 1, count do tensors[i] = nil end end
  for _, variant in ipairs(self.variants) do
    local fits = variant.recorded == S.recording and (variant.rest == rest or (not simple and type(variant.rest) == "table" and same(variant.rest, rest)))
    if fits and run(variant, list) then return results_of(variant) end
  end
  if #self.variants >= self.limit then
    lib.raise(("jit: more than %d recordings of one function: shapes, numbers or tables among its arguments change with each call, "
      .. "or gradients of leaves that it adds to (call zero_grad within it); {limit = ...} allows more"):format(self.limit))
  end
  return results_of(record(self, n, args, simple and {unpack(args, 1, count)} or tensors, rest))
end

--- The number of recordings so far.
---@return integer
function Jit:count() return #self.variants end

--- f as a function that is recorded at its first call for each combination of shapes, dtypes and other arguments, and
-- replayed afterwards: no Lua, no autograd, memory planned, runs of elementwise ops fused. What f is given as tensors (also
-- in plain tables) varies from call to call; numbers, strings and booleans are part of the signature; tensors that f
-- reaches otherwise (parameters, buffers) are used, and written, where they lie. f may call :backward(): the gradients then
-- stand in .grad after each call. It is an error to read a value within f, to take an optimizer's step there, or to return
-- a tensor that requires gradients.
---@param f function
---@param o {limit: integer?}?  the most recordings to keep, 32
---@return aijit.Jit|fun(...): ...
function jit.jit(f, o)
  if type(f) ~= "function" and not (getmetatable(f) or {}).__call then lib.raise("jit: a function is wanted, not " .. lib.describe(f)) end
  return setmetatable({f = f, variants = {}, limit = o and o.limit or 32}, Jit)
end

return jit
