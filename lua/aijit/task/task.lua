--- `ai.Task`: a model, its data, its loss and its training, in one class.
--
-- A task is an nn.Module, so what is put in its fields (`self.model = ...`) is trained and saved. A class derived from it
-- writes `get_dataset`, `get_loss` (or `forward` that gives the loss), and what else it wants to be otherwise.
--
-- What a run promises. A checkpoint is whole or is not there: files synced before they get their name, each with its SHA-256 in
-- a manifest; the newest that verifies is taken up, and newer ones that do not are named. A run that is resumed, whatever ended
-- it, comes to the bits of one that was not: weights, optimizers, schedules, averages, loss scale, random numbers, place in the
-- data, callbacks, and logs in which each step stands once. This holds on one machine, build and number of threads; with
-- config.deterministic = false, ways to convolve that are chosen by timing may differ. For math.random, whose state cannot be
-- read, each step sows it anew from the seed and the step. One task has a folder; a second one that asks for it is refused.

local class = require "aijit.class"
local config = require "aijit.config"
local Logging = require "aijit.task.logging"
local loop = require "aijit.task.loop"
local Module = require("aijit.nn").Module
local session = require "aijit.task.session"
local State = require "aijit.task.state"

---@class aijit.Task: aijit.nn.Module, aijit.task.Logging
---@field config aijit.ConfigSection
---@field state aijit.State
---@field callbacks aijit.Callback[]
---@field stopped string? why the training ends before its limits
local Task = class("Task", Module, Logging)

--- The class of the task's config; a derived class sets its own.
Task.Config = config.Config

---@param given? table|aijit.ConfigSection a config, or a table of values for one
function Task:__init(given)
  Module.__init(self)
  local Config = self.Config
  if given == nil then
    given = Config()
  elseif type(given) == "table" and getmetatable(given) == nil then
    given = Config(given)
  end
  if not class.is(given, config.BareConfig.__parents[1]) then
    error(("%s: the config is a %s, not a config or a table of its values"):format(self.__name, type(given)), 3)
  end
  self.config = given
  self.state = State()
  self.callbacks = {}
  self:start_logging()
  local early = given.early_stopping
  if early.patience > 0 then
    self:add_callback(require("aijit.task.callback").EarlyStopping {
      patience = early.patience, metric = early.metric, mode = early.mode, min_delta = early.min_delta,
    })
  end
end

-- -- What a derived class writes -----------------------------------------------------------------------------

--- The data of a phase; nil for "valid": there is no validation.
---@param phase "train"|"valid"|"test"
---@return aijit.Dataset?
Task.get_dataset = class.abstract "get_dataset"

--- The loss of a batch, the mean over its samples.
---@param batch any[] the fields of the dataset's samples, stacked
---@param state aijit.State
---@return any loss a tensor (of several elements: their mean is the loss), or a table of named ones, whose sum is the loss. Where build_optimizer gave several
---  optimizers: a table with a loss, or a table of them, for each. A function in it that gives the loss is called when the
---  optimizers before it have made their step, as a GAN wants it.
function Task:get_loss(batch, state) return self:forward(unpack(batch)) end

--- The optimizer, and, if wanted, a schedule: a function from the state to a factor of the learning rate, or an object
-- whose `step` is called after each optimizer step. Or a table of several, `{discriminator = d, generator = {g, schedule}}`:
-- each gets the gradients of its own loss, in its own parameters. Without this: the one that config.optim describes.
---@return any optimizer
---@return (fun(state: aijit.State): number)|table|nil schedule
function Task:build_optimizer()
  local ai = require "aijit"
  local o = self.config.optim
  local make = {
    adamw = "AdamW", adam = "Adam", sgd = "SGD", lion = "Lion", adan = "Adan", rmsprop = "RMSprop", adagrad = "Adagrad", adadelta = "Adadelta",
    adamax = "Adamax", nadam = "NAdam", radam = "RAdam", lamb = "LAMB", muon = "Muon", schedule_free = "ScheduleFreeAdamW",
  }
  local options = {lr = o.lr, weight_decay = o.weight_decay}
  if o.name == "muon" then
    options.adjust_lr, options.adamw_lr, options.adamw_weight_decay = "match_rms_adamw", o.lr, o.weight_decay
  end
  return ai.optim[make[o.name]](self, options)
