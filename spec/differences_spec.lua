--- Every difference to PyTorch that lua/aijit/differences.md states has a test under its own title, and none is tested that
--- is not stated.

local ai = require "aijit"
require "spec.support.like"
local f = ai.f

local stated = {}
do
  local file = io.open "lua/aijit/differences.md" or io.open(debug.getinfo(1, "S").source:match "^@(.*)spec/" .. "lua/aijit/differences.md")
  local text = file:read "*a"
  file:close()
  for title in text:gmatch "\n%- %*%*(.-)%*%*" do stated[(title:gsub("%s+", " "))] = false end
end

local function list(x) return x:totable() end
local function longs(v) return ai.tensor(v, {dtype = "i64"}) end

local tests = {
  ["From 1."] = function()
    local x = ai.tensor {{1, 5, 2}, {7, 3, 4}}
    assert.are.same({2, 1}, list(x:argmax(2)))
    assert.are.same({6, 10, 6}, list(x:sum(1) - ai.tensor {2, -2, 0}))
    local _, where = x:sort(-1)
    assert.are.same({{1, 3, 2}, {2, 3, 1}}, list(where))
    assert.are.same({{5, 2}, {3, 4}}, list(x:index_select(2, longs {2, -1})))
    assert.has_error_like(function() x:sum(0) end, "count from 1")
    assert.has_error_like(function() x:gather(1, longs {{0}}) end, "out of range")
    local logits = ai.tensor {{10, 0, 0}}
    assert.is_true(ai.cross_entropy(logits, longs {1}):item() < 0.1)
    assert.has_error(function() ai.cross_entropy(logits, longs {0}) end)
  end,
  ["Ranges hold their end."] = function()
    assert.are.same({1, 2, 3, 4}, list(ai.arange(4)))
    assert.are.same({2, 3, 4}, list(ai.arange(2, 4)))
    assert.are.same({2, 3, 4}, list(ai.arange(5)[{{2, 4}}]))
    assert.are.same({2, 3, 4}, list(ai.arange(5):slice(1, 2, 4)))
  end,
  ["Offsets are numbers, not positions."] = function()
    local x = ai.tensor {{1, 2}, {3, 4}}
    assert.are.same({1, 4}, list(x:diagonal(0)))
    assert.are.same({2}, list(x:diag(1)))
    assert.are.same({{1, 0}, {3, 4}}, list(x:tril(0)))
    assert.are.same({{3, 4}, {1, 2}}, list(x:roll(1, 1)))
  end,
  ["Lua has one kind of number."] = function()
    assert.are.equal("f32", ai.tensor({1, 2}).dtype)
    assert.are.equal("i64", (longs {1} + 2.0).dtype)
    assert.are.equal("f32", (longs {1} + 1.5).dtype)
  end,
  ["A fraction is never cut off a parameter."] = function()
    local y = f.threshold(longs {0, 1}, 0.5, -9)
    assert.are.equal("f32", y.dtype)
    assert.are.same({-9, 1}, list(y))
    assert.are.same({0.5}, list(f.hardtanh(longs {3}, -0.5, 0.5)))
    assert.are.same({{2.5}}, list(f.addmm(longs {{1}}, longs {{1}}, longs {{2}}, {beta = 0.5})))
  end,
  ["equal and allclose give a tensor"] = function()
    local x = ai.tensor {1, 0}
    assert.is_true(ai.is_tensor(ai.equal(x, x)) and ai.equal(x, x):item())
    assert.are.equal("bool", ai.allclose(x, x).dtype)
  end,
  ["More dtypes are taken"] = function()
    assert.are.same({5}, list(f.hypot(longs {3}, longs {4})))
    assert.are.same({2}, list(f.lerp(longs {1}, longs {3}, 0.5)))
    assert.are.same({1.5}, list(f.addcdiv(longs {1}, longs {1}, longs {2})))
    assert.are.equal(2, ai.tensor {false, true}:argmax():item())
    assert.are.equal(2, ai.tensor({1, 2, 3}, {dtype = "bf16"}):quantile(0.5):item())
  end,
  ["A number keeps its value beside integers."] = function()
    local x = ai.tensor({0, 255}, {dtype = "u8"})
    assert.are.same({true, true}, list(x:gt(-1)))
    assert.are.same({0, 0}, list(f.floor_divide(x, 300)))
    assert.are.same({0, 255}, list(f.remainder(x, 300)))
  end,
  ["Losses of two shapes are refused"] = function()
    assert.has_error_like(function() ai.mse_loss(ai.ones(3, 1), ai.ones(3)) end, "different shapes")
  end,
  ["An expanded tensor is not written"] = function()
    assert.has_error_like(function() ai.ones(1, 3):expand{2, 3}:fill_(7) end, "expanded")
    assert.has_error_like(function() ai.ones(1, 3):expand{2, 3}:add_(7) end, "expanded")
  end,
  ["heaviside, isclose and lerp promote."] = function()
    local x, y = ai.tensor {1, 0}, ai.tensor({2, 3}, {dtype = "f64"})
    assert.are.equal("f64", f.heaviside(x, y).dtype)
    assert.are.same({1, 3}, list(f.heaviside(x, y)))
    assert.are.equal("f64", f.lerp(x, y, 0.5).dtype)
    assert.are.same({true, true}, list(f.isclose(longs {1, 2}, ai.tensor {1, 2})))
  end,
  ["A bool counts as 0 or 1 beside another dtype."] = function()
    local mask = ai.tensor {true, false}
    assert.are.same({0, 0}, list(mask:long() - mask))
    assert.has_error(function() return mask - mask end)
  end,
  ["Numbers stand for tensors."] = function()
    local x = ai.tensor {-1, 2}
    assert.are.same({0, 2}, list(ai.maximum(x, 0)))
    assert.are.same({false, true}, list(f.lt(1, x)))
    assert.are.same({0, 0}, list(f.fmod(x, 1) + 0))
    assert.are.same({true, true}, list(f.logical_and(x, 1)))
    assert.are.equal(2, f.atan2(x, 1):numel())
  end,
  ["Positions may be of any integer dtype"] = function()
    local x = ai.tensor {5, 6, 7}
    for _, dtype in ipairs {"u8", "i8", "i16", "i32", "i64"} do
      assert.are.same({7, 5}, list(x:gather(1, ai.tensor({3, 1}, {dtype = dtype}))))
    end
    assert.has_error(function() x:gather(1, ai.tensor {3, 1}) end)
  end,
  ["Sources are converted."] = function()
    local x, at = ai.zeros(3), longs {2}
    assert.are.same({0, 4, 0}, list(x:scatter(1, at, longs {4})))
    assert.are.same({0, 4, 0}, list(x:scatter_add(1, at, longs {4})))
    assert.are.same({0, 4, 0}, list(x:index_add(1, at, longs {4})))
    assert.are.same({0, 4, 0}, list(x:index_copy(1, at, longs {4})))
    assert.are.same({0, 4, 0}, list(x:index_put(at, longs {4})))
    assert.are.same({0, 4, 0}, list(x:masked_scatter(ai.tensor {false, true, false}, longs {4})))
  end,
  ["There are no complex, quantised and sparse tensors."] = function()
    assert.has_error(function() ai.zeros(2, {dtype = "c64"}) end)
    assert.has_error(function() ai.zeros(2, {dtype = "complex64"}) end)
  end,
  ["Variances take `correction`"] = function()
    local x = ai.tensor {1, 3}
    assert.are.equal(2, x:var():item())
    assert.are.equal(1, x:var(nil, {correction = 0}):item())
    assert.has_error_like(function() x:var(nil, {unbiased = false}) end, "unbiased")
  end,
  ["unique gives values, inverse and counts"] = function()
    local values, inverse, counts = ai.tensor({3, 1, 3}):unique()
    assert.are.same({{1, 3}, {2, 1, 2}, {1, 2}}, {list(values), list(inverse), list(counts)})
  end,
  ["nonzero gives one table"] = function()
    local x = ai.tensor {{0, 1}, {1, 0}}
    assert.are.same({{1, 2}, {2, 1}}, list(x:nonzero()))
    local rows, columns = unpack(x:nonzero():unbind(2))
    assert.are.same({{1, 2}, {2, 1}}, {list(rows), list(columns)})
    assert.are.same({{1, 2}, {2, 1}, {0, 0}}, list(x:nonzero_static(3)))
  end,
  ["sort keeps the order of equal values"] = function()
    local _, where = (ai.arange(100) % 2):sort()
    local w = list(where)
    for i = 1, 50 do assert.are.equal(2 * i, w[i]) end
  end,
  ["Sizes are tables."] = function()
    local x = ai.zeros(2, 3)
    x.shape[1] = 5
    assert.are.same({2, 3}, x.shape)
    assert.are.same({2, 3}, x:size())
    assert.are.equal(2, #x)
  end,
  ["Comparisons have names."] = function()
    local x = ai.tensor {1, 2}
    assert.has_error_like(function() return x < x end, ":lt")
    assert.is_true(x == x)
    assert.is_false(x == x:clone())
    assert.are.same({true, true}, list(x:eq(x:clone())))
  end,
  ["What a number was written over depends on nothing."] = function()
    local x = ai.ones(2, {requires_grad = true})
    local y = x * 2
    y:fill_(3);
    (y * y):sum():backward()
    assert.is_nil(x.grad)
  end,
  ["An unused input has the gradient false"] = function()
    local a, b = ai.ones(1, {requires_grad = true}), ai.ones(1, {requires_grad = true})
    local grads = ai.grad((a * 2):sum(), {a, b}, {allow_unused = true})
    assert.are.equal(2, grads[1]:item())
    assert.is_false(grads[2])
    assert.has_error(function() ai.grad((a * 2):sum(), {a, b}) end)
  end,
  ["Only the triangle that is read has a gradient"] = function()
    local l = ai.tensor({{2, 0}, {1, 3}}, {dtype = "f64"}):requires_grad_()
    local b = ai.tensor({{1}, {2}}, {dtype = "f64"})
    local g = ai.grad(f.cholesky_solve(b, l):sum(), {l})[1]
    assert.are.equal(0, g[{1, 2}]:item())
    assert.is_true(g[{2, 1}]:item() ~= 0)
  end,
  ["Random numbers are Philox's"] = function()
    ai.manual_seed(7)
    local a = ai.rand(50000)
    ai.set_num_threads(1)
    ai.manual_seed(7)
    local b = ai.rand(50000)
    ai.set_num_threads(2)
    assert.is_true(ai.equal(a, b):item())
  end,
  ["An embedding's table may have more dimensions"] = function()
    assert.are.same({4, 2, 3}, f.embedding(ai.zeros(5, 2, 3), longs {1, 2, 5, 1}):size())
  end,
  ["The singular vectors that only full matrices have are given no gradient"] = function()
    local x = ai.tensor({{1, 2, 3}, {0, 1, 4}}, {dtype = "f64"}):requires_grad_()
    local _, s, v = f.svd(x)
    assert.has_error_like(function() ai.grad(v:square():mul(ai.arange(9):double():view(3, 3)):sum(), {x}, {retain_graph = true}) end, "beyond the 2%-th")
    assert.is_true(ai.grad(v:narrow(1, 1, 2):square():mul(ai.arange(6):double():view(2, 3)):sum(), {x}, {retain_graph = true})[1]:norm():item() > 0)
    local g = ai.grad(s:square():sum(), {x}, {create_graph = true})[1]
    assert.is_true(math.abs(ai.grad(g:sum(), {x})[1][{1, 2}]:item() - 2) < 1e-9)      -- of the sum of squares, 2 everywhere
  end,
  ["A batch to be normalised has channels."] = function()
    assert.has_error_like(function() f.batch_norm(ai.zeros(0), ai.zeros(0), ai.zeros(0)) end, "N, C")
  end,
  ["What PyTorch loses on the way is kept."] = function()
    assert.are.same({1, -1}, list(f.softsign(ai.tensor({2 ^ 31 - 1, -2 ^ 31}, {dtype = "i32"}))))
    assert.are.equal(math.huge, f.polygamma(1, ai.tensor {-1}):item())
    assert.is_true(f.isfinite(f.matrix_exp(ai.full({2, 2}, 3, {dtype = "bf16"}))):all():item())
    assert.are.equal(math.huge, ai.tensor {-math.huge}:i0():item())
    assert.are.equal(0, ai.tensor {3}:zeta(ai.tensor {math.huge}):item())
    assert.are.equal(0, ai.special.airy_ai(ai.tensor {math.huge}):item())
    assert.is_true(f.isnan(ai.tensor {math.huge}:igamma(ai.tensor {0 / 0})):item())
  end,
  ["A scope frees what was made in it"] = function()
    local lost
    local kept = ai.scope(function()
      lost = ai.ones(2)
      return lost + 1
    end)
    assert.are.same({2, 2}, list(kept))
    assert.has_error_like(function() return lost + 1 end, "scope")
  end,
}

describe("the difference to PyTorch", function()
  for title, test in pairs(tests) do
    it(title, function()
      assert.is_false(stated[title], "differences.md does not state it")
      test()
    end)
  end
  it("is what PyTorch's samples that do not agree are put down to", function()
    for line in io.lines "spec/vectors/unsupported.txt" do
      local reason = line:sub(1, 1) ~= "#" and line:match "^%S+ [^:]+: (.+)$"
      local title = reason and reason:match '^difference "(.*)"$'
      if title then assert.is_false(stated[title], line)
      elseif reason then assert.is_truthy(reason:find "^not here yet" or reason:find "^PyTorch 2 does as here", line) end
    end
  end)
  it("that is stated is tested", function()
    for title in pairs(stated) do assert.is_truthy(tests[title], title) end
  end)
  it("is told by ai.help", function()
    assert.is_truthy(ai.help.text "differences":find("Where aijit differs from PyTorch", 1, true))
  end)
end)
