--- Tensors in files: safetensors, npy, npz, idx, PNG, JPEG. Binds core/io.h; a reader takes a blob of bindings/file.lua, and a
-- writer a path, or nil for the bytes.

local lib = require "aijit.bindings.lib"
local file = require "aijit.bindings.file"
local C, ffi = lib.C, lib.ffi

local format = {}

format.is_tensor = lib.is_tensor

--- Files are written from the CPU.
local function on_cpu(tensor)
  if C.aj_device_of(tensor) >= 0 then return tensor:to "cpu" end
  return tensor
end

--- The tensors of a safetensors file by name, and its metadata.
---@param blob ffi.cdata*
---@param wanted? fun(name: string): boolean
---@return table<string, aijit.Tensor> tensors
---@return table<string, string> metadata
function format.safetensors_read(blob, wanted)
  local s = file.own(C.aj_safetensors_read(blob), C.aj_safetensors_drop)
  local tensors, metadata = {}, {}
  for i = 0, tonumber(C.aj_safetensors_count(s)) - 1 do
    local name = ffi.string(C.aj_safetensors_name(s, i))
    if not wanted or wanted(name) then tensors[name] = lib.check(C.aj_safetensors_tensor(s, i)) end
  end
  for i = 0, tonumber(C.aj_safetensors_metadata_count(s)) - 1 do
    metadata[ffi.string(C.aj_safetensors_metadata(s, i, false))] = ffi.string(C.aj_safetensors_metadata(s, i, true))
  end
  C.aj_safetensors_drop(ffi.gc(s, nil))
  return tensors, metadata
end

--- How many bytes the elements of a tensor take.
---@param tensor aijit.Tensor
---@return integer
function format.bytes(tensor)
  return tonumber(C.aj_numel(tensor)) * tonumber(C.aj_dtype_size(C.aj_dtype_of(tensor)))
end

