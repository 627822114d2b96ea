--- What the core tells of its ops while they run: when each began and ended, for ai.profile; and which made the first NaN or
--- infinity, for ai.detect_anomaly.

local lib = require "aijit.bindings.lib"
local C, S, ffi = lib.C, lib.state, lib.ffi

local watch = {}

local KINDS = {[0] = "op", "backward", "step", "replay", "range"}

---@class aijit.Event
---@field name string
---@field kind "op"|"backward"|"step"|"replay"|"range"
---@field from number          seconds of the monotonic clock
---@field to number
---@field inner number         seconds of it that were spent in the events within it
---@field bytes integer        allocated meanwhile, in the events within it too
---@field parent integer?      the place of the event that it is within
---@field call integer         of an op: a number of its own; of a backward rule: its op's, 0 when that was not watched
---@field in_backward boolean  in a backward pass, or what ai.jit recorded of one
---@field shapes string        of its inputs; of a backward rule: of the gradients that came to it

--- Whether times are being watched in this thread.
---@return boolean
function watch.is_timing() return bit.band(S.watch, C.AJ_WATCH_TIMES) ~= 0 end

--- What is watched, to be restored by `set`.
---@return integer
function watch.get() return S.watch end

---@param what integer from `get`
function watch.set(what) C.aj_watch(what) end

--- From here on the times of this thread's ops are kept.
function watch.start()
  C.aj_events_clear()
  C.aj_watch(bit.bor(S.watch, C.AJ_WATCH_TIMES))
  lib.ok()
end

local text = ffi.new "char[512]"

--- Ends what `start` began.
---@return aijit.Event[] events in the order in which they began
---@return integer lost for which there was no room
---@return integer thread the system's number of it
function watch.stop()
  C.aj_watch(bit.band(S.watch, bit.bnot(C.AJ_WATCH_TIMES)))
  C.aj_event_close(0)
  local events = {}
  for i = 0, C.aj_event_count() - 1 do
    local e = C.aj_event_at(i)
    C.aj_event_shapes(i, text, 512)
    events[i + 1] = {
      name = ffi.string(e.name) .. (e.in_place and "_" or ""), kind = KINDS[e.kind], from = tonumber(e.start) * 1e-9,
      to = tonumber(e["end"]) * 1e-9, inner = tonumber(e.inner) * 1e-9, bytes = tonumber(e.bytes),
      parent = e.parent >= 0 and e.parent + 1 or nil, call = tonumber(e.call), in_backward = e.backward, shapes = ffi.string(text),
    }
  end
  local lost = tonumber(C.aj_events_lost())
  C.aj_events_clear()
  return events, lost, C.aj_thread_number()
end

--- Begins a named part of the program, of which a profile tells; for `close`.
---@param name string
---@return integer
function watch.open(name) return C.aj_event_open(name, C.AJ_EVENT_RANGE) end

---@param range integer from `open`
function watch.close(range) C.aj_event_close(range) end

local function close_after(range, ok, ...)
  C.aj_event_close(range)
  if not ok then error((...), 0) end
  return ...
end

--- f(...) under a name, as a part of the program of which ai.profile tells; without a profile, f(...).
---@param name string
---@param f function
---@param ... any
---@return any ...
function watch.record_function(name, f, ...)
  if type(name) ~= "string" then lib.raise("record_function: the name is " .. lib.describe(name) .. ", where a string is wanted") end
  if not watch.is_timing() then return f(...) end
  return close_after(watch.open(name), pcall(f, ...))
end

-- -- Comparisons that nothing uses --------------------------------------------------------------------------------------

local function take(value)
  if lib.is_tensor(value) then
    if value:is_live() then C.aj_bools_take(value) end
  elseif type(value) == "table" and getmetatable(value) == nil then for _, inner in pairs(value) do take(inner) end end
end

local found = ffi.new "int64_t[1]"

--- f(...), after which a comparison made in it that no op has taken, and that is not among its results, is an error.
---@param who string for the error
---@param what string what was compared, for the error
---@param f function
---@param ... any
---@return any ...
function watch.no_idle_bools(who, what, f, ...)
  local before, waiting = C.aj_watch(bit.bor(S.watch, C.AJ_WATCH_BOOLS)), C.aj_bools_waiting()
  local function finish(ok, ...)
    C.aj_watch(before)
    for i = 1, ok and select("#", ...) or 0 do take((select(i, ...))) end
    local name = C.aj_bools_end(waiting, found)
    if not ok then error((...), 0) end
    if name ~= nil then lib.refuse_unused(who, what, {{op = ffi.string(name), at = watch.line_of(tonumber(found[0]))}}) end
    return ...
  end
  return finish(pcall(f, ...))
end

-- -- NaN and infinity -------------------------------------------------------------------------------------------------

-- Where in the program the watched calls stood, by their numbers, which rise. Only the last ones are kept.
local MOST = 20000
local calls, places = {}, {}

