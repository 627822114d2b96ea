--- ai.jit: a function of tensors recorded once for each signature, and then replayed by one call into C.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local watch = require "aijit.bindings.watch"
local C, S, ffi = lib.C, lib.state, lib.ffi

local jit = {}

-- Arguments and results are trees of tensors in plain tables.

local function in_order(a, b)
  if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then return a < b end
  return type(a) < type(b)
end

local function keys_of(t)
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = k end
  table.sort(keys, in_order)
  return keys
end

local function is_tensor(v) return type(v) == "cdata" and ffi.istype("aj_tensor", v) end
local function is_node(v) return type(v) == "table" and getmetatable(v) == nil end

-- No value of a program is one of these.
local TENSOR, OPENS, CLOSES, NIL, HOLE = {}, {}, {}, {}, {}

-- Puts the tensors into a list, and what else there is into another, with the keys that lead there: trees of one form, with
-- the same other values, give the same second list.
local function flatten(v, tensors, rest)
  if is_tensor(v) then
    tensors[#tensors + 1] = v
    rest[#rest + 1] = TENSOR
  elseif is_node(v) then
    rest[#rest + 1] = OPENS
    for _, k in ipairs(keys_of(v)) do
      rest[#rest + 1] = k
      flatten(v[k], tensors, rest)
    end
    rest[#rest + 1] = CLOSES
  else rest[#rest + 1] = v == nil and NIL or v end
end

--- A tree of the same form with other values in the place of tensors, or of holes.
local function rebuild(v, next_value)
  if v == HOLE or is_tensor(v) then return next_value() end
  if not is_node(v) then return v end
  local copy = {}
  for _, k in ipairs(keys_of(v)) do copy[k] = rebuild(v[k], next_value) end
  return copy
end

local function same(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do if a[i] ~= b[i] then return false end end
  return true
end

local Jit = {__name = "aijit.jit"}
Jit.__index = Jit

-- What the recording in progress does in Lua before each of its later runs.
local before

--- Whether a function is being recorded.
---@return boolean
function jit.is_recording() return C.aj_jit_active() end

-- How often the mode of modules has been set. A recording whose modules are all in the mode they were in counts only then.
local mode_changes = 0

--- To be called when modules are set to training or evaluation.
function jit.mode_changed() mode_changes = mode_changes + 1 end

--- While a function is recorded: to be called with each module, an object with a field `training`, that runs; else nil.
---@type fun(module: table)?
jit.met = nil

local function has_modes(variant)
  local modules, modes = variant.modules, variant.modes
  for i = 1, #modules do if modules[i].training ~= modes[i] then return false end end
  variant.mode_changes = mode_changes
  return true
end

-- A function that says whether each owner has its value at its key. It is written out without a loop: one of a few rounds would
-- keep the call of a recording from being one trace, which costs a microsecond.
local function checker(owners, keys, values, n)
  local rest
  for last = n, 1, -50 do
    local terms = {}
    for i = math.max(last - 49, 1), last do terms[#terms + 1] = ("rawequal(rawget(o[%d], k[%d]), v[%d])"):format(i, i, i) end
    rest = loadstring(("local o, k, v, rest = ... return function() return %s %s end"):format(table.concat(terms, " and "),
      rest and "and rest()" or ""), "=jit")(owners, keys, values, rest)
  end
  return rest
end

-- Whether the modules that a recording met are made of what they were, as a function; nil where it met none: of owner, key and
-- value for each tensor, module, list of these, and hook.
-- Tensors that the recorded run left in modules, in a cache of positions, say, keep what later runs give them.
local function parts_of(modules, recording)
  local owners, keys, values = {}, {}, {}
  local function add(owner, key, value)
    local n = #keys + 1
    owners[n], keys[n], values[n] = owner, key, value
    if is_tensor(value) and value:is_live() then C.aj_jit_pin(recording, value) end
  end
  local function is_part(value) return is_tensor(value) or type(value) == "table" and getmetatable(value) ~= nil end
  for i = 1, #modules do
    local module = modules[i]
    for key, value in next, module do
      if is_part(value) then add(module, key, value)
      elseif type(value) == "table" and key ~= "_hooks" then
        for inner, part in next, value do if is_part(part) then add(value, inner, part) end end
      end
    end
    local hooks = rawget(module, "_hooks")
    add(module, "_hooks", hooks)
    for _, list in pairs(hooks or {}) do
      add(list, #list, list[#list])
      add(list, #list + 1, nil)
    end
  end
  return checker(owners, keys, values, #keys)
end

--- Has f called before each later run of the recording in progress: it passes on what Lua decides, such as learning rates.
--- When it returns false, what was recorded is no longer so, and the function is recorded anew.
---@param f fun(): boolean
function jit.before_run(f) before[#before + 1] = f end

local function resume(recording, ok, ...)
  C.aj_jit_resume(recording)
  if not ok then error((...), 0) end
  return ...
end

--- f(...), of which a recording in progress takes no notice.
---@param f function
---@return any ...
function jit.unrecorded(f, ...)
  return resume(C.aj_jit_pause(), pcall(f, ...))
end

local function counter(list)
  local i = 0
  return function() i = i + 1 return list[i] end
end

--- Records f on these arguments, which are given in a form of their own.
local function record(self, n, args, tensors, rest)
  local recording = C.aj_jit_begin(lib.list(tensors, 6))
  if ffi.cast("void *", recording) == nil then lib.ok() end
  recording = ffi.gc(recording, C.aj_jit_free)
  local own, hooks, modules, modes = {}, {}, {}, {}
  before = hooks
  function jit.met(module)
    modules[#modules + 1] = module
    modes[#modules] = module.training
  end
  local ok, results = pcall(function()
    for i = 1, #tensors do own[i] = lib.check(C.aj_jit_input(recording, i - 1)) end
    local take = counter(own)
    local given = {}
    for i = 1, n do given[i] = rebuild(args[i], take) end
    local list = {watch.no_idle_bools("jit", "tensors", self.f, unpack(given, 1, n))}
    list.n = #list
    return list
  end)
  before, jit.met = nil, nil
  if not ok then
    C.aj_jit_end(recording, nil)
    error(results, 0)
  end
  local is_whole = parts_of(modules, recording)
  local outputs, shape = {}, {}
  for i = 1, results.n do flatten(results[i], outputs, shape) end
  lib.ok(C.aj_jit_end(recording, lib.list(outputs, 6)))
  -- The form of the results, without the tensors of the recorded run.
  local form = {n = results.n}
  for i = 1, results.n do form[i] = rebuild(results[i], function() return HOLE end) end
  local variant = {
    recording = recording, recorded = S.recording, autocast = S.autocast, rest = rest,
    form = form, n_out = #outputs, plain = results.n == 1 and lib.is_tensor(results[1]),
    before = hooks, modules = modules, modes = modes, is_whole = is_whole, mode_changes = mode_changes,
  }
  self.variants[#self.variants + 1] = variant
  return variant
end

local function results_of(variant)
  local recording = variant.recording
  if variant.plain then return lib.check(C.aj_jit_result(recording, 0)) end
  local list = {}
  for i = 1, variant.n_out do list[i] = lib.check(C.aj_jit_result(recording, i - 1)) end
  local take, values = counter(list), {}
  for i = 1, variant.form.n do values[i] = rebuild(variant.form[i], take) end
  return unpack(values, 1, variant.form.n)
end

--- Whether what a recording relies on in Lua is as it was; what changes from run to run is passed on.
local function is_ready(variant)
  local hooks = variant.before
  if variant.is_whole and not variant.is_whole() then return false end
  if hooks[1] and not hooks[1]() then return false end
  for i = 2, #hooks do if not hooks[i]() then return false end end
  return true
end

local function run(variant, list)
  local what = C.aj_jit_run(variant.recording, list)
  if what < 0 then lib.ok() end
  return what == 1
end

-- The common call: a few tensors and nothing else. Handles go where C reads them; the tensors live on in the caller's hands.
local PLAIN = 4
local handles = ffi.new("aj_tensor *[?]", PLAIN)
local plain_list = ffi.new "aj_list"
plain_list.v = handles
local tensor_type, is_type = ffi.typeof "aj_tensor", ffi.istype

local function put(i, v)
  if type(v) ~= "cdata" or not is_type(tensor_type, v) then return false end
  handles[i] = v
  return true
end

--- Whether the arguments are a few tensors, which plain_list then holds.
local function is_plain(n, a, b, c, d)
  if n > PLAIN then return false end
  plain_list.n = n
  return (n < 1 or put(0, a)) and (n < 2 or put(1, b)) and (n < 3 or put(2, c)) and (n < 4 or put(3, d))
end

function Jit:__call(...)
  if C.aj_jit_active() or S.watch > 1 then return self.f(...) end       -- within another's recording, part of it
  local n = select("#", ...)
  local plain, last = is_plain(n, ...), self.last
  if plain and last and last.rest == n and last.recorded == S.recording and last.autocast == S.autocast
    and last.mode_changes == mode_changes and is_ready(last) and run(last, plain_list) then return results_of(last) end
  local variants, tensors, rest, list = self.variants, nil, n, plain_list
  if not plain then
    local args = {...}
    tensors, rest = {}, {}
    for i = 1, n do flatten(args[i], tensors, rest) end
    list = lib.list(tensors, 7)
  end
  for i = 1, #variants do
    local variant = variants[i]
    if variant.recorded == S.recording and variant.autocast == S.autocast
      and (variant.rest == rest or not plain and type(variant.rest) == "table" and same(variant.rest, rest))
      and (variant.mode_changes == mode_changes or has_modes(variant)) then
      if not is_ready(variant) then
        table.remove(variants, i)
        break
      end
      if run(variant, list) then
        self.last = variant
        return results_of(variant)
      end
    end
  end
  if #variants >= self.limit then
    lib.raise(("jit: more than %d recordings of one function: shapes, numbers, keys or tables among its arguments change with each call, "
      .. "or gradients of leaves that it adds to (call zero_grad within it); {limit = ...} allows more"):format(self.limit))
  end
  return results_of(record(self, n, {...}, tensors or {...}, rest))
end

--- The number of recordings so far.
---@return integer
function Jit:count() return #self.variants end

--- f as a function that is recorded at its first call for each combination of shapes, dtypes and other arguments, and
-- replayed afterwards: no Lua, no autograd, memory planned, runs of elementwise ops fused. It computes what f computes, to
-- the bit.
--
-- What varies: the tensors that f is given, also in plain tables. Tensors that f reaches otherwise (parameters, buffers) are
-- used, and written, where they lie. Random numbers are new ones at each call; those drawn from a key of aijit.fn are the key's.
-- An optimizer's step has the rates, and counts the steps, of the call.
--
-- Modules that it called are looked at: with another tensor, module or hook in the place of one, f is recorded anew.
--
-- What is constant: all else. Numbers, strings, booleans and tables among the arguments are part of the signature: others
-- make another recording, and so do modules in another mode (:train(), :eval()) and another ai.no_grad or ai.autocast. Lua's variables, and
-- tensors made of numbers of Lua, are as they were when f was recorded; f's prints and other effects happen only then.
--
-- f may be a whole training step: optimizer:zero_grad(), :backward(), clip_grad_norm (which tells its norm to no one there)
-- and optimizer:step(); the gradients stand in .grad after each call. A recorded function called within another is part of
-- that one's recording.
--
-- It is an error, and nothing is kept, when f reads a value (item, totable, print, a mask as an index, nonzero), sets the state
-- of the random numbers, steps a schedule or an average (do that after the call), returns a tensor that requires gradients or
-- is given one, adds to a tensor that it made of numbers of Lua, or compares and uses the result nowhere (an `if`).
-- A tensor that f makes and does not return holds nothing outside of it, and its use there is an error; what f leaves in the
-- fields of a module holds what the last call gave it.
--
-- On a CUDA device a recording is one launch of a CUDA graph, and chains of elementwise ops and reductions of rows are kernels
-- that NVRTC makes (kept in AIJIT_CACHE_DIR for the next process); sums of rows are then added in another order than by the
-- ops one by one, and may differ in their last bits. All its tensors are on that device: moving one to another is an error, and so is
-- an op that waits for the device.
--
-- In the environment, AIJIT_FUSE=none replays op by op, AIJIT_FUSE=pieces without machine code, and AIJIT_CUDA_GRAPH=0 on a
-- CUDA device kernel by kernel, to compare.
---@param f function
---@param o {limit: integer?}?  the most recordings to keep, 32
---@return aijit.Jit|fun(...): ...
function jit.jit(f, o)
  if o ~= nil then
    if type(o) ~= "table" then op.helper.bad("jit", 2, "options", "a table", o) end
    op.helper.read_options("jit", o, {limit = true}, {"limit"})
    local limit = o.limit
    if limit ~= nil and (type(limit) ~= "number" or limit < 1 or limit % 1 ~= 0) then
      lib.raise("jit: limit is " .. lib.describe(limit) .. ", where a whole number from 1 is wanted")
    end
  end
  if type(f) ~= "function" and not (getmetatable(f) or {}).__call then lib.raise("jit: a function is wanted, not " .. lib.describe(f)) end
  return setmetatable({f = f, variants = {}, limit = o and o.limit or 32}, Jit)
end

return jit
