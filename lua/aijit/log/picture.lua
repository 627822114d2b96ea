--- From tensors to one picture: any usual layout of images, made bytes, enlarged, captioned and tiled.

local ai = require "aijit"
local font = require "aijit.log.font"

local picture = {}

-- Images smaller than this are enlarged by a whole factor, so that a caption of a few words fits under them.
local small = 112
local gap, margin = 2, 1

local function is_channels(n) return n == 1 or n == 3 end

local function layout_error(t)
  local sizes = {}
  for i = 1, t:dim() do sizes[i] = t:size(i) end
  error(("log_image: cannot tell what (%s) is: (H, W), (C, H, W), (H, W, C), and the same with a batch in front are known, "
    .. "with 1 or 3 channels"):format(table.concat(sizes, ", ")), 0)
end

--- Values as bytes: u8 as they are; bool 0 or 255; floats from [min(0, lowest), max(1, highest)]; other integers cut to 0..255.
local function to_bytes(t)
  if t.dtype == "u8" then return t end
  if t.dtype == "bool" then return t:to("f32"):mul(255):to("u8") end
  local x = t:to("f32")
  if not t.dtype:match("^b?f") then return x:clamp(0, 255):to("u8") end
  local low, high = math.min(0, x:amin():item()), math.max(1, x:amax():item())
  return ((x - low) * (255 / (high - low)) + 0.5):clamp(0, 255):to("u8")
end

--- Images as a u8 tensor (B, H, W, C).
---@param t any tensor (H, W), (C, H, W), (H, W, C), (B, H, W), (B, C, H, W) or (B, H, W, C); 1 or 3 channels
---@param batch? boolean three dimensions mean (B, H, W)
---@return any tensor u8 (B, H, W, C)
function picture.batch(t, batch)
  if type(t) == "table" and t.panels then t = t:image() end          -- a figure of ai.plot
  local dims = t:dim()
  if dims == 2 then
    t = t:unsqueeze(1):unsqueeze(4)
  elseif dims == 3 and batch then
    t = t:unsqueeze(4)
  elseif dims == 3 and is_channels(t:size(3)) then
    t = t:unsqueeze(1)
  elseif dims == 3 and is_channels(t:size(1)) then
    t = t:permute(2, 3, 1):unsqueeze(1)
  elseif dims == 3 then
    t = t:unsqueeze(4)
  elseif dims == 4 and is_channels(t:size(4)) then
    t = t:view(t:size(1), t:size(2), t:size(3), t:size(4))
  elseif dims == 4 and is_channels(t:size(2)) then
    t = t:permute(1, 3, 4, 2)
  else
    layout_error(t)
  end
  if t:numel() == 0 then layout_error(t) end
  return to_bytes(t:detach():to("cpu"))
end

local function places(from, to)
  local list = {}
  for i = 1, to do list[i] = math.floor((i - 0.5) * from / to) + 1 end
  return ai.tensor(list, {dtype = "i64"})
end

--- Images of another size, each dot the nearest one of the old.
---@param t any (B, H, W, C)
---@param height integer
---@param width integer
---@return any (B, height, width, C)
function picture.resize(t, height, width)
  if t:size(2) ~= height then t = t:index_select(2, places(t:size(2), height)) end
  if t:size(3) ~= width then t = t:index_select(3, places(t:size(3), width)) end
  return t
end

--- Rows and columns of a near-square grid for `n` tiles.
---@param n integer
---@return integer rows
---@return integer columns
function picture.grid(n)
  local columns = math.ceil(math.sqrt(n))
  return math.ceil(n / columns), columns
end

--- Which of `n` images are shown when there is room for `most`: evenly spaced, the first one among them.
---@param n integer
---@param most integer
---@return integer[]
function picture.subset(n, most)
  local chosen = {}
  local count = math.min(n, most)
  for i = 1, count do chosen[i] = math.floor((i - 1) * n / count) + 1 end
  return chosen
end

