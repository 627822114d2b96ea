--- Random numbers from Philox counters: a seed and a position fix every choice, on any device and number of threads.

local lib = require "aijit.bindings.lib"
local C, ffi = lib.C, lib.ffi

local random = {}

--- Starts the stream of this thread anew.
---@param seed integer
function random.manual_seed(seed)
  if type(seed) ~= "number" or seed < 0 or seed % 1 ~= 0 then lib.raise("manual_seed: a whole number from 0 up, not " .. lib.describe(seed)) end
  C.aj_seed(seed)
end

local seed, offset = ffi.new "uint64_t[1]", ffi.new "uint64_t[1]"

--- Where the stream stands; plain data, for a checkpoint.
---@return {seed: string, offset: string}
function random.get_random_state()
  C.aj_random_state(seed, offset)
  return {seed = ("%016x"):format(tonumber(seed[0])), offset = ("%016x"):format(tonumber(offset[0]))}
end

return random
