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
]]

local C = ffi.C
local EEXIST, EINTR = 17, 4
local CLOCK_REALTIME, CLOCK_MONOTONIC = 0, 1
local TIOCGWINSZ = 0x5413

local system = {}

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
    if errno ~= EINTR then return nil, ("errno %d"):format(errno) end
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

return system
