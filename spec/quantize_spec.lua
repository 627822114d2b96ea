--- Vectors as codes.

local ai = require "aijit"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function near(a, b, tolerance) assert.is_true((a - b):abs():max():item() < (tolerance or 1e-5)) end

describe("VectorQuantization", function()
  it("takes the nearest vector, with the gradient of the input and a commitment loss", function()
    local m = nn.VectorQuantization(2, 3, {commitment = 0.5}):eval()
    m.embed:copy_(ai.tensor{{0, 0}, {10, 0}, {0, 10}})
    local x = ai.tensor({{{1, 2}, {9, 1}}, {{2, 7}, {6, 1}}}, {requires_grad = true})
    local y, codes, loss = m(x)
    assert.are.same({{{0, 0}, {10, 0}}, {{0, 10}, {10, 0}}}, y:totable())
    assert.are.same({{1, 2}, {3, 2}}, codes:totable())
    assert.is_near(0.5 * (1 + 4 + 1 + 1 + 4 + 9 + 16 + 1) / 8, loss:item(), 1e-6)
    near(y, m:decode(codes))
    y:sum():backward()
    assert.are.same({{{1, 1}, {1, 1}}, {{1, 1}, {1, 1}}}, x.grad:totable())
    x.grad = nil
    local _, _, again = m(x)
    again:backward()
    assert.is_near(0.5 * 2 * 1 / 8, x.grad[{1, 1, 1}]:item(), 1e-6)
  end)

  it("starts from means of the first batch", function()
    ai.manual_seed(2)
    local rows = ai.cat({ai.randn(60, 2) * 0.1 + 5, ai.randn(60, 2) * 0.1 - 5}, 1)
    local m = nn.VectorQuantization(2, {threshold = 0})
    local _, codes = m(rows)
    assert.are.equal(1, m.inited:item())
    assert.are_not.equal(codes[1]:item(), codes[120]:item())
    near(m.embed[codes[1]:item()], rows:slice(1, 1, 60):mean{1}, 0.01)
    near(m.embed[codes[120]:item()], rows:slice(1, 61, 120):mean{1}, 0.01)
  end)

  it("follows exponential averages in training", function()
    local m = nn.VectorQuantization(1, 2, {decay = 0.75, threshold = 0})
    m.inited:fill_(1)
    m.embed:copy_(ai.tensor{{0}, {10}})
    m.cluster_size:copy_(ai.tensor{2, 2})
    m.embed_avg:copy_(ai.tensor{{0}, {20}})
    m(ai.tensor{{1}, {2}, {8}})
    -- sizes 0.75 * 2 + 0.25 * {2, 1}; sums 0.75 * {0, 20} + 0.25 * {3, 8}
    near(ai.tensor{2, 1.75}, m.cluster_size)
    near(ai.tensor{{0.75 / 2}, {17 / 1.75}}, m.embed, 1e-3)
    local before = m.embed:clone()
    m:eval()(ai.tensor{{1}})
    near(before, m.embed, 1e-12)
  end)

  it("replaces what is not used", function()
    local m = nn.VectorQuantization(1, 2, {threshold = 1})
    m.inited:fill_(1)
    m.embed:copy_(ai.tensor{{0}, {1000}})
    m.cluster_size:copy_(ai.tensor{50, 0})
    m(ai.full({20, 1}, 3))
    assert.are.equal(3, m.embed[{2, 1}]:item())
    assert.matches("5 features, and 1 are wanted", message_of(m, ai.ones(2, 5)))
    assert.matches("decay is 2; a probability", message_of(nn.VectorQuantization, 1, 2, {decay = 2}))
  end)

  it("keeps its codebook in the state", function()
    local m = nn.VectorQuantization(4)
    m(ai.randn(10, 3))
    local again = nn.VectorQuantization(4)
    again:load_state_dict(m:state_dict())
    near(m:eval()(ai.ones(1, 3)), again:eval()(ai.ones(1, 3)), 1e-12)
    assert.are.equal(0, #m:parameters())
  end)
end)

describe("ResidualVectorQuantization", function()
  it("adds what each quantiser says of the rest", function()
    ai.manual_seed(1)
    local m, x = nn.ResidualVectorQuantization(3, 8), ai.randn(200, 2, {requires_grad = true})
    for _ = 1, 20 do m(x) end
    m:eval()
    local y, codes, loss = m(x)
    assert.are.same({3, 200}, codes.shape)
    near(y, m:decode(codes))
    local errors = {}
    for i = 1, 3 do errors[i] = (m:decode(codes:slice(1, 1, i)) - x):square():mean():item() end
    assert.is_true(errors[1] > errors[2] and errors[2] > errors[3])
    assert.is_near((errors[1] + errors[2] + errors[3]) / 3, loss:item(), 1e-5)
    y:sum():backward()
    assert.are.equal(400, x.grad:sum():item())
    assert.matches("n is 0; a whole number from 1", message_of(nn.ResidualVectorQuantization, 0, 4))
  end)
end)

describe("FiniteScalarQuantization", function()
  it("has as many values as levels, and counts codes from 1", function()
    local m = nn.FiniteScalarQuantization{levels = {3, 4}}
    local list, seen = {}, {}
    for i = -30, 30 do for j = -30, 30 do list[#list + 1] = {i / 10, j / 10} end end
    local y, codes = m(ai.tensor(list))
    for i, code in ipairs(codes:totable()) do
      local a, b = y[{i, 1}]:item(), y[{i, 2}]:item()
      assert.is_true((a + 1) % 1 == 0 and math.abs(a) <= 1 and (b * 2) % 1 == 0 and b >= -1 and b <= 0.5)
      assert.are.equal(1 + (a + 1) + 3 * (b * 2 + 2), code)
      seen[code] = true
    end
    for code = 1, 12 do assert.is_true(seen[code]) end
    near(y, m:decode(codes))
  end)

  it("rounds tanh(x) times half the levels, with its gradient", function()
    local m = nn.FiniteScalarQuantization{levels = {5}}
    local x = ai.tensor({{0.3}}, {requires_grad = true})
    local y = m(x)
    assert.are.equal(0.5, y:item())                                  -- 4 * 1.001 / 2 * tanh(0.3) = 0.583 -> 1, of 2
    y:sum():backward()
    assert.is_near(2.002 * (1 - math.tanh(0.3) ^ 2) / 2, x.grad:item(), 1e-5)
    assert.matches("levels is {1}; a list of whole numbers from 2", message_of(nn.FiniteScalarQuantization, {levels = {1}}))
    assert.matches("2 features, and there are 1 levels", message_of(m, ai.ones(1, 2)))
  end)
end)

describe("LookupFreeQuantization", function()
  it("takes signs, and an entropy of the codes", function()
    local m = nn.LookupFreeQuantization(2, {diversity = 0.5, temperature = 2})
    local x = ai.tensor({{0.5, -2}, {-1, 3}}, {requires_grad = true})
    local y, codes, loss = m(x)
    assert.are.same({{1, -1}, {-1, 1}}, y:totable())
    assert.are.same({2, 3}, codes:totable())
    near(y, m:decode(codes))
    local mean, each = {0, 0, 0, 0}, 0
    for _, row in ipairs{{0.5, -2}, {-1, 3}} do
      local p, total = {}, 0
      for c = 0, 3 do
        local a, b = c % 2 * 2 - 1, math.floor(c / 2) * 2 - 1
        p[c + 1] = math.exp(-((row[1] - a) ^ 2 + (row[2] - b) ^ 2) / 2)
        total = total + p[c + 1]
      end
      for c = 1, 4 do
        p[c] = p[c] / total
        each = each - p[c] * math.log(p[c]) / 2
        mean[c] = mean[c] + p[c] / 2
      end
    end
    local together = 0
    for c = 1, 4 do together = together - mean[c] * math.log(mean[c]) end
    assert.is_near(each - 0.5 * together, loss:item(), 1e-5)
    y:sum():backward()
    assert.are.same({{1, 1}, {1, 1}}, x.grad:totable())
    assert.matches("16 bits at most", message_of(nn.LookupFreeQuantization, 20))
  end)
end)