-- The program's own frames, and the path of the module that is running.
local function here()
  local lines = {}
  local path = package.loaded["aijit.nn.path"]
  if path then
    local depth = path.depth
    local where = path.describe()
    path.depth = depth
    if where then lines[1] = "\tin " .. where end
  end
  for level = 3, 200 do
    local info = debug.getinfo(level, "nSl")
    if not info then break end
    if info.currentline > 0 and not lib.is_own(info.source) then
      local what = info.what == "main" and "in main chunk" or info.name and ("in function '%s'"):format(info.name) or "in a function"
      lines[#lines + 1] = ("\t%s:%d: %s"):format(info.short_src, info.currentline, what)
    end
  end
  return table.concat(lines, "\n")
end

-- Whether a file of aijit called the op, and not the program.
local function is_inner()
  for level = 4, 12 do
    local info = debug.getinfo(level, "S")
    if not info then return false end
    if info.source ~= "=[C]" and info.source:sub(1, 7) ~= "=aijit." and not info.source:find "bindings/lib%.lua$" then return lib.is_own(info.source) end
  end
  return false
end

--- Notes where the program is, for the call that has just run. What aijit itself compares is no concern of the program's.
function lib.traced()
  if bit.band(S.watch, C.AJ_WATCH_BOOLS) ~= 0 and is_inner() then C.aj_bools_forget(C.aj_watch_call()) end
  if #calls >= 2 * MOST then
    local late, later = {}, {}
    for i = MOST + 1, #calls do late[#late + 1], later[#later + 1] = calls[i], places[i] end
    calls, places = late, later
  end
  calls[#calls + 1], places[#places + 1] = tonumber(C.aj_watch_call()), here()
end

--- The line of the program that made a call: "train.lua:12".
---@param number integer
---@return string?
function watch.line_of(number)
  for i = #calls, 1, -1 do
    if calls[i] == number then return places[i]:match "\t([^\n]-:%d+): " end
  end
end

--- The message of a backward pass that failed, with the place of the forward call whose rule was at fault.
---@param message any
---@return any
function watch.with_place(message)
  local call = tonumber(C.aj_watch_fault())
  if call == 0 or type(message) ~= "string" then return message end
  for i = #calls, 1, -1 do
    if calls[i] <= call then return message .. "\n  the forward call:\n" .. places[i] end
  end
  return message
end

--- Whether NaN or infinity is looked for in this thread.
---@return boolean
function watch.is_looking() return bit.band(S.watch, C.AJ_WATCH_NAN + C.AJ_WATCH_INFINITY) ~= 0 end

--- Raises when a gradient that an op written in Lua gave is none.
---@param name string of the op
---@param g aijit.Tensor
---@param i integer which gradient
---@param place string? of the forward call
function watch.check_gradient(name, g, i, place)
  if not g:is_floating_point() then return end
  local was = C.aj_watch(0)
  local nan, infinite = g:isnan():any():item(), g:isinf():any():item()
  C.aj_watch(was)
  local bad = nan and bit.band(was, C.AJ_WATCH_NAN) ~= 0 and "NaN" or infinite and bit.band(was, C.AJ_WATCH_INFINITY) ~= 0 and "infinity"
  if not bad then return end
  lib.raise(("backward of %s: the gradient of input %d holds %s%s"):format(name, i, bad, place and "\n  the forward call:\n" .. place or ""))
end
watch.here = here

--- Runs f(...), and raises an error at the first op whose result holds a NaN, or an infinity that it was not given; and at the
--- first gradient that does, where the one it was made from does not. The error names the op, its inputs' shapes and the module
--- that was running; of a gradient also the place of the forward call, which must be made within f too. For finding faults: each
--- op takes several times as long. What ai.jit recorded runs as the function that it was. It holds for this thread and ends with f.
---@param o {nan: boolean?, infinity: boolean?}|function  may be left out; infinity = false: NaN alone
---@param ... any  f, where o is not left out, and its arguments
---@return any ... the results of f
function watch.detect_anomaly(o, ...)
  local plain = type(o) ~= "table" or (getmetatable(o) or {}).__call ~= nil
  local f = o
  if not plain then
    f = (...)
    for key in pairs(o) do
      if key ~= "nan" and key ~= "infinity" then
        lib.raise(("detect_anomaly: there is no option '%s'; there are nan and infinity"):format(tostring(key)))
      end
    end
  end
  if type(f) ~= "function" and not (type(f) == "table" and (getmetatable(f) or {}).__call) then
    lib.raise("detect_anomaly: a function is wanted, as in ai.detect_anomaly(f, ...), not " .. lib.describe(f))
  end
  if C.aj_jit_active() then lib.raise "detect_anomaly: not within a function that ai.jit records; call it around the recorded function" end
  local looks = plain and {} or o
  local what = bit.band(S.watch, C.AJ_WATCH_TIMES)
  if looks.nan ~= false then what = bit.bor(what, C.AJ_WATCH_NAN) end
  if looks.infinity ~= false then what = bit.bor(what, C.AJ_WATCH_INFINITY) end
  local before = C.aj_watch(what)
  local function finish(ok, ...)
    C.aj_watch(before)
    if before == 0 then calls, places = {}, {} end
    if not ok then error((...), 0) end
    return ...
  end
  if plain then return finish(pcall(f, ...)) end
  return finish(pcall(...))
end

return watch
