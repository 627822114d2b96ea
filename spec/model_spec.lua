-- The factories: structure, first values, the programs of their introduction.

local ai = require "aijit"
local m = require "aijit.model"
local nn = ai.nn

local function shape(t) return {unpack(t.shape)} end
local function numbers(t) return t:reshape(-1):totable() end
local function class_of(x) return getmetatable(x).__name end
local function classes(list)
  local names = {}
  for i = 1, #list do names[i] = class_of(list[i]) end
  return names
end

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local FullyConnected = ai.class("SpecFullyConnected", m.Model)
function FullyConnected:__init(o)
  o = o or {}
  local shape_in, n_out, dim, n_layers = o.shape_in or {1, 28, 28}, o.n_out or 10, o.dim or 128, o.n_layers or 4
  m.Model.__init(self, m.seq{
    m.flatten(),
    m.fc(ai.prod(shape_in), dim, {actv = "relu"}),
    m.rep(n_layers, m.fc(dim, dim, {actv = "relu"})),
    m.fc(dim, n_out),
  })
end

describe("m.Model", function()
  it("wraps a net, initialised by init()", function()
    local model = FullyConnected():init()
    assert.are.same({2, 10}, shape(model(ai.randn(2, 1, 28, 28))))
    assert.are.equal(784 * 128 + 128 + 4 * (128 * 128 + 128) + 1290, model:n_params())
  end)

  it("is the same wrapped, derived or derived with a forward", function()
    local One = ai.class("SpecOne", m.Model)
    function One:__init() m.Model.__init(self, m.seq{m.flatten(), m.fc(8, 8)}) end
    local Two = ai.class("SpecTwo", m.Model)
    function Two:__init() m.Model.__init(self); self.net = m.fc(8, 8) end
    function Two:forward(x) return self.net(m.f.flatten(x)) end
    local one, two, three = One(), Two(), m.Model(m.seq{m.flatten(), m.fc(8, 8)})
    two.net:load_state_dict(one.net[2]:state_dict())
    three:load_state_dict(one:state_dict())
    local x = ai.randn(3, 2, 4)
    local y = numbers(one(x))
    assert.are.same(y, numbers(two(x)))
    assert.are.same(y, numbers(three(x)))
  end)

  it("is saved and loaded as a state", function()
    local path = os.tmpname()
    local model = FullyConnected{dim = 8, n_layers = 2}:init()
    model:save(path)
    local again = FullyConnected{dim = 8, n_layers = 2}:init(path)
    os.remove(path)
    os.remove(path .. ".safetensors")
    local x = ai.randn(1, 1, 28, 28)
    assert.are.same(numbers(model(x)), numbers(again(x)))
  end)

  it("without net and forward says what to write", function()
    assert.matches("neither a net nor a forward", message_of(m.Model(), ai.ones(1)))
    assert.matches("not a module", message_of(m.Model, 3))
  end)

  it("init applies a rule to each kind of layer, later for those that wait", function()
    local model = m.Model(m.seq{nn.Linear(60), nn.BatchNorm1d(60), nn.Embedding(5, 4)})
    model:init()
    model.net[1](ai.randn(2, 50))
    -- PyTorch's default would stay within 1 / sqrt(50).
    assert.is_true(model.net[1].bias:abs():max():item() > 0.5)
    assert.are_not.equal(1, model.net[2].weight:max():item())
    assert.is_true(model.net[3].weight:abs():max():item() <= 1)
  end)

  it("init leaves a module with init_params to itself", function()
    local Own = ai.class("SpecOwn", nn.Module)
    function Own:__init() self.w = nn.Parameter(ai.zeros(2)) end
    function Own:init_params() nn.init.constant_(self.w, 7) end
    local model = m.Model(Own()):init()
    assert.are.same({7, 7}, numbers(model.net.w))
  end)
end)

describe("m.fc", function()
  it("is linear, norm, activation, dropout; one alone comes bare", function()
    assert.are.equal("Linear", class_of(m.fc(3, 4)))
    local all = m.fc(3, 4, {actv = "relu", norm = "layer", dropout = 0.1})
    assert.are.same({"Linear", "LayerNorm", "ReLU", "Dropout"}, classes(all))
    assert.are.equal("nn.Linear(4)", m.fc(4):call_text())
  end)

  it("leaves its bias to a norm that has one", function()
    assert.is_nil(m.fc(3, 4, {norm = "batch"})[1].bias)
    assert.is_not_nil(m.fc(3, 4).bias)
  end)

  it("with scale_w and lr_mul is equalised", function()
    local layer = m.fc(4, 2, {scale_w = true, lr_mul = 0.5})
    assert.are.equal("EqualLinear", class_of(layer))
    layer:load_state_dict{weight = ai.ones(2, 4), bias = ai.ones(2)}
    -- 4 ones, times 0.5 / sqrt(4), plus 0.5
    assert.are.same({1.5, 1.5}, numbers(layer(ai.ones(1, 4))))
  end)

  it("refuses unknown names and options", function()
    assert.matches("fc: actv is \"rellu\"; .* did you mean 'relu'", message_of(m.fc, 1, 2, {actv = "rellu"}))
    assert.matches("norm is \"bach\"; .* did you mean 'batch'", message_of(m.fc, 1, 2, {norm = "bach"}))
    assert.matches("fc: it has no argument 'activation'", message_of(m.fc, 1, 2, {activation = "relu"}))
  end)
end)

