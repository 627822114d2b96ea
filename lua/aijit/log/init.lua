--- Logging: loggers for a task (`ai.log.Stdout()`, `Jsonl(dir)`, `Csv(dir)`, `Images(dir)`, `TensorBoard(dir)`, `State(dir)`,
-- `Mlflow{uri = ...}`) and plain functions for programs without one (`log.setup`, `log.log_value`, ...).

local session = require "aijit.log.session"

--- Many images as one picture: a batch, or a list of them, with or without captions.
---@param images any as `task:log_images` takes them
---@param captions? string[]
---@param o? {max_images?: integer, keep_resolution?: boolean}
---@return aijit.Tensor u8 (H, W, C)
local function grid(images, captions, o)
  local ai = require "aijit"
  return ai.no_grad(function() return (require("aijit.log.picture").tile(images, captions, o)) end)
end

return {
  grid = grid,
  Logger = require "aijit.log.logger",
  Board = require "aijit.log.board",
  Stdout = require "aijit.log.stdout",
  Jsonl = require("aijit.log.jsonl").Jsonl,
  Csv = require "aijit.log.csv",
  State = require "aijit.log.state",
  Mlflow = require "aijit.log.mlflow",
  Images = require "aijit.log.images",
  TensorBoard = require "aijit.log.tensorboard",

  setup = session.setup,
  close = session.close,
  update_progress = session.update_progress,
  log_value = session.log_value,
  log_image = session.log_image,
}
