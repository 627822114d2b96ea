-- fn.vmap: one call for all examples, equal to a call for each.

local ai = require "aijit"
local fn = require "aijit.fn"
local nets = fn.nets
local key = fn.key(5)

local function shape(t) return {unpack(t.shape)} end

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function near(a, b, tolerance)
  assert.are.same(shape(a), shape(b))
  assert.is_true((a:double() - b:double()):abs():max():item() <= (tolerance or 1e-5))
end

--- The oracle: f called for each example, results stacked.
local function each(f, ...)
  local args, n, all = {...}, select("#", ...), {}
  for i = 1, args[1]:size(1) do
    local one = {}
    for k = 1, n do one[k] = args[k][i] end
    all[i] = f(unpack(one, 1, n))
  end
  return ai.stack(all, 1)
end

local function check(f, ...) near(fn.vmap(f)(...), each(f, ...)) end

local rows = {
  {"elementwise ops broadcast as for one example", function(x, v) return (x * v + 1):tanh() / (2 - x) ^ 2 - v:gt(0):float() end, {4, 3, 5}, {4, 5}},
  {"what is the same for all broadcasts too", function(x) return x + ai.linspace(0, 1, 15):reshape(3, 5) * x:sum() end, {4, 5}},
  {"reductions over all", function(x) return x:sum() + x:mean() * x:amax() - x:std() + x:norm() end, {4, 3, 5}},
  {"reductions over some", function(x) return x:sum(1) + x:mean(-2) * x:amax({1}) end, {4, 3, 5}},
  {"of a scalar", function(x) return x:sum() * x end, {4}},
  {"max with positions", function(x) local v, i = x:max(1) return v * i:float() end, {4, 3, 5}},
  {"softmax and its kin", function(x) return x:softmax(1) + x:log_softmax() + x:cumsum(2) end, {4, 3, 5}},
  {"views", function(x) return x:t():reshape(-1):unsqueeze(1):expand(2, 15):flatten() end, {4, 3, 5}},
  {"permute, squeeze, transpose", function(x) return x:unsqueeze(2):permute(3, 2, 1):squeeze():transpose(1, 2) end, {4, 3, 5}},
  {"indices", function(x) return x[2] + x[{{}, {1, 2}}]:sum() + x[{3, 4}] * x[{-1, {2, 2}}] end, {4, 3, 5}},
  {"matrices by vectors", function(x, v) return x:matmul(v) end, {4, 3, 5}, {4, 5}},
  {"vectors by vectors", function(x, v) return x:matmul(v) end, {4, 5}, {4, 5}},
  {"matrices by matrices, leading dimensions", function(x, v) return x:matmul(v) end, {4, 2, 3, 5}, {4, 5, 6}},
  {"one for all by each", function(v) return ai.linspace(0, 1, 15):reshape(3, 5):matmul(v) end, {4, 5}},
  {"cat and stack", function(x, v) return ai.cat({x, x + 1, ai.ones(1, 5)}, 1):sum(2) * ai.stack({v, v, v}, 1):sum() end, {4, 2, 5}, {4, 5}},
  {"chunk, unbind, split", function(x) return x:chunk(3, 1)[2] + x:unbind(1)[1] + x:split(2, 2)[3]:sum() end, {4, 3, 5}},
  {"where, masked_fill, clamp", function(x)
    return ai.f.where(x:gt(0), x, x * 2):clamp(-1, 1) + ai.f.where(x:gt(1), 3, x) + ai.f.where(x:gt(1), x, 3) + ai.f.clamp(x, 0, nil)
      + x:masked_fill(x:lt(0), 0)
  end, {4, 3, 5}},
  {"layer_norm", function(x) return ai.f.layer_norm(x, {5}, ai.linspace(1, 2, 5), ai.ones(5)) end, {4, 3, 5}},
  {"layer_norm with each its own", function(x, w) return ai.f.layer_norm(x, {5}, w, w) end, {4, 3, 5}, {4, 5}},
  {"linear with each its own", function(x, w, b) return ai.f.linear(x, w, b) end, {4, 3, 5}, {4, 2, 5}, {4, 2}},
  {"linear", function(x) return ai.f.linear(x, ai.linspace(0, 1, 10):reshape(2, 5)) end, {4, 3, 5}},
  {"conv and pool", function(x) return (ai.f.max_pool1d(ai.f.conv1d(x, ai.linspace(-1, 1, 18):reshape(2, 3, 3), nil, {padding = 1}), 2)) end, {4, 2, 3, 6}},
  {"products", function(x, v, w)
    return ai.f.dot(v, v) + ai.f.mv(x, v):sum() + ai.f.mm(x, x:t()):sum() + ai.f.outer(v, v):sum() + ai.f.inner(x, v):sum()
      + ai.f.addmm(w, x, x:t(), {beta = 2}):sum() + ai.f.trace(w) + ai.f.addcmul(v, v, v, {value = 0.5}) + ai.f.addcdiv(v, v, v + 9)
  end, {4, 3, 5}, {4, 5}, {4, 3, 3}},
  {"distances", function(x, y)
    return ai.f.normalize(x, {dim = 2}):sum(2) + ai.f.cosine_similarity(x, y, {dim = 2}) + ai.f.pairwise_distance(x, y) + ai.f.cdist(x, y):sum(2)
  end, {4, 3, 5}, {4, 3, 5}},
  {"losses of errors", function(x, y)
    local p, q = x:sigmoid(), y:sigmoid()
    return ai.smooth_l1_loss(x, y) + ai.huber_loss(x, y, {delta = 0.7}) + ai.log_cosh_loss(x, y, {reduction = "sum"}) + ai.bce_loss(p, q)
      + ai.bce_with_logits(x, q, {reduction = "sum"}) + ai.kl_div(p:log(), q) + ai.kl_div(p:log(), q, {reduction = "batchmean"})
  end, {4, 3, 5}, {4, 3, 5}},
  {"others along dimensions", function(x)
    return ai.f.cummax(x, 1) + ai.f.cummin(x, -1) + ai.f.logcumsumexp(x, 1) + ai.f.roll(x, 1, {dims = 2}) + ai.f.roll(x, 2) + ai.f.diff(x, {dim = 1}):sum()
      + x:diagonal():sum() + ai.f.flipud(x) + ai.f.fliplr(x) + ai.f.kthvalue(x, 2):sum() + ai.f.median(x) + ai.f.median(x, {dim = 2}):sum()
      + ai.f.nansum(x) + ai.f.movedim(x, 1, 2):t() + ai.f.quantile(x, 0.3, {dim = 1}) + x:quantile(0.6)
  end, {4, 3, 5}},
  {"quarter turns, tiles, repetitions", function(x)
    return ai.f.rot90(x):sum(1):sum() + x:tile(2, 1):sum(2):sum() + ai.f.repeat_interleave(x, 2, {dim = 2}):square():sum(1) * x:tile{2, 1, 1}:sum()
  end, {4, 3, 5}},
  {"linear algebra", function(x, v)
    local a = x:matmul(x:t()) + ai.eye(3) * 3
    local sign, log = ai.f.slogdet(a)
    return ai.f.inverse(a) + ai.f.det(a) + ai.f.cholesky(a) + sign * log + ai.f.solve(a, x):sum() + ai.f.solve(a, v) + ai.f.eigvalsh(a)
  end, {4, 3, 5}, {4, 3}},
  {"attention", function(q, k) return ai.f.scaled_dot_product_attention(q, k, k * 2, {is_causal = true}) end, {4, 2, 3, 5}, {4, 2, 3, 5}},
  {"group_norm and interpolate, of an example's own batch", function(x)
    return ai.f.group_norm(x, 2, ai.linspace(1, 2, 4)):sum() + ai.f.interpolate(x, {size = {6, 6}})
  end, {3, 2, 4, 3, 3}},
  {"Fourier transforms", function(x) return ai.f.rfft(x, {dim = 1}):sum() + ai.f.rfft(x):sum() end, {4, 3, 8}},
  {"losses", function(x, y) return ai.mse_loss(x, y) + ai.l1_loss(x, y, {reduction = "sum"}) end, {4, 3, 5}, {4, 3, 5}},
}

