--- Launchers: how the runs of a sweep or a study are carried out. One is an argument of both, so that a cluster's scheduler comes
-- in by the same door: a table with `run(self, next_job, ended)` that
--
--   * calls next_job() for a job, {words = of the command line after the program, folder =, output = file}; nil: none at present,
--   * calls ended(job, status, problem) when one is over: 0, an exit status, or 128 and a signal's number,
--   * returns when next_job() gives nil while nothing runs.

local class = require "aijit.class"
local process = require "aijit.bindings.process"
local program = require "aijit.task.program"
local system = require "aijit.bindings.system"
local tree = require "aijit.tree"

local launcher = {}

--- Runs as processes of their own on this machine, some at a time; each gets its part of the cores, and the number of this process
-- in AIJIT_LAUNCHER, so that it saves and ends when this process dies.
---@class aijit.lab.Processes
---@overload fun(o?: {jobs: integer?}): aijit.lab.Processes
local Processes = class("Processes")
launcher.Processes = Processes

---@param o? {jobs: integer?} how many at a time: 1
function Processes:__init(o)
  local jobs = o and o.jobs or 1
  if type(jobs) ~= "number" or jobs < 1 or jobs ~= math.floor(jobs) then
    error(("Processes: jobs is %s, and must be a whole number from 1 up"):format(tostring(jobs)), 3)
  end
  self.jobs = jobs
end

--- The program and its interpreter, before the words of a run.
local function base()
  local path = program.path()
  if not path then error("runs as processes of their own want a program, a Lua file; in a session they run one after another", 0) end
  local arguments = rawget(_G, "arg")
  return {tree.exe or arguments[-1] or "luajit", path}
end

---@param next_job fun(): table?
---@param ended fun(job: table, status: integer, problem: string?)
function Processes:run(next_job, ended)
  local running, first = {}, base()
  local threads = os.getenv "OMP_NUM_THREADS" or tostring(math.max(1, math.floor(process.cores() / self.jobs)))
  local function fill()
    while #running < self.jobs do
      local job = next_job()
      if not job then return end
      local words = {first[1], first[2]}
      for _, word in ipairs(job.words) do words[#words + 1] = word end
      local pid, problem = process.start(words, {output = job.output, environment = {
        OMP_NUM_THREADS = threads, AIJIT_LAUNCHER = tostring(system.pid())}})
      if pid then running[#running + 1] = {job = job, pid = pid} else ended(job, 127, problem) end
    end
  end
  local function reap()
    for i = #running, 1, -1 do
      local status = process.ended(running[i].pid)
      if status then ended(table.remove(running, i).job, status) end
    end
  end
  local ok, problem = pcall(function()
    fill()
    while #running > 0 do
      process.sleep(0.02)
      reap()
      fill()
    end
  end)
  if ok then return end
  -- Interrupted: the runs save and end as after Ctrl-C, which a terminal has sent to them as well.
  for _, r in ipairs(running) do process.signal(r.pid, 2) end
  for _ = 1, 1500 do
    if #running == 0 then break end
    process.sleep(0.02)
    reap()
  end
  error(problem, 0)
end

--- Runs within this process, one after another.
---@class aijit.lab.Inline
---@overload fun(run: fun(job: table): integer, string?): aijit.lab.Inline
local Inline = class("Inline")
launcher.Inline = Inline

---@param run fun(job: table): integer, string? does a job; a status, and what went wrong
function Inline:__init(run) self.run_job = run end

---@param next_job fun(): table?
---@param ended fun(job: table, status: integer, problem: string?)
function Inline:run(next_job, ended)
  for job in next_job do ended(job, self.run_job(job)) end
end

return launcher
