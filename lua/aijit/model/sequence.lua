--- Modules after one another: m.seq, m.rep, m.pyramid, m.modseq.

local ai = require "aijit"
local class = require "aijit.class"
local raise = require("aijit.bindings.lib").raise

local nn = ai.nn
local sequence = {}

--- Modules in sequence; none at all: what goes in comes out.
---@param list aijit.nn.Module[]
---@return aijit.nn.Module
function sequence.seq(list, ...)
  if nn.Module.is_module(list) or type(list) == "function" then list = {list, ...} end
  if list == nil or #list == 0 then return nn.Identity() end
  return nn.Sequential(list)
end

--- The modules of a list that are there (the others being false), in sequence; one alone as it is.
function sequence.several(list)
  local there = {}
  for i = 1, #list do if list[i] then there[#there + 1] = list[i] end end
  return #there == 1 and there[1] or sequence.seq(there)
end

--- Several modules that take an input and a second one, which is the same for all: y = block(x, z).
---@class aijit.model.ModSeq: aijit.nn.Sequential
local ModSeq = class("ModSeq", nn.Sequential)
nn.register(ModSeq)

function ModSeq:forward(x, z)
  for i = 1, #self do x = self[i](x, z) end
  return x
end

---@param blocks aijit.nn.Module[]
---@return aijit.model.ModSeq
function sequence.modseq(blocks)
  return ModSeq(blocks)
end

--- A module n times in sequence: the module itself, then copies. They start with the same values; Model:init() gives
--- each its own.
---@param n integer 0: what goes in comes out
---@param module aijit.nn.Module
---@param options? {modulated: boolean} each block takes a second input, as in modseq
---@return aijit.nn.Module
function sequence.rep(n, module, options)
  if type(n) ~= "number" or n < 0 or n % 1 ~= 0 then raise(("rep: %s is not a number of times"):format(tostring(n))) end
  if n == 0 then return nn.Identity() end
  if n == 1 then return module end
  local list = {module}
  for i = 2, n do list[i] = module:clone() end
  if options and options.modulated then return sequence.modseq(list) end
  return sequence.seq(list)
end

--- Blocks that halve or double an image's size, from size_in to size_out. Channels double with each halving, from the
--- smaller of the two numbers given up to the larger; on the way up the same row is walked back.
---@param size_in integer
---@param size_out integer
---@param nc_min integer in either order with nc_max
---@param nc_max integer
---@param block fun(size: integer, nc1: integer, nc2: integer): aijit.nn.Module size: that of the block's input
---@return aijit.nn.Sequential # with fields nc_in and nc_out
function sequence.pyramid(size_in, size_out, nc_min, nc_max, block)
  local least, most = math.min(nc_min, nc_max), math.max(nc_min, nc_max)
  local large, small = math.max(size_in, size_out), math.min(size_in, size_out)
  local n, size = 0, small
  while size < large do n, size = n + 1, size * 2 end
  if n == 0 or size ~= large then
    raise(("pyramid: from %d to %d there is no whole number of halvings or doublings"):format(size_in, size_out))
  end
  local channels = {}
  for i = 0, n do channels[i] = math.min(least * 2 ^ i, most) end
  local list, down = {}, size_in > size_out
  for i = 1, n do
    if down then list[i] = block(size_in / 2 ^ (i - 1), channels[i - 1], channels[i])
    else list[i] = block(size_in * 2 ^ (i - 1), channels[n - i + 1], channels[n - i]) end
  end
  local net = nn.Sequential(list)
  net.nc_in, net.nc_out = channels[down and 0 or n], channels[down and n or 0]
  return net
end

return sequence