end

--- The loader of a phase's data; nil where there are none.
---@param phase "train"|"valid"|"test"
---@return aijit.Loader?
function Task:get_loader(phase)
  local Loader = require "aijit.data.loader"
  local dataset, o = self:get_dataset(phase), self.config
  if not dataset then
    if phase == "valid" then return nil end
    error(("%s:get_dataset(\"%s\") gave nothing"):format(self.__name, phase), 2)
  end
  local training = phase == "train"
  return Loader(dataset, {
    batch_size = training and o.batch_size or o.valid_batch_size, shuffle = training and not dataset.iterate, seed = o.seed,
    workers = o.num_workers, prefetch = o.prefetch, on_error = o.on_data_error, device = o.device,
  })
end

--- Measures of a batch beside its loss. Without this: the accuracy, where the output is (B, classes) and the batch's second
-- field holds B labels from 1 to classes.
---@param batch any[]
---@param output any
---@param state aijit.State
---@return table<string, number|any>?
function Task:get_metrics(batch, output, state)
  local labels = batch[2]
  if type(output) ~= "cdata" or type(labels) ~= "cdata" then return nil end
  if output:dim() ~= 2 or labels:dim() ~= 1 or labels:size(1) ~= output:size(1) or labels.dtype ~= "i64" then return nil end
  return {accuracy = output:argmax(-1):eq(labels):to("f32"):mean()}
end

--- Called by log_step in training.
function Task:log_train_step(batch, output, state) end

--- Called by log_step in validation.
function Task:log_valid_step(batch, output, state) end

--- Called by log_step in a test. Without this: log_valid_step.
function Task:log_test_step(batch, output, state) self:log_valid_step(batch, output, state) end

--- Called before the first step, when a checkpoint has been taken up.
function Task:on_training_start(state) end

--- Called before the first step of each epoch; state.num_epochs are over.
function Task:on_epoch_start(state) end

--- Called after the last step of each epoch, which state.num_epochs counts, and before its validation.
function Task:on_epoch_end(state) end

--- Called before each optimizer step.
function Task:on_step_start(state) end

--- Called after each optimizer step, also one that was left out.
---@param state aijit.State
---@param loss number
function Task:on_step_end(state, loss) end

--- Called before each validation.
function Task:on_validation_start(state) end

--- Called after each validation; its results are in state.valid.
function Task:on_validation_end(state) end

--- Called when a checkpoint was saved.
---@param path string its folder
function Task:on_save_checkpoint(path) end

--- Called after the last step.
function Task:on_training_end(state) end

--- The number of optimizer steps that the training will take; for schedules, in build_optimizer.
---@return integer? steps nil when only the time limits it
function Task:total_steps()
  if not self._steps_per_epoch then
    local size = self:get_loader("train"):size()
    self._steps_per_epoch = size and math.ceil(size / self.config.batches_per_step)
  end
  local _, total = State():progress(State.limits(self.config), self._steps_per_epoch)
  return total
end

-- -- What a derived class calls ------------------------------------------------------------------------------

--- Logs what this step shows: the metrics, then log_train_step or log_valid_step. Call it in get_loss.
---@param batch any[]
---@param output any what the model made of it
---@param state aijit.State
function Task:log_step(batch, output, state)
  local ai = require "aijit"
  if not self.board:is_open() then return end
  ai.no_grad(function()
    if self.board:wants("scalar") then
      for name, value in pairs(self:get_metrics(batch, output, state) or {}) do self:log_scalar(name, value) end
    end
    self["log_" .. state.phase .. "_step"](self, batch, output, state)
  end)
