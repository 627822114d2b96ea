--- One run of a class by its config: seeded, made, run, and its end told to the program.

local ai = require "aijit"

local single = {}

--- Makes an object of a class and runs it, or measures it.
---@param cls table derived from ai.Task or ai.Script
---@param config aijit.ConfigSection
---@param o? {evaluate?: string, checkpoint?: string, trial?: string} a phase to measure instead of a training, and with which weights;
---  the trial of a study that the run is
---@return table object
---@return boolean ok
---@return any problem; object.trace holds the traceback
function single.run(cls, config, o)
  if config:has "seed" then ai.manual_seed(config.seed) end
  local object = cls(config)
  local ok, problem
  if o and o.trial then require("aijit.lab.task").attach(object, o.trial) end
  if o and o.evaluate then
    ok, problem = xpcall(function() object:evaluate(o.evaluate, o.checkpoint or "latest") end, function(message)
      object.trace = debug.traceback(tostring(message), 2)
      return message
    end)
  else
    ok, problem = pcall(object.run, object)
  end
  return object, ok, problem
end

-- name = what is wanted after it
local run_words = {
  evaluate = "a phase", checkpoint = "latest, best or a path", jobs = "a number", sweep = "a folder", study = "a file that describes it", trials = "a number",
  trial = "a study's folder and a number",
}

--- The words of a command line that are about the run and not the config: `--evaluate PHASE`, `--checkpoint WHICH`, `--jobs N`,
-- `--sweep DIR`, `--study FILE`, `--trials N`, and `--trial DIR:N`, which a study gives to the runs it starts.
---@param words string[]
---@return string[] rest
---@return {evaluate: string?, checkpoint: string?, jobs: integer?, sweep: string?, study: string?, trials: integer?, trial: string?} options
function single.words(words)
  local rest, options, i = {}, {}, 1
  local multirun = false
  while i <= #words do
    local name, value = words[i]:match("^%-%-(%a+)=(.*)$")
    name = name or words[i]:match("^%-%-(%a+)$")
    if run_words[name] then
      if not value then
        i = i + 1
        value = words[i]
      end
      if not value then error(("--%s wants %s after it"):format(name, run_words[name]), 0) end
      options[name] = value
    else
      multirun = multirun or words[i] == "-m" or words[i] == "--multirun"
      rest[#rest + 1] = words[i]
    end
    i = i + 1
  end
  for _, name in ipairs {"jobs", "trials"} do
    if options[name] then
      local n = tonumber(options[name])
      if not n or n < 1 or n ~= math.floor(n) then error(("--%s is '%s', and must be a whole number from 1 up"):format(name, options[name]), 0) end
      options[name] = n
    end
  end
  if options.sweep and not multirun then error("--sweep belongs to -m", 0) end
  if options.jobs and not multirun and not options.study then error("--jobs belongs to -m or --study", 0) end
  if options.trials and not options.study then error("--trials belongs to --study FILE", 0) end
  if multirun and (options.evaluate or options.study) then error(("-m and --%s do not go together"):format(options.study and "study" or "evaluate"), 0) end
  if options.checkpoint and not options.evaluate then error("--checkpoint belongs to --evaluate PHASE; a training resumes by exp_dir=DIR", 0) end
  if options.evaluate then
    -- What the run was trained with comes first, and the words can change it.
    for _, word in ipairs(rest) do
      local dir = word:match("^exp_dir=(.*)$")
      local handle = dir and io.open(dir .. "/config.yaml")
      if handle then
        handle:close()
        table.insert(rest, 1, dir .. "/config.yaml")
        table.insert(rest, 1, "--config")
        break
      end
    end
  end
  return rest, options
end

return single
