--- A task measured without being trained: on a phase, with the weights of a checkpoint.

local ai = require "aijit"
local Board = require "aijit.log.board"
local checkpoint = require "aijit.task.checkpoint"
local jsonl = require "aijit.log.jsonl"
local log = require "aijit.log"
local loop = require "aijit.task.loop"
local pass = require "aijit.task.pass"

local evaluate = {}

--- Gives a task the weights of a checkpoint as they are to be used: the average where there is one.
---@param task aijit.Task
---@param kept table from checkpoint.load
function evaluate.show(task, kept)
  task:load_state_dict(kept.ema or kept.model)
  task.state:load(kept.state)
end

local function note(task, phase, which, results)
  local fields = {{"t", os.time()}, {"phase", phase}, {"checkpoint", which or "as it is"}, {"step", task.state.num_steps}}
  local names = {}
  for name in pairs(results) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do fields[#fields + 1] = {phase .. "/" .. name, results[name]} end
  local file = jsonl.open(task.exp_dir .. "/evaluations.jsonl")
  file:write(jsonl.line(fields), "\n")
  file:close()
end

--- Goes through the data of a phase. Prints the results, and adds a line to evaluations.jsonl where the run has a folder.
---@param task aijit.Task
---@param phase "valid"|"test"|"train"
---@param which string? path of a checkpoint, "latest", "best"; nil: the weights as they are
---@return table<string, number> results
function evaluate.run(task, phase, which)
  if phase ~= "valid" and phase ~= "test" and phase ~= "train" then
    error(("evaluate: the phase is 'valid', 'test' or 'train', not '%s'"):format(tostring(phase)), 3)
  end
  local config = task.config
  local exp_dir = task.exp_dir or config.exp_dir
  local run = loop.begin(task)
  local loader = task:get_loader(phase)
  if not loader then error(("%s:get_dataset(\"%s\") gave nothing to evaluate"):format(task.__name, phase), 3) end
  run.loader = loader
  loop.infer_sizes(task, run)
  if which then
    which = checkpoint.find(exp_dir, which, {metric = config.best_metric, mode = config.best_mode})
    evaluate.show(task, checkpoint.load(which))
  end
  task.exp_dir = exp_dir
  local board = task.board
  task.board = Board()
  task.board:add(log.Stdout())
  if exp_dir then task.board:add(log.Images(exp_dir)) end
  local was = ai.deterministic()
  if config.deterministic then ai.deterministic(true) end
  local state = task.state
  local ok, results = pcall(pass.run, task, run, phase, loader, {
    step = state.num_steps, samples = state.num_samples, epoch = state.num_epochs, phase = phase, elapsed = state.elapsed,
  })
  ai.deterministic(was)
  task.board:stop()
  task.board = board
  if not ok then error(results, 0) end
  if not results then error("interrupted", 0) end
  if exp_dir then note(task, phase, which, results) end
  return results
end

return evaluate
