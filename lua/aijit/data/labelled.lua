--- Samples of two fields that lie in memory: images, and a label each.

local ai = require "aijit"
local class = require "aijit.class"
local Dataset = require("aijit.data.dataset").Dataset
local option = require "aijit.data.option"

---@class aijit.Labelled: aijit.Dataset
---@field images any (N, ...)
---@field labels any i64 (N), from 1
local Labelled = class("Labelled", Dataset)

function Labelled:size() return self.images:size(1) end

function Labelled:get(index)
  option.index("data." .. self.__name, index, self:size())
  return self.images[index], self.labels[index]
end

--- Many samples at once: one copy a field.
---@param indices integer[]
---@return any images (#indices, ...)
---@return any labels i64 (#indices)
function Labelled:get_batch(indices)
  local places = ai.tensor(indices, {dtype = "i64"})
  return self.images:index_select(1, places), self.labels:index_select(1, places)
end

return Labelled
