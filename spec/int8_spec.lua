--- Eight-bit inference: exact sums, and nn.quantize.

local ai = require "aijit"
local nn = ai.nn
local f = ai.f

local function largest(t) return t:abs():max():item() end

describe("quantize", function()
  it("rounds to the nearest whole number of scales, halves to even, and keeps within the type", function()
    local x = ai.tensor{-200, -1.26, -0.5, -0.25, 0, 0.25, 0.75, 1.26, 200, 0 / 0}
    assert.are.same({-127, -3, -1, 0, 0, 0, 2, 3, 127, 0}, x:quantize(0.5):totable())
    assert.are.equal("i8", x:quantize(0.5).dtype)
    assert.are.same({0, 0, 0, 0, 0, 0, 2, 3, 255, 0}, x:quantize(0.5, false):totable())
    assert.are.equal("u8", x:quantize(0.5, false).dtype)
  end)

  it("refuses a scale that is not positive, and whole numbers", function()
    assert.has_error(function() ai.ones(3):quantize(0) end, "quantize: (3): scale is 0, and must be positive")
    assert.has_error(function() ai.ones(3, {dtype = "i64"}):quantize(1) end)
  end)
end)

for _, dtype in ipairs{"u8", "i8"} do
  describe("sums of " .. dtype, function()
    local least = dtype == "u8" and 0 or -127
    local most = dtype == "u8" and 255 or 127
    local function whole(low, high, shape) return ai.randint(low, high, shape) end

    it("are exact in a linear layer of any size", function()
      for _, s in ipairs{{1, 1, 1}, {5, 100, 33}, {64, 300, 17}, {3, 4096, 8}} do
        local x, w = whole(least, most, {s[1], s[2]}), whole(-127, 127, {s[3], s[2]})
        local y = f.quantized_linear(x:to(dtype), w:to "i8", ai.ones(s[3], {dtype = "f64"}))
        assert.are.equal(0, largest(y - x:double():matmul(w:double():t())))
      end
    end)

    it("are exact in a convolution with strides, padding, dilation and groups", function()
      for _, c in ipairs{{3, 16, 3, 1, 1, 1, 1}, {8, 16, 3, 2, 1, 1, 1}, {8, 6, {3, 2}, 1, 0, 2, 2}, {1, 5, 5, 1, 2, 1, 1}, {16, 16, 3, 1, 1, 1, 16}} do
        local C, O, K, S, P, L, G = unpack(c)
        local k = type(K) == "table" and K or {K, K}
        local x, w = whole(least, most, {2, 9, 11, C}), whole(-127, 127, {O, C / G, k[1], k[2]})
        local y = f.quantized_conv2d(x:to(dtype), w:to "i8", ai.ones(O, {dtype = "f64"}), nil, S, P, L, G)
        local z = f.conv2d(x:double():permute(1, 4, 2, 3), w:double(), nil, {stride = S, padding = P, dilation = L, groups = G})
        assert.are.equal(0, largest(y - z:permute(1, 3, 4, 2)))
      end
    end)
  end)
end

describe("a quantized result", function()
  it("is scaled, moved by the bias, cut at 0, pooled and rounded", function()
    local x, w = ai.randint(0, 255, {2, 6, 8, 4}):to "u8", ai.randint(-127, 127, {5, 4, 3, 3}):to "i8"
    local scale, bias = ai.rand(5) * 1e-4 + 1e-5, ai.randn(5)
    local z = f.conv2d(x:double():permute(1, 4, 2, 3), w:double(), nil, {padding = 1}) * scale:reshape(1, 5, 1, 1) + bias:reshape(1, 5, 1, 1)
    z = f.max_pool2d(z:relu(), 2):permute(1, 3, 4, 2)
    local y = f.quantized_conv2d(x, w, scale, bias, {padding = 1, relu = true, pool = 2})
    assert.is_true(largest(y - z) < 1e-4)
    local q = f.quantized_conv2d(x, w, scale, bias, {padding = 1, relu = true, pool = 2, out_scale = 0.05})
    assert.are.equal("u8", q.dtype)
    assert.is_true(largest(q:double() * 0.05 - z:clamp(0, 255 * 0.05)) <= 0.0251)
  end)

  it("with a pool wants positive scales", function()
    assert.has_error(function()
      f.quantized_conv2d(ai.ones(1, 4, 4, 1, {dtype = "u8"}), ai.ones(2, 1, 1, 1, {dtype = "i8"}), ai.tensor{1, -1}, nil, {pool = 2})
    end, "quantized_conv2d: with a pool every scale must be positive; that of output 2 is -1")
  end)

  it("says which sizes do not agree", function()
    local x, w = ai.ones(2, 3, {dtype = "i8"}), ai.ones(4, 5, {dtype = "i8"})
    assert.has_error(function() f.quantized_linear(x, w, ai.ones(4)) end)
    assert.has_error(function() f.quantized_linear(x, ai.ones(4, 3, {dtype = "i8"}), ai.ones(3)) end)
    assert.has_error(function() f.quantized_linear(ai.ones(2, 3), ai.ones(4, 3, {dtype = "i8"}), ai.ones(4)) end)
    assert.has_error(function() f.quantized_conv2d(ai.ones(1, 3, 4, 4, {dtype = "i8"}), ai.ones(2, 3, 3, 3, {dtype = "i8"}), ai.ones(2)) end)
  end)
end)

