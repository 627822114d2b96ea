--- Signals that are noted instead of answered, and asked for later. Binds the signals of core/aijit.h.

local lib = require "aijit.bindings.lib"
local C = lib.C

local signal = {}

--- From here on the signal is counted. One that the process ignores stays ignored.
---@param number integer
---@param once boolean a second one does what it did before the watch
function signal.watch(number, once) lib.ok(C.aj_signal_watch(number, once)) end

--- How many have come since it was watched.
---@param number integer
---@return integer
function signal.seen(number) return C.aj_signal_seen(number) end

--- The signal does again what it did before.
---@param number integer
function signal.unwatch(number) C.aj_signal_unwatch(number) end

return signal
