--- Whole files: read, replaced in one step, checksummed, fetched.

local raise = require("aijit.bindings.lib").raise
local core = require "aijit.bindings.file"

local file = {
  read = core.read,
  write = core.write,
  replace = core.replace,
  sync = core.sync,
  sha256 = core.sha256,
  sha256_file = core.sha256_file,
  crc32 = core.crc32,
  crc32c = core.crc32c,
  gunzip = core.gunzip,
}

---@param path string
---@return boolean
function file.exists(path)
  local f = io.open(path, "rb")
  if f then f:close() end
  return f ~= nil
end

---@class aijit.DownloadOptions
---@field sha256? string        64 hexadecimal digits that the file must have; with them an interrupted download goes on
---@field max_bytes? integer    more is an error
---@field force? boolean        fetch even if the file is there

--- Fetches a URL (http, https, file) into a file, unless the file is there already and, if `sha256` is given, has it.
-- The bytes come to PATH.part and are renamed when they are complete. The environment's proxy settings hold.
---@param url string
---@param path string
---@param opts? aijit.DownloadOptions
---@return string path
function file.download(url, path, opts)
  opts = opts or {}
  if type(url) ~= "string" then raise("download: the url must be a string, got " .. type(url)) end
  if type(path) ~= "string" then raise("download: the path must be a string, got " .. type(path)) end
  if not opts.force and file.exists(path) then
    if not opts.sha256 or core.sha256_file(path) == opts.sha256:lower() then return path end
  end
  core.download(url, path, opts.sha256, opts.max_bytes)
  return path
end

return file
