--- Functions of several tensors, and of sizes, that are made of rows: grids, stacks, products of sets, indices of triangles.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local construct = require "aijit.bindings.construct"
local f = op.functions

local list = {}

-- Tensors given one after another, or as one table; the options that may follow.
local function gather(name, ...)
  local n, all = select("#", ...), {...}
  local o = type(all[n]) == "table" and getmetatable(all[n]) == nil and (n > 1 or all[1][1] == nil) and table.remove(all) or nil
  if #all == 1 and type(all[1]) == "table" and getmetatable(all[1]) == nil then all = all[1] end
  for i, t in ipairs(all) do
    if not op.is_operand(t) then op.helper.bad(name, i, "tensor", "a tensor", t) end
  end
  if #all == 0 then lib.raise(name .. ": there are no tensors") end
  return all, o
end

local function map(tensors, fn, ...)
  local all = {}
  for i, t in ipairs(tensors) do all[i] = fn(t, ...) end
  return all
end

-- -- Sizes ---------------------------------------------------------------------------------------------------------------

--- The tensors, broadcast against each other; no copies.
---@param ... aijit.Tensor|aijit.Tensor[]
---@return aijit.Tensor[]
function list.broadcast_tensors(...)
  local tensors, sizes, n = gather("broadcast_tensors", ...), {}, 0
  for _, t in ipairs(tensors) do n = math.max(n, Tensor.dim(t)) end
  for d = 1, n do
    sizes[d] = 1
    for k, t in ipairs(tensors) do
      local at = d - (n - Tensor.dim(t))
      local size = at >= 1 and Tensor.size(t, at) or 1
      if size ~= 1 then
        if sizes[d] ~= 1 and sizes[d] ~= size then
          local message = "broadcast_tensors: tensor %d has size %d where those before it have %d, along dimension %d from the end"
          lib.raise(message:format(k, size, sizes[d], n - d + 1))
        end
        sizes[d] = size
      end
    end
  end
  return map(tensors, f.expand, sizes)
end

-- One tensor gives one; several, or a table, give a table.
local function at_least(name, widen)
  return function(...)
    if select("#", ...) == 1 and op.is_operand((...)) then return widen((...)) end
    return map(gather(name, ...), widen)
  end
end
local function widen1(t) return Tensor.dim(t) == 0 and f.reshape(t, {1}) or t end
local function widen2(t)
  local n = Tensor.dim(t)
  return n == 0 and f.reshape(t, {1, 1}) or n == 1 and f.unsqueeze(t, 1) or t
end
local function widen3(t)
  local n = Tensor.dim(t)
  return n == 0 and f.reshape(t, {1, 1, 1}) or n == 1 and f.reshape(t, {1, Tensor.size(t, 1), 1}) or n == 2 and f.unsqueeze(t, 3) or t
end
local atleast_1d, atleast_2d, atleast_3d = at_least("atleast_1d", widen1), at_least("atleast_2d", widen2), at_least("atleast_3d", widen3)

--- A tensor with at least 1 dimension; of several, a table.
---@param ... aijit.Tensor|aijit.Tensor[]
---@return aijit.Tensor|aijit.Tensor[]
function list.atleast_1d(...) return atleast_1d(...) end
--- A tensor with at least 2 dimensions; a vector is a row.
---@param ... aijit.Tensor|aijit.Tensor[]
---@return aijit.Tensor|aijit.Tensor[]
function list.atleast_2d(...) return atleast_2d(...) end
--- A tensor with at least 3 dimensions: a vector (n) is (1, n, 1), a matrix (m, n) is (m, n, 1).
---@param ... aijit.Tensor|aijit.Tensor[]
---@return aijit.Tensor|aijit.Tensor[]
function list.atleast_3d(...) return atleast_3d(...) end

