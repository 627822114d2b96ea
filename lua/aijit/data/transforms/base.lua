--- What image transforms share: an image is a tensor whose last two dimensions are its rows and columns, (..., H, W), with its
-- channels before them, (C, H, W); a transform changes a sample's first field and hands the others on.
--
-- Random ones draw from math.random, which a loader sows for each sample: so they depend on seed, epoch and index alone.

local ai = require "aijit"
local class = require "aijit.class"

local base = {}

---@class aijit.Transform
local Transform = class("Transform")

--- The changed image.
---@param image aijit.Tensor
---@return aijit.Tensor
Transform.apply = class.abstract "apply"

function Transform:__call(image, ...) return self:apply(image), ... end

base.Transform = Transform

--- The sizes of an image.
---@param image any
---@param who string
---@return integer height
---@return integer width
function base.sizes(image, who)
  if not ai.is_tensor(image) then error(("%s: the sample's first field is a %s, not a tensor"):format(who, type(image)), 3) end
  if image:dim() < 2 then error(("%s: an image has rows and columns, (..., H, W), and this tensor %d dimensions"):format(who, image:dim()), 3) end
  return image:size(-2), image:size(-1)
end

--- {height, width} of a number or a pair.
---@param size any
---@param who string
---@return integer[]
function base.pair(size, who)
  local list = type(size) == "table" and size or {size, size}
  for i = 1, 2 do
    if type(list[i]) ~= "number" or list[i] % 1 ~= 0 or list[i] < 1 then
      error(("%s: the size is a whole number, or {height, width}"):format(who), 4)
    end
  end
  return {list[1], list[2]}
end

--- A part of an image; rows and columns count from 1.
---@param image aijit.Tensor
---@param top integer
---@param left integer
---@param height integer
---@param width integer
---@return aijit.Tensor view
function base.crop(image, top, left, height, width) return image:narrow(-2, top, height):narrow(-1, left, width) end

--- A random number from low to high.
function base.uniform(low, high) return low + (high - low) * math.random() end

--- The largest value of a channel: 255 for bytes, 1 for floats.
---@param image aijit.Tensor
---@return number
function base.bound(image) return image.dtype == "u8" and 255 or 1 end

local FLOATS = {f32 = true, f64 = true, f16 = true, bf16 = true}

---@param image aijit.Tensor
---@return boolean
function base.is_float(image) return FLOATS[image.dtype] == true end

-- The weights by which `to` points are made of `from`: of a triangle (bilinear) or Keys' cubic with a = -1/2, as wide as a new
-- point is large where there are fewer of them, so that every old one counts.
local function weights(from, to, filter)
  local scale = from / to
  local wide = math.max(scale, 1)
  local support = (filter == "bicubic" and 2 or 1) * wide
  local rows = {}
  for i = 1, to do
    local center, row, sum = (i - 0.5) * scale, {}, 0
    for j = 1, from do
      local d, w = math.abs((j - 0.5 - center) / wide), 0
      if math.abs(j - 0.5 - center) < support then
        if filter == "bicubic" then
          w = d < 1 and (1.5 * d - 2.5) * d * d + 1 or ((-0.5 * d + 2.5) * d - 4) * d + 2
        else
          w = 1 - d
        end
      end
      row[j], sum = w, sum + w
    end
    for j = 1, from do row[j] = row[j] / sum end
    rows[i] = row
  end
  return rows
end

local kept = {}
local function weight_matrix(from, to, filter, dtype)
  local key = ("%d %d %s %s"):format(from, to, filter, dtype)
  if not kept[key] then kept[key] = ai.keep(ai.tensor(weights(from, to, filter), {dtype = dtype})) end
  return kept[key]
end

--- An image of another size. Bytes as Pillow does it, to the bit; floats by the same weights, as PyTorch's interpolate does with
-- antialias.
---@param image aijit.Tensor (..., H, W)
---@param height integer
---@param width integer
---@param filter "nearest"|"bilinear"|"bicubic"
---@return aijit.Tensor
function base.resize(image, height, width, filter)
  local h, w = image:size(-2), image:size(-1)
  if h == height and w == width then return image end
  if filter == "nearest" and image.dtype ~= "u8" then
    local function places(from, to)
      local list = {}
      for i = 1, to do list[i] = math.floor((i - 0.5) * from / to) + 1 end
      return ai.tensor(list, {dtype = "i64"})
    end
    return image:index_select(-2, places(h, height)):index_select(-1, places(w, width))
  end
  if image.dtype == "u8" then
    local resize = require("aijit.image").resize
    local shape = image.shape
    if image:dim() == 2 then return resize(image, height, width, {filter = filter}) end
    local planes = image:reshape(-1, 1, h, w)
    if image:dim() == 3 and (shape[1] == 1 or shape[1] == 3 or shape[1] == 4) then
      return resize(image, height, width, {filter = filter, layout = "chw"})
    end
    local list = {}
    for i = 1, planes:size(1) do list[i] = resize(planes[i][1], height, width, {filter = filter}) end
    shape[#shape - 1], shape[#shape] = height, width
    return ai.stack(list, 1):reshape({unpack(shape)})
  end
  if not base.is_float(image) then error("Resize: an image of u8 or floats is wanted, not " .. image.dtype, 3) end
  local y = image
  if h ~= height then y = weight_matrix(h, height, filter, image.dtype):matmul(y) end
  if w ~= width then y = y:matmul(weight_matrix(w, width, filter, image.dtype):t()) end
  return y
end

return base
