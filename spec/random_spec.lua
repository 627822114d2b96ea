--- Random numbers: the same for every layout, dtype order and number of threads, and distributed as they say.

local ai = require "aijit"

local FILLS = {uniform_ = {}, normal_ = {}, exponential_ = {}, bernoulli_ = {0.3}, random_ = {0, 1000}}

describe("a seed", function()
  for name, args in pairs(FILLS) do
    it("fixes what " .. name .. " gives, in any layout", function()
      for _, dtype in ipairs {"f32", "f64"} do
        local function draw(t)
          ai.manual_seed(5)
          ai.empty(3):uniform_()                         -- an odd place to begin
          return ai.f[name](t, unpack(args)):contiguous()
        end
        local a = draw(ai.empty(70, 90, {dtype = dtype}))
        assert.is_true(a:equal(draw(ai.empty(90, 70, {dtype = dtype}):transpose(1, 2))):item())
        assert.is_true(a:equal(draw(ai.empty(70, 200, {dtype = dtype})[{{}, {2, 180, 2}}])):item())
      end
    end)
  end
  it("gives other numbers to the next tensor", function()
    ai.manual_seed(5)
    assert.is_false(ai.rand(10):equal(ai.rand(10)):item())
  end)
  it("fixes a permutation, which holds every number once", function()
    ai.manual_seed(5)
    local p = ai.randperm(1000)
    ai.manual_seed(5)
    assert.is_true(p:equal(ai.randperm(1000)):item())
    assert.is_true(p:sort():equal(ai.arange(1000)):item())
    assert.is_false(p:equal(ai.arange(1000)):item())
  end)
end)

describe("a distribution", function()
  local N = 200000
  local function about(wanted, got, room) assert.is_true(math.abs(wanted - got) < room, ("%g is not about %g"):format(got, wanted)) end
  before_each(function() ai.manual_seed(11) end)
  for _, dtype in ipairs {"f32", "f64", "bf16", "f16"} do
    it("is uniform, from its lower end to below its upper, in " .. dtype, function()
      local x = ai.empty(N, {dtype = dtype}):uniform_():double()
      assert.is_true(x:ge(0):all():item() and x:lt(1):all():item())
      about(1 / 2, x:mean():item(), 0.005)
      about(1 / 12, ((x - 0.5) * (x - 0.5)):mean():item(), 0.003)
    end)
    it("is normal in " .. dtype, function()
      local x = ai.empty(N, {dtype = dtype}):normal_ {mean = 1, std = 2}:double()
      about(1, x:mean():item(), 0.02)
      local z = (x - 1) / 2
      about(1, (z ^ 2):mean():item(), 0.02)
      about(0, (z ^ 3):mean():item(), 0.05)
      about(3, (z ^ 4):mean():item(), 0.1)
    end)
  end
  it("is exponential, and never 0", function()
    local x = ai.empty(N):exponential_ {lambda = 2}
    assert.is_true(x:gt(0):all():item())
    about(0.5, x:mean():item(), 0.01)
  end)
  it("is of zeros and ones, by one probability or by one for each element", function()
    about(0.3, ai.empty(N):bernoulli_(0.3):mean():item(), 0.01)
    assert.are.same({0, 1}, ai.tensor({0, 1}):bernoulli():totable())
    about(0.2, ai.full({N}, 0.2):bernoulli():mean():item(), 0.01)
  end)
  it("follows weights, with and without putting back", function()
    local w = ai.tensor {1, 0, 3}
    local picked = w:multinomial(N, {replacement = true})
    about(0.25, picked:eq(1):float():mean():item(), 0.01)
    assert.is_false(picked:eq(2):any():item())
    assert.are.same({1, 3}, w:multinomial(2):sort():totable())
    assert.has_error(function() w:multinomial(3) end)
    assert.has_error(function() ai.tensor({-1, 2}):multinomial(1) end)
  end)
end)