for _, row in ipairs(rows) do
  it(row[1], function()
    local inputs = {}
    for i = 3, #row do inputs[i - 2] = ai.randn(row[i]) end
    check(row[2], unpack(inputs))
  end)
end

it("embedding, argmax and cross_entropy", function()
  local ids, x = ai.randint(1, 6, 4, 3), ai.randn(4, 3, 6)
  local weight = ai.randn(6, 2)
  check(function(i) return ai.f.embedding(weight, i) end, ids)
  check(function(v) return v:argmax() + v:argmax(2) end, x)
  check(function(v, t) return ai.cross_entropy(v, t) end, x, ids)
  check(function(v, t) return ai.cross_entropy(v, t) end, x[{{}, 1}], ids[{{}, 1}])
end)

it("what takes positions from an index", function()
  local x, places, each_its = ai.randn(4, 3, 6), ai.randint(1, 3, 4, 2, 6), ai.randint(1, 6, 4, 5)
  check(function(v, i) return v:gather(1, i) end, x, places)
  check(function(v, i) return ai.f.take_along_dim(v, i, {dim = 1}) end, x, places)
  check(function(v, i) return ai.f.index_select(v, 2, i) end, x, each_its)
  check(function(v) return ai.f.index_select(v, -1, ai.tensor({1, 3}, {dtype = "i64"})) end, x)
  check(function(v, i) return ai.f.scatter_add(v * 0, 1, i, v[{{1, 2}}]) end, x, places)
  check(function(i) return ai.f.one_hot(i, 6):float() end, each_its)
end)

