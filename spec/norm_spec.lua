--- Normalisation, statistics and dropout: what the op table's own cases do not show.

local ai = require "aijit"

local function largest(x) return x:abs():max():item() end

describe("normalisation", function()
  it("leaves mean 0 and variance 1, far from 0 too", function()
    for _, far in ipairs {0, 1000} do
      local x = ai.randn(8, 6, 5, 7) + far
      local function check(y, dims)
        assert.is_true(largest(y:mean(dims)) < 1e-4)
        assert.is_true(largest(y:var(dims, {correction = 0}) - 1) < 1e-2)
      end
      check(ai.f.layer_norm(x, {6, 5, 7}), {2, 3, 4})
      check(ai.f.batch_norm(x, {training = true}), {1, 3, 4})
      check(ai.f.instance_norm(x), {3, 4})
      check(ai.f.group_norm(x, 3):reshape(8, 3, 70), 3)
    end
  end)
  it("makes the mean square 1 by rms_norm", function()
    local x = ai.randn(9, 33) * 5 + 2
    assert.is_true(largest(ai.f.rms_norm(x, 33):square():mean(2) - 1) < 1e-4)
  end)
  it("takes the same statistics for (N, C) as for (N, C, 1)", function()
    local x = ai.randn(70, 130)
    local w, b = ai.randn(130), ai.randn(130)
    local y = ai.f.batch_norm(x, nil, nil, w, b, {training = true})
    local z = ai.f.batch_norm(x:reshape(7, 10, 130):transpose(2, 3):contiguous(), nil, nil, w, b, {training = true})
    assert.is_true(largest(y - z:transpose(2, 3):reshape(70, 130)) < 1e-5)
  end)
end)

describe("batch_norm", function()
  it("moves the running statistics towards the batch's, the variance unbiased", function()
    local x = ai.randn(16, 3, 4) * 2 + 1
    local mean, var = ai.zeros(3), ai.ones(3)
    local before = mean:version()
    ai.f.batch_norm(x, mean, var, {training = true, momentum = 0.25})
    assert.is_true(largest(mean - x:mean({1, 3}) * 0.25) < 1e-5)
    assert.is_true(largest(var - (x:var({1, 3}) * 0.25 + 0.75)) < 1e-5)
    assert.is_true(mean:version() > before)
  end)
  it("uses the running statistics, and leaves them, when not training", function()
    local x, mean, var = ai.randn(5, 3), ai.tensor {1, 2, 3}, ai.tensor {4, 9, 16}
    local y = ai.f.batch_norm(x, mean, var, {eps = 0})
    assert.is_true(largest(y - (x - mean) / var:sqrt()) < 1e-5)
    assert.are.same({1, 2, 3}, mean:totable())
  end)
  it("with relu gives the bits of relu after it, values and gradients", function()
    for _, size in ipairs {{70, 130}, {6, 4, 9, 11}, {3, 5, 3, 3, 3}} do
      for _, dtype in ipairs {"f32", "f64", "bf16"} do
        for options = 0, 3 do
          local training, affine, channels = options % 2 == 1, options > 1, size[2]
          ai.manual_seed(1)
          local x, g = ai.randn(size):to(dtype), ai.randn(size):to(dtype)
          local w, b = ai.randn(channels):to(dtype), ai.randn(channels):to(dtype)
          local function run(relu)
            local leaf, weight, bias = x:detach():requires_grad_(), w:detach():requires_grad_(), b:detach():requires_grad_()
            local mean, var = ai.zeros(channels), ai.ones(channels)
            local y = ai.f.batch_norm(leaf, mean, var, affine and weight or nil, affine and bias or nil, {training = training, relu = relu})
            if not relu then y = y:relu() end
            y:backward(g)
            return {y:detach(), leaf.grad, mean, var, weight.grad, bias.grad}
          end
          local one, two = run(true), run(false)
          for i = 1, affine and 6 or 4 do assert.is_true(one[i]:equal(two[i]):item()) end
        end
      end
    end
  end)
  it("with relu has gradients of gradients", function()
    for _, training in ipairs {true, false} do
      local x, w, b = ai.randn({4, 3, 5}, {dtype = "f64"}), ai.randn({3}, {dtype = "f64"}), ai.randn({3}, {dtype = "f64"})
      local mean, var = ai.zeros({3}, {dtype = "f64"}), ai.ones({3}, {dtype = "f64"})
      local g = ai.randn({4, 3, 5}, {dtype = "f64"})
      local function penalty(relu)
        local leaf, weight, bias = x:detach():requires_grad_(), w:detach():requires_grad_(), b:detach():requires_grad_()
        local y = ai.f.batch_norm(leaf, mean, var, weight, bias, {training = training, relu = relu})
        if not relu then y = y:relu() end
        local gx = ai.grad((y * g):sum(), {leaf}, {create_graph = true})[1]
        gx:square():sum():backward()
        return {leaf.grad, weight.grad}
      end
      local one, two = penalty(true), penalty(false)
      for i = 1, 2 do if two[i] then assert.is_true(largest(one[i] - two[i]) < 1e-9) end end
    end
  end)
  it("refuses what it cannot do", function()
    assert.has_error(function() ai.f.batch_norm(ai.randn(5, 3)) end)
    assert.has_error(function() ai.f.batch_norm(ai.randn(1, 3), {training = true}) end)
    assert.has_error(function() ai.f.batch_norm(ai.randn(5, 3), ai.zeros(4), ai.ones(4)) end)
  end)
end)

