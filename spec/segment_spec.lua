--- Fractional max pooling, reductions over segments and nonzero_static: against PyTorch where it is here, and wrong arguments.

local ai = require "aijit"
local files = require "spec.support.files"
local gradcheck = require "spec.support.gradcheck"
require "spec.support.like"

local f, fn = ai.f, require "aijit.fn"
local function fails(run, words) assert.has_error_like(run, words) end
local function whole(t) return ai.tensor(t, {dtype = "i64"}) end

local PYTHON = files.python "torch; assert torch.__version__ >= \"2\""
local peer
local function cases(kind)
  if not PYTHON then return pending "no PyTorch 2 here" end
  if not peer then
    local text, ok = files.run(PYTHON .. " spec/support/segment.py 2>/dev/null")
    assert(ok, text)
    peer = ai.json.decode(text)
  end
  assert.is_true(#peer[kind] > 0)
  return peer[kind]
end

local function tensor(list, sizes, dtype)
  local values = {}
  for i, v in ipairs(list) do values[i] = tonumber(v) end
  return ai.tensor(values, {dtype = dtype or "f64"}):reshape(sizes)
end
local function near(a, list, dtype)
  local b = tensor(list, a:size(), dtype)
  assert(f.isclose(a, b, {rtol = 1e-6, atol = 1e-12, equal_nan = true}):all():item(), tostring(a) .. " is not " .. tostring(b))
end

describe("fractional_max_pool", function()
  local x = ai.arange(0, 49, {dtype = "f32"}):reshape(1, 2, 5, 5)

  it("gives PyTorch's values, indices and gradients", function()
    for _, c in ipairs(cases "pool" or {}) do
      local name = ("fractional_max_pool%dd"):format(c.nd)
      local v = tensor(c.x, c.sizes, c.dtype)
      v.requires_grad = true
      local lead = #c.sizes == c.nd + 2 and {c.sizes[1], c.sizes[2], c.nd} or {1, c.sizes[1], c.nd}
      local o = {output_size = c.size, random_samples = tensor(c.samples, lead, c.dtype)}
      local y, at = f[name .. "_with_indices"](v, c.window, o)
      near(y, c.y, c.dtype)
      assert.are.same(c.at, (at - 1):reshape(-1):totable())
      y:backward(tensor(c.g, y:size(), c.dtype))
      near(v.grad, c.gx, c.dtype)
      assert.is_true(f[name](v, c.window, o):eq(y):all():item())
    end
  end)
  it("draws its regions from the stream of random numbers, another for each channel", function()
    local row = ai.arange(0, 39, {dtype = "f32"}):reshape(1, 1, 40):expand(1, 50, 40):reshape(1, 50, 1, 40)
    ai.manual_seed(3)
    local y = f.fractional_max_pool2d(row, {1, 2}, {1, 25})
    assert.are.same({1, 50, 1, 25}, y:size())
    assert.is_true(y:diff():min():item() >= 1 and y:diff():max():item() <= 2)
    assert.is_true(y:ne(y[{{}, {1, 1}}]):any():item())
    ai.manual_seed(3)
    assert.is_true(f.fractional_max_pool2d(row, {1, 2}, {1, 25}):eq(y):all():item())
  end)
  it("takes a ratio, and its indices are those max_unpool takes", function()
    local y, at = x:fractional_max_pool2d(2, {output_ratio = {0.5, 0.7}, return_indices = true})
    assert.are.same({1, 2, 2, 3}, y:size())
    assert.is_true(x:reshape(1, 2, 25):gather(3, at:reshape(1, 2, 6)):eq(y:reshape(1, 2, 6)):all():item())
  end)
  it("has second gradients and takes batched tensors", function()
    local v = ai.randn({1, 2, 5, 5}, {dtype = "f64"})
    local o = {output_size = 3, random_samples = ai.rand(1, 2, 2)}
    local function loss() return gradcheck.total {f.fractional_max_pool2d(v, 2, o) ^ 3} end
    v.requires_grad = true
    assert.is_true(gradcheck.first(loss, {v}) < 1e-5)
    assert.is_true(gradcheck.second(loss, {v}) < 1e-5)
    assert.are.same({1, 2, 3, 3}, (fn.output_shape(function(t) return f.fractional_max_pool2d(t, 2, o) end, v)))
    local many = ai.randn(3, 1, 2, 5, 5)
    local y = fn.vmap(function(t) return t:fractional_max_pool2d(2, o) end)(many)
    for e = 1, 3 do assert.is_true(y[e]:eq(f.fractional_max_pool2d(many[e], 2, o)):all():item()) end
  end)
  it("refuses what makes no regions, by name", function()
    fails(function() x:fractional_max_pool2d(3, 4) end, "fractional_max_pool2d: 4 windows of 3 do not begin at places of their own in the 5 elements")
    fails(function() x:fractional_max_pool2d(2) end, "one of output_size and output_ratio")
    fails(function() x:fractional_max_pool2d(2, 3, 0.5) end, "one of output_size and output_ratio")
    fails(function() x:fractional_max_pool2d(2, {output_ratio = 1}) end, "between 0 and 1")
    fails(function() x:fractional_max_pool2d(2, {0, 3}) end, "output size along dimension 3 is 0")
    fails(function() x:fractional_max_pool2d(1.5, 3) end, "kernel_size is 1.5")
    fails(function() x:fractional_max_pool2d({1, 2, 3}, 3) end, "1 or 2 numbers")
    fails(function() x:fractional_max_pool3d(2, 3):size() ai.ones(3):fractional_max_pool3d(2, 3) end, "fractional_max_pool3d")
    fails(function() x:long():fractional_max_pool2d(2, 3) end, "not i64")
    fails(function() x:fractional_max_pool2d(2, 3, {random_samples = ai.rand(1, 2, 3)}) end, "must have {1, 2, 2}")
    fails(function() x:fractional_max_pool2d(2, 3, {random_samples = ai.ones(1, 2, 2)}) end, "from 0 to below 1")
    fails(function() x:fractional_max_pool2d(2, {output_sice = 3}) end, "output_size")
    fails(function() f.fractional_max_pool2d(ai.nn.Placeholder{1, 2, 5, 5}, 2, 3) end, "give random_samples")
    fails(function() fn.vmap(function(t) return t:fractional_max_pool2d(2, 3) end)(ai.ones(2, 1, 5, 5)) end, "give random_samples")
  end)
end)

describe("segment_reduce", function()
  local x = ai.tensor {1, 2, 3, 4}

  it("gives PyTorch's values and gradients, by lengths and by offsets", function()
    for _, c in ipairs(cases "segment" or {}) do
      local lengths = whole(c.lengths)
      local first = lengths:size()
      first[#first] = 1
      local initial = type(c.initial) == "number" and c.initial or nil
      for _, o in ipairs {{lengths = lengths, initial = initial},
                          {offsets = ai.cat({ai.ones(first, {dtype = "i64"}), lengths:cumsum(-1) + 1}, -1), initial = initial, axis = lengths:dim()}} do
        local v = tensor(c.x, c.sizes)
        v.requires_grad = true
        local y = v:segment_reduce(c.reduce, o)
        near(y, c.y)
        y:backward(tensor(c.g, y:size()))
        near(v.grad, c.gx)
      end
    end
  end)
  it("leaves out what lies in no segment, when unsafe or between offsets", function()
    assert.are.same({3}, x:segment_reduce("sum", {lengths = whole {2}, unsafe = true}):totable())
    assert.are.same({2, 3}, x:segment_reduce("max", {offsets = whole {2, 3, 4}}):totable())
  end)
  it("shares a gradient among equal elements", function()
    local v = ai.tensor {1, 3, 3}
    v.requires_grad = true
    v:segment_reduce("max", {lengths = whole {3}}):backward(ai.ones(1))
    assert.are.same({0, 0.5, 0.5}, v.grad:totable())
  end)
  it("takes placeholders, whose segments are state of the graph, and batched tensors", function()
    local o = {lengths = whole {2, 1}}
    local many, place = ai.randn(2, 3, 4), ai.nn.Placeholder{3, 4}
    local net = ai.nn.Functional{inputs = place, outputs = place:segment_reduce("mean", o)}
    local again = ai.nn.from_spec(ai.json.decode(ai.json.encode(net:to_spec())))
    again:load_state_dict(net:state_dict())
    local mapped = fn.vmap(function(t) return t:segment_reduce("mean", o) end)(many)
    for e = 1, 2 do
      local wanted = many[e]:segment_reduce("mean", o)
      for _, y in ipairs {net(many[e]), again(many[e]), mapped[e]} do assert.is_true(y:eq(wanted):all():item()) end
    end
    assert.are.same({2, 4}, (fn.output_shape(function(t) return t:segment_reduce("mean", o) end, many[1])))
  end)
  it("refuses wrong segments, by name", function()
    local function refused(words, o, data, reduce) fails(function() f.segment_reduce(data or x, reduce or "sum", o) end, words) end
    refused("one of lengths and offsets", {})
    refused("must sum to the 4 elements", {lengths = whole {2, 1}})
    refused("a length of %-1", {lengths = whole {5, -1}})
    refused("go backwards", {offsets = whole {1, 3, 2}})
    refused("an offset of 0", {offsets = whole {0, 4}})
    refused("an offset of 6", {offsets = whole {1, 6}})
    refused("not f32", {lengths = ai.tensor {4}})
    refused("not a table", {lengths = {4}})
    refused("axis is 2", {lengths = whole {4}, axis = 2})
    refused("along dimension 1", {lengths = whole {{2}, {2}, {2}}}, ai.ones(2, 2))
    refused("floats are reduced", {lengths = whole {4}}, whole {1, 2, 3, 4})
    refused("one of sum, mean, max, min and prod", {lengths = whole {4}}, x, "median")
    refused("did you mean lengths", {length = whole {4}})
  end)
end)

describe("nonzero_static", function()
  it("gives PyTorch's rows, counted from 1, and 0 for none", function()
    for _, c in ipairs(cases "nonzero" or {}) do
      assert.are.same(c.y, (whole(c.x):nonzero_static(c.size) - 1):reshape(-1):totable())
    end
  end)
  it("fills with what it is given", function()
    assert.are.same({{2}, {7}}, ai.tensor {0, 3}:nonzero_static(2, 7):totable())
    assert.are.same({{2}, {7}}, ai.tensor {0, 3}:nonzero_static{size = 2, fill_value = 7}:totable())
  end)
  it("refuses a size that is none", function()
    fails(function() ai.ones(2):nonzero_static(-1) end, "whole number from 0 up")
    fails(function() ai.ones(2):nonzero_static() end, "whole number from 0 up")
    fails(function() ai.ones(2):nonzero_static(2, 0.5) end, "fill_value is")
  end)
end)
