--- Transforms of samples, by torchvision's names: `data.Transformed(pictures, transforms.Compose{transforms.Resize(256), ...})`.

local base = require "aijit.data.transforms.base"
local class = require "aijit.class"

local transforms = {Transform = base.Transform}
for _, part in ipairs {"geometry", "colour", "mix"} do
  for name, value in pairs(require("aijit.data.transforms." .. part)) do transforms[name] = value end
end

local function check(list, who)
  if type(list) ~= "table" or getmetatable(list) ~= nil or #list == 0 then error(("%s: a list of transforms is wanted"):format(who), 4) end
  for i, f in ipairs(list) do
    if type(f) ~= "function" and not (type(f) == "table" and (getmetatable(f) or {}).__call) then
      error(("%s: entry %d is a %s, not a transform"):format(who, i, type(f)), 4)
    end
  end
  return list
end

local function run(list, i, ...)
  if list[i] then return run(list, i + 1, list[i](...)) end
  return ...
end

--- Several transforms, one after the other. Any function of a sample's fields is one.
---@class aijit.transforms.Compose
local Compose = class("Compose")
---@param list (fun(...): ...)[]
function Compose:__init(list) self.list = check(list, "transforms.Compose") end
function Compose:__call(...) return run(self.list, 1, ...) end

--- Several transforms, with a probability all or none of them.
---@class aijit.transforms.RandomApply
local RandomApply = class("RandomApply")
---@param list (fun(...): ...)[]
---@param p? number 0.5
function RandomApply:__init(list, p)
  self.list, self.p = check(list, "transforms.RandomApply"), p or 0.5
  if not (self.p >= 0 and self.p <= 1) then error("transforms.RandomApply: the probability is a number from 0 to 1", 3) end
end
function RandomApply:__call(...)
  if math.random() < self.p then return run(self.list, 1, ...) end
  return ...
end

--- One of several transforms, each as often as the others.
---@class aijit.transforms.RandomChoice
local RandomChoice = class("RandomChoice")
---@param list (fun(...): ...)[]
function RandomChoice:__init(list) self.list = check(list, "transforms.RandomChoice") end
function RandomChoice:__call(...) return self.list[math.random(#self.list)](...) end

transforms.Compose, transforms.RandomApply, transforms.RandomChoice = Compose, RandomApply, RandomChoice

return transforms
