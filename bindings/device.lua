--- Where tensors live: the device in scope, names of devices, moves between them.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local C, ffi = lib.C, lib.ffi

local device = {}

--- The number that C knows a device by: -1 the CPU, n CUDA device n, -2 meta: shapes without elements, on which every op
-- runs its rule and no kernel.
local META = -2
local current = -1

---@param name any
---@return boolean
function device.is_name(name)
  return type(name) == "string" and (name == "cpu" or name == "meta" or name:match "^cuda" ~= nil or name:match "^gpu" ~= nil)
end

--- The number of a device named by "cpu", "cuda", "cuda:1", "gpu:1" or by CUDA's number; -1 is the CPU.
---@param name string|integer|nil  nil: the device in scope
---@return integer
function device.number(name)
  if name == nil then return current end
  local n
  if name == "cpu" then n = -1
  elseif name == "meta" then n = -2
  elseif type(name) == "number" then n = name
  elseif type(name) == "string" then
    n = (name == "cuda" or name == "gpu") and 0 or tonumber(name:match "^cuda:(%d+)$" or name:match "^gpu:(%d+)$")
  end
  if not n then lib.raise(lib.describe(name) .. " is not a device; there are \"cpu\", \"cuda:N\" and \"meta\"") end
  if n >= 0 or n < META then lib.ok(C.aj_device_ready(n)) end
  return n
end

--- x on the device named; x itself if it is there.
---@param x aijit.Tensor
---@param name string
---@param non_blocking? boolean  from pinned memory the copy is not waited for: x must not be written until it is made
---@return aijit.Tensor
function device.move(x, name, non_blocking)
  local n = device.number(name)
  if lib.ok(C.aj_device_of(x)) == n then return x end
  if n ~= META and C.aj_device_of(x) == META then lib.raise("to: a meta tensor has a shape and no elements to move") end
  return op.functions.to_device(x, n, non_blocking or false)
end

-- The devices that a scope is given, as numbers: one, or a list of CUDA's.
local function several(name)
  if name == "cuda:all" or name == "gpu:all" then
    local all = {}
    for n = 0, C.aj_device_count() - 1 do all[n + 1] = n end
    if #all == 0 then lib.ok(C.aj_device_ready(0)) end
    return all
  end
  if type(name) ~= "table" then return {device.number(name)} end
  local all, seen = {}, {}
  for i, one in ipairs(name) do
    local n = device.number(one)
    if n < 0 then lib.raise(("device_scope: entry %d of the list is %s; a list is of CUDA devices"):format(i, lib.describe(one))) end
    if seen[n] then lib.raise(("device_scope: cuda:%d is in the list twice"):format(n)) end
    all[i], seen[n] = n, true
  end
  if #all == 0 then lib.raise("device_scope: the list of devices is empty") end
  return all
end

--- Runs f(...) with another device for new tensors, which a module that is called moves to first; restored also after an error.
---@generic T
---@param which string|integer|(string|integer)[]  "cpu" or -1, "cuda:2", "gpu:2" or 2; a list, or "cuda:all": the first of them is where tensors are made
---@param f fun(...): T
---@return T
function device.scope(which, f, ...)
  local all = several(which)
  if type(f) ~= "function" and not (type(f) == "table" and (getmetatable(f) or {}).__call) then
    lib.raise("device_scope: a function is wanted after the device, and not " .. lib.describe(f))
  end
  local before, outer = current, device.scoped
  current = all[1]
  device.scoped = current ~= META and current or nil
  local function finish(ok, ...)
    current, device.scoped = before, outer
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(f, ...))
end

--- The number of the device in a scope, for the modules called there; nil outside any, and where shapes alone are asked for.
---@type integer?
device.scoped = nil

--- x, of the CPU, in memory that devices copy from while the host goes on; x itself where it is so.
---@param x aijit.Tensor
---@return aijit.Tensor
function device.pin(x)
  if lib.ok(C.aj_is_pinned(x)) then return x end
  return lib.check(C.aj_pin_memory(x), C.aj_pin_memory, x)
