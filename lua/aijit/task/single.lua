--- One run of a class by its config: seeded, made, run, and its end told to the program.

local ai = require "aijit"

local single = {}

--- Makes an object of a class and runs it, or measures it.
---@param cls table derived from ai.Task or ai.Script
---@param config aijit.ConfigSection
---@param o? {evaluate?: string, checkpoint?: string} a phase to measure instead of a training, and with which weights
---@return table object
---@return boolean ok
---@return any problem; object.trace holds the traceback
function single.run(cls, config, o)
  if config:has "seed" then ai.manual_seed(config.seed) end
  local object = cls(config)
  local ok, problem
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

--- The words of a command line that are about the run and not the config: `--evaluate PHASE`, `--checkpoint WHICH`.
---@param words string[]
---@return string[] rest
---@return {evaluate: string?, checkpoint: string?} options
function single.words(words)
  local rest, options, i = {}, {}, 1
  while i <= #words do
    local name, value = words[i]:match("^%-%-(%a+)=(.*)$")
    name = name or words[i]:match("^%-%-(%a+)$")
    if name == "evaluate" or name == "checkpoint" then
      if not value then
        i = i + 1
        value = words[i]
      end
      if not value then error(("--%s wants %s after it"):format(name, name == "evaluate" and "a phase" or "latest, best or a path"), 0) end
      options[name] = value
    else
      rest[#rest + 1] = words[i]
    end
    i = i + 1
  end
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
