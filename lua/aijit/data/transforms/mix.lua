--- Transforms of a whole batch, for a loader's `batch_transform`: images mixed with those of their neighbours, labels likewise.
--
-- The batch's first field is images (B, ...) of floats, its second labels: i64 (B) from 1 to classes, or already shares
-- (B, classes). The labels become shares, which cross_entropy takes.

local ai = require "aijit"
local base = require "aijit.data.transforms.base"
local class = require "aijit.class"
local option = require "aijit.data.option"

-- A number of the gamma distribution (Marsaglia and Tsang, 2000).
local function gamma(shape)
  if shape < 1 then return gamma(shape + 1) * (1 - math.random()) ^ (1 / shape) end
  local d = shape - 1 / 3
  local c = 1 / math.sqrt(9 * d)
  while true do
    local x = math.sqrt(-2 * math.log(1 - math.random())) * math.cos(2 * math.pi * math.random())
    local v = (1 + c * x) ^ 3
    if v > 0 and math.log(1 - math.random()) < 0.5 * x * x + d - d * v + d * math.log(v) then return d * v end
  end
end

local function beta(alpha)
  local a, b = gamma(alpha), gamma(alpha)
  return a + b > 0 and a / (a + b) or 0.5
end

local function init(self, o, who)
  o = option.read(who, o, {alpha = 1, classes = 1, p = 1})
  self.who, self.alpha, self.p = who, o.alpha or 1, o.p or 1
  if not (self.alpha > 0) then error(("%s: alpha is above 0, not %s"):format(who, tostring(self.alpha)), 4) end
  if not o.classes then error(("%s: classes, their number, is wanted"):format(who), 4) end
  self.classes = option.whole(who, "classes", o.classes, 1)
end

local function shares(self, labels)
  if not ai.is_tensor(labels) then error(("%s: the batch's second field is a %s, not a tensor of labels"):format(self.who, type(labels)), 3) end
  if labels:dim() == 2 and base.is_float(labels) then return labels end
  if labels:dim() ~= 1 then error(("%s: labels are (B), or shares (B, classes); these are (%s)"):format(self.who, table.concat(labels.shape, ", ")), 3) end
  return labels:to("i64"):one_hot(self.classes):to "f32"
end

local function check(self, images)
  if not ai.is_tensor(images) or not base.is_float(images) then
    error(("%s: the batch's first field must be a tensor of floats; put transforms.ToFloat() before the batch is made"):format(self.who), 3)
  end
end

local function mixed_labels(y, lambda) return y * lambda + y:roll({1}, {1}) * (1 - lambda) end

--- Images and labels are weighted means of two samples each (Zhang et al., 2017).
---@class aijit.transforms.MixUp
local MixUp = class("MixUp")
---@param o {classes: integer, alpha: number, p: number} alpha 1: weights are of Beta(alpha, alpha); p 1: how often
function MixUp:__init(o) init(self, o, "transforms.MixUp") end
function MixUp:__call(images, labels, ...)
  check(self, images)
  local y = shares(self, labels)
  if math.random() >= self.p then return images, y, ... end
  local lambda = beta(self.alpha)
  return images * lambda + images:roll({1}, {1}) * (1 - lambda), mixed_labels(y, lambda), ...
end

--- A rectangle of each image comes from its neighbour, and labels count by the areas (Yun et al., 2019).
---@class aijit.transforms.CutMix
local CutMix = class("CutMix")
---@param o {classes: integer, alpha: number, p: number} alpha 1: areas are of Beta(alpha, alpha); p 1: how often
function CutMix:__init(o) init(self, o, "transforms.CutMix") end
function CutMix:__call(images, labels, ...)
  check(self, images)
  local y = shares(self, labels)
  if math.random() >= self.p then return images, y, ... end
  local h, w = base.sizes(images, "transforms.CutMix")
  local cut = math.sqrt(1 - beta(self.alpha)) / 2
  local row, column = math.random(0, h - 1), math.random(0, w - 1)
  local top, bottom = math.max(0, math.floor(row - cut * h)), math.min(h, math.floor(row + cut * h))
  local left, right = math.max(0, math.floor(column - cut * w)), math.min(w, math.floor(column + cut * w))
  local height, width = bottom - top, right - left
  if height < 1 or width < 1 then return images, y, ... end
  local x = images:clone()
  base.crop(x, top + 1, left + 1, height, width):copy_(base.crop(images:roll({1}, {1}), top + 1, left + 1, height, width))
  return x, mixed_labels(y, 1 - height * width / (h * w)), ...
end

return {MixUp = MixUp, CutMix = CutMix}
