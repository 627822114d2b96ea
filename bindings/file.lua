--- Bytes of files: read whole, mapped, replaced in one step, checksummed, fetched. Binds core/io.h.
-- A blob is bytes to read, and a writer bytes to write; both are C objects with a finalizer.

local lib = require "aijit.bindings.lib"
local C, ffi = lib.C, lib.ffi

local file = {}

--- What C gets as a path: no zero byte can be in it, or another file than the one named would be used.
local function path_of(path, who)
  if type(path) ~= "string" then lib.raise(("%s: the path must be a string, got %s"):format(who, type(path))) end
  if path:find("\0", 1, true) then lib.raise(("%s: the path has a zero byte in it"):format(who)) end
  return path
end

local hex = ffi.typeof("char[65]")

--- A C object that goes with its handle; nil raises the error that it stands for. A request to stop is not looked at
-- here: raised now, it would leave the object to the collector. The last call of each function looks.
---@param p ffi.cdata*
---@param drop ffi.cdata*
---@return ffi.cdata*
function file.own(p, drop)
  if p == nil then lib.ok(false) end
  return ffi.gc(p, drop)
end

--- The bytes of a file: mapped, or with `mmap = false` copied.
---@param path string
---@param mmap? boolean
---@return ffi.cdata*
function file.open(path, mmap)
  path_of(path, "load")
  if mmap == false then return file.own(C.aj_blob_read(path), C.aj_blob_drop) end
  return file.own(C.aj_blob_open(path), C.aj_blob_drop)
end

--- A blob of a string; errors call it `name`.
---@param bytes string
---@param name? string
---@return ffi.cdata*
function file.blob(bytes, name)
  return file.own(C.aj_blob_of(bytes, #bytes, name or "(string)"), C.aj_blob_drop)
end

--- The first `size` bytes of a blob as a string; all of them without `size`.
---@param blob ffi.cdata*
---@param size? integer
---@return string
function file.text(blob, size)
  local all = tonumber(C.aj_blob_size(blob))
  return ffi.string(C.aj_blob_data(blob), size and math.min(size, all) or all)
end

--- A part of a blob, in place; errors call it `name`.
---@param blob ffi.cdata*
---@param offset integer from 0
---@param size integer
---@param name string
---@return ffi.cdata*
function file.slice(blob, offset, size, name) return file.own(C.aj_blob_slice(blob, offset, size, name), C.aj_blob_drop) end

--- Gives a blob back now, not when the collector comes to it. Tensors made from it keep what they need.
---@param blob ffi.cdata*
function file.close(blob)
  C.aj_blob_drop(ffi.gc(blob, nil))
end

---@param path string
---@return string bytes
function file.read(path)
  path_of(path, "read")
  local blob = file.open(path)
  local text = file.text(blob)
  file.close(blob)
  return text
end

--- Runs `put(writer, ...)`, which returns false after an error of C's. With a path the file is then replaced,
-- or after a failure left as it was; without one the bytes are returned.
---@param path string?
---@param put fun(writer: ffi.cdata*, ...): boolean
---@return string? bytes
function file.write_with(path, put, ...)
  if path ~= nil then path_of(path, "save") end
  local writer = file.own(C.aj_writer_open(path), C.aj_writer_drop)
  local good, bytes = put(writer, ...), nil
  if path then
    good = good and C.aj_writer_commit(writer)
  elseif good then
    local blob = C.aj_writer_blob(writer)
    good = blob ~= nil
    if good then
      bytes = ffi.string(C.aj_blob_data(blob), C.aj_blob_size(blob))
      C.aj_blob_drop(blob)
    end
  end
  C.aj_writer_drop(ffi.gc(writer, nil))
  lib.ok(good)
  return bytes
end

local function put_text(writer, text) return C.aj_writer_put(writer, text, #text) end

--- Replaces a file by these bytes, in one step that survives a power loss.
---@param path string
---@param bytes string
function file.write(path, bytes)
  path_of(path, "write")
  if type(bytes) ~= "string" then lib.raise("write: the bytes must be a string, got " .. type(bytes)) end
  file.write_with(path, put_text, bytes)
end

--- Renames `from`, a file or a folder, to `to`, and syncs the folder around it.
---@param from string
---@param to string
function file.replace(from, to)
  lib.ok(C.aj_file_replace(path_of(from, "replace"), path_of(to, "replace")))
end

--- Syncs a file or a folder.
---@param path string
function file.sync(path) lib.ok(C.aj_file_sync(path_of(path, "sync"))) end

--- SHA-256 of a string, as 64 hexadecimal digits.
---@param bytes string
---@return string
function file.sha256(bytes)
  local out = hex()
  C.aj_sha256(bytes, #bytes, out)
  return ffi.string(out)
end

--- SHA-256 of a file.
---@param path string
---@return string
function file.sha256_file(path)
  local out = hex()
  lib.ok(C.aj_sha256_file(path_of(path, "sha256_file"), out))
  return ffi.string(out)
end

--- CRC-32 as in gzip and zip; `before` is that of the bytes in front of these.
---@param bytes string
---@param before? integer
---@return integer
function file.crc32(bytes, before) return C.aj_crc32(before or 0, bytes, #bytes) end

--- CRC-32C (Castagnoli), as in TensorBoard's event files.
---@param bytes string
---@param before? integer
---@return integer
function file.crc32c(bytes, before) return C.aj_crc32c(before or 0, bytes, #bytes) end

--- A gzipped blob, inflated; more than `limit` bytes is an error.
---@param blob ffi.cdata*
---@param limit integer
---@return ffi.cdata*
function file.inflated(blob, limit) return file.own(C.aj_gunzip(blob, limit), C.aj_blob_drop) end

--- The inflated bytes of a gzipped string; more than `limit` (1 GiB) is an error.
---@param bytes string
---@param limit? integer
---@return string
function file.gunzip(bytes, limit)
  local blob = file.blob(bytes)
  local out = file.own(C.aj_gunzip(blob, limit or 2 ^ 30), C.aj_blob_drop)
  file.close(blob)
  local text = file.text(out)
  file.close(out)
  return text
end

--- Fetches a URL into a file.
---@param url string
---@param path string
---@param sha256? string
---@param max_bytes? integer
function file.download(url, path, sha256, max_bytes)
  path_of(url, "download")
  lib.ok(C.aj_download(url, path_of(path, "download"), sha256, max_bytes or 0))
end

--- One request over HTTP.
---@param method string
---@param url string
---@param headers string[] such as "Content-Type: text/plain"
---@param body string?
---@param timeout number seconds
---@return integer status
---@return string body
function file.http(method, url, headers, body, timeout)
  path_of(url, "http")
  local list = ffi.new("const char *[?]", #headers + 1)
  for i, line in ipairs(headers) do list[i - 1] = line end
  local status = ffi.new "int32_t[1]"
  local blob = C.aj_http(method, url, #headers, list, body, body and #body or 0, timeout * 1000, status)
  local text = file.text(file.own(blob, C.aj_blob_drop))
  file.close(blob)
  return status[0], text
end

--- For tests: the n-th write, sync or rename from now fails; 0: off.
---@param n integer
function file.fail(n) C.aj_file_fail(n) end

return file