describe("a Sequential", function()
  local nn = ai.nn

  it("gives the same bits for a batch norm and a ReLU together as one by one, in training and evaluation, also when recorded", function()
    local x = ai.randn(6, 4, 5, 5)
    local net = nn.Sequential{nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU()}
    local apart = nn.Sequential{nn.BatchNorm2d(4), function(t) return t:relu() end, nn.BatchNorm2d(4), function(t) return t:relu() end}
    local recorded = ai.jit(function(t) return net(t):detach() end)
    for round = 1, 4 do
      if round == 4 then net:eval() apart:eval() end
      local one, two = x:detach():requires_grad_(), x:detach():requires_grad_()
      local y, z = net(one), apart(two)
      assert.is_true(y:equal(z):item())
      y:square():sum():backward()
      z:square():sum():backward()
      assert.is_true(one.grad:equal(two.grad):item())
      assert.is_true(net[3].running_var:equal(apart[3].running_var):item())
    end
    ai.no_grad(function() assert.is_true(recorded(x):equal(apart(x)):item()) end)
    ai.no_grad(function() assert.is_true(recorded(x):equal(apart(x)):item()) end)
  end)
  it("lets hooks and classes of their own see what lies between a batch norm and its ReLU", function()
    local seen = {}
    local net = nn.Sequential{nn.BatchNorm1d(3), nn.ReLU()}
    local x = ai.randn(5, 3)
    net(x)
    local remove = net[1]:register_forward_hook(function(_, _, y) seen[1] = y:min():item() end)
    net(x)
    assert.is_true(seen[1] < 0)
    remove()
    net[2]:register_forward_hook(function(_, input) seen[2] = input:min():item() end)
    net(x)
    assert.are.equal(seen[1], seen[2])
    local Own = ai.class("OwnReLU", nn.ReLU)
    function Own:forward(t) seen[3] = t:min():item() return t end
    nn.Sequential{nn.BatchNorm1d(3), Own()}(x)
    assert.are.equal(seen[1], seen[3])
  end)
end)

describe("statistics", function()
  it("are right far from 0, where sums of squares cancel", function()
    local x = ai.randn(100000, {dtype = "f64"})
    local v = x:var():item()
    assert.is_true(math.abs((x + 1e6):var():item() - v) < 1e-6)
    assert.is_true(math.abs((x:float() + 1000):var():item() - v) < 1e-3)
  end)
  it("are sums that a mean of half precision does not overflow", function()
    assert.are.equal(60000, ai.full({4096}, 60000, {dtype = "f16"}):mean():item() - 0)
  end)
  it("have no gradient at a standard deviation or norm of 0", function()
    local x = ai.zeros(4, {requires_grad = true})
    x:std():backward()
    assert.are.same({0, 0, 0, 0}, x.grad:totable())
    local y = ai.zeros(4, {requires_grad = true})
    y:norm():backward()
    assert.are.same({0, 0, 0, 0}, y.grad:totable())
  end)
  it("refuse integers", function() assert.has_error(function() ai.tensor({1, 2}, {dtype = "i64"}):mean() end) end)
  it("give places from 1, the first of equals, and a NaN before all", function()
    assert.are.same({2, 1}, ai.tensor {{1, 5, 5}, {7, 2, 7}}:argmax(2):totable())
    assert.are.equal(4, ai.tensor {{1, 5, 3}, {7, 2, 7}}:argmax():item())
    assert.are.equal(2, ai.tensor {1, 0 / 0, 9}:argmax():item())
    assert.are.equal(2, ai.tensor {1, 0 / 0, 9}:argmin():item())
  end)
end)

describe("dropout", function()
  it("drops about the share asked for, and scales the rest", function()
    ai.manual_seed(7)
    local y = ai.f.dropout(ai.ones(100, 1000), 0.3)
    local kept = y:gt(0):sum():item() / 100000
    assert.is_true(math.abs(kept - 0.7) < 0.01)
    assert.is_true(math.abs(y:max():item() - 1 / 0.7) < 1e-6)
  end)
  it("is the same for a seed, in every dtype and at every thread count, and another the next time", function()
    local function mask(dtype)
      ai.manual_seed(7)
      return ai.f.dropout(ai.ones({70000}, {dtype = dtype}), 0.5):gt(0)
    end
    local a = mask "f32"
    for _, dtype in ipairs {"f64", "bf16", "f16"} do assert.are.equal(0, a:ne(mask(dtype)):sum():item()) end
    ai.set_num_threads(1)
    assert.are.equal(0, a:ne(mask "f32"):sum():item())
    ai.set_num_threads(2)
    assert.are.equal(0, a:ne(mask "f32"):sum():item())
    assert.is_true(a:ne(ai.f.dropout(ai.ones(70000), 0.5):gt(0)):sum():item() > 30000)
  end)
  it("gives its gradient where it kept", function()
    local x = ai.ones({1000}, {requires_grad = true})
    local y = ai.f.dropout(x, 0.4)
    y:sum():backward()
    assert.are.same(y:totable(), x.grad:totable())
  end)
  it("drops whole channels", function()
    local y = ai.f.dropout2d(ai.ones(20, 30, 4, 5), 0.4):reshape(600, 20)
    assert.are.equal(0, (y:max_dim(2) - y:min_dim(2)):abs():sum():item())
  end)
  it("does nothing when not training", function()
    local x = ai.randn(10)
    assert.are.same(x:totable(), ai.f.dropout(x, {p = 0.5, training = false}):totable())
  end)
end)
