local ai = require "aijit"
local F = ai.f

local function dtype(f, ...) return ai.autocast("bf16", f, ...).dtype end

describe("autocast", function()
  local x, w, h
  before_each(function()
    ai.manual_seed(1)
    x, w = ai.randn(4, 8), ai.randn(3, 8)
    h = x:to("bf16")
  end)

  it("runs products and convolutions in the low precision", function()
    assert.equal("bf16", dtype(F.linear, x, w))
    assert.equal("bf16", dtype(F.matmul, x, w:t()))
    assert.equal("bf16", dtype(F.linear, h, w))
    assert.equal("bf16", dtype(F.conv2d, ai.randn(1, 2, 5, 5), ai.randn(3, 2, 3, 3)))
    assert.equal("f16", ai.autocast("f16", F.linear, x, w).dtype)
  end)

  it("runs what needs range in f32, and lets the others follow promotion", function()
    for _, f in ipairs {F.exp, function(t) return F.log_softmax(t, 2) end, F.sum, F.mean} do
      assert.equal("f32", dtype(f, h))
    end
    assert.equal("f32", dtype(F.mse_loss, h, h * 2))
    assert.equal("f32", dtype(F.layer_norm, h, {8}, ai.ones(8), ai.zeros(8)))
    assert.equal("bf16", dtype(F.relu, h))
    assert.equal("bf16", dtype(F.add, h, h))
    assert.equal("f32", dtype(F.add, h, x))
  end)

  it("does with an op what its help says", function()
    assert.matches("in bf16 or f16 under ai.autocast", ai.help.text "conv2d")
    assert.matches("in f32 under ai.autocast", ai.help.text "softmax")
    assert.is_nil(ai.help.text("relu"):find "autocast")
    local low, full = 0, 0
    for _, row in ipairs(require("aijit.bindings.op").rows) do
      assert.is_true(row.autocast == "" or row.autocast == "LOW" or row.autocast == "FULL", row.name)
      low, full = low + (row.autocast == "LOW" and 1 or 0), full + (row.autocast == "FULL" and 1 or 0)
    end
    assert.is_true(low >= 10 and full >= 60)
  end)

  it("leaves f64 and integers as they are", function()
    assert.equal("f64", dtype(F.matmul, x:double(), w:double():t()))
    assert.equal("i64", dtype(F.sum, ai.arange(3):long()))
  end)

  it("is what casting by hand is, to the bit", function()
    local y = ai.autocast("bf16", F.linear, x, w)
    assert.is_true(ai.equal(y, F.linear(h, w:to("bf16"))):item())
  end)

  it("gives parameters gradients in f32, near those of f32", function()
    local function gradient(run)
      w:requires_grad_()
      w.grad = nil
      run(function() return F.linear(x, w):square():mean() end):backward()
      return w.grad
    end
    local exact = gradient(function(f) return f() end)
    local low = gradient(function(f) return ai.autocast("bf16", f) end)
    assert.equal("f32", low.dtype)
    assert.is_true((low - exact):abs():max():item() < 0.03 * exact:abs():max():item())
    assert.is_false(ai.equal(low, exact):item())
  end)

  it("has gradients of gradients, and a backward pass within it is the one outside it", function()
    w:requires_grad_()
    local function first(create)
      return ai.grad(ai.autocast("bf16", function() return F.linear(x, w):square():mean() end), {w}, {create_graph = create})[1]
    end
    local g = first(true)
    local second = ai.grad(g:square():sum(), {w})[1]
    assert.equal("f32", second.dtype)
    assert.is_true(second:abs():max():item() > 0)
    assert.is_true(ai.equal(g:detach(), ai.autocast("bf16", first, false)):item())
  end)

  it("sees a parameter as it is after a step", function()
    ai.autocast("bf16", function()
      local before = F.linear(x, w)
      w:mul_(2)
      assert.is_true(ai.equal(before * 2, F.linear(x, w)):item())
    end)
  end)

  it("nests, is switched off by enabled = false, and ends with its function, also by an error", function()
    ai.autocast("bf16", function()
      assert.equal("f16", ai.autocast("f16", F.linear, x, w).dtype)
      assert.equal("f32", ai.autocast("bf16", {enabled = false}, F.linear, x, w).dtype)
      pcall(ai.autocast, "f16", function() error "x" end)
      assert.equal("bf16", F.linear(x, w).dtype)
    end)
    assert.equal("f32", F.linear(x, w).dtype)
  end)

  it("passes arguments and results on as they are", function()
    assert.equal(0, ai.autocast("bf16", function(...) return select("#", ...) end))
    assert.same({1, nil, 3}, {ai.autocast("bf16", {}, function(...) return ... end, 1, nil, 3)})
  end)

  it("takes attention of mixed dtypes", function()
    local q = ai.randn(1, 2, 4, 8)
    assert.equal("bf16", dtype(F.scaled_dot_product_attention, q, q:to("bf16"), q))
  end)

  it("makes a recording of its own of a recorded function", function()
    local f = ai.jit(function(t) return F.matmul(t, t) end)
    local t = ai.randn(4, 4)
    for _ = 1, 2 do
      assert.equal("f32", f(t).dtype)
      assert.equal("bf16", dtype(f, t))
      assert.equal("f16", ai.autocast("f16", {}, f, t).dtype)
    end
  end)

  it("refuses other dtypes, and what is no function", function()
    assert.has_error(function() ai.autocast("f32", function() end) end, "autocast: the dtype is 'bf16' or 'f16', not the string \"f32\"")
    assert.is_false(pcall(ai.autocast, "bf16", {}))
    assert.is_false(pcall(ai.autocast, "bf16"))
  end)
end)
