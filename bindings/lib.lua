--- Loads libaijit, and turns what its functions return into what a Lua program expects: tensors that free themselves
-- where no scope does, and errors at the line of the program that made them.

local ffi = require "ffi"
local paths = require "aijit.tree"

local lib = {ffi = ffi}

-- -- Loading --------------------------------------------------------------------------------------------------------

local function find_library()
  local tried = {}
  local function try(path, why)
    if not path then return nil end
    tried[#tried + 1] = ("  %s (%s)"):format(path, why)
    local file = io.open(path)
    if file then file:close() return path end
  end
  local asked = os.getenv "AIJIT_LIB"
  if asked and asked ~= "" then
    return try(asked, "AIJIT_LIB") or error("aijit: AIJIT_LIB names " .. asked .. ", which cannot be read", 0)
  end
  local found = try(paths.lib, "this tree's") or try(package.searchpath("aijit.libaijit", package.cpath), "package.cpath")
  if found then return found end
  error("aijit: libaijit.so was not found:\n" .. table.concat(tried, "\n")
    .. "\nBuild it with `rocks/bootstrap build`, or name it in AIJIT_LIB.", 0)
end

if not ffi.abi "gc64" then
  error("aijit needs a LuaJIT built with GC64 (2.1 of 2020 or later); this one is " .. jit.version, 0)
end

ffi.cdef [[
int aj_setenv_(const char *name, const char *value, int overwrite) __asm__("setenv");
int aj_unsetenv_(const char *name) __asm__("unsetenv");
const char *aj_header(int i);
]]
-- The environment is the process's: a state of another thread leaves it alone, as other settings of all threads.
local first = not paths.thread
-- A thread that waits at a barrier sleeps instead of spinning; the pool reads this when it is loaded.
if first then
  ffi.C.aj_setenv_("OMP_WAIT_POLICY", "passive", 0)
  ffi.C.aj_setenv_("GOMP_SPINCOUNT", "2000", 0)
end

-- OpenBLAS starts its threads when it is loaded, and they poll; here it works in ours. Children do not inherit this.
local blas = not first or os.getenv "OPENBLAS_NUM_THREADS"
if not blas then ffi.C.aj_setenv_("OPENBLAS_NUM_THREADS", "1", 0) end

local path = find_library()
local C = ffi.load(path)
if not blas then ffi.C.aj_unsetenv_ "OPENBLAS_NUM_THREADS" end
lib.C = C
-- Within the aijit program, Ctrl-C reaches long loops in C too.
local host = package.loaded["aijit.host"]
if host then host.attach(path) end

-- In Lua a tensor is a reference to an opaque struct, which an index may follow (a pointer's would be arithmetic).
local function declare(text) ffi.cdef((text:gsub("aj_tensor %*(aj_[%w_]+%()", "aj_tensor &%1"))) end
for i = 0, 15 do
  local header = C.aj_header(i)
  if header == nil then break end
  for part in ffi.string(header):gmatch "/%* <cdef> %*/(.-)/%* </cdef> %*/" do declare(part) end
end
declare(ffi.string(C.aj_op_cdef()))

--- The instruction level of the kernels in use.
---@return string
function lib.cpu_level() return ffi.string(C.aj_cpu_level()) end

local S = C.aj_state()
lib.state = S

-- -- Errors -----------------------------------------------------------------------------------------------------------

-- Where aijit's own Lua files lie; those of lua/ may have been found by a relative path.
local own = {debug.getinfo(1, "S").source:match "^(@.*/)[^/]*$" or "@bindings/", "@" .. paths.lua .. "/aijit/"}
local found = package.searchpath("aijit.tree", package.path)
own[3] = found and "@" .. found:gsub("tree%.lua$", "") or own[2]

--- Whether a source (as of debug.getinfo) is part of aijit rather than of a program.
---@param source string
---@return boolean
function lib.is_own(source)
  if source:sub(1, 7) == "=aijit." or source == "=[C]" then return true end
  return source:sub(1, #own[1]) == own[1] or source:sub(1, #own[2]) == own[2] or source:sub(1, #own[3]) == own[3]
end

local bit_and = bit.band
local text = ffi.new "char[1024]"

--- The line of the program that called into aijit, "train.lua:12"; nil when there is none.
---@return string?
function lib.place()
  for level = 2, 100 do
    local info = debug.getinfo(level, "Sl")
    if not info then return nil end
    if info.currentline > 0 and not lib.is_own(info.source) then return ("%s:%d"):format(info.short_src, info.currentline) end
  end
end

--- Raises an error at the line of the program that called into aijit, with the path of the module that was running, and the
--- functions of aijit.fn that were.
---@param message string
function lib.raise(message)
  if bit_and(S.attend, 1) ~= 0 then                      -- what went wrong first, in C, is the cause; and must not be left pending
    C.aj_error_take(text, 1024)
    message = ffi.string(text)
  end
  local module_path = package.loaded["aijit.nn.path"]
  local where = module_path and module_path.describe()
  if where then message = message .. "\n  in " .. where end
  local running = package.loaded["aijit.fn.running"]
  message = message .. (running and running.describe() or "")
  local place = lib.place()
  error(place and place .. ": " .. message or message, 0)
end
local raise = lib.raise

--- Raises an error when comparisons were made that nothing uses: the sign of an `if`, whose condition they cannot be.
---@param who string
---@param what string what was compared: "placeholders"
---@param unused {op: string, at: string?}[]
function lib.refuse_unused(who, what, unused)
  local one = unused[1]
  if not one then return end
  raise(("%s: nothing uses the result of %s at %s, of %s: has it been the condition of an `if`, `and`, `or`, `not` or `while`? Each is met "
    .. "by any tensor, whatever it holds. Choose with ai.f.where(condition, a, b), masked_fill, clamp, or arithmetic with condition:float(); "
    .. "if nothing is to use it, leave it out or return it%s"):format(who, one.op, one.at or "a place unknown", what,
      #unused > 1 and (" (and %d more)"):format(#unused - 1) or ""))
end

-- The pending message. A long loop in C that was asked to stop says "interrupted"; the request is then met.
local function take_error()
  C.aj_error_take(text, 1024)
  local message = ffi.string(text)
  if message == "interrupted" then
    C.aj_interrupt(false)
    error(message, 0)
  end
  return message
end

-- -- The governor: collects handles before the bytes behind them are too many ------------------------------------------

local memory = ffi.new "aj_memory_t"
-- A collection of a usual program takes a millisecond or a few, and the system takes 60 to hand out as many bytes anew.
local floor_bytes = 2 ^ 28
if first then C.aj_govern(floor_bytes) end

local function govern()
  collectgarbage()
  C.aj_memory(-1, memory)
  C.aj_govern(math.max(floor_bytes, 2 * tonumber(memory.live)))
end

--- Sets the number of live bytes from which the collector is run; it then follows the live set.
---@param bytes number
function lib.set_governor(bytes)
  floor_bytes = bytes
  C.aj_govern(bytes)
end

-- -- Looking up after a call -----------------------------------------------------------------------------------------

local FAILED, UNSCOPED, GOVERN, INTERRUPTED, TRACE = 1, 2, 4, 8, 16
local retrying = false

local function retried(ok, ...)
  retrying = false
  if ok then return ... end
  raise((tostring((...)):gsub("^[^\n]-:%d+: ", "", 1)))
end

--- What a generated function does when aj_state.attend is not 0: raises, retries once after a collection when memory
-- was out, gives the tensor a finalizer when no scope owns it.
local function attend(p, f, ...)
  local a = S.attend
  if bit_and(a, FAILED) ~= 0 then
    local message = take_error()
    if f and not retrying and message:find("out of memory", 1, true) then
      collectgarbage() collectgarbage()
      C.aj_memory_trim(-1)
      retrying = true
      return retried(pcall(f, ...))
    end
    raise(message)
  end
  if bit_and(a, INTERRUPTED) ~= 0 then
    C.aj_interrupt(false)
    if p ~= nil and bit_and(a, UNSCOPED) ~= 0 then ffi.gc(p, C.aj_release) end
    error("interrupted", 0)
  end
  if bit_and(a, UNSCOPED) ~= 0 then p = ffi.gc(p, C.aj_release) end
  if bit_and(a, TRACE) ~= 0 then lib.traced() end
  if bit_and(a, GOVERN) ~= 0 then govern() end
  return p
end
lib.attend = attend

local function again(make, ...) return lib.check(make(...)) end

--- A new tensor as a program may hold it. Raises the pending error, if there is one. With the function of C that made it,
-- and its arguments, it is made a second time after a collection, if memory was out.
---@param p aijit.Tensor
---@param make function?  of three to five arguments
---@return aijit.Tensor
function lib.check(p, make, a, b, c, d, e)               -- of `...` no loop that calls this could be compiled
  local why = S.attend
  if why == 0 then return p end
  if why == UNSCOPED then return ffi.gc(p, C.aj_release) end
  if not make then return attend(p) end
  if e ~= nil then return attend(p, again, make, a, b, c, d, e) end
  if d ~= nil then return attend(p, again, make, a, b, c, d) end
  return attend(p, again, make, a, b, c)
end

--- The same for a function whose result may be absent: nil then.
function lib.maybe(p)
  if bit_and(S.attend, FAILED) ~= 0 then attend() end
  if ffi.cast("void *", p) == nil then return nil end
  return lib.check(p)
end

--- For a call that makes no tensor: raises the pending error, else returns `value`.
function lib.ok(value)
  if bit_and(S.attend, FAILED + INTERRUPTED + TRACE) ~= 0 then
    if bit_and(S.attend, TRACE) ~= 0 then lib.traced() end
    if bit_and(S.attend, FAILED) ~= 0 then raise(take_error()) end
    if bit_and(S.attend, INTERRUPTED) ~= 0 then
      C.aj_interrupt(false)
      error("interrupted", 0)
    end
  end
  return value
end

-- -- Arguments -----------------------------------------------------------------------------------------------------------

local is_type = ffi.istype
local reference, pointer = ffi.typeof "aj_tensor", ffi.typeof "aj_tensor *"

---@param value any
---@return boolean
function lib.is_tensor(value) return type(value) == "cdata" and (is_type(reference, value) or is_type(pointer, value)) end

local lists = {}

--- An `aj_tensors` argument in scratch memory that is good until the slot is used again.
---@param tensors table  of tensors; nil entries allowed when n is given
---@param slot integer?  1 to 8, for several lists in one call
---@param n integer?
function lib.list(tensors, slot, n)
  if type(tensors) ~= "table" then raise(lib.describe(tensors) .. " where a table of tensors is wanted") end
  slot, n = slot or 1, n or #tensors
  local l = lists[slot]
  if not l or l.cap < n then
    l = {cap = math.max(64, 2 * n)}
    l.v = ffi.new("aj_tensor *[?]", l.cap)
    l.list = ffi.new "aj_list"
    l.list.v = l.v
    lists[slot] = l
  end
  for i = 1, n do
    local t = tensors[i]
    if t ~= nil and not lib.is_tensor(t) then raise(("entry %d of the list is a %s, where a tensor is wanted"):format(i, type(t))) end
    l.v[i - 1] = t
  end
  l.list.n = n
  return l.list
end

--- What a value is, for messages: "a table", "the string \"a\"".
function lib.describe(v)
  local kind = type(v)
  if kind == "string" then return ("the string %q"):format(#v > 40 and v:sub(1, 40) .. "..." or v) end
  if kind == "number" or kind == "boolean" or v == nil then return tostring(v) end
  if lib.is_tensor(v) then return "a tensor" end
  if kind == "userdata" then
    local meta = getmetatable(v)
    local name = type(meta) == "table" and meta.__name
    return type(name) == "string" and "a " .. name or "a userdata"
  end
  return "a " .. kind
end

-- -- dtypes and devices ---------------------------------------------------------------------------------------------------

lib.dtypes, lib.dtype_names = {}, {}
for i = 0, C.AJ_DTYPES - 1 do
  local name = ffi.string(C.aj_dtype_name(i))
  lib.dtypes[name], lib.dtype_names[i] = i, name
end

--- The number of a dtype named by a string.
---@param name string
---@return integer
function lib.dtype(name)
  local d = lib.dtypes[name]
  if d then return d end
  if type(name) == "string" then
    d = C.aj_dtype_named(name)
    if d >= 0 then return d end
  end
  local all = {}
  for i = 0, C.AJ_DTYPES - 1 do all[#all + 1] = lib.dtype_names[i] end
  raise(("%s is not a dtype; there are %s"):format(lib.describe(name), table.concat(all, ", ")))
end

return lib
