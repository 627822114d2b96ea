--- `ai.profile(f, ...)`: where the time of f goes, op by op: as a table, and as a trace for chrome://tracing and Perfetto.
--
-- The clock is the host's. An op's own time is without the ops it is composed of, and a backward rule's without the ops it runs.

local class = require "aijit.class"
local watch = require "aijit.bindings.watch"

local M = {}

---@class aijit.Profile
---@field events aijit.Event[]
---@field lost integer   events for which there was no room
---@field seconds number from the beginning to the end
local Profile = class("Profile")

local function phase_of(event)
  if event.kind == "step" then return "optimizer" end
  return event.in_backward and "backward" or "forward"
end

local function label(event)
  if event.kind == "backward" then return event.name .. " backward" end
  if event.kind == "replay" then return "replay, between its ops" end
  return event.name
end

---@param seconds number
---@param events aijit.Event[]
---@param lost integer
---@param thread integer
function Profile:__init(seconds, events, lost, thread)
  self.seconds, self.events, self.lost, self.thread = seconds, events, lost, thread
end

---@class aijit.ProfileRow
---@field name string    of the op; "conv2d backward": of its backward rule
---@field phase "forward"|"backward"|"optimizer"
---@field shapes string? of the inputs, where rows are by shape
---@field calls integer
---@field self number    seconds, without the events within
---@field total number   seconds
---@field mean number    seconds of a call
---@field share number   of the profile's time that is the row's own, 0 to 1
---@field bytes integer  allocated

