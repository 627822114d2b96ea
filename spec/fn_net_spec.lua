-- fn.nets: values by formulas written out, gradients, bad input.

local ai = require "aijit"
local fn = require "aijit.fn"
local nn, nets = ai.nn, fn.nets
local _ = fn._
local key = fn.key(3)

local function numbers(t) return t:reshape(-1):totable() end
local function shape(t) return {unpack(t.shape)} end

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function near(a, b, tolerance)
  assert.are.same(shape(a), shape(b))
  local difference = a:numel() > 0 and (a - b):abs():max():item() or 0
  assert.is_true(difference <= (tolerance or 1e-5), "differs by " .. difference)
end

--- A net's parameters, its output, and that every parameter has a gradient that differences confirm (in double).
local function run(net, ...)
  local params = fn.trace(net, key, ...)
  return params, net(params, ...)
end

local function check_gradient(net, ...)
  local args, n = {...}, select("#", ...)
  for i = 1, n do if ai.is_tensor(args[i]) and args[i]:is_floating_point() then args[i] = args[i]:double() end end
  local params = fn.tree_map(function(p) return (p + fn.uniform(key, p.shape, -0.3, 0.3)):double() end, fn.trace(net, key, ...))
  local function loss(p)
    local y = net(p, unpack(args, 1, n))
    return (y * ai.linspace(0.5, 1.5, y:numel(), {dtype = "f64"}):reshape(y.shape)):sum()
  end
  local grads = fn.grad(loss)(params)
  local directions = fn.tree_map(function(p) return fn.normal(key, p.shape):double() end, params)
  local e = 1e-5
  local function at(s) return loss(fn.tree_map(function(p, d) return p + d * s end, params, directions)):item() end
  local slope = (at(e) - at(-e)) / (2 * e)
  local told = 0
  fn.tree_map(function(g, d) told = told + (g * d):sum():item() end, grads, directions)
  assert.is_near(slope, told, 1e-5 * math.max(1, math.abs(slope)))
end

