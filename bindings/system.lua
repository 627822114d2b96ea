--- What a program asks of the operating system: clocks, the terminal, folders.
-- The C names are bound under private ones (`__asm__`), so that no other module's declaration can clash with them.

local ffi = require "ffi"

ffi.cdef [[
int ajs_mkdir(const char *path, unsigned mode) __asm__("mkdir");
int ajs_isatty(int fd) __asm__("isatty");
int ajs_clock_gettime(int clock, int64_t *spec) __asm__("clock_gettime");
int ajs_getpid(void) __asm__("getpid");
int ajs_gethostname(char *name, size_t size) __asm__("gethostname");
int ajs_ioctl(int fd, unsigned long request, ...) __asm__("ioctl");
void *ajs_opendir(const char *path) __asm__("opendir");
int ajs_closedir(void *dir) __asm__("closedir");
void *ajs_readdir(void *dir) __asm__("readdir");
int ajs_truncate(const char *path, int64_t size) __asm__("truncate");
int ajs_open(const char *path, int flags, ...) __asm__("open");
int ajs_close(int fd) __asm__("close");
int ajs_flock(int fd, int operation) __asm__("flock");
int ajs_kill(int pid, int number) __asm__("kill");
char *ajs_getcwd(char *buffer, size_t size) __asm__("getcwd");
int ajs_chdir(const char *path) __asm__("chdir");
int ajs_rename(const char *from, const char *to) __asm__("rename");
char *ajs_strerror(int number) __asm__("strerror");
]]

local C = ffi.C
local EEXIST, EINTR, EWOULDBLOCK = 17, 4, 11
local O_RDWR_CREAT_CLOEXEC, LOCK_EX_NB = 0x80042, 6
local NAME_OF_ENTRY = 19              -- where struct dirent of 64-bit Linux has the name
local CLOCK_REALTIME, CLOCK_MONOTONIC = 0, 1
local TIOCGWINSZ = 0x5413

local system = {}

--- What the C library says of an error's number.
---@param errno integer?  the last one
---@return string
local function reason(errno) return ffi.string(C.ajs_strerror(errno or ffi.errno())) end
system.reason = reason

local spec = ffi.new("int64_t[2]")

local function clock(which)
  C.ajs_clock_gettime(which, spec)
  return tonumber(spec[0]) + tonumber(spec[1]) * 1e-9
end

--- Seconds since 1970, with a fraction.
---@return number
function system.time() return clock(CLOCK_REALTIME) end

--- Seconds on a clock that is never set back; for durations.
---@return number
function system.monotonic() return clock(CLOCK_MONOTONIC) end

---@return integer pid
function system.pid() return C.ajs_getpid() end

---@return string name of this machine
function system.hostname()
  local name = ffi.new("char[256]")
  if C.ajs_gethostname(name, 255) ~= 0 then return "localhost" end
  return ffi.string(name)
end

--- Whether a file descriptor (1: standard output, 2: standard error) is a terminal.
---@param fd integer
---@return boolean
function system.is_terminal(fd) return C.ajs_isatty(fd) == 1 end

--- The width of the terminal on `fd`, in columns; nil when it is none.
---@param fd integer
---@return integer?
function system.columns(fd)
  local size = ffi.new("unsigned short[4]")
  if C.ajs_ioctl(fd, TIOCGWINSZ, size) ~= 0 or size[1] == 0 then return nil end
  return size[1]
end

---@param path string
---@return boolean
function system.is_directory(path)
  local dir = C.ajs_opendir(path)
  if dir == nil then return false end
  C.ajs_closedir(dir)
  return true
end

--- Makes one folder. That it is there already is told apart, so that two programs never take the same one.
---@param path string
---@return boolean? made nil with a reason on failure; the reason is "exists" when something has that name
---@return string? reason
function system.make_directory(path)
  while C.ajs_mkdir(path, 0x1ff) ~= 0 do      -- 0777, less the umask
    local errno = ffi.errno()
    if errno == EEXIST then return nil, "exists" end
    if errno ~= EINTR then return nil, reason(errno) end
  end
  return true
end

--- Makes a folder and those above it; one that is there already is fine. Raises when it cannot be made.
---@param path string
---@return string path
function system.make_directories(path)
  local upto = path:sub(1, 1) == "/" and "/" or ""
  for part in path:gmatch("[^/]+") do
    upto = upto .. part
    if not system.is_directory(upto) then
      local made, why = system.make_directory(upto)
      if not made and not system.is_directory(upto) then
        error(("cannot make folder '%s': %s"):format(upto, why == "exists" and "a file has that name" or why), 2)
      end
    end
    upto = upto .. "/"
  end
  return path
end

--- The names in a folder, sorted, without "." and ".."; nil when it is none.
---@param path string
---@return string[]?
function system.list(path)
  local dir = C.ajs_opendir(path)
  if dir == nil then return nil end
  local names = {}
  while true do
    local entry = C.ajs_readdir(dir)
    if entry == nil then break end
    local name = ffi.string(ffi.cast("const char *", entry) + NAME_OF_ENTRY)
    if name ~= "." and name ~= ".." then names[#names + 1] = name end
  end
  C.ajs_closedir(dir)
  table.sort(names)
  return names
end

--- Cuts a file to a size in bytes. Raises when that fails.
---@param path string
---@param size integer
function system.truncate(path, size)
  if C.ajs_truncate(path, size) ~= 0 then error(("'%s' cannot be cut to %d bytes: %s"):format(path, size, reason()), 2) end
end

--- Renames a file or a folder, without syncing anything. Raises when that fails.
---@param from string
---@param to string
function system.rename(from, to)
  if C.ajs_rename(from, to) ~= 0 then error(("'%s' cannot be renamed to '%s': %s"):format(from, to, reason()), 2) end
end

--- Locks a file, which is made when it is not there, until `unlock` or the end of this process, however it ends. A child
-- process does not inherit the lock. The file stays: to remove it would let two programs hold locks of one name.
---@param path string
---@return integer? lock nil: someone else holds it. Raises when the file cannot be made.
function system.lock(path)
  local fd = C.ajs_open(path, O_RDWR_CREAT_CLOEXEC, ffi.cast("int", 0x1b6))      -- 0666, less the umask
  if fd < 0 then error(("cannot make the lock '%s': %s"):format(path, reason()), 2) end
  while C.ajs_flock(fd, LOCK_EX_NB) ~= 0 do
    local errno = ffi.errno()
    if errno ~= EINTR then
      C.ajs_close(fd)
      if errno == EWOULDBLOCK then return nil end
      error(("cannot lock '%s': %s"):format(path, reason(errno)), 2)
    end
  end
  return fd
end

---@param lock integer from `lock`
function system.unlock(lock) C.ajs_close(lock) end

---@return string path the working folder
function system.working_directory()
  local buffer = ffi.new("char[4096]")
  if C.ajs_getcwd(buffer, 4096) == nil then return "." end
  return ffi.string(buffer)
end

--- Makes a folder the working folder. Raises when that fails.
---@param path string
function system.change_directory(path)
  if C.ajs_chdir(path) ~= 0 then error(("cannot go to folder '%s': %s"):format(path, reason()), 2) end
end

--- Sends a signal to a process; 0 only asks whether it is there.
---@param pid integer
---@param number integer
---@return boolean sent
---@return integer errno
function system.kill(pid, number) return C.ajs_kill(pid, number) == 0, ffi.errno() end

--- Sends this process a signal.
---@param number integer
function system.signal(number) C.ajs_kill(C.ajs_getpid(), number) end

return system
