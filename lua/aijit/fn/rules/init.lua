--- More of vmap's rules: ops written in others, ops along dimensions, and ops whose leading dimensions are a batch anyway.

local ai = require "aijit"
local Tensor = require "aijit.bindings.tensor"
local op = require "aijit.bindings.op"

---@class aijit.fn.RuleTools
---@field value_of fun(v: any, level: integer): any             what is under a batched tensor
---@field spread fun(v: any, level: integer): any               a tensor with the batch first, repeated if it has none
---@field dims_in fun(d: any): any                              dimensions of an example, in the batch
---@field refuse fun(name: string, why: string?)
---@field along fun(...: integer): function                     a rule for an op along the dimensions at these places
---@field reduce fun(place: integer): function
---@field merged fun(x: any, rank: integer): any, integer[]
---@field unmerged fun(y: any, lead: integer[]): any
---@field is_batched fun(v: any, level: integer?): boolean
---@field new fun(value: any, level: integer): any              a batched tensor of what has the batch first
---@field lifted fun(v: any, level: integer, rank: integer): any  the batch first, then ones, then the example's dimensions
---@field elementwise function                                  the rule of ops that broadcast
---@field size fun(level: integer): integer                     how many examples there are
---@field randomness fun(level: integer): "error"|"different"|"same"

