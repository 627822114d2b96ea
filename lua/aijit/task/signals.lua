--- Ctrl-C, SIGTERM and SIGUSR1 while a task trains: noted, and answered between two steps, so that what is saved is whole.
--
-- A second Ctrl-C or SIGTERM does what it would have done without the task.

local system = require "aijit.bindings.system"
local watch = require "aijit.bindings.signal"

local signals = {}

local watched = {{name = "SIGINT", number = 2, once = true}, {name = "SIGTERM", number = 15, once = true}, {name = "SIGUSR1", number = 10}}
local depth = 0

--- From here on they are noted, until `unwatch`. A task within a task shares its parent's watch.
function signals.watch()
  depth = depth + 1
  if depth > 1 then return end
  for _, one in ipairs(watched) do watch.watch(one.number, one.once or false) end
end

--- How many watches there are.
---@return integer
function signals.depth() return depth end

--- Ends watches until there are `left`; after the last one signals do again what they did before.
---@param left integer from `depth`
function signals.unwatch(left)
  if depth <= left then return end
  depth = left
  if depth > 0 then return end
  for _, one in ipairs(watched) do watch.unwatch(one.number) end
end

--- The signal that has come since `watch`; nil: none.
---@return {name: string, number: integer}?
function signals.requested()
  if depth == 0 then return nil end
  for _, one in ipairs(watched) do
    if watch.seen(one.number) > 0 then return one end
  end
end

--- Ends what runs as the signal asks: by what it does by default, which is to end the process, or by the error
-- "interrupted" where Ctrl-C raises one. Call it when all is saved and no longer watched.
---@param one {name: string, number: integer}
function signals.answer(one)
  io.stdout:flush()
  io.stderr:flush()
  system.signal(one.number)
  error(one.name == "SIGINT" and "interrupted" or "ended by " .. one.name, 0)
end

return signals