describe("m.rep", function()
  it("is nothing, the module itself, or copies with their own parameters", function()
    local fc = m.fc(2, 2)
    assert.are.equal("Identity", class_of(m.rep(0, fc)))
    assert.are.equal(fc, m.rep(1, fc))
    local three = m.rep(3, fc)
    assert.are.equal(18, three:num_parameters())
    assert.are.same(numbers(three[1].weight), numbers(three[3].weight))
    m.Model(three):init()
    assert.are_not.same(numbers(three[1].weight), numbers(three[3].weight))
  end)
end)

describe("m.pyramid", function()
  local function row(size_in, size_out, a, b)
    local calls = {}
    local net = m.pyramid(size_in, size_out, a, b, function(size, nc1, nc2)
      calls[#calls + 1] = ("%d: %d-%d"):format(size, nc1, nc2)
      return nn.Identity()
    end)
    return calls, {net.nc_in, net.nc_out}
  end

  it("doubles channels while it halves the size, up to the larger number", function()
    local calls, ends = row(32, 4, 16, 50)
    assert.are.same({"32: 16-32", "16: 32-50", "8: 50-50"}, calls)
    assert.are.same({16, 50}, ends)
  end)

  it("walks the same row back on the way up, whichever way the numbers are given", function()
    local calls = row(4, 32, 16, 50)
    assert.are.same({"4: 50-50", "8: 50-32", "16: 32-16"}, calls)
    assert.are.same(calls, (row(4, 32, 50, 16)))
  end)

  it("takes images that are not square, and blocks of one's own", function()
    local sizes = {}
    local net = m.pyramid({32, 16}, {8, 4}, 4, 16, function(size, nc1, nc2)
      sizes[#sizes + 1] = size
      return m.conv(nc1, nc2, {stride = 2})
    end)
    assert.are.same({{32, 16}, {16, 8}}, sizes)
    assert.are.same({1, 16, 8, 4}, shape(net(ai.randn(1, 4, 32, 16))))
    assert.matches("from 32 x 16 to 8 x 8", message_of(m.pyramid, {32, 16}, {8, 8}, 4, 16, nn.Identity))
    assert.matches("two numbers, or two lists", message_of(m.pyramid, {32, 16}, 8, 4, 16, nn.Identity))
    local auto = m.ae.ImgAutoencoder({16, 8}, {4, 2}, {nc_img = 1, nc_min = 4, nc_max = 8}):init()
    assert.are.same({2, 8, 4, 2}, shape(auto.encode(ai.randn(2, 1, 16, 8))))
    assert.are.same({2, 1, 16, 8}, shape(auto(ai.randn(2, 1, 16, 8))))
    assert.matches("ImgAutoencoder: nc_min is 0", message_of(m.ae.ImgAutoencoder, 16, 4, {nc_min = 0}))
  end)

  it("refuses sizes that no halving joins", function()
    assert.matches("from 30 to 4", message_of(m.pyramid, 30, 4, 8, 16, nn.Identity))
  end)
end)

describe("m.conv", function()
  it("is convolution, norm, activation, and keeps the size", function()
    local conv = m.conv(3, 8, {actv = "mish", norm = "batch"})
    assert.are.same({"Conv2d", "BatchNorm2d", "Mish"}, classes(conv))
    assert.is_nil(conv[1].bias)
    assert.are.same({2, 8, 6, 6}, shape(conv(ai.randn(2, 3, 6, 6))))
  end)

  it("with a stride below 1 enlarges", function()
    assert.are.same({1, 8, 12, 12}, shape(m.conv(3, 8, {stride = 0.5})(ai.randn(1, 3, 6, 6))))
    assert.are.same({1, 8, 3, 3}, shape(m.conv(3, 8, 1, {stride = 2})(ai.randn(1, 3, 6, 6))))
  end)
end)

describe("m.conv, enlarging", function()
  it("by a transposed convolution has the size times 1 / stride, for kernels that fit", function()
    for _, row in ipairs{{3, 0.5, 2}, {4, 0.5, 2}, {2, 0.5, 2}, {5, 1 / 3, 3}, {4, 0.25, 4}} do
      local conv = m.conv(3, 8, row[1], {stride = row[2], transposed = true})
      assert.are.equal("ConvTranspose2d", class_of(conv))
      assert.are.same({1, 8, 5 * row[3], 6 * row[3]}, shape(conv(ai.randn(1, 3, 5, 6))))
    end
    assert.matches("transposed goes with a stride below 1", message_of(m.conv, 3, 8, {transposed = true}))
    assert.matches("a stride of 0.4", message_of(m.conv, 3, 8, {stride = 0.4}))
    assert.are.same({1, 2, 9, 9}, shape(m.conv(2, 2, {stride = 1 / 3})(ai.randn(1, 2, 3, 3))))
  end)

  it("an equalised one keeps the size too, with any padding", function()
    for _, padtype in ipairs{"zeros", "reflect", "circular"} do
      local conv = m.conv(2, 3, {scale_w = true, padtype = padtype})
      local x = ai.randn(1, 2, 5, 5)
      local plain = nn.Conv2d(2, 3, 3, {padding = 1, padding_mode = padtype})
      plain:load_state_dict{weight = conv.weight / math.sqrt(18), bias = conv.bias}
      assert.is_true((conv(x) - plain(x)):abs():max():item() < 1e-5)
    end
  end)

  it("adds noise of a learned strength, 0 at first, or of a fixed one", function()
    local x = ai.randn(1, 2, 32, 32)
    local learned, fixed = m.conv(2, 2, {noise = true}), m.conv(2, 2, {noise = 0.5})
    assert.are.same(numbers(learned[1](x)), numbers(learned(x)))
    local noise = fixed(x) - fixed[1](x)
    assert.is_true((noise[{1, 1}] - noise[{1, 2}]):abs():max():item() < 1e-5)
    assert.is_near(0.5, noise:std():item(), 0.05)
    assert.are.equal(2, #fixed:parameters())
  end)
end)

describe("m.norm", function()
  it("PixelNorm gives each position's channels a mean square of 1", function()
    local y = m.norm.PixelNorm()(ai.randn(2, 8, 3, 3))
    for _, v in ipairs(numbers(y:square():mean({2}))) do assert.is_near(1, v, 1e-4) end
  end)

  it("MinibatchStd adds the deviation within groups as a channel", function()
    local x = ai.zeros(2, 1, 2, 2)
    x[2] = 2
    local y = m.norm.MinibatchStd()(x)
    assert.are.same({2, 2, 2, 2}, shape(y))
    for _, v in ipairs(numbers(y[{1, 2}])) do assert.is_near(1, v, 1e-6) end
  end)
end)

describe("m.resblk", function()
  it("halves, doubles or keeps the size", function()
    local x = ai.randn(2, 4, 8, 8)
    assert.are.same({2, 4, 8, 8}, shape(m.resblk(4, 4)(x)))
    assert.is_nil(m.resblk(4, 4).shortcut)
    assert.are.same({2, 6, 4, 4}, shape(m.resblk(4, 6, {stride = 2})(x)))
    assert.are.same({2, 6, 16, 16}, shape(m.resblk(4, 6, {stride = 0.5})(x)))
  end)

  it("makes the image autoencoder of the introduction, whichever of the decoder's channels comes first", function()
    local ImgAutoencoder = ai.class("SpecImgAutoencoder", m.Model)
    function ImgAutoencoder:__init(imsize, bottleneck, o)
      m.Model.__init(self)
      o = o or {}
      local nc_img, nc_min, nc_max = o.nc_img or 3, o.nc_min or 32, o.nc_max or 512
      local enc_block = o.enc_block or function(_, nc1, nc2) return m.resblk(nc1, nc2, {stride = 2}) end
      local dec_block = o.dec_block or function(_, nc1, nc2) return m.resblk(nc1, nc2, {stride = 0.5}) end
      self.encode = m.seq{m.conv(nc_img, nc_min, {actv = "mish"}), m.pyramid(imsize, bottleneck, nc_min, nc_max, enc_block)}
      self.decode = m.seq{m.pyramid(bottleneck, imsize, nc_max, nc_min, dec_block), m.conv(nc_min, nc_img, {actv = "tanh"})}
      self.other = m.seq{m.pyramid(bottleneck, imsize, nc_min, nc_max, dec_block), m.conv(nc_min, nc_img, {actv = "tanh"})}
    end
    function ImgAutoencoder:forward(x) return self.decode(self.encode(x)) end
    local model = ImgAutoencoder(16, 4, {nc_min = 4, nc_max = 8}):init()
    local x = ai.randn(2, 3, 16, 16)
    assert.are.same({2, 3, 16, 16}, shape(model(x)))
    model.other:load_state_dict(model.decode:state_dict())
    model:eval()
    assert.are.same(numbers(model(x)), numbers(model.other(model.encode(x))))
  end)
end)
