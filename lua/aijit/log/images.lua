--- Loggers of pictures and of TensorBoard's files.

local Appender = require "aijit.log.appender"
local class = require "aijit.class"
local event = require "aijit.log.event"
local jsonl = require "aijit.log.jsonl"
local Logger = require "aijit.log.logger"
local system = require "aijit.bindings.system"

local images = {}

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

--- Images as PNG files: DIR/images/PHASE-NAME-STEP.png, and their captions in DIR/images/index.jsonl.
---@class aijit.ImagesLogger: aijit.Logger
local Images = class("Images", Logger)

Images.kinds = {image = true}

---@param dir string folder of the run
---@param o? {interval?: number} seconds between two pictures of a phase (10)
function Images:__init(dir, o)
  self.dir = checked(dir, "ai.log.Images") .. "/images"
  self.interval = o and o.interval or self.interval
end

local function index_of(self)
  system.make_directories(self.dir)
  self._index = self._index or jsonl.open(self.dir .. "/index.jsonl")
  return self._index
end

function Images:write(line)
  for _, image in ipairs(line.images) do
    system.make_directories(self.dir)
    local picture, canvas, captions = tiled(image)
    local name = ("%s-%s-%08d.png"):format(line.phase, image.name:gsub("[^%w_%-]", "_"), line.step)
    picture.save(self.dir .. "/" .. name, canvas)
    index_of(self):write(jsonl.line {
      {"file", name}, {"name", image.name}, {"phase", line.phase}, {"step", line.step},
      {"captions", table.concat(captions or {}, " | ")},
    }, "\n"):flush()
  end
end

function Images:position() return {bytes = system.is_directory(self.dir) and index_of(self):position() or 0} end

--- The pictures made after the checkpoint go as well: their names are in the part of the index that is cut off.
function Images:rewind(position)
  local index = io.open(self.dir .. "/index.jsonl", "rb")
  if index then
    index:seek("set", position.bytes)
    for line in index:lines() do
      local name = line:match('"file":"([%w_%-]+%.png)"')
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

--- TensorBoard event files under DIR/tensorboard/train and DIR/tensorboard/valid: `tensorboard --logdir DIR`.
---@class aijit.TensorBoardLogger: aijit.Logger
local TensorBoard = class("TensorBoard", Logger)

TensorBoard.interval = 5

---@param dir string folder of the run
---@param o? {interval?: number} seconds between two lines of a phase (5)
function TensorBoard:__init(dir, o)
  self.dir = checked(dir, "ai.log.TensorBoard") .. "/tensorboard"
  self.interval = o and o.interval or self.interval
  self._files = {}
  self._config = nil
end

local opened = 0

local function file_of(self, phase)
  if self._files[phase] then return self._files[phase] end
  local dir = system.make_directories(self.dir .. "/" .. phase)
  opened = opened + 1
  local now = system.time()
  local path = ("%s/events.out.tfevents.%d.%s.%d.%d"):format(dir, math.floor(now), system.hostname(), system.pid(), opened)
  local file = Appender(path)
  file:write(event.frame(event.message(now, 0, event.version())))
  if self._config then
    local text = "    " .. tostring(self._config):gsub("\n", "\n    ")
    file:write(event.frame(event.message(now, 0, event.summary {event.text("config", text)})))
  end
  self._files[phase] = file
  return file
end

function TensorBoard:start(run) self._config = run.config end

function TensorBoard:write(line)
  local values = {}
  for _, pair in ipairs(line.scalars) do values[#values + 1] = event.scalar(pair[1], pair[2]) end
  for _, pair in ipairs(line.texts) do values[#values + 1] = event.text(pair[1], pair[2]) end
  for _, image in ipairs(line.images) do
    local picture, canvas, captions = tiled(image)
    values[#values + 1] = event.image(image.name, picture.png(canvas), canvas:size(1), canvas:size(2), canvas:size(3))
    -- TensorBoard's images have no caption: it goes beside them, as a text.
    if captions then
      values[#values + 1] = event.text(image.name .. "/captions", table.concat(captions, "\n\n"))
    end
  end
  if #values == 0 then return end
  local file = file_of(self, line.phase)
  file:write(event.frame(event.message(line.time, line.step, event.summary(values))))
  file:flush()
end

--- Every event file of the run, those of earlier processes too, with its size.
local function event_files(self)
  local files = {}
  for _, phase in ipairs(system.list(self.dir) or {}) do
    for _, name in ipairs(system.list(self.dir .. "/" .. phase) or {}) do
      if name:match("^events%.out%.tfevents%.") then files[#files + 1] = phase .. "/" .. name end
    end
  end
  return files
end

function TensorBoard:position()
  for _, file in pairs(self._files) do file:position() end
  local sizes = {}
  for _, name in ipairs(event_files(self)) do
    local file = assert(io.open(self.dir .. "/" .. name, "rb"))
    sizes[name] = file:seek("end")
    file:close()
  end
  return {files = sizes}
end

function TensorBoard:rewind(position)
  self:stop()
  local missing = 0
  for _, name in ipairs(event_files(self)) do
    local path, bytes = self.dir .. "/" .. name, position.files[name]
    if not bytes then
      os.remove(path)
    else
      local file = Appender(path)
      missing = missing + file:rewind(bytes)
      file:close()
    end
  end
  return missing
end

function TensorBoard:stop()
  for _, file in pairs(self._files) do file:close() end
  self._files = {}
end

images.Images = Images
images.TensorBoard = TensorBoard

return images