--- What was called, one row for each op and phase.
---@param o? {sort?: "self"|"total"|"calls"|"mean"|"bytes", by_shape?: boolean}  sort "self"; by_shape: a row for each input shape
---@return aijit.ProfileRow[]
function Profile:rows(o)
  local sort, by_shape = o and o.sort or "self", o and o.by_shape or false
  local rows, found = {}, {}
  for _, event in ipairs(self.events) do
    if event.kind ~= "range" then
      local name, phase, shapes = label(event), phase_of(event), by_shape and event.shapes or nil
      local key = table.concat({name, phase, shapes}, "\0")
      local row = found[key]
      if not row then
        row = {name = name, phase = phase, shapes = shapes, calls = 0, self = 0, total = 0, bytes = 0}
        rows[#rows + 1], found[key] = row, row
      end
      local seconds = event.to - event.from
      row.calls, row.total, row.self = row.calls + 1, row.total + seconds, row.self + seconds - event.inner
      row.bytes = row.bytes + event.bytes
    end
  end
  for _, row in ipairs(rows) do
    row.mean = row.total / row.calls
    row.share = self.seconds > 0 and row.self / self.seconds or 0
  end
  if rows[1] and type(rows[1][sort]) ~= "number" then
    error(("profile: rows cannot be sorted by '%s': by self, total, calls, mean or bytes"):format(tostring(sort)), 2)
  end
  table.sort(rows, function(a, b)
    if a[sort] ~= b[sort] then return a[sort] > b[sort] end
    return a.name .. a.phase < b.name .. b.phase
  end)
  return rows
end

--- Seconds in ranges that stand in no other, by name: the parts of a program that named them with ai.record_function.
---@return table<string, number>
function Profile:ranges()
  local totals = {}
  for _, event in ipairs(self.events) do
    if event.kind == "range" and not event.parent then totals[event.name] = (totals[event.name] or 0) + event.to - event.from end
  end
  return totals
end

local function size(bytes)
  local units, u = {"B", "KiB", "MiB", "GiB", "TiB"}, 1
  while bytes >= 1024 and u < #units do bytes, u = bytes / 1024, u + 1 end
  return (u == 1 and "%d %s" or "%.1f %s"):format(bytes, units[u])
end

--- The table: ops by their own time, the rest in one line.
---@param o? {sort?: string, by_shape?: boolean, limit?: integer}  limit 20: rows
---@return string
function Profile:table(o)
  local rows, limit = self:rows(o), o and o.limit or 20
  local width = 12
  for i = 1, math.min(limit, #rows) do width = math.min(48, math.max(width, #rows[i].name)) end
  local form = "  %-" .. width .. "s  %-9s %9s %7s %9s %8s %11s %10s"
  local lines = {form:format("op", "phase", "self ms", "share", "total ms", "calls", "mean us", "memory")}
  local inside, rest, n = 0, 0, 0
  for i, row in ipairs(rows) do
    inside = inside + row.self
    if i <= limit then
      lines[#lines + 1] = form:format(row.name, row.phase, ("%.3f"):format(row.self * 1e3), ("%.1f %%"):format(row.share * 100),
        ("%.3f"):format(row.total * 1e3), row.calls, ("%.1f"):format(row.mean * 1e6), size(row.bytes))
        .. (row.shapes and row.shapes ~= "" and "  " .. row.shapes or "")
    else
      rest, n = rest + row.self, n + 1
    end
  end
  local function share(seconds) return ("%.3f ms, %.1f %%"):format(seconds * 1e3, self.seconds > 0 and seconds / self.seconds * 100 or 0) end
  if n > 0 then lines[#lines + 1] = ("  %d more: %s"):format(n, share(rest)) end
  lines[#lines + 1] = ("  in ops: %s; around them (Lua, data, files): %s"):format(share(inside), share(math.max(0, self.seconds - inside)))
  if self.lost > 0 then lines[#lines + 1] = ("  %d events are missing: there was no room for more"):format(self.lost) end
  return table.concat(lines, "\n")
end

function Profile:__tostring() return ("%.3f ms:\n%s"):format(self.seconds * 1e3, self:table()) end

--- The trace's events, in Chrome's form: complete events with times in microseconds, and an arrow from each op to its backward
--- rule.
---@return table[]
function Profile:trace()
  local list, pid, tid = {}, require("aijit.bindings.system").pid(), self.thread
  local first, forward = self.events[1] and self.events[1].from or 0, {}
  local function put(event) list[#list + 1] = event end
  for _, event in ipairs(self.events) do
    local ts, category = (event.from - first) * 1e6, event.kind == "range" and "range" or phase_of(event)
    local args = {bytes = event.bytes}
    if event.shapes ~= "" then args.shapes = event.shapes end
    put {name = label(event), cat = category, ph = "X", pid = pid, tid = tid, ts = ts, dur = math.max(0, event.to - event.from) * 1e6, args = args}
    if event.kind == "op" and event.call > 0 then forward[event.call] = ts end
    if event.kind == "backward" and forward[event.call] then
      put {name = "gradient", cat = "gradient", ph = "s", id = event.call, pid = pid, tid = tid, ts = forward[event.call]}
      put {name = "gradient", cat = "gradient", ph = "f", bp = "e", id = event.call, pid = pid, tid = tid, ts = ts}
    end
  end
  return list
end

--- Writes the trace, for chrome://tracing or ui.perfetto.dev.
---@param path string
function Profile:write(path)
  local json = require("aijit").json
  require("aijit.io.file").write(path, json.encode {traceEvents = json.array(self:trace()), displayTimeUnit = "ms"} .. "\n")
end

local now = require("aijit.bindings.system").monotonic

--- Begins a profile; `M.stop` ends it. One at a time in a thread.
---@return number begun for `stop`
function M.start()
  if watch.is_timing() then error("profile: this thread is being profiled already", 3) end
  watch.start()
  return now()
end

--- Ends a profile.
---@param begun number from `start`
---@return aijit.Profile
function M.stop(begun)
  local seconds = now() - begun
  return Profile(seconds, watch.stop())
end

local function finish(begun, ok, ...)
  local profile = M.stop(begun)
  if not ok then error((...), 0) end
  return profile, ...
end

--- Runs f(...) and tells where its time went: `print(ai.profile(f))` prints the table, `profile:write "trace.json"` writes a
--- trace, `profile:rows()` gives the numbers. Ops of this thread only; what ai.jit recorded is told op by op too, and fused ones
--- together. `ai.record_function(name, f, ...)` names a part of the program in the trace.
---@param f fun(...): ...
---@param ... any
---@return aijit.Profile
---@return any ... the results of f
function M.profile(f, ...)
  if type(f) ~= "function" and not (getmetatable(f) or {}).__call then
    error("profile: a function is wanted, as in ai.profile(f, ...), not a " .. type(f), 2)
  end
  return finish(M.start(), pcall(f, ...))
end

return M
