--- Taking up a run where its newest checkpoint left it, logs included.

local ai = require "aijit"
local checkpoint = require "aijit.task.checkpoint"
local file = require "aijit.io.file"
local snapshot = require "aijit.task.snapshot"

local resume = {}

local places = {exp_dir = true, run_dir = true}

-- {"a.b" = text of the value}
local function flat(values, prefix, into)
  for key, value in pairs(values) do
    local name = prefix .. tostring(key)
    if type(value) == "table" and #value == 0 and next(value) ~= nil then
      flat(value, name .. ".", into)
    elseif not places[name] and not (type(value) == "table" and next(value) == nil) then
      into[name] = type(value) == "table" and ai.json.encode(value, {special = "string"}) or tostring(value)
    end
  end
  return into
end

--- The lines in which two configs differ, as `- name: old` and `+ name: new`. Where the run lies is no difference.
---@param old table
---@param new table
---@return string[]
function resume.difference(old, new)
  local before, after, names, lines = flat(old, "", {}), flat(new, "", {}), {}, {}
  for name in pairs(before) do names[#names + 1] = name end
  for name in pairs(after) do if not before[name] then names[#names + 1] = name end end
  table.sort(names)
  for _, name in ipairs(names) do
    if before[name] ~= after[name] then
      if before[name] then lines[#lines + 1] = ("- %s: %s"):format(name, before[name]) end
      if after[name] then lines[#lines + 1] = ("+ %s: %s"):format(name, after[name]) end
    end
  end
  return lines
end

-- A run that ends before its first checkpoint begins anew, and so do its logs: where they stood then is kept apart.
local function begin(task)
  local path = task.exp_dir .. "/start.json"
  if file.exists(path) then
    local ok, start = pcall(function() return ai.json.decode(file.read(path)) end)
    if ok and type(start) == "table" then
      for _, problem in ipairs(task.board:rewind(start.logs or {})) do task.board:status(problem) end
      return
    end
  end
  file.write(path, ai.json.encode({logs = ai.json.array(task.board:position())}) .. "\n")
end

--- Takes up the newest checkpoint that verifies, if there is one. Says which, what was passed over, and how the config differs.
---@param task aijit.Task
---@param run table
---@return boolean resumed
function resume.run(task, run)
  local path, passed = checkpoint.newest(task.exp_dir)
  for _, sentence in ipairs(passed) do task.board:status(sentence) end
  if not path then
    begin(task)
    return false
  end
  local kept = checkpoint.load(path)
  snapshot.restore(task, run, kept)
  for _, problem in ipairs(task.board:rewind(kept.state.logs or {})) do task.board:status(problem) end
  task.board:status(("resumed at step %d from %s"):format(run.state.num_steps, path))
  local lines = kept.state.config and resume.difference(kept.state.config, task.config:to_table()) or {}
  if #lines > 0 then task.board:status("the config differs from the checkpoint's:\n  " .. table.concat(lines, "\n  ")) end
  if kept.state.aijit and kept.state.aijit ~= ai._VERSION then
    task.board:status(("the checkpoint is of aijit %s, this is %s"):format(kept.state.aijit, ai._VERSION))
  end
  return true
end

return resume
