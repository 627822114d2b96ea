--- Taking up a run where its newest checkpoint left it, logs included.

local ai = require "aijit"
local checkpoint = require "aijit.task.checkpoint"
local file = require "aijit.io.file"
local snapshot = require "aijit.task.snapshot"

local resume = {}

local places = {exp_dir = true, run_dir = true}

--- The lines in which a config differs from what it was, as `- name: old` and `+ name: new`; "" when it does not. Where the
--- run lies is no difference.
---@param config aijit.ConfigSection
---@param old table its values in a checkpoint
---@return string
function resume.difference(config, old)
  local list = config:diff(old)
  for i = #list, 1, -1 do
    local one = list[i]
    if places[one.path] then table.remove(list, i) else one.from, one.to = one.to, one.from end
  end
  return tostring(list)
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
---@return string? path of the checkpoint; nil: the run begins
function resume.run(task, run)
  local path, passed = checkpoint.newest(task.exp_dir)
  for _, sentence in ipairs(passed) do task.board:status(sentence) end
  if not path then
    begin(task)
    return nil
  end
  local kept = checkpoint.read(path)
  snapshot.restore(task, run, kept)
  for _, problem in ipairs(task.board:rewind(kept.state.logs or {})) do task.board:status(problem) end
  task.board:status(("resumed at step %d from %s"):format(run.state.num_steps, path))
  local lines = kept.state.config and resume.difference(task.config, kept.state.config) or ""
  if lines ~= "" then task.board:status("the config differs from the checkpoint's:\n  " .. lines:gsub("\n", "\n  ")) end
  if kept.state.aijit and kept.state.aijit ~= ai._VERSION then
    task.board:status(("the checkpoint is of aijit %s, this is %s"):format(kept.state.aijit, ai._VERSION))
  end
  return path
end

return resume
