--- Pools: where the largest elements were, and back from there; what windows are refused; means of integers.

local ai = require "aijit"
local like = require "spec.support.like"
local f, nn = ai.f, ai.nn

local function list(x) return x:totable() end
local function fails(fn, words) assert.has_error_like(fn, words) end
local _ = like

describe("a fractional pool", function()
  it("has as many windows as are asked for, within the input, the last one at its end", function()
    ai.manual_seed(0)
    local x = ai.arange(1, 2 * 9 * 7, 1):reshape(1, 2, 9, 7)
    for _ = 1, 20 do
      local y, at = nn.FractionalMaxPool2d(2, {output_size = {5, 4}, return_indices = true})(x)
      assert.are.same({1, 2, 5, 4}, {unpack(y.shape)})
      assert.are.equal(63, y[{1, 1, 5, 4}]:item())
      assert.is_true(x:reshape(1, 2, -1):gather(3, at:reshape(1, 2, -1)):reshape(y.shape):equal(y):item())
    end
    assert.are.same({1, 2, 4, 3}, {unpack(nn.FractionalMaxPool2d(3, {output_ratio = 0.5})(x).shape)})
  end)

  it("refuses ratios, sizes and random numbers that do not fit", function()
    fails(function() nn.FractionalMaxPool2d(2) end, "one of output_size and output_ratio is wanted")
    fails(function() nn.FractionalMaxPool2d(2, {output_size = 2, output_ratio = 0.5}) end, "one of output_size and output_ratio is wanted")
    fails(function() nn.FractionalMaxPool2d(2, {output_ratio = 1.5}) end, "a number between 0 and 1, or a list of 2")
    fails(function() nn.FractionalMaxPool2d(3, {output_size = 4})(ai.randn(1, 1, 5, 5)) end, "4 windows of 3 do not fit a size of 5")
    fails(function() nn.FractionalMaxPool2d(2, {output_size = 2})(ai.randn(1, 1, 5)) end, "N, C, size, size")
    fails(function() nn.FractionalMaxPool2d(2, {output_size = 2})(ai.randn(1, 1, 5, 5), ai.rand(1, 2)) end, "the random numbers are")
  end)
end)

it("FeatureAlphaDropout drops channels, and keeps mean and variance", function()
  ai.manual_seed(0)
  local x = ai.randn(400, 50, 4)
  local y = nn.FeatureAlphaDropout(0.3)(x)
  assert.is_near(0, y:mean():item(), 0.03)
  assert.is_near(1, y:std():item(), 0.03)
  local low = y:min():item()
  assert.is_true(low < -1)
  local flat = (y:select(3, 1) - y:select(3, 4)):abs():lt(1e-6):float():mean():item()
  assert.is_near(0.3, flat, 0.02)
  assert.is_true(nn.FeatureAlphaDropout(0.3):eval()(x):is_same(x))
end)

