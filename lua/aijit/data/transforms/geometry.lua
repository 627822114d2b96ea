--- Transforms of where an image's points are: sizes, parts, mirrors, turns.

local ai = require "aijit"
local base = require "aijit.data.transforms.base"
local class = require "aijit.class"
local option = require "aijit.data.option"

local geometry = {}

local filters = {"nearest", "bilinear", "bicubic"}

local function define(name)
  geometry[name] = class(name, base.Transform)
  return geometry[name]
end

local function is_number(value, who, name)
  if type(value) ~= "number" or value ~= value then error(("%s: %s is a number, not %s"):format(who, name, tostring(value)), 4) end
  return value
end

local function probability(p, who)
  p = p == nil and 0.5 or p
  if type(p) ~= "number" or not (p >= 0 and p <= 1) then error(("%s: the probability is a number from 0 to 1, not %s"):format(who, tostring(p)), 4) end
  return p
end

--- Another size: {height, width}; a number is the shorter side's, and the other one keeps the proportions.
---@class aijit.transforms.Resize: aijit.Transform
local Resize = define "Resize"
---@param size integer|integer[]
---@param o? {filter: "nearest"|"bilinear"|"bicubic", max_size: integer} bilinear; max_size: of the longer side, with a number
function Resize:__init(size, o)
  o = option.read("transforms.Resize", o, {filter = "", max_size = 1})
  self.filter = o.filter or "bilinear"
  option.choice("transforms.Resize", "filter", self.filter, filters)
  if type(size) == "table" then self.size = base.pair(size, "transforms.Resize") else self.short = base.pair(size, "transforms.Resize")[1] end
  self.max_size = o.max_size
end
function Resize:apply(image)
  local h, w = base.sizes(image, "transforms.Resize")
  if self.size then return base.resize(image, self.size[1], self.size[2], self.filter) end
  local short, long = self.short, math.floor(self.short * math.max(h, w) / math.min(h, w))
  if self.max_size and long > self.max_size then
    short, long = math.max(1, math.floor(self.max_size * short / long)), self.max_size
  end
  if h <= w then return base.resize(image, short, long, self.filter) end
  return base.resize(image, long, short, self.filter)
end

-- top, bottom, left, right of what is put around an image.
local function paddings(padding, who)
  if type(padding) == "number" then padding = {padding, padding, padding, padding} end
  if type(padding) ~= "table" or #padding ~= 2 and #padding ~= 4 then
    error(who .. ": padding is a number, {across, down} or {left, top, right, bottom}", 4)
  end
  if #padding == 2 then padding = {padding[1], padding[2], padding[1], padding[2]} end
  for _, n in ipairs(padding) do
    if type(n) ~= "number" or n < 0 or n % 1 ~= 0 then error(("%s: padding by %s points"):format(who, tostring(n)), 4) end
  end
  return padding
end

