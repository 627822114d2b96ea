--- Logging: loggers for a task (`ai.log.Stdout()`, `ai.log.Jsonl(dir)`, `ai.log.Images(dir)`, `ai.log.TensorBoard(dir)`)
-- and plain functions for programs without one (`log.setup`, `log.log_value`, ...).

local session = require "aijit.log.session"

return {
  Logger = require "aijit.log.logger",
  Board = require "aijit.log.board",
  Stdout = require "aijit.log.stdout",
  Jsonl = require("aijit.log.jsonl").Jsonl,
  Csv = require "aijit.log.csv",
  Mlflow = require "aijit.log.mlflow",
  Images = require "aijit.log.images",
  TensorBoard = require "aijit.log.tensorboard",

  setup = session.setup,
  close = session.close,
  update_progress = session.update_progress,
  log_value = session.log_value,
  log_image = session.log_image,
}