describe("a pool that tells where its elements were", function()
  local x = ai.tensor {{{{1, 9, 3, 4}, {5, 6, 7, 8}}}}

  it("counts places over the channel from 1, as a last argument, an option or an op of its own", function()
    for _, results in ipairs {{f.max_pool2d(x, 2, {return_indices = true})}, {f.max_pool2d(x, 2, nil, 0, 1, false, true)},
                              {f.max_pool2d(x, 2, {stride = 2, return_indices = true})}, {f.max_pool2d_with_indices(x, 2)}} do
      assert.are.same({{{{9, 8}}}}, list(results[1]))
      assert.are.same({{{{2, 8}}}}, list(results[2]))
      assert.are.equal("i64", results[2].dtype)
    end
    local values, places = f.adaptive_max_pool2d(x, {1, 1}, {return_indices = true})
    assert.are.same({9, 2}, {values:item(), places:item()})
    assert.are.equal(1, select("#", f.max_pool2d(x, 2)))
    fails(function() f.max_pool2d(x, 2, {return_indicies = true}) end, "did you mean return_indices")
  end)

  it("takes the first of equals and the last NaN, in lines of any length, in f32 as in f64", function()
    ai.manual_seed(1)
    for width = 2, 45 do
      local image = ai.randint(0, 4, {2, 3, 5, width}):double()
      image:masked_fill_(ai.rand(2, 3, 5, width):lt(0.05), 0 / 0)
      local values, places = f.max_pool2d(image, 2, {return_indices = true})
      local few, where = f.max_pool2d(image:float(), 2, {return_indices = true})
      assert.are.same(list(places), list(where))
      assert.are.same(list(values:nan_to_num(-1)), list(few:nan_to_num(-1)))
    end
  end)

  it("is undone by max_unpool, up to zeros", function()
    local values, places = x:max_pool2d(2, {return_indices = true})
    assert.are.same({{{{0, 9, 0, 0}, {0, 0, 0, 8}}}}, list(f.max_unpool2d(values, places, 2)))
    local pool, unpool = nn.MaxPool2d(2, {return_indices = true}), nn.MaxUnpool2d(2)
    local odd = ai.arange(30):reshape(1, 1, 5, 6)
    local y, at = pool(odd)
    assert.are.same({1, 1, 4, 6}, unpool(y, at):size())
    assert.are.same({1, 1, 5, 6}, unpool(y, at, {5, 6}):size())
    assert.are.same({1, 1, 5, 6}, unpool(y, at, odd:size()):size())
    assert.are.same({{1, 2, 4, 4}}, {unpool:output_shape({1, 2, 2, 2}, {1, 2, 2, 2, dtype = "i64"})})
  end)

  it("refuses places beyond the result, other shapes, and sizes that pooling would not give", function()
    local one = ai.ones(1, 1, 2)
    fails(function() f.max_unpool1d(one, ai.tensor({{{1, 5}}}, {dtype = "i64"}), 2) end, "out of range")
    fails(function() f.max_unpool1d(one, ai.tensor({{{0, 1}}}, {dtype = "i64"}), 2) end, "out of range")
    fails(function() f.max_unpool1d(one, ai.tensor({{{1}}}, {dtype = "i64"}), 2) end, "different shapes")
    local at = ai.tensor({{{1, 3}}}, {dtype = "i64"})
    fails(function() f.max_unpool1d(one, at, 2, {output_size = {7}}) end, "allow 3 to 5")
    fails(function() f.max_unpool1d(one, at, 2, {output_size = {1, 2, 3, 4}}) end, "output_size has 4 entries")
    fails(function() f.max_unpool1d(one, at, 2, 0) end, "positive")
  end)
end)

describe("a window", function()
  it("has a stride above 0, and its size as stride when none is given", function()
    local x = ai.ones(1, 1, 4)
    assert.are.same({1, 1, 2}, f.max_pool1d(x, 2):size())
    fails(function() f.max_pool1d(x, 2, 0) end, "stride 0")
    fails(function() f.avg_pool1d(x, 2, {stride = 0}) end, "stride 0")
  end)

  it("is refused where there are no channels, and taken where there is no batch", function()
    fails(function() f.max_pool1d(ai.zeros(2, 0, 4), 2) end, "no channels")
    fails(function() f.avg_pool2d(ai.zeros(0, 4, 4), 2) end, "no channels")
    assert.are.same({0, 3, 2}, f.max_pool1d(ai.zeros(0, 3, 4), 2):size())
  end)
end)

describe("the mean of a window", function()
  it("of integers is a quotient without its fraction", function()
    local x = ai.tensor({{{1, 2, -1, -2}}}, {dtype = "i64"})
    local y = f.avg_pool1d(x, 2)
    assert.are.equal("i64", y.dtype)
    assert.are.same({{{1, -1}}}, list(y))
    assert.are.same({{{1, -1}}}, list(f.avg_pool1d(x:to "i32", 2)))
    fails(function() f.avg_pool1d(x:bool(), 2) end, "bool")
  end)

  it("takes a divisor that is not 0", function()
    local x = ai.tensor {{{{1, 2}, {3, 4}}}}
    assert.are.equal(10 / 3, f.avg_pool2d(x:double(), 2, {divisor_override = 3}):item())
    assert.are.equal(-5, f.avg_pool2d(x, 2, {divisor_override = -2}):item())
    fails(function() f.avg_pool2d(x, 2, {divisor_override = 0}) end, "divisor_override is 0")
    fails(function() f.avg_pool2d(x, 2, {divisor_override = "2"}) end, "a number")
  end)
end)
