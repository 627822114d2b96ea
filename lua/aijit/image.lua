--- Pictures: PNG to tensors of u8 and back.
--
-- A picture is (H, W, C), C being 1 (grey), 3 (RGB) or 4 (RGBA), or with `layout = "chw"` (C, H, W), as convolutions want
-- it. Sixteen-bit and palette pictures come as eight bits a channel, in sRGB.

local raise = require("aijit.bindings.lib").raise
local file = require "aijit.bindings.file"
local format = require "aijit.bindings.format"

local image = {}

---@class aijit.ImageOptions
---@field layout? "hwc"|"chw"
---@field channels? 1|3|4            what to convert to; as many as the picture has
---@field background? number[]       {r, g, b} of 0..255, laid under a picture whose alpha is dropped; white
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

local function decode(blob, opts, who)
  local chw = is_chw(opts, who)
  local channels = opts and opts.channels or 0
  if type(channels) ~= "number" then raise(who .. ": channels must be a number") end
  return format.png_read(blob, channels, chw, colour(opts, who))
end

--- The picture that a blob holds.
---@param blob ffi.cdata*
---@param opts? aijit.ImageOptions
---@return aijit.Tensor
function image.from_blob(blob, opts) return decode(blob, opts, "load") end

--- Reads a PNG file.
---@param path string
---@param opts? aijit.ImageOptions
---@return aijit.Tensor
function image.read(path, opts)
  local blob = file.open(path, opts and opts.mmap)
  local t = decode(blob, opts, "image.read")
  file.close(blob)
  return t
end

--- Reads a PNG from a string.
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

--- Writes a tensor of u8 as a PNG file: (H, W), (H, W, C), or with `layout = "chw"` (C, H, W).
---@param tensor aijit.Tensor
---@param path string
---@param opts? aijit.ImageOptions
function image.write(tensor, path, opts)
  check(tensor, "image.write")
  if type(path) ~= "string" then raise("image.write: the path must be a string, got " .. type(path)) end
  format.png_write(path, tensor, is_chw(opts, "image.write"))
end

--- What `ai.save` calls: to a file, or without a path the bytes.
---@param tensor aijit.Tensor
---@param path string?
---@param kind "png"
---@param opts? aijit.ImageOptions
---@return string?
function image.put(tensor, path, kind, opts)
  check(tensor, "save")
  return format.png_write(path, tensor, is_chw(opts, "save"))
end

--- The bytes of the PNG file that `image.write` would write.
---@param tensor aijit.Tensor
---@param opts? aijit.ImageOptions
---@return string
function image.encode(tensor, opts)
  check(tensor, "image.encode")
  return format.png_write(nil, tensor, is_chw(opts, "image.encode"))
end

return image
