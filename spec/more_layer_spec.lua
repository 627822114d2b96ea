--- Layers that PyTorch writes otherwise or not at all, against their formulas: those of spec/layer_spec.lua that no other spec has.

local ai = require "aijit"
local nn = ai.nn

local function refused(text, ...)
  local ok, why = pcall(...)
  assert.is_false(ok)
  assert.is_truthy(tostring(why):find(text, 1, true), tostring(why))
end

local function near(a, b, most)
  assert.are.same(b.shape, a.shape)
  assert.is_true((a:double() - b:double()):abs():max():item() <= (most or 1e-6))
end

describe("CTCLoss", function()
  it("is ctc_loss with the options kept, and refuses a blank that is no class", function()
    ai.manual_seed(3)
    local x, targets = ai.randn(5, 2, 4):log_softmax(3), ai.tensor({{1, 3}, {3, 3}}, {dtype = "i64"})
    local given = {x, targets, {5, 4}, {2, 1}}
    local loss = nn.CTCLoss{blank = 2, reduction = "none"}
    near(loss(unpack(given)), ai.f.ctc_loss(x, targets, {5, 4}, {2, 1}, {blank = 2, reduction = "none"}), 0)
    refused("CTCLoss: blank is 0", nn.CTCLoss, {blank = 0})
    refused("blank is 9 of 4 classes", nn.CTCLoss{blank = 9}, unpack(given))
    near(nn.from_spec(loss:to_spec())(unpack(given)), loss(unpack(given)), 0)
  end)
end)

describe("CrossMapLRN2d", function()
  it("divides by k + alpha / size times the squares around, to the power of beta; an even size counts one channel fewer", function()
    local x = ai.randn(1, 5, 1, 1)
    for size, reach in pairs{[1] = 0, [2] = 0, [3] = 1, [4] = 1, [5] = 2} do
      local y = nn.CrossMapLRN2d(size, {alpha = 0.5, beta = 0.6, k = 2})(x):flatten():totable()
      local v = x:flatten():totable()
      for c = 1, 5 do
        local sum = 0
        for i = math.max(1, c - reach), math.min(5, c + reach) do sum = sum + v[i] ^ 2 end
        assert.is_near(v[c] / (2 + 0.5 / size * sum) ^ 0.6, y[c], 1e-6)
      end
    end
  end)
end)

