--- Rows of a table: renormalised, weighed by frequency, and in bags.

local ai = require "aijit"
local like = require "spec.support.like"
local f, nn = ai.f, ai.nn
local _ = like

local function long(v) return ai.tensor(v, {dtype = "i64"}) end
local function list(x) return x:totable() end
local function fails(fn, words) assert.has_error_like(fn, words) end
local function table_() return ai.tensor({{3, 4}, {0, 1}, {6, 8}}, {dtype = "f64"}) end
local function near(want, x)
  for i, v in ipairs(x:reshape(-1):totable()) do assert.is_near(want[i], v, 1e-6) end
  assert.are.equal(#want, x:numel())
end

describe("an embedding", function()
  it("with max_norm shortens the rows that are looked up, where they lie", function()
    local w = table_()
    near({0.6, 0.8, 0.6, 0.8, 0, 1}, f.embedding(w, long {1, 1, 2}, {max_norm = 1}))
    near({0.6, 0.8, 0, 1, 6, 8}, w)
    near({3, 4}, f.embedding(w, long {3}, {max_norm = 7, norm_type = 1}))
    local v = table_():t():contiguous():t()
    f.embedding_renorm_(v, long {3}, 4, math.huge)
    near({3, 4, 0, 1, 3, 4}, v)
  end)

  it("with max_norm is trained: the write is none that gradients see", function()
    local m = nn.Embedding(3, 2, {max_norm = 1})
    m(long {1, 2, 1}):sum():backward()
    near({2, 2, 1, 1, 0, 0}, m.weight.grad)
    for i = 1, 2 do assert.is_true(m.weight[i]:norm():item() <= 1.000001) end
  end)

  it("with scale_grad_by_freq divides a row's gradient by its look-ups", function()
    local w = table_():requires_grad_()
    f.embedding(w, long {{1, 1}, {2, 1}}, {scale_grad_by_freq = true}):sum():backward()
    near({1, 1, 1, 1, 0, 0}, w.grad)
  end)

  it("refuses a norm that is none, and integers to renormalise", function()
    fails(function() f.embedding(table_(), long {1}, {max_norm = -1}) end, "max_norm is %-1")
    fails(function() f.embedding(table_(), long {1}, {max_norm = 1, norm_type = 0}) end, "norm_type is 0")
    fails(function() f.embedding(table_(), long {4}, {max_norm = 1}) end, "out of range")
    fails(function() f.embedding(long {{1, 2}}, long {1}, {max_norm = 1}) end, "floats")
    fails(function() f.embedding_renorm_(table_():requires_grad_() * 1, long {1}, 1) end, "has no gradient")
  end)
end)

describe("a bag of embeddings", function()
  it("is a row of indices, or a part of a flat index between offsets", function()
    local w = table_()
    assert.are.same({{3, 5}, {12, 16}}, list(f.embedding_bag(w, long {{1, 2}, {3, 3}}, {mode = "sum"})))
    assert.are.same({{1.5, 2.5}, {6, 8}}, list(f.embedding_bag(w, long {1, 2, 3}, long {1, 3})))
    assert.are.same({{1.5, 2.5}, {6, 8}}, list(f.embedding_bag(w, long {1, 2, 3}, long {1, 3, 4}, {include_last_offset = true})))
    assert.are.same({{3, 4}, {0, 0}, {6, 8}}, list(f.embedding_bag(w, long {2, 1, 3}, long {1, 3, 3}, {mode = "max"})))
  end)

  it("leaves padding out of sums, means and gradients", function()
    local w = table_():requires_grad_()
    local y = f.embedding_bag(w, long {1, 2, 2}, long {1, 3}, {padding_idx = 2})
    assert.are.same({{3, 4}, {0, 0}}, list(y))
    y:sum():backward()
    assert.are.same({{1, 1}, {0, 0}, {0, 0}}, list(w.grad))
  end)

  it("weighs its rows, and tells the weights' gradient", function()
    local w, p = table_():requires_grad_(), ai.tensor({{2, 0.5}}, {dtype = "f64"}):requires_grad_()
    local y = f.embedding_bag(w, long {{1, 3}}, {mode = "sum", per_sample_weights = p})
    assert.are.same({{9, 12}}, list(y))
    y:sum():backward()
    assert.are.same({{7, 14}}, list(p.grad))
    assert.are.same({{2, 2}, {0, 0}, {0.5, 0.5}}, list(w.grad))
  end)

  it("gives the largest elements' rows their gradients, the first of equals, and NaN the highest place", function()
    local w = ai.tensor({{1, 5}, {2, 5}, {2, 0 / 0}}, {dtype = "f64"}):requires_grad_()
    local y = f.embedding_bag(w, long {{1, 2}, {2, 3}}, {mode = "max"})
    assert.are.same({2, 5}, list(y[1]))
    assert.is_true(y[{2, 2}]:item() ~= y[{2, 2}]:item())
    y[1]:sum():backward()
    assert.are.same({{0, 1}, {1, 0}, {0, 0}}, list(w.grad))
  end)

  it("is a layer with the shape of its bags", function()
    local m = nn.EmbeddingBag(5, 3, {mode = "sum", padding_idx = 1})
    assert.are.same({0, 0, 0}, list(m.weight[1]))
    assert.are.same({4, 3}, m(long {{1, 2}, {3, 4}, {5, 1}, {2, 2}}):size())
    assert.are.same({2, 3}, m(long {1, 2, 3}, long {1, 2}):size())
    assert.are.same({7, 3}, m:output_shape {7, 4, dtype = "i64"})
    assert.are.equal("sum", nn.from_spec(m:to_spec()).mode)
  end)

  it("refuses what makes no bags", function()
    local w = table_()
    fails(function() f.embedding_bag(w, long {1, 2}) end, "wants offsets")
    fails(function() f.embedding_bag(w, long {{1, 2}}, long {1}) end, "offsets are for a flat index")
    fails(function() f.embedding_bag(w, long {1, 2}, long {2}) end, "first bag begins at 1")
    fails(function() f.embedding_bag(w, long {1, 2}, long {1, 4}) end, "offset 4 at place 2")
    fails(function() f.embedding_bag(w, long {1, 2}, long {1, 3, 2}) end, "do not go down")
    fails(function() f.embedding_bag(w, long {1, 0}, long {1}) end, "index 0 at place 2")
    fails(function() f.embedding_bag(w, long {{1}}, {mode = "median"}) end, "mode is")
    fails(function() f.embedding_bag(w, long {{1}}, {per_sample_weights = ai.ones(1, 1)}) end, "for the mode \"sum\"")
    fails(function() f.embedding_bag(w, long {{1}}, {mode = "sum", per_sample_weights = ai.ones(1)}) end, "one of per_sample_weights for each")
    fails(function() f.embedding_bag(w, long {{1}}, {mode = "max", scale_grad_by_freq = true}) end, "frequency")
    fails(function() f.embedding_bag(w, ai.ones(1, 1)) end, "integers")
    fails(function() f.embedding_bag(w, long {{1}}, {padding_idx = 4}) end, "padding_idx 4")
  end)

  it("may be empty, and there may be none", function()
    local w = table_():requires_grad_()
    assert.are.same({{0, 0}, {0, 0}}, list(f.embedding_bag(w, ai.zeros(2, 0, {dtype = "i64"}))))
    local y = f.embedding_bag(w, ai.zeros(0, 2, {dtype = "i64"}), {mode = "max"})
    assert.are.same({0, 2}, y:size())
    y:sum():backward()
    assert.are.same({0, 0}, list(w.grad[1]))
  end)
end)
