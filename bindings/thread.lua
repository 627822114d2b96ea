--- Threads with a Lua state of their own, and channels between them. Binds core/worker.h; `aijit.thread` is what programs use.

local lib = require "aijit.bindings.lib"
local paths = require "aijit.tree"
local buffer = require "string.buffer"
local C, ffi = lib.C, lib.ffi

local thread = {}

local BUSY, CLOSED = C.AJ_TIMED_OUT, C.AJ_CHANNEL_CLOSED
local SLICE = 100                       -- ms within C; between two of them LuaJIT's own answer to Ctrl-C is met

local function release(c) C.aj_channel_release(c) end
local channel_type = ffi.typeof "aj_channel *"

--- A queue for so many messages.
---@param capacity integer
---@return ffi.cdata*
function thread.channel(capacity)
  local c = C.aj_channel_new(capacity)
  if c == nil then lib.ok(false) end
  return ffi.gc(c, release)
end

local function close_and_release(c)
  C.aj_channel_close(c)
  C.aj_channel_release(c)
end

--- Something to hold: when it is let go of, the channel is closed. (A finalizer cannot use another object that ends with it.)
---@param c ffi.cdata*
---@return ffi.cdata*
function thread.closer(c) return ffi.gc(C.aj_channel_retain(c), close_and_release) end

---@param value any
---@return boolean
function thread.is_channel(value) return type(value) == "cdata" and ffi.istype(channel_type, value) end

--- The channel at an address that another state gave, held by this one too.
---@param address userdata
---@return ffi.cdata*
function thread.adopt(address) return ffi.gc(C.aj_channel_retain(ffi.cast(channel_type, address)), release) end

local function failed(status)
  if status == -1 then
    lib.ok(false)
    error("interrupted", 0)
  end
end

-- Runs one wait after another until it is over or `seconds` have passed.
local function wait(step, seconds)
  local left = (seconds or math.huge) * 1000
  while true do
    local now = math.min(left, SLICE)
    local status = step(now)
    failed(status)
    left = left - now
    if status ~= BUSY or left <= 0 then return status end
  end
end
jit.off(wait)

local channel_list = ffi.typeof "aj_channel *[?]"

