--- Random numbers from Philox counters: a seed and a position fix every choice, on any device and number of threads.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local argument = require "aijit.bindings.argument"
local C, ffi = lib.C, lib.ffi
local read, finish, shape = argument.read, argument.finish, argument.shape

local random = {}

--- Starts the stream of this thread anew.
---@param seed integer
function random.manual_seed(seed)
  if type(seed) ~= "number" or seed < 0 or seed % 1 ~= 0 then
    lib.raise("manual_seed: a whole number from 0 up, not " .. lib.describe(seed))
  end
  C.aj_seed(seed)
end

local seed, offset = ffi.new "uint64_t[1]", ffi.new "uint64_t[1]"
local function digits(v) return ("%08x%08x"):format(tonumber(v / 2 ^ 32), tonumber(v % 2ULL ^ 32)) end
local function number(text)
  local high, low = tostring(text):match "^(%x%x%x%x%x%x%x%x)(%x%x%x%x%x%x%x%x)$"
  if not high then lib.raise("set_random_state: " .. lib.describe(text) .. " is not 16 hexadecimal digits") end
  return tonumber(high, 16) * 2 ^ 32 * 1ULL + tonumber(low, 16)
end

--- Where the stream stands; plain data, for a checkpoint.
---@return {seed: string, offset: string}
function random.get_random_state()
  C.aj_random_state(seed, offset)
  return {seed = digits(seed[0]), offset = digits(offset[0])}
end

--- Puts the stream where get_random_state found it.
---@param state {seed: string, offset: string}
function random.set_random_state(state)
  if type(state) ~= "table" then op.helper.bad("set_random_state", 1, "state", "a table", state) end
  C.aj_set_random_state(number(state.seed), number(state.offset))
end

--- Uniform in [0, 1).
---@param ... any  sizes, then options
---@return aijit.Tensor
function random.rand(...)
  local d, where, o = read("rand", C.AJ_F32, ...)
  return finish(lib.check(C.aj_rand(d, shape, where), C.aj_rand, d, shape, where), o)
end

--- Normal, of mean 0 and standard deviation 1.
---@param ... any  sizes, then options
---@return aijit.Tensor
function random.randn(...)
  local d, where, o = read("randn", C.AJ_F32, ...)
  return finish(lib.check(C.aj_randn(d, shape, where), C.aj_randn, d, shape, where), o)
end

--- Whole numbers from first to last, both included (as in math.random); i64.
---@param first integer
---@param last integer
---@param ... any  sizes, then options
---@return aijit.Tensor
function random.randint(first, last, ...)
  if type(first) ~= "number" then op.helper.bad("randint", 1, "first", "a number", first) end
  if type(last) ~= "number" then op.helper.bad("randint", 2, "last", "a number", last) end
  local d, where, o = read("randint", C.AJ_I64, ...)
  return finish(lib.check(C.aj_randint(d, shape, where, first, last + 1), C.aj_randint, d, shape, where, first, last + 1), o)
end

--- The numbers 1 to n in random order; i64.
---@param n integer
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function random.randperm(n, o)
  if type(n) ~= "number" or n < 0 then op.helper.bad("randperm", 1, "n", "a number from 0 up", n) end
  local d, where = read("randperm", C.AJ_I64, {}, o)
  return finish(lib.check(C.aj_randperm(d, where, n, 1), C.aj_randperm, d, where, n, 1), o)
end

for _, name in ipairs {"rand", "randn"} do
  random[name .. "_like"] = function(t, o)
    if op.wants_whole(t) then lib.raise(name .. "_like: of a placeholder: draw in an nn.Lambda, since a graph holds what is computed, not drawn") end
    o = o or {}
    return random[name](t:size(), {dtype = o.dtype or t.dtype, device = o.device or t.device, requires_grad = o.requires_grad})
  end
end

return random