describe("matrices", function()
  local x = ai.randn(2, 5, 3)

  it("linear is x W + b", function()
    local net = nets.linear(_, _, 4, {b_init = "normal"})
    local p, y = run(net, x)
    assert.are.same({weights = {3, 4}, bias = {4}}, fn.tree_map(shape, p))
    near(y, ai.f.linear(x, p.weights:t(), p.bias))
    near(nets.linear(p, x, 4, {activation = "tanh"}), y:tanh())
    near(nets.linear(p, x, 4, {activation = ai.f.exp}), y:exp())
    near(nets.linear(p, x, 4, {use_bias = false}), x:matmul(p.weights))
    assert.is_nil(fn.trace(nets.linear(_, _, 4, {use_bias = false}), key, x).bias)
    check_gradient(net, x)
  end)

  it("branch_linear, linear_like and mlp are made of it", function()
    local p, y = run(nets.branch_linear(_, _, 4), x)
    assert.are.same({2, 5, 4, 3}, shape(y))
    near(y:reshape(2, 5, 12), nets.linear(p, x, 12))
    local q, z = run(nets.linear_like(_, _, ai.ones(1, 7)), x)
    near(z, nets.linear(q, x, 7))
    local r, w = run(nets.mlp(_, _, {6, 4}, {activation = "tanh"}), x)
    near(w, (x:matmul(r[1].weights) + r[1].bias):tanh():matmul(r[2].weights) + r[2].bias)
    assert.is_true(nets.mlp(r, x, {6, 4}, {activation_final = "relu"}):min():item() >= 0)
    check_gradient(nets.mlp(_, _, {6, 4}, {activation = "tanh"}), x)
  end)

  it("layer_norm is (x - mean) / sqrt(var + eps) * scale + offset, over any one dimension", function()
    for _, axis in ipairs {-1, 2, 1, -2} do
      local net = nets.layer_norm(fn._, fn._, axis, {scale_init = "normal", offset_init = "normal", eps = 1e-3})
      local p, y = run(net, x)
      assert.are.same({x:size(axis)}, shape(p.scale))
      local expected = (x - x:mean(axis, {keepdim = true})) / (x:var(axis, {correction = 0, keepdim = true}) + 1e-3):sqrt()
      local wide = {1, 1, 1}
      wide[axis > 0 and axis or 4 + axis] = x:size(axis)
      near(y, expected * p.scale:reshape(wide) + p.offset:reshape(wide), 1e-4)
      check_gradient(net, x)
    end
    assert.are.same({}, fn.trace(nets.layer_norm(_, _, -1, {create_scale = false, create_offset = false}), key, x))
  end)

  it("dropout keeps each element with probability 1 - p, by the key alone", function()
    local ones = ai.ones(20000)
    local y = nets.dropout({}, key, ones, 0.25)
    assert.is_near(0.75, y:gt(0):float():mean():item(), 0.02)
    assert.is_near(1, y:mean():item(), 0.03)
    assert.are.same(numbers(y), numbers(nets.dropout({}, key, ones, 0.25)))
    assert.are_not.same(numbers(y), numbers(nets.dropout({}, fn.fold_in(key, 1), ones, 0.25)))
    assert.are.equal(ones, nets.dropout({}, key, ones, 0))
    near(fn.grad(function(v) return nets.dropout({}, key, v, 0.25):sum() end)(ones), y)
    assert.matches("dropout: key is a number", message_of(nets.dropout, {}, 3, ones))
    assert.matches("p is 2; a probability, between 0 and 1 is wanted", message_of(nets.dropout, {}, key, ones, 2))
  end)

  it("token_embed takes rows, from a table that may be given", function()
    local ids = ai.tensor({{1, 3}, {2, 2}}, {dtype = "i64"})
    local table_ = ai.randn(3, 4)
    local p, y = run(nets.token_embed(_, _, 3, 4, {init = table_}), ids)
    near(p.embeddings, table_)
    near(y[{2, 1}], table_[2])
    near(y[{1, 2}], table_[3])
    check_gradient(nets.token_embed(_, _, 3, 4), ids)
  end)

  it("say what is wrong", function()
    assert.matches("linear: it has no argument 'biass'", message_of(nets.linear, {}, x, 4, {biass = 1}))
    assert.matches("no argument 'use_bais': did you mean 'use_bias'", message_of(nets.linear, {}, x, 4, {use_bais = 1}))
    assert.matches("linear: out_dim is 2.5", message_of(nets.linear, {}, x, 2.5))
    assert.matches("mlp: out_dims is 4; a list of whole numbers from 1 is wanted", message_of(nets.mlp, {}, x, 4))
    assert.matches("no activation 'reluu': did you mean 'relu'", message_of(fn.trace, nets.linear(_, _, 4, {activation = "reluu"}), key, x))
    assert.matches("nets.linear: 5 arguments are too many", message_of(nets.linear, {}, x, 4, {}, 5))
  end)
end)