end

--- Adds callbacks, which are called in this order, before the task's own methods. Call it in __init.
---@param ... aijit.Callback
function Task:add_callback(...)
  local Callback = require("aijit.task.callback").Callback
  for i = 1, select("#", ...) do
    local one = select(i, ...)
    if not class.is(one, Callback) then error(("add_callback: argument %d is a %s, not a callback"):format(i, type(one)), 2) end
    table.insert(self.callbacks, one)
  end
end

--- Ends the training after this step.
---@param reason? string
function Task:stop(reason) self.stopped = reason or "the task asked for it" end

-- -- Running -------------------------------------------------------------------------------------------------

-- DIR/result.json: how the run ended, for tables of runs.
local function write_result(task, status)
  local state, valid = task.state, nil
  for name, value in pairs(task.state.valid or {}) do
    valid = valid or {}
    valid[name] = value - value == 0 and value or nil    -- JSON has no NaN
  end
  local result = {status = status, stopped = task.stopped, steps = state.num_steps, samples = state.num_samples, epochs = state.num_epochs,
    seconds = state.elapsed, valid = valid}
  require("aijit.io.file").write(task.exp_dir .. "/result.json", require("aijit.json").encode(result) .. "\n")
end

--- Trains this task. `launch` is the usual way. A folder that holds a checkpoint is resumed. Ctrl-C, SIGTERM and SIGUSR1 end
-- it after the step, with a checkpoint.
---@param exp_dir? string folder of the run; else by the config
---@return aijit.Task self
function Task:run(exp_dir)
  local run
  self.stopped = nil
  session.run(self, exp_dir, function() run = loop.prepare(self) end, function()
    local signal = loop.train(self, run)
    if not signal then
      for _, callback in ipairs(self.callbacks) do callback:on_training_end(self, self.state) end
      self:on_training_end(self.state)
    end
    local path = run.saved_step == self.state.num_steps and run.saved_path or loop.save(self, run)
    write_result(self, signal and "interrupted" or "done")
    self.board:status(("%s at step %d; saved in %s"):format(signal and "interrupted" or "done", self.state.num_steps, path))
  end)
  return self
end

--- Measures this task on the data of a phase, and trains nothing.
---@param phase "valid"|"test"|"train"
---@param which? string a checkpoint: its path, or "latest" or "best" of config.exp_dir; nil: the weights as they are
---@return table<string, number> results loss, accuracy, and what the task logged, averaged over the samples
function Task:evaluate(phase, which)
  return require("aijit.task.evaluate").run(self, phase, which)
end

--- A task made from a checkpoint: its config and its weights.
---@param path string the checkpoint's folder
---@param values? table of the config, in place of those that were saved
---@return aijit.Task
function Task.from_checkpoint(cls, path, values)
  local kept = require("aijit.task.checkpoint").load(path)
  local made = cls(cls.Config(kept.state.config):merge(values or {}))
  require("aijit.task.evaluate").show(made, kept)
  return made
end

--- Trains a task of this class with the program's command line on top of a config. As a program: answers --help and
-- --print-config; `--evaluate PHASE [--checkpoint latest|best|PATH]` measures and trains nothing; ends with status 2 for a
-- wrong word, 1 for an error, and after Ctrl-C, SIGTERM or SIGUSR1 as that signal ends a program, when the checkpoint is saved.
---@param given? table|string a config, a table of values, or the name of a config file
---@param words? string[] the command line, in place of the program's; then errors are raised, and nothing ends the program
---@param o? {launcher: table} how the runs of a sweep or study are carried out: see aijit/lab/launcher.lua
---@return aijit.Task? task the last one trained; nil when only a question was answered
function Task.launch(cls, given, words, o)
  return require("aijit.task.launch")(cls, given, words, o)
end

return Task