--- A caption as dots: rows of 0 and 255, `width` wide, the text in the middle.
---@param lines string[]
---@param width integer
---@param height integer rows; those below the text stay dark
---@return integer[][]
function picture.dots(lines, width, height)
  local rows = {}
  for y = 1, height do
    local row, line = {}, lines[math.floor((y - 1 - margin) / (font.height + 1)) + 1]
    for x = 1, width do row[x] = 0 end
    local within = (y - 1 - margin) % (font.height + 1) + 1
    if line and y > margin and within <= font.height then
      local dots = font.row(line, within)
      local start = math.max(0, math.floor((width - #dots + 1) / 2))
      for x = 1, math.min(#dots, width - start) do
        if dots:byte(x) == 35 then row[start + x] = 255 end
      end
    end
    rows[y] = row
  end
  return rows
end

--- A batch or a list of images as one batch of equal sizes.
---@param images any a batch as `picture.batch` takes it (three dimensions: (B, H, W)), or a list of images
---@return any tensor u8 (B, H, W, C)
function picture.gather(images)
  if type(images) == "table" and images.panels then images = {images} end
  if type(images) ~= "table" then return picture.batch(images, images:dim() == 3) end
  -- A list of images of several sizes: all become as high and wide as the largest, and colour if one is.
  local list, height, width, channels = {}, 1, 1, 1
  for i, image in ipairs(images) do
    list[i] = picture.batch(image)
    height, width = math.max(height, list[i]:size(2)), math.max(width, list[i]:size(3))
    channels = math.max(channels, list[i]:size(4))
  end
  if #list == 0 then error("log_images: the list of images is empty", 0) end
  for i, image in ipairs(list) do
    image = picture.resize(image, height, width)
    if image:size(4) ~= channels then image = image:expand(-1, -1, -1, channels) end
    list[i] = image
  end
  return ai.cat(list, 1)
end

--- One picture of many images.
---@param images any a batch as `picture.batch` takes it (three dimensions: (B, H, W)), or a list of images
---@param captions? string[] one for each image
---@param o? {max_images?: integer, keep_resolution?: boolean} at most 36 images; small ones are enlarged unless told not to
---@return any tensor u8 (H, W, C)
---@return string[]? shown the captions of the images that are in it, row by row
function picture.tile(images, captions, o)
  o = o or {}
  local all = picture.gather(images)
  local chosen = picture.subset(all:size(1), o.max_images or 36)
  local n, height, width, channels = #chosen, all:size(2), all:size(3), all:size(4)
  local factor = o.keep_resolution and 1 or math.max(1, math.floor(small / math.max(height, width)))
  height, width = height * factor, width * factor
  all = picture.resize(all:index_select(1, ai.tensor(chosen, {dtype = "i64"})), height, width)

  local wrapped, most, shown = {}, 0, captions and {}
  if captions then
    local letters = math.max(4, math.floor(width / (font.width + 1)))
    for i, from in ipairs(chosen) do
      shown[i] = tostring(captions[from] or "")
      wrapped[i] = font.wrap(shown[i], letters)
      most = math.max(most, #wrapped[i])
    end
  end
  local below = most > 0 and most * (font.height + 1) + 2 * margin or 0

  local rows, columns = picture.grid(n)
  local canvas = ai.zeros(rows * (height + below + gap) - gap, columns * (width + gap) - gap, channels, {dtype = "u8"})
  for i = 1, n do
    local y = math.floor((i - 1) / columns) * (height + below + gap)
    local x = (i - 1) % columns * (width + gap)
    canvas[{{y + 1, y + height}, {x + 1, x + width}, {}}] = all[i]
    if below > 0 then
      local strip = ai.tensor(picture.dots(wrapped[i], width, below), {dtype = "u8"})
      local last = y + height + below
      canvas[{{y + height + 1, last}, {x + 1, x + width}, {}}] = strip:unsqueeze(3):expand(below, width, channels)
    end
  end
  return canvas, shown
end

--- Writes a picture as PNG.
---@param path string
---@param t any u8 (H, W, C)
function picture.save(path, t) ai.image.write(t, path) end

--- A picture as the bytes of a PNG file.
---@param t any u8 (H, W, C)
---@return string
function picture.png(t) return ai.image.encode(t) end

return picture
