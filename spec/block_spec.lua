--- Larger parts of networks and small ones beside them: merges, noise, squeeze-excite, blur, UNet, BiFPN, RWKV.

local ai = require "aijit"
local gradcheck = require "spec.support.gradcheck"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function near(a, b, tolerance)
  assert.are.same(a.shape, b.shape)
  assert.is_true((a - b):abs():max():item() < (tolerance or 1e-5))
end

--- Gradients of all parameters and of x against differences, in double.
local function check_gradients(m, x, run)
  local inputs = {x, unpack(m:parameters())}
  local worst, where = gradcheck.first(function() return gradcheck.total{run()} end, inputs, {sample = 6})
  assert.is_true(worst < 1e-5, where)
end

local function leaf(...) return ai.randn({...}, {dtype = "f64", requires_grad = true}) end

describe("merge layers", function()
  local a, b, c = ai.tensor{6, 8}, ai.tensor{3, 2}, ai.tensor{1, 4}

  it("take inputs in a row or as a list", function()
    local wanted = {Add = {10, 14}, Subtract = {2, 2}, Multiply = {18, 64}, Divide = {2, 1}, Maximum = {6, 8}, Minimum = {1, 2},
                    Average = {10 / 3, 14 / 3}, Mul = {18, 64}}
    for name, values in pairs(wanted) do
      near(ai.tensor(values), nn[name]()(a, b, c), 1e-6)
      near(ai.tensor(values), nn[name](){a, b, c}, 1e-6)
    end
    assert.are.same({6, 8, 3, 2}, nn.Concat()(a, b):totable())
    assert.are.same({{6, 8}, {3, 2}}, nn.Concat(1){a:unsqueeze(1), b:unsqueeze(1)}:totable())
  end)

  it("stand in graphs", function()
    local x = nn.Placeholder{false, 4}
    local net = nn.Functional{inputs = x, outputs = nn.Concat()(nn.Linear(3)(x), nn.Add()(x, x))}
    assert.are.same({5, 7}, net(ai.ones(5, 4)).shape)
  end)

  it("refuse what is no tensor", function()
    assert.matches("there is no input", message_of(nn.Add(), {}))
    assert.matches("input 2 is a number", message_of(nn.Add(), a, 3))
  end)
end)

describe("noise", function()
  it("DropPath drops whole samples, and keeps the mean", function()
    ai.manual_seed(3)
    local m, x = nn.DropPath(0.25), ai.ones(4000, 2, 1)
    local y = m(x)
    local kept = 0
    for i = 1, 4000 do
      local v = y[{i, 1, 1}]:item()
      assert.are.equal(v, y[{i, 2, 1}]:item())
      assert.is_true(v == 0 or math.abs(v - 4 / 3) < 1e-6)
      if v ~= 0 then kept = kept + 1 end
    end
    assert.is_near(3000, kept, 150)
    assert.are.equal(4000 * 2, m:eval()(x):sum():item())
    assert.matches("p is 1; a probability", message_of(nn.DropPath, 1))
  end)

  it("GaussianDropout and GaussianNoise have their means and deviations", function()
    ai.manual_seed(5)
    local x = ai.full({200, 200}, 3)
    local y = nn.GaussianDropout(0.2)(x)
    assert.is_near(3, y:mean():item(), 0.03)
    assert.is_near(3 * 0.5, y:std():item(), 0.03)                  -- sqrt(0.2 / 0.8)
    y = nn.GaussianNoise(0.5)(x)
    assert.is_near(3, y:mean():item(), 0.01)
    assert.is_near(0.5, y:std():item(), 0.01)
    near(x, nn.GaussianNoise(0.5):eval()(x), 1e-12)
    near(x, nn.GaussianDropout(0.2):eval()(x), 1e-12)
    assert.matches("std is", message_of(nn.GaussianNoise, -1))
  end)
end)

