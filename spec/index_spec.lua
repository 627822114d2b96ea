--- Index tensors and masks: what they read and write, where they count from, and what a wrong one is told.

local ai = require "aijit"
local f = ai.f

local function fails(call, ...)
  local ok, message = pcall(call)
  assert.is_false(ok)
  for _, part in ipairs {...} do
    assert.is_truthy(tostring(message):find(part, 1, true), ("%q lacks %q"):format(tostring(message), part))
  end
end
local function long(t) return ai.tensor(t, {dtype = "i64"}) end
local function grid() return ai.tensor {{11, 12, 13}, {21, 22, 23}} end

describe("an index tensor", function()
  it("counts from 1, and names a value out of range, its place and the range", function()
    assert.are.same({{13, 11}, {22, 22}}, grid():gather(2, long {{3, 1}, {2, 2}}):totable())
    fails(function() grid():gather(2, long {{3, 4}, {2, 2}}) end, "index 4 at place 2", "dimension 2 has size 3", "from 1 to 3")
    fails(function() grid():gather(2, long {{0, 1}}) end, "index 0 at place 1")
    fails(function() f.embedding(grid(), long {3}) end, "from 1 to 2")
  end)
  it("may count slices backwards from the end", function()
    assert.are.same({{21, 22, 23}, {11, 12, 13}}, grid():index_select(1, long {-1, 1}):totable())
    fails(function() grid():index_select(1, long {-3}) end, "-3", "from -1 down")
  end)
  it("is of integers of any width, and nothing else", function()
    assert.are.same({21, 22, 23}, grid():index_select(1, ai.tensor({2}, {dtype = "u8"})):view(-1):totable())
    fails(function() grid():index_select(1, ai.tensor {2}) end, "integers")
  end)
  it("of two dimensions puts both in the place of the one", function()
    assert.are.same({2, 2, 2}, grid():index_select(2, long {{1, 2}, {3, 1}}):size())
  end)
  it("with equal values: the last one written stays, all are added", function()
    assert.are.same({{0, 2, 0}}, ai.zeros(1, 3):scatter(2, long {{2, 2}}, ai.tensor {{1, 2}}):totable())
    assert.are.same({{0, 3, 0}}, ai.zeros(1, 3):scatter_add(2, long {{2, 2}}, ai.tensor {{1, 2}}):totable())
  end)
  it("may be the tensor that is written", function()
    local x = long {3, 1, 2}
    x:scatter_(1, x, x)
    assert.are.same({1, 2, 3}, x:totable())
  end)
  it("may stand beside others, which pick elements together", function()
    assert.are.same({13, 21}, f.index_by({grid(), long {1, 2}, long {3, 1}}):totable())
    assert.are.same({{11, 12, 0}, {0, 22, 23}}, f.index_put_by({grid(), ai.zeros(2), long {1, 2}, long {3, 1}}):totable())
  end)
  it("changed after it was used is refused by the gradient", function()
    local x, i = ai.randn(2, 3, {requires_grad = true}), long {{1, 2}}
    local y = x:gather(2, i):sum()
    i:fill_(1)
    fails(function() y:backward() end, "gather", "changed in place")
  end)
end)

describe("index_reduce", function()
  it("folds slices in, with or without what was there", function()
    local x, at, src = ai.tensor({{1, 2}, {3, 4}, {5, 6}}), long {1, 3, 1}, ai.tensor({{10, 20}, {30, 40}, {-1, 3}})
    assert.are.same({{10, 20}, {3, 4}, {30, 40}}, f.index_reduce(x, 1, at, src, "amax"):totable())
    assert.are.same({{-10, 60}, {3, 4}, {30, 40}}, f.index_reduce(x, 1, at, src, "prod", {include_self = false}):totable())
    x:index_reduce_(1, at, src, "mean")
    assert.are.same({17.5, 23}, {x[{3, 1}]:item(), x[{3, 2}]:item()})
  end)
  it("refuses other folds, indices and sources", function()
    fails(function() f.index_reduce(grid(), 1, long {1}, grid(), "sum") end, "reduce is")
    fails(function() f.index_reduce(grid(), 1, long {{1}}, grid(), "prod") end, "must have 1")
    fails(function() f.index_reduce(grid(), 1, long {1}, grid(), "prod") end, "one slice for each")
    fails(function() f.index_reduce(grid(), 2, long {1, 4, 1}, grid(), "prod") end, "out of range")
  end)
end)

