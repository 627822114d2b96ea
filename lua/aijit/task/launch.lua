--- From a task's class and a command line to a run, or to the runs of a sweep.

local class = require "aijit.class"
local command = require "aijit.config.command"
local file = require "aijit.config.file"
local Section = require "aijit.config.section"
local single = require "aijit.task.single"

local function leave(status, message)
  if message then io.stderr:write(message, "\n") end
  io.stdout:flush()
  os.exit(status, true)
end

--- The config that the program gave, as one of the class's own.
local function base_config(cls, given)
  if class.is(given, Section) then return given:copy() end
  local made = cls.Config()
  if type(given) == "string" then
    made:merge(file.read(given), "file " .. given)
  elseif given ~= nil then
    made:merge(given)
  end
  return made
end

--- The config of a command line, whole, or the answer to a question in it.
local function config_of(cls, given, line)
  local config = base_config(cls, given)
  local action = command.merge(config, line)
  if not action then
    -- By way of pcall, as the place in this file is no help to who wrote the command line.
    local ok, problem = pcall(config.check_completeness, config)
    if not ok then error(problem, 0) end
  end
  return config, action
end

---@param cls table a class derived from ai.Task or ai.Script
---@param given? table|string
---@param words? string[]
---@param o? {launcher?: table} how the runs of a sweep or a study are carried out; else --jobs N of them at a time on this machine
return function(cls, given, words, o)
  if not class.is_class(cls) then error("launch is called on a class: MyTask:launch(config)", 3) end
  local program = words == nil
  if program then require("aijit.config.user").welcome() end
  -- The aijit executable ends an interrupted program as a signal would; plain luajit needs to be told.
  local function give_up(status, problem, trace)
    local interrupted = problem == "interrupted"
    if not program then error(problem, status == 2 and 4 or 0) end
    if interrupted and package.preload["aijit.host"] then error(problem, 0) end
    leave(interrupted and 130 or status, interrupted and "interrupted" or trace or tostring(problem))
  end
  local ok, rest, about = pcall(single.words, words or rawget(_G, "arg") or {})
  if not ok then give_up(2, rest) end
  local lines
  ok, lines = pcall(command.sweep, rest)
  if not ok then give_up(2, lines) end
  local configs = {}
  for i, line in ipairs(lines) do
    local config, action
    ok, config, action = pcall(config_of, cls, given, line)
    if not ok then give_up(2, #lines > 1 and ("run %d (%s): %s"):format(i, table.concat(line, " "), tostring(config)) or config) end
    if action then
      io.stdout:write(command.answer(config, action))
      return nil
    end
    configs[i] = config
  end
  if about.study then
    local over = require "aijit.lab.task"
    local search, study
    local setting = {study = about.study, trials = about.trials, jobs = about.jobs, launcher = o and o.launcher,
      config = configs[1], config_of = function(line) return config_of(cls, given, line) end}
    ok, search = pcall(over.open, cls, rest, setting)
    if not ok then give_up(2, search) end
    ok, study = pcall(over.run, search, cls, rest, setting)
    if not ok then give_up(1, study) end
    return study
  end
  if #lines == 1 then
    local task, done, problem = single.run(cls, configs[1], about)
    if not done then give_up(1, problem, task.trace) end
    return task
  end
  for _, config in ipairs(configs) do
    if config:has "exp_dir" and config.exp_dir then
      give_up(2, "exp_dir is one folder, and each run of a sweep has its own: --sweep DIR holds them all")
    end
  end
  local jobs, last
  ok, jobs, last = pcall(require("aijit.task.sweep").run, cls, lines, {
    config = configs[1], folder = about.sweep, jobs = about.jobs, launcher = o and o.launcher,
    run = function(line, exp_dir)
      local config = config_of(cls, given, line)
      config.exp_dir = exp_dir
      return single.run(cls, config, about)
    end,
  })
  if not ok then give_up(1, jobs) end
  local failed = 0
  for _, job in ipairs(jobs) do failed = failed + (job.status == "failed" and 1 or 0) end
  if failed > 0 then give_up(1, ("%d of %d runs failed"):format(failed, #jobs)) end
  return last
end
