--- A search for good values: ai.lab.Study.
---
---     local study = ai.lab.Study{folder = "studies/curve", space = {x = ai.lab.uniform(-1, 1), y = ai.lab.loguniform(1e-3, 1)}}
---     study:run(function(trial) return (trial.params.x - 0.3) ^ 2 + math.log(trial.params.y) ^ 2 end, {trials = 50})
---     print(study, study:best().params.x)
---
--- All that happens is a line in FOLDER/study.jsonl, so that a study goes on where it was broken off, also after kill -9, and
--- several processes can work on one. Values depend on the seed, a trial's number, and what was finished when it began.

local ai = require "aijit"
local Appender = require "aijit.log.appender"
local class = require "aijit.class"
local process = require "aijit.bindings.process"
local sampler = require "aijit.lab.sampler"
local space = require "aijit.lab.space"
local system = require "aijit.bindings.system"
local tables = require "aijit.lab.table"

---@class aijit.lab.Trial
---@field number integer
---@field params table<string, any>
---@field state "running"|"done"|"pruned"|"failed"|"lost"
---@field value number?   what came out, as it was given
---@field problem string? of a failed one
---@field reports {step: number, value: number}[]
---@field seconds number?
local Trial = class("Trial")

---@class aijit.lab.Study
---@field trials aijit.lab.Trial[]
---@overload fun(o: table): aijit.lab.Study
local Study = class("Study")

local known = {folder = 1, space = 1, direction = 1, seed = 1, sampler = 1, pruner = 1, metric = 1}

