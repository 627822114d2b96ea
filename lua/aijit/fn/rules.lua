--- More of vmap's rules: ops written in others, ops along dimensions, ops whose leading dimensions are a batch anyway, and
--- those that take their positions from an index.

local ai = require "aijit"
local Tensor = require "aijit.bindings.tensor"

---@class aijit.fn.RuleTools
---@field value_of fun(v: any, level: integer): any             what is under a batched tensor
---@field spread fun(v: any, level: integer): any               a tensor with the batch first, repeated if it has none
---@field dims_in fun(d: any): any                              dimensions of an example, in the batch
---@field refuse fun(name: string, why: string?)
---@field along fun(...: integer): function                     a rule for an op along the dimensions at these places
---@field reduce fun(place: integer): function
---@field merged fun(x: any, rank: integer): any, integer[]
---@field unmerged fun(y: any, lead: integer[]): any
---@field reduced fun(e: any, reduction: string?): any
---@field is_batched fun(v: any, level: integer?): boolean

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
  for name, f in pairs(written) do
    rules[name] = function(level, _, ...) return value_of(f(...), level) end
  end

  -- A loss is the reduction of its row of errors, whose own arguments come after `reduction`.
  for loss, row in pairs {smooth_l1_loss = "smooth_l1_error", huber_loss = "huber_error", pseudo_huber_loss = "pseudo_huber_error",
                          log_cosh_loss = "log_cosh_error"} do
    rules[loss] = function(_, _, x, target, reduction, ...) return t.reduced(ai.f[row](x, target, ...), reduction) end
  end
  function rules.bce_loss(_, _, x, target, weight, reduction)
    local e = ai.f.bce_error(x, target)
    return t.reduced(weight and e * weight or e, reduction)
  end
  function rules.bce_with_logits(_, name, x, target, weight, pos_weight, reduction)
    if pos_weight then refuse(name, "with pos_weight has no rule for a batch") end
    local e = ai.f.bce_logits_error(x, target)
    return t.reduced(weight and e * weight or e, reduction)
  end
  function rules.kl_div(level, _, x, target, reduction, log_target)
    local e = log_target and target:exp() * (target - x) or ai.f.kl_error(x, target)
    if reduction == "batchmean" then return value_of(e:sum() / x:size(1), level) end
    return t.reduced(e, reduction)
  end

  -- -- Along dimensions ----------------------------------------------------------------------------------------------

  for _, name in ipairs {"cummax", "cummin", "logcumsumexp", "cumsum_from_end"} do rules[name] = along(1) end
  for _, name in ipairs {"diff", "kthvalue", "fft", "ifft", "rfft", "irfft"} do rules[name] = along(2) end
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
  rules.quantile, rules.nanquantile = flat_or_along(2), flat_or_along(2)

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
                         "matrix_power", "matrix_rank", "pixel_shuffle", "pixel_unshuffle"} do
    rules[name] = matrices
  end
  local function solved(level, name, a, b, ...)
    local vector = b:dim() == 1
    if vector then b = b:unsqueeze(2) end
    local y = Tensor[name](spread(a, level), spread(b, level), ...)
    return vector and y:squeeze(-1) or y
  end
  rules.solve, rules.solve_triangular = solved, solved
  function rules.cdist(level, _, a, b, p) return ai.f.cdist(spread(a, level), spread(b, level), p) end
  function rules.one_hot(_, _, index, num_classes) return ai.f.one_hot(index.value, num_classes) end

  function rules.scaled_dot_product_attention(level, name, query, key, value, mask, dropout, ...)
    if dropout and dropout ~= 0 then refuse(name, "with dropout has no rule for a batch") end
    local q = spread(query, level)
    if mask then
      mask = value_of(mask, level)
      if t.is_batched(mask, level) then refuse(name) end
    end
    return Tensor[name](q, spread(key, level), spread(value, level), mask, 0, ...)
  end

  -- The example's own batch, its first dimension, is taken together with this one.
  local function of_batches(level, name, x, ...)
    for i = 1, select("#", ...) do if t.is_batched(select(i, ...), level) then refuse(name, "takes one weight for all examples") end end
    local flat, lead = t.merged(x, #x.shape - 1)
    return t.unmerged(Tensor[name](flat, ...), lead)
  end
  rules.group_norm, rules.interpolate = of_batches, of_batches

  -- -- By an index ---------------------------------------------------------------------------------------------------------

  function rules.gather(level, name, x, dim, index) return Tensor[name](spread(x, level), dims_in(dim), spread(index, level)) end
  function rules.take_along_dim(level, _, x, index, dim)
    local xs, is = spread(x, level), spread(index, level)
    if dim == nil then return ai.f.gather(xs:reshape(xs:size(1), -1), 2, is:reshape(is:size(1), -1)) end
    return ai.f.take_along_dim(xs, is, dims_in(dim))
  end
  local function scattered(level, name, x, dim, index, src)
    return Tensor[name](spread(x, level), dims_in(dim), spread(index, level), type(src) == "number" and src or spread(src, level))
  end
  rules.scatter, rules.scatter_add = scattered, scattered
  function rules.index_select(level, _, x, dim, index)
    if not t.is_batched(index, level) then return ai.f.index_select(x.value, dims_in(dim), index) end
    local xs = spread(x, level)
    local at = dim < 0 and xs:dim() + 1 + dim or dim + 1
    local sizes, view = xs:size(), {}
    for d = 1, #sizes do view[d] = 1 end
    view[1], view[at] = sizes[1], index.shape[1]
    sizes[at] = index.shape[1]
    return ai.f.gather(xs, at, index.value:reshape(view):expand(sizes):contiguous())
  end
end
