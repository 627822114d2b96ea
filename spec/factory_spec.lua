--- The larger factories: modulated convolutions, transformers, heads, diffusion.

local ai = require "aijit"
local gradcheck = require "spec.support.gradcheck"
local m = require "aijit.model"
local nn, f = ai.nn, ai.f

local function message_of(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return message
end

local function near(a, b, tolerance)
  assert.are.same(a.shape, b.shape)
  assert.is_true((a - b):abs():max():item() < (tolerance or 1e-4))
end

local function leaf(...) return ai.randn({...}, {dtype = "f64", requires_grad = true}) end

describe("modconv", function()
  it("by weights is a convolution of each sample with its own weights, of unit norm", function()
    for _, demodulate in ipairs{true, false} do
      local block = m.modconv(3, 4, 5, {modtype = "weight", actv = false, demodulate = demodulate})
      local conv = block.conv
      nn.init.normal_(conv.bias)
      local x, z = ai.randn(2, 3, 6, 6), ai.randn(2, 5)
      local y = block(x, z)
      for i = 1, 2 do
        local s = conv.style.weight:matmul(z[i]) / math.sqrt(5) + conv.style.bias
        local w = conv.weight * s:reshape(1, 3, 1, 1)
        if demodulate then w = w / w:square():sum({2, 3, 4}, {keepdim = true}):sqrt()
        else w = w / math.sqrt(27) end
        near(f.conv2d(x:slice(1, i, i), w, conv.bias, {padding = 1})[1], y[i])
      end
    end
  end)

  it("by AdaLIN mixes instance and layer normalisation", function()
    local norm = m.norm.AdaLIN(2, 3)
    nn.init.constant_(norm.rho, 0.25)
    local x, z = ai.randn(2, 2, 3, 3), ai.randn(2, 3)
    local function unit(v) return v / v:square():mean({2}, {keepdim = true}):sqrt() end
    local gamma = 1 + unit(norm.gamma(z)):reshape(2, 2, 1, 1)
    local beta = unit(norm.beta(z)):reshape(2, 2, 1, 1)
    local mixed = f.instance_norm(x) * 0.25 + f.layer_norm(x, {2, 3, 3}) * 0.75
    near(mixed * gamma + beta, norm(x, z))
  end)

  it("changes the size, keeps its statistics, and has first and second gradients", function()
    for _, modtype in ipairs{"adalin", "weight"} do
      for stride, size in pairs{[0.5] = 8, [1] = 4, [2] = 2} do
        local block = m.modconv(2, 3, 2, {modtype = modtype, stride = stride, actv = "tanh", gain = 2, clamp = 1.5}):double()
        local x, z = leaf(2, 2, 4, 4), leaf(2, 2)
        local function run() return gradcheck.total{block(x, z)} end
        assert.are.same({2, 3, size, size}, block(x, z).shape)
        local inputs = {x, z, unpack(block:parameters())}
        local worst, where = gradcheck.first(run, inputs, {sample = 5})
        assert.is_true(worst < 1e-5, where)
        if modtype == "weight" then
          worst, where = gradcheck.second(run, {z}, {sample = 4})
          assert.is_true(worst < 1e-4, where)
        end
      end
    end
  end)

  it("doubles an image as large as its neighbourhood", function()
    local block = m.modconv(1, 1, 1, {modtype = "weight", stride = 0.5, actv = false, demodulate = false})
    ai.no_grad(function()
      block.conv.weight:fill_(0)
      block.conv.weight[{1, 1, 2, 2}] = 3                             -- one tap, and 3 / sqrt(9) is 1
      block.conv.style.weight:fill_(0)
    end)
    local x = ai.zeros(1, 1, 4, 4)
    x[{1, 1, 2, 2}] = 1
    near(nn.Blur{up = 2, gain = 4, pad = {2, 1}}(x):sum(), block(x, ai.ones(1, 1)):sum())
    near(ai.full({2, 2}, 0.75 ^ 2), block(x, ai.ones(1, 1))[{1, 1, {3, 4}, {3, 4}}])
  end)

  it("threads through modseq, rep, init and specs", function()
    local net = m.modseq{m.modconv(2, 4, 3), m.rep(2, m.modresblk(4, 4, 3, {modtype = "weight"}), {modulated = true}), m.modresblk(4, 6, 3, {stride = 0.5})}
    local model = m.Model(net):init()
    local x, z = ai.randn(2, 2, 4, 4), ai.randn(2, 3)
    assert.are.same({2, 6, 8, 8}, model(x, z).shape)
    near(model(x, z), nn.from_spec(model:to_spec()):hard_update(model)(x, z))
  end)

  it("refuses kinds, strides and second inputs that cannot be", function()
    assert.matches("modtype is", message_of(m.modconv, 2, 3, 4, {modtype = "other"}))
    assert.matches("stride is 0.5, 1 or 2", message_of(m.modconv, 2, 3, 4, {modtype = "weight", stride = 3}))
    assert.matches("no argument 'padd'", message_of(m.modconv, 2, 3, 4, {padd = 1}))
    assert.matches("z_dim is nil", message_of(m.modconv, 2, 3))
    assert.matches("z, %(1, 4%), is wanted", message_of(m.modconv(2, 3, 4, {modtype = "weight"}), ai.ones(1, 2, 4, 4), ai.ones(1, 5)))
  end)
end)

describe("attention factories", function()
  it("norm first, and batch first", function()
    local block = m.attn(4, 2)
    local q, kv = ai.randn(2, 3, 4), ai.randn(2, 5, 4)
    local y, w = block(q, kv, {need_weights = true})
    near(block.attn(block.norm(q), block.norm(kv), block.norm(kv)), y)
    assert.are.same({2, 3, 5}, w.shape)
    assert.is_nil(m.attn(4, 2, {norm = false}).norm)
    assert.are.same({3 * 2 * 3, 4}, m.sa(4, 2, {head_dim = 3}).attn.in_proj_weight.shape)
  end)

  it("tx_enc is PyTorch's encoder with norms first and GELU", function()
    local enc = m.tx_enc(2, 8, 2, 12)
    local other = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, {dropout = 0, activation = "gelu", batch_first = true, norm_first = true}), 2)
    for i, block in ipairs(enc) do
      local to = other.layers[i]
      to.self_attn:hard_update(block.attn.attn)
      to.norm1:hard_update(block.attn.norm)
      to.norm2:hard_update(block.mlp[1])
      to.linear1:hard_update(block.mlp[2][1])
      to.linear2:hard_update(block.mlp[3])
    end
    local x = ai.randn(3, 5, 8)
    near(other(x), enc(x))
    near(other(x, {is_causal = true}), enc(x, {is_causal = true}))
    near(enc(x), nn.from_spec(enc:to_spec()):hard_update(enc)(x))
    assert.matches("arguments are missing: n_heads", message_of(m.tx_enc, 2, 8))
  end)

  it("pos_emb is sines, then cosines", function()
    local y = m.pos_emb(6)(ai.tensor({3}, {dtype = "i64"}))
    for i = 0, 2 do
      assert.is_near(math.sin(3 / 10000 ^ (i / 2)), y[{1, i + 1}]:item(), 1e-6)
      assert.is_near(math.cos(3 / 10000 ^ (i / 2)), y[{1, i + 4}]:item(), 1e-6)
    end
    assert.matches("an even number", message_of(m.pos_emb, 5))
    assert.matches("no kind", message_of(m.pos_emb, 6, "learned"))
  end)