describe("nn.quantize", function()
  local function settle(model, x)
    for _ = 1, 20 do model(x) end                        -- running statistics
    return model:eval()
  end

  it("gives nearly what the model gives, through norms, pools and a Flatten", function()
    ai.manual_seed(4)
    local x = ai.rand(32, 1, 12, 12)
    local model = settle(nn.Sequential{
      nn.Conv2d(1, 8, 3, {padding = 1}), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
      nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 6, 1), nn.Flatten(), nn.Dropout(0.5),
      nn.Linear(6 * 16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10),
    }, x)
    local q = nn.quantize(model, {x})
    local names = {}
    for i, child in ipairs(q:children()) do names[i] = getmetatable(child).__name end
    assert.are.same({"QuantizedConv2d", "QuantizedConv2d", "QuantizedConv2d", "Flatten", "QuantizedLinear", "QuantizedLinear"}, names)
    local y, z = model(x), q(x)
    assert.is_true(largest(y - z) < 0.05 * largest(y), ("off by %g of %g"):format(largest(y - z), largest(y)))
    assert.are.equal("Conv2d", getmetatable(model[1]).__name)
  end)

  it("replaces layers inside other modules, and leaves those that no batch reached", function()
    local Net = ai.class("Int8SpecNet", nn.Module)
    function Net:__init()
      self.a, self.b, self.unused = nn.Linear(6, 8), nn.ModuleList{nn.Linear(8, 8), nn.Linear(8, 3)}, nn.Linear(2, 2)
    end
    function Net:forward(x)
      x = self.a(x):tanh()
      return self.b[2](x + self.b[1](x))
    end
    local model, x = Net(), ai.randn(50, 6)
    local q = nn.quantize(model, {x})
    assert.are.equal("QuantizedLinear", getmetatable(q.a).__name)
    assert.are.equal("QuantizedLinear", getmetatable(q.b[2]).__name)
    assert.are.equal("Linear", getmetatable(q.unused).__name)
    assert.is_true(largest(model(x) - q(x)) < 0.05 * largest(model(x)))
  end)

  it("gives a model that is saved and made from its spec like any other", function()
    local x = ai.randn(20, 6)
    local q = nn.quantize(nn.Sequential{nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)}, {x})
    local again = nn.from_spec(q:to_spec())
    again:load_state_dict(q:state_dict())
    assert.are.equal(0, largest(q(x) - again(x)))
  end)

  it("follows weights that are loaded after a first call", function()
    local x = ai.randn(20, 6)
    local a, b = nn.quantize(nn.Linear(6, 8), {x}), nn.quantize(nn.Linear(6, 8), {x})
    local y = a(x)
    b(x)
    b:load_state_dict(a:state_dict())
    assert.are.equal(0, largest(b(x) - y))
  end)

  it("takes an iterator, and says what is wrong with its arguments", function()
    local x, n = ai.randn(20, 6), 0
    nn.quantize(nn.Linear(6, 8), function() n = n + 1 if n < 3 then return x end end)
    assert.are.equal(3, n)
    assert.has_error(function() nn.quantize({}, {x}) end, "nn.quantize: a module is wanted, got a table")
    assert.has_error(function() nn.quantize(nn.Linear(6, 8), {}) end, "nn.quantize: there is no batch to find the ranges of inputs by")
    assert.has_error(function() nn.quantize(nn.Linear(6, 8), {x * (0 / 0)}) end)
  end)
end)
