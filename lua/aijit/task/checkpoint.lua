--- Checkpoints: DIR/checkpoints/step-500/ with model.safetensors, optimizer.safetensors and state.json.
--
-- A checkpoint is written into a folder with a temporary name, synced, and renamed when it is whole; then latest.json, which
-- names it, is replaced in one step; then the one before is deleted. So at any moment latest.json names a whole checkpoint.

local ai = require "aijit"
local file = require "aijit.io.file"
local pack = require "aijit.data.pack"
local system = require "aijit.bindings.system"

local checkpoint = {}

local parts = {"model.safetensors", "optimizer.safetensors", "state.json"}

-- Only files that this module writes are ever deleted.
local function remove(folder)
  for _, name in ipairs(parts) do os.remove(folder .. "/" .. name) end
  os.remove(folder)
end

local function latest_name(dir)
  if not file.exists(dir .. "/latest.json") then return nil end
  local name = ai.json.decode(file.read(dir .. "/latest.json")).checkpoint
  if type(name) ~= "string" or not name:match("^step%-%d+$") then
    error(("'%s/latest.json' does not name a checkpoint"):format(dir), 0)
  end
  return name
end

--- The folder of a run's newest checkpoint; nil when it has none.
---@param exp_dir string
---@return string?
function checkpoint.latest(exp_dir)
  local dir = exp_dir .. "/checkpoints"
  local name = latest_name(dir)
  return name and dir .. "/" .. name
end

--- Saves a checkpoint and makes it the latest one.
---@param exp_dir string
---@param what {model: table, optimizer: table?, state: table} state dicts of the model and the optimizer, and a plain table
---@return string path its folder
function checkpoint.save(exp_dir, what)
  local dir = system.make_directories(exp_dir .. "/checkpoints")
  local name = ("step-%d"):format(what.state.num_steps)
  local before = latest_name(dir)
  local temporary = ("%s/.new-%d"):format(dir, system.pid())
  remove(temporary)
  system.make_directories(temporary)

  ai.save(what.model, temporary .. "/model.safetensors")
  local kept = {}
  for key, value in pairs(what.state) do kept[key] = value end
  if what.optimizer then
    local tensors = {}
    kept.optimizer = pack.split(what.optimizer, "", tensors)
    if next(tensors) ~= nil then ai.save(tensors, temporary .. "/optimizer.safetensors") end
  end
  file.write(temporary .. "/state.json", ai.json.encode(kept) .. "\n")

  local path = dir .. "/" .. name
  if before == name then
    -- The same step again (a resumed run that did nothing): what is there is as good.
    remove(temporary)
    return path
  end
  remove(path)
  file.replace(temporary, path)
  file.write(dir .. "/latest.json", ai.json.encode {checkpoint = name} .. "\n")
  if before then remove(dir .. "/" .. before) end
  return path
end

--- Reads a checkpoint.
---@param path string its folder
---@return {model: table, optimizer: table?, state: table}
function checkpoint.load(path)
  if not file.exists(path .. "/state.json") then error(("'%s' is no checkpoint: it has no state.json"):format(path), 2) end
  local state = ai.json.decode(file.read(path .. "/state.json"))
  local tensors = {}
  if file.exists(path .. "/optimizer.safetensors") then tensors = ai.load(path .. "/optimizer.safetensors") end
  local optimizer = (state.optimizer or next(tensors) ~= nil) and pack.join(state.optimizer, tensors) or nil
  state.optimizer = nil
  return {model = ai.load(path .. "/model.safetensors"), optimizer = optimizer, state = state}
end

return checkpoint
