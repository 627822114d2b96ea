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

---@param cls table a class derived from ai.Task or ai.Script
---@param given? table|string
---@param words? string[]
return function(cls, given, words)
  if not class.is_class(cls) then error("launch is called on a class: MyTask:launch(config)", 3) end
  local program = words == nil
  if program then require("aijit.config.user").welcome() end
  local ok, rest, about = pcall(single.words, words or rawget(_G, "arg") or {})
  local lines
  if ok then ok, lines = pcall(command.sweep, rest) end
  if not ok then
    local problem = tostring(lines or rest)
    if not program then error(problem, 3) end
    leave(2, problem)
  end
  local task
  for _, line in ipairs(lines) do
    local config, action
    ok, config = pcall(base_config, cls, given)
    if ok then ok, action = pcall(command.merge, config, line) end
    if ok and not action then ok, action = pcall(config.check_completeness, config) end
    if not ok then
      local problem = tostring(action or config)
      if not program then error(problem, 3) end
      leave(2, problem)
    end
    if type(action) == "string" then
      io.stdout:write(command.answer(config, action))
      return nil
    end
    if #lines > 1 and program then io.stdout:write(("run: %s\n"):format(table.concat(line, " "))) end
    local problem
    task, ok, problem = single.run(cls, config, about)
    if not ok then
      local interrupted = problem == "interrupted"
      -- The aijit executable ends an interrupted program as a signal would; plain luajit needs to be told.
      if not program or interrupted and package.preload["aijit.host"] then error(problem, 0) end
      leave(interrupted and 130 or 1, interrupted and "interrupted" or task.trace or tostring(problem))
    end
  end
  return task
end