describe("convolutions", function()
  it("are those of nn, 'same' by default", function()
    local sizes = {{9}, {7, 6}, {4, 5, 3}}
    for n = 1, 3 do
      local x = ai.randn({2, 4, unpack(sizes[n])})
      local net = nets[("conv_%dd"):format(n)]
      local p, y = run(net(_, _, 6, 3, {groups = 2, b_init = "normal"}), x)
      near(y, ai.f[("conv%dd"):format(n)](x, p.kernel, p.bias, {padding = 1, groups = 2}))
      assert.are.same({6, 2, 3, n > 1 and 3 or nil, n > 2 and 3 or nil}, shape(p.kernel))
      local q, z = run(net(_, _, 6, 2, {padding = "valid", stride = 2, dilation = 2}), x)
      near(z, ai.f[("conv%dd"):format(n)](x, q.kernel, q.bias, {stride = 2, dilation = 2}))
      check_gradient(net(_, _, 2, 3), x)
      near(net(p, x[1], 6, 3, {groups = 2}), y[1])                        -- without a batch
    end
  end)

  it("pad 'same' so that the size is divided by the stride, rounded up; 'causal' before, 'circular' around", function()
    for _, case in ipairs {{7, 3, 2}, {8, 3, 2}, {8, 5, 3}, {5, 2, 1}, {6, 4, 4}} do
      local size, k, stride = unpack(case)
      local _, y = run(nets.conv_1d(fn._, fn._, 1, k, {stride = stride}), ai.randn(1, 2, size))
      assert.are.equal(math.ceil(size / stride), y:size(3))
    end
    local x = ai.tensor{{{1, 2, 3, 4}}}
    local p = {kernel = ai.tensor{{{1, 10, 100}}}}
    local function conv(padding) return numbers(nets.conv_1d(p, x, 1, 3, {padding = padding, use_bias = false})) end
    assert.are.same({210, 321, 432, 43}, conv "SAME")
    assert.are.same({100, 210, 321, 432}, conv "causal")
    assert.are.same({214, 321, 432, 143}, conv "circular")
    assert.are.same({321, 432}, conv "valid")
    assert.are.same({100, 210, 321, 432, 43, 4}, conv(2))
    assert.are.same({10, 20, 30, 40}, numbers(nets.conv_1d(p, x, 1, 3, {mask = ai.tensor{0, 1, 0}, use_bias = false})))
    assert.matches('padding is "sam"; same, valid', message_of(conv, "sam"))
  end)

  it("transposed give the size times the stride, and undo the shape", function()
    for n = 1, 3 do
      local x = ai.randn({2, 4, unpack{3, 4, 2, n == 0 and 1 or nil}}):reshape({2, 4, unpack(n == 1 and {24} or n == 2 and {6, 4} or {3, 4, 2})})
      local name = ("conv_transpose_%dd"):format(n)
      local p, y = run(nets[name](_, _, 6, 3, {stride = 2, padding = "valid"}), x)
      near(y, ai.f[("conv_transpose%dd"):format(n)](x, p.kernel, p.bias, {stride = 2}))
      for _, case in ipairs {{3, 2}, {4, 2}, {2, 3}, {5, 1}} do
        local k, stride = unpack(case)
        local _, z = run(nets[name](fn._, fn._, 1, k, {stride = stride}), x)
        for i = 1, n do assert.are.equal(x:size(i + 2) * stride, z:size(i + 2)) end
      end
    end
    check_gradient(nets.conv_transpose_1d(_, _, 2, 3, {stride = 2}), ai.randn(1, 2, 4))
    assert.matches("conv_1d: the input has 4 dimensions", message_of(nets.conv_1d, {}, ai.ones(1, 1, 2, 2), 1, 3))
    assert.matches("3 groups do not divide 4 channels", message_of(nets.conv_1d, {}, ai.ones(1, 4, 2), 6, 3, {groups = 3}))
  end)
end)

describe("pools", function()
  local x = ai.tensor{{{1, 5, 2, 4, 3}}}
  it("leave batch and channels alone for a number, and cover the last dimensions for a list", function()
    assert.are.same({5, 5, 5, 4, 4}, numbers(nets.max_pool({}, x, 3)))
    assert.are.same({5, 5, 4}, numbers(nets.max_pool({}, x, 3, 2)))
    assert.are.same({5, 4}, numbers(nets.max_pool({}, x, 2, 2, {padding = "valid"})))
    near(nets.avg_pool({}, x, 3), ai.tensor{{{3, 8 / 3, 11 / 3, 3, 3.5}}})
    near(nets.avg_pool({}, x, 2, 2), ai.tensor{{{3, 3, 3}}})
    local image = ai.randn(2, 3, 6, 4)
    near(nets.max_pool({}, image, 2, 2), (ai.f.max_pool2d(image, 2)))
    near(nets.avg_pool({}, image, 2, 2, {padding = "valid"}), ai.f.avg_pool2d(image, 2))
    assert.are.same({2, 2, 3, 2}, shape(nets.max_pool({}, image, {2, 2, 2}, 2)))
    assert.are.same({2, 3, 6, 2}, shape(nets.max_pool({}, image, {3}, 2)))
    assert.is_true(nets.max_pool({}, image * 0 - 5, 3):max():item() == -5)       -- padding is no element
  end)

  it("have gradients, and say what is wrong", function()
    assert.are.same({0, 3, 0, 2, 0}, numbers(fn.grad(function(v) return nets.max_pool({}, v, 3):sum() end)(x)))
    near(fn.grad(function(v) return nets.avg_pool({}, v, 2, 2):sum() end)(x), ai.tensor{{{0.5, 0.5, 0.5, 0.5, 1}}})
    assert.matches("max_pool: a window of 0 dimensions on an input of 2", message_of(nets.max_pool, {}, ai.ones(2, 2), 2))
    assert.matches("no argument 'pad': did you mean 'padding'", message_of(nets.max_pool, {}, x, 2, 2, {pad = 1}))
  end)
end)