local function pad(image, p, fill, mode)
  if p[1] + p[2] + p[3] + p[4] == 0 then return image end
  if mode == "constant" then return image:pad({p[1], p[3], p[2], p[4]}, "constant", fill) end
  -- By rows and columns, so that every dtype will do.
  local function places(n, before, after)
    local list = {}
    for i = 1 - before, n + after do
      local k = 1
      if mode == "edge" then k = math.max(1, math.min(n, i))
      elseif n > 1 then
        k = (i - 1) % (2 * (n - 1)) + 1
        if k > n then k = 2 * n - k end
      end
      list[#list + 1] = k
    end
    return ai.tensor(list, {dtype = "i64"})
  end
  return image:index_select(-2, places(image:size(-2), p[2], p[4])):index_select(-1, places(image:size(-1), p[1], p[3]))
end

local modes = {"constant", "edge", "reflect"}

--- Points put around an image.
---@class aijit.transforms.Pad: aijit.Transform
local Pad = define "Pad"
---@param padding integer|integer[] all around, {across, down}, or {left, top, right, bottom}
---@param o? {fill: number, mode: "constant"|"edge"|"reflect"} 0, constant
function Pad:__init(padding, o)
  o = option.read("transforms.Pad", o, {fill = 0, mode = ""})
  self.padding, self.fill, self.mode = paddings(padding, "transforms.Pad"), o.fill or 0, o.mode or "constant"
  option.choice("transforms.Pad", "mode", self.mode, modes)
end
function Pad:apply(image)
  base.sizes(image, "transforms.Pad")
  return pad(image, self.padding, self.fill, self.mode)
end

local function enlarge(image, height, width, fill, mode)
  local h, w = image:size(-2), image:size(-1)
  local down, across = math.max(0, height - h), math.max(0, width - w)
  return pad(image, {math.floor(across / 2), math.floor(down / 2), math.ceil(across / 2), math.ceil(down / 2)}, fill or 0, mode or "constant")
end

--- The middle of an image; where it is smaller, zeros are put around it.
---@class aijit.transforms.CenterCrop: aijit.Transform
local CenterCrop = define "CenterCrop"
---@param size integer|integer[]
function CenterCrop:__init(size) self.size = base.pair(size, "transforms.CenterCrop") end
function CenterCrop:apply(image)
  base.sizes(image, "transforms.CenterCrop")
  local height, width = self.size[1], self.size[2]
  image = enlarge(image, height, width)
  local h, w = image:size(-2), image:size(-1)
  -- Half a point is rounded to the even number, as in torchvision.
  local function start(n)
    local half = n / 2
    local r = math.floor(half + 0.5)
    return (half % 1 == 0.5 and r % 2 == 1) and r - 1 or r
  end
  return base.crop(image, start(h - height) + 1, start(w - width) + 1, height, width)
end

--- A part of an image at a random place.
---@class aijit.transforms.RandomCrop: aijit.Transform
local RandomCrop = define "RandomCrop"
---@param size integer|integer[]
---@param o? {padding: integer|integer[], pad_if_needed: boolean, fill: number, mode: "constant"|"edge"|"reflect"}
---  padding 0: put around the image first
function RandomCrop:__init(size, o)
  o = option.read("transforms.RandomCrop", o, {padding = "[any]", pad_if_needed = true, fill = 0, mode = ""})
  self.size, self.padding = base.pair(size, "transforms.RandomCrop"), paddings(o.padding or 0, "transforms.RandomCrop")
  self.pad_if_needed, self.fill, self.mode = o.pad_if_needed, o.fill or 0, o.mode or "constant"
  option.choice("transforms.RandomCrop", "mode", self.mode, modes)
end
function RandomCrop:apply(image)
  base.sizes(image, "transforms.RandomCrop")
  local height, width = self.size[1], self.size[2]
  image = pad(image, self.padding, self.fill, self.mode)
  if self.pad_if_needed then image = enlarge(image, height, width, self.fill, self.mode) end
  local h, w = image:size(-2), image:size(-1)
  if h < height or w < width then
    error(("transforms.RandomCrop: a part of %d x %d of an image of %d x %d; with pad_if_needed = true it is made large enough"):format(
      height, width, h, w), 2)
  end
  return base.crop(image, math.random(h - height + 1), math.random(w - width + 1), height, width)
end

--- A random part of random size and shape, brought to one size: the usual augmentation of training on photographs.
---@class aijit.transforms.RandomResizedCrop: aijit.Transform
local RandomResizedCrop = define "RandomResizedCrop"
---@param size integer|integer[]
---@param o? {scale: number[], ratio: number[], filter: "nearest"|"bilinear"|"bicubic"}
---  scale {0.08, 1}: the part's share of the image; ratio {3/4, 4/3}: its width by its height
function RandomResizedCrop:__init(size, o)
  o = option.read("transforms.RandomResizedCrop", o, {scale = {}, ratio = {}, filter = ""})
  self.size, self.scale, self.ratio = base.pair(size, "transforms.RandomResizedCrop"), o.scale or {0.08, 1}, o.ratio or {3 / 4, 4 / 3}
  for name, range in pairs {scale = self.scale, ratio = self.ratio} do
    if type(range[1]) ~= "number" or type(range[2]) ~= "number" or not (range[1] > 0 and range[1] <= range[2]) then
      error(("transforms.RandomResizedCrop: %s is {least, most}, above 0"):format(name), 3)
    end
  end
  self.filter = o.filter or "bilinear"
  option.choice("transforms.RandomResizedCrop", "filter", self.filter, filters)
end
function RandomResizedCrop:apply(image)
  local h, w = base.sizes(image, "transforms.RandomResizedCrop")
  local height, width, top, left
  for _ = 1, 10 do
    local area = h * w * base.uniform(self.scale[1], self.scale[2])
    local ratio = math.exp(base.uniform(math.log(self.ratio[1]), math.log(self.ratio[2])))
    local ww, hh = math.floor(math.sqrt(area * ratio) + 0.5), math.floor(math.sqrt(area / ratio) + 0.5)
    if ww > 0 and hh > 0 and ww <= w and hh <= h then
      height, width, top, left = hh, ww, math.random(h - hh + 1), math.random(w - ww + 1)
      break
    end
  end
  if not height then                                     -- the middle, as large as the shapes allow
    height, width = h, w
    if w / h < self.ratio[1] then height = math.max(1, math.min(h, math.floor(w / self.ratio[1] + 0.5)))
    elseif w / h > self.ratio[2] then width = math.max(1, math.min(w, math.floor(h * self.ratio[2] + 0.5))) end
    top, left = math.floor((h - height) / 2) + 1, math.floor((w - width) / 2) + 1
  end
  return base.resize(base.crop(image, top, left, height, width):contiguous(), self.size[1], self.size[2], self.filter)
end

--- Left and right exchanged, with a probability.
---@class aijit.transforms.RandomHorizontalFlip: aijit.Transform
local RandomHorizontalFlip = define "RandomHorizontalFlip"
---@param p? number 0.5
function RandomHorizontalFlip:__init(p) self.p = probability(p, "transforms.RandomHorizontalFlip") end
function RandomHorizontalFlip:apply(image)
  base.sizes(image, "transforms.RandomHorizontalFlip")
  return math.random() < self.p and image:flip {-1} or image
end

--- Top and bottom exchanged, with a probability.
---@class aijit.transforms.RandomVerticalFlip: aijit.Transform
local RandomVerticalFlip = define "RandomVerticalFlip"
---@param p? number 0.5
function RandomVerticalFlip:__init(p) self.p = probability(p, "transforms.RandomVerticalFlip") end
function RandomVerticalFlip:apply(image)
  base.sizes(image, "transforms.RandomVerticalFlip")
  return math.random() < self.p and image:flip {-2} or image
end

--- A turn about the middle by a random angle; what comes in from outside is 0.
---@class aijit.transforms.RandomRotation: aijit.Transform
local RandomRotation = define "RandomRotation"
---@param degrees number|number[] of either way, or {least, most}; counter-clockwise
---@param o? {filter: "nearest"|"bilinear"} bilinear
function RandomRotation:__init(degrees, o)
  o = option.read("transforms.RandomRotation", o, {filter = ""})
  local range = type(degrees) == "table" and degrees or {-is_number(degrees, "transforms.RandomRotation", "degrees"), degrees}
  self.degrees = {is_number(range[1], "transforms.RandomRotation", "degrees[1]"), is_number(range[2], "transforms.RandomRotation", "degrees[2]")}
  self.filter = o.filter or "bilinear"
  option.choice("transforms.RandomRotation", "filter", self.filter, {"nearest", "bilinear"})
end
function RandomRotation:apply(image)
  local h, w = base.sizes(image, "transforms.RandomRotation")
  local angle = math.rad(base.uniform(self.degrees[1], self.degrees[2]))
  local cos, sin = math.cos(angle), math.sin(angle)
  local x = (base.is_float(image) and image or image:to "f32"):reshape(1, -1, h, w)
  local theta = ai.tensor({{{cos, -sin * h / w, 0}, {sin * w / h, cos, 0}}}, {dtype = x.dtype})
  local y = x:grid_sample(ai.f.affine_grid(theta, {1, 1, h, w}), {mode = self.filter, padding_mode = "zeros"}):reshape(image.shape)
  return base.is_float(image) and y or (y + 0.5):floor():to(image.dtype)
end

--- A rectangle of random size and place is made 0 (or another value), with a probability (Zhong et al., 2017).
---@class aijit.transforms.RandomErasing: aijit.Transform
local RandomErasing = define "RandomErasing"
---@param o? {p: number, scale: number[], ratio: number[], value: number} 0.5, {0.02, 0.33}, {0.3, 3.3}, 0
function RandomErasing:__init(o)
  o = option.read("transforms.RandomErasing", o, {p = 0, scale = {}, ratio = {}, value = 0})
  self.p, self.value = probability(o.p, "transforms.RandomErasing"), o.value or 0
  self.scale, self.ratio = o.scale or {0.02, 0.33}, o.ratio or {0.3, 3.3}
end
function RandomErasing:apply(image)
  local h, w = base.sizes(image, "transforms.RandomErasing")
  if math.random() >= self.p then return image end
  for _ = 1, 10 do
    local area = h * w * base.uniform(self.scale[1], self.scale[2])
    local ratio = math.exp(base.uniform(math.log(self.ratio[1]), math.log(self.ratio[2])))
    local hh, ww = math.floor(math.sqrt(area * ratio) + 0.5), math.floor(math.sqrt(area / ratio) + 0.5)
    if hh >= 1 and ww >= 1 and hh < h and ww < w then
      local y = image:clone()
      base.crop(y, math.random(h - hh + 1), math.random(w - ww + 1), hh, ww):fill_(self.value)
      return y
    end
  end
  return image
end

return geometry
