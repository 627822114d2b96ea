--- Where tensors live: the device in scope, names of devices, moves between them.

local lib = require "aijit.bindings.lib"
local C = lib.C

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
  if n >= 0 then lib.raise(("device cuda:%d: this build has no CUDA device; `aijit doctor` tells what was found"):format(n)) end
  return n
end

--- x on the device named; x itself if it is there.
---@param x aijit.Tensor
---@param name string
---@return aijit.Tensor
function device.move(x, name)
  local n = device.number(name)
  if lib.ok(C.aj_device_of(x)) == n then return x end
  if n == META then return require("aijit.bindings.construct").empty(x:size(), {dtype = x.dtype, device = "meta"}) end
  if C.aj_device_of(x) == META then lib.raise("to: a meta tensor has a shape and no elements to move") end
  lib.raise("to: no way to that device from here")
end

--- Runs f with another device for new tensors; restored also after an error.
---@param name string|integer
---@param f function
function device.scope(name, f, ...)
  local before = current
  current = device.number(name)
  local function finish(ok, ...)
    current = before
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(f, ...))
end

return device
