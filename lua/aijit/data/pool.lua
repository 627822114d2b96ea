--- A loader's threads. Jobs go out in order, batches come back in any, and are handed on in order again.
--
-- At most workers * prefetch batches are under way or wait, so memory is bounded. A run is what belongs together: a jump of
-- the loader begins a new one, and what is left of the old one is dropped.

local class = require "aijit.class"
local portable = require "aijit.thread.portable"
local raw = require "aijit.bindings.thread"
local start = require("aijit.thread").start

---@class aijit.data.Pool
local Pool = class("Pool")

---@param source aijit.Source
---@param o {workers: integer, prefetch: integer, parts: integer?} parts: each is always of the same worker
function Pool:__init(source, o)
  self.limit = o.workers * o.prefetch
  self.run, self.results = 0, raw.channel(self.limit + o.workers)
  self.requests, self.threads = {}, {}
  local names = {"", "", "the source", "requests", "results", "id", "count"}
  local hint = ": make it where the worker needs it (in get, or in worker_init), or load with workers = 0"
  local shared = not o.parts and raw.channel(self.limit)
  for i = 1, o.workers do
    self.requests[i] = shared or raw.channel(self.limit)
    self.threads[i] = start({who = "data.Loader", names = names, hint = hint}, "aijit.data.worker", source, self.requests[i], self.results,
      i, o.workers)
  end
  -- A loader that is forgotten lets its threads end.
  self.closers = {raw.closer(self.results)}
  for i, c in ipairs(self.requests) do self.closers[i + 1] = raw.closer(c) end
  self:restart()
end

--- Drops what is under way.
function Pool:restart()
  for _, c in ipairs(self.requests) do
    while true do
      local text, _, _, message = raw.get(c, 0)
      if not text then break end
      raw.done_with(message)
    end
  end
  self.run, self.sent, self.waiting, self.arrived = self.run + 1, 0, 0, {}
end

--- Whether there is room for one more job.
---@return boolean
function Pool:has_room() return self.waiting < self.limit end

--- Sends the next job.
---@param job aijit.Job
function Pool:send(job)
  self.sent, self.waiting = self.sent + 1, self.waiting + 1
  local to = self.requests[job.part and (job.part - 1) % #self.requests + 1 or 1]
  raw.put(to, portable.pack({n = 3, self.run, self.sent, job}, "data.Loader"))
end

-- The first values of a message, without its tensors: those are made when the batch is handed on, in the scope of then.
local function glance(text, tensors)
  local message = require("string.buffer").decode(text)
  return message.coded[1], message.coded[2], tensors
end

local function check_threads(self)
  for i, t in ipairs(self.threads) do
    if t:is_done() then
      local ok, problem = pcall(t.join, t)
      error(("data.Loader: thread %d of %d ended%s"):format(i, #self.threads, ok and "" or ": " .. tostring(problem)), 0)
    end
  end
end

--- The batch of a job, when it is there. Raises what went wrong in the worker, with the place there.
---@param number integer of the job in this run, from 1
---@return any[]? fields nil: no sample was there for it
---@return table[] skipped
function Pool:take(number)
  while not self.arrived[number] do
    local text, tensors, channels, message = raw.get(self.results, 0.5)
    if text then
      local run, which = glance(text)
      if run == self.run then self.arrived[which] = {text, tensors, channels, message} else raw.done_with(message) end
    else
      check_threads(self)
    end
  end
  local text, tensors, channels, message = unpack(self.arrived[number])
  self.arrived[number], self.waiting = nil, self.waiting - 1
  local values = portable.unpack(text, tensors, channels)
  raw.done_with(message)
  if not values[3] then
    local problem = values[4]
    error(problem.traceback and problem.problem .. "\nin a loader's thread:\n" .. problem.traceback or problem.problem, 0)
  end
  if not values[5] then return nil, values[4] end
  local fields = {n = values[5]}
  for k = 1, fields.n do fields[k] = values[5 + k] end
  return fields, values[4]
end

--- Ends the threads when they are done with what they have in hand.
function Pool:close()
  for _, c in ipairs(self.requests) do raw.close(c) end
  raw.close(self.results)
end

return Pool
