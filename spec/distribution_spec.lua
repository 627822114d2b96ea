--- Random numbers of further distributions: how often they fall where, by Pearson's chi-square test with fixed seeds.

local ai = require "aijit"
local f = ai.f
local N = 40000

-- Counts k = 0, 1, ... against probabilities p(k); those expected fewer than 10 times are taken together. The bound is 6 standard
-- deviations above the mean of chi-square.
local function fits(draws, p, most)
  local counts, expected = {}, {}
  for _, k in ipairs(draws:totable()) do counts[k] = (counts[k] or 0) + 1 end
  local chi, degrees, rest, rest_expected = 0, -1, N, N
  for k = 0, most do
    expected[k] = N * p(k)
    if expected[k] >= 10 then
      local c = counts[k] or 0
      chi, degrees = chi + (c - expected[k]) ^ 2 / expected[k], degrees + 1
      rest, rest_expected = rest - c, rest_expected - expected[k]
    end
  end
  if rest_expected >= 5 then chi, degrees = chi + (rest - rest_expected) ^ 2 / rest_expected, degrees + 1 end
  assert.is_true(degrees >= 1)
  assert.is_true(chi < degrees + 6 * math.sqrt(2 * degrees), ("chi-square %.1f of %d"):format(chi, degrees))
end
local function lgamma(v) return ai.tensor(v, {dtype = "f64"}):lgamma():item() end
local function refused(text, fn, ...)
  local ok, why = pcall(fn, ...)
  assert.is_false(ok)
  assert.is_truthy(tostring(why):find(text, 1, true), tostring(why))
end

before_each(function() ai.manual_seed(11) end)

it("poisson falls as often as it should, for small and large rates", function()
  for _, rate in ipairs {0.4, 5, 9.99, 10, 33.3, 400} do
    fits(f.poisson(ai.full({N}, rate, {dtype = "f64"})), function(k) return math.exp(k * math.log(rate) - rate - lgamma(k + 1)) end, 900)
  end
end)

it("poisson of rates side by side is each element's own", function()
  local rates = ai.tensor({0, 1, 20, 3000}):expand(N / 4, 4)
  local y = f.poisson(rates)
  assert.are.equal("f32", y.dtype)
  local mean, var = y:mean({1}):totable(), y:var({1}):totable()
  assert.are.equal(0, mean[1])
  for i, rate in ipairs {0, 1, 20, 3000} do
    assert.is_true(math.abs(mean[i] - rate) <= 6 * math.sqrt(rate / (N / 4)))
    assert.is_true(math.abs(var[i] - rate) <= 0.1 * rate)
  end
  assert.are.equal(0, f.poisson(ai.zeros(0, 2)):numel())
  refused("a rate is below 0", f.poisson, ai.tensor{1, -1})
  refused("or NaN", f.poisson, ai.tensor{0 / 0})
  refused("floats is wanted, not of i64", f.poisson, ai.arange(3))
end)

it("binomial falls as often as it should, on both sides of 10 successes and of 1/2", function()
  for _, case in ipairs {{6, 0.3}, {50, 0.1}, {40, 0.5}, {200, 0.75}, {9, 0.95}, {1000, 0.3}} do
    local n, p = unpack(case)
    fits(f.binomial(ai.full({N}, n, {dtype = "f64"}), ai.tensor(p, {dtype = "f64"})), function(k)
      if k > n then return 0 end
      return math.exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log(1 - p))
    end, 1000)
  end
end)

it("binomial broadcasts, and its ends are certain", function()
  local y = f.binomial(ai.tensor{{10}, {500}}, ai.tensor{0, 0.5, 1})
  assert.are.same({2, 3}, y.shape)
  assert.are.same({0, 0}, y:select(2, 1):totable())
  assert.are.same({10, 500}, y:select(2, 3):totable())
  assert.are.equal(0, f.binomial(ai.zeros(3), ai.full({3}, 0.4)):sum():item())
  refused("a count is below 0", f.binomial, ai.tensor{-1}, ai.tensor{0.5})
  refused("a probability is not from 0 to 1", f.binomial, ai.tensor{1}, ai.tensor{1.5})
  refused("argument 2 (prob) is 3", f.binomial, ai.ones(1), 3)
end)

it("geometric_ counts trials until a success, into integers too", function()
  for _, p in ipairs {0.2, 0.7} do
    fits(ai.empty(N, {dtype = "i64"}):geometric_(p), function(k) return k == 0 and 0 or p * (1 - p) ^ (k - 1) end, 80)
  end
  refused("p is 1", function() ai.empty(2):geometric_(1) end)
end)

it("cauchy_ has its quartiles, log_normal_ its logarithm's mean and deviation", function()
  local y = ai.empty(N, {dtype = "f64"}):cauchy_(2, 3)
  local q = f.quantile(y, ai.tensor({0.25, 0.5, 0.75}, {dtype = "f64"})):totable()
  for i, want in ipairs {-1, 2, 5} do assert.is_true(math.abs(q[i] - want) < 0.2) end
  local l = ai.empty(N):log_normal_(-1, 0.5):log()
  assert.is_true(math.abs(l:mean():item() + 1) < 0.02 and math.abs(l:std():item() - 0.5) < 0.02)
  refused("sigma is 0", function() ai.empty(2):cauchy_(0, 0) end)
  refused("not of i64", function() ai.empty(2, {dtype = "i64"}):cauchy_() end)
end)

it("normal takes a mean and a deviation for each element, or one of both and sizes", function()
  local y = f.normal(ai.tensor{0, 100}:expand(N, 2), ai.tensor{1, 5})
  local mean, std = y:mean({1}):totable(), y:std({1}):totable()
  assert.is_true(math.abs(mean[1]) < 0.05 and math.abs(mean[2] - 100) < 0.2 and math.abs(std[1] - 1) < 0.05 and math.abs(std[2] - 5) < 0.2)
  assert.are.same({2, 3}, f.normal(1, 2, 2, 3).shape)
  assert.are.same({2}, f.normal(0, ai.ones(2)).shape)
  refused("a standard deviation is below 0", f.normal, 0, ai.tensor{-1})
end)

it("a seed fixes them all", function()
  local function draw()
    ai.manual_seed(4)
    return {f.poisson(ai.full({20}, 30)):totable(), f.binomial(ai.full({20}, 90), ai.tensor(0.4)):totable(), ai.empty(9):geometric_(0.1):totable()}
  end
  assert.are.same(draw(), draw())
end)
