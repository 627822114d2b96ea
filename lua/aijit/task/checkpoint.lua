--- Checkpoints: DIR/checkpoints/step-500/ with model.safetensors, optimizer.safetensors, ema.safetensors, state.json, and
--- manifest.json with the SHA-256 of each.
--
-- The files are written and synced in a folder with a temporary name, the manifest last; then the folder is renamed, and its
-- parent synced. Only then may older ones go. So at any moment, whatever fails, a checkpoint that verifies is there if there
-- ever was one; and a folder whose bytes changed later does not verify and is passed over.

local ai = require "aijit"
local class = require "aijit.class"
local file = require "aijit.io.file"
local pack = require "aijit.data.pack"
local system = require "aijit.bindings.system"

local checkpoint = {}

local manifest_name = "manifest.json"
local parts = {"model.safetensors", "optimizer.safetensors", "ema.safetensors", "state.json", manifest_name}
local special = {special = "string"}

-- Only files that this module writes are ever deleted. The folder loses its name first: half of it is no checkpoint.
local function remove(dir, name)
  local doomed = name
  if not name:match("^%.") then
    doomed = ".old-" .. name
    system.rename(dir .. "/" .. name, dir .. "/" .. doomed)
  end
  for _, part in ipairs(parts) do os.remove(dir .. "/" .. doomed .. "/" .. part) end
  os.remove(dir .. "/" .. doomed)
end