end)

describe("heads and filters", function()
  it("fm2v", function()
    local x = ai.randn(4, 3, 4, 4)
    local simple = m.fm2v.simple(3, 2)
    near(x:mean{3, 4}:matmul(simple[2].weight:t()) + simple[2].bias, simple(x))
    local head = m.fm2v.mbstd(4, 3)
    assert.are.same({4, 1}, head(x).shape)
    local alone = head(x:slice(1, 1, 1))
    assert.is_true((alone - head(x):slice(1, 1, 1)):abs():max():item() > 1e-6)        -- it sees the others
  end)

  it("blur, lstm and packing stand under their short names", function()
    near(nn.Blur()(ai.ones(1, 1, 4, 4)), m.blur()(ai.ones(1, 1, 4, 4)))
    assert.are.same({1, 2, 9, 9}, m.blur(2, 1, 2)(ai.ones(1, 2, 4, 4)).shape)           -- 8 + 4 - 3
    assert.are.equal(nn.LSTM, m.lstm)
    assert.are.same({2, 1}, m.f.pack_padded_sequence(ai.ones(2, 3, 1), {1, 2}).batch_sizes)
    assert.are.same({1, 4, 4, 4}, m.conv(2, 4, {blur = true, stride = 2})(ai.ones(1, 2, 8, 8)).shape)
  end)
end)