describe("SqueezeExcite", function()
  it("gates each channel by the means of all", function()
    local m, x = nn.SqueezeExcite(4, {reduction = 2}), ai.randn(2, 4, 3, 3)
    local w1, w2 = m.squeeze.weight:reshape(2, 4), m.excite.weight:reshape(4, 2)
    local gate = ((x:mean{3, 4}:matmul(w1:t()) + m.squeeze.bias):relu():matmul(w2:t()) + m.excite.bias):sigmoid()
    near(x * gate:reshape(2, 4, 1, 1), m(x))
    near(m(x), nn.from_spec(m:to_spec()):hard_update(m)(x))
    assert.matches("no argument 'ratio'", message_of(nn.SqueezeExcite, 4, {ratio = 2}))
  end)
end)

describe("Blur", function()
  it("keeps constants, sizes, and gradients", function()
    local y = nn.Blur()(ai.ones(1, 2, 6, 6))
    assert.are.same({1, 2, 6, 6}, y.shape)
    assert.is_near(1, y[{1, 2, 3, 3}]:item(), 1e-6)
    assert.is_near((7 / 8) ^ 2, y[{1, 1, 2, 2}]:item(), 1e-6)      -- [1 3 3 1] / 8 without its first tap, both ways
    local m = nn.Blur{up = 2, gain = 4, dtype = "f64"}
    local x = leaf(1, 2, 3, 3)
    check_gradients(m, x, function() return m(x) end)
  end)

  it("is the response to one point", function()
    local x = ai.zeros(1, 1, 5, 5)
    x[{1, 1, 3, 3}] = 64
    local y = nn.Blur{kernel = {1, 2, 5}, pad = 1}(x)
    assert.are.same({1, 2, 5}, y[{1, 1, 2, {2, 4}}]:totable())     -- 64 / 8^2
    assert.are.same({5, 10, 25}, y[{1, 1, 4, {2, 4}}]:totable())
  end)

  it("doubles a size as an interpolation would", function()
    local x = ai.zeros(1, 1, 4, 4)
    x[{1, 1, 2, 2}] = 1
    local y = nn.Blur{up = 2, gain = 4}(x)
    assert.are.same({1, 1, 8, 8}, y.shape)
    assert.is_near(4, y:sum():item(), 1e-5)
    near(ai.tensor{0, 0.25, 0.75, 0.75, 0.25, 0, 0, 0} * 0.75, y[{1, 1, 3}])
    assert.matches("up is 0.5; a whole number", message_of(nn.Blur, {up = 0.5}))
  end)
end)

describe("UNet", function()
  it("gives images of the same size, told of an embedding", function()
    local m = nn.UNet(3, 4, {dim_scales = {1, 2, 4}, embedding_dim = 5, out_channels = 2})
    local x, e = ai.randn(2, 3, 8, 12), ai.randn(2, 5)
    local y = m(x, e)
    assert.are.same({2, 2, 8, 12}, y.shape)
    assert.is_true((y - m(x, e * 2)):abs():max():item() > 1e-4)
    assert.are.same({2, 2, 8, 12}, m:output_shape({2, 3, 8, 12}, {2, 5}))
    near(y, nn.from_spec(m:to_spec()):hard_update(m)(x, e))
    y:sum():backward()
    for name, p in m:named_parameters() do assert.is_truthy(p.grad, name) end
  end)

  it("has the gradients of differences", function()
    local m = nn.UNet(1, 2, {dim_scales = {1, 2}}):double()
    local x = leaf(1, 1, 4, 4)
    check_gradients(m, x, function() return m(x) end)
  end)

  it("refuses sizes that cannot be halved, and missing embeddings", function()
    local m = nn.UNet(3, 4, {dim_scales = {1, 2, 4}})
    assert.matches("divisible by 4", message_of(m, ai.ones(1, 3, 6, 8)))
    assert.matches("takes no embedding", message_of(m, ai.ones(1, 3, 8, 8), ai.ones(1, 2)))
    assert.matches("second input %(N, 5%)", message_of(nn.UNet(3, 4, {embedding_dim = 5}), ai.ones(1, 3, 8, 8)))
    assert.matches("no argument 'scales'", message_of(nn.UNet, 3, 4, {scales = {1}}))
  end)
end)

