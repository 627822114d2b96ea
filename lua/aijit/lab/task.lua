--- Studies over a task's config: `program.lua --study FILE [--trials N] [--jobs N]`. FILE, of YAML, JSON or Lua, says what is searched:
---
---     space:
---       learning_rate: {loguniform: [1e-4, 1e-1]}
---       hidden: {int: [16, 256], log: true}
---     metric: loss            # of the validation
---     direction: minimize
---     sampler: tpe            # or random
---     asha: {min: 100, factor: 3}
---     trials: 50
---
--- Each trial is a run of the task in FOLDER/trial_N, with its values as words of the command line; its value is the best that
--- its validations gave.

local ai = require "aijit"
local Callback = require("aijit.task.callback").Callback
local class = require "aijit.class"
local folder = require "aijit.task.folder"
local launcher = require "aijit.lab.launcher"
local nearest = require "aijit.nearest"
local single = require "aijit.task.single"
local Study = require "aijit.lab.study"

local M = {}

local known = {"asha", "direction", "folder", "metric", "sampler", "seed", "space", "trials"}

local function read(path)
  local ok, t = pcall(require("aijit.config.file").read, path)
  if not ok then error((tostring(t):gsub("^[^\n:]+%.lua:%d+: ", "")), 0) end
  for key in pairs(t) do
    local found = false
    for _, name in ipairs(known) do found = found or name == key end
    if not found then error(("study file '%s': there is no '%s': %s"):format(path, tostring(key), nearest.hint(tostring(key), known)), 0) end
  end
  return t
end

local function word(name, value)
  if type(value) == "number" then return ("%s=%.17g"):format(name, value) end
  if type(value) == "boolean" then return ("%s=%s"):format(name, tostring(value)) end
  return ('%s="%s"'):format(name, (value:gsub('[\\"]', "\\%0")))
end

---@class aijit.lab.Report: aijit.Callback
local Report = class("Report", Callback)

function Report:__init(study, number)
  self.study, self.number = study, number
end