--- The checkpoints of a run, the newest first, whether they verify or not.
---@param exp_dir string
---@return {path: string, name: string, step: integer}[]
function checkpoint.list(exp_dir)
  local dir, list = exp_dir .. "/checkpoints", {}
  for _, name in ipairs(system.list(dir) or {}) do
    local step = name:match("^step%-(%d+)$")
    if step then list[#list + 1] = {path = dir .. "/" .. name, name = name, step = tonumber(step)} end
  end
  table.sort(list, function(a, b) return a.step > b.step end)
  return list
end

--- Whether every file of a checkpoint has the bytes that were written.
---@param path string its folder
---@return boolean ok
---@return string? why not
function checkpoint.verify(path)
  if not file.exists(path .. "/" .. manifest_name) then return false, "it has no manifest.json" end
  local ok, manifest = pcall(function() return ai.json.decode(file.read(path .. "/" .. manifest_name)) end)
  if not ok or type(manifest) ~= "table" or type(manifest.files) ~= "table" or next(manifest.files) == nil then
    return false, "its manifest.json cannot be read"
  end
  for name, kept in pairs(manifest.files) do
    if not file.exists(path .. "/" .. name) then return false, ("its %s is missing"):format(name) end
    local summed, sum = pcall(file.sha256_file, path .. "/" .. name)
    if not summed then return false, ("its %s cannot be read: %s"):format(name, tostring(sum)) end
    if type(kept) ~= "table" or sum ~= kept.sha256 then return false, ("its %s is not what was written (SHA-256)"):format(name) end
  end
  return true
end

--- The newest checkpoint of a run that verifies; nil when there is none.
---@param exp_dir string
---@return string? path
---@return string[] passed sentences about newer ones that do not verify
function checkpoint.newest(exp_dir)
  local passed = {}
  for _, one in ipairs(checkpoint.list(exp_dir)) do
    local ok, why = checkpoint.verify(one.path)
    if ok then return one.path, passed end
    passed[#passed + 1] = ("checkpoint '%s' is passed over: %s"):format(one.path, why)
  end
  return nil, passed
end

--- The folder of a run's newest checkpoint that verifies; nil when it has none.
---@param exp_dir string
---@return string?
function checkpoint.latest(exp_dir) return (checkpoint.newest(exp_dir)) end

--- A run's checkpoint by a word: "latest", "best", or the path of one.
---@param exp_dir string?
---@param which string
---@param o? {metric?: string, mode?: "min"|"max"} what is best: "loss", "min"
---@return string path. Raises when there is none
function checkpoint.find(exp_dir, which, o)
  if which ~= "latest" and which ~= "best" then return which end
  if not exp_dir then error(("the %s checkpoint of which run? It has no folder: set exp_dir"):format(which), 0) end
  local found
  if which == "latest" then
    found = checkpoint.latest(exp_dir)
  else
    local best = checkpoint.Store(exp_dir, {keep_best = 1, metric = o and o.metric, mode = o and o.mode}):best()
    for _, name in ipairs(best) do found = found or checkpoint.verify(name) and name end
  end
  if not found then error(("there is no checkpoint in '%s' that verifies%s"):format(exp_dir, which == "best" and " and has been validated" or ""), 0) end
  return found
end

local function write_parts(folder, what)
  ai.save(what.model, folder .. "/model.safetensors")
  if what.ema then ai.save(what.ema, folder .. "/ema.safetensors") end
  local kept = {}
  for key, value in pairs(what.state) do kept[key] = value end
  if what.optimizer then
    local tensors = {}
    kept.optimizer = pack.split(what.optimizer, "", tensors)
    if next(tensors) ~= nil then ai.save(tensors, folder .. "/optimizer.safetensors") end
  end
  file.write(folder .. "/state.json", ai.json.encode(kept, special) .. "\n")
  local manifest = {files = {}}
  for _, name in ipairs(parts) do
    if name ~= manifest_name and file.exists(folder .. "/" .. name) then
      manifest.files[name] = {sha256 = file.sha256_file(folder .. "/" .. name)}
    end
  end
  file.write(folder .. "/" .. manifest_name, ai.json.encode(manifest) .. "\n")
  file.sync(folder)
end

--- Reads a checkpoint that has been verified, as `newest` and `load` do.
---@param path string its folder
---@return {model: table, optimizer: table?, ema: table?, state: table}
function checkpoint.read(path)
  local state = ai.json.decode(file.read(path .. "/state.json"), special)
  local function read(name)
    return file.exists(path .. "/" .. name) and ai.load(path .. "/" .. name) or nil
  end
  local tensors = read "optimizer.safetensors" or {}
  local optimizer = (state.optimizer or next(tensors) ~= nil) and pack.join(state.optimizer, tensors) or nil
  state.optimizer = nil
  return {model = read "model.safetensors", ema = read "ema.safetensors", optimizer = optimizer, state = state}
end

--- Reads a checkpoint. Raises when it does not verify.
---@param path string its folder
---@return {model: table, optimizer: table?, ema: table?, state: table}
function checkpoint.load(path)
  local ok, why = checkpoint.verify(path)
  if not ok then error(("'%s' is no whole checkpoint: %s"):format(path, why), 2) end
  return checkpoint.read(path)
end

-- ---- the checkpoints that a run keeps

---@class aijit.CheckpointStore
local Store = class("CheckpointStore")

--- The checkpoints of a run's folder. Whoever saves must be the only one: a task holds the folder's lock.
---@param exp_dir string
---@param o? {keep_last?: integer, keep_best?: integer, metric?: string, mode?: "min"|"max"}
---  keep_last 2: the newest; keep_best 0: beside these the best by state.valid[metric] ("loss", "min"), of those that were
---  validated at their own step
function Store:__init(exp_dir, o)
  o = o or {}
  self.exp_dir, self.dir = exp_dir, exp_dir .. "/checkpoints"
  self.keep_last, self.keep_best = o.keep_last or 2, o.keep_best or 0
  self.metric, self.mode = o.metric or "loss", o.mode or "min"
  self._values = {}
end

--- Takes away what a process that died left, and puts back what it had moved out of the way. Call it once, with the lock.
function Store:clean()
  for _, name in ipairs(system.list(self.dir) or {}) do
    local moved = name:match("^%.old%-(step%-%d+)$")
    if moved and not system.is_directory(self.dir .. "/" .. moved) and checkpoint.verify(self.dir .. "/" .. name)
      and #checkpoint.list(self.exp_dir) == 0 then
      file.replace(self.dir .. "/" .. name, self.dir .. "/" .. moved)
    elseif moved or name:match("^%.new%-%d+$") then
      remove(self.dir, name)
    end
  end
end

local function value_of(self, one)
  if self._values[one.name] == nil then
    local ok, state = pcall(function() return ai.json.decode(file.read(one.path .. "/state.json"), special) end)
    local value = ok and state.validated_step == one.step and type(state.valid) == "table" and state.valid[self.metric]
    self._values[one.name] = type(value) == "number" and value == value and value or false
  end
  return self._values[one.name] or nil
end

local function better(self, a, b)
  if self.mode == "max" then return a > b end
  return a < b
end

--- The checkpoints that have a value of the metric, the best first; of equals the older one.
---@return string[] paths
---@return number[] values
function Store:best()
  local list = {}
  for _, one in ipairs(checkpoint.list(self.exp_dir)) do
    local value = value_of(self, one)
    if value then list[#list + 1] = {path = one.path, step = one.step, value = value} end
  end
  table.sort(list, function(a, b)
    if a.value ~= b.value then return better(self, a.value, b.value) end
    return a.step < b.step
  end)
  local paths, values = {}, {}
  for i, one in ipairs(list) do paths[i], values[i] = one.path, one.value end
  return paths, values
end

--- Whether a checkpoint with this value would be among the best that are kept.
---@param value number?
---@return boolean
function Store:is_good(value)
  if self.keep_best == 0 or type(value) ~= "number" or value ~= value then return false end
  local _, values = self:best()
  return #values < self.keep_best or better(self, value, values[self.keep_best])
end

local function prune(self)
  local kept, list = {}, checkpoint.list(self.exp_dir)
  for i = 1, math.min(self.keep_last, #list) do kept[list[i].path] = true end
  if self.keep_best > 0 then
    local paths = self:best()
    for i = 1, math.min(self.keep_best, #paths) do kept[paths[i]] = true end
  end
  for _, one in ipairs(list) do
    if not kept[one.path] then remove(self.dir, one.name) end
  end
end

--- Saves a checkpoint, and lets those go that are no longer to be kept. Raises when that fails; then those that were there
--- are there still.
---@param what {model: table, optimizer: table?, ema: table?, state: table} state dicts, and a plain table with num_steps
---@return string path its folder
function Store:save(what)
  system.make_directories(self.dir)
  local name, temporary = ("step-%d"):format(what.state.num_steps), (".new-%d"):format(system.pid())
  remove(self.dir, temporary)
  local folder, path = self.dir .. "/" .. temporary, self.dir .. "/" .. name
  system.make_directories(folder)
  local ok, problem = pcall(write_parts, folder, what)
  if not ok then
    remove(self.dir, temporary)
    error(problem, 0)
  end
  -- The same step again, with a validation that the earlier one did not have. Between the two renames its other name is
  -- found by `clean`.
  local again = system.is_directory(path)
  if again then system.rename(path, self.dir .. "/.old-" .. name) end
  ok, problem = pcall(file.replace, folder, path)
  if not ok and not system.is_directory(path) then
    if again then system.rename(self.dir .. "/.old-" .. name, path) end
    remove(self.dir, temporary)
  end
  if not ok then error(problem, 0) end
  if again then remove(self.dir, ".old-" .. name) end
  self._values[name] = nil
  prune(self)
  return path
end

checkpoint.Store = Store

--- Saves a checkpoint in a run's folder, by the defaults of a store.
---@param exp_dir string
---@param what {model: table, optimizer: table?, ema: table?, state: table}
---@return string path its folder
function checkpoint.save(exp_dir, what) return Store(exp_dir):save(what) end

return checkpoint
