--- Pictures: PNG and JPEG to tensors of u8 and back, and pictures of another size.
--
-- A picture is (H, W, C), C being 1 (grey), 3 (RGB) or 4 (RGBA), or with `layout = "chw"` (C, H, W), as convolutions want
-- it. Sixteen-bit and palette pictures come as eight bits a channel, in sRGB. Which format a file has, its first bytes tell;
-- which one is written, the name.

local raise = require("aijit.bindings.lib").raise
local file = require "aijit.bindings.file"
local format = require "aijit.bindings.format"

local image = {}

---@class aijit.ImageOptions
---@field layout? "hwc"|"chw"
---@field channels? 1|3|4            what to convert to; as many as the picture has
---@field background? number[]       {r, g, b} of 0..255, laid under a picture whose alpha is dropped; white
---@field size? integer[]            {height, width} to resize to; a large JPEG is then decoded at a half, a quarter or an eighth
---@field filter? "nearest"|"bilinear"|"bicubic"      of resizing; bilinear
---@field format? "png"|"jpeg"       to write, instead of the name's
---@field quality? integer           of a JPEG, 1 to 100; 75
---@field mmap? boolean

local function is_chw(opts, who)
  local layout = opts and opts.layout or "hwc"
  if layout ~= "hwc" and layout ~= "chw" then
    raise(("%s: layout must be \"hwc\" or \"chw\", got %q"):format(who, tostring(layout)))
  end
  return layout == "chw"
end

local function colour(opts, who)
  local rgb = opts and opts.background
  if not rgb then return 0xFFFFFF end
  local all = 0
  for i = 1, 3 do
    local c = rgb[i]
    if type(c) ~= "number" or c % 1 ~= 0 or c < 0 or c > 255 then
      raise(who .. ": background must be {r, g, b}, each from 0 to 255")
    end
    all = all * 256 + c
  end
  return all
end

local filters = {nearest = 0, bilinear = 1, bicubic = 2}

local function filter_of(opts, who)
  local name = opts and opts.filter or "bilinear"
  return filters[name] or raise(('%s: filter must be "nearest", "bilinear" or "bicubic", got %q'):format(who, tostring(name)))
end

local function size_of(size, who)
  local height, width = size[1], size[2]
  for _, n in ipairs{height or false, width or false} do
    if type(n) ~= "number" or n % 1 ~= 0 or n < 1 or n > 2 ^ 30 then raise(who .. ": size must be {height, width}, whole numbers from 1 on") end
  end
  return height, width
end

local function decode(blob, opts, who)
  local chw = is_chw(opts, who)
  local channels = opts and opts.channels or 0
  if type(channels) ~= "number" then raise(who .. ": channels must be a number") end
  local size, height, width, filter = opts and opts.size, 0, 0, nil
  if size ~= nil then
    if type(size) ~= "table" then raise(who .. ": size must be {height, width}") end
    height, width = size_of(size, who)
    filter = filter_of(opts, who)
  end
  local t
  if file.text(blob, 2) == "\255\216" then
    t = format.jpeg_read(blob, channels, chw, height, width)
  else
    t = format.png_read(blob, channels, chw, colour(opts, who))
  end
  return filter and format.resize(t, height, width, filter, chw) or t
end

--- The picture that a blob holds.
---@param blob ffi.cdata*
---@param opts? aijit.ImageOptions
---@return aijit.Tensor
function image.from_blob(blob, opts) return decode(blob, opts, "load") end

--- Reads a PNG or JPEG file.
---@param path string
---@param opts? aijit.ImageOptions
---@return aijit.Tensor
function image.read(path, opts)
  local blob = file.open(path, opts and opts.mmap)
  local t = decode(blob, opts, "image.read")
  file.close(blob)
  return t
end

--- Reads a PNG or JPEG from a string.
---@param bytes string
---@param opts? aijit.ImageOptions
---@return aijit.Tensor
function image.decode(bytes, opts)
  if type(bytes) ~= "string" then raise("image.decode: the bytes must be a string, got " .. type(bytes)) end
  local blob = file.blob(bytes)
  local t = decode(blob, opts, "image.decode")
  file.close(blob)
  return t
end

local function check(tensor, who)
  if not format.is_tensor(tensor) then raise(("%s: needs a tensor, got %s"):format(who, type(tensor))) end
end

local function put(tensor, path, kind, opts, who)
  check(tensor, who)
  local chw = is_chw(opts, who)
  if kind == "png" then return format.png_write(path, tensor, chw) end
  if kind ~= "jpeg" then raise(('%s: format must be "png" or "jpeg", got %q'):format(who, tostring(kind))) end
  local quality = opts and opts.quality or 75
  if type(quality) ~= "number" or quality % 1 ~= 0 then raise(who .. ": quality must be a whole number from 1 to 100") end
  return format.jpeg_write(path, tensor, chw, quality)
end

--- What `ai.save` calls: to a file, or without a path the bytes.
---@param tensor aijit.Tensor
---@param path string?
---@param kind "png"|"jpeg"
---@param opts? aijit.ImageOptions
---@return string?
function image.put(tensor, path, kind, opts) return put(tensor, path, kind, opts, "save") end

--- Writes a tensor of u8 as a file: (H, W), (H, W, C), or with `layout = "chw"` (C, H, W). A name that ends in .jpg or .jpeg makes
-- a JPEG, every other a PNG.
---@param tensor aijit.Tensor
---@param path string
---@param opts? aijit.ImageOptions
function image.write(tensor, path, opts)
  check(tensor, "image.write")
  if type(path) ~= "string" then raise("image.write: the path must be a string, got " .. type(path)) end
  local kind = path:lower():match "%.jpe?g$" and "jpeg" or "png"
  put(tensor, path, opts and opts.format or kind, opts, "image.write")
end

--- The bytes of the file that `image.write` would write; a PNG unless `format` says "jpeg".
---@param tensor aijit.Tensor
---@param opts? aijit.ImageOptions
---@return string
function image.encode(tensor, opts) return put(tensor, nil, opts and opts.format or "png", opts, "image.encode") end

--- A picture of another size. Where it becomes smaller each pixel is the mean of all that it covers, so that nothing flickers; the
-- numbers are those of Pillow, to the bit.
---@param tensor aijit.Tensor  u8, (H, W), (H, W, C), or with `layout = "chw"` (C, H, W)
---@param height integer
---@param width integer
---@param opts? aijit.ImageOptions
---@return aijit.Tensor
function image.resize(tensor, height, width, opts)
  check(tensor, "image.resize")
  height, width = size_of({height, width}, "image.resize")
  return format.resize(tensor, height, width, filter_of(opts, "image.resize"), is_chw(opts, "image.resize"))
end

return image
