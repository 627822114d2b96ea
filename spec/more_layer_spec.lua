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
    refused("(out, in, *kernel), not (3, 3)", nn.init.dirac_, ai.ones(3, 3))
    refused("groups is 2, which does not divide 3 channels", nn.init.dirac_, ai.ones(3, 2, 2), {groups = 2})
  end)
end)
