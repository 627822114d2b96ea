--- Threads: functions that run beside the program, each in a Lua state of its own.
--
--     local t = ai.thread(function(n) return require("aijit").randn(n, n):sum():item() end, 100)
--     print(t:join())
--
-- The function arrives there as a copy: what it names of modules is required anew, its upvalues are copies of what they were
-- here, and globals of this program do not exist there. A module's name in its place: that module gives the function. Arguments
-- and results cross as data (see `aijit.thread.channel`), tensors without a copy. Ops there use one thread each. Ctrl-C reaches
-- the first thread alone; the others are stopped when the program ends.

local class = require "aijit.class"
local Channel = require "aijit.thread.channel"
local portable = require "aijit.thread.portable"
local raw = require "aijit.bindings.thread"
local lib = require "aijit.bindings.lib"

---@class aijit.Thread
local Thread = class("Thread")

local function begin(self, o, f, ...)
  self._results = raw.channel(1)
  local names = {"(results)", "the function"}
  for i = 1, select("#", ...) do names[i + 2] = o.names and o.names[i + 2] or "argument " .. i end
  local box = raw.channel(1)
  local values = {n = select("#", ...) + 2, names = names, self._results, f, ...}
  raw.put(box, portable.pack(values, o.who or "thread", {code = true, hint = o.hint}))
  self._thread = raw.start("aijit.thread.worker", box)
  return self
end

---@param f function|string a function, or the name of a module that gives one
---@param ... any its arguments
function Thread:__init(f, ...)
  if type(f) ~= "function" and type(f) ~= "string" then
    error(("thread: a function or the name of a module is wanted, not a %s"):format(type(f)), 3)
  end
  begin(self, {}, f, ...)
end

--- Whether it has ended.
---@return boolean
function Thread:is_done() return (raw.join(self._thread, 0)) end

local function collect(self, timeout)
  local ended, problem = raw.join(self._thread, timeout)
  if not ended then return false end
  local text, tensors, channels, message = raw.get(self._results, 0)
  if not text then
    self._answer = {false, {value = "thread: it ended without a result" .. (problem and ": " .. problem or "")}, n = 2}
  else
    self._answer = portable.unpack(text, tensors, channels)
    for i = 1, self._answer.n do
      if lib.is_tensor(self._answer[i]) then require("aijit").keep(self._answer[i]) end
    end
    raw.done_with(message)
  end
  return true
end

--- Waits for its end. Raises what it raised, with the place there.
---@param timeout? number seconds; nil: as long as it takes
---@return any ... what its function returned; nil, "timeout" when it still runs
function Thread:join(timeout)
  if not self._answer and not collect(self, timeout) then return nil, "timeout" end
  local answer = self._answer
  if answer[1] then return unpack(answer, 2, answer.n) end
  local problem = answer[2]
  if type(problem.value) == "string" and problem.traceback then
    error(problem.value .. "\nin a thread:\n" .. problem.traceback, 0)
  end
  error(problem.value, 0)
end

--- Asks it to end: its next op, or wait at a channel, raises "interrupted" there.
function Thread:stop() raw.stop(self._thread) end

--- A thread whose errors about its arguments name them otherwise.
---@param o {who: string, names: string[], hint: string}
---@param f string
---@param ... any
---@return aijit.Thread
local function start(o, f, ...) return begin(setmetatable({}, Thread), o, f, ...) end

return setmetatable({Thread = Thread, Channel = Channel, start = start}, {__name = "aijit.thread", __call = function(_, ...) return Thread(...) end})