function Report:on_validation_end(task, state)
  local study = self.study
  local value = state.valid[study.metric]
  if value == nil then
    local names = {}
    for name in pairs(state.valid) do names[#names + 1] = name end
    table.sort(names)
    error(("the study's metric '%s' is no result of the validation: %s"):format(study.metric, nearest.hint(study.metric, names)), 0)
  end
  if study:report(self.number, value, state.num_steps) then
    self.pruned = true
    task:stop "pruned by the study"
  end
end

--- Lets a task report to the study whose trial it is.
---@param task aijit.Task
---@param trial string DIR:N, as the study writes it
function M.attach(task, trial)
  local dir, number = trial:match "^(.*):(%d+)$"
  if not dir then error(("--trial is '%s', and must be a study's folder and a number, DIR:N"):format(trial), 0) end
  if not task.add_callback then error("a study is of a task; a script has no validation", 0) end
  local setting = ai.json.decode(require("aijit.io.file").read(dir .. "/setting.json"))
  local study = Study {folder = dir, pruner = setting.asha and require "aijit.lab.asha"(setting.asha) or nil}
  task:add_callback(Report(study, tonumber(number)))
end

local function value_of(study, number)
  local best
  local better = study.direction == "maximize" and math.max or math.min
  for _, r in ipairs(study.trials[number].reports) do best = best and better(best, r.value) or r.value end
  return best
end

--- Opens a study over a task's class, and raises what is wrong with its file before any run.
---@param cls table
---@param words string[] that all runs have
---@param o {study: string, trials: integer?, config: table, config_of: fun(line: string[]): table}
---@return {study: aijit.lab.Study, folder: string, trials: integer} search for `run`
function M.open(cls, words, o)
  local setting = read(o.study)
  local trials = o.trials or setting.trials
  if type(trials) ~= "number" then error(("how many trials? --trials N, or trials: N in '%s'"):format(o.study), 0) end
  local parent = o.config.run_dir or require("aijit.config.user").directory("run", "RUN_DIR") or "runs"
  local dir = setting.folder or ("%s/%s/%s"):format(parent, folder.snake(cls.__name), o.study:match("([^/]+)%.%w+$") or "study")
  local ok, study = pcall(Study, {folder = dir, space = setting.space, direction = setting.direction, seed = setting.seed, sampler = setting.sampler,
    metric = setting.metric, pruner = setting.asha and require "aijit.lab.asha"(setting.asha) or nil})
  if not ok then error((tostring(study):gsub("^[^\n:]+%.lua:%d+: ", "")), 0) end
  for _, entry in ipairs(study.space) do                 -- a wrong name is found before the first run
    local d = entry.dimension
    local line = {unpack(words)}
    line[#line + 1] = word(entry.name, d:value(d.kind == "choice" and 1 or 0.5))
    o.config_of(line)
  end
  require("aijit.io.file").write(dir .. "/setting.json", ai.json.encode {asha = setting.asha})
  return {study = study, folder = dir, trials = trials}
end

--- Runs the trials of a study that `open` gave.
---@param search {study: aijit.lab.Study, folder: string, trials: integer}
---@param cls table
---@param words string[] that all runs have
---@param o {jobs: integer?, launcher: table?, config_of: fun(line: string[]): table}
---@return aijit.lab.Study
function M.run(search, cls, words, o)
  local study, dir, trials = search.study, search.folder, search.trials
  local begun, several = 0, o.launcher or (o.jobs or 1) > 1
  local ended_before = study:ended()
  local way = o.launcher or several and launcher.Processes{jobs = o.jobs} or launcher.Inline(function(job)
    local made, object, done, problem = pcall(single.run, cls, o.config_of(job.line), {trial = job.trial})
    if made and done then return 0 end
    if not made then problem = object end
    if problem == "interrupted" then
      study:tell(job.number, "lost")
      error(problem, 0)
    end
    return 1, tostring(problem):match "^[^\n]*"
  end)
  local function next_job()
    if ended_before + begun >= trials then return nil end
    begun = begun + 1
    local trial = study:ask()
    local line = {unpack(words)}
    for _, entry in ipairs(study.space) do
      local value = trial.params[entry.name]
      if value ~= nil then line[#line + 1] = word(entry.name, value) end
    end
    local exp_dir, id = ("%s/trial_%d"):format(dir, trial.number), ("%s:%d"):format(dir, trial.number)
    line[#line + 1] = "exp_dir=" .. exp_dir
    local child = {"--trial", id}
    for _, w in ipairs(line) do child[#child + 1] = w end
    io.stdout:write(("trial %d: %s\n"):format(trial.number, table.concat(line, " ", #words + 1, #line - 1)))
    io.stdout:flush()
    return {number = trial.number, words = child, line = line, folder = exp_dir, output = several and exp_dir .. ".txt" or nil, trial = id}
  end
  local function ended(job, status, problem)
    study:refresh()
    local result = require("aijit.task.sweep").result_of(job.folder)
    local pruned = result and result.stopped == "pruned by the study"
    if status > 128 then study:tell(job.number, "lost")
    elseif status ~= 0 then study:tell(job.number, "failed", nil, problem or ("exit status %d; see %s"):format(status, job.output))
    elseif pruned then study:tell(job.number, "pruned")
    else study:tell(job.number, "done", value_of(study, job.number)) end
    local t = study.trials[job.number]
    local what = t.value and (": %s %.6g"):format(study.metric, t.value) or t.problem and ": " .. t.problem or ""
    io.stdout:write(("trial %d %s%s\n"):format(t.number, t.state, what))
    io.stdout:flush()
  end
  local fine, problem = pcall(way.run, way, next_job, ended)
  study:refresh()
  io.stdout:write("\n", tostring(study), ("the study is in %s\n"):format(dir))
  io.stdout:flush()
  if not fine then error(problem, 0) end
  return study
end

return M
