-- luacheck: ignore 411 421 431 432 (the documentation's program names its values anew)
-- fn: keys, holes, composition, trace and validate, trees, gradients.

local ai = require "aijit"
local fn = require "aijit.fn"
local nets, chain, skip = fn.nets, fn.chain, fn.skip

local function numbers(t) return t:reshape(-1):totable() end
local function shape(t) return {unpack(t.shape)} end

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

describe("the programs of the documentation", function()
  it("encoder, your own parameters, threads, gradients", function()
    local _ = fn._
    local encoder = fn.flexible(function(params, x)
      local layers = {
        nets.mlp(params.mlp, _, {256, 256, 256}),
        nets.layer_norm(params.ln, _, -1),
        nets.branch_linear(params.br, _, 64),
      }
      for i = 1, 3 do
        layers[#layers + 1] = chain{nets.conv_1d(params.conv[i], _, 64, 5), ai.f.relu, nets.max_pool(params, _, {3, 3}, 2)}
      end
      layers[#layers + 1] = function(x) return x:reshape(x:size(1), -1) end
      layers[#layers + 1] = nets.linear(params.linear, _, 4)
      return chain(layers)(x)
    end)

    local key = fn.key(0)
    local x = ai.ones(64, 8)
    local params = fn.trace(encoder, key, x)              -- a nested table of tensors; no arithmetic done at full cost
    local z = encoder(params, x)                          -- pure; sub-trees are usable alone
    assert.are.same({64, 4}, shape(z))
    local fast = ai.jit(encoder)
    for _ = 1, 2 do assert.is_true(ai.equal(z, fast(params, x)):item()) end
    assert.are.same({64, 256}, shape(nets.mlp(params.mlp, x, {256, 256, 256})))

    local linear = fn.flexible(function(params, x, out_target)      -- your own parameters
      fn.validate(params.weights, {x:size(-1), out_target})
      fn.validate(params.bias, {out_target}, {init = "zeros", check = function(b) return b:dim() == 1 end})
      return x:matmul(params.weights) + params.bias
    end)
    local model = linear(_, _, 256)
    local params = fn.trace(model, key, x)
    assert.are.same({weights = {8, 256}, bias = {256}}, fn.tree_map(shape, params))

    local block = function(params, key, x)
      return chain{nets.mlp(params.mlp, _, {256, 256}), nets.dropout(params, key, _, 0.2)}(x)
    end
    local net = function(params, x, key)
      local blocks = fn.thread_params({block, block, block}, params)
      blocks = fn.thread_key(blocks, key)
      return chain(ai.list(blocks, ai.f.relu))(x)
    end
    local k1, k2, key = fn.split(key, 3)

    params = fn.trace(net, k1, x, k2)
    local loss = function(params, batch) return ai.mse_loss(net(params, batch.x, key), batch.y) end
    local batch = {x = x, y = ai.ones(64, 256)}
    local grads, value = fn.value_and_grad(loss)(params, batch)     -- trees in, trees out
    params = fn.tree_map(function(p, g) return p - 0.1 * g end, params, grads)
    assert.is_true(loss(params, batch):item() < value:item())
    params, grads = {encoder = params, head = ai.ones(2)}, {encoder = grads, head = ai.ones(2)}
    params = fn.update_tagged(params, grads, {encoder = 1e-4, default = 1e-3})   -- tags: other rules for other groups
    assert.is_near(1 - 1e-3, params.head[1]:item(), 1e-6)
  end)
end)

describe("keys", function()
  it("are Philox4x32-10: the authors' known answers", function()
    local function hex(...) return ("%08x %08x %08x %08x"):format(...) end
    local all = 2 ^ 32 - 1
    assert.are.equal("6627e8d5 e169c58d bc57ac4c 9b00dbd8", hex(fn.philox({0, 0, 0, 0}, 0, 0)))
    assert.are.equal("408f276d 41c83b0e a20bc7c6 6d5451fd", hex(fn.philox({all, all, all, all}, all, all)))
    assert.are.equal("d16cfe09 94fdcceb 5001e420 24126ea1",
      hex(fn.philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0)))
  end)

  it("give the same numbers again, others for other keys, and leave the program's stream alone", function()
    local state = ai.get_random_state()
    local a, b = fn.split(fn.key(7))
    assert.are.same(numbers(fn.normal(a, {5})), numbers(fn.normal(a, {5})))
    assert.are_not.same(numbers(fn.normal(a, {5})), numbers(fn.normal(b, {5})))
    assert.are.same({fn.split(fn.key(7), 3)}, {fn.split(fn.key(7), 3)})
    assert.are_not.equal(fn.fold_in(a, 1), fn.fold_in(a, 2))
    assert.are_not.equal(fn.fold_in(a, "1"), fn.fold_in(a, 1))
    assert.are_not.equal(fn.fold_in(a, "abcdefgh"), fn.fold_in(a, "abcdefgh\0"))
    assert.are.equal(fn.fold_in(a, "encoder"), fn.fold_in(a, "encoder"))
    assert.are.same(state, ai.get_random_state())
    local seen = {}
    for i = 1, 1000 do
      local text = tostring(fn.fold_in(a, i))
      assert.is_nil(seen[text])
      seen[text] = true
    end
  end)

  it("are normal, uniform, coins, permutations", function()
    local n = fn.normal(fn.key(1), {20000})
    assert.is_near(0, n:mean():item(), 0.03)
    assert.is_near(1, n:std():item(), 0.03)
    local u = fn.uniform(fn.key(1), {20000}, 2, 4)
    assert.is_near(3, u:mean():item(), 0.03)
    assert.is_true(u:min():item() >= 2 and u:max():item() < 4)
    assert.is_near(0.3, fn.bernoulli(fn.key(1), 0.3, {20000}):float():mean():item(), 0.02)
    assert.are.same({1, 2, 3, 4, 5}, numbers((fn.permutation(fn.key(1), 5):sort())))
  end)

  it("refuse what is none", function()
    assert.matches("whole number from 0 up", message_of(fn.key, -1))
    assert.matches("where a key is wanted, as from fn.key", message_of(fn.split, 3))
    assert.matches("whole number or a string", message_of(fn.fold_in, fn.key(1), {}))
    assert.matches("argument 2 is a number, where a key", message_of(fn.trace, function() end, 0))
  end)
end)

describe("holes", function()
  local _ = fn._
  local list = fn.flexible(function(a, b, c, o) return {a, b, c, o and o.x, o and o.y} end, "list")

  it("wait, from left to right, and may be filled with holes again", function()
    assert.are.same({1, 2, 3}, list(1, _, 3)(2))
    assert.are.same({1, 2, 3}, list(_, 2, _)(1, 3))
    assert.are.same({1, 2, 3}, list(_, _, _)(_, 2, _)(1, 3))
    assert.are.same({1, 2, 3, 4, 5}, list(1, _, 3, {x = _, y = _})(2, 4, 5))
    assert.are.same({1, 2, 3, 4, 5}, list(1, 2, 3, {x = 4, y = _})(5))
    local waits = list(1, _, 3)
    assert.are.same({{1, 2, 3}, {1, 9, 3}}, {waits(2), waits(9)})
  end)

  it("stand in the ops too", function()
    assert.are.same({3, 7}, numbers(ai.f.sum(_, 2)(ai.tensor{{1, 2}, {3, 4}})))
    assert.are.same({0, 2}, numbers(chain{ai.f.sub(_, 1), ai.f.relu}(ai.tensor{-3, 3})))
  end)

  it("are errors that say what is missing or too many", function()
    assert.matches("list: it waits for b, and nothing is given", message_of(list(1, _, 3)))
    assert.matches("list: it waits for a, b, and 1 argument is given", message_of(list(_, _, 3), 1))
    assert.matches("list: it waits for b, and 2 arguments are given", message_of(list(1, _, 3), 2, 3))
    assert.matches("list: 5 arguments are too many: it takes a, b, c, o", message_of(list, 1, 2, 3, {}, 5))
    assert.matches("the function at fn_spec.lua:%d+: it waits for q", message_of(fn.flexible(function(q) return q end)(_)))
    assert.matches("a function is wanted", message_of(fn.flexible, 3))
  end)
end)

describe("composition", function()
  local function add(n) return function(x) return x + n end end
  it("chain runs in order, passes all results on, and is the identity when empty", function()
    assert.are.equal(10, chain{add(2), function(x) return x * 2 end}(3))
    assert.are.same({3, 4}, {chain{}(3, 4)})
    assert.are.equal(7, chain{function(x) return x, 4 end, function(a, b) return a + b end}(3))
    assert.are.equal(10, chain{add(2), function(x) return x * 2 end}(fn._)(3))
    assert.are.same({2, 3}, shape(chain{ai.nn.Linear(4, 3)}(ai.ones(2, 4))))
    assert.matches("entry 2 is a number, not a function", message_of(chain, {add(1), 3}))
    assert.matches("entry 1 is a cdata, not a function; is a hole missing", message_of(chain, {ai.ones(1)}))
  end)

  it("skip adds what goes in", function()
    assert.are.same({3, 6}, numbers(skip(function(x) return x * 2 end)(ai.tensor{1, 2})))
  end)

  it("thread binds the first argument: the same, an entry each, a key each", function()
    local function pair(a, b) return {a, b} end
    local fs = {pair, pair, pair}
    local function run(bound) return {bound[1](7), bound[2](7), bound[3](7)} end
    assert.are.same({{5, 7}, {5, 7}, {5, 7}}, run(fn.thread(fs, 5)))
    assert.are.same({{5, 7}, {5, 7}, {5, 7}}, run(fn.thread_identity(fs, 5)))
    assert.are.same({{1, 7}, {2, 7}, {3, 7}}, run(fn.thread_params(fs, {1, 2, 3})))
    local k = {fn.split(fn.key(3), 3)}
    assert.are.same({{k[1], 7}, {k[2], 7}, {k[3], 7}}, run(fn.thread_key(fs, fn.key(3))))
    assert.are.same({{10, 7}, {20, 7}, {30, 7}}, run(fn.thread(fs, 10, function(v, n)
      local parts = {}
      for i = 1, n do parts[i] = v * i end
      return parts
    end)))
    assert.matches("where a key is wanted", message_of(fn.thread_key, fs, 3))
    assert.matches("params is a number", message_of(fn.thread_params, fs, 3))
  end)
end)

describe("trace", function()
  local x = ai.ones(2, 3)

  it("gives the same parameters for the same key, by their names alone", function()
    local one = function(p, t) return nets.linear(p.a, t, 4) end
    local two = function(p, t) return nets.linear(p.a, t, 4) + nets.linear(p.b, t, 4) end
    local first, again, more = fn.trace(one, fn.key(1), x), fn.trace(one, fn.key(1), x), fn.trace(two, fn.key(1), x)
    assert.are.same(numbers(first.a.weights), numbers(again.a.weights))
    assert.are.same(numbers(first.a.weights), numbers(more.a.weights))
    assert.are_not.same(numbers(more.a.weights), numbers(more.b.weights))
    assert.are_not.same(numbers(first.a.weights), numbers(fn.trace(one, fn.key(2), x).a.weights))
    assert.are.equal("cpu", first.a.weights.device)
    assert.is_false(first.a.weights.requires_grad)
  end)

  it("computes shapes only, and gives those of the output", function()
    local ran
    local net = function(p, t, o)
      ran = t.device
      return {y = nets.linear(p, t, 4), rest = o.z}
    end
    local live = ai.memory().cpu.live
    local huge = ai.empty(1000000, 1000, {device = "meta"})
    local params = fn.trace(net, fn.key(1), huge, {z = ai.ones(2)})
    assert.are.equal("meta", ran)
    assert.are.same({y = {1000000, 4}, rest = {2}}, fn.output_shape(net, params, huge, {z = ai.ones(2)}))
    assert.are.same({1000, 4}, shape(params.weights))
    assert.is_true(ai.memory().cpu.live - live < 1e6)
    assert.matches("no elements", message_of(fn.trace, function(_, t) return t:sum():item() end, fn.key(1), x))
  end)

  it("leaves the program's random numbers alone", function()
    local state = ai.get_random_state()
    fn.trace(function(p, t) return nets.linear(p, t * ai.randn(3), 4) end, fn.key(1), x)
    assert.are.same(state, ai.get_random_state())
  end)

  it("takes names and numbers as keys, and a parameter by itself", function()
    local net = function(p, t)
      for i = 1, 2 do t = nets.linear(p.layers[i], t, 3) end
      return t * fn.validate(p.scale, {}, {init = "ones"})
    end
    local params = fn.trace(net, fn.key(1), x)
    assert.are.equal(2, #params.layers)
    assert.are.same({2, 3}, shape(net(params, x)))
    local w = fn.trace(function(p, t) fn.validate(p, {3}, {init = 2}) return t * p + p:sum() end, fn.key(1), x)
    assert.are.same({2, 2, 2}, numbers(w))
  end)

  it("shares a sub-tree that is said to be shared, and no other", function()
    local tied = function(p, t)
      local a = fn.shared(p.a)
      return nets.linear(a, nets.linear(a, t, 3), 3)
    end
    local params = fn.trace(tied, fn.key(1), x)
    assert.are.same({2, 3}, shape(tied(params, x)))
    local message = message_of(fn.trace, function(p, t) return nets.linear(p.a, nets.linear(p.a, t, 3), 3) end, fn.key(1), x)
    assert.matches("params%.a%.weights is declared twice; if two places are meant to share it", message)
    message = message_of(fn.trace, function(p, t) return nets.linear(p.a, nets.linear(p.a, t, 4), 3) end, fn.key(1), x)
    assert.matches("params%.a%.weights is declared twice, as %(3, 4%) and as %(4, 3%)", message)
  end)

  it("says what is wrong while it traces", function()
    local function trace(f) return message_of(fn.trace, f, fn.key(1), x) end
    assert.matches("params%.a%.w is used before fn%.validate", trace(function(p, t) return t * p.a.w end))
    assert.matches("params%.a cannot be a parameter, since it holds w", trace(function(p)
      fn.validate(p.a.w, {2})
      fn.validate(p.a, {2})
    end))
    assert.matches("params%.a is written to", trace(function(p) p.a.b = 3 end))
    assert.matches("no initialiser 'zeross': did you mean 'zeros'", trace(function(p) fn.validate(p.a, {2}, {init = "zeross"}) end))
    assert.matches("unknown option 'inti': did you mean 'init'", trace(function(p) fn.validate(p.a, {2}, {inti = 1}) end))
    assert.matches("a list of whole numbers", trace(function(p) fn.validate(p.a, {2.5}) end))
    assert.matches("initialiser of params%.a gave the sizes %(3%), where %(2%) is wanted", trace(function(p)
      fn.validate(p.a, {2}, {init = function() return ai.ones(3) end})
    end))
    assert.matches("first value of params%.a, of sizes %(2%), does not pass its check", trace(function(p)
      fn.validate(p.a, {2}, {init = "ones", check = function(v) return v:max():item() < 1 end})
    end))
  end)
end)

describe("validate", function()
  it("checks the shape, the presence and the check of every run", function()
    local t = ai.ones(2)
    assert.are.equal(t, fn.validate(t, {2}, {check = function(v) return v:sum():item() == 2 end}))
    assert.matches("has the sizes %(2%), where %(3%) is wanted", message_of(fn.validate, t, {3}))
    assert.matches("does not pass its check", message_of(fn.validate, t, {2}, {check = function() return false end}))
    assert.matches("is missing, where a tensor of sizes %(3%)", message_of(fn.validate, nil, {3}))
    assert.matches("linear's weights has the sizes %(3, 4%), where %(3, 5%) is wanted",
      message_of(nets.linear, {weights = ai.ones(3, 4)}, ai.ones(2, 3), 5))
    assert.matches("linear: params is nil", message_of(nets.linear, nil, ai.ones(2, 3), 5))
  end)

  it("gives first values by name, function, number, tensor, or name and options", function()
    local function first(shape_, init) return fn.trace(function(p) fn.validate(p.a, shape_, {init = init}) end, fn.key(1)).a end
    assert.are.same({0, 0}, numbers(first({2}, "zeros")))
    assert.are.same({1, 1}, numbers(first({2}, "ones")))
    assert.are.same({3, 3}, numbers(first({2}, 3)))
    assert.are.same({5, 6}, numbers(first({2}, ai.tensor{5, 6})))
    assert.is_near(0.02, first({100, 100}, {"normal", std = 0.02}):std():item(), 0.001)
    assert.is_near(1 / 10, first({100, 100}, "normal_scaled_by_rsqrt"):std():item(), 0.005)
    assert.is_near(math.sqrt(2 / 100), first({100, 200}, "kaiming_normal"):std():item(), 0.005)
    assert.is_near(math.sqrt(2 / 300), first({100, 200}, "glorot_uniform"):std():item(), 0.005)
    -- a kernel is (out, in, *size)
    assert.is_near(math.sqrt(2 / 90), first({50, 10, 3, 3}, "he_normal"):std():item(), 0.005)
    local q = first({3, 3}, "orthogonal")
    assert.is_true(ai.allclose(q:matmul(q:t()), ai.eye(3), {atol = 1e-5}):item())
    local base = first({100, 100})
    assert.is_true(base:abs():max():item() <= 0.2)
    assert.is_near(0.1 * 0.8796, base:std():item(), 0.003)     -- of the normal cut off at two deviations
    assert.are.same({2, 3}, numbers(first({2}, function(key, s, o)
      assert(fn.is_key(key) and s[1] == 2 and type(o) == "table")
      return ai.tensor{2, 3}
    end)))
  end)
end)

describe("trees", function()
  local t = {b = {2, 3}, a = {x = 1}}

  it("are mapped in order, several at once", function()
    assert.are.same({b = {20, 30}, a = {x = 10}}, fn.tree_map(function(v) return v * 10 end, t))
    assert.are.same({b = {4, 6}, a = {x = 2}}, fn.tree_map(function(v, w) return v + w end, t, t))
    local leaves, paths = fn.tree_leaves(t)
    assert.are.same({{1, 2, 3}, {"a.x", "b.1", "b.2"}}, {leaves, paths})
    assert.are.same({b = {5, 6}, a = {x = 4}}, fn.tree_unflatten(t, {4, 5, 6}))
    assert.are.equal(6, fn.tree_reduce(function(s, v) return s + v end, t, 0))
    assert.are.same({["a.x"] = 1, ["b.1"] = 2, ["b.2"] = 3}, fn.to_flat(t))
    assert.are.same(t, fn.from_flat(fn.to_flat(t)))
  end)

  it("are cut into chunks along a dimension", function()
    local x = ai.arange(1, 10, 1):reshape(5, 2)
    local chunks = fn.tree_chunk({x = x, y = {ai.arange(1, 5, 1), "name"}, n = 3}, 2)
    assert.are.equal(2, #chunks)
    assert.are.same({3, 2}, {unpack(chunks[1].x.shape)})
    assert.are.same({4, 5}, chunks[2].y[1]:totable())
    assert.are.same({"name", 3}, {chunks[2].y[2], chunks[1].n})
    assert.are.equal(2, #fn.tree_chunk({x}, 9, 2))
    assert.are.same({1, 3}, {unpack(fn.tree_chunk(ai.ones(1, 3), 4)[1].shape)})
    assert.has_error(function() fn.tree_chunk({x}, 0) end)
  end)

  it("of another structure are errors that name the place", function()
    local function f() end
    assert.matches("tree 2 has b%.3, and the first has not", message_of(fn.tree_map, f, t, {b = {2, 3, 4}, a = {x = 1}}))
    assert.matches("differ at b%.2: a number in the first, nothing in tree 2", message_of(fn.tree_map, f, t, {b = {2}, a = {x = 1}}))
    assert.matches("differ at a: a table in the first, a number in tree 2", message_of(fn.tree_map, f, t, {b = {2, 3}, a = 1}))
  end)

  it("have tags: the last key, and all keys on the way", function()
    assert.are.same({"x"}, {unpack(fn.immediate_tags(t).a.x)})
    assert.are.same({"b", 2}, {unpack(fn.lineage_tags(t).b[2])})
  end)

  it("are updated by tags: the most said, else the nearest; functions, false, default", function()
    local params = {enc = {{w = ai.tensor{1}, b = ai.tensor{1}}, {w = ai.tensor{1}, b = ai.tensor{1}}}, head = ai.tensor{1}}
    local grads = fn.tree_map(function() return ai.tensor{1} end, params)
    local function updated(rules, ...)
      return (select(1, fn.tree_leaves(fn.tree_map(function(v) return v:item() end, fn.update_tagged(params, grads, rules, ...)))))
    end
    -- order: enc.1.b, enc.1.w, enc.2.b, enc.2.w, head
    assert.are.same({0.5, 0.5, 0.5, 0.5, 0.75}, updated{enc = 0.5, default = 0.25})
    assert.are.same({1, 0.5, 1, 0.5, 0.75}, updated{enc = 0.5, b = false, default = 0.25})
    assert.are.same({1, 0, 1, 0.5, 0.75}, updated{enc = 0.5, b = false, ["enc.1.w"] = 1, default = 0.25})
    assert.are.same({4, 4, 4, 4, 0.75}, updated({enc = function(p, g, m) return p + g + m end, default = 0.25}, fn.tree_map(function() return 2 end, params)))
    assert.matches("no parameter has the tag 'ecn': did you mean 'enc'", message_of(fn.update_tagged, params, grads, {ecn = 1, default = 1}))
    assert.matches("head has none of the tags, and there is no default", message_of(fn.update_tagged, params, grads, {enc = 1}))
  end)
end)

describe("gradients", function()
  it("are trees like the argument; what is not used has zeros", function()
    local function f(p, x) return (p.a * x):sum() + p.b[1]:square():sum(), "aux" end
    local p = {a = ai.tensor{1, 2}, b = {ai.tensor{3}}, c = ai.tensor{1, 1}}
    local grads, value, aux = fn.value_and_grad(f)(p, ai.tensor{10, 20})
    assert.are.same({{10, 20}, {6}, {0, 0}}, {numbers(grads.a), numbers(grads.b[1]), numbers(grads.c)})
    assert.are.equal(59, value:item())
    assert.is_false(value.requires_grad)
    assert.are.equal("aux", aux)
    assert.is_false(p.a.requires_grad)
    assert.is_nil(p.a.grad)
    assert.are.same({1, 2}, numbers(fn.grad(f, {argnum = 2})(p, ai.tensor{10, 20})))
  end)

  it("have gradients", function()
    local cube = function(w) return (w * w * w):sum() end
    local second = fn.grad(function(w) return fn.grad(cube)(w):sum() end)
    assert.are.same({6, 12}, numbers(second(ai.tensor{1, 2})))
    local third = fn.grad(function(w) return second(w):sum() end)
    assert.are.same({6, 6}, numbers(third(ai.tensor{1, 2})))
    -- the penalty on an input's gradient, with respect to weights: d/dw |d(w x^2)/dx|^2 = d/dw (2 w x)^2 = 8 w x^2
    local penalty = function(w, x) return fn.grad(function(v) return (w * v * v):sum() end)(x):square():sum() end
    assert.are.same({8 * 3 * 25}, numbers(fn.grad(penalty)(ai.tensor{3}, ai.tensor{5})))
  end)

  it("say what cannot be differentiated", function()
    assert.matches("returned a tensor of 2 elements", message_of(fn.grad(function(w) return w end), ai.ones(2)))
    assert.matches("a is of dtype i64", message_of(fn.grad(function(p) return p.a end), {a = ai.arange(3)}))
    assert.matches("argument 2, to be differentiated by, is nil", message_of(fn.grad(function(w) return w end, {argnum = 2}), ai.ones(1)))
    assert.matches("a function is wanted", message_of(fn.grad, 3))
    assert.are.same({0}, numbers(fn.grad(function() return ai.ones(1) end)(ai.ones(1))))
    -- An error inside leaves nothing behind.
    pcall(fn.grad(function() error "x" end), ai.ones(1))
    local _, value = fn.value_and_grad(function(w) return w:sum() end)(ai.ones(1))
    assert.is_false(value.requires_grad)
  end)
end)