describe("DiffusionModel", function()
  local Still = ai.class("SpecStill", m.DiffusionModel)
  function Still:__init(o) m.DiffusionModel.__init(self, {2}, o) end
  function Still:forward(x) return x * 0 end

  it("has the schedules of the papers", function()
    local model = Still{n_timesteps = 3, beta_start = 0.1, beta_end = 0.3}
    near(ai.tensor{0.1, 0.2, 0.3}, model.betas, 1e-6)
    near(ai.tensor{0.9, 0.72, 0.504}, model.alphas_cumprod, 1e-6)
    assert.are.equal(3, model:len())
    model = Still{n_timesteps = 3, beta_start = 0.01, beta_end = 0.09, schedule = "quadratic"}
    near(ai.tensor{0.01, 0.04, 0.09}, model.betas, 1e-6)
    model = Still{n_timesteps = 10, schedule = "cosine"}
    local function left(t) return math.cos((t / 10 + 0.008) / 1.008 * math.pi / 2) ^ 2 end
    assert.is_near(left(5) / left(0), model.alphas_cumprod[5]:item(), 1e-5)
  end)

  it("adds noise, and takes it away when it is known", function()
    local model = Still{n_timesteps = 4, beta_start = 0.1, beta_end = 0.4}
    local x, noise = ai.randn(3, 2), ai.randn(3, 2)
    local y = model:noisify(x, ai.tensor({1, 4, 2}, {dtype = "i64"}), noise)
    local left = 0.9 * 0.8 * 0.7 * 0.6
    near(x[2] * math.sqrt(left) + noise[2] * math.sqrt(1 - left), y[2])
    function model.forward() return noise end
    near(x, model:denoise(model:noisify(x, ai.ones(3, {dtype = "i64"}), noise), 1))
  end)

  it("steps back with the posterior's deviation, and through all steps", function()
    ai.manual_seed(4)
    local model = Still{n_timesteps = 5, beta_start = 0.1, beta_end = 0.5}
    local y = model:denoise(ai.zeros(4000, 2), 3)
    local before, left = 0.9 * 0.8, 0.9 * 0.8 * 0.7
    assert.is_near(math.sqrt(0.3 * (1 - before) / (1 - left)), y:std():item(), 0.01)
    local steps = {}
    for step in model:denoise_iter() do steps[#steps + 1] = step end
    assert.are.same({5, 4, 3, 2, 1}, steps)
    assert.are.same({3, 2}, model:sample(3).shape)
    local frames = model:sample(3, {frame_rate = 2})
    assert.are.same({4, 3, 2}, frames.shape)                           -- noise, after 2, after 4, the end
    assert.is_true(model.training)
  end)

  it("learns where the data lies", function()
    ai.manual_seed(7)
    local Mlp = ai.class("SpecDiffusionMlp", m.DiffusionModel)
    function Mlp:__init()
      m.DiffusionModel.__init(self, {2}, {n_timesteps = 40, beta_start = 1e-3, beta_end = 0.2})
      self.time = m.pos_emb(16)
      self.net = m.seq{m.fc(18, 64, {actv = "gelu"}), m.fc(64, 64, {actv = "gelu"}), m.fc(64, 2)}
    end
    function Mlp:forward(x, t) return self.net(ai.cat({x, self.time(t)}, 2)) end
    local model = Mlp()
    local opt = ai.optim.Adam(model:parameters(), {lr = 3e-3})
    local centres = ai.tensor{{1, 1}, {-1, 1}}
    for _ = 1, 500 do
      ai.scope(function()
        local x = ai.f.embedding(centres, ai.empty(256, {dtype = "i64"}):random_(1, 3)) + ai.randn(256, 2) * 0.05
        model:zero_grad()
        model:loss(x):backward()
        opt:step()
      end)
    end
    local x = model:sample(400)
    local off = (x:abs() - 1):square():mean():sqrt():item()
    assert.is_true(off < 0.25, "off by " .. off)
    assert.is_near(1, x:select(2, 2):mean():item(), 0.1)
    local right = x:select(2, 1):gt(0):float():mean():item()
    assert.is_true(right > 0.25 and right < 0.75, "right " .. right)
  end)

  it("has samples of any rank, moves with its model, and refuses what does not fit", function()
    local Image = ai.class("SpecDiffusionImage", m.DiffusionModel)
    function Image:__init() m.DiffusionModel.__init(self, {1, 4, 4}, {n_timesteps = 3}) self.net = m.conv(1, 1) end
    function Image:forward(x) return self.net(x) end
    local model = Image()
    assert.are.same({2, 1, 4, 4}, model:sample(2).shape)
    assert.are.same({"net.bias", "net.weight"}, (function()
      local names = {}
      for name in pairs(model:state_dict()) do names[#names + 1] = name end
      table.sort(names)
      return names
    end)())
    assert.matches("%(N, 1, 4, 4%) is wanted", message_of(model.loss, model, ai.ones(2, 4)))
    assert.matches("count from 1 to 3", message_of(model.denoise, model, ai.ones(2, 1, 4, 4), 4))
    assert.matches("did you mean 'linear'", message_of(Still, {schedule = "linar"}))
    assert.matches("not between 0 and 1", message_of(Still, {beta_end = 1.5}))
  end)
end)
