--- Transforms of an image's values: their type, their scale, their colours. An image of bytes has 0 to 255, one of floats 0 to 1.

local ai = require "aijit"
local base = require "aijit.data.transforms.base"
local class = require "aijit.class"
local option = require "aijit.data.option"

local colour = {}

local function define(name)
  colour[name] = class(name, base.Transform)
  return colour[name]
end

--- Bytes 0 to 255 as floats 0 to 1; floats as they are.
---@class aijit.transforms.ToFloat: aijit.Transform
local ToFloat = define "ToFloat"
---@param dtype? string f32
function ToFloat:__init(dtype) self.dtype = dtype or "f32" end
function ToFloat:apply(image)
  base.sizes(image, "transforms.ToFloat")
  if base.is_float(image) then return image:to(self.dtype) end
  if image.dtype ~= "u8" then error("transforms.ToFloat: an image of u8 or floats is wanted, not " .. image.dtype, 2) end
  return image:to(self.dtype):div_(255)
end

local function numbers(value, who, name)
  local list = type(value) == "table" and value or {value}
  for i, v in ipairs(list) do
    if type(v) ~= "number" then error(("%s: %s is a number for each channel, and entry %d is %s"):format(who, name, i, tostring(v)), 4) end
  end
  if #list == 0 then error(("%s: %s is a number for each channel"):format(who, name), 4) end
  return list
end

