--- The folders of runs: RUN_DIR/<task>/run_1, run_2, ..., each with a lock that its task holds.

local process = require "aijit.bindings.process"
local system = require "aijit.bindings.system"

local folder = {}

--- MnistClassification as mnist_classification.
---@param name string
---@return string
function folder.snake(name)
  name = name:gsub("(%l)(%u)", "%1_%2"):gsub("(%u)(%u%l)", "%1_%2"):gsub("[^%w]+", "_")
  return name:lower()
end

--- Makes the next numbered folder. Two programs that start at once never get the same one.
---@param parent string
---@param name string of the task
---@param kind? string what the folder is of: "run"
---@return string path
function folder.numbered(parent, name, kind)
  local runs = system.make_directories(parent .. "/" .. folder.snake(name))
  local n = 1
  while true do
    local path = ("%s/%s_%d"):format(runs, kind or "run", n)
    local made, why = system.make_directory(path)
    if made then return path end
    if why ~= "exists" then error(("cannot make folder '%s': %s"):format(path, why), 2) end
    n = n + 1
  end
end

--- The folder of a run by its config: exp_dir as it is, else a new numbered one.
---@param config table exp_dir, run_dir
---@param name string of the task
---@return string path
function folder.of(config, name)
  if config.exp_dir then return system.make_directories(config.exp_dir) end
  local parent = config.run_dir or require("aijit.config.user").directory("run", "RUN_DIR") or "runs"
  return folder.numbered(parent, name)
end

--- Takes a folder for this task alone. The lock goes with the process, however that ends. A run that a sweep or a study has
-- started waits up to 30 seconds for it.
---@param path string
---@return integer lock for `release`. Raises when another task has it
function folder.take(path)
  local name = path .. "/lock"
  local lock = system.lock(name)
  -- A run of a sweep that has been killed and started again: the one before it may still be saving.
  for _ = 1, os.getenv "AIJIT_LAUNCHER" and 300 or 0 do
    if lock then break end
    process.sleep(0.1)
    lock = system.lock(name)
  end
  if not lock then
    local holder = io.open(name, "r")
    local who = holder and holder:read("*l") or ""
    if holder then holder:close() end
    error(("the folder '%s' is in use by another task (%s): give each its own exp_dir, or none"):format(path,
      who and who ~= "" and who or "a process that is just starting"), 0)
  end
  local handle = io.open(name, "w")
  if handle then
    handle:write(("process %d on %s\n"):format(system.pid(), system.hostname()))
    handle:close()
  end
  return lock
end

---@param lock integer
function folder.release(lock) system.unlock(lock) end

return folder
