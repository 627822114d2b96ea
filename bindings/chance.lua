--- The random numbers of this thread, the tensors' and math.random's, kept and put back: a loader sows them for each sample.

local lib = require "aijit.bindings.lib"
local C, ffi = lib.C, lib.ffi

local chance = {}

local seed, offset = ffi.new "uint64_t[1]", ffi.new "uint64_t[1]"

-- LuaJIT keeps the state of math.random, four words, in a userdata that the function holds.
local words
do
  local _, place = debug.getupvalue(math.random, 1)
  if type(place) == "userdata" then words = ffi.cast("uint64_t *", place) end
end

--- Both states, for `restore`.
---@return ffi.cdata*
function chance.save()
  C.aj_random_state(seed, offset)
  local kept = ffi.new "uint64_t[6]"
  kept[0], kept[1] = seed[0], offset[0]
  for i = 0, words and 3 or -1 do kept[2 + i] = words[i] end
  return kept
end

---@param kept ffi.cdata* from `save`
function chance.restore(kept)
  C.aj_set_random_state(kept[0], kept[1])
  for i = 0, words and 3 or -1 do words[i] = kept[2 + i] end
end

--- Begins both streams anew.
---@param number number whole, from 0 to 2^53
function chance.sow(number)
  C.aj_seed(number)
  math.randomseed(number)
end

return chance
