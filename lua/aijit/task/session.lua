--- The life of a run, of a task or a script: its folder and lock, what is recorded of it, its loggers, signals, and its end.

local ai = require "aijit"
local file = require "aijit.io.file"
local folder = require "aijit.task.folder"
local process = require "aijit.bindings.process"
local program = require "aijit.task.program"
local signals = require "aijit.task.signals"
local system = require "aijit.bindings.system"
local watch = require "aijit.bindings.watch"

local session = {}

-- The traceback of what went wrong goes to object.trace.
local function protect(object, f)
  return xpcall(f, function(message)
    object.trace = object.trace or debug.traceback(tostring(message), 2)
    return message
  end)
end

-- A folder with checkpoints of one class is not resumed, nor written over, by another.
local function check_owner(dir, name)
  local path = dir .. "/run.json"
  if not file.exists(path) or #require("aijit.task.checkpoint").list(dir) == 0 then return end
  local ok, run = pcall(function() return ai.json.decode(file.read(path)) end)
  local owner = ok and type(run) == "table" and run.name
  if type(owner) == "string" and owner ~= "" and owner ~= name then
    error(("the folder '%s' holds the checkpoints of '%s', not of '%s': give this one its own exp_dir (if the class was renamed, write its name in %s)")
      :format(dir, owner, name, path), 0)
  end
end

local function open(object, exp_dir)
  local record = require "aijit.log.record"
  local name = getmetatable(object).__name
  object.exp_dir = exp_dir or object.exp_dir or folder.of(object.config, name)
  system.make_directories(object.exp_dir)
  local lock, kept = folder.take(object.exp_dir), #object.board.loggers
  local ok, problem = protect(object, function()
    check_owner(object.exp_dir, name)
    record.write(object.exp_dir, {config = object.config, name = name})
    program.keep(object.exp_dir)
    object:set_loggers()
    object.board:start {name = name, dir = object.exp_dir, config = object.config}
  end)
  return lock, kept, ok, problem
end

--- Runs an object with a config, a board of loggers and set_loggers. Raises what went wrong when all is closed; after a
-- signal, does as the signal asks.
---@param object table
---@param exp_dir string? the run's folder; else by the config
---@param prepare fun() while it runs, signals do what they always do, unless it watches them itself
---@param body fun() while it runs, signals are noted
function session.run(object, exp_dir, prepare, body)
  object.trace = nil
  local parent = tonumber(os.getenv "AIJIT_LAUNCHER")
  if parent then process.follow(parent, 15) end
  local was, watched = ai.deterministic(), watch.get()
  local lock, kept, ok, problem = open(object, exp_dir)
  local signal
  if ok then
    object.config:freeze " since its launch"
    if object.config:has "deterministic" and object.config.deterministic then ai.deterministic(true) end
    local depth = signals.depth()
    ok, problem = protect(object, function()
      prepare()
      signals.watch()
      body()
    end)
    signal = signals.requested()
    signals.unwatch(depth)
    if ok then ok, problem = protect(object, function() program.keep(object.exp_dir) end) end
    ai.deterministic(was)
    watch.set(watched)
  end
  object.board:stop(ok)
  -- What set_loggers has added is closed, and added anew when the object runs again.
  for i = #object.board.loggers, kept + 1, -1 do table.remove(object.board.loggers, i) end
  folder.release(lock)
  if not ok then error(problem, 0) end
  if signal then signals.answer(signal) end
end

return session