it("maps nets: over inputs, over parameters, over both", function()
  local net = function(p, x)
    return nets.layer_norm(p.ln, nets.mlp(p.mlp, nets.multi_head_self_attention(p.att, x, 2), {6, 4}))
  end
  local x = ai.randn(5, 3, 4)
  local one = fn.trace(net, key, x[1])
  near(fn.vmap(net, {in_axes = {false, 1}})(one, x), each(function(t) return net(one, t) end, x))
  local models = {}
  for i = 1, 5 do models[i] = fn.trace(net, fn.fold_in(key, i), x[1]) end
  local all = fn.tree_map(function(...) return ai.stack({...}, 1) end, unpack(models))
  local apart = {}
  for i = 1, 5 do apart[i] = net(models[i], x[i]) end
  near(fn.vmap(net)(all, x), ai.stack(apart, 1))
  for i = 1, 5 do apart[i] = net(models[i], x[1]) end
  near(fn.vmap(net, {in_axes = {1, false}})(all, x[1]), ai.stack(apart, 1))
end)

it("dropout drops the same of every example, since the key is the same", function()
  local y = fn.vmap(function(x) return nets.dropout({}, key, x) end)(ai.ones(3, 50))
  near(y[1], y[2])
  near(y[1], nets.dropout({}, key, ai.ones(50)))
end)

it("takes other axes, trees, and results that are the same for all; nests", function()
  local x = ai.randn(3, 4, 5)
  near(fn.vmap(function(t) return t.a:sum(1) end, {in_axes = 2, out_axis = 2})({a = x}), x:sum(1):t())
  local out = fn.vmap(function(t) return {t = t * 2, one = ai.ones(2)}, 3 end)(x)
  assert.are.same({3, 4, 5}, shape(out.t))
  assert.are.same({3, 2}, shape(out.one))
  local u, v = ai.randn(3), ai.randn(4)
  local outer = fn.vmap(function(a) return fn.vmap(function(b) return a * b + a:sum() end)(v) end)(u)
  near(outer, u:unsqueeze(2) * v:unsqueeze(1) + u:unsqueeze(2))
  near(fn.vmap(fn.vmap(function(m) return m:softmax(1):matmul(v:sum() * ai.ones(5)) end))(x), each(function(t)
    return each(function(m) return m:softmax(1):matmul(v:sum() * ai.ones(5)) end, t)
  end, x))
end)

