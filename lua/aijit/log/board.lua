--- Where a program's values meet its loggers: who is due is decided when a step begins, so that nothing is computed for nobody.

local class = require "aijit.class"
local Logger = require "aijit.log.logger"
local system = require "aijit.bindings.system"

---@class aijit.LogBoard
local Board = class("LogBoard")

-- Where a line keeps the values of a kind.
local fields = {
  scalar = "scalars", text = "texts", image = "images", histogram = "histograms", audio = "sounds", video = "videos", mesh = "meshes",
}

function Board:__init()
  self.loggers = {}
  self._due = {}
  self._wants = {}
  self._line = nil
end

--- Adds loggers.
---@param ... aijit.Logger
function Board:add(...)
  for i = 1, select("#", ...) do
    local logger = select(i, ...)
    if not class.is(logger, Logger) then
      error(("add_logger: argument %d is %s, not a logger such as ai.log.Stdout()"):format(i,
        logger == nil and "nil" or "a " .. type(logger)), 2)
    end
    table.insert(self.loggers, logger)
  end
end

--- Begins a line. Until `finish`, values are taken for those loggers that are due.
---@param about table the line's step, samples, epoch, phase, elapsed, progress, total
---@param o? {force?: boolean, collect?: boolean} force: every logger is due; collect: scalars are taken even for nobody
function Board:begin(about, o)
  local now, due, wants = system.monotonic(), {}, {scalar = o and o.collect or nil}
  local force = o and o.force or false
  for _, logger in ipairs(self.loggers) do
    if logger:due(about.phase, now, force, about) then
      due[#due + 1] = logger
      for kind in pairs(logger.kinds) do wants[kind] = true end
    end
  end
  for _, field in pairs(fields) do about[field] = {} end
  self._due, self._wants, self._line = due, wants, about
  self._now, self._force, self._collect = now, force, o and o.collect
  self._place, self._count, self._takes = {}, {}, {}
end

--- Whether a line is open that someone waits for.
---@return boolean
function Board:is_open() return self._line ~= nil and next(self._wants) ~= nil end

--- Changes what the open line says of itself: step, samples, elapsed.
---@param about table
function Board:update(about)
  if not self._line then return end
  for name, value in pairs(about) do self._line[name] = value end
end

--- Whether a value of this kind would reach a logger now.
---@param kind "scalar"|"text"|"image"|"histogram"|"audio"|"video"|"mesh"
---@return boolean
function Board:wants(kind) return self._line ~= nil and self._wants[kind] == true end

-- Whether a logger takes a name in this line; asked once a line, since asking starts the wait for the next.
local function takes(self, logger, name)
  local names = self._takes[logger]
  if not names then
    names = {}
    self._takes[logger] = names
  end
  if names[name] == nil then names[name] = logger:takes(self._line.phase, name, self._now, self._force) end
  return names[name]
end

local function wanted(self, kind, name)
  if not self:wants(kind) then return false end
  local some = kind == "scalar" and self._collect or false
  for _, logger in ipairs(self._due) do
    if logger.kinds[kind] and (not logger.keys or takes(self, logger, name)) then some = true end
  end
  return some
end

-- What a function gives, without gradients: what is logged is not trained on.
local function called(f) return require("aijit").no_grad(f) end

local function number_of(name, value)
  if type(value) == "cdata" then
    local ok, number = pcall(function() return value:item() end)
    if ok then value = number end
  end
  if type(value) ~= "number" then
    error(("log_scalar: '%s' is %s: a number or a tensor of one element is wanted"):format(name, tostring(value)), 3)
  end
  return value
end

--- Logs a number. Several of one name in a line, as in a validation of many batches, give their mean.
---@param name string "a/b" groups names
---@param value number|any a number, a tensor of one element, or a function that gives one; it is called only when it is needed
---@param weight? number in the mean; 1 without it
function Board:scalar(name, value, weight)
  if not wanted(self, "scalar", name) then return end
  if type(value) == "function" then value = called(value) end
  value, weight = number_of(name, value), weight or 1
  local scalars, place = self._line.scalars, self._place[name]
  if not place then
    place = #scalars + 1
    self._place[name], self._count[name] = place, weight
    scalars[place] = {name, value}
  else
    local count = self._count[name] + weight
    scalars[place][2] = scalars[place][2] + (value - scalars[place][2]) * (weight / count)
    self._count[name] = count
  end
end

-- All but numbers: the first of a name in a line counts, and the others are not computed.
local function first_of(self, kind, name)
  if not wanted(self, kind, name) then return false end
  local key = kind .. ":" .. name
  if self._place[key] then return false end
  self._place[key] = true
  return true
end

--- Logs a text.
---@param name string
---@param value string|fun(): string
function Board:text(name, value)
  if not first_of(self, "text", name) then return end
  if type(value) == "function" then value = called(value) end
  table.insert(self._line.texts, {name, tostring(value)})
end

--- Logs one image or a batch of them, with or without captions.
---@param name string
---@param value any images as `aijit.log.picture` takes them, or a function that gives images and captions
---@param captions? string[]
function Board:image(name, value, captions)
  if not first_of(self, "image", name) then return end
  if type(value) == "function" then value, captions = called(value) end
  -- A validation's line outlives the scopes of its batches.
  if type(value) == "table" and value.panels then value = {value:image()} end          -- a figure of ai.plot
  if type(value) == "cdata" then
    require("aijit").keep(value)
  else
    for _, image in ipairs(value) do require("aijit").keep(image) end
  end
  table.insert(self._line.images, {name = name, images = value, captions = captions})
end

-- What `media` makes of a value, at once, with its name.
local function add(self, kind, name, make, value, ...)
  if not first_of(self, kind, name) then return end
  local ok, made
  if type(value) == "function" then
    ok, made = pcall(function(...) return make(called(value), ...) end, ...)
  else
    ok, made = pcall(make, value, ...)
  end
  if not ok then error(("%s, in '%s'"):format(tostring(made), name), 3) end
  made.name = name
  table.insert(self._line[fields[kind]], made)
end

--- Logs the distribution of a tensor's values, as `aijit.log.media` takes them. This and the next: a function is called only when it is needed.
---@param name string
---@param value any a tensor, a list of numbers, or a function that gives one
---@param bins? integer 64
function Board:histogram(name, value, bins) add(self, "histogram", name, require("aijit.log.media").histogram, value, bins) end

--- Logs a sound.
---@param name string
---@param value any (T), (C, T) or (T, C), or a function that gives it
---@param rate integer samples a second
function Board:audio(name, value, rate) add(self, "audio", name, require("aijit.log.media").sound, value, rate) end

--- Logs a video.
---@param name string
---@param value any (T, H, W), (T, C, H, W) or (T, H, W, C), a list of images, or a function that gives it
---@param fps? number 12
function Board:video(name, value, fps) add(self, "video", name, require("aijit.log.media").video, value, fps) end

--- Logs points in space.
---@param name string
---@param vertices any (N, 3), or a function that gives it
---@param o? {colors?: any, faces?: any, max_points?: integer}
function Board:mesh(name, vertices, o) add(self, "mesh", name, require("aijit.log.media").mesh, vertices, o) end

--- Hands the graph of a model to the loggers that keep graphs.
---@param model aijit.nn.Module
---@param ... any an example of its inputs
function Board:graph(model, ...)
  local graph
  for _, logger in ipairs(self.loggers) do
    if logger.graph then
      graph = graph or require("aijit.log.graph")(model, ...)
      logger:graph(graph)
    end
  end
end

--- Hands hyper-parameters to the loggers that keep them. Those of a task's config are kept without this.
---@param values table of numbers, booleans, texts, and tables of these
---@param metrics? string[] the numbers by which runs are compared
---@param name? string of this run
function Board:hparams(values, metrics, name)
  for _, logger in ipairs(self.loggers) do
    if logger.hparams then logger:hparams(values, metrics, name) end
  end
end

-- What a logger with limits by name gets of a line.
local function part_of(self, line, logger)
  local part = {}
  for name, value in pairs(line) do part[name] = value end
  for _, field in pairs(fields) do
    part[field] = {}
    for _, entry in ipairs(line[field]) do
      if takes(self, logger, entry.name or entry[1]) then table.insert(part[field], entry) end
    end
  end
  return part
end

--- Ends the line and hands it to the loggers that were due.
---@return aijit.LogLine? line
function Board:finish()
  local line = self._line
  if not line then return nil end
  line.time = system.time()
  for _, logger in ipairs(self._due) do logger:write(logger.keys and part_of(self, line, logger) or line) end
  self._line = nil
  return line
end

--- Starts every logger.
---@param run {name: string, dir: string?, config: table?}
function Board:start(run)
  for _, logger in ipairs(self.loggers) do logger:start(run) end
end

--- Where every logger stands, for a checkpoint: what was logged until now is on the disk then.
---@return table[] positions of the loggers that have one: their class and, of several of one class, their number
function Board:position()
  local all, counts = {}, {}
  for _, logger in ipairs(self.loggers) do
    local name = getmetatable(logger).__name
    counts[name] = (counts[name] or 0) + 1
    local position = logger:position()
    if position ~= nil then all[#all + 1] = {logger = name, number = counts[name], position = position} end
  end
  return all
end

--- Cuts every log back to where a checkpoint found it. A logger that the checkpoint does not know begins anew.
---@param positions table[] from `position`
---@return string[] problems logs that are shorter than they were, as sentences
function Board:rewind(positions)
  local problems, counts = {}, {}
  for _, logger in ipairs(self.loggers) do
    local name = getmetatable(logger).__name
    counts[name] = (counts[name] or 0) + 1
    for _, one in ipairs(positions) do
      if one.logger == name and one.number == counts[name] then
        local missing = logger:rewind(one.position)
        if missing and missing > 0 then
          problems[#problems + 1] = ("the log of %s has lost %d bytes from before the checkpoint"):format(name, missing)
        end
      end
    end
  end
  return problems
end

--- A message for people.
---@param message string
function Board:status(message)
  for _, logger in ipairs(self.loggers) do logger:status(message) end
end

--- Ends every logger; one that fails to end does not keep the others from it.
---@param ok? boolean false: the run failed
function Board:stop(ok)
  self._line = nil
  for _, logger in ipairs(self.loggers) do
    local ended, problem = pcall(logger.stop, logger, ok ~= false)
    if not ended then io.stderr:write("a logger did not end well: ", tostring(problem), "\n") end
  end
end

return Board
