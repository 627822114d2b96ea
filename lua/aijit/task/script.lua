--- `ai.Script`: a program with a config, a run's folder and loggers, and without a training. A class derived from it writes
--- `main`.

local class = require "aijit.class"
local config = require "aijit.config"
local Logging = require "aijit.task.logging"
local session = require "aijit.task.session"
local signals = require "aijit.task.signals"
local system = require "aijit.bindings.system"

---@class aijit.Script: aijit.task.Logging
---@field config aijit.ConfigSection
local Script = class("Script", Logging)

--- The class of the script's config: exp_dir, run_dir and seed; a derived class extends it.
Script.Config = config.BareConfig.extend("ScriptConfig", {
  seed = config.field(1337, {help = "Seed of the random numbers", type = "integer", min = 0}),
  run_dir = config.field(nil, {help = "Folder of the numbered runs; else $RUN_DIR, else ./runs", type = "string"}),
  exp_dir = config.field(nil, {help = "Folder of this run", type = "string"}),
})

---@param given? table|aijit.ConfigSection a config, or a table of values for one
function Script:__init(given)
  if given == nil or type(given) == "table" and getmetatable(given) == nil then given = self.Config(given) end
  self.config = given
  self:start_logging()
end

--- What the script does.
Script.main = class.abstract "main"

--- Whether Ctrl-C, SIGTERM or SIGUSR1 has asked the script to end. From the first call on these signals wait for the script to
--- look, at a place that suits it; a script that never asks is ended by them at once.
---@return boolean
function Script:should_stop()
  if not self._watching then
    self._watching = true
    signals.watch()
  end
  return signals.requested() ~= nil
end

--- Logs a line of values: `self:log_line(step, function() self:log_scalar("x", 1) end)`.
---@param step integer
---@param f fun() logs the values
---@param o? {progress?: number, total?: integer, phase?: string}
function Script:log_line(step, f, o)
  o = o or {}
  self.board:begin {
    step = step, samples = 0, epoch = 1, phase = o.phase or "train", elapsed = system.monotonic() - self._started,
    progress = o.progress or o.total and o.total > 0 and math.min(1, step / o.total) or nil, total = o.total,
  }
  f()
  self.board:finish()
end

--- Runs it. `launch` is the usual way.
---@param exp_dir? string folder of the run; else by the config
---@return aijit.Script self
function Script:run(exp_dir)
  self._started = system.monotonic()
  session.run(self, exp_dir, function() self:main() end, function() end)
  self._watching = nil
  return self
end

--- Runs a script of this class with the program's command line on top of a config, as ai.Task does.
---@param given? table|string
---@param words? string[]
---@return aijit.Script?
function Script.launch(cls, given, words, o) return require("aijit.task.launch")(cls, given, words, o) end

return Script
