--- The op table is the test table of graphs: every row is called with placeholders, and the Functional of it gives what the op
--- gives, itself and made again from its spec. Rows that a graph cannot hold are listed with the reason.

local ai = require "aijit"
local op = require "aijit.bindings.op"
local sample = require "spec.support.sample"
local nn = ai.nn

local none = {}
local function refuse(reason, names) for name in names:gmatch "%S+" do none[name] = reason end end
refuse("its sizes, or which way it goes, depend on the values", [[
  repeat_each repeat_positions masked_select nonzero unique unique_consecutive bincount]])
refuse("it is a step of autograd, and takes sizes that no sample of a graph has", "cross_entropy_grad nll_loss_grad")

local function near(a, b, what)
  assert.are.same({unpack(b.shape)}, {unpack(a.shape)}, what)
  assert.are.equal(b.dtype, a.dtype, what)
  if a:numel() > 0 then assert(ai.f.isclose(a:double(), b:double(), {rtol = 0, atol = 0, equal_nan = true}):all():item(), what) end
end

local function check(row)
  sample.seed(row.index + 1)
  local args, n, tensors = sample.arguments(row, function(input) return sample.tensor(input) end)
  local inputs, places, by_id = {}, {}, {}
  for i = 1, 9 do
    local t = tensors[i]
    if t then
      local shape = {unpack(t.shape)}
      shape.dtype = t.dtype
      inputs[#inputs + 1], places[#places + 1] = t, nn.Placeholder(shape)
      by_id[t:id()] = places[#places]
    end
  end
  local symbols = {}
  for i = 1, n do
    local v = args[i]
    if ai.is_tensor(v) then v = by_id[v:id()]
    elseif type(v) == "table" and ai.is_tensor(v[1]) then
      local parts = {}
      for k, t in ipairs(v) do parts[k] = by_id[t:id()] end
      v = parts
    end
    symbols[i] = v
  end
  ai.manual_seed(1)
  local wanted = {ai.f[row.name](unpack(args, 1, n))}
  local outs = {ai.f[row.name](unpack(symbols, 1, n))}
  assert.are.equal(#wanted, #outs)
  for i, y in ipairs(outs) do
    assert.are.same({unpack(wanted[i].shape)}, {unpack(y.shape)}, "shape of result " .. i)
    assert.are.equal(wanted[i].dtype, y.dtype, "dtype of result " .. i)
  end
  local net = nn.Functional{inputs = places, outputs = outs}
  local again = nn.from_spec(ai.json.decode(ai.json.encode(net:to_spec())))
  for _, m in ipairs {net, again} do
    ai.manual_seed(1)
    local got = m(inputs)
    for i, y in ipairs(wanted) do near(got[i], y, "result " .. i) end
  end
  assert.is_string(tostring(net))
end

for _, row in ipairs(op.rows) do
  if row.name:sub(-1) == "_" then
    it(row.name .. " writes, and a graph holds no memory", function()
      sample.seed(row.index + 1)
      local args, n = sample.arguments(row, function(input) return sample.tensor(input) end)
      args[1] = nn.Placeholder{unpack(args[1].shape)}
      assert.has_error(function() ai.f[row.name](unpack(args, 1, n)) end)
    end)
  elseif none[row.name] then
    it(row.name .. " is refused where it stands", function()
      local ok, message = pcall(check, row)
      assert.is_false(ok)
      assert(message:find("no elements", 1, true) or message:find("list of sizes", 1, true), message)
    end)
  else
    it(row.name .. " in a graph is the op", function() check(row) end)
  end
end

-- -- Functions that are made of ops in Lua ---------------------------------------------------------------------------------

local f, fn = ai.f, require "aijit.fn"

local cases = {
  atleast_1d = function(x) return f.atleast_1d(x) end,
  atleast_2d = function(x) return f.atleast_2d(x[1]) end,
  atleast_3d = function(x) return f.atleast_3d(x) end,
  broadcast_tensors = function(x, v)
    local list = f.broadcast_tensors(x, v[1])
    return list[1] + list[2]
  end,
  cartesian_prod = function(x, v) return f.cartesian_prod(v[1], x[2]) end,
  combinations = function(x) return f.combinations(x[1], 3) end,
  column_stack = function(x, v) return f.column_stack{x, v[{{}, 1}]} end,
  dstack = function(x, v) return f.dstack(x, v) end,
  hstack = function(x, v) return f.hstack{x, v} end,
  vstack = function(x, v) return f.vstack{x, v[1]} end,
  einsum = function(x, v) return f.einsum("ij,kj->ik", x, v) + f.einsum("ij,ij->", {x, v}) end,
  expand_as = function(x, v) return v[1]:expand_as(x) end,
  reshape_as = function(x, v) return x:t():reshape_as(v) end,
  view_as = function(x, v) return x:view_as(v) end,
  type_as = function(x, v) return x:gt(0):type_as(v) end,
  float_power = function(x) return x:abs():float_power(2) end,
  meshgrid = function(x, v)
    local grids = f.meshgrid({x[1], v[2]}, {indexing = "xy"})
    return grids[1] * grids[2]
  end,
  unflatten = function(x) return x:unflatten(2, {2, -1}) end,
  vander = function(x) return f.vander(x[1], {N = 3}) end,
  max = function(x, v) return (x:max(1)) + f.max(x, v):min() + f.min(x, v):sum(1) end,
  clamp = function(x, v) return x:clamp(-1, 1) + x:clamp(v, nil) + f.clamp(x, {max = 0}) + f.clamp_min(x, v) end,
  split = function(x) return x:split(2, 2)[1] + f.split(x, {1, 2, 1}, 2)[2] + f.chunk(x, 2, 2)[2] end,
  hsplit = function(x) return f.hsplit(x, 2)[2] end,
  vsplit = function(x) return f.vsplit(x, {1})[2] end,
  dsplit = function(x) return f.dsplit(x:unsqueeze(1), 2)[2] end,
  tensor_split = function(x) return f.tensor_split(x, 3, 2)[3] end,
  gradient = function(x) return f.gradient(x)[2] end,
  positive = function(x) return f.positive(x) + x:positive() end,
  rsub = function(x, v) return f.rsub(x, v) end,
  narrow_copy = function(x) return f.narrow_copy(x, 2, 2, 2) end,
  adjoint = function(x) return f.adjoint(x) end,
  lp_pool1d = function(x) return f.lp_pool1d(x:abs():unsqueeze(1), 2, 2) end,
  new_zeros = function(x) return x + x:new_zeros(4) + x:new_ones(3, 1) + x:new_full({4}, 2) end,
  triplet_margin_with_distance_loss = function(x, v) return f.triplet_margin_with_distance_loss(x, v, x * 2) end,
  chunk = function(x) return f.chunk(x, 2, 2)[2] + x:chunk(2, 2)[1] end,
  min = function(x) return (x:min(2)) + f.min(x) end,
  unbind = function(x) return x:unbind(1)[2] * f.unbind(x, 1)[3] end,
  t = function(x) return x:t() + f.t(x) end,
  where = function(x, v) return f.where(x:gt(0), x, v) + f.where(v:gt(0), 1, x) end,
  casts = function(x) return x:double() + x:long():to("f64") end,
  likes = function(x) return ai.ones_like(x) + ai.zeros_like(x) * x + ai.full_like(x, 3, {dtype = "f64"}) end,
  lerp = function(x, v) return x:lerp(v, 0.25) + x:lerp(v, v) end,
  detach = function(x) return x:detach() * 2 end,
  numbers = function(x) return 2 ^ x % 3 - -x / 4 + x:numel() * x:size(2) * x:dim() end,
  options = function(x, v) return x:add(v, {alpha = 2}) + x:div(v, {rounding_mode = "floor"}) + x:gelu "tanh" + x:pow(2) end,
  masks = function(x) return x:masked_fill(x:gt(0), 0) + x:masked_fill(x:gt(0), x:sum()) end,
  indices = function(x) return x[{{1, 2}, 3}]:sum() * x[-1] + x[2] end,
}

-- Functions that a graph takes as one step, and vmap has no rule for, or another name; those that draw do so at each run.
local one_step = {
  pdist = function(x) return f.pdist(x) + f.pdist(x, 1) end,
  histogram = function(x)
    local counts, edges = f.histogram(x, 5)
    return counts * f.diff(edges) + f.histogram(x, {bins = 5, range = {-1, 1}, density = true})
  end,
  histogramdd = function(x) return (f.histogramdd(x, {2, 2, 2, 3})) end,
  gumbel_softmax = function(x) return f.gumbel_softmax(x, {tau = 2, hard = true}) + x:gumbel_softmax() end,
  rrelu = function(x) return f.rrelu(x, {training = true}) end,
  feature_alpha_dropout = function(x) return f.feature_alpha_dropout(x, 0.5, true) end,
  normal = function(x, v) return f.normal(x, v:abs()) + f.normal(x, 2) end,
  poisson = function(x) return f.poisson(x:abs() * 20) end,
  binomial = function(x) return f.binomial(x:abs():ceil() * 9, x:sigmoid()) end,
  randint_like = function(x) return ai.f.randint_like(x, 1, 5) end,
  isreal = function(x) return f.isreal(x):to "f32" end,
  unravel_index = function(x)
    local at = f.unravel_index(x:argmax(2), {2, 2})
    return at[1] * 10 + at[2]
  end,
  as_strided_scatter = function(x, v) return f.as_strided_scatter(x, v[{{1, 2}, {1, 2}}], {2, 2}, {4, 1}) end,
  segment_reduce = function(x) return f.segment_reduce(x, "mean", {lengths = ai.tensor({1, 2}, {dtype = "i64"})}) end,
  nonzero_static = function(x) return f.nonzero_static(x:gt(0), 15) end,
  ctc_loss = function(x)
    local y = x:log_softmax(2)
    local targets = ai.tensor({{2, 3}}, {dtype = "i64"})
    return f.ctc_loss(y:unsqueeze(2), targets, {3}, {2}, {reduction = "none"}) + f.ctc_loss(y:unsqueeze(2), targets, {3}, {2})
  end,
}

it("every function made of ops in Lua is among these, or there is a reason why not", function()
  local elsewhere = {tril_indices = "it takes numbers", triu_indices = "it takes numbers"}
  local function reason(text, names) for name in names:gmatch "%S+" do elsewhere[name] = text end end
  reason("its regions are drawn, and given as random_samples", "fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d "
    .. "fractional_max_pool3d_with_indices")
  reason("it answers a question about tensors", "is_nonzero is_same_size is_signed")
  reason("as lp_pool1d", "lp_pool2d lp_pool3d")
  reason("as new_zeros", "new_empty new_full new_ones new_tensor")
  for _, names in ipairs{op.faces, op.later} do
    for name in pairs(names) do
      if not op.named[name] and name:sub(-1) ~= "_" then assert(cases[name] or one_step[name] or elsewhere[name], name) end
    end
  end
end)

local function same(a, b, what)
  assert.are.same({unpack(b.shape)}, {unpack(a.shape)}, what)
  assert.are.equal(b.dtype, a.dtype, what)
  assert((a:double() - b:double()):abs():max():item() < 1e-5, what)
end

for name, run in pairs(cases) do
  it(name .. ", made of ops in Lua, takes placeholders and batched tensors", function()
    local x, v = ai.randn(2, 3, 4), ai.randn(2, 3, 4)
    local a, b = nn.Placeholder{3, 4}, nn.Placeholder{3, 4}
    local net = nn.Functional{inputs = {a, b}, outputs = run(a, b)}
    local again = nn.from_spec(ai.json.decode(ai.json.encode(net:to_spec())))
    local mapped = fn.vmap(run)(x, v)
    for e = 1, 2 do
      local wanted = run(x[e], v[e])
      same(net{x[e], v[e]}, wanted, "graph")
      same(again{x[e], v[e]}, wanted, "graph from its spec")
      same(mapped[e], wanted, "vmap")
    end
    assert.are.same({unpack(run(x[1], v[1]).shape)}, (fn.output_shape(run, x[1], v[1])))
  end)
end

for name, run in pairs(one_step) do
  it(name .. " in a graph is the function", function()
    local x, v = ai.randn(3, 4), ai.randn(3, 4)
    local a, b = nn.Placeholder{3, 4}, nn.Placeholder{3, 4}
    local net = nn.Functional{inputs = {a, b}, outputs = run(a, b)}
    ai.manual_seed(3)
    local wanted = run(x, v)
    ai.manual_seed(3)
    same(net{x, v}, wanted, "graph")
  end)
end

it("a step with an open batch is one step, whatever its sizes are", function()
  local x = nn.Placeholder{false, 3}
  local net = nn.Functional{inputs = x, outputs = {f.einsum("ni,ni->n", x, x), f.hstack{x, x}, ai.ones_like(x), x:chunk(3, 2)[2]}}
  assert.are.same({false}, f.einsum("ni,ni->n", x, x).shape)
  assert.are.same({false, 6}, f.hstack{x, x}.shape)
  assert.are.same({false, 3}, ai.ones_like(x).shape)
  assert.are.same({false, 1}, x:chunk(3, 2)[2].shape)
  for _, n in ipairs {1, 5} do
    local v = ai.randn(n, 3)
    local out = net(v)
    same(out[1], v:square():sum(2), "einsum")
    same(out[2], ai.cat({v, v}, 2), "hstack")
    same(out[3], ai.ones(n, 3), "ones_like")
  end
  local ok, message = pcall(ai.randn_like, x)
  assert.is_false(ok)
  assert.matches("draw in an nn%.Lambda", message)
end)
