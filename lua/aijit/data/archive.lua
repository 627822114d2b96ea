--- Archives that data sets come in: tar, plain or gzipped, unpacked into a folder.

local file = require "aijit.bindings.file"
local format = require "aijit.bindings.format"
local system = require "aijit.bindings.system"

local archive = {}

-- A name in an archive must stay in the folder that it is unpacked into.
local function inside(name, path)
  for part in name:gmatch "[^/]+" do
    if part == ".." then error(("tar: %s: the file '%s' would lie outside of the folder"):format(path, name), 0) end
  end
  return (name:gsub("^/+", ""))
end

--- Unpacks the regular files of an archive; each is replaced whole.
---@param path string
---@param folder string
---@param limit? integer most bytes when it is inflated (4 GiB)
---@return string[] names
function archive.unpack(path, folder, limit)
  local blob = file.open(path)
  if file.text(blob, 2) == "\31\139" then
    local packed = blob
    blob = file.inflated(packed, limit or 2 ^ 32)
    file.close(packed)
  end
  local names, offsets, sizes = format.tar_read(blob)
  for i, name in ipairs(names) do names[i] = inside(name, path) end
  for i, name in ipairs(names) do
    local target = folder .. "/" .. name
    system.make_directories(target:match "^(.*)/")
    local part = file.slice(blob, offsets[i], sizes[i], name)
    file.write(target, file.text(part))
    file.close(part)
  end
  file.close(blob)
  return names
end

--- Fetches an archive and unpacks it into a folder; the archive is removed again.
---@param url string
---@param folder string
---@param sha256 string
function archive.fetch(url, folder, sha256)
  system.make_directories(folder)
  local path = folder .. "/" .. url:match "[^/]+$"
  require("aijit.io").download(url, path, {sha256 = sha256})
  archive.unpack(path, folder)
  os.remove(path)
end

return archive
