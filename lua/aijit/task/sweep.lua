--- The runs of a sweep, `-m lr=1e-3,1e-2 width=range(16,64,16)`: a folder with a run in it for each line, and the table of what
--- came out. A sweep that was broken off goes on in its folder (`--sweep DIR`): runs that are done are not done again, and one
--- that was in the middle is resumed by its last checkpoint.

local ai = require "aijit"
local file = require "aijit.io.file"
local folder = require "aijit.task.folder"
local launcher = require "aijit.lab.launcher"
local tables = require "aijit.lab.table"

local sweep = {}

local function result_of(dir)
  local path = dir .. "/result.json"
  local ok, result = pcall(ai.json.decode, file.exists(path) and file.read(path) or "")
  return ok and type(result) == "table" and result or nil
end
sweep.result_of = result_of

--- The last line of a run's output that says something.
local function last_words(path)
  local last
  local handle = path and io.open(path, "r")
  if handle then
    for line in handle:lines() do if line:match "%S" and not line:match "^%s" and not line:match "^stack traceback" then last = line end end
    handle:close()
  end
  return last and last:gsub("^aijit: ", "")
end

--- What differs between the lines: name -> true, and the names in order.
local function varied(lines)
  local names, values, order = {}, {}, {}
  for _, line in ipairs(lines) do
    for _, word in ipairs(line) do
      local name, value = word:match "^%+*([%a_][%w_%-%.]*)=(.*)$"
      if name then
        if values[name] == nil then
          values[name] = value
          order[#order + 1] = name
        elseif values[name] ~= value then names[name] = true end
      end
    end
  end
  local list = {}
  for _, name in ipairs(order) do if names[name] then list[#list + 1] = name end end
  return list
end

local function value_in(line, name)
  for i = #line, 1, -1 do
    local key, value = line[i]:match "^%+*([%a_][%w_%-%.]*)=(.*)$"
    if key == name then return tonumber(value) or value end
  end
end

--- The columns and rows of a sweep's table: the best run first, by the metric; those without a result last.
---@param jobs table[]
---@param names string[] what is varied
---@param metric string
---@param mode "min"|"max"
function sweep.rows(jobs, names, metric, mode)
  local metrics, seen = {}, {}
  for _, job in ipairs(jobs) do
    for name in pairs(job.result and job.result.valid or {}) do
      if not seen[name] then
        seen[name] = true
        metrics[#metrics + 1] = name
      end
    end
  end
  table.sort(metrics, function(a, b)
    if (a == metric) ~= (b == metric) then return a == metric end
    return a < b
  end)
  local columns = {"run"}
  for _, name in ipairs(names) do columns[#columns + 1] = name end
  for _, name in ipairs(metrics) do columns[#columns + 1] = name end
  for _, name in ipairs {"steps", "seconds", "status"} do columns[#columns + 1] = name end
  local function rank(job)
    local v = job.status == "done" and job.result and job.result.valid and job.result.valid[metric]
    if job.status ~= "done" then return 2, job.number end
    if type(v) ~= "number" or v ~= v then return 1, job.number end
    return 0, mode == "max" and -v or v
  end
  local rows = {}
  for i, job in ipairs(tables.ranked(jobs, rank)) do
    local row, n = {job.number}, 1
    local function add(v)
      n = n + 1
      row[n] = v
    end
    for _, name in ipairs(names) do add(value_in(job.line, name)) end
    for _, name in ipairs(metrics) do add(job.result and job.result.valid and job.result.valid[name]) end
    add(job.result and job.result.steps)
    add(job.result and job.result.seconds and tonumber(("%.1f"):format(job.result.seconds)))
    add(job.problem and ("%s: %s"):format(job.status, job.problem) or job.status)
    rows[i] = row
  end
  return columns, rows
end

--- The sweep's folder, with its lines in sweep.json: a new one, or one that holds the same lines.
local function open(dir, lines, config, name)
  if not dir then
    local parent = config.run_dir or require("aijit.config.user").directory("run", "RUN_DIR") or "runs"
    dir = folder.numbered(parent, name, "sweep")
  else
    require("aijit.bindings.system").make_directories(dir)
  end
  local path = dir .. "/sweep.json"
  if file.exists(path) then
    local ok, record = pcall(ai.json.decode, file.read(path))
    if not ok or type(record) ~= "table" or type(record.lines) ~= "table" then error(("'%s' cannot be read"):format(path), 0) end
    if ai.json.encode(ai.json.array(record.lines)) ~= ai.json.encode(ai.json.array(lines)) then
      error(("the folder '%s' holds another sweep, of %d runs: give this one its own, or the words of that one"):format(dir, #record.lines), 0)
    end
  else
    file.write(path, ai.json.encode {lines = ai.json.array(lines)})
  end
  return dir
end

--- Runs all lines, prints the table, and writes it to results.csv and results.json.
---@param cls table the task's or script's class
---@param lines string[][] command lines
---@param o {config: table, folder: string?, launcher: table?, jobs: integer?, run: fun(line: string[], exp_dir: string): any, boolean, any}
---@return table[] jobs
---@return any last what the last run in this process gave
function sweep.run(cls, lines, o)
  local dir = open(o.folder, lines, o.config, cls.__name)
  local jobs, at, last = {}, 0, nil
  for i, line in ipairs(lines) do
    local exp_dir = ("%s/%d"):format(dir, i)
    local words = {}
    for k, word in ipairs(line) do words[k] = word end
    words[#words + 1] = "exp_dir=" .. exp_dir
    local result = result_of(exp_dir)
    jobs[i] = {number = i, line = line, words = words, folder = exp_dir, output = ("%s/%d.txt"):format(dir, i),
      result = result, status = result and result.status == "done" and "done" or "not run"}
  end
  local way = o.launcher or (o.jobs or 1) > 1 and launcher.Processes{jobs = o.jobs} or launcher.Inline(function(job)
    io.stdout:write(("run %d of %d: %s\n"):format(job.number, #jobs, table.concat(job.line, " ")))
    job.output = nil
    local made, object, ok, problem = pcall(o.run, job.line, job.folder)
    if made and ok then
      last = object
      return 0
    end
    if not made then problem = object end
    if problem == "interrupted" then error(problem, 0) end
    return 1, tostring(problem)
  end)
  local function next_job()
    repeat at = at + 1 until not jobs[at] or jobs[at].status ~= "done"
    local job = jobs[at]
    if job and job.output and (o.launcher or (o.jobs or 1) > 1) then
      io.stdout:write(("run %d of %d starts: %s\n"):format(job.number, #jobs, table.concat(job.line, " ")))
      io.stdout:flush()
    end
    if job then job.status = "broken off" end
    return job
  end
  local function ended(job, status, problem)
    job.result = result_of(job.folder)
    if status == 0 then job.status = job.result and job.result.status or "done"
    else
      job.status = "failed"
      job.problem = problem or last_words(job.output) or ("exit status %d"):format(status)
      job.problem = job.problem:match "^[^\n]*"
    end
    if job.output then io.stdout:write(("run %d %s\n"):format(job.number, job.problem and "failed: " .. job.problem or job.status)) end
  end
  local ok, problem = pcall(way.run, way, next_job, ended)
  local config = o.config
  local columns, rows = sweep.rows(jobs, varied(lines), config:has "best_metric" and config.best_metric or "loss",
    config:has "best_mode" and config.best_mode or "min")
  file.write(dir .. "/results.csv", tables.csv(columns, rows))
  file.write(dir .. "/results.json", ai.json.encode(ai.json.array(tables.records(columns, rows))))
  io.stdout:write("\n", tables.text(columns, rows), ("the runs are in %s, this table in results.csv and results.json there\n"):format(dir))
  io.stdout:flush()
  if not ok then error(problem, 0) end
  return jobs, last
end

return sweep
