--- Tasks: `ai.Task`, and the parts that one may want by themselves.

return {
  Task = require "aijit.task.task",
  State = require "aijit.task.state",
  checkpoint = require "aijit.task.checkpoint",
}
