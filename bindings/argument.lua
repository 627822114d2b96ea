--- The arguments of constructors: sizes as numbers or in a table, then options.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local device = require "aijit.bindings.device"
local C, ffi = lib.C, lib.ffi

local argument = {}

argument.OPTIONS = {dtype = true, device = true, requires_grad = true}
argument.NAMES = {"dtype", "device", "requires_grad"}

--- The sizes that read() has found; good until the next call.
local shape = ffi.new "aj_ints"
argument.shape = shape

local function is_options(v) return type(v) == "table" and v[1] == nil and next(v) ~= nil end

--- What stands at the end of every constructor: a leaf that wants gradients, if asked for.
---@param t aijit.Tensor
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function argument.finish(t, o)
  if o and o.requires_grad then lib.ok(C.aj_set_requires_grad(t, true)) end
  return t
end

--- Reads sizes into argument.shape, and the options after them.
---@param name string    of the function, for errors
---@param default integer  the dtype's number when the options name none
---@return integer dtype
---@return integer device
---@return aijit.TensorOptions?
function argument.read(name, default, ...)
  local n, o = select("#", ...), nil
  local first = ...
  local sizes
  if type(first) == "table" and not is_options(first) then
    sizes, o = first, (select(2, ...))
  else
    sizes = {...}
    if n > 0 and type(sizes[n]) == "table" then o, sizes[n] = sizes[n], nil end
  end
  if o ~= nil then
    if type(o) ~= "table" then op.helper.bad(name, n, "options", "a table", o) end
    op.helper.read_options(name, o, argument.OPTIONS, argument.NAMES)
  end
  op.helper.ints(name, 1, "sizes", shape, sizes)
  for d = 0, shape.n - 1 do
    if shape.v[d] < 0 then lib.raise(("%s: size %d is negative"):format(name, tonumber(shape.v[d]))) end
  end
  return o and o.dtype and lib.dtype(o.dtype) or default, device.number(o and o.device), o
end

return argument