describe("attention", function()
  local x, memory = ai.randn(2, 3, 4), ai.randn(2, 5, 6)

  it("of one head is softmax(q k^T / sqrt(d)) v", function()
    local net = nets.single_head_attention(_, _, _, _, {b_init = "normal"})
    local p, y = run(net, x, memory, memory)
    local function project(q, t) return t:matmul(q.weights) + q.bias end
    local q, k, v = project(p.q, x), project(p.k, memory), project(p.v, memory)
    near(y, (q:matmul(k:transpose(2, 3)) / 2):softmax(-1):matmul(v))
    check_gradient(net, x, memory, memory)
  end)

  it("of several heads is each part by itself; masks and causality hide keys", function()
    local p, y = run(nets.multi_head_attention(_, _, _, _, 2), x, memory, memory)
    local q = nets.linear(p.q, x, 4)
    local k, v = nets.linear(p.k, memory, 4), nets.linear(p.v, memory, 4)
    local parts = {}
    for h = 1, 2 do
      local range = {{}, {}, {2 * h - 1, 2 * h}}
      parts[h] = (q[range]:matmul(k[range]:transpose(2, 3)) / math.sqrt(2)):softmax(-1):matmul(v[range])
    end
    near(y, nets.linear(p.out, ai.cat(parts, 3), 4))
    local mask = ai.tensor{1, 1, 0, 1, 0}
    local shorter = memory:index_select(2, ai.tensor({1, 2, 4}, {dtype = "i64"}))
    near(nets.multi_head_attention(p, x, memory, memory, 2, {mask = mask}), nets.multi_head_attention(p, x, shorter, shorter, 2))
    local s, z = run(nets.multi_head_self_attention(_, _, 2, {is_causal = true}), x)
    near(z[{{}, 1}], nets.multi_head_self_attention(s, x[{{}, {1, 1}}], 2)[{{}, 1}])
    near(z[{{}, {1, 2}}], nets.multi_head_self_attention(s, x[{{}, {1, 2}}], 2, {is_causal = true}))
    check_gradient(nets.multi_head_self_attention(_, _, 2, {is_causal = true}), x)
    assert.matches("3 heads do not divide 4 features", message_of(fn.trace, nets.multi_head_self_attention(_, _, 3), key, x))
  end)

  it("that is linear is the sum over keys of feature products", function()
    local net = nets.linear_attention(_, _, _, _, 1)
    local p, y = run(net, x, memory, memory)
    local q, k, v = nets.linear(p.q, x, 4):elu() + 1, nets.linear(p.k, memory, 4):elu() + 1, nets.linear(p.v, memory, 4)
    local scores = q:matmul(k:transpose(2, 3))
    near(y, nets.linear(p.out, (scores / scores:sum(3, {keepdim = true})):matmul(v), 4))
    check_gradient(net, x, memory, memory)
    assert.matches("there is no mask", message_of(nets.linear_attention, p, x, x, x, 1, {is_causal = true}))
  end)

  it("in a block is attention and an mlp around residuals", function()
    local net = nets.transformer_block(_, _, 2, {mlp_dim = 5})
    local p, y = run(net, x)
    local h = x + nets.multi_head_self_attention(p.attention, nets.layer_norm(p.ln1, x), 2)
    near(y, h + nets.mlp(p.mlp, nets.layer_norm(p.ln2, h), {5, 4}, {activation = "gelu"}))
    check_gradient(net, x)
  end)
end)