it("goes with gradients: of a map, and each example's own", function()
  local w, x, y = ai.randn(3, 2), ai.randn(5, 3), ai.randn(5, 2)
  local loss = function(p, a, b) return ai.mse_loss((a:matmul(p.w) + p.b):tanh(), b) end
  local p = {w = w, b = ai.randn(2)}
  local sum = fn.grad(function(q) return fn.vmap(loss, {in_axes = {false, 1, 1}})(q, x, y):sum() end)(p)
  local own, value = fn.vmap(fn.value_and_grad(loss), {in_axes = {false, 1, 1}})(p, x, y)
  assert.are.same({5, 3, 2}, shape(own.w))
  assert.are.same({5}, shape(value))
  for i = 1, 5 do
    local one = fn.grad(loss)(p, x[i], y[i])
    near(own.w[i], one.w)
    near(own.b[i], one.b)
  end
  near(own.w:sum(1), sum.w)
end)

it("never loops: what has no rule is an error, and so is what cannot be mapped", function()
  local x = ai.randn(3, 4)
  assert.matches("vmap: nonzero has no rule for a batch", message_of(fn.vmap(function(t) return t:nonzero() end), x))
  assert.matches("item of a batched tensor", message_of(fn.vmap(function(t) return t:sum():item() end), x))

  assert.matches("argument 2 has 2 examples, in a tensor of sizes %(2, 4%), where those before have 3",
    message_of(fn.vmap(function(a, b) return a + b end), x, ai.ones(2, 4)))
  assert.matches("no argument has a tensor to map along", message_of(fn.vmap(function(a) return a end), 3))
  assert.matches("without dimensions", message_of(fn.vmap(function(a) return a end), ai.ones(1):sum()))
  assert.matches("unknown option 'in_axis': did you mean 'in_axes'", message_of(fn.vmap, function() end, {in_axis = 1}))
  assert.matches("did you mean 'reshape'", message_of(fn.vmap(function(t) return t:reshap(2) end), x))
  -- An error leaves nothing behind.
  near(fn.vmap(function(t) return t * 2 end)(x), x * 2)
end)

it("indexes by positions, writes in place into what is mapped, and refuses to write what differs into what is shared", function()
  local x, at, table = ai.randn(3, 4, 2), ai.randint(1, 4, 3, 2), ai.randn(5, 2)
  check(function(v, i) return v[i] + v[{i, {}}] + table[i] + table[{i, {1, 2}}] end, x, at)
  check(function(v) return v[ai.tensor({2, 1}, {dtype = "i64"})] end, x)
  local y = x:clone()
  fn.vmap(function(v)
    v:mul_(2)
    v[1] = 0
    v[{3, 2}] = v[{4, 1}]
    v[v:gt(1)] = 1
  end)(y)
  local wanted = x * 2
  wanted[{{}, 1}] = 0
  wanted[{{}, 3, 2}] = wanted[{{}, 4, 1}]
  wanted[wanted:gt(1)] = 1
  near(y, wanted)
  local shared = ai.zeros(4, 2)
  assert.matches("add_ writes what differs between the examples into a tensor that they share", message_of(fn.vmap(function(v) shared:add_(v) end), x))
  assert.matches("into a tensor that they share", message_of(fn.vmap(function(v, i) shared[i] = 1 end), x, at))
  assert.matches("masked_select has no rule for a batch, since how large", message_of(fn.vmap(function(v) return v[v:gt(0)] end), x))
  near(shared, ai.zeros(4, 2))
end)

it("maps modules: layers with weights of their own or shared, norms that update each its own means, recurrent ones", function()
  local nn = ai.nn
  local x = ai.randn(4, 3, 5, 6)
  local conv = nn.Sequential{nn.Conv2d(3, 4, 3, {padding = "same"}), nn.ReLU(), nn.Flatten(), nn.Linear(120, 2)}
  local one = ai.randn(4, 2, 3, 5, 6)
  near(fn.vmap(function(v) return conv(v) end)(one), each(function(v) return conv(v) end, one), 1e-4)
  local function norm(v, mean, var) return ai.f.batch_norm(v, mean, var, nil, nil, {training = true}) end
  local means, vars = ai.zeros(4, 5), ai.ones(4, 5)
  local apart_means, apart_vars = means:clone(), vars:clone()
  local y = fn.vmap(norm)(x, means, vars)
  for i = 1, 4 do near(norm(x[i], apart_means[i], apart_vars[i]), y[i]) end
  near(apart_means, means)
  near(apart_vars, vars)
  assert.matches("batch_norm would update running means that all examples share",
    message_of(fn.vmap(function(v) return norm(v, ai.zeros(5), ai.ones(5)) end), x))
  for _, net in ipairs {nn.LSTM(6, 3, {num_layers = 2, bidirectional = true}), nn.GRU(6, 3), nn.RNN(6, 3), nn.TransformerEncoderLayer(6, 2, {dropout = 0})} do
    near(fn.vmap(function(v) return (net(v)) end)(x), each(function(v) return (net(v)) end, x), 1e-4)
  end
end)