describe("BiFPN", function()
  it("keeps the maps' sizes, and lets each know of the others", function()
    local m = nn.BiFPN({2, 3, 4}, 5, {num_layers = 1}):eval()
    local maps = {ai.randn(2, 2, 8, 8), ai.randn(2, 3, 4, 4), ai.randn(2, 4, 2, 2)}
    local y = m(maps)
    for i, size in ipairs{8, 4, 2} do assert.are.same({2, 5, size, size}, y[i].shape) end
    local other = m{maps[1], maps[2], maps[3] * -3}
    assert.is_true((other[1] - y[1]):abs():max():item() > 1e-5)
    other = m{maps[1] * -3, maps[2], maps[3]}
    assert.is_true((other[3] - y[3]):abs():max():item() > 1e-5)
  end)

  it("weighs its inputs by relu(w) / (sum + eps)", function()
    local block = nn.BiFPNBlock(2, 1):eval()
    local fuse = block.inner[1]
    fuse:load_state_dict({weight = ai.tensor{3, -1}}, {strict = false})
    local a, b = ai.randn(1, 1, 2, 2), ai.randn(1, 1, 2, 2)
    local wanted = fuse.norm(fuse.pointwise(fuse.depthwise((a * (3 / (3 + 1e-4))):silu())))
    near(wanted, fuse{a, b})
  end)

  it("refuses lists of other lengths and orders", function()
    local m = nn.BiFPN({2, 3}, 4)
    assert.matches("2 feature maps", message_of(m, {ai.ones(1, 2, 2, 2)}))
    assert.matches("map 2 is larger", message_of(m, {ai.ones(1, 2, 2, 2), ai.ones(1, 3, 4, 4)}))
    assert.matches("channels of two maps or more", message_of(nn.BiFPN, {2}, 4))
  end)
end)

describe("RWKV", function()
  it("time mix is a mean with weights exp(u + k_t) and exp(k_i + (t - 1 - i) w)", function()
    local m, x = nn.RwkvTimeMix(3):double(), ai.randn(1, 4, 3, {dtype = "f64"})
    nn.init.normal_(m.time_decay, -1, 0.5)
    nn.init.normal_(m.time_first)
    local before = ai.cat({ai.zeros(1, 1, 3, {dtype = "f64"}), x:slice(2, 1, 3)}, 2)
    local function mixed(name) return x * m["time_mix_" .. name] + before * (1 - m["time_mix_" .. name]) end
    local k, v, r = m.key(mixed "k")[1], m.value(mixed "v")[1], m.receptance(mixed "r")[1]:sigmoid()
    local w, u, rows = -m.time_decay:exp(), m.time_first, {}
    for t = 1, 4 do
      local e = (u + k[t]):exp()
      local top, bottom = e * v[t], e
      for i = 1, t - 1 do
        e = (k[i] + w * (t - 1 - i)):exp()
        top, bottom = top + e * v[i], bottom + e
      end
      rows[t] = r[t] * top / bottom
    end
    near(m.output(ai.stack(rows, 1)), m(x)[1], 1e-10)
  end)

  it("channel mix is sigmoid(r) * value(relu(key)^2)", function()
    local m, x = nn.RwkvChannelMix(2, {hidden = 3}), ai.randn(1, 1, 2)
    local k = m.key(x * m.time_mix_k):relu():square()
    near(m.receptance(x * m.time_mix_r):sigmoid() * m.value(k), (m(x)))
  end)

  it("goes on from its state", function()
    local m, x = nn.RwkvBlock(4), ai.randn(2, 6, 4)
    local whole = m(x)
    local first, state = m(x:slice(2, 1, 4))
    local parts = {first}
    for t = 5, 6 do parts[#parts + 1], state = m(x:slice(2, t, t), state) end
    near(whole, ai.cat(parts, 2))
  end)

  it("stays finite for large keys, and has the gradients of differences", function()
    local m, x = nn.RwkvTimeMix(2):double(), leaf(1, 3, 2)
    check_gradients(m, x, function() return (m(x)) end)
    ai.no_grad(function() m.key.weight:mul_(1e4) end)
    local y = m(x)
    assert.is_true(y:isfinite():all():item())
  end)

  it("refuses other sizes", function()
    assert.matches("%(N, T, 4%) is wanted", message_of(nn.RwkvBlock(4).att, ai.ones(2, 4)))
    assert.matches("arguments are missing: dim", message_of(nn.RwkvBlock))
  end)
end)
