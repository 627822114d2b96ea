--- The logger of TensorBoard's event files.

local Appender = require "aijit.log.appender"
local class = require "aijit.class"
local event = require "aijit.log.event"
local Logger = require "aijit.log.logger"
local system = require "aijit.bindings.system"

--- TensorBoard event files under DIR/tensorboard/train and DIR/tensorboard/valid: `tensorboard --logdir DIR`.
---@class aijit.TensorBoardLogger: aijit.Logger
local TensorBoard = class("TensorBoard", Logger)

TensorBoard.interval = 5

TensorBoard.kinds = {scalar = true, text = true, image = true, histogram = true, audio = true, video = true, mesh = true}

---@param dir string folder of the run
---@param o? {interval?: number, keys?: table<string, number>, metrics?: string[]} interval: seconds between two lines of a phase (5);
---  metrics: the numbers by which runs are compared in the table of hyper-parameters, as in {"loss", "accuracy"}
function TensorBoard:__init(dir, o)
  if type(dir) ~= "string" then
    error(("ai.log.TensorBoard: the folder is %s, not a string; a task has its own in self.exp_dir"):format(tostring(dir)), 3)
  end
  self.dir = dir .. "/tensorboard"
  self:limits(o, "ai.log.TensorBoard", {"metrics"})
  self._metrics = o and o.metrics or {"loss", "accuracy"}
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

-- The leaves of a config, in the order of their names, as numbers, booleans and texts.
local function leaves(config)
  local values = {}
  local function visit(value, path)
    local names = {}
    for name in pairs(value) do names[#names + 1] = tostring(name) end
    table.sort(names)
    for _, name in ipairs(names) do
      local inner, here = value[name], path and path .. "." .. name or name
      if type(inner) == "table" and getmetatable(inner) == nil and inner[1] == nil then visit(inner, here)
      else values[#values + 1] = {here, type(inner) == "table" and require("aijit.config.schema").show(inner) or inner} end
    end
  end
  visit(config)
  return values
end

local function put(self, phase, step, values)
  local file = file_of(self, phase)
  file:write(event.frame(event.message(system.time(), step, event.summary(values))))
  file:flush()
end

function TensorBoard:start(run)
  self._config = run.config
  local config = run.config
  if type(config) ~= "table" then return end
  if type(config.to_table) == "function" then config = config:to_table() end
  self._has_hparams = true
  put(self, "train", 0, event.hparams(leaves(config), self._metrics, run.name, system.time()))
end

--- Hyper-parameters of a program that is no task.
---@param values table of numbers, booleans, texts, and tables of these
---@param metrics? string[] the numbers by which runs are compared
---@param name? string of this run
function TensorBoard:hparams(values, metrics, name)
  self._has_hparams = true
  put(self, "train", 0, event.hparams(leaves(values), metrics or self._metrics, name or "run", system.time()))
end

--- The graph of a model, as `aijit.log.graph` gives it.
---@param graph table[]
function TensorBoard:graph(graph)
  local file = file_of(self, "train")
  file:write(event.frame(event.message(system.time(), 0, event.graph(graph))))
  file:flush()
end

function TensorBoard:write(line)
  local values = {}
  for _, pair in ipairs(line.scalars) do values[#values + 1] = event.scalar(pair[1], pair[2]) end
  for _, pair in ipairs(line.texts) do values[#values + 1] = event.text(pair[1], pair[2]) end
  for _, image in ipairs(line.images) do
    local picture = require "aijit.log.picture"
    local canvas, captions = picture.tile(image.images, image.captions)
    values[#values + 1] = event.image(image.name, picture.png(canvas), canvas:size(1), canvas:size(2), canvas:size(3))
    -- TensorBoard's images have no caption: it goes beside them, as a text.
    if captions then
      values[#values + 1] = event.text(image.name .. "/captions", table.concat(captions, "\n\n"))
    end
  end
  for _, histogram in ipairs(line.histograms) do
    if histogram.count > 0 then values[#values + 1] = event.histogram(histogram.name, histogram) end
  end
  for _, sound in ipairs(line.sounds) do values[#values + 1] = event.audio(sound.name, sound) end
  for _, video in ipairs(line.videos) do
    values[#values + 1] = event.image(video.name, video.gif, video.height, video.width, video.channels)
  end
  for _, mesh in ipairs(line.meshes) do
    for _, value in ipairs(event.mesh(mesh.name, mesh)) do values[#values + 1] = value end
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
  self:close()
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

function TensorBoard:stop(ok)
  if self._has_hparams and self._files.train then put(self, "train", 0, {event.hparams_end(ok ~= false, system.time())}) end
  self:close()
end

--- Closes the files; the next line opens new ones.
function TensorBoard:close()
  for _, file in pairs(self._files) do file:close() end
  self._files = {}
end

return TensorBoard
