--- Modules after one another: m.seq, m.rep, m.pyramid, m.modseq.

local ai = require "aijit"
local argument = require "aijit.argument"
local class = require "aijit.class"
local raise = require("aijit.bindings.lib").raise

local nn = ai.nn
local sequence = {}

--- Modules in sequence; none at all: what goes in comes out.
---@param list aijit.nn.Module[]
---@return aijit.nn.Module
function sequence.seq(list, ...)
  if nn.Module.is_module(list) or type(list) == "function" then list = {list, ...} end
  if list == nil then return nn.Identity() end
  if type(list) ~= "table" or getmetatable(list) ~= nil then argument.check("seq", "argument 1", "layer", list) end
  for i = 1, #list do argument.check("seq", "entry " .. i, "layer", list[i]) end
  if #list == 0 then return nn.Identity() end
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
  if type(blocks) ~= "table" or getmetatable(blocks) ~= nil then raise(("modseq: a list of blocks is wanted, not a %s"):format(type(blocks))) end
  for i = 1, #blocks do argument.check("modseq", "entry " .. i, "module", blocks[i]) end
  return ModSeq(blocks)
end

local rep_arguments = argument.declare("m.rep", "n:size module:module modulated=false")

--- A module n times in sequence: the module itself, then copies. They start with the same values; Model:init() gives
--- each its own.
---@param n integer 0: what goes in comes out
---@param module aijit.nn.Module
---@param options? {modulated: boolean} each block takes a second input, as in modseq
---@return aijit.nn.Module
function sequence.rep(n, module, options)
  local o = rep_arguments:options(options, n, module)
  if n == 0 then return nn.Identity() end
  if n == 1 then return module end
  local list = {module}
  for i = 2, n do list[i] = module:clone() end
  if o.modulated then return sequence.modseq(list) end
  return sequence.seq(list)
end

--- How many halvings lead from one size to a smaller one; nil when none do.
local function halvings(large, small)
  local n = 0
  while small < large do n, small = n + 1, small * 2 end
  return small == large and n or nil
end

local pyramid_arguments = argument.declare("m.pyramid",
  "size_in:count_or_counts size_out:count_or_counts nc_min:count nc_max:count block:function")

--- Blocks that halve or double an image's size, from size_in to size_out. Channels double with each halving, from the
--- smaller of the two numbers given up to the larger; on the way up the same row is walked back.
---@param size_in integer|integer[] of an image that is not square {height, width}
---@param size_out integer|integer[]
---@param nc_min integer in either order with nc_max
---@param nc_max integer
---@param block fun(size: integer|integer[], nc1: integer, nc2: integer): aijit.nn.Module size: that of the block's input
---@return aijit.nn.Sequential # with fields nc_in and nc_out
function sequence.pyramid(size_in, size_out, nc_min, nc_max, block)
  pyramid_arguments:options(nil, size_in, size_out, nc_min, nc_max, block)
  local square = type(size_in) ~= "table"
  local from, to = square and {size_in} or size_in, type(size_out) ~= "table" and {size_out} or size_out
  if #from ~= #to then raise "pyramid: size_in and size_out are two numbers, or two lists {height, width}" end
  local least, most = math.min(nc_min, nc_max), math.max(nc_min, nc_max)
  local down, n = from[1] > to[1], nil
  for d = 1, #from do
    local steps = halvings(down and from[d] or to[d], down and to[d] or from[d])
    if not steps or steps == 0 or n and n ~= steps then
      raise(("pyramid: from %s to %s there is no whole number of halvings or doublings"):format(
        table.concat(from, " x "), table.concat(to, " x ")))
    end
    n = steps
  end
  local channels = {}
  for i = 0, n do channels[i] = math.min(least * 2 ^ i, most) end
  local list = {}
  for i = 1, n do
    local size = {}
    for d = 1, #from do size[d] = from[d] * 2 ^ (down and 1 - i or i - 1) end
    local a, b = i - 1, i
    if not down then a, b = n - i + 1, n - i end
    list[i] = argument.check("pyramid", ("what block returned for step %d"):format(i), "layer", block(square and size[1] or size, channels[a], channels[b]))
  end
  local net = nn.Sequential(list)
  net.nc_in, net.nc_out = channels[down and 0 or n], channels[down and n or 0]
  return net
end

return sequence
