--- The logger of what is looked at and listened to: pictures, videos and sounds as files of their own.

local class = require "aijit.class"
local file = require "aijit.io.file"
local jsonl = require "aijit.log.jsonl"
local Logger = require "aijit.log.logger"
local system = require "aijit.bindings.system"

local function checked(dir, what)
  if type(dir) ~= "string" then
    error(("%s: the folder is %s, not a string; a task has its own in self.exp_dir"):format(what, tostring(dir)), 4)
  end
  return dir
end

local function tiled(image)
  local picture = require "aijit.log.picture"
  return picture, picture.tile(image.images, image.captions)
end

--- Images as PNG, videos as GIF, sounds as WAV, meshes as PLY: DIR/images/PHASE-NAME-STEP.png and so on, and their captions
-- in DIR/images/index.jsonl.
---@class aijit.ImagesLogger: aijit.Logger
local Images = class("Images", Logger)

Images.kinds = {image = true, video = true, audio = true, mesh = true}

---@param dir string folder of the run
---@param o? {interval?: number, keys?: table<string, number>} interval: seconds between two pictures of a phase (10)
function Images:__init(dir, o)
  self.dir = checked(dir, "ai.log.Images") .. "/images"
  self:limits(o, "ai.log.Images")
end

local function index_of(self)
  system.make_directories(self.dir)
  self._index = self._index or jsonl.open(self.dir .. "/index.jsonl")
  return self._index
end

-- Writes one file of a line by `put(path)` and notes it in the index.
local function keep(self, line, name, extension, captions, put)
  system.make_directories(self.dir)
  local base = ("%s-%s-%08d.%s"):format(line.phase, name:gsub("[^%w_%-]", "_"), line.step, extension)
  put(self.dir .. "/" .. base)
  index_of(self):write(jsonl.line {
    {"file", base}, {"name", name}, {"phase", line.phase}, {"step", line.step}, {"captions", table.concat(captions or {}, " | ")},
  }, "\n"):flush()
end

-- Polygon file format, little-endian: http://paulbourke.net/dataformats/ply/
local function ply(mesh)
  local head = {"ply\nformat binary_little_endian 1.0\nelement vertex ", mesh.n_vertices, "\nproperty float x\nproperty float y\nproperty float z\n"}
  if mesh.colors then head[#head + 1] = "property uchar red\nproperty uchar green\nproperty uchar blue\n" end
  if mesh.faces then head[#head + 1] = ("element face %d\nproperty list uchar int vertex_indices\n"):format(mesh.n_faces) end
  head[#head + 1] = "end_header\n"
  for i = 1, mesh.n_vertices do
    head[#head + 1] = mesh.vertices:sub(12 * i - 11, 12 * i)
    if mesh.colors then head[#head + 1] = mesh.colors:sub(3 * i - 2, 3 * i) end
  end
  for i = 1, mesh.n_faces do head[#head + 1] = "\3" .. mesh.faces:sub(12 * i - 11, 12 * i) end
  return table.concat(head)
end

function Images:write(line)
  for _, image in ipairs(line.images) do
    local picture, canvas, captions = tiled(image)
    keep(self, line, image.name, "png", captions, function(path) picture.save(path, canvas) end)
  end
  for _, video in ipairs(line.videos) do keep(self, line, video.name, "gif", nil, function(path) file.write(path, video.gif) end) end
  for _, sound in ipairs(line.sounds) do keep(self, line, sound.name, "wav", nil, function(path) file.write(path, sound.wav) end) end
  for _, mesh in ipairs(line.meshes) do keep(self, line, mesh.name, "ply", nil, function(path) file.write(path, ply(mesh)) end) end
end

function Images:position() return {bytes = system.is_directory(self.dir) and index_of(self):position() or 0} end

--- The pictures made after the checkpoint go as well: their names are in the part of the index that is cut off.
function Images:rewind(position)
  local index = io.open(self.dir .. "/index.jsonl", "rb")
  if index then
    index:seek("set", position.bytes)
    for line in index:lines() do
      local name = line:match('"file":"([%w_%-]+%.%w+)"')
      if name then os.remove(self.dir .. "/" .. name) end
    end
    index:close()
  end
  return (index or position.bytes > 0) and index_of(self):rewind(position.bytes) or 0
end

function Images:stop()
  if self._index then self._index:close() end
  self._index = nil
end

return Images
