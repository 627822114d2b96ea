--- `t[...]` and `t[...] = v`: numbers pick a slice and drop the dimension; {} is all of a dimension, {first, last} and
-- {first, last, step} a range with both ends; a table of these goes dimension by dimension; a bool tensor picks the
-- elements where it is true; an integer tensor picks slices by position.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local C = lib.C
local f = op.functions

local function is_mask(k) return tonumber(C.aj_dtype_of(k)) == C.AJ_BOOL end

local function range(x, dim, r)
  local n = #r
  if n == 0 then return x end
  if n > 3 then lib.raise(("index: a range is {first, last} or {first, last, step}, and this one has %d entries"):format(n)) end
  local first, last, step = r[1], r[2] or r[1], r[3] or 1
  for i = 1, n do
    if type(r[i]) ~= "number" then lib.raise("index: a range is of numbers, and this one holds " .. lib.describe(r[i])) end
  end
  local size = Tensor.size(x, dim)
  local a, b = first < 0 and first + size + 1 or first, last < 0 and last + size + 1 or last
  if a < 1 or b > size or (a > b + 1) then
    lib.raise(("index: range {%d, %d} is not within 1 to %d, the size of dimension %d"):format(first, last, size, dim))
  end
  if a > b then return f.slice(x, dim, size + 1, size) end
  return f.slice(x, dim, a, b, step)
end

--- The view that a key of plain numbers and ranges means; nil and the place of the first tensor in it otherwise.
local function view(x, key)
  local dim, total = 1, lib.ok(C.aj_ndim(x))
  if #key > total then
    lib.raise(("index: %d indices for a tensor of %d dimensions"):format(#key, total))
  end
  for i = 1, #key do
    local k = key[i]
    if type(k) == "number" then x = f.select(x, dim, k)
    elseif type(k) == "table" then
      x = range(x, dim, k)
      dim = dim + 1
    elseif lib.is_tensor(k) then
      if is_mask(k) then lib.raise "index: a mask stands alone, x[mask], or picks along one dimension by x:index_select(dim, mask:nonzero()...)" end
      x = f.index_select(x, dim, k)
      dim = dim + 1
    else
      lib.raise(("index: entry %d is %s; an index is a number, a range {first, last}, {} or a tensor"):format(i, lib.describe(k)))
    end
  end
  return x
end

local function has_tensor(key)
  for i = 1, #key do if type(key[i]) == "cdata" then return true end end
  return false
end

--- What `x[k]` gives: a view for numbers and ranges, a copy for masks and positions.
---@param x aijit.Tensor
---@param k integer|table|aijit.Tensor
---@return aijit.Tensor
function Tensor.index_get(x, k)
  local kind = type(k)
  if kind == "number" then return f.select(x, 1, k) end
  if kind == "table" then
    if op.symbol_in(k) then return op.record("index_get", x, k) end
    return view(x, k)
  end
  if op.is_symbol(k) then return op.record("index_get", x, k) end
  if lib.is_tensor(k) then
    if is_mask(k) then return f.masked_select(x, k) end
    return f.index_select(x, 1, k)
  end
  lib.raise("index: " .. lib.describe(k) .. " is not an index; use a number, a table of numbers and ranges, or a tensor")
end

local function assign(to, v)
  if type(v) == "number" then f.fill_(to, v)
  elseif type(v) == "boolean" then f.fill_(to, v and 1 or 0)
  elseif lib.is_tensor(v) then
    while v:dim() > to:dim() and v:size(1) == 1 do v = f.squeeze(v, 1) end
    f.copy_(to, v)
  elseif type(v) == "table" then f.copy_(to, require("aijit.bindings.construct").tensor(v, {device = to.device}))
  else lib.raise("index: " .. lib.describe(v) .. " cannot be stored in a tensor; use a number, a table of numbers or a tensor") end
end

--- What `x[k] = v` does: writes a number, a table or a tensor (broadcast) into the elements that k means.
---@param x aijit.Tensor
---@param k integer|table|aijit.Tensor
---@param v number|boolean|table|aijit.Tensor
function Tensor.index_set(x, k, v)
  local kind = type(k)
  if op.is_symbol(k) or kind == "table" and op.symbol_in(k) then return op.record("index_put_", x, k, v) end
  if kind == "number" then return assign(f.select(x, 1, k), v) end
  if kind == "table" and not has_tensor(k) then return assign(view(x, k), v) end
  if kind == "table" then
    -- The part before the one index tensor is a view; the tensor then picks along a dimension of it.
    local before, picked = {}, nil
    for i = 1, #k do
      if type(k[i]) == "cdata" then
        if picked then lib.raise "index: only one tensor may stand in an assignment; use :index_put_" end
        picked, before[i] = i, {}
      else before[i] = k[i] end
    end
    local dim = 1
    for i = 1, picked - 1 do if type(k[i]) == "table" then dim = dim + 1 end end
    local window = view(x, before)
    if dim ~= 1 then window = f.transpose(window, 1, dim) end
    if lib.is_tensor(v) and dim ~= 1 and v:dim() == window:dim() then v = f.transpose(v, 1, dim) end
    return Tensor.index_set(window, k[picked], v)
  end
  if lib.is_tensor(k) then
    if is_mask(k) then
      if type(v) == "number" then f.masked_fill_(x, k, v)
      elseif type(v) == "boolean" then f.masked_fill_(x, k, v and 1 or 0)
      elseif lib.is_tensor(v) then
        if v:dim() <= 1 and v:numel() ~= 1 then f.masked_scatter_(x, k, v) else f.copy_(x, f.where(k, v, x)) end
      else lib.raise("index: " .. lib.describe(v) .. " cannot be stored in a tensor") end
      return
    end
    if type(v) ~= "cdata" then
      v = require("aijit.bindings.construct").tensor(v, {dtype = x.dtype, device = x.device})
    end
    f.index_put_(x, k, v)
    return
  end
  lib.raise("index: " .. lib.describe(k) .. " is not an index; use a number, a table of numbers and ranges, or a tensor")
end

return Tensor