it("takes quantiles and windows that differ from example to example", function()
  local x, q, one = ai.randn(4, 3, 7), ai.rand(4, 2), ai.rand(4)
  x[{2, 1, 3}] = 0 / 0
  for _, interpolation in ipairs{"linear", "lower", "higher", "midpoint", "nearest"} do
    for _, name in ipairs{"quantile", "nanquantile"} do
      local function of(o)
        o.interpolation = interpolation
        return function(v, p) return ai.f.nan_to_num(ai.f[name](v, p, o), -9) end
      end
      check(of{dim = 2}, x, q)
      check(of{dim = -2, keepdim = true}, x, q)
      check(of{}, x, one)
      check(of{keepdim = true}, x, q)
    end
  end
  check(function(p) return ai.f.quantile(x[1], p, {dim = 1}) end, q)
  assert.matches("quantile: q is from 2 to 2", message_of(fn.vmap(function(v, p) return v:quantile(p) end), x, one * 0 + 2))
  local sound, window = ai.randn(4, 40), ai.rand(4, 8)
  check(function(v, w) return ai.f.stft(v, 8, {window = w, hop_length = 2}) end, sound, window)
  check(function(v, w) return ai.f.stft(v, 16, {window = w, win_length = 8, center = false, normalized = true}) end, sound, window)
  check(function(v, w)
    local y = ai.f.stft(v, 8, {window = w + 0.5, hop_length = 2})
    return ai.f.istft(y, 8, {window = w + 0.5, hop_length = 2, length = 38})
  end, sound, window)
  check(function(w) return ai.f.stft(sound[1], 8, {window = w}) end, window)
end)

it("addresses each example as if it lay by itself", function()
  local x = ai.randn(3, 4, 5)
  check(function(v) return ai.f.as_strided(v, {3, 2}, {5, 2}, 1) end, x)
  check(function(v) return ai.f.as_strided(v:t():contiguous(), {4}, {1}, 3) end, x)
  assert.matches("reach elements 0 to 20 of an example of 20", message_of(fn.vmap(function(v) return ai.f.as_strided(v, {21}, {1}, 0) end), x))
end)

it("trains models apart at once: gradients of stacked parameters through convolutions", function()
  local x, w, b = ai.randn(3, 2, 4, 6), ai.randn(3, 5, 4, 3), ai.randn(3, 5)
  local function loss(p, v) return ai.f.conv1d(v, p.w, p.b, {padding = 1}):square():mean() end
  local grads = fn.grad(function(p) return fn.vmap(loss)(p, x):sum() end){w = w, b = b}
  for i = 1, 3 do
    local own = fn.grad(loss)({w = w[i], b = b[i]}, x[i])
    near(own.w, grads.w[i])
    near(own.b, grads.b[i])
  end
end)

it("has one error for each wrong option", function()
  local function f(x) return x end
  assert.matches("in_axes is x", message_of(fn.vmap, f, {in_axes = "x"}))
  assert.matches("in_axes%[2%] is 1.5", message_of(fn.vmap, f, {in_axes = {1, 1.5}}))
  assert.matches("out_axis is 0", message_of(fn.vmap, f, {out_axis = 0}))
  assert.matches("randomness is .* not yes", message_of(fn.vmap, f, {randomness = "yes"}))
  assert.matches("options are a number", message_of(fn.vmap, f, 3))
end)
