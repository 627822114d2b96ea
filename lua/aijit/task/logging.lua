--- What tasks and scripts log with: a class that both derive from.

local class = require "aijit.class"
local Board = require "aijit.log.board"
local log = require "aijit.log"

---@class aijit.task.Logging
---@field board aijit.LogBoard
---@field exp_dir string? folder of the run; there once it runs
local Logging = class("Logging")

--- Adds the loggers: `self:add_logger(ai.log.Stdout(), ai.log.TensorBoard(self.exp_dir))`.
--- Without this: the terminal, log.jsonl and images.
function Logging:set_loggers()
  self:add_logger(log.Stdout(), log.Jsonl(self.exp_dir), log.Images(self.exp_dir))
end

---@param ... aijit.Logger
function Logging:add_logger(...)
  local ok, problem = pcall(self.board.add, self.board, ...)
  if not ok then error(problem, 2) end
end

--- Logs a number. In a validation, the mean over its samples.
---@param name string
---@param value number|any a number, a tensor of one element, or a function that gives one, called only when a logger is due
function Logging:log_scalar(name, value) self.board:scalar(name, value, self.state and self.state.batch_size) end

--- Logs a text.
---@param name string
---@param value string|fun(): string
function Logging:log_string(name, value) self.board:text(name, value) end

--- Logs images: a batch (B, H, W), (B, C, H, W), (B, H, W, C), or a list; or a function that gives it.
---@param name string
---@param images any
function Logging:log_images(name, images) self.board:image(name, images) end

--- Logs images with a caption under each.
---@param name string
---@param images any as for log_images; a function gives images and captions
---@param captions? string[]
function Logging:log_labeled_images(name, images, captions) self.board:image(name, images, captions) end

--- Logs one image (H, W), (C, H, W) or (H, W, C), or a function that gives it.
---@param name string
---@param image any
function Logging:log_image(name, image)
  self.board:image(name, function()
    if type(image) == "function" then return {(image())} end
    return {image}
  end)
end

for name, method in pairs(require "aijit.log.methods") do Logging[name] = method end

--- For a class that derives from this one: its board.
function Logging:start_logging() self.board = Board() end

return Logging
