--- vmap's rules for ops that read or write at positions, written in gather and scatter, whose positions may differ between
--- the examples.

local ai = require "aijit"
local Tensor = require "aijit.bindings.tensor"

---@param rules table<string, function>
---@param t aijit.fn.RuleTools
return function(rules, t)
  local new, spread, is_batched, dims_in = t.new, t.spread, t.is_batched, t.dims_in

  function rules.gather(level, name, x, dim, index) return Tensor[name](spread(x, level), dims_in(dim), spread(index, level)) end

  function rules.take_along_dim(level, _, x, index, dim)
    local xs, is = spread(x, level), spread(index, level)
    if dim == nil then return ai.f.gather(xs:reshape(xs:size(1), -1), 2, is:reshape(is:size(1), -1)) end
    return ai.f.take_along_dim(xs, is, dims_in(dim))
  end

  local function scattered(level, name, x, dim, index, src, ...)
    return Tensor[name](spread(x, level), dims_in(dim), spread(index, level), type(src) == "number" and src or spread(src, level), ...)
  end
  for _, name in ipairs {"scatter", "scatter_add", "scatter_reduce", "scatter_fold"} do rules[name] = scattered end

  --- Parts replaced: by what has the part's sizes.
  function rules.select_scatter(level, name, x, src, dim, index)
    return Tensor[name](spread(x, level), spread(src, level), dims_in(dim), index)
  end
  function rules.slice_scatter(level, name, x, src, dim, ...)
    return Tensor[name](spread(x, level), spread(src, level), dims_in(dim or 1), ...)
  end
  function rules.diagonal_scatter(level, name, x, src, offset, dim1, dim2)
    return Tensor[name](spread(x, level), spread(src, level), offset or 0, dims_in(dim1 or 1), dims_in(dim2 or 2))
  end

  function rules.index_select(level, _, x, dim, index)
    if not is_batched(index, level) then return ai.f.index_select(x.value, dims_in(dim), index) end
    local xs = spread(x, level)
    local at = dim < 0 and xs:dim() + 1 + dim or dim + 1
    local sizes, view = xs:size(), {}
    for d = 1, #sizes do view[d] = 1 end
    local many = index:numel()
    view[1], view[at] = sizes[1], many
    sizes[at] = many
    return ai.f.gather(xs, at, index.value:reshape(view):expand(sizes):contiguous())
  end

  -- -- Written in these: functions of an example's tensors, any of which may be batched -------------------------------------

  local written = {}

  local function positive(dim, rank) return dim < 0 and rank + 1 + dim or dim end

  --- A row of positions along a dimension of something of these sizes, for scatter.
  local function positions(index, dim, sizes)
    local view, full = {}, {unpack(sizes)}
    for d = 1, #sizes do view[d] = 1 end
    view[dim] = index:numel()
    full[dim] = index:numel()
    return index:reshape(view):expand(full):contiguous()
  end

  local function put_slices(op)
    return function(x, dim, index, source, factor)
      dim = positive(dim, math.max(x:dim(), 1))
      if x:dim() == 0 then x = x:reshape(1) end
      local sizes = x:size()
      local at = positions(index, dim, sizes)
      if type(source) == "number" then return x:scatter(dim, at, source) end
      sizes[dim] = index:numel()
      source = source:reshape(sizes)
      return ai.f[op](x, dim, at, factor and factor ~= 1 and source * factor or source)
    end
  end
  written.index_copy, written.index_add, written.index_fill = put_slices "scatter", put_slices "scatter_add", put_slices "scatter"

  function written.index_reduce(x, dim, index, source, reduce, include_self)
    dim = positive(dim, math.max(x:dim(), 1))
    local shape = x:size()
    if x:dim() == 0 then x = x:reshape(1) end
    local sizes = x:size()
    local at = positions(index, dim, sizes)
    sizes[dim] = index:numel()
    return ai.f.scatter_reduce(x, dim, at, source:reshape(sizes), reduce, include_self):reshape(shape)
  end

  function written.index_put(x, index, values, accumulate)
    local wide, rows = index:size(), x:size()
    for d = 2, x:dim() do wide[#wide + 1] = x:size(d) end
    rows[1] = index:numel()
    values = values:expand(wide):reshape(rows)
    return (accumulate and written.index_add or written.index_copy)(x, 1, index:reshape(-1), values)
  end

  function written.take(x, index) return x:reshape(-1):gather(1, index:reshape(-1)):reshape(index:size()) end

  function written.put(x, index, source, accumulate)
    local row = ai.f[accumulate and "scatter_add" or "scatter"](x:reshape(-1), 1, index:reshape(-1), source:reshape(-1))
    return row:reshape(x:size())
  end

  function written.masked_scatter(x, mask, source)
    mask = mask:expand(x:size())
    local nth = mask:reshape(-1):long():cumsum(1):clamp(1, nil)
    return ai.f.where(mask, source:reshape(-1):gather(1, nth):reshape(x:size()), x)
  end

  --- Several indices, one for each dimension from `dim` on, as one of the dimensions taken together; and its sizes.
  local function flat_index(x, dim, indices)
    local flat
    for i, index in ipairs(indices) do
      local size = x:size(dim + i - 1)
      index = index + index:lt(0):long() * (size + 1)
      flat = flat and (flat - 1) * size + index or index
    end
    return flat, x:flatten(dim, dim + #indices - 1)
  end

  local function result_sizes(x, dim, n, index)
    local sizes = {}
    for d = 1, dim - 1 do sizes[#sizes + 1] = x:size(d) end
    for _, s in ipairs(index:size()) do sizes[#sizes + 1] = s end
    for d = dim + n, x:dim() do sizes[#sizes + 1] = x:size(d) end
    return sizes
  end

  function written.index_by(tensors, dim)
    local x, indices = tensors[1], {unpack(tensors, 2)}
    dim = positive(dim or 1, x:dim())
    local index, joined = flat_index(x, dim, indices)
    return ai.f.index_select(joined, dim, index:reshape(-1)):reshape(result_sizes(x, dim, #indices, index))
  end

  function written.index_put_by(tensors, dim, accumulate)
    local x, values, indices = tensors[1], tensors[2], {unpack(tensors, 3)}
    dim = positive(dim or 1, x:dim())
    local index, joined = flat_index(x, dim, indices)
    values = values:expand(result_sizes(x, dim, #indices, index))
    local sizes = joined:size()
    sizes[dim] = index:numel()
    local put = accumulate and written.index_add or written.index_copy
    return put(joined, dim, index:reshape(-1), values:reshape(sizes)):reshape(x:size())
  end

  for name, f in pairs(written) do
    rules[name] = function(level, _, ...) return spread(f(...), level) end
  end

  -- -- In order ------------------------------------------------------------------------------------------------------------------

  --- The sequence along the last dimension; a row of it for all values, or one for each of their rows.
  function rules.searchsorted(level, _, sequence, values, out_int32, right, side, sorter)
    local s, v, order = spread(sequence, level), type(values) == "number" and values or spread(values, level), sorter and spread(sorter, level)
    local sizes
    if type(v) ~= "number" and sequence:dim() == 1 then
      sizes = v:size()
      v = v:reshape(sizes[1], -1)
    end
    local y = ai.f.searchsorted(s, v, {out_int32 = out_int32, right = right, side = side, sorter = order})
    return sizes and y:reshape(sizes) or y
  end
  function rules.bucketize(level, _, x, boundaries, out_int32, right)
    if not is_batched(boundaries, level) then return ai.f.bucketize(x.value, boundaries, {out_int32 = out_int32, right = right}) end
    return rules.searchsorted(level, nil, boundaries, x, out_int32, right)
  end

  function rules.order_rows(level, _, x) return ai.f.order_rows(spread(x, level)) end

  function rules.histc(level, _, x, bins, min, max)
    bins, min, max = bins or 100, min or 0, max or 0
    local row = x:is_floating_point() and x:reshape(-1) or x:reshape(-1):float()
    local width
    if min == max then
      local low, high = row:amin(), row:amax()
      local none = low:eq(high):to(row.dtype)
      min, max = low - none, high + none
      width = max - min
    else width = max - min end
    local inside = row:ge(min):logical_and(row:le(max))
    local at = ((row - min) / width * bins):floor():clamp(0, bins - 1):long() + 1
    local y = ai.zeros(bins, {dtype = row.dtype, device = x.device})
    return y and spread(new(spread(y, level), level):scatter_add(1, at, inside:to(row.dtype)), level)
  end
end