describe("an embedding", function()
  it("has no gradient at padding_idx", function()
    local w = ai.randn(3, 2, {requires_grad = true})
    f.embedding(w, long {1, 2, 2, 3}, {padding_idx = 2}):sum():backward()
    assert.are.same({{1, 1}, {0, 0}, {1, 1}}, w.grad:totable())
  end)
end)

describe("a mask", function()
  it("chooses elements as one row, and takes them back in order", function()
    local x = grid()
    local mask = x:gt(12):logical_and(x:lt(23))
    assert.are.same({13, 21, 22}, x:masked_select(mask):totable())
    assert.are.same({{11, 12, 1}, {2, 3, 23}}, x:masked_scatter(mask, ai.tensor {1, 2, 3}):totable())
    fails(function() x:masked_scatter(mask, ai.tensor {1, 2}) end, "chooses 3", "only 2")
  end)
  it("is of bools", function() fails(function() grid():masked_fill(grid(), 0) end, "bools", "ne(0)") end)
  it("broadcasts, but does not widen what it fills in place", function()
    assert.are.same({{0, 12, 13}, {0, 22, 23}}, grid():masked_fill_(ai.tensor {true, false, false}, 0):totable())
    fails(function() ai.zeros(3):masked_fill_(ai.tensor {{true, false, false}}:expand(2, 3), 0) end, "does not broadcast")
  end)
  it("of no true elements gives none", function()
    assert.are.same({0}, grid():masked_select(grid():lt(0)):size())
    assert.are.same({0, 2}, grid():lt(0):nonzero():size())
  end)
end)

describe("cat", function()
  it("promotes dtypes and passes over empty rows", function()
    local y = f.cat {long {1}, ai.zeros(0), ai.tensor {0.5}}
    assert.are.equal("f32", y.dtype)
    assert.are.same({1, 0.5}, y:totable())
  end)
  it("says which tensor does not fit", function()
    fails(function() f.cat {ai.zeros(2, 3), ai.zeros(2, 3), ai.zeros(3, 2)} end, "tensor 3", "dimension 2")
    fails(function() f.cat {} end, "empty")
  end)
  it("gives each of many its own part of the gradient, also among constants", function()
    local list = {}
    for i = 1, 40 do list[i] = ai.ones(i % 3 + 1, {requires_grad = i % 2 == 0}) end
    local y = f.cat(list)
    local scale = ai.arange(y:size(1), {dtype = "f32"});
    (y * scale):sum():backward()
    local at = 0
    for i, x in ipairs(list) do
      local wanted = {}
      for k = 1, #x do wanted[k] = at + k end
      if i % 2 == 0 then assert.are.same(wanted, x.grad:totable()) else assert.is_nil(x.grad) end
      at = at + #x
    end
  end)
end)

describe("pad", function()
  it("counts its list from the last dimension backwards", function()
    assert.are.same({{0, 0, 0, 0}, {0, 11, 12, 13}, {0, 21, 22, 23}}, grid():pad({1, 0, 1, 0}):totable())
  end)
  it("mirrors, repeats the edge, wraps around, or cuts off", function()
    local x = ai.tensor {1, 2, 3}
    assert.are.same({3, 2, 1, 2, 3, 2}, x:pad({2, 1}, {mode = "reflect"}):totable())
    assert.are.same({1, 1, 1, 2, 3, 3}, x:pad({2, 1}, {mode = "replicate"}):totable())
    assert.are.same({2, 3, 1, 2, 3, 1}, x:pad({2, 1}, {mode = "circular"}):totable())
    assert.are.same({2, 3, 9}, x:pad({-1, 1}, {value = 9}):totable())
    fails(function() x:pad({3, 0}, {mode = "reflect"}) end, "at most 2")
    fails(function() x:pad({3, 0}, {mode = "mirror"}) end, "constant, reflect, replicate or circular")
  end)
end)