end

--- Runs copy(), whose copies to a device are off the order of its other work: they are made while that goes on. What they make is
-- not to be used before `device.join` of the same device.
---@generic T
---@param which string|integer
---@param copy fun(): T
---@return T
function device.ahead(which, copy)
  local n = device.number(which)
  lib.ok(C.aj_device_ahead(n, true))
  local function finish(ok, ...)
    C.aj_device_ahead(n, false)
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(copy))
end

--- What was copied ahead may be used by whatever is called from here on.
---@param which string|integer
function device.join(which) lib.ok(C.aj_device_join(device.number(which))) end

-- -- CUDA devices -----------------------------------------------------------------------------------------------------------

local cuda = {}
device.cuda = cuda

--- Whether there is a CUDA device to compute on.
---@return boolean yes
---@return string? why  what was found, where there is none
function cuda.is_available()
  if C.aj_device_count() > 0 then return true end
  return false, ffi.string(C.aj_device_absence())
end

--- How many CUDA devices there are.
---@return integer
function cuda.device_count() return C.aj_device_count() end

--- What is known of a CUDA device. Memory is in bytes; free is what no process holds. The CUDA versions are that of the
-- library aijit was built with, and the latest that the driver can.
---@param which string|integer|nil  "cuda:0" by default
---@return {name: string, total: integer, free: integer, capability: string, multiprocessors: integer, runtime: string, driver: string}
function cuda.properties(which)
  local n = device.number(which == nil and 0 or which)
  local p = ffi.new "aj_device_t"
  lib.ok(C.aj_device_describe(n, p))
  local function version(v) return ("%d.%d"):format(v / 1000, v % 1000 / 10) end
  return {name = ffi.string(p.name), total = tonumber(p.total), free = tonumber(p.free), capability = ("%d.%d"):format(p.major, p.minor),
    multiprocessors = p.processors, runtime = version(p.runtime), driver = version(p.driver)}
end

--- The name of a CUDA device, as its maker calls it.
---@param which string|integer|nil  "cuda:0" by default
---@return string
function cuda.device_name(which) return cuda.properties(which).name end

--- Waits until a CUDA device has done all work; an error that it met (an index out of range, say) is raised here.
---@param which string|integer|nil  by default all devices
function cuda.synchronize(which)
  if which ~= nil then return lib.ok(C.aj_device_synchronize(device.number(which))) and nil end
  for n = 0, C.aj_device_count() - 1 do lib.ok(C.aj_device_synchronize(n)) end
end

--- On: matrix products and convolutions of f32 on CUDA devices round their inputs to TF32, which has f32's range and 10 bits of
-- mantissa: several times quicker, with errors near 3e-4 of the result. Off at first. Without an argument: whether it is on.
---@param on boolean?
---@return boolean
function cuda.tf32(on)
  if on ~= nil then C.aj_set_tf32(on and true or false) end
  return C.aj_tf32()
end

---@class aijit.CudaLibrary
---@field name string
---@field version string?   of one that was found
---@field path string?
---@field absence string?   of one that was not: what was looked for, and what goes without it
---@field install string?   the packages that have it

--- The libraries that ops on CUDA devices call, cuBLASLt and cuDNN say, and where they were found.
---@return aijit.CudaLibrary[]
function cuda.libraries()
  local p, list = ffi.new "aj_device_library_t", {}
  while C.aj_device_library(#list, p) do
    local function text(field) local s = ffi.string(p[field]) return s ~= "" and s or nil end
    list[#list + 1] = {name = text "name", version = text "version", path = text "path", absence = text "absence", install = text "install"}
  end
  return list
end

--- The names of the ops that a device has no kernel for.
---@param which string|integer|nil  "cuda:0" by default
---@return string[]
function cuda.missing(which)
  local n, names = device.number(which == nil and 0 or which), {}
  for _, row in ipairs(op.rows) do
    if not C.aj_has_kernel(row.index, n) then names[#names + 1] = row.name end
  end
  return names
end

return device
