--- `ai.Task`: a model, its data, its loss and its training, in one class.
--
-- A task is an nn.Module, so what is put in its fields (`self.model = ...`) is trained and saved. A class derived from it
-- writes `get_dataset`, `get_loss` (or `forward` that gives the loss), and what else it wants to be otherwise.

local class = require "aijit.class"
local Board = require "aijit.log.board"
local config = require "aijit.config"
local log = require "aijit.log"
local loop = require "aijit.task.loop"
local Module = require("aijit.nn").Module
local State = require "aijit.task.state"

---@class aijit.Task: aijit.nn.Module
---@field config aijit.ConfigSection
---@field state aijit.State
---@field exp_dir string? folder of the run; there once the task runs
---@field board aijit.LogBoard
local Task = class("Task", Module)

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
  self.board = Board()
end

-- -- What a derived class writes -----------------------------------------------------------------------------

--- The data of a phase; nil for "valid": there is no validation.
---@param phase "train"|"valid"
---@return aijit.Dataset?
Task.get_dataset = class.abstract "get_dataset"

--- The loss of a batch.
---@param batch any[] the fields of the dataset's samples, stacked
---@param state aijit.State
---@return any loss a tensor of one element, or a table of named ones, whose sum is the loss
function Task:get_loss(batch, state) return self:forward(unpack(batch)) end

--- Adds the loggers: `self:add_logger(ai.log.Stdout(), ai.log.TensorBoard(self.exp_dir))`.
--- Without this: the terminal, log.jsonl and images.
function Task:set_loggers()
  self:add_logger(log.Stdout(), log.Jsonl(self.exp_dir), log.Images(self.exp_dir))
end

--- The optimizer, and, if wanted, a schedule: a function from the state to a factor of the learning rate, or an object
-- whose `step` is called before each optimizer step. Without this: the one that config.optim describes.
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
---@param phase "train"|"valid"
---@return aijit.Loader?
function Task:get_loader(phase)
  local Loader = require "aijit.data.loader"
  local dataset, o = self:get_dataset(phase), self.config
  if not dataset then
    if phase == "valid" then return nil end
    error(("%s:get_dataset(\"train\") gave nothing"):format(self.__name), 2)
  end
  local training = phase == "train"
  return Loader(dataset, {
    batch_size = training and o.batch_size or o.valid_batch_size, shuffle = training, seed = o.seed, workers = o.num_workers,
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

--- Called before the first step.
function Task:on_training_start(state) end

--- Called after the last step.
function Task:on_training_end(state) end

--- The number of optimizer steps that the training will take; for schedules, in build_optimizer.
---@return integer? steps nil when only the time limits it
function Task:total_steps()
  self._steps_per_epoch = self._steps_per_epoch or self:get_loader("train"):size()
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
    if state.phase == "train" then
      self:log_train_step(batch, output, state)
    else
      self:log_valid_step(batch, output, state)
    end
  end)
end

---@param ... aijit.Logger
function Task:add_logger(...)
  local ok, problem = pcall(self.board.add, self.board, ...)
  if not ok then error(problem, 2) end
end

--- Logs a number. In a validation, the mean over its samples.
---@param name string
---@param value number|any a number, a tensor of one element, or a function that gives one, called only when a logger is due
function Task:log_scalar(name, value) self.board:scalar(name, value, self.state.batch_size) end

--- Logs a text.
---@param name string
---@param value string|fun(): string
function Task:log_string(name, value) self.board:text(name, value) end

--- Logs images: a batch (B, H, W), (B, C, H, W), (B, H, W, C), or a list; or a function that gives it.
---@param name string
---@param images any
function Task:log_images(name, images) self.board:image(name, images) end

--- Logs images with a caption under each.
---@param name string
---@param images any as for log_images; a function gives images and captions
---@param captions? string[]
function Task:log_labeled_images(name, images, captions) self.board:image(name, images, captions) end

--- Logs one image (H, W), (C, H, W) or (H, W, C), or a function that gives it.
---@param name string
---@param image any
function Task:log_image(name, image)
  self.board:image(name, function()
    if type(image) == "function" then return {(image())} end
    return {image}
  end)
end

-- -- Running -------------------------------------------------------------------------------------------------

--- Trains this task. `launch` is the usual way.
---@param exp_dir? string folder of the run; else by the config
---@return aijit.Task self
function Task:run(exp_dir)
  local folder = require "aijit.task.folder"
  local record = require "aijit.log.record"
  local name = getmetatable(self).__name
  self.exp_dir = exp_dir or self.exp_dir or folder.of(self.config, name)
  record.write(self.exp_dir, {config = self.config, name = name})
  self:set_loggers()
  self.board:start {name = name, dir = self.exp_dir, config = self.config}

  local run
  local trace
  local ok, problem = xpcall(function()
    run = loop.prepare(self)
    self:on_training_start(self.state)
    loop.train(self, run)
    self:on_training_end(self.state)
  end, function(message)
    trace = debug.traceback(tostring(message), 2)
    return message
  end)
  self.trace = not ok and trace or nil
  local interrupted = not ok and type(problem) == "string" and problem:match("interrupted!?$") ~= nil
  local saved
  if run and run.started and (ok or interrupted) then
    local ok_save, path = pcall(loop.save, self, run)
    if ok_save then
      saved = path
    else
      ok, problem, interrupted = false, ok and path or problem, false
      io.stderr:write("the checkpoint could not be saved: ", tostring(path), "\n")
    end
  end
  if saved then
    self.board:status(("%s at step %d; saved in %s"):format(ok and "done" or "interrupted", self.state.num_steps, saved))
  end
  self.board:stop()
  if interrupted then error("interrupted", 0) end
  if not ok then error(problem, 0) end
  return self
end

--- Trains a task of this class with the program's command line on top of a config. As a program: answers --help and
-- --print-config; ends with status 2 for a wrong word, 1 for an error, and 130 after Ctrl-C, when the checkpoint is saved.
---@param given? table|string a config, a table of values, or the name of a config file
---@param words? string[] the command line, in place of the program's; then errors are raised, and nothing ends the program
---@return aijit.Task? task the last one trained; nil when only a question was answered
function Task.launch(cls, given, words)
  return require("aijit.task.launch")(cls, given, words)
end

return Task