local function pick(what, value, choices)
  if type(value) ~= "string" then return value end
  if not choices[value] then
    local names = {}
    for name in pairs(choices) do names[#names + 1] = name end
    table.sort(names)
    error(("Study: the %s is '%s': %s"):format(what, value, require("aijit.nearest").hint(value, names)), 0)
  end
  return choices[value]()
end

local function describe(self)
  local dims = {}
  for _, entry in ipairs(self.space) do dims[entry.name] = entry.dimension:describe() end
  return {space = dims, direction = self.direction, seed = self.seed, metric = self.metric}
end

---@param o {folder: string, space: table<string, aijit.lab.Dimension|table>, direction: "minimize"|"maximize"?, seed: integer?,
---  sampler: table|"tpe"|"random"?, pruner: aijit.lab.ASHA?, metric: string?}  metric: of a task's validation ("loss").
---  A folder that holds a study needs no space; another space or direction than its own is an error.
function Study:__init(o)
  if type(o) ~= "table" or type(o.folder) ~= "string" then error("Study: a table with a folder and a space is wanted", 3) end
  for key in pairs(o) do
    if not known[key] then
      local names = {}
      for name in pairs(known) do names[#names + 1] = name end
      table.sort(names)
      error(("Study: there is no '%s': %s"):format(tostring(key), require("aijit.nearest").hint(tostring(key), names)), 3)
    end
  end
  if o.direction and o.direction ~= "minimize" and o.direction ~= "maximize" then
    error(("Study: the direction is '%s', and must be minimize or maximize"):format(tostring(o.direction)), 3)
  end
  self.folder, self.path = o.folder, o.folder .. "/study.jsonl"
  self.sampler = pick("sampler", o.sampler or "tpe", {tpe = function() return sampler.TPE() end, random = function() return sampler.Random() end})
  self.pruner = o.pruner
  if type(o.pruner) == "table" and getmetatable(o.pruner) == nil then self.pruner = require "aijit.lab.asha"(o.pruner) end
  system.make_directories(self.folder)
  self.trials, self._offset, self._depth = {}, 0, 0
  self:locked(function()
    self:refresh()
    local mine = o.space and space.from(o.space)
    if self._header then
      local own = space.from(self._header.space)
      if mine then
        self.space = mine
        self.direction, self.seed, self.metric = o.direction or self._header.direction, self._header.seed, self._header.metric
        local here, there = describe(self), {space = {}, direction = self._header.direction, seed = self._header.seed, metric = self._header.metric}
        for _, entry in ipairs(own) do there.space[entry.name] = entry.dimension:describe() end
        if ai.json.encode(here) ~= ai.json.encode(there) then
          error(("Study: the folder '%s' holds a study of another space or direction: give this one its own"):format(self.folder), 0)
        end
      end
      self.space, self.direction, self.seed, self.metric = own, self._header.direction, self._header.seed, self._header.metric
    else
      if not mine then error(("Study: the folder '%s' holds no study, and no space is given"):format(self.folder), 0) end
      self.space, self.direction, self.seed, self.metric = mine, o.direction or "minimize", o.seed or 1, o.metric or "loss"
      self:append(describe(self))
    end
  end)
end

-- -- The file ---------------------------------------------------------------------------------------------------------------

--- Runs f while no other process writes to the study.
function Study:locked(f)
  if self._depth > 0 then return f() end
  local lock
  for _ = 1, 3000 do
    lock = system.lock(self.folder .. "/lock")
    if lock then break end
    process.sleep(0.01)
  end
  if not lock then error(("Study: another process has held '%s/lock' for 30 seconds"):format(self.folder), 0) end
  self._depth = 1
  local results = {pcall(f)}
  self._depth = 0
  system.unlock(lock)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2)
end

local function take(self, line)
  if line.space then
    self._header = line
    return
  end
  local trial = self.trials[line.trial]
  if line.params then
    if not trial then
      trial = Trial()
      trial.number, trial.reports = line.trial, {}
      self.trials[line.trial] = trial
    end
    trial.params, trial.state, trial.pid, trial.host = line.params, "running", line.pid, line.host
  elseif trial and line.step then
    local reports = trial.reports                          -- one that was broken off and is done again reports steps again
    while reports[1] and reports[#reports].step >= line.step do reports[#reports] = nil end
    reports[#reports + 1] = {step = line.step, value = line.value}
  elseif trial and line.state then
    trial.state, trial.value, trial.problem, trial.seconds = line.state, line.value, line.problem, line.seconds
  end
end

--- Reads what has been written since. A last line without an end is one that a crash tore, or that is being written.
function Study:refresh()
  local handle = io.open(self.path, "rb")
  if not handle then return end
  handle:seek("set", self._offset)
  local text = handle:read "*a"
  handle:close()
  local whole = text:match "^(.*\n)"
  if not whole then return end
  self._offset = self._offset + #whole
  for piece in whole:gmatch "[^\n]+" do
    local ok, line = pcall(ai.json.decode, piece)
    if ok and type(line) == "table" then take(self, line) end
  end
end

--- Adds a line, on the disk when this returns; under the lock.
function Study:append(line)
  local out = Appender(self.path, {lines = true})
  out:write(ai.json.encode(line), "\n")
  out:position()
  out:close()
  self:refresh()
end

-- -- Trials -----------------------------------------------------------------------------------------------------------------

local function sign(self) return self.direction == "maximize" and -1 or 1 end

--- The finished trials with their values, smaller being better; those of pruned ones count as what they reported last.
local function history(self)
  local list = {}
  for _, t in ipairs(self.trials) do
    local value = t.state == "done" and t.value or t.state == "pruned" and t.reports[#t.reports] and t.reports[#t.reports].value
    if value and value == value then list[#list + 1] = {params = t.params, value = sign(self) * value} end
  end
  return list
end

--- The next trial, begun: one that was broken off again, or a new one.
---@return aijit.lab.Trial
function Study:ask()
  return self:locked(function()
    self:refresh()
    local number, params
    for _, t in ipairs(self.trials) do
      if t.state == "lost" or t.state == "running" and t.host == system.hostname() and not process.is_there(t.pid) then
        number, params = t.number, t.params
        break
      end
    end
    if not number then
      number = #self.trials + 1
      params = self.sampler:suggest(self.space, history(self), sampler.random(self.seed, number))
    end
    self:append {trial = number, params = params, pid = system.pid(), host = system.hostname()}
    local trial = self.trials[number]
    trial.study, trial.began = self, system.monotonic()
    return trial
  end)
end

--- Says how far a trial is. Whether it is to end.
---@param trial aijit.lab.Trial|integer
---@param value number
---@param step number
---@return boolean stop
function Study:report(trial, value, step)
  local number = type(trial) == "table" and trial.number or trial
  if type(value) ~= "number" or type(step) ~= "number" then error("Study: a report is a value and a step", 2) end
  if value - value ~= 0 then value = nil end               -- JSON has no NaN; a report without a value is the worst
  return self:locked(function()
    self:append {trial = number, step = step, value = value or sign(self) * 1e300}
    if not self.pruner then return false end
    local mine, others = {}, {}
    for _, t in ipairs(self.trials) do
      local list = {}
      for i, r in ipairs(t.reports) do list[i] = {step = r.step, value = sign(self) * r.value} end
      if t.number == number then mine = list else others[#others + 1] = list end
    end
    return self.pruner:stops(mine, others)
  end)
end

--- Ends a trial.
---@param trial aijit.lab.Trial|integer
---@param state "done"|"pruned"|"failed"|"lost"
---@param value number? of one that is done
---@param problem string? of one that failed
function Study:tell(trial, state, value, problem)
  local number = type(trial) == "table" and trial.number or trial
  if state == "done" and (type(value) ~= "number" or value - value ~= 0) then
    state, problem, value = "failed", ("its value is %s"):format(tostring(value)), nil
  end
  local began = type(trial) == "table" and trial.began
  self:locked(function()
    self:append {trial = number, state = state, value = value, problem = problem, seconds = began and system.monotonic() - began or nil}
  end)
end

--- Says how far this trial is. Whether it is to end: then return study.PRUNED, or nothing.
---@param value number
---@param step number
---@return boolean stop
function Trial:report(value, step)
  self.stop = self.study:report(self, value, step)
  return self.stop
end

--- Calls a function for each trial with its params until as many trials have ended as are wanted. What it returns is the trial's
--- value; an error ends the trial as failed, and the study goes on. Interrupted, the trial is done again later.
---@param objective fun(trial: aijit.lab.Trial): number
---@param o {trials: integer} in all, those of earlier runs counted
---@return aijit.lab.Study self
function Study:run(objective, o)
  if type(objective) ~= "function" then error("Study:run: a function of a trial is wanted", 2) end
  if type(o) ~= "table" or type(o.trials) ~= "number" then error("Study:run: {trials = N} says how many there are to be", 2) end
  while self:ended() < o.trials do
    local trial = self:ask()
    local ok, value = pcall(objective, trial)
    if ok and trial.stop then self:tell(trial, "pruned")
    elseif ok then self:tell(trial, "done", value)
    elseif value == "interrupted" or tostring(value):match ": interrupted$" then
      self:tell(trial, "lost")
      error(value, 0)
    else self:tell(trial, "failed", nil, tostring(value):match "^[^\n]*") end
  end
  return self
end

--- How many trials have ended.
---@return integer
function Study:ended()
  self:refresh()
  local n = 0
  for _, t in ipairs(self.trials) do if t.state == "done" or t.state == "pruned" or t.state == "failed" then n = n + 1 end end
  return n
end

--- The finished trial with the best value; nil when there is none.
---@return aijit.lab.Trial?
function Study:best()
  local best
  for _, t in ipairs(self.trials) do
    if t.state == "done" and (not best or sign(self) * t.value < sign(self) * best.value) then best = t end
  end
  return best
end

--- The columns and rows of the trials, the best first.
function Study:rows()
  local columns, rows = {"trial", "value", "state"}, {}
  for _, entry in ipairs(self.space) do columns[#columns + 1] = entry.name end
  local function rank(t)
    if t.state == "done" then return 0, sign(self) * t.value end
    return t.state == "pruned" and 1 or t.state == "failed" and 3 or 2, t.number
  end
  for i, t in ipairs(tables.ranked(self.trials, rank)) do
    local last = t.reports[#t.reports]
    local row = {t.number, t.value or last and last.value, t.problem and ("%s: %s"):format(t.state, t.problem) or t.state}
    for k, entry in ipairs(self.space) do row[3 + k] = t.params[entry.name] end
    rows[i] = row
  end
  return columns, rows
end

function Study:__tostring() return tables.text(self:rows()) end

--- A picture of the study: the values of the trials in order with the best so far, and beside it a panel for each dimension of
--- numbers with the values over it.
---@param path string PNG or JPEG
---@return aijit.lab.Study self
function Study:plot(path)
  local done = {}
  for _, t in ipairs(self.trials) do if t.state == "done" then done[#done + 1] = t end end
  if #done == 0 then error("Study:plot: no trial has ended yet", 2) end
  local plot, panels, images = ai.plot, {}, {}
  local x, y, best = {}, {}, {}
  for i, t in ipairs(done) do
    x[i], y[i] = t.number, t.value
    best[i] = i == 1 and t.value or (sign(self) * t.value < sign(self) * best[i - 1] and t.value or best[i - 1])
  end
  panels[1] = plot({trial = {x = x, y = y, kind = "scatter"}, ["best so far"] = {x = x, y = best}}, {title = "value over trials", x_label = "trial"})
  for _, entry in ipairs(self.space) do
    local px, py = {}, {}
    for _, t in ipairs(done) do
      local v = t.params[entry.name]
      if type(v) == "number" then px[#px + 1], py[#py + 1] = v, t.value end
    end
    if #px > 0 then panels[#panels + 1] = plot.scatter({value = {x = px, y = py}}, {title = entry.name, x_label = entry.name, log_x = entry.dimension.log}) end
  end
  ai.scope(function()
    for i, figure in ipairs(panels) do
      figure.options.width, figure.options.height = 600, 400
      images[i] = figure:image()
    end
    local rows, blank = {}, ai.full({400, 600, 3}, 255, {dtype = "u8"})
    for i = 1, #images, 2 do rows[#rows + 1] = ai.cat({images[i], images[i + 1] or blank}, 2) end
    ai.save(ai.cat(rows, 1), path)
  end)
  return self
end

return Study
