--- Histograms over given or equal bins, of one variable or of several at once.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local construct = require "aijit.bindings.construct"
local no_grad = require("aijit.bindings.autograd").no_grad
local f = op.functions

local histogram = {}

local OPTIONS = {bins = true, range = true, weight = true, density = true}
local ORDER = {"bins", "range", "weight", "density"}

local function refuse(name, text, ...) lib.raise(name .. ": " .. text:format(...)) end

local function is_options(v) return type(v) == "table" and v[1] == nil and next(v) ~= nil end

-- bins, range, weight, density as they were given one by one, or in a last table.
local function arguments(name, bins, range, weight, density)
  local o = is_options(bins) and bins or is_options(range) and range or is_options(weight) and weight or is_options(density) and density
  if not o then return bins, range, weight, density end
  op.helper.read_options(name, o, OPTIONS, ORDER)
  return o ~= bins and bins or o.bins, o ~= bins and o ~= range and range or o.range, o ~= bins and o ~= range and o ~= weight and weight or o.weight,
    o.density
end

-- The edges of bins, of which there are a number, over a range, or of all elements of x.
local function equal_edges(name, x, bins, low, high)
  if bins % 1 ~= 0 or bins < 1 then refuse(name, "bins is %s, and must be a whole number from 1 up", tostring(bins)) end
  if not low and (Tensor.numel(x) == 0 or x.device == "meta") then low, high = 0, 1
  elseif not low then low, high = f.amin(x):item(), f.amax(x):item() end
  if not (high >= low and high - low < math.huge) then refuse(name, "the range is from %g to %g, and must be finite and not backwards", low, high) end
  if low == high then low, high = low - 0.5, high + 0.5 end
  return construct.linspace(low, high, bins + 1, {dtype = x.dtype, device = x.device})
end

local function edges_of(name, x, bins, low, high)
  if type(bins) == "number" then return equal_edges(name, x, bins, low, high) end
  if not lib.is_tensor(bins) then refuse(name, "bins is a number of bins, or a tensor of their edges, not %s", lib.describe(bins)) end
  if Tensor.dim(bins) ~= 1 or Tensor.numel(bins) < 2 then refuse(name, "the edges of bins are one row of at least 2, in order") end
  if bins.dtype ~= x.dtype then refuse(name, "the edges of bins are of %s, and the input of %s", bins.dtype, x.dtype) end
  return bins
end

-- x (M, N): the sums of weights in the bins that N edges make.
local function count(x, edges, weight, density)
  local sizes, at, inside = {}, nil, nil
  for d, e in ipairs(edges) do
    local column, n = f.contiguous(f.select(x, 2, d)), Tensor.numel(e) - 1
    sizes[d] = n
    local place = f.searchsorted(e, column, {right = true})       -- one more than the number of edges up to it
    place = Tensor.clamp(f.sub(place, 2), 0, n - 1)
    local fits = f.logical_and(f.ge(column, f.select(e, 1, 1)), f.le(column, f.select(e, 1, n + 1)))
    at = at and f.add(f.mul(at, n), place) or place
    inside = inside and f.logical_and(inside, fits) or fits
  end
  local total = 1
  for _, n in ipairs(sizes) do total = total * n end
  local rows = Tensor.size(x, 1)
  local w = weight and Tensor.to(f.reshape(weight, {rows}), "f64") or construct.ones(rows, {dtype = "f64", device = x.device})
  w = Tensor.where(inside, w, construct.zeros({}, {dtype = "f64", device = x.device}))
  local hist = f.index_add(construct.zeros(total, {dtype = "f64", device = x.device}), 1, f.add(at, 1), w)
  hist = f.reshape(hist, sizes)
  if density then
    hist = f.div(hist, f.sum(hist))
    for d, e in ipairs(edges) do
      local shape = {}
      for i = 1, #sizes do shape[i] = i == d and sizes[d] or 1 end
      hist = f.div(hist, f.reshape(Tensor.to(f.diff(e), "f64"), shape))
    end
  end
  return Tensor.to(hist, x.dtype)
end

local function check(name, x, weight, shape)
  if not lib.is_tensor(x) then op.helper.bad(name, 1, "x", "a tensor", x) end
  if not x:is_floating_point() then refuse(name, "the input is of %s, and must be of floats; convert it with :float()", x.dtype) end
  if weight == nil then return end
  if not lib.is_tensor(weight) then op.helper.bad(name, 4, "weight", "a tensor", weight) end
  if table.concat(weight:size(), "x") ~= table.concat(shape, "x") then
    refuse(name, "the weight has the sizes {%s}, and must have {%s}", table.concat(weight:size(), ", "), table.concat(shape, ", "))
  end
end

--- How many elements, or the sum of whose weights, lie in each bin. A bin holds its lower edge and not its upper one, but the
-- last holds both; what lies outside, and NaN, is not counted.
---@param x aijit.Tensor  floats
---@param bins integer|aijit.Tensor|table  how many equal bins, or the edges of all, in order
---@param range number[]?      {low, high} of equal bins; the smallest and the largest element unless given
---@param weight aijit.Tensor?  one for each element
---@param density boolean?      divided so that the area is 1
---@return aijit.Tensor hist
---@return aijit.Tensor bin_edges
function histogram.histogram(x, bins, range, weight, density)
  bins, range, weight, density = arguments("histogram", bins, range, weight, density)
  check("histogram", x, weight, lib.is_tensor(x) and x:size())
  if range ~= nil and (type(range) ~= "table" or #range ~= 2) then refuse("histogram", "the range is {low, high}") end
  local edges = edges_of("histogram", x, bins, range and range[1], range and range[2])
  return no_grad(count, f.reshape(x, {Tensor.numel(x), 1}), {edges}, weight, density), edges
end

--- How many points, rows of the last dimension of x, or the sum of whose weights, lie in each bin of several dimensions.
---@param x aijit.Tensor  (..., N), floats
---@param bins integer|integer[]|aijit.Tensor[]|table  how many equal bins along each of the N dimensions, or their edges
---@param range number[]?      {low, high, low, high, ...} of equal bins
---@param weight aijit.Tensor?  (...)
---@param density boolean?      divided so that the volume is 1
---@return aijit.Tensor hist
---@return aijit.Tensor[] bin_edges
function histogram.histogramdd(x, bins, range, weight, density)
  bins, range, weight, density = arguments("histogramdd", bins, range, weight, density)
  if lib.is_tensor(x) and x:dim() < 2 then refuse("histogramdd", "points are the rows of at least 2 dimensions, and x has %d", x:dim()) end
  local sizes = lib.is_tensor(x) and x:size()
  local n = sizes and table.remove(sizes)
  check("histogramdd", x, weight, sizes)
  if type(bins) == "table" and #bins ~= n then refuse("histogramdd", "%d entries of bins for points of %d dimensions", #bins, n) end
  if range ~= nil and (type(range) ~= "table" or #range ~= 2 * n) then refuse("histogramdd", "the range is {low, high} for each of %d dimensions", n) end
  local points = 1
  for _, s in ipairs(sizes) do points = points * s end
  local rows, edges = f.reshape(x, {points, n}), {}
  for d = 1, n do
    edges[d] = edges_of("histogramdd", f.select(rows, 2, d), type(bins) == "table" and bins[d] or bins, range and range[2 * d - 1], range and range[2 * d])
  end
  return no_grad(count, rows, edges, weight, density), edges
end

for name, fn in pairs(histogram) do
  Tensor[name] = op.whole_list(name, fn)
  op.faces[name] = true
end

return histogram
