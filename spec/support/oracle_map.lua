--- PyTorch's ops by our names and conventions. An op that is not here has the same name, and its arguments the same order.
--
-- An entry is our op's name, or a table {name, ...} with
--   index = names of arguments whose elements are positions, results = for each result "index" where its elements are,
--   or "any" where PyTorch promises nothing, rename = {PyTorch's keyword = ours}, drop = {keyword = the value it may have},
--   cast = true: there is an option dtype, dense = true: only with inputs that lie in order,
--   numbers = true: a tensor of one element becomes a number where we want one;
-- or a function of PyTorch's arguments and keywords. What a row declares as dimensions, indices and positions along a
-- dimension is counted from 1 by itself.

local ai = require "aijit"
local f = ai.f

local map = {rename = {exponent = "b", batch1 = "a", batch2 = "b"}}

-- From 0 to 1; negative from the end in both.
local function from_one(v)
  if v == nil then return nil end
  if ai.is_tensor(v) then return v + v:ge(0):to(v.dtype) end
  if type(v) == "table" then
    local list = {}
    for i, d in ipairs(v) do list[i] = from_one(d) end
    return list
  end
  return v >= 0 and v + 1 or v
end
map.from_one = from_one

local function plain(list)
  local t = {}
  for i, v in ipairs(list) do t[i] = v end
  return t
end

local function dims(v)
  v = from_one(v)
  return type(v) == "table" and plain(v) or v
end

-- The sizes of f(x, 2, 3) or f(x, {2, 3}).
local function sizes(args, first)
  if type(args[first]) == "table" then return plain(args[first]) end
  return {unpack(args, first, args.n)}
end

local function with_sizes(op) return function(args, kw) return op(args[1], kw.size or kw.shape or sizes(args, 2)) end end
local function cast(dtype) return function(args) return args[1]:to(dtype) end end
local function with_alpha(op)
  return function(args, kw)
    if kw.alpha == true or kw.alpha == false then kw.alpha = kw.alpha and 1 or 0 end
    return op(args[1], args[2], kw.alpha and {alpha = kw.alpha} or nil)
  end
end
local function spread(op)
  return function(args, kw)
    local dim, unbiased, keepdim = args[2], args[3], args[4]
    if type(dim) == "boolean" then dim, unbiased = nil, dim end
    if kw.dim ~= nil then dim = kw.dim end
    if kw.unbiased ~= nil then unbiased = kw.unbiased end
    local correction = kw.correction
    if correction == nil then correction = unbiased == false and 0 or 1 end
    dim = from_one(dim)
    if type(dim) == "table" then dim = plain(dim) end
    return op(args[1], dim, correction, kw.keepdim or keepdim or false)
  end
end
local function extreme(name)
  return function(args, kw)
    local dim = args[2] or kw.dim
    if ai.is_tensor(dim or kw.other) then return f[name](args[1], dim or kw.other) end
    local values, indices = f[name](args[1], from_one(dim), args[3] or kw.keepdim)
    return values, indices and indices - 1
  end
end
-- None in an output_size is the size that the input has.
local function whole_size(x, size)
  if type(size) ~= "table" then return size end
  local list = {}
  for i = 1, size.n do list[i] = size[i] or x:size(i - size.n - 1) end
  return list
end
local function adaptive_avg_pool(op) return function(args) return op(args[1], whole_size(args[1], args[2])) end end
local function adaptive_max_pool(op)
  return function(args, kw)
    local y, at = op(args[1], whole_size(args[1], args[2]), args[3] or kw.return_indices)
    return y, at and at - 1
  end
end
local function window(v) return type(v) == "table" and plain(v) or v end
local function max_pool(op)
  return function(args, kw)
    local o = {}
    for _, key in ipairs {"stride", "padding", "dilation", "ceil_mode", "return_indices"} do o[key] = window(kw[key]) end
    local y, at = op(args[1], window(args[2] or kw.kernel_size), o)
    return y, at and at - 1
  end
end
local function max_unpool(op)
  return function(args, kw)
    local size = kw.output_size
    return op(args[1], args[2] + 1, window(kw.kernel_size), window(kw.stride), window(kw.padding), size and plain(size))
  end
end
local function interpolate(args, kw)
  local x, size, scale, mode, corners = args[1], args[2] or kw.size, args[3] or kw.scale_factor, args[4] or kw.mode, args[5]
  if corners == nil then corners = kw.align_corners end
  if type(size) == "table" then size = plain(size) end
  return f.interpolate(x, size, scale or 0, mode or "nearest", corners or false, kw.recompute_scale_factor or false)
end
local function pad(args, kw)
  return f.pad(args[1], plain(args[2] or kw.pad), args[3] or kw.mode or "constant", args[4] or kw.value or 0)
end

-- Functions of several tensors, given one by one or in a list.
local function tensors(op)
  return function(args, kw)
    local list = type(args[1]) == "table" and plain(args[1]) or {unpack(args, 1, args.n)}
    return op(list, next(kw) and kw or nil)
  end
end
-- One value for what unique gives, but for what was asked.
local function distinct(op)
  return function(args, kw)
    local values, inverse, counts = op(args[1], {dim = from_one(kw.dim)})
    return values, kw.return_inverse and inverse - 1 or kw.return_counts and counts, kw.return_inverse and kw.return_counts and counts
  end
end
-- Complex numbers are pairs in a last dimension; the samples' inputs are real.
local function fourier(op, of_pairs, along)
  return function(args, kw)
    local x, n, dim = args[1], args[2] or kw.n or kw.s, args[3] or kw.dim or along
    if not x:is_floating_point() then x = x:float() end
    if of_pairs then x = ai.stack({x, ai.zeros_like(x)}, x:dim() + 1) end
    return f[op](x, type(n) == "table" and plain(n) or n, dims(dim), args[4] or kw.norm)
  end
end
local function polygamma(args, kw) return f.polygamma(args[1], args[2] or kw.n) end
local function round(args, kw) return f.round(args[1], kw.decimals) end
local function scatter_reduce(args, kw)
  return f.scatter_reduce(args[1], from_one(args[2]), args[3] + 1, args[4], args[5] or kw.reduce, kw.include_self)
end

local function split_named(name)
  return function(args)
    local where = args[2]
    if type(where) == "table" or (ai.is_tensor(where) and where:dim() > 0) then where = from_one(where) end
    return f[name](args[1], type(where) == "table" and plain(where) or where)
  end
end

map.ops = {
  -- Arithmetic
  add = with_alpha(f.add), sub = with_alpha(f.sub),
  ["div.no_rounding_mode"] = "div", ["div.floor_rounding"] = function(args) return f.div(args[1], args[2], {rounding_mode = "floor"}) end,
  clamp = function(args, kw) return f.clamp(args[1], args[2] or kw.min, args[3] or kw.max) end,
  clamp_min = function(args) return f.clamp(args[1], args[2], nil) end,
  clamp_max = function(args) return f.clamp(args[1], nil, args[2]) end,
  ["div.trunc_rounding"] = function(args) return f.div(args[1], args[2], {rounding_mode = "trunc"}) end,
  positive = function(args) return args[1] end,
  rsub = function(args, kw) return f.sub(args[2], args[1], kw.alpha and {alpha = kw.alpha} or nil) end,
  float_power = function(args) return f.float_power(args[1], args[2]) end,
  ["round.decimals_0"] = round, ["round.decimals_3"] = round, ["round.decimals_neg_3"] = round,
  ["polygamma.polygamma_n_0"] = polygamma, ["polygamma.polygamma_n_1"] = polygamma, ["polygamma.polygamma_n_2"] = polygamma,
  ["polygamma.polygamma_n_3"] = polygamma, ["polygamma.polygamma_n_4"] = polygamma,
  -- Activations and losses
  ["nn.functional.logsigmoid"] = "log_sigmoid",
  ["nn.functional.softshrink"] = {"softshrink", rename = {lambd = "lambda"}},
  ["nn.functional.hardshrink"] = {"hardshrink", rename = {lambd = "lambda"}},
  ["nn.functional.hardtanh"] = {"hardtanh", rename = {min_val = "min", max_val = "max"}},
  ["nn.functional.gelu"] = function(args, kw) return f.gelu(args[1], kw.approximate) end,
  ["nn.functional.binary_cross_entropy"] = "bce_loss",
  ["nn.functional.binary_cross_entropy_with_logits"] = "bce_with_logits",
  ["nn.functional.cross_entropy"] = {"cross_entropy", index = {"target", "ignore_index"}},
  ["nn.functional.nll_loss"] = {"nll_loss", index = {"target", "ignore_index"}},
  ["nn.functional.one_hot"] = {"one_hot", index = {"index"}},
  ["nn.functional.softmin.with_dtype"] = {"softmin", cast = true},
  ["softmax.with_dtype"] = {"softmax", cast = true}, ["log_softmax.dtype"] = {"log_softmax", cast = true},
  -- Reductions
  sum = {"sum", cast = true}, prod = {"prod", cast = true}, mean = {"mean", cast = true}, nansum = {"nansum", cast = true}, nanmean = {"nanmean", cast = true},
  cumsum = {"cumsum", cast = true}, cumprod = {"cumprod", cast = true}, norm = {"norm", cast = true},
  argmax = {"argmax", results = {"index"}}, argmin = {"argmin", results = {"index"}},
  var = spread(f.var), std = spread(f.std), var_mean = spread(f.var_mean), std_mean = spread(f.std_mean),
  ["max.reduction_no_dim"] = extreme "max", ["max.reduction_with_dim"] = extreme "max",
  ["min.reduction_no_dim"] = extreme "min", ["min.reduction_with_dim"] = extreme "min",
  -- Order
  sort = {"sort", results = {"", "index"}}, argsort = {"argsort", results = {"index"}}, topk = {"topk", results = {"", "index"}},
  kthvalue = {"kthvalue", results = {"", "index"}}, median = {"median", results = {"", "index"}}, nanmedian = {"nanmedian", results = {"", "index"}},
  mode = {"mode", results = {"", "index"}}, cummax = {"cummax", results = {"", "index"}}, cummin = {"cummin", results = {"", "index"}},
  searchsorted = {"searchsorted", index = {"sorter"}, results = {"index"}}, bucketize = {"bucketize", results = {"index"}},
  -- Choices and positions
  where = function(args) return f.where(args[2], args[1], args[3]) end,
  gather = {"gather", index = {"index"}}, take = {"take", index = {"index"}}, put = {"put", index = {"index"}},
  index_select = {"index_select", index = {"index"}}, index_add = {"index_add", index = {"index"}},
  index_copy = {"index_copy", index = {"index"}}, index_fill = {"index_fill", index = {"index"}},
  scatter = function(args, kw)
    local x, dim, index, src, how = args[1], from_one(args[2]), args[3] + 1, args[4], kw.reduce
    if type(src) == "boolean" then src = src and 1 or 0 end
    if not how then return f.scatter(x, dim, index, src) end
    if type(src) == "number" then src = ai.full(index:size(), src, {dtype = x.dtype}) end
    return f.scatter_reduce(x, dim, index, src, how == "add" and "sum" or "prod")
  end,
  ["scatter_reduce.sum"] = scatter_reduce, ["scatter_reduce.prod"] = scatter_reduce, ["scatter_reduce.mean"] = scatter_reduce,
  ["scatter_reduce.amin"] = scatter_reduce, ["scatter_reduce.amax"] = scatter_reduce,
  take_along_dim = {"take_along_dim", index = {"index"}}, bincount = {"bincount", index = {"x"}},
  ["nn.functional.multi_margin_loss"] = {"multi_margin_loss", index = {"target"}},
  ["nn.functional.multilabel_margin_loss"] = {"multilabel_margin_loss", index = {"target"}},
  scatter_add = {"scatter_add", index = {"index"}}, index_reduce = {"index_reduce", index = {"index"}},
  index_put = function(args, kw)
    local list, index = {args[1], args[3]}, args[2]
    for _, t in ipairs(index) do
      for _, i in ipairs(t.dtype == "bool" and f.nonzero(t):unbind(2) or {t + 1}) do list[#list + 1] = i end
    end
    if #list == 3 then return f.index_put(args[1], list[3], args[3], args[4] or kw.accumulate or false) end
    return f.index_put_by(list, 1, args[4] or kw.accumulate or false)
  end,
  ["nn.functional.embedding"] = {"embedding", index = {"index"}, drop = {sparse = false}},
  ["nn.functional.embedding_bag"] = {"embedding_bag", index = {"index", "offsets"}, drop = {sparse = false}},
  nonzero = function(args, kw)
    local where = f.nonzero(args[1]:dim() == 0 and kw.as_tuple and args[1]:view(1) or args[1]) - 1
    return kw.as_tuple and where:unbind(2) or where
  end,
  argwhere = function(args) return f.nonzero(args[1]) - 1 end,
  repeat_interleave = function(args, kw)
    local repeats, dim = args[2] or kw.repeats, from_one(kw.dim or args[3])
    if ai.is_tensor(repeats) then return f.repeat_each(args[1], repeats, dim) end
    return f.repeat_interleave(args[1], repeats, dim)
  end,
  histogram = function(args, kw) return f.histogram(args[1], args[2], kw.range and plain(kw.range), kw.weight, kw.density) end,
  histogramdd = function(args, kw)
    local bins = args[2]
    return f.histogramdd(args[1], type(bins) == "table" and plain(bins) or bins, kw.range and plain(kw.range), kw.weight, kw.density)
  end,
  unique = distinct(f.unique), unique_consecutive = distinct(f.unique_consecutive),
  -- Shapes
  view = with_sizes(f.view), reshape = with_sizes(f.reshape), expand = with_sizes(f.expand), broadcast_to = with_sizes(f.expand),
  permute = function(args, kw) return f.permute(args[1], from_one(kw.dims or sizes(args, 2))) end,
  ["repeat"] = with_sizes(f.tile), tile = with_sizes(f.tile),
  view_as = function(args) return args[1]:view_as(args[2]) end, reshape_as = function(args) return args[1]:reshape_as(args[2]) end,
  expand_as = function(args) return args[1]:expand_as(args[2]) end,
  flatten = function(args, kw)
    return f.flatten(args[1], from_one(args[2] or kw.start_dim or 0), from_one(args[3] or kw.end_dim or -1))
  end,
  ravel = function(args) return args[1]:flatten() end,
  t = function(args) return args[1]:t() end,
  mT = function(args) return args[1]:dim() < 2 and args[1] or args[1]:transpose(-2, -1) end,
  T = function(args)
    local order, n = {}, args[1]:dim()
    for d = 1, n do order[d] = n + 1 - d end
    return f.permute(args[1], order)
  end,
  narrow = function(args)
    local start = args[3]
    if ai.is_tensor(start) then start = start:item() end
    return f.narrow(args[1], from_one(args[2]), from_one(start), args[4])
  end,
  split = function(args, kw) return args[1]:split(args[2], from_one(args[3] or kw.dim or 0)) end,
  ["split.list_args"] = function(args, kw) return args[1]:split(plain(args[2]), from_one(args[3] or kw.dim or 0)) end,
  tensor_split = function(args, kw)
    local where = args[2] or kw.indices_or_sections
    if type(where) == "table" or (ai.is_tensor(where) and where:dim() > 0) then where = from_one(where) end
    return args[1]:tensor_split(type(where) == "table" and plain(where) or where, from_one(args[3] or kw.dim or 0))
  end,
  hsplit = split_named "hsplit", vsplit = split_named "vsplit", dsplit = split_named "dsplit",
  select_scatter = {"select_scatter"}, diagonal_scatter = {"diagonal_scatter"},
  gradient = function(args, kw)
    local spacing = kw.spacing
    if type(spacing) == "table" then spacing = plain(spacing) end
    return args[1]:gradient{spacing = spacing, dim = dims(kw.dim), edge_order = kw.edge_order}
  end,
  sum_to_size = with_sizes(f.sum_to_size),
  isin = function(args, kw)
    local x, values = args[1], args[2]
    if type(x) == "number" then x = ai.tensor(x, {dtype = values.dtype}) end
    if type(values) == "number" then values = ai.tensor(values, {dtype = x.dtype}) end
    return f.isin(x, values, kw.assume_unique or false, kw.invert or false)
  end,
  ["mvlgamma.mvlgamma_p_3"] = function(args, kw) return f.mvlgamma(args[1], args[2] or kw.p) end,
  chunk = function(args, kw) return args[1]:chunk(args[2], from_one(args[3] or kw.dim or 0)) end,
  unbind = function(args, kw) return args[1]:unbind(from_one(args[2] or kw.dim or 0)) end,
  as_strided = {"as_strided", dense = true, rename = {storage_offset = "offset"}, defaults = {offset = 0}},
  ["nn.functional.pad.constant"] = pad, ["nn.functional.pad.reflect"] = pad, ["nn.functional.pad.replicate"] = pad,
  ["nn.functional.pad.circular"] = pad,
  -- Convolution, pooling, resampling
  ["nn.functional.max_pool1d"] = max_pool(f.max_pool1d), ["nn.functional.max_pool2d"] = max_pool(f.max_pool2d),
  ["nn.functional.max_pool3d"] = max_pool(f.max_pool3d),
  ["nn.functional.max_unpool1d"] = max_unpool(f.max_unpool1d), ["nn.functional.max_unpool2d"] = max_unpool(f.max_unpool2d),
  ["nn.functional.max_unpool3d"] = max_unpool(f.max_unpool3d),
  ["nn.functional.adaptive_max_pool1d"] = adaptive_max_pool(f.adaptive_max_pool1d),
  ["nn.functional.adaptive_max_pool2d"] = adaptive_max_pool(f.adaptive_max_pool2d),
  ["nn.functional.adaptive_max_pool3d"] = adaptive_max_pool(f.adaptive_max_pool3d),
  ["nn.functional.adaptive_avg_pool1d"] = adaptive_avg_pool(f.adaptive_avg_pool1d),
  ["nn.functional.adaptive_avg_pool2d"] = adaptive_avg_pool(f.adaptive_avg_pool2d),
  ["nn.functional.adaptive_avg_pool3d"] = adaptive_avg_pool(f.adaptive_avg_pool3d),
  ["nn.functional.interpolate.nearest"] = interpolate, ["nn.functional.interpolate.linear"] = interpolate,
  ["nn.functional.interpolate.bilinear"] = interpolate, ["nn.functional.interpolate.bicubic"] = interpolate,
  ["nn.functional.interpolate.trilinear"] = interpolate, ["nn.functional.interpolate.area"] = interpolate,
  ["nn.functional.interpolate.nearest-exact"] = interpolate,
  ["nn.functional.unfold"] = "im2col",
  atleast_1d = tensors(f.atleast_1d), atleast_2d = tensors(f.atleast_2d), atleast_3d = tensors(f.atleast_3d),
  hstack = tensors(f.hstack), vstack = tensors(f.vstack), dstack = tensors(f.dstack), column_stack = tensors(f.column_stack),
  broadcast_tensors = tensors(f.broadcast_tensors), block_diag = tensors(f.block_diag), cartesian_prod = tensors(f.cartesian_prod),
  ["meshgrid.list_of_tensors"] = tensors(f.meshgrid),
  combinations = function(args, kw) return f.combinations(args[1], args[2] or kw.r, kw.with_replacement) end,
  unflatten = function(args) return f.unflatten(args[1], from_one(args[2]), plain(args[3])) end,
  tril_indices = function(args, kw) return f.tril_indices(args[1], args[2], {offset = args[3] or kw.offset, dtype = kw.dtype}) - 1 end,
  triu_indices = function(args, kw) return f.triu_indices(args[1], args[2], {offset = args[3] or kw.offset, dtype = kw.dtype}) - 1 end,
  -- Fourier transforms
  ["fft.fft"] = fourier("fft", true), ["fft.ifft"] = fourier("ifft", true), ["fft.rfft"] = fourier "rfft", ["fft.irfft"] = fourier("irfft", true),
  ["fft.fftn"] = fourier("fftn", true), ["fft.ifftn"] = fourier("ifftn", true), ["fft.rfftn"] = fourier "rfftn",
  ["fft.irfftn"] = fourier("irfftn", true), ["fft.fft2"] = fourier("fftn", true, {-2, -1}), ["fft.ifft2"] = fourier("ifftn", true, {-2, -1}),
  ["fft.rfft2"] = fourier("rfftn", false, {-2, -1}), ["fft.irfft2"] = fourier("irfftn", true, {-2, -1}),
  ["fft.fftshift"] = function(args, kw) return ai.fft.fftshift(args[1], dims(args[2] or kw.dim)) end,
  ["fft.ifftshift"] = function(args, kw) return ai.fft.ifftshift(args[1], dims(args[2] or kw.dim)) end,
  -- Products and linear algebra
  einsum = function(args)
    local list = type(args[1]) == "table" and args[1] or args[2]
    return f.einsum(type(args[1]) == "string" and args[1] or args[2], unpack(plain(list)))
  end,
  tensordot = function(args, kw)
    local d = args[3] or kw.dims
    return f.tensordot(args[1], args[2], type(d) == "table" and {dims(d[1]), dims(d[2])} or d)
  end,
  cdist = function(args, kw) return f.cdist(args[1], args[2], args[3] or kw.p) end,
  ["linalg.vander"] = function(args, kw) return f.vander(args[1], kw.N, true) end,
  ["linalg.tensorinv"] = function(args, kw) return ai.linalg.tensorinv(args[1], args[2] or kw.ind) end,
  ["linalg.tensorsolve"] = function(args, kw) return ai.linalg.tensorsolve(args[1], args[2], dims(args[3] or kw.dims)) end,
  ["linalg.pinv.hermitian"] = function(args, kw) return ai.linalg.pinv(args[1], kw.atol, kw.rtol, true) end,
  ["linalg.matrix_rank.hermitian"] = function(args, kw)
    local function number(v) return ai.is_tensor(v) and v:numel() == 1 and v:item() or v end
    return ai.linalg.matrix_rank(args[1], number(args[2] or kw.atol), number(args[3] or kw.rtol), true)
  end,
  ["nn.functional.pdist"] = function(args, kw) return f.pdist(args[1], args[2] or kw.p) end,
  ["linalg.norm"] = function(args, kw)
    return ai.linalg.norm(args[1], args[2] or kw.ord, dims(args[3] or kw.dim), {keepdim = args[4] or kw.keepdim or false, dtype = kw.dtype})
  end,
  trapz = "trapezoid", ["linalg.inv"] = "inverse", ["linalg.multi_dot"] = function(args) return ai.linalg.multi_dot(plain(args[1])) end,
  ["linalg.matrix_norm"] = function(args, kw)
    return ai.linalg.matrix_norm(args[1], args[2] or kw.ord, dims(args[3] or kw.dim), args[4] or kw.keepdim or false)
  end,
  ["linalg.solve"] = function(args, kw) return ai.linalg.solve(args[1], args[2], kw) end,
  ["linalg.vector_norm"] = function(args, kw)
    local x = kw.dtype and args[1]:to(kw.dtype) or args[1]
    return ai.linalg.vector_norm(x, args[2] or kw.ord, dims(args[3] or kw.dim), args[4] or kw.keepdim or false)
  end,
  ["linalg.lstsq"] = function(args, kw) return (f.lstsq(args[1], args[2], args[3] or kw.rcond)) end,
  ["linalg.pinv"] = {"pinv", numbers = true},
  ["linalg.matrix_rank"] = function(args, kw)
    local function number(v) return ai.is_tensor(v) and v:numel() == 1 and v:item() or v end
    return ai.linalg.matrix_rank(args[1], number(args[2] or kw.atol), number(args[3] or kw.rtol))
  end,
  ["norm.nuc"] = function(args, kw) return ai.linalg.matrix_norm(args[1], "nuc", dims(kw.dim), kw.keepdim or false) end,
  -- Only up to signs: what the factors make together, as in oracle.py.
  ["linalg.svd"] = function(args, kw)
    local u, s, v = f.svd(args[1], kw.full_matrices)
    if u:size(-1) ~= s:size(-1) or v:size(-2) ~= s:size(-1) then return s, s end
    return s, (u * s:unsqueeze(-2)):matmul(v)
  end,
  ["linalg.eigh"] = function(args, kw)
    local w, v = f.eigh(args[1], args[2] or kw.UPLO)
    return w, (v * w:unsqueeze(-2)):matmul(v:transpose(-2, -1))
  end,
  ["linalg.qr"] = function(args, kw)
    local q, r = f.qr(args[1], args[2] or kw.mode)
    if not q or q:numel() == 0 then return r:abs() end
    return q:matmul(r), r:abs()
  end,
  mm = "matmul", bmm = "matmul", mv = "matmul",
}

for name, dtype in pairs {bfloat16 = "bf16", bool = "bool", byte = "u8", char = "i8", double = "f64", float = "f32", half = "f16", int = "i32",
  long = "i64", short = "i16"} do
  map.ops[name] = cast(dtype)
end

return map
