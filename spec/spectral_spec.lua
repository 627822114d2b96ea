--- Losses of pictures and sounds.

local ai = require "aijit"
local nn = ai.nn
local gradcheck = require "spec.support.gradcheck"

local function waves(n, samples)
  local t = ai.arange(0, samples - 1, 1, {dtype = "f64"})
  local rows = {}
  for i = 1, n do rows[i] = (t * (0.1 * i)):sin() + (t * 0.37):cos() * 0.3 end
  return ai.stack(rows, 1)
end

local small = {
  SSIMLoss = {function() return nn.SSIMLoss{window_size = 3} end, function() return ai.rand(2, 2, 6, 5, {dtype = "f64"}) end},
  ImageGradLoss = {function() return nn.ImageGradLoss() end, function() return ai.rand(2, 2, 6, 5, {dtype = "f64"}) end},
  STFTLoss = {function() return nn.STFTLoss(32, 8, 24) end, function(k) return waves(2, 80) * k + ai.rand(2, 80, {dtype = "f64"}) end},
  MultiResolutionSTFTLoss = {function() return nn.MultiResolutionSTFTLoss{resolutions = {{16, 4, 12}, {32, 8, 32}}} end,
    function(k) return waves(2, 80) * k + ai.rand(2, 80, {dtype = "f64"}) end},
  MelLoss = {function() return nn.MelLoss{n_fft = 64, hop_length = 16, win_length = 64, n_mels = 6, sample_rate = 1000} end,
    function(k) return waves(2, 160) * k + ai.rand(2, 160, {dtype = "f64"}) end},
  MFCCLoss = {function() return nn.MFCCLoss{n_fft = 64, hop_length = 16, win_length = 64, n_mels = 8, n_mfcc = 4, sample_rate = 1000} end,
    function(k) return waves(2, 160) * k + ai.rand(2, 160, {dtype = "f64"}) end},
}

for name, case in pairs(small) do
  describe(name, function()
    it("is 0 of two that are equal, above 0 of others, and has the gradient that differences show", function()
      ai.manual_seed(2)
      local loss, x, y = case[1](), case[2](1), case[2](0.7)
      assert.is_true(math.abs(loss(x, x):item()) < 1e-12)
      assert.is_true(loss(x, y):item() > 1e-3)
      x:requires_grad_()
      local worst, where = gradcheck.first(function() return loss(x, y) end, {x})
      assert.is_true(worst < 1e-5, where)
    end)

    it("survives its spec, and names two shapes that differ", function()
      local again = nn.from_spec(case[1]():to_spec())
      ai.manual_seed(2)
      local x, y = case[2](1), case[2](0.7)
      assert.are.equal(case[1]()(x, y):item(), again(x, y):item())
      local ok, problem = pcall(again, x, ai.rand(3, 2))
      assert.is_false(ok)
      assert.is_truthy(problem:find("both must have the same sizes", 1, true), problem)
    end)
  end)
end

describe("SSIMLoss", function()
  it("is 1 less the formula's value of constant pictures", function()
    local a, b, c1 = 0.2, 0.6, 0.01 ^ 2
    local x, y = ai.full({1, 1, 11, 11}, a, {dtype = "f64"}), ai.full({1, 1, 11, 11}, b, {dtype = "f64"})
    assert.is_true(math.abs(nn.SSIMLoss()(x, y):item() - (1 - (2 * a * b + c1) / (a * a + b * b + c1))) < 1e-12)
  end)
end)

describe("ImageGradLoss", function()
  it("does not see a shift in brightness, and sees an edge", function()
    local x = ai.zeros(1, 1, 2, 3)
    assert.are.equal(0, nn.ImageGradLoss()(x, x + 1):item())
    local y = ai.tensor{{{{0, 0, 1}, {0, 0, 1}}}}
    assert.is_true(math.abs(nn.ImageGradLoss()(x, y):item() - 0.5) < 1e-6)
  end)
end)

describe("MFCCLoss", function()
  it("wants no more coefficients than bands", function()
    local ok, problem = pcall(nn.MFCCLoss{n_mels = 4, n_mfcc = 5}, ai.rand(1, 2000), ai.rand(1, 2000))
    assert.is_false(ok)
    assert.is_truthy(problem:find("n_mfcc is 5, more than the 4 mel bands", 1, true), problem)
  end)
end)
