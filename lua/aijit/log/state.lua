--- The logger of what a run was: DIR/state.json with the git state, versions, machine and environment, DIR/git.diff, and the source
-- files of the working folder in DIR/src. It is written once, when the run starts; one that is resumed adds its own as
-- state-2.json, so that it can be seen when the code or the machine was another.

local class = require "aijit.class"
local file = require "aijit.io.file"
local json = require "aijit.json"
local Logger = require "aijit.log.logger"
local record = require "aijit.log.record"
local system = require "aijit.bindings.system"

---@class aijit.StateLogger: aijit.Logger
local State = class("State", Logger)

State.kinds = {}

---@param dir string folder of the run
---@param o? {code?: boolean} false copies no source files
function State:__init(dir, o)
  if type(dir) ~= "string" then error(("ai.log.State: the folder is %s, not a string; a task has its own in self.exp_dir"):format(tostring(dir)), 3) end
  self.dir, self.code = dir, not (o and o.code == false)
end

local function first_line(path, pattern)
  local handle = io.open(path, "r")
  if not handle then return nil end
  for line in handle:lines() do
    local found = line:match(pattern)
    if found then
      handle:close()
      return found
    end
  end
  handle:close()
end

-- Variables that decide how a program runs; never all of them, since some hold secrets.
local variables = {"CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR",
  "SLURM_JOB_ID", "SLURM_NODELIST", "SLURM_PROCID", "DATA_DIR", "RUN_DIR", "MODEL_DIR", "LUA_PATH", "AIJIT_LIB", "AIJITRC"}

--- What can be told of this process and its machine.
---@return table
function State.describe()
  local ai = require "aijit"
  local environment = {}
  for _, name in ipairs(variables) do environment[name] = os.getenv(name) end
  local arguments, words = rawget(_G, "arg") or {}, json.array {}
  for i = 0, #arguments do words[#words + 1] = tostring(arguments[i]) end
  local kernel, memory = first_line("/proc/version", "^(%S+ %S+ %S+)"), first_line("/proc/meminfo", "^MemTotal:%s*(%d+)")
  local cores = 0
  local cpu = first_line("/proc/cpuinfo", "^model name%s*:%s*(.*)")
  local list = io.open("/proc/cpuinfo", "r")
  for line in list and list:lines() or function() end do if line:match "^processor%s*:" then cores = cores + 1 end end
  if list then list:close() end
  return {
    started = os.date "!%Y-%m-%dT%H:%M:%SZ", arguments = words, folder = system.working_directory(), pid = system.pid(), environment = environment,
    host = {
      name = system.hostname(), cpu = cpu, cores = cores, memory_bytes = memory and tonumber(memory) * 1024,
      kernel = kernel, system = first_line("/etc/os-release", '^PRETTY_NAME="?([^"]*)'), gpu = first_line("/proc/driver/nvidia/version", "(%d+%.%d+[%.%d]*)"),
    },
    versions = {aijit = ai._VERSION, lua = jit.version, cpu_level = ai.cpu_level()},
  }
end

function State:start(run)
  system.make_directories(self.dir)
  local state = State.describe()
  state.name = run.name
  local git = record.git "."
  if git then
    if git.diff then file.write(self.dir .. "/git.diff", git.diff) end
    state.git = {commit = git.commit, branch = git.branch, dirty = git.dirty, status = git.status}
  end
  local config = run.config
  if type(config) == "table" then state.config = type(config.to_table) == "function" and config:to_table() or config end
  local path, n = self.dir .. "/state.json", 1
  while file.exists(path) do
    n = n + 1
    path = ("%s/state-%d.json"):format(self.dir, n)
  end
  if self.code then
    local count, all = record.copy_sources(".", self.dir .. "/src")
    state.source = {files = count, complete = all}
  end
  file.write(path, json.encode(state, {pretty = true, special = "string", utf8 = "replace"}) .. "\n")
  self.path = path
end

function State:write() end

return State