--- Lua strings as C's; the Lua table must outlive the array.
local function strings(list)
  local array = ffi.new("const char *[?]", #list + 1)
  for i = 1, #list do array[i - 1] = list[i] end
  return array
end

local function put_safetensors(writer, n, names, tensors, n_metadata, keys, values)
  return C.aj_safetensors_write(writer, n, names, tensors, n_metadata, keys, values)
end

--- Calls `put(writer, n, names, tensors, ...)` with C's arrays of both lists.
local function write_named(path, put, names, tensors, ...)
  local n, held = #names, {}
  local array = ffi.new("aj_tensor *[?]", n + 1)
  for i = 1, n do
    held[i] = on_cpu(tensors[i])
    array[i - 1] = held[i]
  end
  local bytes = file.write_with(path, put, n, strings(names), array, ...)
  held[1] = nil     -- alive until here
  return bytes
end

---@param path string?
---@param names string[]
---@param tensors aijit.Tensor[]
---@param keys string[]
---@param values string[]
---@return string? bytes
function format.safetensors_write(path, names, tensors, keys, values)
  return write_named(path, put_safetensors, names, tensors, #keys, strings(keys), strings(values))
end

--- The tensors of an .npz file by name.
---@param blob ffi.cdata*
---@param max_bytes? integer
---@param wanted? fun(name: string): boolean
---@return table<string, aijit.Tensor>
function format.npz_read(blob, max_bytes, wanted)
  local z = file.own(C.aj_npz_read(blob, max_bytes or 0), C.aj_npz_drop)
  local tensors = {}
  for i = 0, tonumber(C.aj_npz_count(z)) - 1 do
    local name = ffi.string(C.aj_npz_name(z, i))
    if not wanted or wanted(name) then tensors[name] = lib.check(C.aj_npz_tensor(z, i)) end
  end
  C.aj_npz_drop(ffi.gc(z, nil))
  return tensors
end

local function put_npz(writer, n, names, tensors, deflated) return C.aj_npz_write(writer, n, names, tensors, deflated) end

---@param path string?
---@param names string[]
---@param tensors aijit.Tensor[]
---@param deflated boolean
---@return string? bytes
function format.npz_write(path, names, tensors, deflated) return write_named(path, put_npz, names, tensors, deflated) end

---@param blob ffi.cdata*
---@return aijit.Tensor
function format.npy_read(blob) return (lib.check(C.aj_npy_read(blob))) end

local function put_npy(writer, tensor) return C.aj_npy_write(writer, tensor) end

---@param path string?
---@param tensor aijit.Tensor
---@return string? bytes
function format.npy_write(path, tensor) return file.write_with(path, put_npy, on_cpu(tensor)) end

---@param blob ffi.cdata*
---@return aijit.Tensor
function format.idx_read(blob) return (lib.check(C.aj_idx_read(blob))) end

---@param blob ffi.cdata*
---@param channels integer    0: as many as the picture has
---@param chw boolean
---@param background integer  0xRRGGBB
---@return aijit.Tensor
function format.png_read(blob, channels, chw, background) return (lib.check(C.aj_png_read(blob, channels, chw, background))) end

local function put_png(writer, tensor, chw) return C.aj_png_write(writer, tensor, chw) end

---@param path string?
---@param tensor aijit.Tensor
---@param chw boolean
---@return string? bytes
function format.png_write(path, tensor, chw) return file.write_with(path, put_png, on_cpu(tensor), chw) end

local function put_gif(writer, frames, delay) return C.aj_gif_write(writer, frames, delay) end

---@param path string?
---@param frames aijit.Tensor u8 (T, H, W, C)
---@param delay integer hundredths of a second
---@return string? bytes
function format.gif_write(path, frames, delay) return file.write_with(path, put_gif, on_cpu(frames), delay) end

---@param blob ffi.cdata*
---@param channels integer    0: as many as the picture has
---@param chw boolean
---@param height integer      it may be decoded smaller, but no smaller than this; 0: whole
---@param width integer
---@return aijit.Tensor
function format.jpeg_read(blob, channels, chw, height, width) return (lib.check(C.aj_jpeg_read(blob, channels, chw, height, width))) end

local function put_jpeg(writer, tensor, chw, quality) return C.aj_jpeg_write(writer, tensor, chw, quality) end

---@param path string?
---@param tensor aijit.Tensor
---@param chw boolean
---@param quality integer
---@return string? bytes
function format.jpeg_write(path, tensor, chw, quality) return file.write_with(path, put_jpeg, on_cpu(tensor), chw, quality) end

---@param tensor aijit.Tensor
---@param height integer
---@param width integer
---@param filter integer      0 nearest, 1 bilinear, 2 bicubic
---@param chw boolean
---@return aijit.Tensor
function format.resize(tensor, height, width, filter, chw)
  return (lib.check(C.aj_picture_resize(on_cpu(tensor), height, width, filter, chw)))
end

--- All bytes of a blob as the elements of a tensor (n), little-endian; in place where they are aligned.
---@param blob ffi.cdata*
---@param dtype string
---@return aijit.Tensor
function format.raw_read(blob, dtype) return lib.check(C.aj_raw_read(blob, lib.dtype(dtype))) end

--- The files in a tar archive: their names, and where each lies.
---@param blob ffi.cdata*
---@return string[] names
---@return integer[] offsets from 0
---@return integer[] sizes
function format.tar_read(blob)
  local t = file.own(C.aj_tar_read(blob), C.aj_tar_drop)
  local names, offsets, sizes = {}, {}, {}
  for i = 0, tonumber(C.aj_tar_count(t)) - 1 do
    names[i + 1] = ffi.string(C.aj_tar_name(t, i))
    offsets[i + 1], sizes[i + 1] = tonumber(C.aj_tar_offset(t, i)), tonumber(C.aj_tar_size(t, i))
  end
  C.aj_tar_drop(ffi.gc(t, nil))
  return names, offsets, sizes
end

return format