--- (x - mean) / std, for each channel.
---@class aijit.transforms.Normalize: aijit.Transform
local Normalize = define "Normalize"
---@param mean number|number[]
---@param std number|number[]
function Normalize:__init(mean, std)
  self.mean, self.std = numbers(mean, "transforms.Normalize", "mean"), numbers(std, "transforms.Normalize", "std")
  if #self.mean ~= #self.std then
    error(("transforms.Normalize: %d means and %d standard deviations"):format(#self.mean, #self.std), 3)
  end
  for i, v in ipairs(self.std) do
    if v == 0 then error(("transforms.Normalize: std of channel %d is 0"):format(i), 3) end
  end
end
function Normalize:apply(image)
  base.sizes(image, "transforms.Normalize")
  if not base.is_float(image) then
    error(("transforms.Normalize: the image is of %s; put transforms.ToFloat() in front"):format(image.dtype), 2)
  end
  local n = #self.mean
  if n == 1 then return (image - self.mean[1]) / self.std[1] end
  if image:dim() < 3 or image:size(-3) ~= n then
    error(("transforms.Normalize: %d channels, and an image (%s)"):format(n, table.concat(image.shape, ", ")), 2)
  end
  local shape = {n, 1, 1}
  return (image - ai.tensor(self.mean, {dtype = image.dtype}):reshape(shape)) / ai.tensor(self.std, {dtype = image.dtype}):reshape(shape)
end

local function check_colours(image, who)
  base.sizes(image, who)
  if not base.is_float(image) and image.dtype ~= "u8" then error(("%s: an image of u8 or floats is wanted, not %s"):format(who, image.dtype), 3) end
  local channels = image:dim() >= 3 and image:size(-3) or 1
  if channels ~= 1 and channels ~= 3 then error(("%s: an image has 1 or 3 channels, and this one is (%s)"):format(who, table.concat(image.shape, ", ")), 3) end
  return channels
end

local function as_float(image) return base.is_float(image) and image or image:to "f32" end

-- The grey of a colour image (..., 1, H, W), in floats: ITU-R 601-2 luma; of bytes the whole part.
local function grey(image)
  local x = as_float(image)
  local y = x:narrow(-3, 1, 1) * 0.2989 + x:narrow(-3, 2, 1) * 0.587 + x:narrow(-3, 3, 1) * 0.114
  return image.dtype == "u8" and y:floor() or y
end

local function blend(image, other, factor)
  local y = as_float(image) * factor
  if other then y = y + other * (1 - factor) end
  return y:clamp(0, base.bound(image)):to(image.dtype)
end

local function check_factor(factor, who)
  if type(factor) ~= "number" or not (factor >= 0) then error(("%s: the factor is a number from 0 on, not %s"):format(who, tostring(factor)), 3) end
end

--- Brighter by a factor: 0 is black, 1 changes nothing.
---@param image aijit.Tensor (..., C, H, W)
---@param factor number
---@return aijit.Tensor
function colour.adjust_brightness(image, factor)
  check_colours(image, "adjust_brightness")
  check_factor(factor, "adjust_brightness")
  return blend(image, nil, factor)
end

--- More contrast by a factor: 0 is the mean grey everywhere, 1 changes nothing.
---@param image aijit.Tensor (..., C, H, W)
---@param factor number
---@return aijit.Tensor
function colour.adjust_contrast(image, factor)
  local channels = check_colours(image, "adjust_contrast")
  check_factor(factor, "adjust_contrast")
  local g = channels == 3 and grey(image) or as_float(image)
  local dims = image:dim() >= 3 and {-3, -2, -1} or {-2, -1}
  return blend(image, g:mean(dims, true), factor)
end

--- Stronger colours by a factor: 0 is grey, 1 changes nothing.
---@param image aijit.Tensor (..., C, H, W)
---@param factor number
---@return aijit.Tensor
function colour.adjust_saturation(image, factor)
  local channels = check_colours(image, "adjust_saturation")
  check_factor(factor, "adjust_saturation")
  if channels == 1 then return image end
  return blend(image, grey(image), factor)
end

-- Hue (a turn being 1), saturation and value, as of Python's colorsys.
local function to_hsv(x)
  local r, g, b = x:narrow(-3, 1, 1), x:narrow(-3, 2, 1), x:narrow(-3, 3, 1)
  local most, least = x:amax({-3}, true), x:amin({-3}, true)
  local range = most - least
  local plain = range:eq(0)
  local one = ai.ones({1}, {dtype = x.dtype})
  local s = range / ai.where(plain, one, most)
  local divisor = ai.where(plain, one, range)
  local rc, gc, bc = (most - r) / divisor, (most - g) / divisor, (most - b) / divisor
  local h = ai.where(most:eq(r), bc - gc, ai.where(most:eq(g), rc - bc + 2, gc - rc + 4))
  h = h / 6 + 1
  return h - h:floor(), s, most
end

local function from_hsv(h, s, v)
  -- A channel is v less v s times how far the hue is from it: Wikipedia, HSL and HSV, "HSV to RGB alternative".
  local channels = {}
  for i, n in ipairs {5, 3, 1} do
    local k = h * 6 + n
    k = k - (k / 6):floor() * 6
    channels[i] = v - v * s * ai.minimum(k, 4 - k):clamp(0, 1)
  end
  return ai.cat(channels, -3)
end

--- Colours turned about the circle by a part of it, -0.5 to 0.5.
---@param image aijit.Tensor (..., C, H, W)
---@param turn number
---@return aijit.Tensor
function colour.adjust_hue(image, turn)
  local channels = check_colours(image, "adjust_hue")
  if type(turn) ~= "number" or not (turn >= -0.5 and turn <= 0.5) then
    error(("adjust_hue: the turn is a number from -0.5 to 0.5, not %s"):format(tostring(turn)), 2)
  end
  if channels == 1 then return image end
  local bytes = image.dtype == "u8"
  local x = bytes and image:to "f32" / 255 or image
  local h, s, v = to_hsv(x)
  h = h + turn
  local y = from_hsv(h - h:floor(), s, v)
  return bytes and (y * (256 - 1e-3)):to "u8" or y
end

--- Brightness, contrast, saturation and hue changed at random, in random order.
---@class aijit.transforms.ColorJitter: aijit.Transform
local ColorJitter = define "ColorJitter"
---@param o {brightness: number|number[], contrast: number|number[], saturation: number|number[], hue: number|number[]}
---  each a number v, which stands for {max(0, 1 - v), 1 + v} (hue: {-v, v}), or {least, most}
function ColorJitter:__init(o)
  o = option.read("transforms.ColorJitter", o, {brightness = "[any]", contrast = "[any]", saturation = "[any]", hue = "[any]"})
  self.ranges = {}
  for name, v in pairs(o) do
    local middle, least, most = name == "hue" and 0 or 1, name == "hue" and -0.5 or 0, name == "hue" and 0.5 or math.huge
    local range = type(v) == "number" and {math.max(least, middle - v), middle + v} or v
    if type(range) ~= "table" or type(range[1]) ~= "number" or type(range[2]) ~= "number"
      or not (range[1] >= least and range[1] <= range[2] and range[2] <= most) then
      error(("transforms.ColorJitter: %s is a number from 0 on, or {least, most} from %s to %s"):format(name, least, most), 3)
    end
    self.ranges[name] = range
  end
end
function ColorJitter:apply(image)
  check_colours(image, "transforms.ColorJitter")
  local names = {"brightness", "contrast", "saturation", "hue"}
  for i = 4, 2, -1 do
    local j = math.random(i)
    names[i], names[j] = names[j], names[i]
  end
  for _, name in ipairs(names) do
    local range = self.ranges[name]
    if range then image = colour["adjust_" .. name](image, base.uniform(range[1], range[2])) end
  end
  return image
end

--- A colour image in grey.
---@class aijit.transforms.Grayscale: aijit.Transform
local Grayscale = define "Grayscale"
---@param channels? 1|3 1; 3: three times the same
function Grayscale:__init(channels)
  self.channels = channels or 1
  if self.channels ~= 1 and self.channels ~= 3 then error("transforms.Grayscale: channels is 1 or 3, not " .. tostring(channels), 3) end
end
function Grayscale:apply(image)
  local y = image
  if check_colours(image, "transforms.Grayscale") == 3 then y = grey(image):to(image.dtype)
  elseif image:dim() == 2 then y = image:unsqueeze(1) end
  return self.channels == 3 and ai.cat({y, y, y}, -3) or y
end

return colour
