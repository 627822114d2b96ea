--- Who owns what is made: inside a scope, the scope; what leaves it falls to the one around it, or to the collector.

local lib = require "aijit.bindings.lib"
local C, S, ffi = lib.C, lib.state, lib.ffi

local scope = {}

-- Tensors in what a scope returns: by themselves, or in plain tables (a class's objects keep what they hold by themselves).
local function each(v, visit, seen)
  if type(v) == "cdata" then
    if ffi.istype("aj_tensor", v) then visit(v) end
  elseif type(v) == "table" and getmetatable(v) == nil then
    seen = seen or {}
    if seen[v] then return end
    seen[v] = true
    for _, x in pairs(v) do each(x, visit, seen) end
  end
end

local tensor_type, is_type = ffi.typeof "aj_tensor", ffi.istype

--- Takes a tensor out of a scope; true when it falls to the collector.
local function leaves(mark, t) return C.aj_is_live(t) and C.aj_scope_keep(mark, t) and mark == 0 end

local function all_that_leave(mark, ...)
  local owned = {}
  for i = 1, select("#", ...) do
    each((select(i, ...)), function(t) if leaves(mark, t) then owned[#owned + 1] = t end end)
  end
  return owned
end

local function finish(mark, ok, ...)
  local n, v, owned = select("#", ...), ..., nil
  if ok and n == 1 and type(v) ~= "table" then           -- no loop and no closure: a step's end is part of its trace
    if type(v) == "cdata" and is_type(tensor_type, v) and leaves(mark, v) then owned = v end
    C.aj_scope_close(mark)
    if owned then ffi.gc(v, C.aj_release) end
    lib.ok()
    return v
  end
  if ok and n > 0 then owned = all_that_leave(mark, ...) end
  C.aj_scope_close(mark)
  for i = 1, owned and #owned or 0 do ffi.gc(owned[i], C.aj_release) end
  if not ok then error(v, 0) end
  lib.ok()
  return ...
end

--- Runs f(...); every tensor made inside is freed when it returns, but for those that it returns (also in plain tables)
-- and those given to ai.keep. An error frees all and goes on.
---@generic T
---@param f fun(...): T
---@return T
function scope.scope(f, ...)
  local mark = C.aj_scope_open()
  if mark < 0 then lib.ok() end
  return finish(mark, pcall(f, ...))
end

--- Lets a tensor outlive the scope it was made in; outside any scope there is nothing to do.
---@param t aijit.Tensor
---@return aijit.Tensor
function scope.keep(t)
  if not lib.is_tensor(t) then lib.raise("keep: " .. lib.describe(t) .. " is not a tensor") end
  if S.scopes > 0 then
    local mine = C.aj_scope_keep(-1, t)
    lib.ok()
    if mine then ffi.gc(t, C.aj_release) end
  end
  return t
end

--- Gives a tensor that was kept to the scope that is open: it ends there. Outside any scope there is nothing to do.
---@param t aijit.Tensor
---@return aijit.Tensor
function scope.adopt(t)
  if S.scopes > 0 then C.aj_scope_adopt(ffi.gc(t, nil)) end
  return t
end

local memory = ffi.new "aj_memory_t"

--- Bytes by device: live, peak, cached, and the number of tensors. `reset_peak` starts the peak anew afterwards.
---@param o {reset_peak: boolean}?
---@return table<string, {live: integer, peak: integer, cached: integer, tensors: integer}>
function scope.memory(o)
  local report = {}
  for n = -1, C.aj_device_loaded() - 1 do
    C.aj_memory(n, memory)
    if o and o.reset_peak then C.aj_memory_reset_peak(n) end
    report[n < 0 and "cpu" or "cuda:" .. n] = {live = tonumber(memory.live), peak = tonumber(memory.peak), cached = tonumber(memory.cached),
      tensors = tonumber(memory.tensors)}
  end
  return setmetatable(report, {__tostring = function(r)
    local function put(b)
      local unit = {"bytes", "KiB", "MiB", "GiB", "TiB"}
      local u = 1
      while b >= 1024 and u < #unit do b, u = b / 1024, u + 1 end
      return (u == 1 and "%d %s" or "%.1f %s"):format(b, unit[u])
    end
    local lines = {}
    for name, m in pairs(r) do
      lines[#lines + 1] = ("%s: live %s in %d tensors, peak %s, cached %s"):format(name, put(m.live), m.tensors, put(m.peak), put(m.cached))
    end
    return table.concat(lines, "\n")
  end})
end

--- A limit to live bytes; past it an allocation is an error, as if memory were out. 0: none.
---@param bytes number
function scope.set_memory_limit(bytes) C.aj_memory_limit(bytes) end

--- Gives cached memory back to the system.
function scope.empty_cache()
  collectgarbage() collectgarbage()
  for n = -1, C.aj_device_loaded() - 1 do C.aj_memory_trim(n) end
end

return scope