--- Puts a message, waiting for room.
---@param c ffi.cdata*
---@param text string
---@param tensors aijit.Tensor[]
---@param channels ffi.cdata*[]
---@param seconds number? at most; nil: until there is room
---@return boolean? put nil: there was no room in time
---@return string? why "timeout" or "closed"
function thread.put(c, text, tensors, channels, seconds)
  local some
  if channels[1] then
    local v = channel_list(#channels)
    for i, one in ipairs(channels) do v[i - 1] = one end
    some = ffi.new("aj_channels", {n = #channels, v = v})
  end
  local list = tensors[1] and lib.list(tensors) or nil
  local status = wait(function(ms) return C.aj_channel_put(c, text, #text, list, some, ms) end, seconds)
  if status == 0 then return true end
  return nil, status == CLOSED and "closed" or "timeout"
end

local message = ffi.new "aj_message *[1]"

--- Takes the oldest message, waiting for one. Its tensors belong to the scope that is open, else to the collector.
---@param c ffi.cdata*
---@param seconds number? at most; nil: until there is one
---@return string? text nil: there was none in time
---@return aijit.Tensor[]|string tensors or why: "timeout" or "closed"
---@return ffi.cdata*[]? channels
function thread.get(c, seconds)
  local status = wait(function(ms) return C.aj_channel_get(c, message, ms) end, seconds)
  if status ~= 0 then return nil, status == CLOSED and "closed" or "timeout" end
  local m = ffi.gc(message[0], C.aj_message_drop)
  local text = ffi.string(C.aj_message_data(m), C.aj_message_size(m))
  local tensors, channels = {}, {}
  return text, setmetatable(tensors, {__index = function(t, i)
    local made = lib.check(C.aj_message_tensor(m, i - 1))
    rawset(t, i, made)
    return made
  end}), setmetatable(channels, {__index = function(t, i)
    local made = ffi.gc(C.aj_message_channel(m, i - 1), release)
    rawset(t, i, made)
    return made
  end}), m
end

--- Lets go of a message now.
---@param m ffi.cdata* the fourth result of `get`
function thread.done_with(m) C.aj_message_drop(ffi.gc(m, nil)) end

--- Nothing more is put; what waits in it may still be taken.
---@param c ffi.cdata*
function thread.close(c) C.aj_channel_close(c) end

---@param c ffi.cdata*
---@return integer messages that wait
function thread.count(c) return tonumber(C.aj_channel_count(c)) end

---@param c ffi.cdata*
---@return boolean
function thread.is_closed(c) return C.aj_channel_is_closed(c) end

-- -- Threads -----------------------------------------------------------------------------------------------------------

ffi.cdef [[
void *aj_lua_new_(void) __asm__("luaL_newstate");
void aj_lua_openlibs_(void *L) __asm__("luaL_openlibs");
int aj_lua_load_(void *L, const char *text, size_t size, const char *name) __asm__("luaL_loadbuffer");
void aj_lua_string_(void *L, const char *text, size_t size) __asm__("lua_pushlstring");
void aj_lua_pointer_(void *L, void *p) __asm__("lua_pushlightuserdata");
int aj_lua_call_(void *L, int arguments, int results, int handler) __asm__("lua_pcall");
const char *aj_lua_text_(void *L, int index, size_t *size) __asm__("lua_tolstring");
void aj_lua_close_(void *L) __asm__("lua_close");
]]

-- What a new state runs first: the same Lua files are found from there as from here.
local BOOT = [[
local path, cpath, paths, module, channel = ...
package.path, package.cpath = path, cpath
package.loaded["aijit.paths"] = require("string.buffer").decode(paths)
require "aijit.tree"
require(module)(channel)
]]

-- LuaJIT's C functions as this process has them; an error where it hides them from libraries.
local program
local function functions()
  if program then return program end
  local ok, problem = pcall(function()
    return ffi.new("aj_program", {call = ffi.C.aj_lua_call_, text = ffi.C.aj_lua_text_, close = ffi.C.aj_lua_close_}), ffi.C.aj_lua_new_
  end)
  if not ok then
    lib.raise("thread: this program does not show LuaJIT's functions to its libraries, so that no second Lua state can be made ("
      .. tostring(problem) .. "); run it with `aijit` or `luajit`, or use workers = 0")
  end
  program = problem
  return program
end

local function drop(t) C.aj_thread_drop(t) end

--- Starts a thread whose state takes its task, a message, from a channel.
---@param module string gives the function that is called with the channel's address
---@param box ffi.cdata* channel that holds the task
---@return ffi.cdata* thread
function thread.start(module, box)
  local p = functions()
  local about = {}
  for name, value in pairs(paths) do about[name] = value end
  about.thread = true
  local coded = buffer.encode(about)
  local L = ffi.C.aj_lua_new_()
  if L == nil then lib.raise "thread: out of memory: no room for another Lua state" end
  ffi.C.aj_lua_openlibs_(L)
  ffi.C.aj_lua_load_(L, BOOT, #BOOT, "=aijit.thread")
  for _, text in ipairs {package.path, package.cpath, coded, module} do ffi.C.aj_lua_string_(L, text, #text) end
  C.aj_channel_retain(box)                               -- the thread's own; it adopts it
  ffi.C.aj_lua_pointer_(L, box)
  local t = C.aj_thread_start(p, L, 5)
  if t == nil then
    C.aj_channel_release(box)
    lib.ok(false)
  end
  return ffi.gc(t, drop)
end
jit.off(thread.start)

--- Waits for a thread's end.
---@param t ffi.cdata*
---@param seconds number? at most; nil: until it ends
---@return boolean ended
---@return string? problem what its code raised
function thread.join(t, seconds)
  local status = wait(function(ms) return C.aj_thread_join(t, ms) end, seconds)
  if status == BUSY then return false end
  local problem = C.aj_thread_problem(t)
  return true, problem ~= nil and ffi.string(problem) or nil
end

--- Asks a thread to end: its next op, or wait, raises "interrupted" there.
---@param t ffi.cdata*
function thread.stop(t) C.aj_thread_stop(t) end

--- The most threads that an op of this thread may use, 0: those of the process. Returns the number before.
---@param n integer
---@return integer
function thread.limit(n) return C.aj_thread_limit(n) end

return thread