describe("LastBatchNorm", function()
  it("normalises by running statistics, which training moves first and evaluation leaves", function()
    local norm = nn.LastBatchNorm(2, {momentum = 0.5, affine = false, eps = 0})
    near(norm(ai.tensor{{1, 0}, {3, 4}}), ai.tensor{{0, -1 / math.sqrt(2.5)}, {2, 3 / math.sqrt(2.5)}})
    near(norm.mean, ai.tensor{1, 1})
    near(norm.var, ai.tensor{1, 2.5})
    norm:eval()
    near(norm(ai.tensor{1, 1}), ai.zeros(2))
    near(norm.mean, ai.tensor{1, 1})
  end)

  it("with momentum 0 gives unit rows, and learns a scale and a shift", function()
    local norm, x = nn.LastBatchNorm{momentum = 0, eps = 0}, ai.randn(3, 50, 4) * 5 + 2
    local y = norm(x):reshape(-1, 4)
    near(y:mean{1}, ai.zeros(4), 1e-5)
    near(y:square():mean{1}, ai.ones(4), 1e-5)
    assert.are.equal(2, #norm:parameters())
    local before = norm.mean:clone()
    refused("a batch of (0, 4) has no mean to learn from", norm, ai.ones(0, 4))
    near(norm.mean, before, 0)
    assert.are.same({0, 4}, norm:eval()(ai.ones(0, 4)).shape)
    refused("momentum is 2", nn.LastBatchNorm, 3, {momentum = 2})
  end)
end)

describe("Dropout in place", function()
  it("writes to its input, and gradients pass", function()
    for name in ("Dropout Dropout1d Dropout2d Dropout3d AlphaDropout"):gmatch "%S+" do
      local layer = nn[name](0.5, {inplace = true})
      local shape = ({Dropout1d = {8, 4, 5}, Dropout2d = {8, 4, 5, 2}, Dropout3d = {8, 4, 2, 2, 2}})[name] or {8, 20}
      local x = ai.ones(shape):requires_grad_(true)
      local inner = x * 1
      local y = layer(inner)
      assert.is_true(y:is_same(inner) and not y:equal(ai.ones(shape)):item(), name)
      y:sum():backward()
      if name ~= "AlphaDropout" then near(x.grad, y:detach(), 0) else assert.is_truthy(x.grad) end
      local same = ai.ones(shape)
      assert.is_true(layer:eval()(same):equal(ai.ones(shape)):item())
    end
  end)
end)

describe("nn.init.dirac_", function()
  it("makes a convolution that hands its input on, in each group", function()
    for n = 1, 3 do
      local sizes = {2, 4}
      for d = 1, n do sizes[2 + d] = 3 + d end
      local conv, x = nn["Conv" .. n .. "d"](4, 4, 3, {padding = 1, groups = 2, bias = false}), ai.randn(sizes)
      nn.init.dirac_(conv.weight, {groups = 2})
      near(conv(x), x)
    end
    local wide = nn.init.dirac_(ai.ones(3, 2, 2))
    assert.are.same({{{0, 1}, {0, 0}}, {{0, 0}, {0, 1}}, {{0, 0}, {0, 0}}}, wide:totable())
    refused("nn.init.dirac_: a tensor is wanted, not a number", nn.init.dirac_, 5)
    refused("(out, in, *kernel), not (3, 3)", nn.init.dirac_, ai.ones(3, 3))
    refused("groups is 2, which does not divide 3 channels", nn.init.dirac_, ai.ones(3, 2, 2), {groups = 2})
  end)
end)

describe("KMeans", function()
  local function blobs()
    local x = ai.randn(4, 30, 2) * 0.1
    local at = ai.tensor{{0, 0}, {9, 0}, {0, 9}, {9, 9}}
    return x + at:unsqueeze(2), at
  end

  it("fits the means of groups, and gives the nearest center", function()
    ai.manual_seed(5)
    local x = blobs()
    local layer, mean = nn.KMeans(4):fit(x)
    local codes = layer(x)
    assert.are.same({4, 30}, codes.shape)
    local seen = {}
    for g = 1, 4 do
      local code = codes[{g, 1}]:item()
      assert.is_true(codes[g]:eq(code):all():item() and not seen[code])
      seen[code] = true
      near(layer.centers[code], x[g]:mean{1}, 1e-5)
    end
    assert.is_near((x - layer:decode(codes)):square():sum{3}:mean():item(), mean, 1e-5)
    assert.is_true(mean < 0.05)
  end)

  it("gives each row the center nearest to it, before a fit too", function()
    local layer, x = nn.KMeans(3, 7), ai.randn(20, 3)
    local d = (x:unsqueeze(2) - layer.centers):square():sum{3}
    assert.is_true(d:argmin(2):equal(layer(x)):item())
  end)

  it("takes more clusters than there are rows, and refuses none at all, and other sizes", function()
    local layer, mean = nn.KMeans(2, 5):fit(ai.ones(3, 2))
    assert.are.equal(0, mean)
    near(layer.centers, ai.ones(5, 2), 0)
    refused("nothing to fit in (0, 2)", layer.fit, layer, ai.ones(0, 2))
    refused("the input is (4, 3), and 2 features are wanted", layer, ai.ones(4, 3))
    refused("the input is one of i64; a tensor of floats is wanted", layer.fit, layer, ai.ones({4, 2}, {dtype = "i64"}))
    refused("the input is a number", layer.fit, layer, 3)
    refused("there are no features", function() nn.KMeans(3):fit(ai.ones(3, 0)) end)
    refused("n_clusters is 0", nn.KMeans, 0)
  end)
end)

describe("monotonic attention", function()
  local gradcheck = require "spec.support.gradcheck"

  it("is where a path stands that stays or goes on, by what is given for each place", function()
    local p = ai.tensor{{0.25, 0.5}, {0.5, 0.75}, {1, 1}}
    near(nn.monotonic_attention(p), ai.tensor{{1, 0}, {0.25, 0.75}, {0.125, 0.125 + 0.75 * 0.75}})
    near(nn.monotonic_attention(p, {last_stays = true}), ai.tensor{{1, 0}, {0.25, 0.75}, {0.125, 0.875}})
    near(nn.monotonic_attention(ai.rand(4, 1), {last_stays = true}), ai.ones(4, 1))
    near(nn.monotonic_attention(ai.zeros(3, 3)), ai.eye(3))
    near(nn.monotonic_attention(ai.ones(2, 5, 3)):sum{2}, ai.tensor{{5, 0, 0}, {5, 0, 0}})
  end)

  it("has gradients, also where a probability is 0 or 1", function()
    local x = ai.randn(2, 4, 3, {dtype = "f64"}):requires_grad_(true)
    local worst = gradcheck.first(function() return nn.monotonic_attention(x:sigmoid(), {last_stays = true}):square():sum() end, {x})
    assert.is_true(worst < 1e-7)
    local p = ai.tensor{{0, 1}, {1, 0}, {0, 0}}:requires_grad_(true)
    nn.monotonic_attention(p):sum():backward()
    assert.is_true(p.grad:isfinite():all():item())
  end)

  it("of a layer gives weights that sum to 1 and go on by one key at most, whatever the number of heads of keys", function()
    local layer = nn.MonotonicAttention(8, 4, {num_kv_heads = 2, batch_first = true})
    local q, k = ai.randn(2, 9, 8), ai.randn(2, 4, 8)
    local y, w = layer(q, k, k, {need_weights = true, average_attn_weights = false})
    assert.are.same({2, 9, 8}, y.shape)
    assert.are.same({2, 4, 9, 4}, w.shape)
    near(w:sum{4}, ai.ones(2, 4, 9), 1e-5)
    for i = 1, 3 do assert.are.equal(0, w[{{}, {}, i, {i + 1, 4}}]:max():item()) end
    local other = nn.MonotonicAttention(8, 4, {mode = "many_keys_one_query", batch_first = true})
    local _, v = other(k, q, q, {need_weights = true})
    near(v:sum{3}, ai.ones(2, 4), 1e-4)
  end)

  it("refuses masks, other modes, and what is no probabilities", function()
    local layer = nn.MonotonicAttention(4, 2)
    refused("it takes no masks", layer, ai.randn(3, 1, 4), nil, nil, {is_causal = true})
    refused("mode is \"none\"; \"one_key_many_queries\" or", nn.MonotonicAttention, 4, 2, {mode = "none"})
    refused("(..., steps, targets) are wanted, not f32 of (3)", nn.monotonic_attention, ai.ones(3))
    refused("there is no path in (0, 3)", nn.monotonic_attention, ai.ones(0, 3))
  end)
end)

describe("streams", function()
  local function pieces(layer, x, lengths)
    local parts, first, state = {}, 1, nil
    for _, n in ipairs(lengths) do
      parts[#parts + 1], state = layer(x:narrow(-1, first, n), state)
      first = first + n
    end
    assert.are.equal(x:size(-1) + 1, first)
    return ai.cat(parts, -1), state
  end
  local cuts = {{12}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {5, 7}, {2, 1, 6, 3}}

  it("of convolutions are those of the whole, whatever the pieces, with one sample and with several", function()
    for _, o in ipairs{{}, {stride = 2}, {stride = 5}, {dilation = 3, padding = 4}, {stride = 2, dilation = 2, groups = 2, bias = false}} do
      local layer = nn.StreamingConv1d(4, 6, 3, o)
      for _, shape in ipairs{{2, 4, 12}, {4, 12}} do
        local x = ai.randn(shape)
        local whole = ai.f.conv1d(ai.f.pad(x, {o.padding or 0, 0}), layer.weight, layer.bias, {stride = o.stride, dilation = o.dilation, groups = o.groups})
        for _, lengths in ipairs(cuts) do near(pieces(layer, x, lengths), whole, 1e-5) end
      end
    end
  end)

  it("of transposed convolutions are too, with their end; a stride beyond the kernel leaves the bias between", function()
    for _, o in ipairs{{}, {stride = 2}, {stride = 5}, {dilation = 3}, {stride = 2, dilation = 2, groups = 2, bias = false}} do
      local layer = nn.StreamingConvTranspose1d(4, 6, 3, o)
      for _, shape in ipairs{{2, 4, 12}, {4, 12}} do
        local x = ai.randn(shape)
        local whole = ai.f.conv_transpose1d(x, layer.weight, layer.bias, {stride = o.stride, dilation = o.dilation, groups = o.groups})
        for _, lengths in ipairs(cuts) do
          local y, state = pieces(layer, x, lengths)
          assert.are.equal(12 * (o.stride or 1), y:size(-1))
          y = ai.cat({y, layer:finish(state)}, -1)
          near(y:narrow(-1, 1, whole:size(-1)), whole, 1e-5)
        end
      end
    end
  end)

  it("leave a state as it was, and refuse one of another batch or kind", function()
    local layer, x = nn.StreamingConv1d(2, 3, 4), ai.randn(1, 2, 3)
    local y, state = layer(x)
    assert.are.same({1, 3, 0}, y.shape)
    local a, b = layer(x, state), layer(x, state)
    assert.is_true(a:equal(b):item())
    refused("the input is (2, 2, 3), and the state is of (1, 2, 3)", layer, ai.randn(2, 2, 3), state)
    refused("the state is what the layer returned for the piece before, not a number", layer, x, 3)
    refused("the state is that of another kind of layer", layer, x, {rest = x})
    refused("streaming_add: the state is what the sum before returned, not a number", nn.streaming_add, x, x, 5)
    refused("(N, 2, T) or (2, T) is wanted", layer, ai.randn(1, 3, 4))
    refused("padding is \"same\"", nn.StreamingConv1d, 2, 3, 4, {padding = "same"})
  end)

  it("of different lengths are added as far as both have come", function()
    local x, y = ai.arange(1, 6):float(), ai.arange(11, 16):float()
    local a, state = nn.streaming_add(x:narrow(1, 1, 4), y:narrow(1, 1, 1))
    local b, after = nn.streaming_add(x:narrow(1, 5, 2), y:narrow(1, 2, 5), state)
    near(ai.cat({a, b}, 1), x + y, 0)
    assert.are.same({0, 0}, {after[1]:numel(), after[2]:numel()})
  end)
end)

describe("gradients", function()
  it("are scaled, turned round, swapped and added, and the values stay", function()
    local function grads_of(f)
      local x, y = ai.tensor{1.5, -2}:requires_grad_(true), ai.tensor{0.3, 7}:requires_grad_(true)
      local a, b = f(x, y)
      near(a, x:detach(), 0)
      near(b, y:detach(), 0)
      local z = (a * ai.tensor{1, 2} + b * ai.tensor{10, 30}):sum()
      z:backward()
      return {x.grad:totable(), y.grad:totable()}
    end
    assert.are.same({{3, 6}, {10, 30}}, grads_of(function(x, y) return nn.scale_grad(x, 3), y end))
    assert.are.same({{0, 0}, {-10, -30}}, grads_of(function(x, y) return nn.scale_grad(x, 0), nn.invert_grad(y) end))
    assert.are.same({{10, 30}, {1, 2}}, grads_of(nn.swap_grads))
    assert.are.same({{11, 32}, {11, 32}}, grads_of(nn.combine_grads))
  end)

  it("refuse what has none, and pairs of two shapes", function()
    refused("scale_grad: argument 1 is one of i64", nn.scale_grad, ai.tensor({1, 2}, {dtype = "i64"}), 2)
    refused("scale_grad: scale is a nil", nn.scale_grad, ai.ones(2))
    refused("invert_grad: argument 1 is a number", nn.invert_grad, 3)
    refused("swap_grads: argument 2 is a nil", nn.swap_grads, ai.ones(2))
    refused("combine_grads: the tensors are (2) and (3)", nn.combine_grads, ai.ones(2), ai.ones(3))
  end)
end)