---@param rules table<string, function>
---@param t aijit.fn.RuleTools
return function(rules, t)
  local value_of, spread, dims_in, refuse, along, reduce = t.value_of, t.spread, t.dims_in, t.refuse, t.along, t.reduce

  -- -- In other ops ------------------------------------------------------------------------------------------------

  local written = {}
  function written.dot(a, b) return (a * b):sum() end
  function written.mm(a, b) return a:matmul(b) end
  written.mv, written.bmm = written.mm, written.mm
  function written.outer(a, b) return a:unsqueeze(2) * b:unsqueeze(1) end
  function written.inner(a, b)
    if a:dim() == 0 or b:dim() == 0 then return a * b end
    return b:dim() == 1 and a:matmul(b) or a:matmul(b:transpose(-2, -1))
  end
  function written.addmm(input, a, b, beta, alpha) return input * (beta or 1) + a:matmul(b) * (alpha or 1) end
  written.addmv, written.baddbmm = written.addmm, written.addmm
  function written.addcmul(input, a, b, value) return input + a * b * (value or 1) end
  function written.addcdiv(input, a, b, value) return input + a / b * (value or 1) end
  function written.lerp_by(a, b, weight) return a + weight * (b - a) end
  function written.addbmm(input, a, b, beta, alpha) return input * (beta or 1) + a:matmul(b):sum(1) * (alpha or 1) end
  function written.addr(input, a, b, beta, alpha) return input * (beta or 1) + ai.f.outer(a, b) * (alpha or 1) end
  function written.kron(a, b)
    local rank, left, right, sizes = math.max(a:dim(), b:dim()), {}, {}, {}
    for d = 1, rank do
      local m, n = d - rank + a:dim(), d - rank + b:dim()
      m, n = m > 0 and a:size(m) or 1, n > 0 and b:size(n) or 1
      left[2 * d - 1], left[2 * d], right[2 * d - 1], right[2 * d], sizes[d] = m, 1, 1, n, m * n
    end
    return (a:reshape(left) * b:reshape(right)):reshape(sizes)
  end
  function written.tensordot(a, b, dims_a, dims_b)
    -- The dimensions that are summed last in a and first in b, as one.
    local function sides(x, dims)
      local summed, rest, sizes, n = {}, {}, {}, 1
      for i, d in ipairs(dims) do
        if d < 0 then d = x:dim() + 1 + d end
        summed[i], summed[-d], n = d, true, n * x:size(d)
      end
      for d = 1, x:dim() do if not summed[-d] then rest[#rest + 1], sizes[#sizes + 1] = d, x:size(d) end end
      return summed, rest, sizes, n
    end
    local summed_a, rest_a, sizes, n = sides(a, dims_a)
    local summed_b, rest_b, sizes_b = sides(b, dims_b)
    for _, s in ipairs(sizes_b) do sizes[#sizes + 1] = s end
    for _, d in ipairs(summed_a) do rest_a[#rest_a + 1] = d end
    local order = {unpack(summed_b)}
    for _, d in ipairs(rest_b) do order[#order + 1] = d end
    return a:permute(rest_a):reshape(-1, n):matmul(b:permute(order):reshape(n, -1)):reshape(sizes)
  end
  --- Of rows of observations, each with a weight: how often it was seen, and how much it counts.
  function written.cov(x, correction, fweights, aweights)
    local rows = x:dim() < 2 and x:reshape(1, -1) or x
    local n = rows:size(2)
    local w = fweights and aweights and fweights * aweights or fweights or aweights
    local total = w and w:sum() or n
    local centred = rows - (w and (rows * w):sum(2, true) / total or rows:mean(2, true))
    local left = total - (correction or 1)
    if aweights then left = total - (w * aweights):sum() / total * (correction or 1) end
    local y = (w and centred * w or centred):matmul(centred:t()) / left
    return x:dim() < 2 and y:reshape({}) or y
  end
  function written.corrcoef(x)
    local c = written.cov(x)
    if x:dim() < 2 then return c / c end
    local d = c:diagonal():sqrt()
    return (c / d:unsqueeze(2) / d:unsqueeze(1)):clamp(-1, 1)
  end
  local function slopes(y, x, dx, dim)
    dim = dim or -1
    local n = y:size(dim)
    local pairs_of = y:narrow(dim, 1, n - 1) + y:narrow(dim, 2, n - 1)
    if not x then return pairs_of * ((dx or 1) / 2) end
    local step = ai.f.diff(x, 1, x:dim() == 1 and 1 or dim)
    if x:dim() == 1 and y:dim() > 1 then
      local view = {}
      for d = 1, y:dim() do view[d] = 1 end
      view[dim < 0 and y:dim() + 1 + dim or dim] = n - 1
      step = step:reshape(view)
    end
    return pairs_of * step / 2
  end
  function written.trapezoid(y, x, dx, dim) return slopes(y, x, dx, dim):sum(dim or -1) end
  function written.cumulative_trapezoid(y, x, dx, dim) return slopes(y, x, dx, dim):cumsum(dim or -1) end
  function written.block_diag(list)
    local width, rows, before = 0, {}, 0
    for i, a in ipairs(list) do
      if a:dim() < 2 then a = a:reshape(1, -1) end
      rows[i] = a
      width = width + a:size(2)
    end
    for i, a in ipairs(rows) do
      local n = a:size(2)
      rows[i] = a:pad{before, width - before - n}
      before = before + n
    end
    return ai.cat(rows, 1)
  end
  function written.diag(x, diagonal)
    if x:dim() == 1 then return ai.f.diag_embed(x, diagonal or 0) end
    return x:diagonal(diagonal or 0)
  end
  function written.trace(x) return x:diagonal():sum() end
  function written.equal(a, b) return a:eq(b):all() end
  function written.allclose(a, b, ...) return ai.f.isclose(a, b, ...):all() end
  function written.normalize(x, p, dim, eps)
    local n = ai.f.norm(x, p or 2, dim or 2, true)
    return x / n:clamp(eps or 1e-12, nil)
  end
  function written.cosine_similarity(a, b, dim, eps)
    dim, eps = dim or 2, eps or 1e-8
    local function length(v) return ai.f.norm(v, 2, dim):clamp(eps, nil) end
    return (a * b):sum(dim) / (length(a) * length(b))
  end
  function written.pairwise_distance(a, b, p, eps, keepdim) return ai.f.norm(a - b + (eps or 1e-6), p or 2, -1, keepdim) end
  function written.prelu(x, weight)
    if weight:numel() > 1 then
      local view = {weight:numel()}
      for d = 3, x:dim() do view[d - 1] = 1 end
      weight = weight:reshape(view)
    end
    return ai.f.where(x:gt(0), x, x * weight)
  end
  function written.dist(a, b, p) return ai.f.norm(a - b, p or 2) end
  function written.vecdot(a, b, dim) return (a * b):sum(dim or -1) end
  function written.bilinear(x1, x2, weight, bias)
    local y = ai.f.einsum("...i,oij,...j->...o", x1, weight, x2)
    return bias and y + bias or y
  end
  function written.diagflat(x, offset) return x:reshape(-1):diag_embed(offset or 0) end
  function written.renorm(x, p, dim, most)
    dim = dim < 0 and x:dim() + 1 + dim or dim
    local others = {}
    for d = 1, x:dim() do if d ~= dim then others[#others + 1] = d end end
    local size = ai.f.norm(x, p, others, true)
    return x * ai.f.where(size:gt(most), most / (size + 1e-7), 1)
  end
  function written.isin(x, values, _, invert)
    local found = x:unsqueeze(-1):eq(values:reshape(-1)):any(-1)
    return invert and found:logical_not() or found
  end
  for name, f in pairs(written) do
    rules[name] = function(level, _, ...) return spread(f(...), level) end
  end

  -- -- Along dimensions ----------------------------------------------------------------------------------------------

  for _, name in ipairs {"cummax", "cummin", "logcumsumexp", "cumsum_from_end"} do rules[name] = along(1) end
  for _, name in ipairs {"frexp", "mvlgamma", "nextafter"} do rules[name] = t.elementwise end
  rules.glu = along(1)
  function rules.msort(_, _, x)
    if #x.shape == 0 then return x.value end
    return (x.value:sort(2))
  end
  function rules.sum_to_size(level, name, x, ...)
    local size = type((...)) == "table" and (...) or {...}
    local kept, wanted = {t.size(level)}, {t.size(level), unpack(size)}
    for _ = #size + 1, #x.shape do kept[#kept + 1] = 1 end
    for _, s in ipairs(size) do kept[#kept + 1] = s end
    return Tensor[name](x.value, kept):reshape(wanted)
  end
  for _, name in ipairs {"kthvalue", "fft", "ifft", "rfft", "irfft"} do rules[name] = along(2) end
  for _, name in ipairs {"fft_pairs", "rfft_half", "irfft_half"} do rules[name] = along(1) end
  function rules.diff(level, _, x, n, dim, prepend, append)
    dim = dim or -1
    if prepend or append then
      local parts = {}
      if prepend then parts[1] = prepend end
      parts[#parts + 1] = x
      if append then parts[#parts + 1] = append end
      x = ai.cat(parts, dim)
    end
    return ai.f.diff(value_of(x, level), n or 1, dims_in(dim))
  end
  --- Over the dimensions that are said, else over the last ones that sizes are given for, else over all.
  for name, pairs_last in pairs {fftn = 1, ifftn = 1, rfftn = 0, irfftn = 1} do
    rules[name] = function(_, _, x, s, dim, norm)
      local list = dim
      if list == nil then
        local n = #x.shape - pairs_last
        list = {}
        for d = n - (type(s) == "table" and #s or n) + 1, n do list[#list + 1] = d end
      end
      return Tensor[name](x.value, s, dims_in(list), norm)
    end
  end
  function rules.cross(level, name, a, b, dim)
    local rank = math.max(a:dim(), b:dim())
    if dim == nil then
      for d = rank, 1, -1 do
        local i, k = a:dim() - rank + d, b:dim() - rank + d
        if math.max(i > 0 and a:size(i) or 1, k > 0 and b:size(k) or 1) == 3 then dim = d end
      end
    end
    if dim and dim > 0 then dim = dim - rank - 1 end
    return t.elementwise(level, name, a, b, dim)
  end
  function rules.diag_embed(_, _, x, offset, dim1, dim2) return x.value:diag_embed(offset or 0, dims_in(dim1 or -2), dims_in(dim2 or -1)) end
  function rules.constant_pad(_, _, x, before, after, ...)
    local function with_batch(list)
      list = type(list) == "table" and {unpack(list)} or {list}
      table.insert(list, 1, 0)
      return list
    end
    return Tensor.constant_pad(x.value, with_batch(before), with_batch(after), ...)
  end
  function rules.repeat_each(level, name, x, repeats, dim)
    if t.is_batched(repeats, level) then refuse(name, "repeats by numbers that differ between the examples, and so do the sizes") end
    if dim == nil then return Tensor[name](x.value:reshape(x.value:size(1), -1), repeats, 2) end
    return Tensor[name](x.value, repeats, dims_in(dim))
  end
  function rules.matrix_norm(_, name, A, ord, dim, keepdim) return Tensor[name](A.value, ord, dims_in(dim or {-2, -1}), keepdim) end
  for _, name in ipairs {"nansum", "nanmean", "count_nonzero", "aminmax", "var_mean", "std_mean"} do rules[name] = reduce(1) end
  rules.mode, rules.movedim = along(1), along(1, 2)

  -- Without a dimension these take the example as one row: `place` is the dimension's among the arguments after x.
  local function flat_or_along(place, restores)
    local rule = along(place)
    return function(level, name, x, ...)
      local args, n = {...}, select("#", ...)
      if args[place] ~= nil then return rule(level, name, x, ...) end
      if not t.is_batched(x, level) then refuse(name) end
      args[place] = 2
      local y = Tensor[name](x.value:reshape(x.value:size(1), -1), unpack(args, 1, math.max(n, place)))
      return restores and y:reshape(x.value:size()) or y
    end
  end
  rules.roll, rules.repeat_interleave = flat_or_along(2, true), flat_or_along(2)
  rules.median, rules.nanmedian = flat_or_along(1), flat_or_along(1)
  --- Several quantiles come first among the dimensions of the result.
  local function quantiles(level, name, x, q, ...)
    local y = flat_or_along(2)(level, name, x, q, ...)
    return type(q) ~= "number" and q:dim() == 1 and y:movedim(2, 1) or y
  end
  rules.quantile, rules.nanquantile = quantiles, quantiles

  function rules.diagonal(_, _, x, offset, dim1, dim2) return x.value:diagonal(offset or 0, dims_in(dim1 or 1), dims_in(dim2 or 2)) end
  function rules.flipud(_, _, x) return x.value:flip(2) end
  function rules.fliplr(_, _, x) return x.value:flip(3) end
  function rules.rot90(_, _, x, k, dims) return ai.f.rot90(x.value, k or 1, dims_in(dims or {1, 2})) end
  function rules.tile(_, _, x, reps, ...)
    if type(reps) ~= "table" then reps = {reps, ...} end
    local value = x.value
    local list = {unpack(reps)}
    while #list < #x.shape do table.insert(list, 1, 1) end
    for _ = #x.shape + 1, #list do value = value:unsqueeze(2) end
    return value:tile{1, unpack(list)}
  end

  -- -- Leading dimensions that are a batch anyway -----------------------------------------------------------------------

  local function matrices(level, name, x, ...)
    if #x.shape < 2 then refuse(name, "takes a matrix, and an example has fewer dimensions") end
    return Tensor[name](value_of(x, level), ...)
  end
  for _, name in ipairs {"inverse", "det", "slogdet", "logdet", "cholesky", "qr", "svd", "svdvals", "eigh", "eigvalsh", "pinv", "matrix_exp",
                         "matrix_power", "matrix_rank", "cond", "cofactor", "cholesky_inverse", "lu", "lu_factor", "pixel_shuffle", "pixel_unshuffle"} do
    rules[name] = matrices
  end
  --- Two stacks of matrices, with as many leading dimensions.
  local function aligned(level, a, b)
    local rank = math.max(a:dim(), b:dim())
    local function stack(x)
      local value = spread(x, level)
      for _ = x:dim() + 1, rank do value = value:unsqueeze(2) end
      return value
    end
    return stack(a), stack(b)
  end
  function rules.lu_unpack(level, name, LU, pivots) return Tensor[name](spread(LU, level), spread(pivots, level)) end
  function rules.pivots_order(_, name, pivots, n) return Tensor[name](pivots.value, n) end
  function rules.lu_solve(level, name, LU, pivots, B, left, adjoint)
    local factors, right = aligned(level, LU, B)
    local rows = spread(pivots, level)
    for _ = pivots:dim() + 2, factors:dim() - 1 do rows = rows:unsqueeze(2) end
    return Tensor[name](factors, rows, right, left, adjoint)
  end
  --- A matrix, and one or a vector, which stands first or second.
  local function solved(level, name, a, b, ...)
    local vector = b:dim() == 1
    local as, bs = aligned(level, a, vector and b:unsqueeze(2) or b)
    local results = {Tensor[name](as, bs, ...)}
    if vector then results[1] = results[1]:squeeze(-1) end
    return unpack(results, 1, #op.named[name].returns)
  end
  for _, name in ipairs {"solve", "solve_triangular", "cholesky_solve", "triangular_solve", "lstsq"} do rules[name] = solved end
  function rules.cdist(level, _, a, b, p)
    local as, bs = aligned(level, a, b)
    return ai.f.cdist(as, bs, p)
  end
  function rules.one_hot(_, _, index, num_classes) return ai.f.one_hot(index.value, num_classes) end

  function rules.scaled_dot_product_attention(level, name, query, key, value, mask, dropout, ...)
    if dropout and dropout ~= 0 then refuse(name, "with dropout has no rule for a batch") end
    local q = spread(query, level)
    if mask then mask = t.lifted(mask, level, query:dim()) end
    return Tensor[name](q, spread(key, level), spread(value, level), mask, 0, ...)
  end
end
