--- Logging by plain functions, for programs without a task: `log.setup`, `log.update_progress`, `log.log_value`, `log.log_image`.

local jsonl = require "aijit.log.jsonl"
local progress = require "aijit.log.progress"
local record = require "aijit.log.record"
local system = require "aijit.bindings.system"

local session = {}

local current

local function name_of(config)
  local ok, name = pcall(function() return config.train.experiment_name end)
  if ok and type(name) == "string" then return name end
  local class_name = getmetatable(config) and getmetatable(config).__name
  if class_name then return (class_name:gsub("Config$", "")) end
end

local function fresh(parent, name)
  system.make_directories(parent)
  local stamp = os.date("%Y-%m-%d_%H.%M.%S") .. "_" .. name:gsub("[^%w_%-]", "_")
  local path, n = parent .. "/" .. stamp, 1
  while true do
    local made, why = system.make_directory(path)
    if made then return path end
    if why ~= "exists" then error(("cannot make folder '%s': %s"):format(path, why), 3) end
    n = n + 1
    path = ("%s/%s_%d"):format(parent, stamp, n)
  end
end

--- Opens a folder for this run, `DIR/<date>_<time>_<name>/`, with images/ and checkpoints/, and records in it the config,
-- the source files of the working folder (src/), the git state and the versions. Values go to log.jsonl there.
---@param o? {config?: any, dir?: string, name?: string, code?: boolean} dir: "checkpoints"; code = false copies no source
---@return string path of the run's folder
function session.setup(o)
  o = o or {}
  if current then
    error(("log.setup: already set up, in '%s'; log.close() ends that"):format(current.dir), 2)
  end
  local name = o.name or o.config and name_of(o.config) or "run"
  local dir = fresh(o.dir or "checkpoints", name)
  system.make_directories(dir .. "/images")
  system.make_directories(dir .. "/checkpoints")
  record.write(dir, {config = o.config, name = name})
  if o.code ~= false then
    local count, all = record.copy_sources(".", dir .. "/src")
    if not all then io.stderr:write(("log.setup: only %d source files were copied; more stood here\n"):format(count)) end
  end
  current = {dir = dir, file = jsonl.open(dir .. "/log.jsonl"), meter = progress.Meter(), started = system.monotonic()}
  return dir
end

--- Ends what `log.setup` began.
function session.close()
  if current then current.file:close() end
  current = nil
end

local function emit(fields)
  table.insert(fields, 1, {"t", math.floor(system.time() * 1000 + 0.5) / 1000})
  local line = jsonl.line(fields)
  if not current then
    io.stderr:write("log.setup was not called, so this is kept nowhere: ", line, "\n")
    return
  end
  current.file:write(line, "\n")
  current.file:flush()
end

--- Tells how far the program is; prints it with the time that is left.
---@param part number 0 to 1
---@return number? eta seconds; nil while it is not known
function session.update_progress(part)
  if type(part) ~= "number" or part < 0 or part > 1 then
    error(("log.update_progress: the part done is a number from 0 to 1, not %s"):format(tostring(part)), 2)
  end
  local eta
  if current then
    local now = system.monotonic()
    current.meter:update(part, now)
    eta = part > 0 and (now - current.started) * (1 - part) / part or current.meter:eta(1)
  end
  local fields = {{"progress", math.floor(part * 1000 + 0.5) / 1000}}
  if eta then fields[2] = {"eta", math.floor(eta * 1000 + 0.5) / 1000} end
  emit(fields)
  io.stdout:write(("%5.1f%%%s\n"):format(part * 100, eta and ", " .. progress.duration(eta) .. " left" or ""))
  return eta
end

--- Logs a number.
---@param name string
---@param value number|any a number, or a tensor of one element
---@param o? {primary?: boolean, step?: integer} primary: shown first where runs are listed
function session.log_value(name, value, o)
  if type(value) == "cdata" then value = value:item() end
  if type(value) ~= "number" then
    error(("log.log_value: '%s' is %s, not a number"):format(tostring(name), tostring(value)), 2)
  end
  local fields = {{"name", name}, {"value", value}, {"primary", o and o.primary or false}}
  if o and o.step then fields[4] = {"step", o.step} end
  emit(fields)
end

--- Writes `images/NAME.png` in the run's folder.
---@param name string
---@param image any a figure of ai.plot, or a tensor (H, W), (H, W, C) or (C, H, W), C of 1 or 3: u8, or floats from 0 to 1
---@return string path
function session.log_image(name, image)
  if not current then error("log.log_image: call log.setup first, which makes the folder", 2) end
  local picture = require "aijit.log.picture"
  local path = ("%s/images/%s.png"):format(current.dir, name:gsub("[^%w_%-%.]", "_"))
  local ok, problem = pcall(function()
    require("aijit").scope(function() picture.save(path, picture.batch(image)[1]) end)
  end)
  if not ok then error(problem, 2) end
  emit {{"name", name}, {"image", path:match("[^/]+$")}}
  return path
end

return session
