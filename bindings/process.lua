--- Child processes: started, asked whether they have ended, told to.

local ffi = require "ffi"
local system = require "aijit.bindings.system"

ffi.cdef [[
int ajp_posix_spawnp(int *pid, const char *name, const void *actions, const void *attributes,
  const char *const *argv, const char *const *envp) __asm__("posix_spawnp");
int ajp_actions_init(void *actions) __asm__("posix_spawn_file_actions_init");
int ajp_actions_open(void *actions, int fd, const char *path, int flags, unsigned mode) __asm__("posix_spawn_file_actions_addopen");
int ajp_actions_dup2(void *actions, int fd, int to) __asm__("posix_spawn_file_actions_adddup2");
int ajp_actions_destroy(void *actions) __asm__("posix_spawn_file_actions_destroy");
int ajp_waitpid(int pid, int *status, int options) __asm__("waitpid");
int ajp_getppid(void) __asm__("getppid");
int ajp_prctl(int option, ...) __asm__("prctl");
int ajp_usleep(unsigned microseconds) __asm__("usleep");
int64_t ajp_sysconf(int name) __asm__("sysconf");
extern char **ajp_environ __asm__("environ");
]]

local C = ffi.C
local WNOHANG, O_CREATE_TRUNCATE, ONLINE_PROCESSORS, ESRCH, PR_SET_PDEATHSIG = 1, 577, 84, 3, 1

local process = {}

local function environment(changes)
  local list, n = {}, 0
  while C.ajp_environ[n] ~= nil do
    local entry = ffi.string(C.ajp_environ[n])
    if changes[entry:match "^[^=]*"] == nil then list[#list + 1] = entry end
    n = n + 1
  end
  for name, value in pairs(changes) do list[#list + 1] = name .. "=" .. value end
  return list
end

local function strings(list)
  local array = ffi.new("const char *[?]", #list + 1)
  for i, text in ipairs(list) do array[i - 1] = text end
  return array, list                                     -- the texts must live as long as the array
end

--- Starts a program. What it writes goes to a file, or where this process writes.
---@param words string[] the program, looked for as a shell does, and its arguments
---@param o? {output: string?, environment: table<string, string>?} output: a file, made anew; environment: what is different there
---@return integer? pid
---@return string? problem
function process.start(words, o)
  o = o or {}
  local pid, actions = ffi.new "int[1]", ffi.new "uint64_t[64]"
  C.ajp_actions_init(actions)
  C.ajp_actions_open(actions, 0, "/dev/null", 0, 0)
  if o.output then
    C.ajp_actions_open(actions, 1, o.output, O_CREATE_TRUNCATE, 420)
    C.ajp_actions_dup2(actions, 1, 2)
  end
  local argv, kept = strings(words)
  local envp, kept_too = strings(environment(o.environment or {}))
  local failed = C.ajp_posix_spawnp(pid, words[1], actions, nil, argv, envp)
  C.ajp_actions_destroy(actions)
  if failed ~= 0 then return nil, ("cannot start '%s': %s"):format(words[1], system.reason(failed)) end
  return pid[0], nil, kept, kept_too
end

--- How a child has ended: its exit status, or 128 and the number of the signal that ended it; nil while it runs.
---@param pid integer
---@return integer? status
function process.ended(pid)
  local status = ffi.new "int[1]"
  local got = C.ajp_waitpid(pid, status, WNOHANG)
  if got == 0 then return nil end
  if got < 0 then return 127 end
  local signal = status[0] % 128
  return signal == 0 and math.floor(status[0] / 256) % 256 or 128 + signal
end

--- Whether a process of this number is there, a child or not.
---@param pid integer
---@return boolean
function process.is_there(pid)
  local there, errno = system.kill(pid, 0)
  return there or errno ~= ESRCH
end

--- Sends a signal to a process.
---@param pid integer
---@param number integer
function process.signal(pid, number) system.kill(pid, number) end

--- Has this process get a signal when the one that started it ends, however that happens; at once when it has ended already.
-- A process that another than `parent` has started is left as it is while `parent` lives.
---@param parent integer the number of the process that is to be watched
---@param number integer the signal's
function process.follow(parent, number)
  if C.ajp_getppid() == parent then C.ajp_prctl(PR_SET_PDEATHSIG, ffi.cast("unsigned long", number)) end
  if C.ajp_getppid() ~= parent and not process.is_there(parent) then system.signal(number) end
end

---@param seconds number
function process.sleep(seconds) C.ajp_usleep(math.floor(seconds * 1e6)) end

---@return integer cores that this machine has for programs
function process.cores() return math.max(1, tonumber(C.ajp_sysconf(ONLINE_PROCESSORS))) end

return process
