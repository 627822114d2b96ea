--- Tasks: `ai.Task`, `ai.Script`, and the parts that one may want by themselves.

local callback = require "aijit.task.callback"

return {
  Task = require "aijit.task.task",
  Script = require "aijit.task.script",
  State = require "aijit.task.state",
  Callback = callback.Callback,
  EarlyStopping = callback.EarlyStopping,
  GradScaler = require "aijit.task.scaler",
  checkpoint = require "aijit.task.checkpoint",
}