--- x with dimension dim as several, of these sizes; one of them may be -1.
---@param x aijit.Tensor
---@param dim integer
---@param sizes integer[]
---@return aijit.Tensor
function list.unflatten(x, dim, sizes)
  local shape, at = {}, dim < 0 and Tensor.dim(x) + 1 + dim or dim
  local n, known, hole = Tensor.size(x, dim), 1, nil
  for i, s in ipairs(sizes) do
    if s == -1 then hole = i else known = known * s end
  end
  if hole and known > 0 and n % known == 0 then known = n end
  if known ~= n then lib.raise(("unflatten: %d elements along dimension %d do not fill the sizes {%s}"):format(n, at, table.concat(sizes, ", "))) end
  for d, s in ipairs(Tensor.size(x)) do
    if d ~= at then shape[#shape + 1] = s
    else
      local rest = 1
      for i, k in ipairs(sizes) do if i ~= hole then rest = rest * k end end
      for i, k in ipairs(sizes) do shape[#shape + 1] = i == hole and n / rest or k end
    end
  end
  return f.view(x, shape)
end

-- -- Joining -------------------------------------------------------------------------------------------------------------

--- Tensors side by side: along dimension 2, vectors along their only one.
---@param ... aijit.Tensor|aijit.Tensor[]
---@return aijit.Tensor
function list.hstack(...)
  local tensors = map(gather("hstack", ...), widen1)
  return f.cat(tensors, Tensor.dim(tensors[1]) == 1 and 1 or 2)
end
--- Tensors below each other; a vector is a row.
---@param ... aijit.Tensor|aijit.Tensor[]
---@return aijit.Tensor
function list.vstack(...) return f.cat(map(gather("vstack", ...), widen2), 1) end
--- Tensors behind each other, along dimension 3.
---@param ... aijit.Tensor|aijit.Tensor[]
---@return aijit.Tensor
function list.dstack(...) return f.cat(map(gather("dstack", ...), widen3), 3) end
--- Columns side by side; a vector is one, a matrix has several.
---@param ... aijit.Tensor|aijit.Tensor[]
---@return aijit.Tensor
function list.column_stack(...)
  return f.cat(map(gather("column_stack", ...), function(t)
    return Tensor.dim(t) <= 1 and f.reshape(t, {Tensor.numel(t), 1}) or t
  end), 2)
end

-- -- Grids and products of sets --------------------------------------------------------------------------------------------

--- Coordinates of a grid: for each vector a tensor over all of them, in which it varies along its own dimension.
-- indexing "ij" (by default): dimension k is vector k's; "xy": the first two are exchanged.
---@param ... aijit.Tensor|aijit.Tensor[]|{indexing: "ij"|"xy"}
---@return aijit.Tensor[]
function list.meshgrid(...)
  local tensors, o = gather("meshgrid", ...)
  local indexing = o and o.indexing or "ij"
  if o then op.helper.read_options("meshgrid", o, {indexing = true}, {"indexing"}) end
  if indexing ~= "ij" and indexing ~= "xy" then lib.raise("meshgrid: the indexing is \"ij\" or \"xy\", not " .. lib.describe(indexing)) end
  local order = {}
  for i = 1, #tensors do order[i] = i end
  if indexing == "xy" and #tensors >= 2 then order[1], order[2] = 2, 1 end
  local sizes, grids = {}, {}
  for d, k in ipairs(order) do
    local t = tensors[k]
    if Tensor.dim(t) > 1 then lib.raise(("meshgrid: tensor %d has %d dimensions, and must be a vector"):format(k, Tensor.dim(t))) end
    sizes[d] = Tensor.numel(t)
  end
  for d, k in ipairs(order) do
    local line = {}
    for e = 1, #order do line[e] = e == d and sizes[d] or 1 end
    grids[k] = f.expand(f.reshape(tensors[k], line), sizes)
  end
  return grids
end

--- All tuples of an element of each vector, a row each, the last varying fastest.
---@param ... aijit.Tensor|aijit.Tensor[]
---@return aijit.Tensor
function list.cartesian_prod(...)
  local tensors = gather("cartesian_prod", ...)
  if #tensors == 1 then return tensors[1] end
  return f.stack(map(list.meshgrid(tensors), function(g) return f.reshape(g, {Tensor.numel(g)}) end), 2)
end

--- All choices of r elements of a vector in their order, a row each; with_replacement: one element may be chosen several times.
---@param x aijit.Tensor
---@param r integer?  2 by default
---@param with_replacement boolean?
---@return aijit.Tensor
function list.combinations(x, r, with_replacement)
  r = r or 2
  if type(r) == "table" then r, with_replacement = r.r or 2, r.with_replacement end
  if Tensor.dim(x) ~= 1 then lib.raise(("combinations: of the elements of a vector, not of %d dimensions"):format(Tensor.dim(x))) end
  if r < 1 then return construct.empty(0, {dtype = x.dtype}) end
  local n, rows, at = Tensor.numel(x), {}, {}
  local function go(k, first)
    if k > r then
      for i = 1, r do rows[#rows + 1] = at[i] end
      return
    end
    for i = first, n do
      at[k] = i
      go(k + 1, with_replacement and i or i + 1)
    end
  end
  go(1, 1)
  if #rows == 0 then return construct.empty(0, r, {dtype = x.dtype}) end
  local index = construct.tensor(rows, {dtype = "i64"})
  return f.reshape(f.index_select(x, 1, index), {#rows / r, r})
end

-- -- Triangles and powers -------------------------------------------------------------------------------------------------

local function triangle(part)
  return function(rows, columns, offset)
    local dtype
    if type(offset) == "table" then offset, dtype = offset.offset, offset.dtype end
    local ones = construct.ones(rows, columns, {dtype = "bool"})
    local at = f.contiguous(f.transpose(f.nonzero(f[part](ones, offset or 0)), 1, 2))
    return dtype and Tensor.to(at, dtype) or at
  end
end
local lower, upper = triangle "tril", triangle "triu"

--- Rows (first) and columns (second) of the elements of a lower triangle; i64, from 1.
---@param rows integer
---@param columns integer
---@param offset integer|{offset: integer?, dtype: string?}?  of its diagonal
---@return aijit.Tensor
function list.tril_indices(rows, columns, offset) return lower(rows, columns, offset) end
--- Rows (first) and columns (second) of the elements of an upper triangle; i64, from 1.
---@param rows integer
---@param columns integer
---@param offset integer|{offset: integer?, dtype: string?}?  of its diagonal
---@return aijit.Tensor
function list.triu_indices(rows, columns, offset) return upper(rows, columns, offset) end

--- Powers of a vector's elements, a row each: from N - 1 down to 0, or, increasing, from 0 up.
---@param x aijit.Tensor
---@param N integer?  as many as there are elements
---@param increasing boolean?
---@return aijit.Tensor
function list.vander(x, N, increasing)
  if type(N) == "table" then N, increasing = N.N, N.increasing end
  if Tensor.dim(x) == 0 then x = f.unsqueeze(x, 1) end
  N = N or Tensor.size(x, -1)
  if N == 0 then
    local sizes = Tensor.size(x)
    sizes[#sizes + 1] = 0
    return construct.empty(sizes, {dtype = x.dtype})
  end
  local columns, power = {}, construct.ones_like(x)
  for k = 1, N do
    columns[increasing and k or N + 1 - k] = power
    if k < N then power = f.mul(power, x) end
  end
  return f.stack(columns, Tensor.dim(x) + 1)
end

--- x split along dim into `sections` pieces as equal as can be, the first ones larger, or before each of the positions in a
-- table: tensor_split(x, {3, 5}) gives elements 1 and 2, 3 and 4, and the rest.
---@param x aijit.Tensor
---@param sections integer|integer[]|aijit.Tensor  a tensor of whole numbers counts as either
---@param dim integer?  1 by default
---@return aijit.Tensor[]
function list.tensor_split(x, sections, dim)
  if lib.is_tensor(sections) then sections = Tensor.dim(sections) == 0 and Tensor.item(sections) or Tensor.totable(sections) end
  dim = dim or 1
  local n, pieces, first = Tensor.size(x, dim), {}, 1
  if type(sections) == "number" then
    if sections < 1 or sections ~= math.floor(sections) then
      lib.raise(("tensor_split: the number of pieces is %s, and must be whole and at least 1"):format(tostring(sections)))
    end
    local each, more = math.floor(n / sections), n % sections
    for i = 1, sections do
      local size = each + (i <= more and 1 or 0)
      pieces[i] = f.narrow(x, dim, first, size)
      first = first + size
    end
    return pieces
  end
  if type(sections) ~= "table" then lib.raise("tensor_split: " .. lib.describe(sections) .. ", where a number or a table of positions is wanted") end
  for i = 1, #sections + 1 do
    local last = sections[i] or n + 1
    if type(last) ~= "number" then lib.raise(("tensor_split: position %d is %s, where a number is wanted"):format(i, lib.describe(last))) end
    if last < 0 then last = last + n + 1 end
    last = math.max(1, math.min(last, n + 1))
    pieces[i] = f.narrow(x, dim, math.min(first, n + 1), math.max(0, last - first))
    first = last
  end
  return pieces
end

local function split_along(name, least, dim)
  return function(x, sections)
    local have = Tensor.dim(x)
    if have < least then lib.raise(("%s: a tensor of %d dimensions, where at least %d are wanted"):format(name, have, least)) end
    local d = name == "hsplit" and have == 1 and 1 or dim
    if type(sections) == "number" and Tensor.size(x, d) % sections ~= 0 then
      lib.raise(("%s: size %d along dimension %d does not divide into %s pieces"):format(name, Tensor.size(x, d), d, tostring(sections)))
    end
    return list.tensor_split(x, sections, d)
  end
end
--- tensor_split along the second dimension (of a vector, its only one) into equal pieces, or before positions.
---@type fun(x: aijit.Tensor, sections: integer|integer[]): aijit.Tensor[]
list.hsplit = split_along("hsplit", 1, 2)
--- The same along the first dimension.
---@type fun(x: aijit.Tensor, sections: integer|integer[]): aijit.Tensor[]
list.vsplit = split_along("vsplit", 2, 1)
--- The same along the third dimension.
---@type fun(x: aijit.Tensor, sections: integer|integer[]): aijit.Tensor[]
list.dsplit = split_along("dsplit", 3, 3)

-- The slope of x along one dimension: inside by the second-order formula for unequal steps (Fornberg, 1988: steps h before
-- and k after), at the ends of first or second order.
local function slope(x, dim, spacing, order)
  local n = Tensor.size(x, dim)
  local function part(first, last) return f.slice(x, dim, first, last) end
  local function shaped(t)
    local sizes = {}
    for d = 1, Tensor.dim(x) do sizes[d] = d == dim and Tensor.numel(t) or 1 end
    return Tensor.reshape(t, sizes)
  end
  local h, k, first_step, second_step, last_step, before_last
  if lib.is_tensor(spacing) then
    if Tensor.dim(spacing) ~= 1 or Tensor.numel(spacing) ~= n then
      lib.raise(("gradient: the coordinates along dimension %d must be a vector of %d"):format(dim, n))
    end
    local steps = f.sub(f.slice(spacing, 1, 2, n), f.slice(spacing, 1, 1, n - 1))
    local function step(i) return shaped(f.slice(steps, 1, i, i)) end
    first_step, last_step = step(1), step(n - 1)
    if n > 2 then
      h, k = shaped(f.slice(steps, 1, 1, n - 2)), shaped(f.slice(steps, 1, 2, n - 1))
      second_step, before_last = step(2), step(n - 2)
    end
  else h, k, first_step, second_step, last_step, before_last = spacing, spacing, spacing, spacing, spacing, spacing end
  local pieces = {}
  local function ends(a, b, c, s, t)                     -- a at the end, b next to it, then c; steps s and t
    if order == 1 then return (b - a) / s end
    return a * ((s * -2 - t) / (s * (s + t))) + b * ((s + t) / (s * t)) - c * (s / (t * (s + t)))
  end
  pieces[1] = ends(part(1, 1), part(2, 2), order == 2 and part(3, 3), first_step, second_step)
  if n > 2 then
    local a, b, c = part(1, n - 2), part(2, n - 1), part(3, n)
    pieces[2] = lib.is_tensor(h) and c * (h / (k * (h + k))) - b * ((h - k) / (h * k)) - a * (k / (h * (h + k))) or (c - a) / (2 * h)
  end
  local back = ends(part(n, n), part(n - 1, n - 1), order == 2 and part(n - 2, n - 2), last_step, before_last)
  pieces[#pieces + 1] = -back
  return f.cat(pieces, dim)
end

--- The slopes of samples x along each of the dimensions, by central differences of second order (torch.gradient).
---@param x aijit.Tensor
---@param o {spacing: number|(number|aijit.Tensor)[]?, dim: integer|integer[]?, edge_order: integer?}?  spacing: the distance of
--- samples, or for each dimension it or the coordinates; dim: all by default; edge_order: 1 or 2, of the formulas at the ends
---@return aijit.Tensor[]  one for each dimension
function list.gradient(x, o)
  o = o or {}
  local dims, spacing, order = o.dim, o.spacing or 1, o.edge_order or 1
  if dims == nil then
    dims = {}
    for d = 1, Tensor.dim(x) do dims[d] = d end
  elseif type(dims) ~= "table" then dims = {dims} end
  if order ~= 1 and order ~= 2 then lib.raise(("gradient: edge_order is %s, and must be 1 or 2"):format(tostring(order))) end
  if not Tensor.is_floating_point(x) then x = Tensor.float(x) end
  local several = type(spacing) == "table" and not lib.is_tensor(spacing)
  if several and #spacing ~= #dims then
    lib.raise(("gradient: %d spacings for %d dimensions"):format(#spacing, #dims))
  end
  local slopes, seen = {}, {}
  for i, d in ipairs(dims) do
    local at = d < 0 and d + Tensor.dim(x) + 1 or d
    if at < 1 or at > Tensor.dim(x) then lib.raise(("gradient: dimension %s of %d"):format(tostring(d), Tensor.dim(x))) end
    if seen[at] then lib.raise(("gradient: dimension %d is named twice"):format(at)) end
    seen[at] = true
    if Tensor.size(x, at) < order + 1 then
      lib.raise(("gradient: dimension %d has size %d, and edge_order %d wants at least %d"):format(at, Tensor.size(x, at), order, order + 1))
    end
    local step = several and spacing[i] or spacing
    slopes[i] = slope(x, at, step, order)
  end
  return slopes
end

--- The distances between all pairs of rows, first with second, first with third, and so on: the upper triangle of cdist(x, x).
---@param x aijit.Tensor  (how many, size)
---@param p number?  2 by default
---@return aijit.Tensor
function list.pdist(x, p)
  if Tensor.dim(x) ~= 2 then lib.raise(("pdist: of the rows of a matrix, not of %d dimensions"):format(Tensor.dim(x))) end
  local rows = Tensor.size(x, 1)
  if not op.is_symbol(x) and x.device == "meta" then return construct.empty(rows * (rows - 1) / 2, {dtype = x.dtype, device = "meta"}) end
  local at = list.triu_indices(rows, rows, 1)
  return f.norm(f.sub(f.index_select(x, 1, f.select(at, 1, 1)), f.index_select(x, 1, f.select(at, 1, 2))), p or 2, 2)
end

for name, fn in pairs(list) do
  Tensor[name] = op.whole_list(name, fn)
  op.faces[name] = true
end

return list
