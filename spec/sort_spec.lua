--- Order: sort, topk, unique, and whether tensors are equal.

local ai = require "aijit"
local nan, inf = 0 / 0, math.huge

local function is_nan(v) return v ~= v end

describe("sort", function()
  it("takes NaN for the largest number, in both directions", function()
    local up = ai.tensor({nan, 1, inf, -inf, nan}):sort():totable()
    assert.are.same({-inf, 1, inf}, {up[1], up[2], up[3]})
    assert.is_true(is_nan(up[4]) and is_nan(up[5]))
    local down = ai.tensor({1, nan, inf}):sort {descending = true}:totable()
    assert.is_true(is_nan(down[1]))
    assert.are.same({inf, 1}, {down[2], down[3]})
  end)
  it("keeps equal values in their order, 0 and -0 among them", function()
    local _, at = ai.tensor({1, 0, -0.0, 1, 0}):sort()
    assert.are.same({2, 3, 5, 1, 4}, at:totable())
    _, at = ai.tensor({1, 0, -0.0, 1, 0}):sort {descending = true}
    assert.are.same({1, 4, 2, 3, 5}, at:totable())
  end)
  it("orders rows of every length alike", function()
    ai.manual_seed(1)
    for _, n in ipairs {1, 2, 48, 49, 500, 4096, 10000} do
      local x = ai.randn(2, n)
      local y, at = x:sort()
      assert.is_true(n == 1 or y:narrow(2, 2, n - 1):ge(y:narrow(2, 1, n - 1)):all():item())
      assert.is_true(x:gather(2, at):equal(y):item())
    end
  end)
  it("sends gradients back to where the values were", function()
    local x = ai.tensor({3, 1, 2}, {requires_grad = true})
    local y = x:sort();
    (y * ai.tensor {1, 2, 3}):sum():backward()
    assert.are.same({3, 1, 2}, x.grad:totable())
  end)
end)

describe("topk", function()
  it("gives the first places among equal values", function()
    local values, at = ai.tensor({2, 5, 5, 1, 5}):topk(2)
    assert.are.same({5, 5}, values:totable())
    assert.are.same({2, 3}, at:totable())
    values, at = ai.tensor({2, 5, 1, 1}):topk(2, {largest = false})
    assert.are.same({1, 1}, values:totable())
    assert.are.same({3, 4}, at:totable())
  end)
  it("agrees with sort", function()
    ai.manual_seed(2)
    local x = ai.randn(3, 2000)
    assert.is_true(x:topk(7, 2):equal(x:sort(2, {descending = true}):narrow(2, 1, 7)):item())
  end)
  it("refuses more than there are", function()
    local ok, message = pcall(function() ai.zeros(2, 3):topk(4) end)
    assert.is_false(ok)
    assert.is_truthy(tostring(message):find("k is 4", 1, true))
  end)
end)

describe("unique", function()
  it("gives values in order, the place of each element's value, and counts", function()
    local values, inverse, counts = ai.tensor({{3, 1}, {1, 2}}):unique()
    assert.are.same({1, 2, 3}, values:totable())
    assert.are.same({{3, 1}, {1, 2}}, inverse:totable())
    assert.are.same({2, 1, 1}, counts:totable())
  end)
  it("of nothing is nothing", function()
    local values, inverse, counts = ai.zeros(0, 2):unique()
    assert.are.same({0}, values:size())
    assert.are.same({0, 2}, inverse:size())
    assert.are.same({0}, counts:size())
  end)

  local rows = {{2, 1}, {1, 9}, {2, 1}, {2, 0}}
  it("along a dimension is of slices, by their first elements, then their second", function()
    local values, inverse, counts = ai.tensor(rows):unique {dim = 1}
    assert.are.same({{1, 9}, {2, 0}, {2, 1}}, values:totable())
    assert.are.same({3, 1, 3, 2}, inverse:totable())
    assert.are.same({1, 1, 2}, counts:totable())
    assert.are.same({{1, 2, 2}, {9, 0, 1}}, ai.tensor(rows):t():unique(true, 2):totable())
    for _, dtype in ipairs {"i64", "u8", "bf16", "f64"} do
      assert.are.same({{1, 9}, {2, 0}, {2, 1}}, (ai.tensor(rows, {dtype = dtype}):unique {dim = 1}):totable())
    end
  end)
  it("along a dimension agrees with the elements' own for a vector of many", function()
    local x = ai.empty(1000, {dtype = "i64"}):random_(1, 200)
    local a, b = {x:unique()}, {x:unique {dim = 1}}
    for i = 1, 3 do assert.are.same(a[i]:totable(), b[i]:totable()) end
    local y = ai.stack({x % 3, x}, 2)
    local values, inverse, counts = y:unique {dim = 1}
    assert.is_true(values:index_select(1, inverse):equal(y):item())
    assert.are.equal(1000, counts:sum():item())
  end)
  it("of runs leaves them where they are", function()
    local values, inverse, counts = ai.tensor({{1, 2}, {1, 2}, {3, 4}, {1, 2}}):unique_consecutive {dim = 1}
    assert.are.same({{1, 2}, {3, 4}, {1, 2}}, values:totable())
    assert.are.same({1, 1, 2, 3}, inverse:totable())
    assert.are.same({2, 1, 1}, counts:totable())
  end)
  it("along a dimension wants slices that have elements, and takes none of them", function()
    assert.has_error(function() ai.zeros(2, 0):unique {dim = 1} end)
    assert.has_error(function() ai.zeros(2, 1):unique {dim = 3} end)
    local values, inverse, counts = ai.zeros(0, 2):unique {dim = 1}
    assert.are.same({{0, 2}, {0}, {0}}, {values:size(), inverse:size(), counts:size()})
  end)
  it("counts every NaN as another value, behind all numbers", function()
    local values = ai.tensor({{nan, 1}, {2, 1}, {nan, 1}}):unique {dim = 1}
    assert.are.same({3, 2}, values:size())
    assert.are.equal(2, values[{1, 1}]:item())
  end)
end)

describe("equality", function()
  it("is of shapes and elements", function()
    local x = ai.tensor {1, nan}
    assert.is_false(x:equal(x):item())
    assert.is_true(ai.ones(2):equal(ai.ones(2)):item())
    assert.is_false(ai.ones(2):equal(ai.ones(1)):item())
  end)
  it("within a tolerance holds for equal infinities, and for NaN when asked", function()
    local x = ai.tensor {1, inf}
    assert.is_true(x:allclose(x):item())
    assert.is_true(x:allclose(ai.tensor {1 + 1e-6, inf}):item())
    assert.is_false(x:allclose(ai.tensor {1, -inf}):item())
    assert.is_false(x:allclose(ai.tensor {1.1, inf}):item())
    local y = ai.tensor {nan}
    assert.is_false(y:allclose(y):item())
    assert.is_true(y:allclose(y, {equal_nan = true}):item())
  end)
end)