describe("recurrent nets", function()
  local x = ai.randn(2, 3, 4)
  local function part(t, i) return t[{{}, {5 * i - 4, 5 * i}}] end

  it("rnn: h = tanh(x W + b + h U)", function()
    local net = nets.rnn(_, _, 5, {b_init = "normal"})
    local p, y, last = (function() local q = fn.trace(net, key, x) return q, net(q, x) end)()
    local h = ai.zeros(2, 5)
    for t = 1, 3 do
      h = (x[{{}, t}]:matmul(p.w_ih) + p.bias + h:matmul(p.w_hh)):tanh()
      near(y[{{}, t}], h)
    end
    near(last, h)
    -- A sequence in two halves, the state handed on.
    local y1, s = net(p, x[{{}, {1, 1}}])
    near(y1[{{}, 1}], y[{{}, 1}])
    near((nets.rnn(p, x[{{}, {2, 3}}], 5, {state = s})), y[{{}, {2, 3}}])
    near((nets.rnn(p, x:flip{2}, 5, {reverse = true})), y:flip{2})
    check_gradient(nets.rnn(_, _, 5), x)
  end)

  it("gru: h = (1 - z) n + z h", function()
    local net = nets.gru(_, _, 5, {b_init = "normal"})
    local p = fn.trace(net, key, x)
    local y = net(p, x)
    local h = ai.zeros(2, 5)
    for t = 1, 3 do
      local a, b = x[{{}, t}]:matmul(p.w_ih) + p.bias, h:matmul(p.w_hh)
      local r, z = (part(a, 1) + part(b, 1)):sigmoid(), (part(a, 2) + part(b, 2)):sigmoid()
      local n = (part(a, 3) + r * (part(b, 3) + p.bias_n)):tanh()
      h = (1 - z) * n + z * h
      near(y[{{}, t}], h)
    end
    check_gradient(net, x)
  end)

  it("lstm: c = f c + i g, h = o tanh(c)", function()
    local net = nets.lstm(_, _, 5, {b_init = "normal"})
    local p = fn.trace(net, key, x)
    local y, state = net(p, x)
    local h, c = ai.zeros(2, 5), ai.zeros(2, 5)
    for t = 1, 3 do
      local a = x[{{}, t}]:matmul(p.w_ih) + p.bias + h:matmul(p.w_hh)
      c = part(a, 2):sigmoid() * c + part(a, 1):sigmoid() * part(a, 3):tanh()
      h = part(a, 4):sigmoid() * c:tanh()
      near(y[{{}, t}], h)
    end
    near(state[1], h)
    near(state[2], c)
    check_gradient(net, x)
    assert.matches("lstm: the input has 2 dimensions; %(N, T, C%)", message_of(fn.trace, net, key, ai.ones(2, 3)))
    assert.matches("rnn: hidden is nil", message_of(fn.trace, function(q, t) return nets.rnn(q, t) end, key, x))
  end)
end)

it("sequential gives each layer its own entry", function()
  local x = ai.randn(2, 3)
  local net = nets.sequential(_, _, {nets.linear(_, _, 4), function(_, t) return t:relu() end, nets.linear(_, _, 2)})
  assert.matches("it waits for params, x", message_of(net, {}))
  local layers = {nets.linear(_, _, 4), function(_, t) return t:relu() end, nets.linear(_, _, 2)}
  local p = fn.trace(function(q, t) return nets.sequential(q, t, layers) end, key, x)
  assert.are.same({3, 4}, shape(p[1].weights))
  near(nets.sequential(p, x, layers), nets.linear(p[3], nets.linear(p[1], x, 4):relu(), 2))
end)

it("the same network as nn, equal weights, equal outputs and gradients", function()
  local x = ai.randn(2, 1, 8, 8)
  local net = function(p, t)
    t = nets.max_pool({}, nets.conv_2d(p.conv, t, 4, 3):relu(), 2, 2)
    return nets.linear(p.out, t:flatten(2), 3)
  end
  local p = fn.trace(net, key, x)
  local m = nn.Sequential{nn.Conv2d(1, 4, 3, {padding = 1}), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)}
  m:load_state_dict{["0.weight"] = p.conv.kernel, ["0.bias"] = p.conv.bias, ["4.weight"] = p.out.weights:t(), ["4.bias"] = p.out.bias}
  near(net(p, x), m(x))
  local grads = fn.grad(function(q) return net(q, x):square():sum() end)(p)
  m(x):square():sum():backward()
  near(grads.conv.kernel, m[1].weight.grad, 1e-3)
  near(grads.out.weights:t(), m[5].weight.grad, 1e-3)
end)
